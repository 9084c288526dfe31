/**
 * design.md §7 "Pull planner": "It may always ask for too much, never for too little". A Cache that holds ranges of indexes, while another changes rows:
 * each answer equals plain SQLite's, and rows of ranges that nobody asked for stay away. (partial-store.test.ts has the odd values.)
 */
import Sqlite from "better-sqlite3";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { SpaceId } from "../../../src/base/ids.js";
import { indexEntryKey } from "../../../src/base/row-index.js";
import { encodeSortKey, integerKey } from "../../../src/base/sort-key.js";
import type { SqlValue } from "../../../src/base/values.js";
import type { InstallOutcome } from "../../../src/sql/local-store.js";
import { Cluster, step } from "../store-harness.js";

const rowCount = 120;

const schema = [
  "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT COLLATE NOCASE, v INT)",
  "CREATE INDEX t_a_v ON t(a, v DESC)",
  "CREATE INDEX t_b ON t(b)",
];

type Action =
  | { readonly kind: "query"; readonly sql: string; readonly args: readonly SqlValue[] }
  | { readonly kind: "change"; readonly at: 0 | 1; readonly sql: string; readonly args: readonly SqlValue[] }
  | { readonly kind: "drop"; readonly from: bigint; readonly to: bigint };

const small = fc.integer({ min: 0, max: 11 }).map(BigInt);
const id = fc.integer({ min: 1, max: rowCount + 20 }).map(BigInt);
const text = fc.constantFrom("x", "X", "y", "Y ", "z", "zz");

const query: fc.Arbitrary<Action> = fc
  .oneof(
    small.map((a) => ({ sql: "SELECT * FROM t WHERE a = ?", args: [a] })),
    fc.tuple(small, small).map((args) => ({ sql: "SELECT * FROM t WHERE a = ? AND v >= ?", args })),
    fc.tuple(small, small).map((args) => ({ sql: "SELECT count(*), sum(v) FROM t WHERE a IN (?, ?)", args })),
    fc.tuple(small, small).map((args) => ({ sql: "SELECT * FROM t WHERE a BETWEEN ? AND ? AND v <> 3", args })),
    text.map((b) => ({ sql: "SELECT * FROM t WHERE b = ?", args: [b] })),
    fc.tuple(small, text).map((args) => ({ sql: "SELECT x.id, y.id FROM t x LEFT JOIN t y ON y.a = ? WHERE x.b = ?", args })),
  )
  .map((one) => ({ kind: "query", ...one }));

const change: fc.Arbitrary<Action> = fc
  .tuple(
    fc.constantFrom(0 as const, 0 as const, 1 as const),
    fc.oneof(
      fc.tuple(id, small, text, small).map((args) => ({ sql: "INSERT OR REPLACE INTO t VALUES (?, ?, ?, ?)", args })),
      fc.tuple(small, id).map((args) => ({ sql: "UPDATE t SET a = ? WHERE id = ?", args })),
      fc.tuple(text, id).map((args) => ({ sql: "UPDATE t SET b = ? WHERE id = ?", args })),
      fc.tuple(small, small).map((args) => ({ sql: "UPDATE t SET v = ? WHERE a = ?", args })),
      fc.tuple(id, id).map((args) => ({ sql: "UPDATE OR IGNORE t SET id = ? WHERE id = ?", args })),
      id.map((one) => ({ sql: "DELETE FROM t WHERE id = ?", args: [one] })),
    ),
  )
  .map(([at, one]) => ({ kind: "change", at, ...one }));

const drop: fc.Arbitrary<Action> = fc.tuple(id, id).map(([from, to]) => ({ kind: "drop", from, to }));

const actions = fc.array(fc.oneof({ arbitrary: query, weight: 6 }, { arbitrary: change, weight: 6 }, { arbitrary: drop, weight: 1 }), {
  minLength: 20,
  maxLength: 80,
});

