/**
 * Large values in LMDB (base/large-values.ts), beside the rows and versions that refer to them:
 *
 *   rows    largeValueSpace (7 bytes), hash, place of the chunk (4 bytes) → seq (varint), chunk
 *   values  hash → how many references rows have to it, and how many versions; its bytes
 *   unused  hash → 1: no row or version refers to it any more
 *
 * A transaction adds up what its rows and versions refer to, and writes each value's count once. A value that nobody refers to goes in a later transaction, whole, if it
 * has not been referred to again until then: so what is counted is always there.
 */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { largeValueSpace, noSeq } from "../base/ids.js";
import { chunkKey, chunkKeys, chunksOf, nameOfValue, type ValueName, valueChunkBytes } from "../base/large-values.js";
import { type FindValue, valueHashBytes } from "../base/values.js";
import type { KeptValues } from "./atom-store.js";
import { joinValue, rowKey, splitValue, type Writes } from "./lmdb-layout.js";
import type { Tables } from "./lmdb-tables.js";
import { countedTo, keptForVersions, type References, StagedValues } from "./staged-values.js";

/** Chunks that one transaction removes, unless one value has more. Of values without references, and looked at. */
const sweptChunksMax = 256;
const unusedLookedAtMax = 64;

/** Of the record in the store's table of figures. */
export const valuesName = Buffer.from("values");

interface Counts extends References {
  readonly byteCount: number;
}

export class LmdbLargeValues {
  readonly #tables: Tables;
  readonly #staged = new StagedValues();
  /** Bytes of chunks that a transfer brings, by value. */
  readonly #arrived = new Map<ValueName, number>();
  #kept: KeptValues;
  #hasUnused: boolean;

  constructor(tables: Tables) {
    this.#tables = tables;
    this.#kept = readFigures(tables);
    this.#hasUnused = [...tables.unused.getKeys({ limit: 1 })].length > 0;
  }

  get kept(): KeptValues {
    return this.#kept;
  }

  get isSweepDue(): boolean {
    return this.#hasUnused;
  }

  /** The store is empty. */
  begin(): void {
    this.#staged.clear();
    this.#kept = { count: 0, bytes: 0 };
    this.#hasUnused = false;
  }

  /** Before the rows that refer to it. */
  put(hash: Uint8Array, bytes: Uint8Array): void {
    this.#staged.put(hash, bytes);
  }

  /** A chunk of a transfer, which has been written like a row. */
  arrived(key: Uint8Array, byteCount: number): void {
    const { hash } = this.#staged.touch(key.subarray(0, valueHashBytes));
    const name = nameOfValue(hash);
    this.#arrived.set(name, (this.#arrived.get(name) ?? 0) + byteCount);
  }

  /** So many rows and versions more refer to what the row refers to. */
  refer(row: Uint8Array, rows: number, versions: number): void {
    this.#staged.refer(row, rows, versions);
  }

  /** Of what is stored, or put by this transaction. */
  readonly find: FindValue = ({ hash, byteCount }) => {
    const put = this.#staged.get(hash)?.bytes ?? null;
    if (put !== null) return put;
    const { low, high } = chunkKeys(hash);
    const chunks: Buffer[] = [];
    for (const { value } of this.#tables.rows.getRange({ start: rowKey(largeValueSpace, low), end: rowKey(largeValueSpace, high) }))
      chunks.push(splitValue(value).row);
    const bytes = Buffer.concat(chunks);
    return bytes.length === byteCount ? bytes : undefined;
  };

  /**
   * At the end of the transaction; what was committed last must be seen. Returns by how many bytes more is kept for versions alone. `isWhole`: all rows of the store
   * are there, and not those that a transfer has brought until now.
   */
  finish(writes: Writes, isWhole = true): number {
    if (this.#staged.size === 0 && !this.#hasUnused) return 0;
    const { values, unused, meta } = this.#tables;
    let [keptMore, addedCount, addedBytes, isAnyUnused] = [0, 0, 0, false];
    for (const [name, staged] of this.#staged) {
      const before = readCounts(values.get(staged.hash));
      const arrived = this.#arrived.get(name) ?? 0;
      const byteCount = before === null ? (staged.bytes?.length ?? arrived) : before.byteCount + arrived;
      const after = { ...countedTo(before, staged, before !== null || staged.bytes !== null || arrived > 0), byteCount };
      if (before === null) {
        if (staged.bytes !== null) this.#write(writes, staged.hash, staged.bytes);
        addedCount++;
      }
      addedBytes += byteCount - (before?.byteCount ?? 0);
      writes.add(values.put(staged.hash, encodeCounts(after)));
      if (after.rows + after.versions === 0) {
        isAnyUnused = true;
        writes.add(unused.put(staged.hash, Buffer.of(1)));
      } else if (before !== null && before.rows + before.versions === 0) writes.add(unused.remove(staged.hash));
      keptMore += keptForVersions(after) - keptForVersions(before);
    }
    const swept = isWhole ? this.#sweep(writes) : { count: 0, bytes: 0, isLeft: this.#hasUnused };
    this.#hasUnused = swept.isLeft || isAnyUnused;
    this.#staged.clear();
    this.#arrived.clear();
    if (addedCount + addedBytes + swept.count === 0) return keptMore;
    this.#kept = { count: this.#kept.count + addedCount - swept.count, bytes: this.#kept.bytes + addedBytes - swept.bytes };
    writes.add(meta.put(valuesName, new ByteWriter(16).varint(this.#kept.count).varint(this.#kept.bytes).finish()));
    return keptMore;
  }

  #write(writes: Writes, hash: Buffer, bytes: Uint8Array): void {
    for (const chunk of chunksOf({ hash, bytes }))
      writes.add(this.#tables.rows.put(rowKey(largeValueSpace, chunk.key), joinValue(noSeq, chunk.bytes)));
  }

  /** What it has removed, and whether there is more. */
  #sweep(writes: Writes): KeptValues & { readonly isLeft: boolean } {
    const { rows, values, unused } = this.#tables;
    let [count, bytes, chunkCount, lookedAt, isLeft] = [0, 0, 0, 0, false];
    for (const key of unused.getKeys({ limit: unusedLookedAtMax })) {
      lookedAt++;
      const counts = readCounts(values.get(key));
      const chunks = Math.ceil((counts?.byteCount ?? 0) / valueChunkBytes);
      // What this transaction refers to, it has counted.
      if (this.#staged.get(key) !== undefined || (chunkCount > 0 && chunkCount + chunks > sweptChunksMax)) {
        isLeft = true;
        continue;
      }
      chunkCount += chunks;
      for (let place = 0; place < chunks; place++) writes.add(rows.remove(rowKey(largeValueSpace, chunkKey(key, place))));
      writes.add(values.remove(key));
      writes.add(unused.remove(key));
      count++;
      bytes += counts?.byteCount ?? 0;
    }
    return { count, bytes, isLeft: isLeft || lookedAt === unusedLookedAtMax };
  }
}

function readCounts(bytes: Buffer | undefined): Counts | null {
  if (bytes === undefined) return null;
  const reader = new ByteReader(bytes);
  return { rows: reader.varint(), versions: reader.varint(), byteCount: reader.varint() };
}

function encodeCounts({ rows, versions, byteCount }: Counts): Buffer {
  return new ByteWriter(16).varint(rows).varint(versions).varint(byteCount).finish();
}

function readFigures({ meta }: Tables): KeptValues {
  const bytes = meta.get(valuesName);
  if (bytes === undefined) return { count: 0, bytes: 0 };
  const reader = new ByteReader(bytes);
  return { count: reader.varint(), bytes: reader.varint() };
}
