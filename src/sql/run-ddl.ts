/** A DDL statement of a tentative run: carried out, told as a part of the entry, and checked against rows where it looks at them. */
import { noSeq, schemaSpace } from "../base/ids.js";
import type { SqlValue } from "../base/values.js";
import { collectTouches, mergeTouches, type Touches } from "./capture.js";
import { adoptObjects, changedObjects, insertLookup, localDdlOf } from "./execute-ddl.js";
import { checkForeignKeys, hasReferringRow } from "./foreign-keys.js";
import type { LocalForeignKey, LocalSchema, LocalTable } from "./local-schema.js";
import type { PullNeed, SqlFault, StatementArgs } from "./local-store.js";
import { splitCreateTableAs } from "./parse/create-table-as.js";
import { type LocalDdl, localDdl } from "./parse/local-ddl.js";
import { foldName } from "./parse/names.js";
import { normaliseParameters } from "./parse/normalise-parameters.js";
import { isFault } from "./parse/sqlite-grammar.js";
import type { DdlStatement } from "./parse/statement-info.js";
import { usesOf } from "./plan/program-uses.js";
import { IdsExhaustedError } from "./row-ids.js";
import { schemaChange, touchedTables } from "./schema-objects.js";
import { fault, faultOf, foreignKeyFailure, StatementFault } from "./statement-faults.js";
import { bindings } from "./statement-plans.js";
import { dropCaptureTriggers, isHeldWhole, type StoreState, useSchema } from "./store-state.js";
import { sqlOf } from "./stored-rows.js";
import { tickedSource, tickedStatement } from "./ticked-statement.js";
import { tickedText } from "./ticked-texts.js";
import type { Unit } from "./unit.js";
import { addDdl, endSegment, followInMirror, isDue } from "./unit-of-work.js";

export type DdlOutcome =
  | { readonly kind: "ok" }
  /** CREATE TABLE … AS SELECT has made the table: its rows come by an INSERT of their own. */
  | { readonly kind: "insert"; readonly sql: string }
  | { readonly kind: "fault"; readonly fault: SqlFault }
  /** A trigger inserts rows, and there are no ids for them: whose these are has been noted. */
  | { readonly kind: "ids" }
  | { readonly kind: "pull"; readonly needs: readonly PullNeed[] };

const savepointName = "_atomcast_ddl";

/** Within the unit's transaction. What fails leaves no trace, but for rows that were read into a segment of their own. */
export function runDdl(state: StoreState, unit: Unit, sql: string, info: DdlStatement, args: StatementArgs, deferAll: boolean): DdlOutcome {
  // No engine keeps statistics, and there are no indexes but those that SQLite keeps right.
  if (info.action === "analyze" || info.action === "reindex") return { kind: "ok" };
  if (info.schema !== null && foldName(info.schema) !== "main") return failed(fault("SQLITE_ERROR", `unknown database ${info.schema}`));
  const local = localDdl(sql, insertLookup(state.schema));
  if (isFault(local)) return failed(local);
  let needed: readonly LocalTable[];
  try {
    needed = tablesLookedAt(state, info, local);
  } catch (error) {
    return failed(faultOf(error));
  }
  const missing = needed.filter((table) => !unit.made.has(table.space) && !isHeldWhole(state, table.space));
  if (missing.length > 0) return { kind: "pull", needs: missing.map((table) => ({ space: table.space, ranges: null })) };
  try {
    endSegment(state, unit);
  } catch (error) {
    return failed(faultOf(error));
  }
  followInMirror(state, unit);
  const before = state.schema;
  const segmentCount = unit.segments.length;
  for (const database of [state.main, state.mirror]) database.exec(`SAVEPOINT ${savepointName}`);
  let outcome: DdlOutcome;
  try {
    outcome = carryOut(state, unit, sql, info, local, args, deferAll);
    for (const table of needed) if (!unit.made.has(table.space)) unit.wholeTables.add(table.space);
    if (dependsOnOthers(info)) unit.wholeTables.add(schemaSpace);
  } catch (error) {
    outcome = error instanceof IdsExhaustedError ? { kind: "ids" } : failed(faultOf(error));
    state.mirror.exec(`ROLLBACK TO ${savepointName}`);
    unit.segments.length = segmentCount;
    // A trigger's RAISE(ROLLBACK) may have ended the transaction: the runner sees that by itself.
    if (state.main.inTransaction) {
      state.main.exec(`ROLLBACK TO ${savepointName}`);
      useSchema(state, before);
    }
  }
  if (state.main.inTransaction) state.main.exec(`RELEASE ${savepointName}`);
  state.mirror.exec(`RELEASE ${savepointName}`);
  return outcome;
}

