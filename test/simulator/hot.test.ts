/** Rows that everybody writes at once. */
import { expect, test } from "vitest";
import { seededRandom } from "../../src/base/random.js";
import { cluster, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 120_000;
/** Of a release, on the wire. */
const release = 72;

interface Client {
  readonly at: string;
  /** When its commits were answered, in virtual milliseconds. */
  readonly doneMs: number[];
}

/** Clients that write one statement after another for so long. Each answer must be well. */
async function write(c: SimulatedCluster, places: readonly string[], sql: string, forMs: number): Promise<Client[]> {
  const endMs = c.nowMs + forMs;
  let working = places.length;
  const clients = places.map((at): Client => ({ at, doneMs: [] }));
  const loop = async ({ at, doneMs }: Client): Promise<void> => {
    while (c.nowMs < endMs) {
      const answer = await c.batch(at, [step(sql)]);
      expect(answer).toMatchObject({ kind: "done", outcomes: [{ kind: "ok", result: { affectedRowCount: 1 } }] });
      doneMs.push(c.nowMs);
    }
    working--;
  };
  for (const client of clients) loop(client).catch((error: Error) => c.fail(error));
  await c.runUntil("all clients have done their work", () => working === 0, forMs + 10_000);
  return clients;
}

/** The longest time without one, in virtual milliseconds. */
function longestGapMs(clients: readonly Client[]): number {
  const all = clients.flatMap(({ doneMs }) => doneMs).sort((left, right) => left - right);
  return Math.max(...all.slice(1).map((atMs, index) => atMs - (all[index] ?? 0)));
}

test("a hot row written from 4 Caches makes steady progress with no client-visible failure in autocommit", { timeout: timeoutMs }, async () => {
  for (const [seed, storeMsMax] of [
    [61, 0.5],
    [62, 6],
  ] as const) {
    const c = cluster({ seed, archives: 3, caches: 4, storeMsMax });
    await c.start();
    await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 0)");
    const clients = await write(c, ["C1", "C2", "C3", "C4", "C1", "C2", "C3", "C4"], "update t set v = v + 1 where id = 1", 1200);
    const total = clients.reduce((sum, { doneMs }) => sum + doneMs.length, 0);
    await c.expectConverged();
    await c.expectRows("C3", "select v from t", [[total]]);
    // Nobody waits for what another has applied already: 328 otherwise, in the first case.
    expect(total).toBeGreaterThan(storeMsMax > 1 ? 200 : 600);
    expect(longestGapMs(clients)).toBeLessThan(250);
    // Wherever the row's originator is, and whatever the clocks say, all have their turn.
    for (const { doneMs } of clients) expect(doneMs.length).toBeGreaterThan(total / 12);
  }
});

test("hot multi-key autocommits over three originators with lost releases", { timeout: timeoutMs }, async () => {
  const c = cluster({ seed: 63, archives: 3, caches: 4, storeMsMax: 2 });
  await c.start();
  for (const [name, table] of [
    ["C1", "a"],
    ["C2", "b"],
    ["C3", "d"],
  ] as const)
    await c.sql(name, `create table ${table} (id integer primary key, v integer)`, `insert into ${table} values (1, 0), (2, 0)`);
  await c.sql(
    "C1",
    "create trigger spread after update on a begin update b set v = v + 1 where id = 3 - new.id; update d set v = v + 1 where id = new.id; end",
  );
  const random = seededRandom(63);
  let lost = 0;
  for (const process of c.names("cache")) {
    process.courier = (number, send) => {
      if (number !== release || random.integer(2) === 0) return send();
      lost++;
      return true;
    };
  }
  const clients = await write(c, ["C1", "C2", "C3", "C4", "C4"], "update a set v = v + 1 where id = 1 + abs(random()) % 2", 1500);
  const total = clients.reduce((sum, { doneMs }) => sum + doneMs.length, 0);
  expect(lost).toBeGreaterThan(0);
  expect(total).toBeGreaterThan(20);
  await c.expectConverged();
  await c.expectRows("C4", "select (select sum(v) from a), (select sum(v) from b), (select sum(v) from d)", [[total, total, total]]);
  for (const { doneMs } of clients) expect(doneMs.length).toBeGreaterThan(0);
  // What was lost is sent again: nothing stays granted.
  for (const process of c.names("cache")) process.courier = null;
  await c.runUntil("all is released", () => c.names().every((process) => (process.core?.desk.table.grantCount ?? 0) === 0));
});
