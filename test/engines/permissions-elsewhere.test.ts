/** A transaction's permissions at another engine: what is sent of them comes late, when the transaction or the engine that asked is over, or is asked again. */
import { expect, test } from "vitest";
import type { AtomId, Endpoint, EngineId, Seq } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import type { EngineMessage, PermissionRequestMessage } from "../../src/messages/wire/engine-messages.js";
import { decodeEntry, type Entry, encodeBody } from "../../src/messages/wire/entry.js";
import type { RunResult, SessionSettings, Step, StepOutcome } from "../../src/sql/local-store.js";
import { atom, boot, CacheParts, createTable, proposal, type Sent, sentOf, space } from "./engine-parts.js";

const settings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
const steps: Step[] = [{ sql: "a", args: { positional: [], named: [] }, wantRows: true, condition: null }];
const ok: StepOutcome = { kind: "ok", result: { columns: [], rows: [], affectedRowCount: 0, lastInsertRowid: null } };

const reply = { kind: "permissionReply", outcome: "granted", reach: 0 as Seq } as const;

/** Each of the two engines calls the other so. */
const other = "e2" as Endpoint;
const originator = 2 as EngineId;
const client = 3 as EngineId;

/** Archive 1, the originator 2 of keys from 100 on, and Cache 3, which has made the table and has the rest. */
function history(self: EngineId): Entry[] {
  const pieces = [{ atom: (atom + 1) as AtomId, low: integerKey(100n), taker: originator, bytes: 0, rows: 0 }];
  const split = { kind: "split", atom, space, firstTaker: 0 as EngineId, pieces, measured: null, sequenceFirst: 0n, sequenceNext: 0n } as const;
  const fences = [{ atom, originator: client, ownershipVersion: 4 as Seq }];
  const boots = [originator, client].map((id) => boot(id === self ? 99 : 2));
  return [boot(1, 11), ...boots, proposal(client, 1, createTable()), proposal(client, 2, split, { fences })];
}

function engineOf(self: EngineId): CacheParts {
  const parts = new CacheParts();
  for (const entry of history(self)) parts.apply(entry);
  // Its next proposal is the third one.
  if (self === client) for (let n = 0; n < 2; n++) parts.proposals.propose(encodeBody({ kind: "hold", atoms: [atom] }), [], () => {});
  parts.take();
  return parts;
}

/** The local store's answer to the run that was posted last. */
function ran(parts: CacheParts, effects: readonly CoreEffect[], snapshot: Seq, keys: readonly number[]): void {
  const id = effects.flatMap((effect) => (effect.kind === "local" && effect.call.kind === "run" ? [effect.call.id] : [])).at(-1);
  const rows = keys.map((key) => ({ key: integerKey(BigInt(key)), row: Buffer.from([1]), oldBytes: 0, indexKeys: [] }));
  const changes = {
    body: encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }),
    permissions: rows.map(({ key }) => ({ space, key: key.toString("latin1"), kind: "write" as const })),
    wholeTables: [],
    schemaVersions: [],
  };
  const result: RunResult = { kind: "commit", snapshot, outcomes: [ok], nextStep: 1, settings, changes };
  parts.cache.local.onReply({ kind: "ran", id: id ?? 0, result });
}

function begin(parts: CacheParts, keys: readonly number[], snapshot = parts.context.appliedSeq): Sent[] {
  parts.cache.transactions.begin(1, steps, settings, null);
  ran(parts, parts.take(), snapshot, keys);
  return sentOf(parts.take());
}

function only<Kind extends EngineMessage["kind"]>(sent: readonly Sent[], kind: Kind): Extract<EngineMessage, { kind: Kind }> {
  const found = sent.flatMap(({ message }) => (message.kind === kind ? [message as Extract<EngineMessage, { kind: Kind }>] : []));
  expect(found).toHaveLength(1);
  return found[0] as Extract<EngineMessage, { kind: Kind }>;
}

function answer(parts: CacheParts, request: PermissionRequestMessage): EngineMessage {
  parts.desk.onMessage(other, request);
  return only(parts.sent(), "permissionReply");
}

