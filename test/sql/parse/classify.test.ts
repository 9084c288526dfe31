import { describe, expect, test } from "vitest";
import { classify } from "../../../src/sql/parse/classify.js";
import { pragmaBoolean, pragmaMeaning, pragmaRules } from "../../../src/sql/parse/pragmas.js";
import { isFault } from "../../../src/sql/parse/sqlite-grammar.js";
import { openSqlite } from "./plain-sqlite.js";

const plain = { tables: [], systemTables: [], introspects: false, nonDeterministic: false };

describe("kinds", () => {
  test.each<[string, object]>([
    ["select 1", { kind: "read", explain: "no", references: plain }],
    ["values (1),(2)", { kind: "read", explain: "no" }],
    ["with a as (select 1) select * from a", { kind: "read", explain: "no" }],
    ["explain select 1", { kind: "read", explain: "program" }],
    ["explain query plan delete from t", { kind: "read", explain: "plan" }],
    ["explain begin", { kind: "read", explain: "program", references: plain }],
    ["explain pragma table_info(t)", { kind: "read", explain: "program" }],
    [
      "insert into T(a) values (1)",
      { kind: "write", verb: "insert", schema: null, table: "T", onConflict: null, returning: false, references: { ...plain, tables: ["t"] } },
    ],
    [
      'replace into main."a""b" default values returning *',
      { kind: "write", verb: "insert", schema: "main", table: 'a"b', onConflict: "replace", returning: true },
    ],
    ["insert or ignore into t as x select 1", { kind: "write", verb: "insert", table: "t", onConflict: "ignore" }],
    [
      "with q as (select 1) update or fail t as x set a = 1 from q returning a",
      { kind: "write", verb: "update", onConflict: "fail", returning: true, table: "t" },
    ],
    ["delete from [t] where 1", { kind: "write", verb: "delete", table: "t", onConflict: null }],
    ["update t set a = 1 where b returning a order by c limit 1 offset 2", { kind: "write", verb: "update", table: "t", returning: true }],
    ["delete from t order by (select 1 limit 1) limit 1", { kind: "write", verb: "delete", table: "t" }],
    [
      "with q as (select 1 limit 1) delete from t where a in (select 1 order by 1) limit random()",
      { kind: "write", references: { nonDeterministic: true } },
    ],
    ["explain update t set a = 1 limit 1", { kind: "read", explain: "program" }],
    ["update t set a = (select 1 order by 1 limit 1)", { kind: "write", verb: "update" }],
    ["begin", { kind: "begin", mode: "deferred", readOnly: false }],
    ["BEGIN IMMEDIATE TRANSACTION", { kind: "begin", mode: "immediate", readOnly: false }],
    ["begin exclusive", { kind: "begin", mode: "exclusive", readOnly: false }],
    ["BEGIN TRANSACTION READONLY", { kind: "begin", mode: "deferred", readOnly: true }],
    ["commit", { kind: "commit" }],
    ["END TRANSACTION", { kind: "commit" }],
    ["rollback", { kind: "rollback" }],
    ['rollback transaction to savepoint "a b"', { kind: "rollbackTo", name: "a b" }],
    ["savepoint x", { kind: "savepoint", name: "x" }],
    ["release savepoint x", { kind: "release", name: "x" }],
    [
      "create table if not exists main.t(a)",
      {
        kind: "ddl",
        action: "create",
        objectType: "table",
        schema: "main",
        name: "t",
        table: "t",
        ifNotExists: true,
        ifExists: false,
        asSelect: false,
      },
    ],
    ["create table t as select datetime('now')", { kind: "ddl", asSelect: true, references: { nonDeterministic: true } }],
    ["create unique index i on t(a)", { kind: "ddl", action: "create", objectType: "index", name: "i", table: "t" }],
    ["create view v as select 1", { kind: "ddl", action: "create", objectType: "view", name: "v", table: null }],
    ["create trigger x after insert on t begin select 1; end", { kind: "ddl", action: "create", objectType: "trigger", name: "x", table: "t" }],
    ["alter table t rename to u", { kind: "ddl", action: "alter", objectType: "table", name: "t", table: "t" }],
    ["drop table if exists t", { kind: "ddl", action: "drop", objectType: "table", name: "t", ifExists: true }],
    ["drop index i", { kind: "ddl", action: "drop", objectType: "index", name: "i", table: null, ifExists: false }],
    ["drop view v", { kind: "ddl", action: "drop", objectType: "view" }],
    ["drop trigger x", { kind: "ddl", action: "drop", objectType: "trigger" }],
    ["reindex", { kind: "ddl", action: "reindex", objectType: null, name: null }],
    ["analyze main.t", { kind: "ddl", action: "analyze", objectType: null, schema: "main", name: "t" }],
    ["\ufeff/* c */ select 1; -- end", { kind: "read" }],
  ])("%s", (sql, expected) => {
    expect(classify(sql)).toMatchObject(expected);
    expect(classify(sql), "from the cache").toBe(classify(sql));
  });
});

