/**
 * A SQLite file to be read, for import. One read transaction is open from beginning to end, so that everything comes from one state of
 * the file, whoever writes to it meanwhile.
 */
import { statSync } from "node:fs";
import Sqlite from "better-sqlite3";
import { DatabaseError } from "../base/errors.js";
import type { SqlValue } from "../base/values.js";
import { foldName, quoteName } from "./parse/names.js";

export interface SourceFile {
  /** Size and time of change of the file and its write-ahead log: another text means that the file may have changed. */
  readonly version: string;
  /** In order of creation. Virtual tables and their shadow tables are left out. */
  readonly tables: readonly SourceTable[];
  /** Indexes, views and triggers, each kind in order of creation; views come before triggers, which may stand on them. */
  readonly others: readonly SourceObject[];
  /** Names of tables, and of what stands on them, that cannot be read as rows. */
  readonly skipped: readonly string[];
  /** Where AUTOINCREMENT tables go on, as far as that is above their largest rowid. */
  readonly sequences: readonly { readonly table: string; readonly last: bigint }[];
  readonly userVersion: number;
  readonly applicationId: number;
  /** Rows in order of the key, behind `position` (null: from the first). Reads ahead at most `readAheadRows` rows or `readAheadBytes` and a row. */
  rowsAfter(table: SourceTable, position: readonly SqlValue[] | null): Generator<SourceRow>;
  close(): void;
}

export interface SourceObject {
  readonly type: "index" | "view" | "trigger";
  readonly name: string;
  readonly sql: string;
}

export interface SourceTable {
  readonly name: string;
  readonly sql: string;
  /** Names to insert into: a hidden rowid first where the table has one, then the columns that are not generated. */
  readonly columns: readonly string[];
  /** What tells rows apart and orders them: the rowid, or the primary key of a WITHOUT ROWID table. */
  readonly keyColumns: readonly SourceKeyColumn[];
  /** The declared one; empty: none. */
  readonly primaryKey: readonly string[];
  readonly rowCount: number;
  readonly foreignKeys: readonly SourceForeignKey[];
}

export interface SourceKeyColumn {
  /** Its index in `columns`. */
  readonly place: number;
  /** The key's, which need not be the column's own: under another, two keys may be equal, and one would be passed over. null: a rowid. */
  readonly collation: string | null;
  readonly isDescending: boolean;
}

export interface SourceForeignKey {
  readonly columns: readonly string[];
  readonly parent: string;
  /** null: the parent's primary key. */
  readonly parentColumns: readonly string[] | null;
}

export interface SourceRow {
  readonly key: readonly SqlValue[];
  /** One for each of the table's `columns`. */
  readonly values: readonly SqlValue[];
}

const readAheadRows = 1_000;
const readAheadBytes = 1024 * 1024;

/** DatabaseError where the file is absent, is not SQLite's, is damaged, or has a table that cannot be read in order. */
export function openSourceFile(path: string): SourceFile {
  let connection: Sqlite.Database;
  try {
    connection = new Sqlite(path, { readonly: true, fileMustExist: true });
  } catch (cause) {
    throw unreadable(path, cause);
  }
  try {
    connection.defaultSafeIntegers(true);
    connection.exec("BEGIN");
    return readSource(connection, path);
  } catch (cause) {
    connection.close();
    throw cause instanceof DatabaseError ? cause : unreadable(path, cause);
  }
}

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly tbl_name: string;
  readonly sql: string;
}

function readSource(connection: Sqlite.Database, path: string): SourceFile {
  const schema = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid").all() as SchemaRow[];
  const kinds = new Map<string, { readonly type: string; readonly wr: bigint }>();
  for (const row of connection.prepare("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'").all() as {
    name: string;
    type: string;
    wr: bigint;
  }[]) {
    kinds.set(foldName(row.name), row);
  }
  const isReadable = (table: string): boolean => kinds.get(foldName(table))?.type === "table";
  const user = schema.filter((row) => !foldName(row.name).startsWith("sqlite_"));
  const tables = user
    .filter((row) => row.type === "table" && isReadable(row.name))
    .map((row) => readTable(connection, row, kinds.get(foldName(row.name))?.wr === 1n));
  const isKept = (row: SchemaRow): boolean => row.type === "view" || isReadable(row.tbl_name) || kinds.get(foldName(row.tbl_name))?.type === "view";
  const others = (["index", "view", "trigger"] as const).flatMap((type) =>
    user.filter((row) => row.type === type && isKept(row)).map((row): SourceObject => ({ type, name: row.name, sql: row.sql })),
  );
  return {
    version: fileVersion(path),
    tables,
    others,
    skipped: user.filter((row) => !(row.type === "table" ? isReadable(row.name) : isKept(row))).map((row) => row.name),
    sequences: sequencesOf(connection, tables),
    userVersion: Number(connection.pragma("user_version", { simple: true })),
    applicationId: Number(connection.pragma("application_id", { simple: true })),
    rowsAfter: (table, position) => rowsAfter(connection, table, position),
    close: () => connection.close(),
  };
}

