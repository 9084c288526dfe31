import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, NodeId, Nonce, ProposalSeq, Seq, SpaceId } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import type { Entry, ProposalBody, ProposalEntry } from "../../src/messages/wire/entry.js";

const table = 131_073 as SpaceId;
const firstAtom = 2_097_153 as AtomId;

/** A catalog that numbers its entries. */
function history(): { catalog: Catalog; apply(entry: Entry): Seq } {
  const catalog = new Catalog();
  let seq = 0;
  return {
    catalog,
    apply(entry) {
      catalog.apply(++seq as Seq, entry);
      return seq as Seq;
    },
  };
}

function boot(node: number, nonce: number): Entry {
  const kind = node > 0 ? "archive" : "cache";
  return {
    kind: "boot",
    engineKind: kind,
    nodeId: node as NodeId,
    nonce: nonce as Nonce,
    endpoint: `e${nonce}` as Endpoint,
    http: "-",
    pid: 1,
    formatVersion: 1,
  };
}

function proposal(engine: number, n: number, body: ProposalBody, more: Partial<ProposalEntry> = {}): ProposalEntry {
  return {
    kind: "proposal",
    engine: engine as EngineId,
    proposalSeq: n as ProposalSeq,
    transactions: [],
    snapshot: 0 as Seq,
    fences: [],
    schemaVersions: [],
    body,
    ...more,
  };
}

function createTable(): ProposalBody {
  return {
    kind: "transaction",
    exists: [],
    parts: [
      {
        kind: "ddl",
        sql: "create table t(id integer primary key)",
        upserts: [
          {
            type: "table",
            name: "t",
            tableName: "t",
            sql: "create table t(id integer primary key)",
            space: table,
            columns: [{ id: 1, name: "id" }],
            uniques: [],
            indexed: [],
          },
        ],
        drops: [],
        touchedTables: [table],
        newAtoms: [{ space: table, atom: firstAtom, indexOf: 0 as SpaceId }],
      },
    ],
  };
}

/** Archive 1, Caches 2 and 3; Cache 2 made table t. */
function populated(): ReturnType<typeof history> {
  const h = history();
  h.apply(boot(100, 11));
  h.apply(boot(0, 12));
  h.apply(boot(0, 13));
  h.apply(proposal(2, 1, createTable()));
  return h;
}

function splitBlock(taker: number, atom: AtomId, piece: number, first: bigint, next: bigint, whole: boolean): ProposalBody {
  const low = integerKey(first);
  const rest = { atom: (firstAtom + piece) as AtomId, low: integerKey(next), taker: 0 as EngineId, bytes: 0, rows: 0 };
  const block = { atom: (firstAtom + piece + 1) as AtomId, low, taker: taker as EngineId, bytes: 0, rows: 0 };
  return {
    kind: "split",
    atom,
    space: table,
    firstTaker: (whole ? taker : 0) as EngineId,
    pieces: whole ? [rest] : [block, rest],
    measured: null,
    sequenceFirst: first,
    sequenceNext: next,
  };
}

test("the maker of a table is its atom's ready holder and originator", () => {
  const { catalog } = populated();
  expect(catalog.atoms.get(firstAtom)).toMatchObject({ originator: 2, ownershipVersion: 4, holders: [{ engine: 2, state: "ready" }] });
});

test("LEAVE of the originator passes the atom to the next ready holder, at the LEAVE's seq; without one to an Archive", () => {
  const { catalog, apply } = populated();
  apply(proposal(3, 1, { kind: "hold", atoms: [firstAtom] }));
  apply(proposal(3, 2, { kind: "ready", atoms: [firstAtom] }));
  const seq = apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(catalog.atoms.get(firstAtom)).toMatchObject({ originator: 3, ownershipVersion: seq });
  const later = apply({ kind: "leave", engine: 3 as EngineId, ids: [] });
  expect(catalog.atoms.get(firstAtom)).toMatchObject({ originator: 1, ownershipVersion: later, holders: [] });
});

test("a joining holder never originates", () => {
  const { catalog, apply } = populated();
  apply(proposal(3, 1, { kind: "hold", atoms: [firstAtom] }));
  apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(catalog.atoms.get(firstAtom)?.originator).toBe(1);
});

