/** system.settings: what is set on an engine, in the database and in a session, and where it comes from. */
import { createClient } from "@libsql/client";
import { expect, test } from "vitest";
import { openSite } from "./processes.js";

test("system.settings tells options, the database's settings and the session's, each with its source", async () => {
  const site = openSite();
  await site.archive("archive-1");
  const cache = await site.cache("cache-1", ["--statement-timeout", "5s", "--memory", "64MB"]);
  const client = createClient({ url: cache.url });
  const read = "select name, value, source, change from system.settings";
  const settings = async (from: Pick<typeof client, "execute"> = client): Promise<Record<string, unknown[]>> =>
    Object.fromEntries((await from.execute(read)).rows.map(({ name, value, source }) => [String(name), [value, source]]));
  expect(await settings()).toMatchObject({
    database: [expect.stringMatching(/./), "environment"],
    memory: [64 * 1024 * 1024, "option"],
    statement_timeout: [5000, "option"],
    interface: ["127.0.0.1", "default"],
    log: ["info", "default"],
    history: ["0", "default"],
    voters: [1, "database"],
    user_version: [0, "default"],
    isolation: ["snapshot", "default"],
    foreign_keys: [1, "default"],
    as_of: [null, "default"],
  });
  // As each row says how.
  const rows = (await client.execute(`${read} where change like 'PRAGMA %'`)).rows;
  expect(rows.map(({ name }) => name).sort()).toEqual([
    ...["application_id", "as_of", "defer_foreign_keys", "foreign_keys", "history", "isolation", "user_version"],
  ]);
  await client.execute("PRAGMA atomcast.history = '90s'");
  await client.execute("PRAGMA user_version = -3");
  expect(await settings()).toMatchObject({ history: ["90s", "database"], user_version: [-3, "database"] });
  const session = await client.transaction("write");
  await session.execute("PRAGMA atomcast.isolation = serializable");
  expect(await settings(session)).toMatchObject({ isolation: ["serializable", "PRAGMA"] });
  await session.rollback();
  await expect(client.execute("update system.settings set value = 1")).rejects.toThrow(/read-only/);
  client.close();
});
