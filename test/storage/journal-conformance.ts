/** What every journal does, on disk or in memory. */
import { afterEach, describe, expect, test } from "vitest";
import type { Seq } from "../../src/base/ids.js";
import type { LogEntry, LogPosition } from "../../src/base/log-entry.js";
import type { Journal, JournalHandlers, RecoveredJournal } from "../../src/storage/journal.js";
import { entriesAfter, hashes, origin, positionOf } from "./log.js";

export interface JournalUnderTest {
  create(base: LogPosition, handlers: JournalHandlers): Promise<Journal>;
  /** After `close` of the one created. */
  reopen(handlers: JournalHandlers, appliedSeq: Seq): Promise<RecoveredJournal>;
  cleanUp(): Promise<void>;
}

export function journalConformance(name: string, make: () => JournalUnderTest): void {
  describe(`${name}: conformance`, () => {
    let subject: JournalUnderTest;
    const durable: LogPosition[] = [];
    const failures: Error[] = [];
    const handlers: JournalHandlers = { onDurable: (position) => durable.push(position), onFailure: (error) => failures.push(error) };

    async function begin(base = origin): Promise<Journal> {
      subject = make();
      durable.length = 0;
      failures.length = 0;
      return subject.create(base, handlers);
    }

    async function durableUntil(hash: string): Promise<void> {
      for (let round = 0; round < 2000 && durable.at(-1)?.hash !== hash; round++) await new Promise((resolve) => setTimeout(resolve, 1));
      expect(durable.at(-1)?.hash).toBe(hash);
    }

    afterEach(async () => {
      await subject.cleanUp();
      expect(failures).toEqual([]);
    });

    test("entries are read back, before and after they are durable, and after a restart", async () => {
      const journal = await begin();
      const entries = entriesAfter(origin, 200, 1, (seq) => (seq * 37) % 900);
      journal.append({ truncateFrom: null, entries: entries.slice(0, 120), commitSeq: 0 as Seq });
      journal.append({ truncateFrom: null, entries: entries.slice(120), commitSeq: 100 as Seq });
      expect(journal.last).toEqual(positionOf(entries.at(-1)));
      expect(hashes(await readAll(journal, 1))).toEqual(hashes(entries));
      await durableUntil(entries.at(-1)?.hash ?? "");
      expect(hashes(await readAll(journal, 77, 500))).toEqual(hashes(entries.slice(76)));
      journal.append({ truncateFrom: null, entries: entriesAfter(journal.last, 1), commitSeq: 150 as Seq });
      await journal.close();
      const recovered = await subject.reopen(handlers, 0 as Seq);
      expect(recovered.damage).toBeNull();
      expect(recovered.commitSeq).toBe(150);
      expect(recovered.journal.last.seq).toBe(201);
      expect(hashes(await readAll(recovered.journal, 1)).slice(0, 200)).toEqual(hashes(entries));
      await recovered.journal.close();
    });

    test("reads are bounded, give one entry at least, nothing beyond the end, and say what is gone", async () => {
      const base = positionOf(entriesAfter(origin, 10).at(-1));
      const journal = await begin(base);
      const entries = entriesAfter(base, 5, 1, () => 1000);
      journal.append({ truncateFrom: null, entries, commitSeq: 10 as Seq });
      await durableUntil(entries.at(-1)?.hash ?? "");
      expect(await journal.read(10 as Seq, 1)).toBe("gone");
      expect(hashes(await journal.read(11 as Seq, 1))).toEqual(hashes(entries.slice(0, 1)));
      expect(hashes(await journal.read(11 as Seq, 2500))).toEqual(hashes(entries.slice(0, 2)));
      expect(await journal.read(16 as Seq, 1000)).toEqual([]);
      await journal.close();
    });

    test("a truncation gives up the tail, for reads at once and after a restart", async () => {
      const journal = await begin();
      const old = entriesAfter(origin, 20);
      journal.append({ truncateFrom: null, entries: old, commitSeq: 4 as Seq });
      await durableUntil(old.at(-1)?.hash ?? "");
      const kept = old.slice(0, 9);
      const fresh = entriesAfter(positionOf(kept.at(-1)), 4, 2);
      journal.append({ truncateFrom: 10 as Seq, entries: fresh, commitSeq: 4 as Seq });
      expect(hashes(await readAll(journal, 1))).toEqual(hashes([...kept, ...fresh]));
      const again = entriesAfter(positionOf(fresh[1]), 3, 3);
      journal.append({ truncateFrom: 12 as Seq, entries: [], commitSeq: 4 as Seq });
      expect(journal.last).toEqual(positionOf(fresh[1]));
      journal.append({ truncateFrom: null, entries: again, commitSeq: 4 as Seq });
      const wanted = hashes([...kept, ...fresh.slice(0, 2), ...again]);
      expect(hashes(await readAll(journal, 1))).toEqual(wanted);
      await durableUntil(again.at(-1)?.hash ?? "");
      expect(hashes(await readAll(journal, 1))).toEqual(wanted);
      await journal.close();
      const recovered = await subject.reopen(handlers, 0 as Seq);
      expect(hashes(await readAll(recovered.journal, 1))).toEqual(wanted);
      await recovered.journal.close();
    });

    test("what is committed cannot be given up, and seqs have no hole", async () => {
      const journal = await begin();
      const entries = entriesAfter(origin, 6);
      journal.append({ truncateFrom: null, entries, commitSeq: 5 as Seq });
      expect(() => journal.append({ truncateFrom: 5 as Seq, entries: [], commitSeq: 5 as Seq })).toThrow(/committed/);
      expect(() => journal.append({ truncateFrom: null, entries: entriesAfter(journal.last, 2).slice(1), commitSeq: 5 as Seq })).toThrow(/after 6/);
      await journal.close();
    });

    test("onDurable never names what a later truncation has given up", async () => {
      const journal = await begin();
      const old = entriesAfter(origin, 8);
      journal.append({ truncateFrom: null, entries: old, commitSeq: 0 as Seq });
      await Promise.resolve();
      const fresh = entriesAfter(positionOf(old[2]), 2, 2);
      journal.append({ truncateFrom: 4 as Seq, entries: fresh, commitSeq: 0 as Seq });
      await durableUntil(fresh.at(-1)?.hash ?? "");
      const known = new Set([...old.slice(0, 3), ...fresh, origin].map((one) => one.hash));
      for (const position of durable) expect(known.has(position.hash)).toBe(true);
      await journal.close();
    });

    test("a reset forgets everything and goes on after the new base", async () => {
      const journal = await begin();
      journal.append({ truncateFrom: null, entries: entriesAfter(origin, 30), commitSeq: 20 as Seq });
      const base = positionOf(entriesAfter(origin, 500, 3).at(-1));
      const resolved = journal.reset(base);
      expect(journal.last).toEqual(base);
      const entries = entriesAfter(base, 3, 3);
      journal.append({ truncateFrom: null, entries, commitSeq: 500 as Seq });
      await resolved;
      await durableUntil(entries.at(-1)?.hash ?? "");
      await journal.close();
      const recovered = await subject.reopen(handlers, 500 as Seq);
      expect(recovered.damage).toBeNull();
      expect(recovered.journal.base).toEqual(base);
      expect(recovered.commitSeq).toBeGreaterThanOrEqual(500);
      expect(await recovered.journal.read(500 as Seq, 1000)).toBe("gone");
      expect(hashes(await readAll(recovered.journal, 501))).toEqual(hashes(entries));
      await recovered.journal.close();
    });

    test("removal keeps what comes after", async () => {
      const journal = await begin();
      const entries = entriesAfter(origin, 300);
      for (const entry of entries) {
        journal.append({ truncateFrom: null, entries: [entry], commitSeq: entry.seq });
        if (entry.seq % 20 === 0) await durableUntil(entry.hash);
      }
      await journal.removeThrough(150 as Seq);
      expect(journal.base.seq).toBeGreaterThan(0);
      expect(journal.base.seq).toBeLessThanOrEqual(150);
      expect(journal.base).toEqual(positionOf(entries[journal.base.seq - 1]));
      expect(await journal.read(journal.base.seq, 10)).toBe("gone");
      const wanted = hashes(entries.slice(journal.base.seq));
      expect(hashes(await readAll(journal, journal.base.seq + 1))).toEqual(wanted);
      const base = journal.base;
      await journal.close();
      const recovered = await subject.reopen(handlers, 150 as Seq);
      expect(recovered.journal.base).toEqual(base);
      expect(hashes(await readAll(recovered.journal, base.seq + 1))).toEqual(wanted);
      await recovered.journal.close();
    });

    test("what it keeps can be counted in bytes", async () => {
      const journal = await begin();
      const entries = entriesAfter(origin, 300);
      for (const entry of entries) {
        journal.append({ truncateFrom: null, entries: [entry], commitSeq: entry.seq });
        if (entry.seq % 20 === 0) await durableUntil(entry.hash);
      }
      expect(journal.seqBefore(1e9)).toBe(0);
      const all = entries.reduce((sum, { bytes }) => sum + bytes.length, 0);
      const through = journal.seqBefore(all / 2);
      expect(through).toBeGreaterThan(50);
      expect(through).toBeLessThan(300);
      await journal.removeThrough(through);
      expect(journal.base.seq).toBeGreaterThan(0);
      expect(journal.base.seq).toBeLessThanOrEqual(through);
      // What is left fits, but for the segment that is written to.
      expect(journal.seqBefore(all)).toBe(0);
      await journal.close();
    });

    test("a journal that ends below what the atom store has applied is damaged until it has been repaired", async () => {
      const journal = await begin();
      const entries = entriesAfter(origin, 60);
      journal.append({ truncateFrom: null, entries: entries.slice(0, 40), commitSeq: 40 as Seq });
      await journal.close();
      const damaged = await subject.reopen(handlers, 50 as Seq);
      expect(damaged.damage).toMatchObject({ from: 41, through: 50 });
      damaged.journal.append({ truncateFrom: null, entries: entries.slice(40, 45), commitSeq: 45 as Seq });
      await damaged.journal.close();
      const half = await subject.reopen(handlers, 0 as Seq);
      expect(half.damage).toMatchObject({ from: 46, through: 50 });
      half.journal.append({ truncateFrom: null, entries: entries.slice(45), commitSeq: 60 as Seq });
      await half.journal.close();
      const sound = await subject.reopen(handlers, 50 as Seq);
      expect(sound.damage).toBeNull();
      expect(hashes(await readAll(sound.journal, 1))).toEqual(hashes(entries));
      await sound.journal.close();
    });
  });
}

export async function readAll(journal: Journal, from: number, bytesMax = 4000): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for (let next = from; ; ) {
    const entries = await journal.read(next as Seq, bytesMax);
    if (entries === "gone") throw new Error(`entry ${next} is gone`);
    if (entries.length === 0) return all;
    all.push(...entries);
    next += entries.length;
  }
}
