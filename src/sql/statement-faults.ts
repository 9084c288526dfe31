/** What goes wrong with a statement, as SqlFault; and the values that SQL may be given. */
import Sqlite from "better-sqlite3";
import { BugError } from "../base/errors.js";
import type { SqlValue } from "../base/values.js";
import type { SqlFault } from "./local-store.js";

export function fault(code: string, message: string, offset = -1): SqlFault {
  return { code, message, offset };
}

/**
 * SQLite's errors, and those of the bounds kept here. Anything else is a bug, and is thrown on: an engine that finds one stops.
 */
export function faultOf(error: unknown): SqlFault {
  if (error instanceof Sqlite.SqliteError) return fault(error.code, error.message);
  if (error instanceof StatementFault) return error.fault;
  if (error instanceof Error && "code" in error && error.code === "SQLITE_TOOBIG") return fault("SQLITE_TOOBIG", error.message);
  if (error instanceof RangeError) return fault("SQLITE_TOOBIG", `a result is too big: ${error.message}`);
  if (error instanceof BugError) throw error;
  throw new BugError(`SQLite failed in an unknown way: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}

/** Ends the statement that runs, with this fault as its outcome. */
export class StatementFault extends Error {
  override name = "StatementFault";

  constructor(readonly fault: SqlFault) {
    super(fault.message);
  }
}

/** A conflict within a transaction that is kept open: its client rolls it back and begins it again. */
export function busyFault(message: string): SqlFault {
  return fault("SQLITE_BUSY_SNAPSHOT", message);
}

export const illFormedTextFault: SqlFault = {
  code: "ATOMCAST_ILL_FORMED_TEXT",
  message: "text that is not well-formed Unicode cannot be stored: store it as a blob",
  offset: -1,
};

const foreignKeyFault: SqlFault = { code: "SQLITE_CONSTRAINT_FOREIGNKEY", message: "FOREIGN KEY constraint failed", offset: -1 };

export function foreignKeyFailure(): SqlFault {
  return foreignKeyFault;
}

const int64Min = -(2n ** 63n);
const int64Max = 2n ** 63n - 1n;

/** null: the value can be bound. */
export function unfitValue(value: SqlValue): SqlFault | null {
  if (typeof value === "string") return /\p{Surrogate}/u.test(value) ? illFormedTextFault : null;
  if (typeof value === "bigint" && (value < int64Min || value > int64Max)) return fault("SQLITE_RANGE", "an integer does not fit in 64 bits");
  return null;
}
