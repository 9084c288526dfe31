/** What the schema was, for reads of the past. */
import { expect, test } from "vitest";
import type { Seq, SpaceId } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { rootRecords } from "../../src/catalog/catalog-records.js";
import { FormerObjects, formerBytesMax, formerCountMax, formerName } from "../../src/catalog/former-objects.js";
import type { Entry, SchemaObject } from "../../src/messages/wire/entry.js";
import { boot, proposal } from "../engines/engine-parts.js";

function object(name: string, sql: string, type: SchemaObject["type"] = "view", space = 0): SchemaObject {
  return { type, name, tableName: name, sql, space: space as SpaceId, columns: [], uniques: [], indexed: [] };
}

/** Each part is a statement of one transaction. */
function ddl(number: number, ...parts: { upserts?: SchemaObject[]; drops?: string[] }[]): Entry {
  const made = parts.map(({ upserts = [], drops = [] }) => ({ kind: "ddl", sql: "", upserts, drops, touchedTables: [], newAtoms: [] }) as const);
  return proposal(2, number, { kind: "transaction", exists: [], parts: made });
}

const mark = (seq: number): Entry => ({ kind: "mark", mark: seq as Seq, timeMs: seq });

/** A catalog; what its schema was after each entry, written down; and a store that takes what is dirty. */
class Told {
  readonly catalog = Catalog.load(new Map());
  readonly store = new Map<string, Uint8Array>();
  readonly was = new Map<number, string[]>();
  seq = 0;
  #number = 0;

  constructor() {
    this.apply(boot(1, 11));
    this.apply(boot(2));
  }

  apply(entry: Entry): void {
    this.catalog.apply(++this.seq as Seq, entry);
    for (const [name, bytes] of this.catalog.takeDirty()) {
      if (bytes === null) this.store.delete(name);
      else this.store.set(name, bytes);
    }
    this.was.set(this.seq, texts(this.catalog.schema.inOrder()));
  }

