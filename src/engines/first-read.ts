/** What clients of a Cache that begins with nothing are likely to ask first: one row, by its key, of the table that most of the database is in. */
import type { Random } from "../base/random.js";
import type { SqlValue } from "../base/values.js";
import type { Catalog } from "../catalog/catalog.js";
import { foldName } from "../catalog/schema-catalog.js";
import type { SchemaObject } from "../messages/wire/entry.js";

export interface FirstRead {
  readonly sql: string;
  readonly args: readonly SqlValue[];
}

/** Of a random row of the largest table that has rowids; null where there is none. */
export function firstRead({ schema, atoms }: Catalog, random: Random): FirstRead | null {
  let largest: { readonly sql: string; readonly idMax: bigint; readonly atomCount: number } | null = null;
  for (const { object } of schema.inOrder()) {
    const table = schema.tables.get(object.space);
    const rowid = rowidNameOf(object);
    if (object.type !== "table" || table === undefined || rowid === undefined) continue;
    const atomCount = atoms.countOf(object.space);
    if (largest !== null && atomCount <= largest.atomCount) continue;
    const sql = `select 1 from ${quoted(object.name)} where ${rowid} = ?`;
    largest = { sql, idMax: table.sequenceNext - 1n, atomCount };
  }
  if (largest === null) return null;
  const { sql, idMax } = largest;
  // A table that was filled with negative ids, or at the end of all ids, has rows elsewhere: then it is one that is not there.
  const id = 1 + random.integer(Math.max(1, Math.min(Number(idMax), 2 ** 47)));
  return { sql, args: [BigInt(id)] };
}

/** undefined: its rows have none, or none that can be named. A text that only mentions the words costs nothing but its rehearsal. */
function rowidNameOf({ sql, columns }: SchemaObject): string | undefined {
  if (/\bwithout\s+rowid\b/i.test(sql)) return undefined;
  return ["rowid", "_rowid_", "oid"].find((name) => !columns.some((column) => foldName(column.name) === name));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
