/**
 * The receiving side of an import: transactions that carry their own progress, so that an import that is killed anywhere and run again
 * goes on exactly behind the last row that was committed.
 *
 * Each transaction first moves the progress row of its item from the position that the importer knows to the new one. Where it is not
 * there, because an answer was lost and an earlier attempt did commit, the row count becomes NULL, which its column refuses, and nothing
 * of the transaction happens. So a transaction takes effect once, however often it is sent, and however late an attempt arrives.
 *
 * | answer                                     | then                                            |
 * |--------------------------------------------|-------------------------------------------------|
 * | committed                                  | go on                                           |
 * | the progress row was elsewhere             | read it, go on from there                       |
 * | no answer, outcome unknown, busy, stopping | wait, read the progress row, go on from there   |
 * | anything else                              | the import ends with this error                 |
 */
import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseError } from "../base/errors.js";
import type { SqlValue } from "../base/values.js";
import { decodeValue } from "../servers/hrana/hrana-decode.js";
import { encodeRow } from "../servers/hrana/hrana-encode.js";
import { quoteName } from "../sql/parse/names.js";
import { valuesBytes } from "../sql/source-file.js";
import { type ClientResult, type ClientStatement, type ClientStep, type HranaClient, HranaError } from "./hrana-client.js";

export const progressTable = "_atomcast_import";

/** Rows and bytes of one transaction; either ends it. */
export const transactionRowsMax = 1_000;
export const transactionBytesMax = 1024 * 1024;

/** Rows of one INSERT, less where they have many columns: long statements cost little more than short ones, and their text is the same each time. */
const statementRowsMax = 100;
const statementValuesMax = 1_000;

/** How long to try without any progress before giving up, in milliseconds: longer than a fail-over takes. */
export const retryMs = 60_000;

const retryDelayMs = 50;
const retryDelayMsMax = 2_000;

export interface ItemProgress {
  /** The key of the last row that is done; null: none is. */
  readonly position: readonly SqlValue[] | null;
  readonly rowCount: number;
  readonly isDone: boolean;
}

export interface RowStream {
  readonly item: string;
  readonly table: string;
  readonly columns: readonly string[];
  rowsAfter(position: readonly SqlValue[] | null): Iterable<ImportRow> | AsyncIterable<ImportRow>;
}

export interface ImportRow {
  readonly key: readonly SqlValue[];
  readonly values: readonly SqlValue[];
}

export interface ImportTarget {
  query(sql: string, args?: readonly SqlValue[]): Promise<ClientResult>;
  /** Progress of all items of this source; null: it was not begun, or has ended. */
  readProgress(): Promise<ReadonlyMap<string, ItemProgress> | null>;
  /** Makes the schema and the items' progress rows, all or nothing. */
  begin(schema: readonly string[], items: readonly string[]): Promise<void>;
  /** Runs statements once and marks the item as done. */
  complete(item: string, statements: readonly ClientStatement[]): Promise<void>;
  copyRows(stream: RowStream, onProgress: (rowCount: number) => void): Promise<void>;
  /** Forgets the progress: the import is over. */
  end(): Promise<void>;
}

/** A transaction was refused since the progress row was not where it was expected. */
class ProgressMovedError extends Error {
  override name = "ProgressMovedError";
}

