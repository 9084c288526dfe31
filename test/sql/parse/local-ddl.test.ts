/** local-store.md, rules 4, 5, 8, 9 and 22: the user's DDL as the local store runs it. */
import { describe, expect, test } from "vitest";
import { splitCreateTableAs } from "../../../src/sql/parse/create-table-as.js";
import { type LocalDdl, localDdl } from "../../../src/sql/parse/local-ddl.js";
import { type InsertTableLookup, rewriteInsertIds } from "../../../src/sql/parse/rewrite-insert-ids.js";
import { contents, defineNextId, lookupOf, notFault, openSqlite, outcome, type Sqlite } from "./plain-sqlite.js";

const nothing: InsertTableLookup = () => null;

function local(sql: string, lookup = nothing): LocalDdl {
  return notFault(localDdl(sql, lookup));
}

describe("CREATE TABLE", () => {
  test.each<[string, string]>([
    ["create table t(id integer primary key autoincrement, a)", "create table t(id integer primary key              , a)"],
    [
      "create table t(id integer primary key asc on conflict fail AutoIncrement not null)",
      "create table t(id integer primary key asc on conflict fail               not null)",
    ],
    ["create table t(id integer, primary key(id autoincrement))", "create table t(id integer, primary key(id              ))"],
    [
      "create table t(a \"autoincrement\", b default 'autoincrement' /* autoincrement */)",
      "create table t(a \"autoincrement\", b default 'autoincrement' /* autoincrement */)",
    ],
    ["create table t(a references p)", "create table t(a references p DEFERRABLE INITIALLY DEFERRED)"],
    [
      "create table t(a int references p(x) on delete restrict on update cascade not null, b)",
      "create table t(a int references p(x) on delete NO ACTION on update cascade DEFERRABLE INITIALLY DEFERRED not null, b)",
    ],
    [
      "create table t(a, b, foreign key(a, b) references p(x, y) match full on update set null on delete set default not deferrable initially immediate)",
      "create table t(a, b, foreign key(a, b) references p(x, y) match full on update set null on delete set default DEFERRABLE INITIALLY DEFERRED                                   )",
    ],
    [
      "create table t(a references p not null deferrable initially deferred, b references q)",
      "create table t(a references p DEFERRABLE INITIALLY DEFERRED not null                              , b references q DEFERRABLE INITIALLY DEFERRED)",
    ],
    [
      "create table t(a constraint f references p constraint d deferrable)",
      "create table t(a constraint f references p DEFERRABLE INITIALLY DEFERRED constraint d           )",
    ],
    [
      "create table t(a references restrict(restrict) on delete no action)",
      "create table t(a references restrict(restrict) on delete no action DEFERRABLE INITIALLY DEFERRED)",
    ],
    [
      "create table t(a references p /* ) */ (x) -- on delete restrict\n)",
      "create table t(a references p /* ) */ (x) DEFERRABLE INITIALLY DEFERRED -- on delete restrict\n)",
    ],
    [
      "create table t(a references p on delete cascade on delete restrict)",
      "create table t(a references p on delete cascade on delete NO ACTION DEFERRABLE INITIALLY DEFERRED)",
    ],
    [
      "create table t(restrict, initially, action check (restrict > initially))",
      "create table t(restrict, initially, action check (restrict > initially))",
    ],
    ["create table t(a) strict, without rowid", "create table t(a) strict, without rowid"],
  ])("%s", (sql, expected) => {
    expect(local(sql).sql).toBe(expected);
  });

  test("what was declared", () => {
    const ddl = local(`create table c(
      id integer primary key autoincrement,
      a int references "P 1" deferrable initially deferred,
      b int references p(x) on delete restrict on update set null,
      c int references p on delete cascade deferrable initially immediate,
      d int, e int,
      constraint f foreign key (d, "e") references q(y, z) on delete set default on update no action not deferrable initially deferred,
      foreign key (d) references q(z) on delete cascade on delete restrict deferrable initially deferred)`);
    expect(ddl.autoincrement).toBe(true);
    const noAction = { onDelete: "noAction", onUpdate: "noAction", initiallyDeferred: false };
    expect(ddl.foreignKeys).toEqual([
      { ...noAction, columns: ["a"], parentTable: "P 1", parentColumns: [], initiallyDeferred: true },
      { ...noAction, columns: ["b"], parentTable: "p", parentColumns: ["x"], onDelete: "restrict", onUpdate: "setNull" },
      { ...noAction, columns: ["c"], parentTable: "p", parentColumns: [], onDelete: "cascade" },
      { ...noAction, columns: ["d", "e"], parentTable: "q", parentColumns: ["y", "z"], onDelete: "setDefault" },
      { ...noAction, columns: ["d"], parentTable: "q", parentColumns: ["z"], onDelete: "restrict", initiallyDeferred: true },
    ]);
  });

  const parents = "create table p(x primary key, y, unique(x, y)); insert into p values (1, 1);";
  /** Whether SQLite itself defers: a child without a parent is then accepted inside a transaction. */
  function defers(definition: string): boolean {
    const database = openSqlite(parents);
    database.exec(`create table c${definition}`);
    database.exec("begin");
    const accepted = "changes" in (outcome(database, "insert into c values (7, 7)") as object);
    database.exec("rollback");
    return accepted;
  }

  test.each([
    "(a references p(x), b)",
    "(a references p(x) deferrable, b)",
    "(a references p(x) deferrable initially deferred, b)",
    "(a references p(x) deferrable initially immediate, b)",
    "(a references p(x) not deferrable initially deferred, b)",
    "(a references p(x), b deferrable initially deferred)",
    "(a references p(x) deferrable initially deferred, b not deferrable)",
    "(a references p(x) not null deferrable initially deferred deferrable, b)",
    "(a deferrable initially deferred references p(x), b)",
    "(a, b, foreign key(a) references p(x) deferrable initially deferred)",
    "(a, b, foreign key(a, b) references p(x, y) on delete restrict)",
  ])("SQLite agrees on what is deferred, and defers all that is rewritten: %s", (definition) => {
    const ddl = local(`create table c${definition}`);
    expect(ddl.foreignKeys.map((key) => key.initiallyDeferred)).toEqual([defers(definition)]);
    expect(defers(ddl.sql.replace("create table c", ""))).toBe(true);
  });

  test("SQLite agrees on columns, parents and actions", () => {
    const definition = `create table c(a references p on delete cascade, b references p(x) on update set null on delete set default,
      c, d, foreign key(c, d) references p(x, y) match simple on delete no action, foreign key(d) references q(z) on delete restrict on update restrict)`;
    const told = (database: Sqlite) =>
      database
        .prepare<[], { id: bigint; table: string; from: string; to: string | null; on_update: string; on_delete: string }>(
          "select * from pragma_foreign_key_list('c') order by id desc, seq",
        )
        .all();
    const plain = openSqlite(`${parents}${definition}`);
    const ddl = local(definition);
    const fromText = ddl.foreignKeys.flatMap((key) =>
      key.columns.map((from, index) => [key.parentTable, from, key.parentColumns[index] ?? null, key.onUpdate, key.onDelete]),
    );
    const spelled: Record<string, string> = {
      "NO ACTION": "noAction",
      RESTRICT: "restrict",
      CASCADE: "cascade",
      "SET NULL": "setNull",
      "SET DEFAULT": "setDefault",
    };
    expect(fromText).toEqual(told(plain).map((one) => [one.table, one.from, one.to, spelled[one.on_update], spelled[one.on_delete]]));
    const rewritten = told(openSqlite(`${parents}${ddl.sql}`));
    const withoutRestrict = (action: string) => (action === "RESTRICT" ? "NO ACTION" : action);
    expect(rewritten).toEqual(
      told(plain).map((one) => ({ ...one, on_update: withoutRestrict(one.on_update), on_delete: withoutRestrict(one.on_delete) })),
    );
  });
});

