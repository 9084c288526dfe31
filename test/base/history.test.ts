import { expect, test } from "vitest";
import { durationText, historyMsOf, historySql, parseAsOf, parseDuration, parseHistory } from "../../src/base/history.js";

test("durations, as they are given and as they are told", () => {
  expect(["0", "500ms", "30 s", "5min", "1h", "1.5h", "7d", "00"].map(parseDuration)).toEqual([
    0, 500, 30_000, 300_000, 3_600_000, 5_400_000, 604_800_000, 0,
  ]);
  expect(["", "5", "h", "-1h", "1w", "1e3s", "9999999999999999d"].map(parseDuration)).toEqual(new Array(7).fill(null));
  expect([0, 500, 30_000, 5_400_000, 86_400_000, 86_400_001].map(durationText)).toEqual(["0", "500ms", "30s", "90min", "1d", "86400001ms"]);
  expect(() => parseHistory("--history", "367d")).toThrow("--history takes a duration");
});

test("what the schema catalog has of it", () => {
  for (const ms of [0, 1, 3_600_000]) expect(historyMsOf(historySql(ms))).toBe(ms);
  expect([historyMsOf(undefined), historyMsOf("PRAGMA user_version = 5")]).toEqual([0, 0]);
});

test("a seq, or a time", () => {
  const at = (text: string): unknown => parseAsOf(text);
  expect([at("12"), at(" 12 "), at("0"), at("-1"), at("1.5"), at("99999999999999999")]).toEqual([{ seq: 12 }, { seq: 12 }, null, null, null, null]);
  const timeMs = Date.UTC(2026, 10, 22, 1, 2, 3);
  for (const text of [
    "2026-11-22T01:02:03Z",
    "2026-11-22 01:02:03",
    "2026-11-22T02:02:03+01:00",
    "2026-11-21 20:02:03.000 -05:00",
    "2026-11-22t01:02:03z",
  ])
    expect(at(text)).toEqual({ timeMs });
  expect(at("2026-11-22")).toEqual({ timeMs: Date.UTC(2026, 10, 22) });
  expect(at("2026-11-22 01:02")).toEqual({ timeMs: Date.UTC(2026, 10, 22, 1, 2) });
  expect(at("2026-11-22 01:02:03.25")).toEqual({ timeMs: timeMs + 250 });
  for (const text of ["", "now", "22.11.2026", "2026-13-01", "2026-11-22T25:00", "1969-01-01"]) expect(at(text)).toBeNull();
});
