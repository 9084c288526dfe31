/** What a Cache that joins later knows, and comes to know, by what its clients do; the races are the profile "catalogs". */
import { expect, test } from "vitest";
import { cluster, type SimulatedCluster } from "./simulated-cluster.js";

/** Tables and unique indexes whose catalogs are there. */
async function held(c: SimulatedCluster, at: string): Promise<string[]> {
  const rows = await c.sql(at, "select coalesce(index_name, table_name) from system.catalogs where held_here and table_name is not null order by 1");
  return rows.map(([name]) => String(name));
}

test("a Cache that joins later has the catalogs of what it has needed; who lists all atoms has all", async () => {
  const c = cluster({ seed: 11, archives: 2, caches: 1 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v)", "create table u (id integer primary key, name text unique)", "create table w (id)");
  await c.sql("C1", "insert into t (v) values (1), (2)", "insert into u (name) values ('a')");
  c.add("cache", "C2").start();
  await c.expectConverged();
  expect(await held(c, "C2")).toEqual([]);
  expect(await c.sql("C2", "select entries from system.catalogs where name = 'root'")).toEqual(
    await c.sql("C1", "select entries from system.catalogs where name = 'root'"),
  );
  await c.expectRows("C2", "select v from t order by id", [[1], [2]]);
  expect(await held(c, "C2")).toEqual(["t"]);
  await c.sql("C1", "create table x (id integer primary key)");
  await c.expectConverged();
  expect(await held(c, "C2")).toEqual(["t", "x"]);
  await c.sql("C2", "insert into u (name) values ('b')");
  expect(await held(c, "C2")).toContain("u");
  expect(await held(c, "C2")).not.toContain("w");
  const atoms = await c.sql("C2", "select id from system.atoms where table_name = 'w'");
  expect(atoms).toHaveLength(1);
  expect(await held(c, "C2")).toEqual(await held(c, "C1"));
  await c.expectConverged();
});

test("ids, unique keys and parents of tables that a late Cache knows nothing of", async () => {
  const c = cluster({ seed: 12, archives: 1, caches: 1 });
  await c.start();
  await c.sql(
    "C1",
    "create table p (id integer primary key, name text unique)",
    "create table k (id integer primary key, p integer references p(id))",
  );
  await c.sql("C1", "insert into p (name) values ('a'), ('b')");
  c.add("cache", "C2").start();
  await c.expectConverged();
  await c.sql("C2", "insert into k (p) values (2)");
  await expect(c.sql("C2", "insert into p (name) values ('a')")).rejects.toThrow(/UNIQUE/);
  await expect(c.sql("C1", "delete from p where id = 2")).rejects.toThrow(/FOREIGN KEY/);
  await c.expectRows("C1", "select p from k", [[2]]);
  await c.expectConverged();
});

test("a Cache without an Archive to ask says so, and goes on when one is back", async () => {
  const c = cluster({ seed: 13, archives: 1, caches: 1 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key)", "insert into t values (1)");
  c.add("cache", "C2").start();
  await c.expectConverged();
  c.crash("A1");
  const reading = c.batch("C2", [{ sql: "select count(*) from t", args: { positional: [], named: [] }, wantRows: true, condition: null }]);
  await c.runFor(500);
  c.restart("A1");
  let answered = false;
  reading.then(() => {
    answered = true;
  });
  await c.runUntil("the statement is answered", () => answered);
  expect(await reading).toMatchObject({ kind: "done" });
  await c.expectConverged();
});
