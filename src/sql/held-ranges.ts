/**
 * Which key ranges of one table the local store holds, and which are joining: asked for, not yet installed, with the changes that
 * arrived meanwhile. Ranges are [low, high) of sort keys; a high of null is the end. Pure.
 */
import { compareBytes } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { Seq } from "../base/ids.js";

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
  #held: KeyRange[] = [];
  #joining: JoiningRange[] = [];
  #joiningBytes = 0;
  /** The whole key space is held: the usual case, asked before every statement. */
  whole = false;

  place(key: Uint8Array): "held" | "joining" | "elsewhere" {
    if (this.whole || this.#held.some((range) => contains(range, key))) return "held";
    return this.#joining.some((range) => contains(range, key)) ? "joining" : "elsewhere";
  }

  holds(range: KeyRange): boolean {
    return this.#held.some((held) => compareBytes(held.low, range.low) <= 0 && compareEnds(held.high, range.high) >= 0);
  }

  hold(range: KeyRange): void {
    let { low, high } = range;
    const apart: KeyRange[] = [];
    for (const held of this.#held) {
      if (compareEnds(held.high, low) < 0 || compareEnds(high, held.low) < 0) apart.push(held);
      else {
        if (compareBytes(held.low, low) < 0) low = held.low;
        if (compareEnds(held.high, high) > 0) high = held.high;
      }
    }
    apart.push({ low, high });
    this.#held = apart.sort((left, right) => compareBytes(left.low, right.low));
    this.whole = low.length === 0 && high === null;
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
    const joining = this.#joining.find((one) => compareBytes(one.low, range.low) <= 0 && compareEnds(one.high, range.high) >= 0);
    if (joining === undefined) return null;
    assert(seq >= joining.since, `a chunk as of ${seq} for a range that joins since ${joining.since}`);
    const changes = joining.changes.filter((change) => change.seq > seq && contains(range, change.key));
    this.abandonJoining(range);
    return changes;
  }

  #recount(): void {
    this.#joiningBytes = 0;
    for (const joining of this.#joining) for (const change of joining.changes) this.#joiningBytes += sizeOf(change);
  }
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
