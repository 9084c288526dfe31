/**
 * What a transaction that was kept open has done (a Unit), done again on a database that has gone on (open-transactions.ts).
 *
 * | what | how |
 * |------|-----|
 * | rows as they were at the snapshot | table by table, when a statement first touches one; all of them, before the first savepoint or change of the schema: what is put back later would undo the one, and not fit the other |
 * | its own rows | as they were captured: users' triggers rest (nothing is captured here) |
 * | its changes of the schema | as they are applied elsewhere; rows that come after one are rows of the table as it is then |
 *
 * No foreign key's action may run: its effects are among the rows. Statements are compiled with the foreign-key flag of that moment, which cannot change within a
 * transaction: those that write are made ready before it begins. A change of the schema has them compiled again, under the session's flag: so what comes
 * after one is put in while the local tables have no foreign keys.
 */
import { noSeq, type SpaceId } from "../base/ids.js";
import type { DdlPart } from "../messages/wire/entry.js";
import { repeatDdl } from "./execute-ddl.js";
import type { LocalTable } from "./local-schema.js";
import type { SqlFault } from "./local-store.js";
import { classify } from "./parse/classify.js";
import { withoutForeignKeys as textWithoutForeignKeys } from "./parse/foreign-keys.js";
import type { RowImage } from "./row-history.js";
import { busyFault } from "./statement-faults.js";
import { type StoreState, useSchema } from "./store-state.js";
import { decodeForInsert, findKeyValues, sqlOf } from "./stored-rows.js";
import type { RowsSegment, Unit } from "./unit.js";
import { followInMirror, openSqliteSavepoint } from "./unit-of-work.js";

/** Throws what SQLite says where its changes do not go with what is there now. */
export function replay(state: StoreState, unit: Unit): void {
  const savepoints = unit.savepoints.splice(0);
  unit.mirrorFollows = false;
  const own = new Set(unit.segments.flatMap((segment) => (segment.kind === "rows" ? [...segment.tables.keys()] : [])));
  prepareWrites(state, [...own, ...state.history.spaces]);
  state.foreignKeyFlag.set(unit.foreignKeys);
  state.statements.get("BEGIN").run();
  unit.rewound = new Set();
  if (savepoints.length > 0 || changesSchema(unit)) rewindAll(state, unit);
  else for (const space of own) rewindTable(state, unit, space);
  for (let count = 0; count <= unit.segments.length; count++) {
    for (const savepoint of savepoints) {
      if (savepoint.segmentCount !== count) continue;
      openSqliteSavepoint(state, unit, savepoint.name);
      unit.savepoints.push({ ...savepoint, schema: state.schema });
    }
    const segment = unit.segments[count];
    if (segment === undefined) continue;
    if (segment.kind === "ddl") repeatSchemaChange(state, unit, segment.part);
    else if (unit.foreignKeys && state.schema !== unit.startSchema) withoutForeignKeys(state, () => putSegment(state, segment));
    else putSegment(state, segment);
  }
}

export function changesSchema({ segments }: Unit): boolean {
  return segments.some(({ kind }) => kind === "ddl");
}

function prepareWrites(state: StoreState, spaces: readonly SpaceId[]): void {
  state.foreignKeyFlag.set(false);
  for (const space of spaces) {
    const table = state.schema.tables.get(space);
    if (table === undefined) continue;
    const { select, remove, insert, selectAll } = sqlOf(table);
    for (const sql of [select, remove, insert, selectAll]) state.applyStatements.get(sql);
  }
}

function putSegment(state: StoreState, { tables }: RowsSegment): void {
  for (const [space, { rows }] of tables) {
    const table = state.schema.tables.get(space);
    const images = [...rows.values()].map(({ key, image }) => ({ key, row: image?.bytes ?? null }));
    if (table !== undefined) putRows(state, table, images);
  }
}

function repeatSchemaChange(state: StoreState, unit: Unit, part: DdlPart): void {
  followInMirror(state, unit);
  const info = classify(part.sql);
  // DROP TABLE deletes the rows first.
  const deletes = unit.foreignKeys && "action" in info && info.action === "drop" && info.objectType === "table";
  repeatDdl(state, part, noSeq, deletes ? (work) => withoutForeignKeys(state, work) : undefined);
}

/**
 * The texts of the local tables have no foreign keys while it works, and SQLite reads the schema again before and after: there is no other way to write a row of a
 * parent without its children, or of a child whose parent's table is gone, within a transaction.
 */
