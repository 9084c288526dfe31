/**
 * A database that is larger than any engine's memory: built by two Caches as fast as the system takes it, read and written at random through a Cache with a
 * small `--memory`, copied by a joining Archive while others write, and swept of old versions.
 */
import type { Status } from "../src/engines/database.js";
import type { EngineChild } from "./child-processes.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openSnapshot } from "./clients/hrana-snapshot.js";
import { openPoster } from "./clients/http-post.js";
import { type DiskUsage, diskUsageOf } from "./disk-usage.js";
import { loadAtRandom, type RandomLoad } from "./eviction.js";
import { type PeakMemory, watchMemory } from "./memory-watch.js";
import type { LargePart } from "./options.js";
import { type FirstQuery, measurePointQuery } from "./pulls.js";
import { longestGap } from "./statistics.js";
import { type Built, pause, urlOf, type WideTable, withWideTable } from "./wide-table.js";

export interface LargeOptions {
  readonly gigabytes: number;
  readonly memoryBytes: number;
  readonly seconds: number;
  readonly keep: string | null;
  readonly parts: readonly LargePart[];
}

/** Each part's peaks, of every engine. */
export type Memories = Readonly<Record<string, readonly PeakMemory[]>>;

export interface JoinRun {
  readonly seconds: number;
  /** By others, meanwhile; and before, in as short a time. */
  readonly commitsPerSecond: number;
  readonly commitsPerSecondBefore: number;
  readonly longestGapMs: number;
  readonly longestGapBeforeMs: number;
  /** Of the updates. */
  readonly failed: number;
}

/** Commits and sweeping in one stretch of time. */
export interface Stretch {
  /** `held`: nothing may be swept. `sweeping`: what was kept goes, and what comes. `usual`: what comes goes a second later. */
  readonly state: "held" | "sweeping" | "usual";
  readonly seconds: number;
  readonly commits: number;
  /** By the Archive that had most. */
  readonly versionsSwept: number;
  readonly versionsKept: number;
}

/** null: of a part that was not asked for. */
export interface LargeRun extends LargeOptions {
  readonly built: Built;
  readonly disk: readonly DiskUsage[];
  readonly random: RandomLoad | null;
  readonly firstQuery: FirstQuery | null;
  readonly join: JoinRun | null;
  readonly stretches: readonly Stretch[];
  readonly memories: Memories;
}

const bodyBytes = 900;
/** What a row is beside its body, encoded, with its key. */
const restBytes = 24;
const fillingCaches = 2;
const firstQueryRuns = 10;
const writers = 16;
/** Rows that are written while an Archive joins and versions are kept: side by side, so that the Cache holds them. */
const writtenRows = 20_000;
const rounds = 3;

export async function measureLarge(options: LargeOptions, note: (text: string) => void): Promise<LargeRun> {
  const rows = Math.ceil((options.gigabytes * 1024 ** 3) / (bodyBytes + restBytes));
  const watch = watchMemory();
  const cacheArgs = ["--memory", String(options.memoryBytes)];
  const { keep, parts, seconds } = options;
  const filling = { rows, bodyBytes, caches: fillingCaches, cacheArgs, keep, onStarted: (child: EngineChild) => watch.add(child) };
  try {
    return await withWideTable("large", filling, note, async (table) => {
      const memories: Record<string, readonly PeakMemory[]> = {};
      const disk = await Promise.all(table.folders.map(diskUsageOf));
      // Each part's figures are told at once: who has waited for an hour should not lose them to what comes after.
      const tell = (part: string, lines: readonly string[]): void => {
        const peaks = watch.take();
        memories[part] = peaks;
        note([...lines, memoryText(part, peaks)].join("\n"));
      };
      tell(table.isKept ? "starting" : "building", builtText(table, disk));
      const measure = async <T>(
        part: LargePart,
        what: string,
        run: () => Promise<T>,
        linesOf: (result: T) => readonly string[],
      ): Promise<T | null> => {
        if (!parts.includes(part)) return null;
        note(`large: ${what}`);
        const result = await run();
        tell(what, linesOf(result));
        return result;
      };
      const cache = await table.startCache(...cacheArgs);
      const written = { low: Math.floor(rows / 2), count: Math.min(writtenRows, Math.floor(rows / 4)) };
      const random = await measure("random", "random work", () => loadAtRandom(cache, table.archives, { ...options, rows }), randomText);
      const firstQuery = await measure(
        "queries",
        "first queries",
        () => measurePointQuery(table, rows, firstQueryRuns, cacheArgs),
        (one) => [firstQueryText(one)],
      );
      const join = await measure(
        "join",
        "an Archive joins",
        () => measureJoin(table, cache, written, seconds),
        (one) => [joinText(one, table.tableBytes)],
      );
      const stretches = await measure(
        "sweep",
        "versions are kept, and swept",
        () => measureSweeping(table, cache, cacheArgs, written, seconds, note),
        ratioText,
      );
      const { tableBytes, atoms, fillSeconds, fillGapMs, settleSeconds } = table;
      const built = { rows, tableBytes, atoms, fillSeconds, fillGapMs, settleSeconds };
      return { ...options, built, disk, random, firstQuery, join, stretches: stretches ?? [], memories };
    });
  } finally {
    watch.stop();
  }
}

