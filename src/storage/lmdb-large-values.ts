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
import { BugError } from "../base/errors.js";
import { largeValueSpace, noSeq } from "../base/ids.js";
import { chunkKey, chunkKeys, chunksOf, nameOfValue, referencesOf, type ValueName, valueChunkBytes } from "../base/large-values.js";
import type { FindValue } from "../base/values.js";
import type { KeptValues } from "./atom-store.js";
import { asBuffer, joinValue, rowKey, splitValue, type Writes } from "./lmdb-layout.js";
import type { Tables } from "./lmdb-tables.js";

/** Chunks that one transaction removes, unless one value has more. Of values without references, and looked at. */
const sweptChunksMax = 256;
const unusedLookedAtMax = 64;

/** Of the record in the store's table of figures. */
export const valuesName = Buffer.from("values");

interface Counts {
  /** References. */
  readonly rows: number;
  readonly versions: number;
  readonly byteCount: number;
}

/** What the transaction that is being written does to a value. */
interface Staged {
  readonly hash: Buffer;
  rows: number;
  versions: number;
  /** Put by it. */
  bytes: Uint8Array | null;
  /** Chunks that a transfer brings, in bytes. */
  arrived: number;
}

export class LmdbLargeValues {
  readonly #tables: Tables;
  #staged = new Map<ValueName, Staged>();
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
    this.#stage(hash).bytes ??= bytes;
  }

  /** A chunk of a transfer, which has been written like a row. */
  arrived(key: Uint8Array, byteCount: number): void {
    this.#stage(key.subarray(0, -4)).arrived += byteCount;
  }

  /** So many rows and versions more refer to what the row refers to. */
  refer(row: Uint8Array, rows: number, versions: number): void {
    for (const { hash } of referencesOf(row)) {
      const staged = this.#stage(hash);
      staged.rows += rows;
      staged.versions += versions;
    }
  }

  #stage(hash: Uint8Array): Staged {
    const name = nameOfValue(hash);
    const known = this.#staged.get(name);
    if (known !== undefined) return known;
    const made = { hash: Buffer.from(hash), rows: 0, versions: 0, bytes: null, arrived: 0 };
    this.#staged.set(name, made);
    return made;
  }

  /** Of what is stored, or put by this transaction. */
  readonly find: FindValue = ({ hash, byteCount }) => {
    const staged = this.#staged.get(nameOfValue(hash))?.bytes;
    if (staged !== undefined && staged !== null) return staged;
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
    let [keptForVersions, addedCount, addedBytes] = [0, 0, 0];
    for (const staged of this.#staged.values()) {
      const before = readCounts(values.get(staged.hash));
      if (before === null && staged.bytes === null && staged.arrived === 0)
        throw new BugError("a row refers to a large value that is not in the store");
      const byteCount = before === null ? (staged.bytes?.length ?? staged.arrived) : before.byteCount + staged.arrived;
      const after = { rows: (before?.rows ?? 0) + staged.rows, versions: (before?.versions ?? 0) + staged.versions, byteCount };
      if (after.rows < 0 || after.versions < 0) throw new BugError("a large value has fewer references than were counted");
      if (before === null) {
        if (staged.bytes !== null) this.#write(writes, staged.hash, staged.bytes);
        addedCount++;
      }
      addedBytes += byteCount - (before?.byteCount ?? 0);
      writes.add(values.put(staged.hash, encodeCounts(after)));
      const isUnused = after.rows + after.versions === 0;
      if (isUnused) {
        this.#hasUnused = true;
        writes.add(unused.put(staged.hash, Buffer.of(1)));
      } else if (before !== null && before.rows + before.versions === 0) writes.add(unused.remove(staged.hash));
      keptForVersions += forVersions(after) - forVersions(before);
    }
    const swept = isWhole ? this.#sweep(writes) : { count: 0, bytes: 0 };
    this.#staged = new Map();
    if (addedCount + addedBytes + swept.count === 0) return keptForVersions;
    this.#kept = { count: this.#kept.count + addedCount - swept.count, bytes: this.#kept.bytes + addedBytes - swept.bytes };
    writes.add(meta.put(valuesName, new ByteWriter(16).varint(this.#kept.count).varint(this.#kept.bytes).finish()));
    return keptForVersions;
  }

  #write(writes: Writes, hash: Buffer, bytes: Uint8Array): void {
    for (const chunk of chunksOf({ hash, bytes }))
      writes.add(this.#tables.rows.put(rowKey(largeValueSpace, chunk.key), joinValue(noSeq, chunk.bytes)));
  }

  #sweep(writes: Writes): KeptValues {
    const { rows, values, unused } = this.#tables;
    let [count, bytes, chunkCount, lookedAt, isLeft] = [0, 0, 0, 0, false];
    for (const key of unused.getKeys({ limit: unusedLookedAtMax })) {
      lookedAt++;
      const counts = readCounts(values.get(key));
      const chunks = Math.ceil((counts?.byteCount ?? 0) / valueChunkBytes);
      // What this transaction refers to, it has counted.
      if (this.#staged.has(nameOfValue(key)) || (chunkCount > 0 && chunkCount + chunks > sweptChunksMax)) {
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
    this.#hasUnused = isLeft || lookedAt === unusedLookedAtMax || [...this.#staged.values()].some(({ rows, versions }) => rows + versions <= 0);
    return { count, bytes };
  }
}

function forVersions(counts: Counts | null): number {
  return counts !== null && counts.rows === 0 && counts.versions > 0 ? counts.byteCount : 0;
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
  const reader = new ByteReader(asBuffer(bytes));
  return { count: reader.varint(), bytes: reader.varint() };
}
