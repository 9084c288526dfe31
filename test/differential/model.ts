/** What is right: plain SQLite, one connection, fed with the same statements in the order in which the stores commit them, and told the ids that they generated. */
import Sqlite, { type Database } from "better-sqlite3";
import type { SqlValue } from "../../src/base/values.js";
import type { Statement } from "./case.js";
import { tell } from "./odd-values.js";

/** Of a statement, as texts that can be compared. */
export interface Answer {
  /** SQLite's extended code. */
  readonly code: string | null;
  readonly message: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  readonly affected: number;
}

/** For rows of which nobody is told an id, since they were not stored. */
const unusedIds = 2n ** 40n;

export class Model {
  readonly #database: Database;
  #told: readonly bigint[] = [];
  #unused = unusedIds;

  constructor() {
    this.#database = new Sqlite(":memory:");
    this.#database.defaultSafeIntegers(true);
    this.#database.pragma("foreign_keys = ON");
    this.#database.function("_told", { deterministic: true }, (place: unknown) => this.#told[Number(place)] ?? this.#unused + BigInt(Number(place)));
  }

  get inTransaction(): boolean {
    return this.#database.inTransaction;
  }

  run({ kind, sql, args, told, isOrdered }: Statement, ids: readonly bigint[]): Answer {
    this.#unused += 1000n;
    this.#told = told === null ? [] : ids.filter((id) => !this.#exists(told.table, told.idColumn, id));
    try {
      const statement = this.#database.prepare<unknown[], SqlValue[]>(told?.sql ?? sql);
      const bound = args.length === 0 ? [] : [Object.fromEntries(args.map((value, index) => [String(index + 1), value]))];
      if (kind === "ddl" || kind === "schema") return this.#change(statement);
      if (!statement.reader) return { ...nothing, affected: statement.run(...bound).changes };
      const columns = statement.columns().map(({ name }) => name);
      const rows = statement.raw().all(...bound);
      return { ...nothing, columns, rows: tellRows(rows, isOrdered), affected: statement.readonly ? 0 : rows.length };
    } catch (error) {
      if (!(error instanceof Sqlite.SqliteError)) throw error;
      return { ...nothing, code: error.code, message: error.message };
    }
  }

  /** Columns and counts are of statements that SQLite runs for it, and mean nothing. */
  #change(statement: Sqlite.Statement<unknown[], SqlValue[]>): Answer {
    if (statement.reader) statement.raw().all();
    else statement.run();
    return nothing;
  }

  /** An UPSERT tells the id of the row that it updated: that was there before. */
  #exists(table: string, idColumn: string, id: bigint): boolean {
    return this.#database.prepare(`SELECT 1 FROM ${table} WHERE ${idColumn} = ?`).get(id) !== undefined;
  }

  close(): void {
    this.#database.close();
  }
}

export const nothing: Answer = { code: null, message: "", columns: [], rows: [], affected: 0 };

export function tellRows(rows: readonly (readonly SqlValue[])[], isOrdered: boolean): string[] {
  const told = rows.map((row) => row.map(tell).join(", "));
  return isOrdered ? told : told.sort();
}
