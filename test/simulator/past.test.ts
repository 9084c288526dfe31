/** design.md §8, "`AS OF` reads", with real engines: what was there at a seq or a time is read from any Cache, for as long as history is kept. */
import { expect, test } from "vitest";
import type { BatchAnswer } from "../../src/engines/core-types.js";
import { decodeEntry, type Entry } from "../../src/messages/wire/entry.js";
import type { SessionSettings } from "../../src/sql/local-store.js";
import { cluster, plainSettings, type SimulatedCluster, step } from "./simulated-cluster.js";

const timeoutMs = 90_000;

/** A client's session on a Cache, as CacheSession is one. */
class Client {
  readonly #cluster: SimulatedCluster;
  readonly #at: string;
  settings: SessionSettings = plainSettings;
  open: number | null = null;

  constructor(c: SimulatedCluster, at: string) {
    this.#cluster = c;
    this.#at = at;
  }

  async answer(...sql: string[]): Promise<BatchAnswer> {
    const steps = sql.map((one) => step(one));
    let answer: BatchAnswer | null = null;
    this.#cluster.batch(this.#at, steps, this.open, null, this.settings).then((given) => {
      answer = given;
    });
    await this.#cluster.runUntil(sql.join("; "), () => answer !== null);
    const given = answer as unknown as BatchAnswer;
    this.open = given.kind === "done" ? given.open : null;
    if (given.kind === "done") this.settings = given.settings;
    return given;
  }

  /** Of the last statement: its rows, or its error. */
  async last(...sql: string[]): Promise<unknown> {
    const answer = await this.answer(...sql);
    if (answer.kind === "failed") return `${answer.code}: ${answer.message}`;
    const outcome = answer.outcomes.at(-1);
    return outcome?.kind === "ok" ? outcome.result.rows : outcome?.kind === "error" ? `${outcome.fault.code}: ${outcome.fault.message}` : "skipped";
  }
}

async function begun(seed: number, historyMs: number): Promise<SimulatedCluster> {
  const c = cluster({ seed, archives: 3, caches: 2, historyMs });
  await c.start();
  await c.runUntil("the history is set", () => c.invariants.committed.catalog.historyMs === historyMs);
  return c;
}

/** Every engine has applied it when this is told. */
async function seqNow(c: SimulatedCluster): Promise<number> {
  const { lastSeq } = c.invariants.committed;
  await c.runFor(100);
  return lastSeq;
}

function lastTransaction({ invariants: { committed } }: SimulatedCluster): number {
  const isTransaction = (entry: Entry): boolean => entry.kind === "proposal" && entry.body.kind === "transaction";
  return committed.entries.findLast(({ bytes }) => isTransaction(decodeEntry(bytes)))?.seq ?? 0;
}

test("any Cache reads what was there, held or not, and goes on with the present", { timeout: timeoutMs }, async () => {
  const c = await begun(3, 60_000);
  await c.sql(
    "C1",
    "create table t (id integer primary key, n integer)",
    "create index t_n on t(n)",
    "insert into t values (1, 10), (2, 20), (3, 30)",
  );
  const first = await seqNow(c);
  await c.sql("C1", "update t set n = 21 where id = 2", "delete from t where id = 3", "insert into t values (4, 40)");
  const second = await seqNow(c);
  await c.sql("C1", "delete from t where id = 1", "insert into t values (3, 33)");
  for (const at of ["C1", "C2"]) {
    const ann = new Client(c, at);
    const all = "select id, n from t order by id";
    expect(await ann.last(`pragma atomcast.as_of = ${first}`, all)).toEqual([
      [1n, 10n],
      [2n, 20n],
      [3n, 30n],
    ]);
    expect(await ann.last("pragma atomcast.as_of")).toEqual([[BigInt(first)]]);
    expect(await ann.last("select id from t where n = 20")).toEqual([[2n]]);
    expect(await ann.last("select id from t where n > 30")).toEqual([]);
    expect(await ann.last(`pragma atomcast.as_of = ${second}`, all)).toEqual([
      [1n, 10n],
      [2n, 21n],
      [4n, 40n],
    ]);
    expect(await ann.last("select n from t where id = 2")).toEqual([[21n]]);
    expect(await ann.last("insert into t values (9, 9)")).toMatch(/^SQLITE_READONLY: .*reads the past/);
    expect(await ann.last("create table u (a)")).toMatch(/^SQLITE_READONLY: .*reads the past/);
    expect(await ann.last("pragma user_version = 4")).toMatch(/^SQLITE_READONLY: .*reads the past/);
    expect(await ann.last("begin", "select count(*) from t")).toEqual([[3n]]);
    expect(await ann.last("pragma atomcast.as_of = ''")).toMatch(/of a transaction that has begun/);
    expect(await ann.last("select id from t where id > 2", "commit")).toEqual([]);
    expect(ann.open).toBeNull();
    expect(await ann.last("pragma atomcast.as_of = ''", all)).toEqual([
      [2n, 21n],
      [3n, 33n],
      [4n, 40n],
    ]);
    expect(await ann.last("insert into t values (5, 50)", "delete from t where id = 5", "pragma atomcast.as_of")).toEqual([[null]]);
  }
  await c.expectConverged();
});

