/** Import of SQLite and CSV files, whole, interrupted, and refused. */
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DatabaseError } from "../../src/base/errors.js";
import { seededRandom } from "../../src/base/random.js";
import { describeImport, type ImportOptions, type ImportReport, importFile } from "../../src/bin/import-file.js";
import { type Fixture, openFixture } from "../servers/hrana-fixture.js";

let fixture: Fixture;
let folder: string;
let shown: string;

beforeEach(async () => {
  fixture = await openFixture();
  folder = mkdtempSync(join(tmpdir(), "atomcast-import-"));
  shown = "";
});

afterEach(async () => {
  await fixture.close();
  rmSync(folder, { recursive: true });
});

function run(file: string, options: Partial<ImportOptions> = {}): Promise<ImportReport> {
  return importFile({ file, url: fixture.url, progress: { write: (text: string) => (shown += text) }, ...options });
}

/** Every kind of table that has a different way to be read in order and written equal. */
function makeSource(rowCount: number): string {
  const file = join(folder, "source.sqlite");
  const db = new Sqlite(file);
  db.exec(`
    PRAGMA user_version = 42;
    PRAGMA foreign_keys = off;
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, boss INTEGER REFERENCES person, x, r REAL);
    CREATE TABLE hidden (a, b TEXT);
    CREATE TABLE shadowed (rowid TEXT, v);
    CREATE TABLE keyed (a TEXT COLLATE NOCASE, b, c BLOB, PRIMARY KEY (a COLLATE BINARY, b)) WITHOUT ROWID;
    CREATE TABLE grouped (g TEXT COLLATE NOCASE, n INTEGER, v, PRIMARY KEY (g, n DESC)) WITHOUT ROWID;
    CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v);
    CREATE TABLE textual (id TEXT PRIMARY KEY, half AS (length(id) / 2) STORED, twice AS (length(id) * 2));
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
    CREATE TABLE strict_one (i INTEGER, t TEXT, b BLOB, a ANY) STRICT;
    CREATE TABLE empty_one (x);
    CREATE TABLE "odd ""name" ("a b" INTEGER, "select" TEXT, 'c''d');
    CREATE VIRTUAL TABLE words USING fts5(body);
    INSERT INTO words VALUES ('left out');
    CREATE UNIQUE INDEX person_name ON person (name);
    CREATE INDEX person_part ON person (length(name), boss) WHERE boss IS NOT NULL;
    CREATE VIEW bosses AS SELECT name FROM person WHERE boss IS NULL;
    CREATE TRIGGER person_touch AFTER INSERT ON person BEGIN INSERT INTO empty_one VALUES (new.id); END;
    CREATE TRIGGER bosses_write INSTEAD OF INSERT ON bosses BEGIN INSERT INTO person (name) VALUES (new.name); END;
    DROP TRIGGER person_touch;
  `);
  const random = seededRandom(5);
  const odd = [
    null,
    0,
    -0.5,
    1e308,
    Infinity,
    -Infinity,
    2n ** 63n - 1n,
    -(2n ** 63n),
    "",
    "é\u0000x",
    "\ufffd",
    "1",
    Buffer.from([0, 255]),
    Buffer.alloc(0),
  ];
  const pick = (): unknown => odd[random.integer(odd.length)];
  db.transaction(() => {
    for (let index = 0; index < rowCount; index++) {
      db.prepare("INSERT INTO person VALUES (?, ?, ?, ?, ?)").run(
        index * 3 - 50,
        `n${index}`,
        index % 7 === 0 ? null : (index - 1) * 3 - 50,
        pick(),
        index / 7,
      );
      db.prepare("INSERT INTO hidden (rowid, a, b) VALUES (?, ?, ?)").run(index * 2 - 9, pick(), `b${index}`);
      db.prepare("INSERT INTO shadowed (_rowid_, rowid, v) VALUES (?, ?, ?)").run(index * 5, `r${index % 3}`, pick());
      db.prepare("INSERT INTO keyed VALUES (?, ?, ?)").run(
        index % 2 === 0 ? `k${index >> 2}` : `K${index >> 2}`,
        index % 4 < 2 ? index : `t${index}`,
        pick(),
      );
      db.prepare("INSERT INTO grouped VALUES (?, ?, ?)").run(`${index % 2 === 0 ? "g" : "G"}${Math.floor(index / 1100)}`, index, pick());
      db.prepare("INSERT INTO textual VALUES (?)").run(`t${(index * 7919) % 100_003}`);
    }
    for (let index = 0; index < 20; index++) {
      db.prepare("INSERT INTO descending VALUES (?, ?)").run(index, pick());
      db.prepare("INSERT INTO counted (v) VALUES (?)").run(index);
      db.prepare("INSERT INTO strict_one VALUES (?, ?, ?, ?)").run(index, `s${index}`, Buffer.from([index]), pick());
      db.prepare(`INSERT INTO "odd ""name" VALUES (?, ?, ?)`).run(index, "x", pick());
    }
    db.prepare("DELETE FROM counted WHERE id > 10").run();
    db.prepare("DELETE FROM hidden WHERE rowid % 10 = 1").run();
  })();
  db.close();
  return file;
}

