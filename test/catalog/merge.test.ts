/** MERGE in the catalog: which neighbours become one, and what they are then. */
import { expect, test } from "vitest";
import type { AtomId, EngineId, Seq } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import type { Entry, Fence, MergeBody, ProposalBody, ProposalEntry } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, proposal, space } from "../engines/engine-parts.js";

const ids = [atom, atom + 1, atom + 2, atom + 3] as AtomId[];
const [a, b, c, d] = ids as [AtomId, AtomId, AtomId, AtomId];
const into = (atom + 50) as AtomId;

/** Archive 1, Caches 2 and 3; the table of Cache 2 is cut at 10, 20 and 30. */
class History {
  readonly catalog: Catalog;
  #seq = 0;

  constructor(catalog = new Catalog()) {
    this.catalog = catalog;
    for (const entry of [boot(1, 11), boot(2), boot(3), proposal(2, 1, createTable())]) this.apply(entry);
    const pieces = [b, c, d].map((id, index) => ({
      atom: id,
      low: integerKey(BigInt(10 * (index + 1))),
      taker: 0 as EngineId,
      bytes: 100,
      rows: index + 1,
    }));
    this.apply(
      proposal(2, 2, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n }),
    );
  }

  apply(entry: Entry): Seq {
    this.catalog.apply(++this.#seq as Seq, entry);
    return this.#seq as Seq;
  }

  fence(id: AtomId): Fence {
    const found = this.catalog.atoms.get(id);
    if (found === undefined) throw new Error(`no atom ${id}`);
    return { atom: id, originator: found.originator, ownershipVersion: found.ownershipVersion };
  }

  merge(atoms: readonly AtomId[], more: Partial<MergeBody> = {}, fenced = atoms, engine = 2): ProposalEntry {
    const body: ProposalBody = { kind: "merge", space, atoms, into, ...more };
    return proposal(engine, 9, body, { fences: fenced.map((id) => this.fence(id)) });
  }
}

test("neighbours become one: the range of all, their sizes, the holders that all had, under a new id and version", () => {
  const h = new History();
  for (const kind of ["hold", "ready"] as const) h.apply(proposal(3, 1, { kind, atoms: [b, c] }));
  const entry = h.merge([b, c]);
  expect(h.catalog.objection(entry)).toBe(null);
  const seq = h.apply(entry);
  const { atoms } = h.catalog;
  expect(atoms.ofSpace(space).map(({ id }) => id)).toEqual([a, into, d]);
  expect(atoms.get(into)).toMatchObject({ originator: 2, ownershipVersion: seq, bytes: 200, rows: 3, holders: [{ engine: 2 }, { engine: 3 }] });
  for (const id of [10n, 29n]) expect(atoms.at(space, binaryKey(integerKey(id)))?.id).toBe(into);
  expect(atoms.get(b)).toBeUndefined();
  // What was granted, or is on its way, for one of them finds it gone.
  expect(h.catalog.fenceHolds({ atom: b, originator: 2 as EngineId, ownershipVersion: 5 as Seq })).toBe(false);
  expect(h.catalog.objection(proposal(3, 3, { kind: "ready", atoms: [b] }))).toBe("stale");
});

test("it is refused: without a fence of each, by another, of no neighbours, of one, under an id that is there", () => {
  const h = new History();
  expect(h.catalog.objection(h.merge([a, b], {}, [a]))).toBe("malformed");
  expect(h.catalog.objection(h.merge([a, b], {}, [a, b], 3))).toBe("malformed");
  expect(h.catalog.objection(h.merge([a, c]))).toBe("malformed");
  expect(h.catalog.objection(h.merge([b, a]))).toBe("malformed");
  expect(h.catalog.objection(h.merge([a]))).toBe("malformed");
  expect(h.catalog.objection(h.merge([a, b], { into: d }))).toBe("malformed");
  const late = h.merge([a, b]);
  h.apply(proposal(2, 3, { kind: "handoff", to: 1 as EngineId, atoms: [b] }));
  expect(h.catalog.objection(late)).toBe("fence");
});

test("it waits for those who hold one of them alone, or have not got them yet", () => {
  const h = new History();
  h.apply(proposal(3, 1, { kind: "hold", atoms: [b, c] }));
  expect(h.catalog.objection(h.merge([a, b]))).toBe("stale");
  expect(h.catalog.objection(h.merge([b, c]))).toBe("stale");
  h.apply(proposal(3, 2, { kind: "ready", atoms: [b] }));
  expect(h.catalog.objection(h.merge([b, c]))).toBe("stale");
  h.apply(proposal(3, 3, { kind: "ready", atoms: [c] }));
  expect(h.catalog.objection(h.merge([b, c]))).toBe(null);
  h.apply({ kind: "leave", engine: 3 as EngineId, ids: [] });
  expect(h.catalog.objection(h.merge(ids))).toBe(null);
});

test("copies, records, and engines without the table's catalog come to the same", () => {
  const h = new History();
  const copy = Catalog.load(h.catalog.dump());
  h.catalog.takeDirty();
  const records = new Map<string, Uint8Array>(h.catalog.dump());
  const lacking = new Catalog();
  for (const entry of [boot(1, 11), boot(2), boot(3)]) lacking.apply(1 as Seq, entry);
  lacking.atoms.lack(space, 4);
  const entry = h.merge(ids);
  const seq = h.apply(entry);
  copy.apply(seq, entry);
  lacking.apply(seq, entry);
  expect(copy.dump()).toEqual(h.catalog.dump());
  expect(lacking.atoms.countOf(space)).toBe(1);
  for (const [name, bytes] of h.catalog.takeDirty()) {
    if (bytes === null) records.delete(name);
    else records.set(name, bytes);
  }
  expect(Catalog.load(records).dump()).toEqual(h.catalog.dump());
});
