/** A Cache engine in this process, as an application embeds it; lanes are its sessions. */
import { pino } from "pino";
import { CacheEngine } from "../../src/engines/cache-engine.js";
import { defaultMemoryBytes } from "../../src/engines/machine-memory.js";
import { nodeEnvironment } from "../../src/engines/node-environment.js";
import { openWorkerLocalPort } from "../../src/engines/worker-local-port.js";
import { groupOf } from "../../src/messages/network/group.js";
import { listKeyFiles, loadKeyFile } from "../../src/storage/key-file.js";
import { counterInserts, demandRow, insertSql, type Lane, type LoadClient, readSql, rowName, updateSql } from "./load-client.js";

export async function openEmbeddedClient(database: string, memoryBytes = defaultMemoryBytes()): Promise<LoadClient> {
  const [found] = await listKeyFiles(database);
  if (found === undefined) throw new Error(`no key of the database ${database}`);
  const key = await loadKeyFile(found.path);
  const engine = new CacheEngine({
    settings: [],
    environment: nodeEnvironment({
      clusterId: key.clusterId,
      secret: key.secret,
      interfaceAddress: "127.0.0.1",
      ...groupOf(database),
      logger: pino({ level: process.env.BENCH_LOG ?? "error" }, pino.destination(2)),
    }),
    database,
    clusterId: key.clusterId,
    memoryBytes,
    openLocal: (handlers) => openWorkerLocalPort(handlers, { memoryBytes, statementTimeoutMs: 0 }),
    onFailure(error) {
      process.stderr.write(`bench: the embedded Cache has failed: ${error.stack}\n`);
      process.exit(1);
    },
  });
  await engine.start();
  await engine.whenMember();
  return {
    async setUp() {
      const session = engine.openSession();
      const run = (sql: string): Promise<unknown> => session.execute({ sql, args: { positional: [], named: [] }, wantRows: false });
      for (const table of ["inserted", "counter"])
        await run(`create table ${table} (id integer primary key, name text not null, amount integer not null)`);
      for (const sql of counterInserts()) await run(sql);
      await session.close();
    },
    openLane: async () => openLane(engine),
    status: () => engine.status(),
    async originator() {
      const session = engine.openSession();
      const sql = "select originator from system.atoms where table_name = 'counter' and kind = 'rows' limit 1";
      const { rows } = await session.execute({ sql, args: { positional: [], named: [] }, wantRows: true });
      await session.close();
      const engineId = rows[0]?.[0];
      return typeof engineId === "bigint" ? Number(engineId) : null;
    },
    close: () => engine.stop(),
  };
}

function openLane(engine: CacheEngine): Lane {
  const session = engine.openSession();
  let amount = 0n;
  return {
    async insert() {
      await session.execute({ sql: insertSql, args: { positional: [rowName, ++amount], named: [] }, wantRows: false });
    },
    async update(id) {
      const { affectedRowCount } = await session.execute({ sql: updateSql, args: { positional: [BigInt(id)], named: [] }, wantRows: false });
      demandRow(affectedRowCount, id);
    },
    async read(id) {
      const { rows } = await session.execute({ sql: readSql, args: { positional: [BigInt(id)], named: [] }, wantRows: true });
      demandRow(rows.length, id);
    },
    close: () => session.close(),
  };
}
