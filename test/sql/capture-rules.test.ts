/**
 * local-store's rules of capture, one by one: each statement runs on a store that holds none of the rows that it meets, and on one that holds them all; its answer,
 * and every row on both, are plain SQLite's.
 */
import { describe, expect, test } from "vitest";
import { type BesideSqlite, beside } from "./beside-sqlite.js";

/** Of what the statements answer on both kinds of stores. */
function onBoth(schema: readonly string[], ...requests: readonly (string | readonly string[])[]): { last: readonly string[]; s: BesideSqlite } {
  let answer: { last: readonly string[]; s: BesideSqlite } | undefined;
  for (const isHeld of [true, false]) {
    const s = beside(schema);
    let last: readonly string[] = [];
    for (const request of requests) {
      if (isHeld) for (const [name] of s.c.rows(1, "SELECT name FROM sqlite_schema WHERE type = 'table'")) s.c.rows(1, `SELECT * FROM "${name}"`);
      else s.forget();
      last = s.both(1, ...(typeof request === "string" ? [request] : request));
      if (isHeld) s.expectSame(`after ${request}`);
    }
    s.expectSame(`after ${requests.join("; ")}`);
    answer = { last, s };
  }
  if (answer === undefined) throw new Error("nothing was run");
  return answer;
}

const logged = [
  "CREATE TABLE log(x)",
  "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, v, updated INT DEFAULT 0)",
  "CREATE TRIGGER t_updated AFTER UPDATE ON t BEGIN UPDATE t SET updated = updated + 1 WHERE id = new.id; END",
  "CREATE TRIGGER t_before BEFORE DELETE ON t BEGIN INSERT INTO log VALUES ('before ' || old.id); END",
  "CREATE TRIGGER t_after AFTER DELETE ON t BEGIN INSERT INTO log VALUES ('after ' || old.id); END",
  "INSERT INTO t(id, u, v) VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
];

test("the usual updated_at trigger runs once, and the row has what it wrote", () => {
  const { s } = onBoth(logged, "UPDATE t SET v = 5 WHERE id = 2", "UPDATE t SET v = v + 1 WHERE u = 'b'", "UPDATE t SET updated = 9 WHERE id = 3");
  expect(s.c.rows(0, "SELECT id, v, updated FROM t ORDER BY id")).toEqual([
    [1n, 1n, 0n],
    [2n, 6n, 2n],
    [3n, 3n, 10n],
  ]);
});

test("REPLACE fires no user's delete trigger, and DELETE does", () => {
  const { s } = onBoth(
    logged,
    "REPLACE INTO t(id, u) VALUES (1, 'x')",
    "REPLACE INTO t(id, u) VALUES (9, 'b')",
    "UPDATE OR REPLACE t SET u = 'c' WHERE id = 1",
  );
  expect(s.c.rows(0, "SELECT id, u FROM t ORDER BY id")).toEqual([
    [1n, "c"],
    [9n, "b"],
  ]);
  expect(s.c.rows(0, "SELECT * FROM log")).toEqual([]);
  s.both(1, "DELETE FROM t WHERE id = 1");
  s.expectSame();
  expect(s.c.rows(0, "SELECT * FROM log ORDER BY x")).toEqual([["after 1"], ["before 1"]]);
});

