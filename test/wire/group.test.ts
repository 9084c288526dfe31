import fc from "fast-check";
import { expect, test } from "vitest";
import { MalformedBytesError } from "../../src/base/bytes.js";
import type { AtomId, EngineId, ProposalSeq, Seq, SpaceId } from "../../src/base/ids.js";
import {
  decodeEntry,
  encodeBody,
  encodeEntry,
  encodeProposal,
  type Part,
  type ProposalHeader,
  type RowChange,
  type TransactionBody,
} from "../../src/messages/wire/entry.js";

const number = fc.nat({ max: 2 ** 40 });
const bytes = fc.uint8Array({ maxLength: 12 }).map((array) => Buffer.from(array));
const spaceKey = fc.record({ space: fc.nat({ max: 3 }).map((id) => id as SpaceId), key: bytes });
const change: fc.Arbitrary<RowChange> = fc.record({
  key: bytes,
  row: fc.option(bytes, { nil: null }),
  oldBytes: fc.nat({ max: 1000 }),
  indexKeys: fc.array(spaceKey, { maxLength: 2 }),
});
const rowsPart: fc.Arbitrary<Part> = fc.record({
  kind: fc.constant("rows" as const),
  table: fc.nat({ max: 3 }).map((id) => id as SpaceId),
  rows: fc.array(change, { maxLength: 3 }),
});
const ddlPart: fc.Arbitrary<Part> = fc.record({
  kind: fc.constant("ddl" as const),
  sql: fc.string({ maxLength: 10 }),
  upserts: fc.constant([]),
  drops: fc.array(fc.string({ maxLength: 5 }), { maxLength: 2 }),
  touchedTables: fc.array(
    number.map((id) => id as SpaceId),
    { maxLength: 2 },
  ),
  newAtoms: fc.array(
    fc.record({ space: number.map((id) => id as SpaceId), atom: number.map((id) => id as AtomId), indexOf: fc.constant(0 as SpaceId) }),
    {
      maxLength: 2,
    },
  ),
});
const transaction: fc.Arbitrary<TransactionBody> = fc.record({
  kind: fc.constant("transaction" as const),
  exists: fc.array(spaceKey, { maxLength: 2 }),
  parts: fc.array(fc.oneof({ weight: 4, arbitrary: rowsPart }, ddlPart), { maxLength: 4 }),
});
const header: fc.Arbitrary<ProposalHeader> = fc.record({
  engine: number.map((id) => id as EngineId),
  proposalSeq: number.map((n) => n as ProposalSeq),
  transactions: fc.array(number, { maxLength: 4 }),
  snapshot: number.map((seq) => seq as Seq),
  fences: fc.array(
    fc.record({
      atom: number.map((id) => id as AtomId),
      originator: number.map((id) => id as EngineId),
      ownershipVersion: number.map((seq) => seq as Seq),
    }),
    { maxLength: 3 },
  ),
  schemaVersions: fc.array(fc.record({ table: number.map((id) => id as SpaceId), version: number.map((seq) => seq as Seq) }), { maxLength: 3 }),
});

test("a proposal survives its codec, whole or with its body encoded before", () => {
  fc.assert(
    fc.property(header, transaction, (head, body) => {
      const encoded = encodeEntry({ kind: "proposal", ...head, body });
      expect(encodeProposal(head, [encodeBody(body)]).equals(encoded)).toBe(true);
      expect(decodeEntry(encoded)).toEqual({ kind: "proposal", ...head, body });
    }),
  );
});

/** One change after the other, as they apply: what the parts are cut into does not count, but rows must not pass DDL. */
function changesOf(bodies: readonly TransactionBody[]): unknown[] {
  return bodies.flatMap((body) =>
    body.parts.flatMap((part): unknown[] => (part.kind === "ddl" ? [part] : part.rows.map((row) => ({ table: part.table, ...row })))),
  );
}

test("a group is read as one transaction: all that its members do, in their order, neighbours of one table as one part", () => {
  fc.assert(
    fc.property(header, fc.array(transaction, { minLength: 2, maxLength: 5 }), (head, members) => {
      const entry = decodeEntry(encodeProposal(head, members.map(encodeBody)));
      if (entry.kind !== "proposal" || entry.body.kind !== "transaction") throw new Error("not a transaction");
      const { body, ...rest } = entry;
      expect(rest).toEqual({ kind: "proposal", ...head });
      expect(body.exists).toEqual(members.flatMap((member) => member.exists));
      expect(changesOf([body])).toEqual(changesOf(members));
      body.parts.forEach((part, index) => {
        const former = body.parts[index - 1];
        if (part.kind === "rows" && former?.kind === "rows") expect(former.table).not.toBe(part.table);
      });
    }),
  );
});

test("what is cut short, too long, or of something else is refused as malformed", () => {
  fc.assert(
    fc.property(header, fc.array(transaction, { minLength: 1, maxLength: 3 }), fc.nat(), (head, members, cut) => {
      const encoded = encodeProposal(head, members.map(encodeBody));
      expect(() => decodeEntry(encoded.subarray(0, cut % encoded.length))).toThrow(MalformedBytesError);
      expect(() => decodeEntry(Buffer.concat([encoded, Buffer.alloc(1)]))).toThrow(MalformedBytesError);
    }),
  );
  const head = { engine: 1, proposalSeq: 1, transactions: [1, 2], snapshot: 1, fences: [], schemaVersions: [] } as never;
  const hold = encodeBody({ kind: "hold", atoms: [1 as AtomId] });
  const empty = encodeBody({ kind: "transaction", exists: [], parts: [] });
  expect(() => decodeEntry(encodeProposal(head, [empty, hold]))).toThrow(MalformedBytesError);
  const nested = encodeProposal(head, [empty, empty]).subarray(-8);
  expect(nested[0]).toBe(5);
  expect(() => decodeEntry(encodeProposal(head, [nested, empty]))).toThrow(MalformedBytesError);
});
