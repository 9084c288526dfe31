/** The thread of worker-store-port.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { MalformedBytesError } from "../base/bytes.js";
import { assert, BugError } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import { decodeEngineMessage } from "../messages/wire/engine-messages.js";
import { openLmdbReads } from "../storage/lmdb-reads.js";
import type { StoreQuestion } from "./core-types.js";
import { StoreServer, transferLookMs } from "./store-server.js";
import type { FromStoreWorker, StoreWorkerData, ToStoreWorker } from "./worker-store-port.js";

const port = parentPort;
assert(port !== null, "the store is served by a thread of its own");
const reads = openLmdbReads((workerData as StoreWorkerData).directory);
const server = new StoreServer(reads);
const nowMs = (): number => performance.now();
const look = setInterval(() => server.closeIdle(nowMs()), transferLookMs);

function questionOf(asked: Exclude<ToStoreWorker, { kind: "close" }>): StoreQuestion {
  const { to } = asked;
  if (asked.kind === "transfer") return { kind: "serveTransfer", to, transfer: asked.transfer, cursor: asked.cursor };
  const { request: bytes } = asked;
  const request = decodeEngineMessage(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  if (asked.kind === "rows" && request.kind === "pullRequest") return { kind: "serveRows", to, request, sameThrough: asked.sameThrough as Seq };
  if (request.kind === "cutsRequest") return { kind: "serveCuts", to, request };
  throw new BugError(`a ${request.kind} was asked of the store`);
}

function answer(question: StoreQuestion): FromStoreWorker {
  const { kind, to } = question;
  try {
    const payload = server.answer(question, nowMs());
    return { question: kind, to, payload: payload === null ? null : new Uint8Array(payload), malformed: null };
  } catch (error) {
    if (!(error instanceof MalformedBytesError)) throw error;
    return { question: kind, to, payload: null, malformed: error.message };
  }
}

port.on("message", (asked: ToStoreWorker) => {
  if (asked.kind === "close") {
    clearInterval(look);
    server.close();
    reads.close().then(() => port.close());
    return;
  }
  const told = answer(questionOf(asked));
  port.postMessage(told, told.payload === null ? [] : [told.payload.buffer as ArrayBuffer]);
});
