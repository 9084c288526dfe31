import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Seq } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import type { AtomStore, StoreWrites } from "../../src/storage/atom-store.js";
import { openLmdbAtomStore } from "../../src/storage/lmdb-atom-store.js";
import { placeOf, spaceBytes, spaceOf, untilOf } from "../../src/storage/lmdb-layout.js";
import { openLmdbReads } from "../../src/storage/lmdb-reads.js";
import { openTables, type Table } from "../../src/storage/lmdb-tables.js";
import { createMemoryAtomStore } from "../../src/storage/memory-atom-store.js";
import type { openWorkerAtomStore } from "../../src/storage/worker-atom-store.js";
import {
  type AtomStoreUnderTest,
  atomStoreConformance,
  batch,
  drop,
  eventually,
  flushed,
  other,
  put,
  rowsOf,
  type StoreContents,
  table,
} from "./atom-store-conformance.js";
import { collectorConformance } from "./collector-conformance.js";
import { largeValuesConformance } from "./large-values-conformance.js";
import { rowVersionsConformance } from "./row-versions-conformance.js";

/** A worker's file is only there compiled. */
const compiled = new URL("../../dist/src/storage/worker-atom-store.js", import.meta.url);

function inLmdb(bytesMax?: number, droppedMax?: number): AtomStoreUnderTest {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
  const open = () =>
    openLmdbAtomStore(directory, { restMs: 0, ...(bytesMax !== undefined && { bytesMax }), ...(droppedMax !== undefined && { droppedMax }) });
  return { open, reopen: open, contents: () => contentsOf(directory), cleanUp: async () => rmSync(directory, { recursive: true }) };
}

/** Written by a thread of its own, read here. */
function onThread(bytesMax?: number, droppedMax?: number): AtomStoreUnderTest {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
  const open = async (): Promise<AtomStore> => {
    const module = (await import(compiled.href)) as { openWorkerAtomStore: typeof openWorkerAtomStore };
    return readBeside(await module.openWorkerAtomStore(directory, bytesMax, droppedMax), directory);
  };
  return { open, reopen: open, contents: () => contentsOf(directory), cleanUp: async () => rmSync(directory, { recursive: true }) };
}

function readBeside(writes: StoreWrites, directory: string): AtomStore {
  const { readRows, readPast, cuts, openTransfer, close } = openLmdbReads(directory);
  return {
    get position() {
      return writes.position;
    },
    get flushedSeq() {
      return writes.flushedSeq;
    },
    get versions() {
      return writes.versions;
    },
    get values() {
      return writes.values;
    },
    apply: (one) => writes.apply(one),
    readCatalog: () => writes.readCatalog(),
    beginInstall: () => writes.beginInstall(),
    readRows,
    readPast,
    cuts,
    openTransfer,
    async close() {
      await close();
      await writes.close();
    },
  };
}

/** LMDB lets anyone read beside the store. */
function contentsOf(directory: string): StoreContents {
  const tables = openTables(directory);
  tables.root.resetReadTxn();
  const nameOf = (key: Buffer, until: number | ""): string => `${spaceOf(key)} ${key.subarray(spaceBytes).toString("hex")} ${until}`;
  const keysOf = (of: Table): Buffer[] => [...of.getKeys()].map((key) => Buffer.from(key));
  const rows = keysOf(tables.rows).map((key) => nameOf(key, ""));
  const versions = keysOf(tables.versions).map((key) => nameOf(placeOf(key), untilOf(key)));
  return { rows: rows.sort(), versions: versions.sort(), unfinished: keysOf(tables.dropped).length + keysOf(tables.unmade).length };
}

function inMemory(versionBytesMax = Number.POSITIVE_INFINITY, droppedBytesMax = Number.POSITIVE_INFINITY): AtomStoreUnderTest {
  return { open: async () => createMemoryAtomStore({ versionBytesMax, droppedBytesMax }), reopen: null, contents: null, cleanUp: async () => {} };
}

atomStoreConformance("atom store in LMDB", () => inLmdb());
atomStoreConformance("atom store on a thread", () => onThread());
atomStoreConformance("atom store in memory", () => inMemory());
rowVersionsConformance("atom store in LMDB", inLmdb);
collectorConformance("atom store in LMDB", inLmdb);
collectorConformance("atom store in memory", inMemory);
rowVersionsConformance("atom store in memory", inMemory);
rowVersionsConformance("atom store on a thread", onThread);
collectorConformance("atom store on a thread", onThread);
// To open one starts a thread.
largeValuesConformance("atom store on a thread", onThread, 3);
largeValuesConformance("atom store in LMDB", inLmdb);
largeValuesConformance("atom store in memory", inMemory);

