/**
 * Seeds that once failed, each in a file of its own (number, name; seed, profile, what it was), replayed with every test run. What a seed does
 * changes with the code; so where a bug can be shown by a few statements, `bugs.test.ts` shows it too.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Coverage } from "../simulator/coverage.js";
import { isProfileName } from "../simulator/profiles.js";
import { simulate } from "../simulator/simulation.js";

const folder = dirname(fileURLToPath(import.meta.url));

interface RegressionSeed {
  readonly seed: number;
  readonly profile: string;
  /** What was wrong. */
  readonly was: string;
}

for (const file of readdirSync(folder).filter((name) => name.endsWith(".json"))) {
  const { seed, profile, was } = JSON.parse(readFileSync(join(folder, file), "utf8")) as RegressionSeed;
  test(`${file}: ${was}`, async () => {
    if (!isProfileName(profile)) throw new Error(`no profile ${profile}`);
    const coverage = new Coverage();
    await simulate({ seed, profile, mutant: null, coverage });
    expect(coverage.counts()["invariants: everything finishes"]).toBeGreaterThan(0);
  });
}
