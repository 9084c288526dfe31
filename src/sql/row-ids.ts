/** Where `_nid(table)` takes its ids from while a statement runs. */
import type { SpaceId } from "../base/ids.js";
import { binaryRange } from "../base/key-ranges.js";
import { integerKey } from "../base/sort-key.js";
import type { IdRange } from "../messages/wire/entry.js";
import type { LocalTable } from "./local-schema.js";
import { localDdl } from "./parse/local-ddl.js";
import { foldName, quoteName } from "./parse/names.js";
import { isFault } from "./parse/sqlite-grammar.js";
import { fault, StatementFault } from "./statement-faults.js";
import type { StoreState } from "./store-state.js";
import type { Unit } from "./unit.js";

/** The largest rowid. SQLite then tries random ones; nobody has come here by counting. */
const idMax = 2n ** 63n - 1n;

export interface IdSource {
  next(table: SpaceId): bigint;
  /** The statement names an id itself: it is not given to another of its rows. */
  name(table: SpaceId, id: bigint): void;
}

/**
 * Ids of the tables that a statement writes. A function of SQLite cannot ask SQLite, so the ids that exist within this engine's blocks are read
 * before the statement runs. A table that the unit has made is its own: it counts on from its largest id.
 */
export function idSource(state: StoreState, unit: Unit, tables: readonly LocalTable[], onExhausted: (table: SpaceId) => void): IdSource {
  const taken = new Map<SpaceId, Set<bigint>>();
  const counters = new Map<SpaceId, bigint>();
  for (const table of tables) {
    const id = table.insertTable?.idColumn;
    if (id === undefined) continue;
    const name = table.identity === "rowid" ? id : quoteName(id);
    const source = `FROM main.${quoteName(table.name)}`;
    if (unit.made.has(table.space)) {
      const largest = state.statements.get(`SELECT max(${name}) ${source}`).get()?.[0];
      counters.set(table.space, typeof largest === "bigint" ? largest : 0n);
      continue;
    }
    const existing = new Set<bigint>();
    for (const block of state.ids.remaining(table.space)) {
      const rows = state.statements.get(`SELECT ${name} ${source} WHERE ${name} BETWEEN ? AND ?`).all(block.first, block.last);
      for (const [row] of rows) if (typeof row === "bigint") existing.add(row);
    }
    taken.set(table.space, existing);
  }
  return {
    next(table) {
      const counter = counters.get(table);
      if (counter !== undefined) {
        // Nobody has blocks of a table that is not committed.
        if (counter === idMax)
          throw new StatementFault(fault("SQLITE_FULL", `database or disk is full: the table's ids have reached ${idMax}; name an id that is free`));
        counters.set(table, counter + 1n);
        return counter + 1n;
      }
      const id = state.ids.take(table, (one) => taken.get(table)?.has(one) === true);
      if (id !== null) return id;
      onExhausted(table);
      throw new IdsExhaustedError("the ids of this table that this engine may give are used up");
    },
    name(table, id) {
      const counter = counters.get(table);
      if (counter !== undefined && id > counter) counters.set(table, id);
      // Of others there is nothing to remember: what this engine gives is within its blocks.
      if (state.ids.remaining(table).some((block) => block.first <= id && id <= block.last)) taken.get(table)?.add(id);
    },
  };
}

/** The ids that are left behind the last row of each block (LocalStore.takeIdsBack); this engine gives none of them any more. */
export function takeIdsBack(state: StoreState): readonly IdRange[] {
  const left = state.ids.tables().flatMap((space) => {
    const table = state.schema.tables.get(space);
    return table === undefined || isAutoincrement(state, table) ? [] : state.ids.remaining(space).flatMap((block) => unused(state, table, block));
  });
  state.ids.clear();
  return left;
}

function unused(state: StoreState, table: LocalTable, block: { readonly first: bigint; readonly last: bigint }): readonly IdRange[] {
  const id = table.insertTable?.idColumn;
  const range = { low: integerKey(block.first), high: integerKey(block.last + 1n) };
  if (id === undefined || state.held.get(table.space)?.holds(binaryRange(range)) !== true) return [];
  const name = table.identity === "rowid" ? id : quoteName(id);
  const sql = `SELECT max(${name}) FROM main.${quoteName(table.name)} WHERE ${name} BETWEEN ? AND ?`;
  const largest = state.statements.get(sql).get(block.first, block.last)?.[0];
  const first = typeof largest === "bigint" ? largest + 1n : block.first;
  return first > block.last ? [] : [{ space: table.space, first, next: block.last + 1n }];
}

function isAutoincrement(state: StoreState, table: LocalTable): boolean {
  const stored = state.schema.objects.get(foldName(table.name));
  if (stored === undefined) return true;
  const ddl = localDdl(stored.object.sql, () => null);
  return isFault(ddl) || ddl.autoincrement;
}

/** Ends the statement; the run then asks for a block of ids. */
export class IdsExhaustedError extends Error {
  override name = "IdsExhaustedError";
}