describe("REPLACE takes its victims, held or not", () => {
  test.each<[string, readonly string[], string, string]>([
    ["key", ["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 1), (2, 2)"], "REPLACE INTO t VALUES (1, 7)", "1, 7 | 2, 2"],
    [
      "key without rowid",
      ["CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID", "INSERT INTO t VALUES ('a', 1), ('b', 2)"],
      "REPLACE INTO t VALUES ('A', 7)",
      '"A", 7 | "b", 2',
    ],
    [
      "UNIQUE",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)", "INSERT INTO t VALUES (1, 5), (2, 6)"],
      "REPLACE INTO t VALUES (9, 5.0)",
      "2, 6 | 9, 5.0",
    ],
    [
      "NOCASE",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT COLLATE NOCASE UNIQUE)", "INSERT INTO t VALUES (1, 'ab'), (2, 'é')"],
      "REPLACE INTO t VALUES (8, 'AB'), (9, 'É')",
      '2, "é" | 8, "AB" | 9, "É"',
    ],
    [
      "partial",
      [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, u, v)",
        "CREATE UNIQUE INDEX i ON t(u) WHERE v > 3",
        "INSERT INTO t VALUES (1, 5, 4), (2, 5, 1), (3, 6, 9)",
      ],
      "REPLACE INTO t VALUES (8, 5, 7), (9, 6, 0)",
      "2, 5, 1 | 3, 6, 9 | 8, 5, 7 | 9, 6, 0",
    ],
    [
      "expression",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u)", "CREATE UNIQUE INDEX i ON t(lower(u), length(u))", "INSERT INTO t VALUES (1, 'Ab'), (2, 'abc')"],
      "REPLACE INTO t VALUES (9, 'aB')",
      '2, "abc" | 9, "aB"',
    ],
    [
      "generated",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, g INT AS (a % 5) VIRTUAL UNIQUE)", "INSERT INTO t(id, a) VALUES (1, 3), (2, 4)"],
      "REPLACE INTO t(id, a) VALUES (9, 8)",
      "2, 4, 4 | 9, 8, 3",
    ],
    [
      "NOT NULL with a default",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u INT NOT NULL DEFAULT 7 UNIQUE)", "INSERT INTO t VALUES (1, 7), (2, 8)"],
      "REPLACE INTO t VALUES (9, NULL)",
      "2, 8 | 9, 7",
    ],
    [
      "as a column's own conflict clause",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE ON CONFLICT REPLACE)", "INSERT INTO t VALUES (1, 7), (2, 8)"],
      "UPDATE t SET u = 8 WHERE id = 1",
      "1, 8",
    ],
    [
      "several by one row",
      ["CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, w UNIQUE)", "INSERT INTO t VALUES (1, 7, 1), (2, 8, 2), (3, 9, 3), (4, 1, 4)"],
      "REPLACE INTO t VALUES (1, 8, 3)",
      "1, 8, 3 | 4, 1, 4",
    ],
  ])("by %s", (_, schema, sql, rows) => {
    const { last } = onBoth(schema, [sql, "SELECT * FROM t ORDER BY 1"]);
    expect(last[1]).toBe(rows);
  });
});

describe("UPSERT", () => {
  const schema = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT UNIQUE, b TEXT COLLATE NOCASE UNIQUE, v)",
    "INSERT INTO t VALUES (1, 10, 'x', 0), (2, 20, 'y', 0), (3, 30, 'z', 0)",
  ];
  const several =
    "ON CONFLICT (a) DO UPDATE SET v = v + 1 ON CONFLICT (b) DO NOTHING ON CONFLICT (id) DO UPDATE SET id = id + 50, v = 'moved' RETURNING id, v";
  test.each([
    ["the first target", "(9, 20, 'q', 1)", "2, 1"],
    ["a later target", "(9, 90, 'Z', 1)", ""],
    ["the key", "(3, 90, 'q', 1)", '53, "moved"'],
    ["two targets, in the order of their rows' conflicts", "(3, 10, 'y', 1)", null],
    ["none", "(9, 90, 'q', 1)", "9, 1"],
    ["a conflict in each row", "(3, 80, 'q', 1), (8, 10, 'r', 2), (7, 70, 'X', 3), (6, 20, 's', 4)", null],
  ])("of several targets meets %s, where the row is not held", (_, values, rows) => {
    const { last } = onBoth(schema, `INSERT INTO t VALUES ${values} ${several}`);
    if (rows !== null) expect(last).toEqual([rows]);
  });

  test("whose update meets another row that is not held fails as it does in SQLite", () => {
    const { last } = onBoth(schema, "INSERT INTO t VALUES (9, 10, 'n', 1) ON CONFLICT (a) DO UPDATE SET b = 'Y'");
    expect(last).toEqual(["SQLITE_CONSTRAINT_UNIQUE"]);
  });
});

describe("a unique value that an AFTER trigger changes", () => {
  const schema = (or: string): string[] => [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)",
    `CREATE TRIGGER g AFTER INSERT ON t WHEN new.u LIKE 'x%' BEGIN UPDATE ${or} t SET u = substr(new.u, 2) WHERE id = new.id; END`,
    "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
  ];
  test("is the one that counts, also where the row that has it is not held", () => {
    expect(onBoth(schema(""), "INSERT INTO t VALUES (7, 'xb')").last).toEqual(["SQLITE_CONSTRAINT_UNIQUE"]);
    expect(onBoth(schema(""), ["INSERT INTO t VALUES (7, 'xc')", "SELECT u FROM t WHERE id = 7"]).last[1]).toBe('"c"');
    expect(onBoth(schema("OR REPLACE"), ["INSERT INTO t VALUES (7, 'xb')", "SELECT id FROM t ORDER BY id"]).last[1]).toBe("1 | 7");
    expect(onBoth(schema("OR IGNORE"), ["INSERT INTO t VALUES (7, 'xb')", "SELECT u FROM t WHERE id = 7"]).last[1]).toBe('"xb"');
  });

  test("is free again for another row of the same statement", () => {
    const { last } = onBoth(
      schema(""),
      ["INSERT INTO t VALUES (7, 'xc'), (8, 'xc')", "SELECT count(*) FROM t"],
      ["INSERT INTO t VALUES (7, 'xc'), (8, 'xd')", "SELECT count(*) FROM t"],
    );
    expect(last).toEqual(["", "4"]);
  });
});

