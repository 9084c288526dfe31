/**
 * The schema as capture, apply and constraint checks need it: tables with their identities, unique indexes and foreign keys, told by
 * SQLite's own introspection of the local database and by the schema catalog's objects (identities that SQLite does not know).
 *
 * A schema is a value: DDL makes another, and a rollback returns to the one before. Its `generation` is never used twice.
 */
import type { Database, Statement } from "better-sqlite3";
import { assert } from "../base/errors.js";
import type { Seq, SpaceId } from "../base/ids.js";
import type { RowIndex } from "../base/row-index.js";
import type { Collation, KeyColumnOrder } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import type { SchemaObject } from "../messages/wire/entry.js";
import { type IndexText, readIndexText } from "./index-text.js";
import { boundedCache } from "./parse/bounded-cache.js";
import { defaultExpression } from "./parse/default-text.js";
import { localDdl } from "./parse/local-ddl.js";
import { foldName, quoteName } from "./parse/names.js";
import type { InsertTable } from "./parse/rewrite-insert-ids.js";
import { isFault } from "./parse/sqlite-grammar.js";
import { type Affinity, affinityOf } from "./plan/affinity.js";

export interface StoredObject {
  readonly object: SchemaObject;
  /** Seq of the last DDL that touched it; 0 while its making is tentative. */
  readonly version: Seq;
}

/** By folded name. */
export type SchemaObjects = ReadonlyMap<string, StoredObject>;

export interface LocalSchema {
  readonly generation: number;
  readonly objects: SchemaObjects;
  readonly tables: ReadonlyMap<SpaceId, LocalTable>;
  readonly tablesByName: ReadonlyMap<string, LocalTable>;
  /** Root pages of tables and indexes. */
  readonly tablesByRoot: ReadonlyMap<number, LocalTable>;
  readonly indexesBySpace: ReadonlyMap<SpaceId, { readonly table: LocalTable; readonly index: LocalIndex }>;
  /** Without triggers and without foreign keys, from them or to them: what writes these is compiled alike under either foreign-key flag. */
  readonly plainTables: ReadonlySet<SpaceId>;
}

export interface LocalColumn {
  readonly id: number;
  readonly name: string;
  /** What rows from before the column have: its constant default. */
  readonly missing: SqlValue;
  /** Its default, as an expression; null: none. */
  readonly defaultText: string | null;
  /** The text of the default that a NULL may become (NOT NULL ON CONFLICT REPLACE); null: none. */
  readonly replacesNull: string | null;
}

export interface LocalTable {
  readonly space: SpaceId;
  readonly name: string;
  readonly version: Seq;
  /** INTEGER PRIMARY KEY, the key of a WITHOUT ROWID table, or a rowid that no column shows. */
  readonly identity: "integer" | "key" | "rowid";
  /** Those that are stored: no generated ones. In SQLite's order. */
  readonly columns: readonly LocalColumn[];
  /** All columns, generated ones too. */
  readonly columnNames: readonly string[];
  /** Of `columnNames`. */
  readonly affinities: readonly Affinity[];
  /** What `select` gives: the stored columns, then what indexes and foreign keys are made of beside them. SQL expressions. */
  readonly selected: readonly string[];
  readonly keyNames: readonly string[];
  readonly keyOrders: readonly KeyColumnOrder[];
  readonly keyAffinities: readonly Affinity[];
  /** The index that is the primary key of a WITHOUT ROWID table. */
  readonly primaryIndex: string | null;
  /** Places of the key in `selected`; −1 for the hidden rowid. */
  readonly keyPlaces: readonly number[];
  readonly uniques: readonly UniqueIndex[];
  readonly indexes: readonly LocalIndex[];
  readonly foreignKeys: readonly LocalForeignKey[];
  readonly referencedBy: readonly LocalForeignKey[];
  /** Columns that other tables' foreign keys refer to. */
  readonly referencedNames: readonly string[];
  readonly insertTable: InsertTable | null;
}

