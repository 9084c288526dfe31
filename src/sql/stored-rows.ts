/** Rows of the local store as bytes and back: their keys, their encoding by stable column ids, and the entries of unique indexes. */
import { isUtf8 } from "node:buffer";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { SpaceId } from "../base/ids.js";
import type { BinaryKey } from "../base/key-ranges.js";
import { largeValueBytes } from "../base/large-values.js";
import { decodeIntegerKey, decodeSortKey, encodeSortKeyOf, integerKey } from "../base/sort-key.js";
import { type FindValue, readCellCount, readValue, type SqlValue, skipValue, writeValue } from "../base/values.js";
import type { StatementCache } from "./connection.js";
import type { LocalTable } from "./local-schema.js";
import { quoteName } from "./parse/names.js";

/** A stored row as `LocalTable.selected` gives it. */
export type SelectedRow = readonly SqlValue[];

export interface TableSql {
  /** By the key's values. */
  readonly select: string;
  readonly remove: string;
  /** Values of the stored columns; of a table with a hidden rowid, the rowid first. */
  readonly insert: string;
  readonly selectAll: string;
  /** Every value of a row as the bytes that SQLite has: to tell ill-formed text from a replacement character. */
  readonly selectBytes: string;
}

const tableSqls = new WeakMap<LocalTable, TableSql>();

export function sqlOf(table: LocalTable): TableSql {
  const known = tableSqls.get(table);
  if (known !== undefined) return known;
  const name = `main.${quoteName(table.name)}`;
  const key = table.keyNames.map((one) => keyName(table, one));
  // A key may have another collation than its column, and what is told of a row is its key.
  const collation = (place: number): string => (table.identity === "key" ? ` COLLATE ${table.keyOrders[place]?.collation ?? "BINARY"}` : "");
  const where = key.map((one, place) => `${one} = ?${collation(place)}`).join(" AND ");
  const columns = table.columns.map((column) => quoteName(column.name));
  const inserted = table.identity === "rowid" ? [...key, ...columns] : columns;
  const sql: TableSql = {
    select: `SELECT ${table.selected.join(", ")} FROM ${name} WHERE ${where}`,
    remove: `DELETE FROM ${name} WHERE ${where}`,
    insert: `INSERT OR ABORT INTO ${name} (${inserted.join(", ")}) VALUES (${inserted.map(() => "?").join(", ")})`,
    selectAll: `SELECT ${[...table.selected, ...(table.identity === "rowid" ? key : [])].join(", ")} FROM ${name}`,
    selectBytes: `SELECT ${columns.map((column) => `CAST(${column} AS BLOB)`).join(", ")} FROM ${name} WHERE ${where}`,
  };
  tableSqls.set(table, sql);
  return sql;
}

/** The hidden rowid is not quoted: in quotes it could be read as text. */
export function keyName(table: LocalTable, name: string): string {
  return table.identity === "rowid" ? name : quoteName(name);
}

export function keyOfValues(table: LocalTable, values: readonly SqlValue[]): Buffer {
  const only = values[0];
  return table.identity !== "key" && typeof only === "bigint" ? integerKey(only) : encodeSortKeyOf(values, table.keyOrders);
}

/** Of a row as it is stored; `rowid` where no column shows it. */
export function keyOfRow(table: LocalTable, row: SelectedRow, rowid: SqlValue): Buffer {
  return table.identity === "rowid"
    ? keyOfValues(table, [rowid])
    : keyOfValues(
        table,
        table.keyPlaces.map((place) => row[place] ?? null),
      );
}

/** Values that select the key's row. null: the key does not tell them; the row is to be looked for. */
function valuesOfKey(table: LocalTable, key: Uint8Array): SqlValue[] | null {
  return table.identity === "key" ? decodeSortKey(key, table.keyOrders) : [decodeIntegerKey(key)];
}

/** As `valuesOfKey`, by looking through the table where the key was cut: a thousand bytes of key are rare. null: there is no such row. */
export function findKeyValues(table: LocalTable, key: Uint8Array, statements: StatementCache): SqlValue[] | null {
  const values = valuesOfKey(table, key);
  if (values !== null) return values;
  for (const row of statements.get(sqlOf(table).selectAll).iterate()) {
    if (!keyOfRow(table, row, null).equals(key)) continue;
    return table.keyPlaces.map((place) => row[place] ?? null);
  }
  return null;
}

export function encodeStoredRow(table: LocalTable, row: SelectedRow): Buffer {
  const writer = new ByteWriter(table.columns.length * 12 + 8);
  writer.varint(table.columns.length);
  for (const place of encodingOrder(table)) {
    writer.varint(table.columns[place]?.id ?? 0);
    writeValue(writer, row[place] ?? null);
  }
  return writer.finish();
}

const encodingOrders = new WeakMap<LocalTable, readonly number[]>();

