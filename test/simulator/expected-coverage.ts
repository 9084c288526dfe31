/** Which rows a run need not meet, with the reason; every other row must have been met. */
import type { Coverage } from "./coverage.js";
import type { ProfileName } from "./profiles.js";

/** By name ("table: row"): where a run of all profiles may have zero. */
const neverExpected: Readonly<Record<string, string>> = {
  "pulls: large value gone":
    "a row has to change, and all its versions to be swept, within the milliseconds of a fetch: one seed of sixty of its own profile",
  "transactions: kept open: snapshot too old": "Archives give up versions beyond a bound alone, and few pulls fall behind it",
  "recovery: torn": "the twin keeps a prefix of the write under way, which recovery cannot tell from less having been written",
  "permissions: closed attempt": "needs a request that its own release overtakes: two connections at once, which the memory network does not have",
};

/** Rows that a run of one profile alone must meet; the others need the faults of other profiles. */
const expectedAlone: readonly string[] = [
  "invariants: one leader per term",
  "invariants: one hash per committed seq",
  "invariants: a commit is durable on a majority",
  "invariants: applied is at most committed",
  "invariants: equal catalogs at equal seq",
  "invariants: equal rows at equal seq: Caches",
  "invariants: equal rows at equal seq: Archives",
  "invariants: no conflict between snapshot and commit",
  "invariants: everything finishes",
  "transactions: running: done",
  "transactions: proposed: applied",
  "permissions: granted",
];

/**
 * Seeds from which on each row is met with near certainty. The rarest row of all profiles together ("space gone during a catalog pull") is met once in 200
 * seeds; those of a profile alone are in every seed.
 */
export function coverageDemandedFrom(profile: ProfileName | null): number {
  return profile === null ? 1000 : 10;
}

/** `profile` null: the seeds had all of them. */
export function missingRows(coverage: Coverage, profile: ProfileName | null): readonly string[] {
  const zero = coverage.all().filter(({ count }) => count === 0);
  return zero.map(({ name }) => name).filter((name) => (profile === null ? !Object.hasOwn(neverExpected, name) : expectedAlone.includes(name)));
}
