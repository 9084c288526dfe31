/**
 * When the statement that runs is to be ended. `_tick()` asks, which stands where a statement could run for ever (parse/tick-places.ts): nothing else can be
 * done while SQLite is at work, neither by a message to its thread nor by ending that thread.
 */
import type { SqlFault } from "./local-store.js";
import { fault } from "./statement-faults.js";

export interface StatementWatch {
  /** A statement begins. */
  begin(): void;
  /** Asked at every tick: to look at a clock costs a twentieth of the call from SQLite. null: it goes on. */
  look(): SqlFault | null;
}

/** SQLite's code for it, under which a statement that was ended is known here too. */
export const interruptCode = "SQLITE_INTERRUPT";

/** For a store whose statements may take as long as they like. */
export const noWatch: StatementWatch = { begin: () => {}, look: () => null };

export function tooLongFault(limit: string): SqlFault {
  return fault(interruptCode, `interrupted: the statement ran for more than ${limit}, as --statement-timeout allows; set it higher, or ask for less`);
}

export const cancelledFault = fault(interruptCode, "interrupted: the request was given up by its client");
