/** local-store.md, rules 22 and 23: rewritten INSERTs give the same rows, results and errors as plain SQLite's. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type InsertTable, rewriteInsertIds } from "../../../src/sql/parse/rewrite-insert-ids.js";
import { contents, defineNextId, lookupOf, openSqlite, outcome } from "./plain-sqlite.js";

const schema = `
create table t(id integer primary key, a, b default 'd');
create table n(a unique, b);
create table w(k primary key, v) without rowid;
create table src(x, y); insert into src values (3, 'c'), (1, 'a'), (2, 'b');
create table g(a, s generated always as (a || '!') stored, id integer primary key, v generated always as (a || '?'));
create table "q""t"("i""d" integer primary key, "select" text);
create table l(m);
create view vw as select * from t;
create table hid(rowid text, a);
create table hid2(rowid text, oid int, a);
create table none(rowid, oid, _rowid_);
create table "naïve 表"("größe" integer primary key, "ключ");
create table typed(id integer primary key, i int, r real, x text, n numeric, z blob);
create table desc_key(id integer primary key desc, a);
create table _s(c0, c1); insert into _s values ('underscore', 1);
create table single(id integer primary key);
create table begin(a, b);`;

const triggers = `
create trigger vwi instead of insert on vw begin insert into t(a) values (new.a); end;
create trigger tr after insert on t when new.a = 'T' begin insert into l values (new.id); insert into l(m) select x from src order by x desc; end;`;

/** Statements. "gaps:": ids are spent on rows that are not inserted, so that later ids differ from plain SQLite's. */
const forms = `
insert into t(a) values('x')
insert into t values(null,'x','y')
insert into t values(5,'x','y'),(null,'z','w')
insert into t values(null,'x','y'),(9,'z','w'),(null,1,2)
insert into t default values
insert into t default /* c */ values returning id, b
insert into "t"default values
insert into l default values
insert into t(a,b) select x,y from src order by x desc
insert into t select null,x,y from src order by y
insert into t(b,a) with q as (select * from src) select x,y from q where x>1 union all select 9,9
with q as (select 5 z) insert into t(a) select z from q returning *
with q(z) as (values (1),(2)) insert into t(a) values((select sum(z) from q)) returning id,a
insert into main.t as tt(a) values('é😀'),('b') on conflict(id) do update set a=tt.a||excluded.a returning id,a
insert into t as x values(null,1,2) returning id
gaps:insert or ignore into n values('k',1),('k',2),('j',3) returning a
insert into n(a) values('u') on conflict(a) do update set b=1
gaps:insert into n values('u',1),('u',2),('v',3) on conflict(a) do update set b=excluded.b+10 returning a,b
insert into n select x,y from src where true on conflict(a) do nothing
insert into n(a,b) select x,y from src where true on conflict(a) do update set b=n.b||excluded.b on conflict do nothing returning rowid,*
insert into n(rowid,a) values(null,'r'),(77,'s')
insert into n(_rowid_,a) select null,x from src
insert into n(OID,a) values(5,1),(null,2)
insert into w values('a',1)
insert into g values('x',null)
insert into g(a) select x from src order by x returning id,s,v
insert into g(id,a) values(null,1)
insert into "q""t" values(null,'e')
insert into [q"t]("select") values('e') returning "i""d"
insert into \`q"t\`(\`select\`) values('e'),(?)
insert into t(a) values('T'),('T')
insert into t(id) values('7')
insert into t(id,a) values(7.0,1),(null,2)
insert into t(id) values('abc')
insert into t(id) values(1.5)
insert into t(id) values(x'31')
insert into t(id) values(9223372036854775807)
insert into t(id) values(-5),(3),(null)
insert into t(id) values(0x10),(1_000),(null)
insert into t(id) values(?)
insert into t(id,a) values(?,?),(?2,?1)
insert into t(a,b) values(?,?)
insert into t(a) values((select max(x) from src)),(1+2),(lower('A')),(case when 1 then null end)
insert into t(a,b) values((select 1 where 2 in (1,2)),(3)),(coalesce(null,4),max(1,2,3))
replace into t(a) select x from src limit 2
replace into t(id,a) values(1,'one'),(1,'uno')
insert or replace into n values('k',1),('k',2)
insert or fail into n values('f',1),('f',2)
insert or abort into n values('f',1),('f',2)
insert into t(a) values(1) returning (select count(*) from t), id
insert into hid values('r',1),('s',2)
insert into hid2 values('r',1,2)
insert into hid2(_rowid_,a) values(null,2),(8,9)
insert into none values(1,2,3)
insert into t(rowid,a) values(null,1)
insert into t(rowid,id) values(null,4)
insert into t(a) select a from (values(1),(2)) where false
insert into t(a) values(1,2)
insert into t values(1)
insert into t(a) values(1),(2,3)
insert into t(nope) values(1)
insert into missing values(1)
insert into t(a) select distinct x%2 from src order by 1
insert into t(a) select x from src group by x having x>1 order by x desc limit 1 offset 0
insert into t(a,b) select x,y from src order by x desc limit 2 offset 1
insert into t(a) select sum(x) over (order by x) from src
insert into t(a) -- c
 values /* x */ (1 /* ) */) -- end
insert into t(a)values(1)
INSERT INTO T(A) VALUES(1) ON CONFLICT DO NOTHING
insert into t(a) values(1) on conflict(id) where id > 0 do update set a=2 where a=3 returning *
insert into t(a) select a from t union all select x from src
insert into t select null, x, (select max(id) from t) from src
insert into t(a) values(')'),('('),(',')
insert into t(a,b) values("x",1)
insert into "naïve 表"("ключ") values('ы'),('щ') returning "größe"
insert into [naïve 表] select null, y from src order by y desc
insert into typed(i,r,x,n,z) values('1','2',3,'4.0','5') returning id,typeof(i),typeof(r),typeof(x),typeof(n),typeof(z)
insert into typed select null,'1','2',3,'4.0','5' union all select null,1.0,2,3.5,x'00',6 returning id,typeof(i),typeof(r),typeof(x),typeof(n),typeof(z)
insert into desc_key(a) values(1),(2)
insert into _s select * from _s
insert into t(a,b) with _s as (select 1 p, 2 q) select p,q from _s
insert into t(a) select c0 from _s as _s_
insert into single values(null),(null)
insert into single select null from src
insert into single default values returning *
insert into begin values(1,2)
insert into t(a) values(1) union all values(2)
insert into t(a) values(1),(2) union select 3 order by 1 desc
insert into t values(null,1,2) on conflict(rowid) do nothing
insert into t(a) select x from src where x in (select x from src limit 2) returning id as "the id", a
insert into t(a) select json_group_array(x) from src
insert into t(a) select value from json_each('[1,"two",null]')
insert into t(a,a,b,[a]) values(1,2,3,4),(5,6,7,8)
insert into t(id,"ID") values(1,2),(null,4),(3,null)
insert into t(b,b) select x,y from src
with recursive c(x) as (values(1) union all select x+1 from c where x<5) insert into t(a) select x from c`;