describe("ALTER TABLE", () => {
  test.each<[string, object, string]>([
    ["alter table t rename to u", { kind: "renameTable", to: "u" }, "never"],
    ['alter table t rename column a to "b c"', { kind: "renameColumn", from: "a", to: "b c" }, "never"],
    ["alter table t rename a to b", { kind: "renameColumn", from: "a", to: "b" }, "never"],
    ["alter table t drop column a", { kind: "dropColumn", column: "a" }, "never"],
    ["alter table t add a", { kind: "addColumn", column: "a", constantDefault: true }, "never"],
    ["alter table t add column a text collate nocase", { kind: "addColumn", column: "a", constantDefault: true }, "never"],
    ["alter table t add column a default 5", { kind: "addColumn", constantDefault: true }, "ifStrict"],
    ["alter table t add column a default -5.5", { kind: "addColumn", constantDefault: true }, "ifStrict"],
    ["alter table t add column a default (1 + 1)", { kind: "addColumn", constantDefault: false }, "always"],
    ["alter table t add column a default current_timestamp", { kind: "addColumn", constantDefault: false }, "always"],
    ["alter table t add column a not null default 1", { kind: "addColumn", constantDefault: true }, "always"],
    ["alter table t add column a check (a > 0)", { kind: "addColumn" }, "always"],
    ["alter table t add column a as (b + 1)", { kind: "addColumn" }, "always"],
    ["alter table t add column a references p", { kind: "addColumn" }, "always"],
    ["alter table t alter column a set not null", { kind: "setNotNull", column: "a" }, "always"],
    ["alter table t alter column a drop not null", { kind: "dropNotNull", column: "a" }, "never"],
    ["alter table t add constraint c check (a > 0)", { kind: "addConstraint", name: "c" }, "always"],
    ["alter table t drop constraint c", { kind: "dropConstraint", name: "c" }, "never"],
  ])("%s", (sql, alter, looksAtRows) => {
    expect(local(sql)).toMatchObject({ alter, looksAtRows });
  });

  test("ADD COLUMN's foreign key is deferred too", () => {
    const ddl = local("alter table t add column a int references p(x) on delete restrict not deferrable default null");
    expect(ddl.sql).toBe(
      "alter table t add column a int references p(x) on delete NO ACTION DEFERRABLE INITIALLY DEFERRED                default null",
    );
    expect(ddl.foreignKeys).toEqual([
      { columns: ["a"], parentTable: "p", parentColumns: ["x"], onDelete: "restrict", onUpdate: "noAction", initiallyDeferred: false },
    ]);
  });

  test("what never looks at rows succeeds or fails alike with and without rows", () => {
    for (const change of [
      "add a",
      "add column a text collate nocase",
      "rename to u",
      "rename b to c",
      "drop column b",
      "add a default 5",
      "add a default -1",
    ]) {
      const outcomes = ["", "insert into t values (1, 2);"].map((rows) =>
        outcome(openSqlite(`create table t(id, b); ${rows}`), `alter table t ${change}`),
      );
      expect(outcomes[0]).toEqual(outcomes[1]);
    }
  });
});

