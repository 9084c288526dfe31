/**
 * The journal on disk (contract: journal.ts; format: journal-record.ts and journal-segment.ts; what a crash leaves: journal-recovery.ts).
 *
 * One write is under way at a time. What is appended meanwhile waits, and goes with the next one: group commit. A write ends on the disk
 * (O_DSYNC into blocks that exist), so its return is the durability that `onDurable` names. Nothing is ever overwritten: a truncation is a
 * record, a repair and a reset begin new segments. The next segment is made while the present one fills.
 *
 * Any failure to write, or to make a segment, ends the journal: `onFailure` once, nothing durable after it, appends are ignored. A disk
 * that refused once is not asked again, because what it holds then is not known (a failed fsync forgets the dirty pages).
 */

import { assert, DatabaseError, unreachable } from "../base/errors.js";
import type { Seq } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import { errorCode, type FileSystem, isMissing } from "./file-system.js";
import type { Journal, JournalAppend, JournalHandlers } from "./journal.js";
import { type JournalIndex, TailPositions } from "./journal-index.js";
import { readEntries } from "./journal-reader.js";
import { saltBytes } from "./journal-record.js";
import { createSegment, growSegment, type Segment, segmentHeadBytes, segmentIndexOf, segmentName } from "./journal-segment.js";
import { JournalWriteBuilder, type QueuedAppend, type WritePlan, type WriteTarget } from "./journal-write.js";

/**
 * Appended and not yet durable, in bytes: beyond this the disk has fallen so far behind that the journal fails rather than take the
 * process's memory. The stream's window keeps a voter far below it.
 */
export const queuedBytesMax = 1024 * 1024 * 1024;

export interface SegmentedJournalSettings {
  readonly files: FileSystem;
  readonly directory: string;
  readonly handlers: JournalHandlers;
  readonly segmentBytes: number;
  readonly randomBytes: (byteCount: number) => Buffer;
}

export interface SegmentedJournalState {
  readonly base: LogPosition;
  readonly positions: TailPositions;
  readonly index: JournalIndex;
  readonly salts: Map<number, Buffer>;
  readonly newestIndex: number;
  readonly current: Current | null;
  readonly spare: Segment | null;
  /** Not 0: damaged; the first write begins a repair that is to reach this. */
  readonly repairThrough: number;
}

interface Current {
  segment: Segment;
  /** Where the last durable record ends. */
  endBytes: number;
  /** What its first record is to be, as long as it has none. */
  opening: WriteTarget["opening"];
}

interface ResetItem {
  readonly kind: "reset";
  readonly base: LogPosition;
  /** null: done. */
  readonly settle: (error: Error | null) => void;
}

export class SegmentedJournal implements Journal {
  readonly #settings: SegmentedJournalSettings;
  readonly #index: JournalIndex;
  readonly #salts: Map<number, Buffer>;
  readonly #builder: JournalWriteBuilder;
  #base: LogPosition;
  #positions: TailPositions;
  #commitSeq = 0;
  /** The end of what is on the disk, in the order of the files. */
  #durable: LogPosition;
  /** Entries up to here are durable, and read from segments; those after are in `#pending`. Only what no queued truncation gives up. */
  #stored: LogPosition;
  #pending: LogEntry[] = [];
  #queue: (QueuedAppend | ResetItem)[] = [];
  #queuedBytes = 0;
  #current: Current | null;
  #spare: Segment | null;
  #making: Promise<void> | null = null;
  #newestIndex: number;
  /** Not 0 until the repair of damage has reached this seq, durable. */
  #repairThrough: number;
  /** Resets asked for: what was written for an older one counts for nothing. */
  #resetCount = 0;
  #running: Promise<void> | null = null;
  #removing: Promise<void> = Promise.resolve();
  /** Raised by whatever changes what an entry's seq stands for; a read that saw it change starts again. */
  #history = 0;
  #failure: Error | null = null;
  #closed = false;

