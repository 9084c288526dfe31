/** A local store in a worker thread, in a temporary directory that goes with it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import type { LocalStoreCall, LocalStoreReply } from "./local-store-calls.js";

export interface WorkerLocalStore {
  /** Kept until `flush`. */
  post(call: LocalStoreCall): void;
  /** Sends what was posted, as one message. */
  flush(): void;
  /** Ends the thread, without waiting for calls under way, and removes its directory. */
  close(): Promise<void>;
}

export interface WorkerLocalStoreHandlers {
  /** Of one batch of calls, in their order. */
  onReplies(replies: readonly LocalStoreReply[]): void;
  /** The store threw, or its thread died: nothing is answered any more. */
  onFailure(error: Error): void;
}

/** `parentDirectory`: where the store's own directory is made; the system's for temporary files by default. */
export function openWorkerLocalStore(handlers: WorkerLocalStoreHandlers, parentDirectory: string = tmpdir()): WorkerLocalStore {
  const directory = mkdtempSync(join(parentDirectory, "atomcast-cache-"));
  const worker = new Worker(new URL("./local-store-worker.js", import.meta.url), { workerData: { directory } });
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  let closing = false;
  let calls: LocalStoreCall[] = [];
  process.once("exit", removeDirectory);
  worker.on("message", (replies: LocalStoreReply[]) => {
    if (!closing) handlers.onReplies(replies);
  });
  worker.on("error", (error) => {
    if (!closing) handlers.onFailure(error);
  });
  worker.on("exit", (code) => {
    if (!closing) handlers.onFailure(new Error(`the local store's thread ended with code ${code}`));
  });
  return {
    post(call) {
      calls.push(call);
    },
    flush() {
      if (calls.length === 0 || closing) return;
      worker.postMessage(calls);
      calls = [];
    },
    async close() {
      if (closing) return;
      closing = true;
      await worker.terminate();
      process.removeListener("exit", removeDirectory);
      removeDirectory();
    },
  };
}
