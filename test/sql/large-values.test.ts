/** Large values as statements see them: rows that refer to them elsewhere are whole here (base/large-values.ts). */
import { afterEach, describe, expect, test } from "vitest";
import type { SpaceId } from "../../src/base/ids.js";
import { detachValues } from "../../src/base/large-values.js";
import { decodeEntry, type RowsPart } from "../../src/messages/wire/entry.js";
import { Cluster, step } from "./store-harness.js";

const clusters: Cluster[] = [];
afterEach(() => {
  for (const cluster of clusters.splice(0)) cluster.close();
});

function cluster(count: number): Cluster {
  const made = new Cluster(count);
  clusters.push(made);
  return made;
}

const text = (letter: string, byteCount = 70_000): string => letter.repeat(byteCount);

function lastRows(c: Cluster): RowsPart {
  const entry = decodeEntry(c.log.at(-1)?.bytes ?? Buffer.alloc(0));
  const part = entry.kind === "proposal" && entry.body.kind === "transaction" ? entry.body.parts.at(-1) : undefined;
  if (part?.kind !== "rows") throw new Error("the last entry has no rows");
  return part;
}

function spaceOf(c: Cluster, table: string): SpaceId {
  return c.schema.get(table)?.object.space as SpaceId;
}

function expectSame(c: Cluster, table: string): void {
  const hashes = c.engines.map((_, index) => {
    c.rows(index, `SELECT count(*) FROM ${table}`);
    return c.engine(index).store.tableHash(spaceOf(c, table));
  });
  expect(new Set(hashes).size).toBe(1);
  expect(hashes[0]).not.toBeNull();
}

