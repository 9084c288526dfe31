/**
 * How long what rows were is kept for reads of the past (`--history`, `PRAGMA atomcast.history`), and what it is in the schema catalog: an object of its own, as
 * `user_version` is one (sql/database-settings.ts). SQLite takes its text for a PRAGMA that it does not know, and does nothing.
 */
import { DatabaseError } from "./errors.js";
import type { Seq } from "./ids.js";

/** No text of SQL has a name with a NUL. */
export const historyObject = "\0atomcast_history";

/** As the schema catalog has it. */
export function historySql(ms: number): string {
  return `PRAGMA atomcast_history = ${ms}`;
}

/** Of the text above; 0 where there is none: nothing is kept but for who reads it. */
export function historyMsOf(sql: string | undefined): number {
  const ms = Number(sql?.slice(historySql(0).length - 1));
  return Number.isSafeInteger(ms) ? ms : 0;
}

const durations: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };
/** A year: stamps further apart would name no useful time. */
const historyMsMax = 366 * 86_400_000;

/** `500ms`, `30s`, `5min`, `1h`, `7d`, in milliseconds; 0 needs no unit. null: it is none. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^0+$/.test(trimmed)) return 0;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(trimmed);
  const ms = Math.ceil(Number(match?.[1]) * (durations[(match?.[2] ?? "").toLowerCase()] ?? Number.NaN));
  return Number.isSafeInteger(ms) ? ms : null;
}

/** Throws what is wrong with it. */
export function parseHistory(name: string, text: string): number {
  const ms = parseDuration(text);
  if (ms !== null && ms <= historyMsMax) return ms;
  throw new DatabaseError(
    "ATOMCAST_USAGE",
    `${name} takes a duration such as 30s, 5min, 1h or 7d, a year at most, or 0 for none, not ${JSON.stringify(text)}`,
  );
}

/** As it is written, in the largest unit that leaves no rest. */
export function durationText(ms: number): string {
  if (ms === 0) return "0";
  const [unit, size] = Object.entries(durations).findLast(([, one]) => ms % one === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

/** A time without a zone is UTC, as SQLite's are. */
const timeForm = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)\s*(Z|[+-]\d{2}:\d{2})?)?$/i;

/** A seq, or a time in milliseconds since 1970. null: neither. */
export function parseAsOf(text: string): { readonly seq: Seq } | { readonly timeMs: number } | null {
  const trimmed = text.trim();
  if (/^\d+$/.test(trimmed)) {
    const seq = Number(trimmed);
    return Number.isSafeInteger(seq) && seq > 0 ? { seq: seq as Seq } : null;
  }
  const match = timeForm.exec(trimmed);
  if (match === null) return null;
  const [, day, time = "00:00", zone = "Z"] = match;
  const timeMs = Date.parse(`${day}T${time}${zone.toUpperCase()}`);
  return Number.isNaN(timeMs) || timeMs < 0 ? null : { timeMs };
}

export function timeText(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
