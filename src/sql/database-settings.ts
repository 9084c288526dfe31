/**
 * PRAGMA user_version and application_id: numbers of the database, for its users alone. They change as the schema does: transactional, by an entry that
 * every engine runs, and kept in the schema catalog as an object. The mirror answers what they are, so that a transaction sees its own. PRAGMA
 * atomcast.history is kept likewise, and the object's text says what it is.
 */
import { historyMsOf, historyObject, historySql, parseHistory } from "../base/history.js";
import { noSeq, type SpaceId, schemaSpace } from "../base/ids.js";
import type { SchemaObject } from "../messages/wire/entry.js";
import { changedObjects } from "./execute-ddl.js";
import type { SqlFault } from "./local-store.js";
import { foldName } from "./parse/names.js";
import { historyPragma } from "./parse/pragmas.js";
import type { PragmaStatement } from "./parse/statement-info.js";
import { busyFault, fault } from "./statement-faults.js";
import type { StoreState } from "./store-state.js";
import type { Unit } from "./unit.js";
import { addDdl, followInMirror, nameKey } from "./unit-of-work.js";

/** No text of SQL has a name with a NUL. */
function objectName(pragma: string): string {
  return pragma === historyPragma ? historyObject : `\0${pragma}`;
}

/** As the transaction that is at work sees it. */
export function historyIn(state: StoreState): number {
  return historyMsOf(state.schema.objects.get(historyObject)?.object.sql);
}

/** Before it is asked for, or set, within a transaction. null: it is as it was at the snapshot. */
export function noteSettingRead(state: StoreState, unit: Unit | null, { name }: PragmaStatement): SqlFault | null {
  const stored = state.schema.objects.get(objectName(name));
  if (unit === null) return null;
  if (stored !== undefined && unit.snapshot !== null && stored.version > unit.snapshot)
    return busyFault(`database is locked: ${name} was changed by another transaction since this one's snapshot; begin it again`);
  unit.hasRun = true;
  if (unit.isolation === "serializable")
    unit.readKeys.set(schemaSpace, new Set([...(unit.readKeys.get(schemaSpace) ?? []), nameKey(objectName(name))]));
  return null;
}

/** Within the unit's transaction. null: it is set. */
export function changeSetting(state: StoreState, unit: Unit, sql: string, info: PragmaStatement): SqlFault | null {
  if (info.name !== historyPragma && info.schema !== null && foldName(info.schema) !== "main")
    return fault("SQLITE_ERROR", `unknown database ${info.schema}`);
  const reason = noteSettingRead(state, unit, info);
  if (reason !== null) return reason;
  followInMirror(state, unit);
  const text = info.name === historyPragma ? changedHistory(state, info.value ?? "") : changedNumber(state, info.name, sql);
  if (text === null || typeof text === "object") return text;
  const name = objectName(info.name);
  const object: SchemaObject = { type: "setting", name, tableName: name, sql: text, space: 0 as SpaceId, columns: [], uniques: [], indexed: [] };
  state.main.exec(text);
  // Nothing that is prepared depends on it.
  state.schema = { ...state.schema, objects: changedObjects(state.schema.objects, [object], [], [], noSeq) };
  addDdl(unit, { kind: "ddl", sql: text, upserts: [object], drops: [], touchedTables: [], newAtoms: [] });
  return null;
}

/** null: it is so already. */
function changedNumber(state: StoreState, name: string, sql: string): string | null {
  const valueNow = (): unknown => state.mirror.pragma(name, { simple: true });
  const before = valueNow();
  // What becomes of a value is SQLite's affair.
  state.mirror.exec(sql);
  const value = valueNow();
  return value === before ? null : `PRAGMA ${name} = ${value}`;
}

/** Likewise. */
function changedHistory(state: StoreState, value: string): string | SqlFault | null {
  try {
    const ms = parseHistory("PRAGMA atomcast.history", value);
    return ms === historyIn(state) ? null : historySql(ms);
  } catch (error) {
    return fault("SQLITE_ERROR", (error as Error).message);
  }
}
