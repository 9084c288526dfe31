/** What a statement's tree refers to, found in one walk. */
import { foldName } from "./names.js";
import { pragmaMeaning, pragmaRules } from "./pragmas.js";
import { type AstNode, type Expr, type FunctionCallExpr, type QualifiedName, walk } from "./sqlite-grammar.js";
import type { References } from "./statement-info.js";

/** The schema under which the system tables stand. */
export const systemSchema = "system";

/**
 * Functions that rewritten SQL calls: none of a client's business, and to it they do not exist. `_nid` gives the next id of a table, `_touch` notes
 * a row that changes, `_user` is false while committed rows are applied, `_tick` ends a statement that runs too long.
 */
export const internalFunctions = ["_nid", "_touch", "_user", "_tick"] as const;

export interface Findings {
  readonly references: References;
  /** The first node that may not be used, and why. */
  readonly refusal: { readonly node: AstNode; readonly message: string; readonly code: string } | null;
}

const neverSame = new Set([
  "random",
  "randomblob",
  "changes",
  "total_changes",
  "last_insert_rowid",
  "current_date",
  "current_time",
  "current_timestamp",
]);

/** Functions of a moment, with the index of the argument that says which; without that argument they mean now. */
const ofMoment: ReadonlyMap<string, readonly number[]> = new Map([
  ["date", [0]],
  ["time", [0]],
  ["datetime", [0]],
  ["julianday", [0]],
  ["unixepoch", [0]],
  ["strftime", [1]],
  ["timediff", [0, 1]],
]);

const schemaTables = new Set(["sqlite_schema", "sqlite_master", "sqlite_temp_schema", "sqlite_temp_master"]);

export function findReferences(root: AstNode): Findings {
  const systemTables = new Set<string>();
  const tables = new Set<string>();
  let introspects = false;
  let nonDeterministic = false;
  let refusal: Findings["refusal"] = null;
  function note(table: QualifiedName): void {
    const name = foldName(table.objName.text);
    refusal ??= refusedPragma(table, name);
    if (table.dbName !== undefined && foldName(table.dbName.text) === systemSchema) systemTables.add(name);
    else if (schemaTables.has(name) || isPragmaFunction(name)) introspects = true;
    else tables.add(name);
  }
  walk(root, (node) => {
    switch (node.type) {
      case "QualifiedName": {
        const schema = node.dbName === undefined ? null : foldName(node.dbName.text);
        const name = foldName(node.objName.text);
        if (schema === "temp" && !schemaTables.has(name)) refusal ??= temporary(node);
        break;
      }
      case "InTableExpr":
        note(node.rhs);
        break;
      case "TableSelectTable":
      case "TableCallSelectTable":
      case "InsertStmt":
      case "UpdateStmt":
      case "DeleteStmt":
      case "InsertTriggerCmd":
      case "UpdateTriggerCmd":
      case "DeleteTriggerCmd":
        note(node.tblName);
        break;
      case "CurrentDateLiteral":
      case "CurrentTimeLiteral":
      case "CurrentTimestampLiteral":
        nonDeterministic = true;
        break;
      case "FunctionCallStarExpr":
      case "FunctionCallExpr": {
        const name = foldName(node.name.name);
        refusal ??= refusedFunction(node, name);
        if (neverSame.has(name) || (node.type === "FunctionCallExpr" && isOfThisMoment(node, name))) nonDeterministic = true;
        break;
      }
      default:
    }
  });
  return { references: { tables: [...tables], systemTables: [...systemTables], introspects, nonDeterministic }, refusal };
}

function isPragmaFunction(name: string): boolean {
  return name.startsWith("pragma_") && Object.hasOwn(pragmaRules, name.slice("pragma_".length));
}

/** As tables these are asked of a connection that has neither rows nor the session's settings. */
function refusedPragma(node: AstNode, name: string): Findings["refusal"] {
  if (!isPragmaFunction(name)) return null;
  const pragma = name.slice("pragma_".length);
  const { effect, readsRows } = pragmaMeaning(pragma, null);
  if (!readsRows && effect !== "session") return null;
  return { node, code: "ATOMCAST_NOT_SUPPORTED", message: `the table ${name} is not supported: use PRAGMA ${pragma}` };
}

function temporary(node: QualifiedName): Findings["refusal"] {
  return { node, code: "ATOMCAST_NOT_SUPPORTED", message: temporaryRefusal };
}

export const temporaryRefusal = "TEMP objects are not supported: use WITH … AS for one statement, or an ordinary table with a column for the session";

function refusedFunction(node: AstNode, name: string): Findings["refusal"] {
  if (name === "load_extension") {
    const message = "load_extension() is not supported: functions written in C would have to be on every engine; compute in the application instead";
    return { node, code: "ATOMCAST_NOT_SUPPORTED", message };
  }
  if ((internalFunctions as readonly string[]).includes(name)) return { node, code: "SQLITE_ERROR", message: `no such function: ${name}` };
  return null;
}

function isOfThisMoment(call: FunctionCallExpr, name: string): boolean {
  return ofMoment.get(name)?.some((index) => mayBeNow(call.args?.[index])) ?? false;
}

function mayBeNow(moment: Expr | undefined): boolean {
  if (moment === undefined) return true;
  if (moment.type === "StringLiteral") return foldName(moment.value) === "now";
  return moment.type !== "NumericLiteral" && moment.type !== "NullLiteral" && moment.type !== "BlobLiteral";
}
