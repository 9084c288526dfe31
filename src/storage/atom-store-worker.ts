/** The thread of worker-atom-store.ts. */
import { parentPort } from "node:worker_threads";
import { MalformedBytesError } from "../base/bytes.js";
import { assert, DatabaseError, unreachable } from "../base/errors.js";
import type { AtomStore, StoreInstall } from "./atom-store.js";
import { openLmdbAtomStore } from "./lmdb-atom-store.js";
import {
  decodeRecords,
  encodeRecords,
  type FromStoreWriter,
  type StoreCall,
  type StoreFault,
  type StoreFigures,
  type ToStoreWriter,
} from "./worker-atom-store.js";

/** What has changed without a call (something is flushed, or swept) is told so much later, all of it together: each message wakes the thread that orders. Milliseconds. */
const tellAfterMs = 100;

const port = parentPort;
assert(port !== null, "the store is written by a thread of its own");
let store: AtomStore | null = null;
let install: StoreInstall | null = null;
let telling: NodeJS.Timeout | null = null;

function opened(): AtomStore {
  assert(store !== null, "the store is opened first");
  return store;
}

function installing(): StoreInstall {
  assert(install !== null, "an install is begun first");
  return install;
}

function figures(): StoreFigures {
  const { position, flushedSeq, versions, values } = opened();
  return { position, flushedSeq, versions, values };
}

function tell(told: FromStoreWriter): void {
  if (told.kind !== "failed" && telling !== null) {
    clearTimeout(telling);
    telling = null;
  }
  port?.postMessage(told, told.kind === "done" && told.catalog !== null ? [told.catalog.buffer as ArrayBuffer] : []);
}

function tellSoon(): void {
  if (store !== null) telling ??= setTimeout(() => tell({ kind: "figures", figures: figures() }), tellAfterMs);
}

/** The catalog's records, of `readCatalog`. */
async function carryOut(call: StoreCall): Promise<Uint8Array | null> {
  switch (call.kind) {
    case "open":
      store = await openLmdbAtomStore(call.directory, { bytesMax: call.versionBytesMax, droppedMax: call.droppedBytesMax, onChange: tellSoon });
      return null;
    case "apply": {
      const { changes, mark, catalog, position } = call;
      await opened().apply({ changes, mark, catalog: decodeRecords(catalog), position });
      return null;
    }
    case "readCatalog":
      return encodeRecords(await opened().readCatalog());
    case "beginInstall":
      install = await opened().beginInstall();
      return null;
    case "install":
      await installing().write(call.part);
      return null;
    case "finishInstall":
      await installing().finish(call.position);
      return null;
    case "abortInstall":
      await installing().abort();
      return null;
    case "close":
      await opened().close();
      return null;
    default:
      return unreachable(call);
  }
}

function faultOf(error: unknown): StoreFault {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof MalformedBytesError) return { code: null, message };
  return { code: error instanceof DatabaseError ? error.code : "ATOMCAST_STORE_FAILED", message };
}

port.on("message", ({ id, call }: ToStoreWriter) => {
  carryOut(call)
    .then(
      (catalog) => tell({ kind: "done", id, figures: figures(), catalog }),
      (error: unknown) => tell({ kind: "failed", id, figures: store === null ? null : figures(), fault: faultOf(error) }),
    )
    .finally(() => {
      if (call.kind !== "close" && store !== null) return;
      if (telling !== null) clearTimeout(telling);
      port.close();
    });
});
