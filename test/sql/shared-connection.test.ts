/** One connection serves all clients of an engine: what SQLite keeps by connection belongs to each of them, and who waits in a transaction holds nobody up. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import type { SqlValue } from "../../src/base/values.js";
import { historyBytesMax } from "../../src/sql/row-history.js";
import { type Client, Cluster } from "./store-harness.js";

const clusters: Cluster[] = [];
const directories: string[] = [];
afterEach(() => {
  for (const c of clusters.splice(0)) c.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});
function start(count: number, directory: string | null = null, memoryBytes?: number): Cluster {
  const c = new Cluster(count, [directory], undefined, memoryBytes);
  clusters.push(c);
  return c;
}

function last(c: Cluster, client: Client, ...sqls: readonly string[]): readonly (readonly SqlValue[])[] {
  const outcome = c.in(client, ...sqls).at(-1);
  if (outcome?.kind !== "ok") throw new Error(JSON.stringify(outcome));
  return outcome.result.rows;
}

test("last_insert_rowid() and changes() are each client's own, in transactions that stay open beside each other and outside", () => {
  const c = start(2);
  c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
  c.sql(0, "CREATE TABLE l(id INTEGER PRIMARY KEY, t)");
  c.sql(0, "CREATE TRIGGER g AFTER INSERT ON t WHEN new.v = 'log' BEGIN INSERT INTO l VALUES (new.id + 1000, last_insert_rowid()); END");
  const ask = "SELECT last_insert_rowid(), changes()";
  const [ann, bob, cyd] = [c.client(0), c.client(0), c.client(0)];
  expect(last(c, ann, "BEGIN", "INSERT INTO t VALUES (10, 'a'), (11, 'a')", ask)).toEqual([[11n, 2n]]);
  expect(last(c, bob, "BEGIN", ask)).toEqual([[0n, 0n]]);
  expect(last(c, bob, "INSERT INTO t VALUES (20, 'b')", ask)).toEqual([[20n, 1n]]);
  expect(last(c, cyd, "INSERT INTO t VALUES (30, 'c'), (31, 'c'), (32, 'c')", ask)).toEqual([[32n, 3n]]);
  expect(last(c, ann, ask)).toEqual([[11n, 2n]]);
  // What another engine commits, which is applied on the same connection, is nobody's here.
  c.sql(1, "INSERT INTO t VALUES (90, 'far')");
  expect(last(c, ann, "UPDATE t SET v = 'x' WHERE id >= 10 AND id < 20", ask)).toEqual([[11n, 2n]]);
  expect(last(c, bob, ask)).toEqual([[20n, 1n]]);
  // A trigger's insert does not count behind the statement, and does within it.
  expect(last(c, bob, "INSERT INTO t VALUES (21, 'log')", ask)).toEqual([[21n, 1n]]);
  expect(last(c, bob, "SELECT t FROM l WHERE id = 1021")).toEqual([[21n]]);
  expect(last(c, cyd, "DELETE FROM t WHERE id = 30", ask)).toEqual([[32n, 1n]]);
  expect(last(c, ann, "ROLLBACK", ask)).toEqual([[11n, 2n]]);
  expect(last(c, bob, "COMMIT", ask)).toEqual([[21n, 1n]]);
  expect(last(c, cyd, ask)).toEqual([[32n, 1n]]);
  expect(c.rows(1, "SELECT id FROM t ORDER BY id")).toEqual([[20n], [21n], [31n], [32n], [90n]]);
});

test("under load a reader that waits goes on seeing its snapshot; neither file nor what is kept for it grows beyond its bound", () => {
  const directory = mkdtempSync(join(tmpdir(), "atomcast-test-reader-"));
  directories.push(directory);
  const c = start(2, directory, 1024 * 1024);
  const { store } = c.engine(0);
  const rowCount = 64;
  const body = (round: number): string => String(round).padEnd(16_000, "x");
  c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, round INT, body TEXT)");
  c.sql(0, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rowCount}) INSERT INTO t SELECT i, 0, '${body(0)}' FROM n`);
  c.sql(1, "SELECT count(*) FROM t");
  const [early, late] = [c.client(0), c.client(0)];
  const state = "SELECT count(*), sum(round), sum(length(body)) FROM t";
  const atFirst = last(c, early, "BEGIN", state);
  let atHalf: ReturnType<typeof last> = [];
  const bytesOfRound = rowCount * body(0).length;
  const rounds = Math.ceil(historyBytesMax / bytesOfRound) - 2;
  const load = (round: number): void => {
    // By turns its own engine's clients write, and another's: these are applied.
    c.sql(round % 2, "UPDATE t SET round = ?, body = ?", [BigInt(round), body(round)]);
  };
  for (let round = 1; round <= rounds; round++) {
    load(round);
    if (round === 20) atHalf = last(c, late, "BEGIN", state);
    if (round % 12 === 0) expect(last(c, early, state), `round ${round}`).toEqual(atFirst);
  }
  expect(last(c, early, state)).toEqual(atFirst);
  expect(last(c, late, state)).toEqual(atHalf);
  expect(atHalf).not.toEqual(atFirst);
  expect(store.usage().fileBytes).toBeLessThan(4 * bytesOfRound);
  // Beyond the bound whoever waits is told to begin again; who writes, and who begins now, is not concerned.
  for (let round = rounds + 1; round <= rounds + 4; round++) load(round);
  for (const reader of [early, late]) {
    expect(c.in(reader, state)).toMatchObject([{ kind: "error", fault: { code: "SQLITE_BUSY_SNAPSHOT" } }]);
    expect(reader.isOpen).toBe(false);
  }
  expect(last(c, early, "BEGIN", "SELECT DISTINCT round FROM t")).toEqual([[BigInt(rounds + 4)]]);
  const space = c.schema.get("t")?.object.space as SpaceId;
  expect(store.tableHash(space)).toBe(c.engine(1).store.tableHash(space));
}, 120_000);
