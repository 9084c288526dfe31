/**
 * Random statements on a store that holds a part of the rows, against a plain SQLite that has them all: the same answer, the same error, the same
 * changes; and what is held is what was committed, also when ranges were given up. Keys of every affinity and collation, values that are odd for them. What a table's key
 * narrows is counted: too little narrowing fails as well as too much.
 */
import Sqlite, { type Database } from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../../../src/base/random.js";
import type { SqlValue } from "../../../src/base/values.js";
import { oddities as commonOddities, literal } from "../odd-values.js";
import { cutAnew, dropSome, expectHeldRight } from "../partly-held.js";
import { Cluster, step } from "../store-harness.js";

const schema = [
  "CREATE TABLE i(id INTEGER PRIMARY KEY, a INT, v)",
  "CREATE TABLE n(k TEXT COLLATE NOCASE PRIMARY KEY, a INT, v) WITHOUT ROWID",
  "CREATE TABLE d(a INT, k TEXT COLLATE RTRIM, v, PRIMARY KEY (a, k DESC)) WITHOUT ROWID",
  "CREATE TABLE r(k REAL PRIMARY KEY, a INT, v) WITHOUT ROWID",
  "CREATE TABLE o(k PRIMARY KEY, a INT, v) WITHOUT ROWID",
  "CREATE TABLE h(a INT, v)",
  "CREATE TABLE u(id INTEGER PRIMARY KEY, a INT UNIQUE, v)",
  "CREATE TABLE m(a INT, k TEXT COLLATE BINARY, v, PRIMARY KEY (k COLLATE NOCASE, a)) WITHOUT ROWID",
  "CREATE TABLE s(k ANY PRIMARY KEY, a INT, v ANY) STRICT, WITHOUT ROWID",
  "CREATE TABLE c(id INTEGER PRIMARY KEY, a INT REFERENCES i(id), v TEXT REFERENCES n(k) ON DELETE CASCADE ON UPDATE CASCADE)",
  "CREATE TABLE e(id INTEGER PRIMARY KEY, a INT REFERENCES e(id) DEFERRABLE INITIALLY DEFERRED, v)",
  "CREATE TABLE l(id INTEGER PRIMARY KEY, a INT, v)",
  "CREATE TRIGGER li AFTER INSERT ON l WHEN new.a > 6 BEGIN UPDATE i SET v = new.id WHERE id = new.a; END",
  "CREATE VIEW w AS SELECT id AS k, a, v FROM i WHERE id < 9",
  "CREATE TABLE f(id INTEGER PRIMARY KEY, a INT REFERENCES i(id) ON DELETE CASCADE ON UPDATE CASCADE, v)",
  "CREATE TABLE ff(id INTEGER PRIMARY KEY, a INT DEFAULT 3 REFERENCES f(id) ON DELETE SET DEFAULT ON UPDATE SET NULL, v INT REFERENCES ff(id) ON DELETE CASCADE)",
  "CREATE INDEX f_a ON f(a)",
  "CREATE INDEX ff_a ON ff(a)",
  "CREATE INDEX ff_v ON ff(v, a)",
  "CREATE TABLE g(id INTEGER PRIMARY KEY, a INT REFERENCES u(a), v)",
  "CREATE TABLE q(k TEXT COLLATE NOCASE, a INT NOT NULL DEFAULT 3, v UNIQUE, UNIQUE (k, a) ON CONFLICT REPLACE)",
  "CREATE INDEX i_a_v ON i(a DESC, v)",
  "CREATE INDEX i_v ON i(v COLLATE NOCASE)",
  "CREATE INDEX n_v ON n(v, a)",
  "CREATE INDEX r_a ON r(a)",
  "CREATE INDEX o_v ON o(v DESC)",
  "CREATE INDEX h_v ON h(v COLLATE BINARY, a)",
  "CREATE INDEX s_a ON s(a, v)",
  "CREATE INDEX c_v ON c(v)",
  "CREATE INDEX c_a ON c(a, id)",
  "CREATE INDEX g_a ON g(a)",
  "CREATE INDEX e_a ON e(a)",
  "CREATE INDEX m_k ON m(k, v)",
  "CREATE INDEX l_part ON l(v) WHERE a > 3",
  "CREATE INDEX l_expression ON l(a, v || 'x')",
];

