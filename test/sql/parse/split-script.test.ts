import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { splitScript } from "../../../src/sql/parse/split-script.js";
import { contents, notFault, openSqlite } from "./plain-sqlite.js";

const trigger =
  "create trigger tr after insert on t when new.a > case when 1 then 0 else 1 end begin insert into u values (case new.a when 1 then 2 end); select ';'; end";

describe("the rows of the decision table", () => {
  test.each<[string, string, readonly string[]]>([
    ["between ;", ";;select 1;;; ;select 2;;", ["select 1", "select 2"]],
    ["nothing", "", []],
    ["comments alone", " -- a;\n /* b; */ ;", []],
    ["no semicolon at the end", "select 1;\nselect 2 -- end", ["select 1", "select 2"]],
    ["a string with a semicolon", "select 'a;''b;'; select 1", ["select 'a;''b;'", "select 1"]],
    ["quoted names", 'select 1 as "a;b", 2 as [c;d], 3 as `e;f`; select 1', ['select 1 as "a;b", 2 as [c;d], 3 as `e;f`', "select 1"]],
    ["comments in between", "select /* ; */ 1 -- ;\n + 1; select 2", ["select /* ; */ 1 -- ;\n + 1", "select 2"]],
    ["an open block comment ends with the script", "select 1 /* ; select 2", ["select 1"]],
    ["trigger body", `${trigger}; select 1`, [trigger, "select 1"]],
    ["trigger at the end, no semicolon", `select 1; ${trigger}`, ["select 1", trigger]],
    ["explained trigger", `explain query plan ${trigger}; select 1`, [`explain query plan ${trigger}`, "select 1"]],
    ["temp trigger", `${trigger.replace("create", "create temp")};select 1`, [trigger.replace("create", "create temp"), "select 1"]],
    ["trigger without BEGIN", "create trigger x after insert on t; select 1", ["create trigger x after insert on t", "select 1"]],
    [
      "names that are keywords",
      "create table begin(end int); select trigger from x; select 1",
      ["create table begin(end int)", "select trigger from x", "select 1"],
    ],
    ["a table named begin", `${trigger.replace("on t", "on begin")};select 1`, [trigger.replace("on t", "on begin"), "select 1"]],
    [
      "a trigger named begin",
      "create trigger begin insert on t begin select 1; end; select 1",
      ["create trigger begin insert on t begin select 1; end", "select 1"],
    ],
    ["transaction's end", "begin; select 1; end; select 2", ["begin", "select 1", "end", "select 2"]],
    ["wrong grammar is cut like any other", "selec 1; select ); select 2", ["selec 1", "select )", "select 2"]],
    ["a byte order mark", "\ufeffselect 1; select 2", ["select 1", "select 2"]],
    ["not SQLite's blanks", "\u00a0; select 1", ["\u00a0", "select 1"]],
  ])("%s", (_, script, expected) => {
    expect(splitScript(script)).toEqual(expected);
  });

  test("an open string: its place in bytes", () => {
    expect(splitScript("select 'é😀'; select 'abc; select 1")).toEqual({
      code: "SQLITE_ERROR",
      message: 'unrecognized token: "\'abc; select 1"',
      offset: 24,
    });
  });

  test("a trigger without its END", () => {
    const script = "select 1; create trigger é after insert on t begin select 1; select case when 1 then 2 end;";
    expect(splitScript(script)).toEqual({ code: "SQLITE_ERROR", message: "incomplete input", offset: Buffer.byteLength(script) });
  });

  test("a NUL character and half a surrogate pair", () => {
    expect(splitScript("select 1;\0select 2")).toMatchObject({ code: "SQLITE_ERROR", offset: 9 });
    expect(splitScript("select 'é\ud800'")).toMatchObject({ code: "SQLITE_ERROR", offset: 10 });
  });
});

const statement = fc.constantFrom(
  "select 1",
  "select ';' -- ;\n, 2",
  "insert into t values (1, 'x;y')",
  "/* head ; */ update t set a = 1",
  trigger,
  trigger.replaceAll("\n", " ").toUpperCase(),
  "explain select 1",
  'create view "v;" as select case when 1 then 2 end as "end"',
  "begin",
  "end",
  "create table begin(a)",
  "create index i on t(a)",
  "not sql at all (",
);
const separator = fc.constantFrom(";", " ; ", ";;", ";\n-- ;\n", ";/* ; */", ";\t;");

test("a script of statements splits into them, and its pieces again", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(statement, separator), { maxLength: 12 }), (parts) => {
      const pieces = notFault(splitScript(parts.map(([sql, end]) => sql + end).join("")));
      expect(pieces).toEqual(parts.map(([sql]) => sql.replace("/* head ; */ ", "")));
      expect(splitScript(pieces.join(";"))).toEqual(pieces);
    }),
    { seed: 7, numRuns: 300 },
  );
});

test("SQLite runs the pieces as it runs the script", () => {
  const script = `
    create table t(a); create table u(b);
    ${trigger};
    insert into t values (1), (2); -- c;
    create view v as select ';' as x from t;
    insert into t select length(x) from v;`;
  const whole = openSqlite(script);
  const pieces = notFault(splitScript(script));
  const byPiece = openSqlite("");
  for (const piece of pieces) byPiece.prepare(piece).run();
  expect(pieces).toHaveLength(6);
  expect(contents(byPiece)).toEqual(contents(whole));
  const schemaOf = (database: typeof whole) => database.prepare("select type, name, sql from sqlite_schema").raw().all();
  expect(schemaOf(byPiece)).toEqual(schemaOf(whole));
});
