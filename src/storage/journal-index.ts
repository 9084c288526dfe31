/**
 * Where the journal's entries are: runs of contiguous entries, each within one segment. Kept in memory: a mark for every 64 KiB of journal.
 * A truncation cuts runs and begins a new one; the bytes stay.
 */

import { assert } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";

/** Distance of marks, in bytes: what a read may have to pass over. */
const markDistanceBytes = 64 * 1024;

interface Mark {
  readonly seq: number;
  readonly offsetBytes: number;
}

interface Run {
  readonly segmentIndex: number;
  /** The position before the run's first entry. */
  readonly after: LogPosition;
  marks: Mark[];
  lastSeq: number;
  /** Where the record of `lastSeq` ends, or more after a truncation. */
  endBytes: number;
}

export interface Place {
  readonly segmentIndex: number;
  /** A record with `fromSeq` begins here. */
  readonly fromSeq: number;
  readonly offsetBytes: number;
  readonly lastSeq: number;
  readonly endBytes: number;
}

export class JournalIndex {
  #runs: Run[] = [];
  /** Segments in order, each with the largest seq that it has ever held, given up or not. */
  readonly #segments = new Map<number, number>();

  /** What follows comes after `position`, in this segment. */
  begin(segmentIndex: number, position: LogPosition, offsetBytes: number): void {
    this.#runs.push({ segmentIndex, after: position, marks: [], lastSeq: position.seq, endBytes: offsetBytes });
    this.#segments.set(segmentIndex, Math.max(this.#segments.get(segmentIndex) ?? 0, position.seq));
  }

  add(seq: number, offsetBytes: number, endBytes: number): void {
    const run = this.#runs.at(-1);
    assert(run !== undefined && seq === run.lastSeq + 1, `entry ${seq} follows ${run?.lastSeq} in the journal's index`);
    const mark = run.marks.at(-1);
    if (mark === undefined || offsetBytes - mark.offsetBytes >= markDistanceBytes) run.marks.push({ seq, offsetBytes });
    run.lastSeq = seq;
    run.endBytes = endBytes;
    this.#segments.set(run.segmentIndex, Math.max(this.#segments.get(run.segmentIndex) ?? 0, seq));
  }

  /** Entries after `position` are given up; those that follow are in this segment. */
  truncate(segmentIndex: number, position: LogPosition, offsetBytes: number): void {
    this.#runs = this.#runs.filter((run) => run.after.seq < position.seq);
    const run = this.#runs.at(-1);
    if (run !== undefined && run.lastSeq > position.seq) {
      run.marks = run.marks.filter((mark) => mark.seq <= position.seq);
      run.lastSeq = position.seq;
    }
    this.begin(segmentIndex, position, offsetBytes);
  }

  /** A damaged segment holds its place; it may be removed once `seq` may. */
  hold(segmentIndex: number, seq: number): void {
    this.#segments.set(segmentIndex, Math.max(this.#segments.get(segmentIndex) ?? 0, seq));
  }

  clear(): void {
    this.#runs = [];
    this.#segments.clear();
  }

  /** The mark to start from for `seq`; null: not here. */
  locate(seq: number): Place | null {
    const run = lastWhere(this.#runs, (one) => one.after.seq < seq);
    if (run === undefined || run.lastSeq < seq) return null;
    const mark = lastWhere(run.marks, (one) => one.seq <= seq);
    if (mark === undefined) return null;
    return { segmentIndex: run.segmentIndex, fromSeq: mark.seq, offsetBytes: mark.offsetBytes, lastSeq: run.lastSeq, endBytes: run.endBytes };
  }

  /** Segments, oldest first, that hold nothing above `seq`. Never the one that is written to. */
  removable(seq: Seq, currentIndex: number): number[] {
    const indexes: number[] = [];
    for (const [index, largest] of [...this.#segments].sort(([left], [right]) => left - right)) {
      if (largest > seq || index >= currentIndex) break;
      indexes.push(index);
    }
    return indexes;
  }

  /** The last seq of the newest run that does not fit in `bytes` together with all that follow it; 0: all fit. */
  seqBefore(bytes: number): number {
    let rest = bytes;
    for (let at = this.#runs.length - 1; at >= 0; at--) {
      const { marks, endBytes, lastSeq } = this.#runs[at] as Run;
      rest -= endBytes - (marks[0]?.offsetBytes ?? endBytes);
      if (rest < 0) return lastSeq;
    }
    return 0;
  }

  /** The segment is gone; returns the position that the journal now begins after. */
  remove(segmentIndex: number): LogPosition {
    this.#segments.delete(segmentIndex);
    this.#runs = this.#runs.filter((run) => run.segmentIndex !== segmentIndex);
    const first = this.#runs[0];
    assert(first !== undefined, "the journal keeps the segment that it writes to");
    return first.after;
  }
}

/** Binary search: the last item of a sorted list for which `holds`. */
function lastWhere<T>(items: readonly T[], holds: (item: T) => boolean): T | undefined {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(items[middle] as T)) low = middle + 1;
    else high = middle;
  }
  return items[low - 1];
}

/**
 * Positions that a truncation may still name: from the newest commit on. Bounded by what is ordered and not committed, which the stream's
 * flow control bounds.
 */
export class TailPositions {
  #positions: LogPosition[];
  #start = 0;

  constructor(first: LogPosition) {
    this.#positions = [first];
  }

  get last(): LogPosition {
    return this.#positions.at(-1) as LogPosition;
  }

  at(seq: number): LogPosition | null {
    const first = this.#positions[this.#start] as LogPosition;
    return seq < first.seq ? null : (this.#positions[this.#start + seq - first.seq] ?? null);
  }

  push(position: LogPosition): void {
    assert(position.seq === this.last.seq + 1, `position ${position.seq} follows ${this.last.seq}`);
    this.#positions.push(position);
  }

  /** false: the position before `from` is not known any more (it is committed, and so is what would be given up). */
  truncate(from: number): boolean {
    if (from <= (this.#positions[this.#start] as LogPosition).seq) return false;
    this.#positions.length = Math.min(this.#positions.length, this.#start + from - (this.#positions[this.#start] as LogPosition).seq);
    return true;
  }

  /** Nothing up to `seq` will ever be given up. */
  settle(seq: number): void {
    const first = this.#positions[this.#start] as LogPosition;
    const step = Math.min(seq, this.last.seq) - first.seq;
    if (step <= 0) return;
    this.#start += step;
    if (this.#start > 1024 && this.#start * 2 > this.#positions.length) {
      this.#positions = this.#positions.slice(this.#start);
      this.#start = 0;
    }
  }
}
