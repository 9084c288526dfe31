/**
 * The user's DDL as the local store runs it. Introspection never shows it: the rowless mirror runs the user's own text.
 *
 * | statement      | change                                                                | because                                              |
 * | -------------- | --------------------------------------------------------------------- | ---------------------------------------------------- |
 * | CREATE TABLE   | AUTOINCREMENT left out                                                | ids come from the table's sequence                   |
 * | CREATE TABLE,  | every foreign key DEFERRABLE INITIALLY DEFERRED, NO ACTION for        | SQLite's counters lie where rows are held in part;   |
 * | ADD COLUMN     | RESTRICT                                                              | the checks are queries over the touched values       |
 * | CREATE TRIGGER | `WHEN _user() AND (…)`, and the ids of INSERTs in its body            | what applies committed rows must not fire it         |
 * | CREATE TABLE … | runs as two statements: splitCreateTableAs()                          | no trigger sees what it inserts                      |
 * | AS SELECT      |                                                                       |                                                      |
 */
import type { SqlFault } from "../local-store.js";
import { type AlterTable, alterLooksAtRows, alterTableOf, type LooksAtRows } from "./alter-table.js";
import { type DeclaredForeignKey, foreignKeysOf } from "./foreign-keys.js";
import { type InsertTableLookup, triggerInsertEdits } from "./rewrite-insert-ids.js";
import { blank, type Edit, insertAt, splice } from "./splice.js";
import { endOf, isFault, kinds, type ParsedStatement, parseStatement, type Stmt, startOf } from "./sqlite-grammar.js";
import { triggerBody } from "./trigger-body.js";

export interface LocalDdl {
  readonly sql: string;
  /** Declared by this CREATE TABLE or ADD COLUMN, in the order of the text. */
  readonly foreignKeys: readonly DeclaredForeignKey[];
  readonly autoincrement: boolean;
  /** `sql` is the original, to be run by splitCreateTableAs(). */
  readonly createsAsSelect: boolean;
  /**
   * Names as written of the tables that a trigger's body inserts into. The ids of those that `lookup` knows now are rewritten; when one of them is made or
   * altered later, the trigger is to be rewritten again.
   */
  readonly insertTargets: readonly string[];
  /** null: not an ALTER TABLE. */
  readonly alter: AlterTable | null;
  readonly looksAtRows: LooksAtRows;
}

/** Statements that are not DDL come back as they are. */
export function localDdl(sql: string, lookup: InsertTableLookup): LocalDdl | SqlFault {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return parsed;
  const { root } = parsed;
  const foreignKeys = foreignKeysOf(parsed);
  const autoincrement = root.type === "CreateTableStmt" ? autoincrementEdits(parsed) : [];
  const trigger = root.type === "CreateTriggerStmt" ? [...guardEdits(parsed), ...triggerInsertEdits(parsed, lookup)] : [];
  const alter = root.type === "AlterTableStmt" ? alterTableOf(root) : null;
  return {
    sql: splice(sql, [...foreignKeys.edits, ...autoincrement, ...trigger]),
    foreignKeys: foreignKeys.declared,
    autoincrement: autoincrement.length > 0,
    createsAsSelect: root.type === "CreateTableStmt" && root.body.type === "AsSelectCreateTableBody",
    insertTargets: insertTargetsOf(root),
    alter,
    looksAtRows: alter === null ? looksAtRowsOf(root) : alterLooksAtRows(alter),
  };
}

function autoincrementEdits(parsed: ParsedStatement): readonly Edit[] {
  // Never a name: it is a keyword without a fallback.
  return parsed.tokens.filter((token) => token.type === kinds.autoincrement).map((token) => blank(startOf(token), endOf(token)));
}

/** `_user()` is false while committed rows are applied, whose effects are captured rows already. */
function guardEdits(parsed: ParsedStatement): readonly Edit[] {
  const { when, begin } = triggerBody(parsed);
  if (when === null) return [insertAt(startOf(begin), "WHEN _user() ")];
  const beginIndex = parsed.tokens.indexOf(begin);
  const conditionLast = parsed.tokens[beginIndex - 1];
  return [insertAt(endOf(when), " _user() AND ("), insertAt(endOf(conditionLast ?? when), ")")];
}

function insertTargetsOf(root: Stmt): readonly string[] {
  if (root.type !== "CreateTriggerStmt") return [];
  return [...new Set(root.commands.flatMap((command) => (command.type === "InsertTriggerCmd" ? [command.tblName.objName.text] : [])))];
}

function looksAtRowsOf(root: Stmt): LooksAtRows {
  if (root.type === "CreateIndexStmt") {
    // Two equal rows fail a unique index; an expression can fail on a row's value (malformed JSON, say).
    const plain = root.whereClause === undefined && root.columns.every((column) => column.expr.type === "Id" || column.expr.type === "CollateExpr");
    return root.unique || !plain ? "always" : "never";
  }
  // Under foreign keys DROP TABLE deletes the rows first: children that refer to them count.
  return root.type === "DropTableStmt" ? "always" : "never";
}
