/**
 * A tentative run over a batch's steps (LocalStore.run). Everything that it does to the database is rolled back before it returns.
 *
 * | label | a step | outside of a unit | within one |
 * |-------|--------|-------------------|------------|
 * | R | reads | final | reads what the unit has done |
 * | W | writes, DDL | a unit of its own; net changes end the run with "commit" | joins it |
 * | B | BEGIN, SAVEPOINT | begins a unit | BEGIN: error; SAVEPOINT: nests |
 * | C | COMMIT, outermost RELEASE | error | deferred checks, then as W; a failed check leaves the unit open |
 * | X | ROLLBACK | error | undoes it: final |
 * | I | OR ROLLBACK, RAISE(ROLLBACK) | its unit is gone: final | the unit is gone; what follows is outside |
 * | P | needs rows or ids that are not here | undone as a whole: "pull", "ids" | the same |
 * | E | the steps end | "done" | kept open: "open" (open-transactions.ts); where there is no room for it: undone, the last step that ran becomes an error |
 * | L | a transaction that was kept open ends otherwise than by COMMIT or ROLLBACK | | "lost": no further step runs outside of it |
 */
import type { Seq, SpaceId } from "../base/ids.js";
import type { SqlValue } from "../base/values.js";
import { collectTouches, copyTouches, mergeTouches, type Touches } from "./capture.js";
import { changeSetting } from "./database-settings.js";
import { explainedByPull, explainPull } from "./explain-pull.js";
import { allChildrenHaveParents, checkForeignKeys, hasReferringRow, noteReferring } from "./foreign-keys.js";
import type { IdMark } from "./id-blocks.js";
import type { LocalTable } from "./local-schema.js";
import type {
  Changes,
  Condition,
  PullNeed,
  ResultSet,
  RunRequest,
  RunResult,
  SessionSettings,
  SqlFault,
  Statement,
  Step,
  StepOutcome,
  SystemTables,
} from "./local-store.js";
import { abandonRun, forget, overtakenMessage, park, resume, summaryOf, unpark, whyNoRoom } from "./open-transactions.js";
import { isFault } from "./parse/sqlite-grammar.js";
import type { DdlStatement, StatementInfo } from "./parse/statement-info.js";
import { joinNeeds, missingAtCommit, missingBefore, missingByTriggers, missingLinked, missingTouched, neededInParts } from "./plan/missing-rows.js";
import { emptyResult, runPragma } from "./pragma-statements.js";
import { noteFailure, noteReads } from "./read-set.js";
import { conflictOf, rewind, rewindAll } from "./replay-transaction.js";
import { idSource } from "./row-ids.js";
import { orphansOf, runDdl } from "./run-ddl.js";
import { withSession } from "./session-settings.js";
import { busyFault, fault, faultOf, foreignKeyFailure, StatementFault } from "./statement-faults.js";
import { quickBindings, type RunnablePlan } from "./statement-plans.js";
import { interruptCode } from "./statement-watch.js";
import { isHeldWhole, type StoreState } from "./store-state.js";
import { fillSystemTables } from "./system-tables.js";
import type { Unit } from "./unit.js";
import { beginUnit, changesOf, endSegment, isDue, openSavepoint, releaseSavepoint, rollbackToSavepoint, rollbackUnit } from "./unit-of-work.js";

/** Why a run cannot go on here. */
type Interruption = { readonly kind: "pull"; readonly needs: readonly PullNeed[] } | { readonly kind: "ids"; readonly table: SpaceId };

interface Run {
  readonly state: StoreState;
  readonly request: RunRequest;
  readonly system: SystemTables;
  readonly outcomes: StepOutcome[];
  settings: SessionSettings;
  unit: Unit | null;
  interruption: Interruption | null;
  /** What a COMMIT, or an autocommit statement, leaves to commit, and the snapshot that it was made at. */
  changes: Changes | null;
  snapshot: Seq;
  /** Ids consumed before this run's first; undone where nothing is committed. */
  idMark: IdMark | null;
  /** Why the transaction that was open is over. */
  lost: SqlFault | null;
}

const readOnlyFault = fault("SQLITE_READONLY", "attempt to write a readonly database: the transaction was begun as READONLY");
const pastFault = fault("SQLITE_READONLY", "attempt to write a readonly database: the session reads the past (PRAGMA atomcast.as_of = '' ends it)");
const statementSavepoint = "_atomcast_statement";
const asSelectSavepoint = "_atomcast_as_select";
/** Spreads the seeds of a batch's statements. */
const seedStep = 0x10001;

