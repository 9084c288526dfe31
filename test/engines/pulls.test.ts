import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, Seq } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import type { PullReplyMessage, PullRequestMessage } from "../../src/messages/wire/engine-messages.js";
import { decodeEntry } from "../../src/messages/wire/entry.js";
import type { BinaryRange } from "../../src/sql/local-store.js";
import { atom, boot, CacheParts, createTable, proposal, sentOf, space } from "./engine-parts.js";

/** Archives e1 and e3, a Cache e2 that made the table, and the Cache under test, which holds nothing. */
function pulling(seed = 1): CacheParts {
  const parts = new CacheParts(undefined, undefined, undefined, seed);
  parts.apply(boot(1, 11));
  parts.apply(boot(2));
  parts.apply(boot(3, 13));
  parts.apply(boot(99));
  parts.apply(proposal(2, 1, createTable()));
  parts.take();
  parts.cache.pulls.ensure([{ space, ranges: null }], () => {});
  parts.applyOwn();
  return parts;
}

type Asked = { readonly to: Endpoint; readonly request: PullRequestMessage };

function asked(effects: readonly CoreEffect[]): Asked[] {
  return sentOf(effects).flatMap(({ to, message }) => (message.kind === "pullRequest" ? [{ to, request: message }] : []));
}

function reply(parts: CacheParts, { to, request }: Asked, keys: number[], next: number | null): void {
  const rows = keys.map((key) => ({ key: integerKey(BigInt(key)), row: Buffer.from([key]) }));
  const message: PullReplyMessage = {
    kind: "pullReply",
    pull: request.pull,
    seq: parts.context.appliedSeq as Seq,
    rows,
    next: next === null ? null : integerKey(BigInt(next)),
  };
  parts.cache.onMessage(to, message);
}

function installs(effects: readonly CoreEffect[]): { id: number; low: string; keys: number }[] {
  return effects.flatMap((effect) =>
    effect.kind === "local" && effect.call.kind === "install"
      ? [{ id: effect.call.id, low: Buffer.from(effect.call.low).toString("hex"), keys: effect.call.rows.length }]
      : [],
  );
}

test("the late answer to an earlier question is not taken for the chunk that the same source is asked for now", () => {
  const parts = pulling();
  const [first] = asked(parts.wait(5));
  // The first source is silent; the other one gives the chunk up to key 10.
  const [second] = asked(parts.wait(2500));
  if (first === undefined || second === undefined) throw new Error("nobody was asked");
  expect(second.to).not.toBe(first.to);
  reply(parts, second, [1, 2], 10);
  const [installed] = installs(parts.take());
  if (installed === undefined) throw new Error("nothing was installed");
  parts.cache.local.onReply({ kind: "installed", id: installed.id, outcome: "held" });
  const [third] = asked(parts.wait(5));
  expect(third?.to).toBe(first.to);
  expect(third?.request.low.equals(integerKey(10n))).toBe(true);
  // Now the first source answers its first question: rows from the beginning on.
  reply(parts, first, [1, 2, 3], 20);
  expect(installs(parts.wait(5))).toEqual([]);
  if (third === undefined) throw new Error("the rest was not asked for");
  reply(parts, third, [11], null);
  expect(installs(parts.wait(5))).toMatchObject([{ low: integerKey(10n).toString("hex"), keys: 1 }]);
});

/** As above, but the table is in pieces of ten keys, and nothing is asked for yet. */
function inPieces(count: number): CacheParts {
  const parts = new CacheParts();
  for (const one of [boot(1, 11), boot(2), boot(3, 13), boot(99), proposal(2, 1, createTable())]) parts.apply(one);
  const pieces = Array.from({ length: count - 1 }, (_, index) => ({
    atom: (atom + index + 1) as AtomId,
    low: integerKey(BigInt((index + 1) * 10)),
    taker: 0 as EngineId,
    bytes: 0,
    rows: 0,
  }));
  parts.apply(proposal(2, 2, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, sequenceFirst: 0n, sequenceNext: 0n }));
  parts.take();
  return parts;
}

function at(key: number): BinaryRange {
  const low = integerKey(BigInt(key)).toString("latin1");
  return { low, high: `${low}\0` };
}