/** Schema and rows with their rowids, types and bytes. */
function dump(file: string): string[] {
  const db = new Sqlite(file, { readonly: true });
  const lines: string[] = [];
  const objects = db
    .prepare(
      "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'words%' AND name NOT LIKE 'sqlite%' ORDER BY type, name",
    )
    .all() as {
    type: string;
    name: string;
    sql: string;
  }[];
  for (const object of objects) {
    lines.push(`${object.type} ${object.name}: ${object.sql}`);
    if (object.type !== "table") continue;
    const quoted = `"${object.name.replaceAll('"', '""')}"`;
    const columns = (db.prepare("SELECT name FROM pragma_table_xinfo(?)").pluck().all(object.name) as string[]).map(
      (name) => `"${name.replaceAll('"', '""')}"`,
    );
    const rowid = object.sql.includes("WITHOUT ROWID") ? "0" : "_rowid_";
    const rows = db
      .prepare(`SELECT ${rowid} AS id, ${columns.map((name) => `quote(${name})`).join(" || ' ' || ")} AS line FROM ${quoted} ORDER BY id, line`)
      .all() as { id: number; line: string }[];
    lines.push(...rows.map((row) => `${row.id}: ${row.line}`));
  }
  lines.push(`user_version ${db.pragma("user_version", { simple: true })}`);
  db.close();
  return lines;
}

