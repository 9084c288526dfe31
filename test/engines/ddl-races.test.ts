import { expect, test } from "vitest";
import { PermissionTable } from "../../src/atoms/permission-table.js";
import { RecentKeys } from "../../src/atoms/recent-keys.js";
import { type EngineId, type ProposalSeq, type Seq, schemaSpace } from "../../src/base/ids.js";
import { encodeProposal } from "../../src/messages/wire/entry.js";
import type { Changes, LocalStore } from "../../src/sql/local-store.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";

const settings = { foreignKeys: true, deferForeignKeys: false, lastInsertRowid: 0n, changes: 0n };

function store(engine: number): LocalStore {
  const made = openSqliteLocalStore(null);
  made.reset(0 as Seq, []);
  made.become(engine as EngineId, 2 as never);
  return made;
}

function changesOf(local: LocalStore, sql: string): Changes {
  const steps = [{ sql, args: { positional: [], named: [] }, wantRows: false, condition: null }];
  const result = local.run({ steps, firstStep: 0, earlier: [], settings, seed: 1, transaction: null }, {});
  if (result.kind !== "commit") throw new Error(`${sql}: ${JSON.stringify(result, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`);
  return result.changes;
}

function commit(changes: Changes, engine: number, seq: number, ...stores: LocalStore[]): void {
  const header = {
    engine: engine as EngineId,
    proposalSeq: seq as ProposalSeq,
    transactions: [1],
    snapshot: 0 as Seq,
    fences: [],
    schemaVersions: [],
  };
  const bytes = encodeProposal(header, [changes.body]);
  for (const one of stores) one.apply([{ seq: seq as Seq, bytes }], seq as Seq);
}

/** As the schema catalog's originator decides on it, after entry 2 has changed another name. */
function isGranted(changes: Changes, snapshot: number): boolean {
  const recent = new RecentKeys(0 as Seq);
  recent.note(2 as Seq, schemaSpace, "v", "write");
  const items = changes.permissions.filter(({ space }) => space === schemaSpace).map(({ space, key, kind }) => ({ space, key, use: kind }));
  const [engine, age] = [1 as EngineId, { beginMs: 0, engine: 1 as EngineId, counter: 1 }];
  const request = { engine, transaction: 1, attempt: 1, age, snapshot: snapshot as Seq, items, holdsNothing: true };
  const wholeSpaces = changes.wholeTables.filter((space) => space === schemaSpace);
  return new PermissionTable(recent).request({ ...request, wholeSpaces })?.kind === "granted";
}

// SQLite looks at every view and trigger when it renames or drops a column, and rewrites those that name it.
test.each(["ALTER TABLE t RENAME COLUMN b TO c", "ALTER TABLE t RENAME TO u", "ALTER TABLE t DROP COLUMN b"])(
  "%s meets a view made at the same time: it runs again, for it could not be applied, or would leave the view as it was",
  (sql) => {
    const left = store(1);
    commit(changesOf(left, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)"), 1, 1, left);
    const altered = changesOf(left, sql);
    expect(isGranted(altered, 1)).toBe(false);
    expect(isGranted(altered, 2)).toBe(true);
    left.close();
  },
);

test("what that race would do: the entry does not fit any Cache", () => {
  const local = store(1);
  commit(changesOf(local, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)"), 1, 1, local);
  const altered = changesOf(local, "ALTER TABLE t RENAME COLUMN b TO c");
  commit(changesOf(local, "CREATE VIEW v AS SELECT b FROM nothing_there"), 1, 2, local);
  expect(() => commit(altered, 1, 3, local)).toThrow(/do not fit/);
  local.close();
});

test.each(["CREATE TRIGGER r INSTEAD OF INSERT ON v BEGIN SELECT 1; END", "DROP VIEW v"])(
  "%s meets what is done to the view at the same time",
  (sql) => {
    const local = store(1);
    commit(changesOf(local, "CREATE VIEW v AS SELECT 1 AS a"), 1, 1, local);
    expect(isGranted(changesOf(local, sql), 1)).toBe(false);
    local.close();
  },
);

test("tables are made side by side", () => {
  const local = store(1);
  expect(isGranted(changesOf(local, "CREATE TABLE t(a)"), 1)).toBe(true);
  local.close();
});
