/** What a Cache engine offers to servers and to programs that embed it. */
import type { Description, ResultSet, SqlFault, Statement, Step, StepOutcome } from "../sql/local-store.js";

export interface Database {
  openSession(): Session;
  /** Where this engine's clients reach it, for Hrana's base_url; null: the address that the client used. */
  readonly http: string | null;
  status(): Promise<Status>;
  /** Takes a lost Archive off the voters. "" when that is committed and applied here, else why not. */
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
  /**
   * Its client is gone: the call under way is given up where nothing of it is proposed yet, and none follows. What is proposed is decided all the same.
   */
  cancel(): void;
  /** Rolls back what is open, when the call under way is over. */
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
  /** Atoms that went from one live originator to another, and that became one with others, as this engine has seen since it began. */
  readonly atomChanges: { readonly handoff: number; readonly demote: number; readonly merge: number };
  /** null: it is an Archive's. */
  readonly memory: MemoryStatus | null;
  readonly collector: CollectorStatus;
}

/** What becomes of rows' old versions: the Archives' figures as this engine has heard them. */
export interface CollectorStatus {
  /** The low-water mark. */
  readonly mark: number;
  /** How long what rows were is kept, whoever reads it (`PRAGMA atomcast.history`). */
  readonly historyMs: number;
  /** Whose snapshot it waits for; null: nobody's that is older than all others'. */
  readonly heldBackBy: {
    readonly engine: number;
    readonly snapshot: number;
    /** As that engine's `system.transactions` names it; null: none is open, it has only not come as far. */
    readonly transaction: number | null;
    readonly openMs: number | null;
  } | null;
  readonly archives: readonly {
    readonly engine: number;
    readonly versions: number;
    readonly versionBytes: number;
    /** From here on it can tell what rows were. */
    readonly versionFloor: number;
    /** Since its process began. */
    readonly sweptVersions: number;
    readonly sweptBytes: number;
  }[];
}

/** Of this Cache. Counts are since it became a member; bytes of rows are as the record catalogs estimate them. */
export interface MemoryStatus {
  /** null: no bound. */
  readonly budgetBytes: number | null;
  readonly heldBytes: number;
  /** Atoms of rows that it holds, joining ones too. */
  readonly heldAtoms: number;
  /** SQLite's file, and what of it is in use, as looked at last. */
  readonly fileBytes: number;
  readonly fileUsedBytes: number;
  readonly droppedAtoms: number;
  readonly droppedBytes: number;
  /** Handed over to be dropped. */
  readonly handedOverAtoms: number;
  readonly refusedDrops: number;
  /** Looks at which the budget was exceeded and nothing could go. */
  readonly exceeded: number;
  /** Of all record catalogs, held or not; and those that were known and forgotten (catalog-eviction.ts). */
  readonly knownAtoms: number;
  readonly forgottenAtoms: number;
  readonly pulledAtoms: number;
  /** Of these, had been dropped before. */
  readonly pulledAgainAtoms: number;
  readonly pulledBytes: number;
  /** Transactions and statements on their own; those that had to pull. */
  readonly units: number;
  readonly unitsThatPulled: number;
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
  /** How it hears the stream, and the endpoint that it hears it from where that is not the sequencer's multicast; "": not told, or it is the sequencer. */
  readonly hears: string;
  readonly parent: string;
}
