import fc from "fast-check";
import { expect, test } from "vitest";
import { type KeyUse, RecentKeys } from "../../src/atoms/recent-keys.js";
import type { Seq, SpaceId } from "../../src/base/ids.js";

const seq = (n: number): Seq => n as Seq;
const space = (n: number): SpaceId => n as SpaceId;

interface Note {
  readonly seq: number;
  readonly space: number;
  readonly key: string;
  readonly use: KeyUse;
}

/** What a memory without a bound would say. */
function newestOf(notes: readonly Note[], at: number, key: string, use: KeyUse): number {
  const disturbs = (noted: KeyUse): boolean => noted === "delete" || (use === "exist" ? false : noted === "write" || use === "delete");
  return Math.max(0, ...notes.filter((note) => note.space === at && note.key === key && disturbs(note.use)).map((note) => note.seq));
}

const noteArbitrary = fc.record({
  space: fc.integer({ min: 1, max: 3 }),
  key: fc.constantFrom("a", "b", "c", "d", "e", "f", "g"),
  use: fc.constantFrom<KeyUse>("write", "delete", "exist"),
});

test("no change is ever missed, whatever was forgotten; and what changed last is known exactly", () => {
  fc.assert(
    fc.property(fc.array(noteArbitrary, { maxLength: 60 }), fc.integer({ min: 2, max: 12 }), (drawn, keysMax) => {
      const recent = new RecentKeys(seq(0), keysMax);
      const notes: Note[] = [];
      for (const [index, note] of drawn.entries()) {
        notes.push({ ...note, seq: index + 1 });
        recent.note(seq(index + 1), space(note.space), note.key, note.use);
        expect(recent.size).toBeLessThanOrEqual(keysMax);
        // Keys noted among the last half of what may be remembered are in a generation that is still there.
        const fresh = notes.slice(-Math.floor(keysMax / 2));
        for (const at of [1, 2, 3])
          for (const key of ["a", "c", "g"])
            for (const use of ["write", "delete", "exist"] as const) {
              const newest = newestOf(notes, at, key, use);
              if (newest > 0) expect(recent.newerThan(seq(newest - 1), space(at), key, use)).toBeGreaterThanOrEqual(newest);
              if (newest > 0 && fresh.some((one) => one.seq === newest)) expect(recent.newerThan(seq(newest), space(at), key, use)).toBe(0);
            }
      }
    }),
    { numRuns: 300 },
  );
});

test("what is forgotten counts as changed at the floor, and so does what was never noted", () => {
  const recent = new RecentKeys(seq(5), 4);
  expect(recent.newerThan(seq(4), space(1), "never", "write")).toBe(5);
  expect(recent.newerThan(seq(5), space(1), "never", "write")).toBe(0);
  for (const [index, key] of ["a", "b", "c"].entries()) recent.note(seq(10 + index), space(1), key, "write");
  // "a" and "b" are the old generation: still known.
  expect(recent.newerThan(seq(10), space(1), "a", "write")).toBe(0);
  recent.note(seq(13), space(1), "d", "write");
  expect(recent.newerThan(seq(10), space(1), "a", "write")).toBe(11);
  expect(recent.newerThan(seq(12), space(1), "c", "write")).toBe(0);
  expect(recent.newerThan(seq(11), space(1), "never", "write")).toBe(0);
});

test("a key's uses stay together when it changes again in a younger generation", () => {
  const recent = new RecentKeys(seq(0), 4);
  recent.note(seq(1), space(1), "parent", "exist");
  recent.note(seq(2), space(1), "other", "write");
  recent.note(seq(3), space(1), "parent", "write");
  recent.note(seq(4), space(1), "more", "write");
  recent.note(seq(5), space(1), "yet more", "write");
  // The child's mark of seq 1 is remembered exactly, though its generation is gone: the floor is 2.
  expect(recent.newerThan(seq(2), space(1), "parent", "delete")).toBe(3);
  expect(recent.newerThan(seq(2), space(1), "never", "delete")).toBe(0);
});