describe("a SQLite file", () => {
  test("arrives equal: schema, rowids, types, bytes", async () => {
    const file = makeSource(2_500);
    const report = await run(file);
    expect(report).toMatchObject({ kind: "sqlite", tableCount: 11, isResumed: false, violations: [] });
    expect(report.warnings).toEqual(expect.arrayContaining(["words was left out: it is a virtual table, or part of one"]));
    expect(dump(fixture.database.file)).toEqual(dump(file));
    const db = new Sqlite(fixture.database.file);
    expect(db.prepare("INSERT INTO counted (v) VALUES (1) RETURNING id").pluck().get()).toBe(21);
    db.close();
  });

  test.each([1, 2, 3])("killed at random places five times and run again, it arrives equal (seed %i)", async (seed) => {
    const file = makeSource(1_500);
    const random = seededRandom(seed);
    for (let kill = 0; kill < 5; kill++) {
      const abort = new AbortController();
      let countdown = 3 + random.integer(9);
      const isAfter = random.integer(2) === 0;
      const hook = async (): Promise<void> => {
        countdown--;
        if (countdown === 0) abort.abort(new Error("killed"));
      };
      fixture.database.beforeWork = isAfter ? async () => {} : hook;
      fixture.database.afterWork = isAfter ? hook : async () => {};
      await expect(run(file, { signal: abort.signal })).rejects.toThrow();
    }
    fixture.database.beforeWork = async () => {};
    fixture.database.afterWork = async () => {};
    expect((await run(file)).isResumed).toBe(true);
    expect(dump(fixture.database.file)).toEqual(dump(file));
  });

  test("lost answers, unknown outcomes and conflicts are gone through", async () => {
    const file = makeSource(1_500);
    const random = seededRandom(11);
    const codes = ["ATOMCAST_OUTCOME_UNKNOWN", "ATOMCAST_UNAVAILABLE", "SQLITE_BUSY"];
    const fail = async (): Promise<void> => {
      if (random.integer(9) === 0) throw new DatabaseError(codes[random.integer(3)] ?? "", "as the dice fell");
    };
    fixture.database.beforeWork = fail;
    fixture.database.afterWork = fail;
    await run(file);
    expect(dump(fixture.database.file)).toEqual(dump(file));
  }, 30_000);

  test("rows without a parent are imported, counted and told", async () => {
    const file = join(folder, "orphans.sqlite");
    const db = new Sqlite(file);
    db.exec(`
      PRAGMA foreign_keys = off;
      CREATE TABLE parent (a TEXT COLLATE NOCASE, b INTEGER, PRIMARY KEY (a, b));
      CREATE TABLE child (x TEXT, y INTEGER, z REFERENCES nowhere, FOREIGN KEY (x, y) REFERENCES parent);
      INSERT INTO parent VALUES ('One', 1);
      INSERT INTO child VALUES ('ONE', '1', NULL), ('two', 2, NULL), (NULL, 5, NULL), ('three', 3, 9);
    `);
    db.close();
    const report = await run(file);
    expect(report.violations.map(({ parent, rowCount }) => ({ parent, rowCount }))).toEqual(
      expect.arrayContaining([
        { parent: "parent", rowCount: 2 },
        { parent: "nowhere", rowCount: 1 },
      ]),
    );
    expect(describeImport(report)).toContain("child (x, y) → parent: 2 rows without a parent");
    expect(dump(fixture.database.file)).toEqual(dump(file));
  });

  test("a name that is taken is told before anything is made", async () => {
    const db = new Sqlite(fixture.database.file);
    db.exec("CREATE TABLE Person (x); CREATE TABLE t2 (x)");
    db.close();
    const file = makeSource(10);
    await expect(run(file)).rejects.toMatchObject({ code: "ATOMCAST_IMPORT_EXISTS", message: expect.stringContaining("person") });
    expect(dump(fixture.database.file).length).toBe(3);
  });

  test("a file that changed since it was interrupted is refused", async () => {
    const file = makeSource(1_500);
    const abort = new AbortController();
    let countdown = 8;
    fixture.database.beforeWork = async () => {
      if (--countdown === 0) abort.abort(new Error("killed"));
    };
    await expect(run(file, { signal: abort.signal })).rejects.toThrow();
    utimesSync(file, new Date(), new Date(1_000));
    await expect(run(file)).rejects.toMatchObject({ code: "ATOMCAST_IMPORT_CHANGED" });
  });

  test("text that is not UTF-8 is refused by its place", async () => {
    const file = join(folder, "bad.sqlite");
    const db = new Sqlite(file);
    db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, '\ufffd'), (7, CAST(x'61ff' AS TEXT))");
    db.close();
    await expect(run(file)).rejects.toMatchObject({
      code: "ATOMCAST_IMPORT_UNREADABLE",
      message: expect.stringContaining("Table t, column v, row 7"),
    });
  });

  test.each([
    ["no such file", "missing.sqlite", undefined, "ATOMCAST_IMPORT_UNREADABLE"],
    ["a SQLite file with --table", "ok.sqlite", "t", "ATOMCAST_IMPORT_USAGE"],
    ["a CSV file without --table", "plain.csv", undefined, "ATOMCAST_IMPORT_USAGE"],
    ["a damaged file", "damaged.sqlite", undefined, "ATOMCAST_IMPORT_UNREADABLE"],
    ["an empty file", "empty.csv", "t", "ATOMCAST_IMPORT_EMPTY"],
  ])("%s", async (_, name, table, code) => {
    new Sqlite(join(folder, "ok.sqlite")).exec("CREATE TABLE t (x)").close();
    writeFileSync(join(folder, "plain.csv"), "a,b\n1,2\n");
    writeFileSync(join(folder, "damaged.sqlite"), `SQLite format 3\0${"x".repeat(500)}`);
    writeFileSync(join(folder, "empty.csv"), "");
    await expect(run(join(folder, name), table === undefined ? {} : { table })).rejects.toMatchObject({ code });
  });

  test("an engine that is not there is given up on", async () => {
    const file = makeSource(10);
    await expect(run(file, { url: "http://127.0.0.1:1", retryMs: 100 })).rejects.toMatchObject({
      code: "ATOMCAST_UNREACHABLE",
      message: expect.stringContaining("nothing listens there"),
    });
  });
});

