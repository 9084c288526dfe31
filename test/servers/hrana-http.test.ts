/** Hrana's rules as raw HTTP: batons, conditions, cursors, errors, limits, shutdown. */
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DatabaseError } from "../../src/base/errors.js";
import { execute, type Fixture, openFixture, pipeline, send } from "./hrana-fixture.js";
import { removableNode } from "./sqlite-database.js";

let fixture: Fixture;

beforeEach(async () => {
  fixture = await openFixture({ streamIdleMs: 300, requestBytesMax: 200_000, storedSqlMax: 3, responseCharsMax: 300_000, closeMs: 400 });
});

afterEach(() => fixture.close());

const sleep = (durationMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, durationMs));

describe("paths", () => {
  test.each([
    ["GET", "/v2", 200],
    ["GET", "/v3", 200],
    ["GET", "/v3/", 200],
    ["GET", "/v3-protobuf", 404],
    ["GET", "/health", 200],
    ["HEAD", "/health", 200],
    ["GET", "/nowhere", 404],
    ["GET", "/v2/pipeline", 404],
    ["PUT", "/v2/pipeline", 405],
    ["OPTIONS", "/v2/pipeline", 405],
    ["POST", "/v4/pipeline", 404],
    ["POST", "/__proto__", 404],
  ])("%s %s answers %i", async (method, path, status) => {
    expect((await send(fixture.url, method, path)).status).toBe(status);
  });

  test("version and status", async () => {
    expect((await send(fixture.url, "GET", "/version")).text).toBe("atomcast 1.2.3\n");
    expect((await send(fixture.url, "GET", "/v1/status")).json).toMatchObject({ database: "test", commitSeq: 7 });
  });

  test("remove: what the engine says; a body that is none is told", async () => {
    expect(await send(fixture.url, "POST", "/v1/remove", { nodeId: removableNode })).toMatchObject({ status: 200, json: {} });
    expect(await send(fixture.url, "POST", "/v1/remove", { nodeId: 43 })).toMatchObject({
      status: 409,
      json: { code: "ATOMCAST_REFUSED", message: "that Archive is not a voter" },
    });
    for (const nodeId of [0, -1, 1.5, 2 ** 48, "42", null]) expect((await send(fixture.url, "POST", "/v1/remove", { nodeId })).status).toBe(400);
    expect((await send(fixture.url, "GET", "/v1/remove")).status).toBe(404);
  });

  test("v1: one statement or batch on a stream of its own; a fault is the reply's", async () => {
    const good = await send(fixture.url, "POST", "/v1/execute", { stmt: { sql: "select 1 as one" } });
    expect(good.json.result.rows).toEqual([[{ type: "integer", value: "1" }]]);
    const bad = await send(fixture.url, "POST", "/v1/execute", { stmt: { sql: "select * from nowhere" } });
    expect(bad).toMatchObject({ status: 400, json: { code: "SQLITE_ERROR", message: "no such table: nowhere" } });
    const batch = await send(fixture.url, "POST", "/v1/batch", { batch: { steps: [{ stmt: { sql: "select 1" } }, { stmt: { sql: "selec" } }] } });
    expect(batch.json.result.step_results[0].rows.length).toBe(1);
    expect(batch.json.result.step_errors[1].code).toBe("SQL_PARSE_ERROR");
    expect(fixture.database.openSessionCount).toBe(0);
  });
});

