/**
 * The worker thread of a local store: carries out each batch of calls in order and answers it with one message. Loaded by worker-local-store.ts,
 * with the directory of the store as its data; it ends when it is told to close.
 */
import { parentPort, workerData } from "node:worker_threads";
import { BugError } from "../base/errors.js";
import { carryOut, type LocalStoreCall, type LocalStoreReply } from "./local-store-calls.js";
import { openSqliteLocalStore } from "./sqlite-local-store.js";

/** null: close, and end. */
export type WorkerRequest = readonly LocalStoreCall[] | null;

function serve(): void {
  const port = parentPort;
  if (port === null) throw new BugError("local-store-worker.js is started as a worker thread");
  const { directory } = workerData as { readonly directory: string };
  const store = openSqliteLocalStore(directory);
  port.on("message", (request: WorkerRequest) => {
    if (request === null) {
      store.close();
      port.close();
      return;
    }
    const replies: LocalStoreReply[] = request.map((call) => carryOut(store, call));
    port.postMessage(replies);
  });
}

serve();
