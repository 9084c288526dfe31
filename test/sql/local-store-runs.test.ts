import { afterEach, describe, expect, test } from "vitest";
import type { EngineId, Seq, SpaceId } from "../../src/base/ids.js";
import { decodeIntegerKey, integerKey } from "../../src/base/sort-key.js";
import type { SqlValue } from "../../src/base/values.js";
import type { Condition, RunResult, Step } from "../../src/sql/local-store.js";
import { beside } from "./beside-sqlite.js";
import { Cluster, freshSettings, rowsOfLast, step } from "./store-harness.js";

let cluster = new Cluster(0);
afterEach(() => cluster.close());
function start(count = 2): Cluster {
  cluster.close();
  cluster = new Cluster(count);
  return cluster;
}

function kinds(c: Cluster, index: number, ...sqls: string[]): string[] {
  return c
    .run(
      index,
      sqls.map((sql) => step(sql)),
    )
    .outcomes.map((one) => (one.kind === "error" ? one.fault.code : one.kind));
}

function runOnce(c: Cluster, index: number, steps: readonly Step[], settings = freshSettings): RunResult {
  return c.engine(index).store.run({ steps, firstStep: 0, earlier: [], settings, seed: 5, transaction: null }, {});
}

function spaceOf(c: Cluster, name: string): SpaceId {
  const space = c.schema.get(name)?.object.space;
  if (space === undefined) throw new Error(`no ${name}`);
  return space;
}

describe("batches", () => {
  test("conditions see earlier outcomes and whether a transaction is open", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    const when = (sql: string, condition: Condition): Step => ({ ...step(sql), condition });
    const { outcomes } = c.run(0, [
      step("BEGIN"),
      when("INSERT INTO t VALUES (1)", { kind: "ok", step: 0 }),
      when("INSERT INTO t VALUES (1)", { kind: "ok", step: 1 }),
      when("INSERT INTO t VALUES (2)", { kind: "ok", step: 2 }),
      when("SELECT 1", { kind: "isAutocommit" }),
      when("COMMIT", {
        kind: "and",
        conditions: [
          { kind: "not", condition: { kind: "error", step: 1 } },
          { kind: "error", step: 2 },
        ],
      }),
      when("ROLLBACK", { kind: "not", condition: { kind: "isAutocommit" } }),
      when("SELECT count(*) FROM t", { kind: "or", conditions: [{ kind: "ok", step: 6 }, { kind: "isAutocommit" }] }),
    ]);
    expect(outcomes.map((one) => one.kind)).toEqual(["ok", "ok", "error", "skipped", "skipped", "ok", "skipped", "ok"]);
    const last = outcomes.at(-1);
    expect(last?.kind === "ok" && last.result.rows).toEqual([[1n]]);
  });

  test("a transaction that was begun as READONLY reads, and refuses every write", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const sqls = ["BEGIN TRANSACTION READONLY", "INSERT INTO t VALUES(7, 1)", "CREATE TABLE u(a)", "SELECT count(*) FROM t", "COMMIT"];
    const { outcomes, commits } = c.run(
      0,
      sqls.map((sql) => step(sql)),
    );
    expect(outcomes.map((one) => (one.kind === "error" ? one.fault.code : one.kind))).toEqual([
      "ok",
      "SQLITE_READONLY",
      "SQLITE_READONLY",
      "ok",
      "ok",
    ]);
    expect(commits).toEqual([]);
  });

  test("where a transaction may not stay open, one that is left open is undone, and says so", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    const { outcomes, commits } = c.run(0, [step("BEGIN"), step("INSERT INTO t VALUES (1)")]);
    expect(commits).toEqual([]);
    expect(outcomes[1]).toMatchObject({ kind: "error", fault: { code: "SQLITE_ERROR", message: expect.stringContaining("cannot stay open") } });
    expect(c.rows(0, "SELECT * FROM t")).toEqual([]);
    expect(kinds(c, 0, "BEGIN")).toEqual(["SQLITE_ERROR"]);
  });

  test("after an implicit rollback the rest runs in autocommit", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)");
    c.sql(0, "INSERT INTO t VALUES (1, 1)");
    expect(
      kinds(c, 0, "BEGIN", "INSERT INTO t VALUES (2, 2)", "INSERT OR ROLLBACK INTO t VALUES (3, 1)", "INSERT INTO t VALUES (4, 4)", "COMMIT"),
    ).toEqual(["ok", "ok", "SQLITE_CONSTRAINT_UNIQUE", "ok", "SQLITE_ERROR"]);
    expect(c.rows(1, "SELECT id FROM t ORDER BY id")).toEqual([[1n], [4n]]);
  });

  test("transaction control out of place is SQLite's error", () => {
    const c = start(1);
    expect(c.fault(0, "COMMIT").message).toBe("cannot commit - no transaction is active");
    expect(c.fault(0, "ROLLBACK").message).toBe("cannot rollback - no transaction is active");
    expect(c.fault(0, "RELEASE x").message).toBe("no such savepoint: x");
    expect(kinds(c, 0, "BEGIN", "BEGIN", "ROLLBACK TO x", "END")).toEqual(["ok", "SQLITE_ERROR", "SQLITE_ERROR", "ok"]);
  });

  test("rows of OR FAIL are kept, with its error", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    expect(kinds(c, 0, "INSERT OR FAIL INTO t VALUES (1), (2), (1), (3)")).toEqual(["SQLITE_CONSTRAINT_PRIMARYKEY"]);
    expect(c.rows(1, "SELECT id FROM t")).toEqual([[1n], [2n]]);
  });

  test("a transaction that changes nothing is done", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const steps = ["BEGIN", "INSERT INTO t VALUES (1, 1)", "DELETE FROM t", "COMMIT", "SELECT 1"].map((sql) => step(sql));
    const result = runOnce(c, 0, steps);
    expect(result).toMatchObject({ kind: "done", nextStep: 5 });
  });

  test("last_insert_rowid() and changes() belong to the session", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const engine = c.engine(0);
    c.sql(0, "INSERT INTO t VALUES (41, 0), (42, 0)");
    const first = engine.settings;
    engine.settings = freshSettings;
    c.sql(0, "INSERT INTO t VALUES (77, 0)");
    engine.settings = first;
    expect(c.rows(0, "SELECT last_insert_rowid(), changes()")).toEqual([[42n, 2n]]);
    const upsert = c.sql(0, "INSERT INTO t VALUES (77, 1) ON CONFLICT (id) DO UPDATE SET v = 9");
    expect([upsert.affectedRowCount, upsert.lastInsertRowid]).toEqual([1, 42n]);
    c.sql(0, "INSERT INTO t(v) VALUES (last_insert_rowid())");
    expect(c.rows(0, "SELECT v FROM t WHERE id = last_insert_rowid()")).toEqual([[42n]]);
  });

  test("also in a view, in a default, and where a view's triggers take the place of what RETURNING tells of", () => {
    const c = start(1);
    for (const sql of [
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v DEFAULT (last_insert_rowid()))",
      "CREATE VIEW asked AS SELECT last_insert_rowid() AS id",
      "CREATE VIEW w AS SELECT * FROM t",
      "CREATE TRIGGER g INSTEAD OF INSERT ON w BEGIN INSERT INTO t VALUES (new.id, new.v), (new.id + 1, new.v); END",
    ])
      c.sql(0, sql);
    const [one, other] = [c.client(0), c.client(0)];
    c.in(one, "INSERT INTO t(id) VALUES (5)");
    c.in(other, "INSERT INTO t(id) VALUES (9)");
    expect(rowsOfLast(c.in(one, "SELECT id FROM asked"))).toEqual([[5n]]);
    c.in(one, "INSERT INTO t(id) VALUES (6)");
    expect(rowsOfLast(c.in(other, "SELECT v FROM t ORDER BY id"))).toEqual([[0n], [5n], [0n]]);
    expect(rowsOfLast(c.in(one, "INSERT INTO w VALUES (20, 7) RETURNING v", "SELECT changes(), last_insert_rowid()"))).toEqual([[0n, 6n]]);
  });

  test("random() is the same when a statement runs again", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, b)");
    const steps = [step("SELECT random(), hex(randomblob(4))")];
    const first = runOnce(c, 0, steps);
    expect(runOnce(c, 0, steps)).toEqual(first);
    expect(runOnce(c, 0, [step("SELECT 1"), ...steps])).not.toEqual(first);
  });
});

