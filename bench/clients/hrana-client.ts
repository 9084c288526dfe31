/** Hrana over HTTP with nothing around it: one keep-alive connection per lane, one request per statement. */
import type { Status } from "../../src/engines/database.js";
import { openPoster, type Poster } from "./http-post.js";
import { counterInserts, demandRow, insertSql, type Lane, type LoadClient, readSql, rowName, updateSql } from "./load-client.js";

interface Pipeline {
  readonly results: readonly { readonly type: string; readonly error?: { readonly message: string }; readonly response?: unknown }[];
}

interface Executed {
  readonly result: { readonly rows: readonly (readonly { readonly type: string; readonly value?: string }[])[]; readonly affected_row_count: number };
}

export async function openHranaClient(url: string): Promise<LoadClient> {
  const control = openPoster(url);
  return {
    async setUp() {
      for (const table of ["inserted", "counter"])
        await execute(control, `create table ${table} (id integer primary key, name text not null, amount integer not null)`);
      for (const sql of counterInserts()) await execute(control, sql);
    },
    openLane: async () => openLane(url),
    status: async () => JSON.parse(await control.get("/v1/status")) as Status,
    async originator() {
      const sql = "select originator from system.atoms where table_name = 'counter' and kind = 'rows' limit 1";
      const { result } = await execute(control, sql);
      const value = result.rows[0]?.[0]?.value;
      return value === undefined ? null : Number(value);
    },
    close: async () => control.close(),
  };
}

function openLane(url: string): Lane {
  const poster = openPoster(url);
  let amount = 0;
  return {
    async insert() {
      await execute(poster, insertSql, [{ type: "text", value: rowName }, integer(++amount)]);
    },
    async update(id) {
      const { result } = await execute(poster, updateSql, [integer(id)]);
      demandRow(result.affected_row_count, id);
    },
    async read(id) {
      const { result } = await execute(poster, readSql, [integer(id)]);
      demandRow(result.rows.length, id);
    },
    close: async () => poster.close(),
  };
}

export function integer(value: number): { type: string; value: string } {
  return { type: "integer", value: String(value) };
}

export async function execute(poster: Poster, sql: string, args: readonly unknown[] = []): Promise<Executed> {
  const body = JSON.stringify({ baton: null, requests: [{ type: "execute", stmt: { sql, args, want_rows: true } }, { type: "close" }] });
  const { results } = JSON.parse(await poster.post("/v3/pipeline", body)) as Pipeline;
  const [first] = results;
  if (first?.type !== "ok") throw new Error(first?.error?.message ?? "an answer without a result");
  return first.response as Executed;
}
