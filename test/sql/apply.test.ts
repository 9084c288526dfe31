/** What is applied, pulled or brought back is written as it is: nothing of the schema sets anything off by it, and it goes on so whatever is changed of the schema. */
import { describe, expect, test } from "vitest";
import { type BesideSqlite, beside } from "./beside-sqlite.js";
import type { Client } from "./store-harness.js";

function holdAll(s: BesideSqlite, at: number): void {
  for (const [name] of s.c.rows(at, "SELECT name FROM sqlite_schema WHERE type = 'table'")) s.c.rows(at, `SELECT * FROM "${name}"`);
}

const events = ["INSERT", "UPDATE", "DELETE"].flatMap((event) => ["BEFORE", "AFTER"].map((time) => [time, event] as const));
const everything = [
  "CREATE TABLE log(x)",
  "CREATE TABLE p(id INTEGER PRIMARY KEY, u UNIQUE ON CONFLICT REPLACE, v CHECK (v <> 13))",
  "CREATE TABLE k(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE, v)",
  "INSERT INTO k VALUES (99, NULL, 'forbidden later')",
  ...["p", "k"].flatMap((table) =>
    events.map(
      ([time, event]) =>
        `CREATE TRIGGER ${table}_${time}_${event} ${time} ${event} ON ${table} BEGIN INSERT INTO log VALUES ('${table} ${time} ${event} ' || ${event === "INSERT" ? "new" : "old"}.id); END`,
    ),
  ),
  "CREATE TRIGGER no BEFORE INSERT ON k WHEN new.v = 'forbidden later' BEGIN SELECT raise(ABORT, 'forbidden'); END",
];

describe("fires nothing", () => {
  const requests: readonly (readonly string[])[] = [
    ["INSERT INTO p VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)"],
    ["INSERT INTO k VALUES (1, 1, 'x'), (2, 1, 'y'), (3, 2, 'z')"],
    ["UPDATE p SET v = v + 1"],
    ["UPDATE p SET id = 11 WHERE id = 1"],
    ["REPLACE INTO p VALUES (4, 'b', 5)"],
    ["DELETE FROM p WHERE id = 11"],
    // Children stay without their parents: no action may take them anywhere.
    ["PRAGMA foreign_keys = OFF", "INSERT INTO k VALUES (7, 3, 'q'), (8, 77, 'r')", "DELETE FROM p WHERE id = 3", "PRAGMA foreign_keys = ON"],
    ["BEGIN", "UPDATE k SET v = 'w' WHERE id = 8", "DELETE FROM k WHERE id = 7", "COMMIT"],
  ];

  test("an entry that is applied: no trigger, no foreign key's action or check, no conflict clause", () => {
    const s = beside(everything);
    holdAll(s, 1);
    const pulls = s.c.pulls;
    for (const request of requests) {
      s.both(0, ...request);
      s.expectSame(`after ${request}`);
    }
    expect(s.c.pulls, "what engine 1 has was applied, not pulled").toBe(pulls);
    expect(s.c.rows(1, "SELECT count(*) > 20 FROM log")).toEqual([[1n]]);
  });

  test("rows of a table whose trigger writes where a foreign key does not fit: with foreign keys on, SQLite compiles no statement for it", () => {
    const s = beside([
      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT)",
      "CREATE TABLE child(name TEXT REFERENCES parent(name))",
      "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
      "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM parent WHERE id = new.v; END",
    ]);
    // The last that engine 0 does before its first row of the table comes: it has no statement for that yet.
    s.both(0, "SELECT * FROM t");
    s.both(1, "PRAGMA foreign_keys = OFF", "INSERT INTO t VALUES (1, 1)", "PRAGMA foreign_keys = ON");
    s.expectSame();
  });

  test("rows that are pulled, also one that a trigger would refuse by now", () => {
    const s = beside(everything);
    for (const request of requests) s.both(0, ...request);
    s.forget();
    s.expectSame();
    expect(s.c.rows(1, "SELECT v FROM k WHERE id = 99")).toEqual([["forbidden later"]]);
  });

  test("rows that are brought back for a snapshot, and a transaction's own that are put in again", () => {
    const s = beside(everything);
    holdAll(s, 1);
    for (const request of requests.slice(0, 2)) s.both(0, ...request);
    const client = s.c.client(1);
    s.c.in(client, "BEGIN", "SELECT 1 FROM p", "UPDATE k SET v = 'own' WHERE id = 3");
    const state = ["SELECT * FROM p ORDER BY id", "SELECT * FROM k ORDER BY id", "SELECT x FROM log ORDER BY x"];
    const before = s.c.in(client, ...state);
    for (const request of requests.slice(2, 6))
      s.c.run(
        0,
        request.map((sql) => ({ sql, args: { positional: [], named: [] }, wantRows: true, condition: null })),
      );
    expect(s.c.in(client, ...state)).toEqual(before);
    // It is put together again once more behind this.
    s.c.sql(1, "SELECT 1 FROM log");
    expect(s.c.in(client, ...state)).toEqual(before);
    s.c.in(client, "ROLLBACK");
    expect(s.c.rows(1, "SELECT x FROM log ORDER BY x")).toEqual(s.c.rows(0, "SELECT x FROM log ORDER BY x"));
  });
});

