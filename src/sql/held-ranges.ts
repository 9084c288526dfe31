/**
 * Which key ranges of one table the local store holds, and which are joining: asked for, not yet installed, with the changes that
 * arrived meanwhile. Ranges are [low, high) of sort keys; a high of null is the end. Pure.
 *
 * Both are asked for by every statement, and by every applied or installed row, so they are kept as binary strings in order, for a search by halves: a
 * Cache may hold a thousand pieces of a table, and pull as many at once.
 */
import { compareBytes } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import type { BinaryKey, BinaryRange } from "./local-store.js";

export interface KeyRange {
  readonly low: Uint8Array;
  readonly high: Uint8Array | null;
}

export interface BufferedChange {
  readonly seq: Seq;
  readonly key: Uint8Array;
  /** null: deleted. */
  readonly row: Uint8Array | null;
}

interface JoiningRange extends BinaryRange {
  /** Applied when the hold began: a chunk older than this would miss changes. */
  readonly since: Seq;
  readonly changes: BufferedChange[];
}

/**
 * Bytes of changes kept for the joining ranges of one table. More means that the table changes faster than it can be pulled at this
 * moment: the hold begins again.
 */
export const joiningBytesMax = 64 * 1024 * 1024;

/** What a buffered change takes beside its bytes, roughly. */
const changeOverheadBytes = 64;

export class HeldRanges {
  /** Ascending, disjoint, never touching. */
  #held: BinaryRange[] = [];
  /** Likewise ascending and disjoint. */
  #joining: JoiningRange[] = [];
  #joiningBytes = 0;
  /** The whole key space is held: the usual case, asked before every statement. */
  whole = false;

  /** Of what is held, in order. */
  get pieces(): readonly BinaryRange[] {
    return this.#held;
  }

