/** How long nobody can write after kill -9 of a Cache that originates what is written, and of the sequencer. */
import type { WorkerChild } from "./child-processes.js";
import type { Cluster } from "./cluster.js";
import { monotonicMs, type Work, type WriteResult } from "./load-messages.js";
import { type Gap, longestGap } from "./statistics.js";

export type Victim = "originating cache" | "sequencer";

export interface FailoverRun extends Gap {
  readonly victim: Victim;
  /** Writes that succeeded and failed in the whole run. */
  readonly succeeded: number;
  readonly failed: number;
  readonly firstError: string | null;
}

const writersPerCache = 8;
/** Writes run this long before the kill, and after it. Milliseconds. */
const beforeMs = 1000;
const afterMs = 4000;
/** Between a restart and the next kill: what was started takes its place. Milliseconds. */
const settleMs = 500;

export async function measureFailover(cluster: Cluster, victim: Victim, runs: number): Promise<FailoverRun[]> {
  const results: FailoverRun[] = [];
  for (let run = 0; run < runs; run++) {
    results.push(victim === "sequencer" ? await killSequencer(cluster) : await killOriginator(cluster));
    await pause(settleMs);
  }
  return results;
}

async function killSequencer(cluster: Cluster): Promise<FailoverRun> {
  const writing = await write(cluster.workers, "insert");
  await pause(beforeMs);
  const { engines } = await cluster.status();
  const sequencer = engines.find((engine) => engine.isSequencer);
  if (sequencer === undefined) throw new Error("no engine is the sequencer");
  const killedMs = monotonicMs();
  const restart = await cluster.killArchive(sequencer.pid);
  await pause(afterMs);
  const result = judge("sequencer", await writing.end(), killedMs);
  await restart();
  return result;
}

/**
 * The killed Cache originates the counters. All update them, the killed one too: what others alone update goes over to them. What counts is how long
 * those that live have to wait.
 */
async function killOriginator(cluster: Cluster): Promise<FailoverRun> {
  const { engines } = await cluster.status();
  const originator = await cluster.workers[0]?.ask("originator", null);
  const pid = engines.find((engine) => engine.id === originator)?.pid;
  const victim = cluster.workers.findIndex((worker) => worker.pid === pid);
  if (victim < 0) throw new Error(`the counters are originated by the engine ${originator}, which is no Cache of the benchmark`);
  const survivors = cluster.workers.filter((_, index) => index !== victim);
  const writing = await write(cluster.workers, "update", survivors);
  await pause(beforeMs);
  if ((await survivors[0]?.ask("originator", null)) !== originator) throw new Error("the originator of the counters changed before it was killed");
  const killedMs = monotonicMs();
  const restart = await cluster.killWorker(victim);
  await pause(afterMs);
  const result = judge("originating cache", await writing.end(), killedMs);
  await restart();
  return result;
}

interface WritingWorkers {
  end(): Promise<WriteResult[]>;
}

async function write(workers: readonly WorkerChild[], work: Work, judged = workers): Promise<WritingWorkers> {
  // Rows are pulled and code is compiled before.
  await Promise.all(workers.map((worker) => worker.ask("run", { work, lanes: writersPerCache, seconds: 0.5 })));
  await Promise.all(workers.map((worker) => worker.ask("beginWrites", { work, lanes: writersPerCache })));
  return { end: () => Promise.all(judged.map((worker) => worker.ask("endWrites", null))) };
}

/** Of several writing Caches, the one that waited longest counts. */
function judge(victim: Victim, results: readonly WriteResult[], killedMs: number): FailoverRun {
  const gaps = results.map(({ successesMs }) => longestGap(successesMs, killedMs, killedMs + afterMs));
  gaps.sort((left, right) => right.lengthMs - left.lengthMs);
  return {
    ...(gaps[0] ?? { lengthMs: afterMs, ended: false }),
    victim,
    succeeded: results.reduce((sum, result) => sum + result.successesMs.length, 0),
    failed: results.reduce((sum, result) => sum + result.failed, 0),
    firstError: results.find((result) => result.firstError !== null)?.firstError ?? null,
  };
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