export function runSteps(state: StoreState, request: RunRequest, system: SystemTables): RunResult {
  const run: Run = {
    state,
    request,
    system,
    outcomes: [],
    settings: request.settings,
    unit: null,
    interruption: null,
    changes: null,
    snapshot: state.appliedSeq,
    idMark: null,
    lost: null,
  };
  let keepsIds = false;
  try {
    const gone = begin(run);
    if (gone !== null) return lostResult(run, gone);
    prepareSystemTables(run);
    runAll(run);
    if (run.interruption !== null) return run.interruption.kind === "pull" ? run.interruption : { kind: "ids", table: run.interruption.table };
    if (request.transaction?.resumes === true && run.unit === null) forget(state, request.transaction.id);
    if (run.lost !== null) return lostResult(run, run.lost);
    keepsIds = run.changes !== null;
    if (run.unit !== null && leaveOpen(run, run.unit)) {
      keepsIds = true;
      const summary = summaryOf(run.unit);
      run.unit = null;
      return { kind: "open", outcomes: run.outcomes, settings: run.settings, summary };
    }
  } finally {
    if (run.unit !== null) rollbackUnit(state, run.unit);
    if (run.unit !== null && request.transaction?.resumes === true) abandonRun(state, request.transaction.id);
    if (run.idMark !== null && !keepsIds) state.ids.undo(run.idMark);
  }
  const { outcomes, settings } = run;
  const rest = { outcomes, nextStep: request.firstStep + outcomes.length, settings };
  if (run.changes === null) return { kind: "done", snapshot: state.appliedSeq, ...rest };
  return { kind: "commit", snapshot: run.snapshot, ...rest, changes: run.changes };
}

function lostResult({ outcomes, settings }: Run, reason: SqlFault): RunResult {
  return { kind: "lost", outcomes, settings, fault: reason };
}

/** Why the transaction that the steps were to go on in is over; null: it is not, or there was none. */
function begin(run: Run): SqlFault | null {
  const { state, request } = run;
  if (request.transaction?.resumes !== true) {
    unpark(state);
    state.foreignKeyFlag.set(run.settings.foreignKeys);
    const { isBegun, ...settings } = run.settings;
    run.settings = settings;
    if (isBegun === true) run.unit = beginUnit(state, "begin", settings, "read-only");
    return null;
  }
  const unit = resume(state, request.transaction.id);
  if (isFault(unit)) return unit;
  run.unit = unit;
  return null;
}

/** Up to the first step that has something to commit, or that ends a transaction which was open before. */
function runAll(run: Run): void {
  const { request } = run;
  for (let index = request.firstStep; index < request.steps.length; index++) {
    const step = request.steps[index] as Step;
    if (step.condition !== null && !holds(step.condition, run)) {
      run.outcomes.push({ kind: "skipped" });
      continue;
    }
    const outcome = runStep(run, step, index);
    if (run.interruption !== null) return;
    run.outcomes.push(isFault(outcome) ? { kind: "error", fault: outcome } : { kind: "ok", result: outcome });
    if (run.changes !== null || (request.transaction?.resumes === true && run.unit === null)) return;
    // What follows reads another store.
    if (run.settings.asOf !== request.settings.asOf) return;
  }
}

/** False: it is to be rolled back, and the last step says why. */
function leaveOpen(run: Run, unit: Unit): boolean {
  const { state, request } = run;
  const reason = whyNotLeftOpen(run, unit);
  if (reason === null) return true;
  const last = run.outcomes.findLastIndex((outcome) => outcome.kind !== "skipped");
  if (last >= 0) run.outcomes[last] = { kind: "error", fault: reason };
  if (request.transaction?.resumes === true) forget(state, request.transaction.id);
  return false;
}

function whyNotLeftOpen({ state, request: { transaction } }: Run, unit: Unit): SqlFault | null {
  if (transaction === null) return fault("SQLITE_ERROR", "a transaction cannot stay open here: send BEGIN … COMMIT in one batch");
  const reason = whyNoRoom(state, transaction.id, unit);
  if (reason !== null) return reason;
  try {
    park(state, transaction.id, unit);
    return null;
  } catch (error) {
    return faultOf(error);
  }
}