/** Table → columns of its indexes. */
const indexed: Readonly<Record<string, readonly string[]>> = {
  i: ["a", "v"],
  n: ["v", "a"],
  r: ["a"],
  o: ["v"],
  h: ["v", "a"],
  u: ["a"],
  m: ["k", "v"],
  s: ["a", "v"],
  c: ["v", "a"],
  e: ["a"],
  f: ["a"],
  ff: ["a", "v"],
  g: ["a"],
  q: ["k", "a"],
  l: ["v", "a"],
};

/** Table → its key's columns. */
const keys: Readonly<Record<string, readonly string[]>> = {
  i: ["id"],
  n: ["k"],
  d: ["a", "k"],
  r: ["k"],
  o: ["k"],
  h: ["rowid"],
  u: ["id"],
  m: ["k", "a"],
  s: ["k"],
  c: ["id"],
  e: ["id"],
  l: ["id"],
  f: ["id"],
  ff: ["id"],
  g: ["id"],
  q: ["rowid"],
};
const names = Object.keys(keys);

const integers: readonly SqlValue[] = [
  -3n,
  0n,
  1n,
  2n,
  3n,
  4n,
  5n,
  6n,
  7n,
  8n,
  9n,
  10n,
  11n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
];
/** And a blob that is no text: a column that would make one of it refuses it. */
const oddities: readonly SqlValue[] = [...commonOddities, Buffer.from([0, 255])];

function isId(column: string | undefined): boolean {
  return column === "id" || column === "rowid";
}

interface Made {
  readonly sql: string;
  readonly args: readonly SqlValue[];
}

/** Rows of local-store.md's rule 18. */
const narrowings = [
  "inner join, the inner side",
  "ON, the side that is not preserved",
  "WHERE, the preserved side",
  "ON, the preserved side",
  "WHERE that NULL passes: OR",
  "WHERE that NULL passes: IS NULL",
  "WHERE that NULL passes: coalesce",
  "WHERE that NULL passes: IS NOT",
  "WHERE that NULL does not pass",
  "a later LEFT JOIN's ON",
  "correlated EXISTS",
  "correlated NOT EXISTS",
  "correlated, two clauses further out",
  "correlated, within FROM",
  "correlated, with a name that is taken again",
  "correlated, in ORDER BY of its own",
  "correlated, to an outer join's row",
  "scalar subquery",
  "NOT IN by outer keys",
  "IN, its values",
  "IN, of a correlated subquery",
  "IN, of a join, or of groups",
  "IN, of another IN",
  "HAVING on the group's key",
  "an outer condition on the group's key",
  "an outer condition on the partition's key",
  "an outer condition past a LIMIT",
  "an outer condition past a window without partitions",
  "FILTER beside count(*)",
  "EXCEPT, the right side",
  "a CTE used twice",
  "a recursive arm",
  "row values, less",
  "row values, IN",
  "LIKE and GLOB",
  "a collation that is not the column's",
  "= between columns of different types",
  "= between two columns at once",
  "NATURAL JOIN",
] as const;
type Narrowing = (typeof narrowings)[number];

/** Statements, with about half of their values as parameters. */
class Maker {
  readonly random: Random;
  #args: SqlValue[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  below(limit: number): number {
    return this.random.integer(limit);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  any(): SqlValue {
    return this.below(3) === 0 ? this.pick(oddities) : this.pick(integers);
  }

  value(value: SqlValue = this.any()): string {
    return (this.below(2) === 0 ? null : literal(value)) ?? this.parameter(value);
  }

  parameter(value: SqlValue): string {
    this.#args.push(value);
    return `?${this.#args.length}`;
  }

