import Sqlite from "better-sqlite3";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { SqlValue } from "../../src/base/values.js";
import type { StepOutcome } from "../../src/sql/local-store.js";
import { type Client, Cluster, step } from "./store-harness.js";

let c: Cluster;

afterEach(() => c.close());

function rows(outcomes: readonly StepOutcome[]): readonly (readonly SqlValue[])[] {
  const last = outcomes.at(-1);
  if (last?.kind !== "ok") throw new Error(last?.kind === "error" ? `${last.fault.code}: ${last.fault.message}` : "skipped");
  return last.result.rows;
}

function codes(outcomes: readonly StepOutcome[]): string[] {
  return outcomes.map((outcome) => (outcome.kind === "error" ? outcome.fault.code : outcome.kind));
}

function reader(index = 0): Client {
  const client = c.client(index);
  expect(codes(c.in(client, "PRAGMA atomcast.isolation = read_committed", "BEGIN"))).toEqual(["ok", "ok"]);
  return client;
}

function accounts(): void {
  c = new Cluster(2);
  c.sql(0, "CREATE TABLE accounts(id INTEGER PRIMARY KEY, owner TEXT UNIQUE, balance INTEGER NOT NULL)");
  c.sql(0, "INSERT INTO accounts VALUES (1, 'ann', 100), (2, 'bob', 200), (3, 'cyd', 300)");
}

