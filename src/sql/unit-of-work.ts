/**
 * One unit of work: an autocommit statement, or what stands between BEGIN (or an outermost SAVEPOINT) and its end. It is carried out on the
 * local database, captured and rolled back; `Changes` then says all of it.
 *
 * DDL cuts it in segments, in order: a unique index may be made only after the rows that stand against it are gone, and a row of a new table
 * only after the table. The rows of a segment are the net of its statements against the segment before, and in the end against what is stored.
 */

import { type Seq, type SpaceId, schemaSpace } from "../base/ids.js";
import type { BinaryKey } from "../base/key-ranges.js";
import { detachUnnamed, detachValues, type LargeValue, nameOfValue, type ValueName } from "../base/large-values.js";
import { entryBytesMax } from "../base/limits.js";
import { referredBytes, type SqlValue } from "../base/values.js";
import { type DdlPart, encodeBody, type Part, type RowChange, type RowsPart, type SpaceKey } from "../messages/wire/entry.js";
import { copyTouches, mergeTouches } from "./capture.js";
import type { LocalForeignKey, LocalTable } from "./local-schema.js";
import type { Changes, PermissionKey, SessionSettings, TransactionMode } from "./local-store.js";
import { foldName } from "./parse/names.js";
import { fault, illFormedTextFault, StatementFault } from "./statement-faults.js";
import { type StoreState, useSchema } from "./store-state.js";
import {
  encodeStoredRow,
  hasIllFormedKey,
  hasIllFormedText,
  hasLargeDefault,
  indexEntries,
  keyOfRow,
  keyOfValues,
  type SelectedRow,
  sqlOf,
} from "./stored-rows.js";
import type { FinalRow, Image, RowsSegment, Savepoint, Segment, Unit } from "./unit.js";

/** Room in an entry for everything beside its rows. */
const entryOverheadBytes = 1024 * 1024;

export function beginUnit(
  state: StoreState,
  kind: Unit["kind"],
  { foreignKeys, isolation }: SessionSettings,
  mode: TransactionMode = "deferred",
): Unit {
  state.statements.get("BEGIN").run();
  return {
    kind,
    startSchema: state.schema,
    foreignKeys,
    isolation: isolation ?? "snapshot",
    readKeys: new Map(),
    mode,
    touches: new Map(),
    deferred: new Map(),
    parents: new Map(),
    segments: [],
    savepoints: [],
    reliedOn: new Set(),
    wholeTables: new Set(),
    needs: [],
    neededWhole: new Set(),
    made: new Set(),
    orphanable: [],
    mirrorFollows: false,
    bytes: 0,
    hasRun: false,
    snapshot: null,
    rewound: null,
    isSettled: false,
  };
}

export function addDdl(unit: Unit, part: DdlPart): void {
  unit.segments.push({ kind: "ddl", part });
  unit.bytes += part.sql.length + part.upserts.reduce((sum, { sql }) => sum + sql.length, 0);
}

/** Undoes everything, also where SQLite has rolled back already. */
export function rollbackUnit(state: StoreState, unit: Unit): void {
  if (state.main.inTransaction) state.statements.get("ROLLBACK").run();
  if (unit.mirrorFollows) state.mirror.exec("ROLLBACK");
  // A rolled back change of the schema expires every prepared statement: those of before would be compiled again under the foreign-key flag of then.
  if (unit.mirrorFollows || state.schema !== unit.startSchema || state.madeSystemTable) useSchema(state, unit.startSchema);
  state.madeSystemTable = false;
}

/** What was done before it is a segment of its own, so that the unit can be carried out again up to it. Throws StatementFault. */
export function openSavepoint(state: StoreState, unit: Unit, name: string): void {
  endSegment(state, unit);
  openSqliteSavepoint(state, unit, name);
  unit.savepoints.push({
    name: foldName(name),
    schema: state.schema,
    segmentCount: unit.segments.length,
    deferred: copyTouches(unit.deferred),
    orphanableCount: unit.orphanable.length,
  });
}

