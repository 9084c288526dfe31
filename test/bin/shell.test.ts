/** The shell against a Hrana server: scripts, pipes, and a person at a terminal. */
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SqlValue } from "../../src/base/values.js";
import { HranaError } from "../../src/bin/hrana-client.js";
import { runShell, type ShellOptions } from "../../src/bin/shell.js";
import { formatCell, formatError } from "../../src/bin/shell-format.js";
import { createStatementScanner } from "../../src/bin/statement-scanner.js";
import { type Fixture, openFixture } from "../servers/hrana-fixture.js";

let fixture: Fixture;

beforeEach(async () => {
  fixture = await openFixture();
});

afterEach(() => fixture.close());

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function shell(options: Partial<ShellOptions>): Promise<Run> {
  const output = new PassThrough();
  const errors = new PassThrough();
  let out = "";
  let err = "";
  output.on("data", (chunk: Buffer) => {
    out += chunk;
  });
  errors.on("data", (chunk: Buffer) => {
    err += chunk;
  });
  const code = await runShell({ url: fixture.url, input: Readable.from([]), output, errors, historyFile: null, ...options });
  await new Promise((resolve) => setImmediate(resolve));
  return { code, out: out.replace(/[\d.]+ m?s\)/g, "… ms)"), err };
}

describe("scripts", () => {
  test("a table, counts, NULL and blobs", async () => {
    const { code, out, err } = await shell({
      command:
        "create table t (id integer primary key, name text, b blob); insert into t values (1, 'é\n\u001b[31m', x'00ff'), (20, null, null); select *, 5.0 as five from t",
    });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toBe(`Done (… ms)
2 rows changed, last id 20 (… ms)
┌────┬───────────────┬─────────┬──────┐
│ id │ name          │ b       │ five │
├────┼───────────────┼─────────┼──────┤
│  1 │ é\\n\\u001b[31m │ x'00ff' │  5.0 │
│ 20 │ NULL          │ NULL    │  5.0 │
└────┴───────────────┴─────────┴──────┘
2 rows (… ms)
`);
  });

  test("json keeps integers, names, blobs", async () => {
    const { out } = await shell({
      json: true,
      command: "select 9223372036854775807 as n, 1 as n, 'a\"' as s, x'00ff' as b, null as z, 1.5 as r; create table t (x); insert into t values (1)",
    });
    expect(out).toBe(
      '[{"n":9223372036854775807,"n_2":1,"s":"a\\"","b":"AP8=","z":null,"r":1.5}]\n{"affectedRowCount":0,"lastInsertRowid":null}\n{"affectedRowCount":1,"lastInsertRowid":1}\n',
    );
  });

  test("modes csv and line", async () => {
    const { out } = await shell({
      command: ".mode csv\nselect 1 as a, 'x,y' as b, '' as c, null as d;\n.mode line\nselect 1 as a, 'x' as longer;\n.mode",
    });
    expect(out).toBe('a,b,c,d\r\n1,"x,y","",\r\n     a = 1\nlonger = x\n\nline\n');
  });

  test("the first failure ends a script with exit code 1, and a transaction left open is rolled back", async () => {
    const failed = await shell({ command: "create table t (x); begin; insert into t values (1);\nselec 2; select 3;" });
    expect(failed.code).toBe(1);
    expect(failed.err).toBe('Error: near "selec": syntax error (SQLITE_ERROR)\n  selec 2;\n  ^\n');
    expect(failed.out).not.toContain("3");
    expect((await shell({ json: true, command: "select count(*) as n from t" })).out).toBe('[{"n":0}]\n');
    expect(fixture.database.openSessionCount).toBe(0);
  });

  test("a pipe: statements over several lines, a trigger, the last without its semicolon", async () => {
    const text =
      "create table t (x); -- a ; comment\ncreate trigger g after insert on t begin\n  delete from t where x = ';';\n  select 1;\nend;\ninsert into t\nvalues ('a;b'),\n(';');\n/* ; */ select * from t";
    const { code, out } = await shell({ json: true, input: Readable.from(text.match(/.{1,7}/gs) ?? []) });
    expect(code).toBe(0);
    expect(out.split("\n").at(-2)).toBe('[{"x":"a;b"}]');
  });

  test("dot commands", async () => {
    const { code, out } = await shell({
      command:
        "create table b (x); create table a (y); create index i on a (y); create view v as select 1;\n.tables\n.schema A\n.quit\nselect 'unreached';",
    });
    expect(code).toBe(0);
    expect(out.split("\n").slice(4)).toEqual(["a", "b", "v (view)", "CREATE TABLE a (y);", "CREATE INDEX i on a (y);", ""]);
    expect(await shell({ command: ".dance" })).toMatchObject({ code: 1, err: "Error: no command is named .dance; .help lists them.\n" });
    expect(await shell({ command: ".mode jazz" })).toMatchObject({ code: 1 });
  });

  test("a server that is not there: exit code 2", async () => {
    const { code, err } = await shell({ url: "http://127.0.0.1:1", command: "select 1" });
    expect(code).toBe(2);
    expect(err).toContain("nothing listens there");
    expect((await shell({ url: "ftp://x", command: "select 1" })).code).toBe(2);
  });
});

