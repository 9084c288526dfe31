/**
 * What is read of the atom store in LMDB, each answer in one read transaction: by the store itself, and by others that have the same folder open, on
 * threads of their own.
 */
import { assert, DatabaseError } from "../base/errors.js";
import type { Seq, SpaceId } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { PastRows, StoredCuts, StoredRow, StoredRows, StoreReads, StoreTransfer } from "./atom-store.js";
import { droppedSpace } from "./lmdb-dropped-spaces.js";
import { rowKey, type Stored, spaceBytes, spaceKey, spaceOf, splitValue, weightOf } from "./lmdb-layout.js";
import { openTables, positionIn, type ReadTransaction, type Tables } from "./lmdb-tables.js";
import { LmdbVersionReads } from "./lmdb-version-reads.js";
import { pastLookedAtMax } from "./row-versions.js";
import { createPieceCutter } from "./store-pieces.js";
import { decodePlace, encodePart, encodePlace, type TransferItem } from "./transfer-part.js";

/** Opens a store's folder for reading, while another thread of this process writes it. What it reads is no older than what was visible at the call. */
export function openLmdbReads(directory: string): StoreReads & { close(): Promise<void> } {
  const tables = openTables(directory);
  const reads = new LmdbReads(tables);
  // LMDB keeps a read transaction for a turn of the event loop; what another thread has committed meanwhile would not be seen.
  const anew = (): LmdbReads => {
    tables.root.resetReadTxn();
    return reads;
  };
  return {
    get position() {
      return anew().position;
    },
    readRows: (...asked) => anew().readRows(...asked),
    readPast: (...asked) => anew().readPast(...asked),
    cuts: (...asked) => anew().cuts(...asked),
    openTransfer: () => anew().openTransfer(),
    async close() {
      reads.closeTransfers();
      await tables.root.close();
    },
  };
}

/** Open transfers: each keeps LMDB from using pages again that were freed since, so the file grows. The next is refused. */
export const transferCountMax = 4;

interface FoundRow extends Stored {
  readonly key: Buffer;
}

export class LmdbReads implements StoreReads {
  readonly #tables: Tables;
  readonly #versions: LmdbVersionReads;
  readonly #transfers = new Set<LmdbTransfer>();

  constructor(tables: Tables) {
    this.#tables = tables;
    this.#versions = new LmdbVersionReads(tables.versions, tables.meta);
  }