export function openSqliteSavepoint(state: StoreState, unit: Unit, name: string): void {
  state.main.exec(`SAVEPOINT ${quoted(name)}`);
  if (unit.mirrorFollows) state.mirror.exec(`SAVEPOINT ${quoted(name)}`);
}

/** The mirror's transaction begins with the first DDL, and with the savepoints that are open then. */
export function followInMirror(state: StoreState, unit: Unit): void {
  if (unit.mirrorFollows) return;
  state.mirror.exec("BEGIN");
  unit.mirrorFollows = true;
  for (const savepoint of unit.savepoints) state.mirror.exec(`SAVEPOINT ${quoted(savepoint.name)}`);
}

/** True where the outermost savepoint of a unit that a SAVEPOINT began was released: that is a COMMIT. The savepoint then stays. */
export function releaseSavepoint(state: StoreState, unit: Unit, name: string): "released" | "commits" {
  const index = findSavepoint(unit, name);
  if (index === 0 && unit.kind === "savepoint") return "commits";
  state.main.exec(`RELEASE ${quoted(name)}`);
  if (unit.mirrorFollows) state.mirror.exec(`RELEASE ${quoted(name)}`);
  unit.savepoints.length = index;
  return "released";
}

export function rollbackToSavepoint(state: StoreState, unit: Unit, name: string): void {
  const index = findSavepoint(unit, name);
  state.main.exec(`ROLLBACK TO ${quoted(name)}`);
  if (unit.mirrorFollows) state.mirror.exec(`ROLLBACK TO ${quoted(name)}`);
  const savepoint = unit.savepoints[index] as Savepoint;
  unit.savepoints.length = index + 1;
  unit.deferred = copyTouches(savepoint.deferred);
  unit.orphanable.length = savepoint.orphanableCount;
  // Rows that a cut segment had read are as before again, which is not as they were read.
  for (const segment of unit.segments.splice(savepoint.segmentCount)) if (segment.kind === "rows") mergeTouches(segment.touches, unit.touches);
  if (state.schema !== savepoint.schema || state.madeSystemTable) useSchema(state, savepoint.schema);
}

function findSavepoint(unit: Unit, name: string): number {
  const index = unit.savepoints.findLastIndex((savepoint) => savepoint.name === foldName(name));
  if (index < 0) throw new StatementFault(fault("SQLITE_ERROR", `no such savepoint: ${name}`));
  return index;
}

function quoted(name: string): string {
  return `"${foldName(name).replaceAll('"', '""')}"`;
}

/** Ends a segment: reads what the touched rows are now. Throws StatementFault. */
export function endSegment(state: StoreState, unit: Unit): void {
  if (unit.touches.size === 0) return;
  const tables = new Map<SpaceId, { table: LocalTable; rows: Map<BinaryKey, FinalRow> }>();
  for (const [space, touches] of unit.touches) {
    const table = state.schema.tables.get(space);
    if (table === undefined) continue;
    const rows = new Map<BinaryKey, FinalRow>();
    const select = state.statements.get(sqlOf(table).select);
    if (hasIllFormedKey(table, touches.rows.values(), state.statements)) throw new StatementFault(illFormedTextFault);
    for (const { keyValues } of touches.rows.values()) {
      const image = readImage(state, table, select.get(...keyValues), keyValues);
      const key = image === null ? keyOfValues(table, keyValues) : keyOfRow(table, image.row, keyValues[0] ?? null);
      // A row that is not here any more, given up while the transaction was left open, is none that it has deleted.
      if (image === null && !isKnownHere(state, unit, space, key)) continue;
      unit.bytes += key.length + (image?.bytes.length ?? 0) + 16;
      if (unit.bytes > entryBytesMax - entryOverheadBytes) {
        throw new StatementFault(fault("SQLITE_TOOBIG", `a transaction of more than ${entryBytesMax} bytes: divide it in several`));
      }
      rows.set(key.toString("latin1"), { key, keyValues, image, since: state.appliedSeq });
    }
    tables.set(space, { table, rows });
  }
  unit.segments.push({ kind: "rows", tables, touches: unit.touches });
  unit.touches = new Map();
}