function readTable(connection: Sqlite.Database, row: SchemaRow, isWithoutRowid: boolean): SourceTable {
  const columns = (
    connection.prepare("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)").all(row.name) as {
      name: string;
      type: string;
      pk: bigint;
      hidden: bigint;
    }[]
  ).filter((column) => column.hidden === 0n);
  const names = columns.map((column) => column.name);
  const keyNames = columns
    .filter((column) => column.pk > 0n)
    .sort((a, b) => Number(a.pk - b.pk))
    .map((column) => column.name);
  const rowCount = Number(
    connection
      .prepare(`SELECT count(*) FROM ${quoteName(row.name)}`)
      .pluck()
      .get(),
  );
  const common = { name: row.name, sql: row.sql, primaryKey: keyNames, rowCount, foreignKeys: foreignKeysOf(connection, row.name) };
  if (isWithoutRowid) return { ...common, columns: names, keyColumns: primaryKeyColumns(connection, row.name, names) };
  const alias = rowidAlias(connection, row.name, columns);
  if (alias !== null) return { ...common, columns: names, keyColumns: [rowidKey(names.indexOf(alias))] };
  const taken = new Set(names.map(foldName));
  const rowid = ["rowid", "_rowid_", "oid"].find((name) => !taken.has(name));
  if (rowid === undefined) {
    throw new DatabaseError(
      "ATOMCAST_IMPORT_UNREADABLE",
      `Table ${row.name} has columns named rowid, _rowid_ and oid, and no INTEGER PRIMARY KEY: its rows cannot be told apart. Rename one.`,
    );
  }
  return { ...common, columns: [rowid, ...names], keyColumns: [rowidKey(0)] };
}

function rowidKey(place: number): SourceKeyColumn {
  return { place, collation: null, isDescending: false };
}

function primaryKeyColumns(connection: Sqlite.Database, table: string, names: readonly string[]): SourceKeyColumn[] {
  const index = connection.prepare("SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'").pluck().get(table);
  const rows = connection.prepare('SELECT name, "desc" AS descending, coll FROM pragma_index_xinfo(?) WHERE key = 1 ORDER BY seqno').all(index) as {
    name: string;
    descending: bigint;
    coll: string;
  }[];
  return rows.map((row) => ({ place: names.indexOf(row.name), collation: row.coll, isDescending: row.descending === 1n }));
}

/** The column that is the rowid: INTEGER PRIMARY KEY, but not its DESC form, which SQLite gives an index of its own. */
function rowidAlias(connection: Sqlite.Database, table: string, columns: readonly { name: string; type: string; pk: bigint }[]): string | null {
  const [key, ...more] = columns.filter((column) => column.pk > 0n);
  if (key === undefined || more.length > 0 || foldName(key.type) !== "integer") return null;
  const hasIndex = connection.prepare("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'").get(table) !== undefined;
  return hasIndex ? null : key.name;
}

