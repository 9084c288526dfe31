/** All rows of a database by table and key: what a transaction changed on a copy, and how that is brought to a state that others have changed meanwhile. */
import type { Database, Statement } from "better-sqlite3";
import type { SqlValue } from "../../src/base/values.js";
import { tell } from "../sql/odd-values.js";

interface TableImage {
  /** Those that can be written, the hidden rowid first where there is one. */
  readonly columns: readonly string[];
  readonly rows: ReadonlyMap<string, readonly SqlValue[]>;
}

export type RowImage = ReadonlyMap<string, TableImage>;

/** Triggers write it, and nobody is told which ids its rows get: two of its rows are the same only within one state. */
const keyless = "log";

interface TableQuery {
  readonly name: string;
  readonly columns: readonly string[];
  /** Of the key, in `columns`. */
  readonly places: readonly number[];
  readonly rows: Statement<[], SqlValue[]>;
}

/** Of one database. `schema`: its text, for which the queries are kept. */
export function rowReader(database: Database): (schema: string) => RowImage {
  let queries: readonly TableQuery[] = [];
  let madeFor: string | null = null;
  return (schema) => {
    if (madeFor !== schema) queries = tableQueries(database);
    madeFor = schema;
    return new Map(
      queries.map(({ name, columns, places, rows }): [string, TableImage] => {
        const byKey = rows.all().map((row): [string, readonly SqlValue[]] => [places.map((place) => tell(row[place] ?? null)).join(", "), row]);
        return [name, { columns, rows: new Map(byKey) }];
      }),
    );
  };
}

function tableQueries(database: Database): TableQuery[] {
  const tables = database.prepare<[], { readonly name: string; readonly wr: bigint }>(
    "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%'",
  );
  const listed = database.prepare<[string], { readonly name: string; readonly pk: bigint }>(
    "SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid",
  );
  return tables.all().map(({ name, wr }) => {
    const own = listed.all(name);
    const columns = wr === 1n ? own.map((column) => column.name) : ["rowid", ...own.map((column) => column.name)];
    const places = wr === 1n ? own.flatMap(({ pk }, place) => (pk > 0n ? [place] : [])) : [0];
    return { name, columns, places, rows: database.prepare<[], SqlValue[]>(`SELECT ${columns.join(", ")} FROM ${name}`).raw() };
  });
}

function isSame(left: readonly SqlValue[] | undefined, right: readonly SqlValue[] | undefined): boolean {
  if (left === undefined || right === undefined) return left === right;
  return left.length === right.length && left.every((value, place) => tell(value) === tell(right[place] ?? null));
}

/** `table key` of each row that is not the same in both, in the columns that both have; rows that nobody is told the ids of do not count. */
export function changedRows(before: RowImage, after: RowImage): Set<string> {
  const changed = new Set<string>();
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    if (name === keyless) continue;
    const [old, now] = [before.get(name), after.get(name)];
    const common = old?.columns.filter((column) => now?.columns.includes(column) === true) ?? [];
    const rowIn = (image: TableImage | undefined, key: string): readonly SqlValue[] | undefined => {
      const row = image?.rows.get(key);
      return row === undefined || image?.columns.length === common.length
        ? row
        : common.map((column) => row[image?.columns.indexOf(column) ?? 0] ?? null);
    };
    for (const key of new Set([...(old?.rows.keys() ?? []), ...(now?.rows.keys() ?? [])]))
      if (!isSame(rowIn(old, key), rowIn(now, key))) changed.add(`${name} ${key}`);
  }
  return changed;
}

/**
 * Does to the database what leads from one state to the other, row by row: no trigger fires, and no foreign key's action. Its tables may have more columns than these
 * states' have, or fewer, where their schema has changed since. Throws where it has not such a table any more.
 */
export function applyChanges(database: Database, before: RowImage, after: RowImage): void {
  // Views as well: what is wrong with several is told of the first of them, in the order in which they were made.
  const objects = database
    .prepare<[], { readonly type: string; readonly name: string; readonly sql: string }>(
      "SELECT type, name, sql FROM main.sqlite_schema WHERE type IN ('trigger', 'view') ORDER BY rowid",
    )
    .all();
  database.pragma("foreign_keys = OFF");
  database.exec("BEGIN");
  for (const type of ["trigger", "view"]) for (const one of objects) if (one.type === type) database.exec(`DROP ${type} ${one.name}`);
  for (const [name, { columns, rows }] of after) {
    const old = before.get(name)?.rows;
    const gone = [...(old ?? [])].filter(([key, row]) => !isSame(row, rows.get(key)));
    const added = [...rows].filter(([key, row]) => !isSame(row, old?.get(key)));
    if (gone.length + added.length === 0) continue;
    const now = database.prepare<[string], string>("SELECT name FROM pragma_table_info(?)").pluck().all(name);
    const kept = columns.flatMap((column, place) => (column === "rowid" || now.includes(column) ? [place] : []));
    const nameOf = (place: number): string => columns[place] ?? "";
    const written = name === keyless ? kept.slice(1) : kept;
    const where = kept.map((place) => `${nameOf(place)} IS ?`).join(" AND ");
    for (const [, row] of gone) database.prepare(`DELETE FROM ${name} WHERE ${where}`).run(...kept.map((place) => row[place]));
    const insert = database.prepare(`INSERT INTO ${name}(${written.map(nameOf).join(", ")}) VALUES (${written.map(() => "?").join(", ")})`);
    for (const [, row] of added) insert.run(...written.map((place) => row[place]));
  }
  for (const { sql } of objects) database.exec(sql);
  database.exec("COMMIT");
  database.pragma("foreign_keys = ON");
}
