/** A local store in a worker thread, in a temporary directory that goes with it. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import type { LocalStoreCall, LocalStoreReply } from "./local-store-calls.js";
import type { LocalStoreWorkerData } from "./local-store-worker.js";
import { packCalls, type ThreadMessage, unpackReplies } from "./thread-messages.js";
import { cancelRun, cancelSlots, clearSlot } from "./thread-watch.js";

export interface WorkerLocalStore {
  /** Kept until `flush`. */
  post(call: LocalStoreCall): void;
  /** Sends what was posted, as one message. */
  flush(): void;
  /** Ends a run that was posted, now or when it begins, where it loops. It is answered all the same. */
  cancelRun(run: number): void;
  /** Ends the thread, without waiting for calls under way, and removes its directory. */
  close(): Promise<void>;
}

export interface WorkerLocalStoreHandlers {
  /** Of one batch of calls, in their order. */
  onReplies(replies: readonly LocalStoreReply[]): void;
  /** The store threw, or its thread died: nothing is answered any more. */
  onFailure(error: Error): void;
}

/**
 * Time that a closing thread has to end, in milliseconds. A statement that loops where no tick stands (parse/tick-places.ts) cannot be interrupted: such a
 * thread is left to the end of the process, and its files are removed under it.
 */
export const closeGraceMs = 2000;

let stranded = 0;

/** Threads that were left behind by `close`: the process cannot end in order any more, since Node waits for its threads. */
export function strandedThreadCount(): number {
  return stranded;
}

/** Followed by the process's id, so that what a killed one left behind can be told. */
const directoryPrefix = "atomcast-cache-";

/** Removes the stores of processes that are no more: kill -9 lets none clear up after itself. */
function sweepOrphans(parentDirectory: string): void {
  for (const name of readdirSync(parentDirectory)) {
    const pid = Number(/^atomcast-cache-(\d+)-/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    try {
      rmSync(join(parentDirectory, name), { recursive: true, force: true });
    } catch {
      // Another user's, or another engine is sweeping it too: left to whoever may.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}

export interface WorkerLocalStoreOptions {
  /** Of rows that it will hold about. */
  readonly memoryBytes: number;
  /** Of one statement; 0: none. */
  readonly statementTimeoutMs: number;
  /** Where the store's own directory is made; the system's for temporary files by default. */
  readonly parentDirectory?: string;
}

export function openWorkerLocalStore(
  handlers: WorkerLocalStoreHandlers,
  { memoryBytes, statementTimeoutMs, parentDirectory = tmpdir() }: WorkerLocalStoreOptions,
): WorkerLocalStore {
  sweepOrphans(parentDirectory);
  const directory = mkdtempSync(join(parentDirectory, `${directoryPrefix}${process.pid}-`));
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  // Beside this file where it is compiled.
  const slots = cancelSlots();
  const workerData: LocalStoreWorkerData = { directory, memoryBytes, slots, statementTimeoutMs };
  const worker = new Worker(new URL("./local-store-worker.js", import.meta.url), { workerData });
  /** Those that are not answered: they are ended with the thread. */
  const runs = new Set<number>();
  let closing = false;
  let failed = false;
  /** A thread that dies of an error also exits: one is told. */
  const fail = (error: Error): void => {
    if (closing || failed) return;
    failed = true;
    handlers.onFailure(error);
  };
  let calls: LocalStoreCall[] = [];
  process.once("exit", removeDirectory);
  worker.on("message", (message: ThreadMessage) => {
    if (closing) return;
    const replies = unpackReplies(message);
    for (const reply of replies) if (reply.kind === "ran") runs.delete(reply.id);
    handlers.onReplies(replies);
  });
  worker.on("error", (error) => fail(error instanceof Error ? error : new Error(String(error))));
  worker.on("messageerror", (error) => fail(error));
  worker.on("exit", (code) => fail(new Error(`the local store's thread ended with code ${code}`)));
  return {
    post(call) {
      if (call.kind === "run") {
        clearSlot(slots, call.id);
        runs.add(call.id);
      }
      calls.push(call);
    },
    flush() {
      if (calls.length === 0 || closing || failed) return;
      const message = packCalls(calls);
      worker.postMessage(message, [message.bytes.buffer as ArrayBuffer]);
      calls = [];
    },
    cancelRun: (run) => cancelRun(slots, run),
    async close() {
      if (closing) return;
      closing = true;
      for (const run of runs) cancelRun(slots, run);
      let timer: NodeJS.Timeout | undefined;
      const grace = new Promise<void>((resolve) => {
        timer = setTimeout(() => {
          stranded++;
          worker.once("exit", () => stranded--);
          resolve();
        }, closeGraceMs);
      });
      await Promise.race([worker.terminate(), grace]);
      clearTimeout(timer);
      // A thread that goes on does not keep the process.
      worker.unref();
      process.removeListener("exit", removeDirectory);
      removeDirectory();
    },
  };
}
