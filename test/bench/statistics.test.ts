import { expect, test } from "vitest";
import { addLatency, emptyHistogram, mergeHistograms, quantileMicros } from "../../bench/latency-histogram.js";
import { longestGap, median, ratio } from "../../bench/statistics.js";

test("a quantile is within 2 % of the sorted list's", () => {
  const histogram = emptyHistogram();
  const values: number[] = [];
  for (let index = 0; index < 10_000; index++) {
    const micros = 1 + ((index * 7919) % 10_007) ** 1.7;
    values.push(micros);
    addLatency(histogram, micros);
  }
  values.sort((left, right) => left - right);
  for (const fraction of [0.01, 0.5, 0.9, 0.99, 1]) {
    const exact = values[Math.ceil(values.length * fraction) - 1] as number;
    const told = quantileMicros(histogram, fraction) as number;
    expect(told / exact).toBeGreaterThanOrEqual(0.999);
    expect(told / exact).toBeLessThanOrEqual(1.0201);
  }
});

test("merged histograms are the histogram of all", () => {
  const [all, left, right] = [emptyHistogram(), emptyHistogram(), emptyHistogram()];
  for (const [index, micros] of [5, 80, 80, 1200, 9e9, 0.2].entries()) {
    addLatency(all, micros);
    addLatency(index % 2 === 0 ? left : right, micros);
  }
  expect(mergeHistograms([left, right])).toEqual(all);
});

test("nothing measured has no quantile", () => {
  expect(quantileMicros(emptyHistogram(), 0.5)).toBeNull();
});

test("beyond the last bucket is in the last bucket", () => {
  const histogram = emptyHistogram();
  addLatency(histogram, 1e12);
  expect(quantileMicros(histogram, 0.5)).toBeGreaterThan(90e6);
});

test("median", () => {
  expect(median([])).toBeNull();
  expect(median([3])).toBe(3);
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 100])).toBe(3.5);
});

test("a ratio needs something to divide by", () => {
  expect(ratio(6, 3)).toBe(2);
  expect(ratio(null, 3)).toBeNull();
  expect(ratio(6, 0)).toBeNull();
});

test("the longest gap begins at the last success before the kill", () => {
  expect(longestGap([10, 20, 95, 180, 190, 200], 100, 200)).toEqual({ lengthMs: 85, ended: true });
});

test("a gap before the kill does not count", () => {
  expect(longestGap([10, 90, 95, 105, 110], 100, 112)).toEqual({ lengthMs: 10, ended: true });
});

test("a later gap counts: what the kill caused may show late", () => {
  expect(longestGap([99, 101, 161, 170], 100, 175)).toEqual({ lengthMs: 60, ended: true });
});

test("without a success after the kill the gap has not ended", () => {
  expect(longestGap([90, 99], 100, 600)).toEqual({ lengthMs: 501, ended: false });
  expect(longestGap([], 100, 600)).toEqual({ lengthMs: 500, ended: false });
});

test("successes come in any order, and those beyond the window are not looked at", () => {
  expect(longestGap([130, 99, 102, 900], 100, 150)).toEqual({ lengthMs: 28, ended: true });
});