describe("a conflict in the midst of a statement", () => {
  const schema = [
    "CREATE TABLE log(x)",
    "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)",
    "CREATE TABLE r(id INTEGER PRIMARY KEY, how)",
    "CREATE TRIGGER t_log AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END",
    ...["ABORT", "FAIL", "ROLLBACK"].map(
      (how) =>
        `CREATE TRIGGER r_${how} BEFORE INSERT ON r WHEN new.how = '${how}' BEGIN INSERT INTO log VALUES ('r' || new.id); SELECT raise(${how}, 'no'); END`,
    ),
    "CREATE TRIGGER r_ignore BEFORE INSERT ON r WHEN new.how = 'IGNORE' BEGIN INSERT INTO log VALUES ('r' || new.id); SELECT raise(IGNORE); END",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
  ];
  const left = { ABORT: "10", FAIL: "10 | 11", ROLLBACK: "", IGNORE: "10 | 11 | 13", REPLACE: "10 | 11 | 12 | 13" } as const;
  test.each(Object.entries(left))("OR %s leaves what SQLite leaves, of the statement and of its transaction", (how, ids) => {
    const insert = `INSERT OR ${how} INTO t VALUES (11, 'p'), (12, 'b'), (13, 'q')`;
    const { last } = onBoth(schema, insert, "DELETE FROM t WHERE id > 2", "REPLACE INTO t VALUES (2, 'b')", [
      "BEGIN",
      "INSERT INTO t VALUES (10, 'n')",
      insert,
      "SELECT id FROM t WHERE id >= 10 ORDER BY id",
      "COMMIT",
    ]);
    expect(last[3]).toBe(ids);
    expect(last[4]).toBe(how === "ROLLBACK" ? "SQLITE_ERROR" : "");
  });

  test.each(["ABORT", "FAIL", "ROLLBACK", "IGNORE"] as const)(
    "RAISE(%s) leaves what SQLite leaves, of the statement and of its transaction",
    (how) => {
      const insert = `INSERT INTO r VALUES (11, 'p'), (12, '${how}'), (13, 'q')`;
      const { last } = onBoth(schema, insert, "DELETE FROM r", [
        "BEGIN",
        "INSERT INTO r VALUES (10, 'n')",
        insert,
        "SELECT id FROM r ORDER BY id",
        "COMMIT",
      ]);
      expect(last[3]).toBe(left[how]);
      expect(last[4]).toBe(how === "ROLLBACK" ? "SQLITE_ERROR" : "");
    },
  );
});

