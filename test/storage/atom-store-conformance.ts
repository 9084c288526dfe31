/** What every atom store does, in LMDB or in memory. */
import { afterEach, describe, expect, test } from "vitest";
import type { ChainHash } from "../../src/base/chain-hash.js";
import type { Seq, SpaceId, Term } from "../../src/base/ids.js";
import type { LogPosition } from "../../src/base/log-entry.js";
import { seededRandom } from "../../src/base/random.js";
import { indexEntryKey, type RowIndex } from "../../src/base/row-index.js";
import { integerKey } from "../../src/base/sort-key.js";
import { encodeRow } from "../../src/base/values.js";
import type { AtomStore, StoreBatch, StoreChange, StoredRows } from "../../src/storage/atom-store.js";
import { storeChangesOf } from "../../src/storage/store-changes.js";
import { cutsMax } from "../../src/storage/store-pieces.js";

export interface AtomStoreUnderTest {
  open(): Promise<AtomStore>;
  /** After `close`; null where nothing is kept. */
  reopen: (() => Promise<AtomStore>) | null;
  /** What is in its files while it is open, seen past its own reads; null: it has none. */
  contents: (() => StoreContents) | null;
  cleanUp(): Promise<void>;
}

export interface StoreContents {
  /** Space, key in hex, and of versions the seq until which they were there. In order. */
  readonly rows: readonly string[];
  readonly versions: readonly string[];
  /** Spaces that are dropped and not swept yet, or indexes that are being made. */
  readonly unfinished: number;
}

export const table = 65_537 as SpaceId;
export const other = (2 ** 50 + 3) as SpaceId;

export function at(seq: number): LogPosition {
  return { seq: seq as Seq, term: 2 as Term, hash: seq.toString(16).padStart(16, "0") as ChainHash };
}

export function put(space: SpaceId, key: string | Buffer, row: string | Buffer, seq: number): StoreChange {
  return { kind: "put", space, key: Buffer.from(key), row: Buffer.from(row), seq: seq as Seq };
}

export function drop(space: SpaceId, seq: number, bytes = 0): StoreChange {
  return { kind: "drop", space, seq: seq as Seq, bytes };
}

export function batch(
  seq: number,
  changes: readonly StoreChange[],
  catalog: readonly (readonly [string, string | null])[] = [],
  mark = 0,
): StoreBatch {
  return {
    changes: storeChangesOf(changes),
    mark: mark as Seq,
    position: at(seq),
    catalog: new Map(catalog.map(([name, text]) => [name, text === null ? null : Buffer.from(text)])),
  };
}

export function read(store: AtomStore, space: SpaceId, low: Buffer, high: Buffer | null, bytesMax: number, since?: number): StoredRows {
  const found = store.readRows(space, low, high, bytesMax, since as Seq | undefined);
  if (found === null) throw new Error(`space ${space} is an index that is not made yet`);
  return found;
}

export function rowsOf(store: AtomStore, space: SpaceId): string[] {
  return read(store, space, Buffer.alloc(0), null, Number.MAX_SAFE_INTEGER).rows.map(({ key, row }) => `${Buffer.from(key)}=${Buffer.from(row)}`);
}

export function storedRow(store: AtomStore, space: SpaceId, key: Buffer): Buffer | null {
  const [row] = read(store, space, key, Buffer.concat([key, Buffer.alloc(1)]), 1).rows;
  return row === undefined ? null : Buffer.from(row.row);
}

