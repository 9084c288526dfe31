/** design.md §5, "A pull": what a Cache that is started empty pulls for its first statements, counted. */
import { expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 90_000;

function spaceOf(c: SimulatedCluster, table: string): SpaceId {
  const found = c.invariants.committed.catalog.schema.inOrder().find(({ object }) => object.name === table);
  if (found === undefined) throw new Error(`no table ${table}`);
  return found.object.space;
}

function atomsOf(c: SimulatedCluster, table: string): number {
  return c.invariants.committed.catalog.atoms.ofSpace(spaceOf(c, table)).length;
}

function pulledBy(c: SimulatedCluster, name: string): number {
  return c.process(name).core?.cache?.pulls.counters.atoms ?? 0;
}

test("a Cache that is started empty pulls one atom for its first point query, by key or by index, of a table of two hundred", {
  timeout: timeoutMs,
}, async () => {
  const c = cluster({ seed: 3, archives: 1, caches: 1 });
  await c.start();
  await c.sql("C1", "create table big (id integer primary key, n integer not null, body text not null, code text collate nocase)");
  const body = "b".repeat(24_000);
  for (let first = 1; first <= 640; first += 20)
    await c.sql(
      "C1",
      `insert into big values ${Array.from({ length: 20 }, (_, index) => `(${first + index}, 0, '${body}', 'c${first + index}')`).join(", ")}`,
    );
  await c.runUntil("the table is split", () => atomsOf(c, "big") >= 200, 60_000);
  // With rows there already: the Archives make its entries from these.
  await c.sql("C1", "create index big_code on big(code)");
  c.add("cache", "C2");
  c.restart("C2");
  await c.runUntil("C2 is a member", () => c.isSettled());
  await c.expectRows("C2", "select n, length(body) from big where id = 333", [[0, 24_000]]);
  expect(pulledBy(c, "C2")).toBe(1);
  await c.sql("C2", "update big set n = n + 1 where id = 334");
  await c.sql("C2", "delete from big where id in (10, 600)");
  await c.sql("C2", "insert into big values (1000, 1, 'new', null)");
  expect(pulledBy(c, "C2")).toBeLessThanOrEqual(5);
  await c.expectRows("C2", "select count(*), sum(n) from big where id between 330 and 340", [[11, 1]]);
  expect(pulledBy(c, "C2")).toBeLessThanOrEqual(10);
  // A transaction over many atoms asks for all that its texts name at once.
  const updates = Array.from({ length: 30 }, (_, index) => `update big set n = 5 where id = ${20 * index + 1}`);
  await c.sql("C2", "begin", ...updates, "commit");
  expect(pulledBy(c, "C2")).toBeLessThan(45);
  await c.expectConverged();
  await c.expectRows("C1", "select count(*), sum(n) from big", [[639, 152]]);
  c.add("cache", "C3");
  c.restart("C3");
  await c.runUntil("C3 is a member", () => c.isSettled());
  await c.expectRows("C3", "select id, length(body) from big where code = 'C444'", [[444, 24_000]]);
  expect(pulledBy(c, "C3")).toBe(1);
  await c.expectRows("C3", "select id from big where code in ('c1', 'c200', 'c639', 'none') order by id", [[1], [200], [639]]);
  await c.expectRows("C3", "select count(*) from big where code = 'c1001'", [[0]]);
  expect(pulledBy(c, "C3")).toBe(4);
  // Another engine's change enters a range that C3 holds.
  await c.sql("C2", "update big set code = 'c444' where id = 21");
  await c.expectConverged();
  await c.expectRows("C3", "select count(*) from big where code = 'c444'", [[2]]);
  expect(pulledBy(c, "C3")).toBe(5);
  // Ten outer rows, of a table of two hundred atoms.
  await c.sql("C1", "create table marks (id integer primary key, big integer not null, note text)");
  await c.sql("C1", `insert into marks (big) values ${Array.from({ length: 60 }, (_, index) => `(${10 * index + 7})`).join(", ")}`);
  await c.expectConverged();
  c.add("cache", "C4");
  c.restart("C4");
  await c.runUntil("C4 is a member", () => c.isSettled());
  const explain = "explain pull select m.id, b.id from marks m join big b on b.id = m.big where m.id between 21 and 30";
  expect((await c.sql("C4", explain)).map((row) => row.slice(0, 4))).toEqual([
    ["marks", "id >= 21 AND id <= 30", 1n, 0n],
    ["big", "id = marks.big", null, null],
  ]);
  expect((await c.sql("C4", "explain pull select 1 from big where id in (1, 5, 600)")).map((row) => row.slice(0, 4))).toEqual([
    ["big", "id IN (1, 5, 600)", 3n, 0n],
  ]);
  expect(pulledBy(c, "C4")).toBe(0);
  await c.expectRows("C4", "select count(*), min(length(b.body)) from marks m join big b on b.id = m.big where m.id between 21 and 30", [
    [10, 24_000],
  ]);
  expect(pulledBy(c, "C4")).toBe(11);
  // An unique value that nobody has, and one that somebody has.
  await c.sql("C1", "create unique index big_n on big(code, n)");
  await c.expectConverged();
  await expect(c.sql("C4", "insert into big values (2000, 0, 'x', 'c500')")).rejects.toThrow(/UNIQUE/);
  await c.sql("C4", "insert into big values (2001, 0, 'x', 'c7777')");
  expect(pulledBy(c, "C4")).toBeLessThanOrEqual(13);
  // A wide range takes the table.
  await c.expectRows("C3", "select count(*) from big where code > 'c'", [[639]]);
});

test("a transaction whose keys come out one after another takes the table whole before its patience ends", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 4, archives: 1, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, body text not null)");
  const body = "b".repeat(40_000);
  for (let first = 1; first <= 200; first += 20)
    await c.sql("C1", `insert into t values ${Array.from({ length: 20 }, (_, index) => `(${first + index}, '${body}')`).join(", ")}`);
  await c.runUntil("the table is split", () => atomsOf(c, "t") >= 60, 60_000);
  // The next key is known only when the one before is there.
  const steps = Array.from({ length: 70 }, (_, index) => `insert into t select abs(${1000 + index}) * -1, 'x'`);
  const names = Array.from({ length: 70 }, (_, index) => `update or ignore t set id = abs(${3 * index + 1}) where id = ${-1000 - index}`);
  let answer: BatchAnswer | null = null;
  c.batch(
    "C2",
    ["begin", ...steps, ...names, "commit"].map((sql) => step(sql)),
  ).then((given) => {
    answer = given;
  });
  await c.runUntil("it is answered", () => answer !== null);
  expect(answer).toMatchObject({ kind: "done" });
  await c.expectConverged();
  await c.expectRows("C1", "select count(*) from t where id < 0", [[67]]);
});

