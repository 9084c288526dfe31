import { afterEach, describe, expect, test } from "vitest";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { type Client, Cluster, faultOfLast as faultOf, freshSettings, rowsOfLast as rows, step } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

function all(outcomes: readonly StepOutcome[]): void {
  expect(outcomes.flatMap((outcome) => (outcome.kind === "error" ? [outcome.fault] : []))).toEqual([]);
}

/** Somebody else uses the connection: what is open has to be put together again. */
const others: readonly { readonly name: string; readonly act: () => void; readonly changesSchema?: true }[] = [
  { name: "nobody else there", act: () => {} },
  { name: "a read of another client in between", act: () => void c.rows(0, "SELECT count(*) FROM other") },
  { name: "a commit of another engine in between", act: () => void c.sql(1, "INSERT INTO other(x) VALUES (1)") },
  {
    name: "another change of the schema in between",
    changesSchema: true,
    act: () => void c.sql(1, `CREATE TABLE other${made++}(id INTEGER PRIMARY KEY)`),
  },
];
let made = 0;

function begun(): Client {
  c = new Cluster(2);
  c.sql(0, "CREATE TABLE other(id INTEGER PRIMARY KEY, x)");
  const client = c.client(0);
  all(c.in(client, "BEGIN"));
  return client;
}