/** `source` names the file and its version. */
export function openImportTarget(client: HranaClient, source: string, signal: AbortSignal | undefined, giveUpMs = retryMs): ImportTarget {
  /** Repeats what may be repeated; `attempt` finds out by itself what of an earlier attempt took effect. */
  const persist = async <T>(attempt: (noteProgress: () => void) => Promise<T>): Promise<T> => {
    let delayMs = retryDelayMs;
    let deadlineMs = performance.now() + giveUpMs;
    const noteProgress = (): void => {
      delayMs = retryDelayMs;
      deadlineMs = performance.now() + giveUpMs;
    };
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await attempt(noteProgress);
      } catch (error) {
        signal?.throwIfAborted();
        const isTransient = error instanceof ProgressMovedError || (error instanceof HranaError && error.isTransient);
        if (!isTransient || performance.now() > deadlineMs) throw error;
        await sleep(delayMs, undefined, signal === undefined ? {} : { signal });
        delayMs = Math.min(delayMs * 2, retryDelayMsMax);
      }
    }
  };

  const commit = async (statements: readonly ClientStatement[]): Promise<void> => {
    const outcomes = await client.batch(transactionSteps(statements));
    if (outcomes[statements.length + 2]?.kind === "ok") return;
    const failed = outcomes.find((outcome) => outcome.kind === "error");
    const error = failed?.kind === "error" ? failed.error : new HranaError("ATOMCAST_OUTCOME_UNKNOWN", "The server ran no COMMIT and told no error.");
    if (error.code === "SQLITE_CONSTRAINT" && error.message.includes(`${progressTable}.row_count`))
      throw new ProgressMovedError("the progress row has moved");
    throw error;
  };

  const query = (sql: string, args?: readonly SqlValue[]): Promise<ClientResult> => persist(() => client.query(sql, args));

  const fetchProgress = async (): Promise<ReadonlyMap<string, ItemProgress> | null> => {
    const found = await client.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [progressTable]);
    if (found.rows.length === 0) return null;
    const { rows } = await client.query(`SELECT item, position, row_count, is_done FROM ${progressTable} WHERE source = ?`, [source]);
    const items = new Map<string, ItemProgress>();
    for (const [item, position, rowCount, isDone] of rows) {
      items.set(String(item), {
        position: typeof position === "string" ? decodePosition(position) : null,
        rowCount: Number(rowCount),
        isDone: isDone === 1n,
      });
    }
    return items.size === 0 ? null : items;
  };

  const fetchItem = async (item: string): Promise<ItemProgress> => {
    const progress = (await fetchProgress())?.get(item);
    if (progress === undefined)
      throw new DatabaseError(
        "ATOMCAST_IMPORT_LOST",
        `The progress of ${item} is gone from table ${progressTable}: another import of this file has ended, or somebody removed it.`,
      );
    return progress;
  };

  const move = (item: string, from: ItemProgress, to: ItemProgress): ClientStatement => ({
    sql: `UPDATE ${progressTable} SET position = ?, is_done = ?, row_count = CASE WHEN position IS ? AND is_done = 0 THEN ? END WHERE source = ? AND item = ?`,
    args: [encodePosition(to.position), to.isDone ? 1n : 0n, encodePosition(from.position), BigInt(to.rowCount), source, item],
  });

  return {
    query,
    readProgress: () => persist(fetchProgress),
    begin: (schema, items) =>
      persist(async () => {
        if ((await fetchProgress()) !== null) return;
        await commit([
          { sql: createProgressTable },
          ...schema.map((sql) => ({ sql })),
          ...items.map((item) => ({
            sql: `INSERT INTO ${progressTable} (source, item, position, row_count, is_done) VALUES (?, ?, NULL, 0, 0)`,
            args: [source, item],
          })),
        ]).catch(async (error: unknown) => {
          // An earlier attempt whose answer was lost may have arrived only now: then these names exist because it made them.
          if ((await fetchProgress()) === null) throw error;
        });
      }),
    complete: (item, statements) =>
      persist(async () => {
        const progress = await fetchItem(item);
        if (!progress.isDone) await commit([move(item, progress, { ...progress, isDone: true }), ...statements]);
      }),
    copyRows: (stream, onProgress) =>
      persist(async (noteProgress) => {
        let progress = await fetchItem(stream.item);
        onProgress(progress.rowCount);
        if (progress.isDone) return;
        for await (const rows of transactions(stream.rowsAfter(progress.position))) {
          signal?.throwIfAborted();
          const next: ItemProgress = { position: rows.at(-1)?.key ?? null, rowCount: progress.rowCount + rows.length, isDone: false };
          await commit([move(stream.item, progress, next), ...insertStatements(stream.table, stream.columns, rows)]).catch((error: unknown) => {
            throw error instanceof HranaError && !error.isTransient ? rowsRefused(stream.table, progress.rowCount, rows.length, error) : error;
          });
          progress = next;
          noteProgress();
          onProgress(progress.rowCount);
        }
        await commit([move(stream.item, progress, { ...progress, isDone: true })]);
      }),
    end: () =>
      persist(async () => {
        const found = await client.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [progressTable]);
        if (found.rows.length === 0) return;
        const others = await client.query(`SELECT 1 FROM ${progressTable} WHERE source <> ? LIMIT 1`, [source]);
        if (others.rows.length > 0) await commit([{ sql: `DELETE FROM ${progressTable} WHERE source = ?`, args: [source] }]);
        else await commit([{ sql: `DROP TABLE IF EXISTS ${progressTable}` }]);
      }),
  };
}

