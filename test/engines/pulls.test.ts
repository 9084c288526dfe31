import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, ProposalSeq, Seq, SpaceId } from "../../src/base/ids.js";
import type { BinaryRange } from "../../src/base/key-ranges.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import type { PullReplyMessage, PullRequestMessage } from "../../src/messages/wire/engine-messages.js";
import { decodeEntry } from "../../src/messages/wire/entry.js";
import type { PullNeed } from "../../src/sql/local-store.js";
import { atom, boot, CacheParts, createTable, proposal, type Sent, sentOf, space } from "./engine-parts.js";

/** Archives e1 and e3, a Cache e2 that made the table, and the Cache under test, which holds nothing, and has asked for it. */
function pulling(seed = 1): { readonly parts: CacheParts; readonly first: Asked } {
  const parts = new CacheParts(undefined, undefined, undefined, seed);
  parts.apply(boot(1, 11));
  parts.apply(boot(2));
  parts.apply(boot(3, 13));
  parts.apply(boot(99));
  parts.apply(proposal(2, 1, createTable()));
  parts.take();
  parts.cache.pulls.ensure([{ space, ranges: null }], () => {});
  return { parts, first: only(askedIn(parts.applyOwn())) };
}

type Asked = { readonly to: Endpoint; readonly request: PullRequestMessage };

function asked(effects: readonly CoreEffect[]): Asked[] {
  return askedIn(sentOf(effects));
}

function askedIn(sent: readonly Sent[]): Asked[] {
  return sent.flatMap(({ to, message }) => (message.kind === "pullRequest" ? [{ to, request: message }] : []));
}