const cases = forms
  .trim()
  .split(/\n(?! )/)
  .map((line) => ({ gaps: line.startsWith("gaps:"), sql: line.replace(/^gaps:/, "") }));

function pair(withTriggers: boolean) {
  const plain = openSqlite(schema);
  const rewritten = openSqlite(schema);
  const lookup = lookupOf(rewritten);
  const ids = defineNextId(rewritten);
  if (withTriggers) {
    for (const trigger of triggers.trim().split("\n")) {
      plain.exec(trigger);
      rewritten.exec(rewriteInsertIds(trigger, lookup));
    }
  }
  return { plain, rewritten, lookup, ids };
}

describe("every form gives what plain SQLite gives, thrice in a row", () => {
  for (const withTriggers of [false, true]) {
    test.each(cases)(`$sql (triggers: ${withTriggers})`, ({ sql, gaps }) => {
      const { plain, rewritten, lookup, ids } = pair(withTriggers);
      const text = rewriteInsertIds(sql, lookup);
      const positional = Array.from({ length: sql.includes("?2") ? 0 : sql.split("?").length - 1 }, (_, index) => (index === 0 ? null : `p${index}`));
      for (let round = 0; round < 3; round += 1) {
        ids.beginStatement();
        expect(outcome(rewritten, text, positional)).toEqual(outcome(plain, sql, positional));
        if (gaps) expect(withoutIds(rewritten)).toEqual(withoutIds(plain));
        else expect(contents(rewritten)).toEqual(contents(plain));
      }
    });
  }
});

function withoutIds(database: Parameters<typeof contents>[0]) {
  return contents(database).map(([name, rows]) => [name, rows.map((row) => row.slice(1))]);
}

test("every form that fills an id calls _nid, and no other does", () => {
  const { lookup } = pair(false);
  const untouched = cases.map(({ sql }) => sql).filter((sql) => rewriteInsertIds(sql, lookup) === sql);
  expect(untouched).toEqual([
    "insert into w values('a',1)",
    "insert into t(id) values('7')",
    "insert into t(id) values('abc')",
    "insert into t(id) values(1.5)",
    "insert into t(id) values(x'31')",
    "insert into t(id) values(9223372036854775807)",
    "replace into t(id,a) values(1,'one'),(1,'uno')",
    "insert into none values(1,2,3)",
    "insert into t(a) values(1,2)",
    "insert into t values(1)",
    "insert into t(a) values(1),(2,3)",
    "insert into missing values(1)",
  ]);
});

