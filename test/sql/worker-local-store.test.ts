import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { EngineId, Life, Seq } from "../../src/base/ids.js";
import type { LocalStoreReply } from "../../src/sql/local-store-calls.js";
import type { openWorkerLocalStore, WorkerLocalStore } from "../../src/sql/worker-local-store.js";
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

  async function open(): Promise<{ next(): Promise<readonly LocalStoreReply[]>; failure: Promise<Error>; store: WorkerLocalStore }> {
    const module = (await import(compiled.href)) as { openWorkerLocalStore: typeof openWorkerLocalStore };
    const waiting: ((replies: readonly LocalStoreReply[]) => void)[] = [];
    const { promise: failure, resolve: onFailure } = deferred<Error>();
    const opened = module.openWorkerLocalStore({ onReplies: (replies) => waiting.shift()?.(replies), onFailure }, Number.POSITIVE_INFINITY, parent);
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

  test("a store that diverges tells it once", async () => {
    const opened = await open();
    opened.store.post({ kind: "reset", seq: 5 as Seq, schema: [] });
    opened.store.post({ kind: "apply", entries: [{ seq: 6 as Seq, bytes: Uint8Array.of(9, 9) }], through: 6 as Seq });
    opened.store.flush();
    expect((await opened.failure).message).toContain("does not decode");
  });
});
