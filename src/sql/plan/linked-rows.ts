/**
 * Where the rows at the other end of a foreign key are, by its values: keys of the parent's rows, or ranges of an index of the parent or the child. What
 * a range of an index needs beside it, its own rows, comes with it (held-indexes.ts).
 */

import { rangeOfKey } from "../../base/key-ranges.js";
import { encodeSortKeyOf } from "../../base/sort-key.js";
import type { SqlValue } from "../../base/values.js";
import type { LocalForeignKey, LocalIndex } from "../local-schema.js";
import type { PullNeed } from "../local-store.js";
import { foldName } from "../parse/names.js";
import { rangesOf, type TypedValue } from "./key-selector.js";

/** The unique index that the foreign key refers to, where it is all of stored columns. */
export function parentIndex({ parent, parentKey, parentNames }: LocalForeignKey): LocalIndex | null {
  if (parentKey?.kind !== "unique") return null;
  const index = parent.indexes.find(({ space }) => space === parentKey.index.space);
  return index !== undefined && !index.isPartial && index.names.length === parentNames.length ? index : null;
}

/**
 * An index of the child that begins with the referring columns, in any order, as the parent's values are compared with them. Where the comparison converts what the
 * child's rows have ('1.0' refers to 1), no index has them together.
 */
export function childIndex({ child, childNames, collations, convertsChild }: LocalForeignKey): LocalIndex | null {
  if (convertsChild) return null;
  const isLeading = (index: LocalIndex): boolean =>
    !index.isPartial &&
    index.names.slice(0, childNames.length).every((name, place) => {
      const column = childNames.findIndex((one) => foldName(one) === foldName(name));
      return column >= 0 && index.columns[place]?.collation === collations[column];
    });
  return child.indexes.find((index) => index.names.length >= childNames.length && isLeading(index)) ?? null;
}

/** Where the parent with these values (in the order of the foreign key's columns) can be. null: nowhere. */
export function parentRange(foreignKey: LocalForeignKey, values: readonly SqlValue[], typed: TypedValue): PullNeed | null {
  const { parent, parentKey, parentNames } = foreignKey;
  const { space } = parent;
  const index = parentIndex(foreignKey);
  if (index !== null) return indexRange(foreignKey.parent, index, valuesBy(index.names, parentNames, values), typed);
  if (parentKey?.kind !== "row") return { space, ranges: null };
  const key: SqlValue[] = [];
  for (const [column, value] of valuesBy(parent.keyNames, parentNames, values).entries()) {
    const found = typed(value, parent.keyAffinities[column] ?? "none");
    if (found === undefined) return { space, ranges: null };
    if (found === null) return null;
    key.push(found);
  }
  return { space, ranges: [rangeOfKey(encodeSortKeyOf(key, parent.keyOrders).toString("latin1"))] };
}

/** Where the child's rows that refer to these values can be. null: nowhere. */
export function childRange(foreignKey: LocalForeignKey, values: readonly SqlValue[], typed: TypedValue): PullNeed | null {
  const index = childIndex(foreignKey);
  if (index === null) return { space: foreignKey.child.space, ranges: null };
  const names = index.names.slice(0, foreignKey.childNames.length);
  return indexRange(foreignKey.child, index, valuesBy(names, foreignKey.childNames, values), typed);
}

function valuesBy(wanted: readonly string[], names: readonly string[], values: readonly SqlValue[]): SqlValue[] {
  return wanted.map((name) => values[names.findIndex((one) => foldName(one) === foldName(name))] ?? null);
}

function indexRange(table: LocalForeignKey["parent"], index: LocalIndex, values: readonly SqlValue[], typed: TypedValue): PullNeed | null {
  const selector = { index, equal: values.map((value) => [{ kind: "literal", value } as const]), low: null, high: null };
  const ranges = rangesOf(table, selector, (source) => (source.kind === "literal" ? [source.value] : []), typed);
  if (ranges === null) return { space: table.space, ranges: null };
  return ranges.length === 0 ? null : { space: index.space, ranges, indexOf: table.space };
}
