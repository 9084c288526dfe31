/** Schemas as SQLite takes them and few write them: each statement answers as SQLite's does, and every row is SQLite's, on an engine that pulls it too. */
import { describe, expect, test } from "vitest";
import { type BesideSqlite, beside } from "./beside-sqlite.js";
import { rowsOfLast } from "./store-harness.js";

/** Rows as whoever pulls them has them, from an Archive and then from a Cache. */
function expectPulled(s: BesideSqlite): void {
  s.expectSame();
  s.c.restart(0);
  s.c.restart(1);
  s.expectSame("that pulls all");
}

describe("a default that is a name", () => {
  test("is a text: of a NULL that it replaces, and of rows from before the column", () => {
    const s = beside(['CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT NOT NULL DEFAULT "new" UNIQUE, n NOT NULL DEFAULT (5 -- five\n) UNIQUE)']);
    s.both(0, "INSERT INTO t(id) VALUES (1)");
    s.both(0, "REPLACE INTO t VALUES (2, NULL, 6)");
    s.both(0, "REPLACE INTO t VALUES (3, 'a', NULL)");
    s.both(0, "ALTER TABLE t ADD COLUMN c TEXT DEFAULT foo");
    s.both(0, "ALTER TABLE t ADD COLUMN d DEFAULT [it's]");
    s.both(0, "ALTER TABLE t ADD COLUMN e DEFAULT true");
    s.both(0, "INSERT INTO t(id, s, n) VALUES (4, 'b', 7)");
    expectPulled(s);
  });
});

describe("a foreign key that refers to what is no key", () => {
  test.each([
    ["CREATE TABLE p(a)", "CREATE TABLE c(x REFERENCES p)"],
    ["CREATE TABLE p(id INTEGER PRIMARY KEY, a)", "CREATE TABLE c(x REFERENCES p(nosuch))"],
    ["CREATE TABLE p(id INTEGER PRIMARY KEY, a)", "CREATE TABLE c(x, y, FOREIGN KEY (x, y) REFERENCES p)"],
  ])("%s; %s: the parent's rows are pulled, and change where foreign keys are off", (parent, child) => {
    const s = beside([parent, "INSERT INTO p(rowid, a) VALUES (1, 1), (2, 2)", child]);
    s.both(1, "DELETE FROM p WHERE a = 1");
    s.both(1, "SELECT a FROM p");
    s.forget();
    s.both(1, "PRAGMA foreign_keys = OFF");
    s.both(1, "DELETE FROM p WHERE a = 1");
    s.both(1, "INSERT INTO p(rowid, a) VALUES (3, 3)");
    s.both(1, "UPDATE p SET a = 4 WHERE a = 3");
    expectPulled(s);
  });
});

describe("a unique value that is generated from a default", () => {
  test.each(["g AS (a * 2) UNIQUE", "g AS (a * 2) STORED UNIQUE", "g AS (a * 2)"])("%s: finds the row that REPLACE removes", (generated) => {
    const s = beside([`CREATE TABLE t(id INTEGER PRIMARY KEY, a INT NOT NULL ON CONFLICT REPLACE DEFAULT 5, ${generated})`]);
    s.both(0, "CREATE UNIQUE INDEX i ON t(g + 1)");
    s.both(0, "INSERT INTO t(id, a) VALUES (1, 5), (3, 7)");
    s.both(0, "REPLACE INTO t(id, a) VALUES (2, NULL)");
    s.both(1, "UPDATE OR REPLACE t SET a = NULL WHERE id = 3");
    expectPulled(s);
  });
});

describe("a CHECK that need not hold a second time", () => {
  test("is asked once: of what is written, and not where it is applied, pulled or put in again", () => {
    const s = beside(["CREATE TABLE t(id INTEGER PRIMARY KEY, a CHECK (last_insert_rowid() < 5))", "CREATE TABLE u(id INTEGER PRIMARY KEY, a)"]);
    s.both(0, "INSERT INTO t VALUES (1, 1)");
    s.both(0, "INSERT INTO u VALUES (2, 2)");
    s.both(0, "ALTER TABLE u ADD COLUMN b DEFAULT 3 CHECK (last_insert_rowid() < 5)");
    s.both(0, "INSERT INTO t VALUES (7, 1)");
    s.both(0, "INSERT INTO t VALUES (3, 3)");
    s.both(0, "UPDATE t SET a = 4");
    expectPulled(s);
    const client = s.c.client(0);
    s.c.in(client, "INSERT INTO t VALUES (8, 8)", "BEGIN", "UPDATE t SET id = id + 10 WHERE id = 1");
    s.both(0, "DELETE FROM u");
    expect(rowsOfLast(s.c.in(client, "SELECT count(*) FROM t"))).toEqual([[3n]]);
  });
});