test("Caches pull from each other, and system.pulls tells who gave what", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 5, archives: 1, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, body text not null)");
  const body = "b".repeat(30_000);
  for (let first = 1; first <= 60; first += 20)
    await c.sql("C1", `insert into t values ${Array.from({ length: 20 }, (_, index) => `(${first + index}, '${body}')`).join(", ")}`);
  await c.runUntil("the table is split", () => atomsOf(c, "t") >= 15, 60_000);
  await c.expectConverged();
  await c.expectRows("C2", "select count(*), sum(length(body)) from t", [[60, 1_800_000]]);
  const from = "select kind, chunks > 0, bytes > 1000000, latency_ms > 0 from system.pulls where chunks > 0 order by kind";
  const [archive, cache] = await c.sql("C2", from);
  // The Cache is asked for two chunks at once, the Archive for the rest.
  expect(archive?.[0]).toBe("archive");
  expect(cache?.[0]).toBe("cache");
  const [[pulled]] = (await c.sql("C2", "select sum(chunks) from system.pulls")) as [[bigint]];
  const [[given]] = (await c.sql("C1", "select sum(given_chunks) from system.pulls")) as [[bigint]];
  expect(given).toBeGreaterThan(3n);
  expect(pulled).toBeGreaterThan(given);
  expect(await c.sql("C2", "select chunks from system.pulls where kind = 'cache'")).toEqual([[given]]);
  await c.expectConverged();
});