test.each<[string, string]>([
  ["create index i on t(a, b desc)", "never"],
  ["create index i on t(a collate nocase)", "never"],
  ["create unique index i on t(a)", "always"],
  ["create index i on t(json_extract(a, '$'))", "always"],
  ["create index i on t(a) where abs(b) > 0", "always"],
  ["drop table t", "always"],
  ["drop index i", "never"],
  ["create view v as select 1", "never"],
])("rows that count: %s", (sql, looksAtRows) => {
  expect(local(sql)).toMatchObject({ sql, looksAtRows, alter: null, foreignKeys: [] });
});

describe("CREATE TRIGGER", () => {
  const table = { tableNumber: 9, idColumn: "id", insertableColumns: ["id", "a"], allColumns: ["id", "a"] };
  const lookup: InsertTableLookup = (name) => (name === "l" ? table : null);

  test.each<[string, string]>([
    ["create trigger x after insert on t begin select 1; end", "create trigger x after insert on t WHEN _user() begin select 1; end"],
    [
      "create trigger x before update of a, b on t for each row when new.a > 1 or old.b begin delete from u; end",
      "create trigger x before update of a, b on t for each row when _user() AND ( new.a > 1 or old.b) begin delete from u; end",
    ],
    [
      "create trigger x after delete on begin begin update u set a = 1; end",
      "create trigger x after delete on begin WHEN _user() begin update u set a = 1; end",
    ],
    [
      "create trigger x after delete on t when case when old.begin then 1 end begin replace into l values (old.id, 2); end",
      "create trigger x after delete on t when _user() AND ( case when old.begin then 1 end) begin replace into l  select coalesce(old.id,_nid(9)), 2 where true; end",
    ],
    [
      "create trigger x after insert on t begin insert into l(a) values (';'); update u set a = case when 1 then 2 end; insert into l(a) select new.a on conflict(id) do nothing; insert into v values (1); end",
      `create trigger x after insert on t WHEN _user() begin insert into l(a,"id")  select ';',_nid(9) where true; update u set a = case when 1 then 2 end; insert into l(a,"id") with _s(c0) as (select new.a) select c0,_nid(9) from _s where true on conflict(id) do nothing; insert into v values (1); end`,
    ],
    [
      "create trigger x instead of insert on v when 1 -- c\nbegin select 1; end",
      "create trigger x instead of insert on v when _user() AND ( 1) -- c\nbegin select 1; end",
    ],
  ])("%s", (sql, expected) => {
    expect(local(sql, lookup).sql).toBe(expected);
  });

  test("the tables that its body inserts into", () => {
    const sql =
      "create trigger x after insert on t begin insert into l(a) values (1); replace into M values (1); insert into l(a) values (2); delete from n; end";
    expect(local(sql, lookup).insertTargets).toEqual(["l", "M"]);
  });

  test("guarded triggers do what plain ones do, and nothing while rows are applied", () => {
    const schema = `create table t(id integer primary key, a, begin int); create table l(id integer primary key, a, b); create table h(a, b);
      create view v as select id, a from t;`;
    const triggers = [
      "create trigger t1 after insert on t begin insert into l(a, b) values (new.id, new.a); insert into h select new.a, id from l order by id desc limit 2; end",
      "create trigger t2 after update of a on t when new.a is not old.a and new.begin begin insert into h values ('u', new.a), ('o', old.a); end",
      "create trigger t3 before delete on t for each row when exists (select 1 from l where l.a = old.id) begin delete from l where a = old.id; insert into l default values; end",
      "create trigger t4 instead of insert on v begin insert into t(a, begin) values (new.a, 1); end",
      "create trigger t5 after insert on h when new.a = 'stop' begin select raise(abort, 'stopped'); end",
    ].map((sql) => sql.replace("insert into l default values; ", "insert into l(a) values (null); "));
    const statements = [
      "insert into t(a, begin) values ('x', 1)",
      "insert into t(a) values ('y')",
      "insert into v(a) values ('z')",
      "update t set a = a || '!'",
      "delete from t where id = 1",
      "insert into h values ('stop', 1)",
      "insert into t(a) select a from t",
    ];
    const plain = openSqlite(schema);
    const rewritten = openSqlite(schema);
    const ids = defineNextId(rewritten);
    for (const trigger of triggers) {
      plain.exec(trigger);
      rewritten.exec(local(trigger, lookupOf(rewritten)).sql);
    }
    for (const sql of statements) {
      ids.beginStatement();
      expect(outcome(rewritten, rewriteInsertIds(sql, lookupOf(rewritten)))).toEqual(outcome(plain, sql));
      expect(contents(rewritten)).toEqual(contents(plain));
    }
    const logged = (database: Sqlite) => database.prepare("select (select count(*) from l), (select count(*) from h)").raw().get();
    const before = logged(rewritten);
    rewritten.function("_user", () => 0n);
    rewritten.exec("insert into t(id, a, begin) values (77, 'applied', 1); update t set a = 'b'; delete from t");
    expect(logged(rewritten)).toEqual(before);
  });
});

