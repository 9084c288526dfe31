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
 * | rests, and the mark has passed the oldest version | a pass begins: the floor is the mark, in the same transaction |
 * | is at work | each transaction looks at some versions, in the order of keys, and removes those that ended at or below the mark of its pass |
 * | is through | rests, until the mark passes the oldest that it has left, or that came meanwhile |
 * | there are more bytes than may be | goes on as if the mark were at the store's position |
 */
import type { Database } from "lmdb";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { noSeq, type Seq, type SpaceId } from "../base/ids.js";
import { placeOf, rowKey, spaceBytes, spaceKey, splitValue, untilOf, versionKey, type Writes } from "./lmdb-layout.js";
import { imageBytesMax, imagesLookedAtMax, imagesSince, type KeptVersions, noVersions, type RowVersion, type StoredImage } from "./row-versions.js";

type Table = Database<Buffer, Buffer>;
type ReadTransaction = ReturnType<Table["useReadTransaction"]>;

/** Versions that one transaction looks at, beside twice as many as it adds: so the sweep gains on those who write. */
const lookedAtMax = 512;

/** Of the record in the store's table of figures. */
export const versionsName = Buffer.from("versions");
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
  #pass: { readonly mark: Seq; readonly beganAt: Seq; from: Buffer; oldest: number } | null = null;

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

  /** A step of the sweep, before the transaction's own changes, of which there are about `changeCount`. It reads what was committed last. */
  sweepStep(writes: Writes, position: Seq, changeCount: number): void {
    if (this.#kept.bytes > this.#bytesMax) this.raise(position);
    if (!this.isSweepDue) return;
    this.#pass ??= { mark: this.#mark, beganAt: position, from: Buffer.alloc(1), oldest: Number.POSITIVE_INFINITY };
    const pass = this.#pass;
    if (pass.mark > this.#kept.floor) this.#kept.floor = pass.mark;
    const limit = lookedAtMax + 2 * changeCount;
    let count = 0;
    for (const { key, value } of this.#table.getRange({ start: pass.from, limit })) {
      count++;
      pass.from = key;
      const until = untilOf(key);
      if (until > pass.mark) {
        pass.oldest = Math.min(pass.oldest, until);
        continue;
      }
      writes.add(this.#table.remove(key));
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

  /** What rows of [low, high) were before each change after `since`; `rows`: those that are there. Both, and `position`, as the transaction has them. */
  imagesSince(
    transaction: ReadTransaction,
    range: { readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null },
    since: Seq,
    position: Seq,
    rows: readonly { readonly key: Buffer; readonly seq: Seq }[],
  ): { readonly images: readonly StoredImage[]; readonly imagesFrom: Seq } {
    const kept = readKept(this.#meta, transaction);
    const imagesFrom = Math.max(since, kept.floor) as Seq;
    if (imagesFrom >= position) return { images: [], imagesFrom };
    const versions = kept.count === 0 ? [] : this.#versionsOf(transaction, range, imagesFrom);
    return versions === null ? { images: [], imagesFrom: position } : { images: imagesSince(imagesFrom, rows, versions), imagesFrom };
  }

  /** Whether what was there at `seq` can be told. */
  reaches(transaction: ReadTransaction, seq: Seq): boolean {
    return seq >= readKept(this.#meta, transaction).floor;
  }

  /** The row that was at `place` at `asOf`, where another, or none, is there now; null: none was. */
  at(transaction: ReadTransaction, place: Buffer, asOf: Seq): Buffer | null {
    for (const { key, value } of this.#table.getRange({ start: versionKey(place, (asOf + 1) as Seq), limit: 1, transaction })) {
      if (placeOf(key).compare(place) !== 0) return null;
      const { seq, row } = splitValue(value);
      return seq <= asOf ? row : null;
    }
    return null;
  }

  /** Of the space, places of rows that have versions, in the order of keys, each once: those of keys from `low` on. */
  *places(transaction: ReadTransaction, space: SpaceId, low: Uint8Array): Generator<Buffer, undefined> {
    // A bound may begin with a row's key, whose versions then lie beyond it.
    let start = rowKey(space, low);
    const end = spaceKey(space + 1);
    for (;;) {
      const [found] = this.#table.getRange({ start, end, limit: 1, transaction });
      if (found === undefined) return undefined;
      const place = Buffer.from(placeOf(found.key));
      if (place.subarray(spaceBytes).compare(low) >= 0) yield place;
      start = versionKey(place, Number.MAX_SAFE_INTEGER as Seq);
    }
  }

  /** null: too many. */
  #versionsOf(
    transaction: ReadTransaction,
    { space, low, high }: { readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null },
    since: Seq,
  ): RowVersion[] | null {
    const versions: RowVersion[] = [];
    let bytes = 0;
    let count = 0;
    // A bound may begin with a row's key, whose versions then lie beyond it.
    for (const { key: stored, value } of this.#table.getRange({ start: rowKey(space, low), end: spaceKey(space + 1), transaction })) {
      const key = placeOf(stored).subarray(spaceBytes);
      if (high !== null && key.compare(high) >= 0) break;
      if (++count > imagesLookedAtMax) return null;
      const until = untilOf(stored);
      if (until <= since || key.compare(low) < 0) continue;
      bytes += stored.length + value.length;
      if (bytes > imageBytesMax) return null;
      versions.push({ key, until, ...splitValue(value) });
    }
    return versions;
  }
}

function readKept(meta: Table, transaction: ReadTransaction | undefined): KeptVersions {
  const bytes = meta.get(versionsName, transaction === undefined ? undefined : { transaction });
  if (bytes === undefined) return noVersions;
  const reader = new ByteReader(bytes);
  return { ...noVersions, count: reader.varint(), bytes: reader.varint(), floor: reader.varint() as Seq };
}
