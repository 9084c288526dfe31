/**
 * Which key ranges of one table the local store holds, and which are joining: asked for, not yet installed, with the changes that
 * arrived meanwhile. Ranges are [low, high) of sort keys; a high of null is the end. Pure.
 *
 * What is held is asked for by every statement and every applied row, so it is kept as binary strings in order, for a search by halves: a Cache
 * may hold a thousand pieces of a table. What is joining is little at a time.
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

interface JoiningRange extends KeyRange {
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
  #joining: JoiningRange[] = [];
  #joiningBytes = 0;
  /** The whole key space is held: the usual case, asked before every statement. */
  whole = false;

  /** Of what is held, in order. */
  get pieces(): readonly BinaryRange[] {
    return this.#held;
  }

  place(key: Uint8Array): "held" | "joining" | "elsewhere" {
    if (this.whole || this.holdsKey(binary(key))) return "held";
    return this.#joining.some((range) => contains(range, key)) ? "joining" : "elsewhere";
  }

  holdsKey(key: BinaryKey): boolean {
    const range = this.#held[this.#lastFrom(key)];
    return range !== undefined && (range.high === null || key < range.high);
  }

  /** Of what is held, that which the key lies in. */
  pieceOf(key: Uint8Array): BinaryRange | undefined {
    const place = binary(key);
    return this.holdsKey(place) ? this.#held[this.#lastFrom(place)] : undefined;
  }

  holds(range: BinaryRange): boolean {
    const held = this.#held[this.#lastFrom(range.low)];
    return held !== undefined && !endsBefore(held.high, range.high);
  }

  /** Index of the last held range that begins at or before the key; −1: none does. */
  #lastFrom(key: BinaryKey): number {
    let low = 0;
    let high = this.#held.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#held[middle] as BinaryRange).low <= key) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  hold(range: KeyRange): void {
    let { low, high } = binaryRange(range);
    // Those that overlap or touch stand side by side.
    let first = this.#lastFrom(low);
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
    let first = this.#lastFrom(low);
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
    this.#joining.push({ low: copy(range.low), high: range.high === null ? null : copy(range.high), since, changes: [] });
  }

  /** What of a joining range lies within `range` is given up; what lies outside goes on joining. */
  abandonJoining(range: KeyRange): void {
    this.#joining = this.#joining.flatMap((joining) => without(joining, range));
    this.#recount();
  }

  /** Keeps the change where its key is joining. The bytes are copied: those given are views of a whole entry. */
  buffer(change: BufferedChange): void {
    for (const joining of this.#joining) {
      if (!contains(joining, change.key)) continue;
      joining.changes.push({ seq: change.seq, key: copy(change.key), row: change.row === null ? null : copy(change.row) });
      this.#joiningBytes += sizeOf(change);
    }
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
    const joining = this.#joining.find((one) => compareBytes(one.low, range.low) <= 0 && compareEnds(one.high, range.high) >= 0);
    if (joining === undefined) return null;
    assert(seq >= joining.since, `a chunk as of ${seq} for a range that joins since ${joining.since}`);
    return joining.changes.filter((change) => change.seq > seq && contains(range, change.key));
  }

  #recount(): void {
    this.#joiningBytes = 0;
    for (const joining of this.#joining) for (const change of joining.changes) this.#joiningBytes += sizeOf(change);
  }
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

function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

export function contains(range: KeyRange, key: Uint8Array): boolean {
  return compareBytes(range.low, key) <= 0 && (range.high === null || compareBytes(key, range.high) < 0);
}

/** null is the end of the key space. */
function compareEnds(left: Uint8Array | null, right: Uint8Array | null): number {
  if (left === null || right === null) return left === right ? 0 : left === null ? 1 : -1;
  return compareBytes(left, right);
}

function without(joining: JoiningRange, range: KeyRange): JoiningRange[] {
  if (compareEnds(joining.high, range.low) <= 0 || compareEnds(range.high, joining.low) <= 0) return [joining];
  const rest: KeyRange[] = [];
  if (compareBytes(joining.low, range.low) < 0) rest.push({ low: joining.low, high: range.low });
  if (range.high !== null && compareEnds(range.high, joining.high) < 0) rest.push({ low: range.high, high: joining.high });
  return rest.map((piece) => ({
    low: piece.low,
    high: piece.high,
    since: joining.since,
    changes: joining.changes.filter((change) => contains(piece, change.key)),
  }));
}
