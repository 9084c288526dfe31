/** Statements with ticks beside those without, and what becomes of one that is ended. */
import Sqlite, { type Database } from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import { isFault, parseStatement } from "../../src/sql/parse/sqlite-grammar.js";
import type { TickedSource } from "../../src/sql/parse/tick-places.js";
import { type StatementWatch, tooLongFault } from "../../src/sql/statement-watch.js";
import { tickedStatement } from "../../src/sql/ticked-statement.js";
import { makeCase } from "../differential/case-maker.js";
import { Cluster, step } from "./store-harness.js";

/** Plain SQLite with `_tick`. */
function openPlain(): { readonly database: Database; readonly source: TickedSource; ticks: number } {
  const database = new Sqlite(":memory:").defaultSafeIntegers(true);
  const source: TickedSource = {
    table(name) {
      const isTable = database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE").get(name) !== undefined;
      const columns = database.prepare<[string], { name: string; pk: bigint }>("SELECT name, pk FROM pragma_table_info(?)").all(name);
      const key = columns.find(({ pk }) => pk === 1n)?.name ?? "rowid";
      return isTable && columns[0] !== undefined ? { key: `"${key}"`, first: `"${columns[0].name}"` } : null;
    },
    view(name) {
      const sql = database
        .prepare<[string], string>("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = ? COLLATE NOCASE")
        .pluck()
        .get(name);
      const parsed = sql === undefined ? null : parseStatement(sql);
      if (parsed === null || isFault(parsed) || parsed.root.type !== "CreateViewStmt") return null;
      return { columns: parsed.root.columns?.map(({ colName }) => colName.text) ?? null, select: parsed.root.select };
    },
  };
  const plain = { database, source, ticks: 0 };
  const tick = (): number => {
    plain.ticks++;
    return 1;
  };
  database.function("_tick", tick);
  database.function("_tick", (_column: unknown) => tick());
  return plain;
}

function answer(database: Database, sql: string, args: readonly SqlValue[]): unknown {
  try {
    const statement = database.prepare<unknown[], SqlValue[]>(sql);
    return statement.reader ? statement.raw().all(...args) : statement.run(...args);
  } catch (error) {
    // Also what better-sqlite3 says of parameters: some statements have names.
    return error instanceof Error ? error.message : error;
  }
}

const values: readonly SqlValue[] = [null, 1n, 2n, 5n, 10n, 2.5, "a", "b", "A", "10"];

/** Most random conditions hold for few rows of many: each table has some. */
function fill(database: Database, random: Random): void {
  const names = database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").pluck().all();
  for (const name of names) {
    const columns = database.prepare<[string], string>("SELECT name FROM pragma_table_info(?)").pluck().all(name);
    if (Number(database.prepare(`SELECT count(*) FROM "${name}"`).pluck().get()) > 10) continue;
    const list = columns.map((column) => `"${column}"`).join(", ");
    const insert = `INSERT OR IGNORE INTO "${name}"(${list}) VALUES (${columns.map(() => "?").join(", ")})`;
    for (let row = 0; row < 15; row++)
      answer(
        database,
        insert,
        columns.map(() => values[random.integer(values.length)] ?? null),
      );
  }
}

test("random queries give the same rows in the same order", () => {
  let spliced = 0;
  let rows = 0;
  for (let seed = 1; seed <= 100; seed++) {
    const plain = openPlain();
    const { database, source } = plain;
    const random = seededRandom(seed);
    let id = 0n;
    database.function("_told", (_n: unknown) => ++id);
    for (const event of makeCase(seed).events) {
      if (event.kind !== "run" && event.kind !== "request") continue;
      for (const { sql, told, args } of event.statements) {
        const text = told?.sql ?? sql;
        const before = plain.ticks;
        if (/^\s*(select|with|values)\b/i.test(text) && !/random/i.test(text)) {
          let ticked = text;
          try {
            database.prepare(text);
            ticked = tickedStatement(database, text, args, source);
          } catch {
            // It does not prepare without ticks either.
          }
          const expected = answer(database, text, args);
          expect(plain.ticks).toBe(before);
          expect(answer(database, ticked, args), ticked).toEqual(expected);
          if (ticked !== text) spliced++;
          if (ticked !== text && Array.isArray(expected)) rows += expected.length;
        } else {
          answer(database, text, args);
          fill(database, random);
        }
      }
    }
    database.close();
  }
  expect(spliced).toBeGreaterThan(200);
  expect(rows).toBeGreaterThan(300);
});

