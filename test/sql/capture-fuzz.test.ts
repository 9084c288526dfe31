/**
 * Random statements against plain SQLite: the same result, the same error code, the same state, on the engine that runs them and on one that is only
 * told of the committed rows. Triggers, REPLACE, UPSERT, cascades, generated columns; NOCASE, partial and expression indexes.
 */
import Sqlite, { type Database } from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import { Cluster, step } from "./store-harness.js";

const schema = [
  "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, v INT, CHECK (v IS NULL OR v < 5000))",
  "CREATE TABLE c(id INTEGER PRIMARY KEY, pid INT REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE, v INT)",
  "CREATE INDEX ci ON c(pid)",
  "CREATE INDEX cp ON c(v) WHERE v > 3",
  "CREATE TABLE cn(id INTEGER PRIMARY KEY, pn TEXT REFERENCES p(name) ON DELETE SET NULL ON UPDATE CASCADE)",
  "CREATE TABLE cd(id INTEGER PRIMARY KEY, pid INT DEFAULT 1 REFERENCES p(id) ON DELETE SET DEFAULT)",
  "CREATE TABLE ck(a TEXT COLLATE NOCASE, b INT, v, PRIMARY KEY (a, b)) WITHOUT ROWID",
  "CREATE TABLE ckc(id INTEGER PRIMARY KEY, a TEXT, b INT, FOREIGN KEY (a, b) REFERENCES ck(a, b) ON UPDATE CASCADE ON DELETE NO ACTION)",
  "CREATE TABLE norow(x UNIQUE ON CONFLICT REPLACE, y)",
  "CREATE TABLE gen(id INTEGER PRIMARY KEY, a INT, b INT GENERATED ALWAYS AS (a * 2) VIRTUAL, c INT GENERATED ALWAYS AS (a % 5) STORED, UNIQUE (b))",
  "CREATE UNIQUE INDEX gx ON gen(c) WHERE a > 10",
  "CREATE TABLE ex(id INTEGER PRIMARY KEY, a TEXT, b TEXT)",
  "CREATE UNIQUE INDEX exa ON ex(lower(a), b COLLATE NOCASE DESC) WHERE length(a) > 1",
  "CREATE TABLE tree(id INTEGER PRIMARY KEY, up INT REFERENCES tree(id) ON DELETE CASCADE)",
  "CREATE TABLE log(x)",
  "CREATE TABLE dn(id INTEGER PRIMARY KEY, x INT NOT NULL ON CONFLICT REPLACE DEFAULT 7 UNIQUE)",
  "CREATE TRIGGER pu AFTER UPDATE ON p WHEN new.v >= 100 BEGIN UPDATE p SET v = v - 100 WHERE id = new.id; INSERT INTO log VALUES ('pu' || new.id); END",
  "CREATE TRIGGER pu2 AFTER UPDATE ON p BEGIN UPDATE p SET v = coalesce(v, 0) + 1 WHERE id = new.id AND v % 7 = 0; END",
  "CREATE TRIGGER pign AFTER INSERT ON p WHEN new.v = 13 BEGIN SELECT raise(IGNORE); END",
  "CREATE TRIGGER pab BEFORE INSERT ON p WHEN new.v = 17 BEGIN SELECT raise(ABORT, 'no'); END",
  "CREATE TRIGGER pfa BEFORE UPDATE ON p WHEN new.v = 18 BEGIN SELECT raise(FAIL, 'no'); END",
  "CREATE TRIGGER prb BEFORE UPDATE ON p WHEN new.v = 19 BEGIN SELECT raise(ROLLBACK, 'no'); END",
  "CREATE TRIGGER cd1 AFTER DELETE ON c BEGIN INSERT INTO log VALUES ('c' || old.id); UPDATE p SET v = v + 1 WHERE id = old.pid; END",
  "CREATE TRIGGER ni AFTER INSERT ON norow BEGIN INSERT OR REPLACE INTO ck VALUES (new.x, 1, new.y); END",
  "CREATE VIEW pv AS SELECT id, name, v FROM p",
  "CREATE TRIGGER pvi INSTEAD OF INSERT ON pv BEGIN INSERT INTO p VALUES (new.id, new.name, new.v); INSERT INTO c(id, pid, v) VALUES (new.id + 100, new.id, 4); END",
  "CREATE TRIGGER pvd INSTEAD OF DELETE ON pv BEGIN DELETE FROM p WHERE id = old.id; END",
];

