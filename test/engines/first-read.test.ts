import { expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { firstRead } from "../../src/engines/first-read.js";
import type { SchemaObject } from "../../src/messages/wire/entry.js";
import { boot, createTable, proposal, space } from "./engine-parts.js";

/** Tables in the order of their atoms' count. */
function catalogOf(...tables: readonly Pick<SchemaObject, "name" | "sql" | "columns">[]): Catalog {
  const catalog = new Catalog();
  catalog.apply(1 as never, boot(2));
  const body = createTable();
  const [ddl] = body.kind === "transaction" ? body.parts : [];
  if (ddl?.kind !== "ddl" || ddl.upserts[0] === undefined) throw new Error("no DDL");
  const [object] = ddl.upserts;
  let atom = 10_000;
  const spaces = tables.map((_, index) => (space + index) as SpaceId);
  const upserts = tables.map((table, index) => ({ ...object, ...table, space: spaces[index] as SpaceId, tableName: table.name }));
  const newAtoms = spaces.map((one) => ({ space: one, atom: ++atom as never, indexOf: 0 as SpaceId }));
  catalog.apply(2 as never, proposal(2, 1, { ...body, parts: [{ ...ddl, upserts, newAtoms, touchedTables: spaces }] } as typeof body));
  let sequence = 1;
  for (const [index, one] of spaces.entries()) {
    const last = newAtoms[index]?.atom as never;
    const pieces = Array.from({ length: index + 1 }, (_, place) => ({
      atom: ++atom as never,
      low: Buffer.from([1 + place]),
      taker: 0 as never,
      bytes: 0,
      rows: 0,
    }));
    const split = {
      kind: "split",
      atom: last,
      space: one,
      firstTaker: 0 as never,
      pieces,
      measured: null,
      sequenceFirst: 0n,
      sequenceNext: 0n,
    } as const;
    catalog.apply((2 + index + 1) as never, proposal(2, ++sequence, split));
  }
  return catalog;
}

const columns = (...names: string[]) => names.map((name, index) => ({ id: index + 1, name }));

test("a row of the largest table that has rowids, by a name that no column has", () => {
  const catalog = catalogOf(
    { name: 'odd "name"', sql: "create table t (rowid text)", columns: columns("RowId", "oid") },
    { name: "k", sql: "create table k (a text primary key) without rowid", columns: columns("a") },
  );
  const read = firstRead(catalog, seededRandom(1));
  expect(read?.sql).toBe('select 1 from "odd ""name""" where _rowid_ = ?');
  expect(read?.args).toHaveLength(1);
});

test("of two, the one with more atoms; of none, nothing", () => {
  const two = catalogOf(
    { name: "small", sql: "create table small (a)", columns: columns("a") },
    { name: "large", sql: "create table large (a)", columns: columns("a") },
  );
  expect(firstRead(two, seededRandom(1))?.sql).toBe('select 1 from "large" where rowid = ?');
  expect(firstRead(new Catalog(), seededRandom(1))).toBeNull();
});
