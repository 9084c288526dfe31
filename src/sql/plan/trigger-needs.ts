/**
 * What users' triggers look rows up by. Their statements name the row that fires them (NEW.x, OLD.x), whose values nobody knows before the statement runs: so these
 * are called out where the trigger fires (capture.ts), before it looks for anything, and what they tell is held before the run counts. A run that met a row too
 * few has called out all that it looked for up to there; so one that calls out only what is held has met them all.
 *
 * | label | a trigger's statement | needed |
 * |-------|-----------------------|--------|
 * | by row | narrowed (pull-plan.ts) by columns of NEW or OLD | what their values tell, when the statement has run |
 * | by value | narrowed by what it writes out | the same as of a client's statement, before it runs |
 * | whole | any other; joins and subqueries, since earlier firings may have changed their rows; all of a trigger on a view, of one whose WHEN reads rows, or that has another thing named NEW or OLD | all |
 */
import type { Database } from "better-sqlite3";
import type { SpaceId } from "../../base/ids.js";
import type { SqlValue } from "../../base/values.js";
import type { LocalSchema, LocalTable } from "../local-schema.js";
import { foldName, isRowidName, sameName } from "../parse/names.js";
import { endOf, isFault, type ParsedStatement, parseStatement, startOf, walk } from "../parse/sqlite-grammar.js";
import { triggerBody } from "../parse/trigger-body.js";
import { faultOf } from "../statement-faults.js";
import { type KeySelector, type RowSource, rowSourcesOf, type ValueSource } from "./key-selector.js";
import { pullsInTrigger } from "./pull-plan.js";
import type { TablePull } from "./table-pulls.js";

export interface TriggerNeed {
  /** As CREATE TRIGGER has them: `AFTER UPDATE`. */
  readonly event: string;
  /** What its selectors name of the row, in the order in which it is called out. */
  readonly columns: readonly RowSource[];
  readonly pulls: readonly TablePull[];
}

export interface TriggerNeeds {
  /** By the trigger's folded name; one that is not there is not planned. */
  readonly byName: ReadonlyMap<string, TriggerNeed>;
  /** By the table that fires them; their places say whose values are called out. */
  readonly byTable: ReadonlyMap<SpaceId, readonly TriggerNeed[]>;
}

const known = new WeakMap<LocalSchema, TriggerNeeds>();

/** To be asked first while the schema is in force. */
export function triggerNeedsOf(main: Database, schema: LocalSchema): TriggerNeeds {
  let needs = known.get(schema);
  if (needs === undefined) {
    needs = planTriggers(main, schema);
    known.set(schema, needs);
  }
  return needs;
}

function planTriggers(main: Database, schema: LocalSchema): TriggerNeeds {
  const byName = new Map<string, TriggerNeed>();
  const byTable = new Map<SpaceId, TriggerNeed[]>();
  for (const [name, { object }] of schema.objects) {
    const table = object.type === "trigger" ? schema.tablesByName.get(foldName(object.tableName)) : undefined;
    const need = table === undefined ? null : planIfItCompiles(main, schema, table, object.sql);
    if (table === undefined || need === null) continue;
    byName.set(name, need);
    byTable.set(table.space, [...(byTable.get(table.space) ?? []), need]);
  }
  return { byName, byTable };
}

/** One that names what is not there, in a view that it reads, say, cannot fire before the schema is another one. */
function planIfItCompiles(...trigger: Parameters<typeof planTrigger>): TriggerNeed | null {
  try {
    return planTrigger(...trigger);
  } catch (error) {
    // Anything but SQLite's errors is thrown on.
    faultOf(error);
    return null;
  }
}

/** null: all that it opens is taken whole. */
function planTrigger(main: Database, schema: LocalSchema, table: LocalTable, sql: string): TriggerNeed | null {
  const parsed = parseStatement(sql);
  if (isFault(parsed) || parsed.root.type !== "CreateTriggerStmt" || whenReadsRows(parsed)) return null;
  const { time, event } = parsed.root;
  const pulls: TablePull[] = [];
  for (const tokens of triggerBody(parsed).commands) {
    const [first, last] = [tokens[0], tokens.at(-1)];
    const found = first === undefined || last === undefined ? null : pullsInTrigger(sql.slice(startOf(first), endOf(last)), table, schema, main);
    if (found === null) return null;
    pulls.push(...found);
  }
  const columns: RowSource[] = [];
  for (const source of pulls.flatMap(({ selectors }) => (selectors ?? []).flatMap(rowSourcesOf))) {
    const isThere = table.columnNames.some((name) => sameName(name, source.column)) || (table.identity !== "key" && isRowidName(source.column));
    if (!isThere) return null;
    if (!columns.some((one) => isSameSource(one, source))) columns.push(source);
  }
  // One that does not say when it fires does so before.
  return { event: `${time === "After" ? "AFTER" : "BEFORE"} ${verbs[event.type]}`, columns, pulls };
}

const verbs = { DeleteTriggerEvent: "DELETE", InsertTriggerEvent: "INSERT", UpdateTriggerEvent: "UPDATE", UpdateOfTriggerEvent: "UPDATE" } as const;

function whenReadsRows({ root }: ParsedStatement): boolean {
  let reads = false;
  if (root.type === "CreateTriggerStmt" && root.whenClause !== undefined)
    walk(root.whenClause, (node) => {
      if (node.type === "SelectFrom" || node.type === "InTableExpr") reads = true;
    });
  return reads;
}

function isSameSource(one: RowSource, other: RowSource): boolean {
  return one.row === other.row && sameName(one.column, other.column);
}

/** Of a pull: those that wait for the row's values. */
export function selectorsByRow({ selectors }: Pick<TablePull, "selectors">): readonly KeySelector[] {
  return (selectors ?? []).filter((selector) => rowSourcesOf(selector).length > 0);
}

/** `values`: as they were called out. */
export function valuesOfRow({ columns }: TriggerNeed, values: readonly SqlValue[]): (source: ValueSource) => readonly SqlValue[] | null {
  return (source) => {
    if (source.kind === "literal") return [source.value];
    // A trigger has no parameters, and no table tells its values.
    return source.kind === "row" ? [values[columns.findIndex((one) => isSameSource(one, source))] ?? null] : null;
  };
}
