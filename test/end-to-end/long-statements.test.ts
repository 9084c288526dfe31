/** A statement that does not end by itself is ended: by its time, and when its client goes. Others on the same Cache go on. */
import { createClient } from "@libsql/client";
import { expect, test } from "vitest";
import { openSite } from "./processes.js";
import { eventually } from "./waiting.js";

const runaway = "with recursive r(i) as (select 1 union all select i + 1 from r) select count(*) from r";
const crossJoin = "select count(*) from n a, n b, n c where a.i + b.i + c.i < 0";

test("a runaway query is told an error, and another client on the same Cache works", { timeout: 120_000 }, async () => {
  const site = openSite();
  await site.archive("archive");
  const [cache, other] = [await site.cache("cache", ["--statement-timeout", "1s"]), await site.cache("other")];
  const [client, neighbour, far] = [createClient({ url: cache.url }), createClient({ url: cache.url }), createClient({ url: other.url })];
  await client.execute("create table n(i integer primary key)");
  await client.execute("with recursive r(i) as (select 1 union all select i + 1 from r limit 10000) insert into n select i from r");
  for (const sql of [runaway, crossJoin]) {
    const failed = expect(client.execute(sql)).rejects.toMatchObject({
      code: "SQLITE_INTERRUPT",
      message: expect.stringContaining("--statement-timeout"),
    });
    // Behind it, on the same thread.
    await far.execute({ sql: "insert into n select max(i) + 1 from n" });
    const counted = neighbour.execute("select count(*) as n from n");
    await failed;
    expect((await counted).rows).toHaveLength(1);
  }
  await eventually("what others did meanwhile is here", 10_000, async () => {
    expect((await client.execute("select count(*) as n from n")).rows).toMatchObject([{ n: 10_002 }]);
  });
});

test("a query whose client has gone is ended", { timeout: 120_000 }, async () => {
  const site = openSite();
  await site.archive("archive");
  const cache = await site.cache("cache");
  const body = JSON.stringify({ requests: [{ type: "execute", stmt: { sql: runaway } }] });
  const gone = new AbortController();
  const asked = fetch(`${cache.url}/v3/pipeline`, { method: "POST", headers: { "content-type": "application/json" }, body, signal: gone.signal });
  const aborted = expect(asked).rejects.toThrow(/abort/i);
  await new Promise((resolve) => setTimeout(resolve, 500));
  gone.abort();
  await aborted;
  const client = createClient({ url: cache.url });
  expect((await client.execute("select 5 as five")).rows).toMatchObject([{ five: 5 }]);
});