describe("goes on as before", () => {
  const schema = [
    "CREATE TABLE log(x)",
    "CREATE TABLE p(id INTEGER PRIMARY KEY, u TEXT, w)",
    "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, v INT, p INT REFERENCES p(id) ON DELETE CASCADE)",
    "CREATE TRIGGER t_log AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (new.id); END",
    "INSERT INTO p VALUES (1, 'p', 0), (2, 'q', 0)",
    "INSERT INTO t VALUES (1, 'a', 1, 1), (2, 'b', 2, 2), (3, 'c', 3, NULL)",
  ];
  /** In order: each stands on what those before it have left. */
  const changes = [
    "ALTER TABLE t ADD COLUMN n INT DEFAULT 4",
    "ALTER TABLE t RENAME COLUMN v TO z",
    "ALTER TABLE t RENAME TO r",
    "ALTER TABLE r RENAME COLUMN p TO pp",
    "CREATE INDEX r_z ON r(z)",
    "CREATE UNIQUE INDEX r_n ON r(n, id) WHERE z > 1",
    "CREATE UNIQUE INDEX r_x ON r(lower(u), id)",
    "DROP INDEX r_n",
    "ALTER TABLE p RENAME TO parents",
    "ALTER TABLE parents DROP COLUMN w",
    "ALTER TABLE r DROP COLUMN n",
    "ALTER TABLE r ADD COLUMN g INT REFERENCES parents(id) ON DELETE SET NULL",
    "DROP INDEX r_x",
    "ALTER TABLE r RENAME TO t",
    "ALTER TABLE t RENAME COLUMN z TO v",
    "ALTER TABLE t RENAME COLUMN pp TO p",
    "CREATE TABLE other(id INTEGER PRIMARY KEY, t INT REFERENCES t(id))",
    "DROP TABLE other",
    "DROP TRIGGER t_log",
    "CREATE TRIGGER t_log BEFORE UPDATE ON t BEGIN INSERT INTO log VALUES ('b' || new.id); END",
    "DROP INDEX r_z",
    "CREATE VIEW w AS SELECT * FROM t",
    "DROP VIEW w",
  ];

  /** What a table is called by now, and its columns. */
  function now(s: BesideSqlite): { t: string; v: string; p: string; parents: string } {
    const names = s.c.rows(0, "SELECT name FROM sqlite_schema WHERE type = 'table'").map(([name]) => String(name));
    const t = names.includes("t") ? "t" : "r";
    const columns = s.c.rows(0, `PRAGMA table_info(${t})`).map((row) => String(row[1]));
    return { t, v: columns[2] ?? "", p: columns[3] ?? "", parents: names.includes("p") ? "p" : "parents" };
  }

  test("after every ALTER, CREATE and DROP: apply, and the rewind of a snapshot, on a store that held the rows and on one that did not", () => {
    const s = beside(schema);
    holdAll(s, 1);
    for (const [place, change] of changes.entries()) {
      // By turns, so that each is also what one is only told of.
      s.both(place % 2, change);
      if (place % 5 === 4) s.forget();
      const { t, v, p, parents } = now(s);
      const client: Client = s.c.client(1 - (place % 2));
      const read = [`SELECT * FROM ${t} ORDER BY id`, `SELECT id FROM ${t} WHERE u = 'b${place - 1}'`, "SELECT count(*) FROM log"];
      const before = s.c.in(client, "BEGIN", ...read).slice(1);
      for (const sql of [
        `UPDATE ${t} SET ${v} = ${v} + 1 WHERE id < 3`,
        `UPDATE ${t} SET u = CASE id WHEN 1 THEN 'b${place}' ELSE 'a${place}' END WHERE id < 3`,
        `INSERT INTO ${parents}(id, u) VALUES (${place + 10}, 'n')`,
        `INSERT INTO ${t}(id, u, ${p}) VALUES (${place + 100}, 'n${place}', ${place + 10}), (${place + 200}, 'm${place}', ${place + 10})`,
        `DELETE FROM ${parents} WHERE id = ${place + 9}`,
        `DELETE FROM ${t} WHERE id = ${place + 150}`,
        `REPLACE INTO ${t}(id, u, ${v}) VALUES (3, 'c', ${place})`,
      ])
        s.both(place % 2, sql);
      expect(s.c.in(client, ...read), `the snapshot after ${change}`).toEqual(before);
      s.c.in(client, "COMMIT");
      s.expectSame(`after ${change}`);
    }
    expect(s.c.rows(1, "SELECT count(*) FROM log")).toEqual(s.c.rows(0, "SELECT count(*) FROM log"));
  });
});

