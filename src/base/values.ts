/**
 * SQL values and rows as bytes. The encoding is deterministic (one value, one form), keeps −0.0, 5 apart from 5.0, every
 * 64-bit integer and every blob, and is what journals, atom stores and pulls carry. Text must be well-formed.
 *
 * A row is (column id, value) pairs in ascending column id, so that a row written before ALTER TABLE ADD COLUMN still reads. Outside of SQLite a large value
 * is not in its row, which has a reference instead (large-values.ts); such a row begins with a 0, where all others have the number of their cells, and with the
 * bytes of all that it refers to.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "./bytes.js";

/** Integers are bigint, reals are number: 5n is INTEGER 5, 5 is REAL 5.0. */
export type SqlValue = null | bigint | number | string | Uint8Array;

export interface Cell {
  readonly columnId: number;
  readonly value: SqlValue;
}

const enum Tag {
  null = 0,
  integer = 1,
  real = 2,
  text = 3,
  blob = 4,
  /** An integer from 0 to 2^48, as a varint. */
  smallInteger = 5,
  /** References to a text and to a blob: SHA-256, and how many bytes it has. */
  largeText = 6,
  largeBlob = 7,
}

export const valueHashBytes = 32;

/** To a value that is not in its row. */
export interface Reference {
  readonly type: "text" | "blob";
  /** Of the text's UTF-8, or the blob's bytes; a view of the row. */
  readonly hash: Buffer;
  readonly byteCount: number;
}

/** The bytes that a reference stands for; undefined: they are not here. */
export type FindValue = (reference: Reference) => Uint8Array | undefined;

const smallIntegerMax = 1n << 48n;

export function writeValue(writer: ByteWriter, value: SqlValue): void {
  if (value === null) writer.u8(Tag.null);
  else if (typeof value === "bigint") {
    if (value >= 0n && value <= smallIntegerMax) writer.u8(Tag.smallInteger).varint(Number(value));
    else writer.u8(Tag.integer).i64(value);
  } else if (typeof value === "number") writer.u8(Tag.real).f64(value);
  else if (typeof value === "string") writer.u8(Tag.text).text(value);
  else writer.u8(Tag.blob).bytes(value);
}

export function writeReference(writer: ByteWriter, { type, hash, byteCount }: Reference): void {
  writer
    .u8(type === "text" ? Tag.largeText : Tag.largeBlob)
    .raw(hash)
    .varint(byteCount);
}

function referenceOf(tag: Tag, reader: ByteReader): Reference {
  const hash = reader.raw(valueHashBytes);
  return { type: tag === Tag.largeText ? "text" : "blob", hash, byteCount: reader.varint() };
}

/** Passes over a value, as `skipValue`, and tells what it refers to; null: it is in the row. */
export function readReference(reader: ByteReader): Reference | null {
  const tag = reader.peek();
  if (tag !== Tag.largeText && tag !== Tag.largeBlob) {
    skipValue(reader);
    return null;
  }
  reader.u8();
  return referenceOf(tag, reader);
}

/** Of a text or a blob that is in the row, as bytes; null: it is another value, or a reference, and nothing was read. */
export function readLongValue(reader: ByteReader): { readonly type: "text" | "blob"; readonly bytes: Buffer } | null {
  const tag = reader.peek();
  if (tag !== Tag.text && tag !== Tag.blob) return null;
  reader.u8();
  return { type: tag === Tag.text ? "text" : "blob", bytes: reader.bytes() };
}

/** A text or a blob, given as its bytes. */
export function writeLongValue(writer: ByteWriter, type: "text" | "blob", bytes: Uint8Array): void {
  writer.u8(type === "text" ? Tag.text : Tag.blob).bytes(bytes);
}

/** At the beginning of a row: how many cells follow. */
export function readCellCount(reader: ByteReader): number {
  if (reader.remaining > 1 && reader.peek() === 0) {
    reader.u8();
    reader.varint();
  }
  return reader.count(2);
}

/** The bytes of large values that a row refers to; 0: of none. */
export function referredBytes(row: Uint8Array): number {
  if (row[0] !== 0 || row.length < 2) return 0;
  return new ByteReader(row, 1).varint();
}

/** Blobs are views of the reader's buffer. `find`: of values that are not in their row; throws MalformedBytesError where it has not got one. */
export function readValue(reader: ByteReader, find?: FindValue): SqlValue {
  const tag = reader.u8();
  switch (tag) {
    case Tag.null:
      return null;
    case Tag.integer:
      return reader.i64();
    case Tag.real:
      return reader.f64();
    case Tag.text:
      return reader.text();
    case Tag.blob:
      return reader.bytes();
    case Tag.smallInteger:
      return BigInt(reader.varint());
    case Tag.largeText:
    case Tag.largeBlob: {
      const bytes = find?.(referenceOf(tag, reader));
      if (bytes === undefined) throw new MissingValueError("a row's large value is not here");
      return tag === Tag.largeText ? textOf(bytes) : bytes;
    }
    default:
      throw new MalformedBytesError(`value tag ${tag}`);
  }
}

/** A row refers to what is not here. */
export class MissingValueError extends MalformedBytesError {
  override name = "MissingValueError";
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

/** Passes over a value without making it. */
export function skipValue(reader: ByteReader): void {
  const tag = reader.u8();
  if (tag === Tag.integer || tag === Tag.real) reader.raw(8);
  else if (tag === Tag.text || tag === Tag.blob) reader.bytes();
  else if (tag === Tag.smallInteger) reader.varint();
  else if (tag === Tag.largeText || tag === Tag.largeBlob) referenceOf(tag, reader);
  else if (tag !== Tag.null) throw new MalformedBytesError(`value tag ${tag}`);
}

/** `cells` in ascending column id. */
export function encodeRow(cells: readonly Cell[]): Buffer {
  const writer = new ByteWriter(cells.length * 12 + 8);
  writer.varint(cells.length);
  for (const cell of cells) {
    writer.varint(cell.columnId);
    writeValue(writer, cell.value);
  }
  return writer.finish();
}

/** `find`: of large values. */
export function decodeRow(bytes: Uint8Array, find?: FindValue): Cell[] {
  const reader = new ByteReader(bytes);
  const cells: Cell[] = [];
  for (let left = readCellCount(reader); left > 0; left--) cells.push({ columnId: reader.varint(), value: readValue(reader, find) });
  reader.end();
  return cells;
}
