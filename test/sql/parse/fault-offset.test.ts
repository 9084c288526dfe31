import { expect, test } from "vitest";
import { faultOffset } from "../../../src/sql/parse/fault-offset.js";
import { openSqlite } from "./plain-sqlite.js";

test.each<[string, number]>([
  ["selec 1", 0],
  ["select 'é' frm t where", 16],
  ["select 1 from", 13],
  ["select 'abc", 7],
  ["select * from nope", 14],
  ["select é, a from t where b = 1", 7],
  ["select t.zzz from t", 7],
  ['select a, "Nope"(1) from t', 10],
  ["select nope(1)", 7],
  ["select a from t where main.u.b", 22],
  ["select a from t as x, t as y", 7],
  ["insert into t(a, nope) values (1, 2)", -1],
  ["create table t(a)", -1],
])("%s", (sql, offset) => {
  const database = openSqlite("create table t(a)");
  let message = "";
  try {
    database.prepare(sql);
  } catch (error) {
    message = error instanceof Error ? error.message : "";
  }
  expect(message).not.toBe("");
  expect(faultOffset(sql, message)).toBe(offset);
});

test("a message of which the text has nothing has no place", () => {
  expect(faultOffset("select 1", "database is locked")).toBe(-1);
  expect(faultOffset("select 1", "no such table: t")).toBe(-1);
  expect(faultOffset("selec 1", 'near "x": syntax error')).toBe(-1);
});
