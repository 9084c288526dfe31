/** design.md §5 "Eviction": "a Cache has a memory budget; cold atoms are DROPped (least recently used first, never one that an open transaction needs …)". */
import { expect, test } from "vitest";
import type { MemoryStatus } from "../../src/engines/database.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 90_000;
const rowCount = 160;
const rowBytes = 10_000;
const budget = 400_000;

async function withTable(archives: number, caches: number, seed: number): Promise<SimulatedCluster> {
  const c = cluster({ seed, archives, caches, memoryBytes: budget });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, n integer not null, body text not null)");
  const body = "b".repeat(rowBytes);
  for (let first = 1; first <= rowCount; first += 16)
    await c.sql("C1", `insert into t values ${Array.from({ length: 16 }, (_, index) => `(${first + index}, 0, '${body}')`).join(", ")}`);
  await c.runUntil("the table is split", () => c.invariants.committed.catalog.atoms.size > 16, 60_000);
  return c;
}

async function memoryOf(c: SimulatedCluster, name: string): Promise<MemoryStatus> {
  const memory = (await c.process(name).cache?.status())?.memory;
  if (memory == null) throw new Error(`${name} has no memory`);
  return memory;
}

test("a Cache reads and writes all of a table four times its budget, and holds no more than that", { timeout: timeoutMs }, async () => {
  const c = await withTable(3, 2, 11);
  for (let round = 0; round < 60; round++) {
    const id = 1 + c.random.integer(rowCount);
    if (round % 3 === 0) await c.sql("C2", `update t set n = n + 1 where id = ${id}`);
    else await c.expectRows("C2", `select length(body) from t where id = ${id}`, [[rowBytes]]);
  }
  for (const name of ["C1", "C2"]) {
    await c.runUntil(`${name} is within its budget`, () => (c.process(name).core?.catalog.atoms.held?.bytes ?? budget) < budget);
    const memory = await memoryOf(c, name);
    expect(memory.droppedAtoms, name).toBeGreaterThan(5);
    expect(memory.budgetBytes).toBe(budget);
  }
  const memory = await memoryOf(c, "C2");
  expect(memory.pulledAgainAtoms).toBeGreaterThan(5);
  expect(memory.unitsThatPulled).toBeLessThan(memory.units);
  // What C1 made, it originated: others do now.
  expect((await memoryOf(c, "C1")).handedOverAtoms).toBeGreaterThan(0);
  const [row] = await c.sql("C2", "select budget_bytes, held_bytes <= budget_bytes, dropped_atoms > 5 from system.memory");
  expect(row).toEqual([BigInt(budget), 1n, 1n]);
  await c.expectRows("C1", "select sum(n), count(*) from t", [[20, rowCount]]);
  await c.expectConverged();
});

test("a statement that needs more than the budget is carried out, beyond it for its time", { timeout: timeoutMs }, async () => {
  const c = await withTable(1, 2, 12);
  await c.expectRows("C2", "select count(*), sum(length(body)) from t", [[rowCount, rowCount * rowBytes]]);
  await c.sql("C2", "update t set n = n + length(body)");
  await c.expectRows("C2", "select min(n), max(n) from t", [[rowBytes, rowBytes]]);
  expect((await memoryOf(c, "C2")).pulledBytes).toBeGreaterThan(rowCount * rowBytes);
  await c.runUntil("it is within its budget again", () => (c.process("C2").core?.catalog.atoms.held?.bytes ?? budget) < budget);
  await c.expectConverged();
});

test("a Cache that is alone gives what it has made to the Archives, and goes on making ids", { timeout: timeoutMs }, async () => {
  const c = await withTable(1, 1, 13);
  await c.runUntil("it is within its budget", () => (c.process("C1").core?.catalog.atoms.held?.bytes ?? budget) < budget);
  const body = "b".repeat(rowBytes);
  for (let row = 1; row <= 60; row++) await c.sql("C1", `insert into t (n, body) values (${-row}, '${body}')`);
  await c.expectRows("C1", "select n from t where id = 1", [[0]]);
  await c.sql("C1", "update t set n = 7 where id = 1");
  await c.expectRows("C1", "select count(*), count(distinct id), min(n), max(n) from t", [[rowCount + 60, rowCount + 60, -60, 7]]);
  await c.expectConverged();
});

test("an atom that is missed costs a HOLD, its chunk, and a share of a READY and of a DROP, and nothing of it waits for a tick", {
  timeout: timeoutMs,
}, async () => {
  const c = await withTable(3, 2, 14);
  const read = async (): Promise<number> => {
    const beganMs = c.nowMs;
    let endedMs = 0;
    c.batch("C2", [step(`select n from t where id = ${1 + c.random.integer(rowCount)}`)]).then(() => {
      endedMs = c.nowMs;
    });
    await c.runUntil("it is answered", () => endedMs > 0);
    return endedMs - beganMs;
  };
  const entries = (kind: string): number => c.seen("proposal").filter(({ body }) => body.kind === kind).length;
  const figures = () => ({
    misses: c.process("C2").core?.cache?.pulls.counters.atoms ?? 0,
    chunks: c.process("C2").sent.get(77) ?? 0,
    hold: entries("hold"),
    ready: entries("ready"),
    drop: entries("drop"),
  });
  for (let warm = 0; warm < 40; warm++) await read();
  const before = figures();
  let spentMs = 0;
  for (let time = 0; time < 150; time++) spentMs += await read();
  const after = figures();
  const misses = after.misses - before.misses;
  expect(misses).toBeGreaterThan(50);
  expect(after.hold - before.hold).toBe(misses);
  expect(after.chunks - before.chunks).toBe(misses);
  expect(after.ready - before.ready).toBeLessThan(misses / 3);
  expect(after.drop - before.drop).toBeLessThan(misses * 0.6);
  expect(spentMs / misses).toBeLessThan(4);
  await c.expectConverged();
});
