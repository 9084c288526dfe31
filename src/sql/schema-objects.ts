/**
 * What a DDL statement did to the schema, told by comparing the mirror's `sqlite_schema` with the objects before; and the identities
 * that it gives: key spaces of new tables and unique indexes, stable ids of columns.
 *
 * Column ids are never used twice within a table, or rows from before a DROP COLUMN would show up in a later column. Where the column
 * with the highest id is dropped, a last column without a name keeps that id's place.
 */
import type { Database } from "better-sqlite3";
import type { SpaceId } from "../base/ids.js";
import type { IndexedColumn } from "../base/row-index.js";
import type { SqlValue } from "../base/values.js";
import type { NewAtom, SchemaColumn, SchemaObject } from "../messages/wire/entry.js";
import { ownTableNames } from "./connection.js";
import { wordsOf } from "./index-text.js";
import { autoindexNumber, constantOf, type LocalSchema, orderOf, type SchemaObjects } from "./local-schema.js";
import type { AlterTable } from "./parse/alter-table.js";
import { defaultExpression } from "./parse/default-text.js";
import { foldName } from "./parse/names.js";
import { affinityOf } from "./plan/affinity.js";
import { fault, StatementFault } from "./statement-faults.js";
import { newAtom, newSpace, type StoreState } from "./store-state.js";

export interface SchemaChange {
  readonly upserts: readonly SchemaObject[];
  /** Names as they were written. */
  readonly drops: readonly string[];
  readonly newAtoms: readonly NewAtom[];
}

interface MirrorRow {
  readonly type: Exclude<SchemaObject["type"], "setting">;
  readonly name: string;
  readonly tbl_name: string;
  readonly sql: string;
}

interface MirrorIndexRow {
  readonly name: string;
  readonly unique: bigint;
  readonly origin: string;
}

/** A table whose rowid no name reaches has no identity that could be replicated. */
const hiddenRowidMessage = "a table cannot have columns named rowid, oid and _rowid_ at once: rename one, or give it an INTEGER PRIMARY KEY";