/** The row would be here if there was one: its range is held, or the transaction itself has put it there before. */
function isKnownHere(state: StoreState, unit: Unit, space: SpaceId, key: Buffer): boolean {
  if (unit.made.has(space) || state.held.get(space)?.place(key) === "held") return true;
  const name = key.toString("latin1");
  return unit.segments.some((segment) => segment.kind === "rows" && segment.tables.get(space)?.rows.has(name) === true);
}

function readImage(state: StoreState, table: LocalTable, row: SelectedRow | undefined, keyValues: readonly SqlValue[]): Image | null {
  if (row === undefined) return null;
  if (hasIllFormedText(table, row, keyValues, state.statements)) throw new StatementFault(illFormedTextFault);
  return { bytes: encodeStoredRow(table, row), row, table };
}

/** Row segments that no savepoint or DDL stands between become one: the later image of a row counts. */
export function joinLastSegments(unit: Unit): void {
  const last = unit.segments.at(-1);
  const before = unit.segments.at(-2);
  if (last?.kind !== "rows" || before?.kind !== "rows") return;
  if (unit.savepoints.some(({ segmentCount }) => segmentCount === unit.segments.length - 1)) return;
  const end = unit.segments.length;
  unit.segments.splice(-2, 2, joined(before, last));
  // Those behind both are behind the one.
  for (const [place, savepoint] of unit.savepoints.entries())
    if (savepoint.segmentCount === end) unit.savepoints[place] = { ...savepoint, segmentCount: end - 1 };
}

function joined(before: RowsSegment, after: RowsSegment): RowsSegment {
  const tables = new Map(before.tables);
  for (const [space, { table, rows }] of after.tables) {
    const all = new Map(tables.get(space)?.rows ?? []);
    for (const [key, row] of rows) all.set(key, { ...row, since: all.get(key)?.since ?? row.since });
    tables.set(space, { table, rows: all });
  }
  const touches = copyTouches(before.touches);
  mergeTouches(copyTouches(after.touches), touches);
  return { kind: "rows", tables, touches };
}

/** What stands between two changes of the schema is one: an entry has each row once there. */
function joinedSegments(segments: readonly Segment[]): readonly Segment[] {
  const all: Segment[] = [];
  for (const segment of segments) {
    const last = all.at(-1);
    if (last?.kind === "rows" && segment.kind === "rows") all[all.length - 1] = joined(last, segment);
    else all.push(segment);
  }
  return all;
}

/** To be called when the unit is rolled back: what is stored then is what it began with. null: nothing has changed. */
export function changesOf(state: StoreState, unit: Unit): Changes | null {
  const permissions = new Permissions(unit);
  const parts: Part[] = [];
  const known = new Map<SpaceId, Map<BinaryKey, Image | null>>();
  for (const segment of joinedSegments(unit.segments)) {
    if (segment.kind === "ddl") {
      parts.push(segment.part);
      for (const object of segment.part.upserts) permissions.set(schemaSpace, nameKey(object.name), "write");
      for (const name of segment.part.drops) permissions.set(schemaSpace, nameKey(name), "write");
      continue;
    }
    for (const [space, { table, rows }] of segment.tables) {
      const part = rowsPart(state, unit, table, rows, imagesOf(known, space), permissions);
      if (part !== null) parts.push(part);
    }
  }
  if (parts.length === 0) return null;
  const exists: SpaceKey[] = [];
  for (const [space, keys] of unit.parents) {
    for (const key of keys) {
      if (permissions.has(space, key) || unit.made.has(space)) continue;
      exists.push({ space, key: Buffer.from(key, "latin1") });
      permissions.set(space, key, "exist");
    }
  }
  for (const [space, keys] of unit.readKeys) for (const key of keys) if (!permissions.has(space, key)) permissions.set(space, key, "write");
  const body = encodeBody({ kind: "transaction", exists, parts });
  if (body.length > entryBytesMax - entryOverheadBytes / 2) {
    throw new StatementFault(fault("SQLITE_TOOBIG", `a transaction of more than ${entryBytesMax} bytes: divide it in several`));
  }
  return {
    // A copy of its own, not a view of a pool: it is sent to another thread.
    body: new Uint8Array(body),
    permissions: permissions.list(),
    wholeTables: [...unit.wholeTables],
    schemaVersions: schemaVersions(unit),
    ...(parts.some(refersToLargeValues) ? { hasLargeValues: true } : {}),
  };
}

