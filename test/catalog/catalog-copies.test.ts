/** An engine that began from a copy (its store after a restart, a transfer, the catalogs that a Cache takes) must come to the same as one that was there. */
import { expect, test } from "vitest";
import { archiveRank } from "../../src/atoms/atom.js";
import { type AtomId, type NodeId, type Seq, type SpaceId, schemaAtom } from "../../src/base/ids.js";
import { wholeRange } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { type CatalogRecord, rootRecords, spaceRecords } from "../../src/catalog/catalog-records.js";
import type { Entry, ProposalBody } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, proposal, space } from "../engines/engine-parts.js";

/** One catalog from the beginning, and beside it a store that takes what is dirty after every entry. */
class Copied {
  /** As an Archive begins: from an empty store. */
  readonly catalog = Catalog.load(new Map());
  readonly store = new Map<string, Uint8Array>();
  seq = 0;

  apply(...entries: Entry[]): void {
    for (const entry of entries) {
      this.catalog.apply(++this.seq as Seq, entry);
      for (const [name, bytes] of this.catalog.takeDirty()) {
        if (bytes === null) this.store.delete(name);
        else this.store.set(name, bytes);
      }
    }
  }

  /** As a store gives its records: by name. */
  restarted(): Catalog {
    return Catalog.load(new Map([...this.store].sort(([left], [right]) => (left < right ? -1 : 1))));
  }
}

function dumpOf(catalog: Catalog): Record<string, string> {
  return Object.fromEntries([...catalog.dump()].map(([name, bytes]) => [name, Buffer.from(bytes).toString("hex")]));
}

test("a founder that is killed after its VOTERS are stored and before its BOOT still has a schema catalog", () => {
  const copied = new Copied();
  copied.apply({ kind: "noop" }, { kind: "voters", voters: [11 as NodeId] });
  const restarted = copied.restarted();
  expect(restarted.atoms.get(schemaAtom)).toBeDefined();
  restarted.apply(3 as Seq, boot(1, 11));
  expect(restarted.atoms.get(schemaAtom)?.originator).toBe(3);
});

function rows(changes: { key: number; bytes: number; oldBytes: number }[]): ProposalBody {
  const all = changes.map(({ key, bytes, oldBytes }) => ({
    key: integerKey(BigInt(key)),
    row: bytes === 0 ? null : Buffer.alloc(bytes),
    oldBytes,
    indexKeys: [],
  }));
  return { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows: all }] };
}

test("sizes that a SPLIT has guessed too small go no further down than to nothing, on all engines alike", () => {
  const copied = new Copied();
  copied.apply(boot(1, 11), boot(2), proposal(2, 1, createTable()), proposal(2, 2, rows([{ key: 1, bytes: 500, oldBytes: 0 }])));
  const piece = { atom: 77 as AtomId, low: integerKey(100n), taker: 0 as never, bytes: 5000, rows: 50 };
  copied.apply(
    proposal(2, 3, { kind: "split", atom, space, firstTaker: 0 as never, pieces: [piece], measured: null, sequenceFirst: 0n, sequenceNext: 0n }),
  );
  copied.apply(proposal(2, 4, rows([{ key: 1, bytes: 0, oldBytes: 500 }])));
  const restarted = copied.restarted();
  const last = proposal(2, 5, rows([{ key: 2, bytes: 300, oldBytes: 0 }]));
  copied.apply(last);
  restarted.apply(copied.seq as Seq, last);
  expect(dumpOf(restarted)).toEqual(dumpOf(copied.catalog));
});

/** Two nodes that stand at the same place for an atom. */
function equalNodes(): [number, number] {
  const seen = new Map<number, number>();
  for (let node = 1; ; node++) {
    const at = node * 7919 + (node % 5000) * 2 ** 33;
    const rank = archiveRank(atom, at as NodeId);
    const other = seen.get(rank);
    if (other !== undefined) return [other, at];
    seen.set(rank, at);
  }
}