function holds(condition: Condition, run: Run): boolean {
  switch (condition.kind) {
    case "ok":
    case "error":
      return outcomeOf(run, condition.step) === condition.kind;
    case "not":
      return !holds(condition.condition, run);
    case "and":
      return condition.conditions.every((one) => holds(one, run));
    case "or":
      return condition.conditions.some((one) => holds(one, run));
    case "isAutocommit":
      return run.unit === null;
  }
}

/** undefined: the step has not been reached. */
function outcomeOf(run: Run, step: number): StepOutcome["kind"] | undefined {
  return step < run.request.firstStep ? run.request.earlier[step] : run.outcomes[step - run.request.firstStep]?.kind;
}

type Outcome = ResultSet | SqlFault;

function runStep(run: Run, statement: Statement, index: number): Outcome {
  const { state } = run;
  if (run.unit === null) state.foreignKeyFlag.set(run.settings.foreignKeys);
  const foreignKeys = run.unit?.foreignKeys ?? run.settings.foreignKeys;
  const explained = explainedByPull(statement.sql);
  if (explained !== null) return explainPull(state, explained, statement.args, foreignKeys, run.system);
  const plan = state.plans.get(statement.sql, state.schema, foreignKeys);
  if (isFault(plan)) return state.isPast ? faultOfPast(state, plan) : plan;
  state.hooks.seed = run.request.seed + index * seedStep;
  state.hooks.random = null;
  state.hooks.changes = run.settings.changes;
  state.hooks.watch.begin();
  if (plan.kind === "other") return runOther(run, statement, plan.info);
  const bound = quickBindings(plan, statement.args);
  if (isFault(bound)) return bound;
  if (plan.info.kind === "write" && state.isPast) return pastFault;
  if (plan.info.kind === "write" && run.unit?.mode === "read-only") return readOnlyFault;
  // A join's outer rows tell which inner ones are needed: as they were at the snapshot.
  if (run.unit !== null && plan.hasJoins) {
    const reason = rewind(state, run.unit, plan.tables);
    if (reason !== null) return reason;
  }
  if (!isReady(run, plan, bound, index)) return emptyResult;
  if (run.unit !== null) {
    run.unit.hasRun = true;
    const reason = rewind(state, run.unit, plan.tables);
    if (reason !== null) return reason;
    if (plan.info.kind === "read") noteReads(state, run.unit, plan, bound);
  }
  if (plan.info.kind === "read") return runRead(run, statement, plan, bound);
  return inUnit(run, (unit) => {
    const outcome = runWrite(run, unit, statement, plan, bound);
    if (isFault(outcome)) noteFailure(unit, plan);
    return outcome;
  });
}

/** The schema is the one of then: who knows it as it is now is told why something is missing. */
function faultOfPast({ appliedSeq }: StoreState, reason: SqlFault): SqlFault {
  return /^no such (table|column|index)/.test(reason.message) ? { ...reason, message: `${reason.message} (as of ${appliedSeq})` } : reason;
}

/** Before the first step: a transaction sees the system tables as they are when its request begins. */
function prepareSystemTables(run: Run): void {
  const texts = run.request.steps.filter((step) => /system/i.test(step.sql)).map((step) => step.sql.toLowerCase());
  if (texts.length === 0) return;
  const names = Object.keys(run.system).filter((name) => texts.some((text) => text.includes(name.toLowerCase())));
  if (names.length > 0)
    fillSystemTables(
      run.state,
      names.map((name) => name.toLowerCase()),
      withSession(run.system, run.settings),
    );
}

/** All that the plan needs is held; else what is not is asked for at once. */
function isReady(run: Run, plan: RunnablePlan, bound: readonly unknown[], index: number): boolean {
  const { state, unit } = run;
  if (plan.heldAt !== state.heldGeneration) {
    const missing = missingBefore(state, plan.pulls, plan.parameters, bound, unit?.made);
    if (missing.length > 0) {
      run.interruption = { kind: "pull", needs: joinNeeds(unit === null ? missing : [...missing, ...neededAhead(run, index, unit)]) };
      return false;
    }
    if (unit === null && plan.pulls.every(({ table }) => isHeldWhole(state, table.space))) plan.heldAt = state.heldGeneration;
  } else if (plan.usedIn !== state.used.round) {
    plan.usedIn = state.used.round;
    for (const { table } of plan.pulls) state.used.noteSpace(table.space);
  }
  if (unit !== null) noteNeeds(state, unit, plan, bound);
  return true;
}

