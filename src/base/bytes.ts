/** Growing writer and bounds-checked reader for hand-made codecs. Integers are LEB128 varints below 2^53 unless named otherwise. */

// A byte order mark is a character like any other: `ignoreBOM` means that it stays.
const textDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes that do not decode: cut short, out of range, or not what their header says. */
export class MalformedBytesError extends Error {
  override name = "MalformedBytesError";
}

export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(initialBytes = 256) {
    this.#buffer = Buffer.allocUnsafe(initialBytes);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written until now, without a copy: a view that is good until the next write. */
  get written(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(byteCount: number): number {
    const at = this.#length;
    const end = at + byteCount;
    if (end > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, this.#buffer.length * 2));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    this.#length = end;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
  }

  /** 48-bit unsigned. */
  u48(value: number): this {
    const at = this.#reserve(6);
    this.#buffer.writeUIntBE(value, at, 6);
    return this;
  }

  f64(value: number): this {
    const at = this.#reserve(8);
    this.#buffer.writeDoubleBE(value, at);
    return this;
  }

  i64(value: bigint): this {
    const at = this.#reserve(8);
    this.#buffer.writeBigInt64BE(value, at);
    return this;
  }

  varint(value: number): this {
    if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`varint out of range: ${value}`);
    let rest = value;
    while (rest >= 0x80) {
      this.u8((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    return this.u8(rest);
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  /** Length, then the bytes. */
  bytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes);
  }

  /** Length in bytes, then UTF-8. */
  text(text: string): this {
    const byteCount = Buffer.byteLength(text);
    this.varint(byteCount);
    const at = this.#reserve(byteCount);
    this.#buffer.write(text, at, "utf8");
    return this;
  }

  bool(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** What was written, without a copy: the writer must not be used again. */
  finish(): Buffer {
    return this.written;
  }
}

export class ByteReader {
  readonly #buffer: Buffer;
  #offset: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.#buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#offset = offset;
    this.#end = end;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#end - this.#offset;
  }

  #take(byteCount: number): number {
    const at = this.#offset;
    if (at + byteCount > this.#end) throw new MalformedBytesError(`${byteCount} bytes wanted at ${at} of ${this.#end}`);
    this.#offset = at + byteCount;
    return at;
  }

  u8(): number {
    return this.#buffer[this.#take(1)] as number;
  }

  /** The next byte, which stays the next. */
  peek(): number {
    const byte = this.u8();
    this.#offset--;
    return byte;
  }

  u16(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  u48(): number {
    return this.#buffer.readUIntBE(this.#take(6), 6);
  }

  f64(): number {
    return this.#buffer.readDoubleBE(this.#take(8));
  }

  i64(): bigint {
    return this.#buffer.readBigInt64BE(this.#take(8));
  }

  varint(): number {
    const first = this.u8();
    if (first < 0x80) return first;
    let value = first & 0x7f;
    let scale = 0x80;
    for (let index = 1; index < 8; index++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new MalformedBytesError("varint above 2^53");
  }

  /** A view, not a copy: it keeps the whole underlying buffer alive. */
  raw(byteCount: number): Buffer {
    const at = this.#take(byteCount);
    return this.#buffer.subarray(at, at + byteCount);
  }

  /** A view, not a copy. */
  bytes(): Buffer {
    return this.raw(this.varint());
  }

  text(): string {
    const view = this.bytes();
    try {
      return textDecoder.decode(view);
    } catch (cause) {
      throw new MalformedBytesError("text is not UTF-8", { cause });
    }
  }

  bool(): boolean {
    const value = this.u8();
    if (value > 1) throw new MalformedBytesError(`boolean is ${value}`);
    return value === 1;
  }

  /** A list's length, refused where it could not fit in what is left (each item takes `itemBytesMin` at least). */
  count(itemBytesMin = 1): number {
    const count = this.varint();
    if (count * itemBytesMin > this.remaining) throw new MalformedBytesError(`${count} items in ${this.remaining} bytes`);
    return count;
  }

  list<T>(read: (reader: ByteReader) => T, itemBytesMin = 1): T[] {
    const count = this.count(itemBytesMin);
    const items: T[] = [];
    for (let index = 0; index < count; index++) items.push(read(this));
    return items;
  }

  end(): void {
    if (this.#offset !== this.#end) throw new MalformedBytesError(`${this.remaining} bytes too many`);
  }
}

/** Order of unsigned bytes; the shorter of two with a common start comes first. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  return Buffer.compare(left, right);
}

export const emptyBytes: Buffer = Buffer.alloc(0);

/** The same bytes, seen as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