test("a client's batch, or transaction, reads the past where that is its first statement", { timeout: timeoutMs }, async () => {
  const c = await begun(10, 60_000);
  await c.sql("C1", "create table t (id integer primary key, n integer)", "insert into t values (1, 10)");
  const seq = await seqNow(c);
  await c.sql("C1", "update t set n = 11");
  const batch = new Client(c, "C2");
  const answer = await batch.answer(
    "begin immediate",
    `pragma atomcast.as_of = ${seq}`,
    "select n from t",
    "update t set n = 12",
    "commit",
    "select n from t",
  );
  expect(answer).toMatchObject({ kind: "done", open: null });
  expect(answer.kind === "done" ? answer.outcomes.map((one) => (one.kind === "ok" ? one.result.rows : one.kind)) : []).toEqual([
    [],
    [],
    [[10n]],
    "error",
    [],
    [[10n]],
  ]);
  const open = new Client(c, "C2");
  await open.answer("begin");
  expect(open.open).not.toBeNull();
  expect(await open.last(`pragma atomcast.as_of = ${seq}`)).toEqual([]);
  expect(open.open).not.toBeNull();
  expect(await open.last("select n from t")).toEqual([[10n]]);
  expect(await open.last(`pragma atomcast.as_of = ${seq - 1}`)).toMatch(/of a transaction that has begun/);
  expect(await open.last("rollback", "pragma atomcast.as_of = ''", "select n from t")).toEqual([[11n]]);
  const refused = new Client(c, "C2");
  expect(await refused.last("begin", "pragma atomcast.as_of = 99999999")).toMatch(/^ATOMCAST_NOT_YET/);
  expect([refused.open, refused.settings.asOf, refused.settings.isBegun]).toEqual([null, undefined, undefined]);
});

test("what is wrong with a seq or a time is the error of the PRAGMA, and the session stays where it was", { timeout: timeoutMs }, async () => {
  const c = await begun(4, 60_000);
  await c.sql("C1", "create table t (id integer primary key)", "insert into t values (1)");
  const ann = new Client(c, "C2");
  expect(await ann.last("pragma atomcast.as_of = 99999999")).toMatch(/^ATOMCAST_NOT_YET: 99999999 has not come yet/);
  expect(await ann.last("pragma atomcast.as_of = '2999-01-01'")).toMatch(/^ATOMCAST_NOT_YET: 2999-01-01T00:00:00.000Z has not come yet/);
  expect(await ann.last("pragma atomcast.as_of = '1970-01-01 00:00:01'")).toMatch(
    /^ATOMCAST_PAST_GONE: .*1970-01-01T00:00:01.000Z is not kept any more/,
  );
  expect(await ann.last("pragma atomcast.as_of = 'tomorrow'")).toMatch(/^SQLITE_ERROR: PRAGMA atomcast.as_of takes a seq/);
  expect(ann.settings.asOf).toBeUndefined();
  expect(await ann.last("select id from t")).toEqual([[1n]]);
});

