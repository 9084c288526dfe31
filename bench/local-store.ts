/**
 * Costs of the local store beside bare better-sqlite3, on a database file as in production: point SELECT, one-row INSERT and UPDATE through run(), and
 * apply in batches. `npm run build && node dist/bench/local-store.js`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import type { EngineId, ProposalSeq, Seq, SpaceId } from "../src/base/ids.js";
import type { SqlValue } from "../src/base/values.js";
import { encodeProposal } from "../src/messages/wire/entry.js";
import type { LocalStore, RunResult, Step } from "../src/sql/local-store.js";
import { openSqliteLocalStore } from "../src/sql/sqlite-local-store.js";

const settings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };
let seq = 1;

function stepOf(sql: string, positional: readonly SqlValue[]): Step {
  return { sql, args: { positional, named: [] }, wantRows: true, condition: null };
}

function run(store: LocalStore, sql: string, args: readonly SqlValue[] = []): RunResult {
  return store.run({ steps: [stepOf(sql, args)], firstStep: 0, earlier: [], settings, seed: 1, transaction: null }, {});
}

function entryOf(body: Uint8Array): { seq: Seq; bytes: Uint8Array } {
  seq++;
  const header = {
    engine: 2 as EngineId,
    proposalSeq: seq as ProposalSeq,
    transactions: [],
    snapshot: (seq - 1) as Seq,
    fences: [],
    schemaVersions: [],
  };
  return { seq: seq as Seq, bytes: encodeProposal(header, [body]) };
}

function commit(store: LocalStore, result: RunResult): void {
  if (result.kind !== "commit")
    throw new Error(`nothing to commit: ${JSON.stringify(result, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`);
  const entry = entryOf(result.changes.body);
  store.apply([entry], entry.seq);
}

function measure(name: string, count: number, work: (index: number) => void): void {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    const start = performance.now();
    for (let index = 0; index < count; index++) work(index);
    best = Math.min(best, ((performance.now() - start) * 1000) / count);
  }
  console.log(`${name.padEnd(48)} ${best.toFixed(2)} µs`);
}

function main(): void {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-bench-"));
  try {
    const bare = new Sqlite(join(directory, "bare.db"));
    bare.defaultSafeIntegers(true);
    bare.pragma("journal_mode = WAL");
    bare.pragma("synchronous = OFF");
    bare.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v INT)");
    const insert = bare.prepare("INSERT INTO t VALUES (?, ?, ?)");
    for (let id = 1n; id <= 10_000n; id++) insert.run(id, `name ${id}`, id);
    const point = bare.prepare("SELECT * FROM t WHERE id = ?").raw();

    const store = openSqliteLocalStore(directory);
    store.reset(1 as Seq, []);
    store.become(2 as EngineId, 2 as never);
    commit(store, run(store, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v INT)"));
    const first = run(store, "INSERT INTO t(name) VALUES ('x')");
    if (first.kind !== "ids") throw new Error("no ids were asked for");
    store.grantIds(first.table as SpaceId, 1n, 10_000_000n);
    const many = Array.from({ length: 10_000 }, (_, index) => `('name ${index + 1}', ${index + 1})`).join(", ");
    commit(store, run(store, `INSERT INTO t(name, v) VALUES ${many}`));

    measure("bare: point SELECT", 50_000, (index) => point.all([BigInt((index % 10_000) + 1)]));
    measure("run: point SELECT", 50_000, (index) => run(store, "SELECT * FROM t WHERE id = ?", [BigInt((index % 10_000) + 1)]));
    measure("run: one-row INSERT, captured and rolled back", 20_000, (index) =>
      run(store, "INSERT INTO t(name, v) VALUES (?, ?)", [`name ${index}`, 5n]),
    );
    measure("run: one-row INSERT, id given", 20_000, (index) =>
      run(store, "INSERT INTO t(id, name, v) VALUES (?, ?, ?)", [9_000_000n, `name ${index}`, 5n]),
    );
    measure("run: one-row UPDATE", 20_000, (index) => run(store, "UPDATE t SET v = v + 1 WHERE id = ?", [BigInt((index % 10_000) + 1)]));

    const bodies: Uint8Array[] = [];
    for (let index = 0; index < 20_000; index++) {
      const result = run(store, "INSERT INTO t(id, name, v) VALUES (?, ?, ?)", [BigInt(100_000 + index), `name ${index}`, 5n]);
      if (result.kind === "commit") bodies.push(result.changes.body);
    }
    const entries = bodies.map(entryOf);
    const start = performance.now();
    for (let at = 0; at < entries.length; at += 64) {
      const batch = entries.slice(at, at + 64);
      store.apply(batch, batch.at(-1)?.seq ?? (seq as Seq));
    }
    console.log(`${"apply: one-row entries, in batches of 64".padEnd(48)} ${(((performance.now() - start) * 1000) / entries.length).toFixed(2)} µs`);
    store.close();
    bare.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

main();
