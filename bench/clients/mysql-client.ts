/** MariaDB Galera by mysql2: prepared statements, a connection for each lane, lanes spread over the nodes. */
import mysql from "mysql2/promise";
import { counterInserts, demandRow, insertSql, type LoadClient, readSql, rowName, updateSql } from "./load-client.js";

export async function openMysqlClient(ports: readonly number[]): Promise<LoadClient> {
  let opened = 0;
  const connect = (port: number): Promise<mysql.Connection> =>
    mysql.createConnection({ host: "127.0.0.1", port, user: "b", password: "b", database: "t" });
  return {
    async setUp() {
      const connection = await connect(ports[0] ?? 0);
      for (const table of ["inserted", "counter"]) {
        await connection.query(`create table ${table} (id bigint auto_increment primary key, name varchar(200) not null, amount bigint not null)`);
      }
      for (const sql of counterInserts()) await connection.query(sql);
      await connection.end();
    },
    async openLane() {
      const connection = await connect(ports[opened++ % ports.length] ?? 0);
      let amount = 0;
      return {
        async insert() {
          await connection.execute(insertSql, [rowName, ++amount]);
        },
        async update(id) {
          const [result] = await connection.execute<mysql.ResultSetHeader>(updateSql, [id]);
          demandRow(result.affectedRows, id);
        },
        async read(id) {
          const [rows] = await connection.execute<mysql.RowDataPacket[]>(readSql, [id]);
          demandRow(rows.length, id);
        },
        close: () => connection.end(),
      };
    },
    status: async () => null,
    originator: async () => null,
    close: async () => {},
  };
}