/** Ids are always given, since an engine's own are of its blocks. */
function generator(seed: number): () => string {
  const random = seededRandom(seed);
  const below = (limit: number): number => random.integer(limit);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  const text = (): string => pick(["a", "B", "b", "A", "c", "D", "d", "é", "ß", ""]);
  const orNull = (limit: number): string => (below(6) === 0 ? "NULL" : String(below(limit)));
  const or = (): string => pick(["", "", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK", "OR ABORT"]);
  const values = (row: () => string): string => `VALUES ${Array.from({ length: below(3) + 1 }, row).join(", ")}`;
  const makers: readonly (() => string)[] = [
    () => `INSERT ${or()} INTO p(id, name, v) ${values(() => `(${below(14)}, '${text()}', ${below(120)})`)}`,
    () => `INSERT ${or()} INTO p VALUES (${below(12)}, '${text()}', ${below(30)})`,
    () => `UPDATE ${or()} p SET name = '${text()}', v = ${below(130)} WHERE id % 3 = ${below(3)}`,
    () => `UPDATE ${or()} p SET id = id + ${below(3)} WHERE id = ${below(12)}`,
    () => `UPDATE ${or()} p SET name = name || 'x' WHERE length(name) < 3`,
    () => `DELETE FROM p WHERE id % 4 = ${below(4)}`,
    () => `INSERT ${or()} INTO c(id, pid, v) SELECT id + ${below(20)}, id, ${below(9)} FROM p WHERE id > ${below(12)} LIMIT ${below(4)}`,
    () => `INSERT ${or()} INTO c VALUES (${below(20)}, ${orNull(12)}, ${below(9)})`,
    () => `INSERT ${or()} INTO cn(id, pn) VALUES (${below(9)}, '${text()}')`,
    () => `INSERT ${or()} INTO cd(id, pid) VALUES (${below(9)}, ${orNull(8)})`,
    () => `INSERT ${or()} INTO ck ${values(() => `('${text()}', ${below(3)}, ${below(9)})`)}`,
    () =>
      below(2) ? `UPDATE ${or()} ck SET a = '${text()}' WHERE b = ${below(3)}` : `UPDATE ${or()} ck SET a = upper(a), v = 1 WHERE b = ${below(3)}`,
    () => `INSERT ${or()} INTO ckc(id, a, b) SELECT b * 3 + ${below(9)}, a, b FROM ck WHERE b = ${below(3)}`,
    () => `DELETE FROM ck WHERE b = ${below(3)} AND v = ${below(9)}`,
    () => `INSERT ${or()} INTO norow(rowid, x, y) ${values(() => `(${below(9)}, ${orNull(8)}, ${below(9)})`)}`,
    () =>
      below(2)
        ? `UPDATE ${or()} norow SET x = ${below(8)} WHERE x = ${below(8)}`
        : `UPDATE norow SET rowid = rowid + ${below(3) + 20} WHERE x = ${below(8)}`,
    () =>
      below(2)
        ? `INSERT ${or()} INTO gen(id, a) ${values(() => `(${below(10)}, ${below(20)})`)}`
        : `UPDATE ${or()} gen SET a = a + ${below(4)} WHERE id % 2 = ${below(2)}`,
    () =>
      below(2)
        ? `INSERT ${or()} INTO ex VALUES (${below(9)}, '${text()}${text()}', '${text()}')`
        : `UPDATE ${or()} ex SET a = upper(a), b = '${text()}' WHERE id = ${below(9)}`,
    () => (below(2) ? `INSERT ${or()} INTO tree VALUES (${below(9)}, ${orNull(9)})` : `DELETE FROM tree WHERE id = ${below(9)}`),
    () => `INSERT ${or()} INTO dn(id, x) VALUES (${below(9)}, ${pick(["NULL", "NULL", String(below(9))])})`,
    () => (below(2) ? `INSERT INTO pv VALUES (${below(15)}, '${text()}', ${below(30)})` : `DELETE FROM pv WHERE id = ${below(15)}`),
    () =>
      `INSERT INTO p(id, name, v) VALUES (${below(12)}, '${text()}', ${below(30)}) ` +
      "ON CONFLICT (name) DO UPDATE SET v = excluded.v + v ON CONFLICT (id) DO UPDATE SET name = excluded.name, id = p.id + 20 RETURNING id, name",
    () =>
      below(2)
        ? `DELETE FROM ${pick(["c", "cn", "cd", "norow", "gen", "ckc", "dn", "ex"])} WHERE rowid % 3 = ${below(3)}`
        : `UPDATE c SET pid = (SELECT id FROM p ORDER BY id LIMIT 1 OFFSET ${below(3)}), v = v + 1 WHERE id % 3 = 0`,
    () => `UPDATE ${or()} c SET pid = ${orNull(12)} WHERE id = ${below(20)}`,
    () => `SELECT p.id, c.id, ck.v FROM p LEFT JOIN c ON c.pid = p.id LEFT JOIN ck ON ck.a = p.name ORDER BY 1, 2, 3`,
  ];
  return () => pick(makers)();
}

/** DDL among them, with the statements that need it. */
function ddlGenerator(seed: number): () => string {
  const random = seededRandom(seed);
  const below = (limit: number): number => random.integer(limit);
  const makers: readonly (() => string)[] = [
    () => "CREATE UNIQUE INDEX IF NOT EXISTS cv ON c(v)",
    () => "DROP INDEX IF EXISTS cv",
    () => "CREATE TABLE xt(id INTEGER PRIMARY KEY, p INT REFERENCES p(id) ON DELETE CASCADE, u UNIQUE)",
    () => "CREATE TABLE IF NOT EXISTS xt(id INTEGER PRIMARY KEY, t INT REFERENCES tree(id) DEFERRABLE INITIALLY DEFERRED, u)",
    () => "DROP TABLE IF EXISTS xt",
    () => `INSERT OR REPLACE INTO xt VALUES (${below(9)}, ${below(12)}, ${below(5)})`,
    () => `INSERT INTO xt SELECT id + ${below(9)}, id, v FROM p`,
    () => `UPDATE xt SET u = u + 1`,
    () => `ALTER TABLE tree ADD COLUMN z${below(2)} DEFAULT ${below(9)}`,
    () => `ALTER TABLE tree DROP COLUMN z${below(2)}`,
    () => `ALTER TABLE tree RENAME COLUMN z0 TO z${below(3)}`,
    () => `UPDATE tree SET z${below(2)} = id * 2 WHERE id % 2 = 0`,
    () => "ALTER TABLE xt RENAME TO xu",
    () => "ALTER TABLE xu RENAME TO xt",
    () => "DROP TABLE xu",
    () => "CREATE TABLE xu AS SELECT id, up AS y FROM tree",
    () => `CREATE TRIGGER IF NOT EXISTS xg AFTER INSERT ON tree BEGIN INSERT INTO log VALUES ('t' || new.id); END`,
    () => "DROP TRIGGER IF EXISTS xg",
    () => "DROP TABLE tree",
    () => "DELETE FROM tree",
  ];
  return () => (makers[below(makers.length)] as () => string)();
}

interface PlainAnswer {
  readonly rows: readonly (readonly SqlValue[])[];
  readonly code: string | null;
}

function runPlain(database: Database, sql: string): PlainAnswer {
  try {
    const statement = database.prepare<[], SqlValue[]>(sql);
    if (statement.reader) return { rows: statement.raw().all(), code: null };
    statement.run();
    return { rows: [], code: null };
  } catch (error) {
    return { rows: [], code: (error as { code: string }).code };
  }
}

const tables: Readonly<Record<string, string>> = {
  p: "id",
  c: "id",
  cn: "id",
  cd: "id",
  ck: "a, b",
  ckc: "id",
  gen: "id",
  ex: "id",
  tree: "id",
  dn: "id",
};
const stateQueries = [
  ...Object.entries(tables).map(([name, key]) => `SELECT * FROM ${name} ORDER BY ${key}`),
  "SELECT rowid, x, y FROM norow ORDER BY rowid",
  "SELECT x FROM log ORDER BY x",
];

function plainDatabase(): Database {
  const plain = new Sqlite(":memory:");
  plain.defaultSafeIntegers(true);
  for (const sql of schema) plain.exec(sql);
  return plain;
}

function expectSame(c: Cluster, plain: Database, context: string): void {
  for (const query of stateQueries) {
    const wanted = plain.prepare<[], SqlValue[]>(query).raw().all();
    expect(c.rows(0, query), `engine 0: ${query} ${context}`).toEqual(wanted);
    expect(c.rows(1, query), `engine 1: ${query} ${context}`).toEqual(wanted);
  }
}

describe("random statements", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    test(`seed ${seed}: each on its own equals plain SQLite`, { timeout: 60_000 }, () => {
      const c = new Cluster(2);
      for (const sql of schema) c.sql(0, sql);
      const plain = plainDatabase();
      const next = generator(seed);
      const history: string[] = [];
      let errors = 0;
      for (let count = 0; count < 700; count++) {
        const sql = next();
        history.push(sql);
        // The other engine starts over, and pulls what it comes to need.
        if (count % 150 === 149) c.restart((count + 1) % 2);
        const wanted = runPlain(plain, sql);
        const [outcome] = c.run(count % 2, [step(sql)]).outcomes;
        const context = `at ${count}: ${sql}`;
        if (wanted.code !== null) errors++;
        expect(outcome?.kind === "error" ? outcome.fault.code : null, context).toBe(wanted.code);
        if (outcome?.kind === "ok") expect(outcome.result.rows, context).toEqual(wanted.rows);
        if (count % 20 === 0) expectSame(c, plain, `at ${count}: ${history.slice(-20).join("; ")}`);
      }
      expectSame(c, plain, "in the end");
      for (const space of [...c.schema.values()].filter((one) => one.object.type === "table").map((one) => one.object.space)) {
        const hashes = c.engines.map((engine) => engine.store.tableHash(space));
        expect(hashes[0]).not.toBeNull();
        expect(hashes[0]).toBe(hashes[1]);
      }
      expect(errors).toBeGreaterThan(30);
      c.close();
    });
  }

  for (const seed of [21, 22, 23, 24]) {
    test(`seed ${seed}: with DDL, in transactions and outside, equals plain SQLite`, { timeout: 60_000 }, () => {
      const c = new Cluster(2);
      for (const sql of schema) c.sql(0, sql);
      const plain = plainDatabase();
      const nextRow = generator(seed);
      const nextDdl = ddlGenerator(seed + 500);
      const random = seededRandom(seed + 1000);
      const history: string[] = [];
      for (let count = 0; count < 150; count++) {
        const inner = Array.from({ length: 1 + random.integer(6) }, () => {
          const choice = random.integer(12);
          return choice === 0 ? "SAVEPOINT s" : choice === 1 ? "ROLLBACK TO s" : choice < 8 ? nextDdl() : nextRow();
        });
        const batch =
          random.integer(3) === 0
            ? inner.filter((sql) => !sql.endsWith(" s"))
            : ["BEGIN", ...inner, random.integer(4) === 0 ? "ROLLBACK" : "COMMIT", "ROLLBACK"];
        history.push(batch.join("; "));
        const wanted = batch.map((sql) => runPlain(plain, sql));
        const { outcomes } = c.run(
          count % 2,
          batch.map((sql) => step(sql)),
        );
        const context = `at ${count}: ${history.slice(-4).join(" | ")}`;
        expect(
          outcomes.map((one) => (one.kind === "error" ? one.fault.code : null)),
          `${context} ${JSON.stringify(outcomes.flatMap((one) => (one.kind === "error" ? [one.fault.message] : [])))}`,
        ).toEqual(wanted.map((one) => one.code));
        const names = "SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY 1, 2";
        const objects = plain.prepare<[], SqlValue[]>(names).raw().all();
        for (const index of [0, 1]) {
          expect(c.rows(index, names), context).toEqual(objects);
          for (const [type, name] of objects) {
            if (type !== "table" || name === "norow" || name === "log") continue;
            const key = name === "ck" ? "a, b" : "id";
            const query = `SELECT * FROM ${String(name)} ORDER BY ${key}`;
            expect(c.rows(index, query), `engine ${index}: ${query} ${context}`).toEqual(plain.prepare<[], SqlValue[]>(query).raw().all());
          }
        }
        if (count % 50 === 49) c.restart((count + 1) % 2);
      }
      c.close();
    });
  }

  for (const seed of [11, 12, 13]) {
    test(`seed ${seed}: in transactions equals plain SQLite`, { timeout: 60_000 }, () => {
      const c = new Cluster(2);
      for (const sql of schema) c.sql(0, sql);
      const plain = plainDatabase();
      const next = generator(seed);
      const random = seededRandom(seed + 1000);
      for (let count = 0; count < 200; count++) {
        const inner = Array.from({ length: 1 + random.integer(7) }, () => {
          const choice = random.integer(9);
          return choice === 0 ? "SAVEPOINT s" : choice === 1 ? "ROLLBACK TO s" : choice === 2 ? "RELEASE s" : next();
        });
        const batch = ["BEGIN", ...inner, random.integer(5) === 0 ? "ROLLBACK" : "COMMIT"];
        const wanted = batch.map((sql) => runPlain(plain, sql));
        const { outcomes } = c.run(
          count % 2,
          batch.map((sql) => step(sql)),
        );
        const context = `at ${count}: ${batch.join("; ")}`;
        expect(
          outcomes.map((one) => (one.kind === "error" ? one.fault.code : null)),
          context,
        ).toEqual(wanted.map((one) => one.code));
        outcomes.forEach((one, index) => {
          if (one.kind === "ok") expect(one.result.rows, context).toEqual(wanted[index]?.rows);
        });
        expectSame(c, plain, context);
      }
      c.close();
    });
  }
});
