/**
 * Import of a CSV file into one table, which is made where it is absent. The first record names the columns. The file is read twice: first
 * whole, for its form, its columns' types and its hash, so that nothing is begun that cannot end; then for its rows.
 *
 * A column's type is guessed from all its values: INTEGER where each is a 64-bit integer as SQLite would print it, REAL where each is a
 * number, else TEXT; so "007" and "+5" stay text, and come out as they went in. A field of nothing is NULL, one of empty quotes is ''.
 * Values are given as text, and become numbers by the affinity of the table's columns: the same for a table that was there before.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { DatabaseError } from "../base/errors.js";
import type { SqlValue } from "../base/values.js";
import { foldName, quoteName } from "../sql/parse/names.js";
import { type CsvRecord, createCsvParser, csvFault } from "./csv-parser.js";
import type { ImportReport } from "./import-file.js";
import type { ImportRow, ImportTarget } from "./import-target.js";
import type { ProgressDisplay } from "./progress-display.js";

export interface CsvShape {
  readonly columns: readonly string[];
  readonly types: readonly ColumnType[];
  readonly rowCount: number;
  /** SHA-256 of the file, hexadecimal: its identity. */
  readonly hash: string;
}

export type ColumnType = "INTEGER" | "REAL" | "TEXT";

/** SQLite's own bound, as it is compiled by default. */
const columnsMax = 2_000;

export async function readCsvShape(file: string): Promise<CsvShape> {
  const hash = createHash("sha256");
  let columns: readonly string[] | null = null;
  let guesses: ColumnGuess[] = [];
  let rowCount = 0;
  for await (const record of csvRecords(file, hash)) {
    if (columns === null) {
      columns = columnNames(record);
      guesses = columns.map(() => ({ isInteger: true, isReal: true, isEmpty: true }));
      continue;
    }
    if (record.fields.length !== columns.length)
      throw csvFault(record.line, `${record.fields.length} fields, where the header has ${columns.length}`);
    for (const [index, value] of record.fields.entries()) {
      const guess = guesses[index];
      if (value !== null && guess !== undefined) learn(guess, value);
    }
    rowCount++;
  }
  if (columns === null) throw new DatabaseError("ATOMCAST_IMPORT_EMPTY", `${file} is empty: its first line must name the columns.`);
  return { columns, types: guesses.map(typeOf), rowCount, hash: hash.digest("hex") };
}

export async function importCsv(file: string, shape: CsvShape, table: string, target: ImportTarget, display: ProgressDisplay): Promise<ImportReport> {
  const item = `csv ${table}`;
  const isResumed = (await target.readProgress()) !== null;
  if (!isResumed) await target.begin(await schemaFor(shape, table, target), [item]);
  const stream = {
    item,
    table,
    columns: shape.columns,
    rowsAfter: (position: readonly SqlValue[] | null) => csvRows(file, Number(position?.[0] ?? 0)),
  };
  await target.copyRows(stream, (doneCount) => display.update(table, doneCount, shape.rowCount));
  await target.end();
  return { kind: "csv", tableCount: 1, rowCount: shape.rowCount, isResumed, violations: [], warnings: [] };
}

/** The statement that makes the table, or none where it is there and has all the columns. */
async function schemaFor(shape: CsvShape, table: string, target: ImportTarget): Promise<string[]> {
  const found = await target.query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", [table]);
  if (found.rows.length === 0) {
    const definitions = shape.columns.map((name, index) => `${quoteName(name)} ${shape.types[index] ?? "TEXT"}`);
    return [`CREATE TABLE ${quoteName(table)} (${definitions.join(", ")})`];
  }
  const existing = new Set((await target.query(`SELECT * FROM ${quoteName(table)} LIMIT 0`)).columns.map(foldName));
  const missing = shape.columns.filter((name) => !existing.has(foldName(name)));
  if (missing.length === 0) return [];
  throw new DatabaseError(
    "ATOMCAST_IMPORT_MISMATCH",
    `Table ${table} has no column ${missing.join(", ")}: nothing was imported. The file's first line must name columns of the table.`,
  );
}

/** The position is how many records are done: it is the same at each reading, since the file's hash is part of the import's name. */
async function* csvRows(file: string, skipCount: number): AsyncGenerator<ImportRow> {
  let number = -1;
  for await (const record of csvRecords(file, null)) {
    number++;
    if (number > skipCount) yield { key: [BigInt(number)], values: record.fields };
  }
}

async function* csvRecords(file: string, hash: Hash | null): AsyncGenerator<CsvRecord> {
  const parser = createCsvParser();
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const decode = (bytes: Uint8Array | null): string => {
    try {
      return bytes === null ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw new DatabaseError("ATOMCAST_IMPORT_UNREADABLE", `${file} is not UTF-8: convert it first, for example with iconv.`, { cause });
    }
  };
  for await (const chunk of createReadStream(file, { highWaterMark: 256 * 1024 })) {
    const bytes = chunk as Buffer;
    hash?.update(bytes);
    yield* parser.push(decode(bytes));
  }
  yield* parser.push(decode(null));
  yield* parser.end();
}

function columnNames(record: CsvRecord): string[] {
  const names = record.fields.map((field, index) => {
    if (field === null || field.trim() === "") throw csvFault(record.line, `column ${index + 1} has no name`);
    return field;
  });
  if (names.length > columnsMax) throw csvFault(record.line, `${names.length} columns; a table has at most ${columnsMax}`);
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(foldName(name))) throw csvFault(record.line, `two columns are named ${name}`);
    seen.add(foldName(name));
  }
  return names;
}

interface ColumnGuess {
  isInteger: boolean;
  isReal: boolean;
  isEmpty: boolean;
}

const integerForm = /^(?:0|-?[1-9]\d{0,18})$/;
const realForm = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

function learn(guess: ColumnGuess, value: string): void {
  guess.isEmpty = false;
  if (guess.isInteger && !(integerForm.test(value) && BigInt(value) === BigInt.asIntN(64, BigInt(value)))) guess.isInteger = false;
  // An integer of more digits than a double keeps would not come out as it went in.
  if (guess.isReal && !(realForm.test(value) && Number.isFinite(Number(value)) && (!integerForm.test(value) || Number.isSafeInteger(Number(value)))))
    guess.isReal = false;
}

function typeOf(guess: ColumnGuess): ColumnType {
  if (guess.isEmpty) return "TEXT";
  return guess.isInteger ? "INTEGER" : guess.isReal ? "REAL" : "TEXT";
}
