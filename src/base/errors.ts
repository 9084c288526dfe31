/** An operating fault, told to a person or a client. Codes never change; messages may. */
export class DatabaseError extends Error {
  override name = "DatabaseError";

  constructor(
    /** Stable: SQLite's codes (`SQLITE_CONSTRAINT_UNIQUE` …) for what SQL caused, `ATOMCAST_…` for the rest. */
    readonly code: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** A bug: a condition that the code's own rules make impossible. The engine that finds one stops, and another serves. */
export class BugError extends Error {
  override name = "BugError";
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}

/** The default arm of a switch over a union: fails to compile when a kind is added. */
export function unreachable(value: never): never {
  throw new BugError(`unreachable: ${JSON.stringify(value)}`);
}