function sequencesOf(connection: Sqlite.Database, tables: readonly SourceTable[]): { table: string; last: bigint }[] {
  if (connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").get() === undefined) return [];
  return tables.flatMap((table) => {
    const last = connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = ?").pluck().get(table.name);
    if (typeof last !== "bigint") return [];
    const largest = connection
      .prepare(`SELECT max(rowid) FROM ${quoteName(table.name)}`)
      .pluck()
      .get() as bigint | null;
    return largest === null || last > largest ? [{ table: table.name, last }] : [];
  });
}

function foreignKeysOf(connection: Sqlite.Database, table: string): SourceForeignKey[] {
  const rows = connection
    .prepare('SELECT id, "table" AS parent, "from" AS child_column, "to" AS parent_column FROM pragma_foreign_key_list(?) ORDER BY id, seq')
    .all(table) as {
    id: bigint;
    parent: string;
    child_column: string;
    parent_column: string | null;
  }[];
  const keys = new Map<bigint, { columns: string[]; parent: string; parentColumns: string[] | null }>();
  for (const row of rows) {
    const key = keys.get(row.id) ?? { columns: [], parent: row.parent, parentColumns: row.parent_column === null ? null : [] };
    keys.set(row.id, key);
    key.columns.push(row.child_column);
    if (row.parent_column !== null) key.parentColumns?.push(row.parent_column);
  }
  return [...keys.values()];
}

/**
 * Rows behind a key of several columns are asked for by its prefixes, longest first: (a = ? AND b > ?), then (a > ?). Each is one search of
 * the key's index, whatever its collations and directions are; a comparison of row values would be a scan where they are not the columns' own.
 */
function* rowsAfter(connection: Sqlite.Database, table: SourceTable, position: readonly SqlValue[] | null): Generator<SourceRow> {
  const deepest = table.keyColumns.length - 1;
  let key = position;
  let depth = position === null ? 0 : deepest;
  while (depth >= 0) {
    const query = connection.prepare(rowsQuery(table, key === null ? null : depth)).raw(true);
    const rows: SourceRow[] = [];
    let byteCount = 0;
    for (const values of query.iterate(...(key?.slice(0, depth + 1) ?? [])) as IterableIterator<SqlValue[]>) {
      rows.push({ key: table.keyColumns.map(({ place }) => values[place] ?? null), values });
      byteCount += valuesBytes(values);
      if (byteCount >= readAheadBytes) break;
    }
    // Checked once the query has ended: a connection that is iterating runs no other.
    for (const row of rows) checkText(connection, table, row);
    yield* rows;
    const isCut = rows.length === readAheadRows || byteCount >= readAheadBytes;
    key = rows.at(-1)?.key ?? key;
    depth = isCut ? deepest : depth - 1;
  }
}

/** Rows behind a key's first `depth + 1` columns that share the first `depth` with it; null: all rows. */
function rowsQuery(table: SourceTable, depth: number | null): string {
  const keys = table.keyColumns.map((_, index) => keyTerm(table, index));
  const conditions =
    depth === null
      ? []
      : keys.slice(0, depth + 1).map((term, index) => `${term} ${index < depth ? "=" : table.keyColumns[index]?.isDescending ? "<" : ">"} ?`);
  const where = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
  const order = keys.map((term, index) => `${term}${table.keyColumns[index]?.isDescending ? " DESC" : ""}`).join(", ");
  return `SELECT ${table.columns.map(quoteName).join(", ")} FROM ${quoteName(table.name)}${where} ORDER BY ${order} LIMIT ${readAheadRows}`;
}

function keyTerm(table: SourceTable, index: number): string {
  const column = table.keyColumns[index];
  const name = quoteName(table.columns[column?.place ?? 0] ?? "");
  return column === undefined || column.collation === null ? name : `${name} COLLATE ${quoteName(column.collation)}`;
}

export function valuesBytes(values: readonly SqlValue[]): number {
  let byteCount = 0;
  for (const value of values) byteCount += typeof value === "string" || value instanceof Uint8Array ? value.length + 4 : 8;
  return byteCount;
}

/** Reading turns bytes that are not UTF-8 into U+FFFD without a word. Where one is seen, the bytes themselves say whether it was there before. */
function checkText(connection: Sqlite.Database, table: SourceTable, row: SourceRow): void {
  for (let index = 0; index < row.values.length; index++) {
    const value = row.values[index];
    if (typeof value !== "string" || !value.includes("\ufffd")) continue;
    const column = table.columns[index] ?? "";
    const keys = table.keyColumns.map((_, place) => `${keyTerm(table, place)} = ?`);
    const read = connection.prepare(`SELECT CAST(${quoteName(column)} AS BLOB) FROM ${quoteName(table.name)} WHERE ${keys.join(" AND ")}`).pluck();
    const bytes = read.get(...row.key);
    if (bytes instanceof Uint8Array && Buffer.from(value, "utf8").equals(bytes)) continue;
    throw new DatabaseError(
      "ATOMCAST_IMPORT_UNREADABLE",
      `Table ${table.name}, column ${column}, row ${row.key.map(String).join(", ")}: the text is not UTF-8. Correct it in the file, for example with CAST(… AS BLOB).`,
    );
  }
}

function fileVersion(path: string): string {
  const main = statSync(path);
  const log = statSync(`${path}-wal`, { throwIfNoEntry: false });
  const logVersion = log === undefined || log.size === 0 ? "" : `+${log.size}@${log.mtimeMs}`;
  return `${main.size}@${main.mtimeMs}${logVersion}`;
}

function unreadable(path: string, cause: unknown): DatabaseError {
  return new DatabaseError("ATOMCAST_IMPORT_UNREADABLE", `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}
