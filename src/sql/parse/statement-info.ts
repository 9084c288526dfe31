/** What a statement is, as far as its text tells. */
import type { SqlFault } from "../local-store.js";
import type { PragmaEffect } from "./pragmas.js";

export type StatementInfo =
  | ReadStatement
  | WriteStatement
  | DdlStatement
  | BeginStatement
  | CommitStatement
  | RollbackStatement
  | SavepointStatement
  | PragmaStatement
  | RefusedStatement;

/** What the text itself refers to; views and triggers that it uses may refer to more. */
export interface References {
  /**
   * Names of what stands where a table can, folded to lower case, each once: tables and views, but also WITH's names and table functions. Without
   * those that the next two fields are about.
   */
  readonly tables: readonly string[];
  /** Names behind `system.`, folded to lower case, each once. */
  readonly systemTables: readonly string[];
  /** It reads `sqlite_schema` (or an alias of it) or a `pragma_…` function: the answer must be the user's schema, not the local store's. */
  readonly introspects: boolean;
  /**
   * It calls random(), the clock, or a function of the connection's state: two runs may differ. A date function of an argument that is no
   * literal counts, since the argument may be 'now'.
   */
  readonly nonDeterministic: boolean;
}

export interface ReadStatement {
  readonly kind: "read";
  /** `program` is EXPLAIN, `plan` is EXPLAIN QUERY PLAN: of any statement, which does not run. */
  readonly explain: "no" | "program" | "plan";
  readonly references: References;
}

export interface WriteStatement {
  readonly kind: "write";
  readonly verb: "insert" | "update" | "delete";
  /** INSERT OR REPLACE and REPLACE are "replace"; null: ABORT, the default. */
  readonly onConflict: "rollback" | "abort" | "fail" | "ignore" | "replace" | null;
  readonly schema: string | null;
  /** A table or a view, as written without its quotes. */
  readonly table: string;
  readonly returning: boolean;
  readonly references: References;
}

export interface DdlStatement {
  readonly kind: "ddl";
  readonly action: "create" | "alter" | "drop" | "reindex" | "analyze";
  /** null: REINDEX and ANALYZE do not say. */
  readonly objectType: "table" | "index" | "view" | "trigger" | null;
  readonly schema: string | null;
  /** null: REINDEX or ANALYZE of everything. */
  readonly name: string | null;
  /** An index's or a trigger's table, where it is created; the table itself for a table; else null. */
  readonly table: string | null;
  readonly ifExists: boolean;
  readonly ifNotExists: boolean;
  /** CREATE TABLE … AS SELECT. */
  readonly asSelect: boolean;
  readonly references: References;
}

export interface BeginStatement {
  readonly kind: "begin";
  readonly mode: "deferred" | "immediate" | "exclusive";
  /** libSQL's BEGIN TRANSACTION READONLY (SQLite takes the word for the transaction's name, and ignores it). */
  readonly readOnly: boolean;
}

export interface CommitStatement {
  readonly kind: "commit";
}

export interface RollbackStatement {
  readonly kind: "rollback";
}

export interface SavepointStatement {
  readonly kind: "savepoint" | "release" | "rollbackTo";
  /** As written without its quotes; savepoints are compared by their fold. */
  readonly name: string;
}

export interface PragmaStatement {
  readonly kind: "pragma";
  /** Folded to lower case. */
  readonly name: string;
  readonly schema: string | null;
  /** The argument as text; null: there is none. */
  readonly value: string | null;
  readonly effect: PragmaEffect;
  /** It changes something: a session's setting or the database. */
  readonly writes: boolean;
  /** It looks at rows (foreign_key_check and the like), so they must be held. */
  readonly readsRows: boolean;
}

export interface RefusedStatement {
  readonly kind: "refused";
  readonly fault: SqlFault;
}
