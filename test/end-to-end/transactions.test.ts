/** Transactions that stay open between requests, through an unmodified client and two Caches. */
import { createClient, type InValue, type Transaction } from "@libsql/client";
import { expect, test } from "vitest";
import { openCluster, urlsOf } from "./cluster.js";

async function balances(of: Transaction | ReturnType<typeof createClient>): Promise<InValue[]> {
  return (await of.execute("select balance from accounts order by id")).rows.map((row) => row.balance as InValue);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "ok",
    (error: { code?: string }) => error.code ?? String(error),
  );
}

test("interactive transactions: snapshot, conflict, rollback, a Cache that is killed", async () => {
  const cluster = await openCluster(1, 2);
  const [left = "", right = ""] = urlsOf(cluster);
  const [ann, bob] = [createClient({ url: left }), createClient({ url: right })];
  await ann.batch(["create table accounts (id integer primary key, balance integer)", "insert into accounts values (1, 100), (2, 200)"], "write");

  const open = "select state, mode, isolation, rows_written, expires_ms > idle_ms as has_time from system.transactions";
  expect((await ann.execute(open)).rows).toEqual([]);
  const first = await ann.transaction("write");
  await first.execute("update accounts set balance = balance - 10 where id = 1");
  expect({ ...(await ann.execute(open)).rows[0] }).toEqual({ state: "idle", mode: "immediate", isolation: "snapshot", rows_written: 1, has_time: 1 });
  expect((await bob.execute(open)).rows).toEqual([]);
  expect((await first.execute(open)).rows).toMatchObject([{ state: "running" }]);
  await bob.execute("update accounts set balance = 500 where id = 2");
  expect(await balances(first)).toEqual([90, 200]);
  expect(await balances(bob)).toEqual([100, 500]);
  await first.commit();
  await expect.poll(() => balances(bob)).toEqual([90, 500]);

  const [mine, theirs] = [await ann.transaction("write"), await bob.transaction("write")];
  await mine.execute("update accounts set balance = balance + 1 where id = 1");
  await theirs.execute("update accounts set balance = balance + 1 where id = 1");
  await mine.commit();
  expect(await codeOf(theirs.commit())).toBe("SQLITE_BUSY");
  theirs.close();
  // A commit at one Cache is read at the other once it is applied there.
  await expect.poll(() => balances(bob)).toEqual([91, 500]);

  const reading = await ann.transaction("write");
  await reading.execute("PRAGMA atomcast.isolation = read_committed");
  await reading.execute("update accounts set balance = balance + 1 where id = 2");
  expect(await balances(reading)).toEqual([91, 501]);
  await bob.execute("update accounts set balance = 92 where id = 1");
  await expect.poll(() => balances(reading)).toEqual([92, 501]);
  await reading.execute("update accounts set balance = balance + 1 where id = 1");
  await reading.commit();
  await expect.poll(() => balances(bob)).toEqual([93, 501]);

  const overtaken = await ann.transaction("write");
  await overtaken.executeMultiple("PRAGMA atomcast.isolation = 'read committed'; update accounts set balance = 0 where id = 1");
  await bob.execute("update accounts set balance = 91 where id = 1");
  await expect.poll(() => balances(ann)).toEqual([91, 501]);
  await overtaken.execute("update accounts set balance = 500 where id = 2");
  expect(await codeOf(overtaken.commit())).toBe("SQLITE_BUSY");
  overtaken.close();
  await bob.execute("update accounts set balance = 500 where id = 2");
  await expect.poll(() => balances(ann)).toEqual([91, 500]);

  // As a migration is: its version goes with it.
  await ann.batch(["create table notes (id integer primary key)", "PRAGMA user_version = 5"], "write");
  await expect.poll(async () => (await bob.execute("PRAGMA user_version")).rows[0]?.user_version).toBe(5);
  await ann.migrate(["alter table notes add column body text", "PRAGMA user_version = 6"]);
  await expect.poll(async () => (await bob.execute("PRAGMA user_version")).rows[0]?.user_version).toBe(6);

  // And as a client's own transaction does it, statement by statement, with others at work meanwhile.
  const made = await ann.transaction("write");
  await made.execute("create table books (id integer primary key, title text not null unique)");
  await ann.execute("insert into notes (body) values ('meanwhile')");
  await made.execute({ sql: "insert into books (title) values (?), (?)", args: ["Emma", "Ulysses"] });
  await bob.execute("insert into notes (body) values ('elsewhere')");
  await made.execute("create table loans (book integer not null references books (id) on delete cascade)");
  await made.batch(["insert into loans select id from books", "update books set title = upper(title)"]);
  expect(await codeOf(made.execute("insert into books (title) values ('EMMA')"))).toBe("SQLITE_CONSTRAINT");
  expect(await codeOf(ann.execute("select * from books"))).toBe("SQLITE_ERROR");
  await made.execute("delete from books where title = 'EMMA'");
  expect((await made.execute("select title, (select count(*) from loans) as loans from books")).rows.map((row) => ({ ...row }))).toEqual([
    { title: "ULYSSES", loans: 1 },
  ]);
  await made.commit();
  await expect.poll(() => codeOf(bob.execute("select * from books"))).toBe("ok");
  expect((await bob.execute("select count(*) as n from loans")).rows[0]?.n).toBe(1);
  const [theirTable, myTable] = [await bob.transaction("write"), await ann.transaction("write")];
  await theirTable.execute("create table same (a)");
  await myTable.execute("create table same (b)");
  await theirTable.commit();
  expect(await codeOf(myTable.commit())).toBe("SQLITE_BUSY");
  myTable.close();
  const kept = await ann.transaction("write");
  await kept.execute("drop table books");
  await kept.rollback();
  expect((await ann.execute("select count(*) as n from books")).rows[0]?.n).toBe(1);

  const undone = await ann.transaction("write");
  await undone.execute("delete from accounts");
  await undone.rollback();
  const dropped = await ann.transaction("deferred");
  await dropped.execute("delete from accounts");
  dropped.close();
  const readOnly = await ann.transaction("read");
  expect(await codeOf(readOnly.execute("delete from accounts"))).toBe("SQLITE_READONLY");
  await readOnly.rollback();

  const lost = await ann.transaction("write");
  await lost.execute("delete from accounts");
  // Which of the two was ready first is not said.
  const killed = [...cluster.engines.values()].find(({ url }) => url === left);
  killed?.kill("SIGKILL");
  await killed?.ended();
  expect(await codeOf(lost.commit())).not.toBe("ok");
  expect(await balances(bob)).toEqual([91, 500]);
});

