import { expect, test } from "vitest";
import { boundedCache } from "../../../src/sql/parse/bounded-cache.js";

test("what is used stays, what is not goes", () => {
  const cache = boundedCache<number>({ entriesMax: 8, charactersMax: 1000 });
  cache.set("used", 0);
  cache.set("unused", 0);
  for (let index = 1; index <= 100; index += 1) {
    cache.set(`${index}`, index);
    expect(cache.get("used")).toBe(0);
    expect(cache.get(`${index}`)).toBe(index);
    expect(cache.size).toBeLessThanOrEqual(8);
  }
  expect(cache.get("unused")).toBeUndefined();
  expect(cache.get("98")).toBe(98);
  cache.set("used", 1);
  expect(cache.get("used")).toBe(1);
});

test("the length of the texts is bounded, and one long text is not kept at all", () => {
  const cache = boundedCache<number>({ entriesMax: 1000, charactersMax: 160 });
  cache.set("x".repeat(11), 1);
  expect(cache.size).toBe(0);
  for (let index = 0; index < 100; index += 1) {
    cache.set(`${index}`.padStart(10), index);
    cache.set(`${index}`.padStart(10), index + 1);
    expect(cache.size).toBeLessThanOrEqual(16);
  }
  expect(cache.size).toBeGreaterThan(8);
  expect(cache.get("0".padStart(10))).toBeUndefined();
  expect(cache.get("99".padStart(10))).toBe(100);
  cache.clear();
  expect(cache.size).toBe(0);
  cache.set("y".repeat(10), 1);
  expect(cache.get("y".repeat(10))).toBe(1);
});

test("at random, a hit is always the last value that was set", () => {
  const cache = boundedCache<number>({ entriesMax: 16, charactersMax: 1000 });
  const truth = new Map<string, number>();
  let state = 1;
  for (let step = 0; step < 20_000; step += 1) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    const sql = `s${(state >> 8) % 40}`;
    if (state % 3 === 0) {
      cache.set(sql, step);
      truth.set(sql, step);
    } else {
      const value = cache.get(sql);
      if (value !== undefined) expect(value).toBe(truth.get(sql));
    }
  }
});
