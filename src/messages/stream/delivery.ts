/**
 * A receiver's end: turns frames of the current term, lossy and out of order, into a log that is matched without gaps.
 *
 * `matchedSeq` is the last place up to which the log is known equal to that of the term's sequencer. It begins each term at the commit
 * seq (what is committed is in every later sequencer's log), and moves by equal hashes alone:
 *
 * | label    | a frame with                                              | what happens                                             |
 * |----------|-----------------------------------------------------------|----------------------------------------------------------|
 * | old      | nothing beyond matchedSeq                                 | dropped                                                  |
 * | next     | entries from matchedSeq + 1 on, prevHash equal            | each is matched, or appended                             |
 * | same     | an entry that the log has, hash equal                     | matched; nothing is written                              |
 * | conflict | an entry where the log has another                        | the log is truncated there; at or below commitSeq: a bug |
 * | joined   | prevHash equal to the log's, further on                   | the log is matched up to there, then as `next`           |
 * | gap      | prevHash not known, or another than the unmatched tail's  | held (bounded); the repair asks for matchedSeq + 1       |
 * | fork     | prevHash other than that of a matched entry               | matching starts again at commitSeq; at commitSeq: a bug  |
 * | fragment | a part of entry matchedSeq + 1, at the offset reached     | assembled; the whole entry then counts as in `next`      |
 */
import { type ChainHash, chainHash } from "../../base/chain-hash.js";
import { assert } from "../../base/errors.js";
import type { Seq, Term } from "../../base/ids.js";
import type { LogEntry } from "../../base/log-entry.js";
import type { FrameEntry, FrameFragment, FrameMessage, HashedSeq } from "../wire/stream-messages.js";
import type { StreamLog } from "./stream-log.js";

/** Frames held out of order; above it the furthest are dropped, and repaired later. Reason: inserting moves what lies behind. */
export const heldFramesMax = 4096;

/** What changes in the log is told here, so that the journal follows. */
export interface LogChanges {
  onAppend(entry: LogEntry): void;
  onTruncate(from: Seq): void;
}

interface Assembly {
  readonly seq: Seq;
  readonly term: Term;
  readonly totalBytes: number;
  readonly parts: Uint8Array[];
  bytes: number;
}

export class Delivery {
  readonly #log: StreamLog;
  readonly #changes: LogChanges;
  readonly #heldBytesMax: number;
  #commitSeq: Seq;
  #matchedSeq: Seq;
  /** The last seq that the term's sequencer is known to have. */
  #heardLastSeq: Seq;
  /** In order of (firstSeq, offset). */
  #held: FrameMessage[] = [];
  #heldBytes = 0;
  #assembly: Assembly | null = null;
  #progress = 0;

  constructor(log: StreamLog, commitSeq: Seq, heldBytesMax: number, changes: LogChanges) {
    this.#log = log;
    this.#commitSeq = commitSeq;
    this.#matchedSeq = commitSeq;
    this.#heardLastSeq = commitSeq;
    this.#heldBytesMax = heldBytesMax;
    this.#changes = changes;
  }

  get commitSeq(): Seq {
    return this.#commitSeq;
  }

  get matchedSeq(): Seq {
    return this.#matchedSeq;
  }

  /** Bytes of the entry after matchedSeq that are here. */
  get assembledBytes(): number {
    return this.#assembly?.bytes ?? 0;
  }

  get heardLastSeq(): Seq {
    return this.#heardLastSeq;
  }

