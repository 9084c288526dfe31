/**
 * Ranges of sort keys, [low, high); a high of null is the end. As binary strings (latin1) they compare like their bytes, and faster: ranges are
 * looked up with every statement, row and entry.
 */
import { type ByteReader, type ByteWriter, compareBytes } from "./bytes.js";

/** A sort key as a string of its bytes (latin1): cheap to compare, to hash and to send between threads. */
export type BinaryKey = string;

/** Keys low ≤ key < high; a high of null is the end of the space. */
export interface BinaryRange {
  readonly low: BinaryKey;
  readonly high: BinaryKey | null;
}

export interface KeyRange {
  readonly low: Uint8Array;
  readonly high: Uint8Array | null;
}

export const wholeRange: BinaryRange = { low: "", high: null };

export function binaryKey(key: Uint8Array): BinaryKey {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

export function binaryRange(range: KeyRange): BinaryRange {
  return { low: binaryKey(range.low), high: range.high === null ? null : binaryKey(range.high) };
}

/** The range that has this key alone. */
export function rangeOfKey(key: BinaryKey): BinaryRange {
  return { low: key, high: `${key}\0` };
}

export function writeRange(writer: ByteWriter, { low, high }: BinaryRange): void {
  writer.bytes(Buffer.from(low, "latin1")).bool(high !== null);
  if (high !== null) writer.bytes(Buffer.from(high, "latin1"));
}

export function readRange(reader: ByteReader): BinaryRange {
  return { low: binaryKey(reader.bytes()), high: reader.bool() ? binaryKey(reader.bytes()) : null };
}

export function contains(range: KeyRange, key: Uint8Array): boolean {
  return compareBytes(range.low, key) <= 0 && (range.high === null || compareBytes(key, range.high) < 0);
}

export function overlap(left: BinaryRange, right: BinaryRange): boolean {
  return (left.high === null || right.low < left.high) && (right.high === null || left.low < right.high);
}

/** The first end comes before the second; null is the end of the key space. */
export function endsBefore(first: BinaryKey | null, second: BinaryKey | null): boolean {
  return first !== null && (second === null || first < second);
}

/** Of ascending, disjoint ranges, the index of the last that begins at or before the key; −1: none does. */
export function lastFrom(ranges: readonly BinaryRange[], key: BinaryKey): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle] as BinaryRange).low <= key) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Likewise, the one that the key lies in. */
export function rangeAt<R extends BinaryRange>(ranges: readonly R[], key: BinaryKey): R | undefined {
  const range = ranges[lastFrom(ranges, key)];
  return range !== undefined && (range.high === null || key < range.high) ? range : undefined;
}

/** A set of keys: in order, for a search by halves. */
export class KeyRanges {
  /** Ascending, disjoint, never touching. */
  readonly #pieces: BinaryRange[] = [];

  constructor(pieces: Iterable<BinaryRange> = []) {
    for (const piece of pieces) this.add(piece);
  }

  get pieces(): readonly BinaryRange[] {
    return this.#pieces;
  }

  get isWhole(): boolean {
    const [first] = this.#pieces;
    return first !== undefined && first.low === "" && first.high === null;
  }

  /** The one that the key lies in. */
  at(key: BinaryKey): BinaryRange | undefined {
    return rangeAt(this.#pieces, key);
  }

  holds(range: BinaryRange): boolean {
    const piece = this.#pieces[lastFrom(this.#pieces, range.low)];
    return piece !== undefined && !endsBefore(piece.high, range.high);
  }

  /** The first that begins behind the key. */
  after(key: BinaryKey): BinaryRange | undefined {
    return this.#pieces[lastFrom(this.#pieces, key) + 1];
  }

  /** What of the range is in the set, in order. */
  within({ low, high }: BinaryRange): BinaryRange[] {
    const found: BinaryRange[] = [];
    for (let index = Math.max(0, lastFrom(this.#pieces, low)); index < this.#pieces.length; index++) {
      const piece = this.#pieces[index] as BinaryRange;
      if (high !== null && piece.low >= high) break;
      if (endsBefore(low, piece.high)) found.push({ low: piece.low < low ? low : piece.low, high: endsBefore(high, piece.high) ? high : piece.high });
    }
    return found;
  }

  add(range: BinaryRange): void {
    let { low, high } = range;
    // Those that overlap or touch stand side by side.
    let first = lastFrom(this.#pieces, low);
    if (first < 0 || endsBefore((this.#pieces[first] as BinaryRange).high, low)) first += 1;
    let end = first;
    for (let piece = this.#pieces[end]; piece !== undefined && (high === null || piece.low <= high); piece = this.#pieces[++end]) {
      if (piece.low < low) low = piece.low;
      if (endsBefore(high, piece.high)) high = piece.high;
    }
    this.#pieces.splice(first, end - first, { low, high });
  }

  remove({ low, high }: BinaryRange): void {
    let first = lastFrom(this.#pieces, low);
    if (first < 0 || !endsBefore(low, (this.#pieces[first] as BinaryRange).high)) first += 1;
    const rest: BinaryRange[] = [];
    let end = first;
    for (let piece = this.#pieces[end]; piece !== undefined && (high === null || piece.low < high); piece = this.#pieces[++end]) {
      if (piece.low < low) rest.push({ low: piece.low, high: low });
      if (high !== null && endsBefore(high, piece.high)) rest.push({ low: high, high: piece.high });
    }
    if (first !== end) this.#pieces.splice(first, end - first, ...rest);
  }
}