  condition(column: string): string {
    const value = (): string => this.value();
    switch (this.below(12)) {
      case 0:
        return `${column} IN (${Array.from({ length: this.below(4) }, value).join(", ")})`;
      case 1:
        return `${column} BETWEEN ${value()} AND ${value()}`;
      case 2:
        return `${column} > ${value()}`;
      case 3:
        return `${value()} >= ${column}`;
      case 4:
        return `(${column} < ${value()} AND ${column} >= ${value()})`;
      case 5:
        return this.pick([
          `${column} IS ${value()}`,
          `+${column} = ${value()}`,
          `${column} = ${value()} COLLATE NOCASE`,
          `NOT ${column} = ${value()}`,
        ]);
      case 6:
        return `(${column} = ${value()} OR ${column} = ${value()})`;
      case 7:
        return `${column} LIKE ${value()}`;
      default:
        return `${column} = ${value()}`;
    }
  }

  /** Most often narrow ones. */
  where(table: string, name: string): string {
    const byIndex = this.below(2) === 0 ? indexed[table] : undefined;
    const [first = "", second] = byIndex === undefined || this.below(5) === 0 ? (keys[table] ?? []) : byIndex;
    const of = (column: string): string => (name === "" ? column : `${name}.${column}`);
    const parts = this.below(8) === 0 ? [] : [this.condition(of(first))];
    if (second !== undefined && this.below(2) === 0) parts.push(this.condition(of(second)));
    if (this.below(4) === 0) parts.push(this.pick([`${of("a")} > 3`, `coalesce(${of("v")}, 1) <> 2`, `${of("a")} IS NULL`]));
    return parts.length === 0 ? "1" : parts.join(" AND ");
  }

