/**
 * Transactions that their clients have left open between two requests. Each is kept as what it has done (a Unit) and the snapshot that it reads; the
 * database itself has one transaction at a time (local-store.md rule 14).
 *
 * | label | when | then |
 * |-------|------|------|
 * | park | a run ends within a transaction | its changes are read; SQLite's transaction stays as it is, for as long as nobody else needs it |
 * | unpark | anything else is to be run, applied or installed | it is rolled back: the changes are known |
 * | go on | the next run of the transaction, still parked | as it stands |
 * | replay | the next run, not parked any more | BEGIN; rows as they were at the snapshot; savepoints and changes in their order |
 * | overtaken | the next run, and its own changes do not go with rows that were pulled since | the transaction is over |
 * | lost | too much has changed since the snapshot, or the schema of a table that it relied on, or the store began anew | the transaction is over |
 *
 * A table is rewound to the snapshot when a statement first touches it: all that changed elsewhere is not the transaction's business. Where there
 * are savepoints, all tables are, before the first: a ROLLBACK TO would undo it otherwise.
 *
 * At read committed there is no snapshot to go back to: its own changes are put in on top of what is applied. Where somebody else has changed such a
 * row meanwhile, they hide it, until COMMIT says so (`PermissionKey.since`).
 */
import type { SpaceId } from "../base/ids.js";
import { rangeOfKey } from "../base/key-ranges.js";
import { copyTouches } from "./capture.js";
import type { LocalTable } from "./local-schema.js";
import type { OpenSummary, PullNeed, SqlFault } from "./local-store.js";
import { joinNeeds } from "./plan/missing-rows.js";
import type { RowImage } from "./row-history.js";
import { busyFault, fault, faultOf } from "./statement-faults.js";
import type { StoreState } from "./store-state.js";
import { decodeForInsert, findKeyValues, sqlOf } from "./stored-rows.js";
import type { Unit } from "./unit.js";
import { dropUnchanged, endSegment, joinLastSegments, openSqliteSavepoint, rollbackUnit } from "./unit-of-work.js";

/** Transactions kept open. A further one ends with an error where its client would leave it open. */
export const openTransactionsMax = 1024;
/** What all of them have changed, in bytes. The one that would go beyond it ends with an error. */
export const openBytesMax = 256 * 1024 * 1024;

const lostMessage =
  "the transaction is over and nothing of it was committed: it was left alone for too long, or this engine began anew; begin it again";
export const overtakenMessage =
  "database is locked: what the transaction wrote does not go with what was changed by another one since its snapshot; begin it again";
const tooOldMessage = "database is locked: snapshot too old: more has changed since than is kept; begin the transaction again";

/** Anything else comes: what SQLite has open of a transaction that waits for its client is rolled back. */
export function unpark(state: StoreState): void {
  if (state.parked === null) return;
  const { unit } = state.parked;
  rollbackUnit(state, unit);
  state.parked = null;
  settle(state, unit);
}

/** A kept transaction's changes stand for themselves from here on: SQLite's transaction, in which they were made, is rolled back. */
function settle(state: StoreState, unit: Unit): void {
  if (unit.isolation === "read_committed" && !unit.isSettled) dropUnchanged(state, unit);
  unit.isSettled = true;
}

/** A run that went on in the transaction comes to nothing: it stays as it was kept. */
export function abandonRun(state: StoreState, transaction: number): void {
  const kept = state.open.get(transaction);
  if (kept !== undefined) settle(state, kept);
}

/** Keeps the unit, whose SQLite transaction stays open. Throws StatementFault where it cannot be kept. */
export function park(state: StoreState, transaction: number, unit: Unit): void {
  endSegment(state, unit);
  joinLastSegments(unit);
  if (unit.hasRun && unit.isolation !== "read_committed") unit.snapshot ??= state.appliedSeq;
  if (unit.snapshot !== null) state.history.open(transaction, unit.snapshot);
  state.open.set(transaction, unit);
  unit.isSettled = false;
  state.parked = { transaction, unit };
}

export function summaryOf({ mode, isolation, snapshot, segments, bytes }: Unit): OpenSummary {
  let rowsWritten = 0;
  for (const segment of segments) if (segment.kind === "rows") for (const { rows } of segment.tables.values()) rowsWritten += rows.size;
  return { mode, isolation, snapshot, rowsWritten, bytes };
}

/** null: there is room for the transaction as it is now. */
export function whyNoRoom(state: StoreState, transaction: number, unit: Unit, bytesMax = openBytesMax): SqlFault | null {
  let bytes = unit.bytes;
  for (const [id, other] of state.open) if (id !== transaction) bytes += other.bytes;
  if (bytes > bytesMax)
    return fault(
      "SQLITE_FULL",
      `the open transactions of this engine have changed more than ${bytesMax} bytes: commit sooner, or use another engine`,
    );
  if (state.open.has(transaction) || state.open.size < openTransactionsMax) return null;
  return fault("SQLITE_BUSY", `${openTransactionsMax} transactions are open on this engine already: end some, or use another engine`);
}

