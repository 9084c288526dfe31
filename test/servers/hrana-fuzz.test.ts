/** Bodies from anywhere: each is carried out or refused with 400, and the server goes on. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeBatchBody, decodeCursorRequest, decodeExecuteBody, decodePipeline, decodeValue } from "../../src/servers/hrana/hrana-decode.js";
import { encodeValue } from "../../src/servers/hrana/hrana-encode.js";
import { HttpFault } from "../../src/servers/hrana/hrana-errors.js";
import { type Fixture, openFixture, pipeline, send } from "./hrana-fixture.js";

let fixture: Fixture;

beforeAll(async () => {
  fixture = await openFixture();
});

afterAll(() => fixture.close());

const keys = fc.constantFrom(
  "type",
  "baton",
  "requests",
  "stmt",
  "sql",
  "sql_id",
  "args",
  "named_args",
  "name",
  "value",
  "base64",
  "want_rows",
  "batch",
  "steps",
  "condition",
  "cond",
  "conds",
  "step",
  "__proto__",
  "constructor",
);
const words = fc.constantFrom(
  "execute",
  "batch",
  "sequence",
  "describe",
  "store_sql",
  "close_sql",
  "get_autocommit",
  "close",
  "ok",
  "error",
  "not",
  "and",
  "or",
  "is_autocommit",
  "null",
  "integer",
  "float",
  "text",
  "blob",
  "1",
  "AP8=",
  "select 1",
);

const { value: anyJson } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    words,
    fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e300, 2 ** 40),
    fc.string(),
    fc.array(tie("value"), { maxLength: 3 }),
    fc
      .array(fc.tuple(keys, tie("value")), { maxLength: 5 })
      .map((entries) => JSON.parse(`{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`)),
  ),
}));

test("decoders answer any JSON with a request or a fault that says what is wrong", () => {
  const decoders = [decodePipeline, decodeCursorRequest, decodeExecuteBody, decodeBatchBody, (body: unknown) => decodePipeline({ requests: [body] })];
  fc.assert(
    fc.property(anyJson, fc.constantFrom(...decoders), (body, decode) => {
      try {
        decode(body);
      } catch (error) {
        expect(error).toBeInstanceOf(HttpFault);
        expect(error).toMatchObject({ status: 400, code: "HRANA_PROTO_ERROR" });
      }
    }),
    { numRuns: 5_000 },
  );
});

test("values come back as they were sent", () => {
  const value = fc.oneof(
    fc.constant(null),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.double({ noNaN: true }),
    fc.string({ unit: "binary" }),
    fc.uint8Array({ maxLength: 40 }),
  );
  fc.assert(
    fc.property(value, (sent) => {
      const read = decodeValue(JSON.parse(encodeValue(sent)), "value");
      if (sent instanceof Uint8Array) expect([...(read as Uint8Array)]).toEqual([...sent]);
      else expect(read).toBe(sent);
    }),
    { numRuns: 2_000 },
  );
});

test("a server that is sent cut and changed bodies goes on", async () => {
  const valid = JSON.stringify({
    baton: null,
    requests: [
      { type: "execute", stmt: { sql: "select ?1", args: [{ type: "integer", value: "5" }] } },
      {
        type: "batch",
        batch: { steps: [{ stmt: { sql: "select 1" } }, { condition: { type: "not", cond: { type: "ok", step: 0 } }, stmt: { sql: "select 2" } }] },
      },
      { type: "close" },
    ],
  });
  await fc.assert(
    fc.asyncProperty(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 }), fc.boolean(), async (place, byte, isCut) => {
      const body = Buffer.from(valid);
      body[place] = byte;
      const reply = await send(fixture.url, "POST", "/v3/pipeline", isCut ? body.subarray(0, place) : body);
      expect([200, 400]).toContain(reply.status);
      if (reply.status === 400) expect(reply.json.message).toBeTypeOf("string");
    }),
    { numRuns: 150 },
  );
  expect((await pipeline(fixture.url, null, [])).status).toBe(200);
  expect(fixture.logged).toEqual([]);
});