function noteNeeds(state: StoreState, unit: Unit, plan: RunnablePlan, bound: readonly unknown[]): void {
  for (const table of plan.tables) if (!unit.made.has(table.space)) unit.reliedOn.add(table.space);
  if (plan.info.kind === "write") for (const { table, selectors } of plan.pulls) if (selectors === null) unit.neededWhole.add(table.space);
  unit.needs.push(...neededInParts(state, plan.pulls, plan.parameters, bound, unit.made));
  if (unit.needs.length > needsMax) unit.needs.splice(0, unit.needs.length, ...joinNeeds(unit.needs));
}

/** Needs that a unit remembers one by one. */
const needsMax = 100;

/** Steps of a transaction that are looked at ahead. */
const stepsAheadMax = 256;

/** What the transaction's further statements will need, as far as their texts tell now: one pull for all, instead of a run for each. */
function neededAhead({ state, request }: Run, index: number, unit: Unit): PullNeed[] {
  return request.steps.slice(index + 1, index + 1 + stepsAheadMax).flatMap((step) => {
    const plan = state.plans.get(step.sql, state.schema, unit.foreignKeys);
    if (isFault(plan) || plan.kind === "other") return [];
    const bound = quickBindings(plan, step.args);
    return isFault(bound) ? [] : missingBefore(state, plan.pulls, plan.parameters, bound, unit.made);
  });
}

function runRead(run: Run, statement: Statement, plan: RunnablePlan, bound: readonly unknown[]): Outcome {
  try {
    if (plan.seedsRowid) seedRowid(run);
    const rows = plan.loops ? readRows(plan, bound, statement.wantRows) : plan.statement.all(...bound);
    return { columns: plan.columns, rows: statement.wantRows ? rows : [], affectedRowCount: 0, lastInsertRowid: null };
  } catch (error) {
    return faultOf(error);
  }
}

/**
 * Largest result, in bytes as JavaScript holds it, roughly. It is kept whole until it is sent; a client that wants more asks with LIMIT, or by ranges
 * of a key.
 */
export const resultBytesMax = 256 * 1024 * 1024;

const rowBytes = 40;
const cellBytes = 16;

/** Row by row, so that a result beyond its bound ends before it has filled the memory. */
function readRows(plan: RunnablePlan, bound: readonly unknown[], wantRows: boolean): SqlValue[][] {
  const rows: SqlValue[][] = [];
  let bytes = 0;
  for (const row of plan.statement.iterate(...bound)) {
    if (!wantRows) continue;
    bytes += rowBytes;
    for (const value of row) bytes += cellBytes + (typeof value === "string" ? value.length * 2 : value instanceof Uint8Array ? value.length : 0);
    if (bytes > resultBytesMax)
      throw new StatementFault(fault("SQLITE_TOOBIG", `a result of more than ${resultBytesMax} bytes: ask for less with LIMIT`));
    rows.push(row);
  }
  return rows;
}

/** last_insert_rowid() belongs to the connection, which all clients share. */
function seedRowid(run: Run): void {
  run.state.statements.get("INSERT INTO temp._atomcast_seed(id) VALUES (?)").run(run.settings.lastInsertRowid);
  run.state.statements.get("DELETE FROM temp._atomcast_seed").run();
}

/** Runs within the unit that is open, or within one of its own, which then ends. */
function inUnit(run: Run, work: (unit: Unit) => Outcome): Outcome {
  if (run.unit !== null) return work(run.unit);
  const unit = beginUnit(run.state, "implicit", run.settings);
  run.unit = unit;
  const outcome = work(unit);
  if (run.interruption !== null || run.unit === null) return outcome;
  return endUnit(run, unit, outcome);
}

/** Reads what was captured, rolls back, and leaves the changes in `run.changes`. */
function endUnit(run: Run, unit: Unit, outcome: Outcome): Outcome {
  const { state } = run;
  try {
    endSegment(state, unit);
    const conflict = conflictOf(state, unit);
    if (conflict !== null) throw new StatementFault(conflict);
    rollbackUnit(state, unit);
    run.unit = null;
    run.snapshot = unit.snapshot ?? state.appliedSeq;
    run.settings = run.settings.deferForeignKeys ? { ...run.settings, deferForeignKeys: false } : run.settings;
    run.changes = changesOf(state, unit);
    return outcome;
  } catch (error) {
    const reason = faultOf(error);
    abandonUnit(run, unit);
    if (run.request.transaction?.resumes === true) run.lost = reason;
    return reason;
  }
}

