/** What every atom store does with large values, in LMDB or in memory: all that rows and versions refer to are there, and in the end nothing else. */
import { afterEach, describe, expect, test } from "vitest";
import { largeValueSpace, type Seq, type SpaceId } from "../../src/base/ids.js";
import { attachValues, chunkKeys, detachValues, hashOfValue, type LargeValue, nameOfValue } from "../../src/base/large-values.js";
import { seededRandom } from "../../src/base/random.js";
import { indexEntryKey, type RowIndex } from "../../src/base/row-index.js";
import { integerKey } from "../../src/base/sort-key.js";
import { encodeRow, type FindValue, type SqlValue } from "../../src/base/values.js";
import type { AtomStore, StoreChange } from "../../src/storage/atom-store.js";
import { type AtomStoreUnderTest, batch, drop, eventually, read, storedRow, table } from "./atom-store-conformance.js";

const nothing = Buffer.alloc(0);
const other = 65_540 as SpaceId;
const index: RowIndex = { space: 65_541 as SpaceId, columns: [{ columnId: 2, collation: "BINARY", descending: false, missing: null }] };

function text(letter: string, chunks = 1): string {
  return letter.repeat(65_537 * chunks);
}

function key(id: number): Buffer {
  return integerKey(BigInt(id));
}

function rowOf(id: number, ...values: readonly SqlValue[]): Buffer {
  return encodeRow([BigInt(id), ...values].map((value, place) => ({ columnId: place + 1, value })));
}

/** A row as it comes in an entry: its values first. */
function put(space: SpaceId, id: number, seq: number, values: readonly SqlValue[], more: object = {}): StoreChange[] {
  const { row, values: large } = detachValues(rowOf(id, ...values));
  return [...large.map(valueChange), { kind: "put", space, key: key(id), row, seq: seq as Seq, ...more } as StoreChange];
}

function valueChange({ hash, bytes }: LargeValue): StoreChange {
  return { kind: "value", space: largeValueSpace, hash, bytes };
}

function remove(space: SpaceId, id: number, seq: number): StoreChange {
  return { kind: "delete", space, key: key(id), seq: seq as Seq };
}

function finder(store: AtomStore): FindValue {
  return ({ hash, byteCount }) => {
    const { low, high } = chunkKeys(hash);
    const bytes = Buffer.concat(read(store, largeValueSpace, low, high, Number.MAX_SAFE_INTEGER).rows.map(({ row }) => row));
    return bytes.length === byteCount ? bytes : undefined;
  };
}

/** The names of the values that are there, whole. */
function stored(store: AtomStore): string[] {
  const values = new Map<string, Buffer[]>();
  for (const one of read(store, largeValueSpace, nothing, null, Number.MAX_SAFE_INTEGER).rows) {
    const name = nameOfValue(one.key.subarray(0, 32));
    values.set(name, [...(values.get(name) ?? []), Buffer.from(one.row)]);
  }
  for (const [name, chunks] of values) expect(nameOfValue(hashOfValue(Buffer.concat(chunks)))).toBe(name);
  return [...values.keys()].sort();
}

function names(...values: readonly SqlValue[]): string[] {
  return [...new Set(detachValues(rowOf(0, ...values)).values.map(({ hash }) => nameOfValue(hash)))].sort();
}

