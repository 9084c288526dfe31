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

test("a table that was altered, and one that was dropped by mistake, are read as they were, until their history is over", async () => {
  const site = openSite();
  await site.archive("archive-1", ["--history", "1h"]);
  const [left, right] = [await site.cache("cache-1"), await site.cache("cache-2")];
  const [ann, bob] = [createClient({ url: left.url }), createClient({ url: right.url })];
  await expect.poll(async () => ({ ...(await ann.execute("pragma atomcast.history")).rows[0] }), { timeout: 10_000 }).toEqual({ history: "1h" });
  await ann.batch(
    [
      "create table city (id integer primary key, name text, code text unique)",
      "create table river (id integer primary key, length integer)",
      "create index river_length on river(length)",
      "create view names as select name from city",
      "insert into city values (1, 'Oslo', 'o'), (2, 'Lima', 'l')",
      "insert into river values (1, 6575), (2, 6400)",
    ],
    "write",
  );
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const time = new Date().toISOString();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  for (const sql of [
    "alter table city rename column name to title",
    "alter table city add column more",
    "alter table city drop column more",
    "alter table city add column country text default 'somewhere'",
    "alter table city rename to town",
    "drop table river",
    "insert into town (title) values ('Quito')",
  ])
    await ann.execute(sql);
  const asOf = async (of: typeof ann, sql: string): Promise<unknown[]> => {
    const [, found] = await of.batch([`pragma atomcast.as_of = '${time}'`, sql], "read");
    return (found?.rows ?? []).map((row) => Array.from(row));
  };
  for (const of of [ann, bob]) {
    expect(await asOf(of, "select length from river where length > 6500")).toEqual([[6575]]);
    expect(await asOf(of, "select * from river order by id desc")).toEqual([
      [2, 6400],
      [1, 6575],
    ]);
    expect(await asOf(of, "select * from city order by id")).toEqual([
      [1, "Oslo", "o"],
      [2, "Lima", "l"],
    ]);
    expect(await asOf(of, "select * from names order by name")).toEqual([["Lima"], ["Oslo"]]);
    await expect(asOf(of, "select * from town")).rejects.toThrow(/no such table: town \(as of \d+\)/);
    await expect(of.execute("select * from river")).rejects.toThrow("no such table: river");
    expect((await of.execute("select title, country from town order by id")).rows.map((row) => Array.from(row))).toEqual([
      ["Oslo", "somewhere"],
      ["Lima", "somewhere"],
      ["Quito", "somewhere"],
    ]);
  }
  // What was dropped is made again from what it was.
  const rivers = await asOf(bob, "select id, length from river");
  await bob.batch(
    ["create table river (id integer primary key, length integer)", ...rivers.map((row) => `insert into river values (${row})`)],
    "write",
  );
  expect((await ann.execute("select sum(length) as km from river")).rows[0]?.km).toBe(12_975);
  // Who reads the past holds it for a minute: both go.
  for (const cache of [left, right]) {
    cache.kill("SIGTERM");
    await cache.ended();
  }
  const last = await site.cache("cache-3");
  const eve = createClient({ url: last.url });
  const applied = Number((await eve.execute("select max(applied_seq) as seq from system.engines")).rows[0]?.seq);
  await eve.execute("pragma atomcast.history = '1s'");
  const collected = async (): Promise<boolean> => {
    await eve.execute("update town set country = country");
    const [row] = (await eve.execute("select mark, swept_versions from system.gc where kind = 'archive'")).rows;
    return Number(row?.mark) > applied && Number(row?.swept_versions) >= 4;
  };
  await expect.poll(collected, { timeout: 60_000, interval: 250 }).toBe(true);
  await expect(asOf(eve, "select * from river")).rejects.toThrow(/is not kept any more: the oldest is/);
  expect((await eve.execute("select count(*) as n from river")).rows[0]?.n).toBe(2);
});
