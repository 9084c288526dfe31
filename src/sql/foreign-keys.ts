/**
 * Foreign-key checks as queries over what a statement touched: SQLite's own counters lie on data that is held in part, so locally every
 * foreign key is deferred, and nothing local is ever committed by a client's statement. What is found to exist is what the transaction
 * relies on: `Parents` become its "must exist" keys. A parent that is not found may be one that is not held, and so may rows that refer to a value which
 * is gone: then the answer is not known yet.
 */
import type { SpaceId } from "../base/ids.js";
import type { BinaryKey } from "../base/key-ranges.js";
import { encodeSortKeyOf } from "../base/sort-key.js";
import type { SqlValue } from "../base/values.js";
import { foreignKeyBit, type TableTouches, type Touches } from "./capture.js";
import type { StatementCache } from "./connection.js";
import type { LocalForeignKey, LocalSchema, LocalTable } from "./local-schema.js";
import { quoteName } from "./parse/names.js";
import { holdTyped, typedOperand } from "./plan/typed-values.js";
import { keyOfValues, sqlOf } from "./stored-rows.js";

/** Keys of parents that must go on existing, by key space. */
export type Parents = Map<SpaceId, Set<BinaryKey>>;

/** Whether a parent, or a row that refers to one, may be elsewhere though it is not found here: it notes what is to be pulled. */
export type MayBeElsewhere = (end: "parent" | "child", foreignKey: LocalForeignKey, values: readonly SqlValue[]) => boolean;

/** False: a constraint among those of `isChecked` fails. */
export function checkForeignKeys(
  touches: Touches,
  schema: LocalSchema,
  isChecked: (foreignKey: LocalForeignKey) => boolean,
  statements: StatementCache,
  parents: Parents,
  mayBeElsewhere: MayBeElsewhere,
): boolean {
  for (const [space, tableTouches] of touches) {
    const table = schema.tables.get(space);
    if (table === undefined) continue;
    const outgoing = table.foreignKeys.filter(isChecked);
    if (outgoing.length > 0 && !checkChildren(table, outgoing, tableTouches, statements, parents, mayBeElsewhere)) return false;
    for (const foreignKey of table.referencedBy) {
      if (isChecked(foreignKey) && !checkReleased(foreignKey, tableTouches, statements, mayBeElsewhere)) return false;
    }
  }
  return true;
}

function checkChildren(
  table: LocalTable,
  foreignKeys: readonly LocalForeignKey[],
  touches: TableTouches,
  statements: StatementCache,
  parents: Parents,
  mayBeElsewhere: MayBeElsewhere,
): boolean {
  const select = statements.get(sqlOf(table).select);
  for (const touched of touches.rows.values()) {
    if (touched.refersAnew === 0n) continue;
    const row = select.get(...touched.keyValues);
    if (row === undefined) continue;
    for (const foreignKey of foreignKeys) {
      if ((touched.refersAnew & foreignKeyBit(table.foreignKeys.indexOf(foreignKey))) === 0n) continue;
      const values = foreignKey.childPlaces.map((place) => row[place] ?? null);
      if (values.includes(null) || foreignKey.parentKey === null) continue;
      const found = statements.get(parentSql(foreignKey)).get(...values);
      if (found !== undefined) addParent(foreignKey, found, parents);
      else if (!mayBeElsewhere("parent", foreignKey, values)) return false;
    }
  }
  return true;
}

function addParent(foreignKey: LocalForeignKey, found: readonly SqlValue[], parents: Parents): void {
  const { parent, parentKey } = foreignKey;
  if (parentKey === null) return;
  const isRow = parentKey.kind === "row";
  const key = isRow ? keyOfValues(parent, found) : encodeSortKeyOf(found, parentKey.index.orders);
  const space = isRow ? parent.space : parentKey.index.space;
  const keys = parents.get(space);
  if (keys === undefined) parents.set(space, new Set([key.toString("latin1")]));
  else keys.add(key.toString("latin1"));
}

/**
 * Rows that refer to values which are gone, and which a foreign key's action would have changed if they were here: noted by `mayBeElsewhere`. A value may have
 * gone and be there again: another row has got it since, or, with `replaces`, has taken the place of the one that had it.
 */
