/**
 * The atom store on disk, in LMDB (contract: atom-store.ts).
 *
 *   rows      space (7 bytes, big-endian), sort key → seq (varint), row
 *   versions  what rows were before (lmdb-row-versions.ts)
 *   catalog   name → record
 *   cleared   space → seq: rows of the space with a lower seq are gone, and swept in small steps
 *   unmade    space of an index → what is still to be done until it has all entries (index-entries.ts), in small steps too
 *   meta      "format", "position", "versions" (count, bytes, floor), and "unfinished" while a transfer is being taken in
 *
 * One LMDB transaction is under way at a time; batches that come meanwhile go together into the next. So a batch that fails is never followed
 * by one that succeeds, and rows and position are in one transaction: after a crash the store is at a position that it once had, whole.
 *
 * LMDB makes a commit visible before it is on the disk (overlapping sync): `flushedSeq` follows what is.
 */

import { type Database, open, type RootDatabase } from "lmdb";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { type ChainHash, genesisHash } from "../base/chain-hash.js";
import { assert, DatabaseError, unreachable } from "../base/errors.js";
import { noSeq, noTerm, type Seq, type SpaceId, type Term } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { AtomStore, PastRows, StoreBatch, StoreChange, StoredCuts, StoredRow, StoredRows, StoreInstall, StoreTransfer } from "./atom-store.js";
import { decodeUnmadeIndex, type EntryChange, encodeUnmadeIndex, entryChanges, type UnmadeIndex } from "./index-entries.js";
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
import { LmdbRowVersions, versionsName } from "./lmdb-row-versions.js";
import { type KeptVersions, pastLookedAtMax, versionBytesMax } from "./row-versions.js";
import { createPieceCutter } from "./store-pieces.js";
import { decodePart, decodePlace, encodePart, encodePlace, type TransferItem } from "./transfer-part.js";

/** Opens the store in the folder, or makes it. */
/** `bytesMax`: of old versions. */
export async function openLmdbAtomStore(directory: string, bytesMax = versionBytesMax): Promise<AtomStore> {
  const tables = openTables(directory);
  try {
    const format = tables.meta.get(metaKeys.format);
    if (format !== undefined && readNumber(format) !== storeFormat) {
      const message = `the atom store in ${directory} has format ${readNumber(format)}, this Atomcast reads format ${storeFormat}: run the version that wrote it, or a newer one`;
      throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
    }
    if (format === undefined || tables.meta.get(metaKeys.unfinished) !== undefined) await emptyTables(tables, false);
    return new LmdbAtomStore(tables, bytesMax);
  } catch (error) {
    await tables.root.close();
    throw error;
  }
}

/** 2: versions of rows are kept. */
export const storeFormat = 2;

/** Open transfers: each keeps LMDB from using pages again that were freed since, so the file grows. The next is refused. */
export const transferCountMax = 4;

/** Changes and bytes that go into one transaction together, unless one batch is larger: what the event loop gives away at once (5 ms or so). */
const groupChangesMax = 4096;
const groupBytesMax = 8 * 1024 * 1024;

/** Rows of cleared spaces that one transaction looks at. */
const sweepRowsMax = 512;

/** Rows that get their entries of a new index in one transaction. */
const indexRowsMax = 512;

const metaKeys = { format: Buffer.from("format"), position: Buffer.from("position"), unfinished: Buffer.from("unfinished") };
const origin: LogPosition = { seq: noSeq, term: noTerm, hash: genesisHash };

type Table = Database<Buffer, Buffer>;
type ReadTransaction = ReturnType<Table["useReadTransaction"]>;

interface Tables {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly rows: Table;
  readonly versions: Table;
  readonly catalog: Table;
  readonly cleared: Table;
  readonly unmade: Table;
  readonly meta: Table;
}