describe("ADD COLUMN on an engine that holds no row", () => {
  const schema = ["CREATE TABLE t(id INTEGER PRIMARY KEY, a INT)", "INSERT INTO t VALUES (1, 5), (2, 8)"];
  test.each([
    ["b NOT NULL", "SQLITE_ERROR"],
    ["b INT NOT NULL DEFAULT 3", ""],
    ["b DEFAULT CURRENT_TIMESTAMP", "SQLITE_ERROR"],
    ["b DEFAULT (abs(-3))", "SQLITE_ERROR"],
    ["b CHECK (a < 6)", "SQLITE_ERROR"],
    ["b CHECK (a < 9)", ""],
    ["b INT DEFAULT 7 CHECK (b < a + 1)", "SQLITE_ERROR"],
    ["b AS (a / (a - 8)) VIRTUAL NOT NULL", "SQLITE_ERROR"],
    ["b AS (a * 2) VIRTUAL CHECK (b > 9)", ""],
    ["b UNIQUE", "SQLITE_ERROR"],
    ["b INT DEFAULT 1 REFERENCES t(id)", "SQLITE_ERROR"],
    ["b TEXT COLLATE NOCASE DEFAULT 'x'", ""],
  ])("%s answers as where they are", (column, answer) => {
    for (const isEmpty of [false, true]) {
      const s = beside(isEmpty ? schema.slice(0, 1) : schema);
      s.forget();
      const told = s.both(1, `ALTER TABLE t ADD COLUMN ${column}`);
      if (!isEmpty) expect(told).toEqual([answer]);
      s.expectSame();
      s.forget();
      s.both(1, "INSERT INTO t(id, a) VALUES (9, 7)", "SELECT * FROM t ORDER BY id");
      s.expectSame();
    }
  });
});
