/**
 * Caches that begin with nothing, on a large table: how soon each kind of first query is answered after the Cache says that it is ready, how many atoms
 * it pulls, and how fast the whole table comes. Each query has a Cache of its own; Hrana.
 */
import type { Status } from "../src/engines/database.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openPoster, type Poster } from "./clients/http-post.js";
import { codeOf, urlOf, type WideTable, withWideTable } from "./wide-table.js";

export interface FirstQuery {
  readonly query: string;
  /** Of each run, from the ready line to the answer. */
  readonly ms: readonly number[];
  /** Of the run that pulled most. */
  readonly pulledAtoms: number;
  readonly pulledBytes: number;
}

export interface PullRun {
  readonly rows: number;
  readonly tableBytes: number;
  readonly atoms: number;
  readonly queries: readonly FirstQuery[];
  /** All of the table, one run each. */
  readonly wholeMs: readonly number[];
}

interface Query {
  readonly name: string;
  readonly sql: string;
  /** Drawn anew for each run. */
  args(rows: number): readonly unknown[];
  /** Rows that must come. */
  readonly expected: number;
}

const outerRows = 10;
const anyId = (rows: number): number => 1 + Math.floor(Math.random() * rows);

const queries: readonly Query[] = [
  { name: "a row by primary key", sql: "select n from wide where id = ?", args: (rows) => [integer(anyId(rows))], expected: 1 },
  { name: "a row by secondary index", sql: "select n from wide where code = ?", args: (rows) => [integer(codeOf(anyId(rows)))], expected: 1 },
  {
    name: `a join of ${outerRows} outer rows`,
    sql: "select few.id, wide.n from few join wide on wide.id = few.wide_id",
    args: () => [],
    expected: outerRows,
  },
];

export async function measurePulls(rows: number, runs: number, note: (text: string) => void): Promise<PullRun> {
  const few = Array.from({ length: outerRows }, (_, index) => `(${index + 1},${1 + Math.floor((index * rows) / outerRows)})`);
  const filling = {
    rows,
    before: ["create index wide_code on wide (code)"],
    after: ["create table few (id integer primary key, wide_id integer not null)", `insert into few values ${few.join(",")}`],
  };
  return withWideTable("pulls", filling, note, async (table) => {
    const results: FirstQuery[] = [];
    for (const query of queries) {
      note(`pulls: ${query.name}`);
      results.push(await measureQuery(table, query, rows, runs));
    }
    note("pulls: all of the table");
    const wholeMs: number[] = [];
    for (let run = 0; run < runs; run++) wholeMs.push(await measureWhole(table, rows));
    return { rows, tableBytes: table.tableBytes, atoms: table.atoms, queries: results, wholeMs };
  });
}

/** A row by its primary key, drawn at random for each run. */
export function measurePointQuery(table: WideTable, rows: number, runs: number, cacheArgs: readonly string[]): Promise<FirstQuery> {
  return measureQuery(table, queries[0] as Query, rows, runs, cacheArgs);
}

async function measureQuery(table: WideTable, query: Query, rows: number, runs: number, cacheArgs: readonly string[] = []): Promise<FirstQuery> {
  const ms: number[] = [];
  let pulledAtoms = 0;
  let pulledBytes = 0;
  for (let run = 0; run < runs; run++) {
    const cache = await table.startCache(...cacheArgs);
    const readyMs = performance.now();
    const poster = openPoster(urlOf(cache));
    const { result } = await execute(poster, query.sql, query.args(rows));
    ms.push(performance.now() - readyMs);
    if (result.rows.length !== query.expected) throw new Error(`${query.name}: ${result.rows.length} rows, expected ${query.expected}`);
    const pulled = await pulledBy(poster);
    pulledAtoms = Math.max(pulledAtoms, pulled.pulledAtoms);
    pulledBytes = Math.max(pulledBytes, pulled.pulledBytes);
    poster.close();
    await cache.end();
  }
  return { query: query.name, ms, pulledAtoms, pulledBytes };
}

async function measureWhole(table: WideTable, rows: number): Promise<number> {
  const cache = await table.startCache();
  const beganMs = performance.now();
  const poster = openPoster(urlOf(cache));
  const { result } = await execute(poster, "select count(*) from wide where length(body) > 0");
  const ms = performance.now() - beganMs;
  if (Number(result.rows[0]?.[0]?.value) !== rows) throw new Error("the pulled table lacks rows");
  poster.close();
  await cache.end();
  return ms;
}

async function pulledBy(poster: Poster): Promise<{ pulledAtoms: number; pulledBytes: number }> {
  const { memory } = JSON.parse(await poster.get("/v1/status")) as Status;
  if (memory === null) throw new Error("the Cache tells nothing of what it has pulled");
  return memory;
}
