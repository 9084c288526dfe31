/**
 * The tests that a local store was to have from the beginning, each by its sentence, and where it is: so that none is lost when a file is moved or a test renamed.
 * What is listed is found by its name, as it stands in the file; "…" is what the file puts in there.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

type Where = readonly [file: string, ...names: readonly string[]];

const list: readonly (readonly [sentence: string, ...where: readonly Where[]])[] = [
  ["capture fuzz against a full diff", ["sql/capture-fuzz.test.ts", "seed …: each on its own equals plain SQLite"]],
  [
    "execute/apply fuzz against plain SQLite with mutation checks",
    [
      "differential/differential.test.ts",
      "… random cases equal plain SQLite, and less is pulled than by whole tables",
      "a difference in %s is found",
    ],
  ],
  [
    "partial-store fuzz",
    ["sql/plan/partial-store.test.ts", "seed …: statements on their own equal plain SQLite", "seed …: transactions equal plain SQLite"],
  ],
  [
    "rewound state equals a clone at `s`",
    [
      "sql/open-transactions.test.ts",
      "a transaction's answers are those of a copy made at its first statement, whatever others commit, and whatever is pulled meanwhile",
    ],
  ],
  [
    "updated_at trigger; REPLACE fires no user delete trigger",
    [
      "sql/capture-rules.test.ts",
      "the usual updated_at trigger runs once, and the row has what it wrote",
      "REPLACE fires no user's delete trigger, and DELETE does",
    ],
  ],
  [
    "REPLACE victims by key, UNIQUE, NOCASE, partial, expression, generated, NOT NULL default",
    ["sql/capture-rules.test.ts", "REPLACE takes its victims, held or not"],
  ],
  [
    "UPSERT with several targets and an unheld conflict",
    [
      "sql/capture-rules.test.ts",
      "of several targets meets %s, where the row is not held",
      "whose update meets another row that is not held fails as it does in SQLite",
    ],
  ],
  ["unique value changed by an AFTER trigger", ["sql/capture-rules.test.ts", "is the one that counts, also where the row that has it is not held"]],
  [
    "FAIL, ROLLBACK, IGNORE by OR and RAISE",
    [
      "sql/capture-rules.test.ts",
      "OR %s leaves what SQLite leaves, of the statement and of its transaction",
      "RAISE(%s) leaves what SQLite leaves, of the statement and of its transaction",
    ],
  ],
  [
    "cascades through 3 unheld levels, self-referring trees, composite NOCASE keys",
    [
      "sql/capture-rules.test.ts",
      "go through three levels of which no row is held",
      "go through a tree that refers to itself",
      "follow composite keys in the parent's collation",
    ],
  ],
  [
    "deferred FK at COMMIT",
    [
      "sql/local-store-runs.test.ts",
      "immediate at the statement, deferred at COMMIT, which leaves the transaction open",
      "a row that was inserted, and given another key in a later statement, still has to have its parent at COMMIT",
    ],
  ],
  [
    "apply fires nothing",
    [
      "sql/apply.test.ts",
      "an entry that is applied: no trigger, no foreign key's action or check, no conflict clause",
      "rows that are pulled, also one that a trigger would refuse by now",
      "rows that are brought back for a snapshot, and a transaction's own that are put in again",
    ],
  ],
  [
    // There is no alias: apply and rewind use statements that are prepared again when the schema changes.
    "alias after every ALTER/INDEX/DROP",
    [
      "sql/apply.test.ts",
      "after every ALTER, CREATE and DROP: apply, and the rewind of a snapshot, on a store that held the rows and on one that did not",
    ],
  ],
  ["DDL + rows + ROLLBACK TO", ["sql/local-store-ddl.test.ts", "ROLLBACK TO takes DDL and rows back"]],
  [
    "ADD COLUMN on an engine without rows",
    ["sql/apply.test.ts", "%s answers as where they are"],
    ["sql/local-store-ddl.test.ts", "rows from before ADD COLUMN take its default on an engine that pulls them later"],
  ],
  [
    "an atom pulled after a commit newer than `s`",
    ["sql/drop-range.test.ts", "reads its snapshot, with what it wrote, though what comes again has changed"],
    ["sql/plan/held-indexes.test.ts", "what an open transaction joins is told by the outer rows of its snapshot"],
  ],
  ["unique swaps in one entry", ["sql/local-store-runs.test.ts", "unique values are swapped in one entry"]],
  [
    "value round trips (5 and 5.0, ±2^63, −0.0, Inf, NUL, blob keys, bad UTF-8)",
    [
      "sql/local-store-runs.test.ts",
      "come back as they were, on every engine",
      "ill-formed text is refused, bound or made",
      "keys of WITHOUT ROWID tables: long, NOCASE with NUL, blobs, DESC",
    ],
  ],
  ["every row of the narrowing table as a property", ["sql/plan/partial-store.test.ts", "what narrows, and what must not: %s"]],
  ["map-table ranges over all affinities and collations", ["sql/plan/odd-ranges.test.ts", "%s", "%s %s"]],
  ["the EXPLAIN gate with views, triggers, FKs", ["sql/local-store-runs.test.ts", "tables are pulled for all that a statement reaches, at once"]],
  [
    "INSERT rewriting; id in another engine's block; 2^63−1",
    [
      "sql/parse/rewrite-insert-ids.test.ts",
      "every form gives what plain SQLite gives, thrice in a row",
      "random INSERTs give what plain SQLite gives",
    ],
    [
      "sql/generated-ids.test.ts",
      "an id that another engine's client names in this engine's block is passed over: %s",
      "the largest and the smallest id are ids as any other, and generated ones go on in their block: %s",
    ],
  ],
  [
    "last_insert_rowid and changes with interleaved clients",
    [
      "sql/shared-connection.test.ts",
      "last_insert_rowid() and changes() are each client's own, in transactions that stay open beside each other and outside",
    ],
  ],
  [
    "a runaway recursive query is ended and apply goes on",
    [
      "sql/worker-local-store.test.ts",
      "%s is ended when its time is over, and what came meanwhile is applied",
      "%s is ended when nobody wants it any more, and what came meanwhile is applied",
    ],
  ],
  [
    "a parked reader under load",
    [
      "sql/shared-connection.test.ts",
      "under load a reader that waits goes on seeing its snapshot; neither file nor what is kept for it grows beyond its bound",
    ],
  ],
];

test("there are twenty-five, and each is somewhere", () => {
  expect(list).toHaveLength(25);
  expect(new Set(list.map(([sentence]) => sentence)).size).toBe(25);
  expect(list.flatMap(([sentence, ...where]) => (where.length === 0 ? [sentence] : []))).toEqual([]);
});

test.each(list)("%s", (_, ...where) => {
  for (const [file, ...names] of where) {
    const text = readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), "utf8");
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) {
      // A call of test or describe, of their `each` too, whose first argument is the name.
      const quoted = [`"${name}"`, `\`${name}\``].map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace("…", "\\$\\{\\w+\\}"));
      expect(text, `${file} has no test "${name}"`).toMatch(
        new RegExp(`(?:\\b(?:test|describe)\\(|\\]\\)|\\)\\)|\\w\\))\\s*\\(?\\s*(?:${quoted.join("|")}),`),
      );
    }
  }
});
