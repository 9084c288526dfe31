/** Chunks that a store gives of the rows that it holds: each row of the range once, in the order of the keys, as of what is applied. */
import { afterEach, describe, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { encodeSortKeyOf, integerKey } from "../../src/base/sort-key.js";
import type { Chunk } from "../../src/sql/local-store.js";
import { chunkBytesMax, chunkRowsMax } from "../../src/sql/read-chunk.js";
import { Cluster } from "./store-harness.js";

const clusters: Cluster[] = [];

function stores(count: number): Cluster {
  const c = new Cluster(count);
  clusters.push(c);
  return c;
}

afterEach(() => {
  for (const c of clusters.splice(0)) c.close();
});

const empty = Buffer.alloc(0);
const id = (value: number): Buffer => integerKey(BigInt(value));

function spaceOf(c: Cluster, table = "t"): SpaceId {
  return c.schema.get(table)?.object.space as SpaceId;
}

/** The whole range, chunk by chunk. */
function readAll(c: Cluster, low: Buffer, high: Buffer | null, bytesMax: number): { readonly rows: Chunk["rows"]; readonly chunks: number } | null {
  const rows: Chunk["rows"][number][] = [];
  let chunks = 0;
  for (let at: Buffer | null = low; at !== null; ) {
    const chunk: Chunk | null = c.engine(0).store.readChunk(spaceOf(c), at, high, bytesMax);
    if (chunk === null) return null;
    expect(chunk.seq).toBe(c.seq);
    if (chunk.next !== null) expect(Buffer.compare(chunk.next, at)).toBe(1);
    rows.push(...chunk.rows);
    chunks++;
    at = chunk.next;
  }
  return { rows, chunks };
}

/** From the log. */
function inOrder(c: Cluster, low: Buffer, high: Buffer | null): { key: string; row: string }[] {
  return c
    .rowsOf(spaceOf(c))
    .filter(({ key }) => Buffer.compare(key, low) >= 0 && (high === null || Buffer.compare(key, high) < 0))
    .sort((left, right) => Buffer.compare(left.key, right.key))
    .map(asText);
}

function asText({ key, row }: { readonly key: Uint8Array; readonly row: Uint8Array }): { key: string; row: string } {
  return { key: Buffer.from(key).toString("hex"), row: Buffer.from(row).toString("hex") };
}

describe("held", () => {
  const tables: Readonly<Record<string, string>> = {
    integer: "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",
    rowid: "CREATE TABLE t(a, b)",
    composite: "CREATE TABLE t(a, b, v, PRIMARY KEY (a, b)) WITHOUT ROWID",
    descending: "CREATE TABLE t(a, b, v, PRIMARY KEY (b DESC, a)) WITHOUT ROWID",
    collated: "CREATE TABLE t(a TEXT COLLATE RTRIM, b, PRIMARY KEY (a COLLATE NOCASE, b DESC)) WITHOUT ROWID",
  };
  for (const [name, ddl] of Object.entries(tables)) {
    test(`any range of a table of kind "${name}", in chunks of any size`, () => {
      const c = stores(1);
      c.sql(0, ddl);
      const values = [-5, 1.5, 2, "a", "B", "b ", "é", "x\u{10000}", 9007199254740993n, Buffer.from([0, 255])];
      for (const a of values) for (const b of values.slice(2)) c.sql(0, "INSERT OR IGNORE INTO t(a, b) VALUES (?, ?)", [a, b].map(sqlValue));
      const keys = inOrder(c, empty, null).map(({ key }) => Buffer.from(key, "hex"));
      expect(keys.length).toBeGreaterThan(40);
      for (const [first, last] of [
        [0, keys.length],
        [3, 11],
        [9, 10],
        [17, keys.length - 2],
        [30, keys.length],
        [12, 12],
      ] as const) {
        const [low, high] = [first === 0 ? empty : (keys[first] ?? empty), keys[last] ?? null];
        for (const bytesMax of [1, 100, 1_000_000]) {
          const read = readAll(c, low, high, bytesMax);
          expect(read?.rows.map(asText)).toEqual(inOrder(c, low, high));
          if (bytesMax === 1) expect(read?.chunks).toBe(Math.max(1, last - first));
        }
      }
    });
  }

  test("up to the end of what is held there, and no further", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (9, 'i')");
    const { store } = c.engine(0);
    store.dropRange(spaceOf(c), id(3), id(5));
    const chunk = store.readChunk(spaceOf(c), id(1), null, 1000);
    expect(chunk?.rows.map(({ key }) => key)).toEqual([id(1), id(2)]);
    expect(chunk?.next).toEqual(id(3));
    expect(store.readChunk(spaceOf(c), id(3), null, 1000)).toBeNull();
    expect(store.readChunk(spaceOf(c), id(5), null, 1000)).toMatchObject({ rows: [{ key: id(9) }], next: null });
    expect(store.readChunk(spaceOf(c), id(1), id(2), 1000)).toMatchObject({ rows: [{ key: id(1) }], next: null });
  });

  test("no more rows or bytes than its limits, whatever is asked for", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, `WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${chunkRowsMax + 5}) INSERT INTO t SELECT i, 'x' FROM n`);
    const { store } = c.engine(0);
    expect(store.readChunk(spaceOf(c), empty, null, 2 ** 40)).toMatchObject({ next: id(chunkRowsMax + 1) });
    c.sql(0, "UPDATE t SET v = ? WHERE id < 20", ["y".repeat(chunkBytesMax / 4)]);
    expect(store.readChunk(spaceOf(c), empty, null, 2 ** 40)).toMatchObject({ next: id(5) });
  });

  test("as of what is applied, whatever a transaction that waits for its client has done", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    const client = c.client(0);
    c.in(client, "BEGIN", "UPDATE t SET v = 'mine'", "DELETE FROM t WHERE id = 2");
    c.sql(1, "UPDATE t SET v = 'new' WHERE id = 2");
    expect(readAll(c, empty, null, 1000)?.rows.map(asText)).toEqual(inOrder(c, empty, null));
    expect(c.in(client, "SELECT * FROM t")).toMatchObject([{ kind: "ok", result: { rows: [[1n, "mine"]] } }]);
    expect(readAll(c, empty, null, 1000)?.rows.map(asText)).toEqual(inOrder(c, empty, null));
  });

  test("rows from before a column was added and another one dropped are told as they are now", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a', 'b')");
    c.sql(0, "ALTER TABLE t ADD COLUMN x DEFAULT 7");
    c.sql(0, "ALTER TABLE t DROP COLUMN v");
    expect(c.rows(1, "SELECT * FROM t")).toEqual([[1n, "b", 7n]]);
    expect(c.chunksRead).toBe(1);
  });
});

