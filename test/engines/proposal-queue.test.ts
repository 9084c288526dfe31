import { expect, test } from "vitest";
import { groupMembersMax, type TransactionProposal } from "../../src/engines/proposal-queue.js";
import { decodeEntry, encodeBody } from "../../src/messages/wire/entry.js";
import { CacheParts } from "./engine-parts.js";

function queued(parts: CacheParts, count: number, bytes: number): void {
  const body = encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: 5 as never, rows: [] }] });
  const filled = Buffer.concat([body, Buffer.alloc(bytes)]);
  for (let n = 0; n < count; n++) parts.proposals.propose(filled, [], () => {});
}

function proposed(parts: CacheParts): number[] {
  return parts.sent().flatMap(({ message }) => (message.kind === "propose" ? [message.proposalSeq] : []));
}

test("what is undecided for long is sent again from its beginning, so much and no more: a sequencer that waits for a majority has it all", () => {
  const parts = new CacheParts();
  queued(parts, 100, 100_000);
  parts.take();
  parts.context.nowMs = 600;
  parts.proposals.tick();
  const again = proposed(parts);
  expect(again[0]).toBe(1);
  expect(again.length).toBeLessThan(20);
  parts.proposals.tick();
  expect(proposed(parts)).toEqual([]);
});

test("a hole that the sequencer asks for is filled, and not all that is behind it", () => {
  const parts = new CacheParts();
  queued(parts, 100, 100_000);
  parts.take();
  parts.proposals.fill(40 as never);
  const again = proposed(parts);
  expect(again[0]).toBe(40);
  expect(again.length).toBeLessThan(20);
});

test("a new sequencer gets everything", () => {
  const parts = new CacheParts();
  queued(parts, 100, 100_000);
  parts.take();
  parts.proposals.sendAgain();
  expect(proposed(parts)).toHaveLength(100);
});

const nothingDecided = (): void => {};
const rowBody = encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: 5 as never, rows: [] }] });

function ready(transaction: number, changes: Partial<TransactionProposal> = {}): TransactionProposal {
  const fences = [{ atom: 1, originator: 2, ownershipVersion: 3 }] as never;
  const schemaVersions = [{ table: 5, version: 4 }] as never;
  return { transaction, snapshot: 7 as never, fences, schemaVersions, body: rowBody, mayJoin: true, onDecided: nothingDecided, ...changes };
}

/** The transactions of each entry that was proposed. */
function groups(parts: CacheParts): (readonly number[])[] {
  return parts.sent().flatMap(({ message }) => {
    const entry = message.kind === "propose" ? decodeEntry(message.entry) : null;
    return entry?.kind === "proposal" ? [entry.transactions] : [];
  });
}

test("G1: transactions of one turn share an entry, with each fence and version once", () => {
  const parts = new CacheParts();
  for (let n = 1; n <= 3; n++) parts.proposals.join(ready(n));
  parts.proposals.flush();
  const [sent] = parts.sent();
  const entry = sent?.message.kind === "propose" ? decodeEntry(sent.message.entry) : null;
  expect(entry).toMatchObject({ transactions: [1, 2, 3], snapshot: 7, fences: [{ atom: 1 }], schemaVersions: [{ table: 5 }] });
});

test("G2: another snapshot, ownership or schema version, a full group, or who stands alone begins another entry", () => {
  const parts = new CacheParts();
  const others: Partial<TransactionProposal>[] = [
    { snapshot: 8 as never },
    { fences: [{ atom: 1, originator: 2, ownershipVersion: 9 }] as never },
    { fences: [{ atom: 1, originator: 9, ownershipVersion: 3 }] as never },
    { schemaVersions: [{ table: 5, version: 9 }] as never },
    { body: Buffer.concat([rowBody, Buffer.alloc(64 * 1024)]) },
    { mayJoin: false },
  ];
  for (const other of others) {
    parts.proposals.join(ready(1));
    parts.proposals.join(ready(2, other));
    parts.proposals.join(ready(3));
    parts.proposals.flush();
    const numbers = parts.sent().flatMap(({ message }) => (message.kind === "propose" ? [message.proposalSeq] : []));
    expect(numbers, JSON.stringify(Object.keys(other))).toHaveLength(3);
  }
  parts.proposals.join(ready(1));
  parts.proposals.join(ready(2, { fences: [{ atom: 2, originator: 2, ownershipVersion: 3 }] as never }));
  for (let n = 3; n <= groupMembersMax + 1; n++) parts.proposals.join(ready(n));
  parts.proposals.flush();
  expect(groups(parts).map((group) => group.length)).toEqual([groupMembersMax, 1]);
});

test("G3: another kind of proposal comes after the transactions that were ready before it", () => {
  const parts = new CacheParts();
  parts.proposals.join(ready(1));
  parts.proposals.propose(encodeBody({ kind: "hold", atoms: [] }), [], nothingDecided);
  expect(groups(parts)).toEqual([[1], []]);
});

test("G4: a group that nobody can read is proposed member by member; every other outcome is told to all", () => {
  const parts = new CacheParts();
  const told: string[] = [];
  const onDecided = (name: string) => (outcome: string) => void told.push(`${name} ${outcome}`);
  parts.proposals.join(ready(1, { onDecided: onDecided("a") }));
  parts.proposals.join(ready(2, { onDecided: onDecided("b") }));
  parts.proposals.flush();
  expect(groups(parts)).toEqual([[1, 2]]);
  parts.proposals.decided(1 as never, "malformed", 10 as never);
  expect(groups(parts)).toEqual([[1], [2]]);
  parts.proposals.decided(2 as never, "malformed", 11 as never);
  parts.proposals.decided(3 as never, "applied", 12 as never);
  parts.proposals.join(ready(3, { onDecided: onDecided("c") }));
  parts.proposals.join(ready(4, { onDecided: onDecided("d") }));
  parts.proposals.flush();
  parts.proposals.decided(4 as never, "fence", 13 as never);
  expect(told).toEqual(["a malformed", "b applied", "c fence", "d fence"]);
});
