/** Reads of old versions of rows in LMDB (lmdb-row-versions.ts), each in a transaction of its caller's. */
import { ByteReader } from "../base/bytes.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { nameOfValue, referencesOf, type ValueName } from "../base/large-values.js";
import { placeOf, rowKey, type Stored, spaceBytes, spaceKey, splitValue, untilOf, versionKey } from "./lmdb-layout.js";
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
    rows: readonly (Stored & { readonly key: Buffer })[],
  ): { readonly images: readonly StoredImage[]; readonly imagesFrom: Seq } {
    const kept = readKept(this.#meta, transaction);
    const imagesFrom = Math.max(since, kept.floor) as Seq;
    if (imagesFrom >= position) return { images: [], imagesFrom };
    const versions = kept.count === 0 ? [] : this.#versionsOf(transaction, range, imagesFrom, rows);
    return versions === null ? { images: [], imagesFrom: position } : { images: imagesSince(imagesFrom, rows, versions), imagesFrom };
  }

  /** Whether what was there at `seq` can be told. */
  reaches(transaction: ReadTransaction, seq: Seq): boolean {
    return seq >= readKept(this.#meta, transaction).floor;
  }

  /** What was at `place` at `asOf`, where another, or none, is there now; null: nothing was. */
  at(transaction: ReadTransaction, place: Buffer, asOf: Seq): Stored | null {
    for (const { key, value } of this.#table.getRange({ start: versionKey(place, (asOf + 1) as Seq), limit: 1, transaction })) {
      if (placeOf(key).compare(place) !== 0) return null;
      const stored = splitValue(value);
      return stored.seq <= asOf ? stored : null;
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
    rows: readonly Stored[],
  ): RowVersion[] | null {
    const versions: RowVersion[] = [];
    // Large values that several versions share, or that a row has too, are fetched once.
    const weighed = new Set<ValueName>();
    let bytes = 0;
    let count = 0;
    // A bound may begin with a row's key, whose versions then lie beyond it.
    for (const { key: stored, value } of this.#table.getRange({ start: rowKey(space, low), end: spaceKey(space + 1), transaction })) {
      const key = placeOf(stored).subarray(spaceBytes);
      if (high !== null && key.compare(high) >= 0) break;
      if (++count > imagesLookedAtMax) return null;
      const until = untilOf(stored);
      if (until <= since || key.compare(low) < 0) continue;
      const version = splitValue(value);
      bytes += stored.length + value.length;
      if (version.refers) {
        if (weighed.size === 0) for (const row of rows) if (row.refers) for (const { hash } of referencesOf(row.row)) weighed.add(nameOfValue(hash));
        for (const { hash, byteCount } of referencesOf(version.row)) {
          if (!weighed.has(nameOfValue(hash))) bytes += byteCount;
          weighed.add(nameOfValue(hash));
        }
      }
      if (bytes > imageBytesMax) return null;
      versions.push({ key, until, seq: version.seq, row: version.row });
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
