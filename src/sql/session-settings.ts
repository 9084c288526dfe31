/** Rows of system.settings that are the session's own, as they are when its request begins. */
import type { SessionSettings, SystemTables } from "./local-store.js";

type Row = SystemTables[string]["rows"][number];

export function withSession(system: SystemTables, settings: SessionSettings): SystemTables {
  const known = system.settings;
  return known === undefined ? system : { ...system, settings: { ...known, rows: [...known.rows, ...rowsOf(settings)] } };
}

function rowsOf({ isolation, asOf, foreignKeys, deferForeignKeys }: SessionSettings): Row[] {
  const row = (name: string, value: string | bigint | null, isDefault: boolean, meaning: string, change: string): Row => ({
    name,
    value,
    meaning,
    source: isDefault ? "default" : "PRAGMA",
    change,
  });
  const past = asOf === undefined ? null : "seq" in asOf ? BigInt(asOf.seq) : new Date(asOf.timeMs).toISOString();
  return [
    row("isolation", isolation ?? "snapshot", isolation === undefined, "of this session's transactions", "PRAGMA atomcast.isolation = serializable"),
    row(
      "as_of",
      past,
      past === null,
      "the seq at which this session reads; NULL: what is there now",
      "PRAGMA atomcast.as_of = '2026-11-22T01:00:00Z'",
    ),
    row(
      "foreign_keys",
      foreignKeys ? 1n : 0n,
      foreignKeys,
      "whether this session's writes are checked against foreign keys",
      "PRAGMA foreign_keys = OFF",
    ),
    row(
      "defer_foreign_keys",
      deferForeignKeys ? 1n : 0n,
      !deferForeignKeys,
      "whether all of them are checked at COMMIT, until then",
      "PRAGMA defer_foreign_keys = ON",
    ),
  ];
}
