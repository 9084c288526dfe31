import { expect, test } from "vitest";
import type { EngineId, Seq } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import { batchesMax } from "../../src/engines/transactions.js";
import { encodeBody } from "../../src/messages/wire/entry.js";
import type { Changes, OpenSummary, RunRequest, RunResult, SessionSettings, Step, StepOutcome } from "../../src/sql/local-store.js";
import { boot, CacheParts, createTable, sentOf, space } from "./engine-parts.js";

const settings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
const ok: StepOutcome = { kind: "ok", result: { columns: [], rows: [], affectedRowCount: 0, lastInsertRowid: null } };
const key = integerKey(1n).toString("latin1");

const summary: OpenSummary = { mode: "deferred", isolation: "snapshot", snapshot: 5 as Seq, rowsWritten: 2, bytes: 30 };

function steps(...sql: string[]): Step[] {
  return sql.map((text) => ({ sql: text, args: { positional: [], named: [] }, wantRows: true, condition: null }));
}

/** Archive e1, and the Cache under test, which made the table and is its originator. */
class Client extends CacheParts {
  readonly effects: CoreEffect[] = [];

  constructor() {
    super();
    this.apply(boot(1, 11));
    this.apply(boot(99));
    this.proposals.propose(encodeBody(createTable()), [], () => {});
    this.applyOwn();
    this.take();
  }

  begin(request: number, open: number | null, ...sql: string[]): RunRequest | undefined {
    this.cache.transactions.begin(request, steps(...sql), settings, open);
    return this.runs().at(-1);
  }

  runs(): RunRequest[] {
    this.effects.push(...this.take());
    return this.effects.flatMap((effect) => (effect.kind === "local" && effect.call.kind === "run" ? [effect.call.request] : []));
  }

  /** The local store's answer to the run that was posted last. */
  ran(result: RunResult): void {
    this.runs();
    const call = this.effects.findLast((effect) => effect.kind === "local" && effect.call.kind === "run");
    if (call?.kind !== "local" || call.call.kind !== "run") throw new Error("no run");
    this.cache.local.onReply({ kind: "ran", id: call.call.id, result });
    this.proposals.flush();
    this.effects.push(...this.take());
  }

  answers(): unknown[] {
    this.effects.push(...this.take());
    return this.effects.flatMap((effect) => (effect.kind === "answer" ? [effect.answer] : []));
  }

  get ended(): number[] {
    this.effects.push(...this.take());
    return this.effects.flatMap((effect) => (effect.kind === "local" && effect.call.kind === "endTransaction" ? [effect.call.transaction] : []));
  }
}

function commit(snapshot: Seq, nextStep: number): Extract<RunResult, { kind: "commit" }> {
  const rows = [{ key: integerKey(1n), row: Buffer.from([1]), oldBytes: 0, indexKeys: [] }];
  const changes: Changes = {
    body: encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }),
    permissions: [{ space, key, kind: "write" }],
    wholeTables: [],
    schemaVersions: [],
  };
  return { kind: "commit", snapshot, outcomes: new Array<StepOutcome>(nextStep).fill(ok), nextStep, settings, changes };
}

test("what a batch leaves open, the session's next one goes on in, under the same number", () => {
  const client = new Client();
  expect(client.begin(7, null, "begin")?.transaction).toEqual({ id: 7, resumes: false });
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  expect(client.answers()).toMatchObject([{ kind: "done", outcomes: [ok], open: 7 }]);
  expect(client.begin(8, 7, "commit")?.transaction).toEqual({ id: 7, resumes: true });
  client.ran({ kind: "done", snapshot: 1 as Seq, outcomes: [ok], nextStep: 1, settings });
  expect(client.answers()[1]).toMatchObject({ kind: "done", open: null });
});

test("a conflict at COMMIT cannot run again: SQLITE_BUSY, and what follows in the batch does not run outside of the transaction", () => {
  const client = new Client();
  // Older than the change that is noted below.
  const snapshot = (client.context.appliedSeq - 1) as Seq;
  client.begin(7, null, "begin");
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  client.context.recent.note(client.context.appliedSeq, space, key, "write");
  client.begin(8, 7, "select", "commit", "delete");
  client.ran(commit(snapshot, 2));
  const busy = { kind: "error", fault: { code: "SQLITE_BUSY_SNAPSHOT", message: expect.stringMatching(/the row 1 of table \w+ was changed/) } };
  expect(client.answers()[1]).toMatchObject({ kind: "done", outcomes: [ok, busy, busy], open: null });
  expect(client.runs()).toHaveLength(2);
  expect(client.desk.table.grantCount).toBe(0);
});

