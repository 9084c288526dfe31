/** Which atoms an originator merges, or hands over to be merged: the tables that head merges.ts. */
import { expect, test } from "vitest";
import type { Atom } from "../../src/atoms/atom.js";
import type { AtomId, EngineId, SpaceId } from "../../src/base/ids.js";
import { binaryKey } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import { mergedBytesMax } from "../../src/engines/merges.js";
import { decodeEntry, type ProposalBody } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, proposal, sentOf, space } from "./engine-parts.js";

const third = 3 as EngineId;
const roundsMs = 2500;

/** This engine is Cache 2, the other is 3. Its table is cut at 100, 200, …; new ids are above all. `bytes` of the pieces behind the first. */
function cut(...bytes: number[]): CacheParts {
  const parts = new CacheParts();
  parts.apply(boot(1, 11));
  parts.apply(boot(99));
  parts.apply(boot(3));
  parts.apply(proposal(2, 1, createTable()));
  const key = integerKey(BigInt(100 * (bytes.length + 2)));
  const rows = [{ key, row: Buffer.alloc(4), oldBytes: 0, indexKeys: [] }];
  parts.apply(proposal(2, 2, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }));
  const pieces = [...bytes, 0].map((size, index) => ({
    atom: (atom + 1 + index) as AtomId,
    low: integerKey(BigInt(100 * (index + 1))),
    taker: 0 as EngineId,
    bytes: size,
    rows: 1,
  }));
  parts.apply(proposal(2, 3, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n }));
  parts.take();
  return parts;
}

function nth(...places: number[]): AtomId[] {
  return places.map((place) => (atom + place) as AtomId);
}

/** What it proposes within some rounds, undecided. */
function proposed(parts: CacheParts, ms = roundsMs): ProposalBody[] {
  const bodies = sentOf(parts.wait(ms)).flatMap(({ message }) => {
    const entry = message.kind === "propose" ? decodeEntry(message.entry) : null;
    return entry?.kind === "proposal" ? [entry.body] : [];
  });
  // Those that nobody decides are sent again.
  return [...new Map(bodies.map((body) => [JSON.stringify(body, (_, value) => (typeof value === "bigint" ? Number(value) : value)), body])).values()];
}

function merges(parts: CacheParts, ms = roundsMs): (readonly AtomId[])[] {
  return proposed(parts, ms).flatMap((body) => (body.kind === "merge" ? [body.atoms] : []));
}

test("small neighbours are merged, but for the one that the next ids come from", () => {
  expect(merges(cut(0, 100, 0))).toEqual([nth(0, 1, 2, 3)]);
});

test("no sooner than they have stayed as they are for a round", () => {
  const parts = cut(0, 100);
  expect(merges(parts, 1500)).toEqual([]);
  parts.apply(proposal(3, 1, { kind: "hold", atoms: nth(0, 1, 2) }));
  expect(merges(parts, 900)).toEqual([]);
});

test("a large one stays, and a group is no larger than half a piece of a SPLIT", () => {
  const half = mergedBytesMax / 2;
  expect(merges(cut(mergedBytesMax + 1, 0, 10))).toEqual([nth(2, 3)]);
  expect(merges(cut(half, half, half, half))).toEqual([nth(0, 1, 2), nth(3, 4)]);
});

test("what somebody writes is left alone, its neighbours are merged", () => {
  const parts = cut(0, 0, 0, 0, 0);
  const found: (readonly AtomId[])[] = [];
  for (let turn = 0; turn < 20; turn++) {
    const rows = [{ key: integerKey(250n), row: Buffer.alloc(4), oldBytes: turn === 0 ? 0 : 4, indexKeys: [] }];
    parts.apply(proposal(2, 4 + turn, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }));
    found.push(...merges(parts, 200));
  }
  // Sent again and again, since nobody decides it.
  expect([...new Set(found.map((atoms) => atoms.join()))]).toEqual([nth(0, 1).join(), nth(3, 4, 5).join()]);
});

test("what is granted just now is left alone; while a MERGE is under way, nothing is granted there", () => {
  const parts = cut(0, 0);
  const at = (id: number): Atom => parts.context.catalog.atoms.at(space, binaryKey(integerKey(BigInt(id)))) as Atom;
  const ask = (transaction: number, id: number): string => {
    const { id: named, originator, ownershipVersion } = at(id);
    const items = [{ space: space as SpaceId, key: binaryKey(integerKey(BigInt(id))), use: "write" as const }];
    const age = { beginMs: 1, engine: third, counter: transaction };
    let outcome = "waits";
    const request = { engine: third, transaction, attempt: 1, age, snapshot: parts.context.appliedSeq, items, wholeSpaces: [], holdsNothing: true };
    parts.desk.ask(request, [{ atom: named, originator, ownershipVersion }], (given) => {
      outcome = given.kind;
    });
    return outcome;
  };
  expect(ask(1, 150)).toBe("granted");
  expect(merges(parts)).toEqual([]);
  parts.desk.release(third, 1, 1);
  expect(merges(parts)).toEqual([nth(0, 1, 2)]);
  expect(ask(2, 150)).toBe("waits");
});

test("another's neighbour to the left: handed over to it; to the right: that is the other's to do", () => {
  const parts = cut(0, 0, 0);
  for (const kind of ["hold", "ready"] as const) parts.apply(proposal(3, 1, { kind, atoms: nth(0, 1, 2, 3, 4) }));
  parts.apply(proposal(2, 9, { kind: "handoff", to: third, atoms: nth(1) }));
  expect(proposed(parts)).toEqual([{ kind: "merge", space, atoms: nth(2, 3), into: expect.any(Number) }]);
  const other = cut(0, 0);
  for (const kind of ["hold", "ready"] as const) other.apply(proposal(3, 1, { kind, atoms: nth(0, 1, 2, 3) }));
  other.apply(proposal(2, 9, { kind: "handoff", to: third, atoms: nth(0, 2) }));
  expect(proposed(other)).toEqual([{ kind: "handoff", to: third, atoms: nth(1) }]);
});

test("the block whose ids this engine gives out itself is not handed over", () => {
  const parts = cut(0, 0);
  const { engine } = parts.context;
  for (const kind of ["hold", "ready"] as const) parts.apply(proposal(3, 1, { kind, atoms: nth(0, 1, 2, 3) }));
  parts.apply(proposal(2, 9, { kind: "handoff", to: third, atoms: nth(2, 3) }));
  const first = parts.context.catalog.schema.tables.get(space)?.sequenceNext ?? 0n;
  const pieces = [first, first + 32n].map((low, index) => ({
    atom: (atom + 30 + index) as AtomId,
    low: integerKey(low),
    taker: index === 0 ? engine : (0 as EngineId),
    bytes: 0,
    rows: 0,
  }));
  parts.apply(
    proposal(3, 2, {
      kind: "split",
      atom: nth(3)[0] as AtomId,
      space,
      firstTaker: 0 as EngineId,
      pieces,
      measured: null,
      sequenceFirst: first,
      sequenceNext: first + 32n,
    }),
  );
  expect(proposed(parts).filter(({ kind }) => kind === "handoff")).toEqual([]);
});
