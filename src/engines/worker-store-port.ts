/**
 * An Archive's answers from its store, read in a worker thread: what lies on a disk takes as long as the disk does, and the thread that orders must not
 * wait for it (design.md §3). LMDB lets any thread read while another one writes.
 */
import { Worker } from "node:worker_threads";
import type { Endpoint } from "../base/ids.js";
import { encodeEngineMessage } from "../messages/wire/engine-messages.js";
import type { StoreQuestion } from "./core-types.js";
import type { StorePort, StorePortHandlers } from "./environment.js";

export interface StoreWorkerData {
  readonly directory: string;
}

export type ToStoreWorker =
  | { readonly kind: "rows"; readonly to: Endpoint; readonly request: Uint8Array; readonly sameThrough: number }
  | { readonly kind: "cuts"; readonly to: Endpoint; readonly request: Uint8Array }
  | { readonly kind: "transfer"; readonly to: Endpoint; readonly transfer: number; readonly cursor: string }
  | { readonly kind: "close" };

/** One for each question. */
export interface FromStoreWorker {
  readonly question: StoreQuestion["kind"];
  readonly to: Endpoint;
  readonly payload: Uint8Array | null;
  /** The question could not be read. */
  readonly malformed: string | null;
}

/** Questions that wait for the thread; further ones are dropped, and asked again by their engine. */
const waitingMax = 1024;
/** A thread that has not ended within this is left to the end of the process. Milliseconds. */
const closeGraceMs = 2000;

export function openWorkerStorePort(directory: string, handlers: StorePortHandlers): StorePort {
  const workerData: StoreWorkerData = { directory };
  // Beside this file where it is compiled.
  const worker = new Worker(new URL("./store-server-worker.js", import.meta.url), { workerData });
  let waiting = 0;
  let closing = false;
  let failed = false;
  const fail = (error: Error): void => {
    if (closing || failed) return;
    failed = true;
    handlers.onFailure(error);
  };
  const post = (message: ToStoreWorker): void => worker.postMessage(message, "request" in message ? [message.request.buffer as ArrayBuffer] : []);
  worker.on("message", ({ question, to, payload, malformed }: FromStoreWorker) => {
    waiting--;
    if (closing) return;
    if (malformed !== null) handlers.onMalformed({ kind: question, to }, malformed);
    else if (payload !== null) handlers.onAnswer(to, Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength));
  });
  worker.on("error", (error) => fail(error instanceof Error ? error : new Error(String(error))));
  worker.on("messageerror", (error) => fail(error));
  worker.on("exit", (code) => fail(new Error(`the thread that reads the store ended with code ${code}`)));
  return {
    ask(question) {
      if (closing || failed || waiting >= waitingMax) return;
      waiting++;
      const { to } = question;
      if (question.kind === "serveTransfer") post({ kind: "transfer", to, transfer: question.transfer, cursor: question.cursor });
      // A copy of its own: what arrived is a view of more.
      else if (question.kind === "serveCuts") post({ kind: "cuts", to, request: new Uint8Array(encodeEngineMessage(question.request)) });
      else post({ kind: "rows", to, request: new Uint8Array(encodeEngineMessage(question.request)), sameThrough: question.sameThrough });
    },
    async close() {
      if (closing) return;
      closing = true;
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      post({ kind: "close" });
      const timer = setTimeout(() => void worker.terminate(), closeGraceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}