function failed(reason: SqlFault): DdlOutcome {
  return { kind: "fault", fault: reason };
}

function carryOut(
  state: StoreState,
  unit: Unit,
  sql: string,
  info: DdlStatement,
  local: LocalDdl,
  args: StatementArgs,
  deferAll: boolean,
): DdlOutcome {
  const before = state.schema;
  const split = info.asSelect ? splitAsSelect(state, sql, info, args) : null;
  if (split === "exists") return { kind: "ok" };
  const text = split === null ? sql : split.create;
  state.mirror.exec(text);
  const altered = local.alter === null ? null : { name: info.name ?? "", alter: local.alter };
  const change = schemaChange(state, before.objects, altered);
  if (change.upserts.length === 0 && change.drops.length === 0) return { kind: "ok" };
  if (info.action === "alter") dropCaptureTriggers(state, info.name ?? "");
  const touches = execCaptured(state, split === null ? tickedText(state.main, local.sql) : localDdlOf(text, before).sql);
  const touched = touchedTables(text, change, before, before);
  const tentative = changedObjects(before.objects, change.upserts, change.drops, touched, noSeq);
  adoptObjects(state, tentative, change.upserts);
  checkTriggers(state);
  const allTouched = [...new Set([...touched, ...touchedTables(text, change, before, state.schema)])];
  if (unit.foreignKeys && info.action === "drop") checkDrop(state, unit, before, info, touches, deferAll);
  mergeTouches(touches, unit.touches);
  for (const atom of change.newAtoms) unit.made.add(atom.space);
  for (const { type, space } of change.upserts) if (type === "index" && !before.indexesBySpace.has(space)) unit.made.add(space);
  for (const space of allTouched) if (!unit.made.has(space)) unit.reliedOn.add(space);
  const { upserts, drops, newAtoms } = change;
  addDdl(unit, { kind: "ddl", sql: text, upserts, drops, touchedTables: allTouched, newAtoms });
  return split === null ? { kind: "ok" } : { kind: "insert", sql: split.insert };
}

/**
 * SQLite compiles a table's triggers into every statement that writes it, those with which engines apply entries too: where a trigger names what is not
 * there, no engine could put a row into its table any more. SQLite itself finds out when a client writes it; here the change of the schema is refused.
 * Asked of the mirror, which has the users' triggers and no foreign keys.
 */
function checkTriggers({ schema, mirror }: StoreState): void {
  const tables = new Set<LocalTable>();
  for (const { object } of schema.objects.values()) {
    const table = object.type === "trigger" ? schema.tablesByName.get(foldName(object.tableName)) : undefined;
    if (table !== undefined) tables.add(table);
  }
  for (const table of tables) {
    const { insert, remove } = sqlOf(table);
    try {
      for (const sql of [insert, remove]) mirror.prepare(sql);
    } catch (error) {
      const { code, message } = faultOf(error);
      throw new StatementFault(fault(code, `${message}: a trigger of table ${table.name} needs it; drop that trigger first`));
    }
  }
}

/** DROP TABLE deletes the rows first where foreign keys are on: their actions change other tables. */
function execCaptured(state: StoreState, sql: string): Touches {
  const raw: SqlValue[][] = [];
  state.hooks.touches = raw;
  try {
    state.main.exec(sql);
  } finally {
    state.hooks.touches = null;
  }
  const touches: Touches = new Map();
  collectTouches(raw, state.schema, touches);
  return touches;
}

/** The rowless mirror tells the columns; the rows come by an INSERT, which triggers see. */
function splitAsSelect(
  state: StoreState,
  sql: string,
  info: DdlStatement,
  args: StatementArgs,
): { readonly create: string; readonly insert: string } | "exists" {
  const name = info.name ?? "";
  const known = state.schema.objects.get(foldName(name))?.object.type;
  if (info.ifNotExists && (known === "table" || known === "view")) return "exists";
  const normalised = normaliseParameters(sql);
  if (isFault(normalised)) throw new StatementFault(normalised);
  const bound = bindings(normalised.parameters, args);
  if (isFault(bound)) throw new StatementFault(bound);
  state.mirror.exec("SAVEPOINT _atomcast_columns");
  try {
    // A recursion needs no rows: what does not end is found out before it is run for its columns, whose names ticks may change.
    const ticked = tickedStatement(state.mirror, normalised.sql, bound, tickedSource(state.schema));
    if (ticked !== normalised.sql) {
      state.mirror.prepare<unknown[]>(ticked).run(...bound);
      state.mirror.exec("ROLLBACK TO _atomcast_columns");
    }
    state.mirror.prepare<unknown[]>(normalised.sql).run(...bound);
    const columns = state.mirror.prepare<[string], { name: string; type: string }>("SELECT name, type FROM pragma_table_info(?)").all(name);
    const split = splitCreateTableAs(sql, columns);
    if (isFault(split)) throw new StatementFault(split);
    return split;
  } finally {
    state.mirror.exec("ROLLBACK TO _atomcast_columns; RELEASE _atomcast_columns");
  }
}

