/** clients.md, "Traps": better-sqlite3 does not tell parameter names. Numbers, names and binding are compared with SQLite's. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { normaliseParameters, parameterNumberMax } from "../../../src/sql/parse/normalise-parameters.js";
import { notFault, openSqlite } from "./plain-sqlite.js";

describe("numbers and names", () => {
  test.each<[string, readonly (string | null)[]]>([
    ["select 1", []],
    ["select ?, ?", [null, null]],
    ["select ?3, ?", [null, null, "?3", null]],
    ["select ?, ?1", ["?1"]],
    ["select ?1, ?01", ["?1"]],
    ["select :a, ?, :a, @a, $a", [":a", null, "@a", "$a"]],
    ["select :a, ?1, ?5, :b", [":a", null, null, null, "?5", ":b"]],
    ["select #a, #a, ?", ["#a", null]],
    ["select '?', \"?\", [?], -- ?\n ?", [null]],
    ["select * from t limit ? offset ?", [null, null]],
    ["update t set a = :x where b = ? order by c limit :x", [":x", null]],
  ])("%s", (sql, expected) => {
    const result = normaliseParameters(sql);
    expect(notFault(result).parameters.map((parameter) => parameter.name)).toEqual(expected);
  });

  test("numbers out of range are SQLite's errors", () => {
    expect(normaliseParameters("select 1, #1")).toEqual({ code: "SQLITE_ERROR", message: 'near "#1": syntax error', offset: 10 });
    const range = `variable number must be between ?1 and ?${parameterNumberMax}`;
    expect(normaliseParameters("select ?0")).toEqual({ code: "SQLITE_ERROR", message: range, offset: 7 });
    expect(normaliseParameters("select ?32767")).toEqual({ code: "SQLITE_ERROR", message: range, offset: 7 });
    expect(normaliseParameters("select ?32766, ?")).toEqual({ code: "SQLITE_ERROR", message: "too many SQL variables", offset: 15 });
    expect(normaliseParameters("select ?99999999999999999999")).toMatchObject({ message: range });
  });

  test("the text is changed only where two names share a key", () => {
    expect(notFault(normaliseParameters("select :a, ?, ?7")).sql).toBe("select :a, ?, ?7");
    expect(normaliseParameters("select :a, ?, @a, :a")).toEqual({
      sql: "select ?1, ?2, ?3, ?1",
      parameters: [
        { name: ":a", key: "1" },
        { name: null, key: "2" },
        { name: "@a", key: "3" },
      ],
    });
  });
});

const parameter = fc.constantFrom("?", "?", "?1", "?2", "?4", "?04", ":a", "@a", "$a", ":b", ":1", "#a");

test("bound as told, each parameter has the value of its number", () => {
  const database = openSqlite("");
  fc.assert(
    fc.property(fc.array(parameter, { minLength: 1, maxLength: 8 }), (names) => {
      const { sql, parameters } = notFault(normaliseParameters(`select ${names.join(", ")}`));
      // What SQLite numbers: the rule of sqlite3ExprAssignVarNumber(), written anew.
      const numbers: number[] = [];
      let highest = 0;
      names.forEach((name, index) => {
        const earlier = names.indexOf(name);
        const number = /^\?\d/.test(name) ? Number(name.slice(1)) : name !== "?" && earlier < index ? (numbers[earlier] ?? 0) : highest + 1;
        highest = Math.max(highest, number);
        numbers.push(number);
      });
      expect(parameters).toHaveLength(highest);
      const values = parameters.map((_, index) => `value ${index + 1}`);
      const byPlace = values.filter((_, index) => parameters[index]?.key === null);
      const byName = Object.fromEntries(parameters.flatMap((one, index) => (one.key === null ? [] : [[one.key, values[index]]])));
      const row = database
        .prepare(sql)
        .raw()
        .get(...byPlace, ...(Object.keys(byName).length > 0 ? [byName] : []));
      expect(row).toEqual(numbers.map((number) => `value ${number}`));
    }),
    { seed: 3, numRuns: 1000 },
  );
});
