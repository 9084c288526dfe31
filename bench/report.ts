/** What was measured, as text: aligned tables, no more than the figures say. */
import type { ThreadProfile } from "./cpu-profile.js";
import type { EvictionRun } from "./eviction.js";
import type { FailoverRun } from "./failover.js";
import type { Work } from "./load-messages.js";
import type { PullRun } from "./pulls.js";
import { median, ratio } from "./statistics.js";
import type { Throughput } from "./throughput.js";

export interface SystemRuns {
  readonly title: string;
  readonly runs: readonly Throughput[];
}

/** The first columns to the left, figures to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], leftColumns = 1): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column < leftColumns ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}

export function rateText(perSecond: number): string {
  return perSecond >= 100 ? Math.round(perSecond).toLocaleString("en-US") : perSecond.toFixed(1);
}

function msText(ms: number | null): string {
  return ms === null ? "-" : ms.toFixed(ms < 10 ? 2 : 1);
}

function workText(work: Work, inFlight: number): string {
  return `${work}, ${inFlight} in flight`;
}

export function throughputTable(systems: readonly SystemRuns[]): string {
  const rows = systems.flatMap(({ title, runs }) =>
    runs.map((run) => [
      title,
      workText(run.work, run.inFlight),
      rateText(run.perSecond),
      msText(run.p50Ms),
      msText(run.p99Ms),
      cpuText(run),
      run.coresBusyElsewhere === null ? "-" : run.coresBusyElsewhere.toFixed(1),
      run.failed === 0 ? "0" : `${run.failed} (${run.firstError?.slice(0, 60)})`,
    ]),
  );
  return table(["system", "work", "per second", "p50 ms", "p99 ms", "CPU µs each", "cores busy elsewhere", "failed"], rows, 2);
}

function cpuText(run: Throughput): string {
  return run.cpu.length === 0 ? "-" : cpuMicros(run).toFixed(0);
}

/** CPU time that one operation takes, in microseconds, over all processes. */
function cpuMicros(run: Throughput): number {
  return run.cpu.reduce((sum, one) => sum + one.microsPerOperation, 0);
}

export function cpuTable(run: Throughput): string {
  const rows = run.cpu.map(({ name, microsPerOperation, mainMicrosPerOperation }) => [
    name,
    microsPerOperation.toFixed(1),
    mainMicrosPerOperation.toFixed(1),
  ]);
  const sum = (pick: (one: Throughput["cpu"][number]) => number): string => run.cpu.reduce((total, one) => total + pick(one), 0).toFixed(1);
  rows.push(["all", sum((one) => one.microsPerOperation), sum((one) => one.mainMicrosPerOperation)]);
  return table(["process", "CPU µs per commit", "of it, main thread"], rows);
}

export function failoverTable(runs: readonly FailoverRun[]): string {
  const victims = [...new Set(runs.map((run) => run.victim))];
  const rows = victims.map((victim) => {
    const own = runs.filter((run) => run.victim === victim);
    const gaps = own.map((run) => run.lengthMs);
    const unended = own.filter((run) => !run.ended).length;
    const errors = own.reduce((sum, run) => sum + run.failed, 0);
    return [
      victim,
      String(own.length),
      msText(median(gaps)),
      `${msText(Math.max(...gaps))}${unended > 0 ? ` (${unended} not over)` : ""}`,
      String(own.reduce((sum, run) => sum + run.succeeded, 0)),
      errors === 0 ? "0" : `${errors} (${own.find((run) => run.firstError !== null)?.firstError?.slice(0, 60)})`,
    ];
  });
  return table(["kill -9 of", "runs", "median ms", "worst ms", "writes", "failed"], rows);
}

