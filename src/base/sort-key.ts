/**
 * Sort keys: bytes whose order is SQLite's order of the values (design.md §5). Keys are compared, hashed and sent as these and
 * never as JavaScript values.
 *
 * A part is a class tag and a payload that no other payload of the class is a prefix of, so that composites concatenate:
 *
 * | class  | tag | payload |
 * |--------|-----|---------|
 * | NULL   | 10  | none |
 * | number | 20  | the greatest double ≤ the value, its bits made order-preserving (8 bytes), then what the value exceeds it by (2 bytes) |
 * | text   | 30  | UTF-8 with 00 → 00 FF, then 00 00 |
 * | blob   | 40  | bytes with 00 → 00 FF, then 00 00 |
 *
 * NOCASE folds A–Z and, as SQLite does, compares as C strings: at the first NUL it writes 00 FF and the total length. RTRIM strips
 * trailing 0x20. DESC complements the part's bytes. A key of `sortKeyBytesMax` bytes or more becomes a prefix and a hash: its
 * identity is kept, its order only as far as the prefix reaches. Shorter keys are never of that length, so the two cannot meet.
 */
import { createHash } from "node:crypto";
import { assert } from "./errors.js";
import { sortKeyBytesMax } from "./limits.js";
import type { SqlValue } from "./values.js";

export type Collation = "BINARY" | "NOCASE" | "RTRIM";

/** How one column of a key is ordered. */
export interface KeyColumnOrder {
  readonly collation: Collation;
  readonly descending: boolean;
}

export interface SortKeyPart {
  readonly value: SqlValue;
  /** BINARY where it is left out. Only text has one. */
  readonly collation?: Collation;
  readonly descending?: boolean;
}

const enum Tag {
  null = 0x10,
  number = 0x20,
  text = 0x30,
  blob = 0x40,
}

/** Tag, double, residual. */
const numberBytes = 11;
const hashBytes = 16;
const ascending: KeyColumnOrder = { collation: "BINARY", descending: false };

export function encodeSortKey(parts: readonly SortKeyPart[]): Buffer {
  return encodeSortKeyOf(
    parts.map((part) => part.value),
    parts.map((part) => ({ collation: part.collation ?? "BINARY", descending: part.descending ?? false })),
  );
}

/** As `encodeSortKey`, for callers that keep a key's column orders: `orders[i]` belongs to `values[i]`. */
export function encodeSortKeyOf(values: readonly SqlValue[], orders: readonly KeyColumnOrder[]): Buffer {
  const only = values[0];
  if (values.length === 1 && typeof only === "bigint" && orders[0]?.descending !== true) return integerKey(only);
  const pieces: Buffer[] = [];
  let length = 0;
  for (let index = 0; index < values.length; index++) {
    const piece = encodePart(values[index] ?? null, orders[index] ?? ascending);
    pieces.push(piece);
    length += piece.length;
  }
  const whole = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, length);
  if (length < sortKeyBytesMax) return whole;
  const digest = createHash("sha256").update(whole).digest().subarray(0, hashBytes);
  return Buffer.concat([whole.subarray(0, sortKeyBytesMax - hashBytes), digest]);
}

/** The sort key of one integer, ascending: a row's key in a table with an integer identity. */
export function integerKey(value: bigint): Buffer {
  const key = Buffer.allocUnsafe(numberBytes);
  key[0] = Tag.number;
  writeInteger(key, value);
  return key;
}

/** The integer of a key made by `integerKey`. Bytes of any other kind are a bug of the caller. */
export function decodeIntegerKey(key: Uint8Array): bigint {
  assert(key.length === numberBytes && key[0] === Tag.number, "a sort key of one integer was expected");
  const value = readNumber(key, 1, false);
  assert(typeof value === "bigint", "a sort key of one integer was expected");
  return value;
}

/** The integer that the key stands for, or null where it is anything else. */
export function integerOfKey(key: Uint8Array): bigint | null {
  if (key.length !== numberBytes || key[0] !== Tag.number) return null;
  const value = readNumber(key, 1, false);
  return typeof value === "bigint" ? value : null;
}

/**
 * Values that equal the key's under its collations (5 and 5.0 are one; NOCASE gives the folded text), or null where the key does not
 * keep them: it was cut, or has a NUL in NOCASE text.
 */
export function decodeSortKey(key: Uint8Array, orders: readonly KeyColumnOrder[]): SqlValue[] | null {
  if (key.length >= sortKeyBytesMax) return null;
  const values: SqlValue[] = [];
  let offset = 0;
  for (const order of orders) {
    const flip = order.descending ? 0xff : 0;
    const tag = (key[offset++] as number) ^ flip;
    if (tag === Tag.null) values.push(null);
    else if (tag === Tag.number) {
      values.push(readNumber(key, offset, order.descending));
      offset += numberBytes - 1;
    } else {
      assert(tag === Tag.text || tag === Tag.blob, "a sort key has an unknown tag");
      const bytes: number[] = [];
      for (;;) {
        assert(offset < key.length, "a sort key ends within a part");
        const byte = (key[offset++] as number) ^ flip;
        if (byte !== 0) {
          bytes.push(byte);
          continue;
        }
        const mark = (key[offset++] as number) ^ flip;
        if (mark === 0) break;
        if (tag === Tag.text && order.collation === "NOCASE") return null;
        bytes.push(0);
      }
      const payload = Buffer.from(bytes);
      values.push(tag === Tag.text ? payload.toString("utf8") : payload);
    }
  }
  assert(offset === key.length, "a sort key has more parts than its columns");
  return values;
}