function imagesOf(known: Map<SpaceId, Map<BinaryKey, Image | null>>, space: SpaceId): Map<BinaryKey, Image | null> {
  const images = known.get(space) ?? new Map<BinaryKey, Image | null>();
  known.set(space, images);
  return images;
}

function rowsPart(
  state: StoreState,
  unit: Unit,
  table: LocalTable,
  finals: ReadonlyMap<BinaryKey, FinalRow>,
  known: Map<BinaryKey, Image | null>,
  permissions: Permissions,
): RowsPart | null {
  const stored = unit.startSchema.tables.get(table.space);
  const select = stored === undefined ? null : state.statements.get(sqlOf(stored).select);
  const uniqueSpaces = new Set(table.uniques.map((index) => index.space));
  const changes: RowChange[] = [];
  const values = new Map<ValueName, LargeValue>();
  const isDefaultLarge = hasLargeDefault(table);
  const entering: { readonly space: SpaceId; readonly binaryKey: BinaryKey; readonly since: Seq | undefined }[] = [];
  for (const [binaryKey, final] of finals) {
    let before = known.get(binaryKey);
    if (before === undefined) before = stored === undefined || select === null ? null : storedImage(stored, select.get(...final.keyValues));
    const after = final.image;
    // Another one may have made the same change since: to find that it was lost, its key is asked for.
    const isOlder = final.since < state.appliedSeq && unit.isolation === "read_committed";
    if (isSameImage(before, after) && !(isOlder && after !== null)) continue;
    known.set(binaryKey, after);
    const since = isOlder ? final.since : undefined;
    const left = before === null ? [] : indexEntries(before.table, before.row).filter((entry) => uniqueSpaces.has(entry.space));
    const came = after === null ? [] : indexEntries(table, after.row);
    const indexKeys: SpaceKey[] = [];
    for (const entry of left) {
      if (came.some((one) => one.space === entry.space && one.binaryKey === entry.binaryKey)) continue;
      indexKeys.push({ space: entry.space, key: entry.key });
      // A parent's unique value that goes must meet a child's "exist" on it.
      permissions.set(entry.space, entry.binaryKey, "delete", since);
    }
    for (const entry of came) {
      if (left.some((one) => one.space === entry.space && one.binaryKey === entry.binaryKey)) continue;
      indexKeys.push({ space: entry.space, key: entry.key });
      entering.push({ ...entry, since });
    }
    permissions.set(table.space, binaryKey, after === null ? "delete" : "write", since);
    const old = before === null ? null : detachUnnamed(before.bytes);
    const row = after === null ? null : detachValues(after.bytes);
    // What the row had before, everybody has who needs it: if its columns are those that it had it in, and it has been stored with all of them.
    const kept = before?.table === table && !isDefaultLarge ? (old?.values ?? []) : [];
    for (const value of row?.values ?? [])
      if (!kept.some((bytes) => Buffer.compare(bytes, value.bytes) === 0)) values.set(nameOfValue(value.hash), value);
    changes.push({ key: final.key, row: row?.row ?? null, oldBytes: old?.weight ?? 0, indexKeys });
  }
  for (const entry of entering) permissions.set(entry.space, entry.binaryKey, "write", entry.since);
  if (changes.length === 0) return null;
  return { kind: "rows", table: table.space, rows: changes, ...(values.size === 0 ? {} : { values: [...values.values()] }) };
}

