/** Blocks of ids at their originator: only of atoms that the taker has named, since it must know what it is given. */
import { expect, test } from "vitest";
import type { AtomId, EngineId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import { decodeEntry, type ProposalBody, type SplitBody } from "../../src/messages/wire/entry.js";
import { atom, boot, CacheParts, createTable, proposal, space } from "./engine-parts.js";

const [taker, other] = [3, 4] as EngineId[] as [EngineId, EngineId];

/** The Cache is engine 2, and has made the table. */
function begun(): CacheParts {
  const parts = new CacheParts();
  for (const entry of [boot(1, 11), boot(99), boot(3), boot(4), proposal(2, 1, createTable())]) parts.apply(entry);
  parts.take();
  return parts;
}

function cutAt(low: bigint, id: number): ProposalBody {
  const pieces = [{ atom: id as AtomId, low: integerKey(low), taker: 0 as EngineId, bytes: 0, rows: 0 }];
  return { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n };
}

/** Blocks that are proposed now; they are ordered and applied. */
function blocks(parts: CacheParts): { of: AtomId; to: EngineId | undefined }[] {
  const entries = parts.sent().flatMap(({ message }) => (message.kind === "propose" ? [decodeEntry(message.entry)] : []));
  for (const entry of entries) parts.apply(entry);
  return entries
    .flatMap((entry) => (entry.kind === "proposal" && entry.body.kind === "split" ? [entry.body] : []))
    .map((body: SplitBody) => ({
      of: body.atom,
      to: body.firstTaker !== 0 ? body.firstTaker : body.pieces.find((piece) => piece.taker !== 0)?.taker,
    }));
}

test("a block comes from the atom that its taker has named; who waits behind another's block is served from what is split off", () => {
  const parts = begun();
  parts.desk.wantBlock(space, taker, atom, 32);
  parts.desk.wantBlock(space, other, atom, 32);
  expect(blocks(parts)).toEqual([{ of: atom, to: taker }]);
  expect(blocks(parts)).toMatchObject([{ to: other }]);
  expect(blocks(parts)).toEqual([]);
});

test("of another atom than the named one nothing is given: its taker asks again, and may name that", () => {
  const parts = begun();
  parts.apply(proposal(2, 1000, cutAt(0n, atom + 7)));
  parts.desk.wantBlock(space, taker, atom, 32);
  expect(blocks(parts)).toEqual([]);
  parts.desk.wantBlock(space, taker, (atom + 7) as AtomId, 32);
  expect(blocks(parts)).toEqual([{ of: atom + 7, to: taker }]);
});

test("a taker that is ahead names what is not known here yet: it waits for it, and holds nobody up", () => {
  const parts = begun();
  parts.desk.wantBlock(space, taker, (atom + 7) as AtomId, 32);
  parts.desk.wantBlock(space, other, atom, 32);
  expect(blocks(parts)).toEqual([{ of: atom, to: other }]);
  const rest = parts.context.catalog.atoms.ofSpace(space).at(-1);
  // It never came: the taker asks for something else by then.
  parts.wait(400);
  parts.desk.wantBlock(space, taker, rest?.id as AtomId, 32);
  expect(blocks(parts)).toMatchObject([{ of: rest?.id, to: taker }]);
});
