/** A share of the cases that `npm run differential` runs; and that what must be found is found. */
import { expect, test } from "vitest";
import type { Case, Statement } from "./case.js";
import { makeCase } from "./case-maker.js";
import { minimise, tellCase } from "./minimise.js";
import { Model } from "./model.js";
import { emptyTally, runCase } from "./run-case.js";

const cases = 25;

test(`${cases} random cases equal plain SQLite, and less is pulled than by whole tables`, () => {
  const tally = emptyTally();
  for (let seed = 1; seed <= cases; seed++) {
    const made = makeCase(seed);
    const difference = runCase(made, tally);
    const told = difference === null ? "" : `${tellCase(minimise(made, difference).made)}\n${difference.text}`;
    expect(difference, `npm run differential -- --cases 1 --from ${seed}\n${told}`).toBeNull();
  }
  expect(tally.chunksRead).toBeGreaterThan(cases);
  expect(tally.rowsPulled).toBeGreaterThan(0);
  expect(tally.rowsPulled).toBeLessThan(tally.rowsIfWhole * 0.95);
  for (const code of ["UNIQUE", "PRIMARYKEY", "FOREIGNKEY", "NOTNULL", "ROWID"])
    expect(tally.codes.get(`SQLITE_CONSTRAINT_${code}`), code).toBeGreaterThan(2);
});

function statement(sql: string, modelSql = sql): Statement {
  const told = modelSql === sql ? null : { sql: modelSql, table: "t", idColumn: "id", areReturned: false };
  return { kind: "query", sql, args: [], isOrdered: true, told };
}

function caseOf(...statements: readonly Statement[]): Case {
  return { stores: 2, events: statements.map((one) => ({ kind: "run", store: 0, statements: [one] })) };
}

const table = statement("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");

test.each([
  ["rows", "answer", statement("SELECT 5", "SELECT 5.0")],
  ["order", "answer", statement("VALUES (1), (2)", "VALUES (2), (1)")],
  ["names of columns", "answer", statement("SELECT 5 AS a", "SELECT 5 AS b")],
  ["affected rows", "answer", statement("DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 3")],
  ["errors", "answer", statement("INSERT INTO t VALUES (1, 1)", "INSERT OR IGNORE INTO t VALUES (1, 1)")],
  ["messages", "answer", statement("SELECT x FROM t", "SELECT y FROM t")],
  ["rows that are stored", "state", statement("INSERT INTO t VALUES (2, 'a')", "INSERT INTO t VALUES (2, 'A')")],
  ["the schema", "schema", statement("CREATE INDEX i ON t(v)", "CREATE INDEX i ON t(v DESC)")],
] as const)("a difference in %s is found", (_, label, differing) => {
  const found = runCase(caseOf(table, statement("INSERT INTO t VALUES (1, 1)"), differing));
  expect(found?.label).toBe(label);
});

test.each([
  [
    "by a trigger",
    [
      "CREATE TABLE p(k TEXT PRIMARY KEY)",
      "CREATE TABLE t(k TEXT PRIMARY KEY, f REFERENCES p(k) ON DELETE SET NULL) WITHOUT ROWID",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES t(k) ON DELETE SET NULL)",
      "CREATE TRIGGER g AFTER UPDATE ON c BEGIN DELETE FROM p WHERE k = new.id; END",
    ],
  ],
  ["by itself", ["CREATE TABLE t(k TEXT PRIMARY KEY, f REFERENCES t(k) ON DELETE SET NULL) WITHOUT ROWID"]],
])("REPLACE stores no row without its parent where it leads back to SET NULL %s, though SQLite does", (_, schema) => {
  const [first = "", ...rest] = schema;
  const made = caseOf(statement(first), ...rest.map((sql) => statement(sql)), statement("REPLACE INTO t VALUES (3, 6), (4, 1)"));
  expect(runCase(made)).toBeNull();
  const inTransaction: Case = {
    ...made,
    events: [
      ...made.events.slice(0, -1),
      { kind: "run", store: 0, statements: ["BEGIN", "REPLACE INTO t VALUES (3, 6)", "COMMIT"].map((sql) => statement(sql)) },
    ],
  };
  expect(runCase(inTransaction)).toBeNull();
});

