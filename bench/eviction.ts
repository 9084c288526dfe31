/**
 * A Cache with a small `--memory` under random point reads and writes of all of a table several times as large: what it answers, what it pulls, and
 * what it takes. The table is filled through another Cache, which has gone by then. Three Archives, Hrana.
 */
import { readFileSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MemoryStatus, Status } from "../src/engines/database.js";
import { type Child, type EngineChild, startEngine } from "./child-processes.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openPoster, type Poster } from "./clients/http-post.js";
import { addLatency, emptyHistogram, quantileMicros } from "./latency-histogram.js";
import { type CpuTime, cpuTimeOfAll } from "./process-cpu.js";

export interface EvictionOptions {
  readonly rows: number;
  readonly memoryBytes: number;
  readonly seconds: number;
}

/** Of one part of the run. */
export interface EvictionSample {
  readonly seconds: number;
  readonly perSecond: number;
  /** Of the statements, those that had to pull nothing. */
  readonly hitShare: number;
  readonly pulledBytesPerSecond: number;
  readonly droppedAtoms: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly heldBytes: number;
  readonly fileBytes: number;
  readonly walBytes: number;
  readonly residentBytes: number;
  /** Of the Cache, and of its thread that orders; of the three Archives together. For one statement. */
  readonly cacheMicros: number;
  readonly cacheMainMicros: number;
  readonly archivesMicros: number;
}

export interface EvictionRun extends EvictionOptions {
  readonly tableBytes: number;
  readonly samples: readonly EvictionSample[];
  /** Looks at which the budget was exceeded and nothing could go. */
  readonly exceeded: number;
  readonly pulledAgainAtoms: number;
}

const lanes = 16;
/** Of ten statements. */
const writesOfTen = 2;
const bodyBytes = 180;
const rowsPerInsert = 400;
const fillersAtOnce = 4;
const sampleCount = 10;

const readSql = "select n, length(body) from wide where id = ?";
const writeSql = "update wide set n = n + 1 where id = ?";

export async function measureEviction(options: EvictionOptions, note: (text: string) => void): Promise<EvictionRun> {
  const directory = await mkdtemp(join(tmpdir(), "atomcast-bench-"));
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  process.once("exit", removeDirectory);
  const env = { ...process.env, XDG_STATE_HOME: join(directory, "state") };
  for (const name of Object.keys(env)) if (name.startsWith("ATOMCAST_")) delete (env as NodeJS.ProcessEnv)[name];
  const common = ["--database", `bench-eviction-${process.pid}`, "--log", process.env.BENCH_LOG ?? "error"];
  const children: Child[] = [];
  const start = async (name: string, args: readonly string[]): Promise<EngineChild> => {
    const child = await startEngine(name, [...args, ...common], [], env);
    children.push(child);
    return child;
  };
  try {
    const archives: EngineChild[] = [];
    for (const index of [1, 2, 3])
      archives.push(
        await start(`archive ${index}`, ["archive", "--data", join(directory, `archive-${index}`), ...(index === 1 ? ["--create"] : [])]),
      );
    const filler = await start("filler", ["cache", "--http", "127.0.0.1:0"]);
    note(`eviction: filling ${options.rows} rows`);
    await fill(urlOf(filler), options.rows);
    const tableBytes = await settled(urlOf(filler));
    await filler.end();
    const cache = await start("cache", ["cache", "--http", "127.0.0.1:0", "--memory", String(options.memoryBytes)]);
    note(`eviction: ${options.seconds} s of random reads and writes`);
    return { ...options, tableBytes, ...(await load(cache, archives, options)) };
  } finally {
    await Promise.all(children.map((child) => child.kill()));
    process.removeListener("exit", removeDirectory);
    removeDirectory();
  }
}

function urlOf({ readyLine }: EngineChild): string {
  const url = /http=(\S+)/.exec(readyLine)?.[1];
  if (url === undefined) throw new Error("the Cache has not said where it serves");
  return url;
}

async function fill(url: string, rows: number): Promise<void> {
  const first = openPoster(url);
  await execute(first, "create table wide (id integer primary key, n integer not null, body text not null)");
  first.close();
  const body = "b".repeat(bodyBytes);
  let next = 1;
  const filler = async (): Promise<void> => {
    const poster = openPoster(url);
    while (next <= rows) {
      const begin = next;
      next += rowsPerInsert;
      const values = Array.from({ length: Math.min(rowsPerInsert, rows - begin + 1) }, (_, index) => `(${begin + index},0,'${body}')`);
      await execute(poster, `insert into wide values ${values.join(",")}`);
    }
    poster.close();
  };
  await Promise.all(Array.from({ length: fillersAtOnce }, filler));
}

