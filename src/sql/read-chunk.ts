/**
 * What this store gives of the rows that it holds to another Cache that pulls them (design.md §5 "A pull"): a chunk, in the key's order, with the seq that its
 * rows are of. All of it is read in one call, so nothing is applied in between.
 *
 * | label | what is asked for | what is given |
 * |---|---|---|
 * | held | begins in what is held | rows up to the end of what is held there, or of the range, or of the chunk; and where to go on |
 * | not held | begins where nothing is held (given up, or never here); an index; a table that is gone | nothing |
 * | cut key | an end, or a row that it comes to, does not keep its values, so that SQLite's order is not that of the keys | nothing: an Archive has them by key |
 * | large default | a column has a large value as its default, which rows show that Archives keep without it, and without the value | nothing: an Archive has them as they are |
 * | malformed | ends that are no keys of the table | nothing |
 */
import { BugError } from "../base/errors.js";
import type { SpaceId } from "../base/ids.js";
import type { KeyRange } from "../base/key-ranges.js";
import { detachValues, rowWeight } from "../base/large-values.js";
import { sortKeyBytesMax } from "../base/limits.js";
import { decodeSortKey, integerOfKey } from "../base/sort-key.js";
import type { LocalTable } from "./local-schema.js";
import type { Chunk } from "./local-store.js";
import { quoteName } from "./parse/names.js";
import { conditionsOf, keyOrderOf } from "./range-conditions.js";
import type { StoreState } from "./store-state.js";
import { encodeStoredRow, hasLargeDefault, keyName, keyOfRow, keyOfValues } from "./stored-rows.js";

/** Of a chunk, whatever is asked for: to read and encode it takes some milliseconds of the thread that statements run on. */
export const chunkBytesMax = 256 * 1024;
export const chunkRowsMax = 1000;

/** null: none of the labels above but "held". */
export function readChunk(state: StoreState, space: SpaceId, low: Uint8Array, high: Uint8Array | null, bytesMax: number): Chunk | null {
  const table = state.schema.tables.get(space);
  const piece = state.held.get(space)?.pieceOf(low);
  if (table === undefined || piece === undefined || hasLargeDefault(table)) return null;
  const heldTo = piece.high === null ? null : Buffer.from(piece.high, "latin1");
  const endsBefore = heldTo !== null && (high === null || Buffer.compare(heldTo, high) < 0);
  const end = endsBefore ? heldTo : high;
  if (!isKey(table, low) || (end !== null && !isKey(table, end))) return null;
  const found = readRows(state, table, { low, high: end }, Math.min(bytesMax, chunkBytesMax));
  return found === null ? null : { seq: state.appliedSeq, rows: found.rows, next: found.next ?? (endsBefore ? heldTo : null) };
}

/** Of the ends of a range, which a peer has sent: what does not come out of its values again would select other rows. */
function isKey(table: LocalTable, key: Uint8Array): boolean {
  if (key.length === 0) return true;
  if (table.identity !== "key") return integerOfKey(key) !== null;
  try {
    const values = decodeSortKey(key, table.keyOrders);
    return values !== null && keyOfValues(table, values).equals(key);
  } catch (error) {
    if (error instanceof BugError) return false;
    throw error;
  }
}

/** `next`: the first row's key that did not go into the chunk; null: all did. */
function readRows(state: StoreState, table: LocalTable, range: KeyRange, bytesMax: number): Omit<Chunk, "seq"> | null {
  const conditions = conditionsOf(table, range);
  if (conditions === null) return null;
  const selected = [...table.selected, ...(table.identity === "rowid" ? table.keyNames.map((name) => keyName(table, name)) : [])].join(", ");
  const rows: { key: Buffer; row: Buffer }[] = [];
  let byteCount = 0;
  for (const { where, values } of conditions) {
    const sql = `SELECT ${selected} FROM main.${quoteName(table.name)} WHERE ${where} ORDER BY ${keyOrderOf(table)}`;
    for (const row of state.statements.get(sql).iterate(...values)) {
      const key = keyOfRow(table, row, row.at(-1) ?? null);
      if (key.length >= sortKeyBytesMax) return null;
      // One at least, so that whoever asks gets on.
      if (rows.length > 0 && (byteCount >= bytesMax || rows.length >= chunkRowsMax)) return { rows, next: key };
      const encoded = detachValues(encodeStoredRow(table, row)).row;
      const weight = key.length + rowWeight(encoded);
      if (rows.length > 0 && byteCount + weight > 2 * bytesMax) return { rows, next: key };
      rows.push({ key, row: encoded });
      byteCount += weight;
    }
  }
  return { rows, next: null };
}