  /** Of each row of local-store.md's rule 18 a statement: what may narrow, and what must not. */
  narrowings(left: string, right: string, on: (inner: string, outer: string) => string): Readonly<Record<Narrowing, string>> {
    const [x, y, z] = [this.where(left, "x"), this.where(right, "y"), this.where(left, "")];
    const value = (): string => this.value();
    const outer = `SELECT x.a, y.v FROM ${left} x LEFT JOIN ${right} y ON ${on("y", "x")}`;
    return {
      "inner join, the inner side": `SELECT x.a, y.a FROM ${left} x JOIN ${right} y ON ${on("y", "x")} AND ${y}`,
      "ON, the side that is not preserved": `${outer} AND ${y}`,
      "WHERE, the preserved side": `${outer} WHERE ${x}`,
      "ON, the preserved side": `${outer} AND ${x}`,
      "WHERE that NULL passes: OR": `${outer} WHERE y.a IS NULL OR y.a = ${value()}`,
      "WHERE that NULL passes: IS NULL": `${outer} WHERE y.a IS NULL AND ${x}`,
      "WHERE that NULL passes: coalesce": `${outer} WHERE coalesce(y.a, 3) = ${value()} AND ${x}`,
      "WHERE that NULL passes: IS NOT": `${outer} WHERE y.a IS NOT ${value()} AND ${x}`,
      "WHERE that NULL does not pass": `${outer} WHERE ${y}`,
      "a later LEFT JOIN's ON": `SELECT x.a, y.a, w.a FROM ${left} x LEFT JOIN ${right} y ON ${on("y", "x")} LEFT JOIN i w ON w.id = y.a AND ${y} WHERE ${x}`,
      "correlated EXISTS": `SELECT x.a FROM ${left} x WHERE EXISTS (SELECT 1 FROM ${right} y WHERE ${on("y", "x")} AND ${y}) AND ${x}`,
      "correlated NOT EXISTS": `SELECT x.a FROM ${left} x WHERE NOT EXISTS (SELECT 1 FROM ${right} y WHERE ${on("y", "x")}) AND ${x}`,
      "correlated, two clauses further out": `SELECT x.a FROM ${left} x WHERE EXISTS (SELECT 1 FROM i w WHERE w.id = x.a AND NOT EXISTS (SELECT 1 FROM ${right} y WHERE ${on("y", this.pick(["x", "w"]))})) AND ${x}`,
      "correlated, within FROM": `SELECT x.a, (SELECT max(q.v) FROM (SELECT y.v FROM ${right} y WHERE ${on("y", "x")}) q) FROM ${left} x WHERE ${x}`,
      "correlated, with a name that is taken again": `SELECT x.a FROM ${left} x WHERE EXISTS (SELECT 1 FROM i x JOIN (SELECT y.a FROM ${right} y WHERE ${on("y", "x")}) q WHERE x.id = q.a) AND ${x}`,
      "correlated, in ORDER BY of its own": `SELECT x.a, (SELECT w.v FROM i w WHERE w.id = x.a ORDER BY (SELECT count(*) FROM ${right} y WHERE ${on("y", this.pick(["x", "w"]))}) LIMIT 1) FROM ${left} x WHERE ${x}`,
      "correlated, to an outer join's row": `SELECT x.a, EXISTS (SELECT 1 FROM ${right} y WHERE ${on("y", "z")}) FROM ${left} x LEFT JOIN i z ON z.id = x.a AND z.v > ${value()} WHERE ${x}`,
      "scalar subquery": `SELECT (SELECT count(*) FROM ${right} y WHERE y.a = x.a AND ${y}) FROM ${left} x WHERE ${x}`,
      "NOT IN by outer keys": `SELECT x.a FROM ${left} x WHERE x.a NOT IN (SELECT a FROM ${right} y WHERE ${y}) AND ${x}`,
      "IN, its values": `SELECT x.a, x.v FROM ${left} x WHERE x.${this.linked(left)} IN (SELECT ${this.linked(right)} FROM ${right} y WHERE ${y})${this.below(2) === 0 ? "" : ` AND ${x}`}`,
      "IN, of a correlated subquery": `SELECT x.a, x.v FROM ${left} x WHERE x.${this.linked(left)} IN (SELECT y.a FROM ${right} y WHERE ${on("y", "x")} AND ${y})`,
      "IN, of a join, or of groups": `SELECT a, v FROM ${left} WHERE ${this.linked(left)} IN (SELECT ${this.pick([`y.a FROM ${right} y JOIN i w ON w.id = y.a WHERE ${y}`, `w.a FROM ${right} y LEFT JOIN i w ON w.id = y.v WHERE ${y}`, `a FROM ${right} y WHERE ${y} GROUP BY 1 HAVING count(*) > 0`, `a FROM ${right} y WHERE ${y} ORDER BY a LIMIT 2`, `a FROM ${right} y WHERE ${y} UNION SELECT 3`])})`,
      "IN, of another IN": `SELECT a, v FROM ${left} WHERE ${this.linked(left)} IN (SELECT a FROM ${right} WHERE ${this.linked(right)} IN (SELECT v FROM i y WHERE ${this.where("i", "y")}))`,
      "HAVING on the group's key": `SELECT a, count(*) FROM ${left} GROUP BY a HAVING a = ${value()}`,
      "an outer condition on the group's key": `SELECT * FROM (SELECT a, count(*) FROM ${left} GROUP BY a) WHERE a = ${value()}`,
      "an outer condition on the partition's key": `SELECT * FROM (SELECT a, count(*) OVER (PARTITION BY a) FROM ${left}) WHERE a = ${value()}`,
      "an outer condition past a LIMIT": `SELECT * FROM (SELECT a, v FROM ${left} ORDER BY a, v LIMIT 3) WHERE a = ${value()}`,
      "an outer condition past a window without partitions": `SELECT * FROM (SELECT a, row_number() OVER (ORDER BY a, v) FROM ${left}) WHERE a = ${value()}`,
      "FILTER beside count(*)": `SELECT count(*), count(*) FILTER (WHERE a = ${value()}) FROM ${left}`,
      "EXCEPT, the right side": `SELECT a, v FROM ${left} WHERE ${z} EXCEPT SELECT a, v FROM ${right} y WHERE ${y}`,
      "a CTE used twice": `WITH c AS (SELECT a, v FROM ${left}) SELECT x.a FROM c x JOIN c y ON x.a = y.v WHERE x.a = ${value()}`,
      "a recursive arm": `WITH RECURSIVE c(k, n) AS (SELECT a, 0 FROM ${left} WHERE ${z} UNION SELECT y.v, n + 1 FROM c JOIN ${right} y ON y.a = c.k WHERE n < 3) SELECT * FROM c`,
      "row values, less": `SELECT a, v FROM ${left} WHERE (a, v) < (${value()}, ${value()})`,
      "row values, IN": `SELECT a, v FROM ${left} WHERE (a, v) IN (${this.pick([`VALUES (${value()}, ${value()})`, `SELECT a, v FROM ${right} y WHERE ${y}`])})`,
      "LIKE and GLOB": `SELECT a, v FROM ${left} WHERE v LIKE 'b%' OR v GLOB 'B*' OR v LIKE '%5%'`,
      "a collation that is not the column's": `SELECT a, v FROM ${left} WHERE v = ${value()} COLLATE NOCASE AND a >= ${value()} COLLATE RTRIM`,
      "= between columns of different types": `SELECT x.a, y.a FROM ${left} x JOIN ${right} y ON x.v = y.a AND y.v = x.a WHERE ${x}`,
      "= between two columns at once": `SELECT x.a, y.a FROM ${left} x JOIN ${right} y ON x.v = y.v AND y.a = x.a WHERE ${x}`,
      "NATURAL JOIN": `SELECT x.a, y.a FROM ${left} x NATURAL JOIN ${right} y WHERE ${y}`,
    };
  }

