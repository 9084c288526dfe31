/** Seeds of the simulator that run with every test run: clean ones stay clean, and deliberate bugs are found. `npm run sim` runs many more. */
import { describe, expect, test } from "vitest";
import { InvariantError } from "./committed-stream.js";
import { Coverage } from "./coverage.js";
import { type Mutant, mutants, profileOfMutant } from "./mutants.js";
import type { ProfileName } from "./profiles.js";
import { simulate } from "./simulation.js";

const timeoutMs = 240_000;
/** Seeds within which a mutant must be found. */
const mutantSeeds = 200;

async function invariantBroken(seed: number, profile: ProfileName, mutant: Mutant | null): Promise<string | null> {
  try {
    await simulate({ seed, profile, mutant, coverage: new Coverage() });
    return null;
  } catch (error) {
    if (error instanceof InvariantError) return error.invariant;
    throw error;
  }
}

test("forty seeds of the normal profile break nothing", { timeout: timeoutMs }, async () => {
  const coverage = new Coverage();
  for (let seed = 1; seed <= 40; seed++) await simulate({ seed, profile: "normal", mutant: null, coverage });
  const counts = coverage.counts();
  for (const row of [
    "a commit is durable on a majority",
    "no conflict between snapshot and commit",
    "unknown effects at most once",
    "totals are right",
  ])
    expect(counts[`invariants: ${row}`] ?? 0, row).toBeGreaterThan(5);
});

test("a seed runs the same way twice", { timeout: timeoutMs }, async () => {
  const traces: string[][] = [[], []];
  for (const lines of traces)
    await simulate({ seed: 5, profile: "normal", mutant: null, coverage: new Coverage(), trace: (line) => lines.push(line) });
  expect(traces[0]?.length).toBeGreaterThan(100);
  expect(traces[1]).toEqual(traces[0]);
});

describe("deliberate bugs", () => {
  /** What may find it: consequences, not the bug itself. */
  const findings: Readonly<Record<Mutant, readonly string[]>> = {
    "ack-before-fsync": ["a commit is durable on a majority", "one hash per committed seq", "acknowledged effects are there", "no engine fails"],
    "vote-not-saved": ["one leader per term", "one hash per committed seq", "no engine fails"],
    "snapshot-not-checked": ["no conflict between snapshot and commit", "totals are right", "no engine fails"],
    "grant-outlives-leave": ["everything finishes"],
    "catalog-entries-not-kept": ["equal catalogs at equal seq", "everything finishes", "no engine fails"],
    "drop-keeps-the-range": [
      "equal rows at equal seq: parts",
      "Caches hold what the catalog says",
      "acknowledged effects are there",
      "no engine fails",
    ],
    "source-gives-what-it-has": [
      "equal rows at equal seq: parts",
      "equal rows at equal seq: Caches",
      "acknowledged effects are there",
      "totals are right",
      "no engine fails",
    ],
    "merge-of-unlike-holders": ["Caches hold what the catalog says", "no engine fails"],
    "past-of-pulls-forgotten": ["open transactions read one snapshot", "totals are right", "no engine fails"],
    "mark-asks-nobody": ["no snapshot below the low-water mark"],
    "fence-not-checked": ["fences and versions hold when ordered", "no conflict between snapshot and commit"],
  };
  for (const mutant of mutants) {
    test(`${mutant} is found`, { timeout: timeoutMs }, async () => {
      let found: string | null = null;
      for (let seed = 1; seed <= mutantSeeds && found === null; seed++) found = await invariantBroken(seed, profileOfMutant[mutant], mutant);
      expect(findings[mutant]).toContain(found);
    });
  }
});
