/** What chance does to stores that hold a part of the rows: atoms are cut anew, ranges are given up; and whether what is held is what was committed. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { SpaceId } from "../../src/base/ids.js";
import type { Random } from "../../src/base/random.js";
import { decodeRow } from "../../src/base/values.js";
import { foldName } from "../../src/sql/parse/names.js";
import type { Cluster } from "./store-harness.js";

export function spaces(c: Cluster): { readonly name: string; readonly space: SpaceId }[] {
  return [...c.schema.values()].flatMap(({ object }) => (object.type === "table" ? [{ name: object.name, space: object.space }] : []));
}

/**
 * What the store holds is what was committed, in those ranges and nothing beside. Rows from before a change of the table's columns are kept in the log as
 * they were then: such a table is left out.
 */
export function expectHeldRight(c: Cluster, index: number): void {
  for (const { name, space } of spaces(c)) {
    const held = c.engine(index).store.heldHash(space);
    if (held === null) continue;
    const rows = c.rowsOf(space);
    const columns = c.schema.get(foldName(name))?.object.columns.filter((column) => column.name !== "") ?? [];
    if (rows.some(({ row }) => !isOfColumns(row, columns))) continue;
    let sum = 0n;
    for (const { key, row } of rows) {
      const place = Buffer.from(key).toString("latin1");
      if (!held.ranges.some(({ low, high }) => low <= place && (high === null || place < high))) continue;
      const digest = createHash("sha256").update(key).update(row).digest();
      sum = (sum + (digest.readBigUInt64BE(0) << 64n) + digest.readBigUInt64BE(8)) % (1n << 128n);
    }
    assert.equal(held.hash, sum.toString(16).padStart(32, "0"), `what is held of ${name} on engine ${index} is not what was committed`);
  }
}

function isOfColumns(row: Uint8Array, columns: readonly { readonly id: number }[]): boolean {
  // What the row refers to does not matter.
  const ids = new Set(decodeRow(row, () => Buffer.alloc(0)).map(({ columnId }) => columnId));
  return ids.size === columns.length && columns.every(({ id }) => ids.has(id));
}

/** About every third key begins an atom. */
export function cutAnew(c: Cluster, random: Random): void {
  for (const { space } of spaces(c)) {
    const found = c.rowsOf(space).map(({ key }) => Buffer.from(key).toString("latin1"));
    c.cuts.set(space, found.filter(() => random.integer(3) === 0).sort());
  }
}

/** A range that ends at keys of rows, or at the table's ends: as an atom's, whatever of it is here. */
export function dropSome(c: Cluster, index: number, random: Random): void {
  const table = spaces(c)[random.integer(spaces(c).length)];
  if (table === undefined) return;
  const { name, space } = table;
  const found = [
    Buffer.alloc(0),
    ...c
      .rowsOf(space)
      .map(({ key }) => Buffer.from(key))
      .sort(Buffer.compare),
    null,
  ];
  const first = random.integer(found.length - 1);
  const [low, high] = [found[first] ?? Buffer.alloc(0), found[first + 1 + random.integer(found.length - 1 - first)] ?? null];
  c.drop(index, space, low, high);
  for (const held of c.engine(index).store.heldHash(space)?.ranges ?? []) {
    const isApart = (high !== null && held.low >= high.toString("latin1")) || (held.high !== null && held.high <= low.toString("latin1"));
    assert.ok(isApart, `${name} is held still where it was given up`);
  }
}