/** `histories`: random ones; each opens some stores. */
export function largeValuesConformance(title: string, make: (bytesMax?: number) => AtomStoreUnderTest, histories = 12): void {
  describe(`${title}: large values`, () => {
    const opened: { readonly store: AtomStore; readonly subject: AtomStoreUnderTest }[] = [];
    afterEach(async () => {
      for (const { store, subject } of opened.splice(0)) {
        await store.close();
        await subject.cleanUp();
      }
    });
    const begin = async (bytesMax?: number): Promise<AtomStore> => {
      const subject = make(bytesMax);
      const store = await subject.open();
      opened.push({ store, subject });
      return store;
    };
    const reopened = async (store: AtomStore): Promise<AtomStore> => {
      const last = opened.at(-1);
      if (last === undefined || last.subject.reopen === null) return store;
      await store.close();
      const again = await last.subject.reopen();
      opened[opened.length - 1] = { store: again, subject: last.subject };
      return again;
    };

    test("are kept once for all rows that refer to them, and as long as one does", async () => {
      let store = await begin();
      await store.apply(
        batch(5, [...put(table, 1, 5, [text("a"), text("b", 3)]), ...put(table, 2, 5, [text("a")]), ...put(other, 1, 5, [text("a")])]),
      );
      expect(stored(store)).toEqual(names(text("a"), text("b", 3)));
      expect(store.values).toEqual({ count: 2, bytes: 4 * 65_537 });
      // Nothing is kept for versions: the mark is where the store is.
      await store.apply(batch(6, [remove(table, 1, 6), remove(other, 1, 6)], [], 6));
      store = await reopened(store);
      await store.apply(batch(7, [], [], 7));
      await eventually(() => expect(stored(store)).toEqual(names(text("a"))));
      await store.apply(batch(8, [remove(table, 2, 8)], [], 7));
      await store.apply(batch(9, [], [], 9));
      await eventually(() => expect(stored(store)).toEqual([]));
      await eventually(() => expect(store.values).toEqual({ count: 0, bytes: 0 }));
    });

    test("a row that keeps its value needs not bring it; what nobody refers to, and comes again, is there", async () => {
      const store = await begin();
      const [row, changed] = [detachValues(rowOf(1, text("a"), 1n)), detachValues(rowOf(1, text("a"), 2n))];
      await store.apply(batch(5, put(table, 1, 5, [text("a"), 1n])));
      await store.apply(batch(6, [{ kind: "put", space: table, key: key(1), row: changed.row, seq: 6 as Seq }], [], 5));
      expect(stored(store)).toEqual(names(text("a")));
      for (let seq = 7; seq < 40; seq += 2) {
        await store.apply(batch(seq, [remove(table, 1, seq)], [], seq));
        await store.apply(batch(seq + 1, put(table, 1, seq + 1, [text("a"), 1n]), [], seq));
        expect(stored(store)).toEqual(names(text("a")));
      }
      expect(Buffer.from(storedRow(store, table, key(1)) as Buffer).equals(row.row)).toBe(true);
      await expect(
        store.apply(batch(41, [{ kind: "put", space: table, key: key(2), row: detachValues(rowOf(2, text("?"))).row, seq: 41 as Seq }])),
      ).rejects.toThrow("large value");
    });

    test("stay for versions, whose weight they are then, and no longer", async () => {
      const store = await begin();
      await store.apply(batch(5, put(table, 1, 5, [text("a"), 1n])));
      const shared = detachValues(rowOf(1, text("a"), 2n)).row;
      await store.apply(batch(6, [{ kind: "put", space: table, key: key(1), row: shared, seq: 6 as Seq }]));
      expect(store.versions.bytes).toBeLessThan(1000);
      await store.apply(batch(7, put(table, 1, 7, [text("b"), 3n])));
      expect(store.versions.bytes).toBeGreaterThan(65_537);
      expect(stored(store)).toEqual(names(text("a"), text("b")));
      const past = store.readPast(table, nothing, null, 1e6, 6 as Seq);
      if (past === null || past === "gone") throw new Error("no past");
      expect(attachValues(Buffer.from(past.rows[0]?.row ?? []), finder(store)).equals(rowOf(1, text("a"), 2n))).toBe(true);
      await store.apply(batch(8, [], [], 7));
      await eventually(() => expect(stored(store)).toEqual(names(text("b"))));
      await eventually(() => expect(store.versions.bytes).toBe(0));
    });

    test("versions that keep more of them than may be are given up", async () => {
      const store = await begin(100_000);
      for (let seq = 5; seq < 12; seq++) await store.apply(batch(seq, put(table, 1, seq, [text(String.fromCharCode(92 + seq))])));
      await store.apply(batch(12, []));
      await eventually(() => expect(stored(store).length).toBeLessThan(4));
      expect(store.versions.floor).toBeGreaterThan(5);
    });

    test("weigh in chunks of rows, in cuts, and once for all images of a chunk", async () => {
      const store = await begin();
      await store.apply(
        batch(
          5,
          [1, 2, 3].flatMap((id) => put(table, id, 5, [text("abc"[id - 1] as string), 0n])),
        ),
      );
      expect(read(store, table, nothing, null, 100_000).rows).toHaveLength(1);
      expect(store.cuts(table, nothing, null, 60_000).cuts).toHaveLength(2);
      for (let seq = 6; seq < 46; seq++)
        await store.apply(
          batch(seq, [{ kind: "put", space: table, key: key(1), row: detachValues(rowOf(1, text("a"), BigInt(seq))).row, seq: seq as Seq }]),
        );
      expect(read(store, table, nothing, null, 1e6, 5).images).toHaveLength(40);
      for (let seq = 46; seq < 70; seq++) await store.apply(batch(seq, put(table, 1, seq, [text("d", seq - 45)])));
      const found = read(store, table, nothing, null, 1e6, 5);
      expect([found.images.length, found.imagesFrom]).toEqual([0, 69]);
    });

    test("are found for the entries of indexes, also of one that is made later", async () => {
      const store = await begin();
      const entries = (): string[] => read(store, index.space, nothing, null, 1e6).rows.map((one) => Buffer.from(one.key).toString("hex"));
      const entry = (id: number, value: string): string => (indexEntryKey(index.columns, key(id), rowOf(id, value)) as Buffer).toString("hex");
      await store.apply(batch(5, put(table, 1, 5, [text("b")])));
      await store.apply(batch(6, [{ kind: "index", space: table, index, seq: 6 as Seq }]));
      await eventually(() => expect(store.readRows(index.space, nothing, null, 1e6)).not.toBeNull());
      await store.apply(batch(7, put(table, 2, 7, [text("a")], { indexes: [index] })));
      expect(entries()).toEqual([entry(2, text("a")), entry(1, text("b"))]);
      await store.apply(batch(8, [{ ...remove(table, 1, 8), indexes: [index] } as StoreChange]));
      expect(entries()).toEqual([entry(2, text("a"))]);
    });

    test("random histories: what is there is what can be read, then what can be reached, also in a copy", async () => {
      const random = seededRandom(7);
      for (let history = 0; history < histories; history++) {
        let store = await begin();
        /** By seq, what the tables were: row id → values. */
        const states = new Map<number, Map<string, readonly SqlValue[]>>([[4, new Map()]]);
        let now = new Map<string, readonly SqlValue[]>();
        let mark = 4;
        /** The last one is there. */
        const others = [other];
        const pick = (): SqlValue => [text("a"), text("b"), text("c", 2), Buffer.alloc(70_000, "a"), "small", null][random.integer(6)] as SqlValue;
        let seq = 4;
        const check = (): void => {
          for (const [at, rows] of states) {
            if (at < mark || at > seq) continue;
            for (const space of [table, ...others]) {
              const past = store.readPast(space, nothing, null, Number.MAX_SAFE_INTEGER, at as Seq);
              if (past === null || past === "gone") throw new Error(`history ${history}: the past at ${at} of ${seq}, mark ${mark}: ${past}`);
              const found = past.rows.map((one) => attachValues(Buffer.from(one.row), finder(store)).toString("latin1"));
              const expected = [...rows].filter(([name]) => name.startsWith(`${space} `)).sort((left, right) => (left[0] < right[0] ? -1 : 1));
              expect(found.sort()).toEqual(expected.map(([name, values]) => rowOf(Number(name.split(" ")[1]), ...values).toString("latin1")).sort());
            }
          }
        };
        for (let step = 0; step < 25; step++) {
          const waits: Promise<void>[] = [];
          for (let count = 1 + random.integer(3); count > 0; count--) {
            seq++;
            now = new Map(now);
            const changes: StoreChange[] = [];
            for (let more = 1 + random.integer(3); more > 0; more--) {
              const space = random.integer(4) === 0 ? (others.at(-1) as SpaceId) : table;
              const id = 1 + random.integer(4);
              const known = now.get(`${space} ${id}`);
              const kind = random.integer(10);
              if (kind < 2 && known !== undefined) {
                changes.push(remove(space, id, seq));
                now.delete(`${space} ${id}`);
              } else if (kind === 2 && space !== table && more === 1) {
                changes.push(drop(space, seq));
                for (const name of [...now.keys()]) if (name.startsWith(`${space} `)) now.delete(name);
                others.push((space + 10) as SpaceId);
              } else {
                const values = kind < 5 && known !== undefined ? [known[0] as SqlValue, BigInt(seq)] : [pick(), pick()];
                const all = put(space, id, seq, values, { isNew: known === undefined });
                const had = known === undefined ? [] : names(...known);
                // As an entry would: without what the row had before.
                changes.push(...all.filter((one) => one.kind !== "value" || !had.includes(nameOfValue(one.hash))));
                now.set(`${space} ${id}`, values);
              }
            }
            states.set(seq, now);
            if (random.integer(4) === 0) mark = Math.max(mark, seq - 1 - random.integer(6));
            waits.push(store.apply(batch(seq, changes, [], mark)));
          }
          await Promise.all(waits);
          if (random.integer(6) === 0) store = await reopened(store);
          if (random.integer(3) === 0) check();
        }
        check();
        mark = seq;
        await store.apply(batch(++seq, [], [], mark));
        states.set(seq, now);
        const reachable = [...new Set([...now.values()].flatMap((values) => names(...values)))].sort();
        await eventually(() => expect(store.versions.count).toBe(0));
        await eventually(() => expect(stored(store)).toEqual(reachable));
        await eventually(() => expect(store.values.count).toBe(reachable.length));

        const transfer = store.openTransfer();
        const copy = await begin();
        const install = await copy.beginInstall();
        for (let cursor = ""; ; ) {
          const part = transfer.read(cursor, 50_000);
          if (part === null) break;
          await install.write(part.part);
          cursor = part.next;
        }
        transfer.close();
        await install.finish(store.position);
        expect(stored(copy)).toEqual(reachable);
        expect(copy.values).toEqual(store.values);
        const gone = [...now.keys()].map((name) => remove(Number(name.split(" ")[0]) as SpaceId, Number(name.split(" ")[1]), seq + 1));
        await copy.apply(batch(seq + 1, gone, [], seq + 1));
        await copy.apply(batch(seq + 2, [], [], seq + 2));
        await eventually(() => expect(stored(copy)).toEqual([]));
      }
    });
  });
}
