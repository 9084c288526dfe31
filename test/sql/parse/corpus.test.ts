/** SQLite's own test scripts: every statement is cut, classified and rewritten as SQLite takes it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseTest } from "sqlite3-parser/sqllogictest";
import { describe, expect, test } from "vitest";
import { classify } from "../../../src/sql/parse/classify.js";
import { localDdl } from "../../../src/sql/parse/local-ddl.js";
import { normaliseParameters } from "../../../src/sql/parse/normalise-parameters.js";
import { rewriteInsertIds } from "../../../src/sql/parse/rewrite-insert-ids.js";
import { splitScript } from "../../../src/sql/parse/split-script.js";
import { isFault } from "../../../src/sql/parse/sqlite-grammar.js";
import { contents, lookupOf, notFault, openSqlite, outcome, type Sqlite } from "./plain-sqlite.js";

const folder = fileURLToPath(new URL("../../../../shared/data/sqllogictest/", import.meta.url));
const present = existsSync(folder);
const files = present ? ["select1.test", ...readdirSync(`${folder}evidence`).map((name) => `evidence/${name}`)] : [];

function statementsOf(file: string): readonly string[] {
  const { records } = parseTest({ source: readFileSync(folder + file, "utf8"), filename: file });
  return records.flatMap((record) => {
    if (record.type !== "statement" && record.type !== "query") return [];
    const meant = record.conditions.every(({ kind, engine }) => (kind === "onlyif") === (engine.toLowerCase() === "sqlite"));
    return meant ? notFault(splitScript(record.sql)) : [];
  });
}

/** The local store in small: rewritten statements, ids from a block far from what SQLite would give. */
function openRewritten(): Sqlite {
  const database = openSqlite("");
  let next = 1_000_000n;
  database.function("_user", { deterministic: false }, () => 1n);
  database.function("_nid", { deterministic: false, safeIntegers: true, varargs: true }, (_table: unknown, id: unknown) => {
    next += 1n;
    return id ?? next;
  });
  return database;
}

function rewrite(sql: string, database: Sqlite): string {
  const ddl = localDdl(sql, lookupOf(database));
  return rewriteInsertIds(isFault(ddl) || !/^\s*create/i.test(sql) ? sql : ddl.sql, lookupOf(database));
}

const withoutHiddenIds = (database: Sqlite) => contents(database).map(([name, rows]) => [name, rows.map((row) => row.slice(1))]);

describe.skipIf(!present)(`SQL Logic Test (skipped where ${folder} is absent)`, () => {
  test.each(files)("%s", (file) => {
    const plain = openSqlite("");
    const rewritten = openRewritten();
    const statements = statementsOf(file);
    expect(statements.length).toBeGreaterThan(5);
    for (const sql of statements) {
      const info = classify(sql);
      const readonly = isReadonly(plain, sql);
      const expected = outcome(plain, sql);
      const message = (expected as { readonly error?: string }).error ?? null;
      if (isFault(info)) expect([sql, info.message]).toEqual([sql, message]);
      else {
        expect(notFault(splitScript(`${sql};\n${sql}`))).toHaveLength(2);
        expect(notFault(normaliseParameters(sql))).toMatchObject({ sql, parameters: [] });
        if (readonly !== null && info.kind !== "refused") expect([sql, info.kind === "read"]).toEqual([sql, readonly]);
      }
      expect([sql, outcome(rewritten, rewrite(sql, rewritten))]).toEqual([sql, expected]);
    }
    expect(withoutHiddenIds(rewritten)).toEqual(withoutHiddenIds(plain));
  });
});

/** null: SQLite does not take it. */
function isReadonly(database: Sqlite, sql: string): boolean | null {
  try {
    return database.prepare(sql).readonly;
  } catch {
    return null;
  }
}
