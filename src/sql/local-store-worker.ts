/** The thread that owns a Cache's SQLite: carries out batches of calls in order, and answers each batch with one message. */
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../base/errors.js";
import { carryOut, type LocalStoreReply } from "./local-store-calls.js";
import { openSqliteLocalStore } from "./sqlite-local-store.js";
import { packReplies, type ThreadMessage, unpackCalls } from "./thread-messages.js";
import { threadWatch } from "./thread-watch.js";

export interface LocalStoreWorkerData {
  readonly directory: string;
  readonly memoryBytes: number;
  readonly slots: Int32Array;
  readonly statementTimeoutMs: number;
}

const port = parentPort;
assert(port !== null, "the local store's worker runs in a thread of its own");
const { directory, memoryBytes, slots, statementTimeoutMs } = workerData as LocalStoreWorkerData;
const watch = threadWatch(slots, statementTimeoutMs);
const store = openSqliteLocalStore(directory, memoryBytes, watch);

port.on("message", (message: ThreadMessage) => {
  const replies: LocalStoreReply[] = [];
  for (const call of unpackCalls(message)) {
    if (call.kind === "run") watch.run = call.id;
    const reply = carryOut(store, call);
    if (reply !== null) replies.push(reply);
  }
  if (replies.length === 0) return;
  const answer = packReplies(replies);
  port.postMessage(answer, [answer.bytes.buffer as ArrayBuffer]);
});