/** All that refers to the dropped table, and what that refers to, is held whole. */
function checkDrop(state: StoreState, unit: Unit, before: LocalSchema, info: DdlStatement, touches: Touches, deferAll: boolean): void {
  if (!checkForeignKeys(touches, state.schema, isDue(unit, deferAll, "statement"), state.statements, unit.parents, () => false)) {
    throw new StatementFault(foreignKeyFailure());
  }
  mergeTouches(touches, unit.deferred);
  const dropped = info.objectType === "table" ? before.tablesByName.get(foldName(info.name ?? "")) : undefined;
  const due = isDue(unit, deferAll, "statement");
  for (const foreignKey of dropped?.referencedBy ?? []) {
    if (foreignKey.child.space === dropped?.space) continue;
    if (!due(foreignKey)) unit.orphanable.push(foreignKey);
    else if (hasReferringRow(foreignKey, state.statements)) throw new StatementFault(foreignKeyFailure());
  }
}

/**
 * ALTER looks at every view and trigger, and rewrites them; a view has no version that tells its triggers of its end. So no other DDL may come
 * between the run and its entry: no Cache could apply that, or the catalog would keep what SQLite has changed or dropped.
 */
function dependsOnOthers(info: DdlStatement): boolean {
  return info.action === "alter" || info.objectType === "trigger" || (info.action === "drop" && info.objectType === "view");
}

/**
 * Tables whose rows decide whether the statement succeeds, or which it rewrites: held whole, and unchanged until it is committed. With a
 * dropped table go those that refer to it, since its rows are deleted first.
 */
function tablesLookedAt(state: StoreState, info: DdlStatement, local: LocalDdl): readonly LocalTable[] {
  const { schema } = state;
  const table = schema.tablesByName.get(foldName(info.table ?? ""));
  if (table === undefined || info.objectType === "trigger" || info.objectType === "view" || (info.action === "create" && info.objectType === "table"))
    return [];
  if (info.action === "drop") {
    // The deletion's foreign-key actions, and the triggers that these fire, are part of the program.
    const uses = usesOf(state.main, local.sql, [], schema, info);
    return [...new Set([...referring(table), ...uses.read, ...uses.written])];
  }
  const kind = local.alter?.kind;
  const rewrites = kind === "dropColumn" || kind === "renameTable" || kind === "renameColumn";
  if (kind === "addColumn" && local.foreignKeys.length > 0) return [table];
  return rewrites || local.looksAtRows !== "never" ? [table] : [];
}

function referring(table: LocalTable): readonly LocalTable[] {
  const found = new Set<LocalTable>([table]);
  for (const one of found) for (const foreignKey of one.referencedBy) found.add(foreignKey.child);
  // Their parents too: an action may give a child another parent (SET DEFAULT).
  for (const one of [...found]) for (const foreignKey of one.foreignKeys) found.add(foreignKey.parent);
  return [...found];
}

/**
 * At COMMIT: a foreign key whose parent was dropped, as it is now. The parent may have been made anew under its name, and the child and its columns may have other
 * names. null: the child is gone.
 */
export function orphansOf(state: StoreState, before: LocalForeignKey): { readonly foreignKey: LocalForeignKey; readonly hasParent: boolean } | null {
  const child = state.schema.tables.get(before.child.space);
  if (child === undefined) return null;
  const childNames = before.childNames.map((name) => {
    const id = before.child.columns.find((column) => foldName(column.name) === foldName(name))?.id;
    return child.columns.find((column) => column.id === id)?.name ?? name;
  });
  const isSame = (one: LocalForeignKey): boolean =>
    foldName(one.parent.name) === foldName(before.parent.name) && one.childNames.map(foldName).join("\0") === childNames.map(foldName).join("\0");
  const now = child.foreignKeys.find(isSame);
  return { foreignKey: now ?? { ...before, child, childNames }, hasParent: now !== undefined };
}
