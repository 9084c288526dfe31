/**
 * Which key ranges of one table the local store holds, and which are joining: asked for, not yet installed, with the changes that
 * arrived meanwhile. Ranges are [low, high) of sort keys; a high of null is the end. Pure.
 *
 * Both are asked for by every statement, and by every applied or installed row, so they are kept as binary strings in order, for a search by halves: a
 * Cache may hold a thousand pieces of a table, and pull as many at once.
 */
import { assert } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import {
  type BinaryKey,
  type BinaryRange,
  binaryKey,
  binaryRange,
  contains,
  endsBefore,
  type KeyRange,
  KeyRanges,
  lastFrom,
  rangeAt,
} from "../base/key-ranges.js";
import type { LargeValue } from "../base/large-values.js";

export interface BufferedChange {
  readonly seq: Seq;
  readonly key: Uint8Array;
  /** null: deleted. */
  readonly row: Uint8Array | null;
  /** Large values that the row refers to and its entry brought; left out: none. */
  readonly values?: readonly LargeValue[];
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
  readonly #held = new KeyRanges();
  /** Ascending and disjoint. */
  #joining: JoiningRange[] = [];
  #joiningBytes = 0;
  /** The whole key space is held: the usual case, asked before every statement. */
  whole = false;

  /** Of what is held, in order. */
  get pieces(): readonly BinaryRange[] {
    return this.#held.pieces;
  }

  place(key: Uint8Array): "held" | "joining" | "elsewhere" {
    if (this.whole) return "held";
    const place = binaryKey(key);
    if (this.#held.at(place) !== undefined) return "held";
    return rangeAt(this.#joining, place) === undefined ? "elsewhere" : "joining";
  }

  holdsKey(key: BinaryKey): boolean {
    return this.#held.at(key) !== undefined;
  }

  /** Of what is held, that which the key lies in. */
  pieceOf(key: Uint8Array): BinaryRange | undefined {
    return this.#held.at(binaryKey(key));
  }

  holds(range: BinaryRange): boolean {
    return this.#held.holds(range);
  }

  hold(range: KeyRange): void {
    this.#held.add(binaryRange(range));
    this.whole = this.#held.isWhole;
  }

  /** Nothing is held, nor joining. */
  get isEmpty(): boolean {
    return this.#held.pieces.length === 0 && this.#joining.length === 0;
  }

  /** What is held within the range is so no more; what joins there goes on joining. */
  drop(range: KeyRange): void {
    this.#held.remove(binaryRange(range));
    this.whole = this.#held.isWhole;
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
    const joining = rangeAt(this.#joining, binaryKey(change.key));
    if (joining === undefined) return;
    const { seq, key, row, values } = change;
    const copied = { seq, key: copy(key), row: row === null ? null : copy(row) };
    joining.changes.push(
      values === undefined ? copied : { ...copied, values: values.map(({ hash, bytes }) => ({ hash: Buffer.from(hash), bytes: copy(bytes) })) },
    );
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
    const joining = rangeAt(this.#joining, low);
    if (joining === undefined || endsBefore(joining.high, high)) return null;
    assert(seq >= joining.since, `a chunk as of ${seq} for a range that joins since ${joining.since}`);
    return joining.changes.filter((change) => change.seq > seq && contains(range, change.key));
  }
}

function sizeOf({ key, row, values = [] }: BufferedChange): number {
  let bytes = key.length + (row?.length ?? 0) + changeOverheadBytes;
  for (const value of values) bytes += value.bytes.length + changeOverheadBytes;
  return bytes;
}

function sizeOfAll(changes: readonly BufferedChange[]): number {
  let bytes = 0;
  for (const change of changes) bytes += sizeOf(change);
  return bytes;
}

/** [low, high) of a joining range, with its changes. */
function piece({ since, changes }: JoiningRange, low: BinaryKey, high: BinaryKey | null): JoiningRange {
  const isInside = (key: BinaryKey): boolean => key >= low && (high === null || key < high);
  return { low, high, since, changes: changes.filter((change) => isInside(binaryKey(change.key))) };
}

function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
