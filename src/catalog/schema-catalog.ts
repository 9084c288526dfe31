/** The schema catalog: every object of the database as its SQL stands now, with the version of each table; and what objects were, for reads of the past (former-objects.ts). */
import { ByteReader, ByteWriter } from "../base/bytes.js";
import type { Seq, SpaceId } from "../base/ids.js";
import type { RowIndex } from "../base/row-index.js";
import type { DdlPart, SchemaObject } from "../messages/wire/entry.js";
import { FormerObjects, formerName } from "./former-objects.js";
import { type FreeIds, readFreeIds, withFreeIds, withoutFreeIds, withoutFreeKey, writeFreeIds } from "./free-ids.js";
import { decodeSchemaRecord, encodeSchemaRecord, type SchemaRecord } from "./schema-record.js";

/** What DML relies on of a table. */
export interface TableRecord {
  readonly space: SpaceId;
  readonly name: string;
  /** Seq of the last DDL that touched it. A proposal that relied on another is refused. */
  readonly version: Seq;
  /** Ids from here on have been given to nobody. */
  readonly sequenceNext: bigint;
  /** Below it, and given back. */
  readonly freeIds: readonly FreeIds[];
}

/** Where the next block of ids is taken: what was given back goes first. `end`: the block ends there at the latest; null: no end. */
export function nextIds(table: TableRecord): { readonly first: bigint; readonly end: bigint | null } {
  const free = table.freeIds[0];
  return free === undefined ? { first: table.sequenceNext, end: null } : { first: free.first, end: free.next };
}

export function foldName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** Triggers have a name space of their own in SQLite. */
function recordName(type: SchemaObject["type"], name: string): string {
  return `${type === "trigger" ? "t" : type === "setting" ? "p" : "o"}:${foldName(name)}`;
}

export function encodeTableRecord(table: TableRecord): Buffer {
  const writer = new ByteWriter().varint(table.space).text(table.name).varint(table.version).i64(table.sequenceNext);
  writeFreeIds(writer, table.freeIds);
  return writer.finish();
}

export class SchemaCatalog {
  readonly #records = new Map<string, SchemaRecord>();
  readonly #tables = new Map<SpaceId, TableRecord>();
  readonly former: FormerObjects;

  constructor(former = new FormerObjects()) {
    this.former = former;
  }

