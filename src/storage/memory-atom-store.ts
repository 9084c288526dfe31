/**
 * The atom store's twin without a disk, for the simulator and for tests: the same contract. A batch is visible at once; it is flushed when
 * the caller's scheduler says so (without one: at once). `crash` goes back to what was flushed, or to some batch after it. An index has its entries
 * at once, and all versions that the mark has passed go at once.
 */

import { MalformedBytesError } from "../base/bytes.js";
import { genesisHash } from "../base/chain-hash.js";
import { assert, DatabaseError, unreachable } from "../base/errors.js";
import { largeValueSpace, noSeq, noTerm, type Seq, type SpaceId } from "../base/ids.js";
import { nameOfValue, referencesOf, rowWeight, type ValueName } from "../base/large-values.js";
import type { LogPosition } from "../base/log-entry.js";
import type { Random } from "../base/random.js";
import type { RowIndex } from "../base/row-index.js";
import { referredBytes, valueHashBytes } from "../base/values.js";
import type {
  AtomStore,
  KeptValues,
  PastRows,
  StoreBatch,
  StoreChange,
  StoredCuts,
  StoredRow,
  StoredRows,
  StoreInstall,
  StoreTransfer,
} from "./atom-store.js";
import { type DroppedSpace, droppedBytesMax } from "./dropped-spaces.js";
import { decodeUnmadeIndex, entryChanges, type UnmadeIndex } from "./index-entries.js";
import { MemoryLargeValues } from "./memory-large-values.js";
import { imageBytesMax, imagesSince, type KeptVersions, noVersions, type RowVersion, versionBytesMax } from "./row-versions.js";
import { SortedMap } from "./sorted-map.js";
import { readStoreChanges } from "./store-changes.js";
import { createPieceCutter } from "./store-pieces.js";
import { decodePart, decodePlace, encodePart, encodePlace, type TransferItem } from "./transfer-part.js";

export interface MemoryAtomStoreOptions {
  /** Calls `complete` later, once: when what is applied until now is flushed. */
  readonly schedule?: (complete: () => void) => void;
  readonly versionBytesMax?: number;
  readonly droppedBytesMax?: number;
}

export interface MemoryAtomStore extends AtomStore {
  readonly catalog: ReadonlyMap<string, Buffer>;
  /** The process is gone; the store is as after opening it again: at what was flushed or at a random later batch. Open transfers end. */
  crash(random: Random): void;
}

/** As in the store on disk. */
export const memoryTransferCountMax = 4;

interface Value {
  readonly seq: Seq;
  readonly row: Buffer;
  /** It is a row that refers to large values. */
  readonly refers: boolean;
}

interface OldValue extends RowVersion {
  readonly refers: boolean;
}

/** Takes back one batch. */
type Undo = () => void;

const origin: LogPosition = { seq: noSeq, term: noTerm, hash: genesisHash };

export function createMemoryAtomStore(options: MemoryAtomStoreOptions = {}): MemoryAtomStore {
  return new MemoryAtomStoreState(options);
}

class MemoryAtomStoreState implements MemoryAtomStore {
  readonly #schedule: MemoryAtomStoreOptions["schedule"] | null;
  #spaces = new Map<SpaceId, SortedMap<Value>>();
  /** What dropped spaces had, in the order of their ends. */
  #dropped = new Map<SpaceId, DroppedSpace & { readonly rows: SortedMap<Value> }>();
  /** Of each key, oldest first. */
  #versions = new Map<SpaceId, SortedMap<readonly OldValue[]>>();
  #kept: KeptVersions = noVersions;
  #values = new MemoryLargeValues();
  readonly #versionBytesMax: number;
  readonly #droppedBytesMax: number;
  #catalog = new Map<string, Buffer>();
  #position = origin;
  #flushedSeq = noSeq;
  /** Of the batches after the flushed one, oldest first. */
  #unflushed: { readonly seq: Seq; readonly undo: readonly Undo[] }[] = [];
  #isFlushing = false;
  #life = 0;
  #state: "open" | "installing" | "closed" = "open";
  #transferCount = 0;
  #idle: (() => void)[] = [];

  constructor(options: MemoryAtomStoreOptions) {
    this.#schedule = options.schedule ?? null;
    this.#versionBytesMax = options.versionBytesMax ?? versionBytesMax;
    this.#droppedBytesMax = options.droppedBytesMax ?? droppedBytesMax;
  }

