/** What is particular to a store on a thread of its own; what all stores do, it does too (atom-store.test.ts). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { detachValues } from "../../src/base/large-values.js";
import { encodeRow } from "../../src/base/values.js";
import type { StoreWrites } from "../../src/storage/atom-store.js";
import { number } from "../../src/storage/lmdb-layout.js";
import { metaKeys, openTables } from "../../src/storage/lmdb-tables.js";
import { readStoreChanges } from "../../src/storage/store-changes.js";
import type { openWorkerAtomStore } from "../../src/storage/worker-atom-store.js";
import { at, batch, put, table } from "./atom-store-conformance.js";

/** A worker's file is only there compiled. */
const compiled = new URL("../../dist/src/storage/worker-atom-store.js", import.meta.url);
const lmdb = import.meta.resolve("lmdb");
const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function folder(): string {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
  ends.push(() => rmSync(directory, { recursive: true }));
  return directory;
}

async function opened(directory: string): Promise<StoreWrites> {
  const module = (await import(compiled.href)) as { openWorkerAtomStore: typeof openWorkerAtomStore };
  const store = await module.openWorkerAtomStore(directory);
  ends.push(() => store.close());
  return store;
}

/** Has LMDB's one write transaction until it is told to end: for all others, a disk that answers nothing. */
async function holdWrites(directory: string): Promise<() => void> {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const code = `
    import { parentPort, workerData } from "node:worker_threads";
    const { open } = await import(workerData.lmdb);
    const root = open({ path: workerData.directory, noSubdir: false, maxDbs: 8, compression: false, keyEncoding: "binary", encoding: "binary" });
    root.transactionSync(() => { parentPort.postMessage("held"); Atomics.wait(workerData.flag, 0, 0); });
    await root.close();`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: { directory, flag, lmdb } });
  const exited = new Promise((resolve) => worker.once("exit", resolve));
  const release = (): void => {
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
  };
  ends.push(async () => {
    release();
    await exited;
  });
  await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  return release;
}

test("while the store cannot write, the thread that gave it batches goes on, and they are stored when it can", { timeout: 60_000 }, async () => {
  const directory = folder();
  const store = await opened(directory);
  await store.apply(batch(1, [put(table, "a", "1", 1)]));
  const release = await holdWrites(directory);
  const many = batch(
    2,
    Array.from({ length: 4000 }, (_, index) => put(table, `k${index}`, "x".repeat(1000), 2)),
  );
  let stored = 0;
  const waits = [store.apply(many), store.apply(batch(3, [put(table, "b", "3", 3)]))].map((one) =>
    one.then(() => {
      stored++;
    }),
  );
  // Turns of this thread, timers and others' answers.
  for (let turn = 0; turn < 300; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect([stored, store.position.seq, store.flushedSeq <= 1]).toEqual([0, 1, true]);
  // What was given stays its giver's to read.
  expect([...readStoreChanges(many.changes.chunks)]).toHaveLength(4000);
  release();
  await Promise.all(waits);
  expect(store.position).toEqual(at(3));
});

test("its end waits for what it was given", { timeout: 60_000 }, async () => {
  const directory = folder();
  const store = await opened(directory);
  const applied = store.apply(batch(1, [put(table, "a", "1", 1)], [["name", "record"]]));
  await store.close();
  await applied;
  await expect(store.apply(batch(2, []))).rejects.toMatchObject({ code: "ATOMCAST_STORE_FAILED" });
  const again = await opened(directory);
  expect([again.position, again.flushedSeq]).toEqual([at(1), 1]);
  expect([...(await again.readCatalog())]).toEqual([["name", Buffer.from("record")]]);
});

test("what cannot be stored is refused, and the next batch taken; a store that has failed refuses all", { timeout: 60_000 }, async () => {
  const store = await opened(folder());
  await expect(store.apply(batch(1, [put(table, Buffer.alloc(3000), "1", 1)]))).rejects.toMatchObject({ name: "MalformedBytesError" });
  await store.apply(batch(2, [put(table, "a", "1", 2)]));
  expect(store.position.seq).toBe(2);
  const { row } = detachValues(encodeRow([{ columnId: 1, value: "x".repeat(70_000) }]));
  const failed = { code: "ATOMCAST_STORE_FAILED", message: expect.stringContaining("a large value that is not in the store") };
  await expect(store.apply(batch(3, [put(table, "b", row, 3)]))).rejects.toMatchObject(failed);
  await expect(store.apply(batch(3, []))).rejects.toMatchObject(failed);
  await expect(store.beginInstall()).rejects.toMatchObject(failed);
  expect(store.position.seq).toBe(2);
});

test("a folder of another format is told by its code, and its thread has ended", { timeout: 60_000 }, async () => {
  const directory = folder();
  await (await opened(directory)).close();
  const tables = openTables(directory);
  await tables.meta.put(metaKeys.format, number(99));
  await tables.root.close();
  await expect(opened(directory)).rejects.toMatchObject({ name: "DatabaseError", code: "ATOMCAST_NEWER_FORMAT" });
});

test("figures come without being asked for when what was applied is flushed", { timeout: 60_000 }, async () => {
  const store = await opened(folder());
  await store.apply(batch(1, [put(table, "a", "1", 1)]));
  await store.apply(batch(2, [put(table, "a", "2", 2)]));
  expect(store.versions.count).toBe(1);
  await store.apply(batch(3, [], [], 2));
  for (let round = 0; round < 3000 && (store.flushedSeq < 3 || store.versions.count > 0); round++)
    await new Promise((resolve) => setTimeout(resolve, 1));
  expect([store.flushedSeq, store.versions.count, store.versions.sweptCount]).toEqual([3, 0, 1]);
});
