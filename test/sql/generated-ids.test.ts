/** Ids that SQLite would generate come from this engine's blocks; what clients name themselves may lie anywhere, as far as ids go. */
import { afterEach, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { Cluster, step } from "./store-harness.js";

let c = new Cluster(0);
afterEach(() => c.close());
const largest = 2n ** 63n - 1n;

function start(sql: string): SpaceId {
  c = new Cluster(2);
  c.sql(0, sql);
  return c.schema.get("t")?.object.space as SpaceId;
}

function inserted(index: number, count: number): readonly unknown[] {
  return c.sql(index, `INSERT INTO t(v) VALUES ${Array.from({ length: count }, () => "(1)").join(", ")} RETURNING rowid`).rows.map(([id]) => id);
}

test.each(["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)", "CREATE TABLE t(v)"])(
  "an id that another engine's client names in this engine's block is passed over: %s",
  (sql) => {
    const space = start(sql);
    c.engine(0).store.grantIds(space, 1n, 8n);
    c.engine(1).store.grantIds(space, 9n, 16n);
    expect(inserted(0, 1)).toEqual([1n]);
    c.sql(1, "INSERT INTO t(rowid, v) VALUES (2, 'theirs'), (4, 'theirs'), (10, 'own')");
    expect(inserted(0, 3)).toEqual([3n, 5n, 6n]);
    expect(inserted(1, 3)).toEqual([9n, 11n, 12n]);
    // One of its own, which the same statement names after it has been given, conflicts as any other.
    expect(c.fault(0, "INSERT INTO t(rowid, v) VALUES (NULL, 1), (7, 1)").code).toMatch(/^SQLITE_CONSTRAINT_(PRIMARYKEY|ROWID)$/);
    expect(c.sql(0, "INSERT INTO t(rowid, v) VALUES (8, 1), (NULL, 1) RETURNING rowid").rows).toEqual([[8n], [7n]]);
    for (const index of [0, 1]) expect(c.rows(index, "SELECT count(*), max(rowid) FROM t")).toEqual([[12n, 12n]]);
  },
);

test.each(["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE t(v)"])(
  "the largest and the smallest id are ids as any other, and generated ones go on in their block: %s",
  (sql) => {
    const space = start(sql);
    c.engine(0).store.grantIds(space, 1n, 3n);
    c.sql(1, "INSERT INTO t(rowid, v) VALUES (?, 'largest'), (?, 'smallest')", [largest, -(2n ** 63n)]);
    expect(inserted(0, 2)).toEqual([1n, 2n]);
    expect(c.sql(0, "UPDATE t SET v = v || '!' WHERE rowid = ?", [largest]).affectedRowCount).toBe(1);
    expect(c.fault(0, "UPDATE t SET rowid = rowid + 1 WHERE rowid = 9223372036854775807").code).toBe("SQLITE_MISMATCH");
    expect(c.rows(1, "SELECT v FROM t WHERE rowid = ?", [largest])).toEqual([["largest!"]]);
    c.restart(1);
    expect(c.rows(1, "SELECT rowid FROM t WHERE rowid > 2 OR rowid < 0 ORDER BY rowid")).toEqual([[-(2n ** 63n)], [largest]]);
    c.sql(1, "DELETE FROM t WHERE rowid = 9223372036854775807");
    expect(c.rows(0, "SELECT max(rowid) FROM t")).toEqual([[2n]]);
  },
);

test("a block that ends at the largest id is used to its end", () => {
  const space = start("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
  c.engine(0).store.grantIds(space, largest - 1n, largest);
  c.engine(0).store.grantIds(space, 5n, 5n);
  expect(inserted(0, 3)).toEqual([largest - 1n, largest, 5n]);
  expect(c.engine(0).store.takeIdsBack()).toEqual([]);
  const { outcomes } = c.run(1, [step("SELECT count(*) FROM t WHERE id > 5")]);
  expect(outcomes).toMatchObject([{ kind: "ok", result: { rows: [[2n]] } }]);
});

// Seed 7018459 of the differential test.
test.each(["", "in a transaction"])(
  "rows that a trigger inserts while a table is dropped have ids of this engine's block, which it gets first %s",
  (within) => {
    const space = start("CREATE TABLE t(v)");
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE)");
    c.sql(0, "CREATE TRIGGER k_gone AFTER DELETE ON k BEGIN INSERT INTO t VALUES (old.id); END");
    c.sql(0, "INSERT INTO p VALUES (1)");
    c.sql(0, "INSERT INTO k VALUES (7, 1), (8, 1)");
    expect(c.engine(1).store.takeIdsBack()).not.toContain(space);
    c.run(1, within === "" ? [step("DROP TABLE p")] : [step("BEGIN"), step("DROP TABLE p"), step("COMMIT")]);
    for (const index of [0, 1]) {
      expect(c.rows(index, "SELECT v, rowid > 0 FROM t ORDER BY v")).toEqual([
        [7n, 1n],
        [8n, 1n],
      ]);
      expect(c.rows(index, "SELECT count(*) FROM k")).toEqual([[0n]]);
      expect(c.fault(index, "SELECT * FROM p").message).toBe("no such table: p");
    }
  },
);

test.each(["CREATE TABLE made(id INTEGER PRIMARY KEY, v)", "CREATE TABLE made(v)"])(
  "a table of the same transaction whose ids are used up is full: %s",
  (sql) => {
    c = new Cluster(1);
    const { outcomes } = c.run(
      0,
      ["BEGIN", sql, `INSERT INTO made(rowid, v) VALUES (${largest}, 1), (${largest - 1n}, 2)`, "INSERT INTO made(v) VALUES (3)", "COMMIT"].map(
        (one) => step(one),
      ),
    );
    expect(outcomes.map((outcome) => (outcome.kind === "error" ? outcome.fault.code : outcome.kind))).toEqual([
      "ok",
      "ok",
      "ok",
      "SQLITE_FULL",
      "ok",
    ]);
    expect(c.rows(0, "SELECT count(*) FROM made")).toEqual([[2n]]);
  },
);