  constructor(settings: SegmentedJournalSettings, state: SegmentedJournalState) {
    this.#settings = settings;
    this.#builder = new JournalWriteBuilder(settings.randomBytes(4).readUInt32BE());
    this.#base = state.base;
    this.#positions = state.positions;
    this.#index = state.index;
    this.#salts = state.salts;
    this.#durable = state.positions.last;
    this.#stored = state.positions.last;
    this.#newestIndex = state.newestIndex;
    this.#current = state.current === null ? null : { ...state.current };
    this.#spare = state.spare;
    this.#repairThrough = state.repairThrough;
  }

  get base(): LogPosition {
    return this.#base;
  }

  get last(): LogPosition {
    return this.#positions.last;
  }

  append(append: JournalAppend): void {
    assert(!this.#closed, "append to a closed journal");
    if (this.#failure !== null) return;
    const { truncateFrom, entries } = append;
    let truncateTo: LogPosition | null = null;
    if (truncateFrom !== null && truncateFrom <= this.last.seq) {
      assert(this.#positions.truncate(truncateFrom), `entries from ${truncateFrom} are committed and cannot be given up`);
      truncateTo = this.last;
      this.#history++;
      if (truncateTo.seq < this.#stored.seq) this.#stored = truncateTo;
      this.#pending.length = truncateTo.seq - this.#stored.seq;
    }
    for (const entry of entries) {
      assert(entry.seq === this.last.seq + 1, `entry ${entry.seq} appended after ${this.last.seq}`);
      this.#positions.push({ seq: entry.seq, term: entry.term, hash: entry.hash });
      this.#pending.push(entry);
      this.#queuedBytes += entry.bytes.length;
    }
    this.#commitSeq = Math.max(this.#commitSeq, Math.min(append.commitSeq, this.last.seq));
    this.#positions.settle(this.#commitSeq);
    this.#queue.push({ kind: "append", truncateTo, entries, commitSeq: this.#commitSeq as Seq, isTruncated: false, doneCount: 0 });
    if (this.#queuedBytes > queuedBytesMax) {
      this.#fail(new DatabaseError("ATOMCAST_DISK_TOO_SLOW", `more than ${queuedBytesMax} bytes wait for the journal's disk`));
      return;
    }
    this.#wake();
  }

  async read(from: Seq, bytesMax: number): Promise<readonly LogEntry[] | "gone"> {
    for (;;) {
      if (from <= this.#base.seq) return "gone";
      if (from > this.last.seq) return [];
      if (from > this.#stored.seq) return this.#readPending(from, bytesMax);
      const history = this.#history;
      const place = this.#index.locate(from);
      const salt = place === null ? undefined : this.#salts.get(place.segmentIndex);
      assert(place !== null && salt !== undefined, `entry ${from} is in no segment`);
      try {
        const entries = await readEntries(this.#settings.files, this.#settings.directory, salt, place, from, this.#stored.seq, bytesMax);
        if (history === this.#history) return entries;
      } catch (error) {
        // The segment may have been removed meanwhile: then the base has moved, or the history changed, and the next round says so.
        if (!isMissing(error) || (history === this.#history && from > this.#base.seq)) throw error;
      }
    }
  }

  #readPending(from: number, bytesMax: number): readonly LogEntry[] {
    const entries: LogEntry[] = [];
    let byteCount = 0;
    for (let at = from - this.#stored.seq - 1; at < this.#pending.length; at++) {
      const entry = this.#pending[at] as LogEntry;
      if (entries.length > 0 && byteCount + entry.bytes.length > bytesMax) break;
      byteCount += entry.bytes.length;
      entries.push(entry);
    }
    return entries;
  }

  seqBefore(bytes: number): Seq {
    return this.#index.seqBefore(bytes) as Seq;
  }

  removeThrough(seq: Seq): Promise<void> {
    const removed = this.#removing.then(() => this.#removeSegments(seq));
    this.#removing = removed.catch(() => {});
    return removed;
  }

  /** Oldest first, each gone for good before the next: a crash never leaves a hole. */
  async #removeSegments(seq: Seq): Promise<void> {
    const { files, directory } = this.#settings;
    for (;;) {
      this.#throwFailure();
      const index =
        this.#repairThrough > 0 || this.#isResetting || this.#current === null
          ? undefined
          : this.#index.removable(seq, this.#current.segment.index)[0];
      if (index === undefined) return;
      this.#base = this.#index.remove(index);
      this.#salts.delete(index);
      try {
        await files.remove(`${directory}/${segmentName(index)}`);
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
      await files.syncDirectory(directory);
    }
  }

  reset(base: LogPosition): Promise<void> {
    assert(!this.#closed, "reset of a closed journal");
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#history++;
    this.#resetCount++;
    this.#base = base;
    this.#positions = new TailPositions(base);
    this.#commitSeq = base.seq;
    this.#stored = base;
    this.#pending = [];
    this.#queuedBytes = 0;
    const overtaken = this.#queue.filter((item) => item.kind === "reset");
    return new Promise((resolve, reject) => {
      const settle = (error: Error | null): void => {
        for (const item of overtaken) item.settle(error);
        if (error === null) resolve();
        else reject(error);
      };
      this.#queue = [{ kind: "reset", base, settle }];
      this.#wake();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    while (this.#running !== null) await this.#running;
    await this.#making;
    await this.#removing;
    await this.#current?.segment.file.close();
    await this.#spare?.file.close();
    this.#current = null;
    this.#spare = null;
  }

  #wake(): void {
    if (this.#running !== null) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      if (this.#queue.length > 0 && this.#failure === null) this.#wake();
    });
  }

  get #isResetting(): boolean {
    return this.#queue.some((item) => item.kind === "reset");
  }

  async #run(): Promise<void> {
    // What the rest of this turn appends goes with the first write.
    await Promise.resolve();
    try {
      for (let item = this.#queue[0]; item !== undefined && this.#failure === null; item = this.#queue[0]) {
        if (item.kind === "reset") await this.#writeReset(item);
        else await this.#writeAppends();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  async #writeAppends(): Promise<void> {
    const resetCount = this.#resetCount;
    const current = this.#current ?? (await this.#nextSegment(this.#repairThrough > 0 ? "repair" : "anchor", 0));
    if (resetCount !== this.#resetCount) return;
    const items = this.#queue.filter((item) => item.kind === "append");
    const plan = this.#builder.build(items, this.#target(current));
    if (plan.needsBytes > 0) {
      await this.#makeRoom(current, plan.needsBytes);
      return;
    }
    if (plan.bytes.length > 0) await current.segment.file.write(plan.bytes, plan.offsetBytes);
    // A failure or a reset meanwhile: what was written counts for nothing.
    if (this.#failure === null && resetCount === this.#resetCount) this.#written(current, plan);
  }

  #target(current: Current): WriteTarget {
    const { segment, endBytes, opening } = current;
    return { salt: segment.salt, endBytes, sizeBytes: segment.sizeBytes, opening, durable: this.#durable, through: this.#repairThrough as Seq };
  }

  /** The write is on the disk. */
  #written(current: Current, plan: WritePlan): void {
    this.#indexRecords(current, plan);
    let storedCount = 0;
    for (const { entry, position } of plan.records) {
      if (entry === null) continue;
      this.#queuedBytes -= entry.bytes.length;
      if (entry !== this.#pending[storedCount]) continue; // given up by a truncation that came later
      storedCount++;
      this.#stored = position;
    }
    this.#pending.splice(0, storedCount);
    this.#queue.splice(0, plan.finishedCount);
    const first = this.#queue[0];
    if (first?.kind === "append") Object.assign(first, plan.partial);
    if (this.#repairThrough > 0 && this.#durable.seq >= this.#repairThrough) this.#repairThrough = 0;
    if (this.#spare === null && this.#making === null && !this.#closed) this.#makeSpare();
    this.#settings.handlers.onDurable(this.#stored);
  }

  #indexRecords(current: Current, plan: WritePlan): void {
    const { index } = current.segment;
    for (const record of plan.records) {
      switch (record.kind) {
        case "entry":
          this.#index.add(record.position.seq, record.offsetBytes, record.endBytes);
          break;
        case "truncate":
        case "repair":
          this.#index.truncate(index, record.position, record.endBytes);
          break;
        case "reset":
          this.#index.clear();
          this.#index.begin(index, record.position, record.endBytes);
          break;
        case "anchor":
          this.#index.begin(index, record.position, record.endBytes);
          break;
        default:
          unreachable(record.kind);
      }
      this.#durable = record.position;
    }
    if (plan.records.length > 0) current.opening = null;
    current.endBytes = plan.endBytes;
  }

  async #writeReset(item: ResetItem): Promise<void> {
    const current = await this.#nextSegment("reset", 0);
    if (this.#queue[0] !== item) return;
    this.#durable = item.base;
    this.#repairThrough = Math.max(0, this.#repairThrough > item.base.seq ? this.#repairThrough : 0);
    const plan = this.#builder.build([], this.#target(current));
    await current.segment.file.write(plan.bytes, plan.offsetBytes);
    this.#indexRecords(current, plan);
    await this.#removing;
    await this.#removeOlder(current.segment.index);
    this.#queue = this.#queue.filter((one) => one !== item);
    item.settle(null);
  }

  async #removeOlder(keptIndex: number): Promise<void> {
    const { files, directory } = this.#settings;
    for (const name of await files.list(directory)) {
      const index = segmentIndexOf(name);
      if (index === null || index >= keptIndex) continue;
      this.#salts.delete(index);
      await files.remove(`${directory}/${name}`);
    }
    await files.syncDirectory(directory);
  }

  /** The record does not fit: an unused segment grows, a used one is left for the next. */
  async #makeRoom(current: Current, neededBytes: number): Promise<void> {
    if (current.opening === null) await this.#nextSegment("anchor", neededBytes);
    else current.segment = await growSegment(this.#settings.files, this.#settings.directory, current.segment, neededBytes);
  }

  async #nextSegment(opening: "anchor" | "repair" | "reset", neededBytes: number): Promise<Current> {
    await this.#making;
    this.#throwFailure();
    if (this.#spare === null) this.#makeSpare();
    await this.#making;
    this.#throwFailure();
    const spare = this.#spare;
    assert(spare !== null, "a segment was made");
    this.#spare = null;
    const { files, directory } = this.#settings;
    const segment = spare.sizeBytes < neededBytes ? await growSegment(files, directory, spare, neededBytes) : spare;
    await this.#current?.segment.file.close();
    this.#current = { segment, endBytes: segmentHeadBytes, opening };
    return this.#current;
  }

  #makeSpare(): void {
    const { files, directory, segmentBytes } = this.#settings;
    const index = this.#newestIndex + 1;
    this.#making = createSegment(files, directory, index, segmentBytes, this.#settings.randomBytes(saltBytes)).then(
      (segment) => {
        this.#newestIndex = index;
        this.#spare = segment;
        this.#salts.set(index, segment.salt);
        this.#making = null;
      },
      (error) => {
        this.#making = null;
        this.#fail(error);
      },
    );
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  #fail(cause: unknown): void {
    if (this.#failure !== null) return;
    const code = errorCode(cause);
    const what = code === "ENOSPC" || code === "EDQUOT" ? "the disk is full" : cause instanceof Error ? cause.message : String(cause);
    const failure =
      cause instanceof DatabaseError
        ? cause
        : new DatabaseError("ATOMCAST_JOURNAL_FAILED", `the journal in ${this.#settings.directory} cannot be written: ${what}`, { cause });
    this.#failure = failure;
    for (const item of this.#queue) if (item.kind === "reset") item.settle(failure);
    this.#queue = [];
    this.#settings.handlers.onFailure(failure);
  }
}
