/**
 * An Archive's atom store, written by a worker thread that alone has it open for writing: to look up, put and sweep rows takes milliseconds at a time, and the thread that orders
 * must not wait for it (design.md §3). What crosses are bytes: batches as they were written down where they were applied (store-changes.ts), and parts of transfers as they came.
 * What others are served is read elsewhere (lmdb-reads.ts), so no read waits for a write.
 *
 * Calls are carried out in their order. What is told of the store (position, what is flushed, figures) comes with each answer, and in between where it has changed: so it is
 * never newer than the store, and soon as new.
 */
import { Worker } from "node:worker_threads";
import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import { assert, DatabaseError } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { KeptValues, StoreBatch, StoreInstall, StoreWrites } from "./atom-store.js";
import { droppedBytesMax } from "./dropped-spaces.js";
import { origin } from "./lmdb-tables.js";
import { type KeptVersions, noVersions, versionBytesMax } from "./row-versions.js";
import type { StoreChanges } from "./store-changes.js";

/** What the store tells of itself. */
export type StoreFigures = Pick<StoreWrites, "position" | "flushedSeq" | "versions" | "values">;

export type StoreCall =
  | { readonly kind: "open"; readonly directory: string; readonly versionBytesMax: number; readonly droppedBytesMax: number }
  | {
      readonly kind: "apply";
      readonly changes: StoreChanges;
      readonly mark: Seq;
      /** By encodeRecords. */
      readonly catalog: Uint8Array;
      readonly position: LogPosition;
    }
  | { readonly kind: "readCatalog" }
  | { readonly kind: "beginInstall" }
  | { readonly kind: "install"; readonly part: Uint8Array }
  | { readonly kind: "finishInstall"; readonly position: LogPosition }
  | { readonly kind: "abortInstall" }
  | { readonly kind: "close" };

export interface ToStoreWriter {
  readonly id: number;
  readonly call: StoreCall;
}

/** An error as it crosses. `code`: of a DatabaseError; null: bytes that could not be read. */
export interface StoreFault {
  readonly code: string | null;
  readonly message: string;
}

export type FromStoreWriter =
  | { readonly kind: "figures"; readonly figures: StoreFigures }
  /** `catalog`: of readCatalog, by encodeRecords. */
  | { readonly kind: "done"; readonly id: number; readonly figures: StoreFigures; readonly catalog: Uint8Array | null }
  /** `figures`: null: it is not open. */
  | { readonly kind: "failed"; readonly id: number; readonly figures: StoreFigures | null; readonly fault: StoreFault };

/** Opens the store in the folder, or makes it (as openLmdbAtomStore), in a thread that ends with `close`. */
export async function openWorkerAtomStore(directory: string, bytesMax = versionBytesMax, droppedMax = droppedBytesMax): Promise<StoreWrites> {
  const store = new WorkerAtomStore();
  await store.ask({ kind: "open", directory, versionBytesMax: bytesMax, droppedBytesMax: droppedMax });
  return store;
}

interface Asked {
  readonly resolve: (catalog: Uint8Array | null) => void;
  readonly reject: (error: Error) => void;
}

class WorkerAtomStore implements StoreWrites {
  /** Beside this file where it is compiled. */
  readonly #worker = new Worker(new URL("./atom-store-worker.js", import.meta.url));
  readonly #asked = new Map<number, Asked>();
  #lastId = 0;
  #figures: StoreFigures = { position: origin, flushedSeq: origin.seq, versions: noVersions, values: { count: 0, bytes: 0 } };
  /** Nothing is answered any more. */
  #ended: Error | null = null;
  #closed: Promise<void> | null = null;

  constructor() {
    this.#worker.on("message", (told: FromStoreWriter) => this.#onMessage(told));
    this.#worker.on("error", (error) => this.#end(error instanceof Error ? error.message : String(error), error));
    this.#worker.on("messageerror", (error) => this.#end(error.message, error));
    this.#worker.on("exit", () => this.#end("its thread has ended", null));
  }

  get position(): LogPosition {
    return this.#figures.position;
  }

  get flushedSeq(): Seq {
    return this.#figures.flushedSeq;
  }

  get versions(): KeptVersions {
    return this.#figures.versions;
  }

  get values(): KeptValues {
    return this.#figures.values;
  }

  async apply({ changes, mark, catalog, position }: StoreBatch): Promise<void> {
    // Copies: who gives a batch still looks at it until it is stored, and what was transferred is gone.
    const chunks = changes.chunks.map((chunk) => new Uint8Array(chunk));
    const records = encodeRecords(catalog);
    const call: StoreCall = { kind: "apply", changes: { ...changes, chunks }, mark, catalog: records, position };
    await this.ask(call, [...chunks, records]);
  }

  async readCatalog(): Promise<Map<string, Buffer>> {
    const records = decodeRecords((await this.ask({ kind: "readCatalog" })) ?? new Uint8Array());
    const found = new Map<string, Buffer>();
    for (const [name, bytes] of records) if (bytes !== null) found.set(name, bytes);
    return found;
  }

  async beginInstall(): Promise<StoreInstall> {
    await this.ask({ kind: "beginInstall" });
    return {
      write: async (part) => {
        const copy = new Uint8Array(part);
        await this.ask({ kind: "install", part: copy }, [copy]);
      },
      finish: async (position) => {
        await this.ask({ kind: "finishInstall", position });
      },
      abort: async () => {
        await this.ask({ kind: "abortInstall" });
      },
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#ended !== null) return;
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    try {
      await this.ask({ kind: "close" });
    } finally {
      await exited;
    }
  }

  ask(call: StoreCall, given: readonly Uint8Array[] = []): Promise<Uint8Array | null> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      this.#asked.set(id, { resolve, reject });
      const message: ToStoreWriter = { id, call };
      this.#worker.postMessage(
        message,
        given.map(({ buffer }) => buffer as ArrayBuffer),
      );
    });
  }

  #onMessage(told: FromStoreWriter): void {
    if (told.figures !== null) this.#figures = told.figures;
    if (told.kind === "figures") return;
    const asked = this.#asked.get(told.id);
    this.#asked.delete(told.id);
    assert(asked !== undefined, "the store's thread answers what was not asked");
    if (told.kind === "done") asked.resolve(told.catalog);
    else asked.reject(errorOf(told.fault));
  }

  #end(what: string, cause: unknown): void {
    this.#ended ??= new DatabaseError("ATOMCAST_STORE_FAILED", `the atom store cannot be written: ${what}`, { cause });
    for (const { reject } of this.#asked.values()) reject(this.#ended);
    this.#asked.clear();
  }
}

function errorOf({ code, message }: StoreFault): Error {
  return code === null ? new MalformedBytesError(message) : new DatabaseError(code, message);
}

/** In memory of its own, which can be transferred. */
export function encodeRecords(records: ReadonlyMap<string, Uint8Array | null>): Uint8Array {
  const writer = new ByteWriter().varint(records.size);
  for (const [name, bytes] of records) {
    writer.text(name).bool(bytes !== null);
    if (bytes !== null) writer.bytes(bytes);
  }
  return new Uint8Array(writer.finish());
}

/** Views of `bytes`. */
export function decodeRecords(bytes: Uint8Array): Map<string, Buffer | null> {
  const reader = new ByteReader(bytes);
  const records = new Map<string, Buffer | null>();
  if (bytes.length === 0) return records;
  for (let left = reader.count(2); left > 0; left--) records.set(reader.text(), reader.bool() ? reader.bytes() : null);
  reader.end();
  return records;
}
