/**
 * What an Archive has applied and its store has not, in batches. A batch begins and ends with entries, since it takes the store from one position to another, with the
 * catalogs of that position. A full one is closed, whatever comes behind it: a batch is one write transaction, and a store that has fallen behind would otherwise be given all of it
 * at once, while pulls wait for the first of it.
 */
import type { Seq } from "../base/ids.js";
import type { StoreBatch, StoreChange } from "../storage/atom-store.js";
import { readStoreChanges, StoreChangesWriter } from "../storage/store-changes.js";
import type { CoreContext } from "./core-context.js";

/**
 * A batch with so many new rows, or bytes, is full; one entry may have more. What replaces a row, or takes it away, counts as several: the store looks it up and keeps what it was. Measured: 1.2 µs a new
 * row, 7 µs another; so a batch takes the store's thread some 8 ms.
 */
export const batchChangesMax = 4000;
const replacingWeight = 4;
export const batchBytesMax = 8 * 1024 * 1024;
/** Beyond so many changes, or bytes, that wait, the store is behind: some seconds of a large store, and no more memory than that. */
const backlogMax = 100_000;
const backlogBytesMax = 256 * 1024 * 1024;

export class StoreBacklog {
  readonly #context: CoreContext;
  /** Full ones, oldest first. */
  #full: StoreBatch[] = [];
  readonly #changes = new StoreChangesWriter();
  #weight = 0;
  /** Of the full ones. */
  #fullCount = 0;
  #fullBytes = 0;
  #last: Seq;

  constructor(context: CoreContext) {
    this.#context = context;
    this.#last = context.appliedSeq;
  }

  /** Of the last entry in it, or of the last that was taken. */
  get last(): Seq {
    return this.#last;
  }

  get isFull(): boolean {
    return this.#full.length > 0;
  }

  get isBehind(): boolean {
    return this.count > backlogMax || this.#fullBytes + this.#changes.byteCount > backlogBytesMax;
  }

  get count(): number {
    return this.#fullCount + this.#changes.count;
  }

  /** All changes, oldest first. */
  *changes(): IterableIterator<StoreChange> {
    for (const { changes } of this.#full) yield* readStoreChanges(changes.chunks);
    yield* this.#changes.read();
  }

  add(change: StoreChange): void {
    this.#changes.add(change);
    this.#weight += change.kind === "put" && change.isNew === true ? 1 : replacingWeight;
  }

  /** The entry that is applied last has no more changes. */
  endEntry(seq: Seq): void {
    this.#last = seq;
    if (this.#weight < batchChangesMax && this.#changes.byteCount < batchBytesMax) return;
    const batch = this.#close();
    this.#fullCount += batch.changes.count;
    this.#fullBytes += batch.changes.byteCount;
    this.#full.push(batch);
  }

  /** The oldest batch, full or not. */
  take(): StoreBatch {
    const full = this.#full.shift();
    if (full === undefined) return this.#close();
    this.#fullCount -= full.changes.count;
    this.#fullBytes -= full.changes.byteCount;
    return full;
  }

  #close(): StoreBatch {
    const { catalog, position } = this.#context;
    this.#weight = 0;
    return { changes: this.#changes.take(), mark: catalog.mark, catalog: catalog.takeDirty(), position };
  }
}