  get position(): LogPosition {
    return this.#reading((transaction) => positionIn(this.#tables, transaction));
  }

  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, since?: Seq): StoredRows | null {
    return this.#reading((transaction) => {
      if (this.#tables.unmade.get(spaceKey(space), { transaction }) !== undefined) return null;
      const rows: FoundRow[] = [];
      let byteCount = 0;
      let next: Buffer | null = null;
      for (const one of this.#visible(transaction, space, low, high)) {
        byteCount += one.key.length + weightOf(one);
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
      if (asOf > positionIn(this.#tables, transaction).seq) return null;
      if (this.#tables.unmade.get(spaceKey(space), { transaction }) !== undefined) return null;
      if (!this.#versions.reaches(transaction, asOf)) return "gone";
      const dropped = droppedSpace(this.#tables.dropped, transaction, space);
      if (dropped !== null && asOf >= dropped.seq) return { rows: [], next: null };
      if (dropped?.isIncomplete === true) return "gone";
      const now = this.#stored(transaction, space, low, high);
      try {
        return this.#mergePast(transaction, { space, low, high }, bytesMax, asOf, now);
      } finally {
        // LMDB never ends a transaction of which a range was not read to its end: it would keep a place among its readers, and all pages freed since.
        now.return(undefined);
      }
    });
  }

  /** `now`: the rows of the range that are stored. */
  #mergePast(
    transaction: ReadTransaction,
    { space, low, high }: { readonly space: SpaceId; readonly low: Uint8Array; readonly high: Uint8Array | null },
    bytesMax: number,
    asOf: Seq,
    now: Iterator<FoundRow, undefined>,
  ): PastRows {
    const before = this.#versions.places(transaction, space, low);
    const rows: StoredRow[] = [];
    let byteCount = 0;
    let [one, place] = [now.next().value, before.next().value];
    for (let lookedAt = 0; ; lookedAt++) {
      const changed = place === undefined ? undefined : place.subarray(spaceBytes);
      const isChanged = changed !== undefined && (high === null || changed.compare(high) < 0) && (one === undefined || changed.compare(one.key) <= 0);
      if (!isChanged && one === undefined) return { rows, next: null };
      const isThere = one !== undefined && (!isChanged || changed.compare(one.key) === 0);
      const key = (isChanged ? changed : one?.key) as Buffer;
      const isSame = isThere && (one?.seq ?? 0) <= asOf;
      // What came after it, and has no versions, was not there.
      const found = isSame ? (one ?? null) : isChanged ? this.#versions.at(transaction, rowKey(space, key), asOf) : null;
      if (found !== null) byteCount += key.length + weightOf(found);
      if ((rows.length > 0 && byteCount > bytesMax) || lookedAt === pastLookedAtMax) return { rows, next: Buffer.from(key) };
      if (found !== null) rows.push({ key, row: found.row });
      if (isThere) one = now.next().value;
      if (isChanged) place = before.next().value;
    }
  }

  cuts(space: SpaceId, low: Uint8Array, high: Uint8Array | null, pieceBytes: number): StoredCuts {
    return this.#reading((transaction) => {
      const cutter = createPieceCutter(pieceBytes);
      for (const one of this.#visible(transaction, space, low, high)) if (!cutter.add(one.key, weightOf(one))) break;
      return cutter.finish();
    });
  }

  openTransfer(): StoreTransfer {
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

  closeTransfers(): void {
    for (const transfer of [...this.#transfers]) transfer.close();
  }

  #reading<T>(read: (transaction: ReadTransaction) => T): T {
    const transaction = this.#tables.rows.useReadTransaction();
    try {
      return read(transaction);
    } finally {
      transaction.done();
    }
  }

  /** For who reads the present. */
  *#visible(transaction: ReadTransaction, space: SpaceId, low: Uint8Array, high: Uint8Array | null): Generator<FoundRow> {
    if (droppedSpace(this.#tables.dropped, transaction, space) === null) yield* this.#stored(transaction, space, low, high);
  }

  *#stored(transaction: ReadTransaction, space: SpaceId, low: Uint8Array, high: Uint8Array | null): Generator<FoundRow, undefined> {
    const end = high === null ? spaceKey(space + 1) : rowKey(space, high);
    for (const { key, value } of this.#tables.rows.getRange({ start: rowKey(space, low), end, transaction }))
      yield { key: key.subarray(spaceBytes), ...splitValue(value) };
    return undefined;
  }
}

class LmdbTransfer implements StoreTransfer {
  readonly position: LogPosition;
  readonly #tables: Tables;
  readonly #transaction: ReadTransaction;
  readonly #onClose: (transfer: LmdbTransfer) => void;
  readonly #dropped: ReadonlySet<SpaceId>;
  #isOpen = true;

  constructor(tables: Tables, transaction: ReadTransaction, onClose: (transfer: LmdbTransfer) => void) {
    this.#tables = tables;
    this.#transaction = transaction;
    this.#onClose = onClose;
    this.position = positionIn(tables, transaction);
    this.#dropped = new Set([...tables.dropped.getKeys({ transaction })].map((key) => spaceOf(key)));
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
        items.push({ kind: "row", space: spaceOf(key), key: Buffer.alloc(0), seq: this.position.seq, row: value, refers: false });
      if (items.length > 0) after = spaceKey(0);
    }
    for (const { key, value } of this.#rowsAfter(after)) {
      after = key;
      items.push({ kind: "row", space: spaceOf(key), key: key.subarray(spaceBytes), ...splitValue(value) });
      byteCount += key.length + value.length;
      if (byteCount >= bytesMax) break;
    }
    return items.length === 0 ? null : { part: encodePart(items), next: encodePlace({ section: "rows", after }) };
  }

  /** But for those of dropped spaces, which may be many: they are not looked at. */
  *#rowsAfter(after: Buffer | null): Generator<{ readonly key: Buffer; readonly value: Buffer }> {
    const transaction = this.#transaction;
    for (let start: Buffer | null = after ?? spaceKey(0); start !== null; ) {
      let beyond: Buffer | null = null;
      for (const found of this.#tables.rows.getRange({ start, exclusiveStart: true, transaction })) {
        const space = spaceOf(found.key);
        if (this.#dropped.has(space)) {
          beyond = spaceKey(space + 1);
          break;
        }
        yield found;
      }
      start = beyond;
    }
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#transaction.done();
    this.#onClose(this);
  }
}
