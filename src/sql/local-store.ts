/**
 * The local store's contract: a Cache's SQLite, driven by messages (a worker thread in production, a call in the simulator).
 * All calls are synchronous and take effect in order. Rules and their reasons: shared `local-store.md`, docs/decisions.md.
 */
import type { EngineId, Life, Seq, SpaceId } from "../base/ids.js";
import type { BinaryKey, BinaryRange } from "../base/key-ranges.js";
import type { LargeValue } from "../base/large-values.js";
import type { SqlValue } from "../base/values.js";
import type { IdRange, SchemaObject } from "../messages/wire/entry.js";

/** What of a key space a statement needs here; `ranges` null: all of it. */
export interface PullNeed {
  readonly space: SpaceId;
  readonly ranges: readonly BinaryRange[] | null;
  /** The space is an index's, of this table: the ranges are of its entries' keys, and with them the rows are needed that these stand for. */
  readonly indexOf?: SpaceId;
}

export interface Statement {
  readonly sql: string;
  readonly args: StatementArgs;
  /** false: the caller wants no rows back (they are still counted). */
  readonly wantRows: boolean;
}

export interface StatementArgs {
  readonly positional: readonly SqlValue[];
  /** Names with or without their prefix (`:`, `@`, `$`). */
  readonly named: readonly { readonly name: string; readonly value: SqlValue }[];
}

/** When a step runs; by index of earlier steps (Hrana's batch conditions). */
export type Condition =
  | { readonly kind: "ok"; readonly step: number }
  | { readonly kind: "error"; readonly step: number }
  | { readonly kind: "not"; readonly condition: Condition }
  | { readonly kind: "and"; readonly conditions: readonly Condition[] }
  | { readonly kind: "or"; readonly conditions: readonly Condition[] }
  | { readonly kind: "isAutocommit" };

export interface Step extends Statement {
  /** null: always. */
  readonly condition: Condition | null;
}

/** As `PRAGMA atomcast.isolation` reads and takes them. */
export const isolations = ["snapshot", "serializable", "read_committed"] as const;
export type Isolation = (typeof isolations)[number];

/** A seq, or a time since 1970 that is still to be found in the stream. */
export type AsOf = { readonly seq: Seq } | { readonly timeMs: number };

/** A client session's settings (PRAGMA foreign_keys, PRAGMA defer_foreign_keys, PRAGMA atomcast.isolation, PRAGMA atomcast.as_of). */
export interface SessionSettings {
  /** It reads what was there then, and writes nothing. Left out: it reads what is there. */
  readonly asOf?: AsOf;
  /** The transaction that it was set in is to be begun there, before the next step. */
  readonly isBegun?: true;
  /** Left out: snapshot. */
  readonly isolation?: Exclude<Isolation, "snapshot">;
  readonly foreignKeys: boolean;
  readonly deferForeignKeys: boolean;
  /** What last_insert_rowid(), changes() and total_changes() answer before the first step. */
  readonly lastInsertRowid: bigint;
  readonly changes: bigint;
}

export interface ResultSet {
  readonly columns: readonly { readonly name: string; readonly declaredType: string | null }[];
  readonly rows: readonly (readonly SqlValue[])[];
  readonly affectedRowCount: number;
  /** null: the statement inserted nothing. */
  readonly lastInsertRowid: bigint | null;
}

export interface SqlFault {
  /** SQLite's extended code (`SQLITE_CONSTRAINT_UNIQUE`), or one of Atomcast's. */
  readonly code: string;
  readonly message: string;
  /** Byte offset of the token at fault in the statement's text, or −1. */
  readonly offset: number;
}

export type StepOutcome =
  | { readonly kind: "ok"; readonly result: ResultSet }
  | { readonly kind: "error"; readonly fault: SqlFault }
  | { readonly kind: "skipped" };

/**
 * One run over the steps from `firstStep` on. It stops behind the first step that has something to commit: an autocommit statement
 * that changed rows or schema, or the COMMIT (END) of a BEGIN inside the steps. Everything it did is rolled back; `changes` says it all.
 */
export interface RunRequest {
  readonly steps: readonly Step[];
  readonly firstStep: number;
  /** Outcomes of the steps before `firstStep`. */
  readonly earlier: readonly ("ok" | "error" | "skipped")[];
  readonly settings: SessionSettings;
  /** Seeds random() and randomblob(), so that a run again makes the same values. */
  readonly seed: number;
  /** null: a transaction that the steps leave open is an error, and rolled back. */
  readonly transaction: KeptTransaction | null;
}

/** A transaction that may stay open from one request to the next. */
export interface KeptTransaction {
  /** What it is known by, in this store. */
  readonly id: number;
  /** It is open already: the steps go on in it. */
  readonly resumes: boolean;
}

