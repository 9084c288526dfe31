/**
 * Committed entries put into the local database: rows as they were captured, with users' triggers at rest and foreign keys off, since their
 * effects are among the rows; DDL as the user wrote it. Whatever does not fit is a divergence: BugError, and the engine stops.
 */
import { BugError } from "../base/errors.js";
import type { EngineId, Seq, SpaceId } from "../base/ids.js";
import { binaryKey, binaryRange, type KeyRange } from "../base/key-ranges.js";
import { attachValues, detachValues, finderOf, type LargeValue, nameOfValue, referencesOf, rowWeight, type ValueName } from "../base/large-values.js";
import { type FindValue, referredBytes } from "../base/values.js";
import { type DdlPart, decodeEntry, type RowsPart } from "../messages/wire/entry.js";
import type { StatementCache } from "./connection.js";
import { repeatDdl } from "./execute-ddl.js";
import { indexWatch } from "./held-indexes.js";
import { type BufferedChange, HeldRanges } from "./held-ranges.js";
import type { LocalTable } from "./local-schema.js";
import type { PulledImage, PulledRow, PulledRows } from "./local-store.js";
import { historyBytesMax } from "./row-history.js";
import { type StoreState, useSchema } from "./store-state.js";
import { decodeForInsert, encodeStoredRow, findKeyValues, keyOfRow, sqlOf } from "./stored-rows.js";

interface TransactionEntry {
  readonly seq: Seq;
  readonly engine: EngineId;
  readonly parts: readonly (RowsPart | DdlPart)[];
}

export function applyEntries(state: StoreState, entries: readonly { readonly seq: Seq; readonly bytes: Uint8Array }[], through: Seq): void {
  const transactions = transactionsOf(entries);
  // Statements are prepared below with the flag that is set now. To set it takes as long as to put a row in.
  const isPlain = (part: RowsPart | DdlPart): boolean => part.kind === "rows" && state.schema.plainTables.has(part.table);
  if (!transactions.every(({ parts }) => parts.every(isPlain))) state.foreignKeyFlag.set(false);
  const before = state.schema;
  let changesSchema = false;
  state.applyStatements.get("BEGIN").run();
  try {
    for (const { seq, engine, parts } of transactions) {
      for (const part of parts) {
        if (part.kind === "rows") applyRows(state, part, seq);
        else {
          if (!changesSchema) state.mirror.exec("BEGIN");
          changesSchema = true;
          applyDdl(state, part, seq, engine);
        }
      }
    }
    state.applyStatements.get("COMMIT").run();
    if (changesSchema) state.mirror.exec("COMMIT");
  } catch (error) {
    if (state.main.inTransaction) state.main.exec("ROLLBACK");
    if (state.mirror.inTransaction) state.mirror.exec("ROLLBACK");
    if (changesSchema) useSchema(state, before);
    if (error instanceof BugError) throw error;
    throw new BugError(`committed entries up to ${through} do not fit the local store`, { cause: error });
  }
  state.appliedSeq = through;
}

function transactionsOf(entries: readonly { readonly seq: Seq; readonly bytes: Uint8Array }[]): TransactionEntry[] {
  return entries.flatMap(({ seq, bytes }) => {
    try {
      const entry = decodeEntry(bytes);
      return entry.kind === "proposal" && entry.body.kind === "transaction" ? [{ seq, engine: entry.engine, parts: entry.body.parts }] : [];
    } catch (cause) {
      throw new BugError(`the committed entry at ${seq} does not decode`, { cause });
    }
  });
}

