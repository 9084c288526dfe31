/** The body of a cursor's reply: lines of JSON, sent no faster than the client reads. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { StepOutcome } from "../../sql/local-store.js";
import { encodeColumns, encodeRow, encodeRowid } from "./hrana-encode.js";
import { encodeFault } from "./hrana-errors.js";

/** Characters of lines that are put together before they are written: below this a write costs more than it carries. */
const chunkChars = 64 * 1024;

/** A client that takes nothing for so long, in milliseconds, is cut off: its rows wait in memory. */
export const sendStallMs = 60_000;

export function* cursorLines(outcomes: readonly StepOutcome[]): Generator<string> {
  for (let step = 0; step < outcomes.length; step++) {
    const outcome = outcomes[step];
    if (outcome === undefined || outcome.kind === "skipped") continue;
    if (outcome.kind === "error") {
      yield `{"type":"step_error","step":${step},"error":${encodeFault(outcome.fault)}}\n`;
      continue;
    }
    const { columns, rows, affectedRowCount, lastInsertRowid } = outcome.result;
    yield `{"type":"step_begin","step":${step},"cols":${encodeColumns(columns)}}\n`;
    for (const row of rows) yield `{"type":"row","row":${encodeRow(row)}}\n`;
    yield `{"type":"step_end","affected_row_count":${affectedRowCount},"last_insert_rowid":${encodeRowid(lastInsertRowid)}}\n`;
  }
}

/** Sends the lines and ends the reply; resolves early where the client went away. */
export async function sendLines(response: ServerResponse, firstLine: string, lines: Iterable<string>): Promise<void> {
  let chunk = firstLine;
  for (const line of lines) {
    chunk += line;
    if (chunk.length < chunkChars) continue;
    if (response.destroyed) return;
    const isFull = !response.write(chunk);
    chunk = "";
    if (isFull && !(await drained(response))) return;
  }
  if (!response.destroyed) response.end(chunk);
}

async function drained(response: ServerResponse): Promise<boolean> {
  const abort = new AbortController();
  const timer = setTimeout(() => response.destroy(), sendStallMs);
  try {
    await Promise.race([once(response, "drain", { signal: abort.signal }), once(response, "close", { signal: abort.signal })]);
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
  return !response.destroyed;
}
