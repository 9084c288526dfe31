/** Operations per second and their latencies, over all load workers of a system. */
import type { WorkerChild } from "./child-processes.js";
import { mergeHistograms, quantileMicros } from "./latency-histogram.js";
import type { Work } from "./load-messages.js";
import { type CpuTime, cpuTimeOfAll, machineBusyMicros } from "./process-cpu.js";

export interface Throughput {
  readonly work: Work;
  /** Over all workers. */
  readonly inFlight: number;
  readonly perSecond: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly failed: number;
  readonly firstError: string | null;
  /** CPU time by operation, of what was watched. */
  readonly cpu: readonly ProcessCpu[];
  /** Cores that were busy with what was not watched: the benchmark had the machine for itself where it is near 0. null: not known. */
  readonly coresBusyElsewhere: number | null;
}

/** A process, or several that are told of as one. */
export interface Watched {
  readonly name: string;
  /** Asked when the measurement begins: a server may start a process for each connection. */
  pids(): readonly number[];
}

export interface ProcessCpu {
  readonly name: string;
  readonly microsPerOperation: number;
  /** Of these, on the thread of the event loop. */
  readonly mainMicrosPerOperation: number;
}

/** Each measurement's own load runs this long before: connections, pulled rows, blocks of ids. Seconds. */
const warmUpSeconds = 1;
/** A system's processes compile what they run often only after some ten thousand operations: all get these before the first measurement. */
const coldLanes = 32;

/** Once for each system. */
export async function warmUp(workers: readonly WorkerChild[], works: readonly Work[], seconds: number): Promise<void> {
  for (const work of works) await Promise.all(workers.map((worker) => worker.ask("run", { work, lanes: coldLanes, seconds })));
}

export async function measureThroughput(
  workers: readonly WorkerChild[],
  work: Work,
  inFlight: number,
  seconds: number,
  watched: readonly Watched[],
): Promise<Throughput> {
  // One in flight is one client; more are shared out evenly.
  const used = workers.slice(0, Math.min(workers.length, inFlight));
  const lanes = Math.ceil(inFlight / used.length);
  const run = (forSeconds: number) => Promise.all(used.map((worker) => worker.ask("run", { work, lanes, seconds: forSeconds })));
  await run(Math.min(warmUpSeconds, seconds));
  const pids = watched.map((one) => one.pids());
  const beganMs = performance.now();
  const busyBefore = machineBusyMicros();
  const before = pids.map(cpuTimeOfAll);
  const results = await run(seconds);
  const after = pids.map(cpuTimeOfAll);
  const busyMicros = busyBefore === null ? null : (machineBusyMicros() ?? 0) - busyBefore;
  const elapsedMicros = (performance.now() - beganMs) * 1000;
  const watchedMicros = after.reduce((sum, one, index) => sum + one.totalMicros - (before[index]?.totalMicros ?? 0), 0);
  const succeeded = results.reduce((sum, result) => sum + result.succeeded, 0);
  const latencies = mergeHistograms(results.map((result) => result.latencies));
  const inMs = (micros: number | null): number | null => (micros === null ? null : micros / 1000);
  return {
    work,
    inFlight,
    perSecond: results.reduce((sum, result) => sum + result.succeeded / result.seconds, 0),
    p50Ms: inMs(quantileMicros(latencies, 0.5)),
    p99Ms: inMs(quantileMicros(latencies, 0.99)),
    failed: results.reduce((sum, result) => sum + result.failed, 0),
    firstError: results.find((result) => result.firstError !== null)?.firstError ?? null,
    cpu: watched.flatMap(({ name }, index) => cpuBetween(name, before[index], after[index], succeeded)),
    coresBusyElsewhere: busyMicros === null ? null : Math.max(0, busyMicros - watchedMicros) / elapsedMicros,
  };
}

function cpuBetween(name: string, before: CpuTime | undefined, after: CpuTime | undefined, operations: number): ProcessCpu[] {
  if (before === undefined || after === undefined || operations === 0) return [];
  return [
    {
      name,
      microsPerOperation: (after.totalMicros - before.totalMicros) / operations,
      mainMicrosPerOperation: (after.mainMicros - before.mainMicros) / operations,
    },
  ];
}