export async function flushed(store: AtomStore, seq: number): Promise<void> {
  for (let round = 0; round < 3000 && store.flushedSeq < seq; round++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(store.flushedSeq).toBe(seq);
}

/** Steps of a store go on in the background. */
export async function eventually(check: () => void): Promise<void> {
  for (let round = 0; ; round++) {
    try {
      check();
      return;
    } catch (error) {
      if (round === 2000) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export function atomStoreConformance(name: string, make: () => AtomStoreUnderTest): void {
  describe(`${name}: conformance`, () => {
    let subject: AtomStoreUnderTest | null = null;
    let store: AtomStore;
    const begin = async (): Promise<AtomStore> => {
      subject = make();
      store = await subject.open();
      return store;
    };
    afterEach(async () => {
      await store.close();
      await subject?.cleanUp();
    });

    test("a new store is empty and at no position", async () => {
      await begin();
      expect(store.position.seq).toBe(0);
      expect(store.flushedSeq).toBe(0);
      expect(rowsOf(store, table)).toEqual([]);
      expect((await store.readCatalog()).size).toBe(0);
      expect(storedRow(store, table, Buffer.from("a"))).toBeNull();
    });

    test("what is applied is visible when resolved, flushed soon after, and there after a restart", async () => {
      await begin();
      await store.apply(batch(5, [put(table, "b", "2", 4), put(table, "a", "1", 5), put(other, "a", "other", 5)], [["root", "r1"]]));
      expect(store.position).toEqual(at(5));
      await store.apply(batch(9, [put(table, "b", "3", 8), { kind: "delete", space: table, key: Buffer.from("a"), seq: 9 as Seq }], [["x", "y"]]));
      await store.apply(batch(10, [], [["x", null]]));
      const check = async (): Promise<void> => {
        expect(store.position).toEqual(at(10));
        expect(rowsOf(store, table)).toEqual(["b=3"]);
        expect(rowsOf(store, other)).toEqual(["a=other"]);
        expect(storedRow(store, table, Buffer.from("b"))?.toString()).toBe("3");
        expect(storedRow(store, table, Buffer.from("a"))).toBeNull();
        expect([...(await store.readCatalog())].map(([key, value]) => `${key}=${value}`)).toEqual(["root=r1"]);
      };
      await check();
      await flushed(store, 10);
      if (subject?.reopen === null) return;
      await store.close();
      store = await (subject as AtomStoreUnderTest & { reopen: () => Promise<AtomStore> }).reopen();
      await check();
      expect(store.flushedSeq).toBe(10);
    });

    test("batches that are not waited for are applied in order", async () => {
      await begin();
      const waits: Promise<void>[] = [];
      for (let seq = 1; seq <= 500; seq++) waits.push(store.apply(batch(seq, [put(table, `k${seq % 7}`, String(seq), seq)])));
      await Promise.all(waits);
      expect(rowsOf(store, table)).toEqual([497, 498, 499, 500, 494, 495, 496].map((seq) => `k${seq % 7}=${seq}`).sort());
    });

    test("reads are bounded by bytes, give one row at least, and go on where they stopped", async () => {
      await begin();
      const keys = Array.from({ length: 50 }, (_, index) => `k${String(index).padStart(2, "0")}`);
      await store.apply(
        batch(
          1,
          keys.map((key) => put(table, key, "x".repeat(97), 1)),
        ),
      );
      const found = read(store, table, Buffer.from("k10"), Buffer.from("k20"), 350);
      expect(found.rows.map((row) => Buffer.from(row.key).toString())).toEqual(["k10", "k11", "k12"]);
      expect(found.next?.toString()).toBe("k13");
      expect(found.seq).toBe(1);
      expect(store.readRows(table, Buffer.from("k19"), Buffer.from("k20"), 1)).toMatchObject({ next: null, rows: [{}] });
      expect(store.readRows(table, Buffer.from("k20"), Buffer.from("k20"), 1)).toMatchObject({ next: null, rows: [] });
      expect(read(store, other, Buffer.alloc(0), null, 100).rows).toEqual([]);
    });

    test("cuts make pieces of about the size asked for, and never between keys with one long prefix", async () => {
      await begin();
      const keys = Array.from({ length: 100 }, (_, index) => Buffer.from(`k${String(index).padStart(3, "0")}`));
      await store.apply(
        batch(
          1,
          keys.map((key) => put(table, key, Buffer.alloc(96), 1)),
        ),
      );
      const { cuts, pieces } = store.cuts(table, Buffer.alloc(0), null, 2500);
      expect(cuts.map(String)).toEqual(["k025", "k050", "k075"]);
      expect(pieces).toEqual(Array.from({ length: 4 }, () => ({ bytes: 2500, rows: 25 })));
      expect(store.cuts(table, Buffer.from("k090"), Buffer.from("k095"), 1).cuts.map(String)).toEqual(["k091", "k092", "k093", "k094"]);
      expect(store.cuts(other, Buffer.alloc(0), null, 100)).toEqual({ cuts: [], pieces: [{ bytes: 0, rows: 0 }] });
      // So many at a time; the rest has no size.
      const some = store.cuts(table, Buffer.alloc(0), null, 400);
      expect(some.cuts.map(String)).toEqual(Array.from({ length: cutsMax }, (_, index) => `k${String(4 * (index + 1)).padStart(3, "0")}`));
      expect(some.pieces).toEqual(Array.from({ length: cutsMax }, () => ({ bytes: 400, rows: 4 })));
      const long = [1, 2, 3].map((tail) => Buffer.concat([Buffer.alloc(1024, 0x61), Buffer.from([tail])]));
      await store.apply(
        batch(
          2,
          long.map((key) => put(other, key, "x", 2)),
        ),
      );
      expect(store.cuts(other, Buffer.alloc(0), null, 1).cuts).toEqual([]);
    });

    test("a dropped space is empty at once", async () => {
      await begin();
      const many = Array.from({ length: 3000 }, (_, index) => put(table, `old${index}`, "x", 1));
      await store.apply(batch(1, [...many, put(other, "stays", "1", 1)]));
      const waits = [store.apply(batch(2, [put(table, "p", "2", 2)])), store.apply(batch(3, [put(table, "q", "3", 3), drop(table, 3)]))];
      await Promise.all(waits);
      const expectNothing = (): void => {
        expect(rowsOf(store, table)).toEqual([]);
        expect(storedRow(store, table, Buffer.from("old7"))).toBeNull();
        expect(store.cuts(table, Buffer.alloc(0), null, 100).pieces).toEqual([{ bytes: 0, rows: 0 }]);
        expect(rowsOf(store, other)).toEqual(["stays=1"]);
      };
      expectNothing();
      // And while it is swept.
      await store.apply(batch(4, [], [], 3));
      expectNothing();
      for (let round = 0; round < 20; round++) await new Promise((resolve) => setTimeout(resolve, 2));
      expectNothing();
    });

    test("a transfer shows the store as it was, resumes anywhere, and installs into another", async () => {
      await begin();
      const random = seededRandom(4);
      const changes = Array.from({ length: 400 }, (_, index) =>
        put(index % 2 === 0 ? table : other, `k${index}`, "v".repeat(random.integer(300)), 7),
      );
      await store.apply(
        batch(7, changes, [
          ["root", "1"],
          ["atoms/1", "2"],
        ]),
      );
      const wanted = [rowsOf(store, table), rowsOf(store, other)];
      const transfer = store.openTransfer();
      expect(transfer.position).toEqual(at(7));
      await store.apply(batch(8, [put(table, "later", "x", 8), drop(other, 8)], [["root", "changed"]]));
      const parts: Buffer[] = [];
      for (let next = transfer.read("", 2000); next !== null; next = transfer.read(next.next, 2000)) {
        expect(transfer.read(next.next, 100)?.part).toEqual(transfer.read(next.next, 100)?.part);
        parts.push(next.part);
        await store.apply(batch(8 + parts.length, [put(table, `more${parts.length}`, "x", 8 + parts.length)]));
      }
      transfer.close();
      expect(parts.length).toBeGreaterThan(10);
      const install = await store.beginInstall();
      expect(store.position.seq).toBe(0);
      await expect(install.write(Buffer.from("garbage"))).rejects.toMatchObject({ name: "MalformedBytesError" });
      for (const part of parts) await install.write(part);
      await install.finish(at(7));
      expect(store.position).toEqual(at(7));
      expect(store.flushedSeq).toBe(7);
      expect([rowsOf(store, table), rowsOf(store, other)]).toEqual(wanted);
      expect((await store.readCatalog()).get("root")?.toString()).toBe("1");
      await store.apply(batch(8, [put(table, "z", "z", 8)]));
      expect(rowsOf(store, table)).toEqual([...(wanted[0] ?? []), "z=z"]);
    });

    test("an install that is given up leaves an empty store", async () => {
      await begin();
      await store.apply(batch(1, [put(table, "a", "1", 1)]));
      const install = await store.beginInstall();
      await install.abort();
      expect(store.position.seq).toBe(0);
      expect(rowsOf(store, table)).toEqual([]);
      await store.apply(batch(2, [put(table, "b", "1", 2)]));
      expect(rowsOf(store, table)).toEqual(["b=1"]);
    });

    test("open transfers are bounded", async () => {
      await begin();
      const open = Array.from({ length: 4 }, () => store.openTransfer());
      expect(() => store.openTransfer()).toThrow(/already/);
      open[0]?.close();
      open[0]?.close();
      store.openTransfer();
      expect(() => store.openTransfer()).toThrow(/already/);
    });

    test("random batches leave what a plain map would hold", async () => {
      await begin();
      const random = seededRandom(11);
      const model = new Map<string, string>();
      let space = table;
      for (let seq = 1; seq <= 150; seq++) {
        const changes: StoreChange[] = [];
        for (let count = random.integer(12); count > 0; count--) {
          const key = Buffer.from([random.integer(3) * 127, random.integer(4), ...(random.integer(2) === 0 ? [0] : [])]);
          const name = key.toString("hex");
          const kind = random.integer(20);
          if (kind === 0) {
            // Another table comes after it.
            changes.push(drop(space, seq));
            space = (space + 2) as SpaceId;
            model.clear();
          } else if (kind < 6) {
            changes.push({ kind: "delete", space, key, seq: seq as Seq });
            model.delete(name);
          } else {
            changes.push(put(space, key, `${seq}.${count}`, seq));
            model.set(name, `${seq}.${count}`);
          }
        }
        const applied = store.apply(batch(seq, changes));
        if (random.integer(3) === 0) await applied;
      }
      await store.apply(batch(151, []));
      const found = read(store, space, Buffer.alloc(0), null, Number.MAX_SAFE_INTEGER).rows;
      expect(found.map(({ key, row }) => [Buffer.from(key).toString("hex"), Buffer.from(row).toString()])).toEqual([...model].sort());
    });

    test("an index has an entry for each row, whatever was changed while it was made, and is gone when it is cleared", async () => {
      await begin();
      const random = seededRandom(12);
      const byText: RowIndex = { space: 70_001 as SpaceId, columns: [{ columnId: 2, collation: "NOCASE", descending: true, missing: "none" }] };
      const byBoth: RowIndex = {
        space: 70_002 as SpaceId,
        columns: [
          { columnId: 1, collation: "BINARY", descending: false, missing: null },
          { columnId: 2, collation: "BINARY", descending: false, missing: "none" },
        ],
      };
      const model = new Map<string, { key: Buffer; row: Buffer }>();
      let indexes: RowIndex[] = [];
      let seq = 0;
      const change = (count: number): StoreChange[] =>
        Array.from({ length: count }, (): StoreChange => {
          const key = random.integer(50) === 0 ? Buffer.alloc(900, random.integer(3)) : integerKey(BigInt(random.integer(3000)));
          const common = { space: table, key, seq: seq as Seq, ...(indexes.length === 0 ? {} : { indexes: [...indexes] }) };
          if (random.integer(4) === 0) {
            model.delete(key.toString("latin1"));
            return { kind: "delete", ...common };
          }
          const text = random.integer(60) === 0 ? "x".repeat(1200 + random.integer(3)) : ["a", "A", "b", null][random.integer(4)];
          const cells = [{ columnId: 1, value: random.integer(5) === 0 ? null : BigInt(random.integer(9)) }];
          const row = encodeRow(text === null || text === undefined ? cells : [...cells, { columnId: 2, value: text }]);
          model.set(key.toString("latin1"), { key, row });
          return { kind: "put", row, ...common };
        });
      const apply = (...changes: StoreChange[]): Promise<void> => store.apply(batch(seq, changes));
      const expectEntries = async ({ space, columns }: RowIndex): Promise<void> => {
        for (let round = 0; round < 3000 && store.readRows(space, Buffer.alloc(0), null, 1) === null; round++)
          await new Promise((resolve) => setTimeout(resolve, 1));
        const wanted = [...model.values()].flatMap(({ key, row }) => {
          const entry = indexEntryKey(columns, key, row);
          return entry === null ? [] : [`${entry.toString("hex")}=${key.toString("hex")}`];
        });
        const found = read(store, space, Buffer.alloc(0), null, Number.MAX_SAFE_INTEGER).rows;
        expect(found.map(({ key, row }) => `${Buffer.from(key).toString("hex")}=${Buffer.from(row).toString("hex")}`)).toEqual(wanted.sort());
      };
      seq = 1;
      await apply(...change(4000));
      for (const index of [byText, byBoth]) {
        seq++;
        const before = change(5);
        indexes = [...indexes, index];
        const made = apply(...before, { kind: "index", space: table, index, seq: seq as Seq }, ...change(5));
        for (let round = 0; round < 10; round++) {
          seq++;
          const applied = apply(...change(10));
          if (round % 2 === 0 || round === 9) await applied;
        }
        await made;
      }
      await expectEntries(byText);
      await expectEntries(byBoth);
      seq++;
      indexes = [byBoth];
      await apply(drop(byText.space, seq), ...change(3));
      expect(rowsOf(store, byText.space)).toEqual([]);
      await expectEntries(byBoth);
    });
  });
}
