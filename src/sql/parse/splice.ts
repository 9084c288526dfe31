/** Changes of a text at places that were found in the original. */
import { assert } from "../../base/errors.js";

export interface Edit {
  /** UTF-16 indexes into the original. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export function insertAt(index: number, text: string): Edit {
  return { start: index, end: index, text };
}

/** As many blanks: what stands behind keeps its place, which keeps messages with offsets right. */
export function blank(start: number, end: number): Edit {
  return { start, end, text: " ".repeat(end - start) };
}

/** Edits in any order; those at one place apply in the order given. They do not overlap. */
export function splice(sql: string, edits: readonly Edit[]): string {
  if (edits.length === 0) return sql;
  const sorted = edits.map((edit, order) => ({ edit, order })).sort((a, b) => a.edit.start - b.edit.start || a.order - b.order);
  const pieces: string[] = [];
  let at = 0;
  for (const { edit } of sorted) {
    assert(edit.start >= at && edit.end >= edit.start, "edits of a statement overlap");
    pieces.push(sql.slice(at, edit.start), edit.text);
    at = edit.end;
  }
  pieces.push(sql.slice(at));
  return pieces.join("");
}
