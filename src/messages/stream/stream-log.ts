/**
 * The log in memory: all entries after `floor`, in order, chained by hash, and the voters that its VOTERS entries set.
 *
 * Below the floor lies what was dropped: it is committed, delivered, and durable here. So the floor is never cut back, and every place
 * at or above it answers with its hash.
 */
import type { ChainHash } from "../../base/chain-hash.js";
import { assert } from "../../base/errors.js";
import type { NodeId, Seq, Term } from "../../base/ids.js";
import type { LogEntry, LogPosition } from "../../base/log-entry.js";
import { decodeEntry, encodeEntry } from "../wire/entry.js";

/** First byte of a VOTERS entry. */
const votersByte = encodeEntry({ kind: "voters", voters: [] })[0];

/** Dropped entries are cut from the arrays in lots of at least this many. Reason: cutting moves all that stay. */
const cutCountMin = 256;

/**
 * What an entry takes in memory beside its bytes: itself, its hash, its place here, and the rest of the datagram that its bytes are a view of. About what was
 * measured of small entries; without it a limit of 16 MiB held more than 100 MB of them.
 */
export const entryOverheadBytes = 320;

interface VotersChange {
  readonly seq: Seq;
  readonly voters: readonly NodeId[];
}

export class StreamLog {
  #floor: LogPosition;
  /** Index of the first entry after the floor; what lies before it is dropped and waits to be cut. */
  #head = 0;
  #entries: LogEntry[] = [];
  /** For each entry, the bytes of all entries up to it, counted from the log's making. */
  #bytesThrough: number[] = [];
  #floorBytes = 0;
  #changes: VotersChange[];

  constructor(base: LogPosition, voters: readonly NodeId[], entries: readonly LogEntry[]) {
    this.#floor = base;
    this.#changes = [{ seq: base.seq, voters }];
    for (const entry of entries) this.append(entry);
  }

  /** The entry before the first in memory. */
  get floor(): LogPosition {
    return this.#floor;
  }

  get last(): LogPosition {
    return this.#entries.length > this.#head ? (this.#entries[this.#entries.length - 1] as LogEntry) : this.#floor;
  }

  /** In force: those of the last VOTERS entry, committed or not. */
  get voters(): readonly NodeId[] {
    return this.#latestChange.voters;
  }

  /** Where they were set. */
  get votersSeq(): Seq {
    return this.#latestChange.seq;
  }

  get #latestChange(): VotersChange {
    return this.#changes[this.#changes.length - 1] as VotersChange;
  }

  get bytes(): number {
    return this.bytesBetween(this.#floor.seq, this.last.seq);
  }

  entryAt(seq: Seq): LogEntry | undefined {
    return seq > this.#floor.seq ? this.#entries[this.#head + (seq - this.#floor.seq) - 1] : undefined;
  }

  positionAt(seq: Seq): LogPosition | undefined {
    return seq === this.#floor.seq ? this.#floor : this.entryAt(seq);
  }

  hashAt(seq: Seq): ChainHash | undefined {
    return this.positionAt(seq)?.hash;
  }

  termAt(seq: Seq): Term | undefined {
    return this.positionAt(seq)?.term;
  }

  /** Bytes of the entries after `after`, up to `through`; what is below the floor counts nothing. */
  bytesBetween(after: Seq, through: Seq): number {
    return Math.max(0, this.#bytesTo(through) - this.#bytesTo(after));
  }

  #bytesTo(seq: Seq): number {
    if (seq <= this.#floor.seq) return this.#floorBytes;
    return this.#bytesThrough[this.#head + (seq - this.#floor.seq) - 1] ?? 0;
  }

  slice(from: Seq, through: Seq): readonly LogEntry[] {
    assert(from > this.#floor.seq, `entry ${from} is not in memory, which begins after ${this.#floor.seq}`);
    const start = this.#head + (from - this.#floor.seq) - 1;
    return this.#entries.slice(start, start + Math.max(0, through - from + 1));
  }

  append(entry: LogEntry): void {
    const last = this.last;
    assert(entry.seq === last.seq + 1, `entry ${entry.seq} appended after ${last.seq}`);
    this.#bytesThrough.push(this.#bytesTo(last.seq) + entry.bytes.length);
    this.#entries.push(entry);
    const voters = votersOf(entry.bytes);
    if (voters !== null) this.#changes.push({ seq: entry.seq, voters });
  }

  /** Gives up the entries from `from` on, and the voters that they set. */
  truncate(from: Seq): void {
    assert(from > this.#floor.seq, `entry ${from} is below the floor ${this.#floor.seq}`);
    const length = this.#head + (from - this.#floor.seq) - 1;
    this.#entries.length = length;
    this.#bytesThrough.length = length;
    while (this.#latestChange.seq >= from) this.#changes.pop();
  }

  /** Drops entries from the front until they take at most `bytesMax` of memory, none above `through`. */
  dropTo(bytesMax: number, through: Seq): void {
    const end = this.#bytesTo(this.last.seq);
    let dropped = this.#head;
    const taken = (): number => end - this.#floorBytes + (this.#entries.length - dropped) * entryOverheadBytes;
    while (dropped < this.#entries.length && taken() > bytesMax) {
      const entry = this.#entries[dropped] as LogEntry;
      if (entry.seq > through) break;
      this.#floor = { seq: entry.seq, term: entry.term, hash: entry.hash };
      this.#floorBytes = this.#bytesThrough[dropped] as number;
      dropped++;
    }
    this.#head = dropped;
    if (dropped >= cutCountMin && dropped * 4 >= this.#entries.length) {
      this.#entries = this.#entries.slice(dropped);
      this.#bytesThrough = this.#bytesThrough.slice(dropped);
      this.#head = 0;
    }
    while (this.#changes.length > 1 && (this.#changes[1] as VotersChange).seq <= this.#floor.seq) this.#changes.shift();
  }
}

/** What a VOTERS entry sets; null for every other entry. */
export function votersOf(bytes: Uint8Array): readonly NodeId[] | null {
  if (bytes[0] !== votersByte) return null;
  const entry = decodeEntry(bytes);
  assert(entry.kind === "voters", "a VOTERS entry decodes as something else");
  return entry.voters;
}
