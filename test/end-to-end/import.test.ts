/** Real data: a SQLite file and a package's rows taken in, the same answers as plain SQLite has, and imports that are killed. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient, type InStatement } from "@libsql/client";
import Sqlite from "better-sqlite3";
import { describe, expect, test } from "vitest";
import { type CityRow, cities, citySchema } from "./cities.js";
import { openCluster, urlsOf } from "./cluster.js";
import { expectConverged, query } from "./convergence.js";
import type { Running } from "./processes.js";
import { eventually } from "./waiting.js";

const chinook = fileURLToPath(new URL("../../../shared/data/chinook.sqlite", import.meta.url));
const hasChinook = existsSync(chinook);
if (!hasChinook) console.warn(`${chinook} is not there: what needs it is skipped`);

const cityQueries = [
  "select count(*), count(distinct country), sum(population), min(name), max(name) from city",
  "select country, count(*), sum(population), max(population) from city group by country order by 3 desc, 1 limit 40",
  "select name, country, population from city where country = 'DE' and population > 300000 order by population desc, id",
  "select name from city where name = 'SPRINGFIELD' collate nocase order by id",
  "select a.name, a.country, b.country from city a join city b on b.name = a.name collate nocase and b.country > a.country where a.population > 1500000 and b.population > 20000 order by a.id, b.id",
  "select feature, round(avg(latitude), 6), total(longitude) from city group by feature having count(*) > 10 order by 1",
  "select country, name, population, rank() over (partition by country order by population desc, id) as place from city where country in ('FR', 'JP') order by country, place limit 30",
  "with recursive step (n) as (select 1 union all select n * 10 from step where n < 1000000) select n, (select count(*) from city where population >= n) from step",
  "select typeof(longitude), typeof(population), typeof(admin), count(*) from city group by 1, 2, 3 order by 1, 2, 3",
  "select * from city where id in (2867714, 2988507, 3128760) order by id",
];

const chinookQueries = [
  "select g.Name, count(*), sum(t.Milliseconds) from Track t join Genre g on g.GenreId = t.GenreId group by g.GenreId order by 2 desc, 1",
  "select ar.Name, al.Title, count(t.TrackId), round(sum(t.UnitPrice), 2) from Artist ar join Album al on al.ArtistId = ar.ArtistId left join Track t on t.AlbumId = al.AlbumId group by al.AlbumId order by 4 desc, 2 limit 50",
  "select c.Country, count(distinct c.CustomerId), round(sum(i.Total), 2) from Customer c join Invoice i on i.CustomerId = c.CustomerId group by 1 order by 3 desc, 1",
  "select e.LastName, m.LastName, count(c.CustomerId) from Employee e left join Employee m on m.EmployeeId = e.ReportsTo left join Customer c on c.SupportRepId = e.EmployeeId group by e.EmployeeId order by 1",
  "select p.Name, count(pt.TrackId) from Playlist p left join PlaylistTrack pt on pt.PlaylistId = p.PlaylistId group by p.PlaylistId order by p.PlaylistId",
  "select strftime('%Y-%m', InvoiceDate), count(*), round(sum(Total), 2) from Invoice group by 1 order by 1",
  "select name, type, tbl_name from sqlite_schema where name not like 'sqlite%' and tbl_name <> 'city' order by 2, 1",
];

const both =
  "select a.Country, a.customers, count(t.id), max(t.population) from (select Country, count(*) as customers from Customer group by 1) a left join city t on t.name = a.Country collate nocase group by 1 order by 1";

/** Plain SQLite's answer, in the form of a client with bigints. */
function plainAnswer(file: Sqlite.Database, sql: string): unknown[][] {
  return file.prepare(sql).safeIntegers().raw().all() as unknown[][];
}

function openPlain(path: string): Sqlite.Database {
  const file = new Sqlite(path);
  file.pragma("journal_mode = off");
  file.pragma("synchronous = off");
  return file;
}

function insertCities(file: Sqlite.Database, table: string, rows: readonly CityRow[]): void {
  const insert = file.prepare(`insert into ${table} values (${rows[0]?.map(() => "?").join(", ")})`);
  file.transaction(() => {
    for (const row of rows) insert.run(...row);
  })();
}

/** Rows of one INSERT, and INSERTs of one batch. */
const rowsPerInsert = 250;
const insertsPerBatch = 8;

