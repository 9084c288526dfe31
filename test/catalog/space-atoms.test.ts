import { expect, test } from "vitest";
import type { Atom } from "../../src/atoms/atom.js";
import type { AtomId, EngineId, Seq, SpaceId } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { type AtomPages, SpaceAtoms } from "../../src/catalog/space-atoms.js";

function atomAt(low: number, rows = 0): Atom {
  const key = low === 0 ? Buffer.alloc(0) : integerKey(BigInt(low));
  return {
    id: (low + 1) as AtomId,
    space: 7 as SpaceId,
    indexOf: 0 as SpaceId,
    low: key,
    lowKey: binaryKey(key),
    holders: [],
    originator: 1 as EngineId,
    ownershipVersion: 1 as Seq,
    bytes: 0,
    rows,
  };
}

const lows = (atoms: Iterable<Atom>): number[] => [...atoms].map(({ id }) => id - 1);
const inPages = (pages: AtomPages): Atom[] => pages.flatMap(({ atoms }) => [...atoms]);
const keyOf = (low: number): string => binaryKey(integerKey(BigInt(low)));

test("atoms that are added, replaced and removed at random are found as in a sorted list, and a snapshot stays as it was", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = seededRandom(seed);
    const atoms = new SpaceAtoms();
    const known = new Map<number, Atom>();
    let snapshot: { pages: AtomPages; expected: Atom[] } | null = null;
    const sorted = (): Atom[] => [...known.values()].sort((left, right) => left.id - right.id);
    for (let round = 0; round < 1500; round++) {
      const low = round === 0 ? 0 : random.integer(5000);
      const atom = atomAt(low, round);
      // In the last third more go than come.
      const removed = round % 5 === 4 || round > 1000 ? [...known.keys()][random.integer(known.size)] : undefined;
      if (known.has(low)) atoms.replace(atom);
      else atoms.add(atom);
      known.set(low, atom);
      if (removed !== undefined && removed > 0) {
        atoms.remove(atomAt(removed).lowKey);
        known.delete(removed);
      }
      if (removed !== undefined && removed > 0 && round > 1000) {
        const [one] = [...known.keys()].filter((other) => other > 0);
        atoms.remove(atomAt(one as number).lowKey);
        known.delete(one as number);
      }
      if (round % 400 === 100) snapshot = { pages: atoms.snapshot(), expected: sorted() };
      if (snapshot !== null && round % 100 === 0) expect(inPages(snapshot.pages)).toEqual(snapshot.expected);
    }
    const expected = sorted();
    expect(lows(atoms)).toEqual(lows(expected));
    expect(atoms.toArray()).toEqual(expected);
    expect(atoms.count).toBe(expected.length);
    for (let n = 0; n < 300; n++) {
      const low = random.integer(5000);
      const at = expected.findLastIndex(({ id }) => id - 1 <= low);
      expect(atoms.at(keyOf(low))).toBe(expected[at]);
      const high = low + 1 + random.integer(300);
      const within = expected.filter(({ id }, index) => index === at || (index > at && id - 1 < high));
      expect(lows(atoms.overlapping(keyOf(low), keyOf(high)))).toEqual(lows(within));
      expect(lows(atoms.overlapping(keyOf(low), null))).toEqual(lows(expected.slice(at)));
      const count = 1 + random.integer(100);
      expect(lows(atoms.from(keyOf(low), count))).toEqual(lows(expected.slice(at, at + count)));
      expect(atoms.after((expected[at] as Atom).lowKey)).toBe(expected[at + 1]);
    }
  }
});

test("pages that have become small go together: what is left takes no more of them than it would have", () => {
  const atoms = new SpaceAtoms();
  for (let low = 0; low < 5000; low++) atoms.add(atomAt(low));
  for (let low = 1; low < 5000; low++) if (low % 100 !== 0) atoms.remove(atomAt(low).lowKey);
  expect(atoms.count).toBe(50);
  expect(atoms.snapshot().length).toBeLessThan(3);
});

test("a snapshot costs no copy of what does not change", () => {
  const atoms = new SpaceAtoms();
  for (let low = 0; low < 2000; low++) atoms.add(atomAt(low));
  const before = atoms.snapshot();
  expect(before.length).toBeLessThan(20);
  atoms.replace(atomAt(1000, 5));
  const after = atoms.snapshot();
  expect(after.filter((page, index) => page !== before[index])).toHaveLength(1);
});
