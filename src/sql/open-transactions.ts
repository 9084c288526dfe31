/**
 * Transactions that their clients have left open between two requests. Each is kept as what it has done (a Unit) and the snapshot that it reads; the
 * database itself has one transaction at a time (local-store.md rule 14).
 *
 * | label | when | then |
 * |-------|------|------|
 * | park | a run ends within a transaction | its changes are read; SQLite's transaction stays as it is, for as long as nobody else needs it |
 * | unpark | anything else is to be run, applied or installed | it is rolled back: the changes are known |
 * | go on | the next run of the transaction, still parked | as it stands |
 * | replay | the next run, not parked any more | BEGIN; rows as they were at the snapshot; savepoints and changes in their order (replay-transaction.ts) |
 * | overtaken | the next run, and its own changes do not go with rows that were pulled since, or with what others have made of the schema | the transaction is over |
 * | lost | too much has changed since the snapshot, or the schema of a table that it relied on, or the store began anew | the transaction is over |
 *
 * At read committed there is no snapshot to go back to: its own changes are put in on top of what is applied. Where somebody else has changed such a
 * row meanwhile, they hide it, until COMMIT says so (`PermissionKey.since`). One that changes the schema reads a snapshot from the end of that request on.
 */
import { schemaSpace } from "../base/ids.js";
import { rangeOfKey } from "../base/key-ranges.js";
import { copyTouches } from "./capture.js";
import type { LocalSchema } from "./local-schema.js";
import type { OpenSummary, PullNeed, SqlFault } from "./local-store.js";
import { foldName } from "./parse/names.js";
import { joinNeeds } from "./plan/missing-rows.js";
import { changesSchema, replay } from "./replay-transaction.js";
import { busyFault, fault, faultOf } from "./statement-faults.js";
import type { StoreState } from "./store-state.js";
import type { Unit } from "./unit.js";
import { dropUnchanged, endSegment, joinLastSegments, rollbackUnit } from "./unit-of-work.js";

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
  // What a change of the schema has looked at must not change below it.
  if (unit.hasRun && (unit.isolation !== "read_committed" || changesSchema(unit))) unit.snapshot ??= state.appliedSeq;
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
  if (state.parked?.transaction === transaction) {
    state.parked = null;
    return copyOf(kept, kept.startSchema);
  }
  unpark(state);
  const unit = copyOf(kept, state.schema);
  if (unit.snapshot !== null && !state.history.reaches(unit.snapshot)) return lose(state, transaction, busyFault(tooOldMessage));
  const changed = changeOfSchema(kept, state.schema);
  if (changed !== null) return lose(state, transaction, changed);
  try {
    replay(state, unit);
    return unit;
  } catch (error) {
    rollbackUnit(state, unit);
    // What was pulled since the snapshot may have what the transaction has made in the meantime: a unique value, say. Or what an index cannot be made of.
    const reason = faultOf(error);
    if (!reason.code.startsWith("SQLITE_CONSTRAINT") && !changesSchema(unit)) throw error;
    return lose(state, transaction, busyFault(overtakenMessage));
  }
}

/** What others have changed of the schema since its last run, and it relied on, or has changed itself. */
function changeOfSchema({ startSchema: before, reliedOn, wholeTables, segments }: Unit, now: LocalSchema): SqlFault | null {
  for (const space of reliedOn) {
    const table = before.tables.get(space);
    if (table === undefined || table.version === now.tables.get(space)?.version) continue;
    const message = `database schema has changed: table ${table.name} was altered or dropped since the transaction began; begin it again`;
    return fault("SQLITE_SCHEMA", message);
  }
  const isChanged = (name: string): boolean => before.objects.get(name)?.version !== now.objects.get(name)?.version;
  const own = segments.flatMap((segment) => (segment.kind === "ddl" ? [...segment.part.upserts.map(({ name }) => name), ...segment.part.drops] : []));
  const name = (wholeTables.has(schemaSpace) ? [...before.objects.keys(), ...now.objects.keys()] : own.map(foldName)).find(isChanged);
  if (name === undefined) return null;
  const told = name.startsWith("\0") ? name.slice(1) : `the name ${JSON.stringify(name)} in the schema`;
  return busyFault(`database is locked: ${told} was changed by another transaction since this one began; begin it again`);
}

/** What is asked of a kept transaction, and changes nothing of it. */
export function within<Answer>(state: StoreState, transaction: number, ask: () => Answer): Answer | SqlFault {
  const unit = resume(state, transaction);
  if ("code" in unit) return unit;
  const answer = ask();
  park(state, transaction, unit);
  return answer;
}

function lose(state: StoreState, transaction: number, reason: SqlFault): SqlFault {
  forget(state, transaction);
  return reason;
}

function copyOf(unit: Unit, startSchema: LocalSchema): Unit {
  return {
    ...unit,
    startSchema,
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

const needsOf = new WeakMap<Unit, readonly PullNeed[]>();

/** What the kept transaction would have to pull again, were it given up. */
export function keptNeeds(unit: Unit): readonly PullNeed[] {
  const known = needsOf.get(unit);
  if (known !== undefined) return known;
  const written = unit.segments.flatMap((segment) =>
    segment.kind === "rows"
      ? [...segment.tables].flatMap(([space, { rows }]) => (unit.made.has(space) ? [] : [{ space, ranges: [...rows.keys()].map(rangeOfKey) }]))
      : [],
  );
  const needs = joinNeeds([...unit.needs, ...written]);
  needsOf.set(unit, needs);
  return needs;
}
