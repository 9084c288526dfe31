import { afterEach, describe, expect, test } from "vitest";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { type Client, Cluster, step } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

const duties = ["CREATE TABLE duty(doctor INTEGER PRIMARY KEY, present INTEGER NOT NULL)", "INSERT INTO duty VALUES (1, 1), (2, 1), (3, 0)"];

function open(isolation: string, ...scripts: readonly string[]): Client[] {
  c = new Cluster(2);
  for (const sql of duties) c.sql(0, sql);
  return scripts.map((sql, index) => {
    const client = c.client(index % 2);
    for (const outcome of c.in(client, `PRAGMA atomcast.isolation = ${isolation}`, "BEGIN", sql))
      if (outcome.kind !== "ok") throw new Error(JSON.stringify(outcome));
    return client;
  });
}

function codes(outcomes: readonly StepOutcome[]): string[] {
  return outcomes.map((outcome) => (outcome.kind === "error" ? outcome.fault.code : outcome.kind));
}

const leave = (doctor: number): string => `UPDATE duty SET present = 0 WHERE doctor = ${doctor}`;
const present = "SELECT sum(present) FROM duty";

describe("serializable", () => {
  test("two doctors who each see the other present do not both leave; at snapshot isolation they do", () => {
    for (const [isolation, last] of [
      ["snapshot", "ok"],
      ["serializable", "SQLITE_BUSY_SNAPSHOT"],
    ] as const) {
      const [ann, bob] = open(isolation, present, present) as [Client, Client];
      expect(codes(c.in(ann, leave(1), "COMMIT"))).toEqual(["ok", "ok"]);
      expect(codes(c.in(bob, leave(2), "COMMIT"))).toEqual(["ok", last]);
      expect(c.rows(0, present)).toEqual([[last === "ok" ? 0n : 1n]]);
      c.close();
    }
    c = new Cluster(1);
  });

  test("a row that was not there when it was looked for is a conflict when it comes", () => {
    const [ann] = open("serializable", "SELECT count(*) FROM duty WHERE doctor = 9") as [Client];
    c.sql(1, "INSERT INTO duty VALUES (9, 1)");
    expect(codes(c.in(ann, leave(1), "COMMIT"))).toEqual(["ok", "SQLITE_BUSY_SNAPSHOT"]);
  });

  test("what an UPDATE looks through counts as read", () => {
    const [ann] = open("serializable", "UPDATE duty SET present = present + 10 WHERE present = 0") as [Client];
    c.sql(1, "INSERT INTO duty VALUES (4, 0)");
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
  });

  test("what a trigger looks for by its row counts as read", () => {
    c = new Cluster(2);
    const ban =
      "CREATE TRIGGER ban AFTER UPDATE ON duty BEGIN SELECT raise(ABORT, 'banned') WHERE EXISTS (SELECT 1 FROM banned WHERE doctor = new.doctor); END";
    for (const sql of [...duties, "CREATE TABLE banned(doctor INTEGER PRIMARY KEY)", ban]) c.sql(0, sql);
    const ann = c.client(0);
    expect(codes(c.in(ann, "PRAGMA atomcast.isolation = serializable", "BEGIN", leave(1)))).toEqual(["ok", "ok", "ok"]);
    c.sql(1, "INSERT INTO banned VALUES (1)");
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
  });

  test.each([
    ["passes over a row by a computed key", [], "INSERT OR IGNORE INTO duty SELECT 1 + 1, 0", "DELETE FROM duty WHERE doctor = 2"],
    ["does so by ON CONFLICT", [], "INSERT INTO duty SELECT 1 + 1, 0 WHERE true ON CONFLICT DO NOTHING", "DELETE FROM duty WHERE doctor = 2"],
    ["gives no row another key", [], "UPDATE OR IGNORE duty SET doctor = doctor - 1 WHERE doctor = 3", "DELETE FROM duty WHERE doctor = 2"],
    [
      "does so in a trigger",
      ["CREATE TABLE t(a)", "CREATE TRIGGER ti AFTER INSERT ON t BEGIN INSERT OR IGNORE INTO duty VALUES (new.a + 1, 0); END"],
      "INSERT INTO t VALUES (1)",
      "DELETE FROM duty WHERE doctor = 2",
    ],
    ["fails by a computed key", [], "INSERT INTO duty SELECT 1 + 1, 0", "DELETE FROM duty WHERE doctor = 2"],
    [
      "fails for want of a parent",
      ["CREATE TABLE c(id INTEGER PRIMARY KEY, d INT REFERENCES duty(doctor))"],
      "INSERT INTO c VALUES (1, 7)",
      "INSERT INTO duty VALUES (7, 1)",
    ],
  ])("a statement that %s has read what stands against it", (_, schema, first, other) => {
    c = new Cluster(2);
    for (const sql of [...duties, "CREATE TABLE log(id INTEGER PRIMARY KEY)", ...schema]) c.sql(0, sql);
    const ann = c.client(0);
    c.in(ann, "PRAGMA atomcast.isolation = serializable", "BEGIN", first, "INSERT INTO log VALUES (1)");
    c.sql(1, other);
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
  });

  test("keys that it did not read may change, and one that only reads never conflicts", () => {
    const [ann, bob] = open("serializable", "SELECT present FROM duty WHERE doctor = 1", present) as [Client, Client];
    c.sql(1, leave(2));
    expect(codes(c.in(ann, "UPDATE duty SET present = 5 WHERE doctor = 3", "COMMIT"))).toEqual(["ok", "ok"]);
    expect(c.in(bob, present, "COMMIT")).toMatchObject([{ kind: "ok", result: { rows: [[2n]] } }, { kind: "ok" }]);
  });

  test("a statement of its own has what it read among its permissions", () => {
    c = new Cluster(1);
    for (const sql of duties) c.sql(0, sql);
    const statement = "UPDATE duty SET present = 0 WHERE doctor = 1 AND (SELECT present FROM duty WHERE doctor = 2) = 1";
    const [plain] = c.run(0, [step(statement)]).commits;
    c.sql(0, "UPDATE duty SET present = 1 WHERE doctor = 1");
    const [, serializable] = [c.run(0, [step("PRAGMA atomcast.isolation = 'serializable'")]), c.run(0, [step(statement)])];
    expect(plain?.permissions).toHaveLength(1);
    expect(plain?.wholeTables).toEqual([]);
    const asked = (serializable?.commits[0]?.permissions.length ?? 0) + (serializable?.commits[0]?.wholeTables.length ?? 0);
    expect(asked).toBeGreaterThan(1);
  });
});

test("PRAGMA atomcast.isolation tells and sets the session's isolation, outside of a transaction", () => {
  c = new Cluster(1);
  expect(c.rows(0, "PRAGMA atomcast.isolation")).toEqual([["snapshot"]]);
  c.sql(0, "PRAGMA atomcast.isolation = SERIALIZABLE");
  expect(c.rows(0, "PRAGMA atomcast.isolation")).toEqual([["serializable"]]);
  const client = c.client(0);
  expect(codes(c.in(client, "BEGIN", "SELECT 1", "PRAGMA atomcast.isolation = serializable", "PRAGMA atomcast.isolation", "ROLLBACK"))).toEqual([
    "ok",
    "ok",
    "SQLITE_ERROR",
    "ok",
    "ok",
  ]);
  expect(c.fault(0, "PRAGMA atomcast.isolation = chaos")).toMatchObject({
    code: "ATOMCAST_NOT_SUPPORTED",
    message: expect.stringContaining("snapshot"),
  });
  expect(c.fault(0, "PRAGMA atomcast.colour")).toMatchObject({ code: "ATOMCAST_NOT_SUPPORTED" });
});