describe("CREATE TABLE AS SELECT is made and filled as SQLite does", () => {
  const schema = `create table s(i integer, t text, r real, n numeric, b blob, d date, u, v varchar(10), bo boolean, "we ird""" int, "select" int);
    insert into s values (1, 'a', 1.5, '2', x'00', '2020', null, 'v', 1, 3, 4), ('x', 5, 6, 7.5, 'b', 8, 9, 10, 'no', null, null);
    create view vw as select i + 1 as j, t from s;`;
  test.each([
    "create table c as select * from s",
    "create table main.c as select i, t from s order by i desc",
    "create table if not exists \"c\" as select 1, 2 as two, 'x' as three, null, x'00', 1.5",
    "create table c as select i + 1, i || 1, cast(t as text) ct, cast(i as real), -i, count(*) over (), max(t) from s",
    "create table c as with q(a, b) as (select i, r from s) select a, b, a as a from q union all select 1, 'x', 3",
    "create table c as values (1, 'a'), (2, 'b')",
    'create table c as select i as "order", t as "a b", r as "é", n as "1x", b as x1, u as _u, v as "a""b", bo as abort from s',
    "create table c /* as */ as -- as\n select j, t from vw -- end",
    'create table "sel ect" as select i from s where i = ? or ?2',
    "create table begin as select i as a from s limit 0",
    "create table c as select i as aaaaaaaaaaaaaaaaaaaa, t as bbbbbbbbbbbbbbbbbbbbbbbbb, r from s",
    "create table c as select i as a, i as A, t as a from s",
  ])("%s", (sql) => {
    const plain = openSqlite(schema);
    plain.prepare(sql).run(...(sql.includes("?2") ? [1, { 2: 0 }] : []));
    const name = plain.prepare<[], string>("select name from sqlite_schema where type = 'table' and name <> 's'").pluck().get() ?? "";
    const columns = plain.prepare<[string], { name: string; type: string }>("select name, type from pragma_table_info(?)").all(name);
    const rewritten = openSqlite(schema);
    const parts = notFault(splitCreateTableAs(sql, columns));
    expect(local(sql)).toMatchObject({ sql, createsAsSelect: true });
    rewritten.exec(parts.create);
    const ids = defineNextId(rewritten);
    ids.beginStatement();
    rewritten.prepare(rewriteInsertIds(parts.insert, lookupOf(rewritten))).run(...(sql.includes("?2") ? [1, { 2: 0 }] : []));
    const schemaOf = (database: Sqlite) => database.prepare("select name, sql from main.sqlite_schema order by name").raw().all();
    expect(schemaOf(rewritten)).toEqual(schemaOf(plain));
    expect(contents(rewritten)).toEqual(contents(plain));
  });

  test("anything else is no such statement", () => {
    expect(splitCreateTableAs("create table t(a)", [])).toMatchObject({ code: "SQLITE_ERROR" });
  });
});