test("the past has the schema that it had, whatever has been altered since", { timeout: timeoutMs }, async () => {
  const c = await begun(5, 60_000);
  await c.sql(
    "C1",
    "create table a (id integer primary key, n integer, s text default 'none', gone)",
    "create index a_n on a(n)",
    "create table b (id integer primary key references a(id))",
    "create table log (id integer primary key, what)",
    "create view both as select a.id, n from a join b using (id)",
    "create view old as select id from a",
    "create trigger noted after insert on a begin insert into log (what) values (new.id); end",
    "pragma user_version = 3",
    "insert into a (id, n, gone) values (1, 1, 'x'), (2, 2, 'y')",
    "insert into b values (1)",
  );
  const seq = await seqNow(c);
  await c.sql(
    "C1",
    "alter table b add column m integer default 7",
    "alter table a rename column s to t",
    "drop index a_n",
    "alter table a drop column gone",
    "alter table a add column more default 5",
    "update a set n = n * 10, more = 6 where id = 1",
    "insert into a (id, n) values (3, 30)",
  );
  const middle = await seqNow(c);
  await c.sql(
    "C1",
    "alter table a rename to c",
    "drop trigger noted",
    "create table a (other)",
    "insert into a values ('another a')",
    "drop view old",
    "create view old as select n from c",
    "create index c_n on c(n)",
    "delete from b",
    "delete from c",
    "pragma user_version = 4",
  );
  for (const at of ["C1", "C2"]) {
    const ann = new Client(c, at);
    expect(await ann.last(`pragma atomcast.as_of = ${seq}`, "select * from a order by id")).toEqual([
      [1n, 1n, "none", "x"],
      [2n, 2n, "none", "y"],
    ]);
    expect(await ann.last("select * from both")).toEqual([[1n, 1n]]);
    expect(await ann.last("select * from old where id > 1")).toEqual([[2n]]);
    expect(await ann.last("select * from b")).toEqual([[1n]]);
    expect(await ann.last("select what from log order by id")).toEqual([[1n], [2n]]);
    expect(await ann.last("pragma user_version")).toEqual([[3n]]);
    expect(await ann.last("select name from sqlite_schema order by name")).toEqual([["a"], ["a_n"], ["b"], ["both"], ["log"], ["noted"], ["old"]]);
    expect(await ann.last("insert into a (id) values (9)")).toMatch(/^SQLITE_READONLY/);
    expect(await ann.last("select * from c")).toBe(`SQLITE_ERROR: no such table: c (as of ${seq})`);
    expect(await ann.last("select t from a")).toBe(`SQLITE_ERROR: no such column: t (as of ${seq})`);
    // By the index that is dropped.
    const bob = new Client(c, at);
    expect(await bob.last(`pragma atomcast.as_of = ${middle}`, "select id, n, t, more from a where n = 10")).toEqual([[1n, 10n, "none", 6n]]);
    expect(await bob.last("select * from a where id > 1 order by id")).toEqual([
      [2n, 2n, "none", 5n],
      [3n, 30n, "none", 5n],
    ]);
    expect(await bob.last("select * from b")).toEqual([[1n, 7n]]);
    const eve = new Client(c, at);
    expect(await eve.last(`pragma atomcast.as_of = ${seq}`, "select id from a where n = 2")).toEqual([[2n]]);
    expect(await eve.last("pragma atomcast.as_of = ''", "select * from a")).toEqual([["another a"]]);
  }
  await c.expectConverged();
});

test("statements of a session that reads the past are described as its schema has them", { timeout: timeoutMs }, async () => {
  const c = await begun(13, 600_000);
  await c.sql("C1", "create table t (id integer primary key, n integer)", "create table gone (id integer primary key)");
  const seq = await seqNow(c);
  await c.sql("C1", "alter table t add column more text", "drop table gone");
  await seqNow(c);
  const session = c.process("C2").cache?.openSession();
  if (session === undefined) throw new Error("C2 is up");
  const after = async <T>(asked: Promise<T>): Promise<T> => {
    let told = false;
    const tell = (): void => {
      told = true;
    };
    asked.then(tell, tell);
    await c.runUntil("it is answered", () => told);
    return asked;
  };
  const columnsOf = async (sql: string): Promise<unknown> => {
    const described = await after(session.describe(sql));
    return "code" in described ? described.code : described.columns.map(({ name }) => name);
  };
  const run = (sql: string) => after(session.batch([step(sql)]));
  expect([await columnsOf("select * from t"), await columnsOf("select * from gone")]).toEqual([["id", "n", "more"], "SQLITE_ERROR"]);
  await run(`pragma atomcast.as_of = ${seq}`);
  expect([await columnsOf("select * from t"), await columnsOf("select * from gone")]).toEqual([["id", "n"], ["id"]]);
  await run("begin");
  expect([await columnsOf("select * from gone"), session.autocommit]).toEqual([["id"], false]);
  // Its store is closed when nobody has used it for a minute.
  await run("commit");
  await c.runFor(70_000);
  expect(await columnsOf("select * from gone")).toEqual(["id"]);
  await run("pragma atomcast.as_of = ''");
  expect(await columnsOf("select * from gone")).toBe("SQLITE_ERROR");
});

