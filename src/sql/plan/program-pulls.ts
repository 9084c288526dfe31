/** What a statement's program opens beside what its text names: by triggers, by foreign keys' actions and checks. The labels are those of pull-plan.ts. */
import type { Database } from "better-sqlite3";
import type { LocalForeignKey, LocalSchema, LocalTable } from "../local-schema.js";
import { foldName, sameName } from "../parse/names.js";
import type { SetAssignment, Stmt } from "../parse/sqlite-grammar.js";
import { type KeySelector, rowSourcesOf } from "./key-selector.js";
import { childIndex, parentIndex } from "./linked-rows.js";
import type { Uses } from "./program-uses.js";
import { maySet, upsertsOf } from "./set-columns.js";
import type { TablePull, TablePulls } from "./table-pulls.js";
import { isSearch } from "./typed-values.js";

export interface PlannedStatement {
  /** With its parameters normalised, as the client wrote it otherwise. */
  readonly sql: string;
  readonly uses: Uses;
  readonly schema: LocalSchema;
  readonly foreignKeys: boolean;
  readonly main: Database;
  /** What a trigger's statements need, by its folded name; null: all that it opens. */
  readonly triggerPulls: (name: string) => readonly TablePull[] | null;
}

export function planProgram(statement: PlannedStatement, pulls: TablePulls): void {
  const { uses, foreignKeys } = statement;
  const linked = foreignKeys ? [...uses.written].flatMap((table) => [...table.foreignKeys, ...table.referencedBy]) : [];
  const others = new Set(linked.flatMap(({ parent, child }) => [parent, child]));
  // First, while what is known of a table is the text's own.
  for (const table of uses.named) if (!pulls.has(table) && !others.has(table)) pulls.add(table, null, "the statement's program opens it");
  for (const table of uses.acted) planActed(statement, pulls, table);
  for (const [name, opened] of uses.byTrigger) planTrigger(statement, pulls, name, opened, others);
}

/** `linked`: what its statements' foreign keys open beside what they name. */
function planTrigger(
  statement: PlannedStatement,
  needed: TablePulls,
  name: string,
  opened: ReadonlySet<LocalTable>,
  linked: ReadonlySet<LocalTable>,
): void {
  const pulls = statement.triggerPulls(name);
  for (const { table, selectors, isTold, reasons } of pulls ?? []) {
    const [known, byRow] = [[], []] as [KeySelector[], KeySelector[]];
    for (const selector of selectors ?? []) (rowSourcesOf(selector).length === 0 ? known : byRow).push(selector);
    needed.add(table, selectors === null ? null : known, `the trigger ${name}: ${reasons.join("; ")}`, byRow);
    if (isTold) needed.noteTold(table);
  }
  for (const table of opened)
    if (pulls === null || !(linked.has(table) || pulls.some((pull) => pull.table === table))) needed.add(table, null, `the trigger ${name} uses it`);
}

/** Rows that refer to what goes are looked for when the statement has run, like those of foreign keys without actions. */
function planActed({ uses, main }: PlannedStatement, pulls: TablePulls, table: LocalTable): void {
  const acting = table.foreignKeys.filter(({ parent }) => uses.written.has(parent));
  const isFound = acting.every((foreignKey) => {
    const index = childIndex(foreignKey);
    return index !== null && isSearch(main, table, index, foreignKey.childNames.length, false, false);
  });
  // An action may give a referring column a value that another row has, or that brings the row into a partial index.
  const names = acting.flatMap(({ childNames }) => childNames);
  const isUnique = table.uniques.some(
    (index) => index.columnNames === null || index.where !== null || index.columnNames.some((one) => names.some((name) => sameName(one, name))),
  );
  const isGenerated = table.columnNames.length > table.columns.length && table.uniques.length > 0;
  if (acting.length > 0 && isFound && !isUnique && !isGenerated) pulls.add(table, [], "its rows that a foreign key's action changes");
  else pulls.add(table, null, "a foreign key's action changes any of its rows");
}

/** `root`: the statement's own tree. */
export function planForeignKeys({ uses, main, schema }: PlannedStatement, root: Stmt, pulls: TablePulls): void {
  for (const table of uses.written) {
    const direct = uses.triggered.has(table) || uses.acted.has(table) ? null : root;
    for (const foreignKey of table.foreignKeys) {
      const { parent, parentKey } = foreignKey;
      const index = parentKey?.kind === "unique" ? parentIndex(foreignKey) : null;
      const isFound = parentKey?.kind === "row" || index !== null;
      if (isFound && isSearch(main, parent, index, index?.names.length ?? parent.keyNames.length, false, false))
        pulls.add(parent, [], "the rows that written ones refer to");
      else pulls.add(parent, null, `${table.name} refers to it, and no search finds what it refers to`);
    }
    for (const foreignKey of table.referencedBy) {
      if (direct !== null && !mayRelease(schema, direct, foreignKey)) continue;
      const index = childIndex(foreignKey);
      if (index !== null && isSearch(main, foreignKey.child, index, foreignKey.childNames.length, false, false))
        pulls.add(foreignKey.child, [], `its rows that refer to rows of ${table.name} that go`);
      else pulls.add(foreignKey.child, null, `any of its rows may refer to rows of ${table.name} that go`);
    }
  }
}

/** The statement may take away a value of the parent that children can refer to. */
function mayRelease(schema: LocalSchema, root: Stmt, { parent, parentNames }: LocalForeignKey): boolean {
  const sets = (list: readonly SetAssignment[]): boolean => maySet(parent, parentNames, list);
  // ON CONFLICT REPLACE may stand behind any constraint of the table.
  const replaces = /\breplace\b/i.test(schema.objects.get(foldName(parent.name))?.object.sql ?? "replace");
  switch (root.type) {
    case "UpdateStmt":
      return replaces || root.orConflict === "Replace" || sets(root.sets);
    case "InsertStmt": {
      if (replaces || root.orConflict === "Replace") return true;
      const upserts = root.body.type === "SelectInsertBody" ? upsertsOf(root.body.upsert) : [];
      return upserts.some(({ doClause }) => doClause.type === "SetUpsertDo" && sets(doClause.sets));
    }
    default:
      return true;
  }
}
