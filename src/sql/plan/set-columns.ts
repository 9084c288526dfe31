/** Which columns SET may change. */
import type { LocalTable, UniqueIndex } from "../local-schema.js";
import { isRowidName, sameName } from "../parse/names.js";
import type { SetAssignment, Upsert } from "../parse/sqlite-grammar.js";

/** A column of that name, or one computed from others, or the rowid under one of its names. */
export function maySet(table: LocalTable, names: readonly string[], sets: readonly SetAssignment[]): boolean {
  const set = sets.flatMap(({ colNames }) => colNames.map((name) => name.text));
  if (set.some(isRowidName) || names.some((name) => !table.columns.some((column) => sameName(column.name, name)))) return true;
  return set.some((name) => names.some((one) => sameName(one, name)));
}

export function maySetIndex(table: LocalTable, index: UniqueIndex, sets: readonly SetAssignment[]): boolean {
  return index.columnNames === null || index.where !== null || maySet(table, index.columnNames, sets);
}

export function upsertsOf(first: Upsert | undefined): Upsert[] {
  const list: Upsert[] = [];
  for (let one = first; one !== undefined; one = one.next) list.push(one);
  return list;
}
