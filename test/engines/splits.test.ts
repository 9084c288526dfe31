/** design.md §5: an atom is split at 128 KiB. */
import { expect, test } from "vitest";
import type { AtomId, EngineId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import { type AtomSize, decodeEntry, type ProposalBody } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, proposal, space } from "./engine-parts.js";

const rowBytes = 10_000;
const rowCount = 40;

/** The Cache under test originates the table, which has grown beyond what an atom may have. */
function grown(): CacheParts {
  const c = new CacheParts();
  for (const [nonce, node] of [
    [1, 11],
    [2, 0],
    [99, 0],
  ] as const)
    c.apply(boot(nonce, node));
  c.apply(proposal(3, 1, createTable()));
  const rows = Array.from({ length: rowCount }, (_, index) => ({
    key: integerKey(BigInt(index + 1)),
    row: Buffer.alloc(rowBytes),
    oldBytes: 0,
    indexKeys: [],
  }));
  c.apply(proposal(3, 2, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] } as unknown as ProposalBody));
  c.take();
  return c;
}

/** What it proposes. */
function proposed(c: CacheParts): ProposalBody | undefined {
  c.proposals.flush();
  for (const { message } of c.sent()) {
    if (message.kind !== "propose") continue;
    const entry = decodeEntry(message.entry);
    if (entry.kind === "proposal" && entry.engine === (3 as EngineId)) return entry.body;
  }
  return undefined;
}

/** `from`: the row at which the question began; the atom's beginning where left out. */
function answer(c: CacheParts, cuts: readonly bigint[], pieces: readonly AtomSize[], from?: bigint): void {
  const low = from === undefined ? Buffer.alloc(0) : integerKey(from);
  c.desk.splits.onCuts({ kind: "cutsReply", atom, low, cuts: cuts.map((id) => integerKey(id)), pieces });
}

/** The questions of one look: where each begins. */
function questions(c: CacheParts): Buffer[] {
  return c.sent().flatMap(({ message }) => (message.kind === "cutsRequest" ? [message.low] : []));
}

function sizeOf(c: CacheParts): AtomSize {
  const { bytes = 0, rows = 0 } = c.context.catalog.atoms.get(atom as AtomId) ?? {};
  return { bytes, rows };
}

const piece = (rows: number): AtomSize => ({ bytes: rows * rowBytes, rows });

test("whole: all pieces have the sizes that the Archive tells", () => {
  const c = grown();
  c.desk.tick();
  expect(questions(c)).toEqual([Buffer.alloc(0)]);
  answer(c, [11n, 21n, 31n], [piece(10), piece(10), piece(10), piece(10)]);
  expect(proposed(c)).toMatchObject({
    kind: "split",
    atom,
    pieces: [piece(10), piece(10), piece(10)],
    measured: { first: piece(10), counted: sizeOf(c) },
  });
});

test("more: what the Archive has not looked at yet is asked for before anything is cut", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  answer(c, [9n, 17n], [piece(8), piece(8)]);
  expect(proposed(c)).toBeUndefined();
  c.desk.tick();
  expect(questions(c)).toEqual([]);
  const d = grown();
  d.desk.tick();
  d.sent();
  answer(d, [9n, 17n], [piece(8), piece(8)]);
  expect(questions(d)).toEqual([integerKey(17n)]);
  // The answer to the question before, once more.
  answer(d, [9n, 17n], [piece(8), piece(8)]);
  answer(d, [25n], [piece(8), piece(16)], 17n);
  expect(proposed(d)).toMatchObject({ kind: "split", pieces: [piece(8), piece(8), piece(16)], measured: { first: piece(8) } });
});

test("enough: one SPLIT has so many pieces at most, and the last one the rest of the weight", () => {
  const c = grown();
  c.desk.tick();
  const cuts = Array.from({ length: 1024 }, (_, index) => BigInt(index + 2));
  for (let from = 0; from < cuts.length; from += 16) {
    c.sent();
    const some = cuts.slice(from, from + 16);
    answer(
      c,
      some,
      some.map(() => ({ bytes: 100, rows: 1 })),
      cuts[from - 1],
    );
  }
  const body = proposed(c);
  expect(body?.kind === "split" ? body.pieces.length : 0).toBe(1024);
  expect(body?.kind === "split" ? body.pieces.at(-1)?.bytes : 0).toBe(sizeOf(c).bytes - 1024 * 100);
});

test("drifted: what has less than it counts is put right, and is asked for no more", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  answer(c, [], [piece(3)]);
  const body = proposed(c);
  expect(body).toMatchObject({ kind: "split", pieces: [], measured: { first: piece(3), counted: sizeOf(c) } });
  const before = c.context.catalog.atoms.get(atom as AtomId);
  c.apply(proposal(3, 3, body as ProposalBody));
  expect(sizeOf(c)).toEqual(piece(3));
  expect(c.context.catalog.atoms.get(atom as AtomId)?.ownershipVersion).toBe(before?.ownershipVersion);
  c.desk.tick();
  expect(questions(c)).toEqual([]);
});

test("uncuttable: it is left alone for a while, and takes nobody's place", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  answer(c, [], [piece(40)]);
  expect(proposed(c)).toBeUndefined();
  c.context.nowMs += 10_000;
  c.desk.tick();
  expect(questions(c)).toEqual([]);
  c.context.nowMs += 25_000;
  c.desk.tick();
  expect(questions(c)).toHaveLength(1);
});

test("silent: another question after three seconds, from the beginning", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  answer(c, [9n, 17n], [piece(8), piece(8)]);
  c.sent();
  c.context.nowMs += 3100;
  c.desk.tick();
  expect(questions(c)).toEqual([Buffer.alloc(0)]);
  // The answer that was waited for before is of other rows than those that are asked for now.
  answer(c, [25n], [piece(8), piece(16)], 17n);
  expect(proposed(c)).toBeUndefined();
});

test("moved: what was measured of an atom that was split meanwhile is forgotten", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  const cut = { atom: 77 as AtomId, low: integerKey(30n), taker: 0 as EngineId, ...piece(11) };
  c.apply(
    proposal(3, 3, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces: [cut], measured: null, sequenceFirst: 0n, sequenceNext: 0n }),
  );
  answer(c, [11n], [piece(10), piece(30)]);
  expect(proposed(c)).toBeUndefined();
});

test("an answer with fewer sizes than cuts splits nothing", () => {
  const c = grown();
  c.desk.tick();
  c.sent();
  answer(c, [9n, 17n], [piece(1)]);
  expect(proposed(c)).toBeUndefined();
});

test("what has come since an atom was measured goes to its last piece", () => {
  const c = grown();
  const counted = sizeOf(c);
  const rows = [{ key: integerKey(100n), row: Buffer.alloc(5000), oldBytes: 0, indexKeys: [] }];
  c.apply(proposal(3, 3, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] } as unknown as ProposalBody));
  const grownBy = sizeOf(c).bytes - counted.bytes;
  const last = { atom: 77 as AtomId, low: integerKey(21n), taker: 0 as EngineId, ...piece(20) };
  const measured = { first: piece(20), counted };
  c.apply(proposal(3, 4, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces: [last], measured, sequenceFirst: 0n, sequenceNext: 0n }));
  expect(sizeOf(c)).toEqual(piece(20));
  expect(c.context.catalog.atoms.get(77 as AtomId)).toMatchObject({ bytes: 20 * rowBytes + grownBy, rows: 21 });
});