function abandonUnit(run: Run, unit: Unit): void {
  rollbackUnit(run.state, unit);
  run.unit = null;
  if (run.settings.deferForeignKeys) run.settings = { ...run.settings, deferForeignKeys: false };
}

function useIds(run: Run, unit: Unit, tables: readonly LocalTable[]): void {
  run.idMark ??= run.state.ids.mark();
  run.state.hooks.ids = idSource(run.state, unit, tables, (table) => {
    run.interruption = { kind: "ids", table };
  });
}

function runWrite(run: Run, unit: Unit, statement: Statement, plan: RunnablePlan, bound: readonly unknown[]): Outcome {
  const { state } = run;
  const { main, hooks } = state;
  noteReads(state, unit, plan, bound);
  if (unit.kind === "implicit") for (const table of plan.tables) unit.reliedOn.add(table.space);
  if (plan.usesIds) useIds(run, unit, plan.written);
  if (plan.seedsRowid) seedRowid(run);
  // A statement that fails its checks is undone alone.
  const isChecked = unit.foreignKeys && plan.foreignKeys.length > 0;
  if (isChecked && unit.kind !== "implicit") main.exec(`SAVEPOINT ${statementSavepoint}`);
  const raw: SqlValue[][] = [];
  hooks.touches = raw;
  let outcome: Outcome;
  try {
    outcome = executeWrite(run, statement, plan, bound);
  } catch (error) {
    outcome = run.interruption === null ? faultOf(error) : emptyResult;
  } finally {
    hooks.touches = null;
    hooks.ids = null;
  }
  if (run.interruption !== null) return outcome;
  if (isFault(outcome) && outcome.code === interruptCode) {
    // Nothing is left of it, and nothing is pulled for it: it must not run again.
    if (isChecked && unit.kind !== "implicit") main.exec(`ROLLBACK TO ${statementSavepoint}; RELEASE ${statementSavepoint}`);
    return outcome;
  }
  const touches: Touches = new Map();
  collectTouches(raw, state.schema, touches);
  // Also of a statement that failed: a row that is not here may have been in its way before.
  if (isPullNeeded(run, [...missingTouched(state, touches, unit.made), ...missingByTriggers(state, raw, plan.triggers, unit.made)])) return outcome;
  if (!main.inTransaction) {
    // OR ROLLBACK, RAISE(ROLLBACK).
    abandonUnit(run, unit);
    return outcome;
  }
  if (isChecked && isPullNeeded(run, missingReferring(run, unit, plan, touches))) return outcome;
  const isUndone = isFault(outcome) && !plan.mayFailInPart;
  if (isChecked && isUndone) {
    // What it touched is as it was: its checks would tell of rows that were without their parent before.
    if (unit.kind !== "implicit") main.exec(`RELEASE ${statementSavepoint}`);
  } else if (isChecked) {
    const isFine = areForeignKeysFine(run, unit, touches, "statement");
    if (run.interruption !== null) return outcome;
    if (!isFine) {
      if (unit.kind === "implicit") abandonUnit(run, unit);
      else main.exec(`ROLLBACK TO ${statementSavepoint}; RELEASE ${statementSavepoint}`);
      return foreignKeyFailure();
    }
    if (unit.kind !== "implicit") {
      main.exec(`RELEASE ${statementSavepoint}`);
      mergeTouches(copyTouches(touches), unit.deferred);
    }
  }
  mergeTouches(touches, unit.touches);
  return outcome;
}

/** The rows that a statement needs besides those that its plan told are pulled, and all is run again. */
function isPullNeeded(run: Run, missing: readonly PullNeed[]): boolean {
  if (missing.length > 0) run.interruption = { kind: "pull", needs: joinNeeds(missing) };
  return run.interruption !== null;
}

function missingReferring({ state }: Run, unit: Unit, plan: RunnablePlan, touches: Touches): PullNeed[] {
  const missing: PullNeed[] = [];
  noteReferring(touches, state.schema, plan.replaces, state.statements, (end, foreignKey, values) => {
    const need = missingLinked(state, end, foreignKey, values, unit.made);
    if (need !== null) missing.push(need);
    return need !== null;
  });
  return missing;
}