test.each([
  ["", []],
  [" DEFERRABLE INITIALLY DEFERRED", []],
  ["", ["PRAGMA defer_foreign_keys = 1"]],
])("a row without its parent keeps what it had where an UPDATE sets that, though SQLite refuses it%s %s", (deferred, first) => {
  const request = (...sql: readonly string[]): Case["events"][number] => ({ kind: "run", store: 0, statements: sql.map((one) => statement(one)) });
  const orphan = [
    request("CREATE TABLE p(id INTEGER PRIMARY KEY)"),
    request(`CREATE TABLE t(id INTEGER PRIMARY KEY, f INT REFERENCES p(id)${deferred}, v)`),
    request("PRAGMA foreign_keys = OFF", "INSERT INTO t VALUES (8, 5, 1), (9, 6, 1)"),
  ];
  const update = "UPDATE t SET f = '5', v = v + 1 WHERE id = 8";
  for (const events of [
    [request(update), request("UPDATE t SET f = 7"), request("UPDATE t SET f = 6")],
    [
      request("BEGIN", ...first, update, "UPDATE t SET f = 6 WHERE id = 9", "COMMIT"),
      request("BEGIN", update, "UPDATE t SET f = 6", "COMMIT", "ROLLBACK"),
    ],
    [request("SAVEPOINT s", ...first, update, "SAVEPOINT i", update, "RELEASE i", "ROLLBACK TO s", update, "RELEASE s"), request(update)],
  ])
    expect(runCase({ stores: 2, events: [...orphan, ...events] })).toBeNull();
  const model = new Model();
  for (const event of orphan) if (event.kind === "run") for (const one of event.statements) model.run(one, [], null);
  model.useForeignKeys(true);
  // What a store may not take is not taken from it.
  expect(model.run(statement("UPDATE t SET f = 7"), [], null).code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
  expect(model.run(statement("UPDATE t SET f = 6"), [], null).code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
  expect(model.run(statement(update), [], null).code).toBeNull();
  model.close();
});

const request = (...sql: readonly string[]): Case["events"][number] => ({ kind: "run", store: 0, statements: sql.map((one) => statement(one)) });

test("a row without its parent keeps what it had also where the UPDATE gives it another key", () => {
  const events = [
    request("CREATE TABLE t(id INTEGER PRIMARY KEY, f REFERENCES t(id) ON UPDATE SET DEFAULT DEFERRABLE INITIALLY DEFERRED)"),
    request("PRAGMA foreign_keys = OFF", "INSERT INTO t VALUES (1, 3)"),
    request("BEGIN", "UPDATE t SET id = id + 1 WHERE 1", "COMMIT", "ROLLBACK"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a row that a foreign key's action does not find, since its value is of another kind, stands against DROP TABLE, though not in SQLite", () => {
  const events = [
    request("CREATE TABLE p(c TEXT UNIQUE)"),
    request("CREATE TABLE t(k TEXT PRIMARY KEY, f REFERENCES p(c) ON DELETE CASCADE)"),
    request("INSERT INTO p VALUES (9)"),
    request("INSERT INTO t VALUES ('A', 9)"),
    request("DROP TABLE p"),
    request("BEGIN", "DROP TABLE p", "COMMIT", "ROLLBACK"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a row without its parent keeps what it had also where an action of an INSERT updates it", () => {
  const events = [
    request(
      "CREATE TABLE p(id INTEGER PRIMARY KEY, a)",
      "CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES c(id), g REFERENCES p(id) ON DELETE SET NULL)",
    ),
    request("CREATE TRIGGER r AFTER INSERT ON p BEGIN DELETE FROM p WHERE id = new.a; END"),
    request("INSERT INTO p VALUES (6, NULL)"),
    request("PRAGMA foreign_keys = OFF", "INSERT INTO c VALUES (1, 3, 6)"),
    request("BEGIN", "INSERT INTO p VALUES (8, 6)", "SELECT * FROM c", "ROLLBACK"),
    request("INSERT INTO p VALUES (8, 6)"),
    request("SELECT * FROM c"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a foreign key that does not fit its parent is told also where a single row is inserted there, which SQLite does not look at", () => {
  const events = [
    request("CREATE TABLE p(id INTEGER PRIMARY KEY, c)", "CREATE TABLE t(id INTEGER PRIMARY KEY, f REFERENCES p(c))"),
    request("INSERT INTO p VALUES (1, 1)"),
    request("BEGIN", "INSERT INTO p VALUES (2, 1)", "SELECT * FROM p", "ROLLBACK"),
    request("SELECT * FROM p"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("of a trigger and a view that name what is not there the first is told, also after a transaction that stayed open", () => {
  const open = (sql: string): Case["events"][number] => ({ kind: "request", store: 0, statements: [statement(sql)] });
  const events = [
    request("CREATE TABLE t(a)", "CREATE TABLE p(a)"),
    request("CREATE TRIGGER g AFTER UPDATE ON t BEGIN UPDATE p SET a = 1; END", "CREATE VIEW v AS SELECT a FROM p"),
    open("BEGIN"),
    open("COMMIT"),
    request("DROP TABLE p"),
    request("ALTER TABLE t RENAME TO s"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a row that an action does not find stays without its parent also where the transaction stayed open; one whose parent others have deleted does not", () => {
  const open = (...sql: readonly string[]): Case["events"][number] => ({ kind: "request", store: 0, statements: sql.map((one) => statement(one)) });
  const events = [
    request("CREATE TABLE p(k TEXT PRIMARY KEY) WITHOUT ROWID", "CREATE TABLE c(id INTEGER PRIMARY KEY, f BLOB REFERENCES p(k) ON DELETE CASCADE)"),
    request("INSERT INTO p VALUES (0)", "INSERT INTO c VALUES (1, 0)"),
    open("BEGIN", "DELETE FROM p"),
    open("COMMIT"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
  const [model, alone] = [new Model(), statement("")];
  for (const sql of [
    "CREATE TABLE p(k INTEGER PRIMARY KEY)",
    "CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES p(k))",
    "INSERT INTO p VALUES (1)",
  ])
    model.run({ ...alone, sql }, [], null);
  const [before, copy] = [model.rows(), model.copy()];
  copy.run({ ...alone, sql: "INSERT INTO c VALUES (1, 1)" }, [], null);
  model.run({ ...alone, sql: "DELETE FROM p" }, [], null);
  expect(model.merge(before, copy)).toBe("it leaves a row without its parent");
  copy.close();
  model.close();
});

test("what follows OR ROLLBACK in its request sees what others have committed, and can begin another transaction", () => {
  const open = (...sql: readonly string[]): Case["events"][number] => ({ kind: "request", store: 1, statements: sql.map((one) => statement(one)) });
  const events = [
    request("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 2)"),
    open("BEGIN", "SELECT a FROM t"),
    request("UPDATE t SET a = 3"),
    open("SELECT a FROM t", "INSERT OR ROLLBACK INTO t VALUES (1, 4)", "INSERT INTO t VALUES (5, 6)", "SELECT a FROM t", "SAVEPOINT s"),
    request("UPDATE t SET a = 7 WHERE id = 1"),
    open("SELECT * FROM t", "RELEASE s"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("within a transaction too a row without its parent is refused where another one finds its own, though SQLite counts both as none", () => {
  const events = [
    request("CREATE TABLE p(id INTEGER PRIMARY KEY, f REFERENCES p(id))"),
    request("CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES p(id) ON DELETE CASCADE)"),
    request("PRAGMA foreign_keys = OFF", "INSERT INTO c VALUES (1, 7)"),
    request("INSERT INTO p VALUES (1, 8), (7, NULL)"),
    request("BEGIN", "INSERT INTO p VALUES (1, 8), (7, NULL)", "COMMIT", "ROLLBACK"),
    request("BEGIN", "INSERT INTO p VALUES (7, 7)", "COMMIT", "ROLLBACK"),
  ];
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a column that an ALTER could not add within a transaction is not seen there", () => {
  const events = [
    request("CREATE TABLE t(id INTEGER PRIMARY KEY, b)", "INSERT INTO t VALUES (1, 'c')"),
    request("BEGIN", "ALTER TABLE t ADD COLUMN z CHECK (b <> 'c')", "SELECT * FROM t", "COMMIT"),
  ].map((event) =>
    event.kind === "run"
      ? { ...event, statements: event.statements.map((one) => (/^(CREATE|ALTER)/.test(one.sql) ? { ...one, kind: "ddl" } : one)) }
      : event,
  );
  expect(runCase({ stores: 2, events })).toBeNull();
});

test("a child that gets other names after its parent was dropped, in a transaction, is looked at under these", () => {
  const events = (...end: readonly string[]) =>
    [
      request("CREATE TABLE p(id INTEGER PRIMARY KEY)"),
      request("CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES p ON DELETE NO ACTION DEFERRABLE INITIALLY DEFERRED)"),
      request("INSERT INTO p VALUES (1)", "INSERT INTO c VALUES (1, 1)"),
      request("BEGIN", "DROP TABLE p", "ALTER TABLE c RENAME TO d", "ALTER TABLE d RENAME COLUMN f TO g", ...end, "COMMIT", "ROLLBACK"),
    ].map((event) =>
      event.kind === "run"
        ? { ...event, statements: event.statements.map((one) => (/^(CREATE|ALTER|DROP)/.test(one.sql) ? { ...one, kind: "ddl" } : one)) }
        : event,
    );
  expect(runCase({ stores: 2, events: events() })).toBeNull();
  expect(runCase({ stores: 2, events: events("UPDATE d SET g = NULL") })).toBeNull();
  expect(runCase({ stores: 2, events: events("CREATE TABLE p(id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES (1)") })).toBeNull();
});

test("a case that differs is made as small as it can be", () => {
  const made = caseOf(
    table,
    ...Array.from({ length: 9 }, (_, id) => statement(`INSERT INTO t VALUES (${id}, 1)`)),
    statement("SELECT 1", "SELECT 2"),
  );
  const found = runCase(made);
  expect(found).not.toBeNull();
  if (found !== null) expect(tellCase(minimise(made, found).made)).toBe("  store 0: SELECT 1");
});