/** `altered`: the table that an ALTER TABLE names, before. Throws StatementFault. */
export function schemaChange(
  state: StoreState,
  before: SchemaObjects,
  altered: { readonly name: string; readonly alter: AlterTable } | null,
): SchemaChange {
  const rows = state.mirror
    .prepare<[], MirrorRow>("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    .all();
  const upserts: SchemaObject[] = [];
  const newAtoms: NewAtom[] = [];
  const names = new Set<string>();
  const add = (space: SpaceId, indexOf: SpaceId): SpaceId => {
    newAtoms.push({ space, atom: newAtom(state), indexOf });
    return space;
  };
  // Tables first: an index names its table's space.
  const tables = new Map<string, Pick<SchemaObject, "space" | "columns">>();
  for (const row of [...rows.filter((one) => one.type === "table"), ...rows.filter((one) => one.type !== "table")]) {
    const folded = foldName(row.name);
    if (names.has(folded)) throw new StatementFault(fault("SQLITE_ERROR", `there is already an object named ${row.name}`));
    names.add(folded);
    if (ownTableNames.has(folded) && (row.type === "table" || row.type === "view"))
      throw new StatementFault(fault("ATOMCAST_NOT_SUPPORTED", `the name ${row.name} is taken by the engine itself: use another`));
    const renamed = altered?.alter.kind === "renameTable" && foldName(altered.alter.to) === folded && row.type === "table" ? altered : null;
    const known = before.get(folded)?.object ?? (renamed === null ? undefined : before.get(foldName(renamed.name))?.object);
    const old = known?.type === row.type ? known : undefined;
    if (row.type === "table") {
      const space = old?.space ?? add(newSpace(state), 0 as SpaceId);
      const isSame = old?.name === row.name && old.sql === row.sql;
      const isAltered = altered !== null && foldName(altered.name) === foldName(old?.name ?? "");
      // Another one whose text names a column that was renamed has its own columns as before.
      const object = isSame ? old : tableObject(state, row, old, space, isAltered ? altered.alter : null, add);
      tables.set(folded, object);
      if (!isSame) upserts.push(object);
      continue;
    }
    if (old?.name === row.name && old.sql === row.sql && old.tableName === row.tbl_name) continue;
    const table = row.type === "index" ? tables.get(foldName(row.tbl_name)) : undefined;
    const space = table === undefined ? (0 as SpaceId) : (old?.space ?? indexSpace(state, row, table.space, add));
    const indexed = table === undefined ? [] : (old?.indexed ?? indexedColumns(state.mirror, row.name, row.tbl_name, table.columns));
    upserts.push({ type: row.type, name: row.name, tableName: row.tbl_name, sql: row.sql, space, columns: [], uniques: [], indexed });
  }
  const drops = [...before].flatMap(([folded, { object }]) => (names.has(folded) || object.type === "setting" ? [] : [object.name]));
  return { upserts, drops, newAtoms };
}

function tableObject(
  state: StoreState,
  row: MirrorRow,
  old: SchemaObject | undefined,
  space: SpaceId,
  alter: AlterTable | null,
  add: (space: SpaceId, indexOf: SpaceId) => SpaceId,
): SchemaObject {
  const infos = state.mirror.prepare<[string], { name: string; pk: bigint }>("SELECT name, pk FROM pragma_table_xinfo(?)").all(row.name);
  const names = infos.map((info) => info.name);
  const isWithoutRowid =
    state.mirror.prepare<[string], { wr: bigint }>("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'").get(row.name)?.wr === 1n;
  const indexes = state.mirror.prepare<[string], MirrorIndexRow>('SELECT name, "unique", origin FROM pragma_index_list(?)').all(row.name);
  const isHidden = ["rowid", "oid", "_rowid_"].every((name) => names.some((one) => foldName(one) === name));
  const isIntegerKey = infos.filter((info) => info.pk > 0n).length === 1 && !indexes.some((index) => index.origin === "pk");
  if (isHidden && !isWithoutRowid && !isIntegerKey) throw new StatementFault(fault("ATOMCAST_NOT_SUPPORTED", hiddenRowidMessage));
  const columns = columnIds(names, old?.columns ?? [], alter);
  const uniques = indexes
    .filter((index) => index.origin === "u" || (index.origin === "pk" && !isWithoutRowid))
    .map((index) => {
      const known = old?.uniques.find((one) => autoindexNumber(one.name) === autoindexNumber(index.name));
      const indexed = known?.indexed ?? indexedColumns(state.mirror, index.name, row.name, columns);
      return { name: index.name, space: known?.space ?? add(newSpace(state), space), indexed };
    });
  return { type: "table", name: row.name, tableName: row.name, sql: row.sql, space, columns, uniques, indexed: [] };
}

/** The keys of a unique one are asked permission for: it has an atom. */
function indexSpace(state: StoreState, row: MirrorRow, table: SpaceId, add: (space: SpaceId, indexOf: SpaceId) => SpaceId): SpaceId {
  const space = newSpace(state);
  return isUnique(state.mirror, row) ? add(space, table) : space;
}

interface MirrorIndexColumn {
  readonly name: string | null;
  readonly cid: bigint;
  readonly desc: bigint;
  readonly coll: string;
}

/** The index's leading columns, as far as they are stored. */
function indexedColumns(mirror: Database, index: string, table: string, columns: readonly SchemaColumn[]): IndexedColumn[] {
  const infos = mirror
    .prepare<[string], { name: string; type: string; dflt_value: string | null; hidden: bigint }>(
      "SELECT name, type, dflt_value, hidden FROM pragma_table_xinfo(?)",
    )
    .all(table);
  const indexed: IndexedColumn[] = [];
  const rows = mirror.prepare<[string], MirrorIndexColumn>('SELECT cid, name, "desc", coll FROM pragma_index_xinfo(?) WHERE "key"').all(index);
  for (const row of rows) {
    const info = row.cid < 0n ? undefined : infos.find(({ name }) => name === row.name);
    const id = columns.find(({ name }) => foldName(name) === foldName(info?.name ?? ""))?.id;
    if (info?.hidden !== 0n || id === undefined) break;
    const missing = constantOf(mirror, defaultExpression(info.dflt_value));
    if (!isStoredAsItIs(missing, info.type)) break;
    const { collation, descending } = orderOf(row);
    indexed.push({ columnId: id, collation, descending, missing });
  }
  return indexed;
}

/** A column of the type keeps the value, or one that equals it. (In a STRICT table too: there it would be refused otherwise.) */
function isStoredAsItIs(value: SqlValue, type: string): boolean {
  if (value === null || value instanceof Uint8Array) return true;
  const affinity = affinityOf(type, false);
  return affinity === "none" || (typeof value === "string") === (affinity === "text");
}

export function columnIds(names: readonly string[], before: readonly SchemaColumn[], alter: AlterTable | null): SchemaColumn[] {
  let highest = before.reduce((max, column) => Math.max(max, column.id), 0);
  const taken = new Set<number>();
  const columns = names.map((name): SchemaColumn => {
    const isRenamed = alter?.kind === "renameColumn" && foldName(alter.to) === foldName(name);
    const oldName = isRenamed ? alter.from : name;
    // A column may have the empty name, and then stands before the one that keeps a place.
    const isNew = name === "" && alter?.kind === "addColumn" && alter.column === "";
    const known = isNew ? undefined : before.find((column) => foldName(column.name) === foldName(oldName));
    const id = known?.id ?? ++highest;
    taken.add(id);
    return { id, name };
  });
  if (!taken.has(highest)) columns.push({ id: highest, name: "" });
  return columns;
}

function isUnique(mirror: Database, row: MirrorRow): boolean {
  const indexes = mirror.prepare<[string], MirrorIndexRow>('SELECT name, "unique", origin FROM pragma_index_list(?)').all(row.tbl_name);
  return indexes.some((index) => index.name === row.name && index.unique === 1n);
}

/**
 * Tables whose version the change raises: those that its texts name, before and after, with the children of a parent that changes. Too many
 * only cost a run again.
 */
export function touchedTables(sql: string, change: SchemaChange, before: LocalSchema, after: LocalSchema): SpaceId[] {
  const texts = [sql, ...change.upserts.map((object) => object.sql)];
  for (const name of [...change.drops, ...change.upserts.map((object) => object.name)]) {
    const old = before.objects.get(foldName(name))?.object;
    if (old !== undefined) texts.push(old.sql);
  }
  const words = new Set(texts.flatMap((text) => [...wordsOf(text, foldName)]));
  const touched = new Set<SpaceId>();
  for (const schema of [before, after]) {
    for (const word of words) {
      const table = schema.tablesByName.get(word);
      if (table !== undefined) touched.add(table.space);
    }
  }
  for (const name of [...change.drops, ...change.upserts.map((object) => object.tableName)]) {
    for (const schema of [before, after]) {
      const object = schema.objects.get(foldName(name))?.object;
      const table = schema.tablesByName.get(foldName(object?.tableName ?? name));
      if (table === undefined) continue;
      touched.add(table.space);
      for (const foreignKey of table.referencedBy) touched.add(foreignKey.child.space);
    }
  }
  return [...touched];
}
