/**
 * The journal's twin without a disk, for the simulator and for tests: the same contract, the same grouping of what is appended while a
 * write is under way. A write completes when the caller's scheduler says so. `crash` keeps what is durable and a random prefix of the
 * write under way, `reopen` recovers; `fail` and `lose` are the disk's other faults.
 */

import { assert } from "../base/errors.js";
import { noSeq, type Seq } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import type { Random } from "../base/random.js";
import type { Journal, JournalAppend, JournalHandlers, RecoveredJournal } from "./journal.js";

/** Calls `complete` later, once: when the write that is under way is done. Never before it returns. */
export type Schedule = (complete: () => void) => void;

export interface MemoryJournalOptions {
  readonly base: LogPosition;
  readonly handlers: JournalHandlers;
  readonly schedule: Schedule;
}

export interface MemoryJournal extends Journal {
  /** The process is gone: no handler is called any more, promises stay open, every other call is a bug until `reopen`. */
  crash(random: Random): void;
  /** Recovers what the crash left. `appliedSeq` as for the journal on disk. */
  reopen(handlers: JournalHandlers, appliedSeq: Seq): RecoveredJournal;
  /** The disk fails: `onFailure` once, and nothing is durable any more. */
  fail(error: Error): void;
  /** After a crash: what is durable from this seq on has become unreadable. */
  lose(from: Seq): void;
}

interface Disk {
  base: LogPosition;
  entries: LogEntry[];
  commitSeq: number;
  /** Under repair up to here; 0: sound. */
  through: number;
}

interface Waiting {
  readonly apply: (disk: Disk, stepCount: number) => void;
  readonly stepCount: number;
  readonly done: () => void;
}

export function createMemoryJournal(options: MemoryJournalOptions): MemoryJournal {
  return new MemoryJournalState(options);
}

class MemoryJournalState implements MemoryJournal {
  readonly #schedule: Schedule;
  #handlers: JournalHandlers;
  readonly #disk: Disk;
  /** Durable or not: what the contract reads. */
  #base: LogPosition;
  #entries: LogEntry[] = [];
  #commitSeq = 0;
  #waiting: Waiting[] = [];
  #underWay: Waiting[] = [];
  /** One more with each crash: completions of an earlier life are void. */
  #life = 0;
  #state: "open" | "failed" | "closed" | "crashed" = "open";
  #idle: (() => void)[] = [];

  constructor(options: MemoryJournalOptions) {
    this.#schedule = options.schedule;
    this.#handlers = options.handlers;
    this.#base = options.base;
    this.#disk = { base: options.base, entries: [], commitSeq: options.base.seq, through: 0 };
  }

  get base(): LogPosition {
    return this.#base;
  }

