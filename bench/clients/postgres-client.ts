/** PostgreSQL by pg: named prepared statements, a connection for each lane, all to the primary. */
import pg from "pg";
import { counterInserts, demandRow, insertSql, type LoadClient, readSql, rowName, updateSql } from "./load-client.js";

/** `?` as `$1`, `$2` … */
function numbered(sql: string): string {
  let count = 0;
  return sql.replaceAll("?", () => `$${++count}`);
}

export async function openPostgresClient(port: number): Promise<LoadClient> {
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({ host: "127.0.0.1", port, user: "postgres", database: "postgres" });
    await client.connect();
    return client;
  };
  return {
    async setUp() {
      const client = await connect();
      for (const table of ["inserted", "counter"])
        await client.query(`create table ${table} (id bigserial primary key, name text not null, amount bigint not null)`);
      for (const sql of counterInserts()) await client.query(sql);
      await client.end();
    },
    async openLane() {
      const client = await connect();
      const insert = { name: "insert", text: numbered(insertSql) };
      const update = { name: "update", text: numbered(updateSql) };
      const read = { name: "read", text: numbered(readSql) };
      let amount = 0;
      return {
        async insert() {
          await client.query({ ...insert, values: [rowName, ++amount] });
        },
        async update(id) {
          const { rowCount } = await client.query({ ...update, values: [id] });
          demandRow(rowCount ?? 0, id);
        },
        async read(id) {
          const { rows } = await client.query({ ...read, values: [id] });
          demandRow(rows.length, id);
        },
        close: () => client.end(),
      };
    },
    status: async () => null,
    originator: async () => null,
    close: async () => {},
  };
}