test("atom store in LMDB: what is to be swept goes a step with each batch while batches come, and by itself where none does", async () => {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
  const minutes = await openLmdbAtomStore(directory, { restMs: 600_000 });
  const ids = Array.from({ length: 3000 }, (_, id) => id);
  for (const seq of [1, 2])
    await minutes.apply(
      batch(
        seq,
        ids.map((id) => put(table, `k${id}`, String(seq), seq)),
      ),
    );
  await minutes.apply(batch(3, [drop(table, 3)]));
  for (const seq of [4, 5]) {
    const before = minutes.versions;
    await minutes.apply(batch(seq, [], [], seq - 1));
    const step = before.count - minutes.versions.count;
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThan(1000);
    await flushed(minutes, seq);
    expect(minutes.versions.count).toBe(before.count - step);
  }
  // Of versions and of dropped rows each more than the batch adds.
  const { sweptCount } = minutes.versions;
  const added = ids.slice(0, 700).map((id) => put(other, `n${id}`, "", 6));
  await minutes.apply(batch(6, added, [], 5));
  expect(minutes.versions.sweptCount - sweptCount).toBeGreaterThan(2 * added.length);
  await minutes.close();
  const soon = await openLmdbAtomStore(directory, { restMs: 20 });
  await soon.apply(batch(7, [], [], 6));
  await eventually(() => expect(soon.versions).toMatchObject({ count: 0, bytes: 0 }));
  await soon.close();
  const { rows, versions, unfinished } = contentsOf(directory);
  expect([rows.length, versions, unfinished]).toEqual([added.length, [], 0]);
  rmSync(directory, { recursive: true });
});

describe("atom store in LMDB: crashes", () => {
  test("an image taken between batches opens at one position, with exactly its rows; an unfinished install opens empty", async () => {
    const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
    const store = await openLmdbAtomStore(join(directory, "live"));
    let imageCount = 0;
    const imageOf = async (): Promise<{ seq: number; rows: string[] }> => {
      const image = join(directory, `image${imageCount++}`);
      mkdirSync(image);
      copyFileSync(join(directory, "live", "data.mdb"), join(image, "data.mdb"));
      const copy = await openLmdbAtomStore(image);
      const { seq } = copy.position;
      // Of each of the three rows all former ones, in the transaction that replaced them.
      expect(copy.versions.count).toBe(Math.max(0, 3 * (seq - 1)));
      const found = { seq, rows: rowsOf(copy, table) };
      await copy.close();
      return found;
    };
    for (let seq = 1; seq <= 12; seq++) {
      await store.apply(
        batch(
          seq,
          [0, 1, 2].map((one) => put(table, `k${one}`, String(seq), seq)),
        ),
      );
      const { seq: found, rows } = await imageOf();
      expect(found).toBeLessThanOrEqual(seq);
      expect(found).toBeGreaterThanOrEqual(store.flushedSeq === seq ? 0 : store.flushedSeq);
      expect(rows).toEqual(found === 0 ? [] : [`k0=${found}`, `k1=${found}`, `k2=${found}`]);
      await flushed(store, seq);
      expect((await imageOf()).seq).toBe(seq);
    }
    const transfer = store.openTransfer();
    const part = transfer.read("", 1e6)?.part;
    transfer.close();
    const install = await store.beginInstall();
    if (part !== undefined) await install.write(part);
    expect(await imageOf()).toEqual({ seq: 0, rows: [] });
    await install.abort();
    await store.close();
    rmSync(directory, { recursive: true });
  });
});

describe("atom store in LMDB: reads beside it", () => {
  test("chunks of the past that end before their range does keep no transaction, whatever is committed between them", async () => {
    const directory = mkdtempSync(join(tmpdir(), "atomcast-atoms-"));
    const store = await openLmdbAtomStore(directory);
    const rows = (seq: number) => Array.from({ length: 10 }, (_, one) => put(table, `k${one}`, String(seq), seq));
    await store.apply(batch(1, rows(1)));
    const reads = openLmdbReads(directory);
    // LMDB has 126 places for readers.
    for (let seq = 2; seq < 150; seq++) {
      await store.apply(batch(seq, rows(seq)));
      const found = reads.readPast(table, Buffer.alloc(0), null, 1, 1 as Seq);
      expect(found).toMatchObject({ rows: [{ key: Buffer.from("k0"), row: Buffer.from("1") }], next: Buffer.from("k1") });
    }
    await reads.close();
    await store.close();
    rmSync(directory, { recursive: true });
  });
});

describe("atom store in memory: crashes", () => {
  test("a crash goes back to a batch that was applied, no earlier than the flushed one", async () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 100; seed++) {
      const completions: (() => void)[] = [];
      const store = createMemoryAtomStore({ schedule: (complete) => completions.push(complete) });
      for (let seq = 1; seq <= 6; seq++) {
        await store.apply(batch(seq, [put(table, "k", String(seq), seq), put(table, `n${seq}`, "", seq)], [["c", String(seq)]], seq - 3));
        if (seq === 3) completions.splice(0).forEach((complete) => void complete());
      }
      expect(store.flushedSeq).toBeLessThanOrEqual(3);
      const least = store.flushedSeq;
      store.crash(seededRandom(seed));
      const { seq } = store.position;
      seen.add(seq);
      expect(seq).toBeGreaterThanOrEqual(least);
      expect(store.flushedSeq).toBe(seq);
      const names = Array.from({ length: seq }, (_, index) => `n${index + 1}=`);
      expect(rowsOf(store, table)).toEqual([`k=${seq}`, ...names]);
      expect(store.catalog.get("c")?.toString()).toBe(String(seq));
      // What the mark had passed by then is gone, and nothing else, of that or of what came later.
      const floor = Math.max(0, seq - 3);
      expect(store.versions).toMatchObject({ floor, count: Math.max(0, Math.min(seq - 1, seq - floor)) });
    }
    expect(seen.size).toBeGreaterThan(2);
  });
});
