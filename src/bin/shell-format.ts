/** Results and errors as text for people and programs. */
import Table from "cli-table3";
import type { SqlValue } from "../base/values.js";
import type { ClientResult, HranaError } from "./hrana-client.js";

export const shellModes = ["table", "json", "csv", "line"] as const;
export type ShellMode = (typeof shellModes)[number];

/** Rows that a table shows: more are for a program, and the widths of all would have to be known before the first is drawn. */
const tableRowsMax = 5_000;
/** Bytes of a blob that are shown. */
const blobBytesShown = 32;
/** Characters of a statement's line that are shown above a caret. */
const caretWindow = 100;

export function formatResult(result: ClientResult, mode: ShellMode, durationMs: number): string {
  switch (mode) {
    case "table":
      return result.columns.length === 0 ? `${formatChange(result)} (${formatDuration(durationMs)})\n` : formatTable(result, durationMs);
    case "json":
      return formatJson(result);
    case "csv":
      return result.columns.length === 0 ? "" : [result.columns, ...result.rows].map((row) => `${row.map(csvField).join(",")}\r\n`).join("");
    case "line":
      return formatLines(result);
  }
}

function formatTable(result: ClientResult, durationMs: number): string {
  const shown = result.rows.slice(0, tableRowsMax);
  const isNumeric = result.columns.map(
    (_, index) => shown.some((row) => isNumber(row[index])) && shown.every((row) => row[index] === null || isNumber(row[index])),
  );
  const table = new Table({
    head: result.columns.map(visible),
    colAligns: isNumeric.map((numeric) => (numeric ? "right" : "left")),
    style: { head: [], border: [], compact: true },
  });
  for (const row of shown) table.push(row.map(formatCell));
  const count = `${result.rows.length.toLocaleString("en")} row${result.rows.length === 1 ? "" : "s"}`;
  const cut = result.rows.length > shown.length ? `, the first ${shown.length.toLocaleString("en")} shown: .mode csv or json shows all` : "";
  return `${table.toString()}\n${count}${cut} (${formatDuration(durationMs)})\n`;
}

function isNumber(value: SqlValue | undefined): boolean {
  return typeof value === "bigint" || typeof value === "number";
}

function formatChange(result: ClientResult): string {
  if (result.affectedRowCount === 0) return "Done";
  const id = result.lastInsertRowid === null ? "" : `, last id ${result.lastInsertRowid}`;
  return `${result.affectedRowCount.toLocaleString("en")} row${result.affectedRowCount === 1 ? "" : "s"} changed${id}`;
}

function formatDuration(durationMs: number): string {
  return durationMs < 1000 ? `${durationMs.toFixed(1)} ms` : `${(durationMs / 1000).toFixed(2)} s`;
}

export function formatCell(value: SqlValue): string {
  if (value === null) return "NULL";
  if (typeof value === "string") return visible(value);
  if (value instanceof Uint8Array) {
    const hex = Buffer.from(value.subarray(0, blobBytesShown)).toString("hex");
    return value.length > blobBytesShown ? `x'${hex}…' (${value.length} bytes)` : `x'${hex}'`;
  }
  return formatNumber(value);
}

/** SQLite prints 5.0 for the real five, and so tells it from the integer. */
function formatNumber(value: bigint | number): string {
  if (typeof value === "bigint") return String(value);
  if (Object.is(value, -0)) return "-0.0";
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? `${value}.0` : String(value).replace("Infinity", "Inf");
}

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Control characters as escapes: a value must neither break the table nor command the terminal. */
function visible(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => escapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Rows as an array of objects; a change as one object. Integers keep all their digits, blobs are base64, infinities are text. */
function formatJson(result: ClientResult): string {
  if (result.columns.length === 0) return `{"affectedRowCount":${result.affectedRowCount},"lastInsertRowid":${result.lastInsertRowid ?? "null"}}\n`;
  const names = uniqueNames(result.columns).map((name) => JSON.stringify(name));
  const rows = result.rows.map((row) => `{${row.map((value, index) => `${names[index]}:${jsonValue(value)}`).join(",")}}`);
  return `[${rows.join(",\n")}]\n`;
}

function jsonValue(value: SqlValue): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : JSON.stringify(formatNumber(value));
  if (typeof value === "string") return JSON.stringify(value);
  return JSON.stringify(Buffer.from(value).toString("base64"));
}

/** An object holds each name once: a second `id` becomes `id_2`. */
function uniqueNames(columns: readonly string[]): string[] {
  const taken = new Set<string>();
  return columns.map((column) => {
    let name = column;
    for (let count = 2; taken.has(name); count++) name = `${column}_${count}`;
    taken.add(name);
    return name;
  });
}

/** As the import reads it: NULL is nothing, the empty text is quoted. */
function csvField(value: SqlValue): string {
  if (value === null) return "";
  const text = typeof value === "string" ? value : formatCell(value);
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function formatLines(result: ClientResult): string {
  const width = Math.max(0, ...result.columns.map((column) => column.length));
  return result.rows
    .map((row) => `${row.map((value, index) => `${visible(result.columns[index] ?? "").padStart(width)} = ${formatCell(value)}\n`).join("")}\n`)
    .join("");
}

/** The message, its code, and where the statement is known to be wrong its line with a caret. */
export function formatError(error: HranaError, sql: string): string {
  const code = error.extendedCode === "UNKNOWN" ? "" : ` (${error.extendedCode})`;
  const head = `Error: ${error.message}${code}\n`;
  const index = error.offset >= 0 ? indexOfByte(sql, error.offset) : indexOfNamedToken(sql, error.message);
  return index === null ? head : head + caretAt(sql, index);
}

function indexOfByte(sql: string, offset: number): number | null {
  const bytes = Buffer.from(sql, "utf8");
  return offset > bytes.length ? null : bytes.subarray(0, offset).toString("utf8").length;
}

const namedToken = /^near "(.+)": syntax error$|^unrecognized token: "(.+)"$|^no such (?:table|column|function): (?:.*\.)?([^.]+)$/s;

/** For servers that tell no offset: the place of the token that the message names, where the statement has it once. */
function indexOfNamedToken(sql: string, message: string): number | null {
  const match = namedToken.exec(message);
  const token = (match?.[1] ?? match?.[2] ?? match?.[3])?.toLowerCase();
  if (token === undefined) return null;
  const text = sql.toLowerCase();
  const index = text.indexOf(token);
  return index >= 0 && text.indexOf(token, index + 1) < 0 ? index : null;
}

function caretAt(sql: string, index: number): string {
  const start = sql.lastIndexOf("\n", index - 1) + 1;
  const newline = sql.indexOf("\n", index);
  const line = sql.slice(start, newline < 0 ? sql.length : newline);
  const from = Math.max(0, index - start - caretWindow / 2);
  const shown = line.slice(from, from + caretWindow).replace(/\p{Cc}/gu, " ");
  const cut = from > 0 ? "…" : "";
  return `  ${cut}${shown}\n  ${" ".repeat(cut.length + index - start - from)}^\n`;
}
