/**
 * design.md §7 "Pull planner": "It may always ask for too much, never for too little". A Cache that holds ranges of indexes, while another changes rows:
 * each answer equals plain SQLite's, and rows of ranges that nobody asked for stay away. (partial-store.test.ts has the odd values.) Between a question of
 * a range, the Archive's answer and its arrival anything may happen: others' entries, evictions, other questions that overlap it.
 */
import Sqlite from "better-sqlite3";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Seq, SpaceId } from "../../../src/base/ids.js";
import type { BinaryRange } from "../../../src/base/key-ranges.js";
import { indexEntryKey } from "../../../src/base/row-index.js";
import { encodeSortKey, integerKey } from "../../../src/base/sort-key.js";
import type { SqlValue } from "../../../src/base/values.js";
import type { InstallOutcome, PulledRow } from "../../../src/sql/local-store.js";
import { Cluster, step } from "../store-harness.js";

const rowCount = 200;
/** Values of `a` and of `b` in the beginning. Most are never asked for, so that most rows are not held when they come into a range. */
const valueCount = 40;
/** Values of `a` that are. */
const askedCount = 4;

const schema = [
  "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT COLLATE NOCASE, v INT)",
  "CREATE INDEX t_a_v ON t(a, v DESC)",
  "CREATE INDEX t_b ON t(b)",
];

type Action =
  | { readonly kind: "query"; readonly sql: string; readonly args: readonly SqlValue[] }
  | { readonly kind: "change"; readonly at: 0 | 1; readonly sql: string; readonly args: readonly SqlValue[] }
  | { readonly kind: "drop"; readonly from: bigint; readonly to: bigint }
  /** A range of an index is asked for, as a pull does before its first chunk comes. */
  | { readonly kind: "ask"; readonly index: "t_a_v" | "t_b"; readonly low: Buffer; readonly high: Buffer; readonly isAnswered: boolean }
  /** The Archive answers one of the questions, as of now. */
  | { readonly kind: "answer"; readonly which: number }
  /** An answer arrives, or is tried again with the rows that it needed; `isWhole`: until nothing is missing. */
  | { readonly kind: "arrive"; readonly which: number; readonly isWhole: boolean };

const small = fc.integer({ min: 0, max: askedCount - 1 }).map(BigInt);
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

const which = fc.nat(9);
const ask: fc.Arbitrary<Action> = fc
  .tuple(
    fc.boolean(),
    fc.oneof(
      fc.tuple(small, small).map(([a, more]) => ({
        index: "t_a_v" as const,
        low: encodeSortKey([{ value: a }]),
        high: encodeSortKey([{ value: a + 1n + more }]),
      })),
      fc.constantFrom("x", "y", "z").map((b) => ({
        index: "t_b" as const,
        low: encodeSortKey([{ value: b, collation: "NOCASE" }]),
        high: encodeSortKey([{ value: `${b}~`, collation: "NOCASE" }]),
      })),
    ),
  )
  .map(([isAnswered, one]) => ({ kind: "ask", isAnswered, ...one }));

const actions = fc.array(
  fc.oneof(
    { arbitrary: query, weight: 3 },
    { arbitrary: change, weight: 12 },
    { arbitrary: drop, weight: 1 },
    { arbitrary: ask, weight: 8 },
    { arbitrary: which.map((one) => ({ kind: "answer" as const, which: one })), weight: 6 },
    { arbitrary: fc.tuple(which, fc.boolean()).map(([one, isWhole]) => ({ kind: "arrive" as const, which: one, isWhole })), weight: 8 },
  ),
  { minLength: 60, maxLength: 160, size: "max" },
);

/** A range that was asked for, and what has been answered so far. */
interface Question {
  readonly index: SpaceId;
  readonly low: Buffer;
  readonly high: Buffer;
  answer: { readonly asOf: Seq; readonly entries: readonly PulledRow[] } | null;
}

/** A Cache's questions, each of whose steps is moved on by itself. */
class Questions {
  readonly #cluster: Cluster;
  readonly #list: Question[] = [];
  /** Answers that were installed after something had been applied since; and most questions at one time. */
  late = 0;
  most = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    cluster.beforeLookUp = (index, range) => {
      for (const question of this.#list.filter((one) => overlaps(one, index, range))) this.#finish(question);
    };
  }

