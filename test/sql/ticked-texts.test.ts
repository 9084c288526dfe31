/** What loops in the text of a view or a trigger alone is ended, and these are what they were. */
import Sqlite from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { type StatementWatch, tooLongFault } from "../../src/sql/statement-watch.js";
import { tickedText } from "../../src/sql/ticked-texts.js";
import { Cluster, step } from "./store-harness.js";

/** Ends a statement after so many ticks. */
function openLimited(max: number): Cluster {
  let count = 0;
  const watch: StatementWatch = {
    begin() {
      count = 0;
    },
    look: () => (++count > max ? tooLongFault(`${max} ticks`) : null),
  };
  const cluster = new Cluster(1, [], watch);
  cluster.sql(0, "create table t(id integer primary key, v)");
  cluster.sql(0, "create table u(id integer primary key, v)");
  cluster.sql(0, "create table log(v)");
  cluster.sql(0, "insert into t(v) values (1), (2), (3), (4), (5), (6)");
  return cluster;
}

const runaway = "with recursive r(i) as (select 1 union all select i + 1 from r)";
const product = "t a, t b, t c, t d, t e where a.id + b.id + c.id + d.id + e.id >= 0";

describe("is ended, and leaves nothing behind", () => {
  test.each([
    ["a view that recurs", [`create view w as ${runaway} select i from r`], "select count(*) from w"],
    ["a view of a view that recurs", [`create view w as ${runaway} select i from r`, "create view x as select i from w"], "select count(*) from x"],
    ["a view that joins", [`create view w as select a.v from ${product}`], "select count(*) from w"],
    [
      "a trigger that recurs",
      [`create trigger g after insert on u begin insert into log ${runaway} select i from r; end`],
      "insert into u(v) values (1)",
    ],
    [
      "a trigger's condition that recurs",
      [`create trigger g after insert on u begin delete from t where v < (${runaway} select count(*) from r where i > new.v); end`],
      "insert into u(v) values (1)",
    ],
    [
      "a trigger's WHEN that recurs",
      [`create trigger g after insert on u when new.v < (${runaway} select count(*) from r where i > new.id) begin insert into log values (1); end`],
      "insert into u(v) values (1)",
    ],
    [
      "a trigger that joins",
      [`create trigger g after insert on u begin insert into log select a.v + new.v from ${product}; end`],
      "insert into u(v) values (1)",
    ],
    [
      "a trigger that updates from a join",
      ["create trigger g after insert on u begin update t set v = a.v from t a, t b, t c, t d where t.id = a.id + b.id + c.id + d.id; end"],
      "insert into u(v) values (1)",
    ],
    [
      "a view's trigger",
      ["create view w as select v from t", `create trigger g instead of insert on w begin insert into log ${runaway} select i from r; end`],
      "insert into w values (1)",
    ],
  ])("%s", (_, schema, sql) => {
    // Few: ids come by eight here.
    const cluster = openLimited(60);
    for (const one of schema) cluster.sql(0, one);
    const before = cluster.log.length;
    const told = (): unknown => ["t", "u", "log"].map((table) => cluster.rows(0, `select * from ${table}`));
    const rows = told();
    expect(cluster.fault(0, sql)).toMatchObject({ code: "SQLITE_INTERRUPT", message: expect.stringContaining("--statement-timeout") });
    // Also where the schema was taken over from others.
    cluster.restart(0);
    expect(cluster.fault(0, sql).code).toBe("SQLITE_INTERRUPT");
    expect(cluster.log).toHaveLength(before);
    expect(told()).toEqual(rows);
    // Their texts are their users'.
    expect(cluster.rows(0, "select sql from sqlite_schema where type in ('view', 'trigger') order by rowid").flat().map(String).join()).toBe(
      schema.map((one) => one.replace(/^create (view|trigger)/, (_all, kind: string) => `CREATE ${kind.toUpperCase()}`)).join(),
    );
    cluster.close();
  });

  test.each([["view"], ["trigger"]])("a comment before the CREATE of a %s takes nothing from it", (kind) => {
    const cluster = openLimited(60);
    const [made, sql] =
      kind === "view"
        ? [`-- by hand\ncreate view w as ${runaway} select i from r`, "select count(*) from w"]
        : [`/* by hand */ create trigger g after insert on u begin insert into log ${runaway} select i from r; end`, "insert into u(v) values (1)"];
    cluster.sql(0, made as string);
    expect(cluster.fault(0, sql as string).code).toBe("SQLITE_INTERRUPT");
    cluster.close();
  });

  test("triggers that fire for each row of a statement, and of each other", () => {
    const cluster = openLimited(100);
    cluster.sql(0, "insert into u select id + 10 * (v % 2), v from t");
    for (let round = 0; round < 5; round++) cluster.sql(0, `insert into u(id, v) select id + ${1000 * (round + 1)}, v from u where id < 1000`);
    cluster.sql(0, "create trigger g after update on u begin insert into log values (new.v); end");
    expect(cluster.rows(0, "update u set v = 0 where id < 1000 returning 1")).toHaveLength(6);
    for (let round = 0; round < 4; round++) cluster.sql(0, `insert into u(id, v) select id + ${100_000 * (round + 1)}, v from u where id < 100000`);
    expect(cluster.fault(0, "update u set v = v + 1").code).toBe("SQLITE_INTERRUPT");
    expect(cluster.rows(0, "select count(*) from log")).toEqual([[6n]]);
    cluster.close();
  });
});

