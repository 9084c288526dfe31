/**
 * Which key ranges a condition means, for every affinity, collation and direction, as key and as index, and for every operator with values that are odd for
 * the column: the answer of a store that holds none of these rows, or a part, is that of a plain SQLite that has them all.
 */
import Sqlite from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../../src/base/random.js";
import type { SqlValue } from "../../../src/base/values.js";
import { literal, oddities, tell } from "../odd-values.js";
import { cutAnew, dropSome } from "../partly-held.js";
import { Cluster, step } from "../store-harness.js";

const affinities = ["INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB"];
const collations = ["BINARY", "NOCASE", "RTRIM"];
const directions = ["ASC", "DESC"];
const operators = ["=", "IS", "<", "<=", ">", ">="];
/** Between the odd ones, and beside them. */
const values: readonly SqlValue[] = [...oddities, 4n, 6n, "a", "b", "B", "5 ", -1.5];

function rowsOf(rows: readonly (readonly SqlValue[])[]): string[] {
  return rows.map((row) => row.map(tell).join("|")).sort();
}

describe.each(affinities)("%s", (affinity) => {
  test.each(collations.flatMap((collation) => directions.map((direction) => [collation, direction] as const)))("%s %s", (collation, direction) => {
    const c = new Cluster(2);
    const plain = new Sqlite(":memory:");
    plain.defaultSafeIntegers(true);
    const column = `${affinity} COLLATE ${collation}`;
    const write = (sql: string, args: readonly SqlValue[] = []): void => {
      plain.prepare(sql).run(...args);
      c.run(0, [step(sql, args)]);
    };
    write(`CREATE TABLE k(k ${column}, n INT, PRIMARY KEY (k ${direction}, n)) WITHOUT ROWID`);
    write(`CREATE TABLE x(id INTEGER PRIMARY KEY, k ${column}, n INT)`);
    write(`CREATE INDEX x_k ON x(k ${direction}, n)`);
    values.forEach((value, index) => {
      if (value !== null) write("INSERT OR IGNORE INTO k VALUES (?, ?)", [value, BigInt(index)]);
      write("INSERT INTO x VALUES (?, ?, ?)", [BigInt(index), value, BigInt(index)]);
    });
    const random = seededRandom(affinity.length * 100 + collation.length * 10 + direction.length);
    const conditions = values.flatMap((value, index) => {
      const other = values[(index * 7 + 3) % values.length] ?? null;
      // As a literal, which has no affinity either, and as a parameter.
      const texts: [string, SqlValue[]][] = operators.map((operator) => [`k ${operator} ?1`, [value]]);
      const text = literal(value);
      if (text !== null) texts.push([`k = ${text}`, []], [`${text} >= k`, []]);
      texts.push(["k IN (?1, ?2)", [value, other]], ["k BETWEEN ?1 AND ?2", [value, other]], ["k > ?1 AND k < ?2", [value, other]]);
      return texts;
    });
    c.restart(1);
    conditions.forEach(([condition, args], index) => {
      const table = index % 2 === 0 ? "k" : "x";
      if (index % 16 === 0) cutAnew(c, random);
      dropSome(c, 1, random);
      const sql = `SELECT k, n FROM ${table} WHERE ${condition}`;
      const [outcome] = c.run(1, [step(sql, args)]).outcomes;
      const wanted = plain
        .prepare<unknown[], SqlValue[]>(sql)
        .raw()
        .all(...(args.length === 0 ? [] : [Object.fromEntries(args.map((value, place) => [String(place + 1), value]))]));
      expect(outcome?.kind === "ok" ? rowsOf(outcome.result.rows) : outcome, `${sql} [${args.map(tell)}]`).toEqual(rowsOf(wanted));
    });
    const whole = c.needs.filter(({ ranges }) => ranges === null).length;
    expect(whole, "needs of whole tables").toBeLessThan(c.needs.length / 4);
    c.close();
    plain.close();
  });
});
