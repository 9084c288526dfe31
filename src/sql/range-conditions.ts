/**
 * A range of sort keys as conditions on the columns of the table's own key, whose order is that of the sort keys, column by column; so a range of n columns is
 * at most 2n − 1 searches in it. Given in the order of the keys that they select:
 *
 * | label | rows | condition, of a range from (a, b) to (d, e) |
 * |---|---|---|
 * | behind low | the columns before are low's | k1 = a AND k2 >= b |
 * | all | neither end is a key | none |
 * | between | the first column that differs lies between both | k1 > a AND k1 < d |
 * | before high | the columns before are high's | k1 = d AND k2 < e |
 * | scan | an end does not keep its values (it was cut; a NUL in NOCASE text) | null: each row's key has to be looked at |
 */

import type { KeyRange } from "../base/key-ranges.js";
import { decodeSortKey, encodeSortKeyOf, integerOfKey, type KeyColumnOrder } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import type { LocalTable } from "./local-schema.js";
import { keyName } from "./stored-rows.js";

export interface RangeCondition {
  readonly where: string;
  readonly values: readonly SqlValue[];
}

/** Both ends are of keys that rows of the table may have, or the table's. null: the label "scan". */
export function conditionsOf(table: LocalTable, { low, high }: KeyRange): RangeCondition[] | null {
  const first = low.length === 0 ? [] : valuesOf(table, low);
  const last = high === null ? [] : valuesOf(table, high);
  if (first === null || last === null) return null;
  const shared = first.length === 0 || last.length === 0 ? 0 : sharedColumns(table.keyOrders, first, last);
  const conditions: RangeCondition[] = [];
  if (shared < table.keyNames.length) {
    for (let column = first.length - 1; column > shared; column--)
      conditions.push(condition(table, first.slice(0, column), [{ sign: column === first.length - 1 ? ">=" : ">", value: first[column] ?? null }]));
    const bounds: Bound[] = [];
    if (first.length > 0) bounds.push({ sign: first.length === shared + 1 ? ">=" : ">", value: first[shared] ?? null });
    if (last.length > 0) bounds.push({ sign: "<", value: last[shared] ?? null });
    conditions.push(condition(table, first.length > 0 ? first.slice(0, shared) : last.slice(0, shared), bounds));
    for (let column = shared + 1; column < last.length; column++)
      conditions.push(condition(table, last.slice(0, column), [{ sign: "<", value: last[column] ?? null }]));
  }
  return conditions;
}

/** What rows of one condition are in the key's order by. */
export function keyOrderOf(table: LocalTable): string {
  return table.keyNames.map((_, column) => `${orderedColumn(table, column)}${isDescending(table, column) ? " DESC" : ""}`).join(", ");
}

interface Bound {
  readonly sign: ">" | ">=" | "<";
  readonly value: SqlValue;
}

const reversed = { ">": "<", ">=": "<=", "<": ">" } as const;

/** Leading columns equal, and bounds, in the order of the key, on the next one. */
function condition(table: LocalTable, equal: readonly SqlValue[], bounds: readonly Bound[]): RangeCondition {
  const conditions = [
    ...equal.map((_, column) => `${orderedColumn(table, column)} = ?`),
    ...bounds.map(({ sign }) => `${orderedColumn(table, equal.length)} ${isDescending(table, equal.length) ? reversed[sign] : sign} ?`),
  ];
  return { where: conditions.length === 0 ? "true" : conditions.join(" AND "), values: [...equal, ...bounds.map(({ value }) => value)] };
}

function isDescending(table: LocalTable, column: number): boolean {
  return table.keyOrders[column]?.descending === true;
}

/** A key may have another collation than its column. */
function orderedColumn(table: LocalTable, column: number): string {
  const collation = table.identity === "key" ? ` COLLATE ${table.keyOrders[column]?.collation ?? "BINARY"}` : "";
  return `${keyName(table, table.keyNames[column] ?? "")}${collation}`;
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
