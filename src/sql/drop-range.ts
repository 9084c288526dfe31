/**
 * Rows that the local store gives up, by the range of their keys (range-conditions.ts), with users' triggers at rest and foreign keys off, as where committed
 * entries are applied. They are gone in the transaction in which their range ceases to be held: a row that is here though nobody brings it up to date would one
 * day stand against a unique value, and the stores would diverge.
 */
import { BugError } from "../base/errors.js";
import type { SpaceId } from "../base/ids.js";
import { contains, type KeyRange } from "../base/key-ranges.js";
import type { SqlValue } from "../base/values.js";
import { releaseIndexes } from "./held-indexes.js";
import type { LocalTable } from "./local-schema.js";
import { quoteName } from "./parse/names.js";
import { conditionsOf } from "./range-conditions.js";
import type { StoreState } from "./store-state.js";
import { keyOfRow, sqlOf } from "./stored-rows.js";

export function dropRange(state: StoreState, space: SpaceId, range: KeyRange): void {
  const table = state.schema.tables.get(space);
  const ranges = state.held.get(space);
  if (table === undefined || ranges === undefined) return;
  state.foreignKeyFlag.set(false);
  state.applyStatements.get("BEGIN").run();
  try {
    const conditions = conditionsOf(table, range);
    if (conditions === null) removeByScan(state, table, range);
    else
      for (const { where, values } of conditions)
        state.applyStatements.get(`DELETE FROM main.${quoteName(table.name)} WHERE ${where}`).run(...values);
    state.applyStatements.get("COMMIT").run();
  } catch (error) {
    if (state.main.inTransaction) state.main.exec("ROLLBACK");
    throw new BugError(`a range of ${table.name} could not be given up`, { cause: error });
  }
  ranges.drop(range);
  // As part of a larger range, whose chunks lack what was changed here while it was held: they are asked for anew.
  ranges.abandonJoining(range);
  releaseIndexes(state, space);
  state.heldGeneration++;
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
