/** Bugs that the simulator found, shown by a few statements. */
import { expect, test } from "vitest";
import type { EngineId, Seq, SpaceId } from "../../src/base/ids.js";
import { Catalog } from "../../src/catalog/catalog.js";
import type { Entry } from "../../src/messages/wire/entry.js";
import { cluster } from "../simulator/simulated-cluster.js";

test("order of creation is the same on an engine that began from a copy of the catalog", () => {
  const engine = 9 as EngineId;
  const make = (name: string, space: number, drops: readonly string[]): Entry => ({
    kind: "proposal",
    engine,
    proposalSeq: space as never,
    transactions: [1],
    snapshot: 1 as Seq,
    fences: [],
    schemaVersions: [],
    body: {
      kind: "transaction",
      exists: [],
      parts: [
        {
          kind: "ddl",
          sql: `create table ${name} (id integer primary key)`,
          upserts: [{ type: "table", name, tableName: name, sql: "", space: space as SpaceId, columns: [], uniques: [], indexed: [] }],
          drops,
          touchedTables: [],
          newAtoms: [],
        },
      ],
    },
  });
  const catalog = new Catalog();
  catalog.apply(1 as Seq, make("first", 10, []));
  catalog.apply(2 as Seq, make("second", 11, []));
  catalog.apply(3 as Seq, make("third", 12, ["second", "third"]));
  catalog.apply(4 as Seq, make("fourth", 13, ["third"]));
  const copy = Catalog.load(catalog.dump());
  for (const one of [catalog, copy]) {
    one.apply(5 as Seq, make("fifth", 14, ["fourth"]));
    one.apply(6 as Seq, make("sixth", 15, []));
  }
  expect(copy.dump()).toEqual(catalog.dump());
});

test("a Cache that comes back on its port before its LEAVE takes over what its former engine originated", async () => {
  const c = cluster({ seed: 3, archives: 1, caches: 2 });
  await c.start();
  await c.sql("C1", "create table t (id integer primary key, v integer)", "insert into t values (1, 1)");
  c.crash("C1");
  c.restart("C1");
  await c.sql("C1", "update t set v = 2 where id = 1");
  await c.sql("C2", "update t set v = v + 1 where id = 1");
  await c.expectConverged();
  await c.expectRows("C1", "select v from t", [[3]]);
  expect(c.invariants.committed.catalog.members.size).toBe(3);
});
