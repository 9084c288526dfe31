/** Operations per second and their latencies, over all load workers of a system. */
import type { Child, WorkerChild } from "./child-processes.js";
import { mergeHistograms, quantileMicros } from "./latency-histogram.js";
import type { Work } from "./load-messages.js";
import { type CpuTime, cpuTimeOf } from "./process-cpu.js";

export interface Throughput {
  readonly work: Work;
  /** Over all workers. */
  readonly inFlight: number;
  readonly perSecond: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly failed: number;
  readonly firstError: string | null;
  /** CPU time of each process by operation, where it was asked for. */
  readonly cpu: readonly ProcessCpu[];
}

export interface ProcessCpu {
  readonly name: string;
  readonly microsPerOperation: number;
  /** Of these, on the thread of the event loop. */
  readonly mainMicrosPerOperation: number;
}

/** Each kind of work runs this long before it is measured: connections, compiled code, pulled rows, blocks of ids. Seconds. */
const warmUpSeconds = 1;

export async function measureThroughput(
  workers: readonly WorkerChild[],
  work: Work,
  inFlight: number,
  seconds: number,
  watched: readonly Child[] = [],
): Promise<Throughput> {
  // One in flight is one client; more are shared out evenly.
  const used = workers.slice(0, Math.min(workers.length, inFlight));
  const lanes = Math.ceil(inFlight / used.length);
  const run = (forSeconds: number) => Promise.all(used.map((worker) => worker.ask("run", { work, lanes, seconds: forSeconds })));
  await run(Math.min(warmUpSeconds, seconds));
  const before = watched.map(({ pid }) => cpuTimeOf(pid));
  const results = await run(seconds);
  const after = watched.map(({ pid }) => cpuTimeOf(pid));
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
    cpu: watched.flatMap(({ name }, index) => cpuBetween(name, before[index] ?? null, after[index] ?? null, succeeded)),
  };
}

function cpuBetween(name: string, before: CpuTime | null, after: CpuTime | null, operations: number): ProcessCpu[] {
  if (before === null || after === null || operations === 0) return [];
  return [
    {
      name,
      microsPerOperation: (after.totalMicros - before.totalMicros) / operations,
      mainMicrosPerOperation: (after.mainMicros - before.mainMicros) / operations,
    },
  ];
}
