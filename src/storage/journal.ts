/**
 * The journal's contract: what `file-journal.ts` and `memory-journal.ts` both are, proven by one conformance suite.
 *
 * Appends are strictly contiguous by seq and chained by hash. What `onDurable` has named survives a crash at any instant;
 * what it has not named may be there or not, but only as a prefix of what was appended.
 */

import type { NodeId, Seq, Term } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";

export interface JournalAppend {
  /** Entries from here on are given up first (a new sequencer's history differs). null: none. */
  readonly truncateFrom: Seq | null;
  readonly entries: readonly LogEntry[];
  /** What is known committed now; written with the records, so that recovery knows how far damage can be told from a torn tail. */
  readonly commitSeq: Seq;
}

export interface Journal {
  /** Where the journal begins: the entry before its first record (seq 0 in a new one, a snapshot's place in a joined one). */
  readonly base: LogPosition;
  readonly last: LogPosition;
  /**
   * Queues the append. All that is queued while a write is under way goes with the next write and one fdatasync (group commit).
   * After each write `onDurable` is called once, with the position up to which all is durable: so the last one names the end of the last
   * append, those between may be left out, and none names what a later truncation has given up. A failed write or fsync calls `onFailure` once, and nothing is ever durable again.
   */
  append(append: JournalAppend): void;
  /** Appended entries, durable or not, from `from` on, at most `bytesMax` (at least one entry). "gone": `from` ≤ base.seq. Empty: beyond the end. */
  read(from: Seq, bytesMax: number): Promise<readonly LogEntry[] | "gone">;
  /** A place such that what lies after it is about `bytes` of journal at most; 0: all of it is no more than that. Segments are the unit. */
  seqBefore(bytes: number): Seq;
  /** Removes whole segments all of whose entries are ≤ seq; never the last one. */
  removeThrough(seq: Seq): Promise<void>;
  /** Forgets everything and begins anew after `base` (a snapshot was installed). Durable when resolved. */
  reset(base: LogPosition): Promise<void>;
  /** Waits for what is queued, then closes. */
  close(): Promise<void>;
}

export interface JournalHandlers {
  onDurable(position: LogPosition): void;
  onFailure(error: Error): void;
}

/** What recovery found (the decision table heads journal-recovery.ts). */
export interface RecoveredJournal {
  readonly journal: Journal;
  /** Largest commit seq that a valid record names; the committed prefix reaches at least here. */
  readonly commitSeq: Seq;
  /**
   * `null`: sound (a torn tail may have been cut). Otherwise records between `from` and what was once committed are unreadable: the
   * journal ends before `from`, the voter neither votes, stands nor acks until it has been repaired up to `through` from a peer.
   */
  readonly damage: { readonly from: Seq; readonly through: Seq; readonly reason: string } | null;
}

/** Term and vote, durable before any reply that depends on them. */
export interface VoteStore {
  readonly term: Term;
  /** 0: none in this term. */
  readonly votedFor: NodeId;
  save(term: Term, votedFor: NodeId): Promise<void>;
  close(): Promise<void>;
}