  /** Grows with everything that is matched or assembled. */
  get progress(): number {
    return this.#progress;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Where the first gap ends, as far as known. */
  get gapEnd(): Seq {
    const first = this.#held[0];
    if (first === undefined) return this.#heardLastSeq;
    const isPart = first.content.kind === "fragment" && first.content.offset > 0;
    return Math.max(this.#matchedSeq + 1, isPart ? first.firstSeq : first.firstSeq - 1) as Seq;
  }

  /** A new term's sequencer: nothing beyond the commit seq is known equal to its log. */
  restart(): void {
    this.#matchedSeq = this.#commitSeq;
    this.#heardLastSeq = this.#commitSeq;
    this.#held = [];
    this.#heldBytes = 0;
    this.#assembly = null;
  }

  /** The sequencer's own log: matched by definition, committed by counting. */
  commitOwn(seq: Seq): void {
    assert(seq >= this.#commitSeq && seq <= this.#log.last.seq, `commit ${seq} after ${this.#commitSeq}`);
    this.#commitSeq = seq;
    this.#matchedSeq = seq;
  }

  /**
   * What some engine has applied: committed, in whatever term. Where the log has the same there, it is matched and committed up to it. Another
   * hash there belongs to a tail that the term's sequencer will replace.
   */
  matchCommitted(place: HashedSeq): void {
    if (place.seq <= this.#commitSeq || this.#log.hashAt(place.seq) !== place.hash) return;
    this.#matchTo(place.seq);
    this.#commitSeq = place.seq;
    this.#acceptHeld();
  }

  /** A frame of the current term, or a committed repair. */
  receive(frame: FrameMessage): void {
    if (frame.last.seq > this.#heardLastSeq) this.#heardLastSeq = frame.last.seq;
    this.#accept(frame);
    this.#acceptHeld();
    this.#matchPlace(frame.commit);
    this.#matchPlace(frame.last);
    this.#acceptHeld();
    const commit = Math.min(frame.commit.seq, this.#matchedSeq) as Seq;
    if (commit > this.#commitSeq) this.#commitSeq = commit;
  }

  /** Hashes at known places match the log without any entry. */
  #matchPlace(place: HashedSeq): void {
    const own = this.#log.hashAt(place.seq);
    if (own === undefined) return;
    if (own === place.hash) this.#matchTo(place.seq);
    else if (place.seq <= this.#matchedSeq) this.#fork(place.seq);
  }

  #matchTo(seq: Seq): void {
    if (seq <= this.#matchedSeq) return;
    this.#matchedSeq = seq;
    this.#assembly = null;
    this.#progress++;
  }

  #fork(seq: Seq): void {
    assert(seq > this.#commitSeq, `the sequencer's history differs at ${seq}, which is committed here up to ${this.#commitSeq}`);
    this.#matchedSeq = this.#commitSeq;
    this.#assembly = null;
  }

  #accept(frame: FrameMessage): void {
    const before = (frame.firstSeq - 1) as Seq;
    const own = this.#log.hashAt(before);
    if (own !== undefined && own === frame.prevHash) this.#matchTo(before);
    else if (own !== undefined && before <= this.#matchedSeq) this.#fork(before);
    if (frame.content.kind === "fragment" ? !this.#isNextPart(frame, frame.content) : before > this.#matchedSeq) {
      if (frame.content.kind === "fragment" ? frame.firstSeq > this.#matchedSeq : frame.content.entries.length > 0) this.#hold(frame);
      return;
    }
    if (frame.content.kind === "fragment") this.#assemble(frame.firstSeq, frame.content);
    else this.#takeAll(frame.firstSeq, frame.content.entries);
  }

  #isNextPart(frame: FrameMessage, part: FrameFragment): boolean {
    return frame.firstSeq === this.#matchedSeq + 1 && part.offset <= this.assembledBytes;
  }

  #takeAll(firstSeq: Seq, entries: readonly FrameEntry[]): void {
    let index = this.#matchedSeq + 1 - firstSeq;
    if (index >= entries.length) return;
    this.#assembly = null;
    let hash = this.#log.hashAt(this.#matchedSeq) as ChainHash;
    for (; index < entries.length; index++) {
      const entry = entries[index] as FrameEntry;
      hash = this.#take(hash, entry.term, entry.bytes);
    }
  }

  /** The entry after matchedSeq, whose hash is `prevHash`. */
  #take(prevHash: ChainHash, term: Term, bytes: Uint8Array): ChainHash {
    const seq = (this.#matchedSeq + 1) as Seq;
    const hash = chainHash(prevHash, term, bytes);
    const own = this.#log.entryAt(seq);
    if (own?.hash !== hash) {
      if (own !== undefined) this.#truncate(seq);
      const entry: LogEntry = { seq, term, hash, bytes };
      this.#log.append(entry);
      this.#changes.onAppend(entry);
    }
    this.#matchedSeq = seq;
    this.#progress++;
    if (seq > this.#heardLastSeq) this.#heardLastSeq = seq;
    return hash;
  }

  #truncate(from: Seq): void {
    assert(from > this.#commitSeq, `entry ${from} conflicts, and is committed here up to ${this.#commitSeq}`);
    this.#log.truncate(from);
    this.#changes.onTruncate(from);
  }

  #assemble(seq: Seq, part: FrameFragment): void {
    let assembly = this.#assembly;
    if (assembly !== null && (assembly.term !== part.term || assembly.totalBytes !== part.totalBytes)) assembly = null;
    if (assembly === null) {
      this.#assembly = null;
      if (part.offset > 0) return;
      assembly = { seq, term: part.term, totalBytes: part.totalBytes, parts: [], bytes: 0 };
      this.#assembly = assembly;
    }
    const known = assembly.bytes - part.offset;
    if (known >= part.bytes.length) return;
    assembly.parts.push(known === 0 ? part.bytes : part.bytes.subarray(known));
    assembly.bytes = part.offset + part.bytes.length;
    this.#progress++;
    if (assembly.bytes < assembly.totalBytes) return;
    this.#assembly = null;
    this.#take(this.#log.hashAt(this.#matchedSeq) as ChainHash, part.term, Buffer.concat(assembly.parts, assembly.totalBytes));
  }

  #acceptHeld(): void {
    for (let frame = this.#held[0]; frame !== undefined; frame = this.#held[0]) {
      const content = frame.content;
      if (frame.firstSeq > this.#matchedSeq + 1) return;
      if (content.kind === "fragment" && frame.firstSeq === this.#matchedSeq + 1 && content.offset > this.assembledBytes) return;
      this.#held.shift();
      this.#heldBytes -= heldSize(frame);
      this.#accept(frame);
    }
  }

  #hold(frame: FrameMessage): void {
    let at = this.#held.length;
    while (at > 0 && compareFrames(this.#held[at - 1] as FrameMessage, frame) > 0) at--;
    const same = this.#held[at - 1];
    if (same !== undefined && compareFrames(same, frame) === 0) return;
    this.#held.splice(at, 0, frame);
    this.#heldBytes += heldSize(frame);
    while (this.#held.length > heldFramesMax || this.#heldBytes > this.#heldBytesMax) {
      this.#heldBytes -= heldSize(this.#held.pop() as FrameMessage);
    }
  }
}

function compareFrames(left: FrameMessage, right: FrameMessage): number {
  return left.firstSeq - right.firstSeq || partOffset(left) - partOffset(right);
}

function partOffset(frame: FrameMessage): number {
  return frame.content.kind === "fragment" ? frame.content.offset : 0;
}

/** Bookkeeping of a held frame and of each entry in it, in bytes, about. */
const heldOverheadBytes = 128;

function heldSize(frame: FrameMessage): number {
  const content = frame.content;
  if (content.kind === "fragment") return content.bytes.length + heldOverheadBytes;
  let bytes = heldOverheadBytes;
  for (const entry of content.entries) bytes += entry.bytes.length + heldOverheadBytes;
  return bytes;
}