export function forget(state: StoreState, transaction: number): void {
  if (state.parked?.transaction === transaction) unpark(state);
  state.open.delete(transaction);
  state.history.close(transaction);
}

/** A copy of what was kept, with SQLite's transaction as it was left: a run that ends for a pull leaves the original as it is. */
export function resume(state: StoreState, transaction: number): Unit | SqlFault {
  const kept = state.open.get(transaction);
  if (kept === undefined) return busyFault(lostMessage);
  const unit = copyOf(kept, state);
  if (state.parked?.transaction === transaction) {
    state.parked = null;
    return unit;
  }
  unpark(state);
  if (unit.snapshot !== null && !state.history.reaches(unit.snapshot)) return lose(state, transaction, busyFault(tooOldMessage));
  for (const space of kept.reliedOn) {
    const before = kept.startSchema.tables.get(space);
    if (before === undefined || before.version === state.schema.tables.get(space)?.version) continue;
    const message = `database schema has changed: table ${before.name} was altered or dropped since the transaction began; begin it again`;
    return lose(state, transaction, fault("SQLITE_SCHEMA", message));
  }
  try {
    replay(state, unit);
    return unit;
  } catch (error) {
    rollbackUnit(state, unit);
    // What was pulled since the snapshot may have what the transaction has made in the meantime: a unique value, say.
    const reason = faultOf(error);
    if (!reason.code.startsWith("SQLITE_CONSTRAINT")) throw error;
    return lose(state, transaction, busyFault(overtakenMessage));
  }
}

function lose(state: StoreState, transaction: number, reason: SqlFault): SqlFault {
  forget(state, transaction);
  return reason;
}

function copyOf(unit: Unit, state: StoreState): Unit {
  return {
    ...unit,
    startSchema: state.schema,
    touches: new Map(),
    deferred: copyTouches(unit.deferred),
    readKeys: new Map([...unit.readKeys].map(([space, keys]) => [space, new Set(keys)])),
    parents: new Map([...unit.parents].map(([space, keys]) => [space, new Set(keys)])),
    segments: [...unit.segments],
    savepoints: [...unit.savepoints],
    reliedOn: new Set(unit.reliedOn),
    wholeTables: new Set(unit.wholeTables),
    needs: [...unit.needs],
    neededWhole: new Set(unit.neededWhole),
    made: new Set(unit.made),
    orphanable: [...unit.orphanable],
    rewound: unit.rewound === null ? null : new Set(unit.rewound),
  };
}

/** Statements are compiled with the foreign-key flag of that moment, and the flag cannot change within a transaction: all that write are made ready first. */
function replay(state: StoreState, unit: Unit): void {
  state.foreignKeyFlag.set(false);
  const own = new Set(unit.segments.flatMap((segment) => (segment.kind === "rows" ? [...segment.tables.keys()] : [])));
  for (const space of [...own, ...state.history.spaces]) {
    const table = state.schema.tables.get(space);
    if (table === undefined) continue;
    const { select, remove, insert, selectAll } = sqlOf(table);
    for (const sql of [select, remove, insert, selectAll]) state.applyStatements.get(sql);
  }
  state.foreignKeyFlag.set(unit.foreignKeys);
  state.statements.get("BEGIN").run();
  unit.rewound = new Set();
  if (unit.savepoints.length > 0) rewindAll(state, unit);
  else for (const space of own) rewindTable(state, unit, space);
  for (let count = 0; count <= unit.segments.length; count++) {
    for (const savepoint of unit.savepoints) if (savepoint.segmentCount === count) openSqliteSavepoint(state, unit, savepoint.name);
    const segment = unit.segments[count];
    if (segment?.kind !== "rows") continue;
    for (const [space, { rows }] of segment.tables) {
      const table = state.schema.tables.get(space);
      if (table !== undefined)
        putRows(
          state,
          table,
          [...rows.values()].map(({ key, image }) => ({ key, row: image?.bytes ?? null })),
        );
    }
  }
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

const needsOf = new WeakMap<Unit, readonly PullNeed[]>();

/** What the kept transaction would have to pull again, were it given up. */
export function keptNeeds(unit: Unit): readonly PullNeed[] {
  const known = needsOf.get(unit);
  if (known !== undefined) return known;
  const written = unit.segments.flatMap((segment) =>
    segment.kind === "rows" ? [...segment.tables].map(([space, { rows }]) => ({ space, ranges: [...rows.keys()].map(rangeOfKey) })) : [],
  );
  const needs = joinNeeds([...unit.needs, ...written]);
  needsOf.set(unit, needs);
  return needs;
}