export function noteReferring(
  touches: Touches,
  schema: LocalSchema,
  replaces: boolean,
  statements: StatementCache,
  mayBeElsewhere: MayBeElsewhere,
): void {
  for (const [space, { released }] of touches) {
    for (const foreignKey of schema.tables.get(space)?.referencedBy ?? []) {
      if (foreignKey.parentKey === null || !foreignKey.hasAction) continue;
      for (const row of released) {
        const values = foreignKey.referencedPlaces.map((place) => row.values[place] ?? null);
        if (values.includes(null)) continue;
        if (replaces || row.isGone || statements.get(parentSql(foreignKey)).get(...values) === undefined) mayBeElsewhere("child", foreignKey, values);
      }
    }
  }
}

/** Values that rows of the parent had: another row has them now, or no child may refer to them. */
function checkReleased(foreignKey: LocalForeignKey, touches: TableTouches, statements: StatementCache, mayBeElsewhere: MayBeElsewhere): boolean {
  if (foreignKey.parentKey === null) return true;
  for (const released of touches.released) {
    const values = foreignKey.referencedPlaces.map((place) => released.values[place] ?? null);
    if (values.includes(null)) continue;
    if (statements.get(parentSql(foreignKey)).get(...values) !== undefined) continue;
    if (isReferredTo(foreignKey, values, statements)) return false;
    mayBeElsewhere("child", foreignKey, values);
  }
  return true;
}

function isReferredTo(foreignKey: LocalForeignKey, values: readonly SqlValue[], statements: StatementCache): boolean {
  const { comparedAs } = foreignKey;
  if (comparedAs === null) return statements.get(childSql(foreignKey)).get(...values) !== undefined;
  for (const [place, value] of values.entries()) holdTyped(statements, place, comparedAs[place] ?? "none", value);
  return statements.get(childSql(foreignKey)).get() !== undefined;
}

/** Every row of the child has its parent: asked where the parent table itself was dropped or made anew. */
export function allChildrenHaveParents(foreignKey: LocalForeignKey, statements: StatementCache): boolean {
  const { child, parent, childNames, parentNames } = foreignKey;
  const notNull = childNames.map((name) => `c.${quoteName(name)} IS NOT NULL`).join(" AND ");
  // The parent's column stands on the left: its collation counts.
  const matches = parentNames.map((name, index) => `p.${quoteName(name)} = c.${quoteName(childNames[index] ?? "")}`).join(" AND ");
  const sql =
    `SELECT 1 FROM main.${quoteName(child.name)} AS c WHERE ${notNull} ` +
    `AND NOT EXISTS (SELECT 1 FROM main.${quoteName(parent.name)} AS p WHERE ${matches}) LIMIT 1`;
  return statements.get(sql).get() === undefined;
}

/** Some row of the child refers to a parent, whichever. */
export function hasReferringRow(foreignKey: LocalForeignKey, statements: StatementCache): boolean {
  const notNull = foreignKey.childNames.map((name) => `${quoteName(name)} IS NOT NULL`).join(" AND ");
  return statements.get(`SELECT 1 FROM main.${quoteName(foreignKey.child.name)} WHERE ${notNull} LIMIT 1`).get() !== undefined;
}

const parentSqls = new WeakMap<LocalForeignKey, string>();
const childSqls = new WeakMap<LocalForeignKey, string>();

/** By the values of the foreign key: the parent's key, with its affinity and collation. */
function parentSql(foreignKey: LocalForeignKey): string {
  const known = parentSqls.get(foreignKey);
  if (known !== undefined) return known;
  const { parent, parentKey, parentNames } = foreignKey;
  const names = parentKey?.kind === "unique" ? (parentKey.index.columnNames ?? []) : parent.keyNames;
  const where = parentNames.map((name) => `${quoteName(name)} = ?`).join(" AND ");
  const sql = `SELECT ${names.map(quoteName).join(", ")} FROM main.${quoteName(parent.name)} WHERE ${where}`;
  parentSqls.set(foreignKey, sql);
  return sql;
}

/** By the values of the parent, bound or held (`holdTyped`). */
function childSql(foreignKey: LocalForeignKey): string {
  const known = childSqls.get(foreignKey);
  if (known !== undefined) return known;
  const { child, childNames, collations, comparedAs } = foreignKey;
  const value = (place: number): string => (comparedAs === null ? "?" : typedOperand(place, comparedAs[place] ?? "none"));
  const where = childNames.map((name, place) => `${quoteName(name)} = ${value(place)} COLLATE ${collations[place] ?? "BINARY"}`).join(" AND ");
  const sql = `SELECT 1 FROM main.${quoteName(child.name)} WHERE ${where} LIMIT 1`;
  childSqls.set(foreignKey, sql);
  return sql;
}
