/**
 * The atom store on disk, in LMDB (contract: atom-store.ts).
 *
 *   rows      space (7 bytes, big-endian), sort key → seq (varint), row
 *   catalog   name → record
 *   cleared   space → seq: rows of the space with a lower seq are gone, and swept in small steps
 *   unmade    space of an index → what is still to be done until it has all entries (index-entries.ts), in small steps too
 *   meta      "format", "position", and "unfinished" while a transfer is being taken in
 *
 * One LMDB transaction is under way at a time; batches that come meanwhile go together into the next. So a batch that fails is never followed
 * by one that succeeds, and rows and position are in one transaction: after a crash the store is at a position that it once had, whole.
 *
 * LMDB makes a commit visible before it is on the disk (overlapping sync): `flushedSeq` follows what is.
 */

import { type Database, open, type RootDatabase } from "lmdb";
import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import { type ChainHash, genesisHash } from "../base/chain-hash.js";
import { assert, DatabaseError, unreachable } from "../base/errors.js";
import { noSeq, noTerm, type Seq, type SpaceId, type Term } from "../base/ids.js";
import { sortKeyBytesMax } from "../base/limits.js";
import type { LogPosition } from "../base/log-entry.js";
import type { RowIndex } from "../base/row-index.js";
import type { AtomStore, StoreBatch, StoreChange, StoredCuts, StoredRow, StoredRows, StoreInstall, StoreTransfer } from "./atom-store.js";
import { decodeUnmadeIndex, encodeUnmadeIndex, entryChanges, type UnmadeIndex } from "./index-entries.js";
import { createPieceCutter } from "./store-pieces.js";
import { decodePart, decodePlace, encodePart, encodePlace, type TransferItem } from "./transfer-part.js";

/** Opens the store in the folder, or makes it. */
export async function openLmdbAtomStore(directory: string): Promise<AtomStore> {
  const tables = openTables(directory);
  try {
    const format = tables.meta.get(metaKeys.format);
    if (format !== undefined && readNumber(format) !== storeFormat) {
      const message = `the atom store in ${directory} has format ${readNumber(format)}, this Atomcast reads format ${storeFormat}: run the version that wrote it, or a newer one`;
      throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
    }
    if (format === undefined || tables.meta.get(metaKeys.unfinished) !== undefined) await emptyTables(tables, false);
    return new LmdbAtomStore(tables);
  } catch (error) {
    await tables.root.close();
    throw error;
  }
}

export const storeFormat = 1;

/** Open transfers: each keeps LMDB from using pages again that were freed since, so the file grows. The next is refused. */
export const transferCountMax = 4;

/** Changes and bytes that go into one transaction together, unless one batch is larger: what the event loop gives away at once (5 ms or so). */
const groupChangesMax = 4096;
const groupBytesMax = 8 * 1024 * 1024;

/** Rows of cleared spaces that one transaction looks at. */
const sweepRowsMax = 512;

/** Rows that get their entries of a new index in one transaction. */
const indexRowsMax = 512;

const spaceBytes = 7;
/** LMDB's own limit for keys. */
const lmdbKeyBytesMax = 1978;
const metaKeys = { format: Buffer.from("format"), position: Buffer.from("position"), unfinished: Buffer.from("unfinished") };
const origin: LogPosition = { seq: noSeq, term: noTerm, hash: genesisHash };

type Table = Database<Buffer, Buffer>;
type ReadTransaction = ReturnType<Table["useReadTransaction"]>;

interface Tables {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly rows: Table;
  readonly catalog: Table;
  readonly cleared: Table;
  readonly unmade: Table;
  readonly meta: Table;
}

/** What one transaction has written so far. */
interface Written {
  readonly writes: Writes;
  readonly keys: Map<SpaceId, Buffer[]>;
  /** Rows of tables with indexes, as they are now; null: deleted. */
  readonly rows: Map<string, Uint8Array | null>;
  readonly cleared: Map<SpaceId, Buffer>;
  /** null: made, or gone. */
  readonly unmade: Map<SpaceId, UnmadeIndex | null>;
}

