import { expect, test } from "vitest";
import type { EngineId, Seq } from "../../src/base/ids.js";
import { entryBytesMax } from "../../src/base/limits.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { CoreEffect } from "../../src/engines/core-types.js";
import { decodeEntry, encodeBody } from "../../src/messages/wire/entry.js";
import type { Changes, RunResult, SessionSettings, Step, StepOutcome } from "../../src/sql/local-store.js";
import { boot, CacheParts, createTable, proposal, sentOf, space } from "./engine-parts.js";

const settings: SessionSettings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
const steps: Step[] = ["a", "b"].map((sql) => ({ sql, args: { positional: [], named: [] }, wantRows: true, condition: null }));
const ok: StepOutcome = { kind: "ok", result: { columns: [], rows: [], affectedRowCount: 0, lastInsertRowid: null } };

/** Archive e1, a Cache e2, and the Cache under test, which made the table and is its originator. */
class Client extends CacheParts {
  readonly #effects: CoreEffect[] = [];
  #read = 0;
  #proposedRead = 0;

  constructor() {
    super();
    this.apply(boot(1, 11));
    this.apply(boot(2));
    this.apply(boot(99));
    this.proposals.propose(encodeBody(createTable()), [], () => {});
    this.applyOwn();
    this.take();
  }

  begin(): void {
    this.cache.transactions.begin(1, steps, settings, null);
  }

  collect(effects: readonly CoreEffect[] = this.take()): CoreEffect[] {
    this.#effects.push(...effects);
    return this.#effects;
  }

  pass(ms: number): void {
    this.collect(this.wait(ms));
  }

  /** The answer of the local store to the next run that was posted; false: there is none. */
  ran(result: RunResult): boolean {
    for (const effects = this.collect(); this.#read < effects.length; ) {
      const effect = effects[this.#read++];
      if (effect?.kind !== "local" || effect.call.kind !== "run") continue;
      this.cache.local.onReply({ kind: "ran", id: effect.call.id, result });
      return true;
    }
    return false;
  }

  /** What this engine has proposed is committed, and its local store has it. */
  commitOwn(): void {
    const proposed = sentOf(this.collect().slice(this.#proposedRead)).flatMap(({ message }) => (message.kind === "propose" ? [message.entry] : []));
    this.#proposedRead = this.collect().length;
    for (const bytes of proposed) {
      const entry = decodeEntry(bytes);
      // It is sent again until it is decided.
      if (entry.kind === "proposal" && entry.proposalSeq > (this.context.catalog.members.get(entry.engine)?.decided ?? 0)) this.apply(entry);
    }
    this.cache.local.flush();
    this.cache.local.onReply({ kind: "applied", through: this.context.appliedSeq, oldestSnapshot: this.context.appliedSeq });
  }

  answers(): unknown[] {
    return this.collect().flatMap((effect) => (effect.kind === "answer" ? [effect.answer] : []));
  }
}

function insert(client: Client, key: number, nextStep: number): Extract<RunResult, { kind: "commit" }> {
  const rows = [{ key: integerKey(BigInt(key)), row: Buffer.from([1]), oldBytes: 0, indexKeys: [] }];
  const changes: Changes = {
    body: encodeBody({ kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }),
    permissions: [{ space, key: integerKey(BigInt(key)).toString("latin1"), kind: "write" }],
    wholeTables: [],
    schemaVersions: [],
  };
  return { kind: "commit", snapshot: client.context.appliedSeq, outcomes: [ok], nextStep, settings, changes };
}

test("rows that nobody gives: the client is told in the end, and does not wait for ever", () => {
  const client = new Client();
  client.begin();
  client.ran({ kind: "ids", table: space });
  // No block comes: the sequencer is away.
  client.context.sequencer = null;
  client.pass(29_000);
  expect(client.answers()).toEqual([]);
  client.pass(2_000);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "ATOMCAST_UNAVAILABLE" }]);
  expect(client.cache.transactions.count).toBe(0);
});

test("an entry that does not come: the same", () => {
  const client = new Client();
  client.context.recent.note(1000 as Seq, space, integerKey(1n).toString("latin1"), "write");
  client.begin();
  client.ran(insert(client, 1, 2));
  client.pass(31_000);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "SQLITE_BUSY" }]);
});

test("the time of a pull is not counted as waiting for others", () => {
  const client = new Client();
  client.begin();
  client.ran({ kind: "ids", table: space });
  client.pass(20_000);
  client.commitOwn();
  client.pass(15_000);
  expect(client.answers()).toEqual([]);
  while (client.ran({ kind: "done", snapshot: 1 as Seq, outcomes: [ok, ok], nextStep: 2, settings })) client.pass(5);
  expect(client.answers()).toMatchObject([{ kind: "done" }]);
});

test("nor is the time of a long statement", () => {
  const client = new Client();
  client.begin();
  client.pass(40_000);
  // Somebody else has the key for a moment.
  const key = integerKey(1n).toString("latin1");
  const [engine, age] = [2 as EngineId, { beginMs: 0, engine: 2 as EngineId, counter: 1 }];
  const items = [{ space, key, use: "write" as const }];
  const other = { engine, transaction: 1, attempt: 1, age, snapshot: client.context.appliedSeq, items, wholeSpaces: [], holdsNothing: true };
  expect(client.desk.table.request(other)).toEqual({ kind: "granted" });
  client.ran(insert(client, 1, 2));
  client.pass(200);
  expect(client.answers()).toEqual([]);
  client.desk.release(engine, 1, 1);
  client.commitOwn();
  expect(client.answers()).toMatchObject([{ kind: "done" }]);
});