test("an open transaction reads what its Cache pulls in the middle of it as it was; afterwards nothing is kept of that", {
  timeout: 90_000,
}, async () => {
  const cluster = await openCluster(2, 2);
  const [left = "", right = ""] = urlsOf(cluster);
  const [ann, bob] = [createClient({ url: left }), createClient({ url: right })];
  const tables = ["create table a (id integer primary key)", "create table t (id integer primary key, n integer)", "create index t_n on t(n)"];
  await ann.batch([...tables, "insert into a values (1)", "insert into t values (1, 0), (2, 0), (3, 0)"], "write");
  await expect.poll(async () => (await bob.execute("select count(*) as n from a")).rows[0]?.n).toBe(1);
  const open = await bob.transaction("read");
  await open.execute("select id from a");
  for (let n = 1; n <= 120; n++) await ann.execute({ sql: "update t set n = ? where id = 1", args: [n] });
  await ann.batch(["delete from t where id = 2", "insert into t values (4, 4)"], "write");
  expect((await open.execute("select id, n from t where n = 0 order by id")).rows.map((row) => row.id)).toEqual([1, 2, 3]);
  expect((await open.execute("select id, n from t order by id")).rows.map(({ id, n }) => [id, n])).toEqual([
    [1, 0],
    [2, 0],
    [3, 0],
  ]);
  const gc = async (): Promise<unknown> => {
    const { rows } = await ann.execute("select sum(versions) as versions, sum(holds_mark) as holding, max(mark) > 0 as is_marked from system.gc");
    return { ...rows[0] };
  };
  // Of each Archive: the rows and index entries that were replaced. The server ends a session that does nothing for ten seconds.
  await expect.poll(gc, { timeout: 8000 }).toEqual({ versions: 2 * 2 * 121, holding: 1, is_marked: 1 });
  await open.commit();
  expect((await bob.execute("select id, n from t order by id")).rows.map(({ id, n }) => [id, n])).toEqual([
    [1, 120],
    [3, 0],
    [4, 4],
  ]);
  await expect.poll(gc, { timeout: 40_000 }).toMatchObject({ versions: 0 });
  for (const client of [ann, bob]) client.close();
});
