/** Atoms change hands under those who write them: by DEMOTE, by HANDOFF, and by what ends an originator. */
import { expect, test } from "vitest";
import type { AtomId, EngineId, SpaceId } from "../../src/base/ids.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 60_000;

function spaceOf(c: SimulatedCluster, table: string): SpaceId {
  const found = c.invariants.committed.catalog.schema.inOrder().find(({ object }) => object.name === table);
  if (found === undefined) throw new Error(`no table ${table}`);
  return found.object.space;
}

/** Of the table's first atom. */
function originatorOf(c: SimulatedCluster, table: string): EngineId {
  return c.invariants.committed.catalog.atoms.ofSpace(spaceOf(c, table))[0]?.originator ?? (0 as EngineId);
}

function nameOf(c: SimulatedCluster, engine: EngineId): string {
  return c.names().find((process) => process.core?.engine === engine)?.name ?? "";
}

/** Messages by which an engine asks another before it may write. */
function questions(c: SimulatedCluster, name: string): number {
  const { sent } = c.process(name);
  return (sent.get(70) ?? 0) + (sent.get(74) ?? 0);
}

function handoffs(c: SimulatedCluster): number {
  return c.seen("proposal").filter(({ body }) => body.kind === "handoff").length;
}

function demotedAtoms(c: SimulatedCluster): AtomId[] {
  return c.seen("demote").flatMap((entry) => entry.atoms);
}

/** Virtual milliseconds that the statements take. */
async function timed(c: SimulatedCluster, name: string, ...statements: string[]): Promise<number> {
  const beganMs = c.nowMs;
  await c.sql(name, ...statements);
  return c.nowMs - beganMs;
}

test("an originator that a proposer cannot reach but the sequencer can", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 11, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 1)");
  await c.expectRows("C2", "select v from t", [[1]]);
  const members = c.invariants.committed.catalog.members.size;
  c.cut([c.process("C1")], [c.process("C2")], false);
  expect(await timed(c, "C2", "update t set v = v + 1 where id = 1")).toBeLessThan(1500);
  expect(nameOf(c, originatorOf(c, "t"))).toBe("C2");
  // Now the other way round: not sooner than an atom may be demoted again, and not much later.
  expect(await timed(c, "C1", "update t set v = v + 1 where id = 1")).toBeLessThan(4000);
  expect(nameOf(c, originatorOf(c, "t"))).toBe("C1");
  // Nobody was taken for dead, and what was cut and written in turns was demoted a few times, not once for each write.
  expect(c.invariants.committed.catalog.members.size).toBe(members);
  for (let turn = 0; turn < 5; turn++) for (const name of ["C1", "C1", "C2", "C2"]) c.batch(name, [step("update t set v = v + 1 where id = 1")]);
  await c.runUntil("all are answered", () => c.pendingCount === 0, 20_000);
  expect(demotedAtoms(c).length).toBeLessThan(12);
  c.heal();
  await c.expectRows("C2", "select v from t", [[23]]);
  await c.expectConverged();
});

for (const sequencer of [true, false]) {
  test(`an Archive that originates bounced within 300 ms (${sequencer ? "the sequencer" : "another"})`, { timeout: timeoutMs }, async () => {
    for (let seed = 1; ; seed++) {
      const c = cluster({ seed, archives: 3, caches: 2 });
      await c.start();
      await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 1)");
      c.crash("C1");
      await c.runUntil("an Archive originates", () => c.process(nameOf(c, originatorOf(c, "t")) || "C1").kind === "archive");
      const archive = nameOf(c, originatorOf(c, "t"));
      // Which one it is, is by rank.
      if ((c.process(archive).core?.stream.role === "sequencer") !== sequencer) continue;
      await c.sql("C2", "update t set v = v + 1 where id = 1");
      c.crash(archive);
      c.time.after(250, () => c.restart(archive));
      expect(await timed(c, "C2", "update t set v = v + 1 where id = 1")).toBeLessThan(1500);
      await c.expectRows("C2", "select v from t", [[3]]);
      await c.expectConverged();
      return;
    }
  });
}

test("a Cache paused 60 s with grants and ownership", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 5, archives: 3, caches: 2, storeMsMax: 4 });
  await c.start();
  await c.sql("C1", "create table mine (id integer primary key, v integer)", "insert into mine values (1, 100)");
  await c.sql("C2", "create table yours (id integer primary key, v integer)", "insert into yours values (1, 100)");
  await c.expectRows("C1", "select v from yours", [[100]]);
  await c.expectRows("C2", "select v from mine", [[100]]);
  const moved = c.batch("C1", [
    step("begin"),
    step("update mine set v = v - 1 where id = 1"),
    step("update yours set v = v + 1 where id = 1"),
    step("commit"),
  ]);
  await c.runUntil("C2 has granted it its key", () => (c.process("C2").core?.desk.table.grantCount ?? 0) > 0);
  c.process("C1").pause();
  c.time.after(60_000, () => c.process("C1").resume());
  // What it originates: DEMOTE, after a second. What it was granted: LEAVE, after three.
  expect(await timed(c, "C2", "update mine set v = v + 10 where id = 1")).toBeLessThan(1500);
  expect(await timed(c, "C2", "update yours set v = v + 10 where id = 1")).toBeLessThan(4000);
  await c.runUntil("it has gone on", () => c.process("C1").state === "up", 70_000);
  const answer = await Promise.race([moved, c.runUntil("its client is told", () => c.pendingCount === 0).then(() => moved)]);
  const [[sum], [mine]] = [await c.sql("C2", "select (select v from mine) + (select v from yours)"), await c.sql("C2", "select v from mine")];
  expect(sum).toEqual([220n]);
  if (answer.kind === "done") expect(mine).toEqual([109n]);
  else if (answer.code === "ATOMCAST_UNAVAILABLE") expect(mine).toEqual([110n]);
  await c.expectRows("C1", "select v from mine", [[Number(mine?.[0])]]);
  await c.expectConverged();
});

test("a Cache that alone writes a table that another has made asks nobody after a while", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 21, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, code text unique, v integer)", "insert into t values (1, 'a', 0)");
  let n = 0;
  const write = async (): Promise<void> => {
    await c.sql("C2", "update t set v = v + 1 where id = 1", `insert into t (code, v) values ('b${++n}', 0)`);
    await c.runFor(20);
  };
  for (let turn = 0; turn < 150; turn++) await write();
  const before = questions(c, "C2");
  expect(before).toBeGreaterThan(30);
  for (let turn = 0; turn < 150; turn++) await write();
  expect(questions(c, "C2")).toBe(before);
  await c.expectRows("C1", "select v, (select count(*) from t) from t where id = 1", [[300, 301]]);
  expect(c.process("C2").core?.context.atomChanges.handoff).toBeGreaterThan(0);
  await c.expectConverged();
});

test("an atom that two Caches write alike stays where it is; one that they write in turns moves slowly", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 22, archives: 1, caches: 3 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 0)");
  for (let turn = 0; turn < 200; turn++) {
    for (const name of ["C2", "C3"]) await c.sql(name, "update t set v = v + 1 where id = 1");
    await c.runFor(10);
  }
  expect(handoffs(c)).toBe(0);
  const beganMs = c.nowMs;
  for (let turn = 0; turn < 10; turn++)
    for (const name of ["C2", "C3"]) for (let write = 0; write < 100; write++) await c.sql(name, "update t set v = v + 1 where id = 1");
  expect(handoffs(c)).toBeLessThanOrEqual((c.nowMs - beganMs) / 1000 + 1);
  await c.expectRows("C1", "select v from t", [[2400]]);
  await c.expectConverged();
});
