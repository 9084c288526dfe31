import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Seq } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { createFileJournal, openFileJournal } from "../../src/storage/file-journal.js";
import type { JournalHandlers } from "../../src/storage/journal.js";
import { createMemoryJournal, type MemoryJournal } from "../../src/storage/memory-journal.js";
import { journalConformance, readAll } from "./journal-conformance.js";
import { entriesAfter, hashes, origin, positionOf } from "./log.js";

journalConformance("journal on disk", () => {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-journal-"));
  return {
    create: (base, handlers) => createFileJournal({ directory, base, handlers, segmentBytes: 8192 }),
    reopen: (handlers, appliedSeq) => openFileJournal({ directory, handlers, appliedSeq, segmentBytes: 8192 }),
    cleanUp: async () => rmSync(directory, { recursive: true }),
  };
});

journalConformance("journal in memory", () => {
  let journal: MemoryJournal | null = null;
  return {
    create: async (base, handlers) => {
      journal = createMemoryJournal({ base, handlers, schedule: (complete) => setImmediate(complete) });
      return journal;
    },
    reopen: async (handlers, appliedSeq) => {
      if (journal === null) throw new Error("reopened before it was created");
      return journal.reopen(handlers, appliedSeq);
    },
    cleanUp: async () => {},
  };
});

const silent: JournalHandlers = { onDurable: () => {}, onFailure: () => {} };

describe("journal in memory: faults", () => {
  test("a crash keeps what is durable and a prefix of the write under way, nothing else", async () => {
    const kept = new Set<number>();
    for (let seed = 0; seed < 200; seed++) {
      const completions: (() => void)[] = [];
      const durable: number[] = [];
      const handlers: JournalHandlers = { onDurable: (position) => durable.push(position.seq), onFailure: () => {} };
      const journal = createMemoryJournal({ base: origin, handlers, schedule: (complete) => completions.push(complete) });
      const entries = entriesAfter(origin, 9);
      journal.append({ truncateFrom: null, entries: entries.slice(0, 3), commitSeq: 0 as Seq });
      completions.shift()?.();
      journal.append({ truncateFrom: null, entries: entries.slice(3, 6), commitSeq: 3 as Seq });
      journal.append({ truncateFrom: null, entries: entries.slice(6), commitSeq: 3 as Seq });
      journal.crash(seededRandom(seed));
      completions.shift()?.();
      expect(durable).toEqual([3]);
      const recovered = journal.reopen(silent, 0 as Seq);
      const found = await readAll(recovered.journal, 1);
      expect(hashes(found)).toEqual(hashes(entries.slice(0, found.length)));
      kept.add(found.length);
    }
    expect([...kept].sort()).toEqual([3, 4, 5, 6]);
  });

  test("what was durable and is lost is damage until it is repaired", async () => {
    const journal = createMemoryJournal({ base: origin, handlers: silent, schedule: (complete) => setImmediate(complete) });
    const entries = entriesAfter(origin, 9);
    journal.append({ truncateFrom: null, entries, commitSeq: 3 as Seq });
    await new Promise((resolve) => setImmediate(resolve));
    journal.crash(seededRandom(1));
    journal.lose(6 as Seq);
    expect(journal.reopen(silent, 0 as Seq).damage).toMatchObject({ from: 6, through: 9 });
    expect(journal.last).toEqual(positionOf(entries[4]));
  });

  test("a failed disk is told once and nothing is durable after it", async () => {
    const told: string[] = [];
    const handlers: JournalHandlers = { onDurable: () => told.push("durable"), onFailure: (error) => told.push(error.message) };
    const journal = createMemoryJournal({ base: origin, handlers, schedule: (complete) => setImmediate(complete) });
    journal.append({ truncateFrom: null, entries: entriesAfter(origin, 1), commitSeq: 0 as Seq });
    journal.fail(new Error("gone"));
    journal.fail(new Error("again"));
    journal.append({ truncateFrom: null, entries: entriesAfter(journal.last, 1), commitSeq: 0 as Seq });
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual(["gone"]);
  });
});