  ddl(...parts: Parameters<typeof ddl> extends [number, ...infer Parts] ? Parts : never): void {
    this.apply(ddl(++this.#number, ...parts));
  }

  asOf(seq: number, catalog = this.catalog): string[] | null {
    const told = catalog.schema.inOrderAsOf(seq as Seq);
    return told === null ? null : texts(told);
  }
}

function texts(records: readonly { readonly object: SchemaObject }[]): string[] {
  return records.map(({ object: one }) => `${one.type} ${one.name}: ${one.sql}`);
}

function dumpOf(catalog: Catalog): Record<string, string> {
  return Object.fromEntries([...catalog.dump()].map(([name, bytes]) => [name, Buffer.from(bytes).toString("hex")]).sort());
}

/** After a restart, in an engine that takes the catalogs from this one, and in one that comes to lead. */
function copiesOf({ catalog, store }: Told): Catalog[] {
  const root = rootRecords(catalog);
  const records = new Map<string, Uint8Array>();
  for (let next = root.next(); next.done !== true; next = root.next()) records.set(...next.value);
  return [Catalog.load(new Map([...store].sort(([left], [right]) => (left < right ? -1 : 1)))), Catalog.load(records), catalog.copy()];
}

test("random changes of the schema: every seq from the mark on has the schema that it had, and copies tell the same", () => {
  const random = seededRandom(5);
  let kept = 0;
  for (let round = 0; round < 20; round++) {
    const told = new Told();
    let low = 0;
    for (let step = 0; step < 60; step++) {
      const names = ["a", "b", "c", "A", "d"];
      const part = (): { upserts: SchemaObject[]; drops: string[] } => {
        const name = names[random.integer(names.length)] as string;
        const type = random.integer(4) === 0 ? "trigger" : "view";
        return random.integer(3) === 0 ? { upserts: [], drops: [name] } : { upserts: [object(name, `as of ${told.seq + 1}`, type)], drops: [] };
      };
      if (random.integer(5) === 0) {
        low = Math.max(low, told.seq - random.integer(20));
        told.apply(mark(low));
      } else told.ddl(...Array.from({ length: 1 + random.integer(3) }, part));
      const copies = copiesOf(told);
      for (let seq = Math.max(1, low); seq <= told.seq; seq++)
        for (const catalog of [told.catalog, ...copies]) expect(told.asOf(seq, catalog)).toEqual(told.was.get(seq));
      for (const copy of copies) expect(copy.schema.former.all.map(formerName)).toEqual(told.catalog.schema.former.all.map(formerName));
      expect(dumpOf(copies[0] as Catalog)).toEqual(dumpOf(told.catalog));
      kept += told.catalog.schema.former.all.length;
    }
    told.apply(mark(told.seq));
    expect(told.catalog.schema.former.all).toEqual([]);
    expect([...told.store.keys()].filter((name) => name.startsWith("f:"))).toEqual([]);
  }
  expect(kept).toBeGreaterThan(1000);
});

test("a table that is renamed and made anew under its name is both, each at its time", () => {
  const told = new Told();
  told.ddl({ upserts: [object("t", "create table t (a)", "table", 70_001)] });
  const first = told.seq;
  told.ddl({ upserts: [object("u", "create table u (a)", "table", 70_001)], drops: ["t"] });
  told.ddl({ upserts: [object("t", "create table t (b)", "table", 70_002)] });
  expect(told.asOf(first)).toEqual(["table t: create table t (a)"]);
  expect(told.asOf(first + 1)).toEqual(["table u: create table u (a)"]);
  expect(told.asOf(told.seq)).toEqual(["table u: create table u (a)", "table t: create table t (b)"]);
  told.apply(mark(first + 1));
  expect(told.asOf(first + 1)).toEqual(["table u: create table u (a)"]);
});

test("beyond their number the oldest go, all of one entry together, and what they were part of is told no more", () => {
  const told = new Told();
  for (let n = 0; n <= formerCountMax + 1; n++) told.ddl({ upserts: [object("a", `${n}`), object("b", `${n}`)] });
  const { former } = told.catalog.schema;
  expect(former.all.length).toBeGreaterThan(formerCountMax - 4);
  expect(former.all.length).toBeLessThanOrEqual(formerCountMax);
  expect(former.floor).toBe(former.all[0]?.record.version);
  expect(told.asOf(former.floor - 1)).toBeNull();
  for (const seq of [former.floor, former.floor + 100, told.seq]) expect(told.asOf(seq)).toEqual(told.was.get(seq));
  for (const copy of copiesOf(told)) expect([copy.schema.former.floor, copy.schema.former.all.length]).toEqual([former.floor, former.all.length]);
  expect([...told.store.keys()].filter((name) => name.startsWith("f:"))).toHaveLength(former.all.length);
});

test("beyond their bytes too, one that is larger alone among them", () => {
  const told = new Told();
  const long = "x".repeat(formerBytesMax / 3);
  for (let n = 0; n < 5; n++) told.ddl({ upserts: [object("a", `${n}${long}`)] });
  expect(told.catalog.schema.former.all).toHaveLength(2);
  told.ddl({ upserts: [object("a", long.repeat(4))] });
  told.ddl({ upserts: [object("b", "")] });
  const { seq } = told;
  told.ddl({ drops: ["a"] });
  expect(told.catalog.schema.former.all).toHaveLength(0);
  expect([told.asOf(seq), told.asOf(told.seq)]).toEqual([null, told.was.get(told.seq)]);
});

test("what comes in any order is as it was", () => {
  const told = new Told();
  for (let n = 0; n < 30; n++) told.ddl({ upserts: [object(`v${n % 7}`, `${n}`)] }, { drops: [`v${(n * 3) % 7}`] });
  const again = new FormerObjects();
  const all = [...told.catalog.schema.former.all];
  const random = seededRandom(2);
  for (const one of all.map((value) => ({ value, at: random.integer(1000) })).sort((left, right) => left.at - right.at)) {
    const name = formerName(one.value).slice(2);
    again.load(name, told.catalog.schema.former.encode(name) as Buffer);
  }
  expect(again.all).toEqual(all);
});