/** Until the table's atoms have been split; its size. */
async function settled(url: string): Promise<number> {
  const poster = openPoster(url);
  const look = async (): Promise<readonly number[]> => {
    const { result } = await execute(poster, "select count(*), sum(bytes), max(bytes) from system.atoms where table_name = 'wide' and kind = 'rows'");
    return (result.rows[0] ?? []).map(({ value }) => Number(value));
  };
  let [count, bytes = 0, largest = 0] = await look();
  for (let calm = 0; calm < 5; ) {
    await pause(500);
    const [now, nowBytes = 0, nowLargest = 0] = await look();
    calm = now === count ? calm + 1 : 0;
    [count, bytes, largest] = [now, nowBytes, nowLargest];
    if (largest <= 128 * 1024) break;
  }
  poster.close();
  return bytes;
}

async function load(
  cache: EngineChild,
  archives: readonly EngineChild[],
  options: EvictionOptions,
): Promise<Pick<EvictionRun, "samples" | "exceeded" | "pulledAgainAtoms">> {
  const url = urlOf(cache);
  const control = openPoster(url);
  let isOver = false;
  let done = 0;
  let latencies = emptyHistogram();
  const lane = async (): Promise<void> => {
    const poster = openPoster(url);
    while (!isOver) {
      const id = 1 + Math.floor(Math.random() * options.rows);
      const beganMs = performance.now();
      await operate(poster, id, Math.random() * 10 < writesOfTen);
      addLatency(latencies, (performance.now() - beganMs) * 1000);
      done++;
    }
    poster.close();
  };
  const running = Promise.all(Array.from({ length: lanes }, lane));
  const samples: EvictionSample[] = [];
  const cpu = (): readonly [CpuTime, CpuTime] => [cpuTimeOfAll([cache.pid]), cpuTimeOfAll(archives.map(({ pid }) => pid))];
  let cpuBefore = cpu();
  let before = await memoryOf(control);
  let beganMs = performance.now();
  let doneBefore = done;
  for (let sample = 0; sample < sampleCount; sample++) {
    await Promise.race([pause((options.seconds * 1000) / sampleCount), running]);
    const memory = await memoryOf(control);
    const seconds = (performance.now() - beganMs) / 1000;
    const cpuNow = cpu();
    const each = (micros: number): number => micros / Math.max(1, done - doneBefore);
    const units = memory.units - before.units;
    samples.push({
      seconds,
      perSecond: (done - doneBefore) / seconds,
      hitShare: units === 0 ? 0 : Math.max(0, 1 - (memory.unitsThatPulled - before.unitsThatPulled) / units),
      pulledBytesPerSecond: (memory.pulledBytes - before.pulledBytes) / seconds,
      droppedAtoms: memory.droppedAtoms - before.droppedAtoms,
      p50Ms: (quantileMicros(latencies, 0.5) ?? 0) / 1000,
      p99Ms: (quantileMicros(latencies, 0.99) ?? 0) / 1000,
      heldBytes: memory.heldBytes,
      fileBytes: memory.fileBytes,
      walBytes: memory.walBytes,
      residentBytes: residentBytesOf(cache.pid),
      cacheMicros: each(cpuNow[0].totalMicros - cpuBefore[0].totalMicros),
      cacheMainMicros: each(cpuNow[0].mainMicros - cpuBefore[0].mainMicros),
      archivesMicros: each(cpuNow[1].totalMicros - cpuBefore[1].totalMicros),
    });
    cpuBefore = cpuNow;
    before = memory;
    doneBefore = done;
    beganMs = performance.now();
    latencies = emptyHistogram();
  }
  isOver = true;
  await running;
  control.close();
  return { samples, exceeded: before.exceeded, pulledAgainAtoms: before.pulledAgainAtoms };
}

async function operate(poster: Poster, id: number, writes: boolean): Promise<void> {
  const { result } = await execute(poster, writes ? writeSql : readSql, [integer(id)]);
  const isThere = writes ? result.affected_row_count === 1 : Number(result.rows[0]?.[1]?.value) === bodyBytes;
  if (!isThere) throw new Error(`row ${id} is not there`);
}

async function memoryOf(poster: Poster): Promise<MemoryStatus> {
  const { memory } = JSON.parse(await poster.get("/v1/status")) as Status;
  if (memory === null) throw new Error("the Cache tells nothing of its memory");
  return memory;
}

/** Of its own and of files; 0 where there is no /proc. */
function residentBytesOf(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
