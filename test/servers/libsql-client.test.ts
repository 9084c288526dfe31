/** The unmodified @libsql/client against a Hrana server. */
import { type Client, createClient, LibsqlError } from "@libsql/client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Fixture, openFixture } from "./hrana-fixture.js";

let fixture: Fixture;
let client: Client;

beforeEach(async () => {
  fixture = await openFixture();
  client = createClient({ url: fixture.url });
  await client.execute("create table t (id integer primary key, name text unique, x)");
});

afterEach(async () => {
  client.close();
  await fixture.close();
});

async function failure(promise: Promise<unknown>): Promise<LibsqlError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LibsqlError);
  return error as LibsqlError;
}

test("execute answers columns, types, rows, counts and the last rowid", async () => {
  const inserted = await client.execute("insert into t (name, x) values ('a', 1.5), ('b', null)");
  expect(inserted.rowsAffected).toBe(2);
  expect(inserted.lastInsertRowid).toBe(2n);
  const read = await client.execute("select id, name, x, x is null as gone from t order by id");
  expect(read.columns).toEqual(["id", "name", "x", "gone"]);
  expect(read.columnTypes).toEqual(["INTEGER", "TEXT", "", ""]);
  expect(read.rows.map((row) => ({ ...row }))).toEqual([
    { id: 1, name: "a", x: 1.5, gone: 0 },
    { id: 2, name: "b", x: null, gone: 1 },
  ]);
  expect(fixture.database.openSessionCount).toBe(0);
});

test("positional and named arguments, with each prefix", async () => {
  const positional = await client.execute({ sql: "select ?, ?, ?", args: ['é\u0000"\\\n', 2.5, null] });
  expect(positional.rows[0]?.[0]).toBe('é\u0000"\\\n');
  expect(positional.rows[0]?.[1]).toBe(2.5);
  expect(positional.rows[0]?.[2]).toBeNull();
  const named = await client.execute({ sql: "select :a as a, @b as b, $c as c", args: { a: "1", "@b": "2", $c: "3" } });
  expect({ ...named.rows[0] }).toEqual({ a: "1", b: "2", c: "3" });
});

test("blobs of every length modulo 3", async () => {
  for (const bytes of [[], [0], [0, 255], [1, 2, 3], [250, 251, 252, 253]]) {
    const { rows } = await client.execute({ sql: "select ?1 as b, typeof(?1) as t", args: [new Uint8Array(bytes)] });
    expect(rows[0]?.t).toBe("blob");
    expect([...new Uint8Array(rows[0]?.b as ArrayBuffer)]).toEqual(bytes);
  }
});

test("integers in each intMode", async () => {
  const sql = "select 9223372036854775807 as high, -9223372036854775808 as low, 5 as five";
  const bigints = createClient({ url: fixture.url, intMode: "bigint" });
  expect({ ...(await bigints.execute(sql)).rows[0] }).toEqual({ high: 2n ** 63n - 1n, low: -(2n ** 63n), five: 5n });
  const strings = createClient({ url: fixture.url, intMode: "string" });
  expect({ ...(await strings.execute(sql)).rows[0] }).toEqual({ high: "9223372036854775807", low: "-9223372036854775808", five: "5" });
  await expect(client.execute(sql)).rejects.toThrow(/too large/);
  expect((await client.execute({ sql: "select ? + 0 as n", args: [2n ** 62n] }).catch((error: unknown) => error)) instanceof RangeError).toBe(true);
  expect((await bigints.execute({ sql: "select ?1 as n, typeof(?2) as t", args: [-(2n ** 63n), 7n] })).rows[0]).toMatchObject({
    n: -(2n ** 63n),
    t: "integer",
  });
});

test("reals keep what JSON cannot say", async () => {
  const { rows } = await client.execute("select 9e999 as up, -9e999 as down, 1e308 * 10 as over, 0.1 as tenth, 5.0 as five");
  expect({ ...rows[0] }).toEqual({ up: Infinity, down: -Infinity, over: Infinity, tenth: 0.1, five: 5 });
});

test.each(["write", "deferred"] as const)("batch in mode %s", async (mode) => {
  const results = await client.batch(
    ["insert into t (name) values ('a')", { sql: "insert into t (name) values (?)", args: ["b"] }, "select count(*) as n from t"],
    mode,
  );
  expect(results.map((result) => result.rowsAffected)).toEqual([1, 1, 0]);
  expect(results[2]?.rows[0]?.n).toBe(2);
});