describe("the text that comes out", () => {
  const table: InsertTable = { tableNumber: 3, idColumn: "id", insertableColumns: ["id", "a"], allColumns: ["id", "a"] };
  const hidden: InsertTable = { tableNumber: 4, idColumn: "rowid", insertableColumns: ["a", 'b"'], allColumns: ["a", 'b"'] };
  const lookup = (name: string) => (name.toLowerCase() === "t" ? table : name === "h" ? hidden : null);
  test.each([
    ["insert into t(a) values(?)", 'insert into t(a,"id")  select ?,_nid(3) where true'],
    ["insert into t values(?, 1)", "insert into t  select coalesce(?,_nid(3)), 1 where true"],
    ["insert into t values(7, 1)", "insert into t values(7, 1)"],
    ["insert into h values(1, 2)", 'insert into h("a","b""","rowid")  select 1, 2,_nid(4) where true'],
    ["insert into t default values;", 'insert into t ("id") select _nid(3);'],
    ["insert into t(a) select 1;", 'insert into t(a,"id") with _s(c0) as (select 1) select c0,_nid(3) from _s where true;'],
    ["insert into temp.t(a) values(1)", "insert into temp.t(a) values(1)"],
    ["explain insert into t(a) values(1)", "explain insert into t(a) values(1)"],
    ["insert into v(a) values(1)", "insert into v(a) values(1)"],
    ["update t set a = 1", "update t set a = 1"],
    ["insert into t(a) values(", "insert into t(a) values("],
  ])("%s", (sql, expected) => {
    expect(rewriteInsertIds(sql, lookup)).toBe(expected);
  });
});

const name = fc.constantFrom("t", "T", '"t"', "[t]", "main.t", "`t`", "t as alias");
const blankArbitrary = fc.constantFrom(" ", "\n", "/* ; ) select */", " -- values (\n", "\t ");
const value = fc.constantFrom(
  "1",
  "'it''s'",
  "null",
  "x'00ff'",
  "(select 1)",
  "1+2",
  "max(1,2)",
  "case when 1 then 'a' else 'b' end",
  "-1.5",
  '(("x"))',
  "(1)",
);
const columnsArbitrary = fc.constantFrom(["a"], ["b", "a"], ["id", "a"], ["a", "rowid"], null);

const insertArbitrary = fc
  .record({
    name,
    columns: columnsArbitrary,
    rows: fc.integer({ min: 1, max: 4 }),
    values: fc.array(value, { minLength: 12, maxLength: 12 }),
    blank: blankArbitrary,
  })
  .chain((shape) => {
    const width = shape.columns?.length ?? 3;
    const idAt = shape.columns === null ? 0 : shape.columns.findIndex((column) => column === "id" || column === "rowid");
    const rows = Array.from({ length: shape.rows }, (_, row) =>
      Array.from({ length: width }, (_, column) => (column === idAt ? "null" : (shape.values[row * 3 + column] ?? "1"))),
    );
    const withoutNames = rows.map((row) => row.map((one) => one.replace('(("x"))', "(('x'))")));
    const b = shape.blank;
    const list = shape.columns === null ? "" : `(${b}${shape.columns.join(`${b},${b}`)}${b})`;
    const head = `insert${b}into ${shape.name}${b}${list}${b}`;
    const tail = fc.constantFrom(
      "",
      " on conflict do nothing",
      " on conflict(id) do update set a = excluded.a",
      " returning id, a, b",
      " on conflict do nothing returning *",
    );
    const bodies = fc.constantFrom(
      `values${b}${withoutNames.map((row) => `(${row.join(`${b},${b}`)}${b})`).join(b === " " ? "," : `${b},${b}`)}`,
      withoutNames.map((row) => `select ${row.join(",")}`).join(" union all "),
      `select * from (${withoutNames.map((row) => `select ${row.join(",")}`).join(" union all ")})${b}where true`,
      `with z as materialized (values ${withoutNames.map((row) => `(${row.join(",")})`).join(",")}) select * from z where${b}true`,
    );
    return fc.tuple(bodies, tail).map(([body, end]) => `${head}${body}${/^select [^*]*$/.test(body) && end.startsWith(" on") ? "" : end}`);
  });

test("random INSERTs give what plain SQLite gives", () => {
  const accepted = { count: 0 };
  fc.assert(
    fc.property(insertArbitrary, (sql) => {
      const { plain, rewritten, lookup, ids } = pair(false);
      ids.beginStatement();
      const expected = outcome(plain, sql);
      expect(outcome(rewritten, rewriteInsertIds(sql, lookup))).toEqual(expected);
      expect(contents(rewritten)).toEqual(contents(plain));
      if (typeof expected === "object" && expected !== null && !("error" in expected)) accepted.count += 1;
    }),
    { seed: 22, numRuns: 300 },
  );
  expect(accepted.count).toBeGreaterThan(200);
});
