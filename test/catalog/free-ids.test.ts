/** Ids that are given back at LEAVE, and handed out again. */
import { describe, expect, test } from "vitest";
import type { AtomId, EngineId, Seq } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { areFree, type FreeIds, freeRangesMax, withFreeIds, withoutFreeIds, withoutFreeKey } from "../../src/catalog/free-ids.js";
import type { Entry, ProposalBody, SplitPiece } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, proposal, space } from "../engines/engine-parts.js";

const ranges = (list: readonly FreeIds[]): bigint[][] => list.map(({ first, next }) => [first, next]);
const keyOf = (id: bigint): string => binaryKey(integerKey(id));

describe("the list", () => {
  const list = withFreeIds(withFreeIds([], 5n, 33n, 100n), 40n, 65n, 100n);

  test("takes ranges that were in blocks and are not there yet", () => {
    expect(ranges(list)).toEqual([
      [5n, 33n],
      [40n, 65n],
    ]);
    for (const [first, next] of [
      [90n, 101n],
      [32n, 34n],
      [70n, 70n],
    ] as const)
      expect(withFreeIds(list, first, next, 100n)).toBe(list);
  });

  test("is bounded", () => {
    let many: readonly FreeIds[] = [];
    for (let first = 1n; first < 500n; first += 2n) many = withFreeIds(many, first, first + 1n, 1000n);
    expect(many).toHaveLength(freeRangesMax);
  });

  test("gives up what is taken, in part or whole", () => {
    expect(areFree(list, 5n, 33n)).toBe(true);
    expect(areFree(list, 5n, 34n)).toBe(false);
    expect(ranges(withoutFreeIds(list, 10n, 20n))).toEqual([
      [5n, 10n],
      [20n, 33n],
      [40n, 65n],
    ]);
    expect(ranges(withoutFreeIds(list, 1n, 50n))).toEqual([[50n, 65n]]);
    expect(withoutFreeIds(list, 33n, 40n)).toBe(list);
  });

  test("gives a range up where a row is put in it", () => {
    expect(ranges(withoutFreeKey(list, keyOf(5n)))).toEqual([[40n, 65n]]);
    expect(withoutFreeKey(list, keyOf(33n))).toBe(list);
  });
});

/** Archive 1, Caches 2 and 3. Cache 2 has made the table; Cache 3 has the block 1…32. */
function populated(): { catalog: Catalog; apply(...entries: Entry[]): void; free(): bigint[][] } {
  const catalog = new Catalog();
  let seq = 0;
  const apply = (...entries: Entry[]): void => {
    for (const entry of entries) catalog.apply(++seq as Seq, entry);
  };
  apply(boot(1, 11), boot(2), boot(3), proposal(2, 1, createTable()));
  apply(proposal(2, 2, block(atom, 3, 1n, 33n, [1, 33])));
  return { catalog, apply, free: () => ranges(catalog.schema.tables.get(space)?.freeIds ?? []) };
}

/** `cuts`: where pieces begin; the first that begins at the block is the taker's. */
function block(from: AtomId, taker: number, first: bigint, next: bigint, cuts: readonly number[]): ProposalBody {
  const pieces = cuts.map(
    (cut): SplitPiece => ({
      atom: (from + 100 + cut) as AtomId,
      low: integerKey(BigInt(cut)),
      taker: (BigInt(cut) === first ? taker : 0) as EngineId,
      bytes: 0,
      rows: 0,
    }),
  );
  const firstTaker = pieces.some((piece) => piece.taker !== 0) ? 0 : taker;
  return { kind: "split", atom: from, space, firstTaker: firstTaker as EngineId, pieces, measured: null, sequenceFirst: first, sequenceNext: next };
}

const leave = (first: bigint, next: bigint): Entry => ({ kind: "leave", engine: 3 as EngineId, ids: [{ space, first, next }] });
const put = (id: bigint): ProposalBody => ({
  kind: "transaction",
  exists: [],
  parts: [{ kind: "rows", table: space, rows: [{ key: integerKey(id), row: Buffer.from([0]), oldBytes: 0, indexKeys: [] }] }],
});

test("LEAVE gives ids back, once; the next block is taken from them, and is the whole range", () => {
  const { catalog, apply, free } = populated();
  apply(leave(7n, 33n));
  expect(free()).toEqual([[7n, 33n]]);
  apply(leave(40n, 50n));
  expect(free()).toEqual([[7n, 33n]]);
  const at = catalog.atoms.at(space, keyOf(7n));
  if (at === undefined) throw new Error("no atom");
  const fences = [{ atom: at.id, originator: at.originator, ownershipVersion: at.ownershipVersion }];
  const objection = (body: ProposalBody): unknown => catalog.objection(proposal(2, 3, body, { fences }));
  expect(objection(block(at.id, 2, 6n, 33n, [6]))).toBe("stale");
  expect(objection(block(at.id, 2, 7n, 33n, [7]))).toBe(null);
  apply(proposal(2, 3, block(at.id, 2, 7n, 33n, [7])));
  expect(free()).toEqual([]);
  expect(catalog.schema.tables.get(space)?.sequenceNext).toBe(33n);
  expect(catalog.atoms.at(space, keyOf(32n))).toMatchObject({ originator: 2, holders: [{ engine: 2 }] });
  expect(objection(block(at.id, 2, 7n, 33n, [7]))).toBe("fence");
});

test("a block that is the whole of its atom makes no other piece", () => {
  const { catalog, apply } = populated();
  apply(leave(1n, 33n));
  const at = catalog.atoms.at(space, keyOf(1n));
  if (at === undefined) throw new Error("no atom");
  const fences = [{ atom: at.id, originator: at.originator, ownershipVersion: at.ownershipVersion }];
  const whole = block(at.id, 2, 1n, 33n, []);
  expect(catalog.objection(proposal(2, 3, whole, { fences }))).toBe(null);
  const count = catalog.atoms.countOf(space);
  apply(proposal(2, 3, whole));
  expect(catalog.atoms.countOf(space)).toBe(count);
  expect(catalog.atoms.at(space, keyOf(1n))).toMatchObject({ id: at.id, originator: 2 });
});

test("a row that is put at a free id ends its range: no engine takes it for empty", () => {
  const { catalog, apply, free } = populated();
  apply(leave(7n, 33n), proposal(2, 3, put(6n)));
  expect(free()).toEqual([[7n, 33n]]);
  apply(proposal(2, 4, put(20n)));
  expect(free()).toEqual([]);
  expect(Catalog.load(catalog.dump()).dump()).toEqual(catalog.dump());
});

test("free ids go with copies of the catalog, and stay through DDL on their table", () => {
  const { catalog, apply, free } = populated();
  apply(leave(7n, 33n));
  expect(Catalog.load(catalog.dump()).schema.tables.get(space)?.freeIds).toEqual(catalog.schema.tables.get(space)?.freeIds);
  const body = createTable();
  if (body.kind !== "transaction" || body.parts[0]?.kind !== "ddl") throw new Error("a table's DDL");
  apply(proposal(2, 3, { ...body, parts: [{ ...body.parts[0], newAtoms: [] }] }));
  expect(free()).toEqual([[7n, 33n]]);
});