test("where another one has the key it waits for it: nothing has changed that it has read", () => {
  const client = new Client();
  const [engine, age] = [1 as EngineId, { beginMs: -5, engine: 1 as EngineId, counter: 1 }];
  const { appliedSeq } = client.context;
  const other = (transaction: number, one: string) => ({
    engine,
    transaction,
    attempt: 1,
    age,
    snapshot: appliedSeq,
    items: [{ space, key: one, use: "write" as const }],
    wholeSpaces: [],
    holdsNothing: false,
  });
  expect(client.desk.table.request(other(1, key))).toEqual({ kind: "granted" });
  client.begin(7, null, "begin");
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  client.begin(8, 7, "commit");
  client.ran(commit(appliedSeq, 1));
  client.effects.push(...client.wait(100));
  client.desk.release(engine, 1, 1);
  client.effects.push(...client.wait(100));
  client.proposals.flush();
  expect(sentOf([...client.effects, ...client.take()]).filter(({ message }) => message.kind === "propose")).not.toHaveLength(0);
  expect(client.runs()).toHaveLength(2);
});

test("one that the local store has lost fails all that was to follow in it", () => {
  const client = new Client();
  client.begin(7, null, "begin");
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  client.begin(8, 7, "update", "commit");
  const fault = { code: "SQLITE_BUSY_SNAPSHOT", message: "gone", offset: -1 };
  client.ran({ kind: "lost", outcomes: [], settings, fault });
  expect(client.answers()[1]).toMatchObject({
    kind: "done",
    outcomes: [
      { kind: "error", fault },
      { kind: "error", fault },
    ],
    open: null,
  });
});

test("left alone for a minute, or by a session that ends, it is over", () => {
  const client = new Client();
  for (const request of [7, 8]) {
    client.begin(request, null, "begin");
    client.ran({ kind: "open", outcomes: [ok], settings, summary });
  }
  client.cache.transactions.endOpen(8);
  expect(client.ended).toEqual([8]);
  client.effects.push(...client.wait(59_000));
  expect(client.ended).toEqual([8]);
  client.effects.push(...client.wait(2_000));
  expect(client.ended).toEqual([8, 7]);
});

test("one in which a request is under way is not idle", () => {
  const client = new Client();
  client.begin(7, null, "begin");
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  client.begin(8, 7, "select");
  client.effects.push(...client.wait(70_000));
  expect(client.ended).toEqual([]);
});

test("a request that is refused for overload ends its transaction: the session counts it as over", () => {
  const client = new Client();
  client.begin(7, null, "begin");
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  for (let request = 1000; request < 1000 + batchesMax; request++) client.cache.transactions.begin(request, [], settings, null);
  client.begin(8, 7, "commit");
  expect(client.answers().at(-1)).toMatchObject({ kind: "failed", code: "ATOMCAST_OVERLOAD" });
  expect(client.ended).toEqual([7]);
});

test("what is open is listed, since when, how long nobody has gone on in it, and when it ends by itself", () => {
  const client = new Client();
  client.begin(7, null, "begin");
  client.context.nowMs += 10;
  client.ran({ kind: "open", outcomes: [ok], settings, summary });
  const leftMs = client.context.nowMs;
  expect(client.cache.transactions.listOpen()).toEqual([{ id: 7, beganMs: leftMs - 10, idleSinceMs: leftMs, expiresMs: leftMs + 60_000, summary }]);
  client.context.nowMs += 500;
  client.begin(8, 7, "select 1");
  expect(client.cache.transactions.listOpen()).toEqual([{ id: 7, beganMs: leftMs - 10, idleSinceMs: null, expiresMs: null, summary }]);
  client.ran({ kind: "open", outcomes: [ok], settings, summary: { ...summary, rowsWritten: 3 } });
  expect(client.cache.transactions.listOpen()).toMatchObject([{ beganMs: leftMs - 10, idleSinceMs: leftMs + 500, summary: { rowsWritten: 3 } }]);
  client.begin(9, 7, "rollback");
  client.ran({ kind: "done", snapshot: 1 as Seq, outcomes: [ok], nextStep: 1, settings });
  expect(client.cache.transactions.listOpen()).toEqual([]);
});