describe("a column that another table's foreign key names", () => {
  test("takes, when it is renamed, the new name from no column of that table", () => {
    const s = beside([
      "CREATE TABLE p(id INTEGER PRIMARY KEY, a TEXT UNIQUE)",
      "CREATE TABLE c(a TEXT, b TEXT, x REFERENCES p(a))",
      "CREATE TABLE d(b TEXT, x REFERENCES p(a))",
      "INSERT INTO p VALUES (1, 'k')",
      "INSERT INTO c VALUES ('of a', 'of b', 'k')",
      "INSERT INTO d VALUES ('of b', 'k')",
    ]);
    s.both(0, "ALTER TABLE p RENAME COLUMN a TO b");
    s.both(0, "INSERT INTO c VALUES ('a', 'b', 'k')");
    expectPulled(s);
  });
});

describe("a partial index", () => {
  test("computes nothing of the rows that it leaves out: its expression may have no value for them", () => {
    const s = beside(["CREATE TABLE t(id INTEGER PRIMARY KEY, doc)", "CREATE UNIQUE INDEX i ON t(json_extract(doc, '$.id')) WHERE json_valid(doc)"]);
    s.both(0, `INSERT INTO t VALUES (1, '{"id":1}'), (2, '{"id":2}')`);
    s.both(0, "INSERT INTO t VALUES (3, 'no JSON')");
    s.both(1, `REPLACE INTO t VALUES (4, '{"id":1}')`);
    s.both(1, `UPDATE OR REPLACE t SET doc = '{"id":2}' WHERE id = 3`);
    s.both(0, "UPDATE t SET doc = 'x' WHERE id = 3");
    s.both(0, "INSERT OR IGNORE INTO t VALUES (3, 'y'), (5, NULL)");
    s.both(0, "DELETE FROM t WHERE id = 3");
    const client = s.c.client(1);
    s.c.in(client, "BEGIN", "SELECT * FROM t");
    s.both(0, "INSERT INTO t VALUES (6, 'y')");
    s.both(0, "DELETE FROM t WHERE id = 6");
    expectPulled(s);
  });
});

describe("a column with the name of a direction", () => {
  test("is no direction behind an operator", () => {
    const s = beside(["CREATE TABLE t(id INTEGER PRIMARY KEY, a, desc)"]);
    s.both(0, "CREATE UNIQUE INDEX i ON t(a || desc)");
    s.both(0, "CREATE UNIQUE INDEX j ON t(a IS NOT desc, desc, lower(desc) DESC, id + 1 ASC)");
    s.both(0, "INSERT INTO t VALUES (1, 'a', 'b')");
    s.both(1, "REPLACE INTO t VALUES (2, 'a', 'b')");
    expectPulled(s);
  });
});

describe("a column without a name", () => {
  test("keeps its values through every ALTER TABLE", () => {
    const s = beside(['CREATE TABLE t(id INTEGER PRIMARY KEY, "" TEXT, v)', "INSERT INTO t VALUES (1, 'x', 'y')"]);
    for (const sql of [
      "ALTER TABLE t ADD COLUMN w DEFAULT 3",
      "INSERT INTO t VALUES (2, 'x', 'y', 'z')",
      "ALTER TABLE t DROP COLUMN w",
      'ALTER TABLE t RENAME COLUMN "" TO named',
      'ALTER TABLE t ADD COLUMN "" DEFAULT 4',
      'ALTER TABLE t DROP COLUMN ""',
      'ALTER TABLE t ADD COLUMN "" DEFAULT 5',
      "INSERT INTO t VALUES (3, 'x', 'y', 6)",
      'ALTER TABLE t RENAME COLUMN v TO "v "',
    ])
      s.both(0, sql);
    expectPulled(s);
  });
});