function encodePart(value: SqlValue, order: KeyColumnOrder): Buffer {
  const part = encodeAscending(value, order.collation);
  if (order.descending) for (let index = 0; index < part.length; index++) part[index] = ~(part[index] as number) & 0xff;
  return part;
}

function encodeAscending(value: SqlValue, collation: Collation): Buffer {
  if (typeof value === "bigint") return integerKey(value);
  // SQLite has no NaN: it stores NULL.
  if (value === null || Number.isNaN(value)) return Buffer.from([Tag.null]);
  if (typeof value === "number") {
    const key = Buffer.allocUnsafe(numberBytes);
    key[0] = Tag.number;
    writeDouble(key, value, 0);
    return key;
  }
  if (typeof value === "string") return encodeText(Buffer.from(value, "utf8"), collation);
  return escapeBytes(Tag.blob, value);
}

function encodeText(bytes: Buffer, collation: Collation): Buffer {
  if (collation === "RTRIM") {
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0x20) end--;
    return escapeBytes(Tag.text, bytes.subarray(0, end));
  }
  if (collation === "BINARY") return escapeBytes(Tag.text, bytes);
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (byte >= 0x41 && byte <= 0x5a) bytes[index] = byte + 0x20;
  }
  const nul = bytes.indexOf(0);
  if (nul < 0) return escapeBytes(Tag.text, bytes);
  const key = Buffer.allocUnsafe(1 + nul + 6);
  key[0] = Tag.text;
  bytes.copy(key, 1, 0, nul);
  key[1 + nul] = 0;
  key[2 + nul] = 0xff;
  key.writeUInt32BE(bytes.length, 3 + nul);
  return key;
}

function escapeBytes(tag: number, bytes: Uint8Array): Buffer {
  let nulCount = 0;
  for (let at = bytes.indexOf(0); at >= 0; at = bytes.indexOf(0, at + 1)) nulCount++;
  const key = Buffer.allocUnsafe(1 + bytes.length + nulCount + 2);
  key[0] = tag;
  if (nulCount === 0) key.set(bytes, 1);
  else {
    let at = 1;
    for (const byte of bytes) {
      key[at++] = byte;
      if (byte === 0) key[at++] = 0xff;
    }
  }
  key[key.length - 2] = 0;
  key[key.length - 1] = 0;
  return key;
}

function writeInteger(key: Buffer, value: bigint): void {
  let double = Number(value);
  if (!Number.isSafeInteger(double)) {
    // Number() rounds to the nearest; the key wants the greatest double that is not above the value.
    if (BigInt(double) > value) double = nextBelow(double);
    writeDouble(key, double, Number(value - BigInt(double)));
  } else writeDouble(key, double, 0);
}

function writeDouble(key: Buffer, value: number, residual: number): void {
  // + 0 makes −0 into 0.
  key.writeDoubleBE(value + 0, 1);
  const first = key[1] as number;
  if (first & 0x80) for (let index = 1; index <= 8; index++) key[index] = ~(key[index] as number) & 0xff;
  else key[1] = first | 0x80;
  key.writeUInt16BE(residual, 9);
}

const scratch = Buffer.alloc(10);

function readNumber(key: Uint8Array, offset: number, descending: boolean): bigint | number {
  assert(offset + 10 <= key.length, "a sort key ends within a number");
  for (let index = 0; index < 10; index++) {
    const byte = key[offset + index] as number;
    scratch[index] = descending ? ~byte & 0xff : byte;
  }
  const first = scratch[0] as number;
  if (first & 0x80) scratch[0] = first & 0x7f;
  else for (let index = 0; index < 8; index++) scratch[index] = ~(scratch[index] as number) & 0xff;
  const double = scratch.readDoubleBE(0);
  const residual = scratch.readUInt16BE(8);
  const isInteger = Number.isInteger(double) && double >= -(2 ** 63) && double < 2 ** 63;
  return isInteger ? BigInt(double) + BigInt(residual) : double;
}

const stepper = Buffer.alloc(8);

/** The next double below a finite one that is not 0. */
function nextBelow(value: number): number {
  stepper.writeDoubleBE(value);
  const bits = stepper.readBigInt64BE();
  stepper.writeBigInt64BE(value > 0 ? bits - 1n : bits + 1n);
  return stepper.readDoubleBE();
}
