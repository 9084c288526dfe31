/**
 * What an Archive has applied and its store has not, in batches. A batch begins and ends with entries, since it takes the store from one position to another, with the
 * catalogs of that position. A full one is closed, whatever comes behind it: the store writes a batch within one turn of the event loop, and a store that has fallen behind
 * would otherwise be given all of it at once, for a turn that is longer the further behind it is.
 */
import type { Seq } from "../base/ids.js";
import type { StoreBatch, StoreChange } from "../storage/atom-store.js";
import type { CoreContext } from "./core-context.js";

/**
 * A batch with so many new rows, or bytes, is full; one entry may have more. What replaces a row, or takes it away, counts as several: the store looks it up and keeps what it was. Measured: 1.2 µs a new
 * row, 7 µs another; so a batch takes some 8 ms of the thread that orders.
 */
export const batchChangesMax = 4000;
const replacingWeight = 4;
export const batchBytesMax = 8 * 1024 * 1024;
/** Beyond so many changes, or bytes, that wait, the store is behind: some seconds of a large store, and no more memory than that. */
const backlogMax = 100_000;
const backlogBytesMax = 256 * 1024 * 1024;

interface Waiting {
  readonly batch: StoreBatch;
  readonly bytes: number;
}

export class StoreBacklog {
  readonly #context: CoreContext;
  /** Full ones, oldest first. */
  #full: Waiting[] = [];
  #changes: StoreChange[] = [];
  #bytes = 0;
  #weight = 0;
  /** Of all that wait. */
  #allCount = 0;
  #allBytes = 0;
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
    return this.#allCount > backlogMax || this.#allBytes > backlogBytesMax;
  }

  get count(): number {
    return this.#allCount;
  }

  /** All changes, oldest first. */
  *changes(): IterableIterator<StoreChange> {
    for (const { batch } of this.#full) yield* batch.changes;
    yield* this.#changes;
  }

  add(change: StoreChange): void {
    this.#changes.push(change);
    this.#bytes += bytesOf(change);
    this.#weight += change.kind === "put" && change.isNew === true ? 1 : replacingWeight;
    this.#allCount++;
    this.#allBytes += bytesOf(change);
  }

  /** The entry that is applied last has no more changes. */
  endEntry(seq: Seq): void {
    this.#last = seq;
    if (this.#weight >= batchChangesMax || this.#bytes >= batchBytesMax) this.#full.push(this.#close());
  }

  /** The oldest batch, full or not. */
  take(): StoreBatch {
    const { batch, bytes } = this.#full.shift() ?? this.#close();
    this.#allCount -= batch.changes.length;
    this.#allBytes -= bytes;
    return batch;
  }

  #close(): Waiting {
    const { catalog, position } = this.#context;
    const closed = { batch: { changes: this.#changes, mark: catalog.mark, catalog: catalog.takeDirty(), position }, bytes: this.#bytes };
    this.#changes = [];
    this.#bytes = 0;
    this.#weight = 0;
    return closed;
  }
}

function bytesOf(change: StoreChange): number {
  if (change.kind === "value") return change.bytes.length;
  return change.kind === "put" ? change.key.length + change.row.length : 0;
}
