/**
 * What kind of statement a text is, and whether it is one that Atomcast runs. To be asked *before* SQLite prepares the text: SQLite carries out
 * many PRAGMAs while it prepares them. The message of a statement that SQLite also refuses is SQLite's own.
 */
import { unreachable } from "../../base/errors.js";
import type { SqlFault } from "../local-store.js";
import { boundedCache } from "./bounded-cache.js";
import { foldName } from "./names.js";
import { ownPragmas, pragmaMeaning, pragmaRefusal } from "./pragmas.js";
import { findReferences, systemSchema, temporaryRefusal } from "./references.js";
import {
  type AstNode,
  byteOffset,
  type Expr,
  isFault,
  type ParsedStatement,
  parseStatement,
  type QualifiedName,
  type Stmt,
  startOf,
} from "./sqlite-grammar.js";
import type { DdlStatement, PragmaStatement, References, RefusedStatement, StatementInfo, WriteStatement } from "./statement-info.js";

/** Statements whose kind is remembered: about 500 bytes each beside their text. */
export const classifiedEntriesMax = 4096;

/** Total length of remembered texts, in UTF-16 units. */
export const classifiedCharactersMax = 4 * 1024 * 1024;

const classified = boundedCache<StatementInfo>({ entriesMax: classifiedEntriesMax, charactersMax: classifiedCharactersMax });

/** Cached. Faults are those of `parseStatement`. */
export function classify(sql: string): StatementInfo | SqlFault {
  const known = classified.get(sql);
  if (known !== undefined) return known;
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return parsed;
  const info = classifyStatement(parsed, parsed.root);
  classified.set(sql, info);
  return info;
}

function classifyStatement(parsed: ParsedStatement, root: Stmt): StatementInfo {
  switch (root.type) {
    case "BeginStmt":
      return {
        kind: "begin",
        mode: root.tx === "Immediate" ? "immediate" : root.tx === "Exclusive" ? "exclusive" : "deferred",
        readOnly: root.txName !== undefined && foldName(root.txName.text) === "readonly",
      };
    case "CommitStmt":
      return { kind: "commit" };
    case "RollbackStmt":
      return root.savepointName === undefined ? { kind: "rollback" } : { kind: "rollbackTo", name: root.savepointName.text };
    case "SavepointStmt":
      return { kind: "savepoint", name: root.savepointName.text };
    case "ReleaseStmt":
      return { kind: "release", name: root.savepointName.text };
    case "AttachStmt":
      return refuse(parsed, null, "ATTACH is not supported: a connection speaks to one database; open a second connection for the other");
    case "DetachStmt":
      return refuse(parsed, null, "DETACH is not supported: a connection speaks to one database, and nothing is attached");
    case "VacuumStmt":
      return root.into === undefined
        ? refuse(parsed, null, "VACUUM is not supported: the garbage collector frees space by itself")
        : refuse(parsed, null, "VACUUM INTO is not supported: use `atomcast backup`");
    case "CreateVirtualTableStmt":
      return refuse(parsed, null, "virtual tables are not supported: use an ordinary table and indexes on it");
    case "PragmaStmt":
      return classifyPragma(parsed, root);
    case "ExplainStmt":
      return classifyExplain(parsed, root.stmt, root.queryPlan);
    default:
      return classifyReferring(parsed, root);
  }
}

/** Statements that name tables and call functions. */
function classifyReferring(parsed: ParsedStatement, root: Parameters<typeof describeReferring>[0]): StatementInfo {
  const { references, refusal } = findReferences(root);
  if (refusal !== null) return refuse(parsed, refusal.node, refusal.message, refusal.code);
  if ("temporary" in root && root.temporary) return refuse(parsed, null, temporaryRefusal);
  const info = describeReferring(root, references);
  if (info.kind !== "read" && info.schema !== null && foldName(info.schema) === systemSchema) {
    return refuse(parsed, null, "tables of the schema system are read-only: they show the engines' own state");
  }
  return info;
}

type Referring = Exclude<
  Stmt,
  {
    readonly type:
      | "BeginStmt"
      | "CommitStmt"
      | "RollbackStmt"
      | "SavepointStmt"
      | "ReleaseStmt"
      | "AttachStmt"
      | "DetachStmt"
      | "VacuumStmt"
      | "CreateVirtualTableStmt"
      | "PragmaStmt"
      | "ExplainStmt";
  }
>;