test("a client that is gone gives up what waits", () => {
  const client = new Client();
  client.begin();
  client.ran({ kind: "ids", table: space });
  client.cache.transactions.cancel(1);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "ATOMCAST_CANCELLED" }]);
});

test("a client that is gone while its statement runs gives it up before it is proposed", () => {
  const client = new Client();
  client.begin();
  client.cache.transactions.cancel(1);
  expect(client.answers()).toEqual([]);
  client.ran(insert(client, 1, 1));
  client.pass(100);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "ATOMCAST_CANCELLED" }]);
  expect(client.desk.table.grantCount).toBe(0);
});

test("a run that is under way for a client that is gone is ended, and no other", () => {
  const client = new Client();
  const cancelled = (): unknown[] => client.collect().filter((effect) => effect.kind === "cancelRun");
  client.cache.transactions.begin(1, steps, settings, null);
  client.cache.transactions.begin(2, steps, settings, null);
  const runs = client.collect().flatMap((effect) => (effect.kind === "local" && effect.call.kind === "run" ? [effect.call.id] : []));
  client.cache.transactions.cancel(2);
  expect(cancelled()).toEqual([{ kind: "cancelRun", past: null, run: runs[1] }]);
  const done: RunResult = { kind: "done", snapshot: 1 as Seq, outcomes: [ok, ok], nextStep: 2, settings };
  client.ran(done);
  client.cache.transactions.cancel(1);
  expect(cancelled()).toHaveLength(1);
});

test("what waits for the local store, and nobody wants any more, is not run", () => {
  const client = new Client();
  const runs = (): number => client.collect().filter((effect) => effect.kind === "local" && effect.call.kind === "run").length;
  const done: RunResult = { kind: "done", snapshot: 1 as Seq, outcomes: [ok, ok], nextStep: 2, settings };
  let request = 0;
  while (runs() === request) client.cache.transactions.begin(++request, steps, settings, null);
  const posted = runs();
  client.cache.transactions.begin(++request, steps, settings, null);
  client.cache.transactions.cancel(request - 1);
  expect(client.answers()).toEqual([]);
  client.ran(done);
  expect(client.answers()).toMatchObject([{ kind: "done" }, { kind: "failed", code: "ATOMCAST_CANCELLED" }]);
  expect(runs()).toBe(posted + 1);
  while (client.ran(done));
  expect(client.answers()).toHaveLength(request);
});

test("what is proposed when its client goes is decided all the same, with its permissions until then; what was to follow is not begun", () => {
  const client = new Client();
  client.begin();
  client.ran(insert(client, 1, 1));
  client.pass(10);
  client.cache.transactions.cancel(1);
  client.pass(200);
  expect(client.answers()).toEqual([]);
  expect(client.desk.table.grantCount).toBe(1);
  client.commitOwn();
  expect(client.answers()).toMatchObject([{ kind: "done", outcomes: [ok, { kind: "error", fault: { code: "ATOMCAST_CANCELLED" } }] }]);
  expect(client.desk.table.grantCount).toBe(0);
});

test("a table whose ids have come to their end says so", () => {
  const client = new Client();
  const largest = integerKey(2n ** 63n - 1n);
  const rows = [{ key: largest, row: Buffer.from([1]), oldBytes: 0, indexKeys: [] }];
  client.apply(proposal(2, 1, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }));
  client.begin();
  client.ran({ kind: "ids", table: space });
  client.pass(100);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "SQLITE_FULL" }]);
});

test("a statement that makes a million rows gets its ids in a few runs", () => {
  const client = new Client();
  client.begin();
  let runs = 0;
  while (client.ran({ kind: "ids", table: space }) && runs++ < 20) client.commitOwn();
  expect(client.answers()).toEqual([]);
  expect(client.context.catalog.schema.tables.get(space)?.sequenceNext).toBeGreaterThan(1_000_000n);
});

test("many small statements in a row take blocks of 4,096 ids at most", () => {
  const client = new Client();
  const next = (): bigint => client.context.catalog.schema.tables.get(space)?.sequenceNext ?? 0n;
  let largest = 0n;
  for (let n = 0; n < 20; n++) {
    const before = next();
    client.cache.ids.want(space, () => {});
    client.commitOwn();
    if (next() - before > largest) largest = next() - before;
  }
  expect(largest).toBe(4096n);
});

test("a unit that fails behind one that is committed: the client is told what was carried out", () => {
  const client = new Client();
  client.begin();
  client.ran(insert(client, 1, 1));
  client.commitOwn();
  client.ran({ kind: "ids", table: space });
  client.context.sequencer = null;
  client.pass(31_000);
  expect(client.answers()).toMatchObject([{ kind: "done", outcomes: [{ kind: "ok" }, { kind: "error", fault: { code: "ATOMCAST_UNAVAILABLE" } }] }]);
});

test("a transaction's permissions at its own desk end with it", () => {
  const client = new Client();
  client.begin();
  client.ran(insert(client, 1, 2));
  expect(client.desk.table.grantCount).toBe(1);
  client.commitOwn();
  expect(client.desk.table.grantCount).toBe(0);
});

test("changes that with all their fences are larger than an entry may be: too big, and nothing is proposed", () => {
  const client = new Client();
  client.begin();
  const { changes, ...rest } = insert(client, 1, 2);
  const schemaVersions = Array.from({ length: 6000 }, () => ({ table: space, version: 1 as Seq }));
  client.ran({ ...rest, changes: { ...changes, body: new Uint8Array(entryBytesMax - 65_536), schemaVersions } });
  expect(client.proposals.count).toBe(0);
  expect(client.answers()).toMatchObject([{ kind: "failed", code: "SQLITE_TOOBIG" }]);
  expect(client.desk.table.grantCount).toBe(0);
});
