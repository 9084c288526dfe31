/** What cases are to meet: of each feature it is told in how many it was, and one that none has met in a thousand means that a maker has lost it. */
import { largeValueBytes } from "../../src/base/large-values.js";
import type { Case } from "./case.js";

/** Statements by what they are counted as; `conflict` and `commit beside others` are outcomes of transactions that stayed open. */
const kinds = [
  ...["schema", "ddl", "transaction", "savepoint", "pragma", "foreign_keys off", "open", "conflict", "commit beside others"],
  ...["insert", "insert generated", "insert select", "replace", "upsert", "update", "delete", "view update", "view delete"],
  ...["select by key", "select", "join", "cross join", "left join", "right join", "full join", "select IN", "select EXISTS"],
  ...["aggregate", "group", "compound", "with", "scalar", "view", "window"],
];

const codes = ["CHECK", "FOREIGNKEY", "NOTNULL", "PRIMARYKEY", "ROWID", "TRIGGER", "UNIQUE"].map((name) => `SQLITE_CONSTRAINT_${name}`);

/** By the texts of statements. */
const texts: Readonly<Record<string, RegExp>> = {
  "INTEGER PRIMARY KEY": /INTEGER PRIMARY KEY[,)]/,
  AUTOINCREMENT: /AUTOINCREMENT/,
  "WITHOUT ROWID": /WITHOUT ROWID/,
  "key of two columns": /PRIMARY KEY \(k/,
  "CHECK constraint": /^CREATE TABLE.* CHECK \(/,
  "UNIQUE constraint": /^CREATE TABLE.* UNIQUE/,
  "ON CONFLICT of a constraint": /^CREATE TABLE.* ON CONFLICT/,
  "generated column": / AS \(.*\) (VIRTUAL|STORED)/,
  "foreign key": /FOREIGN KEY/,
  "ON DELETE CASCADE": /ON DELETE CASCADE/,
  "ON UPDATE CASCADE": /ON UPDATE CASCADE/,
  "ON DELETE SET NULL": /ON DELETE SET NULL/,
  "ON UPDATE SET DEFAULT": /ON UPDATE SET DEFAULT/,
  "deferred foreign key": /INITIALLY DEFERRED/,
  "PRAGMA defer_foreign_keys": /^PRAGMA defer_foreign_keys/,
  "collation NOCASE": /COLLATE NOCASE/,
  "collation RTRIM": /COLLATE RTRIM/,
  "CREATE INDEX": /^CREATE INDEX/,
  "CREATE UNIQUE INDEX": /^CREATE UNIQUE INDEX/,
  "partial index": /^CREATE (UNIQUE )?INDEX.* WHERE /,
  "index on an expression": /^CREATE (UNIQUE )?INDEX.*(lower\(| % )/,
  "BEFORE trigger": /^CREATE TRIGGER \w+ BEFORE/,
  "AFTER trigger": /^CREATE TRIGGER \w+ AFTER/,
  "INSTEAD OF trigger": /^CREATE TRIGGER \w+ INSTEAD OF/,
  "rows found by NEW or OLD": /^CREATE TRIGGER.* WHERE (\w+ = (new|old)\.|(new|old)\.\w+ = )/,
  "raise()": /^CREATE TRIGGER.* raise\(/,
  "CREATE VIEW": /^CREATE VIEW/,
  "ADD COLUMN": / ADD COLUMN /,
  "DROP COLUMN": / DROP COLUMN /,
  "RENAME COLUMN": / RENAME COLUMN /,
  "RENAME TO": / RENAME TO /,
  "DROP TABLE": /^DROP TABLE/,
  "DROP INDEX": /^DROP INDEX/,
  "DROP TRIGGER": /^DROP TRIGGER/,
  RETURNING: / RETURNING /,
  "OR ABORT": /^(INSERT|UPDATE) OR ABORT/,
  "OR FAIL": /^(INSERT|UPDATE) OR FAIL/,
  "OR IGNORE": /^(INSERT|UPDATE) OR IGNORE/,
  "OR REPLACE": /^(INSERT|UPDATE) OR REPLACE/,
  "OR ROLLBACK": /^(INSERT|UPDATE) OR ROLLBACK/,
  "subquery in SET": /^UPDATE.* = \(SELECT /,
  "UPDATE FROM": /^UPDATE.* FROM \(SELECT/,
  "LIMIT and OFFSET": / LIMIT \d+ OFFSET /,
  "ROLLBACK TO": /^ROLLBACK TO/,
  "large value by SQL": /zeroblob/,
  "large DEFAULT": / DEFAULT 'a0{65536}'/,
};

const boundLarge = "large value bound";

const events = ["run", "request", "restart", "drop", "cut"] as const;

export const features: readonly string[] = [...kinds, ...codes, ...Object.keys(texts), boundLarge, ...events.map((kind) => `event ${kind}`)];

/** `counted`: kinds and codes of this case alone. */
export function featuresOf({ events: all }: Case, counted: Iterable<string>): Set<string> {
  const met = new Set<string>(counted);
  for (const event of all) {
    met.add(`event ${event.kind}`);
    if (!("statements" in event)) continue;
    for (const { sql, args } of event.statements) {
      if (args.some((value) => (typeof value === "string" || value instanceof Uint8Array) && value.length > largeValueBytes)) met.add(boundLarge);
      for (const [name, pattern] of Object.entries(texts)) if (!met.has(name) && pattern.test(sql)) met.add(name);
    }
  }
  return met;
}

/** From how many cases on a feature that none has met is a fault. */
export const casesEnough = 1000;

export function neverMet(casesOf: ReadonlyMap<string, number>): string[] {
  return features.filter((name) => (casesOf.get(name) ?? 0) === 0);
}