describe("foreign keys' actions", () => {
  const levels = (action: string): string[] => [
    "CREATE TABLE a(id INTEGER PRIMARY KEY)",
    `CREATE TABLE b(id INTEGER PRIMARY KEY REFERENCES a(id) ${action}, v)`,
    `CREATE TABLE c(id INTEGER PRIMARY KEY, b INT REFERENCES b(id) ${action})`,
    "CREATE INDEX c_b ON c(b)",
    `CREATE TABLE d(k INT PRIMARY KEY REFERENCES c(id) ${action.replace("UPDATE CASCADE", "UPDATE SET NULL")}, v)`,
    "INSERT INTO a VALUES (1), (2), (3)",
    "INSERT INTO b VALUES (1, 'x'), (2, 'y')",
    "INSERT INTO c VALUES (1, 1), (2, 1), (3, 2), (4, NULL)",
    "INSERT INTO d VALUES (1, 'p'), (2, 'q'), (3, 'r')",
  ];
  test("go through three levels of which no row is held", () => {
    const action = "ON DELETE CASCADE ON UPDATE CASCADE";
    const { last } = onBoth(levels(action), "UPDATE a SET id = 11 WHERE id = 1", [
      "DELETE FROM a WHERE id = 11",
      "SELECT group_concat(id) FROM a",
      "SELECT group_concat(id) FROM b",
      "SELECT group_concat(id) FROM c",
      "SELECT group_concat(v) FROM d",
    ]);
    expect(last).toEqual(["", '"2,3"', '"2"', '"3,4"', '"r"']);
    const stopped = levels(action).map((sql) => (sql.startsWith("CREATE TABLE d") ? sql.replace(/ON DELETE CASCADE/, "ON DELETE NO ACTION") : sql));
    expect(onBoth(stopped, "DELETE FROM a WHERE id = 1").last).toEqual(["SQLITE_CONSTRAINT_FOREIGNKEY"]);
  });

  test("go through a tree that refers to itself", () => {
    const tree = (action: string): string[] => [
      `CREATE TABLE tree(id INTEGER PRIMARY KEY, up INT DEFAULT 1 REFERENCES tree(id) ${action})`,
      "CREATE INDEX tree_up ON tree(up)",
      "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 1), (4, 2), (5, 4), (6, 5), (7, 3), (8, 8)",
    ];
    const rest = "SELECT group_concat(id || ':' || coalesce(up, '')) FROM (SELECT * FROM tree ORDER BY id)";
    expect(onBoth(tree("ON DELETE CASCADE"), ["DELETE FROM tree WHERE id = 2", rest]).last[1]).toBe('"1:,3:1,7:3,8:8"');
    expect(onBoth(tree("ON DELETE CASCADE"), ["DELETE FROM tree WHERE id = 8", rest]).last[1]).toBe('"1:,2:1,3:1,4:2,5:4,6:5,7:3"');
    expect(onBoth(tree("ON DELETE SET DEFAULT"), ["DELETE FROM tree WHERE id = 4", rest]).last[1]).toBe('"1:,2:1,3:1,5:1,6:5,7:3,8:8"');
    onBoth(
      tree("ON UPDATE CASCADE"),
      "UPDATE tree SET id = id + 100 WHERE id IN (1, 4)",
      "DELETE FROM tree WHERE id = 6",
      "DELETE FROM tree WHERE id = 101",
    );
    onBoth(tree("ON DELETE CASCADE"), "REPLACE INTO tree VALUES (2, NULL)");
  });

  test("follow composite keys in the parent's collation", () => {
    const schema = [
      "CREATE TABLE p(a TEXT COLLATE NOCASE, b INT, v, PRIMARY KEY (a, b)) WITHOUT ROWID",
      "CREATE TABLE k(id INTEGER PRIMARY KEY, a TEXT, b, FOREIGN KEY (a, b) REFERENCES p(a, b) ON UPDATE CASCADE ON DELETE SET NULL)",
      "CREATE INDEX k_ab ON k(a COLLATE NOCASE, b)",
      "INSERT INTO p VALUES ('x', 1, 0), ('x', 2, 0), ('y', 1, 0)",
      "INSERT INTO k VALUES (1, 'X', 1), (2, 'x', 1), (3, 'X', 2), (4, 'Y', NULL), (5, 'y', 1.0)",
    ];
    const { last } = onBoth(schema, "UPDATE p SET a = 'zZ' WHERE a = 'X' AND b = 1", "UPDATE p SET a = 'Y' WHERE a = 'y'", [
      "DELETE FROM p WHERE a = 'zz'",
      "SELECT group_concat(id || coalesce(a, '-') || coalesce(b, '-')) FROM (SELECT * FROM k ORDER BY id)",
    ]);
    expect(last[1]).toMatch(/^"1--,2--,3X2,4Y-,5[yY]1(\.0)?"$/);
    expect(onBoth(schema, "INSERT INTO k VALUES (9, 'ZZ', 1)").last).toEqual(["SQLITE_CONSTRAINT_FOREIGNKEY"]);
  });

  test.each([
    ["INT", "", "1", "'1'"],
    ["INT", "TEXT", "1", "'1.0'"],
    ["REAL", "TEXT", "1", "'1'"],
    ["TEXT", "", "'1'", "1"],
    ["NUMERIC", "BLOB", "2.5", "' 2.50 '"],
  ])(
    "or their absence: a parent of type %s is missed by a child of type %s that has what is equal to it by conversion alone",
    (parent, child, has, refers) => {
      for (const action of ["", "ON UPDATE CASCADE ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED"]) {
        const schema = [
          `CREATE TABLE p(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b ${parent}, UNIQUE (a, b))`,
          `CREATE TABLE k(id INTEGER PRIMARY KEY, a TEXT, b ${child}, FOREIGN KEY (a, b) REFERENCES p(a, b) ${action})`,
          "CREATE INDEX k_ab ON k(b, a COLLATE NOCASE)",
          `INSERT INTO p VALUES (7, 'x', ${has}), (8, 'y', ${has})`,
          `INSERT INTO k VALUES (1, 'X', ${refers})`,
        ];
        const state = ["SELECT * FROM k", "SELECT id FROM p ORDER BY id", "PRAGMA foreign_key_check"];
        onBoth(schema, "DELETE FROM p WHERE id = 7", state);
        onBoth(schema, "UPDATE p SET b = 9 WHERE a = 'x'", state);
        onBoth(schema, "UPDATE p SET a = 'z'", state);
        expect(onBoth(schema, "DELETE FROM p WHERE id = 8", "DELETE FROM k", "DELETE FROM p WHERE id = 7").last).toEqual([""]);
      }
    },
  );
});

