/**
 * Import of a file into a database that is reached over Hrana: a SQLite file with its schema and rows, or a CSV file into one table.
 * It can be killed at any time, and goes on where it was when it is run again with the same file.
 */
import { open, realpath } from "node:fs/promises";
import { DatabaseError } from "../base/errors.js";
import { openSourceFile } from "../sql/source-file.js";
import { openHranaClient } from "./hrana-client.js";
import { importCsv, readCsvShape } from "./import-csv.js";
import { importSqlite } from "./import-sqlite.js";
import { openImportTarget, progressTable, retryMs } from "./import-target.js";
import { createProgressDisplay, type TextOutput } from "./progress-display.js";

export interface ImportOptions {
  readonly file: string;
  readonly url: string;
  readonly token?: string | undefined;
  /** Demanded for CSV, and refused for a SQLite file, which names its own. */
  readonly table?: string | undefined;
  /** Where progress is shown: usually stderr. */
  readonly progress: TextOutput;
  /** Ends the import; what is committed stays, and can be gone on from. */
  readonly signal?: AbortSignal | undefined;
  /** How long to try an engine that does not answer, in milliseconds. */
  readonly retryMs?: number | undefined;
}

export interface ImportReport {
  readonly kind: "sqlite" | "csv";
  readonly tableCount: number;
  /** In the file: those of an interrupted run included. */
  readonly rowCount: number;
  /** It went on from an interrupted run. */
  readonly isResumed: boolean;
  readonly violations: readonly ForeignKeyViolation[];
  readonly warnings: readonly string[];
}

export interface ForeignKeyViolation {
  readonly table: string;
  readonly columns: readonly string[];
  readonly parent: string;
  /** Rows whose parent is absent. */
  readonly rowCount: number;
  /** For people: `child (column) → parent (column)`. */
  readonly label: string;
}

/** Throws DatabaseError (the file, the target's tables) or HranaError (the server). */
export async function importFile(options: ImportOptions): Promise<ImportReport> {
  const path = await realpath(options.file).catch((cause: unknown) => {
    throw new DatabaseError(
      "ATOMCAST_IMPORT_UNREADABLE",
      `${options.file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  });
  const isSqlite = await hasSqliteHeader(path);
  if (isSqlite && options.table !== undefined)
    throw new DatabaseError("ATOMCAST_IMPORT_USAGE", `${options.file} is a SQLite file, which names its own tables: leave out --table.`);
  if (!isSqlite && options.table === undefined) {
    throw new DatabaseError("ATOMCAST_IMPORT_USAGE", `${options.file} is not a SQLite file; to import it as CSV, name its table with --table.`);
  }
  const client = openHranaClient(options.url, options.token === undefined ? {} : { token: options.token });
  const close = (): void => client.close();
  options.signal?.addEventListener("abort", close);
  const display = createProgressDisplay(options.progress);
  try {
    return options.table === undefined ? await runSqlite(path) : await runCsv(path, options.table);
  } finally {
    display.finish();
    options.signal?.removeEventListener("abort", close);
    client.close();
  }

  async function runSqlite(file: string): Promise<ImportReport> {
    const source = openSourceFile(file);
    try {
      await refuseChangedFile(file, source.version);
      return await importSqlite(source, openTarget(file, source.version), display);
    } finally {
      source.close();
    }
  }

  async function runCsv(file: string, table: string): Promise<ImportReport> {
    const shape = await readCsvShape(file);
    await refuseChangedFile(file, shape.hash, table);
    return importCsv(file, shape, table, openTarget(file, shape.hash, table), display);
  }

  function openTarget(file: string, version: string, table: string | null = null): ReturnType<typeof openImportTarget> {
    return openImportTarget(client, sourceName(file, version, table), options.signal, options.retryMs ?? retryMs);
  }

  /** Rows of two versions of a file must not be mixed: an interrupted import of another version is told, and left to the user. */
  async function refuseChangedFile(file: string, version: string, table: string | null = null): Promise<void> {
    const target = openTarget(file, version, table);
    const found = await target.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [progressTable]);
    if (found.rows.length === 0) return;
    const { rows } = await target.query(`SELECT DISTINCT source FROM ${progressTable}`);
    const prefix = sourcePrefix(file, table);
    if (!rows.some(([source]) => typeof source === "string" && source.startsWith(prefix) && source !== sourceName(file, version, table))) return;
    throw new DatabaseError(
      "ATOMCAST_IMPORT_CHANGED",
      `${file} has changed since its import was interrupted. Bring the former file back and run the import again; or drop the tables that it made, and table ${progressTable}, to begin anew.`,
    );
  }
}

function sourcePrefix(file: string, table: string | null): string {
  return `${JSON.stringify(table === null ? [file] : [file, table])} `;
}

function sourceName(file: string, version: string, table: string | null): string {
  return `${sourcePrefix(file, table)}${version}`;
}

async function hasSqliteHeader(path: string): Promise<boolean> {
  const handle = await open(path, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(16), 0, 16, 0);
    return bytesRead === 16 && buffer.toString("latin1") === "SQLite format 3\0";
  } finally {
    await handle.close();
  }
}

/** Lines for people, without a last line end: what was imported, and what they should look at. */
export function describeImport(report: ImportReport): string {
  const count = (number: number, noun: string): string => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
  const lines = [
    `Imported ${count(report.rowCount, "row")} in ${count(report.tableCount, "table")}${report.isResumed ? " (an interrupted import, gone on with)" : ""}.`,
  ];
  lines.push(...report.warnings.map((warning) => `Note: ${warning}.`));
  for (const violation of report.violations) lines.push(`Foreign key ${violation.label}: ${count(violation.rowCount, "row")} without a parent.`);
  if (report.violations.length > 0)
    lines.push("The file itself has these rows; SQLite does not check foreign keys unless it is told to. They are imported as they are.");
  return lines.join("\n");
}
