/** Ranges that the local store gives up: their rows go and nothing else does, statements ask for them again, and the file does not grow by it. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { EngineId, Life, Seq, SpaceId } from "../../src/base/ids.js";
import { encodeSortKeyOf, integerKey } from "../../src/base/sort-key.js";
import type { LocalStore } from "../../src/sql/local-store.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";
import { usedRangesMax } from "../../src/sql/used-ranges.js";
import { type Client, Cluster, freshSettings, step } from "./store-harness.js";

const clusters: Cluster[] = [];
const directories: string[] = [];
const opened: LocalStore[] = [];

function stores(count: number): Cluster {
  const c = new Cluster(count);
  clusters.push(c);
  return c;
}

afterEach(() => {
  for (const c of clusters.splice(0)) c.close();
  for (const store of opened.splice(0)) store.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function spaceOf(c: Cluster, table: string): SpaceId {
  return c.schema.get(table)?.object.space as SpaceId;
}

const id = (value: number): Buffer => integerKey(BigInt(value));

describe("a range that is given up", () => {
  test("is seen by a run before, and asked for by one after", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    const { store } = c.engine(0);
    const run = (sql: string) =>
      store.run({ steps: [step(sql)], firstStep: 0, earlier: [], settings: freshSettings, seed: 1, transaction: null }, {});
    expect(run("SELECT v FROM t WHERE id = 2")).toMatchObject({ kind: "done", outcomes: [{ result: { rows: [["b"]] } }] });
    store.dropRange(spaceOf(c, "t"), id(2), id(3));
    const key = id(2).toString("latin1");
    expect(run("SELECT v FROM t WHERE id = 2")).toEqual({
      kind: "pull",
      needs: [{ space: spaceOf(c, "t"), ranges: [{ low: key, high: `${key}\0` }] }],
    });
    expect(run("SELECT v FROM t WHERE id = 3")).toMatchObject({ kind: "done", outcomes: [{ result: { rows: [["c"]] } }] });
    expect(run("SELECT count(*) FROM t")).toMatchObject({ kind: "pull", needs: [{ ranges: null }] });
    expect(c.rows(0, "SELECT * FROM t")).toEqual([
      [1n, "a"],
      [2n, "b"],
      [3n, "c"],
    ]);
  });

  test("takes no more part in what is committed, and comes back as it is then", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    expect(c.rows(1, "SELECT count(*) FROM t")).toEqual([[2n]]);
    c.engine(1).store.dropRange(spaceOf(c, "t"), id(1), id(2));
    // Had its row stayed behind, its old value would stand against this one.
    c.sql(0, "UPDATE t SET v = 'c' WHERE id = 1");
    c.sql(0, "UPDATE t SET v = 'a' WHERE id = 2");
    expect(c.rows(1, "SELECT v FROM t WHERE id = 2")).toEqual([["a"]]);
    expect(c.rows(1, "SELECT * FROM t")).toEqual(c.rows(0, "SELECT * FROM t"));
  });

  test("fires no trigger, and no foreign key's action", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) ON DELETE CASCADE)");
    c.sql(0, "CREATE TABLE log(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "CREATE TRIGGER pd AFTER DELETE ON p BEGIN INSERT INTO log(v) VALUES (old.id); END");
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    c.sql(0, "INSERT INTO c VALUES (1, 1), (2, 2)");
    c.sql(0, "INSERT INTO log VALUES (100, 'here')");
    for (const table of ["p", "c", "log"]) c.sql(1, `SELECT count(*) FROM ${table}`);
    c.engine(1).store.dropRange(spaceOf(c, "p"), Buffer.alloc(0), null);
    expect(c.engine(1).store.heldHash(spaceOf(c, "p"))).toBeNull();
    for (const table of ["c", "log"]) expect(c.engine(1).store.tableHash(spaceOf(c, table))).toBe(c.engine(0).store.tableHash(spaceOf(c, table)));
  });

  test("leaves a range beside it joining", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    const space = spaceOf(c, "t");
    expect(c.rows(1, "SELECT v FROM t WHERE id = 1")).toEqual([["a"]]);
    const { store } = c.engine(1);
    store.beginHold(space, id(3), null);
    const rows = c.rowsOf(space).filter(({ key }) => Buffer.from(key).equals(id(3)));
    const at = store.appliedSeq;
    c.sql(0, "UPDATE t SET v = 'new'");
    store.dropRange(space, Buffer.alloc(0), id(2));
    expect(store.install(space, id(3), null, at, rows)).toBe("held");
    expect(c.rows(1, "SELECT v FROM t WHERE id = 3")).toEqual([["new"]]);
    expect(c.rows(1, "SELECT v FROM t WHERE id = 1")).toEqual([["new"]]);
  });

  test("and that a larger one, which joins, has in it: the chunk that comes for that one lacks what was changed while it was held", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a')");
    const space = spaceOf(c, "t");
    const { store } = c.engine(1);
    store.beginHold(space, Buffer.alloc(0), null);
    const [rows, at] = [c.rowsOf(space), store.appliedSeq];
    // A block of ids, a row in it, and it is given up.
    store.holdEmpty(space, id(100), id(132));
    c.sql(0, "INSERT INTO t VALUES (100, 'b')");
    store.dropRange(space, id(100), id(132));
    expect(store.install(space, Buffer.alloc(0), null, at, rows)).toBe("full");
    store.abandonHold(space, Buffer.alloc(0), null);
    expect(c.rows(1, "SELECT * FROM t")).toEqual(c.rows(0, "SELECT * FROM t"));
  });

  test("of a table that is gone, or of which nothing is here, is nothing", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const space = spaceOf(c, "t");
    c.engine(1).store.dropRange(space, id(1), null);
    c.sql(0, "DROP TABLE t");
    c.engine(0).store.dropRange(space, id(1), null);
  });

  test("of keys that do not keep their values is found all the same", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID");
    const long = (letter: string): string => letter.repeat(1200);
    const keys = ["a", long("B"), "c\0d", "E", long("f"), "g"];
    for (const key of keys) c.sql(0, "INSERT INTO t VALUES (?)", [key]);
    const order = [{ collation: "NOCASE" as const, descending: false }];
    const keyOf = (text: string): Buffer => encodeSortKeyOf([text], order);
    const { store } = c.engine(0);
    store.dropRange(spaceOf(c, "t"), keyOf(long("b")), keyOf("C\0d"));
    store.dropRange(spaceOf(c, "t"), keyOf("e"), keyOf(long("F")));
    const before = c.rowsPulled;
    expect(c.rows(0, "SELECT k FROM t WHERE k = 'C' || char(0) || 'd' OR 1").length).toBe(keys.length);
    expect(c.rowsPulled - before).toBe(keys.length);
    const left = (): number => (store.heldHash(spaceOf(c, "t"))?.ranges ?? []).length;
    expect(left()).toBe(1);
  });
});

describe("what an open transaction has written, and whose range is given up before its COMMIT", () => {
  const begun = (sql: string): { c: Cluster; client: Client; space: SpaceId } => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    c.rows(1, "SELECT * FROM t");
    const client = c.client(1);
    c.in(client, "BEGIN", sql);
    const space = spaceOf(c, "t");
    c.engine(1).store.dropRange(space, id(1), id(3));
    return { c, client, space };
  };
  const all = "SELECT * FROM t ORDER BY id";

  test.each([
    ["DELETE FROM t WHERE id = 2", [1n, 3n]],
    ["UPDATE t SET v = 'd' WHERE id = 2", [1n, 2n, 3n]],
    ["REPLACE INTO t VALUES (1, 'e')", [1n, 2n, 3n]],
    ["UPDATE t SET id = 9 WHERE id = 1", [2n, 3n, 9n]],
  ])("is committed as it was written: %s", (sql, ids) => {
    const { c, client } = begun(sql);
    expect(c.in(client, "COMMIT").at(-1)?.kind).toBe("ok");
    for (const index of [0, 1]) expect(c.rows(index, "SELECT id FROM t ORDER BY id").map(([one]) => one)).toEqual(ids);
    expect(c.rows(1, all)).toEqual(c.rows(0, all));
  });

  test("conflicts where another one has changed it", () => {
    const { c, client } = begun("DELETE FROM t WHERE id = 2");
    c.sql(0, "UPDATE t SET v = 'new' WHERE id = 2");
    expect(c.in(client, "COMMIT").at(-1)).toMatchObject({ kind: "error", fault: { code: "SQLITE_BUSY_SNAPSHOT" } });
    expect(c.rows(1, all)).toEqual(c.rows(0, all));
  });

  test("is read by it as it was written", () => {
    const { c, client } = begun("UPDATE t SET v = 'd' WHERE id = 2");
    expect(c.in(client, "SELECT v FROM t WHERE id = 2").at(-1)).toMatchObject({ kind: "ok", result: { rows: [["d"]] } });
    c.in(client, "ROLLBACK");
    expect(c.rows(1, all)).toEqual(c.rows(0, all));
  });

  test("deferred constraints look at all rows, whatever was given up", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)");
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    c.sql(0, "INSERT INTO c VALUES (1, 1), (2, 2)");
    for (const table of ["p", "c"]) c.rows(1, `SELECT * FROM ${table}`);
    const client = c.client(1);
    c.in(client, "BEGIN", "DELETE FROM p WHERE id = 1");
    c.engine(1).store.dropRange(spaceOf(c, "c"), Buffer.alloc(0), null);
    expect(c.in(client, "COMMIT").at(-1)).toMatchObject({ kind: "error", fault: { code: "SQLITE_CONSTRAINT_FOREIGNKEY" } });
  });

  test("reads its snapshot, with what it wrote, though what comes again has changed", () => {
    for (const own of ["SAVEPOINT s", "INSERT INTO u VALUES (3, 'c')"]) {
      const c = stores(2);
      c.sql(0, "CREATE TABLE u(id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
      c.sql(0, "INSERT INTO u VALUES (1, 'a'), (2, 'b')");
      c.rows(1, "SELECT * FROM u");
      const client = c.client(1);
      c.in(client, "BEGIN", "SELECT * FROM u", own);
      c.engine(1).store.dropRange(spaceOf(c, "u"), id(1), id(2));
      c.sql(0, "UPDATE u SET name = 'x' WHERE id = 2");
      c.sql(0, own === "SAVEPOINT s" ? "UPDATE u SET name = 'b' WHERE id = 1" : "UPDATE u SET name = 'c' WHERE id = 1");
      expect(c.rows(1, "SELECT id FROM u").length).toBe(2);
      const [outcome] = c.in(client, "SELECT name FROM u ORDER BY id");
      expect(outcome).toMatchObject({ kind: "ok", result: { rows: own === "SAVEPOINT s" ? [["a"], ["b"]] : [["a"], ["b"], ["c"]] } });
      c.in(client, "ROLLBACK");
      expect(c.rows(1, "SELECT * FROM u ORDER BY id")).toEqual(c.rows(0, "SELECT * FROM u ORDER BY id"));
    }
  });

  test("is not taken for deleted where a ROLLBACK TO leaves it as it was", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE u(id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
    c.sql(0, "INSERT INTO u VALUES (3, 'a')");
    c.rows(1, "SELECT * FROM u");
    const client = c.client(1);
    c.in(client, "BEGIN", "SELECT * FROM u", "SAVEPOINT s");
    // Its unique value is row 3's.
    expect(c.in(client, "INSERT INTO u VALUES (1, 'a')").at(-1)).toMatchObject({ kind: "error" });
    c.engine(1).store.dropRange(spaceOf(c, "u"), Buffer.alloc(0), null);
    c.in(client, "ROLLBACK TO s");
    expect(c.in(client, "SELECT id FROM u").at(-1)).toMatchObject({ kind: "ok", result: { rows: [[3n]] } });
    expect(c.in(client, "COMMIT").at(-1)?.kind).toBe("ok");
    for (const engine of [0, 1]) expect(c.rows(engine, "SELECT id FROM u")).toEqual([[3n]]);
  });

  test("is told as what is kept for it", () => {
    const { c, space } = begun("DELETE FROM t WHERE id = 3");
    const key = id(3).toString("latin1");
    expect(c.engine(1).store.usage().open).toContainEqual({ space, ranges: [{ low: key, high: `${key}\0` }] });
  });
});

test("pages of rows that are given up are used again: the file does not grow, nor its log", () => {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-test-drop-"));
  directories.push(directory);
  const c = stores(1);
  c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, tag INT, body TEXT)");
  c.sql(0, "CREATE INDEX t_tag ON t(tag)");
  const rowsPerAtom = 200;
  const atoms = 20;
  const body = "b".repeat(400);
  for (let atom = 0; atom < atoms; atom++) {
    const rows = Array.from({ length: rowsPerAtom }, (_, row) => `(${atom * rowsPerAtom + row + 1}, ${(row * 7919) % 1000}, '${body}')`);
    c.sql(0, `INSERT INTO t VALUES ${rows.join(", ")}`);
  }
  const space = spaceOf(c, "t");
  const rows = c.rowsOf(space);
  const store = openSqliteLocalStore(directory, 1024 * 1024);
  opened.push(store);
  store.reset(c.seq, [...c.schema.values()]);
  store.become(9 as EngineId, 9 as Life);
  const range = (atom: number): [Buffer, Buffer] => [id(atom * rowsPerAtom + 1), id((atom + 1) * rowsPerAtom + 1)];
  const pull = (atom: number): void => {
    const [low, high] = range(atom);
    store.beginHold(space, low, high);
    const inside = rows.filter(({ key }) => Buffer.compare(key, low) >= 0 && Buffer.compare(key, high) < 0);
    expect(store.install(space, low, high, c.seq as Seq, inside)).toBe("held");
  };
  const heldAtOnce = 4;
  const heldBytes = (heldAtOnce + 1) * rowsPerAtom * (body.length + 20);
  const rounds = 16 * atoms;
  for (let round = 0; round < rounds; round++) {
    pull(round % atoms);
    if (round >= heldAtOnce) store.dropRange(space, ...range((round - heldAtOnce) % atoms));
    const { usedBytes, fileBytes } = store.usage();
    expect(usedBytes, `round ${round}`).toBeLessThan(1.5 * heldBytes);
    expect(fileBytes, `round ${round}`).toBeLessThan(1.6 * heldBytes);
  }
  expect(statSync(join(directory, "local.db")).size).toBeLessThan(1.6 * heldBytes);
  // And nothing else is on the disk.
  expect(readdirSync(directory)).toEqual(["local.db"]);
});

describe("what is used", () => {
  test("is told once, by range where a part is held, by table where all of it is", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "CREATE TABLE o(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    const { store } = c.engine(1);
    const one = (value: number) => ({ low: id(value).toString("latin1"), high: `${id(value).toString("latin1")}\0` });
    c.sql(1, "SELECT v FROM t WHERE id = 2");
    expect(store.usage().used).toEqual([{ space: spaceOf(c, "t"), ranges: [one(2)] }]);
    expect(store.usage().used).toEqual([]);
    c.sql(1, "SELECT v FROM t WHERE id = 2");
    c.sql(1, "UPDATE t SET v = 'd' WHERE id = 1");
    expect(store.usage().used).toEqual([{ space: spaceOf(c, "t"), ranges: [one(1), one(2)] }]);
    c.sql(1, "SELECT count(*) FROM t");
    c.sql(1, "SELECT count(*) FROM o");
    store.usage();
    for (const round of [1, 2]) {
      c.sql(1, "SELECT v FROM t WHERE id = 2");
      expect(store.usage().used, `round ${round}`).toEqual([{ space: spaceOf(c, "t"), ranges: null }]);
    }
  });

  test("is a sample beyond a bound", () => {
    const c = stores(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const { store } = c.engine(1);
    for (let row = 0; row < 1500; row++) c.sql(1, "SELECT v FROM t WHERE id = ?", [BigInt(row * 2)]);
    const [used] = store.usage().used;
    expect(used?.ranges?.length).toBeLessThanOrEqual(usedRangesMax);
    expect(used?.ranges?.length).toBeGreaterThan(usedRangesMax / 2 - 10);
    c.sql(1, "SELECT v FROM t WHERE id = 4");
    expect(store.usage().used[0]?.ranges?.length).toBe(1);
  });

  test("tells the ids that this engine may give", () => {
    const c = stores(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "INSERT INTO t(v) VALUES ('a')");
    const [low, high] = [id(2).toString("latin1"), `${id(8).toString("latin1")}\0`];
    expect(c.engine(0).store.usage().ids).toEqual([{ space: spaceOf(c, "t"), ranges: [{ low, high }] }]);
  });
});
