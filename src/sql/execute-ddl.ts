/** Carries a DDL statement out on the local database and on the mirror: the same for a tentative run and for a committed entry. */
import { assert } from "../base/errors.js";
import type { Seq, SpaceId } from "../base/ids.js";
import type { DdlPart, SchemaObject } from "../messages/wire/entry.js";
import { withoutChecks } from "./connection.js";
import type { LocalSchema, SchemaObjects, StoredObject } from "./local-schema.js";
import { classify } from "./parse/classify.js";
import { type LocalDdl, localDdl } from "./parse/local-ddl.js";
import { foldName, quoteName } from "./parse/names.js";
import type { InsertTableLookup } from "./parse/rewrite-insert-ids.js";
import { isFault } from "./parse/sqlite-grammar.js";
import { dropCaptureTriggers, installCaptureTriggers, type StoreState, useSchema } from "./store-state.js";
import { tickedText } from "./ticked-texts.js";

/** Of the schema that is in force. */
export function insertLookup(schema: LocalSchema): InsertTableLookup {
  return (name) => schema.tablesByName.get(foldName(name))?.insertTable ?? null;
}

/** The statement as the local database runs it. It has been parsed before: a fault is a bug. */
export function localDdlOf(sql: string, schema: LocalSchema): LocalDdl {
  const local = localDdl(sql, insertLookup(schema));
  assert(!isFault(local), `a statement that was accepted does not parse: ${sql}`);
  return local;
}

/** As the local database runs it, ticks and all. */
export function localTextOf(state: StoreState, sql: string, schema = state.schema): string {
  return tickedText(state.main, localDdlOf(sql, schema).sql);
}

/** A change of the schema that has been made before, here or elsewhere, within the transactions of both databases. `around`: what changes the local one's rows. */
export function repeatDdl(state: StoreState, part: DdlPart, version: Seq, around = (work: () => void): void => work()): void {
  const before = state.schema;
  const info = classify(part.sql);
  if ("action" in info && info.action === "alter") dropCaptureTriggers(state, info.name ?? "");
  state.mirror.exec(part.sql);
  around(() => withoutChecks(state.main, () => state.main.exec(localTextOf(state, part.sql))));
  adoptObjects(state, changedObjects(before.objects, part.upserts, part.drops, part.touchedTables, version), part.upserts);
}

/** Objects after a change; `version` for those that are changed and for the tables that are touched. */
export function changedObjects(
  before: SchemaObjects,
  upserts: readonly SchemaObject[],
  drops: readonly string[],
  touched: readonly SpaceId[],
  version: Seq,
): SchemaObjects {
  const objects = new Map<string, StoredObject>(before);
  for (const name of drops) objects.delete(foldName(name));
  for (const object of upserts) objects.set(foldName(object.name), { object, version });
  const spaces = new Set(touched);
  for (const [folded, stored] of objects) {
    if (stored.object.type === "table" && spaces.has(stored.object.space) && stored.version !== version)
      objects.set(folded, { object: stored.object, version });
  }
  return objects;
}

/** Puts the objects in force once their SQL has run. */
export function adoptObjects(state: StoreState, objects: SchemaObjects, upserts: readonly SchemaObject[]): void {
  const schema = state.schemaReader.read(objects);
  useSchema(state, schema);
  refreshTriggers(state, upserts);
  installCaptureTriggers(state, state.schema);
}

/** Triggers that insert into a table which was made or changed: how ids are put into their INSERTs depends on its columns. */
function refreshTriggers(state: StoreState, upserts: readonly SchemaObject[]): void {
  const changed = new Set(upserts.filter((object) => object.type === "table").map((object) => foldName(object.name)));
  if (changed.size === 0) return;
  let refreshed = false;
  for (const { object } of state.schema.objects.values()) {
    if (object.type !== "trigger") continue;
    const { insertTargets } = localDdlOf(object.sql, state.schema);
    if (!insertTargets.some((name) => changed.has(foldName(name)))) continue;
    const kept = state.main
      .prepare<[string], string>("SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND name = ?")
      .pluck()
      .get(object.name);
    const text = localTextOf(state, object.sql);
    if (kept === text) continue;
    state.main.exec(`DROP TRIGGER IF EXISTS main.${quoteName(object.name)}`);
    state.main.exec(text);
    refreshed = true;
  }
  if (refreshed) useSchema(state, state.schemaReader.read(state.schema.objects));
}