/** An index, unique or not, of which the Archives have entries: its ranges can be held (plan/held-indexes.ts). */
export interface LocalIndex extends RowIndex {
  readonly name: string;
  /** Of the columns that the entries are made of. */
  readonly names: readonly string[];
  readonly affinities: readonly Affinity[];
  readonly isPartial: boolean;
}

export interface UniqueIndex {
  readonly name: string;
  readonly space: SpaceId;
  readonly orders: readonly KeyColumnOrder[];
  /** Places of the indexed values in `selected`. */
  readonly places: readonly number[];
  /** SQL expressions of the indexed values, over the table's columns. */
  readonly expressions: readonly string[];
  /** A partial index: its condition, and that condition's place in `selected`. */
  readonly where: { readonly sql: string; readonly place: number } | null;
  /** The PRIMARY KEY of a rowid table that is not its rowid. */
  readonly isPrimary: boolean;
  /** Names of the indexed columns; null where an expression is among them. */
  readonly columnNames: readonly string[] | null;
}

export interface LocalForeignKey {
  readonly child: LocalTable;
  readonly parent: LocalTable;
  readonly childNames: readonly string[];
  readonly parentNames: readonly string[];
  /** Places of the child's values in its `selected`. */
  readonly childPlaces: readonly number[];
  /** Places of the parent's columns in its `referencedNames`; none where `parentKey` is null. */
  readonly referencedPlaces: readonly number[];
  /** Which key of the parent must exist; null: none is unique, and SQLite itself tells of a mismatch. */
  readonly parentKey: { readonly kind: "row" } | { readonly kind: "unique"; readonly index: UniqueIndex } | null;
  readonly collations: readonly Collation[];
  readonly isDeferred: boolean;
  /** It changes or deletes rows that refer to what goes. */
  readonly hasAction: boolean;
  /** A column of the child has another affinity than the parent's. */
  readonly mixesAffinities: boolean;
  /** Of each of its columns the parent's affinity, where a value that comes without it would be compared with the child's otherwise; else null. */
  readonly comparedAs: readonly Affinity[] | null;
  /** What a row of the child has is converted to compare it with the parent's. */
  readonly convertsChild: boolean;
}

type Linkable = { -readonly [Key in keyof LocalTable]: LocalTable[Key] } & { foreignKeys: LocalForeignKey[]; referencedBy: LocalForeignKey[] };

/** What a table is by itself, before foreign keys join it to others; its version is that of who has it. */
interface Shape {
  readonly table: Linkable;
  readonly foreignKeyRows: readonly ForeignKeyRow[];
  /** In the order of the text: declared DEFERRABLE INITIALLY DEFERRED. */
  readonly deferred: readonly boolean[];
}

interface IndexRow {
  readonly name: string;
  readonly unique: bigint;
  readonly origin: string;
  readonly partial: bigint;
}

interface IndexColumnRow {
  readonly cid: bigint;
  readonly name: string | null;
  readonly desc: bigint;
  readonly coll: string;
}

interface ColumnRow {
  readonly name: string;
  readonly type: string;
  readonly dflt_value: string | null;
  readonly notnull: bigint;
  readonly pk: bigint;
  readonly hidden: bigint;
}

const passiveActions = ["NO ACTION", "RESTRICT"];

interface ForeignKeyRow {
  readonly id: bigint;
  readonly table: string;
  readonly from: string;
  readonly to: string | null;
  readonly on_update: string;
  readonly on_delete: string;
}

interface SchemaRow {
  readonly type: string;
  readonly name: string;
  readonly tbl_name: string;
  readonly rootpage: bigint;
  readonly sql: string | null;
}

/** Objects are values: those that a change leaves alone stay the same ones. */
const objectTexts = new WeakMap<SchemaObject, string>();

function textOf(object: SchemaObject): string {
  const known = objectTexts.get(object);
  if (known !== undefined) return known;
  const text = JSON.stringify(object, (_, value) => (typeof value === "bigint" ? `${value}n` : value));
  objectTexts.set(object, text);
  return text;
}

/** Tables whose shape is remembered, by the texts and identities that it comes of: about 5 KiB each. */
export const shapesMax = 4096;

/** Total length of these texts, in UTF-16 units. */
export const shapeCharactersMax = 16 * 1024 * 1024;

