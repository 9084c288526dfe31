/**
 * A part of a table by its key, or by an index: equal values of leading columns, and perhaps bounds on the next one. From it, with the values of a
 * statement's parameters, come ranges of sort keys (of an index: of its entries' keys): always all that the conditions can match, now and then one more.
 *
 * | label | condition on the key | ranges |
 * |-------|----------------------|--------|
 * | point | every column of the table's own key equal | one key for each combination |
 * | prefix | leading columns equal | all keys that begin so |
 * | bounds | then <, <=, >, >= on the next column | from one bound's key to behind the other's; DESC exchanges them |
 * | null | a value is NULL | none: no comparison with NULL holds |
 * | cut | a bound as long as keys are cut at | by its first bytes, which every key in question shares or exceeds |
 * | many | more than rangesMax of them | one, from the first to the last; of combinations: the whole table |
 * | row | a value is the row's that fires a trigger | as if it was written out, each time that the trigger fires |
 * | joined | equal to another table's column, or one of those that IN (SELECT …) gives | that column's values, among the rows that are needed of that table, each as if it were written out |
 *
 * Values are first given the column's affinity, by SQLite (typed-values.ts): what that does not tell for certain takes the whole table.
 */

import { type BinaryKey, type BinaryRange, rangeOfKey } from "../../base/key-ranges.js";
import { orderedKeyBytesMax } from "../../base/row-index.js";
import { encodeSortKeyOf, type KeyColumnOrder } from "../../base/sort-key.js";
import type { SqlValue } from "../../base/values.js";
import type { LocalIndex, LocalTable } from "../local-schema.js";
import type { Affinity } from "./affinity.js";

export type ValueSource = ConstantSource | JoinedSource;

export type ConstantSource =
  | { readonly kind: "literal"; readonly value: SqlValue }
  | { readonly kind: "parameter"; readonly number: number }
  | RowSource;

/** In a trigger's statement: a column of the row that fires it (trigger-needs.ts). */
export interface RowSource {
  readonly kind: "row";
  /** The row's. */
  readonly table: LocalTable;
  readonly row: "new" | "old";
  readonly column: string;
  /** As in JoinedSource. */
  readonly isLeft: boolean;
}

/** The values that a column of another table has in those of its rows that the statement needs (joined-values.ts). */
export interface JoinedSource {
  readonly kind: "joined";
  readonly table: LocalTable;
  /** Of that table's rows; null: all. */
  readonly selector: KeySelector | null;
  readonly column: string;
  /** It stands on the left of the `=`, so that its collation counts. */
  readonly isLeft: boolean;
}

/** null: too many to look for each. */
export type ValuesAt = (source: ValueSource) => readonly SqlValue[] | null;

export interface KeySelector {
  /** Whose columns these are; null: the table's own key. */
  readonly index: LocalIndex | null;
  /** By leading key column: the values that it may have. */
  readonly equal: readonly (readonly ValueSource[])[];
  /** Of the column behind those. */
  readonly low: ConstantSource | null;
  readonly high: ConstantSource | null;
}

/** Those of its sources that are of the row which fires a trigger. */
export function rowSourcesOf({ equal, low, high }: KeySelector): RowSource[] {
  return [...equal.flat(), low, high].flatMap((source) => (source?.kind === "row" ? [source] : []));
}

/** Ranges of one table in one need. Reason: each is looked up in what is held, and sent to the engine's thread. */
export const rangesMax = 1000;

/** What the affinity of a column makes of a value that it is compared with. undefined: it cannot be told. */
export type TypedValue = (value: SqlValue, affinity: Affinity) => SqlValue | undefined;

/** null: the whole table. */
export function rangesOf(table: LocalTable, selector: KeySelector, valuesAt: ValuesAt, typed: TypedValue): BinaryRange[] | null {
  const { index } = selector;
  const [affinities, orders] = index === null ? [table.keyAffinities, table.keyOrders] : [index.affinities, index.columns];
  let prefixes: SqlValue[][] = [[]];
  for (const [column, sources] of selector.equal.entries()) {
    const values: SqlValue[] = [];
    for (const source of sources) {
      const found = valuesAt(source);
      if (found === null) return null;
      for (const one of found) {
        const value = typed(one, affinities[column] ?? "none");
        if (value === undefined) return null;
        if (value !== null) values.push(value);
      }
    }
    if (prefixes.length * values.length > rangesMax) return null;
    prefixes = prefixes.flatMap((prefix) => values.map((value) => [...prefix, value]));
  }
  const next = selector.equal.length;
  if (next === orders.length && index === null) return prefixes.map((values) => rangeOfKey(encodeSortKeyOf(values, orders).toString("latin1")));
  const bounds: { low: SqlValue; high: SqlValue } = { low: null, high: null };
  for (const end of ["low", "high"] as const) {
    const source = selector[end];
    if (source === null) continue;
    const value = typed(valuesAt(source)?.[0] ?? null, affinities[next] ?? "none");
    if (value === undefined) return null;
    if (value === null) return [];
    bounds[end] = value;
  }
  const isDescending = orders[next]?.descending === true;
  const [first, last] = isDescending ? [bounds.high, bounds.low] : [bounds.low, bounds.high];
  const ranges = prefixes.map((prefix): BinaryRange => {
    const start = boundKey(orders, first === null ? prefix : [...prefix, first]);
    const end = boundKey(orders, last === null ? prefix : [...prefix, last]);
    return { low: start, high: behind(end) };
  });
  return ranges.filter(({ low, high }) => high === null || low < high);
}

/** Of a key cut at its hash, the part before: it orders as the values do. */
function boundKey(orders: readonly KeyColumnOrder[], values: readonly SqlValue[]): BinaryKey {
  return encodeSortKeyOf(values, orders.slice(0, values.length)).toString("latin1", 0, orderedKeyBytesMax);
}

/** The first key that does not begin with the prefix; null: there is none. */
function behind(prefix: BinaryKey): BinaryKey | null {
  let end = prefix.length;
  while (end > 0 && prefix.charCodeAt(end - 1) === 0xff) end--;
  return end === 0 ? null : prefix.slice(0, end - 1) + String.fromCharCode(prefix.charCodeAt(end - 1) + 1);
}

/** In order, overlapping ones joined; where they are too many, one that has them all. */
export function joinRanges(ranges: readonly BinaryRange[]): BinaryRange[] {
  if (ranges.length < 2) return [...ranges];
  const sorted = [...ranges].sort((left, right) => (left.low < right.low ? -1 : left.low > right.low ? 1 : 0));
  const joined: BinaryRange[] = [];
  for (const range of sorted) {
    const last = joined.at(-1);
    if (last === undefined || (last.high !== null && last.high < range.low)) joined.push(range);
    else if (last.high !== null && (range.high === null || range.high > last.high)) joined[joined.length - 1] = { low: last.low, high: range.high };
  }
  const [first, last] = [joined[0], joined.at(-1)];
  return joined.length > rangesMax && first !== undefined && last !== undefined ? [{ low: first.low, high: last.high }] : joined;
}
