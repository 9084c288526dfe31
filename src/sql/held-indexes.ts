/**
 * Ranges of index keys that the local store holds. Nothing is stored for them: that a range of an index is held says that a statement which finds its rows
 * by that range finds all of them here. The invariant, at the seq that is applied:
 *
 *   every row of the table whose index key lies in a held range of the index lies in a held range of the table's own keys.
 *
 * A range is asked of an Archive like a range of rows, and what comes is entries (base/row-index.ts), as of a seq. From the question on, entries of rows
 * that come into the range are kept (held-ranges.ts, as for rows); with those of the Archive they are all that can be in it now.
 *
 * | label | what happens | then |
 * |-------|--------------|------|
 * | install | the entries of a range have come | held, if each entry's row is; else the rows that are not are pulled first, and it is tried again |
 * | elsewhere | an entry of the stream puts a row, which is not held, into a held range | the range is given up at that row's entry key: who needs it asks again |
 * | joining | likewise into a range that was asked for, whether or not its key lies in a part that is still held | kept with what will come |
 * | here | a row that is held comes, goes, changes its index key | nothing: SQLite's own index has it |
 * | gone | a row that is not held is deleted, or leaves a range | nothing: there is only less to hold |
 * | let go | a range of the table's own keys is no longer held | all ranges of its indexes are given up |
 * | unknown | an entry puts a row, which is not held, with a large value under the index that it had before | nobody here can tell where it comes: all ranges of the index are given up |
 * | many | there are piecesMax ranges | all are given up |
 * | older | entries have left the range since the oldest snapshot that is open when it is installed | their rows are here too; where nobody tells which, and the table has changed since a snapshot, its transaction begins again when it touches the table (row-history.ts) |
 * | whole | the table is held whole | nobody asks for ranges of its indexes |
 */
import { emptyBytes } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { type BinaryRange, type KeyRange, rangeOfKey } from "../base/key-ranges.js";
import { indexEntryKey } from "../base/row-index.js";
import { type FindValue, MissingValueError } from "../base/values.js";
import type { LocalIndex, LocalTable } from "./local-schema.js";
import type { InstallOutcome, PulledImage, PulledRow } from "./local-store.js";
import { joinRanges } from "./plan/key-selector.js";
import { isHeldWhole, type StoreState } from "./store-state.js";

/** Ranges of one index: with so many, they are all given up. Each costs a search in every change of its table, and they grow with each value asked for. */
const piecesMax = 10_000;

/** To be called for each row that an entry puts and this store does not hold. Made once for the rows of one table; null: none of its indexes matters. */
export function indexWatch(state: StoreState, table: LocalTable, find: FindValue): ((seq: Seq, key: Uint8Array, row: Uint8Array) => void) | null {
  const watched = table.indexes.flatMap((index) => {
    const ranges = state.held.get(index.space);
    return ranges === undefined || ranges.isEmpty ? [] : [{ index, ranges }];
  });
  if (watched.length === 0) return null;
  return (seq, rowKey, row) => {
    for (const { index, ranges } of watched) {
      const key = entryKeyOf(index, rowKey, row, find);
      if (key === undefined) state.held.delete(index.space);
      if (key === undefined || key === null || ranges.place(key) === "elsewhere") continue;
      // Both: a range that has a hole is asked for again as a whole, and a part of it is held until the answer is installed over it.
      ranges.buffer({ seq, key, row: rowKey });
      ranges.drop({ low: key, high: Buffer.concat([key, Buffer.of(0)]) });
    }
  };
}

/** undefined: a large value decides it, which the row had before, and which is not here. */
function entryKeyOf(index: LocalIndex, rowKey: Uint8Array, row: Uint8Array, find: FindValue): Buffer | null | undefined {
  try {
    return indexEntryKey(index.columns, rowKey, row, find);
  } catch (error) {
    if (error instanceof MissingValueError) return undefined;
    throw error;
  }
}

/** `entries`: index key → row key, as of `seq`. */
export function installIndex(
  state: StoreState,
  table: LocalTable,
  index: LocalIndex,
  range: KeyRange,
  seq: Seq,
  entries: readonly PulledRow[],
  changedSeq: Seq,
  images: readonly PulledImage[],
): InstallOutcome {
  const ranges = state.held.get(index.space);
  const changes = ranges?.joiningChanges(range, seq) ?? null;
  if (ranges === undefined || changes === null) return "full";
  if (!isHeldWhole(state, table.space)) {
    const rows = state.held.get(table.space);
    const missing: BinaryRange[] = [];
    const { oldest } = state.history;
    const left = images.filter((image) => oldest !== null && image.seq > oldest && image.row !== null);
    for (const { row } of [...entries, ...changes, ...left]) {
      assert(row !== null, "an entry that was put has a row's key");
      const place = rangeOfKey(Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString("latin1"));
      if (rows?.holds(place) !== true) missing.push(place);
    }
    if (missing.length > 0) return { space: table.space, ranges: joinRanges(missing) };
  }
  if (ranges.pieces.length >= piecesMax) ranges.drop({ low: emptyBytes, high: null });
  ranges.abandonJoining(range);
  ranges.hold(range);
  state.heldGeneration++;
  // Rows have told themselves what they were when they were pulled.
  if (state.history.isNeeded) state.history.notePull(table.space, [], changedSeq);
  return "held";
}

/** To be called when rows of the table are no longer held. */
export function releaseIndexes(state: StoreState, space: SpaceId): void {
  for (const index of state.schema.tables.get(space)?.indexes ?? []) state.held.delete(index.space);
}