/** Of all stores of this process: DDL on one table does not read two hundred again, and no more does a store that starts over, or one of the past. */
const shapes = boundedCache<Shape>({ entriesMax: shapesMax, charactersMax: shapeCharactersMax });

export interface SchemaReader {
  read(objects: SchemaObjects): LocalSchema;
}

export function schemaReader(database: Database): SchemaReader {
  const listAll = database.prepare<[], SchemaRow>("SELECT type, name, tbl_name, rootpage, sql FROM main.sqlite_schema");
  const kindOf = database.prepare<[string], { wr: bigint; strict: bigint }>("SELECT wr, strict FROM pragma_table_list(?) WHERE schema = 'main'");
  const columnsOf = database.prepare<[string], ColumnRow>('SELECT name, type, dflt_value, "notnull", pk, hidden FROM pragma_table_xinfo(?)');
  const indexesOf = database.prepare<[string], IndexRow>('SELECT name, "unique", origin, partial FROM pragma_index_list(?)');
  const indexColumnsOf = database.prepare<[string], IndexColumnRow>('SELECT cid, name, "desc", coll FROM pragma_index_xinfo(?) WHERE "key"');
  const foreignKeysOf = database.prepare<[string], ForeignKeyRow>(
    'SELECT id, "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq',
  );
  let generation = 0;

  function shapeOf(stored: StoredObject, indexTexts: ReadonlyMap<string, SchemaRow>, spaces: SchemaObjects): Linkable {
    const { object } = stored;
    const columnRows = columnsOf.all(object.name);
    const indexRows = indexesOf.all(object.name);
    const storedRows = columnRows.filter((column) => column.hidden === 0n);
    assert(storedRows.length <= object.columns.length, `table ${object.name} has columns that its schema object does not name`);
    const columns = storedRows.map((column, index): LocalColumn => {
      const known = object.columns.find((one) => foldName(one.name) === foldName(column.name)) ?? object.columns[index];
      assert(known !== undefined, `column ${column.name} of ${object.name} has no id`);
      const defaultText = defaultExpression(column.dflt_value);
      return {
        id: known.id,
        name: column.name,
        missing: constantOf(database, defaultText),
        defaultText,
        replacesNull: column.notnull === 1n ? defaultText : null,
      };
    });
    const selected = storedRows.map((column) => quoteName(column.name));
    const place = (expression: string): number => {
      const known = selected.indexOf(expression);
      return known >= 0 ? known : selected.push(expression) - 1;
    };
    const primary = columnRows.filter((column) => column.pk > 0n);
    const primaryIndex = indexRows.find((index) => index.origin === "pk");
    const kind = kindOf.get(object.name);
    const withoutRowid = kind?.wr === 1n;
    const identity = withoutRowid ? "key" : primary.length === 1 && primaryIndex === undefined ? "integer" : "rowid";
    const rowidName = ["rowid", "_rowid_", "oid"].find((name) => !columnRows.some((column) => foldName(column.name) === name)) ?? null;
    assert(identity !== "rowid" || rowidName !== null, `table ${object.name} hides its rowid behind three columns`);
    const keyRows = identity === "key" && primaryIndex !== undefined ? indexColumnsOf.all(primaryIndex.name) : [];
    const idName = identity === "integer" ? (primary[0] as ColumnRow).name : (rowidName ?? "rowid");
    const keyNames = identity === "key" ? keyRows.map((column) => column.name ?? "") : [idName];
    const uniques = indexRows
      .filter((index) => index.unique === 1n && !(withoutRowid && index.origin === "pk"))
      .map((index) => uniqueIndex(object, index, indexTexts, spaces, place));
    const insertable = storedRows.map((column) => column.name);
    return {
      space: object.space,
      name: object.name,
      version: stored.version,
      identity,
      columns,
      columnNames: columnRows.map((column) => column.name),
      affinities: columnRows.map((column) => affinityOf(column.type, kind?.strict === 1n)),
      selected,
      keyNames,
      keyOrders: identity === "key" ? keyRows.map(orderOf) : [{ collation: "BINARY", descending: false }],
      keyAffinities: keyNames.map((name) => {
        const type = identity === "key" ? columnRows.find((column) => foldName(column.name) === foldName(name))?.type : "INTEGER";
        return affinityOf(type ?? "", kind?.strict === 1n);
      }),
      primaryIndex: identity === "key" ? (primaryIndex?.name ?? null) : null,
      keyPlaces: identity === "rowid" ? [-1] : keyNames.map((name) => place(quoteName(name))),
      uniques,
      indexes: indexRows.flatMap((index) => localIndex(object, index, columnRows, kind?.strict === 1n, spaces)),
      foreignKeys: [],
      referencedBy: [],
      referencedNames: [],
      insertTable:
        identity === "key"
          ? null
          : { tableNumber: object.space, idColumn: idName, insertableColumns: insertable, allColumns: columnRows.map((column) => column.name) },
    };
  }

  function localIndex(table: SchemaObject, row: IndexRow, columnRows: readonly ColumnRow[], isStrict: boolean, objects: SchemaObjects): LocalIndex[] {
    // The primary key of a WITHOUT ROWID table is the table.
    const made = objects.get(foldName(row.name))?.object ?? table.uniques.find((one) => autoindexNumber(one.name) === autoindexNumber(row.name));
    if (made === undefined || made.indexed.length === 0) return [];
    const names = indexColumnsOf
      .all(row.name)
      .flatMap(({ name }) => (name === null ? [] : [name]))
      .slice(0, made.indexed.length);
    const affinities = names.map((name) => affinityOf(columnRows.find((column) => column.name === name)?.type ?? "", isStrict));
    return [{ name: row.name, space: made.space, columns: made.indexed, names, affinities, isPartial: row.partial === 1n }];
  }

  function uniqueIndex(
    object: SchemaObject,
    index: IndexRow,
    indexTexts: ReadonlyMap<string, SchemaRow>,
    spaces: SchemaObjects,
    place: (expression: string) => number,
  ): UniqueIndex {
    const rows = indexColumnsOf.all(index.name);
    const needsText = index.partial === 1n || rows.some((row) => row.cid === -2n);
    const text: IndexText | null = needsText ? readIndexText(indexTexts.get(index.name)?.sql ?? "") : null;
    const space = spaces.get(foldName(index.name))?.object.space ?? autoindexSpace(object, index.name);
    const expressions = rows.map((row, position) =>
      row.cid === -2n ? `(${text?.expressions[position] ?? "NULL"})` : quoteName(row.name ?? "rowid"),
    );
    const where = text?.where ?? null;
    // What a partial index leaves out may be what its expression cannot be computed of.
    const selected = expressions.map((one, position) =>
      where === null || rows[position]?.cid !== -2n ? one : `CASE WHEN (${where}) THEN ${one} END`,
    );
    return {
      name: index.name,
      space,
      isPrimary: index.origin === "pk",
      orders: rows.map(orderOf),
      expressions,
      places: selected.map(place),
      where: where === null ? null : { sql: where, place: place(`(${where})`) },
      columnNames: rows.some((row) => row.cid === -2n) ? null : rows.map((row) => row.name ?? "rowid"),
    };
  }

  function readShape(stored: StoredObject, indexTexts: ReadonlyMap<string, SchemaRow>, objects: SchemaObjects): Shape {
    const table = shapeOf(stored, indexTexts, objects);
    const foreignKeyRows = foreignKeysOf.all(table.name);
    if (foreignKeyRows.length === 0) return { table, foreignKeyRows, deferred: [] };
    const declared = localDdl(stored.object.sql, () => null);
    assert(!isFault(declared), `the text of table ${table.name} does not parse`);
    return { table, foreignKeyRows, deferred: declared.foreignKeys.map((one) => one.initiallyDeferred) };
  }

  function link(table: Linkable, shape: Shape, byName: ReadonlyMap<string, Linkable>): void {
    const rows = shape.foreignKeyRows;
    const ids = [...new Set(rows.map((row) => row.id))];
    // SQLite lists the last declared first under the lowest id, so that descending ids are the order of the text.
    for (const [position, id] of ids.entries()) {
      const own = rows.filter((row) => row.id === id);
      const parent = byName.get(foldName(own[0]?.table ?? ""));
      if (parent === undefined) continue;
      const parentNames = own.map((row, index) => row.to ?? primaryNames(parent)[index] ?? "");
      const childNames = own.map((row) => row.from);
      const parentKey = parentKeyOf(parent, parentNames);
      const affinities = childNames.map((name, index) => [affinityIn(table, name), affinityIn(parent, parentNames[index] ?? "")] as const);
      const foreignKey: LocalForeignKey = {
        child: table,
        parent,
        childNames,
        parentNames,
        childPlaces: childNames.map((name) => placeIn(table, name)),
        // Of what is no key of the parent nothing is asked, and it may name columns that are not there.
        referencedPlaces: parentKey === null ? [] : parentNames.map((name) => referencedPlace(parent, name)),
        parentKey,
        collations: parentNames.map((name) => collationOf(parent, parentKey, name)),
        isDeferred: shape.deferred[position] ?? false,
        hasAction: own.some((row) => !passiveActions.includes(row.on_update) || !passiveActions.includes(row.on_delete)),
        mixesAffinities: affinities.some(([own, other]) => own !== other),
        comparedAs: affinities.some(([own, other]) => isConverted(own, other) || isLeftAlone(own, other))
          ? affinities.map(([, other]) => other)
          : null,
        convertsChild: affinities.some(([own, other]) => isConverted(own, other)),
      };
      table.foreignKeys.push(foreignKey);
      parent.referencedBy.push(foreignKey);
    }
  }

  return {
    read(objects) {
      const rows = listAll.all();
      const texts = new Map<string, string[]>();
      const indexTexts = new Map<string, SchemaRow>();
      for (const row of rows) {
        if (row.type === "index") indexTexts.set(row.name, row);
        if (row.type !== "index" && row.type !== "table") continue;
        const list = texts.get(foldName(row.tbl_name));
        const text = `${row.name}:${row.sql}`;
        if (list === undefined) texts.set(foldName(row.tbl_name), [text]);
        else list.push(text);
      }
      const indexObjects = new Map<string, string[]>();
      const withTriggers = new Set<string>();
      for (const { object } of objects.values()) {
        if (object.type === "trigger") withTriggers.add(foldName(object.tableName));
        if (object.type !== "index") continue;
        const table = foldName(object.tableName);
        indexObjects.set(table, [...(indexObjects.get(table) ?? []), textOf(object)]);
      }
      const linked: { readonly table: Linkable; readonly shape: Shape }[] = [];
      const byName = new Map<string, Linkable>();
      const tables = new Map<SpaceId, LocalTable>();
      for (const [folded, stored] of objects) {
        if (stored.object.type !== "table") continue;
        const signature = `${textOf(stored.object)}${JSON.stringify([indexObjects.get(folded), texts.get(folded)])}`;
        const shape = shapes.get(signature) ?? readShape(stored, indexTexts, objects);
        shapes.set(signature, shape);
        const table: Linkable = {
          ...shape.table,
          version: stored.version,
          selected: [...shape.table.selected],
          foreignKeys: [],
          referencedBy: [],
          referencedNames: [],
        };
        linked.push({ table, shape });
        byName.set(folded, table);
        tables.set(table.space, table);
      }
      for (const { table, shape } of linked) link(table, shape, byName);
      const plainTables = new Set<SpaceId>();
      for (const { table, shape } of linked) {
        const isLinked = shape.foreignKeyRows.length > 0 || table.referencedBy.length > 0;
        if (!isLinked && !withTriggers.has(foldName(table.name))) plainTables.add(table.space);
      }
      const tablesByRoot = new Map<number, LocalTable>();
      for (const row of rows) {
        const table = byName.get(foldName(row.tbl_name));
        if (table !== undefined && row.rootpage > 0n) tablesByRoot.set(Number(row.rootpage), table);
      }
      generation++;
      const indexesBySpace = new Map([...tables.values()].flatMap((table) => table.indexes.map((index) => [index.space, { table, index }] as const)));
      return { generation, objects, tables, tablesByName: byName, tablesByRoot, indexesBySpace, plainTables };
    },
  };
}