function withoutForeignKeys(state: StoreState, work: () => void): void {
  const texts = state.main
    .prepare<[], string>("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE '%references%'")
    .pluck()
    .all()
    .map((sql) => ({ sql, without: textWithoutForeignKeys(sql) }))
    .filter(({ sql, without }) => sql !== without);
  rewriteSchema(
    state,
    texts.map(({ sql, without }) => ({ from: sql, to: without })),
  );
  work();
  // One that was dropped meanwhile has no text.
  rewriteSchema(
    state,
    texts.map(({ sql, without }) => ({ from: without, to: sql })),
  );
}

function rewriteSchema(state: StoreState, texts: readonly { readonly from: string; readonly to: string }[]): void {
  if (texts.length === 0) return;
  const { main } = state;
  main.unsafeMode(true);
  try {
    main.pragma("writable_schema = ON");
    const rewrite = main.prepare<[string, string]>("UPDATE main.sqlite_schema SET sql = ? WHERE type = 'table' AND sql = ?");
    for (const { from, to } of texts) rewrite.run(to, from);
    main.pragma("writable_schema = OFF");
    // A number that is not its own makes SQLite read the schema again.
    const version = main.pragma("main.schema_version", { simple: true });
    main.pragma(`main.schema_version = ${Number(version) + 1}`);
    // It notices when a statement begins to run. One that is compiled before, of the texts of before, may fail for them (a parent that is not there).
    main.prepare("SELECT 1 FROM main.sqlite_schema LIMIT 1").get();
  } finally {
    main.unsafeMode(false);
  }
  useSchema(state, state.schema);
}

/** All old rows go before new ones come: unique values may be swapped among them. */
function putRows(state: StoreState, table: LocalTable, images: readonly RowImage[]): void {
  const { remove, insert } = sqlOf(table);
  for (const { key } of images) {
    const values = findKeyValues(table, key, state.applyStatements);
    if (values !== null) state.applyStatements.get(remove).run(...values);
  }
  for (const { key, row } of images) if (row !== null) state.applyStatements.get(insert).run(...decodeForInsert(table, key, row));
}

/** Before a statement looks at the table. What the transaction itself has changed was rewound before that was put in again. */
function rewindTable(state: StoreState, unit: Unit, space: SpaceId): void {
  const { rewound, snapshot } = unit;
  if (rewound === null || snapshot === null || rewound.has(space)) return;
  rewound.add(space);
  const table = state.schema.tables.get(space);
  const held = state.held.get(space);
  if (table === undefined || held === undefined || table.version > snapshot) return;
  // Rows that were pulled without what they were cannot be told as they were: a statement that touches the table conflicts, and nothing else sees what it is like.
  if (!state.history.knows(space, snapshot)) return;
  const images = [...state.history.imagesAt(space, snapshot).values()].filter(({ key }) => held.place(key) === "held");
  putRows(state, table, images);
}

/** What the statement touches is as it was at the snapshot; else why it cannot be. */
export function rewind(state: StoreState, unit: Unit, tables: readonly LocalTable[]): SqlFault | null {
  const { snapshot } = unit;
  if (snapshot === null || unit.rewound === null) return null;
  for (const table of tables) {
    if (unit.made.has(table.space)) continue;
    if (table.version > snapshot)
      return busyFault(`database is locked: table ${table.name} was altered or made since the transaction's snapshot; begin it again`);
    if (!state.history.knows(table.space, snapshot))
      return busyFault(
        `database is locked: snapshot too old: rows of table ${table.name} that were not here have changed since, and what they were is not kept; begin the transaction again`,
      );
    rewindTable(state, unit, table.space);
  }
  return null;
}

/** Before what looks at more than a statement's plan tells: savepoints, PRAGMAs that read rows, checks at COMMIT, DDL. */
export function rewindAll(state: StoreState, unit: Unit): void {
  for (const space of [...state.history.spaces]) rewindTable(state, unit, space);
}

/** A row that the transaction has written and another one has changed since its snapshot. */
export function conflictOf(state: StoreState, unit: Unit): SqlFault | null {
  const { snapshot } = unit;
  if (snapshot === null || unit.rewound === null) return null;
  for (const segment of unit.segments) {
    if (segment.kind !== "rows") continue;
    for (const [space, { table, rows }] of segment.tables) {
      const images = state.history.imagesAt(space, snapshot);
      if (images.size === 0) continue;
      for (const [key, { keyValues }] of rows) if (images.has(key)) return conflictFault(table, keyValues);
    }
  }
  return null;
}

function conflictFault(table: LocalTable, keyValues: readonly unknown[]): SqlFault {
  const key = table.keyNames.map((name, place) => `${name} = ${String(keyValues[place])}`).join(", ");
  return busyFault(
    `database is locked: the row of table ${table.name} with ${key} was changed by another transaction since this one's snapshot; begin it again`,
  );
}
