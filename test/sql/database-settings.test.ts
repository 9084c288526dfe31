import Sqlite from "better-sqlite3";
import { afterEach, expect, test } from "vitest";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { Cluster } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

function told(outcomes: readonly StepOutcome[]): unknown[] {
  return outcomes.map((outcome) => (outcome.kind === "error" ? outcome.fault.code : outcome.kind === "ok" ? outcome.result.rows[0]?.[0] : "skipped"));
}

test("every engine has what one has set, as SQLite understands it", () => {
  c = new Cluster(2);
  const plain = new Sqlite(":memory:");
  plain.defaultSafeIntegers(true);
  for (const name of ["user_version", "application_id"])
    for (const value of ["5", "-5", "'7'", "0x10", "3.7", "chapter", "2147483647", "4294967296", "0", "+9"]) {
      plain.exec(`PRAGMA ${name} = ${value}`);
      c.sql(0, `PRAGMA main.${name}(${value})`);
      for (const index of [0, 1]) expect(c.rows(index, `PRAGMA ${name}`)).toEqual([[plain.pragma(name, { simple: true })]]);
    }
  expect(c.rows(1, "SELECT user_version FROM pragma_user_version")).toEqual([[9n]]);
  expect(c.fault(0, "PRAGMA system.user_version = 3")).toMatchObject({ message: "unknown database system" });
  expect(c.run(0, [{ sql: "PRAGMA user_version = 9", args: { positional: [], named: [] }, wantRows: true, condition: null }]).commits).toEqual([]);
});

test("it is a part of its transaction", () => {
  c = new Cluster(2);
  const ann = c.client(0);
  const read = "PRAGMA user_version";
  expect(told(c.in(ann, "BEGIN", "PRAGMA user_version = 3", read, "ROLLBACK", read))).toEqual([undefined, undefined, 3n, undefined, 0n]);
  c.in(ann, "BEGIN", "CREATE TABLE t(a)", "PRAGMA user_version = 1", "SAVEPOINT s", "PRAGMA user_version = 2", "ROLLBACK TO s", "COMMIT");
  for (const index of [0, 1]) {
    expect(c.rows(index, read)).toEqual([[1n]]);
    expect(c.rows(index, "SELECT count(*) FROM t")).toEqual([[0n]]);
  }
  expect(told(c.in(ann, "BEGIN TRANSACTION READONLY", "PRAGMA user_version = 4", read, "ROLLBACK"))).toEqual([
    undefined,
    "SQLITE_READONLY",
    1n,
    undefined,
  ]);
});

test("other objects come and go beside it, also one of its name, and an engine that begins anew has it", () => {
  c = new Cluster(2);
  c.sql(0, "PRAGMA application_id = 77");
  c.sql(1, "CREATE TABLE application_id(user_version)");
  c.sql(0, "PRAGMA user_version = 5");
  c.sql(1, "ALTER TABLE application_id RENAME TO other");
  c.sql(1, "DROP TABLE other");
  c.restart(1);
  for (const index of [0, 1]) expect([c.rows(index, "PRAGMA user_version"), c.rows(index, "PRAGMA application_id")]).toEqual([[[5n]], [[77n]]]);
  expect(c.rows(1, "SELECT count(*) FROM sqlite_schema")).toEqual([[0n]]);
});

test("a transaction that has read goes on with its snapshot, or is told that it cannot", () => {
  c = new Cluster(2);
  c.sql(0, "CREATE TABLE t(a)");
  const [ann, bob, cyd] = [c.client(0), c.client(0), c.client(0)];
  c.in(ann, "BEGIN", "PRAGMA user_version");
  c.in(bob, "BEGIN", "INSERT INTO t VALUES (1)");
  c.in(cyd, "PRAGMA atomcast.isolation = serializable", "BEGIN", "PRAGMA user_version", "INSERT INTO t VALUES (2)");
  c.sql(1, "PRAGMA user_version = 5");
  expect(told(c.in(ann, "PRAGMA user_version"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
  expect(told(c.in(ann, "PRAGMA user_version = 6", "ROLLBACK", "PRAGMA user_version"))).toEqual(["SQLITE_BUSY_SNAPSHOT", undefined, 5n]);
  expect(told(c.in(bob, "COMMIT", "PRAGMA user_version"))).toEqual([undefined, 5n]);
  expect(told(c.in(cyd, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
});

test("how long history is kept is a setting of the database, and part of its transaction", () => {
  c = new Cluster(2);
  const read = "PRAGMA atomcast.history";
  expect(c.rows(0, read)).toEqual([["0"]]);
  for (const [given, kept] of [
    ["'1h'", "1h"],
    ["'90 min'", "90min"],
    ["'48h'", "2d"],
    ["'1.5s'", "1500ms"],
    ["0", "0"],
    ["'7d'", "7d"],
  ]) {
    c.sql(0, `PRAGMA atomcast.history = ${given}`);
    for (const index of [0, 1]) expect(c.rows(index, read)).toEqual([[kept]]);
  }
  for (const wrong of ["'soon'", "5", "'-1h'", "'1000d'", "''"])
    expect(c.fault(0, `PRAGMA atomcast.history = ${wrong}`)).toMatchObject({
      message: expect.stringMatching(/^PRAGMA atomcast.history takes a duration/),
    });
  const ann = c.client(0);
  expect(told(c.in(ann, "BEGIN", "PRAGMA atomcast.history = '2h'", read, "ROLLBACK", read))).toEqual([undefined, undefined, "2h", undefined, "7d"]);
  expect(told(c.in(ann, "BEGIN TRANSACTION READONLY", "PRAGMA atomcast.history = '2h'", "ROLLBACK"))[1]).toBe("SQLITE_READONLY");
  c.restart(1);
  expect(c.rows(1, read)).toEqual([["7d"]]);
  expect(c.rows(1, "SELECT count(*) FROM sqlite_schema")).toEqual([[0n]]);
});
