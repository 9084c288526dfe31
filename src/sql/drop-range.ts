/**
 * Rows that the local store gives up, by the range of their keys, with users' triggers at rest and foreign keys off, as where committed entries are applied.
 * They are gone in the transaction in which their range ceases to be held: a row that is here though nobody brings it up to date would one day stand
 * against a unique value, and the stores would diverge.
 *
 * The order of sort keys is the order of the table's own key, column by column; so a range of n columns is at most 2n − 1 searches in it:
 *
 * | label | rows | condition, of a range from (a, b) to (d, e) |
 * |---|---|---|
 * | all | neither end is a key | none |
 * | between | the first column that differs lies between both | k1 > a AND k1 < d |
 * | behind low | the columns before are low's | k1 = a AND k2 >= b |
 * | before high | the columns before are high's | k1 = d AND k2 < e |
 * | scan | an end does not keep its values (it was cut; a NUL in NOCASE text) | each row's key is looked at |
 */
import { BugError } from "../base/errors.js";
import type { SpaceId } from "../base/ids.js";
import { decodeSortKey, encodeSortKeyOf, integerOfKey, type KeyColumnOrder } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import { releaseIndexes } from "./held-indexes.js";
import { contains, type KeyRange } from "./held-ranges.js";
import type { LocalTable } from "./local-schema.js";
import { quoteName } from "./parse/names.js";
import type { StoreState } from "./store-state.js";
import { keyName, keyOfRow, sqlOf } from "./stored-rows.js";

export function dropRange(state: StoreState, space: SpaceId, range: KeyRange): void {
  const table = state.schema.tables.get(space);
  const ranges = state.held.get(space);
  if (table === undefined || ranges === undefined) return;
  state.foreignKeyFlag.set(false);
  state.applyStatements.get("BEGIN").run();
  try {
    const terms = termsOf(table, range);
    if (terms === null) removeByScan(state, table, range);
    else for (const { where, values } of terms) state.applyStatements.get(`DELETE FROM main.${quoteName(table.name)} WHERE ${where}`).run(...values);
    state.applyStatements.get("COMMIT").run();
  } catch (error) {
    if (state.main.inTransaction) state.main.exec("ROLLBACK");
    throw new BugError(`a range of ${table.name} could not be given up`, { cause: error });
  }
  ranges.drop(range);
  releaseIndexes(state, space);
  state.heldGeneration++;
}

interface Term {
  readonly where: string;
  readonly values: readonly SqlValue[];
}

/** null: by a scan. */
function termsOf(table: LocalTable, { low, high }: KeyRange): Term[] | null {
  const first = low.length === 0 ? [] : valuesOf(table, low);
  const last = high === null ? [] : valuesOf(table, high);
  if (first === null || last === null) return null;
  const shared = first.length === 0 || last.length === 0 ? 0 : sharedColumns(table.keyOrders, first, last);
  const terms: Term[] = [];
  if (shared < table.keyNames.length) {
    const bounds: Bound[] = [];
    if (first.length > 0) bounds.push({ sign: first.length === shared + 1 ? ">=" : ">", value: first[shared] ?? null });
    if (last.length > 0) bounds.push({ sign: "<", value: last[shared] ?? null });
    terms.push(term(table, first.length > 0 ? first.slice(0, shared) : last.slice(0, shared), bounds));
    for (let column = shared + 1; column < first.length; column++)
      terms.push(term(table, first.slice(0, column), [{ sign: column === first.length - 1 ? ">=" : ">", value: first[column] ?? null }]));
    for (let column = shared + 1; column < last.length; column++)
      terms.push(term(table, last.slice(0, column), [{ sign: "<", value: last[column] ?? null }]));
  }
  return terms;
}

interface Bound {
  readonly sign: ">" | ">=" | "<";
  readonly value: SqlValue;
}

const reversed = { ">": "<", ">=": "<=", "<": ">" } as const;

/** Leading columns equal, and bounds, in the order of the key, on the next one. */
function term(table: LocalTable, equal: readonly SqlValue[], bounds: readonly Bound[]): Term {
  const name = (column: number): string => {
    const collation = table.identity === "key" ? ` COLLATE ${table.keyOrders[column]?.collation ?? "BINARY"}` : "";
    return `${keyName(table, table.keyNames[column] ?? "")}${collation}`;
  };
  const isDescending = table.keyOrders[equal.length]?.descending === true;
  const conditions = [
    ...equal.map((_, column) => `${name(column)} = ?`),
    ...bounds.map(({ sign }) => `${name(equal.length)} ${isDescending ? reversed[sign] : sign} ?`),
  ];
  return { where: conditions.length === 0 ? "true" : conditions.join(" AND "), values: [...equal, ...bounds.map(({ value }) => value)] };
}

function valuesOf(table: LocalTable, key: Uint8Array): SqlValue[] | null {
  if (table.identity === "key") return decodeSortKey(key, table.keyOrders);
  const id = integerOfKey(key);
  return id === null ? null : [id];
}

/** Leading columns that both have alike, in the sense of their key. */
function sharedColumns(orders: readonly KeyColumnOrder[], left: readonly SqlValue[], right: readonly SqlValue[]): number {
  const part = (values: readonly SqlValue[], column: number): Buffer =>
    encodeSortKeyOf(values.slice(column, column + 1), orders.slice(column, column + 1));
  let column = 0;
  while (column < orders.length && part(left, column).equals(part(right, column))) column++;
  return column;
}

/** Keys of a thousand bytes are rare. */
function removeByScan(state: StoreState, table: LocalTable, range: KeyRange): void {
  const found: SqlValue[][] = [];
  for (const row of state.applyStatements.get(sqlOf(table).selectAll).iterate()) {
    const rowid = row.at(-1) ?? null;
    if (!contains(range, keyOfRow(table, row, rowid))) continue;
    found.push(table.identity === "rowid" ? [rowid] : table.keyPlaces.map((place) => row[place] ?? null));
  }
  const remove = state.applyStatements.get(sqlOf(table).remove);
  for (const values of found) remove.run(...values);
}