describe("streams", () => {
  test("each reply has a new baton; an old one is refused; null once closed", async () => {
    const first = await pipeline(fixture.url, null, [execute("create table t (x)"), execute("begin"), execute("insert into t values (1)")]);
    expect(first.json.base_url).toBeNull();
    const second = await pipeline(fixture.url, first.json.baton, [{ type: "get_autocommit" }]);
    expect(second.json.results[0].response).toEqual({ type: "get_autocommit", is_autocommit: false });
    expect(second.json.baton).not.toBe(first.json.baton);
    const replayed = await pipeline(fixture.url, first.json.baton, [execute("select 1")]);
    expect(replayed).toMatchObject({ status: 400, json: { code: "STREAM_EXPIRED" } });
    const third = await pipeline(fixture.url, second.json.baton, [execute("commit"), { type: "close" }, execute("select 1")]);
    expect(third.json.baton).toBeNull();
    expect(third.json.results.map((result: { type: string }) => result.type)).toEqual(["ok", "ok", "error"]);
    expect(third.json.results[2].error.code).toBe("STREAM_CLOSED");
    expect(fixture.database.openSessionCount).toBe(0);
    const rows = await pipeline(fixture.url, null, [execute("select x from t"), { type: "close" }]);
    expect(rows.json.results[0].response.result.rows.length).toBe(1);
  });

  test("base_url sends a client back to the engine that has its stream", async () => {
    Object.assign(fixture.database, { http: "http://127.0.0.1:9" });
    const { json } = await pipeline(fixture.url, null, []);
    expect(json.base_url).toBe("http://127.0.0.1:9");
  });

  test("a forged baton is refused", async () => {
    const { json } = await pipeline(fixture.url, null, []);
    expect(json.baton.length).toBe(22);
    for (const baton of ["", "x", `${json.baton}x`, "A".repeat(22), "__proto__"]) {
      expect((await pipeline(fixture.url, baton, [])).status).toBe(400);
    }
    expect((await pipeline(fixture.url, json.baton, [])).status).toBe(200);
  });

  test("an idle stream is rolled back and its baton refused", async () => {
    await pipeline(fixture.url, null, [execute("create table t (x)"), { type: "close" }]);
    const { json } = await pipeline(fixture.url, null, [execute("begin immediate"), execute("insert into t values (1)")]);
    await sleep(150);
    const used = await pipeline(fixture.url, json.baton, [execute("insert into t values (2)")]);
    await sleep(200);
    const again = await pipeline(fixture.url, used.json.baton, []);
    expect(again.status).toBe(200);
    await expect.poll(() => fixture.database.openSessionCount).toBe(0);
    const expired = await pipeline(fixture.url, again.json.baton, [execute("commit")]);
    expect(expired).toMatchObject({ status: 400, json: { code: "STREAM_EXPIRED" } });
    expect(expired.json.message).toContain("rolled back");
    const { json: read } = await pipeline(fixture.url, null, [execute("select count(*) from t"), { type: "close" }]);
    expect(read.results[0].response.result.rows[0][0].value).toBe("0");
  });

  test("two requests with one baton: one is carried out, the other refused", async () => {
    const { json } = await pipeline(fixture.url, null, []);
    const replies = await Promise.all([1, 2, 3].map(() => pipeline(fixture.url, json.baton, [execute("select 1")])));
    expect(replies.map((reply) => reply.status).sort()).toEqual([200, 400, 400]);
  });

  test("a client that goes away while its request runs loses its stream, and nothing more of it begins", async () => {
    let release = (): void => {};
    fixture.database.beforeWork = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const { port } = new URL(fixture.url);
    const socket = connect(Number(port), "127.0.0.1");
    const requests = [execute("create table first(x)"), execute("create table second(x)")];
    const body = JSON.stringify({ baton: null, requests });
    socket.write(`POST /v3/pipeline HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await expect.poll(() => fixture.database.openSessionCount).toBe(1);
    socket.destroy();
    await sleep(20);
    fixture.database.beforeWork = async () => {};
    release();
    await expect.poll(() => fixture.database.openSessionCount).toBe(0);
    // What was under way came to its end; what was to follow did not begin.
    const { json } = await pipeline(fixture.url, null, [execute("select name from sqlite_schema where name in ('first', 'second')")]);
    expect(json.results[0].response.result.rows).toEqual([[{ type: "text", value: "first" }]]);
  });

  test("stored SQL belongs to the stream and is bounded", async () => {
    const requests = [
      { type: "store_sql", sql_id: 1, sql: "select ? as a" },
      { type: "execute", stmt: { sql_id: 1, args: [{ type: "text", value: "x" }] } },
      { type: "store_sql", sql_id: 1, sql: "select 2" },
      { type: "close_sql", sql_id: 1 },
      { type: "close_sql", sql_id: 1 },
      { type: "execute", stmt: { sql_id: 1 } },
      ...[2, 3, 4, 5].map((id) => ({ type: "store_sql", sql_id: id, sql: "select 1" })),
      { type: "sequence", sql_id: 2 },
      { type: "describe", sql_id: 2 },
    ];
    const { json } = await pipeline(fixture.url, null, requests);
    const codes = json.results.map((result: { type: string; error?: { code: string } }) => (result.type === "ok" ? "ok" : result.error?.code));
    expect(codes).toEqual(["ok", "ok", "SQL_ALREADY_STORED", "ok", "ok", "SQL_NOT_FOUND", "ok", "ok", "ok", "SQL_STORE_FULL", "ok", "ok"]);
  });

  test("too many streams are refused, and closing one makes room", async () => {
    const small = await openFixture({ streamsMax: 2 });
    const first = await pipeline(small.url, null, []);
    await pipeline(small.url, null, []);
    expect(await pipeline(small.url, null, [])).toMatchObject({ status: 503, json: { code: "TOO_MANY_STREAMS" } });
    await pipeline(small.url, first.json.baton, [{ type: "close" }]);
    expect((await pipeline(small.url, null, [])).status).toBe(200);
    await small.close();
    expect(small.database.openSessionCount).toBe(0);
  });
});

describe("requests", () => {
  test("every request of a pipeline runs, also after an error", async () => {
    const { json } = await pipeline(fixture.url, null, [
      execute("select * from nowhere"),
      execute("select 2"),
      { type: "sequence", sql: "select 1; selec" },
      execute("select 3"),
    ]);
    expect(json.results.map((result: { type: string }) => result.type)).toEqual(["error", "ok", "error", "ok"]);
  });

  test("a result has all its fields", async () => {
    await pipeline(fixture.url, null, [execute("create table t (id integer primary key, a varchar(10))"), { type: "close" }]);
    const { json } = await pipeline(fixture.url, null, [
      {
        type: "execute",
        stmt: {
          sql: "insert into t (a) values (:a) returning id, a, 1.5, x'00ff', null",
          named_args: [{ name: "a", value: { type: "text", value: "é" } }],
        },
      },
    ]);
    const { query_duration_ms: durationMs, ...result } = json.results[0].response.result;
    expect(durationMs).toBeGreaterThan(0);
    expect(result).toEqual({
      cols: [
        { name: "id", decltype: "INTEGER" },
        { name: "a", decltype: "varchar(10)" },
        { name: "1.5", decltype: null },
        { name: "x'00ff'", decltype: null },
        { name: "null", decltype: null },
      ],
      rows: [
        [
          { type: "integer", value: "1" },
          { type: "text", value: "é" },
          { type: "float", value: 1.5 },
          { type: "blob", base64: "AP8=" },
          { type: "null" },
        ],
      ],
      affected_row_count: 1,
      last_insert_rowid: "1",
      rows_read: 0,
      rows_written: 1,
    });
  });

  test("want_rows false counts without rows; base64 without padding is read", async () => {
    const { json } = await pipeline(fixture.url, null, [
      { type: "execute", stmt: { sql: "select hex(?1)", args: [{ type: "blob", base64: "AP8" }], want_rows: false } },
      {
        type: "execute",
        stmt: {
          sql: "select hex(?1), ?2",
          args: [
            { type: "blob", base64: "AP8" },
            { type: "integer", value: "-9223372036854775808" },
          ],
        },
      },
    ]);
    expect(json.results[0].response.result.rows).toEqual([]);
    expect(json.results[1].response.result.rows).toEqual([
      [
        { type: "text", value: "00FF" },
        { type: "integer", value: "-9223372036854775808" },
      ],
    ]);
  });

  test("describe", async () => {
    const { json } = await pipeline(fixture.url, null, [
      { type: "describe", sql: "select :a as x, 1 as y" },
      { type: "describe", sql: "explain select 1" },
      { type: "describe", sql: "select * from nowhere" },
    ]);
    expect(json.results[0].response.result).toEqual({
      params: [{ name: ":a" }],
      cols: [
        { name: "x", decltype: null },
        { name: "y", decltype: null },
      ],
      is_explain: false,
      is_readonly: true,
    });
    expect(json.results[1].response.result.is_explain).toBe(true);
    expect(json.results[2].error.code).toBe("SQLITE_ERROR");
  });

  test("every kind of condition; a skipped step has neither result nor error", async () => {
    const ok = (step: number): unknown => ({ type: "ok", step });
    const error = (step: number): unknown => ({ type: "error", step });
    const conditions: [unknown, boolean][] = [
      [null, true],
      [ok(0), true],
      [ok(1), false],
      [error(1), true],
      [error(0), false],
      [{ type: "not", cond: ok(1) }, true],
      [{ type: "and", conds: [ok(0), error(1)] }, true],
      [{ type: "and", conds: [ok(0), ok(1)] }, false],
      [{ type: "and", conds: [] }, true],
      [{ type: "or", conds: [ok(1), ok(0)] }, true],
      [{ type: "or", conds: [] }, false],
      [{ type: "is_autocommit" }, true],
      [{ type: "not", cond: { type: "is_autocommit" } }, false],
    ];
    const steps = [
      { stmt: { sql: "select 1" } },
      { stmt: { sql: "selec" } },
      ...conditions.map(([condition]) => ({ condition, stmt: { sql: "select 2" } })),
    ];
    const { json } = await pipeline(fixture.url, null, [{ type: "batch", batch: { steps } }]);
    const { step_results: results, step_errors: errors } = json.results[0].response.result;
    expect(results.length).toBe(steps.length);
    expect(errors.length).toBe(steps.length);
    expect(results.slice(2).map((result: unknown) => result !== null)).toEqual(conditions.map(([, runs]) => runs));
    expect(errors.map((each: unknown) => each !== null)).toEqual(steps.map((_, index) => index === 1));
    // A skipped step is neither ok nor an error.
    const skipped = await pipeline(fixture.url, null, [
      {
        type: "batch",
        batch: {
          steps: [
            { stmt: { sql: "selec" } },
            { condition: ok(0), stmt: { sql: "select 1" } },
            { condition: { type: "or", conds: [ok(1), error(1)] }, stmt: { sql: "select 1" } },
          ],
        },
      },
    ]);
    expect(skipped.json.results[0].response.result.step_results).toEqual([null, null, null]);
  });

  test("rows beyond one reply are an error in their place, and a cursor reads them", async () => {
    const sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) select i, 'some text' from n";
    const { json } = await pipeline(fixture.url, null, [execute(sql), execute("select 1")]);
    expect(json.results[0].error.code).toBe("RESPONSE_TOO_LARGE");
    expect(json.results[1].type).toBe("ok");
    const cursor = await send(fixture.url, "POST", "/v3/cursor", { baton: json.baton, batch: { steps: [{ stmt: { sql } }] } });
    expect(cursor.text.split("\n").length).toBe(20_000 + 4);
  });

  test("a cursor sends lines, skips skipped steps, and leaves the stream usable", async () => {
    const steps = [
      { stmt: { sql: "select 1 as a union all select 2" } },
      { stmt: { sql: "selec" } },
      { condition: { type: "ok", step: 1 }, stmt: { sql: "select 3" } },
      { stmt: { sql: "create table t (x)" } },
      { stmt: { sql: "insert into t values (5)" } },
    ];
    const reply = await send(fixture.url, "POST", "/v3/cursor", { baton: null, batch: { steps } });
    const lines = reply.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.slice(1)).toEqual([
      { type: "step_begin", step: 0, cols: [{ name: "a", decltype: null }] },
      { type: "row", row: [{ type: "integer", value: "1" }] },
      { type: "row", row: [{ type: "integer", value: "2" }] },
      { type: "step_end", affected_row_count: 0, last_insert_rowid: null },
      { type: "step_error", step: 1, error: { message: 'near "selec": syntax error', code: "SQL_PARSE_ERROR", extended_code: "SQLITE_ERROR" } },
      { type: "step_begin", step: 3, cols: [] },
      { type: "step_end", affected_row_count: 0, last_insert_rowid: null },
      { type: "step_begin", step: 4, cols: [] },
      { type: "step_end", affected_row_count: 1, last_insert_rowid: "1" },
    ]);
    expect((await pipeline(fixture.url, lines[0].baton, [execute("select x from t")])).json.results[0].response.result.rows.length).toBe(1);
  });
});

describe("faults", () => {
  test("what the engine rejects is the request's error, and the next runs", async () => {
    const causes: unknown[] = [new DatabaseError("ATOMCAST_OUTCOME_UNKNOWN", "The commit may have happened."), new TypeError("a bug's secret"), null];
    fixture.database.beforeWork = async () => {
      const cause = causes.shift();
      if (cause !== null) throw cause;
    };
    const { json, status } = await pipeline(fixture.url, null, [execute("select 1"), execute("select 2"), execute("select 3")]);
    expect(status).toBe(200);
    expect(json.results[0].error).toEqual({ message: "The commit may have happened.", code: "ATOMCAST_OUTCOME_UNKNOWN" });
    expect(json.results[1].error.code).toBe("INTERNAL_ERROR");
    expect(JSON.stringify(json)).not.toContain("secret");
    expect(fixture.logged.join()).toContain("a bug's secret");
    expect(json.results[2].type).toBe("ok");
  });

  test.each([
    [new DatabaseError("ATOMCAST_UNAVAILABLE", "no majority"), 503, "ATOMCAST_UNAVAILABLE"],
    [new DatabaseError("ATOMCAST_OUTCOME_UNKNOWN", "unknown"), 500, "ATOMCAST_OUTCOME_UNKNOWN"],
    [new DatabaseError("SQLITE_TOOBIG", "too big"), 400, "SQLITE_TOOBIG"],
    [new Error("bug"), 500, "INTERNAL_ERROR"],
  ])("on a stream of its own, %s answers %i", async (cause, status, code) => {
    fixture.database.beforeWork = async () => {
      throw cause;
    };
    expect(await send(fixture.url, "POST", "/v1/execute", { stmt: { sql: "select 1" } })).toMatchObject({ status, json: { code } });
    const cursor = await send(fixture.url, "POST", "/v3/cursor", { batch: { steps: [{ stmt: { sql: "select 1" } }] } });
    expect(JSON.parse(cursor.text.split("\n")[1] ?? "")).toMatchObject({ type: "error", error: { code } });
  });

  test.each([
    ["", /not JSON/],
    ["{", /not JSON/],
    ["null", /^body: an object/],
    ["[]", /^body: an object is wanted, not an array/],
    ["{}", /^requests: an array is wanted, not nothing/],
    ['{"requests":[{"type":"dance"}]}', /requests\[0\].type: one of execute.*not "dance"/],
    ['{"requests":[{"type":"execute"}]}', /requests\[0\].stmt: an object/],
    ['{"requests":[{"type":"execute","stmt":{}}]}', /exactly one of sql and sql_id/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"select 1","sql_id":1}}]}', /exactly one/],
    ['{"requests":[{"type":"execute","stmt":{"sql":1}}]}', /stmt.sql: a string/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"","args":{}}}]}', /args: an array/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"","args":[{"type":"integer","value":"9223372036854775808"}]}}]}', /64-bit integer/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"","args":[{"type":"integer","value":"1.5"}]}}]}', /64-bit integer/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"","args":[{"type":"blob","base64":"A"}]}}]}', /base64 is wanted/],
    ['{"requests":[{"type":"execute","stmt":{"sql":"","args":[{"type":"blob","base64":"*"}]}}]}', /base64 is wanted/],
    ['{"requests":[{"type":"batch","batch":{"steps":[{"condition":{"type":"ok","step":0},"stmt":{"sql":"select 1"}}]}}]}', /an earlier step/],
    ['{"baton":5,"requests":[]}', /baton: a string/],
    ['{"requests":[{"type":"store_sql","sql_id":3000000000,"sql":""}]}', /32-bit integer/],
  ])("a malformed body %s is refused whole", async (body, message) => {
    const reply = await send(fixture.url, "POST", "/v3/pipeline", body);
    expect(reply).toMatchObject({ status: 400, json: { code: "HRANA_PROTO_ERROR" } });
    expect(reply.json.message).toMatch(message);
    expect(fixture.database.openSessionCount).toBe(0);
  });

  test("bytes that are not UTF-8, and conditions nested too deep", async () => {
    expect((await send(fixture.url, "POST", "/v3/pipeline", Buffer.from('{"requests":[],"x":"\xff"}', "latin1"))).json.message).toContain("UTF-8");
    const depth = 5_000;
    const deep = `${'{"type":"not","cond":'.repeat(depth)}{"type":"is_autocommit"}${"}".repeat(depth)}`;
    const reply = await send(
      fixture.url,
      "POST",
      "/v3/pipeline",
      `{"requests":[{"type":"batch","batch":{"steps":[{"condition":${deep},"stmt":{"sql":"select 1"}}]}}]}`,
    );
    expect(reply).toMatchObject({ status: 400 });
    expect(reply.json.message).toContain("nested deeper");
  });

  test("too many bytes, told or not", async () => {
    const body = JSON.stringify({ requests: [], padding: "x".repeat(300_000) });
    const told = await send(fixture.url, "POST", "/v3/pipeline", body);
    expect(told).toMatchObject({ status: 413, json: { code: "SQLITE_TOOBIG" } });
    expect(told.headers.connection).toBe("close");
    const untold = await send(fixture.url, "POST", "/v3/pipeline", body, { "transfer-encoding": "chunked" });
    expect(untold.status).toBe(413);
    expect((await pipeline(fixture.url, null, [])).status).toBe(200);
  });
});

describe("web pages are kept away", () => {
  const body = { requests: [execute("select 1"), { type: "close" }] };

  test.each<[string, Record<string, string>, number]>([
    ["H1 a rebound name", { host: "evil.example:80" }, 403],
    ["H1 a name that begins like loopback", { host: "127.0.0.1.evil.example" }, 403],
    ["O1 a foreign origin", { origin: "https://evil.example" }, 403],
    ["O1 another local page", { origin: "http://localhost:5173" }, 403],
    ["O1 a sandboxed page", { origin: "null" }, 403],
    ["S1 a foreign page without Origin", { "sec-fetch-site": "cross-site" }, 403],
    ["S1 a page of another port", { "sec-fetch-site": "same-site" }, 403],
    ["C1 a form", { "content-type": "application/x-www-form-urlencoded" }, 415],
    ["C1 a simple request", { "content-type": "text/plain" }, 415],
    ["A1 JSON with a charset", { "content-type": "application/json; charset=utf-8" }, 200],
    ["A1 localhost", { host: "LOCALHOST:8080" }, 200],
    ["A1 another loopback address", { host: "127.9.8.7" }, 200],
    ["A1 IPv6", { host: "[::1]:8080" }, 200],
  ])("%s", async (_, headers, status) => {
    const reply = await send(fixture.url, "POST", "/v3/pipeline", body, headers);
    expect(reply.status).toBe(status);
    expect(reply.headers["access-control-allow-origin"]).toBeUndefined();
    if (status !== 200) expect(reply.json.message.length).toBeGreaterThan(20);
  });

  test("A1 the server's own origin", async () => {
    expect((await send(fixture.url, "POST", "/v3/pipeline", body, { origin: fixture.url, "sec-fetch-site": "same-origin" })).status).toBe(200);
  });

  test("H1 guards GET too", async () => {
    expect((await send(fixture.url, "GET", "/v1/status", undefined, { host: "evil.example" })).status).toBe(403);
  });

  test("A1 a client that names no Content-Type", async () => {
    const { port } = new URL(fixture.url);
    const text = JSON.stringify(body);
    const socket = connect(Number(port), "127.0.0.1");
    socket.end(`POST /v2/pipeline HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
    let reply = "";
    for await (const chunk of socket) reply += chunk;
    expect(reply).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe("shutdown", () => {
  test("running requests end, new ones are refused, open streams are rolled back", async () => {
    const other = await openFixture({ closeMs: 2_000 });
    await pipeline(other.url, null, [execute("create table t (x)"), { type: "close" }]);
    const open = await pipeline(other.url, null, [execute("begin"), execute("insert into t values (1)")]);
    expect(open.json.baton).not.toBeNull();
    let release = (): void => {};
    other.database.beforeWork = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const running = pipeline(other.url, null, [execute("select 42")]);
    await expect.poll(() => other.database.openSessionCount).toBe(2);
    const closing = other.server.close();
    await sleep(20);
    release();
    expect((await running).json.results[0].response.result.rows[0][0].value).toBe("42");
    await closing;
    await other.close();
    expect(other.database.openSessionCount).toBe(0);
    await expect(pipeline(other.url, null, [])).rejects.toThrow(/ECONNREFUSED/);
  });

  test("a request that does not end is cut after the bound", async () => {
    const other = await openFixture({ closeMs: 50 });
    let release = (): void => {};
    other.database.beforeWork = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const running = pipeline(other.url, null, [execute("select 42")]).catch((error: Error) => error);
    await expect.poll(() => other.database.openSessionCount).toBe(1);
    await other.server.close();
    expect(await running).toBeInstanceOf(Error);
    release();
    await expect.poll(() => other.database.openSessionCount).toBe(0);
    await other.close();
  });

  test("a port that is taken is said so", async () => {
    const { openHranaServer } = await import("../../src/servers/hrana/hrana-server.js");
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const port = Number(new URL(fixture.url).port);
    await expect(
      openHranaServer({ host: "127.0.0.1", port, database: fixture.database, version: "1", log, requireLoopbackHostHeader: true }),
    ).rejects.toMatchObject({ code: "ATOMCAST_HTTP_UNAVAILABLE" });
  });
});
