import { expect, test } from "vitest";
import { boundedCache } from "../../../src/sql/parse/bounded-cache.js";

test("the least recently used is forgotten first", () => {
  const cache = boundedCache<number>({ entriesMax: 3, charactersMax: 1000 });
  for (const [sql, value] of [
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ] as const) {
    cache.set(sql, value);
  }
  expect(cache.get("a")).toBe(1);
  cache.set("d", 4);
  expect(["a", "b", "c", "d"].map((sql) => cache.get(sql))).toEqual([1, undefined, 3, 4]);
  expect(cache.size).toBe(3);
});

test("the length of the texts is bounded, and one long text is not kept at all", () => {
  const cache = boundedCache<number>({ entriesMax: 1000, charactersMax: 160 });
  cache.set("x".repeat(11), 1);
  expect(cache.size).toBe(0);
  for (let index = 0; index < 100; index += 1) cache.set(`${index}`.padStart(10), index);
  expect(cache.size).toBe(16);
  expect(cache.get("83".padStart(10))).toBeUndefined();
  expect(cache.get("84".padStart(10))).toBe(84);
  cache.set("84".padStart(10), 85);
  expect(cache.get("84".padStart(10))).toBe(85);
  expect(cache.size).toBe(16);
  cache.clear();
  cache.set("y".repeat(10), 1);
  expect(cache.size).toBe(1);
});