async function sendCities(url: string): Promise<void> {
  const client = createClient({ url });
  await client.batch(citySchema, "write");
  let batch: InStatement[] = [];
  for (let at = 0; at < cities.length; at += rowsPerInsert) {
    const rows = cities.slice(at, at + rowsPerInsert);
    batch.push({ sql: `insert into city values ${rows.map(() => "(?, ?, ?, ?, ?, ?, ?, ?)").join(", ")}`, args: rows.flat() });
    if (batch.length < insertsPerBatch && at + rowsPerInsert < cities.length) continue;
    await client.batch(batch, "write");
    batch = [];
  }
  client.close();
}

describe("real data on three Archives and two Caches", () => {
  test("joins and aggregates answer as plain SQLite does, on every Cache", { timeout: 240_000 }, async () => {
    const cluster = await openCluster(3, 2);
    const { site } = cluster;
    const [first = "", second = ""] = urlsOf(cluster);
    const path = join(site.directory, "plain.sqlite");
    if (hasChinook) {
      writeFileSync(path, readFileSync(chinook));
      const imported = await site.run(["import", chinook, first]);
      expect(imported).toMatchObject({ code: 0 });
      expect(imported.stdout).toMatch(/^Imported 15,607 rows in 11 tables\./);
    }
    const plain = openPlain(path);
    for (const sql of citySchema) plain.exec(sql);
    insertCities(plain, "city", cities);
    const beganMs = performance.now();
    await sendCities(second);
    console.log(`${cities.length} cities in ${Math.round(performance.now() - beganMs)} ms`);
    const third = await site.cache("cache-3");
    cluster.engines.set("cache-3", third);
    const queries = [...cityQueries, ...(hasChinook ? [...chinookQueries, both] : [])];
    for (const sql of queries) {
      const expected = plainAnswer(plain, sql);
      expect(expected.length).toBeGreaterThan(0);
      for (const url of [first, second, third.url]) expect({ url, sql, rows: await query(url, sql) }).toEqual({ url, sql, rows: expected });
    }
    plain.close();
    await expectConverged([first, second, third.url], cluster.engines.size);
  });

  test("an import that is killed five times and run again has every row once", { timeout: 120_000 }, async () => {
    const cluster = await openCluster(1, 2);
    const { site } = cluster;
    const [first = "", second = ""] = urlsOf(cluster);
    const path = join(site.directory, "source.sqlite");
    const source = openPlain(path);
    const some = cities.slice(0, 12_000);
    const columns = "name text, country text, feature text, admin text, population integer, longitude real, latitude real";
    source.exec(`create table with_key (id integer primary key, ${columns})`);
    source.exec(`create table without_key (id integer, ${columns})`);
    source.exec(`create table by_text (id integer, ${columns}, primary key (name, id)) without rowid`);
    source.exec("create index without_key_name on without_key (name)");
    for (const table of ["with_key", "without_key", "by_text"]) insertCities(source, table, some);
    source.exec("pragma user_version = 12");
    // Rows that nothing tells apart: each must come as often as it is there.
    insertCities(source, "without_key", some.slice(0, 500));
    const total = some.length * 3 + 500;
    const expected = Object.fromEntries(tables.map((table) => [table, plainAnswer(source, `select * from ${table} order by id, name`)]));
    source.close();

    for (let kill = 1; kill <= 5; kill++) {
      const run = site.spawn(`import ${kill}`, ["import", path, first]);
      await untilImported(first, (total * kill) / 6, run);
      run.kill("SIGKILL");
      expect(await run.ended()).toEqual({ code: null, signal: "SIGKILL" });
    }
    const last = await site.run(["import", path, second]);
    expect(last).toMatchObject({ code: 0 });
    expect(last.stdout).toMatch(/^Imported 36,500 rows in 3 tables \(an interrupted import, gone on with\)\./);
    for (const url of [first, second]) {
      for (const table of tables) expect(await query(url, `select * from ${table} order by id, name`)).toEqual(expected[table]);
      expect(await query(url, "select name from sqlite_schema where name like '%atomcast%'")).toEqual([]);
      await eventually("the version is here", 10_000, async () => expect(await query(url, "pragma user_version")).toEqual([[12n]]));
    }
    await expectConverged([first, second], cluster.engines.size);
  });
});

const tables = ["with_key", "without_key", "by_text"];

/** Waits until the import has committed that many rows, which it notes in a table of its own; fails when it ended before. */
async function untilImported(url: string, rowCount: number, run: Running): Promise<void> {
  await eventually(`${rowCount} rows are imported`, 30_000, async () => {
    if (!run.isRunning) throw new Error(`the import ended: ${run.stderr}`);
    const [row] = await query(url, "select sum(row_count) from _atomcast_import");
    expect(Number(row?.[0])).toBeGreaterThanOrEqual(rowCount);
  });
}
