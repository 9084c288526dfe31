/** The simulator's own words, on the smallest clusters. */
import { expect, test } from "vitest";
import { cluster } from "./simulated-cluster.js";

test("one Archive and one Cache, no faults", async () => {
  const c = cluster({ seed: 1, archives: 1, caches: 1 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v text)");
  await c.sql("C1", "insert into t values (1, 'one')");
  await c.sql("C1", "insert into t (v) values ('two')");
  await c.expectRows("C1", "select id, v from t order by id", [
    [1, "one"],
    [2, "two"],
  ]);
  await c.expectConverged();
  expect(c.invariants.committed.lastSeq).toBeGreaterThan(3);
});

test("a commit survives losing its originator", async () => {
  const c = cluster({ seed: 7, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key)");
  await c.sql("C1", "insert into t values (1)");
  c.crash("C1");
  await c.expectRows("C2", "select id from t", [[1]]);
  await c.sql("C2", "insert into t values (2)");
  await c.expectRows("C2", "select id from t", [[1], [2]]);
  await c.expectConverged();
});
