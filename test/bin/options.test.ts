import { expect, test } from "vitest";
import { parseMemory, parseStatementTimeout } from "../../src/bin/options.js";
import { defaultMemoryBytes, memoryBytesMin } from "../../src/engines/machine-memory.js";

test("sizes of memory", () => {
  const megabyte = 1024 ** 2;
  const sizes: readonly (readonly [string, number])[] = [
    ["64MB", 64 * megabyte],
    ["64 MiB", 64 * megabyte],
    ["64m", 64 * megabyte],
    ["1.5GB", 1536 * megabyte],
    ["2g", 2048 * megabyte],
    ["1T", 1024 ** 4],
    ["2048K", 2 * megabyte],
    ["1048576", megabyte],
    ["1048576B", megabyte],
  ];
  for (const [text, bytes] of sizes) expect(parseMemory(text), text).toBe(bytes);
  for (const text of ["", "MB", "64 MB of it", "1e9", "-64MB", "64EB", "0x10M", "64MBB", "9999999999999T", "NaN"])
    expect(() => parseMemory(text), text).toThrow("--memory takes a size");
  for (const text of ["0", "1MB ".replace("1", "0.9"), "1023K"]) expect(() => parseMemory(text), text).toThrow("1MB at least");
});

test("how long a statement may run", () => {
  const durations: readonly (readonly [string | undefined, number])[] = [
    [undefined, 0],
    ["0", 0],
    ["0s", 0],
    ["500ms", 500],
    ["1.5 s", 1500],
    ["5min", 300_000],
    ["1H", 3_600_000],
  ];
  for (const [text, ms] of durations) expect(parseStatementTimeout(text), text).toBe(ms);
  for (const text of ["", "5", "s", "-1s", "1e3s", "5m", "10 parsecs", "99999999999999h"])
    expect(() => parseStatementTimeout(text), text).toThrow("--statement-timeout takes a duration");
});

test("without a word a Cache takes a part of the machine's memory", () => {
  expect(defaultMemoryBytes()).toBeGreaterThanOrEqual(memoryBytesMin);
  expect(defaultMemoryBytes()).toBeLessThan(2 ** 48);
});
