/** design.md §3: "Nothing long runs on the thread that orders." An Archive's store takes batches of the stream on a thread of its own, however long one takes. */
import { expect, test } from "vitest";
import { cluster, type SimulatedCluster } from "./simulated-cluster.js";

const timeoutMs = 90_000;
/** Of a batch, at most. Virtual milliseconds. */
const applyMsMax = 4000;

async function begun(seed: number): Promise<SimulatedCluster> {
  const c = cluster({ seed, archives: 3, caches: 2, diskTimes: { syncMsMin: 0.1, syncMsMax: 0.6, applyMsMax } });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, n integer not null)", "insert into t values (1, 0)");
  return c;
}

/** How far its store is behind what it has applied. */
function behind(c: SimulatedCluster, name: string): number {
  const { core } = c.process(name);
  if (core === null || core.archive === null) throw new Error(`${name} is no Archive`);
  return core.context.appliedSeq - core.archive.stored;
}

test("commits wait for no store: while batches take seconds, each is ordered and answered in milliseconds", { timeout: timeoutMs }, async () => {
  const c = await begun(41);
  let longestMs = 0;
  let behindMost = 0;
  const untilMs = c.time.nowMs + 3 * applyMsMax;
  let count = 0;
  for (; c.time.nowMs < untilMs; count++) {
    const beganMs = c.time.nowMs;
    await c.sql("C1", "update t set n = n + 1 where id = 1");
    longestMs = Math.max(longestMs, c.time.nowMs - beganMs);
    behindMost = Math.max(behindMost, ...["A1", "A2", "A3"].map((name) => behind(c, name)));
  }
  expect(longestMs).toBeLessThan(100);
  expect(behindMost).toBeGreaterThan(count / 10);
  // What a pull needs is there when the store has come so far.
  await c.expectRows("C2", "select n from t", [[count]]);
  await c.expectConverged();
});

test("an Archive that is killed while its store is at a batch goes on from what the store had, and loses nothing", {
  timeout: timeoutMs,
}, async () => {
  const c = await begun(42);
  let count = 0;
  for (const name of ["A1", "A2", "A3"]) {
    while (behind(c, name) < 20) {
      await c.sql("C1", "update t set n = n + 1 where id = 1");
      count++;
    }
    c.crash(name);
    await c.sql("C1", "update t set n = n + 1 where id = 1");
    count++;
    c.restart(name);
    await c.runUntil(`${name} is back`, () => c.process(name).core !== null && (c.process(name).core?.engine ?? 0) !== 0);
  }
  await c.expectRows("C2", "select n from t", [[count]]);
  await c.expectConverged();
});