describe("nothing is given", () => {
  test("not held: of what is joining, of an index, of a table that is gone or not known", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a')");
    const space = spaceOf(c);
    const { store } = c.engine(1);
    expect(store.readChunk(space, empty, null, 1000)).toBeNull();
    store.beginHold(space, empty, null);
    expect(store.readChunk(space, empty, null, 1000)).toBeNull();
    const index = c.schema.get("t")?.object.uniques[0]?.space as SpaceId;
    expect(c.engine(0).store.readChunk(index, empty, null, 1000)).toBeNull();
    c.sql(0, "DROP TABLE t");
    for (const one of [space, 12_345 as SpaceId]) expect(c.engine(0).store.readChunk(one, empty, null, 1000)).toBeNull();
  });

  test("cut key: of rows whose keys are longer than a key can be, and of none beside them in the chunk", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(k TEXT PRIMARY KEY) WITHOUT ROWID");
    for (const key of ["a", "b", "m".repeat(1200), `${"m".repeat(1200)}n`, "y", "z"]) c.sql(0, "INSERT INTO t VALUES (?)", [key]);
    const keyOf = (text: string): Buffer => encodeSortKeyOf([text], [{ collation: "BINARY", descending: false }]);
    const { store } = c.engine(0);
    const read = (low: Buffer, high: Buffer | null) => store.readChunk(spaceOf(c), low, high, 1000)?.rows.length ?? null;
    expect(read(empty, null)).toBeNull();
    expect(read(empty, keyOf("c"))).toBe(2);
    expect(read(keyOf("n"), null)).toBe(2);
    expect(read(keyOf("m".repeat(1200)), null)).toBeNull();
    expect(read(empty, keyOf("m".repeat(1200)))).toBeNull();
  });

  test("malformed: bytes that are no key of the table", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE w(a TEXT, b, PRIMARY KEY (a, b)) WITHOUT ROWID");
    const { store } = c.engine(0);
    const whole = encodeSortKeyOf(
      ["a", 1n],
      [
        { collation: "BINARY", descending: false },
        { collation: "BINARY", descending: false },
      ],
    );
    for (const bytes of [
      Buffer.from([1]),
      Buffer.from("nonsense"),
      whole.subarray(0, 5),
      Buffer.concat([whole, id(3)]),
      Buffer.from([3, 0xff, 0, 0]),
      Buffer.alloc(3000, 7),
    ])
      for (const table of ["t", "w"]) {
        expect(store.readChunk(spaceOf(c, table), bytes, null, 1000)).toBeNull();
        expect(store.readChunk(spaceOf(c, table), empty, bytes, 1000)).toBeNull();
      }
    expect(store.readChunk(spaceOf(c, "w"), whole, null, 1000)).toEqual({ seq: c.seq, rows: [], next: null });
  });
});

function sqlValue(value: number | bigint | string | Buffer): number | bigint | string | Uint8Array {
  return typeof value === "number" && Number.isInteger(value) ? BigInt(value) : value;
}