describe("references", () => {
  test.each<[string, object]>([
    ["select * from system.engines e, System.ATOMS where e.id in system.settings", { systemTables: ["engines", "atoms", "settings"] }],
    ["insert into t select * from system.engines", { systemTables: ["engines"] }],
    ["select system.engines.id from system.engines", { systemTables: ["engines"] }],
    ["select * from engines", { systemTables: [], tables: ["engines"] }],
    [
      "with q as (select * from A) select * from q, main.b as x left join (select * from c) where 1 in d and exists (select 1 from json_each('[]'), system.e)",
      { tables: ["a", "q", "b", "c", "d", "json_each"], systemTables: ["e"] },
    ],
    [
      "create trigger x after insert on t begin insert into a select * from b; update c set d = 1; delete from e; end",
      { tables: ["a", "b", "c", "e"] },
    ],
    ["select * from sqlite_schema, t, pragma_custom", { introspects: true, tables: ["t", "pragma_custom"] }],
    ["select * from sqlite_master", { introspects: true }],
    ["select * from main.SQLITE_Schema union all select * from sqlite_temp_master", { introspects: true }],
    ["select * from pragma_table_info('t')", { introspects: true }],
    ["select random()", { nonDeterministic: true }],
    ["select RandomBlob(3)", { nonDeterministic: true }],
    ["select current_timestamp", { nonDeterministic: true }],
    ["select datetime()", { nonDeterministic: true }],
    ["select date('now', '-1 day')", { nonDeterministic: true }],
    ["select date('NOW')", { nonDeterministic: true }],
    ["select strftime('%Y')", { nonDeterministic: true }],
    ["select strftime('%Y', 'now')", { nonDeterministic: true }],
    ["select datetime(?)", { nonDeterministic: true }],
    ["select datetime('2020-01-01', 'start of month'), date(0), strftime('%Y', 5), unixepoch(null)", { nonDeterministic: false }],
    ["select last_insert_rowid(), changes()", { nonDeterministic: true }],
    ["update t set a = 1 where b > (select max(c) from u where julianday('now') > c)", { nonDeterministic: true }],
    ["select 'random()', \"current_timestamp\", lower('now')", { nonDeterministic: false }],
    ["select sum(a) filter (where random() > 0) over (partition by b order by c) from t", { nonDeterministic: true }],
    ["select 1 from t window w as (order by random())", { nonDeterministic: true }],
    ["insert into t(a) values (1) on conflict(a) do update set b = random()", { nonDeterministic: true }],
    ["insert into t(a) values (1) returning random()", { nonDeterministic: true }],
    ["select 1 union select 2 order by random() limit 1", { nonDeterministic: true }],
    ["select group_concat(a order by random()) from t", { nonDeterministic: true }],
    ["select * from a join b on random() > 0", { nonDeterministic: true }],
    ["select case when 1 then random() end", { nonDeterministic: true }],
    ["select cast(a between 1 and random() as text) collate nocase", { nonDeterministic: true }],
    ["select a like 'x' escape random()", { nonDeterministic: true }],
    ["select * from json_each(random())", { nonDeterministic: true }],
    ["with a as (select random()) select * from a", { nonDeterministic: true }],
    ["create index i on t(a) where b > random()", { nonDeterministic: true }],
    ["create table t(a default (random()), check (b > 0))", { nonDeterministic: true }],
  ])("%s", (sql, expected) => {
    expect(classify(sql)).toMatchObject({ references: expected });
  });
});

