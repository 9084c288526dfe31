/** A database that keeps its history: the past by seq and by time, from every Cache, through an unmodified client, with an Archive killed in between. */
import { createClient } from "@libsql/client";
import { expect, test } from "vitest";
import { openSite } from "./processes.js";

test("what was there is read as of a seq and a time, and the present goes on", async () => {
  const site = openSite();
  const archives = [await site.archive("archive-1", ["--history", "1h"]), await site.archive("archive-2"), await site.archive("archive-3")];
  const [left, right] = [await site.cache("cache-1"), await site.cache("cache-2")];
  const [ann, bob] = [createClient({ url: left.url }), createClient({ url: right.url })];
  await expect.poll(async () => ({ ...(await bob.execute("pragma atomcast.history")).rows[0] }), { timeout: 10_000 }).toEqual({ history: "1h" });
  await ann.batch(["create table city (id integer primary key, name text)", "insert into city values (1, 'Christiania'), (2, 'Lima')"], "write");
  const appliedBy = async (url: string): Promise<number> => {
    const { rows } = await createClient({ url }).execute("select max(applied_seq) as seq from system.engines where kind = 'cache'");
    return Number(rows[0]?.seq);
  };
  await expect.poll(async () => (await bob.execute("select count(*) as n from city")).rows[0]?.n, { timeout: 10_000 }).toBe(2);
  const seq = await appliedBy(left.url);
  // Times are told to within a second or so.
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await ann.execute("insert into city values (3, 'Quito')");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const time = new Date().toISOString();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await ann.batch(["update city set name = 'Oslo' where id = 1", "delete from city where id = 2"], "write");
  await expect.poll(async () => (await bob.execute("select count(*) as n from city")).rows[0]?.n, { timeout: 10_000 }).toBe(2);
  const namesAsOf = async (of: typeof ann, asOf: string): Promise<unknown[]> => {
    const [, names] = await of.batch([`pragma atomcast.as_of = ${asOf}`, "select name from city order by id"], "read");
    return (names?.rows ?? []).map((row) => row.name);
  };
  for (const of of [ann, bob]) {
    expect(await namesAsOf(of, String(seq))).toEqual(["Christiania", "Lima"]);
    expect(await namesAsOf(of, `'${time}'`)).toEqual(["Christiania", "Lima", "Quito"]);
    expect((await of.execute("select name from city order by id")).rows.map((row) => row.name)).toEqual(["Oslo", "Quito"]);
  }
  archives[0]?.kill("SIGKILL");
  await archives[0]?.ended();
  for (const of of [ann, bob]) expect(await namesAsOf(of, String(seq + 1))).toEqual(["Christiania", "Lima"]);
  await expect(namesAsOf(bob, "99999999")).rejects.toThrow("99999999 has not come yet");
  const shell = await site.run(["sql", right.url, "-c", `pragma atomcast.as_of = ${seq}; select name from city where id = 2`]);
  expect(shell).toMatchObject({ code: 0, stdout: expect.stringContaining("Lima") });
  const refused = await site.run(["sql", right.url, "-c", `pragma atomcast.as_of = ${seq}; delete from city`]);
  expect(`${refused.stdout}${refused.stderr}`).toContain("the session reads the past");
  const status = await site.run(["status", left.url]);
  expect(status.stdout).toMatch(/low-water mark \d+, history 1h/);
  const gone = await site.run(["archive", "--data", `${site.directory}/never`, "--history", "soon"]);
  expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining("--history takes a duration") });
});
