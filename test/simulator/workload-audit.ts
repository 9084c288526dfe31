/** What is there in the end against what the clients know: acknowledged effects are all there, once; failed ones are not; unknown ones at most once. */
import type { SqlValue } from "../../src/base/values.js";
import { check } from "./committed-stream.js";
import { judgeDocuments, wrongDocuments } from "./documents.js";
import { auditMigrations } from "./open-migrations.js";
import type { SimulatedCluster } from "./simulated-cluster.js";
import { accountCount, accountInitial, type Operation, type OperationKind, type Workload } from "./workload.js";

type Rows = readonly (readonly SqlValue[])[];

/** Reads everything through one Cache. */
export async function audit(cluster: SimulatedCluster, workload: Workload, at: string): Promise<void> {
  const read = (sql: string): Promise<Rows> => cluster.sql(at, sql);
  const { coverage } = cluster;
  const find = (...kinds: OperationKind[]): Operation[] => workload.operations.filter((operation) => kinds.includes(operation.kind));
  const auditIds = (what: string, operations: readonly Operation[], found: readonly SqlValue[]): void => {
    const times = new Map<number, number>();
    for (const one of found) times.set(Number(one), (times.get(Number(one)) ?? 0) + 1);
    for (const { id, outcome, code } of operations) {
      const count = times.get(id) ?? 0;
      const told = (): string => `${what} of operation ${id} (${outcome} ${code}) is there ${count} times, read at ${at}`;
      if (outcome === "ok") check(count === 1, "acknowledged effects are there", told);
      if (outcome === "failed") check(count === 0, "failed effects are not there", told);
      if (outcome === "unknown") check(count <= 1, "unknown effects at most once", told);
      coverage.count(
        "invariants",
        outcome === "ok" ? "acknowledged effects are there" : outcome === "failed" ? "failed effects are not there" : "unknown effects at most once",
      );
    }
  };

  const moves = await read("select id, source, target, amount from moves");
  auditIds(
    "the move",
    find("transfer", "deal"),
    moves.map((row) => row[0] ?? null),
  );
  auditBalances(await read("select id, balance from accounts order by id"), moves, at);
  coverage.count("invariants", "totals are right");

  const items = await read("select tag, id from items");
  auditIds(
    "the item",
    find("item", "pair", "explicitItem", "big", "migration"),
    items.map((row) => row[0] ?? null),
  );
  const migrations = find("migration").map(({ id }) => id);
  await auditMigrations(cluster, migrations, new Set(items.map(([tag]) => Number(tag))), at);
  auditIds(
    "the pair's first item",
    find("pair"),
    items.map(([tag]) => -(tag as bigint)),
  );
  const idOf = new Map(items.map(([tag, id]) => [Number(tag), id]));
  for (const { id, outcome, value, kind, about } of find("item", "pair", "explicitItem", "big")) {
    if (outcome !== "ok") continue;
    const expected = kind === "explicitItem" ? BigInt(about[0] ?? 0) : value;
    check(
      idOf.get(id) === expected,
      "acknowledged effects are there",
      () => `operation ${id} was told the id ${expected}, and it is ${idOf.get(id)}`,
    );
  }

  const pages = workload.hasPages ? await read("select id, tag, n from pages") : [];
  auditIds(
    "the page",
    find("newPage"),
    pages.map((row) => row[1] ?? null),
  );
  for (const [page, , turns] of pages) {
    const turned = (outcome: Operation["outcome"]): number =>
      find("turn").filter((operation) => operation.outcome === outcome && operation.about[0] === Number(page)).length;
    const told = (): string =>
      `page ${page} was turned ${turns} times, of ${turned("ok")} acknowledged and ${turned("unknown")} unknown, read at ${at}`;
    check(Number(turns) >= turned("ok"), "acknowledged effects are there", told);
    check(Number(turns) <= turned("ok") + turned("unknown"), "unknown effects at most once", told);
  }

  if (workload.hasDocuments) judgeDocuments(`the end at ${at}`, await read(wrongDocuments));

  const counter = (await read("select n from counters where id = 1"))[0]?.[0] as bigint;
  auditCounter(find("hot"), counter, at);

  const names = await read("select name, count(*), min(owner) from names group by name");
  for (const [name, count] of names) check(count === 1n, "unique names", () => `${name} is there ${count} times at ${at}`);
  const failed = new Set(find("claim", "rename", "replace").flatMap(({ id, outcome }) => (outcome === "failed" ? [id] : [])));
  for (const [name, , owner] of names)
    check(!failed.has(Number(owner)), "failed effects are not there", () => `${name} is of failed operation ${owner}`);
  coverage.count("invariants", "unique names", names.length);

  const orphans = await read("select count(*) from children where parent not in (select id from parents)");
  check(orphans[0]?.[0] === 0n, "no orphans", () => `${orphans[0]?.[0]} at ${at}`);
  coverage.count("invariants", "no orphans");
  const present = (await read("select sum(present) from duty"))[0]?.[0] as bigint;
  check(present >= 1n, "serializable", () => `nobody is present at ${at}`);
  coverage.count("invariants", "serializable");
  const tallies = Number((await read("select coalesce(sum(n), 0) from tallies"))[0]?.[0]);
  const tallied = (outcome: Operation["outcome"]): number => find("tally").filter((operation) => operation.outcome === outcome).length;
  check(tallies >= tallied("ok"), "acknowledged effects are there", () => `${tallies} tallies of ${tallied("ok")}, read at ${at}`);
  check(tallies <= tallied("ok") + tallied("unknown"), "unknown effects at most once", () => `${tallies} tallies of ${tallied("ok")}, read at ${at}`);
  const torn = await read("select id, lines, (select count(*) from lines where order_id = orders.id) from orders where lines <> 2");
  check(torn.length === 0, "totals are right", () => `an order without its two lines: ${torn[0]}, read at ${at}`);
  const unparented = await read("select count(*) from lines where order_id not in (select id from orders)");
  check(unparented[0]?.[0] === 0n, "no orphans", () => `${unparented[0]?.[0]} lines without their order at ${at}`);
  const version = (await read("pragma user_version"))[0]?.[0] as bigint;
  const altered = find("alter").filter(({ outcome }) => outcome === "ok").length;
  const columns = await read("select name from pragma_table_info('items')");
  check(version > 0n || altered === 0, "acknowledged effects are there", () => `no version after ${altered} migrations, read at ${at}`);
  check(
    version === 0n || columns.some(([name]) => name === `c${version}`),
    "failed effects are not there",
    () => `version ${version} without its column, read at ${at}`,
  );
  const isIndexed = (await read("select count(*) from sqlite_schema where name = 'codes_code'"))[0]?.[0] === 1n;
  const doubles = await read("select code from codes group by code having count(*) > 1");
  check(!isIndexed || doubles.length === 0, "unique names", () => `codes ${doubles.flat()} are there twice at ${at}`);
}

