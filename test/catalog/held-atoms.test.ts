import { expect, test } from "vitest";
import type { Atom, Holder } from "../../src/atoms/atom.js";
import type { AtomId, EngineId, Seq, SpaceId } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { AtomMap } from "../../src/catalog/atom-map.js";

const own = 7 as EngineId;

function atomOf(space: number, place: number, bytes: number, holders: readonly Holder[], indexOf = 0): Atom {
  const low = place === 0 ? Buffer.alloc(0) : integerKey(BigInt(place));
  return {
    id: (space * 1000 + place) as AtomId,
    space: space as SpaceId,
    indexOf: indexOf as SpaceId,
    low,
    lowKey: binaryKey(low),
    holders,
    originator: 1 as EngineId,
    ownershipVersion: 1 as Seq,
    bytes,
    rows: 1,
  };
}

test("what an engine holds is known after every change, in the order of its use", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const random = seededRandom(seed);
    const atoms = new AtomMap();
    const holders = (): Holder[] => {
      const list: Holder[] = [];
      if (random.integer(2) === 0) list.push({ engine: 3 as EngineId, state: "ready" });
      if (random.integer(2) === 0) list.push({ engine: own, state: random.integer(2) === 0 ? "joining" : "ready" });
      return list;
    };
    let order: AtomId[] = [];
    const used = (id: AtomId): void => {
      order = [...order.filter((one) => one !== id), id];
    };
    for (let round = 0; round < 600; round++) {
      if (round === 100) {
        atoms.watch(own);
        order = [...atoms.all()].filter((atom) => holds(atom)).map(({ id }) => id);
      }
      const [space, place] = [1 + random.integer(3), random.integer(40)];
      const known = atoms.get((space * 1000 + place) as AtomId);
      const choice = random.integer(10);
      if (known === undefined) {
        // A space begins with its first atom.
        const made = atomOf(space, atoms.countOf(space as SpaceId) === 0 ? 0 : place, random.integer(100), holders(), space === 3 ? 1 : 0);
        if (atoms.get(made.id) === undefined) atoms.add(made);
      } else if (choice < 4) atoms.replace({ ...known, bytes: random.integer(100) });
      else if (choice < 8) atoms.replace({ ...known, holders: holders() });
      else if (choice === 8) {
        atoms.held?.touch(known.id);
        if (holds(known) && atoms.held !== null) used(known.id);
      } else if (random.integer(20) === 0) atoms.removeSpace(space as SpaceId);
      if (atoms.held === null) continue;
      const expected = [...atoms.all()].filter((atom) => holds(atom));
      for (const { id } of expected) if (!order.includes(id)) order.push(id);
      order = order.filter((id) => expected.some((atom) => atom.id === id));
      expect([...atoms.held].map(({ id }) => id)).toEqual(order);
      expect(atoms.held.bytes).toBe(expected.reduce((sum, { bytes }) => sum + bytes, 0));
      expect([...atoms.held].every((atom) => atoms.get(atom.id) === atom)).toBe(true);
    }
  }
});

/** Rows only: the third space is a unique index's. */
function holds(atom: Atom): boolean {
  return atom.indexOf === 0 && atom.holders.some(({ engine }) => engine === own);
}
