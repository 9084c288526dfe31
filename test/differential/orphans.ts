/** Rows that are without their parent, each with its key and with what it refers to: so that one that keeps what it had is told from one that takes another value. */
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { SqlValue } from "../../src/base/values.js";
import { tell } from "../sql/odd-values.js";

interface Reference {
  readonly child: string;
  readonly wr: bigint;
  readonly id: bigint;
  readonly parent: string;
  readonly own: string;
  readonly target: string;
  readonly isImmediate: bigint;
}

/** The query of one foreign key's orphans, for one schema. */
interface OrphanQuery {
  readonly name: string;
  /** Each statement must leave it whole. */
  readonly isImmediate: boolean;
  /** Values of its first columns are the row's key. */
  readonly identityCount: number;
  readonly rows: Statement<[], SqlValue[]>;
}

/** Of one database. "immediate": of foreign keys that each statement must leave whole. `schema`: its text, for which the queries are kept. */
export function orphanFinder(database: Database): (schema: string, of?: "all" | "immediate") => Set<string> {
  let queries: readonly OrphanQuery[] = [];
  let madeFor: string | null = null;
  return (schema, of = "all") => {
    if (madeFor !== schema) queries = orphanQueries(database);
    madeFor = schema;
    const orphans = new Set<string>();
    for (const query of queries) {
      if (of === "immediate" && !query.isImmediate) continue;
      for (const row of rowsOf(query.rows)) {
        const [identity, own] = [row.slice(0, query.identityCount), row.slice(query.identityCount)];
        orphans.add(`${query.name}: ${own.map(tell).join(", ")}${beforeKey}${identity.map(tell).join(", ")}`);
      }
    }
    return orphans;
  };
}

function orphanQueries(database: Database): OrphanQuery[] {
  const columns = database.prepare<[], Reference>(
    `SELECT l.name AS child, l.wr, f.id, f."table" AS parent, f."from" AS own, f."to" AS target,
       (SELECT s.sql NOT LIKE '%DEFERRED%' FROM sqlite_schema s WHERE s.name = l.name) AS isImmediate
     FROM pragma_table_list l JOIN pragma_foreign_key_list(l.name) f WHERE l.schema = 'main' AND l.type = 'table'`,
  );
  const references = new Map<string, Reference[]>();
  for (const one of columns.all()) {
    const name = `${one.child} ${one.id}`;
    references.set(name, [...(references.get(name) ?? []), one]);
  }
  return [...references].flatMap(([name, reference]) => orphanQuery(database, name, reference) ?? []);
}

/** Between what a row refers to and its key. */
const beforeKey = "\0";

/** Whether none is among them that was not before. `moves`: a row may have another key than before. */
export function areKept(after: ReadonlySet<string>, before: ReadonlySet<string>, moves: boolean): boolean {
  if (!moves) return [...after].every((one) => before.has(one));
  const left = new Map<string, number>();
  const withoutKey = (one: string): string => one.slice(0, one.indexOf(beforeKey));
  for (const one of before) left.set(withoutKey(one), (left.get(withoutKey(one)) ?? 0) + 1);
  return [...after].every((one) => {
    const count = left.get(withoutKey(one)) ?? 0;
    left.set(withoutKey(one), count - 1);
    return count > 0;
  });
}

/** null: the foreign key does not fit its parent. */
function orphanQuery(database: Database, name: string, reference: readonly Reference[]): OrphanQuery | null {
  const [{ child, wr, parent, isImmediate } = { child: "", wr: 0n, parent: "", isImmediate: 0n }] = reference;
  const keys = database.prepare<[string], { readonly name: string }>("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk");
  const identity = wr === 1n ? keys.all(child).map(({ name }) => `c.${name}`) : ["c.rowid"];
  const own = reference.map((one) => `c.${one.own}`);
  // Where the parent is gone, every row that refers to it is without.
  const isThere =
    database.prepare<[string]>("SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE").get(parent) !== undefined;
  // A value without affinity and collation takes the parent's, as where a foreign key looks for it.
  const same = reference.map((one) => `p.${one.target} = +c.${one.own}`);
  const sql = `SELECT ${[...identity, ...own].join(", ")} FROM ${child} c
    WHERE ${own.map((column) => `${column} IS NOT NULL`).join(" AND ")}${isThere ? ` AND NOT EXISTS (SELECT 1 FROM ${parent} p WHERE ${same.join(" AND ")})` : ""}`;
  try {
    return { name, isImmediate: isImmediate === 1n, identityCount: identity.length, rows: database.prepare<[], SqlValue[]>(sql).raw() };
  } catch (error) {
    return noneIfMisfit(error);
  }
}

function rowsOf(query: Statement<[], SqlValue[]>): readonly SqlValue[][] {
  try {
    return query.all();
  } catch (error) {
    return noneIfMisfit(error) ?? [];
  }
}

/** The foreign key does not fit its parent: then SQLite itself refuses what would refer to it. */
function noneIfMisfit(error: unknown): null {
  if (!(error instanceof Sqlite.SqliteError)) throw error;
  return null;
}