/** May end in a pull: the answer is then of no account. */
function areForeignKeysFine(run: Run, unit: Unit, touches: Touches, at: "statement" | "commit"): boolean {
  const { state } = run;
  const missing: PullNeed[] = [];
  const due = isDue(unit, at === "commit" || run.settings.deferForeignKeys, at);
  const isFine = checkForeignKeys(touches, state.schema, due, state.statements, unit.parents, (end, foreignKey, values) => {
    const need = missingLinked(state, end, foreignKey, values, unit.made);
    if (need !== null) missing.push(need);
    return need !== null;
  });
  // What fails for certain fails whatever is pulled.
  if (isFine) isPullNeeded(run, missing);
  return isFine;
}

function executeWrite(run: Run, statement: Statement, plan: RunnablePlan, bound: readonly unknown[]): ResultSet {
  const isInsert = plan.info.kind === "write" && plan.setsRowid;
  if (plan.statement.reader) {
    const rows = plan.statement.all(...bound);
    const rowid = isInsert && rows.length > 0 ? (run.state.statements.get("SELECT last_insert_rowid()").get()?.[0] ?? null) : null;
    return written(run, plan, statement.wantRows ? rows : [], plan.isOfView ? 0 : rows.length, rowid);
  }
  const { changes, lastInsertRowid } = plan.statement.run(...bound);
  return written(run, plan, [], changes, isInsert && changes > 0 ? BigInt(lastInsertRowid) : null);
}

function written(run: Run, plan: RunnablePlan, rows: readonly SqlValue[][], changes: number, rowid: SqlValue): ResultSet {
  const lastInsertRowid = typeof rowid === "bigint" ? rowid : null;
  run.settings = { ...run.settings, changes: BigInt(changes), lastInsertRowid: lastInsertRowid ?? run.settings.lastInsertRowid };
  return { columns: plan.columns, rows, affectedRowCount: changes, lastInsertRowid };
}

function runOther(run: Run, statement: Statement, info: Exclude<StatementInfo, { readonly kind: "read" | "write" }>): Outcome {
  const { state, unit } = run;
  switch (info.kind) {
    case "begin":
      if (unit !== null) return fault("SQLITE_ERROR", "cannot start a transaction within a transaction");
      run.unit = beginUnit(state, "begin", run.settings, info.readOnly ? "read-only" : info.mode);
      return emptyResult;
    case "commit":
      if (unit === null) return fault("SQLITE_ERROR", "cannot commit - no transaction is active");
      return commit(run, unit);
    case "rollback":
      if (unit === null) return fault("SQLITE_ERROR", "cannot rollback - no transaction is active");
      abandonUnit(run, unit);
      return emptyResult;
    case "savepoint":
    case "release":
    case "rollbackTo":
      return runSavepoint(run, info.kind, info.name);
    case "pragma":
      return runPragmaStep(run, statement, info);
    case "ddl":
      if (state.isPast) return pastFault;
      if (unit?.mode === "read-only") return readOnlyFault;
      if (unit !== null) rewindAll(state, unit);
      return inUnit(run, (open) => runDdlStep(run, open, statement, info));
    case "refused":
      return info.fault;
  }
}

function runDdlStep(run: Run, unit: Unit, statement: Statement, info: DdlStatement): Outcome {
  const { state } = run;
  unit.hasRun = true;
  // Without its rows there is no table.
  if (info.asSelect) openSavepoint(state, unit, asSelectSavepoint);
  // DROP TABLE deletes rows, whose triggers may insert others.
  const deletes = info.action === "drop" && info.objectType === "table";
  if (deletes) useIds(run, unit, [...state.schema.tables.values()]);
  const outcome = runDdl(state, unit, statement.sql, info, statement.args, run.settings.deferForeignKeys);
  state.hooks.ids = null;
  if (outcome.kind === "pull") run.interruption = outcome;
  if (run.interruption !== null) return emptyResult;
  if (!state.main.inTransaction) {
    abandonUnit(run, unit);
    return outcome.kind === "fault" ? outcome.fault : emptyResult;
  }
  const result = outcome.kind === "insert" ? runCreatedInsert(run, unit, { ...statement, sql: outcome.sql }) : emptyResult;
  const reason = outcome.kind === "fault" ? outcome.fault : isFault(result) ? result : null;
  if (info.asSelect && run.unit !== null && run.interruption === null) {
    if (reason !== null) rollbackToSavepoint(state, unit, asSelectSavepoint);
    releaseSavepoint(state, unit, asSelectSavepoint);
  }
  return reason ?? emptyResult;
}

