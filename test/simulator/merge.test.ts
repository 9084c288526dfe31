/** Atoms that are small together become one. */
import { expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 120_000;

function spaceOf(c: SimulatedCluster, table: string): SpaceId {
  const found = c.invariants.committed.catalog.schema.inOrder().find(({ object }) => object.name === table);
  if (found === undefined) throw new Error(`no table ${table}`);
  return found.object.space;
}

function atomsOf(c: SimulatedCluster, table: string): number {
  return c.invariants.committed.catalog.atoms.countOf(spaceOf(c, table));
}

function bodies(c: SimulatedCluster, kind: string): number {
  return c.seen("proposal").filter(({ body }) => body.kind === kind).length;
}

test("a table with many short-lived writers does not keep their empty blocks as atoms", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 41, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)");
  await c.sql("C1", "insert into t (v) values (0)");
  for (let life = 1; life <= 12; life++) {
    await c.runUntil("it is a member", () => c.process("C2").isMember);
    await c.sql("C2", `insert into t (v) values (${life})`);
    c.crash("C2");
    await c.runFor(50);
    c.restart("C2");
  }
  expect(bodies(c, "split")).toBeGreaterThan(12);
  c.crash("C1");
  await c.runFor(3000);
  expect(atomsOf(c, "t")).toBeLessThanOrEqual(4);
  await c.expectRows("C2", "select count(*), sum(v) from t", [[13, 78]]);
  await c.sql("C2", "insert into t (v) values (100)");
  await c.expectConverged();
});

test("ranges whose rows were deleted are merged, across originators; what is written again is split again", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 42, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v text)");
  for (let id = 1; id <= 40; id++) {
    await c.sql("C1", `insert into t values (${id}, '${"x".repeat(20_000)}')`);
    // A SPLIT measures what is there when it is looked for; what comes meanwhile makes its pieces' sizes guesses.
    await c.runFor(100);
  }
  const large = atomsOf(c, "t");
  expect(large).toBeGreaterThan(5);
  expect(bodies(c, "merge")).toBe(0);
  // Every other atom becomes another engine's.
  await c.expectRows("C2", "select count(*) from t", [[40]]);
  for (let turn = 0; turn < 40; turn++) {
    await c.sql("C2", "update t set v = v || '.' where id between 11 and 20");
    await c.runFor(50);
  }
  expect(bodies(c, "handoff")).toBeGreaterThan(0);
  await c.sql("C1", "delete from t where id > 1");
  await c.runFor(6000);
  expect(atomsOf(c, "t")).toBeLessThanOrEqual(3);
  await c.expectRows("C2", "select id from t order by id", [[1]]);
  for (let id = 2; id <= 20; id++) await c.sql("C2", `insert into t values (${id}, '${"y".repeat(20_000)}')`);
  await c.runFor(4000);
  expect(atomsOf(c, "t")).toBeGreaterThan(2);
  await c.expectRows("C1", "select count(*) from t where v like 'y%'", [[19]]);
  await c.expectConverged();
});

test("SPLIT and HANDOFF between grant and proposal, then MERGE", { timeout: timeoutMs }, async () => {
  let merged = 0;
  let caught = 0;
  // Two, and more where what is looked for has not happened in them.
  for (let seed = 1; seed <= 2 || (seed <= 8 && (merged === 0 || caught === 0)); seed++) {
    const c = cluster({ seed, archives: 3, caches: 3, storeMsMax: 3 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, v integer, note text)", "insert into t values (1, 0, ''), (2, 0, ''), (900, 0, '')");
    for (const name of ["C2", "C3"]) await c.expectRows(name, "select count(*) from t", [[3]]);
    let open = 0;
    let done = 0;
    const write = (name: string, sql: string): void => {
      open++;
      c.batch(name, [step(sql)]).then((answer) => {
        expect(answer).toMatchObject({ kind: "done", outcomes: [{ kind: "ok" }] });
        open--;
        if (sql.startsWith("update")) done++;
      });
    };
    // C3 writes most, so that atoms go to it; rows come, which cut them, and go, so that the pieces become one again, under everybody's grants.
    for (let turn = 0; turn < 400; turn++) {
      if (turn < 200) write("C3", `insert into t (id, note) values (${10 + turn}, '${"x".repeat(1500)}')`);
      if (turn === 220) write("C2", "delete from t where id between 10 and 800");
      write(turn % 4 === 0 ? "C2" : "C3", `update t set v = v + 1 where id = ${[1, 2, 900][turn % 3]}`);
      await c.runFor(8);
    }
    await c.runUntil("all are answered", () => open === 0);
    for (let turn = 0; turn < 60 && bodies(c, "merge") === 0; turn++) await c.runFor(100);
    merged += bodies(c, "merge");
    caught += c.seen("refused").filter(({ reason }) => reason === "fence").length;
    expect(c.seen("proposal").some(({ body }) => body.kind === "split" && body.sequenceNext === 0n)).toBe(true);
    expect(bodies(c, "handoff")).toBeGreaterThan(0);
    await c.expectRows("C1", "select sum(v), count(*) from t", [[done, 3]]);
    await c.expectConverged();
  }
  expect(merged).toBeGreaterThan(0);
  // Some were caught with a grant in hand, and none was lost or done twice.
  expect(caught).toBeGreaterThan(0);
});