describe("a person", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "atomcast-shell-"));
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  async function converse(lines: readonly string[]): Promise<Run> {
    const input = new PassThrough();
    const running = shell({ input, isInteractive: true, historyFile: join(folder, "deep", "history") });
    for (const line of lines) input.write(`${line}\n`);
    input.end();
    return running;
  }

  test("goes on after an error, sees a transaction in the prompt, and ends with the input", async () => {
    const { code, out, err } = await converse([
      "create table t (x);",
      "selec;",
      "begin;",
      "insert into t",
      "values (1);",
      "commit;",
      "select count(*) as n from t;",
    ]);
    expect(code).toBe(0);
    expect(err).toContain("syntax error");
    expect(out).toContain("atomcast*> ");
    expect(out).toContain("     ...> ");
    expect(out).toMatch(/│ n │.*│ 1 │/s);
    expect(fixture.database.openSessionCount).toBe(0);
  });

  test("Ctrl-C gives up what is typed, and nothing else", async () => {
    const input = new PassThrough();
    const running = shell({ input, isInteractive: true, json: true });
    input.write("select 'open\n");
    await new Promise((resolve) => setTimeout(resolve, 20));
    input.write("half a line\u0003");
    await new Promise((resolve) => setTimeout(resolve, 20));
    input.end("select 7 as seven;\n");
    const { code, out, err } = await running;
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain('[{"seven":7}]');
  });

  test("history is the user's alone, and read again", async () => {
    await converse(["select 1;", "select 1;", "select 2;"]);
    const file = join(folder, "deep", "history");
    expect(readFileSync(file, "utf8")).toBe("select 1;\nselect 2;\n");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await converse(["select 3;"]);
    expect(readFileSync(file, "utf8")).toBe("select 1;\nselect 2;\nselect 3;\n");
  });

  test("a stream that expired outside a transaction is opened anew", async () => {
    const other = await openFixture({ streamIdleMs: 200 });
    const input = new PassThrough();
    const running = shell({ url: other.url, json: true, input, isInteractive: true });
    input.write("select 1 as a;\n");
    await expect.poll(() => other.database.openSessionCount, { interval: 10 }).toBe(1);
    await expect.poll(() => other.database.openSessionCount, { interval: 10 }).toBe(0);
    input.end("select 2 as b;\n");
    expect((await running).out).toContain('[{"b":2}]');
    await other.close();
  });

  test("a stream that expired within a transaction is told, never gone on with", async () => {
    const other = await openFixture({ streamIdleMs: 200 });
    const input = new PassThrough();
    const running = shell({ url: other.url, json: true, input, isInteractive: true });
    input.write("create table t (x); begin; insert into t values (1);\n");
    await expect.poll(() => other.database.openSessionCount, { interval: 10 }).toBe(1);
    await expect.poll(() => other.database.openSessionCount, { interval: 10 }).toBe(0);
    input.end("insert into t values (2);\nselect count(*) as n from t;\n");
    const { out, err } = await running;
    expect(err).toContain("The open transaction is rolled back.");
    expect(out).toContain('[{"n":0}]');
    await other.close();
  });
});

test.each<[string, readonly string[], string]>([
  ["select 1; select 2", ["select 1;"], "select 2"],
  [";;;", [], ""],
  ["-- only ; this", [], ""],
  ["select ';'; x", ["select ';';"], "x"],
  ["select 'it''s;'; x", ["select 'it''s;';"], "x"],
  ['select "a;", `b;`, [c;]; x', ['select "a;", `b;`, [c;];'], "x"],
  ["/* ; */ select 1;", ["/* ; */ select 1;"], ""],
  ["select 1 /* ;", [], "select 1 /* ;"],
  ["create temp trigger t begin a; end; x", ["create temp trigger t begin a; end;"], "x"],
  ["create trigger t begin select case when 1 then 2 end; end; x", ["create trigger t begin select case when 1 then 2 end; end;"], "x"],
  ["explain create trigger t begin a; end; x", ["explain create trigger t begin a; end;"], "x"],
  ["select constructor, __proto__, toString; x", ["select constructor, __proto__, toString;"], "x"],
  ["create table trigger_end (x); x", ["create table trigger_end (x);"], "x"],
])("the scanner finds the statements of %j", (text, statements, rest) => {
  const whole = createStatementScanner();
  expect(whole.push(text)).toEqual(statements);
  expect(whole.takeRest()).toBe(rest);
});

test.each<[string, number, string, string]>([
  ["select é, x;", 11, "no such column: x", "  select é, x;\n            ^\n"],
  ["select\n  nope\nfrom t", -1, "no such column: nope", "    nope\n    ^\n"],
  ["select a.nope, nope", -1, "no such column: a.nope", ""],
  ["select 1", -1, "database is locked", ""],
  ["select 1", 99, "x", ""],
  [`select ${"a, ".repeat(100)}b`, 307, "x", `  …${"a, ".repeat(17).slice(1)}b\n  ${" ".repeat(51)}^\n`],
])("%j, offset %i", (sql, offset, message, caret) => {
  expect(formatError(new HranaError("SQLITE_ERROR", message, offset), sql)).toBe(`Error: ${message} (SQLITE_ERROR)\n${caret}`);
});

test.each<[SqlValue, string]>([
  [null, "NULL"],
  [5n, "5"],
  [5, "5.0"],
  [-0, "-0.0"],
  [1e300, "1e+300"],
  [-Infinity, "-Inf"],
  ["a\tb", "a\\tb"],
  [new Uint8Array(40), `x'${"00".repeat(32)}…' (40 bytes)`],
])("the cell of %s is %s", (value, text) => {
  expect(formatCell(value)).toBe(text);
});
