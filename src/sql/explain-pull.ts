/**
 * `EXPLAIN PULL statement`: what of each table must be here before the statement runs, without running it. One row for each part:
 *
 * | column | what it says |
 * |--------|--------------|
 * | table_name | the table |
 * | needs | `whole`; the conditions that its key or an index is searched with; or `nothing`: what the written rows make necessary is found out when they are written |
 * | atoms | atoms of the table that these are in; NULL where an index, another table's rows, or the row that fires a trigger (`new.x`), will tell |
 * | held | how many of them are held here already; for an index, 1 where its range is held, and with it the rows |
 * | reason | why |
 */

import { type BinaryKey, type BinaryRange, wholeRange } from "../base/key-ranges.js";
import { encodeSortKey } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import type { LocalTable } from "./local-schema.js";
import type { ResultSet, SqlFault, StatementArgs, SystemTables } from "./local-store.js";
import { isFault } from "./parse/sqlite-grammar.js";
import type { ConstantSource, KeySelector, ValueSource } from "./plan/key-selector.js";
import { missingBefore, neededConstantly, sourceValue } from "./plan/missing-rows.js";
import { isJoined } from "./plan/table-pulls.js";
import { fault } from "./statement-faults.js";
import { quickBindings, type RunnablePlan } from "./statement-plans.js";
import type { StoreState } from "./store-state.js";

/** Also where the engine looks for what a run will ask for. */
export const explainPullPattern = /^\s*explain\s+pull\b/i;

/** The statement that is explained; null: the text is another. */
export function explainedByPull(sql: string): string | null {
  return explainPullPattern.test(sql) ? sql.replace(explainPullPattern, "") : null;
}

export const explainPullColumns: ResultSet["columns"] = ["table_name", "needs", "atoms", "held", "reason"].map((name) => ({
  name,
  declaredType: null,
}));

export function explainPull(state: StoreState, sql: string, args: StatementArgs, foreignKeys: boolean, system: SystemTables): ResultSet | SqlFault {
  const plan = state.plans.get(sql, state.schema, foreignKeys);
  if (isFault(plan)) return plan;
  if (plan.kind === "other") return fault("SQLITE_ERROR", "EXPLAIN PULL is of a statement that reads or writes rows: SELECT, INSERT, UPDATE, DELETE");
  const bound = quickBindings(plan, args);
  if (isFault(bound)) return bound;
  const rows = plan.pulls.flatMap(({ table, selectors, byRow, reasons }): SqlValue[][] => {
    const reason = reasons.join("; ");
    if (selectors === null) return [[table.name, "whole", ...atomsOf(table, [wholeRange], system), reason]];
    if (selectors.length + byRow.length === 0) return [[table.name, "nothing", 0n, 0n, reason]];
    const now = selectors.map((selector): SqlValue[] => [
      table.name,
      told(table, selector, plan, bound),
      ...counted(state, table, selector, plan, bound, system),
      reason,
    ]);
    return [...now, ...byRow.map((selector): SqlValue[] => [table.name, told(table, selector, plan, bound), null, null, reason])];
  });
  return { columns: explainPullColumns, rows, affectedRowCount: 0, lastInsertRowid: null };
}

function counted(
  state: StoreState,
  table: LocalTable,
  selector: KeySelector,
  plan: RunnablePlan,
  bound: readonly unknown[],
  system: SystemTables,
): [SqlValue, SqlValue] {
  if (isJoined({ selectors: [selector] })) return [null, null];
  const needed = neededConstantly(state, { table, selectors: [selector] }, plan.parameters, bound);
  const ranges = needed.flatMap((one) => (one.indexOf === undefined ? (one.ranges ?? [wholeRange]) : []));
  if (selector.index === null) return atomsOf(table, ranges, system);
  return [null, missingBefore(state, [{ table, selectors: [selector] }], plan.parameters, bound, undefined).length === 0 ? 1n : 0n];
}

/** Of the engine's own list. */
function atomsOf(table: LocalTable, ranges: readonly BinaryRange[], system: SystemTables): [SqlValue, SqlValue] {
  const atoms = (system.atoms?.rows ?? []).filter((atom) => atom.table_name === table.name && atom.index_name === null);
  const overlapped = atoms.filter((atom) => {
    const low = keyOf(atom.key_low) ?? "";
    const high = keyOf(atom.key_high);
    return ranges.some((range) => (high === null || range.low < high) && (range.high === null || low < range.high));
  });
  return [BigInt(overlapped.length), BigInt(overlapped.filter((atom) => atom.held_here === 1n).length)];
}

/** As system.atoms tells it: an integer, or the key's bytes in hexadecimal. */
function keyOf(value: SqlValue | undefined): BinaryKey | null {
  if (typeof value === "bigint") return encodeSortKey([{ value }]).toString("latin1");
  return typeof value === "string" ? Buffer.from(value, "hex").toString("latin1") : null;
}

const valuesToldMax = 10;

function told(table: LocalTable, { index, equal, low, high }: KeySelector, plan: RunnablePlan, bound: readonly unknown[]): string {
  const names = index?.names ?? table.keyNames;
  const value = (source: ConstantSource): string =>
    source.kind === "row" ? `${source.row}.${source.column}` : literal(sourceValue(source, plan.parameters, bound));
  const source = (one: ValueSource): string => (one.kind === "joined" ? `${one.table.name}.${one.column}` : value(one));
  const terms = equal.map((sources, place) => {
    const values = sources.slice(0, valuesToldMax).map(source);
    if (sources.length > valuesToldMax) values.push(`… ${sources.length} in all`);
    return sources.length === 1 ? `${names[place]} = ${values[0]}` : `${names[place]} IN (${values.join(", ")})`;
  });
  const next = names[equal.length] ?? "";
  if (low !== null) terms.push(`${next} >= ${value(low)}`);
  if (high !== null) terms.push(`${next} <= ${value(high)}`);
  return terms.join(" AND ");
}

function literal(value: SqlValue): string {
  if (value === null) return "NULL";
  if (typeof value === "string") return `'${value.length > 60 ? `${value.slice(0, 60)}…` : value}'`;
  return value instanceof Uint8Array ? `x'${Buffer.from(value.subarray(0, 30)).toString("hex")}${value.length > 30 ? "…" : ""}'` : String(value);
}