export type RunResult =
  /** Every step up to `nextStep` is final: nothing to commit. `nextStep` = steps.length at the end. */
  | {
      readonly kind: "done";
      readonly snapshot: Seq;
      readonly outcomes: readonly StepOutcome[];
      readonly nextStep: number;
      readonly settings: SessionSettings;
    }
  /** Outcomes of firstStep … nextStep − 1 hold once `changes` is committed. */
  | {
      readonly kind: "commit";
      readonly snapshot: Seq;
      readonly outcomes: readonly StepOutcome[];
      readonly nextStep: number;
      readonly settings: SessionSettings;
      readonly changes: Changes;
    }
  /** Every step has run, and the transaction is kept open: the next request goes on in it, or ends it. */
  | { readonly kind: "open"; readonly outcomes: readonly StepOutcome[]; readonly settings: SessionSettings; readonly summary: OpenSummary }
  /** The transaction that was open is over, and nothing of it is committed; `fault` is for all steps that are not in `outcomes`. */
  | { readonly kind: "lost"; readonly outcomes: readonly StepOutcome[]; readonly settings: SessionSettings; readonly fault: SqlFault }
  /** Needs rows that are not held: hold the atoms that they lie in and run again. */
  | { readonly kind: "pull"; readonly needs: readonly PullNeed[] }
  /** Needs more ids of a table: grant a block and run again. */
  | { readonly kind: "ids"; readonly table: SpaceId };

/** What is told of a transaction that is kept open. */
export interface OpenSummary {
  readonly mode: TransactionMode;
  readonly isolation: Isolation;
  /** null: it has none yet, or takes a new one for each statement. */
  readonly snapshot: Seq | null;
  readonly rowsWritten: number;
  /** Of the rows that it has written. */
  readonly bytes: number;
}

/** As it was begun; a SAVEPOINT outside of a transaction begins a deferred one. */
export type TransactionMode = "deferred" | "immediate" | "exclusive" | "read-only";

export interface Changes {
  /** An encoded TransactionBody (messages/wire/entry.ts), ready to be proposed. */
  readonly body: Uint8Array;
  /** Keys to ask permission for. */
  readonly permissions: readonly PermissionKey[];
  /** Tables that must be unchanged since the snapshot, whole (DDL that looks at rows); the schema's own space, for DDL that looks at all of it. */
  readonly wholeTables: readonly SpaceId[];
  /** Every table that a written, read-for-constraint or DDL statement of the unit relied on, with the version that this store has. */
  readonly schemaVersions: readonly { readonly table: SpaceId; readonly version: Seq }[];
  /** Rows refer to large values: to apply it takes memory for these, whether or not it brings them. Left out: none does. */
  readonly hasLargeValues?: boolean;
}

export interface PermissionKey {
  readonly space: SpaceId;
  readonly key: BinaryKey;
  /**
   * `write`: inserted or updated in place (unique-index entries that enter or leave, and schema names, too); `delete`: a row is deleted
   * or its key goes; `exist`: it must go on existing (a parent), which only a `delete` disturbs.
   */
  readonly kind: "write" | "delete" | "exist";
  /**
   * Where it is older than the run's snapshot: the seq since which nobody else may have changed the key. (At read committed, what the
   * transaction wrote in an earlier request.) Whoever asks for the permission looks first.
   */
  readonly since?: Seq;
}

export interface PulledRow {
  readonly key: Uint8Array;
  readonly row: Uint8Array;
}

/** What a row, or an index's entry, was before the entry of the stream at `seq` changed it. */
export interface PulledImage {
  readonly seq: Seq;
  readonly key: Uint8Array;
  /** null: there was none. */
  readonly row: Uint8Array | null;
}

/** A chunk, as it is installed. */
export interface PulledRows {
  readonly rows: readonly PulledRow[];
  readonly images: readonly PulledImage[];
  /** All large values that these refer to. */
  readonly values: readonly LargeValue[];
}

/** Rows of a range that begins where it was asked for, as of one seq. */
export interface Chunk {
  readonly seq: Seq;
  readonly rows: readonly { readonly key: Buffer; readonly row: Buffer }[];
  /** Where to go on; null: the range is whole. */
  readonly next: Buffer | null;
}

export type InstallOutcome = "held" | "full" | PullNeed;

export interface Description {
  readonly parameters: readonly { readonly name: string | null }[];
  readonly columns: readonly { readonly name: string; readonly declaredType: string | null }[];
  readonly isExplain: boolean;
  readonly isReadonly: boolean;
}

/** The system tables, by name, as the engine gives them to a run that names one. */
export type SystemTables = Readonly<Record<string, SystemTable>>;

export interface SystemTable {
  readonly columns: readonly string[];
  readonly rows: readonly Readonly<Record<string, SqlValue>>[];
}