  narrowing(only: Narrowing | null = null): string {
    const [left, right] = [this.pick(names), this.pick(names)];
    return this.narrowings(left, right, (inner, outer) => this.joined(inner, outer, right))[only ?? this.pick(narrowings)];
  }

  linked(table: string): string {
    return this.pick([...(keys[table] ?? []), ...(indexed[table] ?? []), "a", "v"]);
  }

  joined(inner: string, outer: string, of: string): string {
    const [one, other] = [`${inner}.${this.linked(of)}`, `${outer}.${this.pick(["a", "v", "a"])}`];
    return this.below(2) === 0 ? `${one} = ${other}` : `${other} = ${one}`;
  }

  select(): string {
    const [left, right] = [this.pick(names), this.pick(names)];
    const key = (table: string): string => keys[table]?.[0] ?? "";
    switch (this.below(14)) {
      case 12:
      case 13:
        return this.narrowing();
      case 9:
        return `SELECT x.a, x.v, y.a, y.v FROM ${left} x ${this.pick(["JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN"])} ${right} y ON ${this.joined("y", "x", right)}${this.below(3) === 0 ? ` AND ${this.where(right, "y")}` : ""} WHERE ${this.where(left, "x")}`;
      case 10: {
        const third = this.pick(names);
        return `SELECT x.a, y.a, z.v FROM ${left} x ${this.pick(["JOIN", "LEFT JOIN"])} ${right} y ON ${this.joined("y", "x", right)} ${this.pick(["JOIN", "LEFT JOIN"])} ${third} z ON ${this.joined("z", this.pick(["x", "y"]), third)} WHERE ${this.where(left, "x")}`;
      }
      case 11:
        return `SELECT x.a, y.v FROM ${left} x, ${right} y WHERE ${this.joined("y", "x", right)} AND ${this.where(right, "y")} AND ${this.where(left, "x")}`;
      case 0:
        return `SELECT count(*), max(a) FROM ${left} WHERE ${this.where(left, "")}`;
      case 1:
        return `SELECT x.*, y.* FROM ${left} x JOIN ${right} y ON ${this.where(right, "y")} WHERE ${this.where(left, "x")}`;
      case 2:
        return `SELECT x.a, y.a FROM ${left} x LEFT JOIN ${right} y ON ${this.where(right, "y")}${this.below(2) ? ` AND ${this.where(left, "x")}` : ""} WHERE ${this.where(left, "x")}`;
      case 3:
        return `SELECT x.a, y.a FROM ${left} x LEFT JOIN ${right} y ON x.a = y.a WHERE ${this.where(right, "y")}`;
      case 4:
        return `SELECT x.a, y.v FROM ${left} x ${this.pick(["RIGHT", "FULL"])} JOIN ${right} y ON ${this.where(left, "x")} WHERE ${this.where(right, "y")}`;
      case 5:
        return `WITH ${right} AS (SELECT * FROM ${left} WHERE ${this.where(left, "")}) SELECT a, v FROM ${right} UNION ALL SELECT a, v FROM main.${left} WHERE ${this.where(left, "")}`;
      case 6:
        return `SELECT x.a, y.v FROM ${left} x JOIN ${right} y ON y.${key(right)} = x.${this.pick(["a", key(left)])} WHERE ${this.where(left, "x")}`;
      case 7:
        return this.pick([
          `SELECT a FROM w WHERE k = ${this.value()}`,
          `SELECT a FROM ${left} WHERE a IN (SELECT a FROM ${right} WHERE ${this.where(right, "")})`,
          `SELECT (SELECT max(a) FROM ${right} y WHERE y.${key(right)} = x.a) FROM ${left} x WHERE ${this.where(left, "x")}`,
          `SELECT count(*) FROM ${left} JOIN ${left} y USING (a) WHERE ${this.condition(key(left))}`,
          `SELECT x.a FROM (${left} x JOIN ${right} y ON ${this.where(right, "y")}) WHERE ${this.where(left, "x")}`,
        ]);
      default:
        return `SELECT * FROM ${left} WHERE ${this.where(left, "")}`;
    }
  }