interface QueuedBatch {
  readonly batch: StoreBatch;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function openTables(directory: string): Tables {
  const form = { keyEncoding: "binary", encoding: "binary" } as const;
  // Values below 64 KiB and keys are small: no compression, no cache of decoded values, no versions.
  const root = open<Buffer, Buffer>({ ...form, path: directory, noSubdir: false, maxDbs: 5, compression: false, cache: false });
  const table = (name: string): Table => root.openDB<Buffer, Buffer>({ ...form, name });
  return { root, rows: table("rows"), catalog: table("catalog"), cleared: table("cleared"), unmade: table("unmade"), meta: table("meta") };
}

/** On the disk when resolved. */
async function emptyTables(tables: Tables, isUnfinished: boolean): Promise<void> {
  const written = [
    tables.rows.clearAsync(),
    tables.catalog.clearAsync(),
    tables.cleared.clearAsync(),
    tables.unmade.clearAsync(),
    tables.meta.put(metaKeys.format, number(storeFormat)),
    tables.meta.remove(metaKeys.position),
    isUnfinished ? tables.meta.put(metaKeys.unfinished, number(1)) : tables.meta.remove(metaKeys.unfinished),
  ];
  await Promise.all([...written, tables.root.flushed]);
}

class LmdbAtomStore implements AtomStore {
  readonly #tables: Tables;
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

