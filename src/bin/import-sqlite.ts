/** Import of a SQLite file: tables without what stands on them, rows, then indexes, views, triggers, and at last a look at the foreign keys. */
import { DatabaseError } from "../base/errors.js";
import { foldName, quoteName } from "../sql/parse/names.js";
import type { SourceFile, SourceForeignKey, SourceTable } from "../sql/source-file.js";
import { HranaError } from "./hrana-client.js";
import type { ForeignKeyViolation, ImportReport } from "./import-file.js";
import type { ImportTarget } from "./import-target.js";
import type { ProgressDisplay } from "./progress-display.js";

export async function importSqlite(source: SourceFile, target: ImportTarget, display: ProgressDisplay): Promise<ImportReport> {
  const isResumed = (await target.readProgress()) !== null;
  if (!isResumed) {
    await refuseExisting(source, target);
    const items = [...source.tables.map(tableItem), ...source.others.map(otherItem)];
    if (items.length === 0) throw new DatabaseError("ATOMCAST_IMPORT_EMPTY", "The file holds no tables.");
    await target.begin(
      source.tables.map((table) => table.sql),
      items,
    );
  }
  const rowCount = source.tables.reduce((sum, table) => sum + table.rowCount, 0);
  let doneCount = 0;
  for (const table of source.tables) {
    const stream = {
      item: tableItem(table),
      table: table.name,
      columns: table.columns,
      rowsAfter: (position: Parameters<SourceFile["rowsAfter"]>[1]) => source.rowsAfter(table, position),
    };
    await target.copyRows(stream, (tableDone) => display.update(table.name, doneCount + tableDone, rowCount));
    doneCount += table.rowCount;
  }
  for (const object of source.others) {
    display.update(`${object.type} ${object.name}`, rowCount, rowCount);
    await target.complete(otherItem(object), [{ sql: object.sql }]);
  }
  const warnings = [
    ...(await carrySettings(source, target)),
    ...source.skipped.map((name) => `${name} was left out: it is a virtual table, or part of one`),
  ];
  const violations: ForeignKeyViolation[] = [];
  for (const table of source.tables) {
    for (const key of table.foreignKeys) {
      display.update(`foreign keys of ${table.name}`, rowCount, rowCount);
      const problem = await checkForeignKey(source, target, table, key);
      if (typeof problem === "string") warnings.push(problem);
      else if (problem !== null) violations.push(problem);
    }
  }
  await target.end();
  return { kind: "sqlite", tableCount: source.tables.length, rowCount, isResumed, violations, warnings };
}

function tableItem(table: SourceTable): string {
  return `table ${table.name}`;
}

function otherItem(object: SourceFile["others"][number]): string {
  return `${object.type} ${object.name}`;
}

/** Said before anything is made, and with all names at once. */
async function refuseExisting(source: SourceFile, target: ImportTarget): Promise<void> {
  const { rows } = await target.query("SELECT name FROM sqlite_schema");
  const existing = new Set(rows.map(([name]) => foldName(String(name))));
  const clashes = [...source.tables, ...source.others].map((object) => object.name).filter((name) => existing.has(foldName(name)));
  if (clashes.length === 0) return;
  const shown = clashes.length > 5 ? `${clashes.slice(0, 5).join(", ")} and ${clashes.length - 5} more` : clashes.join(", ");
  throw new DatabaseError(
    "ATOMCAST_IMPORT_EXISTS",
    `The database has ${shown} already: nothing was imported. Drop or rename what is there, or import into another database.`,
  );
}

/** What is no row and no schema. Repeating it is harmless; a database that refuses it is none the worse, and it is told. */
async function carrySettings(source: SourceFile, target: ImportTarget): Promise<string[]> {
  const warnings: string[] = [];
  const attempt = async (what: string, run: () => Promise<unknown>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      if (!(error instanceof HranaError) || error.isTransient) throw error;
      warnings.push(`${what} was not taken over: ${error.message}`);
    }
  };
  if (source.userVersion !== 0) await attempt("user_version", () => target.query(`PRAGMA user_version = ${source.userVersion}`));
  if (source.applicationId !== 0) await attempt("application_id", () => target.query(`PRAGMA application_id = ${source.applicationId}`));
  for (const { table, last } of source.sequences) {
    await attempt(`the AUTOINCREMENT counter of ${table} (${last})`, async () => {
      const updated = await target.query("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", [last, table]);
      if (updated.affectedRowCount === 0) await target.query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last]);
    });
  }
  return warnings;
}

/** Rows whose parent is absent; a text where it cannot be asked. The parent's column stands left, since its affinity and collation decide. */
async function checkForeignKey(
  source: SourceFile,
  target: ImportTarget,
  table: SourceTable,
  key: SourceForeignKey,
): Promise<ForeignKeyViolation | string | null> {
  const parent = source.tables.find((each) => foldName(each.name) === foldName(key.parent));
  const parentColumns = key.parentColumns ?? parent?.primaryKey ?? [];
  const label = `${table.name} (${key.columns.join(", ")}) → ${key.parent}${key.parentColumns === null ? "" : ` (${key.parentColumns.join(", ")})`}`;
  const given = key.columns.map((column) => `c.${quoteName(column)} IS NOT NULL`).join(" AND ");
  let orphaned = "";
  if (parent !== undefined) {
    if (parentColumns.length !== key.columns.length) return `foreign key ${label} was not checked: its columns do not match the parent's`;
    const equal = key.columns.map((column, index) => `p.${quoteName(parentColumns[index] ?? "")} = c.${quoteName(column)}`).join(" AND ");
    orphaned = ` AND NOT EXISTS (SELECT 1 FROM ${quoteName(parent.name)} AS p WHERE ${equal})`;
  }
  try {
    const { rows } = await target.query(`SELECT count(*) FROM ${quoteName(table.name)} AS c WHERE ${given}${orphaned}`);
    const count = Number(rows[0]?.[0] ?? 0);
    return count === 0 ? null : { table: table.name, columns: key.columns, parent: key.parent, rowCount: count, label };
  } catch (error) {
    if (!(error instanceof HranaError) || error.isTransient) throw error;
    return `foreign key ${label} was not checked: ${error.message}`;
  }
}