  columns(table: string): readonly string[] {
    return table === "h"
      ? ["rowid", "a", "v"]
      : table === "q"
        ? this.pick([
            ["rowid", "k", "a", "v"],
            ["rowid", "v", "k"],
          ])
        : table === "d" || table === "m"
          ? ["a", "k", "v"]
          : [...(keys[table] ?? []), "a", "v"];
  }

  /**
   * Not for a STRICT table: where a value has a wrong type, SQLite leaves the rows before it, unless something else makes it keep a journal of
   * the statement. For the same reason ids are always integers below.
   */
  or(table: string): string {
    return table === "s" ? "" : this.pick(["", "", "", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK"]);
  }

  row(columns: readonly string[]): string {
    return columns
      .map((column) => {
        if (isId(column)) return this.value(this.below(8) === 0 ? this.pick(["5", 6.0]) : BigInt(this.below(14)));
        return this.value(column === "k" ? this.any() : this.below(3) === 0 ? this.any() : BigInt(this.below(12)));
      })
      .join(", ");
  }

  write(): string {
    const table = this.pick(names);
    const columns = this.columns(table);
    const rows = (): string => Array.from({ length: 1 + this.below(2) }, () => `(${this.row(columns)})`).join(", ");
    const other = this.pick(names);
    switch (this.below(10)) {
      case 8:
        return this.pick([
          `DELETE FROM ${table} WHERE ${this.linked(table)} IN (SELECT ${this.linked(other)} FROM ${other} y WHERE ${this.where(other, "y")})`,
          `UPDATE ${table} SET v = ${this.value()} WHERE ${this.linked(table)} IN (SELECT a FROM ${other} y WHERE ${this.where(other, "y")}) RETURNING a`,
          `DELETE FROM ${table} AS x WHERE ${this.pick(["", "NOT "])}EXISTS (SELECT 1 FROM ${other} y WHERE ${this.joined("y", "x", other)}) AND ${this.where(table, "x")}`,
          `UPDATE ${this.or(table)} ${table} AS x SET a = ${this.value()} WHERE EXISTS (SELECT 1 FROM ${other} y WHERE ${this.joined("y", "x", other)}) AND ${this.where(table, "x")} RETURNING (SELECT max(a) FROM i w WHERE w.id = x.a)`,
          `UPDATE ${table} AS x SET a = z.a FROM i z WHERE z.id = x.a AND z.v = (SELECT max(y.v) FROM ${other} y WHERE ${this.joined("y", this.pick(["x", "z"]), other)}) AND ${this.where(table, "x")}`,
          `UPDATE ${table} SET a = 3 WHERE ${this.linked(table)} IN (SELECT a FROM ${table} y WHERE ${this.where(table, "y")})`,
        ]);
      case 9:
        // Its own rows have a say in what it reads while it changes them.
        return this.pick([
          `UPDATE ${table} AS x SET a = (SELECT max(y.a) FROM ${table} z JOIN ${other} y ON y.${this.linked(other)} = z.a WHERE z.a = x.a) WHERE ${this.where(table, "x")}`,
          `UPDATE ${table} SET a = (SELECT count(*) FROM ${other} WHERE ${this.linked(other)} IN (SELECT a FROM ${table} z WHERE ${this.where(table, "z")})) WHERE ${this.where(table, "")}`,
        ]);
      case 0:
        return `DELETE FROM ${table} WHERE ${this.where(table, "")}`;
      case 1:
        return `UPDATE ${this.or(table)} ${table} SET a = ${this.value()} WHERE ${this.where(table, "")}`;
      case 2:
        return `UPDATE ${this.or(table)} ${table} AS x SET v = ${this.value()} WHERE ${this.where(table, "x")} RETURNING v`;
      case 3:
        return `UPDATE ${this.or(table)} ${table} SET ${keys[table]?.[0]} = ${this.value(isId(keys[table]?.[0]) || this.below(2) ? BigInt(this.below(12)) : this.any())} WHERE ${this.where(table, "")}`;
      case 4:
        return `INSERT INTO ${table}(${columns.join(", ")}) VALUES ${rows()} ON CONFLICT DO ${this.pick(["NOTHING", "UPDATE SET v = excluded.v", "UPDATE SET a = 7", "UPDATE SET a = excluded.a, v = 3"])}`;
      case 5: {
        const source = this.pick(names);
        return `INSERT ${this.or(table)} INTO ${table}(${columns.join(", ")}) SELECT ${columns.map((column) => (column === "v" ? "v" : isId(column) ? "CAST(a AS INTEGER)" : "a")).join(", ")} FROM ${source} WHERE a IS NOT NULL AND ${this.where(source, "")}`;
      }
      default:
        return `INSERT ${this.or(table)} INTO ${table}(${columns.join(", ")}) VALUES ${rows()}`;
    }
  }

  next(kind: "select" | "write" | Narrowing): Made {
    this.#args = [];
    const made = kind === "select" || kind === "write" ? this[kind]() : this.narrowing(kind);
    // Of alternatives that were not taken, parameters are left over.
    const used: SqlValue[] = [];
    const sql = made.replace(/\?(\d+)/g, (_, number: string) => `?${used.push(this.#args[Number(number) - 1] ?? null)}`);
    return { sql, args: used };
  }
}

interface Answer {
  readonly rows: readonly string[];
  readonly code: string | null;
}

function sorted(rows: readonly (readonly SqlValue[])[]): string[] {
  const tell = (value: SqlValue): string =>
    typeof value === "bigint" ? `${value}n` : value instanceof Uint8Array ? Buffer.from(value).toString("hex") : JSON.stringify(value);
  return rows.map((row) => row.map(tell).join("|")).sort();
}

function runPlain(database: Database, { sql, args }: Made): Answer {
  try {
    const statement = database.prepare<unknown[], SqlValue[]>(sql);
    const bound = args.length === 0 ? [] : [Object.fromEntries(args.map((value, index) => [String(index + 1), value]))];
    if (statement.reader) return { rows: sorted(statement.raw().all(...bound)), code: null };
    statement.run(...bound);
    return { rows: [], code: null };
  } catch (error) {
    return { rows: [], code: (error as { code: string }).code };
  }
}

function runHere(c: Cluster, index: number, made: readonly Made[]): Answer[] {
  return c
    .run(
      index,
      made.map(({ sql, args }) => step(sql, args)),
    )
    .outcomes.map((one) =>
      one.kind === "ok" ? { rows: sorted(one.result.rows), code: null } : { rows: [], code: one.kind === "error" ? one.fault.code : "skipped" },
    );
}

function start(): { c: Cluster; plain: Database } {
  const c = new Cluster(2);
  const plain = new Sqlite(":memory:");
  plain.defaultSafeIntegers(true);
  for (const sql of schema) {
    c.sql(0, sql);
    plain.exec(sql);
  }
  return { c, plain };
}

function expectSameState(c: Cluster, plain: Database, context: string): void {
  for (const name of names) {
    const query = { sql: `SELECT ${name === "h" ? "rowid, " : ""}* FROM ${name}`, args: [] };
    expect(runHere(c, 0, [query]), `${name} ${context}`).toEqual([runPlain(plain, query)]);
  }
}

const seedCount = Number(process.env.ATOMCAST_FUZZ_SEEDS ?? 6);
const firstSeed = Number(process.env.ATOMCAST_FUZZ_FROM ?? 1);

describe("on a store that holds a part of the rows", () => {
  for (let seed = firstSeed; seed < firstSeed + seedCount; seed++) {
    test(`seed ${seed}: statements on their own equal plain SQLite`, { timeout: 60_000 }, () => {
      const { c, plain } = start();
      const maker = new Maker(seed);
      const drops = seededRandom(seed);
      for (let count = 0; count < 60; count++) {
        const made = maker.next("write");
        expect(runHere(c, 0, [made]), made.sql).toEqual([runPlain(plain, made)]);
      }
      for (let count = 0; count < 500; count++) {
        if (count % 12 === 0) {
          if (seed % 2 === 0) cutAnew(c, maker.random);
          c.restart(1);
        }
        if (drops.integer(3) === 0) dropSome(c, 1, drops);
        const made = maker.next(maker.below(2) === 0 ? "select" : "write");
        // What comes from another engine enters the ranges that this one holds, and leaves them.
        const at = maker.below(4) === 0 ? 0 : 1;
        const context = `at ${count} on engine ${at}: ${made.sql} [${sorted([made.args])}]`;
        expect(runHere(c, at, [made]), context).toEqual([runPlain(plain, made)]);
        if (count % 10 === 9) expectHeldRight(c, 1);
        if (count % 50 === 49) expectSameState(c, plain, context);
      }
      const whole = c.needs.filter(({ ranges }) => ranges === null).length;
      expect(whole, "needs of whole tables").toBeLessThan(c.needs.length * 0.75);
      expect(c.lookUps, "ranges of indexes").toBeGreaterThan(20);
      c.close();
    });

    test(`seed ${seed}: transactions equal plain SQLite`, { timeout: 60_000 }, () => {
      const { c, plain } = start();
      const maker = new Maker(seed + 1000);
      const drops = seededRandom(seed);
      for (let count = 0; count < 120; count++) {
        if (count % 4 === 0) {
          if (seed % 2 === 0) cutAnew(c, maker.random);
          c.restart(1);
        }
        if (drops.integer(2) === 0) dropSome(c, 1, drops);
        const inner = Array.from({ length: 1 + maker.below(6) }, (): Made => {
          const choice = maker.below(12);
          if (choice < 3) return { sql: ["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s"][choice] ?? "", args: [] };
          return maker.next(choice < 6 ? "select" : "write");
        });
        const batch = [
          { sql: "BEGIN", args: [] },
          ...inner,
          { sql: maker.below(5) === 0 ? "ROLLBACK" : "COMMIT", args: [] },
          { sql: "ROLLBACK", args: [] },
        ];
        const context = `at ${count}: ${batch.map(({ sql, args }) => `${sql} [${sorted([args])}]`).join("; ")}`;
        const wanted = batch.map((one) => runPlain(plain, one));
        expect(runHere(c, 1, batch), context).toEqual(wanted);
        if (count % 5 === 4) expectHeldRight(c, 1);
        if (count % 20 === 19) expectSameState(c, plain, context);
      }
      c.close();
    });
  }
});

test.each(narrowings)("what narrows, and what must not: %s", (label) => {
  const { c, plain } = start();
  const maker = new Maker(firstSeed);
  for (let count = 0; count < 300; count++) {
    const made = maker.next("write");
    expect(runHere(c, 0, [made]), made.sql).toEqual([runPlain(plain, made)]);
  }
  let found = 0;
  // Some find something once in hundreds of times.
  for (let count = 0; count < seedCount * 20 || (found === 0 && count < seedCount * 400); count++) {
    if (count % 6 === 0) cutAnew(c, maker.random);
    // Nothing, or what other statements of the kind have left, or a part of it.
    if (count % 3 === 0) c.restart(1);
    else dropSome(c, 1, maker.random);
    const made = maker.next(label);
    const wanted = runPlain(plain, made);
    expect(runHere(c, 1, [made]), `at ${count}: ${made.sql} [${sorted([made.args])}]`).toEqual([wanted]);
    if (wanted.rows.length > 0) found++;
  }
  expect(found, "statements that found something").toBeGreaterThan(0);
  c.close();
});
