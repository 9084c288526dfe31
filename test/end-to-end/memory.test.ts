/** `--memory`: a Cache that has room for a part of a table answers as one that has all of it. */
import { createClient } from "@libsql/client";
import { expect, test } from "vitest";
import { seededRandom } from "../../src/base/random.js";
import { openCluster, urlsOf } from "./cluster.js";
import { query } from "./convergence.js";
import { eventually } from "./waiting.js";

const budgetBytes = 2 * 1024 * 1024;
const rowCount = 30_000;
const rowsAtOnce = 1000;
const requests = 150;
/** Between two looks at what is held. */
const requestsPerLook = 50;
/** A DROP is asked for within a look of the eviction's, ordered and applied; the machine may be busy. */
const settleMs = 15_000;

interface Row {
  readonly n: number;
  readonly body: string;
}

/** About 300 bytes, and another text for each version. */
function rowOf(id: number, version: number): Row {
  return { n: (id * 7919 + version) % 1000, body: `${id}.${version} `.padEnd(300, "x") };
}

test("a Cache with a budget reads and writes a table several times as large", { timeout: 240_000 }, async () => {
  const cluster = await openCluster(1, 1);
  const [wholeUrl = ""] = urlsOf(cluster);
  const rows = new Map<number, Row>();
  const whole = createClient({ url: wholeUrl });
  await whole.batch(["create table t(id integer primary key, n int, body text)", "create index t_n on t(n)"], "write");
  for (let first = 1; first <= rowCount; first += rowsAtOnce) {
    const added = Array.from({ length: rowsAtOnce }, (_, index) => first + index).map((id) => ({ id, ...rowOf(id, 0) }));
    for (const { id, n, body } of added) rows.set(id, { n, body });
    await whole.execute({
      sql: "insert into t select value ->> 'id', value ->> 'n', value ->> 'body' from json_each(?)",
      args: [JSON.stringify(added)],
    });
  }

  const small = await cluster.site.cache("small", ["--memory", String(budgetBytes)]);
  const client = createClient({ url: small.url });
  const memory = async (): Promise<Record<string, unknown>> => ({ ...(await client.execute("select * from system.memory")).rows[0] });
  const expectWithinBudget = (): Promise<void> =>
    eventually("what is held is within the budget", settleMs, async () => {
      const { budget_bytes, held_bytes } = await memory();
      expect(budget_bytes).toBe(budgetBytes);
      expect(Number(held_bytes)).toBeLessThanOrEqual(budgetBytes);
    });
  const random = seededRandom(20);
  const anyId = (): number => 1 + random.integer(rowCount);
  const wanted = (matches: (id: number, row: Row) => boolean): unknown[] =>
    [...rows]
      .filter(([id, row]) => matches(id, row))
      .sort(([left], [right]) => left - right)
      .map(([id, { n, body }]) => [id, n, body]);
  const read = async (where: string, args: number[]): Promise<unknown[]> =>
    (await client.execute({ sql: `select * from t where ${where} order by id`, args })).rows.map((row) => Array.from(row));

  for (let request = 1; request <= requests; request++) {
    const id = anyId();
    const choice = random.integer(10);
    if (choice < 3) expect(await read("id = ?", [id])).toEqual(wanted((one) => one === id));
    else if (choice < 5) expect(await read("id between ? and ?", [id, id + 20])).toEqual(wanted((one) => one >= id && one <= id + 20));
    else if (choice === 5) expect(await read("n = ?", [id % 1000])).toEqual(wanted((_, { n }) => n === id % 1000));
    else if (choice < 9) {
      const { n, body } = rowOf(id, request);
      const { rowsAffected } = await client.execute({ sql: "update t set n = ?, body = ? where id = ?", args: [n, body, id] });
      expect(rowsAffected).toBe(rows.has(id) ? 1 : 0);
      if (rows.has(id)) rows.set(id, { n, body });
    } else {
      const { rowsAffected } = await client.execute({ sql: "delete from t where id = ?", args: [id] });
      expect(rowsAffected).toBe(rows.delete(id) ? 1 : 0);
    }
    if (request % requestsPerLook === 0) {
      await expectWithinBudget();
    }
  }

  const figures = await memory();
  for (const name of ["dropped_atoms", "pulled_again_atoms"]) expect(Number(figures[name]), name).toBeGreaterThan(0);
  // More than fits, at once: it is answered beyond the budget, and then given up again.
  expect(await read("true", [])).toEqual(wanted(() => true));
  await expectWithinBudget();
  // The other Cache holds all of it, and applies what this one wrote.
  await eventually("the other Cache has the same rows", settleMs, async () =>
    expect((await query(wholeUrl, "select * from t order by id")).map((row) => [Number(row[0]), Number(row[1]), row[2]])).toEqual(wanted(() => true)),
  );
  client.close();
  whole.close();
});
