/**
 * Old versions of rows in LMDB (row-versions.ts), in a table of their own, so that the newest version costs what it would without them:
 *
 *   space (7 bytes), sort key, until (7 bytes) → seq (varint), row
 *
 * An insert writes nothing here, an update or a deletion one version, a sweep one removal for each. Sort keys of one space are such that none begins
 * with another, so the order here is that of the keys, and then of time.
 *
 * | the sweep | then |
 * |---|---|
 * | rests, and the mark has passed the oldest version | a pass begins |
 * | is at work | each transaction looks at some versions, in the order of keys, and removes those that ended at or below the mark; with it the mark becomes the floor |
 * | is through | rests, until the mark passes the oldest that it has left, or that came meanwhile |
 * | there are more bytes than may be | goes on as if the mark were at the store's position |
 */
import { ByteWriter } from "../base/bytes.js";
import { noSeq, type Seq } from "../base/ids.js";
import { placeOf, splitValue, untilOf, versionKey, type Writes } from "./lmdb-layout.js";
import type { Table } from "./lmdb-tables.js";
import { readKept, versionsName } from "./lmdb-version-reads.js";
import type { KeptVersions } from "./row-versions.js";

/** Versions that one transaction looks at, beside as many as it may add: so the sweep gains on those who write. 8 µs each. */
const lookedAtMax = 512;

export class LmdbRowVersions {
  readonly #table: Table;
  readonly #meta: Table;
  readonly #bytesMax: number;
  /** As of the transaction that is being written, else the last one. */
  readonly #kept: { -readonly [Figure in keyof KeptVersions]: KeptVersions[Figure] };
  #written: KeptVersions;
  #mark: Seq = noSeq;
  /** No version ended before it. */
  #oldest = 0;
  #pass: { readonly beganAt: Seq; from: Buffer; oldest: number } | null = null;

  constructor(table: Table, meta: Table, bytesMax: number) {
    this.#table = table;
    this.#meta = meta;
    this.#bytesMax = bytesMax;
    this.#written = readKept(meta, undefined);
    this.#kept = { ...this.#written };
  }

  get kept(): KeptVersions {
    return this.#written;
  }

  get mark(): Seq {
    return this.#mark;
  }

  get isSweepDue(): boolean {
    return this.#pass !== null || (this.#kept.count > 0 && this.#mark >= this.#oldest);
  }

  /** From here on nobody reads what ended at or below it. */
  raise(mark: Seq): void {
    if (mark > this.#mark) this.#mark = mark;
  }

  /** The store is another one, without versions: what was before `floor` cannot be told. The next `finish` writes it. */
  begin(floor: Seq): void {
    this.#pass = null;
    this.#mark = noSeq;
    this.#oldest = 0;
    Object.assign(this.#kept, { count: 0, bytes: 0, floor });
    this.#written = { ...this.#kept, floor: noSeq };
  }

  /** What the row at `place` was, until the entry at `until` changed it. */
  keep(writes: Writes, place: Buffer, value: Buffer, until: Seq): void {
    writes.add(this.#table.put(versionKey(place, until), value));
    this.#kept.count++;
    this.#kept.bytes += place.length + value.length;
  }

  /** A row of a dropped space goes. */
  countSwept(bytes: number): void {
    this.#kept.sweptCount++;
    this.#kept.sweptBytes += bytes;
  }

  /** What was there before it cannot be told any more. */
  raiseFloor(floor: Seq): void {
    if (floor > this.#kept.floor) this.#kept.floor = floor;
  }

  /** Large values are kept for versions alone: so many bytes more. */
  weigh(bytes: number): void {
    this.#kept.bytes += bytes;
  }

  /**
   * A step of the sweep, before the transaction's own changes, of which there are about `changeCount`. It reads what was committed last. `onSwept`: of each version
   * that refers to large values.
   */
  sweepStep(writes: Writes, position: Seq, changeCount: number, onSwept: (row: Buffer) => void): void {
    if (this.#kept.bytes > this.#bytesMax) this.raise(position);
    if (!this.isSweepDue) return;
    this.#pass ??= { beganAt: position, from: Buffer.alloc(1), oldest: Number.POSITIVE_INFINITY };
    const pass = this.#pass;
    this.raiseFloor(this.#mark);
    const limit = lookedAtMax + changeCount;
    let count = 0;
    for (const { key, value } of this.#table.getRange({ start: pass.from, limit })) {
      count++;
      pass.from = key;
      const until = untilOf(key);
      if (until > this.#mark) {
        pass.oldest = Math.min(pass.oldest, until);
        continue;
      }
      writes.add(this.#table.remove(key));
      const { row, refers } = splitValue(value);
      if (refers) onSwept(row);
      const bytes = placeOf(key).length + value.length;
      this.#kept.count--;
      this.#kept.bytes -= bytes;
      this.#kept.sweptCount++;
      this.#kept.sweptBytes += bytes;
    }
    if (count === limit) return;
    this.#pass = null;
    // What came since the pass began may lie behind it.
    this.#oldest = Math.min(pass.oldest, pass.beganAt + 1);
  }

  /** At the end of the transaction. */
  finish(writes: Writes): void {
    const { count, bytes, floor, sweptCount } = this.#kept;
    const before = this.#written;
    if (count === before.count && bytes === before.bytes && floor === before.floor && sweptCount === before.sweptCount) return;
    this.#written = { ...this.#kept };
    writes.add(this.#meta.put(versionsName, new ByteWriter(16).varint(count).varint(bytes).varint(floor).finish()));
  }
}