  get last(): LogPosition {
    return positionOf(this.#entries.at(-1)) ?? this.#base;
  }

  append(append: JournalAppend): void {
    assert(this.#state === "open" || this.#state === "failed", `append to a ${this.#state} journal`);
    if (this.#state === "failed") return;
    const { truncateFrom, entries } = append;
    if (truncateFrom !== null && truncateFrom <= this.last.seq) {
      assert(truncateFrom > this.#commitSeq && truncateFrom > this.#base.seq, `entries from ${truncateFrom} are committed and cannot be given up`);
      this.#entries = this.#entries.slice(0, truncateFrom - this.#base.seq - 1);
    }
    for (const entry of entries) {
      assert(entry.seq === this.last.seq + 1, `entry ${entry.seq} appended after ${this.last.seq}`);
      this.#entries.push(entry);
    }
    this.#commitSeq = Math.max(this.#commitSeq, Math.min(append.commitSeq, this.last.seq));
    const commitSeq = this.#commitSeq;
    this.#write({
      stepCount: entries.length + 1,
      apply: (disk, stepCount) => {
        if (stepCount === 0) return;
        disk.commitSeq = Math.max(disk.commitSeq, Math.min(commitSeq, lastOf(disk).seq));
        if (truncateFrom !== null) disk.entries = disk.entries.filter((entry) => entry.seq < truncateFrom);
        disk.entries.push(...entries.slice(0, stepCount - 1));
        if (lastOf(disk).seq >= disk.through) disk.through = 0;
      },
      done: () => {},
    });
  }

  async read(from: Seq, bytesMax: number): Promise<readonly LogEntry[] | "gone"> {
    if (from <= this.#base.seq) return "gone";
    const entries: LogEntry[] = [];
    let byteCount = 0;
    for (let at = from - this.#base.seq - 1; at < this.#entries.length; at++) {
      const entry = this.#entries[at] as LogEntry;
      byteCount += entry.bytes.length;
      if (entries.length > 0 && byteCount > bytesMax) break;
      entries.push(entry);
    }
    return entries;
  }

  seqBefore(bytes: number): Seq {
    let rest = bytes;
    for (const entry of this.#entries.toReversed()) {
      rest -= entry.bytes.length;
      if (rest < 0) return entry.seq;
    }
    return noSeq;
  }

  async removeThrough(seq: Seq): Promise<void> {
    const count = Math.min(seq, this.#disk.entries.at(-1)?.seq ?? 0, this.last.seq) - this.#base.seq;
    if (count <= 0 || this.#disk.through > 0 || this.#disk.base !== this.#base) return;
    const base = positionOf(this.#entries[count - 1]) ?? this.#base;
    this.#entries = this.#entries.slice(count);
    this.#base = base;
    this.#disk.base = base;
    this.#disk.entries = this.#disk.entries.filter((entry) => entry.seq > base.seq);
  }

  reset(base: LogPosition): Promise<void> {
    assert(this.#state === "open", `reset of a ${this.#state} journal`);
    this.#base = base;
    this.#entries = [];
    this.#commitSeq = base.seq;
    return new Promise((resolve) => {
      this.#write({
        stepCount: 1,
        apply: (disk, stepCount) => {
          if (stepCount === 0) return;
          disk.base = base;
          disk.entries = [];
          disk.commitSeq = base.seq;
          if (disk.through <= base.seq) disk.through = 0;
        },
        done: resolve,
      });
    });
  }

  async close(): Promise<void> {
    if (this.#underWay.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    if (this.#state !== "crashed") this.#state = "closed";
  }

  crash(random: Random): void {
    this.#life++;
    this.#state = "crashed";
    const stepCount = this.#underWay.reduce((sum, one) => sum + one.stepCount, 0);
    let left = random.integer(stepCount + 1);
    for (const one of this.#underWay) {
      one.apply(this.#disk, Math.min(left, one.stepCount));
      left = Math.max(0, left - one.stepCount);
    }
    this.#underWay = [];
    this.#waiting = [];
    this.#idle = [];
  }

  lose(from: Seq): void {
    assert(this.#state === "crashed", "only a crashed journal loses entries");
    const lastSeq = lastOf(this.#disk).seq;
    if (from > lastSeq || from <= this.#disk.base.seq) return;
    this.#disk.entries = this.#disk.entries.filter((entry) => entry.seq < from);
    this.#disk.through = Math.max(this.#disk.through, lastSeq);
  }

  reopen(handlers: JournalHandlers, appliedSeq: Seq): RecoveredJournal {
    assert(this.#state === "crashed" || this.#state === "closed", `reopening a ${this.#state} journal`);
    const disk = this.#disk;
    this.#state = "open";
    this.#handlers = handlers;
    this.#base = disk.base;
    this.#entries = [...disk.entries];
    const lastSeq = this.last.seq;
    this.#commitSeq = Math.min(disk.commitSeq, lastSeq);
    const through = Math.max(disk.through, disk.commitSeq, appliedSeq);
    const commitSeq = Math.max(disk.commitSeq, appliedSeq) as Seq;
    if (through <= lastSeq) return { journal: this, commitSeq, damage: null };
    disk.through = through;
    const reason = `the journal ends at ${lastSeq}, and entries up to ${through} were durable`;
    return { journal: this, commitSeq, damage: { from: (lastSeq + 1) as Seq, through: through as Seq, reason } };
  }

  fail(error: Error): void {
    if (this.#state !== "open") return;
    this.#life++;
    this.#state = "failed";
    this.#underWay = [];
    this.#waiting = [];
    this.#handlers.onFailure(error);
  }

  #write(one: Waiting): void {
    this.#waiting.push(one);
    if (this.#underWay.length === 0) this.#begin();
  }

  #begin(): void {
    this.#underWay = this.#waiting;
    this.#waiting = [];
    const life = this.#life;
    this.#schedule(() => {
      if (life === this.#life) this.#complete();
    });
  }

  #complete(): void {
    const done = this.#underWay;
    for (const one of done) one.apply(this.#disk, one.stepCount);
    this.#underWay = [];
    if (this.#waiting.length > 0) this.#begin();
    for (const one of done) one.done();
    const durable = this.#agreed();
    if (durable !== null) this.#handlers.onDurable(durable);
    if (this.#underWay.length === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** The last durable position that no later append gives up; null while a reset is not durable yet. */
  #agreed(): LogPosition | null {
    if (this.#disk.base.seq !== this.#base.seq || this.#disk.base.hash !== this.#base.hash) return null;
    // Hashes name whole histories: the longest common prefix ends at the last equal one.
    for (let at = Math.min(this.#disk.entries.length, this.#entries.length) - 1; at >= 0; at--) {
      const entry = this.#entries[at] as LogEntry;
      if (this.#disk.entries[at]?.hash === entry.hash) return positionOf(entry);
    }
    return this.#base;
  }
}

function positionOf(entry: LogEntry | undefined): LogPosition | null {
  return entry === undefined ? null : { seq: entry.seq, term: entry.term, hash: entry.hash };
}

function lastOf(disk: Disk): LogPosition {
  return positionOf(disk.entries.at(-1)) ?? disk.base;
}
