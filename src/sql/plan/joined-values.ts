/**
 * The outer part of a join, run first: the values that a column has in the rows of its table that the statement needs. By the selector alone, which takes
 * a row too many rather than one too few: what else the statement asks of these rows only leaves out some.
 */
import type { Database } from "better-sqlite3";
import type { SqlValue } from "../../base/values.js";
import type { StatementCache } from "../connection.js";
import type { LocalIndex, LocalTable } from "../local-schema.js";
import { quoteName } from "../parse/names.js";
import { keyName } from "../stored-rows.js";
import { type JoinedSource, type KeySelector, rangesMax, type ValuesAt } from "./key-selector.js";
import { isSearchIn } from "./typed-values.js";

/** All rows that the selector takes are held here. null: more than rangesMax values. */
export function joinedValues(statements: StatementCache, { table, selector, column }: JoinedSource, valuesAt: ValuesAt): SqlValue[] | null {
  const terms: string[] = [];
  const bound: SqlValue[] = [];
  for (const [place, sources] of (selector?.equal ?? []).entries()) {
    const values: SqlValue[] = [];
    for (const source of sources) {
      const found = valuesAt(source);
      if (found === null) return null;
      values.push(...found);
    }
    if (values.length > rangesMax) return null;
    terms.push(`${operandAt(table, selector, place)} IN (${values.map(() => "?").join(", ")})`);
    bound.push(...values);
  }
  if (selector !== null) {
    const next = operandAt(table, selector, selector.equal.length);
    for (const [end, sign] of [
      ["low", ">="],
      ["high", "<="],
    ] as const) {
      const source = selector[end];
      if (source === null) continue;
      terms.push(`${next} ${sign} ?`);
      bound.push(valuesAt(source)?.[0] ?? null);
    }
  }
  const where = terms.length === 0 ? "" : ` WHERE ${terms.join(" AND ")}`;
  const sql = `SELECT DISTINCT ${quoteName(column)} COLLATE BINARY FROM main.${quoteName(table.name)}${where} LIMIT ${rangesMax + 1}`;
  const rows = statements.get(sql).all(...bound);
  return rows.length > rangesMax ? null : rows.map((row) => row[0] ?? null);
}

function nameAt(table: LocalTable, selector: KeySelector | null, place: number): string {
  const index = selector?.index ?? null;
  return index === null ? keyName(table, table.keyNames[place] ?? "") : quoteName(index.names[place] ?? "");
}

/** Compared as the key or the index orders it: where the other side's collation counts, that is not the column's own. */
function operandAt(table: LocalTable, selector: KeySelector | null, place: number): string {
  const orders = selector?.index?.columns ?? table.keyOrders;
  return `${nameAt(table, selector, place)} COLLATE ${orders[place]?.collation ?? "BINARY"}`;
}

/** Whether the selector, which takes values from other tables, or from a row that fires a trigger, is a search in the order of the table's own key, or of its index. */
export function isJoinSearch(main: Database, table: LocalTable, index: LocalIndex | null, selector: KeySelector): boolean {
  const outers: string[] = [];
  const terms = selector.equal.map((sources, place) => {
    const name = `_inner.${index === null ? keyName(table, table.keyNames[place] ?? "") : quoteName(index.names[place] ?? "")}`;
    const [source] = sources;
    if (source?.kind !== "joined" && source?.kind !== "row") return `${name} = ?`;
    const outer = `_outer${outers.length}`;
    outers.push(`main.${quoteName(source.table.name)} AS ${outer}`);
    const column = `${outer}.${quoteName(source.column)}`;
    return source.isLeft ? `${column} = ${name}` : `${name} = ${column}`;
  });
  return isSearchIn(main, table, index, outers, "_inner", terms);
}