export const emptySchema: LocalSchema = {
  generation: 0,
  objects: new Map(),
  tables: new Map(),
  tablesByName: new Map(),
  tablesByRoot: new Map(),
  indexesBySpace: new Map(),
  plainTables: new Set(),
};

/** A unique constraint without a name of its own: SQLite numbers them, so the number finds it after its table has been renamed. */
export function autoindexNumber(name: string): string {
  return name.slice(name.lastIndexOf("_") + 1);
}

function autoindexSpace(object: SchemaObject, name: string): SpaceId {
  const known = object.uniques.find((one) => autoindexNumber(one.name) === autoindexNumber(name));
  assert(known !== undefined, `unique index ${name} has no key space`);
  return known.space;
}

export function orderOf(row: Pick<IndexColumnRow, "coll" | "desc">): KeyColumnOrder {
  const collation = row.coll.toUpperCase();
  assert(collation === "BINARY" || collation === "NOCASE" || collation === "RTRIM", `collation ${row.coll} is not known`);
  return { collation, descending: row.desc === 1n };
}

export function constantOf(database: Database, text: string | null): SqlValue {
  if (text === null) return null;
  try {
    // Only a constant default can be missing in a row (SQLite refuses to add others to a table with rows), so a failure does not matter.
    const statement: Statement<[], SqlValue> = database.prepare<[], SqlValue>(`SELECT ${text}`);
    return statement.pluck().get() ?? null;
  } catch {
    return null;
  }
}