describe("refused, with what to use instead", () => {
  test.each<[string, RegExp, number?]>([
    ["attach 'x.db' as x", /^ATTACH is not supported: .*second connection/],
    ["detach x", /^DETACH is not supported/],
    ["vacuum", /garbage collector/],
    ["vacuum main into 'x.db'", /atomcast backup/],
    [" -- é\nvacuum", /garbage collector/, 7],
    ["create virtual table f using fts5(a)", /virtual tables are not supported: use an ordinary table/],
    ["create temp table t(a)", /TEMP objects are not supported: use WITH/],
    ["create temporary view v as select 1", /TEMP objects/],
    ["create temp trigger x after insert on t begin select 1; end", /TEMP objects/],
    ["create table temp.t(a)", /TEMP objects/, 13],
    ["drop trigger temp.capture", /TEMP objects/, 13],
    ["select * from 'temp'.t", /TEMP objects/, 14],
    ["pragma temp.table_info(t)", /TEMP objects/],
    ["explain attach 'x' as y", /ATTACH/],
    ["select é, load_extension('x')", /load_extension\(\) is not supported/, 11],
    ["create trigger x after insert on t begin select load_extension('x'); end", /load_extension/, 48],
    ["select _nid(1)", /^no such function: _nid$/, 7],
    ["create view v as select _USER()", /^no such function: _user$/, 24],
    ["delete from system.engines", /read-only/],
    ["create table system.t(a)", /read-only/],
    ["pragma writable_schema = on", /PRAGMA writable_schema cannot be set: use CREATE, ALTER and DROP/],
    ["pragma main.schema_version = 5", /user_version/],
    ["pragma recursive_triggers = 1", /never recursive/],
    ["pragma hard_heap_limit = 5", /memory budget/],
    ["explain pragma foreign_keys = on", /EXPLAIN of a PRAGMA/],
  ])("%s", (sql, message, offset = 0) => {
    const info = classify(sql);
    expect(info).toMatchObject({ kind: "refused", fault: { offset } });
    expect("kind" in info && info.kind === "refused" ? info.fault.message : "").toMatch(message);
  });
});

