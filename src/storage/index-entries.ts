/**
 * What a row's change does to the index entries of its table (base/row-index.ts), and the record of an index that is still being made: the rows up to a
 * key have their entries, those behind it get them step by step. Changes keep the entries of every row right meanwhile, wherever it lies, so a step
 * need only add those of the rows that it finds.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from "../base/bytes.js";
import type { SpaceId } from "../base/ids.js";
import { indexEntryKey, type RowIndex, readIndexedColumns, writeIndexedColumns } from "../base/row-index.js";
import { type FindValue, MissingValueError } from "../base/values.js";

export interface EntryChange {
  readonly space: SpaceId;
  /** Of the entry. */
  readonly key: Buffer;
  readonly kind: "put" | "delete";
}

/** `before`, `after`: the row's bytes, null where there is none. `find`: of the large values that they refer to. */
export function entryChanges(
  indexes: readonly RowIndex[],
  rowKey: Uint8Array,
  before: Uint8Array | null,
  after: Uint8Array | null,
  find: FindValue,
): EntryChange[] {
  const changes: EntryChange[] = [];
  for (const { space, columns } of indexes) {
    const left = before === null ? null : entryOf(columns, rowKey, before, find);
    const came = after === null ? null : entryOf(columns, rowKey, after, find);
    if (left !== null && came !== null && left.equals(came)) continue;
    if (left !== null) changes.push({ space, key: left, kind: "delete" });
    if (came !== null) changes.push({ space, key: came, kind: "put" });
  }
  return changes;
}

/** Bytes that are no row have no entry: no Cache can read them either, and says so. A value that is not here is a divergence. */
function entryOf(columns: RowIndex["columns"], rowKey: Uint8Array, row: Uint8Array, find: FindValue): Buffer | null {
  try {
    return indexEntryKey(columns, rowKey, row, find);
  } catch (error) {
    if (error instanceof MalformedBytesError && !(error instanceof MissingValueError)) return null;
    throw error;
  }
}

export interface UnmadeIndex {
  readonly table: SpaceId;
  readonly index: RowIndex;
  /** Rows from this key on are still to be looked at. */
  readonly from: Buffer;
}

export function encodeUnmadeIndex({ table, index, from }: UnmadeIndex): Buffer {
  const writer = new ByteWriter().varint(table).bytes(from);
  writeIndexedColumns(writer, index.columns);
  return writer.finish();
}

/** Throws MalformedBytesError. */
export function decodeUnmadeIndex(space: SpaceId, bytes: Uint8Array): UnmadeIndex {
  const reader = new ByteReader(bytes);
  const table = reader.varint() as SpaceId;
  const from = Buffer.from(reader.bytes());
  const columns = readIndexedColumns(reader);
  reader.end();
  return { table, index: { space, columns }, from };
}