/** Places of the stored columns in ascending column id. */
function encodingOrder(table: LocalTable): readonly number[] {
  const known = encodingOrders.get(table);
  if (known !== undefined) return known;
  const order = table.columns.map((_, place) => place).sort((left, right) => (table.columns[left]?.id ?? 0) - (table.columns[right]?.id ?? 0));
  encodingOrders.set(table, order);
  return order;
}

const placesById = new WeakMap<LocalTable, ReadonlyMap<number, number>>();

/** Values for `TableSql.insert`. Columns that are gone are passed over; those that the row is too old to have take their default. `find`: of large values. */
export function decodeForInsert(table: LocalTable, key: Uint8Array, bytes: Uint8Array, find?: FindValue): SqlValue[] {
  let places = placesById.get(table);
  if (places === undefined) {
    places = new Map(table.columns.map((column, place) => [column.id, place]));
    placesById.set(table, places);
  }
  const shift = table.identity === "rowid" ? 1 : 0;
  const values: SqlValue[] = table.columns.map((column) => column.missing);
  if (shift === 1) values.unshift(decodeIntegerKey(key));
  const reader = new ByteReader(bytes);
  for (let left = readCellCount(reader); left > 0; left--) {
    const place = places.get(reader.varint());
    if (place === undefined) skipValue(reader);
    else values[place + shift] = readValue(reader, find);
  }
  reader.end();
  return values;
}

/** Rows that are older than the column show its default, and Archives, where they are stored without it, do not have the value. */
export function hasLargeDefault(table: LocalTable): boolean {
  return table.columns.some(({ missing }) => {
    if (typeof missing !== "string" && !(missing instanceof Uint8Array)) return false;
    return (typeof missing === "string" ? Buffer.byteLength(missing) : missing.length) > largeValueBytes;
  });
}

export interface IndexEntry {
  readonly space: SpaceId;
  readonly key: Buffer;
  readonly binaryKey: BinaryKey;
}

/** What a row puts into the table's unique indexes: a NULL among the values is equal to nothing, and so no entry. */
export function indexEntries(table: LocalTable, row: SelectedRow): IndexEntry[] {
  const entries: IndexEntry[] = [];
  for (const index of table.uniques) {
    if (index.where !== null && !isTrue(row[index.where.place] ?? null)) continue;
    const values = index.places.map((place) => row[place] ?? null);
    if (values.includes(null)) continue;
    const key = encodeSortKeyOf(values, index.orders);
    entries.push({ space: index.space, key, binaryKey: key.toString("latin1") });
  }
  return entries;
}

/** A WHERE's value as SQLite takes it: text and blobs by the number that they begin with. */
function isTrue(value: SqlValue): boolean {
  if (value === null) return false;
  if (typeof value === "bigint") return value !== 0n;
  if (typeof value === "number") return value !== 0;
  const number = Number.parseFloat(typeof value === "string" ? value : Buffer.from(value).toString("latin1"));
  return !Number.isNaN(number) && number !== 0;
}

/** Text that SQLite could not have read from well-formed UTF-8: better-sqlite3 gives it with replacement characters. */
export function hasIllFormedText(table: LocalTable, row: SelectedRow, keyValues: readonly SqlValue[], statements: StatementCache): boolean {
  const isSuspect = (value: SqlValue | undefined): value is string => typeof value === "string" && value.includes("\ufffd");
  if (!table.columns.some((_, place) => isSuspect(row[place]))) return false;
  const bytes = statements.get(sqlOf(table).selectBytes).get(...keyValues);
  assert(bytes !== undefined, "a row that was just read is gone");
  return table.columns.some((_, place) => {
    const text = row[place];
    const raw = bytes[place];
    return isSuspect(text) && raw instanceof Uint8Array && !Buffer.from(text, "utf8").equals(raw);
  });
}

/**
 * A key with a replacement character, as capture has called it out, may be one of text that is not well-formed, and finds no row then, or another one. Whether it
 * is there, all keys are looked at for: such ones are rare.
 */
export function hasIllFormedKey(
  table: LocalTable,
  touched: Iterable<{ readonly keyValues: readonly SqlValue[] }>,
  statements: StatementCache,
): boolean {
  if (table.identity !== "key" || !hasSuspect(touched)) return false;
  const names = table.keyNames.map(quoteName);
  const sql = `SELECT ${names.map((name) => `CAST(${name} AS BLOB), typeof(${name})`).join(", ")} FROM main.${quoteName(table.name)}`;
  for (const row of statements.get(sql).iterate())
    for (const [place, bytes] of row.entries()) if (bytes instanceof Uint8Array && row[place + 1] === "text" && !isUtf8(bytes)) return true;
  return false;
}

function hasSuspect(touched: Iterable<{ readonly keyValues: readonly SqlValue[] }>): boolean {
  for (const { keyValues } of touched) if (keyValues.some((value) => typeof value === "string" && value.includes("\ufffd"))) return true;
  return false;
}
