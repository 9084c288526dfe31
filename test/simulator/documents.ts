/**
 * Clients of rows with large values: each document says who wrote it, and its body begins with that, so that a body of another row, of another time, or of none is seen
 * wherever it is read. Some are equal to others.
 */

import { largeValueBytes } from "../../src/base/large-values.js";
import type { Random } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import type { Step } from "../../src/sql/local-store.js";
import { check } from "./committed-stream.js";
import { step } from "./simulated-cluster.js";

export const documentKinds = ["document", "title", "undocument", "readDocuments"] as const;
export type DocumentKind = (typeof documentKinds)[number];

const documentCount = 5;
/** Of SQL: what follows the writer in a body. */
const rest = `':' || hex(zeroblob(${largeValueBytes / 2}))`;

export const documentTable = "create table documents (id integer primary key, writer integer not null, n integer not null, body text not null)";
/** How many documents there are whose body is not their writer's. */
export const wrongDocuments = `select count(*) from documents where body is not writer || ${rest}`;

export function isDocumentKind(kind: string): kind is DocumentKind {
  return (documentKinds as readonly string[]).includes(kind);
}

export function composeDocument(
  kind: DocumentKind,
  operation: number,
  random: Random,
): { readonly about: readonly number[]; readonly steps: readonly Step[] } {
  const id = 1 + random.integer(documentCount);
  switch (kind) {
    case "document": {
      const writer = BigInt(random.integer(2) === 0 ? operation : -1 - random.integer(2));
      const sql = `insert into documents values (?1, ?2, 0, ?2 || ${rest}) on conflict do update set writer = excluded.writer, body = excluded.body`;
      return { about: [id, Number(writer)], steps: [step(sql, BigInt(id), writer)] };
    }
    case "title":
      return { about: [id], steps: [step("update documents set n = n + 1 where id = ?", BigInt(id))] };
    case "undocument":
      return { about: [id], steps: [step("delete from documents where id = ?", BigInt(id))] };
    case "readDocuments": {
      const isWhole = random.integer(3) === 0;
      return { about: isWhole ? [] : [id], steps: [isWhole ? step(wrongDocuments) : step(`${wrongDocuments} and id = ?`, BigInt(id))] };
    }
  }
}

export function judgeDocuments(who: string, rows: readonly (readonly SqlValue[])[]): void {
  check(rows[0]?.[0] === 0n, "acknowledged effects are there", () => `${who}: ${rows[0]?.[0]} documents are not as they were written`);
}