/** Answers every question with no rows, and every installation, until nothing more is asked. */
function serve(parts: CacheParts): void {
  for (let round = 0; round < 5; round++) {
    const effects = parts.wait(5);
    for (const one of asked(effects)) reply(parts, one, [], null);
    for (const { id } of installs([...effects, ...parts.take()])) parts.cache.local.onReply({ kind: "installed", id, outcome: "held" });
  }
}

function heldOf(parts: CacheParts): number[] {
  const { catalog, engine } = parts.context;
  return catalog.atoms.ofSpace(space).flatMap((one, index) => (one.holders.some((holder) => holder.engine === engine) ? [index] : []));
}

test("only the atoms that the ranges overlap are held, and each is asked for once", () => {
  const parts = inPieces(6);
  const told: string[] = [];
  const range = { low: at(25).low, high: at(30).low };
  parts.cache.pulls.ensure([{ space, ranges: [at(7)] }], () => told.push("7"));
  parts.cache.pulls.ensure([{ space, ranges: [range, at(41)] }], () => told.push("25, 41"));
  parts.cache.pulls.ensure([{ space, ranges: [at(29), at(8)] }], () => told.push("29, 8"));
  parts.applyOwn();
  expect(heldOf(parts)).toEqual([0, 2, 4]);
  expect(told).toEqual([]);
  serve(parts);
  expect(told.sort()).toEqual(["25, 41", "29, 8", "7"]);
  expect(parts.cache.pulls.counters.atoms).toBe(3);
  parts.cache.pulls.ensure([{ space, ranges: [at(49)] }], () => told.push("49"));
  expect(told).toContain("49");
  parts.cache.pulls.ensure([{ space, ranges: null }], () => told.push("all"));
  parts.applyOwn();
  serve(parts);
  expect(told).toContain("all");
  expect(heldOf(parts)).toEqual([0, 1, 2, 3, 4, 5]);
});

test("an atom that is split before its HOLD is applied is held where the key lies now", () => {
  const parts = inPieces(2);
  const told: string[] = [];
  parts.cache.pulls.ensure([{ space, ranges: [at(15)] }], () => told.push("15"));
  const [hold] = parts.sent().flatMap(({ message }) => (message.kind === "propose" ? [message] : []));
  if (hold === undefined) throw new Error("nothing was proposed");
  const [, second] = parts.context.catalog.atoms.ofSpace(space);
  const piece = { atom: (atom + 50) as AtomId, low: integerKey(13n), taker: 0 as EngineId, bytes: 0, rows: 0 };
  const body = {
    kind: "split",
    atom: second?.id ?? atom,
    space,
    firstTaker: 0 as EngineId,
    pieces: [piece],
    sequenceFirst: 0n,
    sequenceNext: 0n,
  } as const;
  parts.apply(proposal(2, 3, body));
  parts.apply(decodeEntry(hold.entry));
  expect(told).toEqual([]);
  parts.applyOwn();
  serve(parts);
  expect(told).toEqual(["15"]);
  expect(heldOf(parts)).toEqual([1, 2]);
});

test("a block of ids is held from its SPLIT on, without a pull", () => {
  const parts = inPieces(1);
  const { engine } = parts.context;
  const block = { atom: (atom + 1) as AtomId, low: integerKey(5n), taker: engine, bytes: 0, rows: 0 };
  const rest = { atom: (atom + 2) as AtomId, low: integerKey(37n), taker: 0 as EngineId, bytes: 0, rows: 0 };
  parts.apply(proposal(2, 3, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces: [block, rest], sequenceFirst: 5n, sequenceNext: 37n }));
  const calls = parts.take().flatMap((effect) => (effect.kind === "local" ? [effect.call] : []));
  expect(calls.map((call) => call.kind)).toEqual(["apply", "holdEmpty", "grantIds"]);
  expect(calls[1]).toMatchObject({ low: new Uint8Array(integerKey(5n)), high: new Uint8Array(integerKey(37n)) });
});

test("a Cache that has started over asks under other numbers: a late answer to its former core is not taken for one to this one", () => {
  const [former] = asked(pulling().wait(5));
  const [now] = asked(pulling(2).wait(5));
  expect(former?.to).toBeDefined();
  expect(now?.request.pull).not.toBe(former?.request.pull);
});