interface WrittenRows {
  readonly low: number;
  readonly count: number;
}

interface Writers {
  /** When each update was. */
  readonly answeredMs: readonly number[];
  /** Returns how many failed. */
  stop(): Promise<number>;
}

/** Updates until it is stopped. */
function write(cache: EngineChild, { low, count }: WrittenRows): Writers {
  const answeredMs: number[] = [];
  let failed = 0;
  let isOver = false;
  const writer = async (): Promise<void> => {
    const poster = openPoster(urlOf(cache));
    while (!isOver) {
      const id = low + Math.floor(Math.random() * count);
      try {
        const { result } = await execute(poster, "update wide set n = n + 1 where id = ?", [integer(id)]);
        if (result.affected_row_count !== 1) throw new Error(`row ${id} is not there`);
        answeredMs.push(performance.now());
      } catch (error) {
        if (failed++ === 0) process.stderr.write(`an UPDATE failed: ${String(error)}\n`);
        await pause(100);
      }
    }
    poster.close();
  };
  const running = Promise.all(Array.from({ length: writers }, writer));
  return {
    answeredMs,
    async stop() {
      isOver = true;
      await running;
      return failed;
    },
  };
}

/** All of them are here, so that what follows pulls nothing. */
async function hold(cache: EngineChild, { low, count }: WrittenRows): Promise<void> {
  const poster = openPoster(urlOf(cache));
  await execute(poster, "select sum(n) from wide where id >= ? and id < ?", [integer(low), integer(low + count)]);
  poster.close();
}

async function measureJoin(table: WideTable, cache: EngineChild, written: WrittenRows, seconds: number): Promise<JoinRun> {
  await hold(cache, written);
  const writing = write(cache, written);
  await pause(3000);
  const beforeMs = performance.now();
  await pause(seconds * 1000);
  const beganMs = performance.now();
  await table.startArchive();
  const readyMs = performance.now();
  const failed = await writing.stop();
  const countOf = (fromMs: number, throughMs: number): number => writing.answeredMs.filter((ms) => ms > fromMs && ms <= throughMs).length;
  return {
    seconds: (readyMs - beganMs) / 1000,
    commitsPerSecond: countOf(beganMs, readyMs) / ((readyMs - beganMs) / 1000),
    commitsPerSecondBefore: countOf(beforeMs, beganMs) / ((beganMs - beforeMs) / 1000),
    longestGapMs: longestGap(writing.answeredMs, beganMs, readyMs).lengthMs,
    longestGapBeforeMs: longestGap(writing.answeredMs, beforeMs, beganMs).lengthMs,
    failed,
  };
}

/** The same writers all the time; a transaction that another Cache leaves open says whether there is something to sweep. */
async function measureSweeping(
  table: WideTable,
  cache: EngineChild,
  cacheArgs: readonly string[],
  written: WrittenRows,
  seconds: number,
  note: (text: string) => void,
): Promise<Stretch[]> {
  const holder = urlOf(await table.startCache(...cacheArgs));
  const control = openPoster(urlOf(cache));
  await hold(cache, written);
  const writing = write(cache, written);
  const look = async (): Promise<{ kept: number; swept: number; commits: number; ms: number }> => {
    const { collector } = JSON.parse(await control.get("/v1/status")) as Status;
    const most = (of: (archive: Status["collector"]["archives"][number]) => number): number => Math.max(...collector.archives.map(of));
    return {
      kept: most(({ versions }) => versions),
      swept: most(({ sweptVersions }) => sweptVersions),
      commits: writing.answeredMs.length,
      ms: performance.now(),
    };
  };
  const stretches: Stretch[] = [];
  const measure = async (state: Stretch["state"], isOver: (kept: number) => boolean, atLeastMs: number): Promise<void> => {
    const before = await look();
    let now = before;
    do {
      await pause(250);
      now = await look();
    } while (now.ms - before.ms < atLeastMs || !isOver(now.kept));
    const stretch: Stretch = {
      state,
      seconds: (now.ms - before.ms) / 1000,
      commits: now.commits - before.commits,
      versionsSwept: now.swept - before.swept,
      versionsKept: now.kept,
    };
    stretches.push(stretch);
    note(`large: ${stretchText(stretch)}`);
  };
  await pause(3000);
  for (let round = 0; round < rounds; round++) {
    await measure("usual", () => true, seconds * 1000);
    const usuallyKept = Math.max(1000, (await look()).kept);
    const snapshot = await openSnapshot(holder, "select n from wide where id = 1");
    // Until the mark stands still.
    await pause(3000);
    await measure("held", () => true, seconds * 1000);
    await snapshot.close();
    // Announced once a second, so the end is seen late rather than early: what it tells for sweeping is the least.
    await measure("sweeping", (kept) => kept < 2 * usuallyKept, 0);
    await pause(3000);
  }
  await writing.stop();
  control.close();
  return stretches;
}

const megabytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(0);

function stretchText({ state, seconds, commits, versionsSwept, versionsKept }: Stretch): string {
  const rate = (count: number): string => (count / seconds).toFixed(0);
  return `${state} ${seconds.toFixed(1)} s: ${rate(commits)} commits/s, ${rate(versionsSwept)} versions swept/s, ${versionsKept} kept at its end`;
}

/** Commits per second in one state, of those in another. */
export function stretchRatio(stretches: readonly Stretch[], state: Stretch["state"], of: Stretch["state"]): number {
  const rate = (wanted: Stretch["state"]): number => {
    const own = stretches.filter((one) => one.state === wanted);
    return own.reduce((sum, one) => sum + one.commits, 0) / own.reduce((sum, one) => sum + one.seconds, 0);
  };
  return rate(state) / rate(of);
}

function ratioText(stretches: readonly Stretch[]): string[] {
  const [usual, sweeping] = [stretchRatio(stretches, "usual", "held"), stretchRatio(stretches, "sweeping", "held")];
  return [`commits/s as usual are ${usual.toFixed(2)} of those with nothing swept, and ${sweeping.toFixed(2)} while much is`];
}

function builtText({ rows, tableBytes, atoms, fillSeconds, fillGapMs, settleSeconds }: Built, disk: readonly DiskUsage[]): string[] {
  const each = (figure: (one: DiskUsage) => number): string => disk.map((one) => megabytes(figure(one))).join("/");
  return [
    `${rows} rows, ${megabytes(tableBytes)} MB in ${atoms} atoms`,
    [
      `built in ${fillSeconds.toFixed(0)} s (${(tableBytes / 1024 ** 2 / fillSeconds).toFixed(1)} MB/s)`,
      `at most ${(fillGapMs / 1000).toFixed(1)} s without an answer, its last atoms split ${settleSeconds.toFixed(0)} s later`,
    ].join(", "),
    `on the disks: journals ${each((one) => one.journalBytes)} MB, stores ${each((one) => one.storeBytes)} MB, used ${each((one) => one.storeUsedBytes)}`,
  ];
}

function firstQueryText({ ms }: FirstQuery): string {
  const sorted = [...ms].sort((left, right) => left - right);
  return `first query of ${ms.length} new Caches, ms: ${sorted.map((one) => one.toFixed(0)).join(" ")}`;
}

function joinText(join: JoinRun, tableBytes: number): string {
  return [
    `an Archive joined in ${join.seconds.toFixed(1)} s (${(tableBytes / 1024 ** 2 / join.seconds).toFixed(1)} MB/s)`,
    `meanwhile ${join.commitsPerSecond.toFixed(0)} commits/s and at most ${join.longestGapMs.toFixed(0)} ms without one`,
    `before ${join.commitsPerSecondBefore.toFixed(0)} and ${join.longestGapBeforeMs.toFixed(0)} ms; ${join.failed} failed`,
  ].join("; ");
}

function randomText(random: RandomLoad): string[] {
  return [
    `at random, 16 in flight, one in five a write, ${random.failed} failed:`,
    ...random.samples.map((one) =>
      [
        `  ${one.perSecond.toFixed(0)} statements/s, p50 ${one.p50Ms.toFixed(1)} ms, p99 ${one.p99Ms.toFixed(0)} ms`,
        `${(100 * one.hitShare).toFixed(1)} % without a pull, ${megabytes(one.pulledBytesPerSecond)} MB/s pulled, ${megabytes(one.heldBytes)} MB held`,
      ].join(", "),
    ),
  ];
}

function memoryText(part: string, peaks: readonly PeakMemory[]): string {
  const each = peaks.map((one) => `${one.name} ${megabytes(one.anonBytes)} (${megabytes(one.residentBytes)})`);
  return `largest resident memory, own (with mapped files), MB, ${part}: ${each.join(", ")}`;
}

export function largeText(run: LargeRun): string {
  const { built, disk, random, firstQuery, join, stretches, memories, memoryBytes } = run;
  const lines = [
    `Caches with ${megabytes(memoryBytes)} MB; ${builtText(built, disk).join("\n")}`,
    ...(firstQuery === null ? [] : [firstQueryText(firstQuery)]),
    ...(join === null ? [] : [joinText(join, built.tableBytes)]),
    ...(stretches.length === 0 ? [] : ["old versions:", ...[...stretches.map(stretchText), ...ratioText(stretches)].map((line) => `  ${line}`)]),
    ...(random === null ? [] : randomText(random)),
    ...Object.entries(memories).map(([part, peaks]) => memoryText(part, peaks)),
  ];
  return lines.join("\n");
}