describe("texts", () => {
  const database = new Sqlite(":memory:");
  for (const arity of [0, 1]) database.function("_tick", { varargs: false }, arity === 0 ? () => 1 : (_column: unknown) => 1);
  for (const name of ["a", "b", "c"]) database.exec(`create table ${name}(id integer primary key, x, y unique); create index ${name}x on ${name}(x)`);

  test.each([
    ["create view v as select * from a", null],
    ["create view v as select a.x, b.x from a left join b on b.y = a.x", /where likelihood\(_tick\("a"\."x"\),1\.0\)$/i],
    // SQLite leaves a join out whose columns nobody asks for: its term would keep it.
    ["create view v as select a.x, b.x, c.x from a left join b on b.y = a.x left join c on c.y = a.x", /_tick\("a"(?!.*_tick\("[bc]")/],
    ["create view v(p, q) as select a.x, b.y from a, b where a.x > b.x -- all", /WHERE|where.*_tick\("a"\."x"\).* -- all$/],
    ["create view v as select x from a where y + 0 in (select x from b)", null],
    // Which of the two tables has x and y, only the schema of the day says.
    ["create view v as select 1 from a, b where a.id", /_tick\("a"\."id"\)(?!.*"b"\.)/],
    ["create view v as select absent from missing, a where missing.x = a.x", null],
    ["create view v as with r(i) as (select 1 union all select i + 1 from r, missing) select i from r", /_tick\(\)/],
    ["create trigger g after insert on a begin insert into b(x) values (new.x); update b set x = old.y where id = new.id; end", null],
    // An index answers it without a list.
    ["create trigger g after insert on a begin update b set x = 1 where x + 0 in (select y from c) and id > new.x; end", null],
    [
      "create trigger g after insert on a begin select raise(abort, 'no (') from b, c where b.x = new.x and c.x = b.y; end",
      /from b, c where likelihood\(_tick\("b"\."\w"\),1\.0\) AND \( b\.x = new\.x and c\.x = b\.y\); end$/,
    ],
    ["create table t as select 1 from a, b", null],
  ])("%s", (sql, expected) => {
    const text = tickedText(database, sql);
    if (expected === null) expect(text).toBe(sql);
    else expect(text).toMatch(expected);
    if (!/missing/.test(sql) && !/old\.y/.test(sql)) database.exec(`savepoint s; ${text}\n; rollback to s; release s`);
  });
});

test("what they name may be renamed, dropped and made anew, as in SQLite", () => {
  const cluster = new Cluster(2);
  for (const sql of [
    "create table a(id integer primary key, x)",
    "create table b(id integer primary key, x)",
    "create view v as select a.x, b.x as y from a join b on a.x = b.x",
    "create trigger g after insert on a begin update b set x = a.x from a, b other where b.id = a.id and other.id = new.id; end",
    "insert into b values (1, 1)",
    "insert into a values (1, 5)",
    "alter table a rename to c",
    "alter table c rename column x to z",
  ])
    cluster.sql(0, sql);
  expect(cluster.rows(1, "select * from v")).toEqual([[5n, 5n]]);
  cluster.sql(1, "insert into c values (2, 6)");
  expect(cluster.rows(0, "select * from v")).toEqual([[5n, 5n]]);
  const anew = [
    "begin",
    "create table d as select * from c",
    "drop table c",
    "create table c(k integer primary key, z, x)",
    "insert into c select *, 0 from d",
    "commit",
  ];
  const { outcomes } = cluster.run(
    1,
    anew.map((sql) => step(sql)),
  );
  expect(outcomes.flatMap((outcome) => (outcome.kind === "error" ? [outcome.fault] : []))).toEqual([]);
  expect(cluster.rows(0, "select * from v")).toEqual([[5n, 5n]]);
  cluster.close();
});