describe("foreign keys", () => {
  const schema = [
    "CREATE TABLE p(id INTEGER PRIMARY KEY, u TEXT UNIQUE)",
    "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id))",
    "CREATE TABLE d(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE cu(id INTEGER PRIMARY KEY, u TEXT REFERENCES p(u))",
  ];

  test("a row that was inserted, and given another key in a later statement, still has to have its parent at COMMIT", () => {
    const c = new Cluster(1);
    c.sql(0, "CREATE TABLE e(id INTEGER PRIMARY KEY, parent INT REFERENCES e(id) DEFERRABLE INITIALLY DEFERRED)");
    const run = (...sql: string[]) =>
      c
        .run(
          0,
          ["BEGIN", ...sql, "COMMIT", "ROLLBACK"].map((one) => step(one)),
        )
        .outcomes.at(-2);
    const failure = { kind: "error", fault: { code: "SQLITE_CONSTRAINT_FOREIGNKEY" } };
    expect(run("INSERT INTO e VALUES (6, 11)", "UPDATE e SET id = 1")).toMatchObject(failure);
    expect(run("INSERT INTO e VALUES (6, 11)", "UPDATE e SET id = 1", "UPDATE e SET id = 7", "INSERT INTO e VALUES (1, NULL)")).toMatchObject(
      failure,
    );
    expect(run("INSERT INTO e VALUES (6, 11)", "UPDATE e SET id = 1", "INSERT INTO e VALUES (11, NULL)")).toMatchObject({ kind: "ok" });
    c.close();
  });

  test("immediate at the statement, deferred at COMMIT, which leaves the transaction open", () => {
    const c = start();
    for (const sql of schema) c.sql(0, sql);
    expect(kinds(c, 0, "INSERT INTO c VALUES (1, 1)", "INSERT INTO d VALUES (1, 1)")).toEqual([
      "SQLITE_CONSTRAINT_FOREIGNKEY",
      "SQLITE_CONSTRAINT_FOREIGNKEY",
    ]);
    expect(
      kinds(c, 0, "BEGIN", "INSERT INTO c VALUES (1, 1)", "INSERT INTO d VALUES (1, 1)", "COMMIT", "INSERT INTO p VALUES (1, 'a')", "COMMIT"),
    ).toEqual(["ok", "SQLITE_CONSTRAINT_FOREIGNKEY", "ok", "SQLITE_CONSTRAINT_FOREIGNKEY", "ok", "ok"]);
    expect(c.rows(1, "SELECT d.id, p.id FROM d JOIN p ON p.id = d.p")).toEqual([[1n, 1n]]);
    expect(kinds(c, 1, "BEGIN", "PRAGMA defer_foreign_keys = ON", "INSERT INTO c VALUES (2, 2)", "INSERT INTO p VALUES (2, 'b')", "COMMIT")).toEqual(
      Array(5).fill("ok"),
    );
    expect(kinds(c, 1, "DELETE FROM p WHERE id = 2")).toEqual(["SQLITE_CONSTRAINT_FOREIGNKEY"]);
  });

  test("of what ROLLBACK TO undoes nothing is checked at COMMIT: rows without their parent are as they were", () => {
    const s = beside([
      "CREATE TABLE p(id INTEGER PRIMARY KEY)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, x REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
      "INSERT INTO p VALUES (1)",
      "PRAGMA foreign_keys = OFF",
      "INSERT INTO c VALUES (1, 99)",
    ]);
    s.both(0, "PRAGMA foreign_keys = ON");
    s.both(0, "BEGIN", "SAVEPOINT a", "UPDATE c SET x = 1", "ROLLBACK TO a", "COMMIT", "SELECT * FROM c");
    s.both(0, "BEGIN", "SAVEPOINT a", "DELETE FROM p", "DROP TABLE p", "ROLLBACK TO a", "COMMIT", "SELECT * FROM p");
    s.both(0, "SAVEPOINT a", "SAVEPOINT b", "INSERT INTO c VALUES (2, 98)", "ROLLBACK TO b", "INSERT INTO p VALUES (2)", "RELEASE a");
    const outcomes = s.both(0, "BEGIN", "INSERT INTO c VALUES (3, 97)", "SAVEPOINT a", "DELETE FROM c", "ROLLBACK TO a", "COMMIT", "ROLLBACK");
    expect(outcomes.at(-2)).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    s.expectSame();
  });

  test("a child asks that its parent exists, by row or by unique value; a parent's end asks for the same keys", () => {
    const c = start();
    for (const sql of schema) c.sql(0, sql);
    c.sql(0, "INSERT INTO p VALUES (1, 'a'), (2, 'b')");
    const [child] = c.run(0, [step("INSERT INTO c VALUES (1, '1')")]).commits;
    const parentKey = integerKey(1n).toString("latin1");
    expect(child?.permissions).toContainEqual({ space: spaceOf(c, "p"), key: parentKey, kind: "exist" });
    const [byValue] = c.run(0, [step("INSERT INTO cu VALUES (1, 'b')")]).commits;
    const unique = c.schema.get("p")?.object.uniques[0]?.space;
    const exist = byValue?.permissions.find((one) => one.kind === "exist");
    expect(exist?.space).toBe(unique);
    c.sql(0, "DELETE FROM c");
    const [gone] = c.run(0, [step("DELETE FROM p WHERE id = 1")]).commits;
    expect(gone?.permissions).toContainEqual({ space: spaceOf(c, "p"), key: parentKey, kind: "delete" });
    c.sql(0, "DELETE FROM cu");
    const [renamed] = c.run(0, [step("UPDATE p SET u = 'z' WHERE id = 2")]).commits;
    expect(renamed?.permissions).toContainEqual({ space: unique, key: exist?.key, kind: "delete" });
    expect(renamed?.permissions).toContainEqual({ space: spaceOf(c, "p"), key: integerKey(2n).toString("latin1"), kind: "write" });
    const [moved] = c.run(0, [step("UPDATE p SET id = 20 WHERE id = 2")]).commits;
    expect(moved?.permissions.filter((one) => one.space === spaceOf(c, "p")).map((one) => one.kind)).toEqual(["delete", "write"]);
  });

  test.each([
    ["k TEXT PRIMARY KEY", "NUMERIC UNIQUE", "'9007199254740993'"],
    ["k TEXT PRIMARY KEY", "INT UNIQUE", "'5.0'"],
    ["k PRIMARY KEY", "REAL UNIQUE", "'5'"],
    ["k TEXT, n INT DEFAULT 7, PRIMARY KEY (n, k)", "REAL UNIQUE", "' 5'"],
  ])("a key (%s) is captured as it was, though SQLite converts it for the index (%s) by which it looks for children", (key, child, value) => {
    const c = start();
    c.sql(0, `CREATE TABLE p(v INT, ${key}) WITHOUT ROWID`);
    if (key.includes("DEFAULT")) c.sql(0, "CREATE UNIQUE INDEX u ON p(k)");
    c.sql(0, `CREATE TABLE c(id INTEGER PRIMARY KEY, f ${child} REFERENCES p(k) ON UPDATE SET NULL ON DELETE SET NULL)`);
    c.sql(0, `INSERT INTO p(k, v) VALUES (${value}, 1)`);
    c.rows(1, "SELECT * FROM p");
    c.sql(0, "UPDATE p SET k = 'x', v = 2 WHERE v = 1");
    c.sql(0, `INSERT INTO p(k, v) VALUES (${value}, 3)`);
    c.sql(0, "DELETE FROM p WHERE v = 3");
    for (const engine of [0, 1]) expect(c.rows(engine, "SELECT v FROM p"), `on engine ${engine}`).toEqual([[2n]]);
    c.restart(0);
    expect(c.rows(0, "SELECT v FROM p")).toEqual([[2n]]);
  });

  test("an UPDATE asks for the parents of what it changes alone: a row may have lost another one where foreign keys were off", () => {
    const c = start();
    for (const sql of [
      "CREATE TABLE p(id INTEGER PRIMARY KEY)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, a REFERENCES p(id), b REFERENCES p(id) ON DELETE SET NULL)",
    ])
      c.sql(0, sql);
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    c.run(0, [step("PRAGMA foreign_keys = OFF"), step("INSERT INTO c VALUES (1, 9, 1)"), step("PRAGMA foreign_keys = ON")]);
    c.sql(1, "UPDATE c SET b = 2");
    expect(c.fault(1, "UPDATE c SET a = 8").code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    expect(c.fault(1, "UPDATE c SET b = 8").code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    c.sql(1, "DELETE FROM p WHERE id = 2");
    expect(c.rows(0, "SELECT * FROM c")).toEqual([[1n, 9n, null]]);
  });

  test("of a statement that is undone as a whole nothing is checked: its own error is told, also where it had for a while what rows without their parent look for", () => {
    const c = start();
    for (const sql of [
      "CREATE TABLE p(id INTEGER PRIMARY KEY, u UNIQUE)",
      "CREATE TABLE d(id INTEGER PRIMARY KEY, u REFERENCES p(u) DEFERRABLE INITIALLY DEFERRED)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, u REFERENCES p(u))",
    ])
      c.sql(0, sql);
    c.run(0, [
      step("PRAGMA foreign_keys = OFF"),
      step("INSERT INTO c VALUES (1, 'A')"),
      step("INSERT INTO d VALUES (1, 'B')"),
      step("PRAGMA foreign_keys = ON"),
    ]);
    for (const value of ["A", "B"]) {
      const insert = `INSERT INTO p(u) VALUES ('${value}'), ('${value}')`;
      for (const store of [0, 1]) {
        expect(c.fault(store, insert)).toMatchObject({ code: "SQLITE_CONSTRAINT_UNIQUE", message: "UNIQUE constraint failed: p.u" });
        expect(kinds(c, store, "BEGIN", insert, `INSERT INTO p VALUES (${10 + store}, ${10 + store})`, "COMMIT"), value).toEqual([
          "ok",
          "SQLITE_CONSTRAINT_UNIQUE",
          "ok",
          "ok",
        ]);
        c.sql(store, "DELETE FROM p");
      }
    }
    // What stays of it, as here its first row, is checked.
    c.sql(0, "CREATE TABLE f(id INTEGER PRIMARY KEY, u UNIQUE, r REFERENCES p(id))");
    expect(c.fault(1, "INSERT OR FAIL INTO f(u, r) VALUES (1, 77), (1, NULL)").code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    expect(c.rows(0, "SELECT count(*) FROM f")).toEqual([[0n]]);
  });

  test("a table of more foreign keys than an integer has bits", () => {
    const c = start(1);
    const names = Array.from({ length: 70 }, (_, place) => `f${place}`);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, `CREATE TABLE c(id INTEGER PRIMARY KEY, ${names.map((name) => `${name} REFERENCES p(id)`).join(", ")})`);
    c.sql(0, "INSERT INTO p VALUES (1)");
    c.sql(0, `INSERT INTO c VALUES (1, ${names.map(() => "1").join(", ")})`);
    for (const name of ["f0", "f61", "f62", "f63", "f69"]) {
      c.sql(0, `UPDATE c SET ${name} = NULL`);
      expect(c.fault(0, `UPDATE c SET ${name} = 2`).code, name).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
      c.sql(0, `UPDATE c SET ${name} = 1`);
    }
  });

  test("off for a session that says so, which a transaction keeps", () => {
    const c = start();
    for (const sql of schema) c.sql(0, sql);
    expect(c.rows(0, "PRAGMA foreign_keys")).toEqual([[1n]]);
    c.sql(0, "PRAGMA foreign_keys = OFF");
    expect(c.rows(0, "PRAGMA foreign_keys")).toEqual([[0n]]);
    expect(kinds(c, 0, "INSERT INTO c VALUES (1, 99)")).toEqual(["ok"]);
    expect(kinds(c, 0, "BEGIN", "PRAGMA foreign_keys = ON", "INSERT INTO c VALUES (2, 99)", "COMMIT")).toEqual(Array(4).fill("ok"));
    expect(c.rows(1, "PRAGMA foreign_key_check")).toEqual([
      ["c", 1n, "p", 0n],
      ["c", 2n, "p", 0n],
    ]);
    expect(kinds(c, 1, "INSERT INTO c VALUES (3, 99)", "UPDATE c SET p = p WHERE id = 1")).toEqual(["SQLITE_CONSTRAINT_FOREIGNKEY", "ok"]);
  });
});

describe("what is not here", () => {
  test("tables are pulled for all that a statement reaches, at once", () => {
    const c = start();
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p(id) ON DELETE CASCADE)");
    c.sql(0, "CREATE TABLE l(x)");
    c.sql(0, "CREATE TRIGGER cd AFTER DELETE ON c BEGIN INSERT INTO l VALUES (old.id); END");
    c.sql(0, "CREATE VIEW v AS SELECT l.x FROM l JOIN c ON c.id = l.x");
    const tables = (sql: string): unknown => {
      const result = runOnce(c, 1, [step(sql)]);
      return result.kind === "pull" ? result.needs.map(({ space }) => space).sort() : result.kind;
    };
    const [p, child, l] = [spaceOf(c, "p"), spaceOf(c, "c"), spaceOf(c, "l")];
    // What the trigger only adds to is not among it.
    expect(tables("DELETE FROM p")).toEqual([p, child]);
    // The parent is looked for by its key when the row is known.
    expect(tables("INSERT INTO c VALUES (1, 1)")).toEqual([child]);
    expect(tables("SELECT * FROM v")).toEqual([child, l]);
    expect(tables("SELECT (SELECT max(x) FROM l)")).toEqual([l]);
    expect(tables("PRAGMA foreign_key_check")).toEqual([p, child, l]);
    expect(tables("EXPLAIN SELECT * FROM l")).toBe("done");
    expect(tables("SELECT name FROM sqlite_schema")).toBe("done");
  });

  test("a chunk is brought up to what is applied, change by change", () => {
    const c = start(3);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    const table = spaceOf(c, "t");
    const { store } = c.engine(2);
    const begun = c.seq;
    const middle = integerKey(2n);
    store.beginHold(table, new Uint8Array(0), null);
    const asOfBegin = c.rowsOf(table);
    c.sql(0, "UPDATE t SET u = CASE id WHEN 1 THEN 'b' WHEN 2 THEN 'a' ELSE u END WHERE id < 0");
    c.sql(0, "DELETE FROM t WHERE id = 3");
    c.sql(0, "INSERT INTO t VALUES (4, 'd')");
    c.sql(0, "UPDATE t SET u = 'z' WHERE id = 1");
    const below = asOfBegin.filter((row) => Buffer.compare(row.key, middle) < 0);
    const above = asOfBegin.filter((row) => Buffer.compare(row.key, middle) >= 0);
    expect(store.install(table, middle, null, begun, above)).toBe("held");
    expect(store.tableHash(table)).toBeNull();
    c.sql(0, "INSERT INTO t VALUES (0, 'y'), (9, 'c')");
    expect(store.install(table, new Uint8Array(0), middle, begun, below)).toBe("held");
    expect(c.rows(2, "SELECT * FROM t ORDER BY id")).toEqual(c.rows(0, "SELECT * FROM t ORDER BY id"));
    expect(store.tableHash(table)).toBe(c.engine(0).store.tableHash(table));
    expect(c.rows(2, "SELECT id FROM t ORDER BY id")).toEqual([[0n], [1n], [2n], [4n], [9n]]);
    c.sql(2, "UPDATE t SET u = u || '!'");
    expect(c.rows(0, "SELECT u FROM t WHERE id = 9")).toEqual([["c!"]]);
  });

  test("a hold that was given up, or never begun, cannot be installed", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    const { store } = c.engine(1);
    const table = spaceOf(c, "t");
    expect(store.install(table, new Uint8Array(0), null, c.seq, [])).toBe("full");
    store.beginHold(table, new Uint8Array(0), null);
    store.abandonHold(table, integerKey(5n), integerKey(7n));
    expect(store.install(table, integerKey(5n), integerKey(6n), c.seq, [])).toBe("full");
    expect(store.install(table, new Uint8Array(0), integerKey(5n), c.seq, [])).toBe("held");
    expect(store.install(table, integerKey(7n), null, c.seq, [])).toBe("held");
    expect(runOnce(c, 1, [step("SELECT * FROM t")]).kind).toBe("pull");
    store.holdEmpty(table, integerKey(5n), integerKey(7n));
    expect(runOnce(c, 1, [step("SELECT * FROM t")]).kind).toBe("done");
  });

  test("an entry that does not fit is a divergence", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const insert = runOnce(c, 0, [step("INSERT INTO t VALUES (1, 1)")]);
    if (insert.kind !== "commit") throw new Error(insert.kind);
    c.commit(2 as EngineId, insert.changes.body);
    const { seq } = c;
    expect(() => c.commit(2 as EngineId, insert.changes.body)).toThrow("do not fit");
    expect(c.engine(0).store.appliedSeq).toBe(seq);
  });
});

