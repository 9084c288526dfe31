/**
 * The atom store's contract: the state that the journal leads to. `lmdb-atom-store.ts` and `memory-atom-store.ts` both are one, and so is the former on a thread of its own
 * (`worker-atom-store.ts`) with reads beside it (`lmdb-reads.ts`), proven by one conformance suite. The applied seq is written in the same transaction as what it stands for: replay is exactly once.
 */

import type { largeValueSpace, Seq, SpaceId } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { RowIndex } from "../base/row-index.js";
import type { KeptVersions, StoredImage } from "./row-versions.js";
import type { StoreChanges } from "./store-changes.js";

export interface StoredRow {
  /** Sort key (base/sort-key.ts). */
  readonly key: Uint8Array;
  /** Encoded row (base/values.ts), which refers to its large values. */
  readonly row: Uint8Array;
}

export interface StoreBatch {
  /** In order of application; what the changes of one seq make of a row between them, nobody ever reads. */
  readonly changes: StoreChanges;
  /** The low-water mark: versions that ended at or below it go, step by step. */
  readonly mark: Seq;
  /** Records of the catalogs that changed: name → bytes, or null where the record is gone. */
  readonly catalog: ReadonlyMap<string, Uint8Array | null>;
  /** Applied when this batch is. */
  readonly position: LogPosition;
}

/**
 * `isNew`: no row has the key, so that none need be looked for, to be kept as a version. `indexes`: those of the table, whose entries (rows of the index's own space: entry key → row key) follow the row. Left out: it has none.
 */
export type StoreChange =
  | {
      readonly kind: "put";
      readonly space: SpaceId;
      readonly key: Uint8Array;
      readonly row: Uint8Array;
      readonly seq: Seq;
      readonly isNew?: boolean;
      readonly indexes?: readonly RowIndex[];
    }
  /**
   * A large value (base/large-values.ts), before the rows that refer to it: kept, in chunks under `space`, as long as a row or version does. One that is here already stays as
   * it is.
   */
  | { readonly kind: "value"; readonly space: typeof largeValueSpace; readonly hash: Uint8Array; readonly bytes: Uint8Array }
  | { readonly kind: "delete"; readonly space: SpaceId; readonly key: Uint8Array; readonly seq: Seq; readonly indexes?: readonly RowIndex[] }
  /**
   * Every row of the space is gone (DROP TABLE, DROP INDEX), and none comes again: spaces are used once. What it had is kept for reads of the past, until the mark has passed
   * it. `bytes`: what it weighs, about.
   */
  | { readonly kind: "drop"; readonly space: SpaceId; readonly seq: Seq; readonly bytes: number }
  /** The table has a new index: its rows get their entries, in the background. */
  | { readonly kind: "index"; readonly space: SpaceId; readonly index: RowIndex; readonly seq: Seq };

/** What other engines are served from. */
export type StoreReads = Pick<AtomStore, "position" | "readRows" | "readPast" | "cuts" | "openTransfer">;

/** What the thread that orders has of it: it gives it batches, and begins from its catalog. */
export type StoreWrites = Pick<AtomStore, "position" | "flushedSeq" | "versions" | "values" | "apply" | "readCatalog" | "beginInstall" | "close">;

export interface AtomStore {
  /** Applied and visible to reads. */
  readonly position: LogPosition;
  /** Applied and flushed to disk: the journal may forget up to here. */
  readonly flushedSeq: Seq;
  /** Batches are applied in the order of the calls; resolves when this one is visible. A failure rejects, and every later call too. */
  apply(batch: StoreBatch): Promise<void>;
  /** Every catalog record. */
  readCatalog(): Promise<Map<string, Buffer>>;
  /**
   * Rows with low ≤ key < high (null: to the space's end) in key order, at most `bytesMax` of weight (large values count, though the rows only refer to them; at least one row), from one snapshot. null: the
   * space is an index's that does not have all of its entries yet. `since`: with what these rows, and those of the same range that are gone, were before
   * each change after it, as far as versions reach. An index's entry may be told to have been there longer than it was.
   */
  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, since?: Seq): StoredRows | null;
  /**
   * Rows as they were at `asOf`, of a space that has been dropped since too; null where that is not applied yet, else as `readRows`. A chunk may end early, even without a row, where much was looked at. "gone": what was there then is
   * not known any more.
   */
  readPast(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, asOf: Seq): PastRows | "gone" | null;
  /** Versions of rows that are kept. */
  readonly versions: KeptVersions;
  /** Large values that are kept. */
  readonly values: KeptValues;
  /**
   * Keys that cut [low, high) into pieces of about `pieceBytes` encoded bytes, none equal to `low`; with each piece's size, first piece first
   * (so one more size than cuts). Never cuts between keys that share their first sortKeyBytesMax bytes. At most cutsMax of them: the rest is then not
   * looked at, and has no size.
   */
  cuts(space: SpaceId, low: Uint8Array, high: Uint8Array | null, pieceBytes: number): StoredCuts;
  /** A transfer of the whole store as it is now, old versions left out, for a joining Archive: unchanged by later batches until closed. */
  openTransfer(): StoreTransfer;
  /**
   * Empties the store and takes in a transfer's parts; until `finish` the store is marked unfinished, and opening it in that state finds it
   * empty again (position 0).
   */
  beginInstall(): Promise<StoreInstall>;
  /** Waits until what was applied is flushed, then closes. */
  close(): Promise<void>;
}

export interface StoredRows {
  /** The store's position when these were read (in the same transaction). */
  readonly seq: Seq;
  readonly rows: readonly StoredRow[];
  /** Where to go on (low of the next call), or null when [low, high) is exhausted. */
  readonly next: Buffer | null;
  /** In the order of seq. */
  readonly images: readonly StoredImage[];
  /** With the images, what was in the range can be told for every snapshot from here on; `seq` where nothing was asked for, or more than fits. */
  readonly imagesFrom: Seq;
}

export interface KeptValues {
  readonly count: number;
  readonly bytes: number;
}

export type PastRows = Pick<StoredRows, "rows" | "next">;

export interface StoredCuts {
  readonly cuts: readonly Buffer[];
  readonly pieces: readonly { readonly bytes: number; readonly rows: number }[];
}

export interface StoreTransfer {
  readonly position: LogPosition;
  /** The next part, at most about `bytesMax` bytes, in a form that only StoreInstall reads; null at the end. `cursor` "" begins; each part names the next cursor: a transfer resumes anywhere. */
  read(cursor: string, bytesMax: number): { readonly part: Buffer; readonly next: string } | null;
  close(): void;
}

export interface StoreInstall {
  /** Parts in order. Refuses (MalformedBytesError) what it cannot read. */
  write(part: Uint8Array): Promise<void>;
  /** Flushed and visible as of `position` when resolved. */
  finish(position: LogPosition): Promise<void>;
  abort(): Promise<void>;
}
