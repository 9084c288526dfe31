/**
 * design.md §7 "Pull planner": "It may always ask for too much, never for too little". Statements for which it once asked for too little, each on a store that
 * holds nothing yet, against plain SQLite.
 */
import { expect, test } from "vitest";
import type { CaseEvent } from "./case.js";
import { runCase } from "./run-case.js";

function event(store: number, sql: string): CaseEvent {
  return { kind: "run", store, statements: [{ kind: /^(CREATE|DROP)/.test(sql) ? "ddl" : "query", sql, args: [], isOrdered: false, told: null }] };
}

/** What is there before, what is asked. */
const cases: Readonly<Record<string, readonly [before: readonly string[], asked: readonly string[]]>> = {
  "UPDATE and DELETE of a view read its tables, also where these are narrowed elsewhere, or linked to what its trigger writes": [
    [
      "CREATE TABLE p(id INTEGER PRIMARY KEY, a)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id))",
      "CREATE INDEX c_p ON c(p)",
      "CREATE TABLE t(id INTEGER PRIMARY KEY)",
      "CREATE VIEW w AS SELECT id, p, 'none' AS a FROM c",
      "CREATE TRIGGER wu INSTEAD OF UPDATE ON w BEGIN UPDATE p SET a = new.a WHERE id = new.p; END",
      "CREATE TRIGGER wd INSTEAD OF DELETE ON w BEGIN UPDATE p SET a = NULL WHERE id = old.p; END",
      "CREATE TRIGGER ti AFTER INSERT ON t BEGIN UPDATE w SET a = 'by t' WHERE id = new.id; END",
      "INSERT INTO p VALUES (1, 'x'), (2, 'y')",
      "INSERT INTO c VALUES (5, 1), (6, 2)",
    ],
    [
      "UPDATE w SET a = 'z' WHERE id = 5",
      "UPDATE w SET a = (SELECT id FROM c WHERE id = 5) WHERE id > 5 RETURNING id",
      "DELETE FROM w WHERE id = 6",
      "INSERT INTO t VALUES (5)",
    ],
  ],
  "INSERT of VALUES and of a SELECT behind it may stand against a row by either": [
    ["CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)", "INSERT INTO t VALUES (1, 5), (2, 7)"],
    [
      "INSERT INTO t(id, u) VALUES (8, 6) UNION ALL SELECT 9, 7",
      "INSERT OR REPLACE INTO t(id, u) VALUES (8, 6) UNION ALL SELECT 9, 7",
      "INSERT INTO t(u, id) VALUES (6, 8) UNION ALL VALUES (7, 9) ON CONFLICT DO UPDATE SET u = 11",
    ],
  ],
  "INSERT whose list has a column twice": [
    ["CREATE TABLE t(id INTEGER PRIMARY KEY, a, u UNIQUE)", "INSERT INTO t VALUES (1, 1, 5), (2, 1, 7)"],
    [
      "INSERT INTO t(id, a, a, u) VALUES (9, 5, 6, 7)",
      "INSERT OR REPLACE INTO t(id, a, a, u) VALUES (9, 5, 6, 7)",
      "INSERT INTO t(id, id, u) VALUES (1, 9, 7)",
      "INSERT INTO t(id, rowid, u) VALUES (9, 1, 7)",
      "INSERT INTO t(rowid, id, u) VALUES (9, 1, 7)",
    ],
  ],
  "UPDATE that sets NULL where REPLACE puts a column's default": [
    [
      "CREATE TABLE t(id INTEGER PRIMARY KEY, u NOT NULL DEFAULT 7 UNIQUE)",
      "CREATE TABLE r(id INTEGER PRIMARY KEY, u NOT NULL ON CONFLICT REPLACE DEFAULT 7 UNIQUE)",
      "CREATE TABLE s(id INTEGER PRIMARY KEY, a)",
      "CREATE TRIGGER si AFTER INSERT ON s BEGIN UPDATE r SET u = new.a WHERE id = new.id; END",
      "INSERT INTO t VALUES (1, 5), (2, 7)",
      "INSERT INTO r VALUES (1, 5), (2, 7)",
    ],
    [
      "UPDATE OR REPLACE t SET u = NULL WHERE id = 1",
      "UPDATE r SET u = NULL WHERE id = 1",
      "INSERT INTO r VALUES (1, 3) ON CONFLICT(id) DO UPDATE SET u = NULL",
      "INSERT INTO s VALUES (1, NULL)",
    ],
  ],
  "a subquery among the arguments of a function in FROM, or in a join in parentheses, may name tables there": [
    [
      "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
      "CREATE TABLE s(id INTEGER PRIMARY KEY, a)",
      "CREATE TABLE u(id INTEGER PRIMARY KEY, v)",
      "INSERT INTO t VALUES (1, 3)",
      "INSERT INTO s VALUES (1, 4)",
      "INSERT INTO u VALUES (3, '[33]'), (4, '[44]')",
    ],
    [
      "SELECT (SELECT j.value FROM t x, json_each((SELECT v FROM u WHERE u.id = x.a)) j) FROM s x WHERE x.id = 1",
      "SELECT (SELECT j.value FROM (t x JOIN json_each((SELECT v FROM u WHERE u.id = x.a)) j)) FROM s x WHERE x.id = 1",
      "SELECT (SELECT count(*) FROM (t x JOIN t y ON EXISTS (SELECT 1 FROM u WHERE u.id = x.a))) FROM s x WHERE x.id = 1",
    ],
  ],
  "a join whose left side's collation counts finds rows that others are joined to": [
    [
      "CREATE TABLE x(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE)",
      "CREATE TABLE y(id INTEGER PRIMARY KEY, v TEXT, z INT)",
      "CREATE INDEX y_v ON y(v COLLATE NOCASE)",
      "CREATE TABLE k(v TEXT, z INT, PRIMARY KEY (v COLLATE NOCASE)) WITHOUT ROWID",
      "CREATE TABLE z(id INTEGER PRIMARY KEY, c)",
      "INSERT INTO x VALUES (1, 'ABC'), (2, 'd')",
      "INSERT INTO y VALUES (1, 'abc', 7), (2, 'ABC', 8)",
      "INSERT INTO k VALUES ('abc', 7), ('D', 8)",
      "INSERT INTO z VALUES (7, 70), (8, 80)",
    ],
    [
      "SELECT z.c FROM x JOIN y ON x.a = y.v JOIN z ON z.id = y.z WHERE x.id = 1",
      "SELECT z.c FROM x JOIN k ON x.a = k.v JOIN z ON z.id = k.z WHERE x.id = 1",
    ],
  ],
  "a trigger that does not say when it fires does so before": [
    [
      "CREATE TABLE p(id INTEGER PRIMARY KEY)",
      "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
      "CREATE TRIGGER ti INSERT ON t BEGIN SELECT raise(ABORT, 'none') WHERE NOT EXISTS (SELECT 1 FROM p WHERE p.id = new.a); END",
      "INSERT INTO p VALUES (3)",
    ],
    ["INSERT INTO t VALUES (1, 3)", "INSERT INTO t VALUES (1, 4)"],
  ],
  "a view's trigger that only reads": [
    [
      "CREATE TABLE t(id INTEGER PRIMARY KEY)",
      "CREATE VIEW w AS SELECT 1 AS a",
      "CREATE TRIGGER wi INSTEAD OF INSERT ON w BEGIN SELECT raise(ABORT, 'it is there') WHERE EXISTS (SELECT 1 FROM t WHERE id = new.a); END",
      "INSERT INTO t VALUES (3)",
    ],
    ["INSERT INTO w VALUES (3)", "INSERT INTO w VALUES (4)"],
  ],
  "a foreign key's action that brings a row into a partial unique index": [
    [
      "CREATE TABLE p(id INTEGER PRIMARY KEY)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) ON DELETE SET NULL, v)",
      "CREATE INDEX c_p ON c(p)",
      "CREATE UNIQUE INDEX c_v ON c(v) WHERE p IS NULL",
      "INSERT INTO p VALUES (1), (2)",
      "INSERT INTO c VALUES (1, 1, 7), (2, NULL, 7), (3, 2, 8)",
    ],
    ["DELETE FROM p WHERE id = 1", "DELETE FROM p WHERE id = 2"],
  ],
  "a trigger may read a view that names what is not there": [
    [
      "CREATE TABLE x(a)",
      "CREATE VIEW w AS SELECT a FROM x",
      "CREATE TABLE log(id INTEGER PRIMARY KEY, a)",
      "CREATE TABLE t(id INTEGER PRIMARY KEY)",
      "CREATE TRIGGER td AFTER DELETE ON t BEGIN INSERT INTO log SELECT 1, a FROM w; END",
      "INSERT INTO t VALUES (1)",
      "DROP TABLE x",
    ],
    ["INSERT INTO t VALUES (2)", "CREATE TRIGGER tu AFTER UPDATE ON t BEGIN INSERT INTO log SELECT 2, a FROM w; END", "CREATE TABLE x(a)"],
  ],
  "WITH may have the name of a view that names what is not there": [
    ["CREATE VIEW w AS SELECT a FROM nothing", "CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)"],
    ["WITH w AS (SELECT id AS a FROM t) SELECT a FROM w", "INSERT INTO t WITH w(a) AS (VALUES (5)) SELECT a FROM w"],
  ],
  "UPDATE OR REPLACE that changes a row again, in the place of the one whose key it took": [
    [
      "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT)",
      "CREATE TABLE r(k TEXT PRIMARY KEY ON CONFLICT REPLACE, n INT, a INT) WITHOUT ROWID",
      "CREATE TABLE u(id INTEGER PRIMARY KEY, b)",
      "INSERT INTO t VALUES (1, 10), (2, 11)",
      "INSERT INTO r VALUES ('a', 1, 10), ('b', 2, 11)",
      "INSERT INTO u VALUES (10, 20), (11, 21), (20, 30)",
    ],
    [
      "UPDATE OR REPLACE t SET id = id + 1, a = (SELECT b FROM u WHERE u.id = t.a) WHERE id < 3",
      "UPDATE r SET k = 'b', a = (SELECT b FROM u WHERE u.id = r.a) WHERE n < 3",
    ],
  ],
  "an action runs for rows that refer to a value which another row gets in the same statement": [
    [
      "CREATE TABLE p(id INTEGER PRIMARY KEY, u INT UNIQUE)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, f INT REFERENCES p(id) ON UPDATE CASCADE ON DELETE CASCADE)",
      "CREATE TABLE d(id INTEGER PRIMARY KEY, f INT REFERENCES p(u) ON UPDATE SET NULL)",
      "CREATE INDEX c_f ON c(f)",
      "CREATE INDEX d_f ON d(f)",
      "CREATE TRIGGER pd AFTER DELETE ON p BEGIN INSERT INTO p VALUES (old.id, 5); END",
      "INSERT INTO p VALUES (1, 7), (2, 8), (4, 9)",
      "INSERT INTO c VALUES (10, 1), (20, 2), (40, 4)",
      "INSERT INTO d VALUES (10, 7), (20, 8), (40, 9)",
    ],
    ["UPDATE p SET id = id - 1 WHERE id < 3", "UPDATE p SET u = u - 1", "DELETE FROM p WHERE id = 4", "UPDATE p SET id = id WHERE id = 4"],
  ],
  "UPDATE beside a join in parentheses": [
    [
      "CREATE TABLE a(id INTEGER PRIMARY KEY, v)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, a INT REFERENCES a(id), v)",
      "CREATE TABLE u(id INTEGER PRIMARY KEY, v UNIQUE)",
      "INSERT INTO a VALUES (1, 'x'), (2, 'y')",
      "INSERT INTO c VALUES (1, 2, 'c')",
      "INSERT INTO u VALUES (1, 5), (2, 7)",
    ],
    [
      "UPDATE c SET v = a.v FROM (a JOIN a b ON a.id = b.id) WHERE c.id = a.id",
      "UPDATE u SET v = 6 FROM (a JOIN a b ON a.id = b.id) WHERE u.id = a.id AND b.id = 1",
    ],
  ],
};

test.each(Object.entries(cases))("%s", (_, [before, asked]) => {
  const differences = asked.flatMap((sql) => {
    const events = [...before.map((one) => event(0, one)), { kind: "restart", store: 1 } as const, event(1, sql)];
    return runCase({ stores: 2, events })?.text ?? [];
  });
  expect(differences).toEqual([]);
});
