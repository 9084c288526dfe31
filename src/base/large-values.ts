/**
 * Large values: texts and blobs of more than largeValueBytes (design.md §5 "data catalog"). In SQLite they are where the user has put them. Everywhere else (entries,
 * stores, pulls) a row has a reference in place of each: its SHA-256, by which any two that are equal are one. So a change of another column does not carry
 * them again, versions of a row share them, and no chunk is larger for them.
 *
 * What is named by its content never changes, so nobody needs permission for it, and it has neither originator nor holders: an Archive has every value that a
 * row or version of its store refers to, in chunks, and counts who does. That table is the data catalog.
 *
 * | where | what stands for a row |
 * |---|---|
 * | captured, run again, rewound (src/sql) | the row as it is, all values in it: `attachValues` |
 * | an entry, a store, a chunk | the row with references: `detachValues`. Always the same for the same row, so that rows are compared by these bytes |
 */
import { createHash } from "node:crypto";
import { ByteReader, ByteWriter } from "./bytes.js";
import {
  type FindValue,
  MissingValueError,
  type Reference,
  readCellCount,
  readLongValue,
  readReference,
  referredBytes,
  skipValue,
  valueHashBytes,
  writeLongValue,
  writeReference,
} from "./values.js";

/** A value of more bytes than this is not kept in its row. */
export const largeValueBytes = 64 * 1024;

/** Of a value in the store, in bytes. Reason: with LMDB's header sixteen of its pages. */
export const valueChunkBytes = 16 * 4096 - 32;

export interface LargeValue {
  readonly hash: Buffer;
  readonly bytes: Uint8Array;
}

/** A name for maps. */
export type ValueName = string;

export function nameOfValue(hash: Uint8Array): ValueName {
  return Buffer.from(hash.buffer, hash.byteOffset, hash.byteLength).toString("latin1");
}

export function hashOfValue(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

/** What a row with its key weighs in its atom: as if its large values were in it. */
export function rowWeight(row: Uint8Array): number {
  return row.length + referredBytes(row);
}

/** The row as it goes out, with the values that it then refers to. `hashOf`: of a large value. */
export function detachValues<R extends Uint8Array>(
  row: R,
  hashOf: (bytes: Uint8Array) => Buffer = hashOfValue,
): { readonly row: R | Buffer; readonly values: readonly LargeValue[] } {
  if (row.length <= largeValueBytes) return { row, values: [] };
  const values: LargeValue[] = [];
  const cells = new ByteWriter(1024);
  const reader = new ByteReader(row);
  const count = readCellCount(reader);
  let bytesOut = 0;
  for (let left = count; left > 0; left--) {
    cells.varint(reader.varint());
    const long = readLongValue(reader);
    if (long === null) copyValue(reader, row, cells);
    else if (long.bytes.length <= largeValueBytes) writeLongValue(cells, long.type, long.bytes);
    else {
      const hash = hashOf(long.bytes);
      writeReference(cells, { type: long.type, hash, byteCount: long.bytes.length });
      values.push({ hash, bytes: long.bytes });
      bytesOut += long.bytes.length;
    }
  }
  reader.end();
  if (values.length === 0) return { row, values };
  return { row: new ByteWriter(cells.length + 16).u8(0).varint(bytesOut).varint(count).raw(cells.finish()).finish(), values };
}

const noHash = Buffer.alloc(valueHashBytes);

/** As `detachValues`, of a row that does not go out: what it weighs, and which values it has, take no hashes. */
export function detachUnnamed(row: Uint8Array): { readonly weight: number; readonly values: readonly Uint8Array[] } {
  const { row: detached, values } = detachValues(row, () => noHash);
  return { weight: rowWeight(detached), values: values.map(({ bytes }) => bytes) };
}

/** The row with its values in it. Throws MissingValueError where `find` has not got one. */
export function attachValues<R extends Uint8Array>(row: R, find: FindValue): R | Buffer {
  if (referredBytes(row) === 0) return row;
  const reader = new ByteReader(row);
  const count = readCellCount(reader);
  const writer = new ByteWriter(rowWeight(row) + 64).varint(count);
  for (let left = count; left > 0; left--) {
    writer.varint(reader.varint());
    const start = reader.offset;
    const reference = readReference(reader);
    if (reference === null) writer.raw(row.subarray(start, reader.offset));
    else {
      const bytes = find(reference);
      if (bytes === undefined) throw new MissingValueError("a row's large value is not here");
      writeLongValue(writer, reference.type, bytes);
    }
  }
  reader.end();
  return writer.finish();
}

function copyValue(reader: ByteReader, row: Uint8Array, writer: ByteWriter): void {
  const start = reader.offset;
  skipValue(reader);
  writer.raw(row.subarray(start, reader.offset));
}

/** Of a row, one for each value that it does not have in itself. */
export function referencesOf(row: Uint8Array): Reference[] {
  if (referredBytes(row) === 0) return [];
  const references: Reference[] = [];
  const reader = new ByteReader(row);
  for (let left = readCellCount(reader); left > 0; left--) {
    reader.varint();
    const reference = readReference(reader);
    if (reference !== null) references.push(reference);
  }
  reader.end();
  return references;
}

/** Looks for values among these. */
export function finderOf(values: ReadonlyMap<ValueName, Uint8Array>): FindValue {
  return ({ hash }) => values.get(nameOfValue(hash));
}

/** Of chunks in the space of large values: the value's hash, and the chunk's place. */
export function chunkKey(hash: Uint8Array, place: number): Buffer {
  return new ByteWriter(hash.length + 4).raw(hash).u32(place).finish();
}

/** The keys of all chunks of a value, and of nothing else: [low, high). */
export function chunkKeys(hash: Uint8Array): { readonly low: Buffer; readonly high: Buffer } {
  return { low: chunkKey(hash, 0), high: chunkKey(hash, 0xffff_ffff) };
}

export function chunksOf(value: LargeValue): { readonly key: Buffer; readonly bytes: Uint8Array }[] {
  const chunks: { key: Buffer; bytes: Uint8Array }[] = [];
  for (let at = 0; at < value.bytes.length; at += valueChunkBytes)
    chunks.push({ key: chunkKey(value.hash, chunks.length), bytes: value.bytes.subarray(at, at + valueChunkBytes) });
  return chunks;
}