function auditBalances(balances: Rows, moves: Rows, at: string): void {
  const expected = new Map<bigint, bigint>();
  for (let id = 1n; id <= BigInt(accountCount); id++) expected.set(id, accountInitial);
  for (const [, source, target, amount] of moves as readonly (readonly [bigint, bigint, bigint, bigint])[]) {
    expected.set(source, (expected.get(source) ?? 0n) - amount);
    expected.set(target, (expected.get(target) ?? 0n) + amount);
  }
  for (const [id, balance] of balances as readonly (readonly [bigint, bigint])[])
    check(balance === expected.get(id), "totals are right", () => `account ${id} has ${balance}, its moves make ${expected.get(id)}, read at ${at}`);
  check(balances.length === accountCount, "totals are right", () => `${balances.length} accounts at ${at}`);
}

/** Each acknowledged increment has a value of its own; the sum counts them all, and no more than were tried. */
function auditCounter(operations: readonly Operation[], counter: bigint, at: string): void {
  const acknowledged = operations.filter(({ outcome }) => outcome === "ok");
  const unknown = operations.filter(({ outcome }) => outcome === "unknown").length;
  const told = (): string => `the counter is ${counter}, ${acknowledged.length} increments were acknowledged, ${unknown} are unknown, read at ${at}`;
  check(Number(counter) >= acknowledged.length, "acknowledged effects are there", told);
  check(Number(counter) <= acknowledged.length + unknown, "unknown effects at most once", told);
  const values = new Set(acknowledged.map(({ value }) => value));
  check(values.size === acknowledged.length, "acknowledged effects are there", () => "two increments were told the same value");
}