test("what a statement finds by an index is what a full copy finds, whatever others change meanwhile", { timeout: 120_000 }, () => {
  let pulled = 0;
  let asked = 0;
  fc.assert(
    fc.property(actions, (list) => {
      const c = new Cluster(2);
      const plain = new Sqlite(":memory:").defaultSafeIntegers(true);
      const insert = `INSERT INTO t SELECT value, value % 12, char(120 + value % 3), value % 7 FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ${rowCount}) SELECT value FROM n)`;
      for (const sql of [...schema, insert]) {
        c.sql(0, sql);
        plain.exec(sql);
      }
      c.restart(1);
      const [before] = [c.rowsPulled];
      for (const action of list) {
        if (action.kind === "drop") {
          const space = [...c.schema.values()].find(({ object }) => object.name === "t")?.object.space;
          if (space === undefined) throw new Error("no table");
          if (action.from < action.to) c.engine(1).store.dropRange(space, integerKey(action.from), integerKey(action.to));
          continue;
        }
        const statement = plain.prepare<SqlValue[], SqlValue[]>(action.sql);
        const sort = (rows: readonly (readonly SqlValue[])[]): string[] => rows.map((row) => row.map(String).join("|")).sort();
        if (action.kind === "change") {
          statement.run(...action.args);
          c.sql(action.at, action.sql, action.args);
        } else expect(sort(c.rows(1, action.sql, action.args)), `${action.sql} [${action.args}]`).toEqual(sort(statement.raw().all(...action.args)));
      }
      pulled += c.rowsPulled - before;
      asked += c.needs.filter(({ ranges }) => ranges === null).length;
      c.close();
      plain.close();
    }),
    { numRuns: Number(process.env.ATOMCAST_FUZZ_SEEDS ?? 6) * 20 },
  );
  expect(pulled).toBeGreaterThan(0);
  expect(asked, "needs of the whole table").toBe(0);
});

test("what comes into a range while it is asked for counts with what the Archive answers", () => {
  const c = new Cluster(2);
  for (const sql of [...schema, "INSERT INTO t(id, a) VALUES (1, 5), (2, 5), (3, 6)"]) c.sql(0, sql);
  c.restart(1);
  const objects = [...c.schema.values()].map(({ object }) => object);
  const space = objects.find(({ name }) => name === "t")?.space as SpaceId;
  const index = objects.find(({ name }) => name === "t_a_v");
  if (index === undefined) throw new Error("no index");
  const { store } = c.engine(1);
  const five = encodeSortKey([{ value: 5n }]);
  const six = encodeSortKey([{ value: 6n }]);
  store.beginHold(index.space, five, six);
  // The Archive's answer is as of now.
  const asOf = c.seq;
  const entries = c.rowsOf(space).flatMap(({ key, row }) => {
    const entry = indexEntryKey(index.indexed, key, row);
    return entry === null || Buffer.compare(entry, six) >= 0 ? [] : [{ key: entry, row: key }];
  });
  expect(entries).toHaveLength(2);
  c.sql(0, "UPDATE t SET a = 5 WHERE id = 3");
  const range = (id: bigint) => ({ low: integerKey(id).toString("latin1"), high: `${integerKey(id).toString("latin1")}\0` });
  const install = (): InstallOutcome => store.install(index.space, five, six, asOf, entries);
  expect(install()).toEqual({ space, ranges: [range(1n), range(2n), range(3n)] });
  c.pull(c.engine(1), { space, ranges: [range(1n), range(2n)] });
  expect(install()).toEqual({ space, ranges: [range(3n)] });
  c.pull(c.engine(1), { space, ranges: [range(3n)] });
  expect(install()).toBe("held");
  const needs = c.needs.length;
  expect(c.rows(1, "SELECT id FROM t WHERE a = 5 ORDER BY id")).toEqual([[1n], [2n], [3n]]);
  expect(c.needs).toHaveLength(needs);
  // What comes now, and is not held, opens a hole in the range.
  c.sql(0, "INSERT INTO t(id, a) VALUES (9, 5)");
  expect(c.rows(1, "SELECT id FROM t WHERE a = 5 ORDER BY id")).toEqual([[1n], [2n], [3n], [9n]]);
  expect(c.needs.length).toBeGreaterThan(needs);
  c.close();
});

test("an index that the same transaction has made narrows nothing: nobody has its entries", () => {
  const c = new Cluster(2);
  for (const sql of [...schema, "INSERT INTO t(id, v) VALUES (1, 5), (2, 5)"]) c.sql(0, sql);
  c.restart(1);
  const { outcomes } = c.run(
    1,
    ["BEGIN", "CREATE INDEX t_v ON t(v)", "SELECT count(*) FROM t WHERE v = 5", "COMMIT"].map((sql) => step(sql)),
  );
  expect(outcomes[2]).toMatchObject({ kind: "ok", result: { rows: [[2n]] } });
  c.restart(1);
  expect(c.rows(1, "SELECT count(*) FROM t WHERE v = 5")).toEqual([[2n]]);
  expect(c.lookUps).toBe(1);
  c.close();
});