  constructor(tables: Tables) {
    this.#tables = tables;
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

  apply(batch: StoreBatch): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    assert(this.#state === "open", `apply to an atom store that is ${this.#state}`);
    // Before LMDB has any of it: what throws half way would leave half a batch in the transaction.
    for (const change of batch.changes) if ("key" in change) checkKey(spaceBytes + change.key.length);
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

  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number): StoredRows | null {
    return this.#reading((transaction) => {
      if (this.#unmade.has(space) || this.#tables.unmade.get(spaceKey(space), { transaction }) !== undefined) return null;
      const rows: StoredRow[] = [];
      let byteCount = 0;
      let next: Buffer | null = null;
      for (const one of this.#visible(transaction, space, low, high)) {
        byteCount += one.key.length + one.row.length;
        if (rows.length > 0 && byteCount > bytesMax) {
          next = one.key;
          break;
        }
        rows.push({ key: one.key, row: one.row });
      }
      return { seq: positionIn(this.#tables, transaction).seq, rows, next };
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
      for (const one of this.#visible(transaction, space, low, high)) cutter.add(one.key, one.row.length);
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
    this.#at(origin);
    return {
      write: async (part) => {
        const items = decodePart(part);
        await this.#attempt(() => this.#install(items));
      },
      finish: async (position) => {
        await this.#attempt(async () => {
          const { meta, root } = this.#tables;
          const written = [meta.put(metaKeys.position, encodePosition(position)), meta.remove(metaKeys.unfinished)];
          await Promise.all([...written, root.flushed]);
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
    while (this.#queue.length > 0 || (this.#sweeps.size + this.#unmade.size > 0 && this.#state === "open" && this.#failure === null)) {
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
    // What was committed last must be seen: what steps and changes of indexed rows find is what they go on from.
    if (this.#sweeps.size + this.#unmade.size > 0 || group.some(({ batch }) => batch.changes.some(isOfIndexes))) this.#tables.root.resetReadTxn();
    const written: Written = { writes, keys: new Map(), rows: new Map(), cleared: new Map(), unmade: new Map() };
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
        if (change.indexes !== undefined) this.#follow(written, change, change.indexes, change.row);
        this.#put(written, change.space, change.key, change.row, change.seq);
        break;
      case "delete":
        if (change.indexes !== undefined) this.#follow(written, change, change.indexes, null);
        writes.add(this.#tables.rows.remove(rowKey(change.space, change.key)));
        break;
      case "clear":
        // The record hides what has a lower seq; what this transaction put before may have the same.
        for (const key of written.keys.get(change.space) ?? []) writes.add(this.#tables.rows.remove(key));
        written.keys.delete(change.space);
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

  #put({ writes, keys }: Written, space: SpaceId, key: Uint8Array, row: Uint8Array, seq: Seq): void {
    const place = rowKey(space, key);
    const known = keys.get(space);
    if (known === undefined) keys.set(space, [place]);
    else known.push(place);
    writes.add(this.#tables.rows.put(place, joinValue(seq, row)));
  }

  /** The row's index entries, by what it was before: as this transaction has left it, or as it is stored. */
  #follow(
    written: Written,
    { space, key, seq }: { space: SpaceId; key: Uint8Array; seq: Seq },
    indexes: readonly RowIndex[],
    after: Uint8Array | null,
  ): void {
    const place = rowKey(space, key);
    const name = place.toString("latin1");
    let before = written.rows.get(name);
    if (before === undefined) {
      const value = this.#tables.rows.get(place);
      before = value === undefined ? null : splitValue(value).row;
    }
    written.rows.set(name, after);
    for (const one of entryChanges(indexes, key, before, after)) {
      if (one.kind === "put") this.#put(written, one.space, one.key, key, seq);
      else written.writes.add(this.#tables.rows.remove(rowKey(one.space, one.key)));
    }
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
      const { seq, row } = splitValue(value);
      for (const one of entryChanges([index], last, null, row)) this.#put(written, one.space, one.key, last, seq);
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

  *#visible(transaction: ReadTransaction, space: SpaceId, low: Uint8Array, high: Uint8Array | null): Generator<{ key: Buffer; row: Buffer }> {
    const hiddenBelow = clearedSeq(this.#tables, transaction, space);
    const end = high === null ? spaceKey(space + 1) : rowKey(space, high);
    for (const { key, value } of this.#tables.rows.getRange({ start: rowKey(space, low), end, transaction })) {
      const { seq, row } = splitValue(value);
      if (seq >= hiddenBelow) yield { key: key.subarray(spaceBytes), row };
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

/** The promises of one transaction: LMDB gives the same one for most writes. */
class Writes {
  readonly #promises: Promise<unknown>[] = [];

  add(promise: Promise<unknown>): void {
    if (this.#promises.at(-1) !== promise) this.#promises.push(promise);
  }

  async done(): Promise<void> {
    await Promise.all(this.#promises);
  }
}

function isOfIndexes(change: StoreChange): boolean {
  return "indexes" in change && change.indexes !== undefined;
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

function spaceKey(space: number): Buffer {
  const key = Buffer.allocUnsafe(spaceBytes);
  key.writeUInt8(Math.floor(space / 2 ** 48), 0);
  key.writeUIntBE(space % 2 ** 48, 1, 6);
  return key;
}

function spaceOf(key: Buffer): SpaceId {
  return (key.readUInt8(0) * 2 ** 48 + key.readUIntBE(1, 6)) as SpaceId;
}

function rowKey(space: SpaceId, key: Uint8Array): Buffer {
  checkKey(spaceBytes + key.length);
  const bytes = Buffer.allocUnsafe(spaceBytes + key.length);
  bytes.writeUInt8(Math.floor(space / 2 ** 48), 0);
  bytes.writeUIntBE(space % 2 ** 48, 1, 6);
  bytes.set(key, spaceBytes);
  return bytes;
}

function checkKey(byteCount: number): void {
  const isFitting = byteCount > 0 && byteCount <= lmdbKeyBytesMax;
  if (!isFitting) throw new MalformedBytesError(`a key of ${byteCount} bytes: sort keys end near ${sortKeyBytesMax}`);
}

function joinValue(seq: Seq, row: Uint8Array): Buffer {
  return new ByteWriter(row.length + 8).varint(seq).raw(row).finish();
}

function splitValue(value: Buffer): { readonly seq: Seq; readonly row: Buffer } {
  const reader = new ByteReader(value);
  const seq = reader.varint() as Seq;
  return { seq, row: value.subarray(reader.offset) };
}

function number(value: number): Buffer {
  return new ByteWriter(8).varint(value).finish();
}

function readNumber(bytes: Buffer): number {
  return new ByteReader(bytes).varint();
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
