import { describe, expect, test } from "vitest";
import type { Endpoint } from "../../src/base/ids.js";
import { seededRandom } from "../../src/base/random.js";
import { archiveWeight, type Candidate, halfLifeMs, PullSources, restMs } from "../../src/engines/pull-sources.js";

const one = (name: string, asked = 0): Candidate => ({ endpoint: name as Endpoint, kind: name.startsWith("A") ? "archive" : "cache", asked });

/** Each is asked once and takes so long, at the time 0. */
function measured(tookMs: Readonly<Record<string, number>>): PullSources {
  const sources = new PullSources();
  for (const [name, ms] of Object.entries(tookMs)) {
    sources.choose([one(name)], 0, seededRandom(1));
    sources.answered(name as Endpoint, ms, 100, 0);
  }
  return sources;
}

/** How often each is chosen of a hundred times. */
function chosen(sources: PullSources, candidates: readonly Candidate[], nowMs: number): Record<string, number> {
  const random = seededRandom(7);
  const counts: Record<string, number> = {};
  for (let time = 0; time < 100; time++) {
    const name = sources.choose(candidates, nowMs, random)?.endpoint ?? "nobody";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

describe("whom a pull asks", () => {
  test("nobody, where there is nobody", () => {
    expect(new PullSources().choose([], 0, seededRandom(1))).toBeUndefined();
  });

  test("a Cache before an Archive, while neither is known, and while it is not much slower", () => {
    expect(chosen(new PullSources(), [one("A1"), one("C1"), one("A2")], 0)).toEqual({ C1: 100 });
    expect(chosen(measured({ A1: 4, C1: 4 * archiveWeight }), [one("A1"), one("C1")], 0)).toEqual({ C1: 100 });
    expect(chosen(measured({ A1: 4, C1: 5 * archiveWeight }), [one("A1"), one("C1")], 0)).toEqual({ A1: 100 });
  });

  test("any of equals, and less the one that is being asked already", () => {
    const counts = chosen(new PullSources(), [one("A1"), one("A2"), one("A3")], 0);
    for (const name of ["A1", "A2", "A3"]) expect(counts[name]).toBeGreaterThan(15);
    const sources = measured({ C1: 2, C2: 3 });
    expect(chosen(sources, [one("C1"), one("C2")], 0)).toEqual({ C1: 100 });
    expect(chosen(sources, [one("C1", 1), one("C2")], 0)).toEqual({ C2: 100 });
  });

  test("one that is not known yet, and one that was slow long ago, once more", () => {
    const sources = measured({ C1: 2, C2: 50 });
    expect(chosen(sources, [one("C1"), one("C2")], 0)).toEqual({ C1: 100 });
    expect(chosen(sources, [one("C1"), one("C2"), one("C3")], 0)).toEqual({ C3: 100 });
    // The other one goes on being measured; what was 50 ms counts as 0.4.
    sources.answered("C1" as Endpoint, 2, 100, 7 * halfLifeMs);
    expect(chosen(sources, [one("C1"), one("C2")], 7 * halfLifeMs)).toEqual({ C2: 100 });
    sources.answered("C2" as Endpoint, 50, 100, 7 * halfLifeMs);
    expect(chosen(sources, [one("C1"), one("C2")], 7 * halfLifeMs)).toEqual({ C1: 100 });
  });

  test("another, when the best one gets slow", () => {
    const sources = measured({ C1: 2, C2: 5 });
    let slow = 0;
    while (sources.choose([one("C1"), one("C2")], 10, seededRandom(1))?.endpoint === "C1") {
      sources.answered("C1" as Endpoint, 20, 100, 10);
      slow++;
    }
    expect(slow).toBe(1);
  });

  test("not who is busy, was silent, or was lost, until its rest is over; the one whose rest ends first, where all rest", () => {
    for (const why of ["busy", "silent", "lost"] as const) {
      const sources = measured({ C1: 2, A1: 9 });
      if (why === "busy") sources.refused("C1" as Endpoint, "busy", 100);
      else if (why === "silent") sources.silent("C1" as Endpoint, 3, 100);
      else sources.lost("C1" as Endpoint, 100);
      expect(chosen(sources, [one("C1"), one("A1")], 100 + restMs[why] - 1), why).toEqual({ A1: 100 });
      expect(chosen(sources, [one("C1"), one("A1")], 100 + restMs[why]), why).toEqual({ C1: 100 });
      sources.silent("A1" as Endpoint, 2000, 105);
      expect(chosen(sources, [one("C1"), one("A1")], 106), why).toEqual({ C1: 100 });
    }
  });

  test("what was answered is counted; who departs is forgotten, and what comes of it later is nobody's", () => {
    const sources = measured({ C1: 2 });
    sources.answered("C1" as Endpoint, 4, 50, 0);
    sources.refused("C1" as Endpoint, "notHeld", 0);
    expect(sources.counters.get("C1" as Endpoint)).toMatchObject({ chunks: 2, bytes: 150, notHeld: 1, busy: 0, silent: 0, meanMs: 2.5 });
    sources.departed("C1" as Endpoint);
    sources.answered("C1" as Endpoint, 4, 50, 0);
    sources.lost("C1" as Endpoint, 0);
    expect(sources.counters.size).toBe(0);
  });
});