test("a request that comes when its transaction is committed, without what it asked for: what it is granted is given back", () => {
  const [asker, asked] = [engineOf(client), engineOf(originator)];
  asker.context.recent.note(asker.context.appliedSeq, space, integerKey(1n).toString("latin1"), "write");
  asker.cache.transactions.begin(1, steps, settings, null);
  ran(asker, asker.take(), (asker.context.appliedSeq - 1) as Seq, [101, 1]);
  // The row 1 has changed since: it runs again, and this time does without the row 101.
  const effects = asker.take();
  const late = only(sentOf(effects), "permissionRequest");
  ran(asker, effects, asker.context.appliedSeq, [1]);
  const entry = decodeEntry(only(asker.sent(), "propose").entry);
  for (const parts of [asker, asked]) parts.apply(entry);
  expect(answer(asked, late)).toMatchObject({ outcome: "granted" });
  for (const { to, message } of sentOf(asker.wait(1000)))
    if (to === other && message.kind === "release") asked.desk.release(message.engine, message.transaction, message.attempt);
  expect(asked.desk.table.grantCount).toBe(0);
});

test("an answer to an engine that was taken for dead is none to the one that it became, whose transactions have the same numbers", () => {
  const [former, asked] = [engineOf(client), engineOf(originator)];
  const granted = answer(asked, only(begin(former, [101]), "permissionRequest"));
  const asAfter: Entry[] = [{ kind: "leave", engine: client, ids: [] }, boot(99)];
  const next = new CacheParts();
  for (const entry of [...history(client).map((one) => (one.kind === "boot" && one.nonce === 99 ? boot(98) : one)), ...asAfter]) next.apply(entry);
  for (const entry of [{ kind: "leave", engine: client, ids: [] } as const, boot(2)]) asked.apply(entry);
  next.take();
  const request = only(begin(next, [101]), "permissionRequest");
  next.cache.onMessage(other, granted);
  expect(sentOf(next.take()).filter(({ message }) => message.kind === "propose")).toEqual([]);
  next.cache.onMessage(other, answer(asked, request));
  only(next.sent(), "propose");
});

test("a release that an originator's departure has overtaken is not sent for ever", () => {
  const asker = engineOf(client);
  const request = only(begin(asker, [101]), "permissionRequest");
  asker.cache.onMessage(other, { ...reply, transaction: request.transaction, attempt: request.attempt, applied: request.applied });
  const entry = decodeEntry(only(asker.sent(), "propose").entry);
  if (entry.kind !== "proposal") throw new Error("no proposal");
  // Without a majority of the Archives: its client is told after 30 s. Then the originator is gone, and the proposal with its fence.
  asker.wait(31_000);
  asker.apply({ kind: "leave", engine: originator, ids: [] });
  asker.apply({ kind: "refused", engine: client, proposalSeq: entry.proposalSeq, reason: "fence" });
  expect(asker.cache.transactions.releaseCount).toBe(0);
});

test("who waits in another engine's queue, and asks again, has nothing still, and goes on waiting, however young", () => {
  const [asker, asked] = [engineOf(client), engineOf(originator)];
  const key = integerKey(101n).toString("latin1");
  const [age, items] = [{ beginMs: -1, engine: originator, counter: 1 }, [{ space, key, use: "write" as const }]];
  const older = {
    engine: originator,
    transaction: 1,
    attempt: 1,
    age,
    snapshot: asked.context.appliedSeq,
    items,
    wholeSpaces: [],
    holdsNothing: true,
  };
  expect(asked.desk.table.request(older)).toEqual({ kind: "granted" });
  asked.desk.onMessage(other, only(begin(asker, [101]), "permissionRequest"));
  expect(asked.sent()).toEqual([]);
  const again = sentOf(asker.wait(700)).filter(({ message }) => message.kind === "permissionRequest");
  expect(answer(asked, only(again, "permissionRequest"))).toMatchObject({ outcome: "waits" });
});
