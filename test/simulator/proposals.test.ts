/** Proposals that come late, twice, in another order, or to a sequencer that does not last. */
import { expect, test } from "vitest";
import { seededRandom } from "../../src/base/random.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";
import type { SimulatedProcess } from "./simulated-process.js";

const timeoutMs = 120_000;
/** Of a proposal, on the wire. */
const propose = 66;

/** Holds what it proposes; the function that is returned sends what is held. */
function holdProposals(process: SimulatedProcess): { readonly held: (() => boolean)[]; send(): void } {
  const held: (() => boolean)[] = [];
  process.courier = (number, send) => (number === propose ? held.push(send) > 0 : send());
  return {
    held,
    send() {
      for (const one of held.splice(0)) one();
    },
  };
}

function sequencerOf(c: SimulatedCluster): SimulatedProcess {
  const found = c.names("archive").find((process) => process.state === "up" && process.core?.stream.leadsSurely === true);
  if (found === undefined) throw new Error("nobody leads");
  return found;
}

const leads = (c: SimulatedCluster): boolean =>
  c.names("archive").some((process) => process.state === "up" && process.core?.stream.leadsSurely === true);

test("a proposal delayed past its proposer's LEAVE", { timeout: timeoutMs }, async () => {
  for (const comesBack of [false, true]) {
    const c = cluster({ seed: 51, archives: 3, caches: 2 });
    await c.start();
    await c.sql("C2", "create table t (id integer primary key, v integer)", "insert into t values (1, 0)");
    await c.expectRows("C1", "select v from t", [[0]]);
    const delayed = holdProposals(c.process("C1"));
    const engine = c.process("C1").core?.engine;
    let answer: BatchAnswer | null = null;
    c.batch("C1", [step("update t set v = v + 100 where id = 1")]).then((given) => {
      answer = given;
    });
    await c.runUntil("it has its permission, and has proposed", () => delayed.held.length > 0);
    c.process("C1").pause();
    // What it was granted ends with it.
    await c.sql("C2", "update t set v = v + 1 where id = 1");
    expect(c.seen("leave").map((entry) => entry.engine)).toContain(engine);
    if (comesBack) {
      c.process("C1").resume();
      await c.runUntil("it is another engine", () => c.process("C1").isMember && c.process("C1").core?.engine !== engine);
    }
    delayed.send();
    await c.runFor(500);
    if (!comesBack) c.process("C1").resume();
    c.process("C1").courier = null;
    await c.runUntil("its client is told", () => answer !== null);
    expect(answer).toMatchObject({ kind: "failed", code: "ATOMCAST_OUTCOME_UNKNOWN" });
    expect(c.seen("proposal").filter((entry) => entry.engine === engine && entry.body.kind === "transaction")).toEqual([]);
    for (const name of ["C1", "C2"]) await c.expectRows(name, "select v from t", [[1]]);
    await c.expectConverged();
  }
});

test("a refused proposal over two changes of sequencer", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 52, archives: 3, caches: 3 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 0)");
  for (const name of ["C2", "C3"]) await c.expectRows(name, "select v from t", [[0]]);
  const delayed = holdProposals(c.process("C2"));
  const engine = c.process("C2").core?.engine;
  let answer: BatchAnswer | null = null;
  c.batch("C2", [step("update t set v = v + 1 where id = 1")]).then((given) => {
    answer = given;
  });
  await c.runUntil("it has the originator's permission, and has proposed", () => delayed.held.length > 0);
  c.crash("C1");
  await c.runUntil("the originator is gone", () => c.seen("leave").length > 0);
  let refusals = 0;
  for (let change = 1; change <= 2; change++) {
    // A sequencer refuses it, alone with its REFUSED, and dies.
    await c.runUntil("somebody leads", () => leads(c));
    const sequencer = sequencerOf(c);
    const others = c.names("archive").filter((process) => process !== sequencer);
    await c.runUntil("it is sent again", () => delayed.held.length > 0);
    const last = sequencer.core?.stream.last.seq ?? 0;
    c.cut([sequencer], others, false);
    delayed.send();
    await c.runUntil("it is refused", () => (sequencer.core?.stream.last.seq ?? 0) > last);
    refusals++;
    expect(c.seen("refused")).toEqual([]);
    c.crash(sequencer.name);
    // What it had multicast does not come through in the end.
    await c.runFor(2);
    c.heal();
    await c.runUntil("another leads", () => leads(c));
    c.restart(sequencer.name);
    await c.runUntil("it is back", () => sequencer.isMember);
  }
  expect(refusals).toBe(2);
  c.process("C2").courier = null;
  delayed.send();
  await c.runUntil("its client is told", () => answer !== null);
  expect(answer).toMatchObject({ kind: "done", outcomes: [{ kind: "ok" }] });
  // Refused once, and asked for again at the next originator.
  expect(c.seen("refused").filter((entry) => entry.engine === engine)).toMatchObject([{ reason: "fence" }]);
  await c.expectRows("C3", "select v from t", [[1]]);
  await c.expectConverged();
});

test("pipelined proposals lost, doubled and reordered across elections", { timeout: timeoutMs }, async () => {
  for (let seed = 1; seed <= 2; seed++) {
    const c = cluster({ seed, archives: 3, caches: 2 });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, v integer)", "create table log (at integer primary key, who text)");
    await c.sql("C1", ...Array.from({ length: 10 }, (_, id) => `insert into t values (${id}, 0)`));
    await c.expectRows("C2", "select count(*) from t", [[10]]);
    const random = seededRandom(seed);
    for (const process of c.names("cache")) {
      process.courier = (number, send) => {
        if (number !== propose) return send();
        const fate = random.integer(10);
        if (fate < 2) return true;
        if (fate < 5) c.time.after(1 + random.integer(60), () => process.state === "up" && send());
        if (fate < 4) return true;
        return send();
      };
    }
    const counts = { ok: 0, unknown: 0 };
    let open = 0;
    for (let turn = 0; turn < 200; turn++) {
      open++;
      const id = random.integer(10);
      c.batch(turn % 2 === 0 ? "C1" : "C2", [
        step("begin"),
        step(`update t set v = v + 1 where id = ${id}`),
        step(`insert into log values (${turn}, 'x')`),
        step("commit"),
      ]).then((answer) => {
        open--;
        if (answer.kind === "done") {
          expect(answer.outcomes.map(({ kind }) => kind)).toEqual(["ok", "ok", "ok", "ok"]);
          counts.ok++;
        } else {
          expect(answer.code).toBe("ATOMCAST_OUTCOME_UNKNOWN");
          counts.unknown++;
        }
      });
      await c.runFor(5);
      if (turn % 50 !== 25) continue;
      await c.runUntil("somebody leads", () => leads(c));
      const { name } = sequencerOf(c);
      c.crash(name);
      c.time.after(60, () => c.restart(name));
    }
    await c.runUntil("all are answered", () => open === 0, 40_000);
    for (const process of c.names("cache")) process.courier = null;
    await c.expectConverged();
    const row = (await c.sql("C1", "select sum(v), (select count(*) from log) from t"))[0] ?? [];
    // Each once, both its rows or none.
    expect(row[0]).toBe(row[1]);
    expect(Number(row[0])).toBeGreaterThanOrEqual(counts.ok);
    expect(Number(row[0])).toBeLessThanOrEqual(counts.ok + counts.unknown);
    expect(counts.ok).toBeGreaterThan(150);
  }
});