/** What one transaction has written so far. */
interface Written {
  readonly writes: Writes;
  /** Of each space, by the key in LMDB, where any change asks for it: reads do not see what is being written. */
  readonly rows: Map<SpaceId, Map<string, WrittenRow>> | null;
  readonly cleared: Map<SpaceId, Buffer>;
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
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function openTables(directory: string): Tables {
  const form = { keyEncoding: "binary", encoding: "binary" } as const;
  // Values below 64 KiB and keys are small: no compression, no cache of decoded values, no versions.
  const root = open<Buffer, Buffer>({ ...form, path: directory, noSubdir: false, maxDbs: 6, compression: false, cache: false });
  const table = (name: string): Table => root.openDB<Buffer, Buffer>({ ...form, name });
  return {
    root,
    rows: table("rows"),
    versions: table("versions"),
    catalog: table("catalog"),
    cleared: table("cleared"),
    unmade: table("unmade"),
    meta: table("meta"),
  };
}

/** On the disk when resolved. */
async function emptyTables(tables: Tables, isUnfinished: boolean): Promise<void> {
  const written = [
    tables.rows.clearAsync(),
    tables.versions.clearAsync(),
    tables.catalog.clearAsync(),
    tables.cleared.clearAsync(),
    tables.unmade.clearAsync(),
    tables.meta.put(metaKeys.format, number(storeFormat)),
    tables.meta.remove(metaKeys.position),
    tables.meta.remove(versionsName),
    isUnfinished ? tables.meta.put(metaKeys.unfinished, number(1)) : tables.meta.remove(metaKeys.unfinished),
  ];
  await Promise.all([...written, tables.root.flushed]);
}

class LmdbAtomStore implements AtomStore {
  readonly #tables: Tables;
  readonly #versions: LmdbRowVersions;
  #position: LogPosition;
  #flushedSeq: Seq;
  #queue: QueuedBatch[] = [];
  #running: Promise<void> | null = null;
  #failure: Error | null = null;
  #state: "open" | "installing" | "closed" = "open";
  readonly #transfers = new Set<LmdbTransfer>();
  /** Cleared spaces that hold swept rows still, with the key to go on from. */
  readonly #sweeps = new Map<SpaceId, Buffer>();
  readonly #unmade = new Map<SpaceId, UnmadeIndex>();