describe("ids", () => {
  test("come from granted blocks, skip what exists, and are asked for when they end", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    const { store } = c.engine(0);
    const table = spaceOf(c, "t");
    c.sql(0, "INSERT INTO t VALUES (11, 'explicit')");
    expect(runOnce(c, 0, [step("INSERT INTO t(v) VALUES (1)")])).toEqual({ kind: "ids", table });
    store.grantIds(table, 10n, 12n);
    store.grantIds(table, 30n, 30n);
    expect(runOnce(c, 0, [step("INSERT INTO t(v) VALUES (1), (2), (3), (4)")])).toEqual({ kind: "ids", table });
    expect(c.sql(0, "INSERT INTO t(v) VALUES (1), (2), (3) RETURNING id").rows).toEqual([[10n], [12n], [30n]]);
    expect(runOnce(c, 0, [step("INSERT INTO t(v) VALUES (1)")]).kind).toBe("ids");
  });

  test("what a failed statement took is given again", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v CHECK (v < 5))");
    c.engine(0).store.grantIds(spaceOf(c, "t"), 1n, 100n);
    expect(c.fault(0, "INSERT INTO t(v) VALUES (1), (7)").code).toBe("SQLITE_CONSTRAINT_CHECK");
    expect(c.sql(0, "INSERT INTO t(v) VALUES (1)").lastInsertRowid).toBe(1n);
    expect(c.sql(0, "INSERT INTO t(v) SELECT v FROM t UNION ALL SELECT 2 RETURNING id").rows).toEqual([[2n], [3n]]);
    expect(c.sql(0, "INSERT INTO t DEFAULT VALUES").lastInsertRowid).toBe(4n);
    expect(c.sql(0, "INSERT INTO t VALUES (5, 0), (NULL, 0) RETURNING id").rows).toEqual([[5n], [6n]]);
  });

  test("what is left of the blocks is given back: what lies behind all rows, of tables whose ids may come again", () => {
    const c = start(1);
    for (const name of ["t", "u"]) c.sql(0, `CREATE TABLE ${name}(id INTEGER PRIMARY KEY, v)`);
    c.sql(0, "CREATE TABLE hidden(v)");
    c.sql(0, "CREATE TABLE once(id INTEGER PRIMARY KEY AUTOINCREMENT, v)");
    const { store } = c.engine(0);
    const [t, u, hidden, once] = [spaceOf(c, "t"), spaceOf(c, "u"), spaceOf(c, "hidden"), spaceOf(c, "once")];
    for (const table of [t, u, hidden, once]) store.grantIds(table, 1n, 32n);
    store.grantIds(t, 65n, 96n);
    for (const name of ["t", "hidden", "once"]) c.sql(0, `INSERT INTO ${name}(v) VALUES (1), (2)`);
    c.sql(0, "INSERT INTO t VALUES (10, 'explicit')");
    expect(store.takeIdsBack()).toEqual([
      { space: t, first: 11n, next: 33n },
      { space: t, first: 65n, next: 97n },
      { space: u, first: 1n, next: 33n },
      { space: hidden, first: 3n, next: 33n },
    ]);
    expect(runOnce(c, 0, [step("INSERT INTO t(v) VALUES (1)")])).toEqual({ kind: "ids", table: t });
    expect(store.takeIdsBack()).toEqual([]);
  });

  test("hidden rowids too, and they are the same everywhere", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(a TEXT PRIMARY KEY, b)");
    c.sql(0, "INSERT INTO t VALUES ('x', 1), (NULL, 2), (NULL, 3)");
    c.sql(1, "INSERT INTO t VALUES ('y', 4)");
    expect(c.rows(0, "SELECT rowid, * FROM t ORDER BY rowid")).toEqual(c.rows(1, "SELECT rowid, * FROM t ORDER BY rowid"));
    c.sql(1, "DELETE FROM t WHERE a IS NULL AND b = 3");
    expect(c.rows(0, "SELECT b FROM t ORDER BY b")).toEqual([[1n], [2n], [4n]]);
    expect(c.rows(0, "SELECT rowid FROM t WHERE b = 4")).toEqual([[9n]]);
  });
});

