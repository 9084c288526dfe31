import { expect, test } from "vitest";
import { hasPosition } from "../../src/engines/archive-engine.js";
import { createMemoryJournal, type MemoryJournal } from "../../src/storage/memory-journal.js";
import { entriesAfter, origin, positionOf } from "../storage/log.js";

function journalOf(count: number, term: number): MemoryJournal {
  const handlers = { onDurable: () => {}, onFailure: () => {} };
  const journal = createMemoryJournal({ base: origin, handlers, schedule: (complete) => complete() });
  journal.append({ truncateFrom: null, entries: entriesAfter(origin, count, term), commitSeq: origin.seq });
  return journal;
}

test("a journal that has the store's place goes on from there", async () => {
  const journal = journalOf(20, 1);
  const entries = entriesAfter(origin, 20, 1);
  expect(await hasPosition(journal, origin)).toBe(true);
  expect(await hasPosition(journal, positionOf(entries[9]))).toBe(true);
  expect(await hasPosition(journal, positionOf(entries[19]))).toBe(true);
});

test("a journal that ends below the store does not", async () => {
  const journal = journalOf(10, 1);
  expect(await hasPosition(journal, positionOf(entriesAfter(origin, 11, 1)[10]))).toBe(false);
});

test("the process ended between a transfer and the journal's reset: what the journal has there is of a history that was given up", async () => {
  const journal = journalOf(20, 1);
  expect(await hasPosition(journal, positionOf(entriesAfter(origin, 15, 2)[14]))).toBe(false);
});