  constructor(tables: Tables, versionBytes: number) {
    this.#tables = tables;
    this.#versions = new LmdbRowVersions(tables.versions, tables.meta, versionBytes);
    this.#position = positionIn(tables, undefined);
    this.#flushedSeq = this.#position.seq;
    for (const key of tables.cleared.getKeys()) this.#sweeps.set(spaceOf(key), key);
    this.#readUnmade();
    if (this.#sweeps.size + this.#unmade.size > 0) this.#wake();
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

  apply(batch: StoreBatch): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    assert(this.#state === "open", `apply to an atom store that is ${this.#state}`);
    // Before LMDB has any of it: what throws half way would leave half a batch in the transaction.
    for (const change of batch.changes) if ("key" in change) checkRowKey(change.key);
    for (const name of batch.catalog.keys()) checkKey(Buffer.byteLength(name));
    return new Promise((resolve, reject) => {
      this.#queue.push({ batch, resolve, reject });
      this.#wake();
    });
  }

  readCatalog(): Map<string, Buffer> {
    const records = new Map<string, Buffer>();
    for (const { key, value } of this.#tables.catalog.getRange()) records.set(key.toString("utf8"), value);
    return records;
  }

  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, since?: Seq): StoredRows | null {
    return this.#reading((transaction) => {
      if (this.#unmade.has(space) || this.#tables.unmade.get(spaceKey(space), { transaction }) !== undefined) return null;
      const rows: (StoredRow & { readonly key: Buffer; readonly seq: Seq })[] = [];
      let byteCount = 0;
      let next: Buffer | null = null;
      for (const one of this.#visible(transaction, space, low, high)) {
        byteCount += one.key.length + one.row.length;
        if (rows.length > 0 && byteCount > bytesMax) {
          next = one.key;
          break;
        }
        rows.push(one);
      }
      const { seq } = positionIn(this.#tables, transaction);
      if (since === undefined) return { seq, rows, next, images: [], imagesFrom: seq };
      return { seq, rows, next, ...this.#versions.imagesSince(transaction, { space, low, high: next ?? high }, since, seq, rows) };
    });
  }

  readPast(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, asOf: Seq): PastRows | "gone" | null {
    return this.#reading((transaction) => {
      const position = positionIn(this.#tables, transaction).seq;
      assert(asOf <= position, `the past at ${asOf}, in a store at ${position}`);
      if (this.#unmade.has(space) || this.#tables.unmade.get(spaceKey(space), { transaction }) !== undefined) return null;
      if (!this.#versions.reaches(transaction, asOf)) return "gone";
      const now = this.#visible(transaction, space, low, high);
      const before = this.#versions.places(transaction, space, low);
      const rows: StoredRow[] = [];
      let byteCount = 0;
      let [one, place] = [now.next().value, before.next().value];
      for (let lookedAt = 0; ; lookedAt++) {
        const changed = place === undefined ? undefined : place.subarray(spaceBytes);
        const isChanged =
          changed !== undefined && (high === null || changed.compare(high) < 0) && (one === undefined || changed.compare(one.key) <= 0);
        if (!isChanged && one === undefined) return { rows, next: null };
        const isThere = one !== undefined && (!isChanged || changed.compare(one.key) === 0);
        const key = (isChanged ? changed : one?.key) as Buffer;
        const isSame = isThere && (one?.seq ?? 0) <= asOf;
        // What came after it, and has no versions, was not there.
        const row = isSame ? (one?.row ?? null) : isChanged ? this.#versions.at(transaction, rowKey(space, key), asOf) : null;
        if (row !== null) byteCount += key.length + row.length;
        if ((rows.length > 0 && byteCount > bytesMax) || lookedAt === pastLookedAtMax) return { rows, next: Buffer.from(key) };
        if (row !== null) rows.push({ key, row });
        if (isThere) one = now.next().value;
        if (isChanged) place = before.next().value;
      }
    });
  }

  readRow(space: SpaceId, key: Uint8Array): Buffer | null {
    return this.#reading((transaction) => {
      const value = this.#tables.rows.get(rowKey(space, key), { transaction });
      if (value === undefined) return null;
      const { seq, row } = splitValue(value);
      return seq < clearedSeq(this.#tables, transaction, space) ? null : row;
    });
  }

  cuts(space: SpaceId, low: Uint8Array, high: Uint8Array | null, pieceBytes: number): StoredCuts {
    return this.#reading((transaction) => {
      const cutter = createPieceCutter(pieceBytes);
      for (const one of this.#visible(transaction, space, low, high)) if (!cutter.add(one.key, one.row.length)) break;
      return cutter.finish();
    });
  }

  openTransfer(): StoreTransfer {
    assert(this.#state === "open", `a transfer of an atom store that is ${this.#state}`);
    if (this.#transfers.size >= transferCountMax) {
      throw new DatabaseError(
        "ATOMCAST_TOO_MANY_TRANSFERS",
        `${transferCountMax} transfers of this atom store are open already: try again when one has ended`,
      );
    }
    // A read transaction that LMDB's own reads do not share and renew.
    this.#tables.root.resetReadTxn();
    const transfer = new LmdbTransfer(this.#tables, this.#tables.rows.useReadTransaction(), (closed) => this.#transfers.delete(closed));
    this.#tables.root.resetReadTxn();
    this.#transfers.add(transfer);
    return transfer;
  }

  async beginInstall(): Promise<StoreInstall> {
    assert(this.#state === "open", `a transfer into an atom store that is ${this.#state}`);
    this.#state = "installing";
    await this.#idle();
    this.#throwFailure();
    this.#sweeps.clear();
    this.#unmade.clear();
    await this.#attempt(() => emptyTables(this.#tables, true));
    this.#versions.begin(noSeq);
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
        this.#state = "open";
      },
    };
  }

  async close(): Promise<void> {
    this.#state = "closed";
    await this.#idle();
    for (const transfer of [...this.#transfers]) transfer.close();
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
    while (this.#queue.length > 0 || (this.#hasSteps && this.#state === "open" && this.#failure === null)) {
      const group = this.#nextGroup();
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
  }

  /** Something is to be done step by step, whether or not anything comes. */
  get #hasSteps(): boolean {
    return this.#sweeps.size + this.#unmade.size > 0 || this.#versions.isSweepDue;
  }

  #nextGroup(): QueuedBatch[] {
    let changeCount = 0;
    let byteCount = 0;
    let count = 0;
    for (const { batch } of this.#queue) {
      changeCount += batch.changes.length + batch.catalog.size;
      for (const change of batch.changes) if (change.kind === "put") byteCount += change.row.length;
      if (count > 0 && (changeCount > groupChangesMax || byteCount > groupBytesMax)) break;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  /** Everything is handed to LMDB within this turn, which makes it one transaction; resolves when that is visible. */
  async #writeGroup(group: readonly QueuedBatch[]): Promise<void> {
    const writes = new Writes();
    // What was committed last must be seen: what steps find, and rows that are replaced, is what they go on from.
    const looksBack = group.some(({ batch }) => batch.changes.some((change) => looksAtRow(change) || change.kind === "clear"));
    if (this.#hasSteps || looksBack) this.#tables.root.resetReadTxn();
    const written: Written = { writes, rows: looksBack ? new Map() : null, cleared: new Map(), unmade: new Map() };
    for (const { batch } of group) this.#versions.raise(batch.mark);
    this.#versions.sweepStep(
      writes,
      this.#position.seq,
      group.reduce((sum, { batch }) => sum + batch.changes.length, 0),
    );
    const sweptSpaces = this.#sweepStep(writes);
    this.#indexStep(written);
    for (const { batch } of group) {
      for (const change of batch.changes) this.#change(written, change);
      for (const [name, record] of batch.catalog) {
        const key = Buffer.from(name);
        writes.add(record === null ? this.#tables.catalog.remove(key) : this.#tables.catalog.put(key, asBuffer(record)));
      }
    }
    const position = group.at(-1)?.batch.position ?? this.#position;
    writes.add(this.#tables.meta.put(metaKeys.position, encodePosition(position)));
    this.#versions.finish(writes);
    // Taken now: it stands for this transaction, and a later write replaces it.
    this.#tables.root.flushed.then(
      () => {
        if (this.#state !== "installing") this.#flushedSeq = Math.max(this.#flushedSeq, position.seq) as Seq;
      },
      (cause) => void this.#fail(cause),
    );
    await writes.done();
    this.#position = position;
    for (const space of sweptSpaces) this.#sweeps.delete(space);
    for (const [space, from] of written.cleared) this.#sweeps.set(space, from);
    for (const [space, unmade] of written.unmade) {
      if (unmade === null) this.#unmade.delete(space);
      else this.#unmade.set(space, unmade);
    }
  }

  #change(written: Written, change: StoreChange): void {
    const { writes } = written;
    switch (change.kind) {
      case "put":
      case "delete":
        this.#set(written, change);
        break;
      case "clear":
        // The record hides what has a lower seq; what this transaction put before may have the same.
        for (const { place, value } of written.rows?.get(change.space)?.values() ?? [])
          if (value !== null) writes.add(this.#tables.rows.remove(place));
        written.rows?.delete(change.space);
        writes.add(this.#tables.cleared.put(spaceKey(change.space), number(change.seq)));
        written.cleared.set(change.space, spaceKey(change.space));
        if (this.#unmade.has(change.space) || written.unmade.has(change.space)) {
          writes.add(this.#tables.unmade.remove(spaceKey(change.space)));
          written.unmade.set(change.space, null);
        }
        break;
      case "index":
        this.#setUnmade(written, { table: change.space, index: change.index, from: Buffer.alloc(0) });
        break;
      default:
        unreachable(change);
    }
  }

  /** The row, its index entries, and what it was before. */
  #set(written: Written, change: Extract<StoreChange, { kind: "put" | "delete" }>): void {
    const { space, key, seq, indexes } = change;
    const row = change.kind === "put" ? change.row : null;
    const place = rowKey(space, key);
    const before = looksAtRow(change) ? this.#valueAt(written, space, place) : null;
    const found = before === null ? null : splitValue(before);
    for (const one of indexes === undefined ? [] : entryChanges(indexes, key, found?.row ?? null, row)) this.#setEntry(written, one, key, seq);
    // What the same entry has put is in no snapshot.
    if (before !== null && found?.seq !== seq) this.#versions.keep(written.writes, place, before, seq);
    this.#write(written, space, place, row === null ? null : joinValue(seq, row));
  }

  #setEntry(written: Written, { kind, space, key }: EntryChange, of: Uint8Array, seq: Seq): void {
    const place = rowKey(space, key);
    // Since when it was there is not worth looking up: it names a row, which tells what it was itself.
    if (kind === "delete") this.#versions.keep(written.writes, place, joinValue(noSeq, of), seq);
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
    const value = this.#tables.rows.get(place) ?? null;
    if (value === null || (!written.cleared.has(space) && !this.#sweeps.has(space))) return value;
    // What is hidden is not there.
    return written.cleared.has(space) || splitValue(value).seq < clearedSeq(this.#tables, undefined, space) ? null : value;
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
      for (const one of entryChanges([index], last, null, splitValue(value).row)) this.#setEntry(written, one, last, noSeq);
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

  /** Removes some rows of a cleared space, before this transaction's own changes. Returns the spaces that are done with it. */
  #sweepStep(writes: Writes): SpaceId[] {
    const next = this.#sweeps.entries().next().value;
    if (next === undefined) return [];
    const [space, from] = next;
    const { rows, cleared } = this.#tables;
    const hiddenBelow = clearedSeq(this.#tables, undefined, space);
    assert(hiddenBelow > 0, `space ${space} is swept and has not been cleared`);
    let count = 0;
    let last: Buffer = from;
    for (const { key, value } of rows.getRange({ start: from, end: spaceKey(space + 1), limit: sweepRowsMax })) {
      count++;
      last = key;
      if (splitValue(value).seq < hiddenBelow) writes.add(rows.remove(key));
    }
    if (count === sweepRowsMax) {
      this.#sweeps.set(space, last);
      return [];
    }
    writes.add(cleared.remove(spaceKey(space)));
    return [space];
  }

  async #install(items: readonly TransferItem[]): Promise<void> {
    const writes = new Writes();
    for (const item of items) {
      if (item.kind === "catalog") writes.add(this.#tables.catalog.put(Buffer.from(item.name), asBuffer(item.bytes)));
      else if (item.key.length === 0) writes.add(this.#tables.unmade.put(spaceKey(item.space), asBuffer(item.row)));
      else writes.add(this.#tables.rows.put(rowKey(item.space, item.key), joinValue(item.seq, item.row)));
    }
    await writes.done();
  }

  #reading<T>(read: (transaction: ReadTransaction) => T): T {
    const transaction = this.#tables.rows.useReadTransaction();
    try {
      return read(transaction);
    } finally {
      transaction.done();
    }
  }

  *#visible(
    transaction: ReadTransaction,
    space: SpaceId,
    low: Uint8Array,
    high: Uint8Array | null,
  ): Generator<{ key: Buffer; seq: Seq; row: Buffer }> {
    const hiddenBelow = clearedSeq(this.#tables, transaction, space);
    const end = high === null ? spaceKey(space + 1) : rowKey(space, high);
    for (const { key, value } of this.#tables.rows.getRange({ start: rowKey(space, low), end, transaction })) {
      const { seq, row } = splitValue(value);
      if (seq >= hiddenBelow) yield { key: key.subarray(spaceBytes), seq, row };
    }
  }
}

class LmdbTransfer implements StoreTransfer {
  readonly position: LogPosition;
  readonly #tables: Tables;
  readonly #transaction: ReadTransaction;
  readonly #onClose: (transfer: LmdbTransfer) => void;
  readonly #cleared = new Map<SpaceId, number>();
  #isOpen = true;

  constructor(tables: Tables, transaction: ReadTransaction, onClose: (transfer: LmdbTransfer) => void) {
    this.#tables = tables;
    this.#transaction = transaction;
    this.#onClose = onClose;
    this.position = positionIn(tables, transaction);
    for (const { key, value } of tables.cleared.getRange({ transaction })) this.#cleared.set(spaceOf(key), readNumber(value));
  }

  read(cursor: string, bytesMax: number): { readonly part: Buffer; readonly next: string } | null {
    assert(this.#isOpen, "reading a closed transfer");
    const place = decodePlace(cursor);
    const items: TransferItem[] = [];
    const transaction = this.#transaction;
    let byteCount = 0;
    let after = place.section === "rows" ? place.after : null;
    if (place.section === "catalog") {
      const start = place.after === null ? {} : { start: Buffer.from(place.after), exclusiveStart: true };
      for (const { key, value } of this.#tables.catalog.getRange({ ...start, transaction })) {
        const name = key.toString("utf8");
        items.push({ kind: "catalog", name, bytes: value });
        byteCount += key.length + value.length;
        if (byteCount >= bytesMax) return { part: encodePart(items), next: encodePlace({ section: "catalog", after: name }) };
      }
    }
    // As rows without a key, which no row is.
    if (after === null) {
      for (const { key, value } of this.#tables.unmade.getRange({ transaction }))
        items.push({ kind: "row", space: spaceOf(key), key: Buffer.alloc(0), seq: this.position.seq, row: value });
      if (items.length > 0) after = spaceKey(0);
    }
    const start = after === null ? {} : { start: after, exclusiveStart: true };
    for (const { key, value } of this.#tables.rows.getRange({ ...start, transaction })) {
      after = key;
      const { seq, row } = splitValue(value);
      const space = spaceOf(key);
      if (seq < (this.#cleared.get(space) ?? 0)) continue;
      items.push({ kind: "row", space, key: key.subarray(spaceBytes), seq, row });
      byteCount += key.length + value.length;
      if (byteCount >= bytesMax) break;
    }
    return items.length === 0 ? null : { part: encodePart(items), next: encodePlace({ section: "rows", after }) };
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#transaction.done();
    this.#onClose(this);
  }
}

/** It must be known what the row was before. */
function looksAtRow(change: StoreChange): boolean {
  return change.kind === "delete" || (change.kind === "put" && change.isNew !== true);
}

function positionIn(tables: Tables, transaction: ReadTransaction | undefined): LogPosition {
  const bytes = tables.meta.get(metaKeys.position, transaction === undefined ? undefined : { transaction });
  if (bytes === undefined) return origin;
  const reader = new ByteReader(bytes);
  return { seq: reader.varint() as Seq, term: reader.varint() as Term, hash: reader.text() as ChainHash };
}

function encodePosition(position: LogPosition): Buffer {
  return new ByteWriter(32).varint(position.seq).varint(position.term).text(position.hash).finish();
}

function clearedSeq(tables: Tables, transaction: ReadTransaction | undefined, space: SpaceId): number {
  const bytes = tables.cleared.get(spaceKey(space), transaction === undefined ? undefined : { transaction });
  return bytes === undefined ? 0 : readNumber(bytes);
}