describe("introspection", () => {
  test("shows the user's schema and nothing of the store's", () => {
    const c = start();
    const sql = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, p REFERENCES t(id) ON DELETE RESTRICT)";
    const trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t(p) SELECT NULL WHERE false; END";
    c.sql(0, sql);
    c.sql(1, trigger);
    for (const index of [0, 1]) {
      expect(c.rows(index, "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")).toEqual([
        ["table", "t", sql],
        ["trigger", "g", trigger],
      ]);
      expect(c.rows(index, "PRAGMA table_info(t)").map((row) => row[1])).toEqual(["id", "p"]);
      expect(c.rows(index, "PRAGMA foreign_key_list('t')").map((row) => row[6])).toEqual(["RESTRICT"]);
      expect(c.rows(index, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'")).toEqual([["t"]]);
    }
    expect(c.fault(0, "SELECT * FROM t, sqlite_schema").code).toBe("ATOMCAST_NOT_SUPPORTED");
    expect(c.rows(0, "PRAGMA journal_mode = WAL")).toEqual([["wal"]]);
    expect(c.fault(0, "ATTACH 'x' AS y").code).toBe("ATOMCAST_NOT_SUPPORTED");
    expect(c.engine(0).store.describe("INSERT INTO t(p) VALUES (:p) RETURNING id AS new_id", null)).toEqual({
      parameters: [{ name: ":p" }],
      columns: [{ name: "new_id", declaredType: "INTEGER" }],
      isExplain: false,
      isReadonly: false,
    });
  });

  test("through a view too", () => {
    const c = start(1);
    const trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t(p) SELECT NULL WHERE false; END";
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, p)");
    c.sql(0, trigger);
    c.sql(0, "CREATE VIEW texts AS SELECT type, sql FROM sqlite_schema");
    c.sql(0, "CREATE VIEW v AS SELECT sql FROM texts WHERE type = 'trigger'");
    expect(c.rows(0, "SELECT * FROM v")).toEqual([[trigger]]);
    expect(c.fault(0, "SELECT * FROM t, v").code).toBe("ATOMCAST_NOT_SUPPORTED");
  });

  test("a PRAGMA of rows or of the session is none as a table", () => {
    const c = start(1);
    for (const name of ["foreign_key_check", "integrity_check", "quick_check", "foreign_keys", "defer_foreign_keys"])
      expect(c.fault(0, `SELECT * FROM main.pragma_${name}`).message).toBe(`the table pragma_${name} is not supported: use PRAGMA ${name}`);
    expect(c.rows(0, "SELECT * FROM pragma_user_version")).toEqual([[0n]]);
  });

  test("system tables are what the engine gives for the run", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE engines(x)");
    const ask = (sql: string, engines: readonly Record<string, SqlValue>[]): unknown => {
      const request = { steps: [step(sql)], firstStep: 0, earlier: [], settings: freshSettings, seed: 1, transaction: null };
      const result = c.engine(0).store.run(request, { engines: { columns: Object.keys(engines[0] ?? { id: null }), rows: engines } });
      const outcome = result.kind === "done" ? result.outcomes[0] : undefined;
      return outcome?.kind === "ok" ? outcome.result.rows : outcome;
    };
    expect(
      ask("SELECT id, kind FROM system.engines ORDER BY id", [
        { id: 1n, kind: "cache" },
        { id: 2n, kind: "archive" },
      ]),
    ).toEqual([
      [1n, "cache"],
      [2n, "archive"],
    ]);
    expect(ask("SELECT count(*) FROM system.engines", [{ id: 1n, kind: "cache" }])).toEqual([[1n]]);
    expect(ask("SELECT id FROM system.engines", [])).toEqual([]);
    expect(ask("SELECT host FROM SYSTEM.Engines", [{ id: 1n, host: "h" }])).toEqual([["h"]]);
    expect(ask("SELECT * FROM engines", [{ id: 1n }])).toEqual([]);
    // Without their schema they are not there, whatever an earlier run has left.
    c.sql(0, "DROP TABLE engines");
    for (const sql of [
      "SELECT * FROM engines",
      "INSERT INTO engines VALUES (7)",
      "DELETE FROM engines",
      "INSERT INTO engines SELECT * FROM system.engines",
    ])
      expect(ask(sql, [{ id: 1n }]), sql).toMatchObject({ kind: "error", fault: { message: expect.stringContaining("no such table: ") } });
  });

  test("nor are the store's own tables", () => {
    const c = start(1);
    for (const name of ["_atomcast_seed", "_Atomcast_Typed"]) {
      for (const sql of [`SELECT * FROM ${name}`, `INSERT INTO ${name}(id) VALUES (1)`])
        expect(c.fault(0, sql).message).toBe(`no such table: ${name}`);
      expect(c.fault(0, `CREATE TABLE ${name}(a)`).code).toBe("ATOMCAST_NOT_SUPPORTED");
    }
    c.sql(0, "CREATE TABLE t(a)");
    expect(c.fault(0, "ALTER TABLE t RENAME TO _atomcast_seed").code).toBe("ATOMCAST_NOT_SUPPORTED");
  });
});