/** The rows of CREATE TABLE … AS SELECT. */
function runCreatedInsert(run: Run, unit: Unit, statement: Statement): Outcome {
  const plan = run.state.plans.get(statement.sql, run.state.schema, unit.foreignKeys);
  if (isFault(plan)) return plan;
  if (plan.kind === "other") return emptyResult;
  const bound = quickBindings(plan, statement.args);
  if (isFault(bound)) return bound;
  return isReady(run, plan, bound, run.request.steps.length) ? runWrite(run, unit, statement, plan, bound) : emptyResult;
}

function runPragmaStep(run: Run, statement: Statement, info: Extract<StatementInfo, { readonly kind: "pragma" }>): Outcome {
  const { state, unit } = run;
  if (info.effect === "database" && info.writes) {
    if (state.isPast) return pastFault;
    if (unit?.mode === "read-only") return readOnlyFault;
    return inUnit(run, (open) => changeSetting(state, open, statement.sql, info) ?? emptyResult);
  }
  if (info.readsRows) {
    if (unit !== null) rewindAll(state, unit);
    const missing = [...state.schema.tables.keys()].filter((table) => !isHeldWhole(state, table) && unit?.made.has(table) !== true);
    if (missing.length > 0) {
      run.interruption = { kind: "pull", needs: missing.map((space) => ({ space, ranges: null })) };
      return emptyResult;
    }
  }
  const { result, settings } = runPragma(state, statement.sql, info, run.settings, unit);
  run.settings = settings;
  if (settings.isBegun === true && unit !== null) abandonUnit(run, unit);
  return result;
}

function runSavepoint(run: Run, kind: "savepoint" | "release" | "rollbackTo", name: string): Outcome {
  const { state } = run;
  try {
    if (kind === "savepoint") {
      run.unit ??= beginUnit(state, "savepoint", run.settings);
      rewindAll(state, run.unit);
      openSavepoint(state, run.unit, name);
      return emptyResult;
    }
    if (run.unit === null) return fault("SQLITE_ERROR", `no such savepoint: ${name}`);
    if (kind === "rollbackTo") rollbackToSavepoint(state, run.unit, name);
    else if (releaseSavepoint(state, run.unit, name) === "commits") return commit(run, run.unit);
    return emptyResult;
  } catch (error) {
    return faultOf(error);
  }
}

/** Deferred constraints first: where one fails, the transaction stays open, as in SQLite. */
function commit(run: Run, unit: Unit): Outcome {
  const { state } = run;
  // What it needed in former runs may have been given up since.
  if (run.request.transaction?.resumes === true && isPullNeeded(run, missingAtCommit(state, unit))) return emptyResult;
  if (unit.foreignKeys) {
    if (unit.deferred.size > 0) rewindAll(state, unit);
    const isFine = areForeignKeysFine(run, unit, unit.deferred, "commit");
    if (run.interruption !== null) return emptyResult;
    if (!isFine) return failedAtCommit(run, unit);
    for (const before of unit.orphanable) {
      const now = orphansOf(state, before);
      if (now === null) continue;
      const { foreignKey, hasParent } = now;
      const isFine = hasParent ? allChildrenHaveParents(foreignKey, state.statements) : !hasReferringRow(foreignKey, state.statements);
      if (!isFine) return failedAtCommit(run, unit);
    }
  }
  return endUnit(run, unit, emptyResult);
}

/** What stands against it may be a conflict, which the transaction could not have seen, instead of a fault of its own. */
function failedAtCommit(run: Run, unit: Unit): SqlFault {
  if (!mayBeConflict(run, unit)) return foreignKeyFailure();
  abandonUnit(run, unit);
  const reason = busyFault(overtakenMessage);
  if (run.request.transaction?.resumes === true) run.lost = reason;
  return reason;
}

/**
 * Rows were pulled that have changed since the snapshot. At read committed: what was right at its statement's end, when those constraints that do not
 * wait for the COMMIT were checked, is not any more.
 */
function mayBeConflict(run: Run, unit: Unit): boolean {
  const { snapshot } = unit;
  if (unit.isolation === "read_committed")
    return run.request.transaction?.resumes === true && !areForeignKeysFine(run, unit, unit.deferred, "statement");
  return snapshot !== null && [...unit.reliedOn].some((space) => !run.state.history.knows(space, snapshot));
}
