/**
 * What goes to the journal, and what has come back durable.
 *
 * Appends are gathered over a turn and given out as one. A completion names a position; a position can be journalled, given up, and
 * journalled again (a history that loses and then wins), so a completion counts only for an append made after the last truncation:
 *
 * | label   | completion of                                    | what happens                                                         |
 * |---------|--------------------------------------------------|----------------------------------------------------------------------|
 * | current | an append made since the last truncation         | durable up to there                                                  |
 * | stale   | an append made before the last truncation        | forgotten; the truncating append's own completion will come          |
 * | twin    | two outstanding appends that end at one position | counts for the older (it may be); a later append settles the younger |
 * | unknown | nothing outstanding                              | ignored                                                              |
 *
 * A `twin` never waits for ever: in the term that brought the position back, the sequencer's NOOP follows it, and is unlike all others.
 */
import type { ChainHash } from "../../base/chain-hash.js";
import type { Seq } from "../../base/ids.js";
import type { LogEntry, LogPosition } from "../../base/log-entry.js";

interface Outstanding {
  readonly seq: Seq;
  readonly hash: ChainHash;
  readonly truncations: number;
}

/** A turn's append. */
export interface Append {
  readonly truncateFrom: Seq | null;
  readonly entries: readonly LogEntry[];
}

export class JournalQueue {
  /** False: there is no journal (a Cache); what is appended counts as durable at once. */
  readonly #exists: boolean;
  #durableSeq: Seq;
  #truncations = 0;
  #truncateFrom: Seq | null = null;
  #waiting: LogEntry[] = [];
  #outstanding: Outstanding[] = [];

  constructor(exists: boolean, durableSeq: Seq) {
    this.#exists = exists;
    this.#durableSeq = durableSeq;
  }

  /** The log is durable up to here, and the journal has nothing else there. */
  get durableSeq(): Seq {
    return this.#durableSeq;
  }

  append(entry: LogEntry): void {
    if (this.#exists) this.#waiting.push(entry);
    else this.#durableSeq = entry.seq;
  }

  truncate(from: Seq): void {
    this.#durableSeq = Math.min(this.#durableSeq, from - 1) as Seq;
    if (!this.#exists) return;
    const first = this.#waiting[0];
    if (first !== undefined && from >= first.seq) {
      this.#waiting.length = from - first.seq;
      return;
    }
    // What was handed out from `from` on is given up, and so its completions are, until the next append's.
    this.#waiting = [];
    this.#truncateFrom = this.#truncateFrom === null ? from : (Math.min(this.#truncateFrom, from) as Seq);
    this.#truncations++;
  }

  /** The turn's append, or null. */
  take(): Append | null {
    const last = this.#waiting[this.#waiting.length - 1];
    if (last === undefined) return null;
    const append = { truncateFrom: this.#truncateFrom, entries: this.#waiting };
    this.#truncateFrom = null;
    this.#waiting = [];
    this.#outstanding.push({ seq: last.seq, hash: last.hash, truncations: this.#truncations });
    return append;
  }

  onJournaled(position: LogPosition): void {
    const index = this.#outstanding.findIndex((one) => one.seq === position.seq && one.hash === position.hash);
    const done = this.#outstanding[index];
    if (done === undefined) return;
    this.#outstanding.splice(0, index + 1);
    if (done.truncations === this.#truncations && done.seq > this.#durableSeq) this.#durableSeq = done.seq;
  }
}
