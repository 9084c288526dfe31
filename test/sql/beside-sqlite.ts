/** Two local stores beside a plain SQLite: what one is asked is compared with SQLite's answer, and what each holds, or comes to hold, with SQLite's rows. */
import assert from "node:assert/strict";
import Sqlite, { type Database } from "better-sqlite3";
import { afterEach } from "vitest";
import type { SqlValue } from "../../src/base/values.js";
import { tell } from "./odd-values.js";
import { Cluster, step } from "./store-harness.js";

const opened: BesideSqlite[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

/** Closed after the test. */
export function beside(schema: readonly string[]): BesideSqlite {
  const made = new BesideSqlite(schema);
  opened.push(made);
  return made;
}

export class BesideSqlite {
  readonly c = new Cluster(2);
  readonly plain: Database;

  constructor(schema: readonly string[]) {
    this.plain = new Sqlite(":memory:");
    this.plain.defaultSafeIntegers(true);
    for (const sql of schema) this.both(0, sql);
  }

  /** Engine 1 starts over, and holds nothing. */
  forget(): void {
    this.c.restart(1);
  }

  /** One request, whose answers must be SQLite's; `error code`, or the rows. */
  both(at: number, ...sqls: readonly string[]): readonly string[] {
    const wanted = sqls.map((sql) => answerOf(this.plain, sql));
    const { outcomes } = this.c.run(
      at,
      sqls.map((sql) => step(sql)),
    );
    const here = outcomes.map((one) => (one.kind === "ok" ? told(one.result.rows) : one.kind === "error" ? one.fault.code : one.kind));
    assert.deepEqual(here, wanted, `on engine ${at}: ${sqls.join("; ")}`);
    return here;
  }

  /** Every row of every table, on both engines. Where nobody is told ids, rows are compared without them. */
  expectSame(context = ""): void {
    const tables = this.plain.prepare<[], { readonly name: string }>(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    );
    for (const { name } of tables.all())
      for (const at of [0, 1])
        assert.deepEqual(
          told(this.c.rows(at, `SELECT * FROM "${name}"`), true),
          answerOf(this.plain, `SELECT * FROM "${name}"`, true),
          `${name} on engine ${at} ${context}`,
        );
  }

  close(): void {
    this.c.close();
    this.plain.close();
  }
}

function told(rows: readonly (readonly SqlValue[])[], sorts = false): string {
  const all = rows.map((row) => row.map(tell).join(", "));
  return (sorts ? all.sort() : all).join(" | ");
}

function answerOf(database: Database, sql: string, sorts = false): string {
  try {
    const statement = database.prepare<[], SqlValue[]>(sql);
    if (statement.reader) return told(statement.raw().all(), sorts);
    statement.run();
    return "";
  } catch (error) {
    return (error as { readonly code: string }).code;
  }
}