test("a table that is dropped is read as it was, by keys, by an index and whole, until the mark has passed it", { timeout: timeoutMs }, async () => {
  const c = await begun(6, 2000);
  await c.sql(
    "C1",
    "create table t (id integer primary key, n integer unique, s)",
    "create index t_s on t(s)",
    "insert into t values (1, 10, 'a'), (2, 20, 'b')",
  );
  const first = await seqNow(c);
  await c.sql("C1", "update t set s = 'c' where id = 2", "insert into t values (3, 30, 'd')");
  const ann = new Client(c, "C2");
  expect(await ann.last(`pragma atomcast.as_of = ${first}`, "select s from t where id = 1")).toEqual([["a"]]);
  const second = await seqNow(c);
  await c.sql("C1", "drop table t", "create table t (other)");
  const dropped = await seqNow(c);
  // One that had it open, and one that comes later.
  expect(await ann.last("select s from t where id = 2")).toEqual([["b"]]);
  for (const at of ["C1", "C2"]) {
    const bob = new Client(c, at);
    expect(await bob.last(`pragma atomcast.as_of = ${second}`, "select id from t where s = 'c'")).toEqual([[2n]]);
    expect(await bob.last("select id from t where n = 30")).toEqual([[3n]]);
    expect(await bob.last("select s from t order by id")).toEqual([["a"], ["c"], ["d"]]);
    expect(await bob.last("pragma atomcast.as_of = ''", "select * from t")).toEqual([]);
  }
  // An Archive that comes back has it still.
  for (const { name } of c.names("archive")) {
    c.crash(name);
    c.process(name).start();
    await c.runUntil("it is back", () => c.isSettled());
  }
  const eve = new Client(c, "C2");
  expect(await eve.last(`pragma atomcast.as_of = ${first}`, "select s from t order by id")).toEqual([["a"], ["b"]]);
  // When nobody reads it any more, and the history is over, it is swept.
  for (const at of ["C1", "C2"]) c.crash(at);
  c.add("cache", "C3").start();
  await c.runUntil("all are members", () => c.isSettled());
  const { catalog } = c.invariants.committed;
  for (let n = 0; n < 20 && catalog.mark <= dropped; n++) {
    await c.runFor(1000);
    await c.sql("C3", `insert into t values (${n})`);
  }
  expect(catalog.mark).toBeGreaterThan(dropped);
  await c.runFor(3000);
  const late = new Client(c, "C3");
  expect(await late.last(`pragma atomcast.as_of = ${second}`)).toMatch(
    /^ATOMCAST_PAST_GONE: what was there as of \d+ is not kept any more: the oldest is \d+/,
  );
  expect(catalog.schema.former.all).toEqual([]);
});

test("large values of a table that was dropped are fetched from who has them, where other Archives began from a copy since", {
  timeout: timeoutMs,
}, async () => {
  const c = cluster({ seed: 12, archives: 1, caches: 2, historyMs: 60_000 });
  await c.start();
  await c.runUntil("the history is set", () => c.invariants.committed.catalog.historyMs > 0);
  await c.sql("C1", "create table t (id integer primary key, body text)");
  const ids = [1, 2, 3, 4, 5, 6];
  for (const id of ids) await c.sql("C1", `insert into t values (${id}, '${id}' || hex(zeroblob(40000)))`);
  const seq = await seqNow(c);
  await c.sql("C1", "drop table t");
  // Until its store has done so too.
  await c.runFor(1000);
  for (const name of ["A2", "A3"]) c.add("archive", name).start();
  await c.runUntil("all are members", () => c.isSettled());
  for (const at of ["C1", "C2"]) {
    const ann = new Client(c, at);
    await ann.last(`pragma atomcast.as_of = ${seq}`);
    for (const id of ids) expect(await ann.last(`select substr(body, 1, 3), length(body) from t where id = ${id}`)).toEqual([[`${id}00`, 80_001n]]);
  }
  await c.expectConverged();
});

