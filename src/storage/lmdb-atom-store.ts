/**
 * The atom store on disk, in LMDB (contract: atom-store.ts).
 *
 *   rows      space (7 bytes, big-endian), sort key → seq · 2, and 1 where the row refers to large values (varint), row
 *   versions  what rows were before (lmdb-row-versions.ts)
 *   values, unused  who refers to large values (lmdb-large-values.ts)
 *   catalog   name → record
 *   dropped   space → since when its rows are gone, but for reads of the past (lmdb-dropped-spaces.ts); swept in small steps
 *   unmade    space of an index → what is still to be done until it has all entries (index-entries.ts), in small steps too
 *   meta      "format", "position", "versions" (count, bytes, floor), and "unfinished" while a transfer is being taken in
 *
 * One LMDB transaction is under way at a time; batches that come meanwhile go together into the next. So a batch that fails is never followed
 * by one that succeeds, and rows and position are in one transaction: after a crash the store is at a position that it once had, whole.
 *
 * LMDB makes a commit visible before it is on the disk (overlapping sync): `flushedSeq` follows what is.
 */

import { assert, DatabaseError, unreachable } from "../base/errors.js";
import { largeValueSpace, noSeq, type Seq, type SpaceId } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import { referredBytes } from "../base/values.js";
import type { AtomStore, KeptValues, PastRows, StoreBatch, StoreChange, StoredCuts, StoredRows, StoreInstall, StoreTransfer } from "./atom-store.js";
import { droppedBytesMax } from "./dropped-spaces.js";
import { decodeUnmadeIndex, type EntryChange, encodeUnmadeIndex, entryChanges, type UnmadeIndex } from "./index-entries.js";
import { LmdbDroppedSpaces } from "./lmdb-dropped-spaces.js";
import { LmdbLargeValues, valuesName } from "./lmdb-large-values.js";
import {
  asBuffer,
  checkKey,
  checkRowKey,
  joinValue,
  number,
  readNumber,
  rowKey,
  spaceBytes,
  spaceKey,
  spaceOf,
  splitValue,
  Writes,
} from "./lmdb-layout.js";
import { LmdbReads } from "./lmdb-reads.js";
import { LmdbRowVersions } from "./lmdb-row-versions.js";
import { encodePosition, metaKeys, openTables, origin, positionIn, type Tables } from "./lmdb-tables.js";
import { versionsName } from "./lmdb-version-reads.js";
import { type KeptVersions, versionBytesMax } from "./row-versions.js";
import { readStoreChanges } from "./store-changes.js";
import { decodePart, type TransferItem } from "./transfer-part.js";

export interface LmdbAtomStoreOptions {
  /** Of old versions. */
  readonly bytesMax?: number;
  /** Of what was dropped. */
  readonly droppedMax?: number;
  /** See sweepRestMs. */
  readonly restMs?: number;
  /** What it tells of itself may be another now: something was committed, or flushed. */
  readonly onChange?: () => void;
}

/** Opens the store in the folder, or makes it. */
export async function openLmdbAtomStore(directory: string, options: LmdbAtomStoreOptions = {}): Promise<AtomStore> {
  const tables = openTables(directory);
  try {
    const format = tables.meta.get(metaKeys.format);
    if (format !== undefined && readNumber(format) !== storeFormat) {
      const message = `the atom store in ${directory} has format ${readNumber(format)}, this Atomcast reads format ${storeFormat}: run the version that wrote it, or a newer one`;
      throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
    }
    if (format === undefined || tables.meta.get(metaKeys.unfinished) !== undefined) await emptyTables(tables, false);
    return new LmdbAtomStore(tables, options);
  } catch (error) {
    await tables.root.close();
    throw error;
  }
}

/** 2: versions of rows are kept. 3: large values are not in their rows. 4: catalogs tell what the schema was, and what was dropped is kept. */
export const storeFormat = 4;

/** Changes and bytes that go into one transaction together, unless one batch is larger: what is waited for before it is visible (5 ms or so). */
const groupChangesMax = 4096;
const groupBytesMax = 8 * 1024 * 1024;

/**
 * While batches come, what is to be swept goes a step with each of them: transactions and flushes of its own, one after the other, would take the processor and the disk from
 * commits. So long after the last batch it goes on by itself; twice the time in which an Archive that has something to store does so. Milliseconds.
 */
const sweepRestMs = 400;

/** Rows that get their entries of a new index in one transaction. */
const indexRowsMax = 512;