describe("a CSV file", () => {
  function csv(text: string | Buffer): string {
    const file = join(folder, "data.csv");
    writeFileSync(file, text);
    return file;
  }

  function rows(sql: string): unknown[] {
    const db = new Sqlite(fixture.database.file, { readonly: true });
    const found = db.prepare(sql).raw().all();
    db.close();
    return found;
  }

  test("types are guessed from all values; nothing is NULL, quoted nothing is ''", async () => {
    const file = csv(
      '\ufeffid,price,zip,note,"big, col",e\r\n1,1.5,007,"say ""hi""\r\nthere",9223372036854775807,\r\n-2,3,12,,9223372036854775808,\r\n\r\n3,1e3,,"",1,\r\n',
    );
    const report = await run(file, { table: "t" });
    expect(report).toMatchObject({ kind: "csv", rowCount: 3 });
    expect(rows("SELECT sql FROM sqlite_schema WHERE name = 't'")).toEqual([
      ['CREATE TABLE "t" ("id" INTEGER, "price" REAL, "zip" TEXT, "note" TEXT, "big, col" TEXT, "e" TEXT)'],
    ]);
    expect(rows("SELECT * FROM t")).toEqual([
      [1, 1.5, "007", 'say "hi"\r\nthere', "9223372036854775807", null],
      [-2, 3, "12", null, "9223372036854775808", null],
      [3, 1000, null, "", "1", null],
    ]);
    expect(rows("SELECT name FROM sqlite_schema WHERE name LIKE '%atomcast%'")).toEqual([]);
  });

  test("into a table that is there, by its columns' affinity", async () => {
    const db = new Sqlite(fixture.database.file);
    db.exec("CREATE TABLE t (a INTEGER, b REAL, c TEXT, d DEFAULT 'x')");
    db.close();
    await run(csv("C,a,b\n5,5,5\n"), { table: "t" });
    expect(rows("SELECT typeof(a), typeof(b), typeof(c), d FROM t")).toEqual([["integer", "real", "text", "x"]]);
    await expect(run(csv("a,z\n1,2\n"), { table: "t" })).rejects.toMatchObject({
      code: "ATOMCAST_IMPORT_MISMATCH",
      message: expect.stringContaining("no column z"),
    });
  });

  test("killed five times and run again, each row is there once", async () => {
    const lines = Array.from({ length: 6_500 }, (_, index) => `${index},"row, ${index}"`);
    const file = csv(`n,v\n${lines.join("\n")}`);
    const random = seededRandom(3);
    for (let kill = 0; kill < 5; kill++) {
      const abort = new AbortController();
      let countdown = 5 + random.integer(3);
      const isAfter = random.integer(2) === 0;
      const hook = async (): Promise<void> => {
        if (--countdown === 0) abort.abort(new Error("killed"));
      };
      fixture.database.beforeWork = isAfter ? async () => {} : hook;
      fixture.database.afterWork = isAfter ? hook : async () => {};
      await expect(run(file, { table: "t", signal: abort.signal })).rejects.toThrow();
    }
    fixture.database.beforeWork = async () => {};
    fixture.database.afterWork = async () => {};
    await run(file, { table: "t" });
    expect(rows("SELECT count(*), count(DISTINCT n), sum(n), min(rowid), max(rowid) FROM t")).toEqual([
      [6_500, 6_500, (6_499 * 6_500) / 2, 1, 6_500],
    ]);
  });

  test.each([
    ["a,b\n1\n", /^Line 2: 1 fields, where the header has 2/],
    ["a,b\n1,2,3\n", /^Line 2: 3 fields/],
    ['a\n"x\ny\n', /^Line 2: a quote that is not closed/],
    ['a\n"x"y\n', /^Line 2: "y" behind a closing quote/],
    ["a,,c\n", /^Line 1: column 2 has no name/],
    ["a,A\n", /^Line 1: two columns are named A/],
    [Buffer.from("a\n\xff\n", "latin1"), /not UTF-8/],
  ])("%j is refused before anything is made", async (text, message) => {
    await expect(run(csv(text), { table: "t" })).rejects.toThrow(message);
    expect(rows("SELECT name FROM sqlite_schema")).toEqual([]);
  });

  test("two imports of one file at once write each row once", async () => {
    const file = csv(`n\n${Array.from({ length: 5_500 }, (_, index) => index).join("\n")}\n`);
    const results = await Promise.allSettled([run(file, { table: "t" }), run(file, { table: "t" })]);
    expect(results.some((result) => result.status === "fulfilled")).toBe(true);
    expect(rows("SELECT count(*), count(DISTINCT n), max(rowid) FROM t")).toEqual([[5_500, 5_500, 5_500]]);
  });

  test("a row that the table refuses is told by its place, and the rows before its transaction stay", async () => {
    const db = new Sqlite(fixture.database.file);
    db.exec("CREATE TABLE t (n INTEGER PRIMARY KEY)");
    db.close();
    const file = csv(`n\n${Array.from({ length: 2_500 }, (_, index) => (index === 1_700 ? 5 : index)).join("\n")}\n`);
    await expect(run(file, { table: "t" })).rejects.toThrow(/UNIQUE constraint failed: t.n \(among rows 1001 to 2000 of table t/);
    expect(rows("SELECT count(*) FROM t")).toEqual([[1_000]]);
  });
});

test("progress is a bar on a terminal, and silence in a short log", async () => {
  const file = makeSource(1_500);
  await run(file);
  expect(shown).toBe("");
  const again = await openFixture();
  let drawn = "";
  await importFile({ file, url: again.url, progress: { isTTY: true, columns: 100, write: (text: string) => (drawn += text) } });
  expect(drawn.startsWith("\r\u001b[K[........................] 0 %  0 of ")).toBe(true);
  expect(drawn.endsWith("\r\u001b[K")).toBe(true);
  await again.close();
});
