/**
 * A transaction that changes the schema and stays open: two tables are made, filled and looked at, one request after another, while others use the same Cache, make
 * tables of their own, and take it down. It sees its own tables as it left them, nobody else sees them, and in the end they are there with its item, or not at all.
 */
import type { Random } from "../../src/base/random.js";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import type { Step } from "../../src/sql/local-store.js";
import { check } from "./committed-stream.js";
import { type SimulatedCluster, step } from "./simulated-cluster.js";
import type { Outcome } from "./workload.js";

const invariant = "open transactions see their own schema";

/** What it becomes: sheets, and cells on them. */
const figures = [2n, 3n];

export async function migrate(cluster: SimulatedCluster, random: Random, at: string, id: number): Promise<{ outcome: Outcome; code: string }> {
  const process = cluster.process(at);
  const { life } = process;
  const [sheet, cell] = [`sheet${id}`, `cell${id}`];
  const count = step(`select (select count(*) from ${sheet}), (select count(*) from ${cell})`);
  // ALTER stands for the schema as a whole: whoever else changes it is in its way.
  const undone = step(id % 3 === 0 ? `alter table ${cell} add column w` : `create index ${cell}_v on ${cell}(v)`);
  const requests: (readonly Step[])[] = [
    [step("begin"), step(`create table ${sheet} (id integer primary key)`)],
    [step(`create table ${cell} (id integer primary key, sheet integer not null references ${sheet}(id) on delete cascade, v integer unique)`)],
    [step(`insert into ${sheet} values (1), (2), (3)`), step(`insert into ${cell} (sheet, v) values (1, 1), (2, 2), (2, 3), (3, 4)`)],
    [step("savepoint s"), undone, step(`delete from ${sheet}`)],
    [step("rollback to s"), step(`update ${sheet} set id = id`), step(`delete from ${sheet} where id = 3`), count],
    [step("insert into items (tag, note) values (?, 'sheet')", BigInt(id)), count],
    [count, { ...step("commit"), condition: { kind: "ok", step: 0 } }],
  ];
  let open: number | null = null;
  for (const [place, steps] of requests.entries()) {
    if (process.life !== life) return { outcome: "failed", code: "ATOMCAST_UNAVAILABLE" };
    const answer: BatchAnswer = await cluster.batch(at, steps, open);
    const isLast = place === requests.length - 1;
    if (answer.kind === "failed") return { outcome: isLast && answer.code === "ATOMCAST_OUTCOME_UNKNOWN" ? "unknown" : "failed", code: answer.code };
    const fault = answer.outcomes.find((outcome) => outcome.kind === "error");
    if (fault?.kind === "error") {
      const { code, message } = fault.fault;
      check(code.startsWith("SQLITE_BUSY") || code === "SQLITE_SCHEMA", invariant, () => `${at}, request ${place}: ${code} ${message}`);
      cluster.coverage.count("transactions", "kept open: schema in conflict");
      return { outcome: "failed", code };
    }
    open = answer.open;
    check((open === null) === isLast, invariant, () => `${at}: open ${open} after request ${place}`);
    const shown = answer.outcomes[steps.indexOf(count)];
    if (shown?.kind === "ok") {
      const [found] = shown.result.rows;
      check(found?.join() === figures.join(), invariant, () => `${at}, request ${place}: [${found}], not [${figures}]`);
      cluster.coverage.count("invariants", invariant);
    }
    await cluster.sleep(random.integer(30));
  }
  cluster.coverage.count("transactions", "kept open: schema changed");
  return { outcome: "ok", code: "" };
}

/** Whether the tables of migrations are there with their items, as one. */
export async function auditMigrations(cluster: SimulatedCluster, ids: readonly number[], tags: ReadonlySet<number>, at: string): Promise<void> {
  const names = new Set((await cluster.sql(at, "select name from sqlite_schema where type = 'table'")).map(([name]) => name));
  for (const id of ids) {
    const isThere = tags.has(id);
    check(
      names.has(`sheet${id}`) === isThere && names.has(`cell${id}`) === isThere,
      "failed effects are not there",
      () => `operation ${id}: its item is ${isThere ? "" : "not "}there, and its tables are otherwise, read at ${at}`,
    );
    if (!isThere) continue;
    const [found] = await cluster.sql(at, `select (select count(*) from sheet${id}), (select count(*) from cell${id})`);
    check(found?.join() === figures.join(), "acknowledged effects are there", () => `operation ${id}: [${found}], not [${figures}], read at ${at}`);
    const left = await cluster.sql(at, `select name from pragma_table_info('cell${id}')`);
    check(left.length === 3, "failed effects are not there", () => `operation ${id}: columns ${left}, read at ${at}`);
  }
}
