/** Machines that others keep busy, and virtual ones, let engines stand still together, again and again: that is nobody's silence. */
import { expect, test } from "vitest";
import { seededRandom } from "../../src/base/random.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 120_000;
const rounds = 40;

const termOf = (c: SimulatedCluster): number => Math.max(...c.names("archive").map((process) => process.core?.stream.term ?? 0));

/** Two Caches write, and one commit follows another, while `still` says for how long each engine stands still in this round, of `roundMs` milliseconds. */
async function starve(
  seed: number,
  roundMs: number,
  still: (engine: number) => number,
): Promise<{ c: SimulatedCluster; commits: number; terms: number }> {
  const c = cluster({ seed, archives: 3, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 0), (2, 0)");
  await c.expectRows("C2", "select count(*) from t", [[2]]);
  const term = termOf(c);
  let commits = 0;
  let isOver = false;
  const write = async (name: string, id: number): Promise<void> => {
    while (!isOver) {
      const answer = await c.batch(name, [step(`update t set v = v + 1 where id = ${id}`)]);
      if (answer.kind === "done") commits++;
    }
  };
  const writing = [write("C1", 1), write("C2", 2)];
  const engines = c.names();
  for (let round = 0; round < rounds; round++) {
    for (const [index, process] of engines.entries()) {
      const ms = still(index);
      process.pause();
      c.time.after(ms, () => process.resume());
    }
    await c.runFor(roundMs);
  }
  isOver = true;
  await c.runUntil("the last ones are answered", () => c.pendingCount === 0, 60_000);
  await Promise.all(writing);
  return { c, commits, terms: termOf(c) - term };
}

test("all stand still at once for longer than an election takes to begin, and have a little time in between", { timeout: timeoutMs }, async () => {
  const { c, commits, terms } = await starve(71, 450, () => 400);
  expect(terms).toBe(0);
  expect(c.seen("leave")).toEqual([]);
  expect(commits).toBeGreaterThan(rounds);
  await c.expectConverged();
});

test("each stands still for nearly all of the time, one a little longer than the other", { timeout: timeoutMs }, async () => {
  const random = seededRandom(5);
  const { c, commits, terms } = await starve(72, 450, () => 350 + random.integer(80));
  expect(terms).toBe(0);
  expect(c.seen("leave")).toEqual([]);
  expect(commits).toBeGreaterThan(rounds / 2);
  await c.expectConverged();
});