const createProgressTable = `CREATE TABLE IF NOT EXISTS ${progressTable} (source TEXT NOT NULL, item TEXT NOT NULL, position TEXT, row_count INTEGER NOT NULL, is_done INTEGER NOT NULL, PRIMARY KEY (source, item)) WITHOUT ROWID`;

/** One batch, so that nothing but the server's own answer decides: foreign keys off for this stream alone, then all or nothing. */
function transactionSteps(statements: readonly ClientStatement[]): ClientStep[] {
  const steps: ClientStep[] = [{ sql: "PRAGMA foreign_keys=off" }, { sql: "BEGIN IMMEDIATE", condition: { ok: 0 } }];
  for (const statement of statements) steps.push({ ...statement, condition: { ok: steps.length - 1 } });
  steps.push({ sql: "COMMIT", condition: { ok: steps.length - 1 } });
  steps.push({ sql: "ROLLBACK", condition: { notOk: steps.length - 1 } });
  return steps;
}

async function* transactions(rows: Iterable<ImportRow> | AsyncIterable<ImportRow>): AsyncGenerator<readonly ImportRow[]> {
  let batch: ImportRow[] = [];
  let byteCount = 0;
  for await (const row of rows) {
    batch.push(row);
    byteCount += valuesBytes(row.values);
    if (batch.length < transactionRowsMax && byteCount < transactionBytesMax) continue;
    yield batch;
    batch = [];
    byteCount = 0;
  }
  if (batch.length > 0) yield batch;
}

function insertStatements(table: string, columns: readonly string[], rows: readonly ImportRow[]): ClientStatement[] {
  const rowsPerStatement = Math.max(1, Math.min(statementRowsMax, Math.floor(statementValuesMax / columns.length)));
  const head = `INSERT INTO ${quoteName(table)} (${columns.map(quoteName).join(", ")}) VALUES `;
  const places = `(${columns.map(() => "?").join(", ")})`;
  const statements: ClientStatement[] = [];
  for (let from = 0; from < rows.length; from += rowsPerStatement) {
    const part = rows.slice(from, from + rowsPerStatement);
    statements.push({ sql: head + part.map(() => places).join(", "), args: part.flatMap((row) => row.values) });
  }
  return statements;
}

function rowsRefused(table: string, doneCount: number, rowCount: number, cause: HranaError): HranaError {
  const which = `rows ${doneCount + 1} to ${doneCount + rowCount} of table ${table}`;
  return new HranaError(
    cause.code,
    `${cause.message} (among ${which}; those before them are imported, and the import goes on from there when it is run again)`,
    -1,
    cause.extendedCode,
    { cause },
  );
}

/** Typed, so that 5 and 5.0, text and blob stay apart. */
function encodePosition(position: readonly SqlValue[] | null): string | null {
  return position === null ? null : encodeRow(position);
}

function decodePosition(text: string): readonly SqlValue[] {
  const values: unknown = JSON.parse(text);
  return Array.isArray(values) ? values.map((value) => decodeValue(value, "position")) : [];
}
