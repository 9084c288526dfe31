/** Reads of old versions of rows in LMDB (lmdb-row-versions.ts), each in a transaction of its caller's. */
import { ByteReader } from "../base/bytes.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { placeOf, rowKey, spaceBytes, spaceKey, splitValue, untilOf, versionKey } from "./lmdb-layout.js";
import type { ReadTransaction, Table } from "./lmdb-tables.js";
import { imageBytesMax, imagesLookedAtMax, imagesSince, type KeptVersions, noVersions, type RowVersion, type StoredImage } from "./row-versions.js";

/** Of the record in the store's table of figures. */
export const versionsName = Buffer.from("versions");

export class LmdbVersionReads {
  readonly #table: Table;
  readonly #meta: Table;

  constructor(table: Table, meta: Table) {
    this.#table = table;
    this.#meta = meta;
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

export function readKept(meta: Table, transaction: ReadTransaction | undefined): KeptVersions {
  const bytes = meta.get(versionsName, transaction === undefined ? undefined : { transaction });
  if (bytes === undefined) return noVersions;
  const reader = new ByteReader(bytes);
  return { ...noVersions, count: reader.varint(), bytes: reader.varint(), floor: reader.varint() as Seq };
}
