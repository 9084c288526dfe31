/**
 * The local store's SQLite connections and the functions that rewritten SQL calls. One connection does tentative runs and apply; the
 * other is a rowless mirror that runs the user's DDL verbatim and answers introspection.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { assert } from "../base/errors.js";
import type { SpaceId } from "../base/ids.js";
import { type Random, seededRandom } from "../base/random.js";
import type { SqlValue } from "../base/values.js";
import { createTypedTable, typedTableName } from "./plan/typed-values.js";
import type { IdSource } from "./row-ids.js";
import { StatementFault } from "./statement-faults.js";
import type { StatementWatch } from "./statement-watch.js";

/** Pages that SQLite keeps in memory, in bytes, with much memory; beyond them it reads the file, which the system's cache holds. */
export const pageCacheBytesMax = 64 * 1024 * 1024;
const pageCacheBytesMin = 2 * 1024 * 1024;

/** What SQLite's pages in memory may take, of the memory for rows. */
const pageCacheShare = 1 / 4;

/** Row touches of one unit of work. More could not become one entry of the stream anyway; beyond it, SQLITE_TOOBIG. */
export const touchesMax = 2_000_000;

/** SQLite's own bound on the length of a value. */
const blobBytesMax = 1_000_000_000;

/** Its own tables, in the TEMP schema: a user's of that name could not be reached. */
export const ownTableNames: ReadonlySet<string> = new Set(["_atomcast_seed", typedTableName]);

/** What the functions of the connection act on, set by whoever runs a statement. */
export interface Hooks {
  /** Collects what the capture triggers call out; null: committed rows are applied, nothing is captured and users' triggers rest. */
  touches: SqlValue[][] | null;
  /** Gives the ids of new rows. Its `next` throws to end the statement. */
  ids: IdSource | null;
  /** Seeds random() and randomblob() of the statement that runs. */
  seed: number;
  /** Made when first needed. */
  random: Random | null;
  /** What changes() and total_changes() answer. */
  changes: bigint;
  readonly watch: StatementWatch;
}

export interface Connections {
  readonly main: Database;
  readonly mirror: Database;
  readonly hooks: Hooks;
}

/**
 * `directory`: of the file; null: in memory. `memoryBytes`: of the rows that it will hold.
 *
 * The file goes with its process and has one connection, so its journal need only undo: in memory, a rollback leaves the pages in the cache as they were,
 * and a commit writes each page once. The journal has each page that a transaction changes once at most: never more than the file, of which the budget for
 * rows is the bound, and entries' worth of pages but for a DDL that rewrites its table.
 */
export function openConnections(directory: string | null, memoryBytes: number, watch: StatementWatch): Connections {
  const file = directory === null ? ":memory:" : join(directory, "local.db");
  assert(directory === null || !existsSync(file), `the local store's directory ${directory} is in use`);
  const main = new Sqlite(file);
  main.defaultSafeIntegers(true);
  if (directory !== null) {
    main.pragma("journal_mode = MEMORY");
    main.pragma("synchronous = OFF");
    main.pragma("locking_mode = EXCLUSIVE");
  }
  const pageCacheBytes = Math.max(pageCacheBytesMin, Math.min(pageCacheBytesMax, memoryBytes * pageCacheShare));
  main.pragma(`cache_size = -${Math.floor(pageCacheBytes / 1024)}`);
  main.pragma("temp_store = MEMORY");
  main.pragma("recursive_triggers = OFF");
  main.exec("ATTACH ':memory:' AS system");
  main.exec("CREATE TEMP TABLE _atomcast_seed(id INTEGER PRIMARY KEY)");
  main.exec(createTypedTable);
  const mirror = new Sqlite(":memory:");
  mirror.defaultSafeIntegers(true);
  // It has no rows to check, and must take any order of CREATE and DROP.
  mirror.pragma("foreign_keys = OFF");
  const hooks: Hooks = {
    touches: null,
    ids: null,
    seed: 0,
    random: null,
    changes: 0n,
    watch,
  };
  registerFunctions(main, hooks);
  registerFunctions(mirror, hooks);
  return { main, mirror, hooks };
}

