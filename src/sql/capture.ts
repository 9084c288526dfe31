/**
 * Change capture. TEMP triggers call out the keys of the rows that a statement touches; what the rows are in the end is read by key.
 * REPLACE's victims fire no delete trigger (recursive_triggers is OFF, since ON would fire users' own), so BEFORE triggers call out
 * the rows with an equal unique value. A touch says, after the table's number and its kind:
 *
 * | kind | from | then |
 * |------|------|------|
 * | 0 | BEFORE INSERT, BEFORE UPDATE | a possible victim's key, its referenced values |
 * | 1 | AFTER INSERT | the key |
 * | 2 | AFTER UPDATE | which foreign keys' values changed, a bit for each, the old key, the new key, the old referenced values, and whether any of these changed |
 * | 3 | AFTER DELETE | the key, the referenced values |
 * | 4 | when a user's trigger fires, before it | its place among the table's, what its statements look rows up by (plan/trigger-needs.ts) |
 *
 * Where a foreign key's columns have other affinities in the child than in the parent, 2 and 3 come from BEFORE triggers: SQLite looks for the children
 * with the very values that OLD has, and leaves them converted as the child's index has them, so that AFTER triggers see 5 in the place of '5.0'. A row
 * that is passed over by OR IGNORE is then called out in vain.
 */
import type { SpaceId } from "../base/ids.js";
import type { SqlValue } from "../base/values.js";
import type { LocalSchema, LocalTable, UniqueIndex } from "./local-schema.js";
import { foldName, quoteName } from "./parse/names.js";
import type { TriggerNeed } from "./plan/trigger-needs.js";
import { keyName, keyOfValues } from "./stored-rows.js";

export interface TouchedRow {
  readonly keyValues: readonly SqlValue[];
  /** A bit for each foreign key (`foreignKeyBit`) whose parent must exist, since the row was inserted, or the key's values changed. */
  refersAnew: bigint;
  /** The key that the row had before: what was due of that is due of this one. */
  movedFrom: RowId | null;
}

/** The integer key, or the sort key as a binary string. */
type RowId = bigint | string;

/** What a unit of work touched of one table. */
export interface TableTouches {
  readonly rows: Map<RowId, TouchedRow>;
  readonly released: ReleasedRow[];
}

/** Referenced values that a row had and may no longer have. */
export interface ReleasedRow {
  readonly values: readonly SqlValue[];
  /** The row lost them for certain, so that foreign keys' actions ran, whichever row has them in the end. */
  readonly isGone: boolean;
}

export type Touches = Map<SpaceId, TableTouches>;

/** Foreign keys of one table with a bit of their own: what SQLite's integers have room for. Further ones share the last, and are checked more often. */
const ownBitsMax = 62;
const everyForeignKey = -1n;

/** By its place in the table's list. */
export function foreignKeyBit(place: number): bigint {
  return 1n << BigInt(Math.min(place, ownBitsMax));
}

/** Sorts raw touches into `into`. */
export function collectTouches(raw: readonly (readonly SqlValue[])[], schema: LocalSchema, into: Touches): void {
  let table: LocalTable | undefined;
  let touches: TableTouches | undefined;
  for (const touch of raw) {
    if (touch[1] === triggerTouch) continue;
    const space = Number(touch[0]) as SpaceId;
    if (table?.space !== space || touches === undefined) {
      table = schema.tables.get(space);
      // A client can call the function too; what it says then is of no table.
      if (table === undefined) continue;
      touches = into.get(space);
      if (touches === undefined) {
        touches = { rows: new Map(), released: [] };
        into.set(space, touches);
      }
    }
    const width = table.keyNames.length;
    const kind = touch[1];
    if (kind === 1n) touchRow(table, touches, touch.slice(2, 2 + width), everyForeignKey);
    else if (kind === 2n) {
      const changed = typeof touch[2] === "bigint" ? touch[2] : everyForeignKey;
      const from = touchRow(table, touches, touch.slice(3, 3 + width), 0n);
      const to = touchRow(table, touches, touch.slice(3 + width, 3 + 2 * width), changed);
      if (from !== null && to !== null && from !== to) move(touches, from, to);
      if (table.referencedNames.length > 0) touches.released.push({ values: touch.slice(3 + 2 * width, -1), isGone: touch.at(-1) === 1n });
    } else {
      touchRow(table, touches, touch.slice(2, 2 + width), 0n);
      if (table.referencedNames.length > 0) touches.released.push({ values: touch.slice(2 + width), isGone: kind === 3n });
    }
  }
}

