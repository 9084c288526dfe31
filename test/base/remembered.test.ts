import { expect, test } from "vitest";
import { Remembered } from "../../src/base/remembered.js";

test("at least the last half is known, and never more than the bound", () => {
  const remembered = new Remembered<string, number>(10);
  for (let n = 1; n <= 100; n++) {
    remembered.set(`n${n}`, n);
    for (let back = 0; back < 5 && n - back >= 1; back++) expect(remembered.get(`n${n - back}`)).toBe(n - back);
    expect(Array.from({ length: n }, (_, index) => `n${index + 1}`).filter((name) => remembered.has(name)).length).toBeLessThanOrEqual(10);
  }
});

test("what is set again is as new, in whichever generation it was", () => {
  const remembered = new Remembered<string, string>(4);
  remembered.set("a", "first");
  remembered.set("b", "");
  remembered.set("a", "second");
  expect(remembered.get("a")).toBe("second");
  remembered.set("c", "");
  expect(remembered.get("a")).toBe("second");
  expect(remembered.has("b")).toBe(false);
});

test("forgets by name in both generations", () => {
  const remembered = new Remembered<string, number>(4);
  for (const name of ["1/a", "2/a", "1/b"]) remembered.set(name, 1);
  remembered.forget((name) => name.startsWith("1/"));
  expect(["1/a", "2/a", "1/b"].filter((name) => remembered.has(name))).toEqual(["2/a"]);
});

test("what is deleted is known in neither generation", () => {
  const remembered = new Remembered<number, string>(4);
  for (const n of [1, 2, 3]) remembered.set(n, "old");
  // 1 is in both.
  remembered.set(1, "young");
  expect(remembered.delete(1)).toBe(true);
  expect(remembered.has(1)).toBe(false);
  expect(remembered.delete(1)).toBe(false);
  expect(remembered.get(3)).toBe("old");
});
