/**
 * A statement with ticks, where SQLite runs it as it would without: its plan is compared. Where one of the terms changes the plan (it may keep an index from
 * answering `IN (SELECT …)`, or a join from being left out), that term is left out, and the others stay.
 */
import type { Database } from "better-sqlite3";
import Sqlite from "better-sqlite3";
import type { LocalSchema } from "./local-schema.js";
import { foldName, quoteName } from "./parse/names.js";
import { type Edit, splice } from "./parse/splice.js";
import { isFault, parseStatement } from "./parse/sqlite-grammar.js";
import { type TickedSource, type TickTerm, tickEdits, tickTerms, withTicks } from "./parse/tick-places.js";

/** Whoever has neither FROM nor WITH reads no rows, which spares long lists of VALUES another look. */
export const mayRepeat = /\bfrom\b/i;

/** The text to run; `sql` itself where it ends by itself. `nulls`: what EXPLAIN binds. */
export function tickedStatement(database: Database, sql: string, nulls: readonly unknown[], source: TickedSource): string {
  return mayRepeat.test(sql)
    ? splice(
        sql,
        tickedEdits(database, sql, nulls, source, (text) => [text]),
      )
    : sql;
}

/** `probesOf`: the statements whose plans the terms must leave as they are, of the text with some of them. */
export function tickedEdits(
  database: Database,
  sql: string,
  nulls: readonly unknown[],
  source: TickedSource | null,
  probesOf: (text: string) => readonly string[],
): readonly Edit[] {
  const parsed = parseStatement(sql);
  if (isFault(parsed)) return [];
  const terms = tickTerms(parsed, source);
  if (terms.length === 0) return [];
  const plansOf = (some: readonly TickTerm[]): string => JSON.stringify(probesOf(withTicks(sql, some)).map((text) => planOf(database, text, nulls)));
  const plans = plansOf([]);
  // Of a statement that is to run at once there is always one.
  if (source === null && planOf(database, sql, nulls) === null) return tickEdits(terms.filter(({ isRecursion }) => isRecursion));
  const fits = (some: readonly TickTerm[]): boolean => plansOf(some) === plans;
  if (fits(terms)) return tickEdits(terms);
  let kept: readonly TickTerm[] = [];
  for (const term of terms) if (fits([...kept, term])) kept = [...kept, term];
  return tickEdits(kept);
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
