/** The parser against SQLite itself: what SQLite takes is taken, what it refuses is refused, and all but always with its message. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isFault, kinds, parseStatement, tokensOf, walk } from "../../../src/sql/parse/sqlite-grammar.js";
import { openSqlite } from "./plain-sqlite.js";

const columns = [
  "a",
  "b",
  "c",
  "d",
  "x",
  "filter",
  "over",
  "window",
  '"begin"',
  '"end"',
  '"key"',
  '"replace"',
  '"if"',
  '"no"',
  '"of"',
  '"row"',
  "materialized",
];
const tables = ["t", "u", "l", "p", "t1", "t2", "t3", "t4", "temp", "begin"];
const database = openSqlite(tables.map((table) => `create table "${table}"(${columns.join(",")});`).join(""));

/** Every production that a client is likely to send. */
const statements = `
select a, b as "x y", count(*) c from t1 as u left join t2 using(a) natural join t3 cross join t4 on u.b = t4.c where a in (1,2,?) and not exists (select 1) group by a having count(*) > 1 order by 1 desc nulls last limit 3 offset 4
insert or replace into main.t as x (a, b) values (1, 'x'), (null, x'00') on conflict (a) where b do update set (a, b) = (1, 2), c = excluded.c where 1 on conflict do nothing returning *, a as b
with recursive c(x) as materialized (values (1) union all select x + 1 from c) update or fail t not indexed set a = b from c where a = x returning a order by b limit 1
delete from t not indexed where a between 1 and 2 or b like 'x' escape '!' and c is not distinct from d order by a, b limit 5
create table if not exists n (id integer primary key asc on conflict fail autoincrement, a varchar(10, 2) not null default (1 + 2) collate nocase check (a > 0), b generated always as (a) stored unique, constraint f foreign key (a) references p (b) match full on delete set null deferrable initially deferred) strict
create trigger if not exists tr before update of a, b on t for each row when new.a is null begin insert into l select new.a on conflict do nothing; update t set a = 1 where b; delete from u; select case when 1 then raise(abort, 'x') end; end
create unique index i on t (a collate nocase desc, lower(b)) where a is not null
alter table t add column z int not null default -1 references p on update cascade
alter table t rename column a to z
select sum(a) filter (where b) over (w rows between unbounded preceding and 1 following exclude ties), first_value(b) over (partition by c order by d) from t window w as (partition by a)
select cast(a as numeric(1)), -b, ~c, a || b ->> '$.x', a << 1, a == b, a <> c, :p, @q, $r, ?5, case a when 1 then 2 else 3 end, (1, 2) = (3, 4), a isnull, b notnull, c not null, d glob 'x', 1e5, 0x1F, 1_000, .5 from (select 1 from t) as s, t
create view v (a, b) as select 1, 2 union select 3, 4 intersect values (5, 6) except select a, b from t
explain query plan select 1
begin immediate transaction
rollback to savepoint a
savepoint begin
drop table if exists main.t
reindex t
select begin, end, key, replace(if, no, of), row from begin, temp trigger where begin.a = desc
select a from t order by a collate nocase asc nulls first, b limit 1, 2
insert into t default values returning rowid
select filter, over, window, t.filter, max(over) filter (where filter) over (partition by over), count(*) over window from t where window > filter window window as (order by over)
select a filter, b over, c window from t as filter, t1 as over, t2 window
create table n(window int, filter text, over int)
insert into t(filter, over, window) select over, (window) over, max(filter) from t where true on conflict(over) do update set filter = excluded.window`
  .trim()
  .split("\n");

const texts = statements.map((sql) => [...tokensOf(sql)].map((token) => token.text));
const words = [...new Set(texts.flat())];

function sqliteSays(sql: string): string | null {
  try {
    database.prepare(sql);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const isSyntaxError = (message: string | null) => message !== null && /^near |^incomplete input|^unrecognized token/.test(message);

test.each(statements)("taken: %s", (sql) => {
  expect(parseStatement(sql)).toHaveProperty("root");
});

const mutation = fc.record({ kind: fc.constantFrom("delete", "insert", "replace", "swap"), at: fc.nat(), other: fc.nat() });

test("statements with a few tokens changed: taken or refused as by SQLite", () => {
  const seen = { taken: 0, syntaxErrors: 0, sameMessages: 0 };
  fc.assert(
    fc.property(fc.constantFrom(...texts), fc.array(mutation, { minLength: 1, maxLength: 3 }), (tokens, mutations) => {
      const changed = [...tokens];
      for (const { kind, at, other } of mutations) {
        const index = at % Math.max(1, changed.length);
        const word = words[other % words.length] ?? "";
        if (kind === "delete") changed.splice(index, 1);
        else if (kind === "insert") changed.splice(index, 0, word);
        else if (kind === "replace") changed[index] = word;
        else {
          const second = other % Math.max(1, changed.length);
          [changed[index], changed[second]] = [changed[second] ?? "", changed[index] ?? ""];
        }
      }
      const sql = changed.join(" ");
      const parsed = parseStatement(sql);
      const message = sqliteSays(sql);
      if (message === null) {
        seen.taken += 1;
        expect(isFault(parsed) ? [sql, parsed.message] : null).toBeNull();
      } else if (isSyntaxError(message)) {
        seen.syntaxErrors += 1;
        expect([sql, isFault(parsed)]).toEqual([sql, true]);
        if (isFault(parsed) && parsed.message === message) seen.sameMessages += 1;
      }
    }),
    { seed: 23, numRuns: 10_000 },
  );
  expect(seen.taken).toBeGreaterThan(250);
  expect(seen.syntaxErrors).toBeGreaterThan(4_000);
  // Where an ORDER BY stands before an INTERSECT, SQLite stops a token later.
  expect(seen.sameMessages / seen.syntaxErrors).toBeGreaterThan(0.995);
});

describe("what is told of a statement", () => {
  test.each(statements)("every parameter and every token has its place: %s", (sql) => {
    const text = `;\n /* é */ ${sql} ; -- end\n;`;
    const parsed = parseStatement(text);
    if (isFault(parsed)) throw new Error(parsed.message);
    for (const token of parsed.tokens) expect(text.slice(token.span.offset, token.span.offset + token.span.length)).toBe(token.text);
    expect(parsed.tokens.map((token) => token.text)).toEqual([...tokensOf(sql)].map((token) => token.text));
    const variables: string[] = [];
    walk(parsed.root, (node) => {
      if (node.type === "VariableExpr") variables.push(node.name);
    });
    expect(variables).toEqual(parsed.tokens.filter((token) => token.type === kinds.variable).map((token) => token.text));
  });

  test("ORDER BY and LIMIT of an UPDATE keep their places", () => {
    const sql = "/* é */ update t set a = ? where b in (select 1 order by 1 limit 1) order by b, ? limit ? offset 1;";
    const parsed = parseStatement(sql);
    if (isFault(parsed) || parsed.root.type !== "UpdateStmt") throw new Error("not parsed");
    const offsets: number[] = [];
    walk(parsed.root, (node) => {
      if (node.type === "VariableExpr") offsets.push(node.span.offset);
    });
    expect(offsets).toEqual([...sql.matchAll(/\?/g)].map((match) => match.index));
    expect(parsed.root.limit?.offset).toMatchObject({ type: "NumericLiteral", value: "1" });
  });
});