describe("pragmas", () => {
  test.each<[string, object]>([
    ["pragma table_info(t)", { name: "table_info", schema: null, value: "t", effect: "read", writes: false, readsRows: false }],
    ["PRAGMA Main.Foreign_Key_Check('a b')", { name: "foreign_key_check", schema: "Main", value: "a b", effect: "read", readsRows: true }],
    ["pragma foreign_keys", { value: null, effect: "session", writes: false }],
    ["pragma foreign_keys = OFF", { value: "OFF", effect: "session", writes: true }],
    ["pragma foreign_keys(on)", { value: "on", effect: "session", writes: true }],
    ["pragma user_version = -5", { value: "-5", effect: "database", writes: true }],
    ["pragma journal_mode = wal", { value: "wal", effect: "ignored", writes: false }],
    ["pragma journal_mode = delete", { value: "delete", effect: "ignored" }],
    ["pragma journal_mode", { value: null, effect: "read" }],
    ["pragma optimize", { effect: "ignored" }],
    ["pragma wal_checkpoint(truncate)", { effect: "ignored" }],
    ["pragma recursive_triggers = off", { effect: "ignored" }],
    ["pragma synchronous = +1", { value: "1", effect: "ignored" }],
    ["pragma cache_size = - 5", { value: "-5" }],
    ["pragma cache_size = -2000", { value: "-2000", effect: "ignored" }],
    ['pragma "no such" = 1', { name: "no such", effect: "read", writes: false }],
    ["pragma constructor", { name: "constructor", effect: "read" }],
  ])("%s", (sql, expected) => {
    expect(classify(sql)).toMatchObject({ kind: "pragma", ...expected });
  });

  test("every PRAGMA that SQLite knows has its rule", () => {
    const names = openSqlite("").prepare<[], string>("select name from pragma_pragma_list order by name").pluck().all();
    expect(Object.keys(pragmaRules).sort()).toEqual(names);
  });

  test("flags are read as SQLite reads them", () => {
    const database = openSqlite("");
    for (const value of ["on", "ON", "yes", "true", "1", "2", "01", "off", "no", "false", "0", "00", "maybe", "x", "256", "257"]) {
      database.exec("pragma recursive_triggers = off");
      database.exec(`pragma recursive_triggers = ${value}`);
      expect([value, pragmaBoolean(value)]).toEqual([value, database.pragma("recursive_triggers", { simple: true }) === 1n]);
    }
  });

  test("a PRAGMA without an argument never writes", () => {
    for (const name of Object.keys(pragmaRules)) expect(["read", "session", "database", "ignored"]).toContain(pragmaMeaning(name, null).effect);
  });
});

describe("faults", () => {
  test.each<[string, object]>([
    ["", { code: "SQL_NO_STATEMENT", offset: -1 }],
    [" ; -- c\n;", { code: "SQL_NO_STATEMENT", offset: -1 }],
    ["select 1; select 2", { code: "SQL_MANY_STATEMENTS", offset: 10 }],
    ["select 1; rubbish", { code: "SQL_MANY_STATEMENTS", offset: 10 }],
    ["selec 1", { code: "SQLITE_ERROR", message: 'near "selec": syntax error', offset: 0 }],
    ["select 'é' frm t where", { code: "SQLITE_ERROR", message: 'near "t": syntax error', offset: 16 }],
    ["select 1 from", { code: "SQLITE_ERROR", message: "incomplete input", offset: 13 }],
    ["select 'abc", { code: "SQLITE_ERROR", message: 'unrecognized token: "\'abc"', offset: 7 }],
    ["begin readonly", { code: "SQLITE_ERROR", message: 'near "readonly": syntax error', offset: 6 }],
    ["update t set a = 1 limit", { code: "SQLITE_ERROR" }],
    ["update t set a = 1 order by limit 1", { code: "SQLITE_ERROR" }],
    ["create table t(a, a)", { code: "SQLITE_ERROR", message: "duplicate column name: a", offset: 18 }],
    ["select 1\0", { code: "SQLITE_ERROR", offset: 8 }],
  ])("%j", (sql, expected) => {
    expect(classify(sql)).toMatchObject(expected);
  });

  test("messages are SQLite's", () => {
    const database = openSqlite("");
    for (const sql of [
      "selec 1",
      "select 1 from",
      "select 'abc",
      "select #",
      "select (1",
      "create table t(a",
      "select 1 limit",
      "select x'1'",
      "select 1_",
    ]) {
      const info = classify(sql);
      expect(() => database.prepare(sql)).toThrowError(isFault(info) ? info.message : "a fault");
    }
  });

  test("a statement of too many tokens is refused before it is parsed", () => {
    expect(classify(`select ${"1,".repeat(600_000)}1`)).toMatchObject({ code: "SQLITE_TOOBIG" });
  });

  test("a chain as long as SQLite takes, and longer, needs no stack", () => {
    expect(classify(`select ${"1 or ".repeat(50_000)}random()`)).toMatchObject({ kind: "read", references: { nonDeterministic: true } });
    expect(classify(`select ${"(".repeat(20_000)}1${")".repeat(20_000)}`)).toMatchObject({ kind: "read" });
  });
});
