/** Keys and values of the atom store in LMDB, as lmdb-atom-store.ts lists them. */
import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { rowWeight } from "../base/large-values.js";
import { sortKeyBytesMax } from "../base/limits.js";

export const spaceBytes = 7;
const seqBytes = 7;
/** LMDB's own limit for keys. */
const lmdbKeyBytesMax = 1978;

/** The promises of one transaction: LMDB gives the same one for most writes. */
export class Writes {
  readonly #promises: Promise<unknown>[] = [];

  add(promise: Promise<unknown>): void {
    if (this.#promises.at(-1) !== promise) this.#promises.push(promise);
  }

  async done(): Promise<void> {
    await Promise.all(this.#promises);
  }
}

export function spaceKey(space: number): Buffer {
  const key = Buffer.allocUnsafe(spaceBytes);
  writeSevenBytes(key, space, 0);
  return key;
}

export function spaceOf(key: Buffer): SpaceId {
  return readSevenBytes(key, 0) as SpaceId;
}

export function rowKey(space: SpaceId, key: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(spaceBytes + key.length);
  writeSevenBytes(bytes, space, 0);
  bytes.set(key, spaceBytes);
  return bytes;
}

/** Of a row's key, and the seq until which it was there. */
export function versionKey(place: Buffer, until: Seq): Buffer {
  const bytes = Buffer.allocUnsafe(place.length + seqBytes);
  place.copy(bytes);
  writeSevenBytes(bytes, until, place.length);
  return bytes;
}

export function untilOf(key: Buffer): Seq {
  return readSevenBytes(key, key.length - seqBytes) as Seq;
}

/** The key of the row whose version it is. */
export function placeOf(key: Buffer): Buffer {
  return key.subarray(0, key.length - seqBytes);
}

/** Throws MalformedBytesError: LMDB cannot have the key, or its versions. */
export function checkRowKey(key: Uint8Array): void {
  checkKey(spaceBytes + key.length + seqBytes);
}

export function checkKey(byteCount: number): void {
  const isFitting = byteCount > 0 && byteCount <= lmdbKeyBytesMax;
  if (!isFitting) throw new MalformedBytesError(`a key of ${byteCount} bytes: sort keys end near ${sortKeyBytesMax}`);
}

/** `refers`: it is a row that refers to large values. (What stands in a row's place in an index must not be taken for one.) */
export function joinValue(seq: Seq, row: Uint8Array, refers = false): Buffer {
  return new ByteWriter(row.length + 8)
    .varint(seq * 2 + (refers ? 1 : 0))
    .raw(row)
    .finish();
}

export interface Stored {
  readonly seq: Seq;
  readonly row: Buffer;
  readonly refers: boolean;
}

export function splitValue(value: Buffer): Stored {
  const reader = new ByteReader(value);
  const head = reader.varint();
  return { seq: Math.floor(head / 2) as Seq, row: value.subarray(reader.offset), refers: head % 2 === 1 };
}

export function weightOf({ row, refers }: Stored): number {
  return refers ? rowWeight(row) : row.length;
}

export function number(value: number): Buffer {
  return new ByteWriter(8).varint(value).finish();
}

export function readNumber(bytes: Buffer): number {
  return new ByteReader(bytes).varint();
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function writeSevenBytes(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt8(Math.floor(value / 2 ** 48), offset);
  bytes.writeUIntBE(value % 2 ** 48, offset + 1, 6);
}

function readSevenBytes(bytes: Buffer, offset: number): number {
  return bytes.readUInt8(offset) * 2 ** 48 + bytes.readUIntBE(offset + 1, 6);
}