function touchRow(table: LocalTable, touches: TableTouches, keyValues: SqlValue[], refersAnew: bigint): RowId | null {
  if (keyValues.length !== table.keyNames.length) return null;
  const only = keyValues[0];
  const id = table.identity !== "key" && typeof only === "bigint" ? only : keyOfValues(table, keyValues).toString("latin1");
  const known = touches.rows.get(id);
  if (known === undefined) touches.rows.set(id, { keyValues, refersAnew, movedFrom: null });
  else known.refersAnew |= refersAnew;
  return id;
}

function move(touches: TableTouches, from: RowId, to: RowId): void {
  const row = touches.rows.get(to);
  if (row === undefined) return;
  row.movedFrom = from;
  row.refersAnew |= touches.rows.get(from)?.refersAnew ?? 0n;
}

export function mergeTouches(from: Touches, into: Touches): void {
  for (const [space, touches] of from) {
    const known = into.get(space);
    if (known === undefined) {
      into.set(space, touches);
      continue;
    }
    for (const [id, row] of touches.rows) {
      if (row.movedFrom !== null) row.refersAnew |= known.rows.get(row.movedFrom)?.refersAnew ?? 0n;
      const before = known.rows.get(id);
      if (before === undefined) known.rows.set(id, row);
      else before.refersAnew |= row.refersAnew;
    }
    known.released.push(...touches.released);
  }
}

/** A copy that is changed apart from the original. */
export function copyTouches(touches: Touches): Touches {
  return new Map(
    [...touches].map(([space, one]) => [space, { rows: new Map([...one.rows].map(([id, row]) => [id, { ...row }])), released: [...one.released] }]),
  );
}

export const triggerTouch = 4n;

/** Names of capture triggers begin with this; they stand in the TEMP schema. */
const prefix = "_capture_";

/** CREATE TEMP TRIGGER statements of one table, by name. They stand before users' triggers: SQLite fires those of the TEMP schema first. */
export function captureTriggers(table: LocalTable, users: readonly TriggerNeed[]): ReadonlyMap<string, string> {
  const name = quoteName(table.name);
  const old = (names: readonly string[]): string[] => names.map((one) => `old.${quoteName(one)}`);
  const key = (row: "old." | "new." | ""): string[] => table.keyNames.map((one) => `${row}${keyName(table, one)}`);
  const call = (...parts: readonly (string | number)[]): string => `SELECT _touch(${[table.space, ...parts].join(", ")})`;
  const differ = (names: readonly string[]): string =>
    `(${names.map((one) => `old.${quoteName(one)} IS NOT new.${quoteName(one)} COLLATE BINARY`).join(" OR ")})`;
  const changes = table.foreignKeys.map(({ childNames }, place) => `(${differ(childNames)} * ${foreignKeyBit(place)})`);
  const changed = changes.length === 0 ? "0" : changes.join(" | ");
  const bodies = new Map<string, string[]>();
  const note = (event: string, ...parts: readonly string[]): void => void bodies.set(event, [...(bodies.get(event) ?? []), ...parts]);
  for (const [place, { event, columns }] of users.entries())
    if (columns.length > 0) note(event, call(Number(triggerTouch), place, ...columns.map(({ row, column }) => `${row}.${quoteName(column)}`)));
  const time = table.referencedBy.some((foreignKey) => foreignKey.mixesAffinities) ? "BEFORE" : "AFTER";
  const newKey = time === "BEFORE" && table.identity === "key" ? table.keyNames.map((one) => newValue(table, one)) : key("new.");
  const referenced = table.referencedNames.length === 0 ? [] : [...old(table.referencedNames), differ(table.referencedNames)];
  note("AFTER INSERT", call(1, ...key("new.")));
  note(`${time} UPDATE`, call(2, changed, ...key("old."), ...newKey, ...referenced));
  note(`${time} DELETE`, call(3, ...key("old."), ...old(table.referencedNames)));
  const victim = call(0, ...key(""), ...table.referencedNames.map(quoteName));
  const conditions = table.uniques.map((index) => victimCondition(table, index));
  // A victim with the key of the new row is touched by that; only its referenced values would go unseen.
  if (table.referencedNames.length > 0) conditions.push(keyCondition(table));
  const unknown = unknownGenerated(table);
  if (unknown !== null) conditions.push(unknown);
  const victims = conditions.map((condition) => `${victim} FROM ${name} WHERE ${condition}`);
  if (victims.length > 0) for (const event of ["BEFORE INSERT", "BEFORE UPDATE"]) note(event, ...victims);
  return new Map(
    [...bodies].map(([event, parts]) => {
      const trigger = `${prefix}${table.space}_${event.toLowerCase().replace(" ", "_")}`;
      return [trigger, `CREATE TEMP TRIGGER ${quoteName(trigger)} ${event} ON main.${name} BEGIN ${parts.join("; ")}; END`];
    }),
  );
}

