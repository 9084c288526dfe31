/**
 * A statement with ticks, where SQLite runs it as it would without: its plan is compared. Where one of the terms changes the plan (it may keep an index from
 * answering `IN (SELECT …)`, or a join from being left out), that term is left out, and the others stay.
 */
import type { Database } from "better-sqlite3";
import Sqlite from "better-sqlite3";
import type { LocalSchema } from "./local-schema.js";
import { foldName, quoteName } from "./parse/names.js";
import { isFault, parseStatement } from "./parse/sqlite-grammar.js";
import { type TickedSource, type TickTerm, tickTerms, withTicks } from "./parse/tick-places.js";

/** Whoever has neither FROM nor WITH reads no rows, which spares long lists of VALUES another look. */
const mayRepeat = /\bfrom\b/i;

/** The text to run; `sql` itself where it ends by itself. `nulls`: what EXPLAIN binds. */
export function tickedStatement(database: Database, sql: string, nulls: readonly unknown[], source: TickedSource): string {
  if (!mayRepeat.test(sql)) return sql;
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return sql;
  const terms = tickTerms(parsed, source);
  if (terms.length === 0) return sql;
  const plan = planOf(database, sql, nulls);
  const fits = (some: readonly TickTerm[]): boolean => planOf(database, withTicks(sql, some), nulls) === plan;
  if (fits(terms)) return withTicks(sql, terms);
  let kept: readonly TickTerm[] = [];
  for (const term of terms) if (fits([...kept, term])) kept = [...kept, term];
  return withTicks(sql, kept);
}

type Step = readonly [id: bigint, parent: bigint, unused: bigint, detail: string];

/** null: the text does not prepare. */
function planOf(database: Database, sql: string, nulls: readonly unknown[]): string | null {
  try {
    const steps = database
      .prepare<unknown[], Step>(`EXPLAIN QUERY PLAN ${sql}`)
      .raw()
      .all(...nulls);
    // Ids are addresses within the program, which ticks make longer.
    const places = new Map(steps.map(([id], index) => [id, index]));
    return JSON.stringify(steps.map(([, parent, , detail]) => [places.get(parent) ?? -1, detail]));
  } catch (error) {
    if (error instanceof Sqlite.SqliteError) return null;
    throw error;
  }
}

export function tickedSource({ tablesByName, objects }: LocalSchema): TickedSource {
  return {
    table(name) {
      const table = tablesByName.get(foldName(name));
      const [key, first] = [table?.keyNames[0], table?.columnNames[0]];
      if (table === undefined || key === undefined || first === undefined) return null;
      const isStored = table.columns.some((column) => column.name === first);
      return { key: quoteName(key), first: isStored ? quoteName(first) : null };
    },
    view(name) {
      const object = objects.get(foldName(name))?.object;
      const parsed = object?.type === "view" ? parseStatement(object.sql) : null;
      if (parsed === null || isFault(parsed) || parsed.root.type !== "CreateViewStmt") return null;
      return { columns: parsed.root.columns?.map(({ colName }) => colName.text) ?? null, select: parsed.root.select };
    },
  };
}
