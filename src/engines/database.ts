/** What a Cache engine offers to servers and to programs that embed it. */
import type { Description, ResultSet, SqlFault, Statement, Step, StepOutcome } from "../sql/local-store.js";

export interface Database {
  openSession(): Session;
  /** Where this engine's clients reach it, for Hrana's base_url; null: the address that the client used. */
  readonly http: string | null;
  status(): Promise<Status>;
  /** Takes a lost Archive off the voters. "" when that is ordered, else why not. */
  removeVoter(nodeId: number): Promise<string>;
}

/** One client's thread of statements. Calls are carried out one after another. */
export interface Session {
  /** False between BEGIN and COMMIT of an interactive transaction. */
  readonly autocommit: boolean;
  /** Every step in order, under its condition. A step's failure is its outcome; a rejection (DatabaseError) means that the engine cannot serve, or the outcome is unknown. */
  batch(steps: readonly Step[]): Promise<readonly StepOutcome[]>;
  /** One statement; throws its fault as DatabaseError. */
  execute(statement: Statement): Promise<ResultSet>;
  /** A script; stops at the first fault, which it returns. */
  sequence(script: string): Promise<SqlFault | null>;
  describe(sql: string): Promise<Description | SqlFault>;
  /** Rolls back what is open. */
  close(): Promise<void>;
}

export interface Status {
  readonly database: string;
  readonly clusterId: string;
  readonly engines: readonly EngineStatus[];
  readonly voters: readonly { readonly nodeId: number; readonly engine: number | null }[];
  readonly commitSeq: number;
  readonly appliedSeq: number;
  readonly atomCount: number;
  readonly atomsHeldHere: number;
  readonly atomsOriginatedHere: number;
  /** Atoms that went from one live originator to another, as this engine has seen since it began. */
  readonly originatorMoves: { readonly handoff: number; readonly demote: number };
}

export interface EngineStatus {
  readonly id: number;
  readonly kind: "archive" | "cache";
  readonly isSequencer: boolean;
  readonly pid: number;
  readonly endpoint: string;
  readonly http: string;
  readonly appliedSeq: number;
  readonly commitSeq: number;
  readonly atomsHeld: number;
}