  get position(): LogPosition {
    return this.#position;
  }

  get flushedSeq(): Seq {
    return this.#flushedSeq;
  }

  get versions(): KeptVersions {
    return this.#kept;
  }

  get values(): KeptValues {
    return this.#values.kept;
  }

  async apply(batch: StoreBatch): Promise<void> {
    assert(this.#state === "open", `apply to an atom store that is ${this.#state}`);
    const kept = this.#kept;
    const undo: Undo[] = [
      () => {
        this.#kept = kept;
      },
    ];
    const isTooMuch = this.#kept.bytes > this.#versionBytesMax;
    this.#sweep(isTooMuch ? (Math.max(batch.mark, this.#position.seq) as Seq) : batch.mark, undo);
    this.#sweepDropped(batch.mark, undo);
    for (const change of readStoreChanges(batch.changes.chunks)) this.#change(change, undo);
    const counted = this.#values.finish((key, chunk) => this.#setChunk(key, chunk, undo));
    undo.push(counted.undo);
    this.#kept = { ...this.#kept, bytes: this.#kept.bytes + counted.keptMore };
    for (const [name, record] of batch.catalog) this.#setCatalog(name, record, undo);
    const before = this.#position;
    this.#position = batch.position;
    undo.push(() => {
      this.#position = before;
    });
    this.#unflushed.push({ seq: batch.position.seq, undo });
    this.#flush();
  }

  get catalog(): ReadonlyMap<string, Buffer> {
    return this.#catalog;
  }

  async readCatalog(): Promise<Map<string, Buffer>> {
    return new Map(this.#catalog);
  }

  readRows(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, since?: Seq): StoredRows {
    const rows: (Value & { readonly key: Buffer })[] = [];
    let byteCount = 0;
    let next: Buffer | null = null;
    for (const [key, value] of this.#range(space, low, high)) {
      byteCount += key.length + weightOf(value);
      if (rows.length > 0 && byteCount > bytesMax) {
        next = key;
        break;
      }
      rows.push({ key, ...value });
    }
    return { seq: this.#position.seq, rows, next, ...this.#imagesSince(since, space, low, next ?? high, rows) };
  }

  readPast(space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number, asOf: Seq): PastRows | "gone" | null {
    if (asOf > this.#position.seq) return null;
    if (asOf < this.#kept.floor) return "gone";
    const bounds = [asBuffer(low), high === null ? null : asBuffer(high)] as const;
    const dropped = this.#dropped.get(space);
    if (dropped !== undefined && asOf >= dropped.seq) return { rows: [], next: null };
    const past = new SortedMap<{ readonly row: Uint8Array; readonly refers: boolean }>();
    for (const [key, versions] of this.#versions.get(space)?.range(...bounds) ?? []) {
      const version = versions.find(({ until }) => until > asOf);
      if (version !== undefined && version.seq <= asOf) past.set(key, version);
    }
    const rowsNow = dropped === undefined ? this.#range(space, low, high) : dropped.rows.range(...bounds);
    for (const [key, value] of rowsNow) if (value.seq <= asOf) past.set(key, value);
    const rows: StoredRow[] = [];
    let byteCount = 0;
    for (const [key, value] of past.range(...bounds)) {
      byteCount += key.length + weightOf(value);
      if (rows.length > 0 && byteCount > bytesMax) return { rows, next: key };
      rows.push({ key, row: value.row });
    }
    return { rows, next: null };
  }

  #imagesSince(
    since: Seq | undefined,
    space: SpaceId,
    low: Uint8Array,
    high: Uint8Array | null,
    rows: readonly (Value & { readonly key: Buffer })[],
  ): Pick<StoredRows, "images" | "imagesFrom"> {
    const { seq } = this.#position;
    if (since === undefined) return { images: [], imagesFrom: seq };
    const imagesFrom = Math.max(since, this.#kept.floor) as Seq;
    const range = this.#versions.get(space)?.range(asBuffer(low), high === null ? null : asBuffer(high)) ?? [];
    const versions = [...range].flatMap(([, some]) => some.filter(({ until }) => until > imagesFrom));
    const shared = new Set(rows.flatMap(namesIn));
    let bytes = 0;
    for (const version of versions) {
      bytes += version.key.length + version.row.length;
      for (const { hash, byteCount } of version.refers ? referencesOf(version.row) : []) {
        if (!shared.has(nameOfValue(hash))) bytes += byteCount;
        shared.add(nameOfValue(hash));
      }
    }
    if (bytes > imageBytesMax) return { images: [], imagesFrom: seq };
    return { images: imagesSince(imagesFrom, rows, versions), imagesFrom };
  }

  #row(space: SpaceId, key: Uint8Array): Buffer | null {
    return this.#spaces.get(space)?.get(asBuffer(key))?.row ?? null;
  }

  cuts(space: SpaceId, low: Uint8Array, high: Uint8Array | null, pieceBytes: number): StoredCuts {
    const cutter = createPieceCutter(pieceBytes);
    for (const [key, value] of this.#range(space, low, high)) if (!cutter.add(key, weightOf(value))) break;
    return cutter.finish();
  }

  openTransfer(): StoreTransfer {
    assert(this.#state === "open", `a transfer of an atom store that is ${this.#state}`);
    if (this.#transferCount >= memoryTransferCountMax) {
      throw new DatabaseError("ATOMCAST_TOO_MANY_TRANSFERS", `${memoryTransferCountMax} transfers of this atom store are open already`);
    }
    this.#transferCount++;
    return memoryTransfer(this.#position, this.#items(), () => {
      this.#transferCount--;
    });
  }

  async beginInstall(): Promise<StoreInstall> {
    assert(this.#state === "open", `a transfer into an atom store that is ${this.#state}`);
    this.#state = "installing";
    this.#empty();
    const unmade: UnmadeIndex[] = [];
    return {
      write: async (part) => {
        for (const item of decodePart(part)) {
          if (item.kind === "catalog") this.#catalog.set(item.name, Buffer.from(item.bytes));
          else if (item.key.length === 0) unmade.push(decodeUnmadeIndex(item.space, item.row));
          else this.#space(item.space).set(Buffer.from(item.key), { seq: item.seq, row: Buffer.from(item.row), refers: item.refers });
        }
      },
      finish: async (position) => {
        this.#countValues();
        for (const { table, index } of unmade) this.#makeIndex(table, index, []);
        this.#position = position;
        this.#flushedSeq = position.seq;
        this.#kept = { ...noVersions, floor: position.seq };
        this.#state = "open";
      },
      abort: async () => {
        this.#empty();
        this.#state = "open";
      },
    };
  }

  async close(): Promise<void> {
    this.#state = "closed";
    if (this.#isFlushing) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  crash(random: Random): void {
    this.#life++;
    this.#isFlushing = false;
    this.#idle = [];
    this.#transferCount = 0;
    if (this.#state === "installing") this.#empty();
    this.#state = "open";
    const kept = random.integer(this.#unflushed.length + 1);
    for (const batch of this.#unflushed.splice(kept).reverse()) for (const undo of [...batch.undo].reverse()) undo();
    this.#unflushed = [];
    this.#flushedSeq = this.#position.seq;
  }

  #empty(): void {
    this.#life++;
    this.#spaces = new Map();
    this.#dropped = new Map();
    this.#versions = new Map();
    this.#kept = noVersions;
    this.#values = new MemoryLargeValues();
    this.#catalog = new Map();
    this.#unflushed = [];
    this.#isFlushing = false;
    this.#position = origin;
    this.#flushedSeq = noSeq;
  }

  #flush(): void {
    if (this.#isFlushing) return;
    if (this.#schedule === null || this.#schedule === undefined) {
      this.#flushed(this.#unflushed.length);
      return;
    }
    this.#isFlushing = true;
    const count = this.#unflushed.length;
    const life = this.#life;
    this.#schedule(() => {
      if (life !== this.#life) return;
      this.#isFlushing = false;
      this.#flushed(count);
      if (this.#unflushed.length > 0) this.#flush();
      else for (const resolve of this.#idle.splice(0)) resolve();
    });
  }

  #flushed(count: number): void {
    const last = this.#unflushed.splice(0, count).at(-1);
    if (last !== undefined) this.#flushedSeq = last.seq;
  }

  #change(change: StoreChange, undo: Undo[]): void {
    const { space } = change;
    switch (change.kind) {
      case "value":
        this.#values.put(change.hash, change.bytes);
        break;
      case "put":
      case "delete": {
        const { seq } = change;
        const row = change.kind === "put" ? Buffer.from(change.row) : null;
        for (const one of entryChanges(change.indexes ?? [], change.key, this.#row(space, change.key), row, this.#values.find))
          this.#set(one.space, one.key, one.kind === "put" ? { seq, row: Buffer.from(change.key), refers: false } : null, seq, undo);
        this.#set(space, Buffer.from(change.key), row === null ? null : { seq, row, refers: referredBytes(row) > 0 }, seq, undo);
        break;
      }
      case "drop":
        this.#drop(change, undo);
        break;
      case "index":
        this.#makeIndex(space, change.index, undo);
        break;
      default:
        unreachable(change);
    }
  }

  #set(id: SpaceId, key: Buffer, value: Value | null, until: Seq, undo: Undo[]): void {
    const space = this.#space(id);
    const before = space.get(key);
    const isKept = before !== undefined && before.seq !== until;
    if (isKept) this.#keep(id, { key, until, ...before }, undo);
    if (before?.refers === true) this.#values.refer(before.row, -1, isKept ? 1 : 0);
    if (value?.refers === true) this.#values.refer(value.row, 1, 0);
    undo.push(restore(space, key));
    if (value === null) space.delete(key);
    else space.set(key, value);
  }

  #keep(id: SpaceId, version: OldValue, undo: Undo[]): void {
    const versions = this.#versions.get(id) ?? new SortedMap<readonly OldValue[]>();
    this.#versions.set(id, versions);
    const key = asBuffer(version.key);
    undo.push(restore(versions, key));
    versions.set(key, [...(versions.get(key) ?? []), version]);
    const { count, bytes } = this.#kept;
    this.#kept = { ...this.#kept, count: count + 1, bytes: bytes + key.length + version.row.length };
  }

  #sweep(mark: Seq, undo: Undo[]): void {
    if (mark <= this.#kept.floor) return;
    let { count, bytes } = this.#kept;
    for (const versions of this.#versions.values()) {
      for (const [key, some] of [...versions.range(Buffer.alloc(0), null)]) {
        const left = some.filter(({ until }) => until > mark);
        if (left.length === some.length) continue;
        undo.push(restore(versions, key));
        if (left.length === 0) versions.delete(key);
        else versions.set(key, left);
        count -= some.length - left.length;
        for (const { until, row, refers } of some) {
          if (until > mark) continue;
          bytes -= key.length + row.length;
          if (refers) this.#values.refer(row, 0, -1);
        }
      }
    }
    const before = this.#kept;
    const sweptCount = before.sweptCount + before.count - count;
    this.#kept = { count, bytes, floor: mark, sweptCount, sweptBytes: before.sweptBytes + before.bytes - bytes };
  }

  #drop({ space, seq, bytes }: Extract<StoreChange, { kind: "drop" }>, undo: Undo[]): void {
    const before = this.#space(space);
    const rows = new SortedMap<Value>();
    for (const [key, value] of before.range(Buffer.alloc(0), null)) {
      // What the same entry has put is in no snapshot.
      if (value.seq !== seq) rows.set(key, value);
      else if (value.refers) this.#values.refer(value.row, -1, 0);
    }
    this.#spaces.delete(space);
    this.#dropped.set(space, { seq, bytes, isIncomplete: false, rows });
    undo.push(() => {
      this.#dropped.delete(space);
      this.#spaces.set(space, before);
    });
  }

  #sweepDropped(mark: Seq, undo: Undo[]): void {
    for (const [space, dropped] of this.#dropped) {
      const bytes = [...this.#dropped.values()].reduce((sum, one) => sum + one.bytes, 0);
      if (dropped.seq > mark && bytes <= this.#droppedBytesMax) return;
      let { floor, sweptCount, sweptBytes } = this.#kept;
      for (const [key, { row, refers }] of dropped.rows.range(Buffer.alloc(0), null)) {
        if (refers) this.#values.refer(row, -1, 0);
        sweptCount++;
        sweptBytes += key.length + row.length;
      }
      floor = Math.max(floor, dropped.seq) as Seq;
      this.#kept = { ...this.#kept, floor, sweptCount, sweptBytes };
      this.#dropped.delete(space);
      undo.push(() => {
        // The first again.
        this.#dropped = new Map([[space, dropped], ...this.#dropped]);
      });
    }
  }

  #makeIndex(table: SpaceId, index: RowIndex, undo: Undo[]): void {
    for (const [key, { seq, row }] of [...this.#range(table, Buffer.alloc(0), null)])
      for (const one of entryChanges([index], key, null, row, this.#values.find))
        this.#set(one.space, one.key, { seq, row: key, refers: false }, seq, undo);
  }

  #setChunk(key: Buffer, chunk: Buffer | null, undo: Undo[]): void {
    const chunks = this.#space(largeValueSpace);
    undo.push(restore(chunks, key));
    if (chunk === null) chunks.delete(key);
    else chunks.set(key, { seq: noSeq, row: chunk, refers: false });
  }

  /** Of what a transfer has brought. */
  #countValues(): void {
    const values = new Map<string, { readonly hash: Buffer; readonly chunks: Buffer[] }>();
    for (const [key, { row }] of this.#range(largeValueSpace, Buffer.alloc(0), null)) {
      const hash = key.subarray(0, valueHashBytes);
      const value = values.get(nameOfValue(hash)) ?? { hash, chunks: [] };
      values.set(nameOfValue(hash), value);
      value.chunks.push(row);
    }
    this.#spaces.delete(largeValueSpace);
    for (const { hash, chunks } of values.values()) this.#values.put(hash, Buffer.concat(chunks));
    for (const rows of this.#spaces.values())
      for (const [, { row, refers }] of rows.range(Buffer.alloc(0), null)) if (refers) this.#values.refer(row, 1, 0);
    this.#values.finish((key, chunk) => this.#setChunk(key, chunk, []));
  }

  #setCatalog(name: string, record: Uint8Array | null, undo: Undo[]): void {
    if (name === "") throw new MalformedBytesError("a catalog record without a name");
    const before = this.#catalog.get(name);
    undo.push(() => {
      if (before === undefined) this.#catalog.delete(name);
      else this.#catalog.set(name, before);
    });
    if (record === null) this.#catalog.delete(name);
    else this.#catalog.set(name, Buffer.from(record));
  }

  #space(id: SpaceId): SortedMap<Value> {
    const found = this.#spaces.get(id);
    if (found !== undefined) return found;
    const made = new SortedMap<Value>();
    this.#spaces.set(id, made);
    return made;
  }

  #range(space: SpaceId, low: Uint8Array, high: Uint8Array | null): Iterable<readonly [Buffer, Value]> {
    return this.#spaces.get(space)?.range(asBuffer(low), high === null ? null : asBuffer(high)) ?? [];
  }

  #items(): TransferItem[] {
    const items: TransferItem[] = [];
    for (const [name, bytes] of [...this.#catalog].sort(([left], [right]) => (left < right ? -1 : 1))) items.push({ kind: "catalog", name, bytes });
    for (const [space, rows] of [...this.#spaces].sort(([left], [right]) => left - right)) {
      for (const [key, value] of rows.range(Buffer.alloc(0), null)) items.push({ kind: "row", space, key, ...value });
    }
    return items;
  }
}

/** The cursor is the index of the next item, in the form that all stores' cursors have. */
function memoryTransfer(position: LogPosition, items: readonly TransferItem[], onClose: () => void): StoreTransfer {
  let isOpen = true;
  return {
    position,
    read(cursor, bytesMax) {
      assert(isOpen, "reading a closed transfer");
      const place = decodePlace(cursor);
      const first = place.section === "rows" && place.after !== null ? Number(place.after.toString()) : 0;
      let byteCount = 0;
      let end = first;
      while (end < items.length && (end === first || byteCount < bytesMax)) byteCount += itemBytes(items[end++] as TransferItem);
      if (end === first) return null;
      return { part: encodePart(items.slice(first, end)), next: encodePlace({ section: "rows", after: Buffer.from(String(end)) }) };
    },
    close() {
      if (isOpen) onClose();
      isOpen = false;
    },
  };
}

function itemBytes(item: TransferItem): number {
  return item.kind === "catalog" ? item.name.length + item.bytes.length : item.key.length + item.row.length;
}

function weightOf({ row, refers }: { readonly row: Uint8Array; readonly refers: boolean }): number {
  return refers ? rowWeight(row) : row.length;
}

function namesIn({ row, refers }: Value): ValueName[] {
  return refers ? referencesOf(row).map(({ hash }) => nameOfValue(hash)) : [];
}

function restore<V>(space: SortedMap<V>, key: Buffer): Undo {
  const before = space.get(key);
  return () => {
    if (before === undefined) space.delete(key);
    else space.set(key, before);
  };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