/** The row with the new row's key: as the key compares, whose collations may be others than its columns'. */
function keyCondition(table: LocalTable): string {
  if (table.identity !== "key") return table.keyNames.map((one) => `${keyName(table, one)} = new.${keyName(table, one)}`).join(" AND ");
  const equal = (one: string, place: number): string =>
    `${keyName(table, one)} = ${newValue(table, one)} COLLATE ${table.keyOrders[place]?.collation ?? "BINARY"}`;
  return table.keyNames.map(equal).join(" AND ");
}

/**
 * Rows whose entry in the index may equal the new row's. For an expression, the new row stands in for the table: a subquery with the
 * table's name and columns, in which the expression's names resolve first.
 */
function victimCondition(table: LocalTable, index: UniqueIndex): string {
  const isPlain = index.columnNames !== null;
  // Of a row that the index leaves out nothing is computed: neither of those that are there (SQLite looks at subqueries last) nor of the new one.
  const where = index.where === null ? "" : ` WHERE ${index.where.sql}`;
  const conditions = index.expressions.map((expression, position) => {
    const order = index.orders[position];
    const value = isPlain
      ? newValue(table, index.columnNames?.[position] ?? "")
      : `(SELECT ${expression} FROM (${newRow(table)}) AS ${quoteName(table.name)}${where})`;
    return `${expression} = ${value} COLLATE ${order?.collation ?? "BINARY"}`;
  });
  if (index.where !== null) conditions.unshift(`(${index.where.sql})`);
  return conditions.join(" AND ");
}

/** NOT NULL ON CONFLICT REPLACE puts the default in the place of a NULL only after the BEFORE triggers. */
function newValue(table: LocalTable, name: string): string {
  const column = table.columns.find((one) => foldName(one.name) === foldName(name));
  const value = `new.${quoteName(name)}`;
  return column?.replacesNull == null ? value : `coalesce(${value}, ${column.replacesNull})`;
}

/**
 * Where a default is about to take the place of a NULL, generated columns are not yet what they will be: then any row may have an equal entry of an index that has them.
 * null: the table has none. Names nothing of the table's, so SQLite looks at no row where it does not hold.
 */
function unknownGenerated({ columns, columnNames, uniques }: LocalTable): string | null {
  if (columnNames.length === columns.length) return null;
  const isStored = (name: string): boolean => columns.some((one) => foldName(one.name) === foldName(name));
  const isConcerned = uniques.some((index) => index.columnNames === null || !index.columnNames.every(isStored));
  const replaced = columns.filter(({ replacesNull }) => replacesNull !== null).map(({ name }) => `new.${quoteName(name)} IS NULL`);
  return isConcerned && replaced.length > 0 ? replaced.join(" OR ") : null;
}

function newRow(table: LocalTable): string {
  return `SELECT ${table.columnNames.map((name) => `${newValue(table, name)} AS ${quoteName(name)}`).join(", ")}`;
}
