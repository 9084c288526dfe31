import Sqlite from "better-sqlite3";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { integerKey } from "../../src/base/sort-key.js";
import type { SqlValue } from "../../src/base/values.js";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { openTransactionsMax } from "../../src/sql/open-transactions.js";
import { type Client, Cluster, faultOfLast as faultOf, rowsOfLast as rows } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

function accounts(engines = 2): void {
  c = new Cluster(engines);
  c.sql(0, "CREATE TABLE accounts(id INTEGER PRIMARY KEY, owner TEXT UNIQUE, balance INTEGER NOT NULL)");
  c.sql(0, "INSERT INTO accounts VALUES (1, 'ann', 100), (2, 'bob', 200), (3, 'cyd', 300)");
}

describe("a transaction that stays open between requests", () => {
  test("reads its own writes, which nobody else sees before its COMMIT", () => {
    accounts();
    const ann = c.client(0);
    expect(rows(c.in(ann, "BEGIN", "UPDATE accounts SET balance = 90 WHERE id = 1", "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[90n]]);
    expect(ann.isOpen).toBe(true);
    expect(c.rows(0, "SELECT balance FROM accounts WHERE id = 1")).toEqual([[100n]]);
    expect(rows(c.in(ann, "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[90n]]);
    c.in(ann, "INSERT INTO accounts VALUES (4, 'dan', 10)", "COMMIT");
    expect(ann.isOpen).toBe(false);
    for (const index of [0, 1])
      expect(c.rows(index, "SELECT id, balance FROM accounts ORDER BY id")).toEqual([
        [1n, 90n],
        [2n, 200n],
        [3n, 300n],
        [4n, 10n],
      ]);
  });

  test("is put together again without foreign keys' actions, also when it has looked at system tables", () => {
    c = new Cluster(2);
    for (const sql of [
      "CREATE TABLE p(id INTEGER PRIMARY KEY, v)",
      "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE)",
      "CREATE TABLE other(id INTEGER PRIMARY KEY, p REFERENCES p)",
      "INSERT INTO p VALUES (1, 1), (2, 2)",
      "INSERT INTO k VALUES (1, 1)",
    ])
      c.sql(0, sql);
    const { store } = c.engine(0);
    const { run } = store;
    Object.assign(store, { run: (request: Parameters<typeof run>[0]) => run(request, { engines: { columns: ["id"], rows: [{ id: 1n }] } }) });
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE p SET v = 5 WHERE id = 1");
    c.sql(0, "INSERT INTO other VALUES (3, 2)");
    expect(rows(c.in(ann, "SELECT count(*) FROM k"))).toEqual([[1n]]);
    expect(rows(c.in(ann, "SELECT count(*) FROM system.engines"))).toEqual([[1n]]);
    c.sql(1, "INSERT INTO other VALUES (4, NULL)");
    expect(rows(c.in(ann, "SELECT count(*) FROM k", "COMMIT", "SELECT p FROM k"))).toEqual([[1n]]);
  });

  test("reads its snapshot, whatever is committed meanwhile, here or elsewhere", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "SELECT 1 FROM accounts");
    c.sql(0, "UPDATE accounts SET balance = 0 WHERE id = 1");
    c.sql(1, "DELETE FROM accounts WHERE id = 2");
    c.sql(1, "INSERT INTO accounts VALUES (2, 'bea', 7)");
    c.sql(1, "INSERT INTO accounts VALUES (9, 'bob', 8)");
    expect(rows(c.in(ann, "SELECT * FROM accounts ORDER BY id"))).toEqual([
      [1n, "ann", 100n],
      [2n, "bob", 200n],
      [3n, "cyd", 300n],
    ]);
    expect(rows(c.in(ann, "SELECT id FROM accounts WHERE owner = 'bob'"))).toEqual([[2n]]);
    expect(c.rows(0, "SELECT id FROM accounts WHERE owner = 'bob'")).toEqual([[9n]]);
    c.in(ann, "COMMIT");
    expect(rows(c.in(ann, "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[0n]]);
  });

  test("has no snapshot before its first statement that reads", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN DEFERRED");
    c.sql(1, "UPDATE accounts SET balance = 1 WHERE id = 1");
    expect(rows(c.in(ann, "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[1n]]);
    c.sql(1, "UPDATE accounts SET balance = 2 WHERE id = 1");
    expect(rows(c.in(ann, "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[1n]]);
  });

  test("conflicts where another one has changed a row that it changed, and says which", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = balance - 10 WHERE id = 1");
    c.sql(1, "UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    const [outcome] = c.in(ann, "COMMIT");
    expect(outcome).toMatchObject({
      kind: "error",
      fault: { code: "SQLITE_BUSY_SNAPSHOT", message: expect.stringContaining("accounts with id = 1") },
    });
    expect(ann.isOpen).toBe(false);
    expect(c.rows(0, "SELECT balance FROM accounts WHERE id = 1")).toEqual([[101n]]);
  });

  test("conflicts also where both made the same change: an increment is not lost", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    c.sql(1, "UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
  });

  test("what was to follow a COMMIT that failed does not run outside of it", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = 0 WHERE id = 1");
    c.sql(1, "UPDATE accounts SET balance = 5 WHERE id = 1");
    expect(c.in(ann, "COMMIT", "DELETE FROM accounts").map(({ kind }) => kind)).toEqual(["error", "error"]);
    expect(c.rows(0, "SELECT count(*) FROM accounts")).toEqual([[3n]]);
  });

  test("ROLLBACK ends it; what follows is outside", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "DELETE FROM accounts");
    expect(rows(c.in(ann, "ROLLBACK", "UPDATE accounts SET balance = 1 WHERE id = 1", "SELECT count(*) FROM accounts"))).toEqual([[3n]]);
    expect(c.rows(1, "SELECT balance FROM accounts WHERE id = 1")).toEqual([[1n]]);
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_ERROR");
  });

  test("savepoints hold over requests, with others' commits in between", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = 1 WHERE id = 1", "SAVEPOINT a", "UPDATE accounts SET balance = 2 WHERE id = 1");
    c.sql(1, "UPDATE accounts SET balance = 77 WHERE id = 3");
    c.in(ann, "SAVEPOINT b", "DELETE FROM accounts WHERE id <> 3");
    c.sql(1, "INSERT INTO accounts VALUES (8, 'eve', 1)");
    expect(rows(c.in(ann, "SELECT id, balance FROM accounts"))).toEqual([[3n, 300n]]);
    c.in(ann, "ROLLBACK TO b");
    c.sql(1, "INSERT INTO accounts VALUES (9, 'fay', 1)");
    expect(rows(c.in(ann, "SELECT id, balance FROM accounts"))).toEqual([
      [1n, 2n],
      [2n, 200n],
      [3n, 300n],
    ]);
    expect(rows(c.in(ann, "ROLLBACK TO a", "SELECT balance FROM accounts WHERE id = 1"))).toEqual([[1n]]);
    c.sql(1, "DELETE FROM accounts WHERE id = 9");
    c.in(ann, "RELEASE a", "COMMIT");
    expect(c.rows(1, "SELECT id, balance FROM accounts")).toEqual([
      [1n, 1n],
      [2n, 200n],
      [3n, 77n],
      [8n, 1n],
    ]);
  });

  test("a savepoint at the end of a request, behind changes of two, is there when the transaction is put together again", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = 1 WHERE id = 1");
    c.in(ann, "UPDATE accounts SET balance = 2 WHERE id = 2", "SAVEPOINT a");
    c.sql(1, "INSERT INTO accounts VALUES (8, 'eve', 1)");
    expect(c.in(ann, "UPDATE accounts SET balance = 3 WHERE id = 3", "ROLLBACK TO a").map(({ kind }) => kind)).toEqual(["ok", "ok"]);
    c.sql(1, "DELETE FROM accounts WHERE id = 8");
    c.in(ann, "COMMIT");
    expect(c.rows(1, "SELECT id, balance FROM accounts")).toEqual([
      [1n, 1n],
      [2n, 2n],
      [3n, 300n],
    ]);
  });

  test("foreign keys and their actions, with replays in between", () => {
    c = new Cluster(2);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE, d REFERENCES p DEFERRABLE INITIALLY DEFERRED)");
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    c.sql(0, "INSERT INTO k VALUES (1, 1, NULL), (2, 2, NULL)");
    const ann = c.client(0);
    c.in(ann, "BEGIN", "DELETE FROM p WHERE id = 1", "INSERT INTO p VALUES (1)", "INSERT INTO k VALUES (3, 1, 5)");
    c.sql(1, "INSERT INTO k VALUES (9, 2, NULL)");
    expect(rows(c.in(ann, "SELECT id FROM k"))).toEqual([[2n], [3n]]);
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    expect(ann.isOpen).toBe(true);
    c.sql(1, "INSERT INTO k VALUES (10, 2, NULL)");
    expect(rows(c.in(ann, "INSERT INTO p VALUES (5)", "COMMIT", "SELECT id FROM k ORDER BY id"))).toEqual([[2n], [3n], [9n], [10n]]);
  });

  test("a table that was altered since the snapshot is not told as it was", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "SELECT 1 FROM accounts");
    c.sql(1, "CREATE TABLE other(x)");
    expect(rows(c.in(ann, "SELECT count(*) FROM accounts"))).toEqual([[3n]]);
    expect(faultOf(c.in(ann, "SELECT * FROM other"))).toBe("SQLITE_BUSY_SNAPSHOT");
    c.sql(1, "ALTER TABLE accounts ADD COLUMN note");
    expect(faultOf(c.in(ann, "SELECT count(*) FROM accounts"))).toBe("SQLITE_SCHEMA");
    expect(ann.isOpen).toBe(false);
  });

  test("a change of the schema may come with its COMMIT, after changes of rows", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = 5 WHERE id = 1");
    c.sql(1, "UPDATE accounts SET balance = 6 WHERE id = 2");
    c.in(ann, "CREATE TABLE log(x)", "INSERT INTO log SELECT sum(balance) FROM accounts", "COMMIT");
    expect(c.rows(1, "SELECT x FROM log")).toEqual([[505n]]);
  });

  test("an engine that begins anew has lost it, and nothing runs outside of it", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "UPDATE accounts SET balance = 0 WHERE id = 1");
    c.restart(0);
    expect(faultOf(c.in(ann, "DELETE FROM accounts"))).toBe("SQLITE_BUSY_SNAPSHOT");
    expect(c.rows(1, "SELECT count(*) FROM accounts")).toEqual([[3n]]);
  });

  test("one that its client leaves is forgotten", () => {
    accounts();
    const ann = c.client(0);
    c.in(ann, "BEGIN", "DELETE FROM accounts");
    c.engine(0).store.endTransaction(ann.transaction);
    expect(c.rows(0, "SELECT count(*) FROM accounts")).toEqual([[3n]]);
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
  });

  test("no more stay open than there is room for", () => {
    c = new Cluster(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    const clients = Array.from({ length: openTransactionsMax + 1 }, () => c.client(0));
    const outcomes = clients.map((client) => c.in(client, "BEGIN")[0]);
    expect(outcomes.filter((outcome) => outcome?.kind === "ok")).toHaveLength(openTransactionsMax);
    expect(outcomes.at(-1)).toMatchObject({ kind: "error", fault: { code: "SQLITE_BUSY" } });
    // One that is open already goes on.
    expect(rows(c.in(clients[0] as Client, "INSERT INTO t VALUES (1)", "SELECT count(*) FROM t"))).toEqual([[1n]]);
    c.in(clients[1] as Client, "ROLLBACK");
    expect(c.in(clients.at(-1) as Client, "BEGIN")[0]?.kind).toBe("ok");
  });

  test("generated ids that the client has seen are not given again", () => {
    accounts();
    const [ann, bob] = [c.client(0), c.client(0)];
    const id = (client: Client, name: string): SqlValue =>
      rows(c.in(client, `INSERT INTO accounts(owner, balance) VALUES ('${name}', 0) RETURNING id`))[0]?.[0] ?? null;
    c.in(ann, "BEGIN");
    c.in(bob, "BEGIN");
    const ids = [id(ann, "x1"), id(bob, "y1"), id(ann, "x2"), id(bob, "y2")];
    expect(new Set(ids).size).toBe(4);
    c.in(ann, "COMMIT");
    c.in(bob, "COMMIT");
    expect(
      c
        .rows(1, "SELECT id FROM accounts WHERE owner IN ('x1', 'y1', 'x2', 'y2')")
        .map(([one]) => one)
        .sort(),
    ).toEqual([...ids].sort());
  });
});

// The property: whatever others commit, wherever, a transaction's answers are those of a copy that was made at its first statement.

const names = ["a", "b", "c", "d", "e"];
const statement = fc.record({
  kind: fc.constantFrom("insert", "replace", "update", "move", "delete", "child"),
  id: fc.integer({ min: 1, max: 12 }),
  name: fc.constantFrom(...names),
  n: fc.integer({ min: 1, max: 12 }),
});
type Drawn = typeof statement extends fc.Arbitrary<infer T> ? T : never;

function textOf({ kind, id, name, n }: Drawn): string {
  switch (kind) {
    case "insert":
      return `INSERT INTO t VALUES (${id}, '${name}', ${n})`;
    case "replace":
      return `REPLACE INTO t VALUES (${id}, '${name}', ${n})`;
    case "update":
      return `UPDATE t SET n = n + ${n} WHERE id >= ${id}`;
    case "move":
      return `UPDATE t SET id = ${n} WHERE id = ${id}`;
    case "delete":
      return `DELETE FROM t WHERE id = ${id} OR name = '${name}'`;
    case "child":
      return `INSERT OR REPLACE INTO k VALUES (${n}, ${id})`;
  }
}

type Move =
  | { readonly kind: "other"; readonly at: number; readonly what: Drawn }
  | { readonly kind: "own"; readonly what: Drawn }
  | { readonly kind: "drop"; readonly table: "t" | "k"; readonly low: number; readonly high: number }
  | { readonly kind: "savepoint" | "rollbackTo" | "read" };

const move: fc.Arbitrary<Move> = fc.oneof(
  fc.record({ kind: fc.constant("other" as const), at: fc.integer({ min: 0, max: 1 }), what: statement }),
  fc.record({ kind: fc.constant("own" as const), what: statement }),
  fc.record({
    kind: fc.constant("drop" as const),
    table: fc.constantFrom("t" as const, "k" as const),
    low: fc.integer({ min: 0, max: 12 }),
    high: fc.integer({ min: 0, max: 13 }),
  }),
  fc.record({ kind: fc.constantFrom("savepoint" as const, "rollbackTo" as const, "read" as const, "read" as const) }),
);

const reads = [
  "SELECT * FROM t ORDER BY id",
  "SELECT id FROM t WHERE name = 'b'",
  "SELECT k.id, k.t, t.name FROM k LEFT JOIN t ON t.id = k.t ORDER BY 1",
];
const schema = [
  "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER)",
  "CREATE TABLE k(id INTEGER PRIMARY KEY, t INTEGER REFERENCES t(id) ON DELETE CASCADE ON UPDATE SET NULL)",
  "CREATE INDEX by_n ON t(n)",
];

/** What a copy answers: rows, or the primary code of its error. */
function onCopy(copy: Sqlite.Database, sql: string): unknown {
  try {
    const prepared = copy.prepare<[], SqlValue[]>(sql);
    return prepared.reader ? prepared.raw().all() : prepared.run().changes;
  } catch (error) {
    return primary((error as { code: string }).code);
  }
}

function primary(code: string): string {
  return code.split("_").slice(0, 2).join("_");
}

function onStore(outcome: StepOutcome | undefined): unknown {
  if (outcome?.kind === "error") return primary(outcome.fault.code);
  if (outcome?.kind !== "ok") throw new Error("skipped");
  return outcome.result.columns.length > 0 ? outcome.result.rows : outcome.result.affectedRowCount;
}

test("a transaction's answers are those of a copy made at its first statement, whatever others commit, and whatever is pulled meanwhile", () => {
  let imagesRead = 0;
  let committed = 0;
  fc.assert(
    fc.property(
      fc.array(statement, { minLength: 3, maxLength: 12 }),
      fc.array(move, { minLength: 5, maxLength: 30 }),
      fc.boolean(),
      fc.array(statement, { maxLength: 4 }),
      (before, moves, late, between) => {
        c = new Cluster(2);
        const copy = new Sqlite(":memory:").defaultSafeIntegers(true);
        copy.pragma("foreign_keys = ON");
        for (const sql of schema) c.sql(0, sql);
        for (const sql of schema) copy.exec(sql);
        for (const what of before) {
          c.run(0, [{ sql: textOf(what), args: { positional: [], named: [] }, wantRows: true, condition: null }]);
          onCopy(copy, textOf(what));
        }
        // Where the transaction's engine holds nothing yet, it pulls in the middle.
        if (!late) for (const sql of reads) c.rows(1, sql);
        const client = c.client(1);
        copy.exec("BEGIN");
        expect(onStore(c.in(client, "BEGIN", "SELECT count(*) FROM t").at(-1))).toEqual(onCopy(copy, "SELECT count(*) FROM t"));
        let savepoints = 0;
        // What comes for it may be changed before it is installed.
        const commits = [...between];
        c.beforeInstall = () => {
          const what = commits.shift();
          if (what !== undefined) c.run(0, [{ sql: textOf(what), args: { positional: [], named: [] }, wantRows: true, condition: null }]);
        };
        for (const one of moves) {
          if (one.kind === "other") {
            c.run(one.at, [{ sql: textOf(one.what), args: { positional: [], named: [] }, wantRows: true, condition: null }]);
            continue;
          }
          if (one.kind === "drop") {
            const [low, high] = [one.low === 0 ? Buffer.alloc(0) : integerKey(BigInt(one.low)), one.high === 0 ? null : integerKey(BigInt(one.high))];
            if (high !== null && Buffer.compare(low, high) >= 0) continue;
            c.engine(1).store.dropRange(c.schema.get(one.table)?.object.space as SpaceId, low, high);
            continue;
          }
          if (one.kind === "rollbackTo" && savepoints === 0) continue;
          if (one.kind === "savepoint") savepoints++;
          const texts =
            one.kind === "read" ? reads : one.kind === "own" ? [textOf(one.what)] : [one.kind === "savepoint" ? "SAVEPOINT s" : "ROLLBACK TO s"];
          for (const sql of texts) {
            const [outcome] = c.in(client, sql);
            expect(onStore(outcome), sql).toEqual(onCopy(copy, sql));
          }
        }
        const [outcome] = c.in(client, "COMMIT");
        c.beforeInstall = () => {};
        if (outcome?.kind === "error") expect(outcome.fault.code).toBe("SQLITE_BUSY_SNAPSHOT");
        else {
          committed++;
          if (commits.length === between.length && !moves.some(({ kind }) => kind === "other")) {
            copy.exec("COMMIT");
            for (const sql of reads) expect(c.rows(0, sql)).toEqual(onCopy(copy, sql));
          }
        }
        for (const sql of reads) expect(c.rows(0, sql)).toEqual(c.rows(1, sql));
        imagesRead += c.imagesRead;
        c.close();
      },
    ),
    { numRuns: 150 },
  );
  expect(committed).toBeGreaterThan(10);
  expect(imagesRead).toBeGreaterThan(100);
  c = new Cluster(1);
});
