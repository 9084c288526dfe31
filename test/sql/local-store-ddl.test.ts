import { afterEach, describe, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { type DdlPart, decodeEntry, encodeProposal } from "../../src/messages/wire/entry.js";
import type { Changes } from "../../src/sql/local-store.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";
import { Cluster, step } from "./store-harness.js";

let cluster = new Cluster(0);
afterEach(() => cluster.close());
function start(count = 2): Cluster {
  cluster.close();
  cluster = new Cluster(count);
  return cluster;
}

function partsOf(changes: Changes | undefined) {
  if (changes === undefined) throw new Error("nothing was committed");
  const header = { engine: 2, proposalSeq: 1, transactions: [], snapshot: 1, fences: [], schemaVersions: [] } as never;
  const entry = decodeEntry(encodeProposal(header, [changes.body]));
  if (entry.kind !== "proposal" || entry.body.kind !== "transaction") throw new Error("not a transaction");
  return entry.body.parts;
}

function ddlOf(changes: Changes | undefined): DdlPart {
  const part = partsOf(changes).find((one) => one.kind === "ddl");
  if (part?.kind !== "ddl") throw new Error("no DDL");
  return part;
}

/** Runs a batch that must succeed whole. */
function batch(c: Cluster, index: number, ...sqls: string[]): readonly Changes[] {
  const { outcomes, commits } = c.run(
    index,
    sqls.map((sql) => step(sql)),
  );
  for (const [at, outcome] of outcomes.entries()) if (outcome.kind !== "ok") throw new Error(`${sqls[at]}: ${JSON.stringify(outcome)}`);
  return commits;
}

describe("the schema catalog's part of DDL", () => {
  test("a table and its unique indexes get key spaces and atoms, names are asked for", () => {
    const c = start(1);
    const [changes] = batch(c, 0, "CREATE TABLE T(id INTEGER PRIMARY KEY, a TEXT UNIQUE, b, UNIQUE (a, b))");
    const part = ddlOf(changes);
    expect(part.upserts).toHaveLength(1);
    const [table] = part.upserts;
    expect(table?.columns).toEqual([
      { id: 1, name: "id" },
      { id: 2, name: "a" },
      { id: 3, name: "b" },
    ]);
    expect(table?.uniques.map((one) => one.name).sort()).toEqual(["sqlite_autoindex_T_1", "sqlite_autoindex_T_2"]);
    expect(part.newAtoms.map((one) => one.indexOf).sort()).toEqual([0, table?.space, table?.space].sort());
    expect(part.newAtoms.every((one) => one.atom >= 2 * 2 ** 24 + 2 ** 23 && one.atom < 3 * 2 ** 24)).toBe(true);
    expect(changes?.permissions).toEqual([{ space: 1, key: "t", kind: "write" }]);
  });

  test("column ids are kept by ALTER and never used again", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)", "INSERT INTO t VALUES (1, 'a', 'b', 'c')");
    const ids = (): unknown => c.schema.get("t")?.object.columns.map((column) => `${column.id}${column.name}`);
    batch(c, 0, "ALTER TABLE t RENAME COLUMN a TO x");
    expect(ids()).toEqual(["1id", "2x", "3b", "4c"]);
    batch(c, 1, "ALTER TABLE t DROP COLUMN c");
    expect(ids()).toEqual(["1id", "2x", "3b", "4"]);
    batch(c, 0, "ALTER TABLE t ADD COLUMN d DEFAULT 'new'");
    expect(ids()).toEqual(["1id", "2x", "3b", "5d"]);
    batch(c, 0, "ALTER TABLE t RENAME TO u");
    expect(c.schema.get("u")?.object.columns.map((column) => column.id)).toEqual([1, 2, 3, 5]);
    for (const index of [0, 1]) expect(c.rows(index, "SELECT id, x, b, d FROM u")).toEqual([[1n, "a", "b", "new"]]);
  });

  test("rows from before ADD COLUMN take its default on an engine that pulls them later", () => {
    const c = start(3);
    batch(
      c,
      0,
      "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
      "INSERT INTO t VALUES (1, 'old')",
      "ALTER TABLE t ADD COLUMN n INTEGER NOT NULL DEFAULT '7'",
    );
    batch(c, 0, "INSERT INTO t VALUES (2, 'new', 8)");
    expect(c.rows(2, "SELECT * FROM t ORDER BY id")).toEqual([
      [1n, "old", 7n],
      [2n, "new", 8n],
    ]);
  });

  test("a new unique index needs the whole table, unchanged, and sends no entries", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    const [changes] = batch(c, 1, "CREATE UNIQUE INDEX ta ON t(a)");
    const space = c.schema.get("t")?.object.space as SpaceId;
    expect(changes?.wholeTables).toEqual([space]);
    expect(partsOf(changes).map((part) => part.kind)).toEqual(["ddl"]);
    expect(c.fault(0, "INSERT INTO t VALUES (3, 'x')").code).toBe("SQLITE_CONSTRAINT_UNIQUE");
    expect(c.fault(0, "CREATE UNIQUE INDEX tb ON t(a IS NULL)").code).toBe("SQLITE_CONSTRAINT_UNIQUE");
    batch(c, 0, "DROP INDEX ta", "INSERT INTO t VALUES (3, 'x')");
    expect(c.rows(1, "SELECT count(*) FROM t")).toEqual([[3n]]);
  });
});

