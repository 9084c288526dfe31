import { expect, test } from "vitest";
import type { AtomId, EngineId } from "../../src/base/ids.js";
import { AskCounts, atomsCountedMax, favouriteAsksMin, handoffEveryMs } from "../../src/engines/ask-counts.js";

const own = 1 as EngineId;
const other = 2 as EngineId;
const third = 3 as EngineId;
const atom = 9 as AtomId;
const lateMs = handoffEveryMs;

function asked(counts: AskCounts, by: EngineId, times: number, nowMs = 0): void {
  for (let time = 0; time < times; time++) counts.note(atom, by, own, 1, nowMs);
}

test("who asks alone is the favourite, after enough and not before the time", () => {
  const counts = new AskCounts();
  asked(counts, other, favouriteAsksMin - 1);
  expect(counts.favourite(atom, own, lateMs)).toBe(null);
  asked(counts, other, 1);
  expect(counts.favourite(atom, own, lateMs - 1)).toBe(null);
  expect(counts.favourite(atom, own, lateMs)).toBe(other);
});

test("what the originator writes itself counts against a HANDOFF, from the first that another asks for", () => {
  const counts = new AskCounts();
  asked(counts, own, 1000);
  asked(counts, other, 20);
  expect(counts.favourite(atom, own, lateMs)).toBe(other);
  asked(counts, own, 20);
  expect(counts.favourite(atom, own, lateMs)).toBe(null);
});

test("two that ask alike: nobody; the present counts for more than the past", () => {
  const counts = new AskCounts();
  for (let time = 0; time < 500; time++) for (const by of [other, third]) asked(counts, by, 1);
  expect(counts.favourite(atom, own, lateMs)).toBe(null);
  asked(counts, third, 120);
  expect(counts.favourite(atom, own, lateMs)).toBe(third);
});

test("what is carried to a piece is asked of it; what is forgotten begins anew", () => {
  const counts = new AskCounts();
  asked(counts, other, 20);
  counts.carry(atom, 10 as AtomId);
  expect(counts.favourite(atom, own, lateMs)).toBe(null);
  expect(counts.favourite(10 as AtomId, own, lateMs)).toBe(other);
  counts.forget(10 as AtomId);
  expect(counts.favourite(10 as AtomId, own, lateMs)).toBe(null);
});

test("atoms are counted up to a bound, those asked for longest ago forgotten first", () => {
  const counts = new AskCounts();
  asked(counts, other, 20);
  const newest = (100 + atomsCountedMax) as AtomId;
  for (let id = 100; id <= newest; id++) for (let time = 0; time < (id === newest ? 20 : 1); time++) counts.note(id as AtomId, other, own, 1, 0);
  expect(counts.favourite(atom, own, lateMs)).toBe(null);
  expect(counts.favourite(newest, own, lateMs)).toBe(other);
});
