/** Results as Hrana's JSON, put together by hand: rows are most of what a server sends, and this is twice as fast as JSON.stringify of objects. */
import type { SqlValue } from "../../base/values.js";
import type { Description, ResultSet, StepOutcome } from "../../sql/local-store.js";
import { encodeFault } from "./hrana-errors.js";

export function encodeValue(value: SqlValue): string {
  if (value === null) return '{"type":"null"}';
  switch (typeof value) {
    case "bigint":
      return `{"type":"integer","value":"${value}"}`;
    case "number":
      return `{"type":"float","value":${encodeReal(value)}}`;
    case "string":
      return `{"type":"text","value":${JSON.stringify(value)}}`;
    default:
      return `{"type":"blob","base64":"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")}"}`;
  }
}

/** JSON has no infinity, but a number beyond the range of doubles is read as one; −0 keeps its sign. SQLite has no NaN: it stores NULL. */
function encodeReal(value: number): string {
  if (Number.isFinite(value)) return value === 0 && 1 / value < 0 ? "-0.0" : String(value);
  return Number.isNaN(value) ? "null" : value > 0 ? "1e999" : "-1e999";
}

export function encodeRow(row: readonly SqlValue[]): string {
  let json = "[";
  for (let index = 0; index < row.length; index++) {
    const value = row[index] ?? null;
    json += index === 0 ? encodeValue(value) : `,${encodeValue(value)}`;
  }
  return `${json}]`;
}

export function encodeColumns(columns: ResultSet["columns"]): string {
  let json = "[";
  for (let index = 0; index < columns.length; index++) {
    const column = columns[index];
    if (column === undefined) continue;
    if (index > 0) json += ",";
    json += `{"name":${JSON.stringify(column.name)},"decltype":${column.declaredType === null ? "null" : JSON.stringify(column.declaredType)}}`;
  }
  return `${json}]`;
}

/** null: longer than `charsMax`. */
export function encodeResult(result: ResultSet, durationMs: number, charsMax: number): string | null {
  let json = `{"cols":${encodeColumns(result.columns)},"rows":[`;
  for (let index = 0; index < result.rows.length; index++) {
    const row = result.rows[index];
    if (row === undefined) continue;
    if (index > 0) json += ",";
    json += encodeRow(row);
    if (json.length > charsMax) return null;
  }
  json += `],"affected_row_count":${result.affectedRowCount},"last_insert_rowid":${encodeRowid(result.lastInsertRowid)}`;
  return `${json},"rows_read":0,"rows_written":${result.affectedRowCount},"query_duration_ms":${encodeDuration(durationMs)}}`;
}

export function encodeRowid(rowid: bigint | null): string {
  return rowid === null ? "null" : `"${rowid}"`;
}

/** Milliseconds to the microsecond: more digits are noise that costs bytes. */
function encodeDuration(durationMs: number): string {
  return String(Math.round(durationMs * 1000) / 1000);
}

/** `durationMs` of the whole batch; each step that ran is told the mean, since steps are not timed apart. null: longer than `charsMax`. */
export function encodeBatchResult(outcomes: readonly StepOutcome[], durationMs: number, charsMax: number): string | null {
  const ranCount = outcomes.reduce((count, outcome) => (outcome.kind === "skipped" ? count : count + 1), 0);
  const meanMs = durationMs / Math.max(1, ranCount);
  let results = "";
  let errors = "";
  for (let index = 0; index < outcomes.length; index++) {
    const outcome = outcomes[index];
    if (outcome === undefined) continue;
    const comma = index === 0 ? "" : ",";
    if (outcome.kind === "ok") {
      const result = encodeResult(outcome.result, meanMs, charsMax - results.length);
      if (result === null) return null;
      results += comma + result;
    } else results += `${comma}null`;
    errors += comma + (outcome.kind === "error" ? encodeFault(outcome.fault) : "null");
    if (results.length + errors.length > charsMax) return null;
  }
  return `{"step_results":[${results}],"step_errors":[${errors}]}`;
}

export function encodeDescription(description: Description): string {
  const parameters = description.parameters.map((parameter) => ({ name: parameter.name }));
  return `{"params":${JSON.stringify(parameters)},"cols":${encodeColumns(description.columns)},"is_explain":${description.isExplain},"is_readonly":${description.isReadonly}}`;
}
