/**
 * An Archive's disk in the simulator: the memory twins of journal, vote store and atom store, which outlive the process. It also knows what is
 * really durable, whatever the engine has been told: that is what commits are judged by.
 */
import type { NodeId, Seq } from "../../src/base/ids.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";
import type { Random } from "../../src/base/random.js";
import { genesis } from "../../src/engines/archive-engine.js";
import type { ArchiveDisk } from "../../src/engines/environment.js";
import { openStorePortHere } from "../../src/engines/store-server.js";
import type { StoreWrites } from "../../src/storage/atom-store.js";
import type { Journal, JournalAppend, JournalHandlers, RecoveredJournal } from "../../src/storage/journal.js";
import { createMemoryAtomStore, type MemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import { createMemoryJournal, type MemoryJournal } from "../../src/storage/memory-journal.js";
import { createMemoryVoteStore, type MemoryVoteStore } from "../../src/storage/memory-vote-store.js";
import type { Coverage, CoverageRow } from "./coverage.js";
import type { ProcessClock } from "./virtual-time.js";

export interface DiskTimes {
  /** From a write to its durability, in milliseconds. */
  readonly syncMsMin: number;
  readonly syncMsMax: number;
  /** Until a batch is in the store, at most; what it is ordered on goes on meanwhile. Left out: at once. */
  readonly applyMsMax?: number;
}

export interface SimulatedDiskOptions {
  readonly nodeId: NodeId;
  readonly founder: boolean;
  readonly random: Random;
  readonly times: DiskTimes;
  readonly coverage: Coverage;
  /** A mutant: the journal tells the engine that what it has only queued is durable. */
  readonly acksBeforeSync: boolean;
  /** A mutant: votes count before they are durable, and a crash forgets them. */
  readonly forgetsVotes: boolean;
  /** Every entry that any journal is given, with the hash before it. */
  readonly onEntry: (entry: LogEntry, previousHash: string) => void;
}

/** So small that it is met where large rows change. */
const versionBytesMax = 64 * 1024;

export class SimulatedDisk {
  readonly nodeId: NodeId;
  readonly #options: SimulatedDiskOptions;
  readonly #journal: MemoryJournal;
  #votes: MemoryVoteStore;
  readonly store: MemoryAtomStore;
  #clock: ProcessClock | null = null;
  /** Of the entries that the journal was given, by seq. */
  readonly #hashes = new Map<number, string>();
  #base: LogPosition = genesis;
  /** Really durable: everything of `#hashes` up to here. */
  #durableSeq = 0;
  /** Was durable, and may have been counted, before the disk itself forgot it: such faults are outside what fsync promises. */
  readonly #forgotten = new Map<number, string>();
  #lost = false;

  constructor(options: SimulatedDiskOptions) {
    this.#options = options;
    this.nodeId = options.nodeId;
    const schedule = (complete: () => void): void => {
      const { syncMsMin, syncMsMax } = options.times;
      const delayMs = syncMsMin + options.random.integer(Math.round((syncMsMax - syncMsMin) * 1000) + 1) / 1000;
      this.#clock?.after(delayMs, complete);
    };
    this.#journal = createMemoryJournal({ base: genesis, handlers: { onDurable: () => {}, onFailure: () => {} }, schedule });
    // As after a clean close: `reopen` is what begins a life.
    void this.#journal.close();
    this.#votes = createMemoryVoteStore(schedule);
    this.store = createMemoryAtomStore({ schedule, versionBytesMax });
  }

  /** Its files are gone for good. */
  get isLost(): boolean {
    return this.#lost;
  }

  destroy(): void {
    this.#lost = true;
  }

  /** Whether (seq, hash) and so all before it is what a crash cannot take: it has been durable. */
  hasDurably(seq: Seq, hash: string): boolean {
    return this.isSafe(seq, hash) || this.#forgotten.get(seq) === hash;
  }

  /** Likewise, and the disk has not forgotten it since. */
  isSafe(seq: Seq, hash: string): boolean {
    return this.#base.seq >= seq || (this.#durableSeq >= seq && this.#hashes.get(seq) === hash);
  }

  /** For a process that begins, on its clock. */
  open(clock: ProcessClock): ArchiveDisk {
    this.#clock = clock;
    return {
      nodeId: this.nodeId,
      founder: this.#options.founder,
      openStore: async () => this.#openStore(clock),
      openServing: (clock, handlers) => openStorePortHere(this.store, clock, handlers),
      openVotes: async () => this.#votes,
      openJournal: async (handlers, appliedSeq) => this.#openJournal(handlers, appliedSeq),
      close: async () => {},
    };
  }

  /** As a store on a thread of its own: it takes its time, and carries out its calls in their order. */
  #openStore(clock: ProcessClock): StoreWrites {
    const { store } = this;
    const { applyMsMax = 0 } = this.#options.times;
    if (applyMsMax === 0) return store;
    const soon = (): Promise<void> => new Promise((resolve) => clock.after(this.#options.random.integer(applyMsMax * 1000) / 1000, resolve));
    let last: Promise<unknown> = Promise.resolve();
    const inOrder = <T>(act: () => Promise<T>): Promise<T> => {
      const done = last.then(act);
      last = done.catch(() => {});
      return done;
    };
    return {
      get position() {
        return store.position;
      },
      get flushedSeq() {
        return store.flushedSeq;
      },
      get versions() {
        return store.versions;
      },
      get values() {
        return store.values;
      },
      apply: (batch) => inOrder(() => soon().then(() => store.apply(batch))),
      readCatalog: () => inOrder(() => store.readCatalog()),
      beginInstall: () => inOrder(() => store.beginInstall()),
      close: () => inOrder(() => store.close()),
    };
  }

  async #openJournal(handlers: JournalHandlers, appliedSeq: Seq): Promise<RecoveredJournal> {
    const recovered = this.#journal.reopen(
      {
        onDurable: (position) => {
          this.#onDurable(position);
          handlers.onDurable(position);
        },
        onFailure: handlers.onFailure,
      },
      appliedSeq,
    );
    const { journal } = recovered;
    await this.#readAgain(journal);
    const { coverage } = this.#options;
    coverage.count("recovery", this.#recoveryRow(recovered, appliedSeq));
    if (appliedSeq > 0 && recovered.damage === null) coverage.count("archive", "store and sound journal");
    if (journal.last.seq < appliedSeq) coverage.count("archive", "journal ends below the store");
    return { ...recovered, journal: this.#wrap(journal, handlers) };
  }

  #recoveryRow({ journal, damage }: RecoveredJournal, appliedSeq: Seq): CoverageRow<"recovery"> {
    if (damage === null) return journal.last.seq === 0 ? "empty" : "sound";
    return journal.last.seq < appliedSeq ? "below store" : "below commit";
  }

  async #readAgain(journal: Journal): Promise<void> {
    const entries = await journal.read((journal.base.seq + 1) as Seq, Number.POSITIVE_INFINITY);
    this.#hashes.clear();
    this.#base = journal.base;
    this.#durableSeq = journal.last.seq;
    if (entries !== "gone") for (const entry of entries) this.#hashes.set(entry.seq, entry.hash);
  }

  #onDurable(position: LogPosition): void {
    this.#durableSeq = Math.max(this.#durableSeq, position.seq);
  }

  /** Watches what goes in. */
  #wrap(inner: Journal, handlers: JournalHandlers): Journal {
    const { acksBeforeSync, onEntry } = this.#options;
    const noteAppend = ({ truncateFrom, entries }: JournalAppend): void => {
      if (truncateFrom !== null) {
        this.#durableSeq = Math.min(this.#durableSeq, truncateFrom - 1);
        for (let seq = truncateFrom as number; this.#hashes.delete(seq); seq++);
      }
      for (const entry of entries) {
        const previous = entry.seq - 1 === inner.base.seq ? inner.base.hash : this.#hashes.get(entry.seq - 1);
        this.#hashes.set(entry.seq, entry.hash);
        if (previous !== undefined) onEntry(entry, previous);
      }
    };
    return {
      get base() {
        return inner.base;
      },
      get last() {
        return inner.last;
      },
      append: (append) => {
        noteAppend(append);
        inner.append(append);
        const last = inner.last;
        if (acksBeforeSync) this.#clock?.soon(() => handlers.onDurable(last));
      },
      read: (from, bytesMax) => inner.read(from, bytesMax),
      seqBefore: (bytes) => inner.seqBefore(bytes),
      removeThrough: (seq) => inner.removeThrough(seq),
      reset: async (base) => {
        this.#hashes.clear();
        this.#durableSeq = 0;
        await inner.reset(base);
        this.#base = base;
      },
      close: () => inner.close(),
    };
  }

  /** As an operator's trimming would: the journal forgets what the store has flushed. */
  async trim(): Promise<void> {
    await this.#journal.removeThrough(this.store.flushedSeq);
  }

  /** A write fails, and the process is told. */
  fail(): void {
    this.#journal.fail(new Error("EIO: i/o error, fdatasync"));
  }

  /** kill -9, or the power fails. */
  crash(): void {
    const { random } = this.#options;
    this.#clock = null;
    this.#journal.crash(random);
    this.#votes.crash(random.integer(2) === 0);
    this.store.crash(random);
    if (this.#options.forgetsVotes) this.#votes = createMemoryVoteStore((complete) => void this.#clock?.after(0, complete));
  }

  /** After a crash: the last `count` durable entries have become unreadable. */
  async damage(count: number): Promise<void> {
    const from = Math.max(this.#base.seq + 1, this.#durableSeq - count + 1);
    this.#journal.lose(from as Seq);
    this.#durableSeq = Math.min(this.#durableSeq, from - 1);
    for (const [seq, hash] of this.#hashes) {
      if (seq < from) continue;
      this.#forgotten.set(seq, hash);
      this.#hashes.delete(seq);
    }
  }
}
