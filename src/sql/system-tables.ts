/** The system tables as ordinary tables of an attached in-memory database, filled anew for each statement that names one. */
import type { SqlValue } from "../base/values.js";
import type { SystemTables } from "./local-store.js";
import { foldName, quoteName } from "./parse/names.js";
import type { StoreState } from "./store-state.js";

export function fillSystemTables(state: StoreState, names: readonly string[], system: SystemTables): void {
  const { main } = state;
  for (const [name, { columns, rows }] of Object.entries(system)) {
    if (!names.includes(foldName(name))) continue;
    const table = `system.${quoteName(name)}`;
    const known = main.prepare<[string], string>("SELECT name FROM pragma_table_info(?, 'system')").pluck().all(name);
    if (known.join() !== columns.join()) {
      main.exec(`DROP TABLE IF EXISTS ${table}; CREATE TABLE ${table}(${columns.map(quoteName).join(", ")})`);
      state.madeSystemTable ||= main.inTransaction;
    }
    main.exec(`DELETE FROM ${table}`);
    const insert = main.prepare<SqlValue[]>(`INSERT INTO ${table} VALUES (${columns.map(() => "?").join(", ")})`);
    for (const row of rows) insert.run(...columns.map((column) => row[column] ?? null));
  }
}
