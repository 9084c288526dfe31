/** What every atom store remembers of rows that have changed, in LMDB or in memory. */
import { afterEach, describe, expect, test } from "vitest";
import type { Seq, SpaceId } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { indexEntryKey, type RowIndex } from "../../src/base/row-index.js";
import { integerKey } from "../../src/base/sort-key.js";
import { encodeRow } from "../../src/base/values.js";
import type { AtomStore, StoreChange } from "../../src/storage/atom-store.js";
import { type AtomStoreUnderTest, at, batch, drop, eventually, put, read, table } from "./atom-store-conformance.js";

const nothing = Buffer.alloc(0);

function key(id: number): Buffer {
  return integerKey(BigInt(id));
}

function name(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** A range of the table as it was at a snapshot, from what the store says now. */
function rewound(store: AtomStore, since: number, snapshot: number, low: Buffer, high: Buffer | null): Map<string, string> | null {
  const found = store.readRows(table, low, high, Number.MAX_SAFE_INTEGER, since as Seq);
  if (found === null || snapshot < found.imagesFrom) return null;
  const rows = new Map(found.rows.map((one) => [name(one.key), Buffer.from(one.row).toString()]));
  for (const image of [...found.images].reverse()) {
    if (image.seq <= snapshot) continue;
    if (image.row === null) rows.delete(name(image.key));
    else rows.set(name(image.key), Buffer.from(image.row).toString());
  }
  return rows;
}

/** The same, read as it was then, chunk by chunk. */
function past(store: AtomStore, asOf: number, low: Buffer, high: Buffer | null, bytesMax = 1e6, space = table): Map<string, string> | null {
  const rows = new Map<string, string>();
  for (let at: Buffer | null = low; at !== null; ) {
    const found = store.readPast(space, at, high, bytesMax, asOf as Seq);
    if (found === null || found === "gone") return null;
    for (const one of found.rows) {
      expect(Buffer.compare(one.key, at)).toBeGreaterThanOrEqual(0);
      rows.set(name(one.key), Buffer.from(one.row).toString());
    }
    if (found.next !== null) expect(Buffer.compare(found.next, at)).toBeGreaterThan(0);
    at = found.next;
  }
  return rows;
}

async function settled(store: AtomStore, count: number): Promise<void> {
  for (let round = 0; round < 3000 && store.versions.count !== count; round++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(store.versions.count).toBe(count);
}

/** `bytesMax`: of versions; `droppedMax`: of what was dropped. */
export function rowVersionsConformance(title: string, make: (bytesMax?: number, droppedMax?: number) => AtomStoreUnderTest): void {
  describe(`${title}: versions`, () => {
    let subject: AtomStoreUnderTest | null = null;
    let store: AtomStore;
    afterEach(async () => {
      await store.close();
      await subject?.cleanUp();
      subject = null;
    });
    const begin = async (bytesMax?: number, droppedMax?: number): Promise<void> => {
      subject = make(bytesMax, droppedMax);
      store = await subject.open();
    };
    const remove = (id: number, seq: number): StoreChange => ({ kind: "delete", space: table, key: key(id), seq: seq as Seq });
    const isNew = (id: number, row: string, seq: number): StoreChange => ({ ...put(table, key(id), row, seq), isNew: true }) as StoreChange;

    test("an insert leaves none; an update and a deletion one each, and what one entry does to a row in between is none", async () => {
      await begin();
      await store.apply(batch(5, [isNew(1, "a", 4), isNew(2, "b", 4), isNew(3, "c", 5)]));
      expect(store.versions).toMatchObject({ count: 0, bytes: 0, floor: 0 });
      await store.apply(batch(9, [put(table, key(1), "a7", 7), put(table, key(1), "a7'", 7), remove(2, 8), isNew(2, "b8", 8), remove(3, 9)]));
      expect(store.versions.count).toBe(3);
      const { images, imagesFrom } = read(store, table, nothing, null, 1e6, 4);
      expect(imagesFrom).toBe(4);
      expect(images.map((one) => [one.seq, name(one.key), one.row === null ? null : Buffer.from(one.row).toString()])).toEqual([
        [5, name(key(3)), null],
        [7, name(key(1)), "a"],
        [8, name(key(2)), "b"],
        [9, name(key(3)), "c"],
      ]);
      // Nobody asked: nobody is told.
      expect(read(store, table, nothing, null, 1e6)).toMatchObject({ images: [], imagesFrom: 9 });
    });

    test("a bound that begins with a row's key has its versions on the right side", async () => {
      await begin();
      await store.apply(batch(1, [isNew(1, "a", 1), isNew(2, "b", 1)]));
      await store.apply(batch(2, [remove(1, 2), put(table, key(2), "b2", 2)]));
      const behind = Buffer.concat([key(1), Buffer.of(0)]);
      const imagesOf = (low: Buffer, high: Buffer | null): string[] => read(store, table, low, high, 1e6, 1).images.map((one) => name(one.key));
      expect(imagesOf(key(1), behind)).toEqual([name(key(1))]);
      expect(imagesOf(nothing, behind)).toEqual([name(key(1))]);
      expect(imagesOf(behind, null)).toEqual([name(key(2))]);
      expect(imagesOf(key(2), key(2))).toEqual([]);
    });

    test("what a dropped table had is told for every snapshot before, chunk by chunk, until the mark has passed the drop", async () => {
      await begin();
      const all = Array.from({ length: 1500 }, (_, id) => isNew(id, `old ${id}`, 1));
      await store.apply(batch(1, all));
      await store.apply(batch(2, [put(table, key(1), "two", 2), remove(2, 2)]));
      // What the same entry changes before it drops the table was never to be seen.
      await store.apply(batch(4, [put(table, key(3), "three", 4), isNew(9000, "new", 4), drop(table, 4)]));
      const asOfOne = new Map(Array.from({ length: 1500 }, (_, id) => [name(key(id)), `old ${id}`]));
      const asOfTwo = new Map(asOfOne);
      asOfTwo.set(name(key(1)), "two").delete(name(key(2)));
      const expectPast = (): void => {
        for (const bytesMax of [700, 1e6]) {
          expect(past(store, 1, nothing, null, bytesMax)).toEqual(asOfOne);
          for (const asOf of [2, 3]) expect(past(store, asOf, nothing, null, bytesMax)).toEqual(asOfTwo);
        }
        expect(past(store, 2, key(3), key(5))).toEqual(new Map([3, 4].map((id) => [name(key(id)), `old ${id}`])));
        expect(past(store, 4, nothing, null)).toEqual(new Map());
        expect(read(store, table, nothing, null, 1e6).rows).toEqual([]);
      };
      expectPast();
      await store.apply(batch(5, [], [], 1));
      if (subject?.reopen != null) {
        await settled(store, 3);
        await store.close();
        store = await subject.reopen();
      }
      expectPast();
      await store.apply(batch(6, [], [], 3));
      expect([past(store, 2, nothing, null), past(store, 3, nothing, null)]).toEqual([null, asOfTwo]);
      const { sweptCount } = store.versions;
      await store.apply(batch(7, [], [], 4));
      // All but the two that were gone before; and a version.
      await eventually(() => expect(store.versions.sweptCount - sweptCount).toBe(1498 + 1));
      expect(store.versions).toMatchObject({ count: 0, bytes: 0, floor: 4 });
      expect([past(store, 3, nothing, null), past(store, 4, nothing, null)]).toEqual([null, new Map()]);
    });

    test("a transfer has nothing of what was dropped, whatever comes before and behind it", async () => {
      await begin();
      const spaces = [1, 2, 3, 4, 5].map((place) => (table + 100 * place) as SpaceId);
      await store.apply(
        batch(
          1,
          spaces.map((space) => put(space, key(1), "x", 1)),
        ),
      );
      const gone = [spaces[0], spaces[1], spaces[4]] as SpaceId[];
      await store.apply(
        batch(
          2,
          gone.map((space) => drop(space, 2)),
        ),
      );
      const transfer = store.openTransfer();
      const parts: Buffer[] = [];
      for (let part = transfer.read("", 1); part !== null; part = transfer.read(part.next, 1)) parts.push(part.part);
      transfer.close();
      expect(parts).toHaveLength(2);
      const install = await store.beginInstall();
      for (const part of parts) await install.write(part);
      await install.finish(store.position.seq === 0 ? at(2) : store.position);
      for (const space of spaces) {
        expect(past(store, 2, nothing, null, 1e6, space)).toEqual(gone.includes(space) ? new Map() : new Map([[name(key(1)), "x"]]));
        expect(store.readPast(space, nothing, null, 1e6, 1 as Seq)).toBe("gone");
      }
    });

    test("beyond their bytes what was dropped first goes, and with it what was there before", async () => {
      await begin(undefined, 100);
      const [first, second] = [table, (table + 100) as SpaceId];
      await store.apply(batch(1, [put(first, key(1), "x", 1), put(second, key(1), "y", 1)]));
      await store.apply(batch(2, [drop(first, 2, 60)]));
      await store.apply(batch(3, []));
      expect(past(store, 1, nothing, null, 1e6, first)?.size).toBe(1);
      await store.apply(batch(4, [drop(second, 4, 60)]));
      await store.apply(batch(5, []));
      await eventually(() => expect(store.versions.floor).toBe(2));
      expect(store.readPast(first, nothing, null, 1e6, 1 as Seq)).toBe("gone");
      expect(past(store, 3, nothing, null, 1e6, second)?.size).toBe(1);
    });

    test("a chunk has the versions of its own range, up to where the next one begins", async () => {
      await begin();
      const ids = Array.from({ length: 20 }, (_, index) => index + 1);
      await store.apply(
        batch(
          1,
          ids.map((id) => isNew(id, "x".repeat(50), 1)),
        ),
      );
      await store.apply(
        batch(
          2,
          ids.map((id) => (id % 4 === 0 ? remove(id, 2) : put(table, key(id), "y".repeat(50), 2))),
        ),
      );
      const seen: string[] = [];
      let rowCount = 0;
      for (let low: Buffer | null = nothing; low !== null; ) {
        const chunk = read(store, table, low, null, 200, 1);
        rowCount += chunk.rows.length;
        seen.push(...chunk.images.map((one) => name(one.key)));
        low = chunk.next;
      }
      expect(rowCount).toBe(15);
      expect(seen.sort()).toEqual(ids.map((id) => name(key(id))).sort());
    });

    test("every snapshot from the mark on is told as it was, whatever was changed; what the mark has passed is gone", {
      timeout: 60_000,
    }, async () => {
      for (let seed = 1; seed <= 6; seed++) {
        await begin();
        const random = seededRandom(seed);
        const now = new Map<string, string>();
        const states: Map<string, string>[] = [new Map()];
        let mark = 0;
        let told = 0;
        const last = 120;
        for (let seq = 1; seq <= last; seq++) {
          const changes: StoreChange[] = [];
          for (let left = random.integer(8); left > 0; left--) {
            const id = random.integer(25);
            if (random.integer(3) === 0) {
              changes.push(remove(id, seq));
              now.delete(name(key(id)));
            } else {
              const row = `${seq}.${left}`;
              changes.push(now.has(name(key(id))) ? put(table, key(id), row, seq) : isNew(id, row, seq));
              now.set(name(key(id)), row);
            }
          }
          states.push(new Map(now));
          if (random.integer(10) === 0) mark += random.integer(seq - mark);
          const applied = store.apply(batch(seq, changes, [], mark));
          if (random.integer(3) > 0) continue;
          await applied;
          for (let look = 0; look < 4; look++) {
            const since = mark + random.integer(seq - mark + 1);
            const snapshot = since + random.integer(seq - since + 1);
            const [low, high] = [random.integer(20), random.integer(30)];
            const range = (id: string): boolean => id >= name(key(low)) && (high > 25 || id < name(key(high)));
            const found = rewound(store, since, snapshot, key(low), high > 25 ? null : key(high));
            expect(found).toEqual(new Map([...(states[snapshot] as Map<string, string>)].filter(([id]) => range(id))));
            told++;
          }
          for (let look = 0; look < 4; look++) {
            const asOf = mark + random.integer(seq - mark + 1);
            const [low, high] = [random.integer(20), random.integer(30)];
            const range = (id: string): boolean => id >= name(key(low)) && (high > 25 || id < name(key(high)));
            const found = past(store, asOf, key(low), high > 25 ? null : key(high), 1 + random.integer(60));
            expect(found).toEqual(new Map([...(states[asOf] as Map<string, string>)].filter(([id]) => range(id))));
          }
          expect(store.versions.floor).toBeLessThanOrEqual(mark);
        }
        expect(told).toBeGreaterThan(50);
        await store.apply(batch(last + 1, [], [], last));
        await settled(store, 0);
        expect(store.versions).toMatchObject({ count: 0, bytes: 0, floor: last });
        expect(store.versions.sweptCount).toBeGreaterThan(20);
        expect(store.versions.sweptBytes).toBeGreaterThan(10 * store.versions.sweptCount);
        if (seed < 6) {
          await store.close();
          await subject?.cleanUp();
        }
      }
    });

    test("the past below the floor is gone; many changed keys take several chunks", async () => {
      await begin();
      const ids = Array.from({ length: 5000 }, (_, id) => id);
      await store.apply(
        batch(
          1,
          ids.map((id) => isNew(id, "a", 1)),
        ),
      );
      await store.apply(
        batch(
          2,
          ids.map((id) => (id % 2 === 0 ? put(table, key(id), "b", 2) : remove(id, 2))),
        ),
      );
      await store.apply(
        batch(
          3,
          ids.map((id) => (id % 2 === 0 ? remove(id, 3) : isNew(id, "c", 3))),
        ),
      );
      expect(past(store, 1, nothing, null)?.size).toBe(5000);
      expect([...new Set(past(store, 2, nothing, null)?.values())]).toEqual(["b"]);
      expect(past(store, 3, nothing, null)).toEqual(new Map(ids.filter((id) => id % 2 === 1).map((id) => [name(key(id)), "c"])));
      expect(past(store, 1, key(7), Buffer.concat([key(7), Buffer.alloc(1)]))).toEqual(new Map([[name(key(7)), "a"]]));
      expect(past(store, 2, key(7), Buffer.concat([key(7), Buffer.alloc(1)]))?.size).toBe(0);
      await store.apply(batch(4, [], [], 3));
      await settled(store, 0);
      expect(store.readPast(table, nothing, null, 1e6, 2 as Seq)).toBe("gone");
      expect(past(store, 3, nothing, null)?.size).toBe(2500);
    });

    test("an index that is made while its rows change has all entries in every past since", async () => {
      await begin();
      const index: RowIndex = { space: (table + 1) as SpaceId, columns: [{ columnId: 1, collation: "BINARY", descending: false, missing: null }] };
      const row = (n: bigint, other: string): Buffer =>
        encodeRow([
          { columnId: 1, value: n },
          { columnId: 2, value: other },
        ]);
      const at = (id: number, other: string, seq: number, isNew = false): StoreChange => {
        const change = { kind: "put", space: table, key: key(id), row: row(BigInt(id), other), seq: seq as Seq, isNew } as const;
        return seq === 1 ? change : { ...change, indexes: [index] };
      };
      const ids = Array.from({ length: 2000 }, (_, id) => id);
      await store.apply(
        batch(
          1,
          ids.map((id) => at(id, "a", 1, true)),
        ),
      );
      const made = store.apply(batch(2, [{ kind: "index", space: table, index, seq: 2 as Seq }]));
      await made;
      await store.apply(batch(3, [at(1999, "b", 3)]));
      for (let round = 0; round < 3000 && store.readRows(index.space, nothing, null, 1e6) === null; round++)
        await new Promise((resolve) => setTimeout(resolve, 1));
      expect(past(store, 2, nothing, null, 1e6, index.space)?.size).toBe(2000);
      expect(store.readRows(index.space, nothing, null, 1e6, 2 as Seq)?.images).toEqual([]);
    });

    test("they are there after a restart, and counted; what the mark passed meanwhile goes", async () => {
      await begin();
      if (subject?.reopen === null) return;
      await store.apply(batch(1, [isNew(1, "a", 1), isNew(2, "b", 1)]));
      await store.apply(batch(2, [put(table, key(1), "a2", 2), remove(2, 2)]));
      await store.apply(batch(3, [put(table, key(1), "a3", 3)]));
      const before = store.versions;
      await store.close();
      store = await (subject as AtomStoreUnderTest & { reopen: () => Promise<AtomStore> }).reopen();
      expect(store.versions).toEqual({ ...before, sweptCount: 0, sweptBytes: 0 });
      expect(rewound(store, 1, 1, nothing, null)).toEqual(
        new Map([
          [name(key(1)), "a"],
          [name(key(2)), "b"],
        ]),
      );
      await store.apply(batch(4, [], [], 2));
      await settled(store, 1);
      expect(rewound(store, 1, 1, nothing, null)).toBeNull();
      expect(rewound(store, 2, 2, nothing, null)).toEqual(new Map([[name(key(1)), "a2"]]));
    });

    test("they are removed in steps, while others come, and no more than once", { timeout: 30_000 }, async () => {
      await begin();
      const ids = Array.from({ length: 3000 }, (_, index) => index);
      await store.apply(
        batch(
          1,
          ids.map((id) => isNew(id, "1", 1)),
        ),
      );
      await store.apply(
        batch(
          2,
          ids.map((id) => put(table, key(id), "2", 2)),
        ),
      );
      await store.apply(
        batch(
          3,
          ids.slice(0, 1000).map((id) => put(table, key(id), "3", 3)),
        ),
      );
      expect(store.versions.count).toBe(4000);
      const waits = [store.apply(batch(4, [], [], 2))];
      for (let seq = 5; seq < 15; seq++) waits.push(store.apply(batch(seq, [remove(seq * 200, seq)], [], 2)));
      await Promise.all(waits);
      await settled(store, 1010);
      expect(read(store, table, nothing, null, 1e9).rows).toHaveLength(2990);
      await store.apply(batch(16, [], [], 15));
      await settled(store, 0);
    });

    test("beyond their bound all are given up, and older snapshots are not told", async () => {
      await begin(2000);
      await store.apply(batch(1, [isNew(1, "0", 1)]));
      for (let seq = 2; seq <= 200; seq++) await store.apply(batch(seq, [put(table, key(1), "x".repeat(50), seq)]));
      expect(store.versions.bytes).toBeLessThan(6000);
      expect(store.versions.floor).toBeGreaterThan(100);
      expect(read(store, table, nothing, null, 1e6, 50).imagesFrom).toBe(store.versions.floor);
    });

    test("a range with more than a chunk may bring has none", async () => {
      await begin();
      await store.apply(batch(1, [isNew(1, "0", 1)]));
      for (let seq = 2; seq <= 40; seq++) await store.apply(batch(seq, [put(table, key(1), "x".repeat(60_000), seq)]));
      expect(read(store, table, nothing, null, 1e6, 1)).toMatchObject({ images: [], imagesFrom: 40 });
      const few = read(store, table, nothing, null, 1e6, 30);
      expect(few.imagesFrom).toBe(30);
      expect(few.images.map(({ seq }) => seq)).toEqual([31, 32, 33, 34, 35, 36, 37, 38, 39, 40]);
    });

    test("a copy of the store begins without any, and says so", async () => {
      await begin();
      await store.apply(batch(1, [isNew(1, "a", 1)]));
      await store.apply(batch(2, [put(table, key(1), "b", 2)]));
      const transfer = store.openTransfer();
      const part = transfer.read("", 1e6)?.part;
      const { position } = transfer;
      transfer.close();
      const install = await store.beginInstall();
      if (part !== undefined) await install.write(part);
      await install.finish(position);
      expect(store.versions).toMatchObject({ count: 0, bytes: 0, floor: 2 });
      expect(read(store, table, nothing, null, 1e6, 1)).toMatchObject({ images: [], imagesFrom: 2 });
      await store.apply(batch(3, [put(table, key(1), "c", 3)]));
      expect(rewound(store, 2, 2, nothing, null)).toEqual(new Map([[name(key(1)), "b"]]));
    });

    test("an index's entries that are gone are told", async () => {
      await begin();
      const index: RowIndex = { space: 70_001 as SpaceId, columns: [{ columnId: 1, collation: "BINARY", descending: false, missing: null }] };
      const row = (n: number): Buffer => encodeRow([{ columnId: 1, value: BigInt(n) }]);
      const set = (id: number, n: number, seq: number, isNew = false): StoreChange => ({
        kind: "put",
        space: table,
        key: key(id),
        row: row(n),
        seq: seq as Seq,
        isNew,
        indexes: [index],
      });
      await store.apply(batch(1, [set(1, 5, 1, true), set(2, 6, 1, true)]));
      await store.apply(batch(2, [set(1, 9, 2), { kind: "delete", space: table, key: key(2), seq: 2 as Seq, indexes: [index] }]));
      const { rows, images } = read(store, index.space, nothing, null, 1e6, 1);
      expect(rows.map((one) => name(one.row))).toEqual([name(key(1))]);
      const gone = images.flatMap((one) => (one.row === null ? [] : [[name(one.key), name(one.row)]]));
      const entry = (id: number, n: number): string => name(indexEntryKey(index.columns, key(id), row(n)) ?? nothing);
      expect(gone).toEqual([
        [entry(1, 5), name(key(1))],
        [entry(2, 6), name(key(2))],
      ]);
    });
  });
}
