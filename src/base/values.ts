/**
 * SQL values and rows as bytes. The encoding is deterministic (one value, one form), keeps −0.0, 5 apart from 5.0, every
 * 64-bit integer and every blob, and is what journals, atom stores and pulls carry. Text must be well-formed.
 *
 * A row is (column id, value) pairs in ascending column id, so that a row written before ALTER TABLE ADD COLUMN still reads.
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
}

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

/** Blobs are views of the reader's buffer. */
export function readValue(reader: ByteReader): SqlValue {
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
    default:
      throw new MalformedBytesError(`value tag ${tag}`);
  }
}

/** Passes over a value without making it. */
export function skipValue(reader: ByteReader): void {
  const tag = reader.u8();
  if (tag === Tag.integer || tag === Tag.real) reader.raw(8);
  else if (tag === Tag.text || tag === Tag.blob) reader.bytes();
  else if (tag === Tag.smallInteger) reader.varint();
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

export function decodeRow(bytes: Uint8Array): Cell[] {
  const reader = new ByteReader(bytes);
  const cells = reader.list((r) => ({ columnId: r.varint(), value: readValue(r) }), 2);
  reader.end();
  return cells;
}
