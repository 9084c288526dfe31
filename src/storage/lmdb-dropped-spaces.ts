/**
 * Dropped spaces in LMDB (dropped-spaces.ts): a record of each, beside its rows.
 *
 * | a space | then |
 * |---|---|
 * | is dropped | its record hides its rows from the present, in the same transaction |
 * | is the one that was dropped first, and the mark has passed that | is swept: each transaction removes some rows; with the first, its past is told no more |
 * | has no rows any more | its record goes |
 * | is one of those that weigh more than they may together | is swept as if the mark had passed it |
 */
import type { Seq, SpaceId } from "../base/ids.js";
import { type DroppedSpace, decodeDroppedSpace, encodeDroppedSpace } from "./dropped-spaces.js";
import { asBuffer, spaceKey, spaceOf, type Writes } from "./lmdb-layout.js";
import type { ReadTransaction, Table, Tables } from "./lmdb-tables.js";

/** Rows that one transaction removes, beside as many as it may add: so the sweep gains on those who write what they will drop. */
const sweepRowsMax = 512;

interface Kept extends DroppedSpace {
  readonly space: SpaceId;
  /** Rows before it are gone. */
  from: Buffer;
}

/** null: it is there, or never was, or nothing of it is left. */
export function droppedSpace(dropped: Table, transaction: ReadTransaction | undefined, space: SpaceId): DroppedSpace | null {
  const record = dropped.get(spaceKey(space), transaction === undefined ? undefined : { transaction });
  return record === undefined ? null : decodeDroppedSpace(record);
}

export class LmdbDroppedSpaces {
  readonly #tables: Pick<Tables, "dropped" | "rows">;
  readonly #bytesMax: number;
  /** In the order of their ends. */
  #all: Kept[] = [];
  #bytes = 0;

  constructor(tables: Pick<Tables, "dropped" | "rows">, bytesMax: number) {
    this.#tables = tables;
    this.#bytesMax = bytesMax;
    for (const { key, value } of tables.dropped.getRange()) this.#add(spaceOf(key), decodeDroppedSpace(asBuffer(value)));
    this.#all.sort((left, right) => left.seq - right.seq);
  }

  /** The store is another one, where nothing was dropped. */
  begin(): void {
    this.#all = [];
    this.#bytes = 0;
  }

  isSweepDue(mark: Seq): boolean {
    return this.#next(mark) !== null;
  }

  drop(writes: Writes, space: SpaceId, dropped: DroppedSpace): void {
    writes.add(this.#tables.dropped.put(spaceKey(space), encodeDroppedSpace(dropped)));
    this.#add(space, dropped);
  }

  /**
   * Before the transaction's own changes, of which there are about `changeCount`. It reads what was committed last; `remove` is of each row. Returns the seq before which nothing
   * can be told any more; null: nothing was to be swept.
   */
  sweepStep(writes: Writes, mark: Seq, changeCount: number, remove: (place: Buffer, value: Buffer) => void): Seq | null {
    const next = this.#next(mark);
    if (next === null) return null;
    const limit = sweepRowsMax + changeCount;
    let count = 0;
    for (const { key, value } of this.#tables.rows.getRange({ start: next.from, end: spaceKey(next.space + 1), limit })) {
      count++;
      next.from = key;
      remove(key, value);
    }
    if (count < limit) {
      writes.add(this.#tables.dropped.remove(spaceKey(next.space)));
      this.#all.splice(this.#all.indexOf(next), 1);
      this.#bytes -= next.bytes;
    }
    return next.seq;
  }

  #next(mark: Seq): Kept | null {
    const [first] = this.#all;
    return first !== undefined && (first.seq <= mark || this.#bytes > this.#bytesMax) ? first : null;
  }

  #add(space: SpaceId, dropped: DroppedSpace): void {
    this.#all.push({ ...dropped, space, from: spaceKey(space) });
    this.#bytes += dropped.bytes;
  }
}
