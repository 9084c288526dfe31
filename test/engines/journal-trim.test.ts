import { expect, test } from "vitest";
import type { Endpoint, Seq } from "../../src/base/ids.js";
import { JournalTrim } from "../../src/engines/journal-trim.js";

const [a1, a2] = ["a1" as Endpoint, "a2" as Endpoint];
const limits = { entries: 100, bytes: 1000, copiesBytes: 5000 };
/** Entries of one size, up to `last`. */
const journalOf = (last: number, entryBytes: number) => ({ seqBefore: (bytes: number) => Math.max(0, last - Math.floor(bytes / entryBytes)) as Seq });
const flushed = (seq: number) => ({ flushedSeq: seq as Seq });

test("so many entries are kept, and so many bytes, and nothing goes that the store has not flushed", () => {
  const trim = new JournalTrim(limits);
  expect(trim.through(flushed(500), journalOf(500, 1), 0)).toBe(400);
  expect(trim.through(flushed(500), journalOf(500, 50), 0)).toBe(480);
  expect(trim.through(flushed(300), journalOf(500, 50), 0)).toBe(300);
  expect(trim.through(flushed(50), journalOf(50, 1), 0)).toBe(0);
});

test("an Archive that copies the store finds what came after its copy, however long it takes", () => {
  const trim = new JournalTrim(limits);
  trim.onAsked(a1, true, 400 as Seq, 0);
  for (let nowMs = 0; nowMs < 3_600_000; nowMs += 60_000) trim.onAsked(a1, false, 900 as Seq, nowMs);
  trim.onAsked(a2, true, 950 as Seq, 3_600_000);
  expect(trim.through(flushed(1000), journalOf(1000, 1), 3_600_000)).toBe(400);
  // It begins another one: the former is void.
  trim.onAsked(a1, true, 990 as Seq, 3_600_000);
  expect(trim.through(flushed(2000), journalOf(2000, 1), 3_700_000)).toBe(950);
  // Both have caught up long since, or are gone.
  expect(trim.through(flushed(2000), journalOf(2000, 1), 4_400_000)).toBe(1900);
});

test("what is kept for copies is bounded in bytes, and in how many they are", () => {
  const trim = new JournalTrim(limits);
  trim.onAsked(a1, true, 400 as Seq, 0);
  expect(trim.through(flushed(1000), journalOf(1000, 10), 0)).toBe(500);
  for (let one = 0; one < 16; one++) trim.onAsked(`b${one}` as Endpoint, true, 880 as Seq, 1);
  expect(trim.through(flushed(1000), journalOf(1000, 10), 1)).toBe(880);
});
