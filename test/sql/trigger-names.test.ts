import { afterEach, describe, expect, test } from "vitest";
import { Cluster } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

/** What the client is told, for a change of the schema after which no engine could write a table. */
function refusal(sql: string): string {
  const { code, message } = c.fault(0, sql);
  return `${code} ${message}`;
}

describe("a trigger that names what is not there", () => {
  test("is not made by DROP TABLE: every engine that holds the trigger's table would stop at its next row", () => {
    c = new Cluster(2);
    for (const sql of ["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE gone(x)", "INSERT INTO t VALUES (1, 'a')"]) c.sql(0, sql);
    c.sql(0, "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE gone SET x = new.v; END");
    expect(refusal("DROP TABLE gone")).toBe("SQLITE_ERROR no such table: main.gone: a trigger of table t needs it; drop that trigger first");
    // The other engine pulls and applies as before.
    expect(c.rows(1, "SELECT * FROM t")).toEqual([[1n, "a"]]);
    c.sql(0, "INSERT INTO t VALUES (2, 'b')");
    c.sql(0, "DROP TRIGGER g");
    c.sql(0, "DROP TABLE gone");
    c.sql(1, "INSERT INTO t VALUES (3, 'c')");
    expect(c.rows(0, "SELECT count(*) FROM t")).toEqual([[3n]]);
  });

  test("nor by CREATE TRIGGER, with a table, a view's table or a function that does not exist", () => {
    c = new Cluster(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    expect(refusal("CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO nowhere VALUES (1); END")).toMatch(/no such table: main.nowhere/);
    expect(refusal("CREATE TRIGGER g BEFORE DELETE ON t BEGIN SELECT no_such_function(old.v); END")).toMatch(/no such function/);
    c.sql(0, "INSERT INTO t VALUES (1, 2)");
    expect(c.rows(0, "SELECT count(*) FROM t")).toEqual([[1n]]);
  });

  test("one that is only for UPDATE is SQLite's affair: nothing is applied by UPDATE", () => {
    c = new Cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    c.sql(0, "CREATE TRIGGER g AFTER UPDATE ON t BEGIN DELETE FROM nowhere; END");
    c.sql(0, "INSERT INTO t VALUES (1, 2)");
    expect(c.fault(0, "UPDATE t SET v = 3").message).toMatch(/no such table: main.nowhere/);
    c.sql(1, "INSERT INTO t VALUES (2, 2)");
    expect(c.rows(0, "SELECT count(*) FROM t")).toEqual([[2n]]);
  });

  test("nor by DROP VIEW, nor by DROP TABLE of what a trigger reads through a view", () => {
    c = new Cluster(1);
    for (const sql of ["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE base(x)", "CREATE VIEW seen AS SELECT x FROM base"]) c.sql(0, sql);
    c.sql(0, "CREATE TRIGGER g AFTER INSERT ON t WHEN new.v IN (SELECT x FROM seen) BEGIN DELETE FROM t WHERE id < 0; END");
    expect(refusal("DROP VIEW seen")).toMatch(/seen/);
    expect(refusal("DROP TABLE base")).toMatch(/base/);
    c.sql(0, "INSERT INTO t VALUES (1, 1)");
    expect(c.rows(0, "SELECT count(*) FROM t")).toEqual([[1n]]);
  });

  test("a table whose foreign keys name none is not meant by this", () => {
    c = new Cluster(1);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p)");
    c.sql(0, "CREATE TRIGGER g AFTER INSERT ON k BEGIN DELETE FROM k WHERE id < 0; END");
    c.sql(0, "DROP TABLE p");
  });
});
