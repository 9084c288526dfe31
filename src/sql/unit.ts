/** What a unit of work is made of (unit-of-work.ts). */
import type { Seq, SpaceId } from "../base/ids.js";
import type { BinaryKey } from "../base/key-ranges.js";
import type { SqlValue } from "../base/values.js";
import type { DdlPart } from "../messages/wire/entry.js";
import type { Touches } from "./capture.js";
import type { Parents } from "./foreign-keys.js";
import type { LocalForeignKey, LocalSchema, LocalTable } from "./local-schema.js";
import type { Isolation, PullNeed, TransactionMode } from "./local-store.js";
import type { SelectedRow } from "./stored-rows.js";

export interface Unit {
  readonly kind: "implicit" | "begin" | "savepoint";
  /** As it was when its run began; its versions are those of all runs of a transaction that is kept open. */
  readonly startSchema: LocalSchema;
  /** Whether constraints are enforced: the session's setting when the unit began. */
  readonly foreignKeys: boolean;
  isolation: Isolation;
  /** By table; those of which more was read are among `wholeTables`. */
  readonly readKeys: Map<SpaceId, Set<BinaryKey>>;
  readonly mode: TransactionMode;
  /** Of the segment that is open. */
  touches: Touches;
  /** What waits for the checks at COMMIT: of foreign keys that are deferred. */
  deferred: Touches;
  readonly parents: Parents;
  readonly segments: Segment[];
  readonly savepoints: Savepoint[];
  /** Tables that the unit relied on and did not make. */
  readonly reliedOn: Set<SpaceId>;
  readonly wholeTables: Set<SpaceId>;
  /** What its statements have needed here of tables that were not held whole; and tables that its writes needed whole, for their constraints. */
  readonly needs: PullNeed[];
  readonly neededWhole: Set<SpaceId>;
  /** Tables and unique indexes that the unit made: nobody else knows them, so nobody is asked. */
  readonly made: Set<SpaceId>;
  /** Deferred foreign keys to a parent table that was dropped: all rows of the child are looked at in the end. */
  readonly orphanable: LocalForeignKey[];
  /** The mirror's transaction follows from the first DDL on. */
  mirrorFollows: boolean;
  /** Bytes of captured rows. */
  bytes: number;
  /** A statement of it has run: from then on it has a snapshot. */
  hasRun: boolean;
  /**
   * What it reads, where it is kept open between runs (open-transactions.ts). null: what is applied when its run takes place, as always at read
   * committed.
   */
  snapshot: Seq | null;
  /** Kept open, and none of its changes is in SQLite any more. */
  isSettled: boolean;
  /** Tables that are as they were at the snapshot, though others are newer. null: everything is. */
  rewound: Set<SpaceId> | null;
}

export interface Savepoint {
  readonly name: string;
  readonly schema: LocalSchema;
  readonly segmentCount: number;
  /** What waited for the COMMIT then: what has come since is undone with the rows. */
  readonly deferred: Touches;
  readonly orphanableCount: number;
}

export type Segment = { readonly kind: "ddl"; readonly part: DdlPart } | RowsSegment;

export interface RowsSegment {
  readonly kind: "rows";
  readonly tables: ReadonlyMap<SpaceId, { readonly table: LocalTable; readonly rows: Map<BinaryKey, FinalRow> }>;
  readonly touches: Touches;
}

export interface FinalRow {
  readonly key: Buffer;
  readonly keyValues: readonly SqlValue[];
  readonly image: Image | null;
  /** What was applied when the transaction first wrote it. */
  readonly since: Seq;
}

export interface Image {
  readonly bytes: Buffer;
  readonly row: SelectedRow;
  /** As it was when the row was read. */
  readonly table: LocalTable;
}
