/**
 * What an Archive keeps of a table's secondary indexes: entries (index key → row key), made from the rows themselves, since an Archive has no SQLite and
 * entries of the stream carry no index keys but those of unique indexes. Also how a Cache tells whether a row that it does not hold has come into a
 * range of index keys.
 *
 * An index counts with its leading columns that are stored: what stands behind an expression, a generated column or a hidden rowid is left out, and an
 * index that begins so has no entries. A partial index has those of all rows. Both make ranges that have a row more than asked for, never one less.
 * Rows whose first indexed value is NULL have no entry: no comparison finds them.
 *
 * An entry's key is the sort key of the indexed values as far as its order reaches, then the row's key (cut to a prefix and a hash where it is long:
 * LMDB's keys end at 1,978 bytes). Its value is the row's key.
 */
import { createHash } from "node:crypto";
import { ByteReader, type ByteWriter, MalformedBytesError } from "./bytes.js";
import type { SpaceId } from "./ids.js";
import { sortKeyBytesMax } from "./limits.js";
import { type Collation, encodeSortKeyOf } from "./sort-key.js";
import { type FindValue, readCellCount, readValue, type SqlValue, skipValue, writeValue } from "./values.js";

export interface IndexedColumn {
  readonly columnId: number;
  readonly collation: Collation;
  readonly descending: boolean;
  /** What rows from before the column have. */
  readonly missing: SqlValue;
}

/** An index of a table, by its key space. */
export interface RowIndex {
  readonly space: SpaceId;
  readonly columns: readonly IndexedColumn[];
}

/** Of a sort key, the bytes that order as the values do, also where it was cut: the rest is a hash. */
export const orderedKeyBytesMax = sortKeyBytesMax - 16;

const rowKeyBytesMax = 512;
const hashBytes = 16;

/** null: the row has no entry. Throws MalformedBytesError where the bytes are no row, MissingValueError where `find` has not got a large value that is indexed. */
export function indexEntryKey(columns: readonly IndexedColumn[], rowKey: Uint8Array, row: Uint8Array, find?: FindValue): Buffer | null {
  const values = columns.map(({ missing }) => missing);
  const reader = new ByteReader(row);
  for (let left = readCellCount(reader); left > 0; left--) {
    const id = reader.varint();
    const place = columns.findIndex(({ columnId }) => columnId === id);
    if (place < 0) skipValue(reader);
    else values[place] = readValue(reader, find);
  }
  reader.end();
  if (values.length === 0 || values[0] === null) return null;
  const key = encodeSortKeyOf(values, columns).subarray(0, orderedKeyBytesMax);
  return Buffer.concat([key, rowKey.length <= rowKeyBytesMax ? rowKey : shortened(rowKey)]);
}

function shortened(rowKey: Uint8Array): Buffer {
  const hash = createHash("sha256").update(rowKey).digest().subarray(0, hashBytes);
  return Buffer.concat([rowKey.subarray(0, rowKeyBytesMax - hashBytes), hash]);
}

const collations: readonly Collation[] = ["BINARY", "NOCASE", "RTRIM"];

export function writeIndexedColumns(writer: ByteWriter, columns: readonly IndexedColumn[]): void {
  writer.varint(columns.length);
  for (const { columnId, collation, descending, missing } of columns) {
    writer.varint(columnId).u8(collations.indexOf(collation)).bool(descending);
    writeValue(writer, missing);
  }
}

export function readIndexedColumns(reader: ByteReader): IndexedColumn[] {
  return reader.list((r) => {
    const columnId = r.varint();
    const collation = collations[r.u8()];
    if (collation === undefined) throw new MalformedBytesError("an index has an unknown collation");
    return { columnId, collation, descending: r.bool(), missing: copied(readValue(r)) };
  }, 4);
}

/** A blob is a view of the message, which would be kept for it. */
function copied(value: SqlValue): SqlValue {
  return value instanceof Uint8Array ? new Uint8Array(value) : value;
}