const schema = [
  "create table a(id integer primary key, x, y)",
  "create table b(id integer primary key, x, y)",
  "create index bx on b(x)",
  "create table w(k text primary key, x) without rowid",
  "create view v as select x, y from a",
  "insert into a select value, value % 7, value % 11 from json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')",
  "insert into b select id, y, x from a",
  "insert into w select 'k' || id, x from a",
];

describe("forms", () => {
  test.each([
    // The rows of each are those that are ticked, at least.
    ["a cross join", "select count(*) from a, b, w", 400],
    ["a join by an index", "select a.id, b.id from a join b on b.x = a.y", 20],
    ["a left join", "select * from a left join b on a.x = b.x and b.y = 3", 20],
    ["a left join of nothing", "select * from a left join b on 0 left join w on w.x = a.x", 20],
    ["a right join", "select * from a right join b on a.x = b.x and b.y = 3", 20],
    ["a full join", "select * from a full join b on a.x = b.x and b.y = 3", 20],
    ["a correlated subquery", "select (select count(*) from b where b.y < a.y + 0) from a", 20],
    ["EXISTS", "select * from a where exists (select 1 from b where b.x = a.x)", 20],
    ["views", "select count(*) from v, v q, a", 400],
    ["a subquery in FROM", "select count(*) from (select x from a group by x) q, a", 7],
    ["a recursion", "with r(i) as (select 1 union all select i + 1 from r where i < 50) select sum(i) from r", 50],
    ["a recursion that is cut", "with r(i) as (select 1 union all select i + 1 from r limit 50) select sum(i) from r", 49],
    ["a recursion that joins", "with r(i) as (select 1 union select a.id + r.i from r, a, b where r.i < 9) select count(*) from r", 20],
    ["OR over an index", "select a.id from a, b where b.x = 1 or b.id = 2", 20],
    ["an aggregate", "select a.x, count(*) from a, b group by a.x having count(*) > 1 order by 2 desc", 20],
    ["UPDATE by a subquery", "update a set x = (select count(*) from b where b.y > a.y)", 20],
    ["UPDATE … FROM", "update a set x = b.y from b, w where b.x = a.y", 20],
    ["DELETE by a subquery", "delete from a where exists (select 1 from b where b.y = a.y + 100)", 20],
    ["INSERT … SELECT", "insert into b(x) select a.x from a, w", 20],
  ])("%s", (_, sql, ticksMin) => {
    const answers = [true, false].map((isTicked) => {
      const plain = openPlain();
      for (const one of schema) plain.database.exec(one);
      const text = isTicked ? tickedStatement(plain.database, sql, [], plain.source) : sql;
      expect(text !== sql).toBe(isTicked);
      const told = answer(plain.database, text, []);
      expect(plain.ticks).toBeGreaterThanOrEqual(isTicked ? ticksMin : 0);
      return [told, answer(plain.database, "select * from a", []), answer(plain.database, "select * from b", [])];
    });
    expect(answers[0]).toEqual(answers[1]);
  });

  test("a term that changes the plan is left out, and the others stay", () => {
    const { database, source } = openPlain();
    for (const one of schema) database.exec(one);
    // SQLite leaves the join out where nothing asks for its columns.
    expect(tickedStatement(database, "select a.id from a left join b on a.id = b.id", [], source)).toMatch(/_tick\("a"/);
    const joined = tickedStatement(database, "select a.id from a left join b on a.id = b.id, w, w z", [], source);
    expect(joined).toMatch(/_tick\("a"/);
    expect(joined).toMatch(/_tick\("w"/);
    expect(joined).not.toMatch(/_tick\("b"/);
    // An index answers it without a list.
    const listed = "select x from a where x in (select x from b)";
    expect(tickedStatement(database, listed, [], source)).toBe(listed);
  });
});

/** Ends a statement after so many ticks. */
function openLimited(max: number): { readonly cluster: Cluster; count: number } {
  const limited = { count: 0 };
  const watch: StatementWatch = {
    begin() {
      limited.count = 0;
    },
    look: () => (++limited.count > max ? tooLongFault(`${max} ticks`) : null),
  };
  const cluster = new Cluster(1, [], watch);
  return Object.assign(limited, { cluster });
}

const runaway = "with recursive r(i) as (select 1 union all select i + 1 from r)";

describe("a statement that is ended", () => {
  test.each([
    ["a recursion", `${runaway} select count(*) from r`],
    ["a recursion whose rows are told", `${runaway} select i from r`],
    ["a cross join", "select count(*) from t a, t b, t c, t d, t e, t f"],
    ["what is inserted", `insert into t(id, v) ${runaway} select i + 100, i from r`],
    ["what is inserted, or fails", `insert or fail into t(id, v) ${runaway} select i + 100, i from r`],
    ["what is updated", `update t set v = (${runaway} select count(*) from r)`],
    ["what is deleted", `delete from t where v in (${runaway} select i from r)`],
    ["a table that is made of it", `create table u as ${runaway} select i from r`],
    ["the schema's own tables", `${runaway} select count(*) from r, sqlite_schema`],
  ])("leaves nothing behind: %s", (_, sql) => {
    const limited = openLimited(1000);
    const { cluster } = limited;
    cluster.sql(0, "create table t(id integer primary key, v)");
    cluster.sql(0, "insert into t(v) values (1), (2), (3), (4), (5), (6)");
    const before = cluster.log.length;
    expect(cluster.fault(0, sql)).toMatchObject({ code: "SQLITE_INTERRUPT", message: expect.stringContaining("--statement-timeout") });
    expect(limited.count).toBe(1001);
    expect(cluster.log).toHaveLength(before);
    expect(cluster.rows(0, "select count(*) from t")).toEqual([[6n]]);
    expect(cluster.rows(0, "select name from sqlite_schema")).toEqual([["t"]]);
    cluster.sql(0, "insert into t(v) values (7)");
    expect(cluster.rows(0, "select count(*), max(v) from t")).toEqual([[7n, 7n]]);
    cluster.close();
  });

  test("is undone alone within a transaction, and does not run again for what it lacks", () => {
    const { cluster } = openLimited(1000);
    cluster.sql(0, "create table p(id integer primary key, u unique)");
    cluster.sql(0, "create table t(id integer primary key, p references p(id))");
    cluster.sql(0, "insert into p values (1, 1)");
    const { outcomes } = cluster.run(0, [
      step("begin"),
      step("insert into t values (1, 1)"),
      step(`insert into t(id, p) ${runaway} select i + 100, 1 from r`),
      step("insert into t values (900000, 1)"),
      step("commit"),
    ]);
    expect(outcomes.map((outcome) => (outcome.kind === "error" ? outcome.fault.code : outcome.kind))).toEqual([
      "ok",
      "ok",
      "SQLITE_INTERRUPT",
      "ok",
      "ok",
    ]);
    expect(cluster.rows(0, "select id from t")).toEqual([[1n], [900000n]]);
    // The rows that it changes are pulled first; what the key of one of them would meet is not looked for any more.
    cluster.restart(0);
    const pulls = cluster.pulls;
    const sql = `update or replace t set id = case id when 1 then 500 else (${runaway} select count(*) from r) end where id in (1, 900000)`;
    expect(cluster.fault(0, sql).code).toBe("SQLITE_INTERRUPT");
    expect(cluster.pulls).toBe(pulls + 1);
    cluster.close();
  });
});

test("statements without ticks are asked for nothing while they run: those of bench/local-store.ts, and a scan", () => {
  let looks = 0;
  let begun = 0;
  const watch: StatementWatch = {
    begin: () => void begun++,
    look: () => {
      looks++;
      return null;
    },
  };
  const cluster = new Cluster(1, [], watch);
  const statements = [
    "create table t(id integer primary key, name text, v int)",
    "insert into t(id, name, v) values (1, 'a', 1), (2, 'b', 2)",
    "select * from t where id = 1",
    "select count(*), max(v) from t where name like '%a%'",
    "update t set v = v + 1 where id = 2",
    "delete from t where id = 1",
  ];
  for (const sql of statements) cluster.sql(0, sql);
  expect([begun, looks]).toEqual([statements.length, 0]);
  expect(cluster.rows(0, "select count(*) from t a, t b")).toEqual([[1n]]);
  expect(looks).toBeGreaterThan(0);
  cluster.close();
});