/** How many times `ours` is of each of the others, work by work. Latencies and CPU time: below 1 is better. */
export function ratioTable(ours: SystemRuns, others: readonly SystemRuns[]): string {
  const rows = ours.runs.map((run) => {
    const cells = others.map(({ runs }) => {
      const other = runs.find((one) => one.work === run.work && one.inFlight === run.inFlight);
      if (other === undefined) return "-";
      const cpu = other.cpu.length === 0 ? null : ratio(cpuMicros(run), cpuMicros(other));
      return `${timesText(ratio(run.perSecond, other.perSecond))} / ${timesText(ratio(run.p50Ms, other.p50Ms))} / ${timesText(cpu)}`;
    });
    return [workText(run.work, run.inFlight), ...cells];
  });
  return table([`${ours.title}: rate / p50 / CPU, as times of`, ...others.map(({ title }) => title)], rows);
}

function timesText(times: number | null): string {
  return times === null ? "-" : `${times.toFixed(2)} ×`;
}

export function profileText(name: string, profile: ThreadProfile, top: number): string {
  const rows = profile.functions
    .slice(0, top)
    .map((one) => [one.name, `${((100 * one.micros) / profile.busyMicros).toFixed(1)} %`, (one.micros / 1000).toFixed(0)]);
  const thread = profile.thread === 0 ? "main thread" : `worker thread ${profile.thread}`;
  return `${name}, ${thread}: ${(profile.busyMicros / 1e6).toFixed(1)} s busy\n${table(["function", "self", "ms"], rows)}`;
}

export function evictionText({ rows, tableBytes, memoryBytes, samples, exceeded, pulledAgainAtoms, failed }: EvictionRun): string {
  const megabytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(1);
  let second = 0;
  const lines = samples.map((one) => {
    second += one.seconds;
    return [
      second.toFixed(0),
      rateText(one.perSecond),
      one.p50Ms.toFixed(2),
      one.p99Ms.toFixed(1),
      `${(100 * one.hitShare).toFixed(1)} %`,
      megabytes(one.pulledBytesPerSecond),
      (one.droppedAtoms / one.seconds).toFixed(0),
      megabytes(one.heldBytes),
      megabytes(one.fileBytes),
      megabytes(one.residentBytes),
      `${one.cacheMicros.toFixed(0)} (${one.cacheMainMicros.toFixed(0)})`,
      one.archivesMicros.toFixed(0),
    ];
  });
  const head = [
    "second",
    "ops/s",
    "p50 ms",
    "p99 ms",
    "hits",
    "pulled MB/s",
    "drops/s",
    "held MB",
    "file MB",
    "RSS MB",
    "CPU µs: Cache (main)",
    "Archives",
  ];
  const title = `A table of ${rows} rows, ${megabytes(tableBytes)} MB, at random through a Cache of ${megabytes(memoryBytes)} MB, 16 in flight, one in five a write`;
  return `${title}:\n${table(head, lines)}\npulled again: ${pulledAgainAtoms} atoms; looks at which the budget was exceeded and nothing could go: ${exceeded}; failed: ${failed}`;
}

export function pullsText({ rows, tableBytes, atoms, queries, wholeMs }: PullRun): string {
  const megabytes = (bytes: number): string => (bytes / 1024 ** 2).toFixed(1);
  const median = (values: readonly number[]): number => [...values].sort((left, right) => left - right)[values.length >> 1] ?? 0;
  const lines = queries.map(({ query, ms, pulledAtoms, pulledBytes }) => [
    query,
    median(ms).toFixed(1),
    Math.max(...ms).toFixed(1),
    String(pulledAtoms),
    megabytes(pulledBytes),
  ]);
  const wholeRate = tableBytes / 1024 ** 2 / (median(wholeMs) / 1000);
  lines.push([
    `all of it (${wholeRate.toFixed(1)} MB/s)`,
    median(wholeMs).toFixed(0),
    Math.max(...wholeMs).toFixed(0),
    String(atoms),
    megabytes(tableBytes),
  ]);
  const title = `First query of a Cache that has just become ready, on a table of ${rows} rows, ${megabytes(tableBytes)} MB, ${atoms} atoms`;
  return `${title}:\n${table(["query", "median ms", "worst ms", "atoms", "MB"], lines)}`;
}