// Seed 7037804 of the differential test: engines could not apply what was committed.
test.each(["UNIQUE (g)", "CHECK (1)"])("REPLACE puts a default in the place of a NULL, and generated columns follow: %s", (constraint) => {
  const schema = [
    `CREATE TABLE t(id INTEGER PRIMARY KEY, c DEFAULT 5 NOT NULL, d, g AS (coalesce(c, 1)) STORED, h AS (g + 1), ${constraint})`,
    "CREATE UNIQUE INDEX t_h ON t(h * 2, d)",
    "INSERT INTO t(id, c, d) VALUES (1, 5, 'a'), (2, 6, 'a'), (3, 1, 'a')",
  ];
  onBoth(schema, "REPLACE INTO t(id, c, d) VALUES (17, NULL, 'a')", "SELECT * FROM t");
  onBoth(schema, "UPDATE OR REPLACE t SET c = NULL WHERE id = 2", "REPLACE INTO t(id, c, d) VALUES (4, NULL, 'b')", "SELECT * FROM t");
  onBoth(schema, "INSERT INTO t(id, c, d) VALUES (18, NULL, 'a')", "INSERT INTO t(id, d) VALUES (19, 'c')", "SELECT * FROM t");
});

// Seed 7044633 of the differential test.
test("a statement that fails as a whole says why it failed, whatever word stands in what it does not use", () => {
  const schema = [
    "CREATE TABLE p(k INTEGER PRIMARY KEY, n UNIQUE ON CONFLICT FAIL)",
    "CREATE TRIGGER p_no BEFORE INSERT ON p BEGIN SELECT raise(FAIL, 'no') WHERE new.n = 9; END",
    "CREATE TABLE k(id INTEGER PRIMARY KEY, u UNIQUE, p REFERENCES p)",
  ];
  const orphans = ["PRAGMA foreign_keys = OFF", "INSERT INTO k VALUES (1, 1, 8), (2, 2, 9)", "PRAGMA foreign_keys = ON"];
  expect(onBoth(schema, orphans, "UPDATE k SET u = 5, p = p + 1").last.join()).toContain("UNIQUE");
});

// Seed 7016227 of the differential test.
test("a number of a parent without a type, and the same as text of a child, have nothing to do with each other", () => {
  for (const action of ["", "ON UPDATE CASCADE ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED"]) {
    const schema = [
      "CREATE TABLE p(id INTEGER PRIMARY KEY, b BLOB UNIQUE)",
      `CREATE TABLE k(id INTEGER PRIMARY KEY, b TEXT REFERENCES p(b) ${action})`,
      "CREATE INDEX k_b ON k(b)",
      "INSERT INTO p VALUES (1, 0), (2, 'a'), (3, '0')",
      "INSERT INTO k VALUES (1, 'a')",
    ];
    const orphan = ["PRAGMA foreign_keys = OFF", "INSERT INTO k VALUES (2, 0)", "PRAGMA foreign_keys = ON"];
    onBoth(
      schema,
      orphan,
      "UPDATE p SET b = 7 WHERE id = 1",
      "DELETE FROM p WHERE id = 1",
      "DELETE FROM p WHERE id = 2",
      "DELETE FROM p WHERE id = 3",
    );
    onBoth(schema, "DELETE FROM p WHERE id = 3", orphan, "DELETE FROM p WHERE id = 1", "SELECT * FROM k");
  }
});

test("a parent that is replaced under a key that is equal by the key's own collation leaves its children without one", () => {
  const schema = [
    "CREATE TABLE p(k TEXT, n INT, a NUMERIC UNIQUE, PRIMARY KEY (k COLLATE NOCASE DESC, n)) WITHOUT ROWID",
    "CREATE TABLE c(id INTEGER PRIMARY KEY, f REFERENCES p(a) DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO p VALUES ('b', 5, 7), ('B', 7, 6)",
    "INSERT INTO c VALUES (1, 6)",
  ];
  const { last } = onBoth(schema, "UPDATE OR REPLACE p SET n = a", "REPLACE INTO p VALUES ('b', 7, 8)", "UPDATE OR REPLACE p SET n = 7 WHERE n = 5");
  expect(last.join()).toContain("FOREIGNKEY");
});