describe("DDL in transactions", () => {
  test("tables, rows, indexes and triggers in one batch", () => {
    const c = start();
    const commits = batch(
      c,
      0,
      "BEGIN",
      "CREATE TABLE a(id INTEGER PRIMARY KEY, n TEXT)",
      "INSERT INTO a(n) VALUES ('one'), ('two')",
      "CREATE TABLE b(id INTEGER PRIMARY KEY, a INT REFERENCES a(id))",
      "INSERT INTO b(a) SELECT id FROM a",
      "CREATE UNIQUE INDEX an ON a(n)",
      "CREATE TRIGGER bi AFTER INSERT ON b BEGIN UPDATE a SET n = n || '!' WHERE id = new.a; END",
      "INSERT INTO b(a) VALUES (1)",
      "ALTER TABLE a ADD COLUMN extra DEFAULT 3",
      "UPDATE a SET extra = 4 WHERE id = 2",
      "COMMIT",
    );
    expect(commits).toHaveLength(1);
    expect(commits[0]?.permissions.every((one) => one.space === 1)).toBe(true);
    for (const index of [0, 1]) {
      expect(c.rows(index, "SELECT * FROM a")).toEqual([
        [1n, "one!", 3n],
        [2n, "two", 4n],
      ]);
      expect(c.rows(index, "SELECT * FROM b")).toEqual([
        [1n, 1n],
        [2n, 2n],
        [3n, 1n],
      ]);
    }
  });

  test("rows go before a unique index that they made possible", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 'x'), (2, 'x')");
    expect(c.rows(1, "SELECT count(*) FROM t")).toEqual([[2n]]);
    batch(c, 0, "BEGIN", "DELETE FROM t WHERE id = 2", "CREATE UNIQUE INDEX ta ON t(a)", "INSERT INTO t VALUES (3, 'y')", "COMMIT");
    expect(c.rows(1, "SELECT id FROM t INDEXED BY ta ORDER BY a")).toEqual([[1n], [3n]]);
  });

  test("ROLLBACK TO takes DDL and rows back", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    batch(
      c,
      0,
      "SAVEPOINT outermost",
      "INSERT INTO t VALUES (1, 'kept')",
      "SAVEPOINT s",
      "INSERT INTO t VALUES (2, 'gone')",
      "ALTER TABLE t ADD COLUMN b",
      "CREATE TABLE gone(x)",
      "INSERT INTO gone VALUES (1)",
      "ROLLBACK TO s",
      "INSERT INTO t VALUES (3, 'kept')",
      "RELEASE outermost",
    );
    for (const index of [0, 1]) {
      expect(c.rows(index, "SELECT * FROM t")).toEqual([
        [1n, "kept"],
        [3n, "kept"],
      ]);
      expect(c.fault(index, "SELECT * FROM gone").message).toBe("no such table: gone");
    }
    batch(c, 0, "BEGIN", "CREATE TABLE never(x)", "ROLLBACK");
    expect(c.rows(0, "SELECT name FROM sqlite_schema")).toEqual([["t"]]);
    batch(c, 1, "CREATE TABLE gone(y)", "INSERT INTO gone VALUES (1)");
    expect(c.rows(0, "SELECT y FROM gone")).toEqual([[1n]]);
  });

  test("the usual way to remake a table, with foreign keys deferred", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE p(id INTEGER PRIMARY KEY, a)", "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id))");
    batch(c, 0, "INSERT INTO p VALUES (1, 'x')", "INSERT INTO c VALUES (1, 1)");
    expect(c.fault(0, "DROP TABLE p").code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    expect(c.rows(0, "SELECT count(*) FROM p")).toEqual([[1n]]);
    batch(
      c,
      1,
      "BEGIN",
      "PRAGMA defer_foreign_keys = ON",
      "CREATE TABLE new_p(id INTEGER PRIMARY KEY, a TEXT NOT NULL)",
      "INSERT INTO new_p SELECT * FROM p",
      "DROP TABLE p",
      "ALTER TABLE new_p RENAME TO p",
      "COMMIT",
    );
    expect(c.rows(0, "SELECT p.a FROM c JOIN p ON p.id = c.p")).toEqual([["x"]]);
    expect(c.fault(0, "DELETE FROM p").code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    const outcomes = c.run(1, [
      step("BEGIN"),
      step("PRAGMA defer_foreign_keys = ON"),
      step("DROP TABLE p"),
      step("COMMIT"),
      step("ROLLBACK"),
    ]).outcomes;
    expect(outcomes.map((one) => one.kind)).toEqual(["ok", "ok", "ok", "error", "ok"]);
  });

  test("CREATE TABLE IF NOT EXISTS … AS SELECT is nothing where a table or a view has the name, and an error where an index has it", () => {
    const c = start(1);
    batch(c, 0, "CREATE TABLE t(a)", "CREATE INDEX i ON t(a)", "CREATE VIEW v AS SELECT a FROM t");
    for (const name of ["t", "v"]) expect(c.sql(0, `CREATE TABLE IF NOT EXISTS ${name} AS SELECT 1`).rows).toEqual([]);
    expect(c.fault(0, "CREATE TABLE IF NOT EXISTS i AS SELECT 1").message).toBe("there is already an index named i");
  });

  test("CREATE TABLE AS SELECT", () => {
    const c = start();
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)", "INSERT INTO t VALUES (5, 'x'), (6, 'y')");
    c.sql(1, "CREATE TABLE u AS SELECT a, id + ? AS n FROM t", [1n]);
    for (const index of [0, 1])
      expect(c.rows(index, "SELECT rowid, * FROM u")).toEqual([
        [1n, "x", 6n],
        [2n, "y", 7n],
      ]);
    expect(c.rows(0, "SELECT sql FROM sqlite_schema WHERE name = 'u'")).toEqual([["CREATE TABLE u(a TEXT,n)"]]);
    expect(c.fault(0, "CREATE TABLE u AS SELECT 1").message).toBe("table u already exists");
    expect(c.run(0, [step("CREATE TABLE IF NOT EXISTS u AS SELECT 1")]).commits).toEqual([]);
  });

  test("a schema that was reset from the catalog is the same", () => {
    const c = start(1);
    batch(
      c,
      0,
      "CREATE TABLE p(id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT UNIQUE)",
      "CREATE TABLE l(x)",
      "CREATE VIEW v AS SELECT a FROM p",
      "CREATE UNIQUE INDEX pa ON p(lower(a))",
      "CREATE TRIGGER t AFTER INSERT ON p WHEN new.a <> 'q' BEGIN INSERT INTO l VALUES (new.a); END",
    );
    const store = openSqliteLocalStore(null);
    store.reset(c.seq, [...c.schema.values()]);
    store.become(9 as never, 9 as never);
    for (const { seq, bytes } of c.log) if (seq < 0) store.apply([{ seq, bytes }], seq);
    for (const { object } of c.schema.values()) if (object.type === "table") store.holdEmpty(object.space, new Uint8Array(0), null);
    const settings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
    const result = store.run({ steps: [step("INSERT INTO p VALUES (7, 'z')")], firstStep: 0, earlier: [], settings, seed: 1, transaction: null }, {});
    expect(result.kind).toBe("ids");
    for (const { object } of c.schema.values()) if (object.name === "l") store.grantIds(object.space, 50n, 60n);
    const again = store.run({ steps: [step("INSERT INTO p VALUES (7, 'z')")], firstStep: 0, earlier: [], settings, seed: 1, transaction: null }, {});
    if (again.kind !== "commit") throw new Error(again.kind);
    expect(partsOf(again.changes)).toHaveLength(2);
    expect(again.changes.permissions.map((one) => one.kind)).toEqual(["write", "write", "write", "write"]);
    store.close();
  });

  test("names of triggers and tables are of one kind here", () => {
    const c = start(1);
    batch(c, 0, "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    expect(c.fault(0, "CREATE TRIGGER t AFTER INSERT ON t BEGIN SELECT 1; END").message).toContain("already an object named t");
    expect(c.fault(0, "CREATE TABLE h(rowid, oid, _rowid_)").code).toBe("ATOMCAST_NOT_SUPPORTED");
    expect(c.fault(0, "CREATE TABLE t(x)")).toEqual({ code: "SQLITE_ERROR", message: "table t already exists", offset: -1 });
    expect(c.rows(0, "SELECT name FROM sqlite_schema")).toEqual([["t"]]);
  });
});
