/**
 * A Cache with a small `--memory` under random point reads and writes of all of a table several times as large: what it answers, what it pulls, and
 * what it takes. The table is filled through another Cache, which has gone by then. Three Archives, Hrana.
 */
import { readFileSync } from "node:fs";
import type { MemoryStatus, Status } from "../src/engines/database.js";
import type { EngineChild } from "./child-processes.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openPoster, type Poster } from "./clients/http-post.js";
import { addLatency, emptyHistogram, quantileMicros } from "./latency-histogram.js";
import { type CpuTime, cpuTimeOfAll } from "./process-cpu.js";
import { pause, urlOf, withWideTable } from "./wide-table.js";

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
  readonly failed: number;
}

const lanes = 16;
/** Of ten statements. */
const writesOfTen = 2;
const sampleCount = 10;

const readSql = "select n, length(body) from wide where id = ?";
const writeSql = "update wide set n = n + 1 where id = ?";

export async function measureEviction(options: EvictionOptions, note: (text: string) => void): Promise<EvictionRun> {
  return withWideTable("eviction", { rows: options.rows }, note, async ({ archives, tableBytes, startCache }) => {
    const cache = await startCache("--memory", String(options.memoryBytes));
    note(`eviction: ${options.seconds} s of random reads and writes`);
    return { ...options, tableBytes, ...(await loadAtRandom(cache, archives, options)) };
  });
}

export type RandomLoad = Pick<EvictionRun, "samples" | "exceeded" | "pulledAgainAtoms" | "failed">;

export async function loadAtRandom(cache: EngineChild, archives: readonly EngineChild[], options: EvictionOptions): Promise<RandomLoad> {
  const url = urlOf(cache);
  const control = openPoster(url);
  let isOver = false;
  let done = 0;
  let failed = 0;
  let latencies = emptyHistogram();
  const lane = async (): Promise<void> => {
    const poster = openPoster(url);
    while (!isOver) {
      const id = 1 + Math.floor(Math.random() * options.rows);
      const beganMs = performance.now();
      try {
        await operate(poster, id, Math.random() * 10 < writesOfTen);
      } catch (error) {
        if (failed++ === 0) process.stderr.write(`a statement failed: ${String(error)}\n`);
        await pause(100);
        continue;
      }
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
  return { samples, exceeded: before.exceeded, pulledAgainAtoms: before.pulledAgainAtoms, failed };
}

async function operate(poster: Poster, id: number, writes: boolean): Promise<void> {
  const { result } = await execute(poster, writes ? writeSql : readSql, [integer(id)]);
  const isThere = writes ? result.affected_row_count === 1 : Number(result.rows[0]?.[1]?.value) > 0;
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