test("BOOT of a node ends its former engine id, and takes over what only it could originate", () => {
  const { catalog, apply } = populated();
  apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  const seq = apply(boot(100, 21));
  expect(catalog.members.has(1 as EngineId)).toBe(false);
  expect(catalog.atoms.get(firstAtom)).toMatchObject({ originator: seq });
});

test("an id block goes to its taker, ready and first, before the former holders", () => {
  const { catalog, apply } = populated();
  const seq = apply(proposal(2, 2, splitBlock(3, firstAtom, 1, 1n, 33n, false)));
  const block = catalog.atoms.at(table, binaryKey(integerKey(7n)));
  expect(block).toMatchObject({ originator: 3, ownershipVersion: seq });
  expect(block?.holders.map((holder) => holder.engine)).toEqual([3, 2]);
  expect(catalog.atoms.at(table, binaryKey(integerKey(33n)))?.originator).toBe(2);
  expect(catalog.atoms.at(table, binaryKey(integerKey(0n)))?.id).toBe(firstAtom);
  expect(catalog.schema.tables.get(table)?.sequenceNext).toBe(33n);
});

test("an explicit id beyond the sequence moves it", () => {
  const { catalog, apply } = populated();
  const rows = [{ key: integerKey(500n), row: Buffer.from([0]), oldBytes: 0, indexKeys: [] }];
  apply(proposal(2, 2, { kind: "transaction", exists: [], parts: [{ kind: "rows", table, rows }] }));
  expect(catalog.schema.tables.get(table)?.sequenceNext).toBe(501n);
  expect(catalog.atoms.get(firstAtom)).toMatchObject({ rows: 1 });
});

test("a fence holds only for the originator and the version that it names", () => {
  const { catalog, apply } = populated();
  const fence = { atom: firstAtom, originator: 2 as EngineId, ownershipVersion: 4 as Seq };
  const body: ProposalBody = { kind: "transaction", exists: [], parts: [] };
  expect(catalog.objection(proposal(2, 2, body, { fences: [fence] }))).toBeNull();
  apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(catalog.objection(proposal(3, 1, body, { fences: [fence] }))).toBe("fence");
  expect(catalog.objection(proposal(3, 1, body, { schemaVersions: [{ table, version: 3 as Seq }] }))).toBe("schema");
});

test("a block that begins before the sequence is stale, pieces out of order are malformed", () => {
  const { catalog, apply } = populated();
  apply(proposal(2, 2, splitBlock(3, firstAtom, 1, 1n, 33n, false)));
  const rest = catalog.atoms.at(table, binaryKey(integerKey(33n)));
  const fences = [{ atom: rest?.id as AtomId, originator: 2 as EngineId, ownershipVersion: rest?.ownershipVersion as Seq }];
  const stale = splitBlock(3, rest?.id as AtomId, 5, 32n, 64n, true);
  expect(catalog.objection(proposal(2, 3, stale, { fences }))).toBe("stale");
  const bad = {
    ...splitBlock(3, rest?.id as AtomId, 5, 33n, 64n, true),
    pieces: [{ atom: 9 as AtomId, low: integerKey(1n), taker: 0 as EngineId, bytes: 0, rows: 0 }],
  } as ProposalBody;
  expect(catalog.objection(proposal(2, 3, bad, { fences }))).toBe("malformed");
});

test("dump and load give the same state, and dirty records bring an older copy up to it", () => {
  const { catalog, apply } = populated();
  const copy = Catalog.load(catalog.dump());
  expect(copy.dump()).toEqual(catalog.dump());
  catalog.takeDirty();
  const records = new Map<string, Uint8Array>(catalog.dump());
  apply(proposal(2, 2, splitBlock(3, firstAtom, 1, 1n, 33n, false)));
  apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  for (const [name, bytes] of catalog.takeDirty()) {
    if (bytes === null) records.delete(name);
    else records.set(name, bytes);
  }
  expect(Catalog.load(records).dump()).toEqual(catalog.dump());
});

test("a dropped table takes its atoms with it", () => {
  const { catalog, apply } = populated();
  const part = { kind: "ddl", sql: "drop table t", upserts: [], drops: ["t"], touchedTables: [table], newAtoms: [] } as const;
  apply(proposal(2, 2, { kind: "transaction", exists: [], parts: [part] }));
  expect(catalog.atoms.ofSpace(table)).toEqual([]);
  expect(catalog.schema.tables.size).toBe(0);
});