  place(key: Uint8Array): "held" | "joining" | "elsewhere" {
    if (this.whole) return "held";
    const place = binary(key);
    if (rangeOf(this.#held, place) !== undefined) return "held";
    return rangeOf(this.#joining, place) === undefined ? "elsewhere" : "joining";
  }

  holdsKey(key: BinaryKey): boolean {
    return rangeOf(this.#held, key) !== undefined;
  }

  /** Of what is held, that which the key lies in. */
  pieceOf(key: Uint8Array): BinaryRange | undefined {
    return rangeOf(this.#held, binary(key));
  }

  holds(range: BinaryRange): boolean {
    const held = this.#held[lastFrom(this.#held, range.low)];
    return held !== undefined && !endsBefore(held.high, range.high);
  }

  hold(range: KeyRange): void {
    let { low, high } = binaryRange(range);
    // Those that overlap or touch stand side by side.
    let first = lastFrom(this.#held, low);
    if (first < 0 || endsBefore((this.#held[first] as BinaryRange).high, low)) first += 1;
    let end = first;
    for (let held = this.#held[end]; held !== undefined && (high === null || held.low <= high); held = this.#held[++end]) {
      if (held.low < low) low = held.low;
      if (endsBefore(high, held.high)) high = held.high;
    }
    this.#held.splice(first, end - first, { low, high });
    this.whole = low === "" && high === null;
  }

  /** Nothing is held, nor joining. */
  get isEmpty(): boolean {
    return this.#held.length === 0 && this.#joining.length === 0;
  }

  /** What is held within the range is so no more; what joins there goes on joining. */
  drop(range: KeyRange): void {
    const { low, high } = binaryRange(range);
    let first = lastFrom(this.#held, low);
    if (first < 0 || !endsBefore(low, (this.#held[first] as BinaryRange).high)) first += 1;
    const rest: BinaryRange[] = [];
    let end = first;
    for (let held = this.#held[end]; held !== undefined && (high === null || held.low < high); held = this.#held[++end]) {
      if (held.low < low) rest.push({ low: held.low, high: low });
      if (high !== null && endsBefore(high, held.high)) rest.push({ low: high, high: held.high });
    }
    if (first === end) return;
    this.#held.splice(first, end - first, ...rest);
    this.whole = false;
  }

  beginJoining(range: KeyRange, since: Seq): void {
    this.abandonJoining(range);
    const { low, high } = binaryRange(range);
    this.#joining.splice(lastFrom(this.#joining, low) + 1, 0, { low, high, since, changes: [] });
  }

  /** What of a joining range lies within `range` is given up; what lies outside goes on joining. */
  abandonJoining(range: KeyRange): void {
    const { low, high } = binaryRange(range);
    let first = lastFrom(this.#joining, low);
    if (first < 0 || !endsBefore(low, (this.#joining[first] as JoiningRange).high)) first += 1;
    const rest: JoiningRange[] = [];
    let end = first;
    for (let joining = this.#joining[end]; joining !== undefined && (high === null || joining.low < high); joining = this.#joining[++end]) {
      this.#joiningBytes -= sizeOfAll(joining.changes);
      if (joining.low < low) rest.push(piece(joining, joining.low, low));
      if (high !== null && endsBefore(high, joining.high)) rest.push(piece(joining, high, joining.high));
    }
    for (const { changes } of rest) this.#joiningBytes += sizeOfAll(changes);
    this.#joining.splice(first, end - first, ...rest);
  }

  /** Keeps the change where its key is joining. The bytes are copied: those given are views of a whole entry. */
  buffer(change: BufferedChange): void {
    const joining = rangeOf(this.#joining, binary(change.key));
    if (joining === undefined) return;
    joining.changes.push({ seq: change.seq, key: copy(change.key), row: change.row === null ? null : copy(change.row) });
    this.#joiningBytes += sizeOf(change);
    // "full" is told when the chunk comes: nobody waits for an answer now.
    if (this.#joiningBytes > joiningBytesMax) {
      this.#joining = [];
      this.#joiningBytes = 0;
    }
  }

  /** The changes after `seq` of a chunk that lies in one joining range, in order; the range then no longer joins. null: its changes are gone. */
  takeJoining(range: KeyRange, seq: Seq): BufferedChange[] | null {
    const changes = this.joiningChanges(range, seq);
    if (changes !== null) this.abandonJoining(range);
    return changes;
  }

  /** As `takeJoining`, and the range goes on joining. */
  joiningChanges(range: KeyRange, seq: Seq): BufferedChange[] | null {
    const { low, high } = binaryRange(range);
    const joining = rangeOf(this.#joining, low);
    if (joining === undefined || endsBefore(joining.high, high)) return null;
    assert(seq >= joining.since, `a chunk as of ${seq} for a range that joins since ${joining.since}`);
    return joining.changes.filter((change) => change.seq > seq && contains(range, change.key));
  }
}

/** Of ascending, disjoint ranges, the index of the last that begins at or before the key; −1: none does. */
function lastFrom(ranges: readonly BinaryRange[], key: BinaryKey): number {
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
function rangeOf<R extends BinaryRange>(ranges: readonly R[], key: BinaryKey): R | undefined {
  const range = ranges[lastFrom(ranges, key)];
  return range !== undefined && (range.high === null || key < range.high) ? range : undefined;
}

export function binary(key: Uint8Array): BinaryKey {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

export function binaryRange(range: KeyRange): BinaryRange {
  return { low: binary(range.low), high: range.high === null ? null : binary(range.high) };
}

/** The first end comes before the second; null is the end of the key space. */
function endsBefore(first: BinaryKey | null, second: BinaryKey | null): boolean {
  return first !== null && (second === null || first < second);
}

function sizeOf(change: BufferedChange): number {
  return change.key.length + (change.row?.length ?? 0) + changeOverheadBytes;
}

function sizeOfAll(changes: readonly BufferedChange[]): number {
  let bytes = 0;
  for (const change of changes) bytes += sizeOf(change);
  return bytes;
}

/** [low, high) of a joining range, with its changes. */
function piece({ since, changes }: JoiningRange, low: BinaryKey, high: BinaryKey | null): JoiningRange {
  const isInside = (key: BinaryKey): boolean => key >= low && (high === null || key < high);
  return { low, high, since, changes: changes.filter((change) => isInside(binary(change.key))) };
}

function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

export function contains(range: KeyRange, key: Uint8Array): boolean {
  return compareBytes(range.low, key) <= 0 && (range.high === null || compareBytes(key, range.high) < 0);
}
