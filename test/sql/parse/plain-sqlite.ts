/** Plain SQLite beside SQLite that runs what was rewritten: what both are asked by the differential tests. */
import Database from "better-sqlite3";
import { expect } from "vitest";
import type { InsertTable, InsertTableLookup } from "../../../src/sql/parse/rewrite-insert-ids.js";

export type Sqlite = Database.Database;

export function openSqlite(schema: string): Sqlite {
  const database = new Database(":memory:");
  database.defaultSafeIntegers(true);
  database.exec(schema);
  return database;
}

/** How SQLite itself would take the tables that it has: what a local store tells the rewriting. */
export function lookupOf(database: Sqlite): InsertTableLookup {
  return (name) => insertTableOf(database, name);
}

interface TableListRow {
  readonly name: string;
  readonly type: string;
  readonly wr: bigint;
}

interface ColumnRow {
  readonly name: string;
  readonly type: string;
  readonly pk: bigint;
  readonly hidden: bigint;
}

export function insertTableOf(database: Sqlite, name: string): InsertTable | null {
  const tables = database.prepare<[], TableListRow>("select name, type, wr from pragma_table_list where schema = 'main' order by name").all();
  const index = tables.findIndex((one) => one.name.toLowerCase() === name.toLowerCase());
  const table = tables[index];
  if (table === undefined || table.type !== "table" || table.wr !== 0n) return null;
  const columns = database.prepare<[string], ColumnRow>("select name, type, pk, hidden from pragma_table_xinfo(?)").all(table.name);
  const keys = columns.filter((column) => column.pk > 0n);
  // INTEGER PRIMARY KEY DESC is no alias of the rowid, and so has an index of its own.
  const indexed = database.prepare<[string], bigint>("select count(*) from pragma_index_list(?) where origin = 'pk'").pluck().get(table.name) !== 0n;
  const integerKey = keys.length === 1 && keys[0]?.type.toUpperCase() === "INTEGER" && !indexed ? keys[0].name : undefined;
  const allColumns = columns.map((column) => column.name);
  const idColumn = integerKey ?? ["rowid", "_rowid_", "oid"].find((alias) => !allColumns.some((column) => column.toLowerCase() === alias));
  if (idColumn === undefined) return null;
  const insertableColumns = columns.filter((column) => column.hidden === 0n).map((column) => column.name);
  return { tableNumber: index + 1, idColumn, insertableColumns, allColumns };
}

/**
 * `_nid(table)` gives what SQLite would, the largest id + 1, and never one twice in a statement: SQLite may compute every row before it inserts the first.
 * `_nid(table, id)` gives the id where it is not NULL. TEMP triggers tell what triggers insert, since a function cannot query its own connection.
 */
export function defineNextId(database: Sqlite): { beginStatement(): void } {
  const largest = new Map<bigint, bigint>();
  function note(table: unknown, id: unknown): void {
    const value = typeof id === "bigint" ? id : typeof id === "number" ? BigInt(Math.trunc(id)) : 0n;
    if (value > (largest.get(table as bigint) ?? 0n)) largest.set(table as bigint, value);
  }
  database.function("_user", { deterministic: false }, () => 1n);
  database.function("_note", { deterministic: false, safeIntegers: true }, (table: unknown, id: unknown) => {
    note(table, id);
    return null;
  });
  database.function("_nid", { deterministic: false, safeIntegers: true, varargs: true }, (table: unknown, id: unknown) => {
    const value = id ?? (largest.get(table as bigint) ?? 0n) + 1n;
    note(table, value);
    return value;
  });
  for (const { number, id, name } of rowidTables(database)) {
    database.exec(`create temp trigger _note_${number} after insert on main.${name} begin select _note(${number}, new.${id}); end`);
  }
  return {
    beginStatement() {
      for (const { number, id, name } of rowidTables(database)) {
        largest.set(number, database.prepare<[], bigint | null>(`select max(${id}) from ${name}`).pluck().get() ?? 0n);
      }
    },
  };
}

function rowidTables(database: Sqlite): readonly { readonly number: bigint; readonly id: string; readonly name: string }[] {
  return tableNames(database).flatMap((name) => {
    const info = name.startsWith("sqlite_") ? null : insertTableOf(database, name);
    return info === null ? [] : [{ number: BigInt(info.tableNumber), id: quoted(info.idColumn), name: quoted(name) }];
  });
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function tableNames(database: Sqlite): readonly string[] {
  return database.prepare<[], string>("select name from pragma_table_list where schema = 'main' order by name").pluck().all();
}

/** Rows, or number of changes, or the error: all that a client sees. */
export function outcome(database: Sqlite, sql: string, positional: readonly unknown[] = []): unknown {
  try {
    const statement = database.prepare(sql);
    if (statement.reader) return { columns: statement.columns().map((column) => column.name), rows: statement.raw().all(...positional) };
    const result = statement.run(...positional);
    return { changes: result.changes };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** Every table's rows, with their rowids where it has them. */
export function contents(database: Sqlite): readonly (readonly [string, readonly unknown[][]])[] {
  return tableNames(database)
    .filter((name) => !name.startsWith("sqlite_"))
    .map((name) => {
      const info = insertTableOf(database, name);
      const id = info === null ? "" : `${quoted(info.idColumn)},`;
      return [
        name,
        database
          .prepare(`select ${id} * from ${quoted(name)}`)
          .raw()
          .all() as unknown[][],
      ];
    });
}

export function notFault<T extends object>(value: T): Exclude<T, { readonly offset: number }> {
  expect(value).not.toHaveProperty("offset");
  return value as Exclude<T, { readonly offset: number }>;
}
