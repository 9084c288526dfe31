import { expect, test } from "vitest";
import { type CpuProfile, selfTimes } from "../../bench/cpu-profile.js";
import { rateText, ratioTable, table } from "../../bench/report.js";
import type { Throughput } from "../../bench/throughput.js";

function run(perSecond: number, p50Ms: number): Throughput {
  return { work: "insert", inFlight: 1, perSecond, p50Ms, p99Ms: null, failed: 0, firstError: null, cpu: [], coresBusyElsewhere: null };
}

test("columns are aligned: names to the left, figures to the right", () => {
  expect(
    table(
      ["name", "n"],
      [
        ["a", "1"],
        ["longer", "1,000"],
      ],
    ),
  ).toBe("name        n\n------  -----\na           1\nlonger  1,000");
});

test("ratios are ours over theirs, and a missing figure is a dash", () => {
  const text = ratioTable({ title: "ours", runs: [run(300, 2)] }, [
    { title: "theirs", runs: [run(100, 4)] },
    { title: "other", runs: [] },
  ]);
  expect(text.split("\n").at(-1)).toMatch(/^insert, 1 in flight +3\.00 × \/ 0\.50 × \/ - +-$/);
});

test("rates", () => {
  expect(rateText(12_345.6)).toBe("12,346");
  expect(rateText(85.04)).toBe("85.0");
});

test("self time is what passes from a sample to the next, idle left out", () => {
  const node = (id: number, functionName: string, url = "") => ({ id, callFrame: { functionName, url, lineNumber: 9 } });
  const profile: CpuProfile = {
    nodes: [node(1, "(root)"), node(2, "(idle)"), node(3, "work", "file:///x/dist/src/a.js"), node(4, "", "node:fs")],
    samples: [2, 3, 3, 4, 2],
    timeDeltas: [50, 1000, 10, 20, 5],
  };
  expect(selfTimes(profile)).toEqual({
    busyMicros: 35,
    functions: [
      { name: "work src/a.js:10", micros: 30 },
      { name: "(anonymous) node:fs:10", micros: 5 },
    ],
  });
});
