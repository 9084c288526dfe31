/** Statements that do not end by themselves. There is no thread and no clock here: they end after so many ticks. */
import { expect, test } from "vitest";
import { step } from "../sql/store-harness.js";
import { cluster } from "./simulated-cluster.js";

const runaway = "with recursive r(i) as (select 1 union all select i + 1 from r)";

test("a statement that is ended leaves nothing behind, and its Cache goes on applying", async () => {
  for (const seed of [31, 32, 33, 34]) {
    const c = cluster({ seed, archives: 3, caches: 2, storeMsMax: 5 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, v)", "insert into t values (1, 1)");
    await expect(c.sql("C1", `${runaway} select count(*) from r`)).rejects.toThrow(/interrupted.*--statement-timeout/);
    await expect(c.sql("C1", `insert into t ${runaway} select i + 1, i from r`)).rejects.toThrow(/interrupted/);
    const answers = [
      c.batch("C1", [step(`insert into t ${runaway} select i + 1, i from r`), step("insert into t values (2, 2)")]),
      // Given up while it waits for the store, or runs there, or later.
      c.batch("C1", [step(`update t set v = (${runaway} select count(*) from r)`)], null, seed % 4),
      c.batch("C2", [step("update t set v = v + 10 where id = 1")]),
    ];
    const told: unknown[] = [];
    for (const answer of answers) answer.then((one) => told.push(one));
    await c.runUntil("all are answered", () => told.length === answers.length);
    await c.expectRows("C1", "select id, v from t order by id", [
      [1, 11],
      [2, 2],
    ]);
    await c.expectConverged();
    c.end();
  }
});

test("in an open transaction the statement alone is undone", async () => {
  const c = cluster({ seed: 35, archives: 1, caches: 1 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v)");
  const steps = ["begin", "insert into t values (1, 1)", `insert into t ${runaway} select i + 1, i from r`, "insert into t values (5, 5)", "commit"];
  await expect(c.sql("C1", ...steps)).rejects.toThrow(/interrupted/);
  await c.expectRows("C1", "select id from t order by id", [[1], [5]]);
  await c.expectConverged();
});
