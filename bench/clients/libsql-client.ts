/** The unmodified @libsql/client, one for each lane. */
import { createClient } from "@libsql/client";
import { openHranaClient } from "./hrana-client.js";
import { demandRow, insertSql, type LoadClient, readSql, rowName, updateSql } from "./load-client.js";

export async function openLibsqlClient(url: string): Promise<LoadClient> {
  const control = await openHranaClient(url);
  return {
    ...control,
    async openLane() {
      const client = createClient({ url });
      let amount = 0;
      return {
        async insert() {
          await client.execute({ sql: insertSql, args: [rowName, ++amount] });
        },
        async update(id) {
          const { rowsAffected } = await client.execute({ sql: updateSql, args: [id] });
          demandRow(rowsAffected, id);
        },
        async read(id) {
          const { rows } = await client.execute({ sql: readSql, args: [id] });
          demandRow(rows.length, id);
        },
        close: async () => client.close(),
      };
    },
  };
}
