import { expect, test } from "vitest";
import { isFault, parseStatement } from "../../../src/sql/parse/sqlite-grammar.js";
import { type TickedSource, tickTerms, tickTermsMax, withTicks } from "../../../src/sql/parse/tick-places.js";

const source: TickedSource = {
  table: (name) => (/^[abcw]$/.test(name) ? { key: name === "w" ? '"k"' : '"id"', first: '"id"' } : null),
  view(name) {
    const parsed = parseStatement("create view v as select x, y from a");
    if (name !== "v" || isFault(parsed) || parsed.root.type !== "CreateViewStmt") return null;
    return { columns: null, select: parsed.root.select };
  },
};

/** `T(…)` for each term. */
function ticked(sql: string): string {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) throw new Error(parsed.message);
  return withTicks(sql, tickTerms(parsed, source)).replace(/likelihood\(_tick\(([^)]*)\),1\.0\)/g, "T($1)");
}

test.each([
  ["a point read", "select * from a where id = 1"],
  ["a scan", "select count(*) from a"],
  ["a subquery that is looked at once", "select (select max(x) from b)"],
  ["a count of all, within", "select (select count(*) from b) from a"],
  ["a subquery in FROM", "select * from (select * from b where x = 1)"],
  ["a row", "insert into a values (1, (select max(id) from b), 3)"],
  ["one table changed", "update a set x = 1 where y = 2"],
  ["VALUES", "values (1), (2)"],
  ["a WITH that does not recur", "with q as (select * from a) select * from q"],
])("%s has none", (_, sql) => {
  expect(ticked(sql)).toBe(sql);
});

test.each([
  ["a join without conditions", "select * from a, b", 'select * from a, b WHERE T("a"."id")'],
  [
    "terms of WHERE stay together",
    "select * from a join b on a.x = b.x where a.y = 1 or b.y = 2",
    'select * from a join b on a.x = b.x where T("a"."id") AND ( a.y = 1 or b.y = 2)',
  ],
  [
    "outer joins",
    "select * from a x left join b y on x.id = y.id full join c z on 1 order by 1",
    'select * from a x left join b y on x.id = y.id full join c z on 1 WHERE T("x"."id") AND T("y"."id") order by 1',
  ],
  [
    "joins in parentheses",
    "select * from a left join (b join w on 1) on 1 limit 1",
    'select * from a left join (b join w on 1) on 1 WHERE T("a"."id") AND T("b"."id") limit 1',
  ],
  ["DISTINCT FROM before FROM", "select a.x is distinct from 1 from a, b", 'select a.x is distinct from 1 from a, b WHERE T("a"."id")'],
  ["comments", "select * from a, b where 1 -- all\n;", 'select * from a, b where T("a"."id") AND ( 1) -- all\n;'],
  [
    "a recursive arm",
    "with r(i) as (select 1 union all select i + 1 from r where i < 5) select * from r",
    "with r(i) as (select 1 union all select i + 1 from r where T() AND ( i < 5)) select * from r",
  ],
  [
    "a recursive arm that joins",
    "with r(i) as (select 1 union select 2 from r, a, b) select * from r, a",
    'with r(i) as (select 1 union select 2 from r, a, b WHERE T() AND T("a"."id")) select * from r, a WHERE T("r"."i")',
  ],
  [
    "subqueries in expressions",
    "select (select max(x) from b where b.y = a.y) from a where x in (select x from c) order by (select 1 from b)",
    "select (select max(x) from b where T() AND ( b.y = a.y)) from a where x in (select x from c WHERE T()) order by (select 1 from b WHERE T())",
  ],
  [
    "a subquery's own subquery in FROM",
    "select (select 1 from (select 1 from b)) from a",
    "select (select 1 from (select 1 from b WHERE T()) WHERE T()) from a",
  ],
  ["a join within", "select exists (select 1 from b, c) from a", 'select exists (select 1 from b, c WHERE T() AND T("b"."id")) from a'],
  [
    "what is in FROM by its bare columns, or left out",
    "select * from (select * from b) q, v, (select max(x) m from b) z, a",
    'select * from (select * from b) q, v, (select max(x) m from b) z, a WHERE T("q"."id") AND T("v"."x") AND T("a"."id")',
  ],
  [
    "a WITH's names",
    "with q as (select y, x as n from a), z(k) as (select x + 1 from a) select * from q, z, a",
    'with q as (select y, x as n from a), z(k) as (select x + 1 from a) select * from q, z, a WHERE T("q"."y") AND T("a"."id")',
  ],
  ["table functions", "select * from json_each('[1]') j, a", `select * from json_each('[1]') j, a WHERE T("j"."key")`],
  [
    "every arm of a compound",
    "select 1 from a, b union select 2 from b, w except select 3 from a",
    'select 1 from a, b WHERE T("a"."id") union select 2 from b, w WHERE T("b"."id") except select 3 from a',
  ],
  [
    "UPDATE … FROM, and what it returns",
    "update a as t set x = 1 from b where b.id = t.id returning (select max(x) from c)",
    'update a as t set x = 1 from b where T("t"."id") AND ( b.id = t.id) returning (select max(x) from c WHERE T())',
  ],
  [
    "DELETE by a subquery",
    "delete from a where exists (select 1 from b where b.x = a.x)",
    "delete from a where exists (select 1 from b where T() AND ( b.x = a.x))",
  ],
  [
    "INSERT … SELECT with an upsert",
    "insert into a select * from b, c where true on conflict (id) do update set x = (select max(x) from c)",
    'insert into a select * from b, c where T("b"."id") AND ( true) on conflict (id) do update set x = (select max(x) from c WHERE T())',
  ],
])("%s", (_, sql, expected) => {
  expect(ticked(sql)).toBe(expected);
});

test("the texts of triggers and views stay as they are, and no statement gets more terms than are allowed", () => {
  const arms = Array.from({ length: 100 }, () => "select 1 from a, b").join(" union all ");
  expect(ticked(arms).match(/T\(/g)).toHaveLength(tickTermsMax);
});
