/** PRAGMAs: settings of the session, questions answered by the mirror (the user's schema, not the local store's), and tuning, which is taken and does nothing. */
import { durationText, parseAsOf } from "../base/history.js";
import type { SqlValue } from "../base/values.js";
import { historyIn, noteSettingRead } from "./database-settings.js";
import { isolations, type ResultSet, type SessionSettings, type SqlFault } from "./local-store.js";
import { foldName } from "./parse/names.js";
import { asOfPragma, historyPragma, isolationPragma, pragmaBoolean } from "./parse/pragmas.js";
import type { PragmaStatement } from "./parse/statement-info.js";
import { fault, faultOf } from "./statement-faults.js";
import type { StoreState } from "./store-state.js";
import type { Unit } from "./unit.js";

export interface PragmaOutcome {
  readonly result: ResultSet | SqlFault;
  readonly settings: SessionSettings;
}

export const emptyResult: ResultSet = { columns: [], rows: [], affectedRowCount: 0, lastInsertRowid: null };

export function runPragma(state: StoreState, sql: string, info: PragmaStatement, settings: SessionSettings, unit: Unit | null): PragmaOutcome {
  if (info.name === isolationPragma) return isolation(info, settings, unit);
  if (info.name === asOfPragma) return asOf(info, settings, unit);
  if (info.name === "foreign_keys" || info.name === "defer_foreign_keys") return sessionPragma(info, settings, unit !== null);
  if (info.effect === "ignored") return { result: ignored(info), settings };
  const isLooked = info.effect === "database" && unit !== null;
  const reason = isLooked ? noteSettingRead(state, unit, info) : null;
  if (reason === null && info.name === historyPragma) return { result: single("history", durationText(historyIn(state))), settings };
  return { result: reason ?? question(state, sql, info), settings };
}

function sessionPragma(info: PragmaStatement, settings: SessionSettings, inTransaction: boolean): PragmaOutcome {
  const isForeignKeys = info.name === "foreign_keys";
  if (info.value === null)
    return { result: single(info.name, (isForeignKeys ? settings.foreignKeys : settings.deferForeignKeys) ? 1n : 0n), settings };
  const on = pragmaBoolean(info.value);
  // As in SQLite, a transaction keeps the constraints that it began with.
  if (isForeignKeys) return { result: emptyResult, settings: inTransaction ? settings : { ...settings, foreignKeys: on } };
  return { result: emptyResult, settings: { ...settings, deferForeignKeys: on } };
}

/** As SQL's SET TRANSACTION: before BEGIN, or before the transaction's first statement; and for all that follow. */
function isolation({ value }: PragmaStatement, settings: SessionSettings, unit: Unit | null): PragmaOutcome {
  const { isolation: current = "snapshot", ...others } = settings;
  if (value === null) return { result: single("isolation", unit?.isolation ?? current), settings };
  const wanted = foldName(value).replace(" ", "_");
  const found = isolations.find((one) => one === wanted);
  if (found === undefined) {
    const message = `there is no isolation ${JSON.stringify(value)}: it is snapshot (which has no dirty or non-repeatable reads and no lost updates), serializable or read_committed`;
    return { result: fault("ATOMCAST_NOT_SUPPORTED", message), settings };
  }
  if (unit !== null && unit.isolation !== found) {
    if (unit.hasRun || unit.segments.length > 0)
      return {
        result: fault("SQLITE_ERROR", "cannot change the isolation of a transaction that has begun: set it before its first statement"),
        settings,
      };
    unit.isolation = found;
  }
  return { result: emptyResult, settings: found === "snapshot" ? others : { ...others, isolation: found } };
}

/** A seq, or a time; an empty text ends it. The engine finds the time in the stream, and says what is wrong with either. */
function asOf({ value }: PragmaStatement, settings: SessionSettings, unit: Unit | null): PragmaOutcome {
  const { asOf: current, ...others } = settings;
  if (value === null) return { result: single("as_of", current !== undefined && "seq" in current ? BigInt(current.seq) : null), settings };
  const isAtWork = unit !== null && (unit.hasRun || unit.segments.length > 0 || unit.savepoints.length > 0);
  if (isAtWork || (unit !== null && value.trim() === ""))
    return {
      result: fault("SQLITE_ERROR", "cannot change atomcast.as_of of a transaction that has begun: set it before its first statement"),
      settings,
    };
  if (value.trim() === "") return { result: emptyResult, settings: others };
  const wanted = parseAsOf(value);
  // A client's batch is a transaction: it goes on there.
  if (wanted !== null) return { result: emptyResult, settings: { ...others, asOf: wanted, ...(unit !== null && { isBegun: true }) } };
  const message = `PRAGMA atomcast.as_of takes a seq, such as 1200, a time, such as '2026-11-22T01:00:00Z', or '' for the present, not ${JSON.stringify(value)}`;
  return { result: fault("SQLITE_ERROR", message), settings };
}

function single(name: string, value: SqlValue): ResultSet {
  return { columns: [{ name, declaredType: null }], rows: [[value]], affectedRowCount: 0, lastInsertRowid: null };
}

/** What SQLite answers to the setting of these; a client that sets journal_mode looks at the answer. */
function ignored(info: PragmaStatement): ResultSet {
  if (info.name === "journal_mode") return single("journal_mode", "wal");
  if (info.name === "locking_mode") return single("locking_mode", "normal");
  if (info.name === "busy_timeout") return single("timeout", BigInt(Number.parseInt(info.value ?? "0", 10) || 0));
  return emptyResult;
}

function question(state: StoreState, sql: string, info: PragmaStatement): ResultSet | SqlFault {
  if (info.name === "journal_mode") return single("journal_mode", "wal");
  // These look at rows; what they name in their answer is the same in both databases.
  const database = info.readsRows ? state.main : state.mirror;
  try {
    const statement = database.prepare<[], SqlValue[]>(sql);
    if (!statement.reader) return emptyResult;
    const rows = statement.raw().all();
    const columns = statement.columns().map((column) => ({ name: column.name, declaredType: column.type }));
    return { columns, rows, affectedRowCount: 0, lastInsertRowid: null };
  } catch (error) {
    return faultOf(error);
  }
}
