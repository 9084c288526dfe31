import { expect, test } from "vitest";
import type { Atom } from "../../src/atoms/atom.js";
import type { AtomId, EngineId, Seq, SpaceId } from "../../src/base/ids.js";
import { Catalog } from "../../src/catalog/catalog.js";
import type { Entry, Fence, ProposalEntry } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, proposal, space } from "../engines/engine-parts.js";

const index = (space + 1) as SpaceId;
const indexAtom = (atom + 1) as AtomId;

/** Archive 1, Caches 2, 3 and 4; Cache 2 made the table with a unique index, 3 holds the table. */
class History {
  readonly catalog = new Catalog();
  #seq = 0;

  constructor() {
    for (const entry of [boot(1, 11), boot(2), boot(3), boot(4)]) this.apply(entry);
    const body = createTable();
    if (body.kind !== "transaction" || body.parts[0]?.kind !== "ddl") throw new Error("a table's DDL");
    const newAtoms = [...body.parts[0].newAtoms, { space: index, atom: indexAtom, indexOf: space }];
    this.apply(proposal(2, 1, { ...body, parts: [{ ...body.parts[0], newAtoms }] }));
    this.apply(proposal(3, 1, { kind: "hold", atoms: [atom] }));
    this.apply(proposal(3, 2, { kind: "ready", atoms: [atom] }));
  }

  apply(entry: Entry): Seq {
    this.catalog.apply(++this.#seq as Seq, entry);
    return this.#seq as Seq;
  }

  atom(id: AtomId): Atom {
    const found = this.catalog.atoms.get(id);
    if (found === undefined) throw new Error(`no atom ${id}`);
    return found;
  }

  fence(id: AtomId): Fence {
    const { originator, ownershipVersion } = this.atom(id);
    return { atom: id, originator, ownershipVersion };
  }

  handoff(engine: number, to: number, atoms: AtomId[], fenced = atoms): ProposalEntry {
    const n = (this.catalog.members.get(engine as EngineId)?.decided ?? 0) + 1;
    return proposal(engine, n, { kind: "handoff", to: to as EngineId, atoms }, { fences: fenced.map((id) => this.fence(id)) });
  }
}

test("HANDOFF: the ready holder that it names originates, at the entry's seq, and stands first", () => {
  const h = new History();
  const entry = h.handoff(2, 3, [atom]);
  expect(h.catalog.objection(entry)).toBe(null);
  const seq = h.apply(entry);
  expect(h.atom(atom)).toMatchObject({ originator: 3, ownershipVersion: seq, holders: [{ engine: 3 }, { engine: 2 }] });
  // What was granted before meets its fence.
  expect(h.catalog.objection(h.handoff(2, 3, [indexAtom]))).toBe(null);
  expect(h.catalog.fenceHolds({ atom, originator: 2 as EngineId, ownershipVersion: 5 as Seq })).toBe(false);
});

test("HANDOFF of a unique index's atom: to any member, since it has no rows to hold", () => {
  const h = new History();
  expect(h.catalog.objection(h.handoff(2, 4, [indexAtom]))).toBe(null);
  expect(h.catalog.objection(h.handoff(2, 4, [atom]))).toBe("stale");
  const seq = h.apply(h.handoff(2, 4, [indexAtom]));
  expect(h.atom(indexAtom)).toMatchObject({ originator: 4, ownershipVersion: seq, holders: [{ engine: 4, state: "ready" }, { engine: 2 }] });
});

test("HANDOFF to an Archive: it is not listed, and comes before all who are", () => {
  const h = new History();
  h.apply(h.handoff(2, 1, [atom]));
  expect(h.atom(atom)).toMatchObject({ originator: 1, holders: [{ engine: 2 }, { engine: 3 }] });
});

test("HANDOFF is refused: by another than the originator, without a fence of each atom, to one that is gone, to itself", () => {
  const h = new History();
  expect(h.catalog.objection(h.handoff(3, 3, [atom]))).toBe("malformed");
  expect(h.catalog.objection(h.handoff(2, 3, [atom, indexAtom], [atom]))).toBe("malformed");
  expect(h.catalog.objection(h.handoff(2, 99, [atom]))).toBe("stale");
  expect(h.catalog.objection(h.handoff(2, 2, [atom]))).toBe("stale");
  const late = h.handoff(2, 3, [atom]);
  h.apply({ kind: "demote", from: 2 as EngineId, to: 1 as EngineId, atoms: [atom] });
  expect(h.catalog.objection(late)).toBe("fence");
});

test("an engine that began from a copy of the catalog moves atoms alike", () => {
  const h = new History();
  const copy = Catalog.load(h.catalog.dump());
  for (const entry of [h.handoff(2, 3, [atom]), h.handoff(2, 4, [indexAtom])]) copy.apply(h.apply(entry), entry);
  expect(copy.dump()).toEqual(h.catalog.dump());
});