function describeReferring(root: Referring, references: References): StatementInfo & { readonly kind: "read" | "write" | "ddl" } {
  switch (root.type) {
    case "SelectStmt":
      return { kind: "read", explain: "no", references };
    case "InsertStmt":
      return write("insert", root, root.orConflict, references);
    case "UpdateStmt":
      return write("update", root, root.orConflict, references);
    case "DeleteStmt":
      return write("delete", root, undefined, references);
    case "CreateTableStmt": {
      const asSelect = root.body.type === "AsSelectCreateTableBody";
      return ddl("create", "table", root.tblName, references, { table: root.tblName.objName.text, ifNotExists: root.ifNotExists, asSelect });
    }
    case "CreateIndexStmt":
      return ddl("create", "index", root.idxName, references, { table: root.tblName.text, ifNotExists: root.ifNotExists });
    case "CreateViewStmt":
      return ddl("create", "view", root.viewName, references, { ifNotExists: root.ifNotExists });
    case "CreateTriggerStmt":
      return ddl("create", "trigger", root.triggerName, references, { table: root.tblName.objName.text, ifNotExists: root.ifNotExists });
    case "AlterTableStmt":
      return ddl("alter", "table", root.tblName, references, { table: root.tblName.objName.text });
    case "DropTableStmt":
      return ddl("drop", "table", root.tblName, references, { table: root.tblName.objName.text, ifExists: root.ifExists });
    case "DropIndexStmt":
      return ddl("drop", "index", root.idxName, references, { ifExists: root.ifExists });
    case "DropViewStmt":
      return ddl("drop", "view", root.viewName, references, { ifExists: root.ifExists });
    case "DropTriggerStmt":
      return ddl("drop", "trigger", root.triggerName, references, { ifExists: root.ifExists });
    case "ReindexStmt":
      return ddl("reindex", null, root.objName, references, {});
    case "AnalyzeStmt":
      return ddl("analyze", null, root.objName, references, {});
    default:
      return unreachable(root);
  }
}

function write(
  verb: WriteStatement["verb"],
  root: { readonly tblName: QualifiedName; readonly returning: readonly unknown[] | undefined },
  onConflict: "Rollback" | "Abort" | "Fail" | "Ignore" | "Replace" | undefined,
  references: References,
): WriteStatement {
  return {
    kind: "write",
    verb,
    onConflict: onConflict === undefined ? null : conflictNames[onConflict],
    schema: root.tblName.dbName?.text ?? null,
    table: root.tblName.objName.text,
    returning: root.returning !== undefined,
    references,
  };
}

const conflictNames = { Rollback: "rollback", Abort: "abort", Fail: "fail", Ignore: "ignore", Replace: "replace" } as const;

function ddl(
  action: DdlStatement["action"],
  objectType: DdlStatement["objectType"],
  name: QualifiedName | undefined,
  references: References,
  more: Partial<Pick<DdlStatement, "table" | "ifExists" | "ifNotExists" | "asSelect">>,
): DdlStatement {
  const schema = name?.dbName?.text ?? null;
  const base = { table: null, ifExists: false, ifNotExists: false, asSelect: false };
  return { kind: "ddl", action, objectType, schema, name: name?.objName.text ?? null, ...base, ...more, references };
}

/** The statement that is explained does not run, so it is a read; but SQLite carries out an explained PRAGMA while it prepares it. */
function classifyExplain(parsed: ParsedStatement, explained: Stmt, queryPlan: boolean): StatementInfo {
  const inner = classifyStatement(parsed, explained);
  if (inner.kind === "refused") return inner;
  if (inner.kind === "pragma" && inner.effect !== "read") return refuse(parsed, null, "EXPLAIN of a PRAGMA that sets something is not supported");
  const references = "references" in inner ? inner.references : { tables: [], systemTables: [], introspects: false, nonDeterministic: false };
  return { kind: "read", explain: queryPlan ? "plan" : "program", references };
}

function classifyPragma(parsed: ParsedStatement, root: Stmt & { readonly type: "PragmaStmt" }): PragmaStatement | RefusedStatement {
  const schema = root.name.dbName?.text ?? null;
  const own = schema !== null && foldName(schema) === "atomcast";
  const name = `${own ? "atomcast." : ""}${foldName(root.name.objName.text)}`;
  if (own && !ownPragmas.includes(name)) return refuse(parsed, null, `there is no PRAGMA ${name}: Atomcast's own are ${ownPragmas.join(", ")}`);
  if (schema !== null && foldName(schema) === "temp") return refuse(parsed, null, temporaryRefusal);
  const value = root.body === undefined ? null : pragmaValue(parsed, root.body.value);
  const { effect, readsRows } = pragmaMeaning(name, value);
  if (effect === "refused") return refuse(parsed, null, pragmaRefusal(name));
  const writes = value !== null && (effect === "session" || effect === "database");
  return { kind: "pragma", name, schema, value, effect, writes, readsRows };
}

function pragmaValue(parsed: ParsedStatement, value: Expr): string {
  switch (value.type) {
    case "StringLiteral":
    case "NumericLiteral":
    case "KeywordLiteral":
      return value.value;
    case "Id":
      return value.name;
    case "NameExpr":
      return value.name.text;
    case "UnaryExpr":
      if (value.expr.type === "NumericLiteral") return (value.op === "Negative" ? "-" : "") + value.expr.value;
      return textOf(parsed, value);
    default:
      return textOf(parsed, value);
  }
}

function textOf(parsed: ParsedStatement, node: AstNode): string {
  return parsed.sql.slice(node.span.offset, node.span.offset + node.span.length);
}

function refuse(parsed: ParsedStatement, node: AstNode | null, message: string, code = "ATOMCAST_NOT_SUPPORTED"): RefusedStatement {
  const first = parsed.tokens[0];
  const index = node?.span.offset ?? (first === undefined ? 0 : startOf(first));
  return { kind: "refused", fault: { code, message, offset: byteOffset(parsed.sql, index) } };
}