test("batch in mode read", async () => {
  const [first, second] = await client.batch(["select 1 as one", "select count(*) as n from t"], "read");
  expect(first?.rows[0]?.one).toBe(1);
  expect(second?.rows[0]?.n).toBe(0);
});

test("a batch that fails changes nothing, and tells which statement and why", async () => {
  const error = await failure(
    client.batch(["insert into t (name) values ('a')", "insert into t (name) values ('a')", "insert into t (name) values ('c')"], "write"),
  );
  expect(error.code).toBe("SQLITE_CONSTRAINT");
  expect(error).toMatchObject({ statementIndex: 1 });
  expect((await client.execute("select count(*) as n from t")).rows[0]?.n).toBe(0);
});

test("a large batch stores its texts", async () => {
  const statements = Array.from({ length: 200 }, (_, index) => ({ sql: "insert into t (name) values (?)", args: [`n${index}`] }));
  await client.batch(statements, "write");
  expect((await client.execute("select count(*) as n from t")).rows[0]?.n).toBe(200);
});

test("interactive transactions: commit, rollback, close", async () => {
  const committed = await client.transaction("write");
  await committed.execute("insert into t (name) values ('kept')");
  expect((await committed.execute("select count(*) as n from t")).rows[0]?.n).toBe(1);
  await committed.commit();
  const rolledBack = await client.transaction("write");
  await rolledBack.execute("insert into t (name) values ('undone')");
  await rolledBack.rollback();
  const left = await client.transaction("deferred");
  await left.execute("insert into t (name) values ('left')");
  left.close();
  await expect.poll(() => fixture.database.openSessionCount).toBe(0);
  expect((await client.execute("select name from t")).rows.map((row) => row.name)).toEqual(["kept"]);
});

test("two writers: the second is told SQLITE_BUSY", async () => {
  const first = await client.transaction("write");
  await first.execute("insert into t (name) values ('a')");
  const error = await failure(client.execute("insert into t (name) values ('b')"));
  expect(error.code).toBe("SQLITE_BUSY");
  await first.commit();
});

test("migrate switches foreign keys off around its transaction", async () => {
  await client.executeMultiple(
    "create table parent (id integer primary key); create table child (id integer primary key, p integer references parent(id));",
  );
  await client.migrate(["insert into child values (1, 99)", "alter table child add column note text"]);
  expect((await client.execute("select id, p, note from child")).rows[0]).toMatchObject({ id: 1, p: 99, note: null });
  const error = await failure(client.migrate(["insert into child (id) values (2)", "insert into nowhere values (1)"]));
  expect(error.message).toContain("no such table");
  expect((await client.execute("select count(*) as n from child")).rows[0]?.n).toBe(1);
});

test("executeMultiple stops at the first fault", async () => {
  await client.executeMultiple("insert into t (name) values ('a'); insert into t (name) values ('b');");
  const error = await failure(
    client.executeMultiple("insert into t (name) values ('c'); insert into t (name) values ('a'); insert into t (name) values ('d');"),
  );
  expect(error.code).toBe("SQLITE_CONSTRAINT");
  expect((await client.execute("select group_concat(name, '') as all_names from t")).rows[0]?.all_names).toBe("abc");
});

test.each([
  ["insert into t (id) values (1), (1)", "SQLITE_CONSTRAINT", /UNIQUE constraint failed: t.id/],
  ["selec 1", "SQL_PARSE_ERROR", /near "selec": syntax error/],
  ["select (1", "SQL_PARSE_ERROR", /incomplete input/],
  ["select * from nowhere", "SQLITE_ERROR", /no such table: nowhere/],
  ["", "SQL_NO_STATEMENT", /no statements/],
  ["-- nothing", "SQL_NO_STATEMENT", /no statements/],
  ["select 1; select 2", "SQL_MANY_STATEMENTS", /more than one statement/],
  ["select ?", "SQL_INPUT_ERROR", /parameter/],
  ["insert into t (id) values ('x')", "SQLITE_MISMATCH", /datatype mismatch/],
])("the fault of %j has code %s", async (sql, code, message) => {
  const error = await failure(client.execute(sql));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
});

test("many at once over few connections", async () => {
  const results = await Promise.all(Array.from({ length: 100 }, (_, index) => client.execute({ sql: "select ? as n", args: [index] })));
  expect(results.map((result) => result.rows[0]?.n)).toEqual(Array.from({ length: 100 }, (_, index) => index));
});
