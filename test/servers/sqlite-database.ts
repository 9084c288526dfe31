/** The Database contract over plain SQLite files: one connection per session. What servers and tools are tested against. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { DatabaseError } from "../../src/base/errors.js";
import type { SqlValue } from "../../src/base/values.js";
import type { Database, Session, Status } from "../../src/engines/database.js";
import type { Condition, Description, ResultSet, SqlFault, Statement, Step, StepOutcome } from "../../src/sql/local-store.js";

export interface SqliteDatabase extends Database {
  readonly file: string;
  readonly openSessionCount: number;
  /** Called before each batch, script or description; may wait, or throw what an engine would. */
  beforeWork: (steps: readonly Step[]) => Promise<void>;
  /** Called when a batch has run, before its outcomes are answered; what it throws is what the client hears, though everything took effect. */
  afterWork: (steps: readonly Step[]) => Promise<void>;
  remove(): void;
}

export function openSqliteDatabase(): SqliteDatabase {
  const folder = mkdtempSync(join(tmpdir(), "atomcast-test-"));
  const file = join(folder, "database.sqlite");
  const keeper = new Sqlite(file);
  keeper.pragma("journal_mode = WAL");
  keeper.pragma("synchronous = OFF");
  let openSessionCount = 0;
  const database: SqliteDatabase = {
    file,
    http: null,
    get openSessionCount() {
      return openSessionCount;
    },
    beforeWork: async () => {},
    afterWork: async () => {},
    openSession() {
      openSessionCount++;
      return openSession(file, database, () => {
        openSessionCount--;
      });
    },
    status: async () => status,
    removeVoter: async (nodeId) => (nodeId === removableNode ? "" : "that Archive is not a voter"),
    remove() {
      keeper.close();
      rmSync(folder, { recursive: true });
    },
  };
  return database;
}

/** The one node id that `removeVoter` accepts. */
export const removableNode = 42;

const status: Status = {
  database: "test",
  clusterId: "0123456789abcdef",
  engines: [],
  voters: [],
  commitSeq: 7,
  appliedSeq: 7,
  atomCount: 1,
  atomsHeldHere: 1,
  atomsOriginatedHere: 1,
  memory: null,
  collector: { mark: 0, historyMs: 0, heldBackBy: null, archives: [] },
  atomChanges: { handoff: 0, demote: 0, merge: 0 },
};

function openSession(file: string, database: SqliteDatabase, onClose: () => void): Session {
  // Another session of this process can never be waited for: waiting blocks the only thread.
  const connection = new Sqlite(file, { timeout: 0 });
  connection.pragma("synchronous = OFF");
  connection.defaultSafeIntegers(true);
  let isCancelled = false;
  const batch = async (steps: readonly Step[]): Promise<readonly StepOutcome[]> => {
    if (isCancelled) throw new DatabaseError("ATOMCAST_CANCELLED", "the request was given up by its client");
    await database.beforeWork(steps);
    const outcomes: StepOutcome[] = [];
    for (const step of steps) {
      if (step.condition !== null && !holds(step.condition, outcomes, !connection.inTransaction)) outcomes.push({ kind: "skipped" });
      else outcomes.push(runStatement(connection, step));
    }
    await database.afterWork(steps);
    return outcomes;
  };
  return {
    get autocommit() {
      return !connection.inTransaction;
    },
    batch,
    async execute(statement) {
      const [outcome] = await batch([{ ...statement, condition: null }]);
      if (outcome?.kind === "ok") return outcome.result;
      throw outcome?.kind === "error" ? new DatabaseError(outcome.fault.code, outcome.fault.message) : new Error("skipped");
    },
    async sequence(script) {
      await database.beforeWork([]);
      try {
        connection.exec(script);
        return null;
      } catch (error) {
        return faultOf(error);
      }
    },
    async describe(sql): Promise<Description | SqlFault> {
      await database.beforeWork([]);
      try {
        const statement = connection.prepare(sql);
        return {
          parameters: (sql.match(/\?\d*|[:@$]\w+/g) ?? []).map((name) => ({ name: name.startsWith("?") ? null : name })),
          columns: statement.reader ? statement.columns().map((column) => ({ name: column.name, declaredType: column.type })) : [],
          isExplain: /^\s*explain/i.test(sql),
          isReadonly: statement.readonly,
        };
      } catch (error) {
        return faultOf(error);
      }
    },
    cancel() {
      isCancelled = true;
    },
    async close() {
      connection.close();
      onClose();
    },
  };
}

function holds(condition: Condition, outcomes: readonly StepOutcome[], isAutocommit: boolean): boolean {
  switch (condition.kind) {
    case "ok":
    case "error":
      return outcomes[condition.step]?.kind === condition.kind;
    case "not":
      return !holds(condition.condition, outcomes, isAutocommit);
    case "and":
      return condition.conditions.every((each) => holds(each, outcomes, isAutocommit));
    case "or":
      return condition.conditions.some((each) => holds(each, outcomes, isAutocommit));
    case "isAutocommit":
      return isAutocommit;
  }
}

function runStatement(connection: Sqlite.Database, request: Statement): StepOutcome {
  try {
    return { kind: "ok", result: resultOf(connection, request) };
  } catch (error) {
    return { kind: "error", fault: faultOf(error) };
  }
}

function resultOf(connection: Sqlite.Database, request: Statement): ResultSet {
  // libSQL's spelling, which SQLite has not; that such a transaction cannot write is for an engine's own tests.
  const statement = connection.prepare(/^begin transaction readonly$/i.test(request.sql) ? "BEGIN" : request.sql);
  const named: Record<string, SqlValue> = Object.fromEntries(request.args.named.map((arg) => [arg.name.replace(/^[:@$]/, ""), arg.value]));
  // better-sqlite3 knows ?1 as a parameter named "1".
  const isNumbered = /\?\d/.test(request.sql);
  if (isNumbered) for (const [index, value] of request.args.positional.entries()) named[String(index + 1)] = value;
  const args: unknown[] =
    isNumbered || request.args.named.length > 0 ? [...(isNumbered ? [] : request.args.positional), named] : [...request.args.positional];
  const isInsert = /^\s*(with\b.*\binsert|insert|replace)\b/is.test(request.sql);
  if (!statement.reader) {
    const info = statement.run(...args);
    return {
      columns: [],
      rows: [],
      affectedRowCount: info.changes,
      lastInsertRowid: isInsert && info.changes > 0 ? BigInt(info.lastInsertRowid) : null,
    };
  }
  const columns = statement.columns().map((column) => ({ name: column.name, declaredType: column.type }));
  const rows = statement.raw(true).all(...args) as SqlValue[][];
  const affectedRowCount = statement.readonly ? 0 : Number(connection.prepare("select changes()").pluck().get());
  const lastInsertRowid = isInsert && affectedRowCount > 0 ? (connection.prepare("select last_insert_rowid()").pluck().get() as bigint) : null;
  return { columns, rows: request.wantRows ? rows : [], affectedRowCount, lastInsertRowid };
}

function faultOf(error: unknown): SqlFault {
  if (error instanceof Sqlite.SqliteError) return { code: error.code, message: error.message, offset: -1 };
  if (!(error instanceof Error)) throw error;
  const code = error.message.includes("more than one statement")
    ? "SQL_MANY_STATEMENTS"
    : error.message.includes("contains no statements")
      ? "SQL_NO_STATEMENT"
      : "SQL_INPUT_ERROR";
  return { code, message: error.message, offset: -1 };
}