function reply(parts: CacheParts, { to, request }: Asked, keys: number[], next: number | null): void {
  const rows = keys.map((key) => ({ key: integerKey(BigInt(key)), row: Buffer.from([key]) }));
  const message: PullReplyMessage = {
    kind: "pullReply",
    pull: request.pull,
    seq: parts.context.appliedSeq as Seq,
    rows,
    next: next === null ? null : integerKey(BigInt(next)),
    images: [],
    imagesFrom: parts.context.appliedSeq,
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

/** What is asked in the next so many milliseconds, installations answered. */
function next(parts: CacheParts, ms = 5): Asked[] {
  const effects = parts.wait(ms);
  for (const { id } of installs(effects)) parts.cache.local.onReply({ kind: "installed", id, outcome: "held" });
  return asked(effects);
}

function refuse(parts: CacheParts, { to, request }: Asked, reason: "busy" | "notHeld"): void {
  parts.cache.onMessage(to, { kind: "pullRefused", pull: request.pull, reason });
}

function only(found: readonly Asked[]): Asked {
  expect(found).toHaveLength(1);
  return found[0] as Asked;
}

test("the late answer to an earlier question is not taken for the chunk that the same source is asked for now", () => {
  const { parts, first } = pulling();
  expect(first.to).toBe("e2");
  // The Cache is silent for 300 ms, an Archive for two seconds; the other gives the chunk up to key 10, but so slowly that the Cache is asked again.
  const silent = only(next(parts, 320));
  const second = only(next(parts, 2020));
  expect(new Set([first.to, silent.to, second.to]).size).toBe(3);
  next(parts, 1500);
  reply(parts, second, [1, 2], 10);
  next(parts);
  const third = only(next(parts));
  expect(third.to).toBe(first.to);
  expect(third.request.low.equals(integerKey(10n))).toBe(true);
  // Now it answers its first question: rows from the beginning on.
  reply(parts, first, [1, 2, 3], 20);
  expect(installs(parts.wait(5))).toEqual([]);
  reply(parts, third, [11], null);
  expect(installs(parts.wait(5))).toMatchObject([{ low: integerKey(10n).toString("hex"), keys: 1 }]);
});

test("a Cache that has it ready is asked before an Archive; one that refuses is passed over, and the pull goes on from where it was", () => {
  const { parts, first } = pulling();
  expect(first.to).toBe("e2");
  reply(parts, first, [1, 2], 10);
  next(parts);
  const second = only(next(parts));
  expect([second.to, second.request.low]).toEqual(["e2", integerKey(10n)]);
  refuse(parts, second, "busy");
  const third = only(next(parts));
  expect(["e1", "e3"]).toContain(third.to);
  expect(third.request.low).toEqual(integerKey(10n));
  parts.wait(30);
  reply(parts, third, [11], 20);
  next(parts);
  const fourth = only(next(parts));
  expect(fourth.to).toBe("e2");
  refuse(parts, fourth, "notHeld");
  const fifth = only(next(parts));
  expect(fifth.to).not.toBe("e2");
  expect(fifth.request.low).toEqual(integerKey(20n));
  // Never again for this range, however long it takes.
  parts.wait(1900);
  reply(parts, fifth, [21], 30);
  next(parts);
  const sixth = only(next(parts));
  expect(sixth.to).not.toBe("e2");
  reply(parts, sixth, [31], null);
  next(parts);
  parts.applyOwn();
  expect(heldOf(parts)).toEqual([0]);
  const of = (endpoint: string) => parts.cache.pulls.questions.sources.counters.get(endpoint as Endpoint);
  expect(of("e2")).toMatchObject({ chunks: 1, busy: 1, notHeld: 1, silent: 0 });
  expect((of("e1")?.chunks ?? 0) + (of("e3")?.chunks ?? 0)).toBe(3);
});

test("a Cache that is joining, has dropped the atom, or has left, is not asked; nor is any for a range of an index", () => {
  for (const how of ["joining", "dropped", "left"] as const) {
    const parts = new CacheParts();
    for (const one of [boot(1, 11), boot(2), boot(3, 13), boot(4), boot(99), proposal(2, 1, createTable())]) parts.apply(one);
    parts.apply(proposal(4, 1, { kind: "hold", atoms: [atom] }));
    if (how !== "joining") parts.apply(proposal(4, 2, { kind: "ready", atoms: [atom] }));
    if (how === "dropped") parts.apply(proposal(4, 3, { kind: "drop", atoms: [atom] }));
    if (how === "left") parts.apply({ kind: "leave", engine: 4 as EngineId, ids: [] });
    parts.apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
    parts.take();
    parts.cache.pulls.ensure([{ space, ranges: null }], () => {});
    let one = only(askedIn(parts.applyOwn()));
    for (let round = 0; round < 6; round++) {
      expect(["e1", "e3"], how).toContain(one.to);
      reply(parts, one, [round], round + 1);
      next(parts);
      one = only(next(parts));
    }
  }
  const parts = inPieces(6);
  parts.cache.pulls.ensure([{ space: (space + 1) as SpaceId, indexOf: space, ranges: [at(7)] }], () => {});
  const one = only(next(parts));
  expect(["e1", "e3"]).toContain(one.to);
});

test("what a turn finds missing is one HOLD, whichever statements need it", () => {
  const parts = inPieces(9);
  for (const key of [5, 25, 26, 45, 65]) parts.cache.pulls.ensure([{ space, ranges: [at(key)] }], () => {});
  const holds = parts.sent().flatMap(({ message }) => (message.kind === "propose" ? [decodeEntry(message.entry)] : []));
  expect(holds).toHaveLength(1);
  expect(holds[0]).toMatchObject({
    body: { kind: "hold", atoms: [0, 2, 4, 6].map((place) => parts.context.catalog.atoms.ofSpace(space)[place]?.id) },
  });
});

test("a Cache gives what it holds as of the seq that is asked for; beyond its limit, or held up, it says so", () => {
  const parts = inPieces(1);
  const request = (pull: number, minSeq: number): PullRequestMessage => ({
    kind: "pullRequest",
    pull,
    space,
    low: Buffer.alloc(0),
    high: null,
    minSeq: minSeq as Seq,
    since: 0 as Seq,
    bytesMax: 1000,
    asOf: 0 as Seq,
  });
  const reads = (effects: readonly CoreEffect[]) =>
    effects.flatMap((one) => (one.kind === "local" && one.call.kind === "readChunk" ? [one.call] : []));
  const refusals = (effects: readonly CoreEffect[]) =>
    sentOf(effects.filter((one) => one.kind === "send" && one.to === "e2")).flatMap(({ message }) =>
      message.kind === "pullRefused" ? [`${message.pull} ${message.reason}`] : [],
    );
  const from = "e2" as Endpoint;
  const now = parts.context.appliedSeq;
  parts.cache.local.flush();
  parts.take();
  parts.cache.onMessage(from, request(1, now));
  parts.cache.onMessage(from, request(2, now + 1));
  let effects = parts.take();
  expect(effects.filter((one) => one.kind === "local").map((one) => one.kind === "local" && one.call.kind)).toEqual(["readChunk"]);
  const [first] = reads(effects);
  // What waits for its seq is read behind it.
  parts.apply(proposal(2, 10, { kind: "ready", atoms: [atom] }));
  effects = parts.take();
  expect(effects.flatMap((one) => (one.kind === "local" ? [one.call.kind] : []))).toEqual(["apply", "readChunk"]);
  const [second] = reads(effects);
  parts.cache.onMessage(from, request(3, now));
  expect(refusals(parts.take())).toEqual(["3 busy"]);
  const message = Buffer.from("the chunk");
  parts.cache.local.onReply({ kind: "chunk", id: first?.id ?? 0, message });
  expect(parts.take()).toContainEqual({ kind: "send", to: from, channel: "reliable", payload: message });
  parts.cache.onMessage(from, request(4, now + 1));
  const [fourth] = reads(parts.take());
  parts.cache.local.onReply({ kind: "chunk", id: fourth?.id ?? 0, message: null });
  expect(refusals(parts.take())).toEqual(["4 notHeld"]);
  parts.cache.onMessage(from, request(5, now + 9));
  expect(refusals(parts.wait(70)).sort()).toEqual(["2 busy", "5 busy"]);
  parts.cache.local.onReply({ kind: "chunk", id: second?.id ?? 0, message });
  expect(sentOf(parts.take())).toEqual([]);
  expect(parts.cache.rows.given.get(from)).toEqual({ chunks: 1, bytes: message.length, busy: 3, notHeld: 1 });
  parts.apply({ kind: "leave", engine: 2 as EngineId, ids: [] });
  expect(parts.cache.rows.given.size).toBe(0);
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
  parts.apply(proposal(2, 2, { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n }));
  parts.take();
  return parts;
}

function at(key: number): BinaryRange {
  const low = integerKey(BigInt(key)).toString("latin1");
  return { low, high: `${low}\0` };
}

/** Answers every question with no rows, and every installation, until nothing more is asked. `before`: questions that were asked already. */
function serve(parts: CacheParts, before: readonly Asked[] = []): void {
  for (const one of before) reply(parts, one, [], null);
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
  const first = askedIn(parts.applyOwn());
  expect(heldOf(parts)).toEqual([0, 2, 4]);
  expect(told).toEqual([]);
  serve(parts, first);
  expect(told.sort()).toEqual(["25, 41", "29, 8", "7"]);
  expect(parts.cache.pulls.counters.atoms).toBe(3);
  parts.cache.pulls.ensure([{ space, ranges: [at(49)] }], () => told.push("49"));
  expect(told).toContain("49");
  parts.cache.pulls.ensure([{ space, ranges: null }], () => told.push("all"));
  serve(parts, askedIn(parts.applyOwn()));
  expect(told).toContain("all");
  expect(heldOf(parts)).toEqual([0, 1, 2, 3, 4, 5]);
});

test("who waits for a range of an index needs the rows that are in it, too: eviction spares them until the statement has run", () => {
  const parts = inPieces(6);
  const range: PullNeed = { space: (space + 9) as typeof space, indexOf: space, ranges: [at(3)] };
  const rows: PullNeed = { space, ranges: [at(15), at(41)] };
  const told: (readonly PullNeed[])[] = [];
  parts.cache.pulls.ensure([range], (needs) => told.push(needs));
  const [lookUp] = asked(parts.wait(5));
  if (lookUp === undefined) throw new Error("no Archive was asked for the range");
  reply(parts, lookUp, [15, 41], null);
  const [entries] = installs(parts.take());
  if (entries === undefined) throw new Error("nothing was installed");
  parts.cache.local.onReply({ kind: "installed", id: entries.id, outcome: rows });
  const rowsAsked = askedIn(parts.applyOwn());
  expect(heldOf(parts)).toEqual([1, 4]);
  // Nobody waits for these rows alone any more when they are here; the range does.
  for (const one of rowsAsked) reply(parts, one, [], null);
  const chunks = installs(parts.take());
  expect(chunks).toHaveLength(2);
  for (const { id } of chunks) parts.cache.local.onReply({ kind: "installed", id, outcome: "held" });
  expect(told).toEqual([]);
  expect([...parts.cache.pulls.needs()]).toEqual([range, rows]);
  serve(parts);
  expect(told).toEqual([[range, rows]]);
});

test("a chunk that comes before HOLD waits for it", () => {
  const parts = inPieces(2);
  const told: string[] = [];
  parts.cache.pulls.ensure([{ space, ranges: [at(15)] }], () => told.push("15"));
  const sent = parts.sent();
  const question = only(askedIn(sent));
  reply(parts, question, [15], null);
  expect(installs(parts.wait(5))).toEqual([]);
  const [hold] = sent.flatMap(({ message }) => (message.kind === "propose" ? [decodeEntry(message.entry)] : []));
  if (hold === undefined) throw new Error("nothing was proposed");
  parts.apply(hold);
  const [install] = installs(parts.take());
  expect(install).toMatchObject({ low: question.request.low.toString("hex"), keys: 1 });
  expect(told).toEqual([]);
  parts.cache.local.onReply({ kind: "installed", id: install?.id ?? 0, outcome: "held" });
  expect(told).toEqual(["15"]);
});

test("where HOLD is refused nothing of what has come is installed", () => {
  const parts = inPieces(2);
  const told: string[] = [];
  parts.cache.pulls.ensure([{ space, ranges: [at(15)] }], () => told.push("15"));
  reply(parts, only(askedIn(parts.sent())), [15], null);
  parts.apply({ kind: "refused", engine: parts.context.engine, proposalSeq: 1 as ProposalSeq, reason: "fence" });
  const effects = parts.take();
  expect(installs(effects)).toEqual([]);
  expect(effects.flatMap((one) => (one.kind === "local" ? [one.call.kind] : []))).toEqual(["abandonHold", "beginHold"]);
  // It is needed still.
  expect(
    sentOf(effects)
      .map(({ message }) => message.kind)
      .sort(),
  ).toEqual(["propose", "pullRequest"]);
  expect(told).toEqual([]);
});

test("an atom that is split before its HOLD is applied is held where the key lies now", () => {
  const parts = inPieces(2);
  const told: string[] = [];
  parts.cache.pulls.ensure([{ space, ranges: [at(15)] }], () => told.push("15"));
  const sent = parts.sent();
  const [hold] = sent.flatMap(({ message }) => (message.kind === "propose" ? [message] : []));
  if (hold === undefined) throw new Error("nothing was proposed");
  // Of the range that the atom had.
  reply(parts, only(askedIn(sent)), [15], null);
  const [, second] = parts.context.catalog.atoms.ofSpace(space);
  const piece = { atom: (atom + 50) as AtomId, low: integerKey(13n), taker: 0 as EngineId, bytes: 0, rows: 0 };
  const body = {
    kind: "split",
    atom: second?.id ?? atom,
    space,
    firstTaker: 0 as EngineId,
    pieces: [piece],
    measured: null,
    sequenceFirst: 0n,
    sequenceNext: 0n,
  } as const;
  parts.apply(proposal(2, 3, body));
  parts.apply(decodeEntry(hold.entry));
  expect(told).toEqual([]);
  const again = askedIn(parts.applyOwn());
  expect(again.map(({ request }) => request.low)).toEqual([integerKey(10n), integerKey(13n)]);
  serve(parts, again);
  expect(told).toEqual(["15"]);
  expect(heldOf(parts)).toEqual([1, 2]);
});

test("a block of ids is held from its SPLIT on, without a pull", () => {
  const parts = inPieces(1);
  const { engine } = parts.context;
  const block = { atom: (atom + 1) as AtomId, low: integerKey(5n), taker: engine, bytes: 0, rows: 0 };
  const rest = { atom: (atom + 2) as AtomId, low: integerKey(37n), taker: 0 as EngineId, bytes: 0, rows: 0 };
  parts.apply(
    proposal(2, 3, {
      kind: "split",
      atom,
      space,
      firstTaker: 0 as EngineId,
      pieces: [block, rest],
      measured: null,
      sequenceFirst: 5n,
      sequenceNext: 37n,
    }),
  );
  const calls = parts.take().flatMap((effect) => (effect.kind === "local" ? [effect.call] : []));
  expect(calls.map((call) => call.kind)).toEqual(["apply", "holdEmpty", "grantIds"]);
  expect(calls[1]).toMatchObject({ low: new Uint8Array(integerKey(5n)), high: new Uint8Array(integerKey(37n)) });
});

test("a Cache that has started over asks under other numbers: a late answer to its former core is not taken for one to this one", () => {
  const { first: former } = pulling();
  const { first: now } = pulling(2);
  expect(now.request.pull).not.toBe(former.request.pull);
});

test("a pull that starts again in the middle of an atom is READY with all of it in the end", () => {
  const { parts, first } = pulling();
  reply(parts, first, [1, 2], 10);
  next(parts);
  reply(parts, only(next(parts)), [11], null);
  // So much has changed meanwhile that the changes of the rest were not kept.
  for (const { id } of installs(parts.wait(5))) parts.cache.local.onReply({ kind: "installed", id, outcome: "full" });
  const again = only(next(parts));
  expect(again.request.low).toEqual(integerKey(10n));
  reply(parts, again, [11], null);
  next(parts);
  const entries = sentOf(parts.wait(200)).flatMap(({ message }) => (message.kind === "propose" ? [decodeEntry(message.entry)] : []));
  expect(entries).toMatchObject([{ body: { kind: "ready", atoms: [atom] } }]);
});
