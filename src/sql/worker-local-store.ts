/**
 * A local store in a worker thread, so that a long statement never delays what orders the stream. Calls are collected and sent with one message for
 * each turn of the event loop; their replies come back as one message. The store's files are in a temporary directory that ends with it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { BugError } from "../base/errors.js";
import type { LocalStoreCall, LocalStoreReply } from "./local-store-calls.js";
import type { WorkerRequest } from "./local-store-worker.js";

export interface WorkerLocalStore {
  /** Collects a call; it is sent by the next `flush`. */
  post(call: LocalStoreCall): void;
  /** Sends what was collected, if anything. */
  flush(): void;
  /** Ends the thread behind the calls that were sent, and removes the files. Calls that were not flushed are dropped. */
  close(): Promise<void>;
}

export interface WorkerLocalStoreOptions {
  /** In the order of the calls; those of one message together. */
  readonly onReplies: (replies: readonly LocalStoreReply[]) => void;
  /** The thread has ended by itself, or was out of memory: open calls stay unanswered. Called once at most, and never after `close`. */
  readonly onFailure: (error: Error) => void;
  /** Where the temporary directory is made; the system's by default. */
  readonly parentDirectory?: string;
}

/**
 * Time that a closing thread has for the statement that it is running, in milliseconds. A pure SQL loop cannot be interrupted: the thread is then
 * ended as far as Node can, and its files are removed under it.
 */
export const closeGraceMs = 2000;

export function openWorkerLocalStore(options: WorkerLocalStoreOptions): WorkerLocalStore {
  const directory = mkdtempSync(join(options.parentDirectory ?? tmpdir(), "atomcast-"));
  const removeFiles = (): void => rmSync(directory, { recursive: true, force: true });
  let worker: Worker;
  try {
    worker = new Worker(new URL("./local-store-worker.js", import.meta.url), { workerData: { directory } });
  } catch (error) {
    removeFiles();
    throw error;
  }
  let collected: LocalStoreCall[] = [];
  let state: "open" | "closing" | "ended" = "open";
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const fail = (error: Error): void => {
    if (state !== "open") return;
    state = "ended";
    removeFiles();
    options.onFailure(error);
  };
  worker.on("message", (replies: readonly LocalStoreReply[]) => {
    if (state === "open") options.onReplies(replies);
  });
  worker.on("error", (error) => fail(error instanceof Error ? error : new BugError(String(error))));
  worker.on("messageerror", (error) => fail(error));
  worker.on("exit", (code) => fail(new BugError(`the local store's thread ended with code ${code}`)));
  const send = (request: WorkerRequest): void => worker.postMessage(request);
  return {
    post(call) {
      if (state === "open") collected.push(call);
    },
    flush() {
      if (collected.length === 0 || state !== "open") return;
      const calls = collected;
      collected = [];
      send(calls);
    },
    async close() {
      if (state !== "open") return;
      state = "closing";
      send(null);
      const timer = setTimeout(() => void worker.terminate(), closeGraceMs);
      await exited;
      clearTimeout(timer);
      state = "ended";
      removeFiles();
    },
  };
}
