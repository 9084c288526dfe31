/** design.md §8, "Versions" and "Low-water mark", with real engines: old versions stay for who may read them, and go when nobody does. */
import { expect, test } from "vitest";
import { describeCollector } from "../../src/bin/admin.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import type { Status } from "../../src/engines/database.js";
import { cluster, rowsOf, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 90_000;

async function answerOf(
  c: SimulatedCluster,
  at: string,
  sql: readonly string[],
  open: number | null = null,
): Promise<BatchAnswer & { kind: "done" }> {
  let answer: BatchAnswer | null = null;
  c.batch(
    at,
    sql.map((one) => step(one)),
    open,
  ).then((given) => {
    answer = given;
  });
  await c.runUntil(sql.join("; "), () => answer !== null);
  const given = answer as BatchAnswer | null;
  if (given?.kind !== "done") throw new Error(`no answer: ${JSON.stringify(given)}`);
  return given;
}

function keptBy(c: SimulatedCluster): number[] {
  return c.names("archive").map(({ disk }) => disk?.store.versions.count ?? -1);
}

test("an open transaction holds the mark back and reads what it pulls as it was; without it, all versions go, and the database goes quiet", {
  timeout: timeoutMs,
}, async () => {
  const c = cluster({ seed: 5, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table a (id integer primary key)", "insert into a values (1)");
  await c.sql("C1", "create table t (id integer primary key, n integer)", "create index t_n on t(n)", "insert into t values (1, 0), (2, 0), (3, 0)");
  const begun = await answerOf(c, "C2", ["begin", "select id from a"]);
  const snapshot = c.process("C2").local?.store.oldestSnapshot ?? 0;
  expect(snapshot).toBeGreaterThan(0);
  for (let n = 1; n <= 40; n++) await c.sql("C1", `update t set n = ${n} where id = 1`);
  await c.sql("C1", "delete from t where id = 2", "insert into t values (4, 4)");
  await c.runFor(2000);
  const catalog = c.invariants.committed.catalog;
  expect(catalog.mark).toBe(snapshot);
  expect(keptBy(c).every((count) => count >= 41)).toBe(true);
  const c2 = c.process("C2").core?.engine ?? 0;
  await c.expectRows("C1", "select engine, oldest_snapshot from system.gc where holds_mark", [[c2, snapshot]]);
  await c.expectRows("C1", `select count(*) from system.gc where mark = ${snapshot} and versions >= 41 and version_bytes > 0`, [[3]]);
  await c.expectRows("C1", "select engine, open_transaction, open_ms between 1500 and 60000 from system.gc where open_transaction is not null", [
    [c2, begun.open ?? 0, 1],
  ]);
  const status = await c.process("C1").cache?.status();
  const { collector } = status as Status;
  expect(collector).toMatchObject({ mark: snapshot, heldBackBy: { engine: c2, snapshot, transaction: begun.open } });
  expect(describeCollector(collector)).toMatch(
    new RegExp(
      `^old versions: \\d+ \\(0.0 MB\\) on .*; low-water mark ${snapshot}, held back by engine ${c2} at ${snapshot}, where transaction ${begun.open} has been open for \\d+ s$`,
    ),
  );
  // Nothing of the table was here yet.
  const read = await answerOf(c, "C2", ["select id, n from t order by id"], begun.open);
  expect(rowsOf(read)).toEqual([
    [1n, 0n],
    [2n, 0n],
    [3n, 0n],
  ]);
  expect(rowsOf(await answerOf(c, "C2", ["select id from t where n = 0 order by id", "commit"], read.open))).toEqual([[1n], [2n], [3n]]);
  await c.expectRows("C2", "select id, n from t order by id", [
    [1, 40],
    [3, 0],
    [4, 4],
  ]);
  await c.runUntil("all versions are gone", () => keptBy(c).every((count) => count === 0));
  expect(catalog.mark).toBeGreaterThan(snapshot);
  await c.runFor(500);
  const { lastSeq } = c.invariants.committed;
  await c.runFor(3000);
  expect(c.invariants.committed.lastSeq).toBe(lastSeq);
  await c.expectRows("C1", "select count(*) from system.gc where holds_mark or versions > 0 or open_transaction is not null", [[0]]);
  await c.expectRows("C1", "select count(*) from system.gc where swept_versions >= 41 and swept_bytes > 0 and version_floor = mark", [[3]]);
  await c.expectConverged();
});

test("the end of a transaction lets the mark go, though nothing is written any more", { timeout: timeoutMs }, async () => {
  for (const end of ["rollback", "commit"]) {
    const c = cluster({ seed: 6, archives: 1, caches: 2 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, n integer)", "insert into t values (1, 0)");
    await c.expectRows("C2", "select n from t", [[0]]);
    const begun = await answerOf(c, "C2", ["begin", "select n from t"]);
    for (let n = 1; n <= 20; n++) await c.sql("C1", `update t set n = ${n}`);
    await c.runFor(1000);
    expect(keptBy(c)).toEqual([20]);
    expect(rowsOf(await answerOf(c, "C2", ["select n from t", end], begun.open))).toEqual([[0n]]);
    await c.runUntil("all versions are gone", () => keptBy(c).every((count) => count === 0));
  }
});

test("what rows were is kept for as long as the database was made to, and then goes", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 7, archives: 3, caches: 2, historyMs: 600 });
  await c.start();
  await c.runUntil("the history is set", () => c.invariants.committed.catalog.historyMs === 600);
  await c.expectRows("C2", "pragma atomcast.history", [["600ms"]]);
  await c.sql("C1", "create table t (id integer primary key, n integer)", "insert into t values (1, 0)");
  for (let n = 1; n <= 20; n++) await c.sql("C1", `update t set n = ${n}`);
  await c.runFor(300);
  expect(keptBy(c)).toEqual([20, 20, 20]);
  await c.runUntil("all versions are gone", () => keptBy(c).every((count) => count === 0));
  await c.runFor(2000);
  const { lastSeq } = c.invariants.committed;
  await c.runFor(3000);
  expect(c.invariants.committed.lastSeq).toBe(lastSeq);
  await c.sql("C2", "pragma atomcast.history = '1h'");
  for (let n = 1; n <= 20; n++) await c.sql("C1", `update t set n = ${n}`);
  await c.runFor(2000);
  expect(keptBy(c)).toEqual([20, 20, 20]);
  await c.sql("C2", "pragma atomcast.history = 0");
  await c.runUntil("all versions are gone", () => keptBy(c).every((count) => count === 0));
  await c.expectConverged();
});