describe("read committed", () => {
  test("is asked for in both spellings, and is the same as snapshot outside of a transaction", () => {
    accounts();
    const ann = c.client(0);
    for (const sql of ["= read_committed", "= 'read committed'", "('READ COMMITTED')"]) {
      c.in(ann, "PRAGMA atomcast.isolation = snapshot");
      expect(rows(c.in(ann, `PRAGMA atomcast.isolation ${sql}`, "PRAGMA atomcast.isolation"))).toEqual([["read_committed"]]);
    }
    c.in(ann, "UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    expect(c.rows(1, "SELECT balance FROM accounts WHERE id = 1")).toEqual([[101n]]);
  });

  test("is asked for within a transaction before its first statement, and not behind it", () => {
    accounts();
    const ann = c.client(0);
    const set = "PRAGMA atomcast.isolation = read_committed";
    c.in(ann, "BEGIN");
    expect(codes(c.in(ann, set, "SELECT * FROM accounts", "PRAGMA atomcast.isolation = snapshot"))).toEqual(["ok", "ok", "SQLITE_ERROR"]);
    c.sql(1, "DELETE FROM accounts WHERE id > 1");
    expect(rows(c.in(ann, set, "SELECT count(*) FROM accounts"))).toEqual([[1n]]);
    expect(rows(c.in(ann, "ROLLBACK", "PRAGMA atomcast.isolation"))).toEqual([["read_committed"]]);
  });

  test("each request sees what is committed by then, with its own changes on top, and nobody else sees these", () => {
    accounts();
    const ann = reader();
    c.in(ann, "UPDATE accounts SET balance = 1 WHERE id = 1", "SAVEPOINT a", "DELETE FROM accounts WHERE id = 2");
    c.sql(1, "UPDATE accounts SET balance = 77 WHERE id = 3");
    c.sql(1, "INSERT INTO accounts VALUES (4, 'dan', 4)");
    const read = "SELECT id, balance FROM accounts ORDER BY id";
    expect(rows(c.in(ann, read))).toEqual([
      [1n, 1n],
      [3n, 77n],
      [4n, 4n],
    ]);
    expect(c.rows(0, read)).toHaveLength(4);
    expect(rows(c.in(ann, "ROLLBACK TO a", read))).toContainEqual([2n, 200n]);
    c.in(ann, "COMMIT");
    expect(c.rows(1, "SELECT sum(balance) FROM accounts")).toEqual([[1n + 200n + 77n + 4n]]);
  });

  test("a row that was changed before the statement that writes it is no conflict", () => {
    accounts();
    const ann = reader();
    c.in(ann, "SELECT * FROM accounts");
    c.sql(1, "UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    expect(codes(c.in(ann, "UPDATE accounts SET balance = balance + 10 WHERE id = 1"))).toEqual(["ok"]);
    c.sql(1, "UPDATE accounts SET balance = 0 WHERE id = 2");
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["ok"]);
    expect(c.rows(1, "SELECT balance FROM accounts WHERE id = 1")).toEqual([[111n]]);
  });

  test.each([
    ["the same row", "UPDATE accounts SET balance = balance + 1 WHERE id = 1", "UPDATE accounts SET balance = balance + 1 WHERE id = 1"],
    ["a row that is deleted", "UPDATE accounts SET balance = 5 WHERE id = 1", "DELETE FROM accounts WHERE id = 1"],
    ["a row that it deletes", "DELETE FROM accounts WHERE id = 1", "UPDATE accounts SET balance = 5 WHERE id = 1"],
    ["a key that both insert", "INSERT INTO accounts VALUES (9, 'x', 1)", "INSERT INTO accounts VALUES (9, 'y', 1)"],
    ["a unique value", "INSERT INTO accounts VALUES (8, 'x', 1)", "INSERT INTO accounts VALUES (9, 'x', 1)"],
  ])("what another one changes after the statement that wrote it is busy: %s", (_, own, others) => {
    accounts();
    const ann = reader();
    c.in(ann, own);
    c.sql(1, others);
    const before = c.rows(1, "SELECT * FROM accounts ORDER BY id");
    // Also where the transaction writes it once more, on top of its own.
    const outcomes = [...c.in(ann, "UPDATE accounts SET balance = balance WHERE id = 1"), ...c.in(ann, "COMMIT")];
    expect(codes(outcomes)).toContain("SQLITE_BUSY_SNAPSHOT");
    expect(c.rows(0, "SELECT * FROM accounts ORDER BY id")).toEqual(before);
  });

  test("a parent that goes after its child came is a conflict, and so is a child that comes after its parent went", () => {
    c = new Cluster(2);
    c.sql(0, "CREATE TABLE p(id INTEGER PRIMARY KEY)");
    c.sql(0, "CREATE TABLE k(id INTEGER PRIMARY KEY, p REFERENCES p, d REFERENCES p DEFERRABLE INITIALLY DEFERRED)");
    c.sql(0, "INSERT INTO p VALUES (1), (2)");
    const [ann, bob] = [reader(0), reader(0)];
    c.in(ann, "INSERT INTO k VALUES (1, 1, NULL)");
    c.sql(1, "DELETE FROM p WHERE id = 1");
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
    c.in(bob, "DELETE FROM p WHERE id = 2");
    c.sql(1, "INSERT INTO k VALUES (2, 2, NULL)");
    expect(codes(c.in(bob, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
    // What waits for the COMMIT is the transaction's own affair.
    const cyd = reader(0);
    c.in(cyd, "INSERT INTO k VALUES (3, 2, 7)");
    c.sql(1, "INSERT INTO p VALUES (6)");
    expect(codes(c.in(cyd, "COMMIT"))).toEqual(["SQLITE_CONSTRAINT_FOREIGNKEY"]);
    expect(codes(c.in(cyd, "INSERT INTO p VALUES (7)", "COMMIT"))).toEqual(["ok", "ok"]);
    expect(c.rows(1, "PRAGMA foreign_key_check")).toEqual([]);
  });

  test("rows that are pulled in its middle are read as they are", () => {
    accounts();
    const ann = reader(1);
    c.in(ann, "SELECT balance FROM accounts WHERE id = 1");
    c.sql(0, "UPDATE accounts SET balance = 7 WHERE id = 2");
    const space = [...c.schema.values()].find(({ object }) => object.name === "accounts")?.object.space;
    if (space === undefined) throw new Error("no table");
    c.drop(1, space, Buffer.alloc(0), null);
    expect(rows(c.in(ann, "SELECT balance FROM accounts ORDER BY id"))).toEqual([[100n], [7n], [300n]]);
    c.in(ann, "UPDATE accounts SET balance = 8 WHERE id = 2");
    c.drop(1, space, Buffer.alloc(0), null);
    c.sql(0, "UPDATE accounts SET balance = 9 WHERE id = 2");
    expect(codes(c.in(ann, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
  });
});

test("what a statement has touched and left as it was is nobody's, also where the next one has to wait for rows", () => {
  accounts();
  c.sql(0, "CREATE TABLE other(id INTEGER PRIMARY KEY)");
  const ann = reader();
  c.in(ann, "UPDATE accounts SET balance = balance WHERE id = 1");
  const space = [...c.schema.values()].find(({ object }) => object.name === "other")?.object.space;
  if (space === undefined) throw new Error("no table");
  const { store } = ann.engine;
  store.dropRange(space, Buffer.alloc(0), null);
  c.in(ann, "UPDATE accounts SET balance = balance WHERE id = 2");
  const request = { steps: [step("SELECT * FROM other")], firstStep: 0, earlier: [], settings: ann.settings, seed: 1 };
  expect(store.run({ ...request, transaction: { id: ann.transaction, resumes: true } }, {})).toMatchObject({ kind: "pull" });
  c.sql(1, "UPDATE accounts SET balance = 77 WHERE id = 2");
  expect(rows(c.in(ann, "SELECT count(*) FROM other", "SELECT balance FROM accounts WHERE id = 2"))).toEqual([[77n]]);
});

test("what it has deleted stays deleted where its row is given up before and after", () => {
  accounts();
  c.sql(0, "CREATE TABLE notes(id INTEGER PRIMARY KEY, account REFERENCES accounts)");
  const space = [...c.schema.values()].find(({ object }) => object.name === "accounts")?.object.space;
  if (space === undefined) throw new Error("no table");
  const ann = reader(1);
  c.in(ann, "REPLACE INTO accounts VALUES (2, 'ann', 9)");
  c.drop(1, space, Buffer.alloc(0), null);
  c.in(ann, "INSERT INTO notes VALUES (1, 2)");
  c.drop(1, space, Buffer.alloc(0), null);
  expect(codes(c.in(ann, "COMMIT"))).toEqual(["ok"]);
  expect(c.rows(0, "SELECT id, owner FROM accounts ORDER BY id")).toEqual([
    [2n, "ann"],
    [3n, "cyd"],
  ]);
});

// The property: a statement's answer is that of a copy of what is committed by then, with the rows that the transaction changed on top; a COMMIT that
// succeeds leaves just that, and has changed no row that somebody else changed after the transaction's first change of it.

const schema = [
  "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER)",
  "CREATE TABLE k(id INTEGER PRIMARY KEY, t INTEGER REFERENCES t(id) ON DELETE CASCADE ON UPDATE SET NULL)",
  "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, 'g', 7)",
  "INSERT INTO k VALUES (1, 1), (2, 3)",
];
const id = fc.integer({ min: 1, max: 8 });
const statement = fc.oneof(
  fc.tuple(id, fc.constantFrom("a", "b", "c", "d", "e", "f"), id).map(([key, name, n]) => `INSERT INTO t VALUES (${key}, '${name}', ${n})`),
  fc.tuple(id, fc.constantFrom("a", "b", "c", "d", "e", "f"), id).map(([key, name, n]) => `REPLACE INTO t VALUES (${key}, '${name}', ${n})`),
  fc.tuple(id, id).map(([key, n]) => `UPDATE t SET n = n + ${n} WHERE id = ${key}`),
  id.map((key) => `UPDATE t SET n = n + 1 WHERE id >= ${key}`),
  fc.tuple(id, id).map(([key, to]) => `UPDATE t SET id = ${to} WHERE id = ${key}`),
  id.map((key) => `DELETE FROM t WHERE id = ${key}`),
  fc.tuple(id, id).map(([key, t]) => `INSERT OR REPLACE INTO k VALUES (${key}, ${t})`),
);
const read = "SELECT 't', id, name, n FROM t UNION ALL SELECT 'k', id, t, NULL FROM k ORDER BY 1, 2";
const move = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("own" as const), sql: fc.oneof(statement, fc.constant(read)) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("other" as const), sql: statement }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("drop" as const), sql: fc.constantFrom("t", "k") }) },
);

/** A row of its own has a unique value that somebody else's has, which is given up here. */
const ownBesideUnheld = [
  { kind: "own" as const, sql: "REPLACE INTO t VALUES (1, 'e', 1)" },
  { kind: "other" as const, sql: "REPLACE INTO t VALUES (2, 'e', 1)" },
  { kind: "drop" as const, sql: "t" },
  { kind: "own" as const, sql: "UPDATE t SET n = n + 1 WHERE id = 1" },
];

type Rows = ReadonlyMap<string, readonly SqlValue[]>;

function allOf(run: (sql: string) => readonly (readonly SqlValue[])[]): Rows {
  return new Map(run(read).map((row) => [`${row[0]}${row[1]}`, row]));
}

/** A copy of the rows, in plain SQLite. Throws where they do not go together. */
function copyOf(all: Rows): Sqlite.Database {
  const copy = new Sqlite(":memory:");
  copy.defaultSafeIntegers(true);
  copy.pragma("foreign_keys = OFF");
  for (const sql of schema.slice(0, 2)) copy.exec(sql);
  for (const [table, key, third, n] of all.values())
    if (table === "t") copy.prepare("INSERT INTO t VALUES (?, ?, ?)").run(key, third, n);
    else copy.prepare("INSERT INTO k VALUES (?, ?)").run(key, third);
  copy.pragma("foreign_keys = ON");
  return copy;
}

function readCopy(copy: Sqlite.Database): Rows {
  return allOf((sql) => copy.prepare<[], SqlValue[]>(sql).raw().all());
}

function equal(left: readonly SqlValue[] | undefined, right: readonly SqlValue[] | undefined): boolean {
  return left === right || (left !== undefined && right !== undefined && left.every((value, place) => value === right[place]));
}

interface Own {
  readonly row: readonly SqlValue[] | undefined;
  /** How often others had changed the row when the transaction first changed it. */
  readonly changes: number;
  /** It was never there for others, and is not there any more: whether one that others make then is seen, nobody has promised. */
  readonly isNone: boolean;
}

test("answers are those of what is committed with its own changes on top, and no change is lost", () => {
  let committed = 0;
  let busy = 0;
  fc.assert(
    fc.property(fc.array(move, { minLength: 4, maxLength: 16 }), fc.boolean(), (moves, elsewhere) => {
      c = new Cluster(2);
      for (const sql of schema) c.sql(0, sql);
      const client = reader(elsewhere ? 1 : 0);
      const own = new Map<string, Own>();
      const changes = new Map<string, number>();
      const base = (): Rows => allOf((sql) => c.rows(0, sql));
      const mine = (): Rows => {
        const all = new Map(base());
        for (const [key, { row }] of own) {
          all.delete(key);
          if (row !== undefined) all.set(key, row);
        }
        return all;
      };
      const note = (before: Rows, after: Rows, changed: (key: string) => void): void => {
        for (const key of new Set([...before.keys(), ...after.keys()])) if (!equal(before.get(key), after.get(key))) changed(key);
      };
      try {
        for (const { kind, sql } of moves) {
          if (kind === "drop") {
            const space = [...c.schema.values()].find(({ object }) => object.name === sql)?.object.space;
            if (space !== undefined) c.drop(elsewhere ? 1 : 0, space, Buffer.alloc(0), null);
          } else if (kind === "other") {
            const before = base();
            c.run(1, [{ sql, args: { positional: [], named: [] }, wantRows: true, condition: null }]);
            note(before, base(), (key) => changes.set(key, (changes.get(key) ?? 0) + 1));
          } else if (!ownStatement(client, sql, mine, own, note, changes, base)) {
            busy++;
            return;
          }
        }
        if (isOpenQuestion(own, base())) return;
        const expected = mine();
        const isLost = [...own].some(([key, one]) => (changes.get(key) ?? 0) !== one.changes && !equal(base().get(key), one.row));
        const [outcome] = c.in(client, "COMMIT");
        if (outcome?.kind === "error") {
          expect(outcome.fault.code).toBe("SQLITE_BUSY_SNAPSHOT");
          expect(changes.size).toBeGreaterThan(0);
          busy++;
          return;
        }
        expect(isLost).toBe(false);
        expect(base()).toEqual(expected);
        expect(allOf((sql) => c.rows(1, sql))).toEqual(expected);
        expect(c.rows(0, "PRAGMA foreign_key_check")).toEqual([]);
        committed++;
      } finally {
        c.close();
      }
    }),
    { numRuns: 100, seed: 9, examples: [[ownBesideUnheld, true]] },
  );
  c = new Cluster(1);
  // Both happen, and often.
  expect(Math.min(committed, busy)).toBeGreaterThan(10);
});

function isOpenQuestion(own: ReadonlyMap<string, Own>, base: Rows): boolean {
  return [...own].some(([key, { isNone }]) => isNone && base.has(key));
}

/** False: the transaction is over, as it is where its own rows do not go with what others have committed. */
function ownStatement(
  client: Client,
  sql: string,
  mine: () => Rows,
  own: Map<string, Own>,
  note: (before: Rows, after: Rows, changed: (key: string) => void) => void,
  changes: ReadonlyMap<string, number>,
  base: () => Rows,
): boolean {
  if (isOpenQuestion(own, base())) {
    c.in(client, "ROLLBACK");
    return false;
  }
  let copy: Sqlite.Database | null = null;
  try {
    copy = copyOf(mine());
  } catch {
    // Where what it does not go with is not held here, only its COMMIT can tell.
    const [code] = codes(c.in(client, sql));
    if (code !== "SQLITE_BUSY_SNAPSHOT") expect(codes(c.in(client, "COMMIT"))).toEqual(["SQLITE_BUSY_SNAPSHOT"]);
    return false;
  }
  const before = readCopy(copy);
  let expected: unknown;
  try {
    const prepared = copy.prepare<[], SqlValue[]>(sql);
    expected = prepared.reader ? prepared.raw().all() : prepared.run().changes;
  } catch (error) {
    expected = (error as { code: string }).code;
  }
  const [outcome] = c.in(client, sql);
  const answer =
    outcome?.kind === "ok"
      ? sql === read
        ? outcome.result.rows
        : outcome.result.affectedRowCount
      : outcome?.kind === "error"
        ? outcome.fault.code
        : "skipped";
  expect(answer).toEqual(expected);
  const after = readCopy(copy);
  note(before, after, (key) => {
    const isNone = !after.has(key) && !base().has(key);
    own.set(key, { row: after.get(key), changes: own.get(key)?.changes ?? changes.get(key) ?? 0, isNone });
  });
  copy.close();
  return true;
}