describe.each(others)("a change of the schema in a transaction that stays open, with $name", ({ act, changesSchema }) => {
  // ALTER, and what changes triggers and views, stand for the schema as a whole.
  const onAnyChange = changesSchema ? test.skip : test;

  test("a table is made, filled, read and committed, each in a request", () => {
    const ann = begun();
    for (const sql of ["CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)", "CREATE INDEX by_name ON t(name)"]) {
      act();
      all(c.in(ann, sql));
      expect(ann.isOpen).toBe(true);
    }
    act();
    expect(rows(c.in(ann, "INSERT INTO t(name) VALUES ('a'), ('b') RETURNING id"))).toEqual([[1n], [2n]]);
    act();
    expect(faultOf(c.in(ann, "INSERT INTO t(name) VALUES ('b')"))).toBe("SQLITE_CONSTRAINT_UNIQUE");
    act();
    expect(rows(c.in(ann, "INSERT INTO t(name) VALUES ('c') RETURNING id"))).toEqual([[3n]]);
    expect(c.fault(0, "SELECT * FROM t").message).toBe("no such table: t");
    act();
    expect(rows(c.in(ann, "SELECT name FROM t ORDER BY name"))).toEqual([["a"], ["b"], ["c"]]);
    expect(rows(c.in(ann, "PRAGMA table_info(t)"))).toHaveLength(2);
    all(c.in(ann, "COMMIT"));
    expect(ann.isOpen).toBe(false);
    for (const engine of [0, 1])
      expect(c.rows(engine, "SELECT id, name FROM t")).toEqual([
        [1n, "a"],
        [2n, "b"],
        [3n, "c"],
      ]);
    expect(c.rows(1, "SELECT name FROM sqlite_schema WHERE tbl_name = 't' AND sql IS NOT NULL ORDER BY name")).toEqual([["by_name"], ["t"]]);
  });

  test("ROLLBACK leaves nothing of it", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE t(id INTEGER PRIMARY KEY)"));
    act();
    all(c.in(ann, "INSERT INTO t VALUES (1)", "PRAGMA user_version = 7"));
    act();
    all(c.in(ann, "ROLLBACK"));
    expect(c.fault(0, "SELECT * FROM t").message).toBe("no such table: t");
    expect(c.rows(0, "PRAGMA user_version")).toEqual([[0n]]);
    c.sql(1, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    expect(c.rows(0, "SELECT * FROM t")).toEqual([]);
  });

  onAnyChange("ROLLBACK TO a savepoint before it undoes it, one behind it does not", () => {
    const ann = begun();
    all(c.in(ann, "INSERT INTO other VALUES (100, 1)", "SAVEPOINT a"));
    act();
    all(c.in(ann, "CREATE TABLE t(id INTEGER PRIMARY KEY)", "ALTER TABLE other ADD COLUMN y"));
    act();
    all(c.in(ann, "INSERT INTO t VALUES (1)", "SAVEPOINT b"));
    act();
    all(c.in(ann, "INSERT INTO t VALUES (2)", "ALTER TABLE t ADD COLUMN z"));
    act();
    all(c.in(ann, "ROLLBACK TO b"));
    act();
    expect(rows(c.in(ann, "SELECT * FROM t"))).toEqual([[1n]]);
    act();
    expect(rows(c.in(ann, "UPDATE other SET y = 5 RETURNING y, id"))).toContainEqual([5n, 100n]);
    act();
    all(c.in(ann, "ROLLBACK TO a"));
    act();
    expect(faultOf(c.in(ann, "SELECT * FROM t"))).toBe("SQLITE_ERROR");
    expect(faultOf(c.in(ann, "SELECT y FROM other"))).toBe("SQLITE_ERROR");
    act();
    all(c.in(ann, "CREATE TABLE t(x)", "INSERT INTO t VALUES (9)"));
    act();
    all(c.in(ann, "RELEASE a", "COMMIT"));
    expect(c.rows(1, "SELECT * FROM t")).toEqual([[9n]]);
    expect(c.rows(1, "SELECT * FROM other WHERE id = 100")).toEqual([[100n, 1n]]);
  });

  // Seed 7000301 of the differential test: compiled by the texts of before, DELETE FROM p looked for the other parent.
  test("a child with an action that has a second parent, which is not there", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE p(id INTEGER PRIMARY KEY, n)"));
    all(c.in(ann, "CREATE TABLE k(p REFERENCES p ON DELETE CASCADE, q REFERENCES nowhere(id))", "INSERT INTO p VALUES (1, 0)"));
    act();
    all(c.in(ann, "UPDATE p SET n = n + 1"));
    act();
    expect(rows(c.in(ann, "SELECT * FROM p"))).toEqual([[1n, 1n]]);
    all(c.in(ann, "COMMIT"));
    expect(c.rows(1, "SELECT * FROM p")).toEqual([[1n, 1n]]);
  });

  test("foreign keys' actions act once: a parent that was written again keeps its children", () => {
    const ann = begun();
    all(
      c.in(
        ann,
        "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n)",
        "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, q TEXT REFERENCES p(name) ON DELETE SET NULL ON UPDATE SET NULL)",
        "CREATE TABLE g(id INTEGER PRIMARY KEY, k NOT NULL REFERENCES k ON DELETE CASCADE)",
        "INSERT INTO p VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)",
        "INSERT INTO k VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')",
        "INSERT INTO g VALUES (1, 1), (2, 2), (3, 3)",
        "SAVEPOINT s",
      ),
    );
    act();
    // Child 1 leaves for another parent before its own is deleted.
    all(c.in(ann, "UPDATE p SET n = n + 1", "UPDATE k SET p = 2 WHERE id = 1"));
    act();
    all(c.in(ann, "DELETE FROM p WHERE id IN (1, 3)"));
    act();
    all(c.in(ann, "UPDATE p SET id = 20, name = 'x'"));
    act();
    expect(rows(c.in(ann, "SELECT k.*, g.id FROM k LEFT JOIN g ON g.k = k.id ORDER BY 1"))).toEqual([
      [1n, 20n, null, 1n],
      [2n, 20n, null, 2n],
    ]);
    act();
    all(c.in(ann, "ROLLBACK TO s"));
    act();
    expect(rows(c.in(ann, "SELECT k.*, g.id FROM k LEFT JOIN g ON g.k = k.id ORDER BY 1"))).toEqual([
      [1n, 1n, "a", 1n],
      [2n, 2n, "b", 2n],
      [3n, 3n, "c", 3n],
    ]);
    act();
    // The actions are there again.
    all(c.in(ann, "DELETE FROM p WHERE id = 3"));
    act();
    expect(rows(c.in(ann, "SELECT id FROM g"))).toEqual([[1n], [2n]]);
    act();
    all(c.in(ann, "COMMIT"));
    for (const engine of [0, 1]) {
      expect(c.rows(engine, "SELECT k.*, g.id FROM k LEFT JOIN g ON g.k = k.id ORDER BY 1")).toEqual([
        [1n, 1n, "a", 1n],
        [2n, 2n, "b", 2n],
      ]);
      expect(c.rows(engine, "SELECT sql FROM sqlite_schema WHERE name = 'g'")).toEqual([
        ["CREATE TABLE g(id INTEGER PRIMARY KEY, k NOT NULL REFERENCES k ON DELETE CASCADE)"],
      ]);
      expect(c.rows(engine, "PRAGMA foreign_key_check")).toEqual([]);
    }
    c.sql(1, "DELETE FROM p WHERE id = 1");
    expect(c.rows(0, "SELECT id FROM g")).toEqual([[2n]]);
  });

  test("a parent is dropped, whose children follow by their action", () => {
    const ann = begun();
    all(c.in(ann, "ROLLBACK"));
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE SET NULL)");
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    c.sql(0, "INSERT INTO k VALUES (1, 1), (2, 2)");
    c.sql(0, "CREATE TABLE q(id INTEGER PRIMARY KEY, k REFERENCES k ON DELETE CASCADE)");
    c.sql(0, "INSERT INTO q VALUES (1, 1), (2, 2)");
    all(c.in(ann, "BEGIN", "UPDATE k SET p = 1 WHERE id = 2"));
    act();
    all(c.in(ann, "DROP TABLE p"));
    act();
    expect(rows(c.in(ann, "SELECT p FROM k"))).toEqual([[null], [null]]);
    act();
    // What else refers goes on doing so.
    expect(faultOf(c.in(ann, "INSERT INTO q VALUES (3, 3)"))).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    all(c.in(ann, "CREATE TABLE p(id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES (7)", "UPDATE k SET p = 7", "SAVEPOINT s"));
    act();
    all(c.in(ann, "DELETE FROM k WHERE id = 1"));
    act();
    expect(rows(c.in(ann, "SELECT id FROM q"))).toEqual([[2n]]);
    all(c.in(ann, "ROLLBACK TO s"));
    act();
    all(c.in(ann, "COMMIT"));
    expect(c.rows(1, "SELECT p FROM k")).toEqual([[7n], [7n]]);
    c.sql(1, "DELETE FROM p");
    expect(c.rows(0, "SELECT p FROM k")).toEqual([[null], [null]]);
  });

  onAnyChange("a table is made anew as migrations do it, without foreign keys", () => {
    const ann = begun();
    all(c.in(ann, "ROLLBACK", "CREATE TABLE p(id INTEGER PRIMARY KEY, a)", "CREATE TABLE k(p REFERENCES p ON DELETE CASCADE)"));
    c.sql(1, "INSERT INTO p VALUES (1, 'x'), (2, 'y')");
    c.sql(1, "INSERT INTO k VALUES (1), (2)");
    all(c.in(ann, "PRAGMA foreign_keys = OFF", "BEGIN"));
    const steps = [
      "CREATE TABLE new_p(id INTEGER PRIMARY KEY, a TEXT NOT NULL, b DEFAULT 3)",
      "INSERT INTO new_p(id, a) SELECT id, a FROM p",
      "DROP TABLE p",
      "ALTER TABLE new_p RENAME TO p",
      "ALTER TABLE p RENAME COLUMN b TO d",
      "CREATE UNIQUE INDEX by_a ON p(a)",
    ];
    for (const sql of steps) {
      all(c.in(ann, sql));
      act();
    }
    expect(rows(c.in(ann, "PRAGMA foreign_key_check"))).toEqual([]);
    all(c.in(ann, "COMMIT", "PRAGMA foreign_keys = ON"));
    expect(c.rows(1, "SELECT p.*, k.p FROM p JOIN k ON k.p = p.id")).toEqual([
      [1n, "x", 3n, 1n],
      [2n, "y", 3n, 2n],
    ]);
    expect(c.fault(1, "INSERT INTO p(a) VALUES ('x')").code).toBe("SQLITE_CONSTRAINT_UNIQUE");
    c.sql(1, "DELETE FROM p WHERE id = 1");
    expect(c.rows(0, "SELECT * FROM k")).toEqual([[2n]]);
  });

  onAnyChange("a parent gets another name, and its children follow", () => {
    const ann = begun();
    all(c.in(ann, "ROLLBACK", "CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE)"));
    all(c.in(ann, "INSERT INTO p VALUES (1), (2)", "INSERT INTO k VALUES (1, 1), (2, 2)", "BEGIN", "ALTER TABLE p RENAME TO q"));
    act();
    expect(faultOf(c.in(ann, "INSERT INTO k VALUES (3, 3)"))).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    all(c.in(ann, "UPDATE q SET id = id"));
    act();
    all(c.in(ann, "DELETE FROM q WHERE id = 1"));
    act();
    expect(rows(c.in(ann, "SELECT * FROM k"))).toEqual([[2n, 2n]]);
    all(c.in(ann, "COMMIT"));
    expect(c.rows(1, "SELECT sql FROM sqlite_schema WHERE name = 'k'")).toEqual([
      ['CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES "q" ON DELETE CASCADE)'],
    ]);
    c.sql(1, "DELETE FROM q");
    expect(c.rows(0, "SELECT * FROM k")).toEqual([]);
  });

  onAnyChange("triggers and views, and CREATE TABLE AS", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE t(id INTEGER PRIMARY KEY, n)", "CREATE TABLE log(t, n)"));
    act();
    all(c.in(ann, "CREATE TRIGGER noted AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id, new.n); END"));
    act();
    all(c.in(ann, "INSERT INTO t(n) VALUES (5), (6)"));
    act();
    all(c.in(ann, "CREATE VIEW v AS SELECT sum(n) AS n FROM log", "CREATE TABLE copy AS SELECT * FROM log"));
    act();
    expect(rows(c.in(ann, "SELECT v.n, count(*) FROM v, copy"))).toEqual([[11n, 2n]]);
    act();
    all(c.in(ann, "DROP VIEW v", "INSERT INTO t(n) VALUES (7)"));
    act();
    expect(rows(c.in(ann, "SELECT * FROM log"))).toHaveLength(3);
    // What changes triggers or views holds the whole schema.
    const [outcome] = c.in(ann, "COMMIT");
    if (outcome?.kind === "error") expect(outcome.fault.code).toBe("SQLITE_BUSY_SNAPSHOT");
    else
      expect(c.rows(1, "SELECT t, n FROM log ORDER BY 1")).toEqual([
        [1n, 5n],
        [2n, 6n],
        [3n, 7n],
      ]);
  });
});