/** When the unit is rolled back: rows that it has touched since the last entry, and left as they were. They would hide what they become. */
export function dropUnchanged(state: StoreState, unit: Unit): void {
  const earlier = new Map<SpaceId, Set<BinaryKey>>();
  for (const segment of unit.segments) {
    if (segment.kind !== "rows") continue;
    for (const [space, { rows }] of segment.tables) {
      const table = state.schema.tables.get(space);
      // Its own.
      if (table === undefined) continue;
      const known = earlier.get(space) ?? new Set();
      earlier.set(space, known);
      const select = state.statements.get(sqlOf(table).select);
      const held = state.held.get(space);
      for (const [key, { since, image, keyValues, key: bytes }] of rows) {
        // A row that was given up since is not known to be as it was.
        const isKnown = since === state.appliedSeq && held?.place(bytes) === "held" && !known.has(key);
        if (isKnown && isSameImage(storedImage(table, select.get(...keyValues)), image)) rows.delete(key);
        else known.add(key);
      }
    }
  }
}

function isSameImage(left: Image | null, right: Image | null): boolean {
  return left === null || right === null ? left === right : left.bytes.equals(right.bytes);
}

function storedImage(table: LocalTable, row: SelectedRow | undefined): Image | null {
  return row === undefined ? null : { bytes: encodeStoredRow(table, row), row, table };
}

/** As UTF-8, like every key of the schema catalog. */
export function nameKey(name: string): BinaryKey {
  return Buffer.from(foldName(name), "utf8").toString("latin1");
}

function refersToLargeValues(part: Part): boolean {
  return part.kind === "rows" && part.rows.some(({ row }) => row !== null && referredBytes(row) > 0);
}

/** Every table that the unit relied on, as it was when the unit began. */
function schemaVersions(unit: Unit): { readonly table: SpaceId; readonly version: Seq }[] {
  return [...unit.reliedOn].flatMap((space) => {
    const table = unit.startSchema.tables.get(space);
    return table === undefined ? [] : [{ table: space, version: table.version }];
  });
}

/** The last word on a key counts: what a unit deletes and inserts again is written. */
class Permissions {
  readonly #keys = new Map<SpaceId, Map<BinaryKey, PermissionKey>>();
  readonly #made: ReadonlySet<SpaceId>;

  constructor(unit: Unit) {
    this.#made = unit.made;
  }

  set(space: SpaceId, key: BinaryKey, kind: PermissionKey["kind"], since?: Seq): void {
    if (this.#made.has(space)) return;
    const keys = this.#keys.get(space) ?? new Map<BinaryKey, PermissionKey>();
    this.#keys.set(space, keys);
    const known = keys.get(key)?.since;
    const oldest = known === undefined || (since !== undefined && since < known) ? since : known;
    keys.set(key, oldest === undefined ? { space, key, kind } : { space, key, kind, since: oldest });
  }

  has(space: SpaceId, key: BinaryKey): boolean {
    return this.#keys.get(space)?.has(key) === true;
  }

  list(): PermissionKey[] {
    return [...this.#keys.values()].flatMap((keys) => [...keys.values()]);
  }
}

/** Which foreign keys a check is of. */
export function isDue(unit: Unit, deferAll: boolean, at: "statement" | "commit"): (foreignKey: LocalForeignKey) => boolean {
  if (unit.kind === "implicit") return () => true;
  return (foreignKey) => (deferAll || foreignKey.isDeferred) === (at === "commit");
}
