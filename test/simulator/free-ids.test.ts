/** Ids that a Cache has not used come to the next one. */
import { expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { cluster, type SimulatedCluster } from "./simulated-cluster.js";

const timeoutMs = 60_000;

async function leave(c: SimulatedCluster, name: string): Promise<void> {
  let isGone = false;
  c.leave(name, () => {
    isGone = true;
  });
  await c.runUntil(`${name} has left`, () => isGone);
}

function spaceOf(c: SimulatedCluster, table: string): SpaceId {
  const found = c.invariants.committed.catalog.schema.inOrder().find(({ object }) => object.name === table);
  if (found === undefined) throw new Error(`no table ${table}`);
  return found.object.space;
}

test("ids that a Cache has left over come to the next one, hidden rowids too", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 31, archives: 3, caches: 3 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v)", "create table hidden (v)", "insert into t (v) values (0)");
  await c.sql("C2", "insert into t (v) values (1), (2)", "insert into hidden values (1)");
  const [first] = (await c.sql("C2", "select max(id) from t where v > 0"))[0] ?? [];
  await leave(c, "C2");
  // An id beyond them all is not in the way; one that somebody names among them is.
  await c.sql("C1", "insert into hidden (rowid, v) values (20, 'explicit')");
  await c.sql("C3", "insert into t (v) values (3), (4)", "insert into hidden values (3)");
  await c.expectRows("C1", "select id from t where v in (3, 4) order by id", [[Number(first) + 1], [Number(first) + 2]]);
  const [rowid] = (await c.sql("C1", "select rowid from hidden where v = 3"))[0] ?? [];
  expect(Number(rowid)).toBeGreaterThan(20);
  // What the next one leaves comes back in turn, and nothing else was taken from the sequence.
  const { sequenceNext } = c.invariants.committed.catalog.schema.tables.get(spaceOf(c, "t")) ?? { sequenceNext: 0n };
  await leave(c, "C3");
  await c.sql("C1", "insert into t (v) values (5)");
  expect(c.invariants.committed.catalog.schema.tables.get(spaceOf(c, "t"))?.sequenceNext).toBe(sequenceNext);
  await c.expectConverged();
});

test("no id of an AUTOINCREMENT table comes again", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 32, archives: 1, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key autoincrement, v)");
  await c.sql("C2", "insert into t (v) values (1), (2)");
  await leave(c, "C2");
  await c.sql("C1", "insert into t (v) values (3)");
  await c.expectRows("C1", "select id from t where v = 3", [[33]]);
  await c.expectConverged();
});

test("a Cache that is killed gives nothing back, and one that leaves while its rows are under way loses none", { timeout: timeoutMs }, async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const c = cluster({ seed, archives: 3, caches: 3, storeMsMax: 4 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, v)");
    let done = 0;
    let unknown = 0;
    for (let turn = 0; turn < 30; turn++) {
      const name = turn % 3 === 0 ? "C1" : "C2";
      const sql = turn % 5 === 0 ? `insert into t values (${10 + turn}, 'explicit')` : "insert into t (v) values ('generated')";
      c.batch(name, [{ sql, args: { positional: [], named: [] }, wantRows: false, condition: null }]).then((answer) => {
        if (answer.kind === "done" && answer.outcomes.every(({ kind }) => kind === "ok")) done++;
        else if (answer.kind === "failed" && answer.code === "ATOMCAST_OUTCOME_UNKNOWN") unknown++;
      });
      await c.runFor(1);
    }
    if (seed % 5 === 0) c.crash("C2");
    else await leave(c, "C2");
    if (seed % 5 === 0) expect(c.seen("leave").flatMap(({ ids }) => ids)).toEqual([]);
    await c.sql("C3", ...new Array<string>(40).fill("insert into t (v) values ('later')"));
    await c.runUntil("all are answered", () => c.pendingCount === 0);
    const [count] = (await c.sql("C1", "select count(*) from t where v <> 'later'"))[0] ?? [];
    expect(Number(count)).toBeGreaterThanOrEqual(done);
    expect(Number(count)).toBeLessThanOrEqual(done + unknown);
    await c.expectConverged();
  }
});
