/**
 * Affinity and collation stay SQLite's: what a column makes of a value that it is compared with is asked of a column of that affinity, and
 * whether a condition on a key is a search in the key's own order (its collation, no other conversion) is asked of EXPLAIN QUERY PLAN.
 */
import type { Database } from "better-sqlite3";
import type { SqlValue } from "../../base/values.js";
import type { StatementCache } from "../connection.js";
import type { LocalIndex, LocalTable } from "../local-schema.js";
import { quoteName } from "../parse/names.js";
import { keyName } from "../stored-rows.js";
import type { Affinity } from "./affinity.js";
import type { TypedValue } from "./key-selector.js";

export const typedTableName = "_atomcast_typed";

/** Columns of the affinities; in its first row values are converted, in those behind it they are held for a statement (`holdTyped`). */
export const createTypedTable = "CREATE TEMP TABLE _atomcast_typed(id INTEGER PRIMARY KEY, numeric NUMERIC, text TEXT, none BLOB)";

/** Integers that a REAL column keeps as they are; SQLite compares greater ones in one plan exactly, in another rounded. */
const realIntegerMax = 2n ** 47n;

export function typedValues(statements: StatementCache): TypedValue {
  const convert = (column: "numeric" | "text", value: SqlValue): SqlValue =>
    statements.get(`INSERT OR REPLACE INTO temp._atomcast_typed(id, ${column}) VALUES (1, ?) RETURNING ${column}`).get(value)?.[0] ?? null;
  return (value, affinity) => {
    if (value === null || (typeof value === "number" && Number.isNaN(value))) return null;
    switch (affinity) {
      case "none":
        return value;
      case "text":
        return typeof value === "bigint" || typeof value === "number" ? convert("text", value) : value;
      case "numeric":
        return typeof value === "string" ? convert("numeric", value) : value;
      case "real": {
        const number = typeof value === "string" ? convert("numeric", value) : value;
        return typeof number === "bigint" && (number > realIntegerMax || number < -realIntegerMax) ? undefined : number;
      }
    }
  };
}

/** What stands in a statement for a value that is compared as if it came from a column of the affinity. */
export function typedOperand(place: number, affinity: Affinity): string {
  return `(SELECT ${columnOf(affinity)} FROM temp._atomcast_typed WHERE id = ${place + 2})`;
}

/** The value that it then has. */
export function holdTyped(statements: StatementCache, place: number, affinity: Affinity, value: SqlValue): void {
  statements.get(`INSERT OR REPLACE INTO temp._atomcast_typed(id, ${columnOf(affinity)}) VALUES (?, ?)`).run(BigInt(place + 2), value);
}

function columnOf(affinity: Affinity): string {
  return affinity === "real" ? "numeric" : affinity;
}

const searchable = new WeakMap<LocalTable | LocalIndex, Map<string, boolean>>();

/** Whether equality of `equalCount` leading columns, and bounds on the next, are a search in the order of the table's own key (null), or of its index. */
export function isSearch(main: Database, table: LocalTable, index: LocalIndex | null, equalCount: number, low: boolean, high: boolean): boolean {
  let known = searchable.get(index ?? table);
  if (known === undefined) {
    known = new Map();
    searchable.set(index ?? table, known);
  }
  const shape = `${equalCount},${low},${high}`;
  let answer = known.get(shape);
  if (answer === undefined) {
    answer = askForSearch(main, table, index, equalCount, low, high);
    known.set(shape, answer);
  }
  return answer;
}

function askForSearch(main: Database, table: LocalTable, index: LocalIndex | null, equalCount: number, low: boolean, high: boolean): boolean {
  // SQLite uses a partial one only where its condition is among the statement's.
  if (index?.isPartial === true) return false;
  const names = index === null ? table.keyNames.map((name) => keyName(table, name)) : index.names.map(quoteName);
  const terms = names.slice(0, equalCount).map((name) => `${name} = ?`);
  const next = names[equalCount];
  if (next !== undefined && low) terms.push(`${next} > ?`);
  if (next !== undefined && high) terms.push(`${next} < ?`);
  return isSearchIn(main, table, index, [], quoteName(table.name), terms);
}

/** Behind `outers`, which stand before it in the join. Terms have `?` for values. */
export function isSearchIn(
  main: Database,
  table: LocalTable,
  index: LocalIndex | null,
  outers: readonly string[],
  alias: string,
  terms: readonly string[],
): boolean {
  if (terms.length === 0 || index?.isPartial === true) return false;
  const hinted = index?.name ?? table.primaryIndex;
  const hint = hinted === null ? "" : ` INDEXED BY ${quoteName(hinted)}`;
  const sql = `EXPLAIN QUERY PLAN SELECT 1 FROM ${outers.map((outer) => `${outer} CROSS JOIN `).join("")}main.${quoteName(table.name)} AS ${alias}${hint} WHERE ${terms.join(" AND ")}`;
  const steps = main
    .prepare<unknown[], readonly [bigint, bigint, bigint, string]>(sql)
    .raw()
    .all(...terms.flatMap((one) => (one.endsWith("?") ? [null] : [])));
  const by = index === null ? /^SEARCH .* USING (?:INTEGER )?PRIMARY KEY \((.*)\)$/s : /^SEARCH .* USING (?:COVERING )?INDEX .* \((.*)\)$/s;
  // Nothing else is made of the join: no sorting, no index of its own.
  const found = by.exec(steps.at(-1)?.[3] ?? "");
  return steps.length === outers.length + 1 && found?.[1]?.split(" AND ").length === terms.length;
}