test("a time names the same seq on every Cache, also in the middle of writes and when nothing is written", { timeout: timeoutMs }, async () => {
  const c = await begun(7, 60_000);
  await c.sql("C1", "create table t (id integer primary key, n integer)", "insert into t values (1, 0)");
  const { stamps } = c.invariants.committed.catalog;
  const updates: number[] = [];
  const seen: { timeMs: number; seq: number }[] = [];
  for (let n = 1; n <= 30; n++) {
    await c.sql("C1", `update t set n = ${n}`);
    updates.push(lastTransaction(c));
    const stamp = stamps.newest;
    if (stamp !== null && stamp.seq !== seen.at(-1)?.seq) seen.push(stamp);
  }
  expect(seen.length).toBeGreaterThan(3);
  const read = async (at: string, timeMs: number): Promise<readonly unknown[]> => {
    const ann = new Client(c, at);
    const result = await ann.last(`pragma atomcast.as_of = '${new Date(timeMs).toISOString()}'`, "select n from t");
    return [result, ann.settings.asOf];
  };
  for (const { timeMs } of seen.slice(1, -1)) {
    const [rows, asOf] = await read("C1", timeMs);
    const { seq } = asOf as { seq: number };
    expect(seq).toBeLessThanOrEqual(seen.findLast((stamp) => stamp.timeMs <= timeMs)?.seq ?? 0);
    expect(rows).toEqual([[BigInt(updates.filter((one) => one <= seq).length)]]);
    expect(await read("C2", timeMs)).toEqual([rows, asOf]);
  }
  // Later than the last stamp: one is asked for.
  await c.runFor(3000);
  const lately = (stamps.newest?.timeMs ?? 0) + 1000;
  expect(await read("C1", lately)).toEqual([[[30n]], expect.anything()]);
  expect(await read("C2", lately)).toEqual(await read("C1", lately));
});

test("what is read stays, whatever the history; when nobody reads it, it goes", { timeout: timeoutMs }, async () => {
  const c = await begun(8, 300);
  await c.sql("C1", "create table t (id integer primary key, n integer)", "insert into t values (1, 0), (2, 0)");
  const seq = await seqNow(c);
  const ann = new Client(c, "C2");
  expect(await ann.last(`pragma atomcast.as_of = ${seq}`, "select n from t where id = 1")).toEqual([[0n]]);
  for (let n = 1; n <= 10; n++) await c.sql("C1", `update t set n = ${n}`);
  await c.runFor(2000);
  const { catalog } = c.invariants.committed;
  expect(catalog.mark).toBeLessThanOrEqual(seq);
  expect(await ann.last("select n from t where id = 2")).toEqual([[0n]]);
  c.crash("C2");
  await c.runUntil("the mark goes on", () => catalog.mark > seq);
  const bob = new Client(c, "C1");
  expect(await bob.last(`pragma atomcast.as_of = ${seq}`)).toMatch(
    /^ATOMCAST_PAST_GONE: what was there as of \d+ is not kept any more: the oldest is \d+/,
  );
  await c.runFor(3000);
  expect(c.names("archive").map(({ disk }) => disk?.store.versions.count)).toEqual([0, 0, 0]);
});

test("an Archive that does not know what was there is passed over; where none knows, the read says so", { timeout: timeoutMs }, async () => {
  const c = await begun(9, 60_000);
  await c.sql(
    "C1",
    "create table t (id integer primary key, n integer)",
    `insert into t values ${Array.from({ length: 12 }, (_, id) => `(${id + 1}, 0)`)}`,
  );
  await c.sql("C1", "create table unread (id integer primary key)", "insert into unread values (1)");
  const seq = await seqNow(c);
  await c.sql("C1", "update t set n = 1");
  // The fourth copies the store as it is, without versions.
  c.add("archive", "A4").start();
  await c.runUntil("all are members", () => c.isSettled());
  const readers = ["C1", "C2"].map((at) => new Client(c, at));
  for (const reader of readers) await reader.answer(`pragma atomcast.as_of = ${seq}`);
  for (let id = 1; id <= 12; id++) for (const reader of readers) expect(await reader.last(`select n from t where id = ${id}`)).toEqual([[0n]]);
  // More than an Archive keeps.
  const blob = "x".repeat(9000);
  await c.sql("C1", "create table big (id integer primary key, text)", "insert into big values (1, '')");
  for (let n = 0; n < 20; n++) await c.sql("C1", `update big set text = '${blob}${n}'`);
  await c.runFor(1000);
  await c.sql("C1", "update big set text = ''");
  await c.runFor(1000);
  const ann = new Client(c, "C2");
  expect(await ann.last(`pragma atomcast.as_of = ${seq}`, "select id from unread")).toMatch(/^ATOMCAST_PAST_GONE: no Archive knows/);
});