function applyRows(state: StoreState, part: RowsPart, seq: Seq): void {
  const table = state.schema.tables.get(part.table);
  if (table === undefined) throw new BugError(`rows of table ${part.table} at ${seq}, which is not in the schema`);
  const ranges = state.held.get(part.table);
  const values = new Map((part.values ?? []).map(({ hash, bytes }) => [nameOfValue(hash), bytes]));
  const find = finderOf(values);
  let rows = part.rows;
  if (ranges?.whole !== true) {
    const watch = indexWatch(state, table, find);
    if (ranges === undefined && watch === null) return;
    rows = rows.filter(({ key, row }) => {
      const place = ranges?.place(key) ?? "elsewhere";
      if (place === "held") return true;
      if (place === "joining") ranges?.buffer(bufferedChange(seq, key, row, part.values));
      if (row !== null) watch?.(seq, key, row);
      return false;
    });
  }
  if (state.history.isNeeded) noteImages(state, table, rows, seq);
  for (const { key, row } of rows) if (row !== null && referredBytes(row) > 0) addKeptValues(state, table, key, row, values);
  // All old rows go before new ones come: a transaction may swap unique values. A row always has a size, so 0 says that there was none.
  for (const { key, oldBytes } of rows) if (oldBytes > 0) removeRow(state.applyStatements, table, key, seq);
  const insert = state.applyStatements.get(sqlOf(table).insert);
  for (const { key, row } of rows) if (row !== null) insert.run(...decodeForInsert(table, key, row, find));
}

/** A change for a range that is joining, with those of its entry's large values that the row refers to. */
function bufferedChange(seq: Seq, key: Uint8Array, row: Uint8Array | null, values: readonly LargeValue[] | undefined): BufferedChange {
  if (row === null || values === undefined) return { seq, key, row };
  const referred = new Set(referencesOf(row).map(({ hash }) => nameOfValue(hash)));
  return { seq, key, row, values: values.filter(({ hash }) => referred.has(nameOfValue(hash))) };
}

/** Large values that the row has, and had before: its entry does not bring them. */
function addKeptValues(state: StoreState, table: LocalTable, key: Uint8Array, row: Uint8Array, values: Map<ValueName, Uint8Array>): void {
  if (referencesOf(row).every(({ hash }) => values.has(nameOfValue(hash)))) return;
  const keyValues = findKeyValues(table, key, state.applyStatements);
  const before = keyValues === null ? undefined : state.applyStatements.get(sqlOf(table).select).get(...keyValues);
  if (before === undefined) return;
  for (const { hash, bytes } of detachValues(encodeStoredRow(table, before)).values) values.set(nameOfValue(hash), bytes);
}

/** What the rows are now, for transactions that go on reading it. */
function noteImages(state: StoreState, table: LocalTable, rows: RowsPart["rows"], seq: Seq): void {
  for (const { key, oldBytes } of rows) {
    const values = oldBytes > 0 ? findKeyValues(table, key, state.applyStatements) : null;
    const row = values === null ? undefined : state.applyStatements.get(sqlOf(table).select).get(...values);
    state.history.note(seq, table.space, { key, row: row === undefined ? null : encodeStoredRow(table, row) });
  }
}

function removeRow(statements: StatementCache, table: LocalTable, key: Uint8Array, seq: Seq): void {
  const values = findKeyValues(table, key, statements);
  const removed = values === null ? 0 : statements.get(sqlOf(table).remove).run(...values).changes;
  if (removed !== 1) throw new BugError(`a row of ${table.name} that the entry at ${seq} replaces is not here`);
}

function applyDdl(state: StoreState, part: DdlPart, seq: Seq, engine: EngineId): void {
  const before = state.schema;
  repeatDdl(state, part, seq);
  for (const table of before.tables.keys()) {
    if (state.schema.tables.has(table)) continue;
    state.held.delete(table);
    state.ids.forget(table);
  }
  for (const index of before.indexesBySpace.keys()) if (!state.schema.indexesBySpace.has(index)) state.held.delete(index);
  if (engine !== state.engine) return;
  // What this engine has made, it holds: nobody else can have put a row there yet.
  for (const { space, indexOf } of part.newAtoms) {
    if (indexOf !== 0) continue;
    const ranges = new HeldRanges();
    ranges.hold({ low: new Uint8Array(0), high: null });
    state.held.set(space, ranges);
  }
  state.heldGeneration++;
}