function registerFunctions(database: Database, hooks: Hooks): void {
  database.function("_touch", { varargs: true }, (...touch: SqlValue[]) => {
    if (hooks.touches === null) return null;
    if (hooks.touches.length >= touchesMax) throw new TouchesFullError("the transaction changes too many rows: divide it in several");
    hooks.touches.push(touch);
    return null;
  });
  database.function("_nid", { varargs: true }, (table: SqlValue, explicit: SqlValue = null) => {
    assert(hooks.ids !== null, "an id was asked for outside of a run");
    const space = Number(table) as SpaceId;
    if (explicit === null) return hooks.ids.next(space);
    const id = typeof explicit === "bigint" ? explicit : Number(explicit);
    if (typeof id === "bigint" || Number.isSafeInteger(id)) hooks.ids.name(space, BigInt(id));
    return explicit;
  });
  const tick = (): number => {
    const over = hooks.watch.look();
    if (over !== null) throw new StatementFault(over);
    return 1;
  };
  // What it is called with only says how often. As numbers, since BigInts take twice the time.
  database.function("_tick", { safeIntegers: false }, tick);
  database.function("_tick", { safeIntegers: false }, (_column: unknown) => tick());
  // Asked each time that a user's trigger fires: who fires triggers without end can be ended there.
  database.function("_user", () => (hooks.touches === null ? 0n : BigInt(tick())));
  const random = (): Random => {
    hooks.random ??= seededRandom(hooks.seed);
    return hooks.random;
  };
  database.function("random", () => BigInt.asIntN(64, (BigInt(random().integer(2 ** 32)) << 32n) | BigInt(random().integer(2 ** 32))));
  database.function("randomblob", (length: SqlValue) => {
    const wanted = Math.trunc(Number(typeof length === "bigint" || typeof length === "number" ? length : Number.parseFloat(String(length))));
    // As SQLite: less than one byte is one byte.
    const count = Number.isFinite(wanted) && wanted > 0 ? wanted : 1;
    if (count > blobBytesMax) throw new TouchesFullError("string or blob too big");
    const bytes = Buffer.allocUnsafe(count);
    for (let index = 0; index < count; index++) bytes[index] = random().integer(256);
    return bytes;
  });
  database.function("changes", () => hooks.changes);
  database.function("total_changes", () => hooks.changes);
}

/** A bound of the local store, told to the client as SQLITE_TOOBIG. */
export class TouchesFullError extends Error {
  override name = "TouchesFullError";
  readonly code = "SQLITE_TOOBIG";
}

/**
 * The foreign-key flag counts when a statement is prepared. SQLite sets it while it *prepares* the PRAGMA; as the PRAGMA is never stepped,
 * statements that were prepared before keep the flag that they have. Without effect inside a transaction, as in SQLite.
 */
export function foreignKeyFlag(database: Database): { set(enabled: boolean): void } {
  let current: boolean | null = null;
  return {
    set(enabled) {
      if (current === enabled) return;
      assert(!database.inTransaction, "the foreign-key flag cannot change inside a transaction");
      database.prepare(`PRAGMA foreign_keys = ${enabled ? "ON" : "OFF"}`);
      current = enabled;
    },
  };
}

/**
 * What is prepared meanwhile asks no CHECK: as with foreign keys, SQLite sets the flag while it prepares the PRAGMA. A CHECK may call random(), or what is of
 * a session: rows that have passed it once need not pass it elsewhere.
 */
export function withoutChecks<Made>(database: Database, make: () => Made): Made {
  database.prepare("PRAGMA ignore_check_constraints = ON");
  try {
    return make();
  } finally {
    database.prepare("PRAGMA ignore_check_constraints = OFF");
  }
}

/** Prepared statements by text, for one schema: SQLite prepares those of another schema again, under whichever flag is set then. */
export interface StatementCache {
  get(sql: string): Statement<unknown[], SqlValue[]>;
  clear(): void;
}

/** Bounds the number of prepared statements; all are forgotten at it, since a schema's own are few. */
export const preparedMax = 5000;

export function statementCache(database: Database, isChecked = true): StatementCache {
  const statements = new Map<string, Statement<unknown[], SqlValue[]>>();
  const prepare = (sql: string): Statement<unknown[], SqlValue[]> => database.prepare<unknown[], SqlValue[]>(sql);
  return {
    get(sql) {
      const known = statements.get(sql);
      if (known !== undefined) return known;
      const statement = isChecked ? prepare(sql) : withoutChecks(database, () => prepare(sql));
      if (statement.reader) statement.raw();
      if (statements.size >= preparedMax) statements.clear();
      statements.set(sql, statement);
      return statement;
    },
    clear: () => statements.clear(),
  };
}