/** What one transaction has written so far. */
interface Written {
  readonly writes: Writes;
  /** Of each space, by the key in LMDB, where any change asks for it: reads do not see what is being written. */
  readonly rows: Map<SpaceId, Map<string, WrittenRow>> | null;
  /** null: made, or gone. */
  readonly unmade: Map<SpaceId, UnmadeIndex | null>;
}

interface WrittenRow {
  readonly place: Buffer;
  /** null: there is none now. */
  readonly value: Buffer | null;
}

interface QueuedBatch {
  readonly batch: StoreBatch;
  readonly changes: readonly StoreChange[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** On the disk when resolved. */
async function emptyTables(tables: Tables, isUnfinished: boolean): Promise<void> {
  const written = [
    tables.rows.clearAsync(),
    tables.versions.clearAsync(),
    tables.catalog.clearAsync(),
    tables.dropped.clearAsync(),
    tables.unmade.clearAsync(),
    tables.values.clearAsync(),
    tables.unused.clearAsync(),
    tables.meta.put(metaKeys.format, number(storeFormat)),
    tables.meta.remove(metaKeys.position),
    tables.meta.remove(versionsName),
    tables.meta.remove(valuesName),
    isUnfinished ? tables.meta.put(metaKeys.unfinished, number(1)) : tables.meta.remove(metaKeys.unfinished),
  ];
  await Promise.all([...written, tables.root.flushed]);
}

class LmdbAtomStore implements AtomStore {
  readonly #tables: Tables;
  readonly #reads: LmdbReads;
  readonly #versions: LmdbRowVersions;
  readonly #values: LmdbLargeValues;
  readonly #onChange: () => void;
  readonly #restMs: number;
  #lastBatchMs = Number.NEGATIVE_INFINITY;
  #resting: NodeJS.Timeout | null = null;
  #position: LogPosition;
  #flushedSeq: Seq;
  #queue: QueuedBatch[] = [];
  #running: Promise<void> | null = null;
  #failure: Error | null = null;
  #state: "open" | "installing" | "closed" = "open";
  readonly #dropped: LmdbDroppedSpaces;
  readonly #unmade = new Map<SpaceId, UnmadeIndex>();

  constructor(tables: Tables, options: LmdbAtomStoreOptions) {
    const { bytesMax = versionBytesMax, droppedMax = droppedBytesMax, restMs = sweepRestMs, onChange = () => {} } = options;
    this.#tables = tables;
    this.#onChange = onChange;
    this.#restMs = restMs;
    this.#reads = new LmdbReads(tables);
    this.#versions = new LmdbRowVersions(tables.versions, tables.meta, bytesMax);
    this.#values = new LmdbLargeValues(tables);
    this.#position = positionIn(tables, undefined);
    this.#flushedSeq = this.#position.seq;
    this.#dropped = new LmdbDroppedSpaces(tables, droppedMax);
    this.#readUnmade();
    this.#wake();
  }

  #readUnmade(): void {
    for (const { key, value } of this.#tables.unmade.getRange()) {
      const space = spaceOf(key);
      this.#unmade.set(space, decodeUnmadeIndex(space, value));
    }
  }

  get position(): LogPosition {
    return this.#position;
  }

  get flushedSeq(): Seq {
    return this.#flushedSeq;
  }

  get versions(): KeptVersions {
    return this.#versions.kept;
  }

  get values(): KeptValues {
    return this.#values.kept;
  }

  async apply(batch: StoreBatch): Promise<void> {
    this.#throwFailure();
    assert(this.#state === "open", `apply to an atom store that is ${this.#state}`);
    // Before LMDB has any of it: what throws half way would leave half a batch in the transaction.
    const changes = [...readStoreChanges(batch.changes.chunks)];
    for (const change of changes) if ("key" in change) checkRowKey(change.key);
    for (const name of batch.catalog.keys()) checkKey(Buffer.byteLength(name));
    await new Promise<void>((resolve, reject) => {
      this.#queue.push({ batch, changes, resolve, reject });
      this.#wake();
    });
  }

  async readCatalog(): Promise<Map<string, Buffer>> {
    const records = new Map<string, Buffer>();
    for (const { key, value } of this.#tables.catalog.getRange()) records.set(key.toString("utf8"), value);
    return records;
  }

  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, since?: Seq): StoredRows | null {
    return this.#reads.readRows(space, low, high, bytesMax, since);
  }

  readPast(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, asOf: Seq): PastRows | "gone" | null {
    return this.#reads.readPast(space, low, high, bytesMax, asOf);
  }

  cuts(space: SpaceId, low: Uint8Array, high: Uint8Array | null, pieceBytes: number): StoredCuts {
    return this.#reads.cuts(space, low, high, pieceBytes);
  }

  openTransfer(): StoreTransfer {
    assert(this.#state === "open", `a transfer of an atom store that is ${this.#state}`);
    return this.#reads.openTransfer();
  }

  async beginInstall(): Promise<StoreInstall> {
    assert(this.#state === "open", `a transfer into an atom store that is ${this.#state}`);
    this.#state = "installing";
    await this.#idle();
    this.#throwFailure();
    this.#dropped.begin();
    this.#unmade.clear();
    await this.#attempt(() => emptyTables(this.#tables, true));
    this.#versions.begin(noSeq);
    this.#values.begin();
    this.#at(origin);
    return {
      write: async (part) => {
        const items = decodePart(part);
        await this.#attempt(() => this.#install(items));
      },
      finish: async (position) => {
        await this.#attempt(async () => {
          const { meta, root } = this.#tables;
          const writes = new Writes();
          this.#versions.begin(position.seq);
          this.#versions.finish(writes);
          writes.add(meta.put(metaKeys.position, encodePosition(position)));
          writes.add(meta.remove(metaKeys.unfinished));
          await Promise.all([writes.done(), root.flushed]);
        });
        this.#at(position);
        this.#state = "open";
        this.#readUnmade();
        this.#wake();
      },
      abort: async () => {
        await this.#attempt(() => emptyTables(this.#tables, false));
        this.#values.begin();
        this.#state = "open";
      },
    };
  }

  async close(): Promise<void> {
    this.#state = "closed";
    if (this.#resting !== null) clearTimeout(this.#resting);
    await this.#idle();
    this.#reads.closeTransfers();
    if (this.#failure === null) await this.#tables.root.flushed;
    await this.#tables.root.close();
  }

  #at(position: LogPosition): void {
    this.#position = position;
    this.#flushedSeq = position.seq;
  }

  async #idle(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** What is thrown by LMDB ends the store: what it holds then is not known. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    this.#throwFailure();
    try {
      await work();
    } catch (cause) {
      throw this.#fail(cause);
    }
  }

  #fail(cause: unknown): Error {
    const what = cause instanceof Error ? cause.message : String(cause);
    this.#failure ??= new DatabaseError("ATOMCAST_STORE_FAILED", `the atom store cannot be written: ${what}`, { cause });
    return this.#failure;
  }

  #wake(): void {
    if (this.#running !== null) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
      if (this.#queue.length > 0) this.#wake();
    });
  }