  copy(): SchemaCatalog {
    const copy = new SchemaCatalog(this.former.copy());
    for (const [name, record] of this.#records) copy.#records.set(name, record);
    for (const [space, table] of this.#tables) copy.#tables.set(space, table);
    return copy;
  }

  get tables(): ReadonlyMap<SpaceId, TableRecord> {
    return this.#tables;
  }

  inOrder(): SchemaRecord[] {
    return [...this.#records.values()].sort((left, right) => left.order - right.order);
  }

  /** As `inOrder` was then. null: an object of it may have been given up. */
  inOrderAsOf(seq: Seq): SchemaRecord[] | null {
    if (seq < this.former.floor) return null;
    const records = [...this.#records.values()].filter(({ version }) => version <= seq);
    return [...records, ...this.former.at(seq)].sort((left, right) => left.order - right.order);
  }

  /** The text of a setting of the database. */
  setting(name: string): string | undefined {
    return this.#records.get(recordName("setting", name))?.object.sql;
  }

  records(): IterableIterator<[string, SchemaRecord]> {
    return this.#records.entries();
  }

  /** Spaces that are there before and not after (a table's and its indexes'); names of changed records, in the whole catalog, go to `touch`. */
  apply(seq: Seq, part: DdlPart, touch: (recordName: string) => void): SpaceId[] {
    const spacesBefore = this.#spaces();
    const orders = new Map<SpaceId, number>();
    for (const name of part.drops) {
      for (const key of [recordName("table", name), recordName("trigger", name)]) {
        const record = this.#records.get(key);
        if (record === undefined) continue;
        if (record.object.space !== 0) orders.set(record.object.space, record.order);
        this.#records.delete(key);
        touch(`s:${key}`);
        this.#end(record, seq, touch);
      }
    }
    for (const object of part.upserts) {
      const key = recordName(object.type, object.name);
      const before = this.#records.get(key);
      const order = before?.order ?? orders.get(object.space) ?? this.#nextOrder();
      this.#records.set(key, { object, version: seq, order });
      touch(`s:${key}`);
      if (before !== undefined) this.#end(before, seq, touch);
      if (object.type !== "table") continue;
      const { sequenceNext, freeIds } = this.#tables.get(object.space) ?? { sequenceNext: 1n, freeIds: [] };
      this.#setTable({ space: object.space, name: object.name, version: seq, sequenceNext, freeIds });
    }
    for (const table of part.touchedTables) {
      const record = this.#tables.get(table);
      if (record !== undefined) this.#setTable({ ...record, version: seq });
    }
    const after = this.#spaces();
    const gone = [...spacesBefore].filter((space) => !after.has(space));
    for (const space of gone) this.#tables.delete(space);
    return gone;
  }

  /** The object is not what it was any more. */
  #end(record: SchemaRecord, until: Seq, touch: (recordName: string) => void): void {
    // What the same entry has made was never to be seen.
    if (record.version === until) return;
    const { added, gone } = this.former.add(record, until);
    for (const one of [added, ...gone]) touch(formerName(one));
    if (gone.length > 0) touch("m");
  }

  /** From what is there, not counted: an engine that began from a copy of the catalog must come to the same. */
  #nextOrder(): number {
    let last = 0;
    for (const { order } of this.#records.values()) last = Math.max(last, order);
    return last + 1;
  }

  #spaces(): Set<SpaceId> {
    const spaces = new Set<SpaceId>();
    for (const { object } of this.#records.values()) {
      if (object.space !== 0) spaces.add(object.space);
      for (const unique of object.uniques) spaces.add(unique.space);
    }
    return spaces;
  }

  #setTable(record: TableRecord): void {
    this.#tables.set(record.space, record);
  }

  moveSequence(space: SpaceId, next: bigint): void {
    const record = this.#tables.get(space);
    if (record !== undefined && next > record.sequenceNext) this.#setTable({ ...record, sequenceNext: next });
  }

  /** Ids first ≤ id < next of its blocks that a departing engine has not used. */
  giveBack(space: SpaceId, first: bigint, next: bigint): void {
    const record = this.#tables.get(space);
    if (record !== undefined) this.#setTable({ ...record, freeIds: withFreeIds(record.freeIds, first, next, record.sequenceNext) });
  }

  /** They are in a block again. */
  takeIds(space: SpaceId, first: bigint, next: bigint): void {
    const record = this.#tables.get(space);
    if (record !== undefined) this.#setTable({ ...record, freeIds: withoutFreeIds(record.freeIds, first, next) });
  }

  /** A row is put at this key, by whomever. True: its id was free. */
  useKey(space: SpaceId, key: string): boolean {
    const record = this.#tables.get(space);
    if (record === undefined) return false;
    const freeIds = withoutFreeKey(record.freeIds, key);
    if (freeIds === record.freeIds) return false;
    this.#setTable({ ...record, freeIds });
    return true;
  }

  encodeRecord(name: string): Buffer | null {
    const record = this.#records.get(name);
    return record === undefined ? null : encodeSchemaRecord(record);
  }

  encodeTable(space: SpaceId): Buffer | null {
    const table = this.#tables.get(space);
    return table === undefined ? null : encodeTableRecord(table);
  }

  loadRecord(name: string, bytes: Uint8Array): void {
    this.#records.set(name, decodeSchemaRecord(bytes));
  }

  loadTable(bytes: Uint8Array): void {
    const reader = new ByteReader(bytes);
    const record = { space: reader.varint() as SpaceId, name: reader.text(), version: reader.varint() as Seq, sequenceNext: reader.i64() };
    this.#setTable({ ...record, freeIds: readFreeIds(reader) });
    reader.end();
  }
}

/** By table: the indexes that have entries at the Archives. */
export function indexesOf(schema: SchemaCatalog): Map<SpaceId, readonly RowIndex[]> {
  const tables = new Map<string, SpaceId>();
  const indexes = new Map<SpaceId, RowIndex[]>();
  const add = (table: SpaceId | undefined, space: SpaceId, columns: RowIndex["columns"]): void => {
    if (table === undefined || columns.length === 0) return;
    const list = indexes.get(table);
    if (list === undefined) indexes.set(table, [{ space, columns }]);
    else list.push({ space, columns });
  };
  const objects = [...schema.records()].map(([, { object }]) => object);
  for (const { type, name, space } of objects) if (type === "table") tables.set(foldName(name), space);
  for (const { type, tableName, space, indexed, uniques } of objects) {
    if (type === "table") for (const unique of uniques) add(space, unique.space, unique.indexed);
    else if (type === "index") add(tables.get(foldName(tableName)), space, indexed);
  }
  return indexes;
}
