/** What one case is: a list of events that can be run again, also with some of them left out (minimise.ts). All chance is in making it, or in an event's own seed. */
import type { SqlValue } from "../../src/base/values.js";

export interface Statement {
  /** What it is counted as. */
  readonly kind: string;
  readonly sql: string;
  readonly args: readonly SqlValue[];
  /** Its rows come in one order only. */
  readonly isOrdered: boolean;
  /** null: the model runs the same text. */
  readonly told: ToldIds | null;
}

/** An INSERT whose ids the store generates. SQLite would choose others: the model is told which. */
export interface ToldIds {
  /** With `_told(n)` where the id of the statement's nth row stands. */
  readonly sql: string;
  readonly table: string;
  readonly idColumn: string;
  /** Whether they are the first column of what it returns; else there is one, its last_insert_rowid. */
  readonly areReturned: boolean;
}

export type CaseEvent =
  /** One request, on its own. */
  | { readonly kind: "run"; readonly store: number; readonly statements: readonly Statement[] }
  /** One request of a client whose transaction stays open until it ends it. Others may write meanwhile. */
  | { readonly kind: "request"; readonly store: number; readonly statements: readonly Statement[] }
  /** The store starts over without a row. */
  | { readonly kind: "restart"; readonly store: number }
  /** It gives up a range. */
  | { readonly kind: "drop"; readonly store: number; readonly seed: number }
  /** All tables are cut into other atoms. */
  | { readonly kind: "cut"; readonly seed: number };

export interface Case {
  readonly stores: number;
  readonly events: readonly CaseEvent[];
}
