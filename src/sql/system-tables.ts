/** The system tables as ordinary tables of an attached in-memory database, filled anew for each statement that names one. */
import type { SqlValue } from "../base/values.js";
import type { SystemTables } from "./local-store.js";
import { foldName, quoteName } from "./parse/names.js";
import type { StoreState } from "./store-state.js";

/** Outside of transactions. A table without rows keeps the columns that it had. */
export function fillSystemTables(state: StoreState, names: readonly string[], system: SystemTables): void {
  const { main } = state;
  for (const [name, rows] of Object.entries(system)) {
    if (!names.includes(foldName(name))) continue;
    const table = `system.${quoteName(name)}`;
    const known = main.prepare<[string], string>("SELECT name FROM pragma_table_info(?, 'system')").pluck().all(name);
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    if (rows.length > 0 && columns.some((column) => !known.includes(column))) {
      main.exec(`DROP TABLE IF EXISTS ${table}; CREATE TABLE ${table}(${columns.map(quoteName).join(", ")})`);
    } else if (known.length === 0) {
      // Nothing tells the columns: `SELECT *` and `count(*)` work all the same.
      main.exec(`CREATE TABLE ${table}("none")`);
    }
    const kept = main.prepare<[string], string>("SELECT name FROM pragma_table_info(?, 'system')").pluck().all(name);
    main.exec(`DELETE FROM ${table}`);
    const insert = main.prepare<SqlValue[]>(`INSERT INTO ${table} VALUES (${kept.map(() => "?").join(", ")})`);
    for (const row of rows) insert.run(...kept.map((column) => row[column] ?? null));
  }
}