/** Brings a pulled chunk up to what is applied, and counts it as held. "full": its changes are gone. */
export function installRows(
  state: StoreState,
  space: SpaceId,
  range: KeyRange,
  seq: Seq,
  { rows, images, values }: PulledRows,
  changedSeq: Seq,
): "held" | "full" {
  const table = state.schema.tables.get(space);
  const ranges = state.held.get(space);
  // Dropped meanwhile: there is nothing to hold any more.
  if (table === undefined) return "held";
  if (ranges === undefined) return "full";
  if (ranges.holds(binaryRange(range))) return "held";
  const changes = ranges.takeJoining(range, seq);
  if (changes === null) return "full";
  const latest = new Map<string, BufferedChange>();
  for (const change of changes) latest.set(binaryKey(change.key), change);
  // What a change did not bring, the row had before it: in the chunk, or by an earlier change.
  const brought = [values, ...changes.map((change) => change.values ?? [])].flat();
  const find = finderOf(new Map(brought.map(({ hash, bytes }) => [nameOfValue(hash), bytes])));
  state.foreignKeyFlag.set(false);
  state.applyStatements.get("BEGIN").run();
  try {
    const insert = state.applyStatements.get(sqlOf(table).insert);
    for (const { key, row } of rows) {
      if (latest.size > 0 && latest.has(binaryKey(key))) continue;
      // A part of the range that was this engine's own already has had its changes.
      if (ranges.place(key) === "held") continue;
      insert.run(...decodeForInsert(table, key, row, find));
    }
    for (const { key, row } of latest.values()) if (row !== null) insert.run(...decodeForInsert(table, key, row, find));
    state.applyStatements.get("COMMIT").run();
  } catch (error) {
    if (state.main.inTransaction) state.main.exec("ROLLBACK");
    throw new BugError(`a chunk of ${table.name} as of ${seq} does not fit the local store`, { cause: error });
  }
  if (state.history.isNeeded) {
    // Of what was held already, the history has noted all itself.
    const past = images.filter(({ key }) => ranges.place(key) !== "held");
    const all = [...past, ...imagesOf(changes, rows)];
    // Many images may share one large value, and each has it in itself here.
    const bytes = all.reduce((sum, { row }) => sum + (row === null ? 0 : rowWeight(row)), 0);
    if (bytes > historyBytesMax) state.history.notePull(space, [], Math.max(changedSeq, ...all.map((image) => image.seq)) as Seq);
    else state.history.notePull(space, brought.length === 0 ? all : all.map((image) => wholeImage(image, find)), changedSeq);
  }
  ranges.hold(range);
  state.heldGeneration++;
  return "held";
}

function wholeImage(image: PulledImage, find: FindValue): PulledImage {
  return image.row === null ? image : { ...image, row: attachValues(image.row, find) };
}

/** What the rows of a chunk were before these changes of them, which came after it. */
function imagesOf(changes: readonly BufferedChange[], rows: readonly PulledRow[]): PulledImage[] {
  if (changes.length === 0) return [];
  const now = new Map<string, Uint8Array | null>();
  for (const { key, row } of rows) now.set(binaryKey(key), row);
  return changes.map(({ seq, key, row }) => {
    const before = now.get(binaryKey(key)) ?? null;
    now.set(binaryKey(key), row);
    return { seq, key, row: before };
  });
}

export function readAllRows(
  state: StoreState,
  table: LocalTable,
): { readonly key: Buffer; readonly row: readonly (typeof table.columns)[number]["missing"][] }[] {
  return state.statements
    .get(sqlOf(table).selectAll)
    .all()
    .map((row) => ({ key: keyOfRow(table, row, row.at(-1) ?? null), row }));
}