describe("large values", () => {
  test("go out once, and not again where the row has them already", () => {
    const c = cluster(3);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, title TEXT, body TEXT, data BLOB)");
    c.run(0, [step("INSERT INTO t VALUES (1, 'one', ?, ?), (2, 'two', ?, NULL)", [text("a"), Buffer.alloc(100_000, 7), text("a")])]);
    expect(lastRows(c).values?.map(({ bytes }) => bytes.length)).toEqual([70_000, 100_000]);
    expect(lastRows(c).rows.every(({ row }) => row !== null && row.length < 200)).toBe(true);
    c.sql(1, "UPDATE t SET title = title || '!'");
    expect(lastRows(c).values).toBeUndefined();
    expect(c.log.at(-1)?.bytes.length).toBeLessThan(500);
    for (const index of [0, 1, 2])
      expect(c.rows(index, "SELECT id, title, length(body), substr(body, 69999), length(data), typeof(data) FROM t")).toEqual([
        [1n, "one!", 70_000n, "aa", 100_000n, "blob"],
        [2n, "two!", 70_000n, "aa", null, "null"],
      ]);
    c.sql(2, "UPDATE t SET body = ? WHERE id = 2", [text("b")]);
    expect(lastRows(c).values?.length).toBe(1);
    // Of another row: everybody who has this one need not have that one.
    c.sql(1, "UPDATE t SET body = (SELECT body FROM t WHERE id = 1) WHERE id = 2");
    expect(lastRows(c).values?.length).toBe(1);
    // Another key is another row.
    c.sql(1, "UPDATE t SET id = 3 WHERE id = 2");
    expect(lastRows(c).values?.length).toBe(1);
    c.sql(0, "UPDATE t SET body = data, data = body WHERE id = 1");
    expectSame(c, "t");
    c.restart(1);
    expectSame(c, "t");
    c.sql(0, "DELETE FROM t");
    c.sql(0, "INSERT INTO t VALUES (9, '', '', '')");
    c.sql(0, "DELETE FROM t");
    expect(c.archive.values.count).toBe(0);
  });

  test("text and blob of the same bytes stay text and blob; ill-formed text is refused as ever", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
    c.sql(0, "INSERT INTO t VALUES (1, ?, CAST(? AS BLOB))", [text("\u{1f600}", 20_000), text("\u{1f600}", 20_000)]);
    expect(lastRows(c).values?.length).toBe(1);
    expect(c.rows(1, "SELECT typeof(a), typeof(b), length(a), length(b), CAST(a AS BLOB) = b FROM t")).toEqual([
      ["text", "blob", 20_000n, 80_000n, 1n],
    ]);
    expect(c.fault(1, "INSERT INTO t VALUES (2, CAST(zeroblob(70000) || x'ff' AS TEXT), 1)").code).toBe("ATOMCAST_ILL_FORMED_TEXT");
    expectSame(c, "t");
  });

  test("a change that came while the row was pulled keeps what the row had", () => {
    const c = cluster(3);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, n, body)");
    for (let id = 1; id <= 3; id++) c.sql(0, "INSERT INTO t VALUES (?, 0, ?)", [BigInt(id), text(String(id))]);
    let round = 0;
    c.beforeInstall = () => {
      c.beforeInstall = () => {};
      round++;
      c.sql(0, "UPDATE t SET n = n + 1");
      c.sql(0, "UPDATE t SET body = ? WHERE id = 2", [text("x")]);
      c.sql(0, "UPDATE t SET n = n + 1");
      c.sql(0, "DELETE FROM t WHERE id = 3");
    };
    expect(c.rows(1, "SELECT id, n, substr(body, 1, 1), length(body) FROM t")).toEqual([
      [1n, 2n, "1", 70_000n],
      [2n, 2n, "x", 70_000n],
    ]);
    expect(round).toBe(1);
    expectSame(c, "t");
  });

  test("an older snapshot reads them as they were, held and pulled", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, n, body)");
    c.sql(0, "CREATE TABLE u(id INTEGER PRIMARY KEY)");
    for (let id = 1; id <= 2; id++) c.sql(0, "INSERT INTO t VALUES (?, 0, ?)", [BigInt(id), text(String(id))]);
    for (const holds of [true, false]) {
      c.restart(1);
      if (holds) c.rows(1, "SELECT count(*) FROM t");
      const client = c.client(1);
      c.in(client, "BEGIN", "SELECT * FROM u");
      const before = c.rows(0, "SELECT id, n, body FROM t");
      c.sql(0, "UPDATE t SET n = n + 1");
      c.sql(0, "UPDATE t SET body = body || 'y' WHERE id = 1");
      c.sql(0, "UPDATE t SET n = n + 1");
      const [outcome] = c.in(client, "SELECT id, n, body FROM t");
      expect(outcome?.kind === "ok" && outcome.result.rows).toEqual(before);
      c.in(client, "ROLLBACK");
      expectSame(c, "t");
    }
    expect(c.imagesRead).toBeGreaterThan(0);
  });

  test("under indexes and keys: unique, cut, without rowid, referred to", () => {
    const c = cluster(3);
    c.sql(0, "CREATE TABLE p(name TEXT PRIMARY KEY COLLATE NOCASE, n) WITHOUT ROWID");
    c.sql(0, "CREATE TABLE c(id INTEGER PRIMARY KEY, name TEXT REFERENCES p(name) ON UPDATE CASCADE, u UNIQUE, n)");
    c.sql(0, "CREATE INDEX by_u ON c(n, u)");
    for (const letter of ["a", "b", "c"]) c.sql(0, "INSERT INTO p VALUES (?, 1)", [text(letter)]);
    c.sql(1, "INSERT INTO c VALUES (1, ?, ?, 5)", [text("A"), text("u")]);
    expect(c.fault(2, "INSERT INTO c VALUES (2, NULL, ?, 5)", [text("u")]).code).toBe("SQLITE_CONSTRAINT_UNIQUE");
    expect(c.fault(2, "INSERT INTO c VALUES (2, ?, NULL, 5)", [text("d")]).code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    expect(c.fault(2, "DELETE FROM p WHERE name = ?", [text("a")]).code).toBe("SQLITE_CONSTRAINT_FOREIGNKEY");
    c.sql(2, "UPDATE p SET name = ? WHERE name = ?", [text("z"), text("a")]);
    expect(c.rows(0, "SELECT substr(name, 1, 2), length(name) FROM c")).toEqual([["zz", 70_000n]]);
    for (const table of ["p", "c"]) expectSame(c, table);
  });

  test("a row that is not here, and keeps a large value under a held range of an index", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, n)");
    c.sql(0, "CREATE INDEX by_a ON t(a)");
    for (let id = 1; id <= 20; id++) c.sql(0, "INSERT INTO t VALUES (?, ?, 0)", [BigInt(id), text(String.fromCharCode(96 + id))]);
    c.cuts.set(
      spaceOf(c, "t"),
      Array.from({ length: 19 }, (_, index) => Buffer.from(c.rowsOf(spaceOf(c, "t"))[index + 1]?.key ?? []).toString("latin1")),
    );
    const asked = (): readonly (readonly unknown[])[] => c.rows(1, "SELECT id, n FROM t WHERE a >= 'c' AND a < 'd'");
    expect(asked()).toEqual([[3n, 0n]]);
    c.sql(0, "UPDATE t SET n = 7 WHERE id IN (3, 9)");
    expect(asked()).toEqual([[3n, 7n]]);
    c.sql(0, "UPDATE t SET a = ? WHERE id = 9", [text("c")]);
    c.sql(0, "UPDATE t SET n = 8 WHERE id = 9");
    expect(asked().map(([id]) => id)).toEqual([3n, 9n]);
    expect(c.rows(1, "SELECT n FROM t WHERE a >= 'c' AND a < 'd' ORDER BY id")).toEqual([[7n], [8n]]);
  });

  test("chunks for other Caches refer to them, and weigh what they do", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, body)");
    for (let id = 1; id <= 5; id++) c.sql(0, "INSERT INTO t VALUES (?, ?)", [BigInt(id), text(String(id), 300_000)]);
    const chunk = c.engine(0).store.readChunk(spaceOf(c, "t"), Buffer.alloc(0), null, 256 * 1024);
    expect(chunk?.rows).toHaveLength(1);
    expect(chunk?.next).not.toBeNull();
    expect(chunk?.rows[0]?.row.length).toBeLessThan(100);
    expect(detachValues(chunk?.rows[0]?.row ?? Buffer.alloc(0)).values).toEqual([]);
    expect(c.rows(1, "SELECT sum(length(body)) FROM t")).toEqual([[1_500_000n]]);
    expect(c.valuesPulled).toBe(5);
  });

  test("60 MB fit one statement, and what does not fit an entry is told so", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
    c.sql(0, "INSERT INTO t VALUES (1, zeroblob(60000000))");
    expect(c.rows(1, "SELECT length(body) FROM t")).toEqual([[60_000_000n]]);
    expect(c.fault(1, "INSERT INTO t VALUES (2, zeroblob(70000000))").code).toBe("SQLITE_TOOBIG");
  });

  test("a table, an index and a column that are made and dropped", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
    c.sql(0, "INSERT INTO t VALUES (1, ?, ?)", [text("a"), text("b")]);
    c.sql(1, "ALTER TABLE t DROP COLUMN a");
    expect(c.rows(1, "SELECT id, length(b) FROM t")).toEqual([[1n, 70_000n]]);
    c.sql(1, "UPDATE t SET id = id");
    c.sql(0, "ALTER TABLE t ADD COLUMN d");
    c.sql(0, "UPDATE t SET d = 1");
    expect(c.rows(1, "SELECT id, length(b), d FROM t")).toEqual([[1n, 70_000n, 1n]]);
    c.sql(1, "CREATE TABLE copy AS SELECT * FROM t");
    expect(c.rows(0, "SELECT length(b) FROM copy")).toEqual([[70_000n]]);
    expectSame(c, "t");
    expectSame(c, "copy");
    // Its rows show it, and the Archive's rows have not got it.
    c.sql(0, `ALTER TABLE t ADD COLUMN e TEXT DEFAULT '${text("e")}'`);
    c.sql(1, "UPDATE t SET d = 2");
    expect(lastRows(c).values).toHaveLength(2);
    expect(c.rows(0, "SELECT length(b), d, length(e) FROM t")).toEqual([[70_000n, 2n, 70_000n]]);
    c.restart(1);
    expectSame(c, "t");
  });

  test("go out where the same transaction has changed the columns that the row had them in", () => {
    const value = text("a");
    const drop = ["ALTER TABLE t DROP COLUMN a", "UPDATE t SET b = ?"];
    for (const [first, ...steps] of [
      ["INSERT INTO t VALUES (1, ?, NULL)", ...drop],
      ["INSERT INTO t VALUES (1, NULL, NULL)", "UPDATE t SET a = ?", ...drop],
    ]) {
      const c = cluster(2);
      const withValue = (sql: string): ReturnType<typeof step> => step(sql, sql.includes("?") ? [value] : []);
      c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
      c.run(0, [withValue(first as string)]);
      c.rows(1, "SELECT count(*) FROM t");
      const { outcomes } = c.run(0, ["BEGIN", ...steps, "COMMIT"].map(withValue));
      expect(outcomes.map(({ kind }) => kind)).not.toContain("error");
      expect(c.rows(1, "SELECT length(b) FROM t")).toEqual([[70_000n]]);
      expectSame(c, "t");
    }
  });

  test("a default is in no Archive, also when its column is dropped, and no chunk refers to it", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, b)");
    c.sql(0, "INSERT INTO t VALUES (1, NULL)");
    c.sql(0, `ALTER TABLE t ADD COLUMN e TEXT DEFAULT '${text("e")}'`);
    expect(c.rows(1, "SELECT length(e) FROM t")).toEqual([[70_000n]]);
    c.run(0, [step("BEGIN"), step("ALTER TABLE t DROP COLUMN e"), step("UPDATE t SET b = ?", [text("e")]), step("COMMIT")]);
    expect(c.rows(1, "SELECT length(b) FROM t")).toEqual([[70_000n]]);
    expectSame(c, "t");
  });

  test("old images that share a value and are more than may be kept are told as too old, not put together", () => {
    const c = cluster(2);
    c.sql(0, "CREATE TABLE t(id INTEGER PRIMARY KEY, n, body)");
    c.sql(0, "CREATE TABLE u(id INTEGER PRIMARY KEY)");
    c.sql(0, "INSERT INTO t VALUES (1, 0, ?)", [text("x", 8_000_000)]);
    const client = c.client(1);
    c.in(client, "BEGIN", "SELECT * FROM u");
    for (let n = 0; n < 40; n++) c.sql(0, "UPDATE t SET n = n + 1");
    const before = process.resourceUsage().maxRSS;
    const [outcome] = c.in(client, "SELECT n FROM t");
    expect(outcome?.kind === "error" && outcome.fault.code).toBe("SQLITE_BUSY_SNAPSHOT");
    expect(c.imagesRead).toBe(40);
    // In KiB; each with its value in it, they would be 320 MB.
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(200 * 1024);
    c.in(client, "ROLLBACK");
  });
});
