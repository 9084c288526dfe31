/**
 * CREATE TABLE … AS SELECT in two statements, since no trigger sees what the one inserts. The columns come from SQLite: run the statement on the rowless
 * mirror and read `PRAGMA table_info`; the types that SQLite gives them (`""`, TEXT, NUM, INT, REAL) follow from the SELECT alone and not from rows.
 */
import type { SqlFault } from "../local-store.js";
import { foldName, quoteName } from "./names.js";
import { endOf, isFault, isKeyword, parseStatement, startOf } from "./sqlite-grammar.js";

export interface ResultColumn {
  readonly name: string;
  /** As `PRAGMA table_info` tells it. */
  readonly type: string;
}

export interface SplitCreateTableAs {
  /** The text that SQLite itself keeps in `sqlite_schema` for such a table; it names no schema, and has no IF NOT EXISTS. */
  readonly create: string;
  /** Not yet rewritten for ids: the table has to be known first. The parameters are those of the original. */
  readonly insert: string;
}

export function splitCreateTableAs(sql: string, columns: readonly ResultColumn[]): SplitCreateTableAs | SqlFault {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return parsed;
  const { root, tokens } = parsed;
  if (root.type !== "CreateTableStmt" || root.body.type !== "AsSelectCreateTableBody") {
    return { code: "SQLITE_ERROR", message: "not a CREATE TABLE … AS SELECT", offset: -1 };
  }
  const nameIndex = tokens.findIndex((token) => startOf(token) === root.tblName.objName.span.offset);
  // Behind the name comes AS.
  const [first, last] = [tokens[nameIndex + 2], tokens.at(-1)];
  const select = first === undefined || last === undefined ? "" : sql.slice(startOf(first), endOf(last));
  const name = root.tblName.objName.text;
  return { create: createTableText(name, columns), insert: `INSERT INTO main.${quoteName(name)} ${select}` };
}

/** SQLite's createTableStmt() (build.c): one line while it is short. */
function createTableText(table: string, columns: readonly ResultColumn[]): string {
  const length = columns.reduce((sum, column) => sum + identifierLength(column.name) + 5, identifierLength(table));
  const [open, separator, close] = length < 50 ? ["(", ",", ")"] : ["(\n  ", ",\n  ", "\n)"];
  const definitions = columns.map((column) => identifier(column.name) + (column.type === "" ? "" : ` ${column.type}`));
  return `CREATE TABLE ${identifier(table)}${open}${definitions.join(separator)}${close}`;
}

/** In bytes, as if it were quoted: SQLite's identLength(). */
function identifierLength(name: string): number {
  return Buffer.byteLength(quoteName(name));
}

/** Quoted only where it must be: SQLite's identPut(). */
function identifier(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !isKeyword(foldName(name)) ? name : quoteName(name);
}