describe("a change of the schema in a transaction that stays open", () => {
  test("conflicts where another one has made the same name, at its next statement or its COMMIT", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE t(id INTEGER PRIMARY KEY)"));
    c.sql(1, "CREATE TABLE t(x)");
    const [outcome] = c.in(ann, "INSERT INTO t VALUES (1)");
    expect(outcome).toMatchObject({
      kind: "error",
      fault: { code: "SQLITE_BUSY_SNAPSHOT", message: expect.stringContaining('the name "t" in the schema') },
    });
    expect(ann.isOpen).toBe(false);
    all(c.in(ann, "BEGIN", "CREATE TABLE u(id INTEGER PRIMARY KEY)"));
    c.sql(0, "CREATE TABLE u(x)");
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
    expect(c.rows(0, "SELECT sql FROM sqlite_schema WHERE name IN ('t', 'u')")).toEqual([["CREATE TABLE t(x)"], ["CREATE TABLE u(x)"]]);
  });

  test("conflicts where another one has changed what it relies on: its table, its rows, the version of the database", () => {
    const ann = begun();
    all(c.in(ann, "CREATE INDEX by_x ON other(x)"));
    c.sql(1, "ALTER TABLE other ADD COLUMN y");
    expect(faultOf(c.in(ann, "SELECT 1"))).toBe("SQLITE_SCHEMA");
    all(c.in(ann, "BEGIN", "CREATE UNIQUE INDEX by_x ON other(x)"));
    c.sql(1, "INSERT INTO other(x) VALUES (1), (1)");
    expect(rows(c.in(ann, "SELECT count(*) FROM other"))).toEqual([[0n]]);
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
    all(c.in(ann, "BEGIN", "PRAGMA user_version = 3"));
    c.sql(1, "PRAGMA user_version = 4");
    expect(c.in(ann, "PRAGMA user_version")).toMatchObject([
      { fault: { code: "SQLITE_BUSY_SNAPSHOT", message: expect.stringContaining("user_version") } },
    ]);
    expect(c.rows(0, "PRAGMA user_version")).toEqual([[4n]]);
  });

  test("its errors are SQLite's, and leave it open", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE t(x)"));
    expect(c.in(ann, "CREATE TABLE t(y)")).toMatchObject([{ fault: { code: "SQLITE_ERROR", message: "table t already exists" } }]);
    expect(c.in(ann, "DROP INDEX i")).toMatchObject([{ fault: { message: "no such index: i" } }]);
    all(c.in(ann, "INSERT INTO t VALUES (1), (1)"));
    expect(c.in(ann, "CREATE UNIQUE INDEX i ON t(x)")).toMatchObject([{ fault: { code: "SQLITE_CONSTRAINT_UNIQUE" } }]);
    c.rows(0, "SELECT * FROM other");
    all(c.in(ann, "DELETE FROM t WHERE rowid = 2", "CREATE UNIQUE INDEX i ON t(x)", "COMMIT"));
    expect(c.rows(1, "SELECT x FROM t")).toEqual([[1n]]);
  });

  test("at read committed it reads a snapshot from there on, and what it looked at is as it was", () => {
    const ann = begun();
    c.sql(1, "INSERT INTO other VALUES (1, 1)");
    all(c.in(ann, "ROLLBACK", "PRAGMA atomcast.isolation = read_committed", "BEGIN", "UPDATE other SET x = 2"));
    c.sql(1, "INSERT INTO other VALUES (2, 5)");
    expect(rows(c.in(ann, "SELECT * FROM other"))).toEqual([
      [1n, 2n],
      [2n, 5n],
    ]);
    all(c.in(ann, "CREATE UNIQUE INDEX by_x ON other(x)"));
    c.sql(1, "INSERT INTO other VALUES (3, 5)");
    expect(rows(c.in(ann, "SELECT * FROM other"))).toEqual([
      [1n, 2n],
      [2n, 5n],
    ]);
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
    all(c.in(ann, "BEGIN", "UPDATE other SET x = 7 WHERE id = 1", "CREATE TABLE t(x)", "INSERT INTO t SELECT x FROM other"));
    c.sql(1, "INSERT INTO other VALUES (4, 6)");
    all(c.in(ann, "COMMIT"));
    expect(c.rows(0, "SELECT x FROM t")).toEqual([[7n], [5n], [5n]]);
    all(c.in(ann, "BEGIN", "UPDATE other SET x = 8 WHERE id = 1"));
    c.sql(1, "UPDATE other SET x = 9 WHERE id = 1");
    all(c.in(ann, "CREATE TABLE u(x)"));
    expect(faultOf(c.in(ann, "COMMIT"))).toBe("SQLITE_BUSY_SNAPSHOT");
  });

  test("rows that are given up and pulled again, and ranges of indexes, go on being told as they were", () => {
    const ann = begun();
    for (let id = 1n; id <= 9n; id++) c.sql(0, "INSERT INTO other VALUES (?, ?)", [id, id]);
    all(c.in(ann, "SELECT count(*) FROM other", "CREATE INDEX by_x ON other(x)", "CREATE TABLE t(id INTEGER PRIMARY KEY, o REFERENCES other)"));
    c.sql(1, "UPDATE other SET x = x + 100");
    c.drop(0, c.schema.get("other")?.object.space ?? (0 as never), Buffer.alloc(0), null);
    expect(rows(c.in(ann, "SELECT id FROM other WHERE x BETWEEN 3 AND 4"))).toEqual([[3n], [4n]]);
    all(c.in(ann, "INSERT INTO t SELECT id, id FROM other WHERE x > 7"));
    c.drop(0, c.schema.get("other")?.object.space ?? (0 as never), Buffer.alloc(0), null);
    expect(rows(c.in(ann, "SELECT t.id, x FROM t JOIN other ON other.id = o"))).toEqual([
      [8n, 8n],
      [9n, 9n],
    ]);
    all(c.in(ann, "COMMIT"));
    expect(c.rows(0, "SELECT t.id, x FROM t JOIN other ON other.id = o")).toEqual([
      [8n, 108n],
      [9n, 109n],
    ]);
  });

  test("its schema is described to it, and to nobody else", () => {
    const ann = begun();
    all(c.in(ann, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"));
    const { store } = c.engine(0);
    const [own, other] = [ann.transaction, c.client(0).transaction];
    for (const act of [() => {}, () => void c.rows(0, "SELECT 1")]) {
      act();
      expect(store.describe("SELECT name FROM t WHERE id = ?", own)).toMatchObject({ columns: [{ name: "name", declaredType: "TEXT" }] });
      expect(rows(c.in(ann, "SELECT count(*) FROM t"))).toEqual([[0n]]);
      for (const id of [other, null]) expect(store.describe("SELECT name FROM t", id)).toMatchObject({ message: "no such table: t" });
      expect(rows(c.in(ann, "SELECT count(*) FROM t"))).toEqual([[0n]]);
    }
    all(c.in(ann, "COMMIT"));
    expect(store.describe("SELECT name FROM t", null)).toMatchObject({ columns: [{ name: "name" }] });
  });

  test("the texts of its changes count as what it holds in memory", () => {
    begun();
    const sql = `CREATE VIEW v AS SELECT '${"x".repeat(5000)}'`;
    const request = { firstStep: 0, earlier: [], settings: freshSettings, seed: 1, transaction: { id: 99, resumes: false } };
    const result = c.engine(0).store.run({ ...request, steps: [step("BEGIN"), step(sql)] }, {});
    expect(result.kind === "open" && result.summary.bytes).toBeGreaterThan(5000);
  });
});
