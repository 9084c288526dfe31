import { expect, test } from "vitest";
import { encodeBody } from "../../src/messages/wire/entry.js";
import { CacheParts } from "./engine-parts.js";

function queued(parts: CacheParts, count: number, bytes: number): void {
  const body = encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: 5 as never, rows: [] }] });
  const filled = Buffer.concat([body, Buffer.alloc(bytes)]);
  for (let n = 0; n < count; n++)
    parts.proposals.propose({ transaction: 0, snapshot: 0 as never, fences: [], schemaVersions: [], body: filled, onDecided: () => {} });
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