function primaryNames(table: LocalTable): readonly string[] {
  if (table.identity !== "rowid") return table.keyNames;
  // Of a rowid table with another primary key: its automatic index, whichever it is, names the columns of the key in the order of the text.
  return table.uniques.find((index) => index.isPrimary)?.columnNames ?? [];
}

function parentKeyOf(parent: LocalTable, names: readonly string[]): LocalForeignKey["parentKey"] {
  const wanted = names.map(foldName).sort().join("\0");
  if (parent.identity !== "rowid" && parent.keyNames.map(foldName).sort().join("\0") === wanted) return { kind: "row" };
  const index = parent.uniques.find((one) => one.where === null && one.columnNames?.map(foldName).sort().join("\0") === wanted);
  return index === undefined ? null : { kind: "unique", index };
}

function collationOf(parent: LocalTable, key: LocalForeignKey["parentKey"], name: string): Collation {
  const names = key?.kind === "unique" ? (key.index.columnNames ?? []) : parent.keyNames;
  const orders = key?.kind === "unique" ? key.index.orders : parent.keyOrders;
  return orders[names.findIndex((one) => foldName(one) === foldName(name))]?.collation ?? "BINARY";
}

function placeIn(table: Linkable, name: string): number {
  const folded = foldName(name);
  const known = table.columns.findIndex((column) => foldName(column.name) === folded);
  return known >= 0 ? known : (table.selected as string[]).push(quoteName(name)) - 1;
}

/** A rowid's is that of an INTEGER PRIMARY KEY. */
/** Of values that are compared, one is made a number where the other's column is of numbers, else a text where it is of texts. */
function isConverted(own: Affinity, other: Affinity): boolean {
  if (other === "numeric" || other === "real") return own === "text" || own === "none";
  return other === "text" && own === "none";
}

/** A number that the parent has becomes text for a column of the child that is text, but where it comes from a column without a type. */
function isLeftAlone(own: Affinity, other: Affinity): boolean {
  return own === "text" && other === "none";
}

function affinityIn(table: LocalTable, name: string): Affinity {
  return table.affinities[table.columnNames.findIndex((one) => foldName(one) === foldName(name))] ?? "numeric";
}

function referencedPlace(parent: Linkable, name: string): number {
  const names = parent.referencedNames as string[];
  const known = names.findIndex((one) => foldName(one) === foldName(name));
  return known >= 0 ? known : names.push(name) - 1;
}