test("two Archives of one rank: the same one takes an atom over, whatever order an engine knows them in", () => {
  const [left, right] = equalNodes();
  const copied = new Copied();
  copied.apply({ kind: "noop" }, { kind: "noop" }, boot(1, left), boot(2));
  // Ids of one digit and of two: their names' order is another than that of joining.
  for (let n = 0; n < 5; n++) copied.apply({ kind: "noop" });
  copied.apply(boot(3, right), proposal(4, 1, createTable()));
  const restarted = copied.restarted();
  const leave: Entry = { kind: "leave", engine: 4 as never, ids: [] };
  copied.apply(leave);
  restarted.apply(copied.seq as Seq, leave);
  expect(restarted.atoms.get(atom)?.originator).toBe(copied.catalog.atoms.get(atom)?.originator);
});

test("an engine without a store forgets which records have changed", () => {
  const catalog = new Catalog();
  catalog.apply(1 as Seq, boot(1, 11));
  catalog.forgetDirty();
  expect(catalog.takeDirty().size).toBe(0);
  expect(space as SpaceId).toBe(131_073);
});

/** All records of an iterator. */
function taken(records: Iterator<CatalogRecord, undefined>): Map<string, Uint8Array> {
  const all = new Map<string, Uint8Array>();
  for (let next = records.next(); next.done !== true; next = records.next()) all.set(...next.value);
  return all;
}

test("a copy of the root catalog lacks the atoms of tables, and counts them, moves sequences and drops tables like a whole one", () => {
  const copied = new Copied();
  copied.apply(boot(1, 11), boot(2), proposal(2, 1, createTable()));
  const records = taken(rootRecords(copied.catalog));
  expect([...records.keys()].filter((name) => name.startsWith("a:"))).toEqual([`a:${schemaAtom}`]);
  const root = Catalog.load(records);
  expect(root.atoms.lacking().has(space)).toBe(true);
  expect(root.atoms.total).toBe(2);
  const piece = { atom: 77 as AtomId, low: integerKey(33n), taker: 0 as never, bytes: 0, rows: 0 };
  const split = proposal(2, 2, {
    kind: "split",
    atom,
    space,
    firstTaker: 0 as never,
    pieces: [piece],
    measured: null,
    sequenceFirst: 1n,
    sequenceNext: 33n,
  });
  copied.apply(split);
  root.apply(copied.seq as Seq, split);
  expect(root.atoms.total).toBe(copied.catalog.atoms.total);
  expect(root.schema.tables.get(space)).toEqual(copied.catalog.schema.tables.get(space));
  const leave: Entry = { kind: "leave", engine: 2 as never, ids: [] };
  copied.apply(leave);
  root.apply(copied.seq as Seq, leave);
  expect(dumpOf(root)).toEqual(dumpOf(Catalog.load(taken(rootRecords(copied.catalog)))));
  const drop = { kind: "ddl", sql: "drop table t", upserts: [], drops: ["t"], touchedTables: [space], newAtoms: [] } as const;
  const dropped = proposal(1, 1, { kind: "transaction", exists: [], parts: [drop] });
  expect(root.apply(9 as Seq, dropped)).toMatchObject([{ kind: "spaceGone", space }, {}]);
  expect(root.atoms.lacking().has(space)).toBe(false);
});

test("records that are being sent are of the seq at which they were asked for", () => {
  const copied = new Copied();
  copied.apply(boot(1, 11), boot(2), proposal(2, 1, createTable()));
  const [root, atoms] = [rootRecords(copied.catalog), spaceRecords(copied.catalog, space, [wholeRange])];
  const before = [dumpOf(copied.catalog), dumpOf(Catalog.load(taken(rootRecords(copied.catalog))))] as const;
  copied.apply(proposal(2, 2, rows([{ key: 1, bytes: 300, oldBytes: 0 }])), boot(3), { kind: "leave", engine: 2 as never, ids: [] });
  const sent = taken(root);
  expect(dumpOf(Catalog.load(sent))).toEqual(before[1]);
  for (const [name, bytes] of taken(atoms)) sent.set(name, bytes);
  sent.delete(`c:${space}`);
  expect(dumpOf(Catalog.load(sent))).toEqual(before[0]);
});