export interface Usage {
  /** Of what statements have used since the last call: a sample, and of a table that is held whole only that it was used. */
  readonly used: readonly PullNeed[];
  /** Keys of the ids that this engine may give and has not. */
  readonly ids: readonly PullNeed[];
  /** What transactions that are kept open have needed of tables that were not held whole, and what they have written. */
  readonly open: readonly PullNeed[];
  /** Pages of SQLite's file that something is in, and all of them, in bytes. */
  readonly usedBytes: number;
  readonly fileBytes: number;
}

export interface LocalStore {
  /** Applied and visible. */
  readonly appliedSeq: Seq;
  /** Of the transactions that are open; null: none is. A later one reads what is applied then. */
  readonly oldestSnapshot: Seq | null;
  /**
   * Throws everything away and begins at `seq` with this schema, in order of creation, no rows held. `become` follows before the first run. `isPast`: it stays there, for
   * reads alone.
   */
  reset(seq: Seq, schema: readonly { readonly object: SchemaObject; readonly version: Seq }[], isPast?: boolean): void;
  /** The engine's id is known: its own entries are told by it, and the identities that DDL makes are from its range. */
  become(engine: EngineId, life: Life): void;
  run(request: RunRequest, system: SystemTables): RunResult;
  /** Forgets a transaction that was kept open: nothing of it is committed. */
  endTransaction(transaction: number): void;
  /** Splits a script at its top-level semicolons (strings, comments and trigger bodies respected), or says what is wrong with it. */
  split(script: string): readonly string[] | SqlFault;
  /** `transaction`: one that is kept open, whose schema counts; null: the committed one does. */
  describe(sql: string, transaction: number | null): Description | SqlFault;
  /**
   * Applies committed entries (encoded) in seq order, as one SQLite transaction, then is at `through` (entries that store nothing are left
   * out of `entries`). Rows outside what is held are passed over; those of a joining range wait for its chunk. Throws BugError where an entry does
   * not fit: the stores have diverged.
   */
  apply(entries: readonly { readonly seq: Seq; readonly bytes: Uint8Array }[], through: Seq): void;
  /** From the seq that is applied now, keep the changes of [low, high) (null: to the end) for the chunks that will come. */
  beginHold(table: SpaceId, low: Uint8Array, high: Uint8Array | null): void;
  /**
   * Installs rows of [low, high) as of `seq` (≤ appliedSeq, and ≥ the seq at beginHold), brings them up to appliedSeq, and counts the range as
   * held. `changedSeq` (≤ seq, and `seq` where it is left out): nothing in the range has changed between it and `seq` but what `images` tell, so that older
   * transactions may read it. "full": the buffer of changes overflowed; begin the hold again. An index's range has entries in place of rows, and may need rows that are not held:
   * then nothing is installed, and the same call is made again when they are; its `changedSeq` is of all rows of the table. `values`: all large values
   * that rows and images refer to.
   */
  install(
    space: SpaceId,
    low: Uint8Array,
    high: Uint8Array | null,
    seq: Seq,
    rows: readonly PulledRow[],
    changedSeq?: Seq,
    images?: readonly PulledImage[],
    values?: readonly LargeValue[],
  ): InstallOutcome;
  /** Rows of [low, high) for another Cache, of about so many bytes at most. null: not held from `low` on, or better read elsewhere (read-chunk.ts). */
  readChunk(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number): Chunk | null;
  /** Gives up joining ranges within [low, high). */
  abandonHold(table: SpaceId, low: Uint8Array, high: Uint8Array | null): void;
  /**
   * Gives up what is held of [low, high), whose ends are those of the table or keys that rows of it may have: the rows go, and statements from now on ask
   * for them. One transaction: the caller bounds what it takes by naming an atom at a time.
   */
  dropRange(table: SpaceId, low: Uint8Array, high: Uint8Array | null): void;
  /** What eviction goes by. Each call begins a new sample of what is used. */
  usage(): Usage;
  /** The range is held though nothing was pulled: it is empty and this engine's own (an id block). */
  holdEmpty(table: SpaceId, low: Uint8Array, high: Uint8Array | null): void;
  /** Ids first … last (inclusive) of the table are this engine's to generate. A later block queues behind earlier ones. */
  grantIds(table: SpaceId, first: bigint, last: bigint): void;
  /**
   * Takes the blocks away, and says what of them was left: of each block the ids behind those that were generated and those of all rows that are here.
   * Nothing of an AUTOINCREMENT table, whose ids only go up.
   */
  takeIdsBack(): readonly IdRange[];
  /** Order-independent hash of a wholly held table's rows: sum modulo 2^128 of the first 16 bytes of SHA-256(key ‖ row), as hex. null: not held whole. */
  tableHash(table: SpaceId): string | null;
  /** Likewise of what is held of a table, with the ranges that are. null: nothing is. */
  heldHash(table: SpaceId): { readonly ranges: readonly BinaryRange[]; readonly hash: string } | null;
  close(): void;
}
