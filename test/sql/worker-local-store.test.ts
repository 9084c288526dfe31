import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { EngineId, Life, ProposalSeq, Seq } from "../../src/base/ids.js";
import { encodeProposal } from "../../src/messages/wire/entry.js";
import { type LocalStoreReply, runsPostedMax } from "../../src/sql/local-store-calls.js";
import type { openWorkerLocalStore, strandedThreadCount, WorkerLocalStore } from "../../src/sql/worker-local-store.js";
import { freshSettings, step } from "./store-harness.js";

/** The thread loads compiled JavaScript, so this runs on what `npm run build` has made. */
const compiled = new URL("../../dist/src/sql/worker-local-store.js", import.meta.url);

describe.skipIf(!existsSync(compiled))("a local store in a worker thread", () => {
  let parent = "";
  let store: WorkerLocalStore | null = null;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), "atomcast-test-"));
  });
  afterEach(async () => {
    await store?.close();
    rmSync(parent, { recursive: true, force: true });
  });

  async function open(
    statementTimeoutMs = 0,
  ): Promise<{ next(): Promise<readonly LocalStoreReply[]>; failure: Promise<Error>; store: WorkerLocalStore }> {
    const module = (await import(compiled.href)) as { openWorkerLocalStore: typeof openWorkerLocalStore };
    const waiting: ((replies: readonly LocalStoreReply[]) => void)[] = [];
    const { promise: failure, resolve: onFailure } = deferred<Error>();
    const opened = module.openWorkerLocalStore(
      { onReplies: (replies) => waiting.shift()?.(replies), onFailure },
      {
        memoryBytes: Number.POSITIVE_INFINITY,
        statementTimeoutMs,
        parentDirectory: parent,
      },
    );
    store = opened;
    return { store: opened, failure, next: () => new Promise((resolve) => waiting.push(resolve)) };
  }

  function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
    let resolve: (value: T) => void = () => {};
    const promise = new Promise<T>((done) => {
      resolve = done;
    });
    return { promise, resolve };
  }

  const request = (sql: string, args: readonly (null | bigint | number | string | Uint8Array)[] = []) => ({
    steps: [step(sql, args)],
    firstStep: 0,
    earlier: [],
    settings: freshSettings,
    seed: 1,
    transaction: null,
  });

  test("what a killed process left behind is removed, what a live one has is not", async () => {
    const gone = spawnSync(process.execPath, ["-e", "0"]).pid;
    for (const name of [`atomcast-cache-${gone}-abc`, `atomcast-cache-${process.pid}-abc`, "atomcast-other"]) mkdirSync(join(parent, name));
    await open();
    const names = readdirSync(parent);
    expect(names).not.toContain(`atomcast-cache-${gone}-abc`);
    expect(names).toContain(`atomcast-cache-${process.pid}-abc`);
    expect(names).toContain("atomcast-other");
  });

  test("answers a batch with one message, in order, and leaves no files", async () => {
    const opened = await open();
    opened.store.post({ kind: "reset", seq: 5 as Seq, schema: [] });
    opened.store.post({ kind: "become", engine: 2 as EngineId, life: 2 as Life });
    opened.store.post({ kind: "run", id: 1, request: request("SELECT ?, ?, ?", [5n, "é", Uint8Array.of(0, 1)]) });
    opened.store.post({ kind: "run", id: 2, request: request("CREATE TABLE t(x)") });
    const replies = opened.next();
    opened.store.flush();
    const [first, second] = await replies;
    expect(first).toMatchObject({
      kind: "ran",
      id: 1,
      result: { kind: "done", outcomes: [{ kind: "ok", result: { rows: [[5n, "é", Uint8Array.of(0, 1)]] } }] },
    });
    expect(second).toMatchObject({ kind: "ran", id: 2, result: { kind: "commit", snapshot: 5 } });
    expect(readdirSync(parent)).toHaveLength(1);
    await opened.store.close();
    expect(readdirSync(parent)).toEqual([]);
  });

  const runaways = [
    ["a recursion", "with recursive r(i) as (select 1 union all select i + 1 from r) select count(*) from r"],
    [
      "a triple cross join",
      "with recursive n(i) as (select 1 union all select i + 1 from n limit 20000) select count(*) from n a, n b, n c where a.i + b.i + c.i < 0",
    ],
  ] as const;

  /** The replies to a statement that does not end, to the entry that is posted behind it, and to a look at that entry's table. */
  async function runAway(opened: Awaited<ReturnType<typeof open>>, sql: string, whileItRuns: () => void): Promise<readonly LocalStoreReply[]> {
    opened.store.post({ kind: "reset", seq: 5 as Seq, schema: [] });
    opened.store.post({ kind: "become", engine: 2 as EngineId, life: 2 as Life });
    opened.store.post({ kind: "run", id: 1, request: request("CREATE TABLE t(x)") });
    const made = opened.next();
    opened.store.flush();
    const [created] = await made;
    if (created?.kind !== "ran" || created.result.kind !== "commit") throw new Error("no table");
    const header = { engine: 2 as EngineId, proposalSeq: 1 as ProposalSeq, transactions: [], snapshot: 5 as Seq, fences: [], schemaVersions: [] };
    const entry = { seq: 6 as Seq, bytes: encodeProposal(header, [created.result.changes.body]) };
    opened.store.post({ kind: "run", id: 2, request: request(sql) });
    opened.store.post({ kind: "apply", entries: [entry], through: 6 as Seq });
    opened.store.post({ kind: "run", id: 3, request: request("SELECT count(*) FROM t") });
    const replies = opened.next();
    opened.store.flush();
    whileItRuns();
    return replies;
  }

  const interrupted = (message: string) => [
    { kind: "ran", id: 2, result: { kind: "done", outcomes: [{ kind: "error", fault: { code: "SQLITE_INTERRUPT", message } }] } },
    { kind: "applied", through: 6 },
    { kind: "ran", id: 3, result: { kind: "done", outcomes: [{ kind: "ok", result: { rows: [[0n]] } }] } },
  ];

  test.each(runaways)("%s is ended when its time is over, and what came meanwhile is applied", async (_, sql) => {
    const replies = await runAway(await open(200), sql, () => {});
    expect(replies).toMatchObject(
      interrupted("interrupted: the statement ran for more than 200 ms, as --statement-timeout allows; set it higher, or ask for less"),
    );
  });

  test.each(runaways)("%s is ended when nobody wants it any more, and what came meanwhile is applied", async (_, sql) => {
    const opened = await open();
    const replies = await runAway(opened, sql, () => setTimeout(() => opened.store.cancelRun(2), 300));
    expect(replies).toMatchObject(interrupted("interrupted: the request was given up by its client"));
    // The next run in its slot is none of its business.
    const next = opened.next();
    opened.store.post({ kind: "run", id: 2 + runsPostedMax, request: request("SELECT count(*) FROM t a, t b") });
    opened.store.flush();
    expect(await next).toMatchObject([{ kind: "ran", result: { kind: "done", outcomes: [{ kind: "ok" }] } }]);
  });

  test("a store that is closed ends what it runs", async () => {
    const opened = await open();
    opened.store.post({ kind: "reset", seq: 5 as Seq, schema: [] });
    opened.store.post({ kind: "run", id: 1, request: request(runaways[0][1]) });
    opened.store.flush();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await opened.store.close();
    const module = (await import(compiled.href)) as { strandedThreadCount: typeof strandedThreadCount };
    expect(module.strandedThreadCount()).toBe(0);
  });

  test("a store that diverges tells it once", async () => {
    const opened = await open();
    opened.store.post({ kind: "reset", seq: 5 as Seq, schema: [] });
    opened.store.post({ kind: "apply", entries: [{ seq: 6 as Seq, bytes: Uint8Array.of(9, 9) }], through: 6 as Seq });
    opened.store.flush();
    expect((await opened.failure).message).toContain("does not decode");
  });
});