  spaceOf(name: string): SpaceId {
    const found = [...this.#cluster.schema.values()].find(({ object }) => object.name === name);
    if (found === undefined) throw new Error(`no ${name}`);
    return found.object.space;
  }

  ask(name: string, low: Buffer, high: Buffer, isAnswered: boolean): void {
    const index = this.spaceOf(name);
    const range = { low: low.toString("latin1"), high: high.toString("latin1") };
    if (this.#list.some((one) => overlaps(one, index, range))) return;
    this.#cluster.engine(1).store.beginHold(index, low, high);
    const question: Question = { index, low, high, answer: null };
    this.most = Math.max(this.most, this.#list.push(question));
    if (isAnswered) this.#answer(question);
  }

  answer(place: number): void {
    const waiting = this.#list.filter((one) => one.answer === null);
    const question = waiting[place % waiting.length];
    if (question !== undefined) this.#answer(question);
  }

  #answer(question: Question): void {
    const { index, low, high } = question;
    const all = this.#cluster.entriesOf(index, this.spaceOf("t"));
    const entries = all.filter(({ key }) => Buffer.compare(key, low) >= 0 && Buffer.compare(key, high) < 0);
    question.answer = { asOf: this.#cluster.seq, entries };
  }

  arrive(place: number, isWhole: boolean): void {
    const answered = this.#list.filter((one) => one.answer !== null);
    const question = answered[place % answered.length];
    if (question === undefined) return;
    if (isWhole) this.#finish(question);
    else this.#arrive(question);
  }

  #arrive(question: Question): void {
    const { index, low, high, answer } = question;
    if (answer === null) return;
    const engine = this.#cluster.engine(1);
    const outcome = engine.store.install(index, low, high, answer.asOf, answer.entries);
    if (outcome === "held" && answer.asOf < this.#cluster.seq) this.late++;
    // "full": an eviction has ended it. Who needs the range asks again.
    if (outcome === "held" || outcome === "full") this.#list.splice(this.#list.indexOf(question), 1);
    else this.#cluster.pull(engine, outcome);
  }

  #finish(question: Question): void {
    if (question.answer === null) this.#answer(question);
    while (this.#list.includes(question)) this.#arrive(question);
  }
}

function overlaps(question: Question, index: SpaceId, { low, high }: BinaryRange): boolean {
  return question.index === index && (high === null || question.low.toString("latin1") < high) && low < question.high.toString("latin1");
}

test("what a statement finds by an index is what a full copy finds, whatever others change meanwhile", { timeout: 120_000 }, () => {
  let pulled = 0;
  let asked = 0;
  let late = 0;
  let most = 0;
  fc.assert(
    fc.property(actions, (list) => {
      const c = new Cluster(2);
      const plain = new Sqlite(":memory:").defaultSafeIntegers(true);
      const insert = `INSERT INTO t SELECT value, value % ${valueCount}, char(120 + value % ${valueCount}), value % 7 FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ${rowCount}) SELECT value FROM n)`;
      for (const sql of [...schema, insert]) {
        c.sql(0, sql);
        plain.exec(sql);
      }
      c.restart(1);
      const before = c.rowsPulled;
      const questions = new Questions(c);
      const compare = (sql: string, args: readonly SqlValue[]): void => {
        const sort = (rows: readonly (readonly SqlValue[])[]): string[] => rows.map((row) => row.map(String).join("|")).sort();
        const wanted = plain.prepare<SqlValue[], SqlValue[]>(sql).raw();
        expect(sort(c.rows(1, sql, args)), `${sql} [${args}]`).toEqual(sort(wanted.all(...args)));
      };
      for (const action of list) {
        if (action.kind === "drop") {
          if (action.from < action.to) c.engine(1).store.dropRange(questions.spaceOf("t"), integerKey(action.from), integerKey(action.to));
        } else if (action.kind === "ask") questions.ask(action.index, action.low, action.high, action.isAnswered);
        else if (action.kind === "answer") questions.answer(action.which);
        else if (action.kind === "arrive") questions.arrive(action.which, action.isWhole);
        else if (action.kind === "query") compare(action.sql, action.args);
        else {
          plain.prepare(action.sql).run(...action.args);
          c.sql(action.at, action.sql, action.args);
        }
      }
      // What is held of the indexes in the end, whether or not a statement has used it.
      for (let a = 0n; a < askedCount; a++) compare("SELECT * FROM t WHERE a = ?", [a]);
      for (const b of ["x", "y", "z", "zz"]) compare("SELECT * FROM t WHERE b = ?", [b]);
      late += questions.late;
      most = Math.max(most, questions.most);
      pulled += c.rowsPulled - before;
      asked += c.needs.filter(({ ranges }) => ranges === null).length;
      c.close();
      plain.close();
    }),
    // What fails is told as it is: to make it small takes longer than the test may.
    { endOnFailure: true, numRuns: Number(process.env.ATOMCAST_FUZZ_SEEDS ?? 6) * 8 },
  );
  expect(pulled).toBeGreaterThan(0);
  expect(asked, "needs of the whole table").toBe(0);
  expect(late, "answers that came after something had been applied").toBeGreaterThan(20);
  expect(most, "questions at one time").toBeGreaterThan(2);
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

test("a range with a hole that is asked for again: what comes into a part that is still held, before the answer, counts too", () => {
  const c = new Cluster(2);
  for (const sql of ["CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT UNIQUE)", "CREATE INDEX n_name ON n(name)"]) c.sql(0, sql);
  c.restart(1);
  const objects = [...c.schema.values()].map(({ object }) => object);
  const space = objects.find(({ name }) => name === "n")?.space as SpaceId;
  const index = objects.find(({ name }) => name === "n_name")?.space as SpaceId;
  const { store } = c.engine(1);
  const [low, high] = [encodeSortKey([{ value: "a" }]), encodeSortKey([{ value: "b" }])];
  store.beginHold(index, low, high);
  expect(store.install(index, low, high, c.seq, [])).toBe("held");
  // The first opens a hole, and the range is asked for again; the second comes at a key beside it.
  c.sql(0, "INSERT INTO n VALUES (33, 'a')");
  store.beginHold(index, low, high);
  const asOf = c.seq;
  const entries = c
    .rowsOf(space)
    .map(({ key, row }) => ({ key: indexEntryKey(objects.find((one) => one.space === index)?.indexed ?? [], key, row) as Buffer, row: key }));
  c.sql(0, "REPLACE INTO n VALUES (3, 'a')");
  c.pull(c.engine(1), { space, ranges: [{ low: integerKey(33n).toString("latin1"), high: `${integerKey(33n).toString("latin1")}\0` }] });
  const three = integerKey(3n).toString("latin1");
  expect(store.install(index, low, high, asOf, entries)).toEqual({ space, ranges: [{ low: three, high: `${three}\0` }] });
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

test("a join by the key or an index takes of the inner table what the outer rows tell", () => {
  const c = new Cluster(2);
  const fill = (table: string, values: string): string =>
    `INSERT INTO ${table} SELECT ${values} FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i FROM n)`;
  for (const sql of [
    "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INT, code TEXT)",
    "CREATE TABLE items(id INTEGER PRIMARY KEY, order_id INT, code TEXT COLLATE NOCASE)",
    "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT)",
    "CREATE INDEX items_order ON items(order_id)",
    "CREATE INDEX items_code ON items(code)",
    fill("orders", "i, i % 50, 'c' || i"),
    fill("items", "i, i % 100, 'C' || i"),
    fill("customers", "i, 'n' || i"),
  ])
    c.sql(0, sql);
  const pulled = (sql: string): { rows: number; pulled: number; whole: number } => {
    c.restart(1);
    const [before, needs] = [c.rowsPulled, c.needs.length];
    const found = c.rows(1, sql);
    expect(found.map(String).sort(), sql).toEqual(c.rows(0, sql).map(String).sort());
    return { rows: found.length, pulled: c.rowsPulled - before, whole: c.needs.slice(needs).filter(({ ranges }) => ranges === null).length };
  };
  const range = "o.id BETWEEN 11 AND 20";
  expect(pulled(`SELECT o.id, k.name FROM orders o JOIN customers k ON k.id = o.customer WHERE ${range}`)).toEqual({
    rows: 10,
    pulled: 20,
    whole: 0,
  });
  expect(pulled(`SELECT o.id, i.id FROM orders o LEFT JOIN items i ON o.id = i.order_id WHERE ${range}`)).toEqual({ rows: 20, pulled: 30, whole: 0 });
  // A chain, in whatever order it is written.
  expect(pulled(`SELECT k.name, i.id FROM items i, customers k, orders o WHERE k.id = o.customer AND i.order_id = o.id AND ${range}`)).toEqual({
    rows: 20,
    pulled: 40,
    whole: 0,
  });
  // The left side's rows stay, matched or not: ON does not narrow them.
  expect(pulled("SELECT count(*), count(o.id) FROM items i LEFT JOIN orders o ON o.id = i.order_id AND o.id < 5").whole).toBe(1);
  // The collation of the left operand counts: only one of these is a search in the index.
  expect(pulled(`SELECT i.id FROM orders o JOIN items i ON i.code = o.code WHERE ${range}`)).toEqual({ rows: 10, pulled: 20, whole: 0 });
  expect(pulled(`SELECT i.id FROM orders o JOIN items i ON o.code = i.code WHERE ${range}`)).toEqual({ rows: 0, pulled: 210, whole: 1 });
  c.close();
});

test("what an open transaction joins is told by the outer rows of its snapshot", () => {
  const c = new Cluster(2);
  for (const sql of [
    "CREATE TABLE a(id INTEGER PRIMARY KEY, b INT)",
    "CREATE TABLE b(id INTEGER PRIMARY KEY, v)",
    "INSERT INTO a VALUES (1, 10)",
    "INSERT INTO b VALUES (10, 'ten'), (20, 'twenty')",
  ])
    c.sql(0, sql);
  c.restart(1);
  const ann = c.client(1);
  c.in(ann, "BEGIN", "SELECT b FROM a WHERE id = 1");
  c.sql(0, "UPDATE a SET b = 20 WHERE id = 1");
  expect(c.in(ann, "SELECT v FROM a JOIN b ON b.id = a.b WHERE a.id = 1")).toMatchObject([{ kind: "ok", result: { rows: [["ten"]] } }]);
  c.close();
});

test("EXPLAIN PULL tells what a statement needs, and pulls nothing of it", () => {
  const c = new Cluster(2);
  for (const sql of [...schema, "CREATE TABLE u(id INTEGER PRIMARY KEY, t REFERENCES t(id))", "INSERT INTO t(id, a) VALUES (1, 5), (2, 5), (3, 6)"])
    c.sql(0, sql);
  c.restart(1);
  const told = (sql: string, args: readonly SqlValue[] = []) => c.rows(1, `explain pull ${sql}`, args).map((row) => row.slice(0, 2));
  expect(told("SELECT * FROM t WHERE id IN (?, 3)", [7n])).toEqual([["t", "id IN (7, 3)"]]);
  expect(told("SELECT * FROM t WHERE a = 5 AND v < 'x'")).toEqual([["t", "a = 5 AND v <= 'x'"]]);
  expect(told("SELECT * FROM u JOIN t ON t.id = u.t WHERE u.id = 9")).toEqual([
    ["u", "id = 9"],
    ["t", "id = u.t"],
  ]);
  expect(told("INSERT INTO u VALUES (4, 2)")).toEqual([
    ["u", "id = 4"],
    ["t", "nothing"],
  ]);
  expect(c.rows(1, "EXPLAIN PULL SELECT count(*) FROM t")).toMatchObject([["t", "whole", 0n, 0n, expect.stringContaining("no condition")]]);
  expect(c.fault(1, "EXPLAIN PULL CREATE TABLE x(a)").message).toMatch(/SELECT, INSERT, UPDATE, DELETE/);
  expect(c.fault(1, "EXPLAIN PULL SELECT absent FROM t").message).toMatch(/no such column/);
  expect(c.engine(1).store.describe("EXPLAIN PULL SELECT * FROM t WHERE id = ?", null)).toMatchObject({
    parameters: [{ name: null }],
    isExplain: true,
  });
  expect(c.needs).toEqual([]);
  c.close();
});

test("IN (SELECT …) narrows by what the subquery's table has; where the statement itself may change that, it does not", () => {
  const c = new Cluster(2);
  c.sql(0, "CREATE TABLE customer(id INTEGER PRIMARY KEY, city TEXT)");
  c.sql(0, "CREATE TABLE bill(id INTEGER PRIMARY KEY, customer INT REFERENCES customer(id), amount INT)");
  c.sql(0, "CREATE INDEX customer_city ON customer(city)");
  c.sql(0, "CREATE INDEX bill_customer ON bill(customer)");
  c.sql(0, "INSERT INTO customer WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i, 'c' || (i % 50) FROM n");
  c.sql(0, "INSERT INTO bill WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 1 + i % 200, i FROM n");
  c.restart(1);
  const told = (sql: string): string[] => c.rows(1, `explain pull ${sql}`).map((row) => `${row[0]}: ${row[1]}`);
  const isNarrow = (sql: string): boolean => told(sql).every((one) => !one.endsWith(": whole"));
  const bills = "SELECT sum(amount) FROM bill WHERE customer IN (SELECT id FROM customer WHERE city = 'c7')";
  expect(isNarrow(bills)).toBe(true);
  expect(c.rows(1, bills)).toEqual(c.rows(0, bills));
  expect(c.needs.some(({ ranges }) => ranges === null)).toBe(false);
  for (const sql of [
    "SELECT * FROM bill WHERE id IN (SELECT max(id) FROM bill WHERE customer = 3)",
    "SELECT * FROM bill WHERE customer NOT IN (SELECT id FROM customer WHERE city = 'c7')",
    "SELECT * FROM bill WHERE customer IN (SELECT id + 1 FROM customer WHERE city = 'c7')",
    "SELECT * FROM bill WHERE customer IN (SELECT id FROM customer WHERE city = 'c7' UNION SELECT 3)",
    "UPDATE customer SET city = (SELECT count(*) FROM bill WHERE customer IN (SELECT id FROM customer WHERE city = 'c7')) WHERE id < 4",
  ])
    expect(isNarrow(sql), sql).toBe(false);
  expect(isNarrow("DELETE FROM bill WHERE customer IN (SELECT id FROM customer WHERE city = 'c7')")).toBe(true);
  c.sql(1, "DELETE FROM bill WHERE customer IN (SELECT id FROM customer WHERE city = 'c7')");
  expect(c.rows(0, "SELECT count(*) FROM bill")).toEqual([[882n]]);
  c.close();
});

test("a correlated subquery narrows by the rows around it; where the statement changes these before it asks, it does not", () => {
  const c = new Cluster(2);
  c.sql(0, "CREATE TABLE customer(id INTEGER PRIMARY KEY, city TEXT, n INT)");
  c.sql(0, "CREATE TABLE bill(id INTEGER PRIMARY KEY, customer INT, amount INT)");
  c.sql(0, "CREATE INDEX customer_city ON customer(city)");
  c.sql(0, "CREATE INDEX bill_customer ON bill(customer)");
  c.sql(0, "INSERT INTO customer WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i, 'c' || (i % 50), 0 FROM n");
  c.sql(0, "INSERT INTO bill WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 1 + i % 200, i FROM n");
  const isNarrow = (sql: string): boolean => c.rows(1, `explain pull ${sql}`).every((row) => row[1] !== "whole");
  const bills = "FROM bill b WHERE b.customer = c.id";
  for (const sql of [
    `SELECT id FROM customer c WHERE city = 'c7' AND EXISTS (SELECT 1 ${bills} AND b.amount > 800)`,
    `SELECT id FROM customer c WHERE city = 'c7' AND NOT EXISTS (SELECT 1 ${bills} AND b.amount > 800)`,
    `SELECT id, (SELECT sum(amount) ${bills}) FROM customer c WHERE c.id IN (3, 5)`,
    `SELECT id, (SELECT max(q.amount) FROM (SELECT amount ${bills}) q) FROM customer c WHERE c.id = 3`,
    `SELECT city FROM customer c WHERE id < 4 GROUP BY city HAVING EXISTS (SELECT 1 ${bills})`,
  ]) {
    c.restart(1);
    const before = c.needs.length;
    expect(isNarrow(sql), sql).toBe(true);
    expect(c.rows(1, sql)).toEqual(c.rows(0, sql));
    expect(c.needs.slice(before).some(({ ranges }) => ranges === null)).toBe(false);
  }
  c.restart(1);
  expect(isNarrow(`DELETE FROM customer AS c WHERE id < 9 AND EXISTS (SELECT 1 ${bills})`)).toBe(true);
  for (const sql of [
    "UPDATE customer SET n = 1 WHERE id < 9 RETURNING (SELECT count(*) FROM bill b WHERE b.customer = customer.id)",
    `SELECT id FROM customer c WHERE c.id = 3 AND EXISTS (SELECT 1 FROM bill c WHERE c.customer = c.id)`,
    `SELECT id FROM customer c WHERE c.id = 3 ORDER BY (SELECT count(*) ${bills})`,
    `SELECT id FROM customer c WHERE c.id = 3 AND EXISTS (SELECT 1 FROM bill b WHERE b.customer + 0 = c.id)`,
  ])
    expect(isNarrow(sql), sql).toBe(false);
  c.close();
});

test("a bare name in a subquery is a column of a clause around it only where nothing in between can mean it", () => {
  const c = new Cluster(2);
  c.sql(0, "CREATE TABLE customer(id INTEGER PRIMARY KEY, city TEXT, n INT)");
  c.sql(0, "CREATE TABLE bill(id INTEGER PRIMARY KEY, customer INT, amount INT)");
  c.sql(0, "CREATE INDEX bill_customer ON bill(customer)");
  c.sql(
    0,
    "INSERT INTO customer WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) SELECT i, 'c' || (i % 50), 90 - i FROM n",
  );
  c.sql(0, "INSERT INTO bill WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i, 1 + i % 90, i FROM n");
  const needsAll = (sql: string): boolean => {
    c.restart(1);
    const isWhole = c.rows(1, `explain pull ${sql}`).some(([table, needs]) => table === "bill" && needs === "whole");
    expect(c.rows(1, sql), sql).toEqual(c.rows(0, sql));
    return isWhole;
  };
  for (const sql of [
    "SELECT id, (SELECT sum(amount) FROM bill WHERE customer = n) FROM customer WHERE id IN (3, 5)",
    "SELECT id FROM customer WHERE id < 9 AND EXISTS (SELECT 1 FROM bill WHERE n = customer AND amount > 300)",
    "SELECT id, (SELECT count(*) FROM (SELECT 1 FROM bill WHERE customer = n)) FROM customer WHERE id IN (3, 5)",
    "SELECT id, (SELECT max((SELECT max(amount) FROM bill b WHERE b.customer = n)) FROM bill WHERE id = 1) FROM customer WHERE id = 3",
  ])
    expect(needsAll(sql), sql).toBe(false);
  for (const sql of [
    "SELECT id, (SELECT sum(amount) FROM bill WHERE customer = id) FROM customer WHERE id IN (3, 5)",
    "SELECT id, (SELECT amount AS n FROM bill WHERE customer = n) FROM customer WHERE id IN (3, 5)",
    "SELECT id, (SELECT max((SELECT max(amount) FROM bill b WHERE b.customer = n)) AS n FROM bill WHERE id = 1) FROM customer WHERE id = 3",
    "SELECT id, (SELECT sum(amount) FROM bill, (SELECT 5 AS n) WHERE customer = n) FROM customer WHERE id IN (3, 5)",
    "SELECT x.id, (SELECT sum(amount) FROM bill WHERE customer = n) FROM customer x JOIN customer USING (n) WHERE x.id IN (3, 5)",
  ])
    expect(needsAll(sql), sql).toBe(true);
  c.close();
});

test("a subquery in SET narrows by what the row had; where a trigger may have changed that before, it does not", () => {
  const c = new Cluster(2);
  c.sql(0, "CREATE TABLE customer(id INTEGER PRIMARY KEY, city TEXT, n INT)");
  c.sql(0, "CREATE TABLE bill(id INTEGER PRIMARY KEY, customer INT, amount INT)");
  c.sql(0, "CREATE INDEX bill_customer ON bill(customer)");
  c.sql(0, "CREATE INDEX customer_n ON customer(n)");
  c.sql(
    0,
    "INSERT INTO customer WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) SELECT i, 'c' || (i % 50), i % 7 FROM n",
  );
  c.sql(0, "INSERT INTO bill WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT i, 1 + (i * i) % 90, i FROM n");
  const update = (value: string): { readonly isWhole: boolean; readonly stored: unknown; readonly wanted: unknown } => {
    c.restart(1);
    const wanted = c.rows(0, `SELECT id, ${value} FROM customer WHERE id < 9 ORDER BY id`);
    const sql = `UPDATE customer SET n = ${value} WHERE id < 9`;
    const isWhole = c.rows(1, `explain pull ${sql}`).some(([, needs]) => needs === "whole");
    c.sql(1, sql);
    return { isWhole, stored: c.rows(0, "SELECT id, n FROM customer WHERE id < 9 ORDER BY id"), wanted };
  };
  for (const value of [
    "(SELECT count(*) FROM bill WHERE bill.customer = customer.n)",
    "(SELECT max(amount) FROM bill WHERE customer = n)",
    "(SELECT count(*) FROM customer z WHERE z.n = customer.id)",
    "coalesce((SELECT sum(amount) FROM bill b WHERE b.customer = customer.id AND b.id > (SELECT min(q.id) FROM bill q WHERE q.customer = n)), 0)",
  ]) {
    const { isWhole, stored, wanted } = update(value);
    expect(isWhole, value).toBe(false);
    expect(stored, value).toEqual(wanted);
  }
  expect(c.needs.some(({ ranges }) => ranges === null)).toBe(false);
  // The second row's n is another one by the time that SET is computed of it.
  c.sql(0, "CREATE TRIGGER next AFTER UPDATE ON customer WHEN new.id < 3 BEGIN UPDATE customer SET n = new.id + 40 WHERE id = new.id + 1; END");
  c.sql(0, "UPDATE customer SET n = 1 WHERE id = 9");
  const { isWhole, stored } = update("(SELECT count(*) FROM bill WHERE bill.customer = customer.n)");
  expect(isWhole).toBe(true);
  const counts = c.rows(0, "SELECT (SELECT count(*) FROM bill WHERE customer = 41), (SELECT count(*) FROM bill WHERE customer = 42)")[0];
  expect((stored as readonly (readonly unknown[])[]).slice(1, 3).map(([, n]) => n)).toEqual(counts);
  c.close();
});

describe("what triggers look for by NEW and OLD is found when the statement has run", () => {
  function posts(...triggers: readonly string[]): Cluster {
    const c = new Cluster(2);
    c.sql(0, "CREATE TABLE log(x)");
    c.sql(0, "CREATE TABLE post(id INTEGER PRIMARY KEY, body TEXT, updated INT DEFAULT 0, author INT, tag TEXT)");
    c.sql(0, "CREATE TABLE author(id INTEGER PRIMARY KEY, posts INT DEFAULT 0, isFull INT DEFAULT 0)");
    c.sql(0, "CREATE TABLE tag(name TEXT COLLATE NOCASE UNIQUE, n INT DEFAULT 0)");
    c.sql(0, "CREATE INDEX post_author ON post(author)");
    for (const trigger of triggers) c.sql(0, trigger);
    const numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)";
    c.sql(0, `INSERT INTO author(id, isFull) ${numbers} SELECT i, i % 10 = 0 FROM n`);
    c.sql(0, `INSERT INTO post(id, body, author, tag) ${numbers} SELECT i, 'b' || i, i, 'T' || (i % 100) FROM n`);
    c.sql(0, `INSERT OR IGNORE INTO tag(name) ${numbers} SELECT 'T' || (i % 100) FROM n`);
    c.restart(1);
    c.needs.length = 0;
    c.rowsPulled = 0;
    return c;
  }
  const isWhole = (c: Cluster): boolean => c.needs.some(({ ranges }) => ranges === null);

  test("a stamp, a log, a count and a list, each by what the row has", () => {
    const c = posts(
      "CREATE TRIGGER stamp AFTER UPDATE ON post BEGIN UPDATE post SET updated = updated + 1 WHERE id = new.id; END",
      `CREATE TRIGGER audit AFTER INSERT ON post BEGIN INSERT INTO log VALUES (new.body); UPDATE author SET posts = posts + 1 WHERE id = new.author;
         INSERT OR IGNORE INTO tag(name) VALUES (new.tag); UPDATE tag SET n = n + 1 WHERE name = new.tag; END`,
      "CREATE TRIGGER gone BEFORE DELETE ON post BEGIN UPDATE author SET posts = (SELECT count(*) FROM post WHERE author = old.author) WHERE id = old.author; END",
    );
    const before = c.rows(0, "SELECT posts FROM author WHERE id IN (9, 10)");
    c.needs.length = 0;
    c.sql(1, "UPDATE post SET body = 'x' WHERE id = 7");
    c.sql(1, "INSERT INTO post(id, body, author, tag) VALUES (1000, 'n', 9, 't9'), (1001, 'm', 10, 'new')");
    expect(c.rows(0, "SELECT body, updated FROM post WHERE id = 7")).toEqual([["x", 1n]]);
    expect(c.rows(0, "SELECT posts FROM author WHERE id IN (9, 10)")).toEqual(before.map(([count]) => [(count as bigint) + 1n]));
    expect(c.rows(0, "SELECT name, n FROM tag WHERE name IN ('t9', 'new') ORDER BY n")).toEqual([
      ["new", 1n],
      ["T9", 4n],
    ]);
    c.sql(1, "DELETE FROM post WHERE id = 1000");
    expect(c.rows(0, "SELECT posts FROM author WHERE id = 9")).toEqual([[2n]]);
    expect(isWhole(c)).toBe(false);
    expect(c.rowsPulled).toBeLessThan(10);
    c.close();
  });

  test("one trigger sets off another, and what that finds stops them all", () => {
    const c = posts(
      "CREATE TRIGGER first AFTER UPDATE OF tag ON post BEGIN UPDATE author SET posts = posts + 1 WHERE id = new.author; END",
      "CREATE TRIGGER second AFTER UPDATE ON author BEGIN DELETE FROM tag WHERE name = 't' || new.id; UPDATE tag SET n = new.posts WHERE 't7' = name; END",
      "CREATE TRIGGER third BEFORE UPDATE ON author BEGIN SELECT raise(ABORT, 'full') WHERE EXISTS (SELECT 1 FROM author a WHERE a.id = old.id AND isFull); END",
    );
    expect(c.fault(1, "UPDATE post SET tag = 'z' WHERE id IN (19, 20)")).toMatchObject({ code: "SQLITE_CONSTRAINT_TRIGGER", message: "full" });
    c.sql(1, "UPDATE post SET tag = 'z' WHERE id IN (18, 19)");
    expect(c.rows(0, "SELECT id, posts FROM author WHERE posts > 0")).toEqual([
      [18n, 1n],
      [19n, 1n],
    ]);
    expect(c.rows(0, "SELECT count(*) FROM tag")).toEqual([[98n]]);
    c.close();
  });

  test.each([
    ["a key is compared with texts", "UPDATE tag SET n = 1 WHERE name = new.id"],
    ["the row's own collation counts", "UPDATE tag SET n = 1 WHERE new.tag = name"],
    ["it is computed", "UPDATE tag SET n = 1 WHERE name = new.tag || ''"],
    ["it is one of several", "UPDATE tag SET n = 1 WHERE name IN (new.tag, new.body)"],
    ["another table has that name", "UPDATE tag SET n = (SELECT max(new.id) FROM author new) WHERE name = new.tag"],
    ["another table's rows tell the value", "UPDATE tag SET n = 1 WHERE name IN (SELECT p.tag FROM post p WHERE p.id = new.id)"],
  ])("but not where %s", (_, statement) => {
    const c = posts(`CREATE TRIGGER g AFTER UPDATE OF body ON post BEGIN ${statement}; END`);
    const needsOf = (sql: string): unknown => c.rows(1, `explain pull ${sql}`).find(([table]) => table === "tag")?.[1];
    expect(needsOf("UPDATE post SET body = 'x' WHERE id = 7")).toBe("whole");
    expect(needsOf("UPDATE post SET updated = 1 WHERE id = 7")).toBeUndefined();
    c.close();
  });

  test("nor where its WHEN reads rows", () => {
    const c = posts(
      "CREATE TRIGGER g AFTER UPDATE ON post WHEN (SELECT count(*) FROM log) > 0 BEGIN UPDATE author SET posts = 1 WHERE id = new.author; END",
    );
    c.sql(1, "UPDATE post SET body = 'x' WHERE id = 7");
    expect(isWhole(c)).toBe(true);
    c.close();
  });
});

test("an UPDATE that sets a key and a unique value that others have tells the key's owner, as SQLite does, also where it is not held", () => {
  const c = new Cluster(2);
  c.sql(0, "CREATE TABLE x(id INTEGER PRIMARY KEY, a UNIQUE)");
  c.sql(0, "INSERT INTO x VALUES (1, 1), (5, 5), (9, 9)");
  for (const sql of [
    "UPDATE x SET a = 9, id = 5 WHERE id = 1",
    "UPDATE x SET a = 9, id = id + 4 WHERE id = 1",
    "UPDATE x SET a = 9, rowid = 5 WHERE id = 1",
  ]) {
    c.restart(1);
    expect(c.fault(1, sql), sql).toEqual(c.fault(0, sql));
    expect(c.fault(0, sql).code).toBe("SQLITE_CONSTRAINT_PRIMARYKEY");
  }
  c.close();
});