describe("values", () => {
  test("come back as they were, on every engine", () => {
    const c = start();
    c.sql(0, "CREATE TABLE v(id INTEGER PRIMARY KEY, x)");
    const values: SqlValue[] = [
      null,
      5n,
      5,
      -0,
      0.1,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      2n ** 63n - 1n,
      -(2n ** 63n),
      2n ** 53n + 1n,
      "",
      "a\u0000b",
      "\u{1F600}",
      "\ufffd",
      Buffer.alloc(0),
      Buffer.from([0, 255, 0]),
    ];
    for (const [id, value] of values.entries()) c.sql(0, "INSERT INTO v VALUES (?, ?)", [BigInt(id), value]);
    for (const index of [0, 1]) {
      const rows = c.rows(index, "SELECT x, typeof(x) FROM v ORDER BY id");
      for (const [id, value] of values.entries()) {
        const got = rows[id]?.[0];
        if (value instanceof Uint8Array) expect(Buffer.from(got as Uint8Array)).toEqual(Buffer.from(value));
        else expect(Object.is(got, value), `${String(value)} came back as ${String(got)}`).toBe(true);
      }
    }
    expect(c.engine(0).store.tableHash(spaceOf(c, "v"))).toBe(c.engine(1).store.tableHash(spaceOf(c, "v")));
  });

  test("ill-formed text is refused, bound or made", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE v(id INTEGER PRIMARY KEY, x)");
    expect(c.fault(0, "INSERT INTO v VALUES (1, ?)", ["\ud800"]).code).toBe("ATOMCAST_ILL_FORMED_TEXT");
    expect(c.fault(0, "INSERT INTO v VALUES (1, CAST(x'c3' AS TEXT))").code).toBe("ATOMCAST_ILL_FORMED_TEXT");
    expect(c.fault(0, "SELECT ?", [2n ** 63n]).code).toBe("SQLITE_RANGE");
    expect(c.rows(0, "SELECT * FROM v")).toEqual([]);
  });

  test("also as a key: what capture calls out then finds no row", () => {
    const c = start(1);
    c.sql(0, "CREATE TABLE k(a TEXT, b, PRIMARY KEY (b, a)) WITHOUT ROWID");
    c.sql(0, "INSERT INTO k VALUES ('\ufffd', 1), ('b', '\ufffd')");
    expect(c.fault(0, "INSERT INTO k VALUES (CAST(x'ff' AS TEXT), 1)").code).toBe("ATOMCAST_ILL_FORMED_TEXT");
    expect(c.fault(0, "UPDATE k SET b = CAST(x'61c3' AS TEXT)").code).toBe("ATOMCAST_ILL_FORMED_TEXT");
    c.sql(0, "DELETE FROM k WHERE b = 1");
    expect(c.rows(0, "SELECT * FROM k")).toEqual([["b", "\ufffd"]]);
  });

  test("parameters: by place, by number, by name, too few and too many", () => {
    const c = start(1);
    const rows = (sql: string, positional: SqlValue[], named: { name: string; value: SqlValue }[] = []): unknown => {
      const [outcome] = c.run(0, [{ ...step(sql), args: { positional, named } }]).outcomes;
      return outcome?.kind === "ok" ? outcome.result.rows[0] : outcome?.kind === "error" ? outcome.fault.code : null;
    };
    expect(rows("SELECT ?, ?", [1n])).toEqual([1n, null]);
    expect(rows("SELECT ?2, ?1", [1n, 2n])).toEqual([2n, 1n]);
    expect(
      rows(
        "SELECT :a, @b, $c, :a",
        [],
        [
          { name: "a", value: 1n },
          { name: "@b", value: 2n },
          { name: "$c", value: 3n },
        ],
      ),
    ).toEqual([1n, 2n, 3n, 1n]);
    expect(rows("SELECT ?", [1n, 2n])).toBe("SQLITE_RANGE");
    expect(rows("SELECT :a", [], [{ name: "b", value: 1n }])).toBe("SQLITE_RANGE");
  });

  test("keys of WITHOUT ROWID tables: long, NOCASE with NUL, blobs, DESC", () => {
    const c = start();
    c.sql(0, "CREATE TABLE w(k TEXT COLLATE NOCASE, b BLOB, v, PRIMARY KEY (k DESC, b)) WITHOUT ROWID");
    const long = "x".repeat(3000);
    const keys: [string, Buffer][] = [
      [`${long}a`, Buffer.from([0])],
      [`${long}b`, Buffer.alloc(0)],
      ["A\u0000b", Buffer.from([0, 0, 255])],
      ["a", Buffer.from([1])],
    ];
    for (const [k, b] of keys) c.sql(0, "INSERT INTO w VALUES (?, ?, 1)", [k, b]);
    for (const [k, b] of keys) c.sql(1, "UPDATE w SET v = 2, k = upper(k) WHERE k = ? AND b = ?", [k, b]);
    expect(c.rows(0, "SELECT count(*), sum(v) FROM w")).toEqual([[4n, 8n]]);
    c.sql(0, "DELETE FROM w WHERE k = ? OR k = 'A'", [`${long}A`]);
    expect(c.rows(1, "SELECT length(k), v FROM w ORDER BY k, b")).toEqual(c.rows(0, "SELECT length(k), v FROM w ORDER BY k, b"));
    expect(c.rows(1, "SELECT count(*) FROM w")).toEqual([[2n]]);
  });

  test("unique values are swapped in one entry", () => {
    const c = start();
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)");
    c.sql(0, "INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    c.run(
      0,
      ["BEGIN", "UPDATE t SET u = 'tmp' WHERE id = 1", "UPDATE t SET u = 'a' WHERE id = 2", "UPDATE t SET u = 'b' WHERE id = 1", "COMMIT"].map(
        (sql) => step(sql),
      ),
    );
    expect(c.rows(1, "SELECT u FROM t ORDER BY id")).toEqual([["b"], ["a"]]);
  });
});

test("keys are what decodes to the row's id", () => {
  const c = start(1);
  c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
  const result = runOnce(c, 0, [step("INSERT INTO t VALUES (-7)")]);
  if (result.kind !== "commit") throw new Error(result.kind);
  const key = result.changes.permissions[0]?.key ?? "";
  expect(decodeIntegerKey(Buffer.from(key, "latin1"))).toBe(-7n);
  expect(result.snapshot).toBe(c.seq as Seq);
});