  async #run(): Promise<void> {
    // What the rest of this turn applies goes into the first transaction.
    await Promise.resolve();
    while (this.#queue.length > 0 || this.#isStepDue) {
      const group = this.#nextGroup();
      if (group.length > 0) this.#lastBatchMs = performance.now();
      try {
        this.#throwFailure();
        await this.#writeGroup(group);
      } catch (cause) {
        const failure = this.#fail(cause);
        for (const one of group) one.reject(failure);
        continue;
      }
      for (const one of group) one.resolve();
    }
    if (!this.#isSweepDue || this.#state !== "open" || this.#failure !== null) return;
    this.#resting ??= setTimeout(() => {
      this.#resting = null;
      this.#wake();
    }, this.#restMs);
  }

  /** Whether or not anything comes. An index is waited for, so it does not rest. */
  get #isStepDue(): boolean {
    if (this.#state !== "open" || this.#failure !== null) return false;
    return this.#unmade.size > 0 || (this.#isSweepDue && performance.now() - this.#lastBatchMs >= this.#restMs);
  }

  get #isSweepDue(): boolean {
    return this.#dropped.isSweepDue(this.#versions.mark) || this.#versions.isSweepDue || this.#values.isSweepDue;
  }

  #nextGroup(): QueuedBatch[] {
    let changeCount = 0;
    let byteCount = 0;
    let count = 0;
    for (const { batch } of this.#queue) {
      changeCount += batch.changes.count + batch.catalog.size;
      byteCount += batch.changes.byteCount;
      if (count > 0 && (changeCount > groupChangesMax || byteCount > groupBytesMax)) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  /** Everything is handed to LMDB within this turn, which makes it one transaction; resolves when that is visible. */
  async #writeGroup(group: readonly QueuedBatch[]): Promise<void> {
    const writes = new Writes();
    for (const { batch } of group) this.#versions.raise(batch.mark);
    // What was committed last must be seen: what steps find, and rows that are replaced, is what they go on from.
    const looksBack = group.some(({ changes }) => changes.some(looksBackAt));
    if (this.#unmade.size > 0 || this.#isSweepDue || looksBack) this.#tables.root.resetReadTxn();
    const written: Written = { writes, rows: looksBack ? new Map() : null, unmade: new Map() };
    const changeCount = group.reduce((sum, { changes }) => sum + changes.length, 0);
    this.#versions.sweepStep(writes, this.#position.seq, changeCount, (row) => this.#values.refer(row, 0, -1));
    this.#sweepDropped(writes, changeCount);
    this.#indexStep(written);
    for (const { batch, changes } of group) {
      for (const change of changes) this.#change(written, change);
      for (const [name, record] of batch.catalog) {
        const key = Buffer.from(name);
        writes.add(record === null ? this.#tables.catalog.remove(key) : this.#tables.catalog.put(key, asBuffer(record)));
      }
    }
    const position = group.at(-1)?.batch.position ?? this.#position;
    writes.add(this.#tables.meta.put(metaKeys.position, encodePosition(position)));
    this.#versions.weigh(this.#values.finish(writes));
    this.#versions.finish(writes);
    // Taken now: it stands for this transaction, and a later write replaces it.
    this.#tables.root.flushed.then(
      () => {
        if (this.#state !== "installing") this.#flushedSeq = Math.max(this.#flushedSeq, position.seq) as Seq;
        this.#onChange();
      },
      (cause) => void this.#fail(cause),
    );
    await writes.done();
    this.#position = position;
    for (const [space, unmade] of written.unmade) {
      if (unmade === null) this.#unmade.delete(space);
      else this.#unmade.set(space, unmade);
    }
    this.#onChange();
  }

  #change(written: Written, change: StoreChange): void {
    switch (change.kind) {
      case "put":
      case "delete":
        this.#set(written, change);
        break;
      case "drop":
        this.#drop(written, change);
        break;
      case "value":
        this.#values.put(change.hash, change.bytes);
        break;
      case "index":
        this.#setUnmade(written, { table: change.space, index: change.index, from: Buffer.alloc(0) });
        break;
      default:
        unreachable(change);
    }
  }

  #drop({ writes, rows, unmade }: Written, { space, seq, bytes }: Extract<StoreChange, { kind: "drop" }>): void {
    // What the same entry has put is in no snapshot.
    for (const { place, value } of rows?.get(space)?.values() ?? [])
      if (value !== null && splitValue(value).seq === seq) this.#removeRow(writes, place, value);
    rows?.delete(space);
    const isIncomplete = (unmade.has(space) ? unmade.get(space) : this.#unmade.get(space)) != null;
    this.#dropped.drop(writes, space, { seq, bytes, isIncomplete });
    if (!isIncomplete) return;
    writes.add(this.#tables.unmade.remove(spaceKey(space)));
    unmade.set(space, null);
  }

  #removeRow(writes: Writes, place: Buffer, value: Buffer): void {
    writes.add(this.#tables.rows.remove(place));
    const { row, refers } = splitValue(value);
    if (refers) this.#values.refer(row, -1, 0);
  }

  /** The row, its index entries, and what it was before. */
  #set(written: Written, change: Extract<StoreChange, { kind: "put" | "delete" }>): void {
    const { space, key, seq, indexes } = change;
    const row = change.kind === "put" ? change.row : null;
    const place = rowKey(space, key);
    const before = looksAtRow(change) ? this.#valueAt(written, space, place) : null;
    const found = before === null ? null : splitValue(before);
    for (const one of indexes === undefined ? [] : entryChanges(indexes, key, found?.row ?? null, row, this.#values.find))
      this.#setEntry(written, one, key, seq);
    // What the same entry has put is in no snapshot.
    const isKept = before !== null && found?.seq !== seq;
    if (isKept) this.#versions.keep(written.writes, place, before, seq);
    if (found?.refers === true) this.#values.refer(found.row, -1, isKept ? 1 : 0);
    const refers = row !== null && referredBytes(row) > 0;
    if (refers) this.#values.refer(row, 1, 0);
    this.#write(written, space, place, row === null ? null : joinValue(seq, row, refers));
  }

  #setEntry(written: Written, { kind, space, key }: EntryChange, of: Uint8Array, seq: Seq): void {
    const place = rowKey(space, key);
    // Since when it was there is not worth looking up: it names a row, which tells what it was itself.
    if (kind === "delete" && !isOf(written.rows?.get(space)?.get(place.toString("latin1")), seq))
      this.#versions.keep(written.writes, place, joinValue(noSeq, of), seq);
    this.#write(written, space, place, kind === "put" ? joinValue(seq, of) : null);
  }

  #write({ writes, rows }: Written, space: SpaceId, place: Buffer, value: Buffer | null): void {
    if (rows !== null) {
      const known = rows.get(space) ?? new Map<string, WrittenRow>();
      rows.set(space, known.set(place.toString("latin1"), { place, value }));
    }
    writes.add(value === null ? this.#tables.rows.remove(place) : this.#tables.rows.put(place, value));
  }

  /** As this transaction has left it, or as it is stored. */
  #valueAt(written: Written, space: SpaceId, place: Buffer): Buffer | null {
    const known = written.rows?.get(space)?.get(place.toString("latin1"));
    if (known !== undefined) return known.value;
    return this.#tables.rows.get(place) ?? null;
  }

  /** Gives some rows their entries, before this transaction's own changes. */
  #indexStep(written: Written): void {
    const unmade = this.#unmade.values().next().value;
    if (unmade === undefined) return;
    const { table, index, from } = unmade;
    let count = 0;
    let last: Buffer = from;
    for (const { key, value } of this.#tables.rows.getRange({ start: rowKey(table, from), end: spaceKey(table + 1), limit: indexRowsMax })) {
      count++;
      last = key.subarray(spaceBytes);
      // Not the row's seq: the row may have changed since the index was made, and the entry have been there before.
      for (const one of entryChanges([index], last, null, splitValue(value).row, this.#values.find)) this.#setEntry(written, one, last, noSeq);
    }
    if (count === indexRowsMax) this.#setUnmade(written, { table, index, from: Buffer.from(last) });
    else {
      written.writes.add(this.#tables.unmade.remove(spaceKey(index.space)));
      written.unmade.set(index.space, null);
    }
  }

  #setUnmade(written: Written, unmade: UnmadeIndex): void {
    written.writes.add(this.#tables.unmade.put(spaceKey(unmade.index.space), encodeUnmadeIndex(unmade)));
    written.unmade.set(unmade.index.space, unmade);
  }

  /** Removes some rows of a dropped space, before this transaction's own changes. */
  #sweepDropped(writes: Writes, changeCount: number): void {
    const told = this.#dropped.sweepStep(writes, this.#versions.mark, changeCount, (place, value) => {
      this.#removeRow(writes, place, value);
      this.#versions.countSwept(place.length + value.length);
    });
    if (told !== null) this.#versions.raiseFloor(told);
  }

  async #install(items: readonly TransferItem[]): Promise<void> {
    const writes = new Writes();
    for (const item of items) {
      if (item.kind === "catalog") writes.add(this.#tables.catalog.put(Buffer.from(item.name), asBuffer(item.bytes)));
      else if (item.key.length === 0) writes.add(this.#tables.unmade.put(spaceKey(item.space), asBuffer(item.row)));
      else {
        writes.add(this.#tables.rows.put(rowKey(item.space, item.key), joinValue(item.seq, item.row, item.refers)));
        if (item.space === largeValueSpace) this.#values.arrived(item.key, item.row.length);
        else if (item.refers) this.#values.refer(item.row, 1, 0);
      }
    }
    this.#tables.root.resetReadTxn();
    this.#values.finish(writes, false);
    await writes.done();
  }
}

/** What was committed last must be seen. */
function looksBackAt(change: StoreChange): boolean {
  return looksAtRow(change) || change.kind === "drop" || change.kind === "value" || (change.kind === "put" && referredBytes(change.row) > 0);
}

/** The same entry of the stream put it: it is in no snapshot, and the version until then is kept already where there was one. */
function isOf(row: WrittenRow | undefined, seq: Seq): boolean {
  return row !== undefined && row.value !== null && splitValue(row.value).seq === seq;
}

/** It must be known what the row was before. */
function looksAtRow(change: StoreChange): boolean {
  return change.kind === "delete" || (change.kind === "put" && change.isNew !== true);
}
