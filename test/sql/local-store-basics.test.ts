import { afterEach, describe, expect, test } from "vitest";
import { Cluster, step } from "./store-harness.js";

let cluster = new Cluster(0);
afterEach(() => cluster.close());
function start(count = 2): Cluster {
  cluster.close();
  cluster = new Cluster(count);
  return cluster;
}

describe("a statement on its own", () => {
  test("what one engine commits, the others see", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, v)");
    expect(c.sql(0, "INSERT INTO t(name, v) VALUES ('a', 1), ('b', 2.5) RETURNING id, v").rows).toEqual([
      [1n, 1n],
      [2n, 2.5],
    ]);
    expect(c.rows(1, "SELECT * FROM t ORDER BY id")).toEqual([
      [1n, "a", 1n],
      [2n, "b", 2.5],
    ]);
    expect(c.sql(1, "UPDATE t SET name = name || 'x' WHERE id = ?", [2n]).affectedRowCount).toBe(1);
    expect(c.sql(0, "DELETE FROM t WHERE name = 'A'").affectedRowCount).toBe(1);
    expect(c.rows(0, "SELECT id, name FROM t")).toEqual([[2n, "bx"]]);
    expect(c.fault(0, "INSERT INTO t(name) VALUES ('BX')")).toEqual({
      code: "SQLITE_CONSTRAINT_UNIQUE",
      message: "UNIQUE constraint failed: t.name",
      offset: -1,
    });
  });

  test("a key may have another collation than its column", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(k TEXT, v, PRIMARY KEY (k COLLATE NOCASE)) WITHOUT ROWID");
    c.sql(0, "INSERT INTO t VALUES ('A', 1), ('B', 2)");
    c.sql(1, "INSERT OR REPLACE INTO t VALUES ('a', 3)");
    c.sql(0, "UPDATE t SET v = 4 WHERE k = 'B'");
    for (const index of [0, 1]) {
      expect(c.rows(index, "SELECT * FROM t ORDER BY v")).toEqual([
        ["a", 3n],
        ["B", 4n],
      ]);
    }
  });

  test("nothing to commit is done", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    expect(c.run(0, [step("UPDATE t SET v = 1")]).commits).toEqual([]);
    c.sql(0, "INSERT INTO t VALUES (1, 1)");
    expect(c.run(0, [step("UPDATE t SET v = 1")]).commits).toEqual([]);
    expect(c.run(0, [step("CREATE TABLE IF NOT EXISTS t(x)")]).commits).toEqual([]);
  });
});
