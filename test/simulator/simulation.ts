/** One seed from its first process to its audit. */
import { type Random, seededRandom } from "../../src/base/random.js";
import type { SqlValue } from "../../src/base/values.js";
import { check } from "./committed-stream.js";
import type { Coverage } from "./coverage.js";
import { Faults } from "./faults.js";
import { type Mutant, withMutant } from "./mutants.js";
import { watchPermissions } from "./permission-watch.js";
import { type Profile, type ProfileName, profiles } from "./profiles.js";
import { SimulatedCluster } from "./simulated-cluster.js";
import { Workload } from "./workload.js";
import { audit } from "./workload-audit.js";
import { withWrongTrees } from "./wrong-trees.js";

export interface SimulationOptions {
  readonly seed: number;
  readonly profile: ProfileName;
  readonly mutant: Mutant | null;
  readonly coverage: Coverage;
  readonly trace?: (line: string) => void;
}

/** After the last fault every client has its answer within this, and every engine has caught up. Virtual milliseconds. */
export const answerMsMax = 10_000;

/** Throws what is not as it must be. */
export async function simulate(options: SimulationOptions): Promise<void> {
  const unwatch = watchPermissions(options.coverage);
  const mend = withMutant(options.mutant);
  const profile: Profile = profiles[options.profile];
  const straighten = profile.wrongTrees === true ? withWrongTrees(seededRandom(options.seed)) : (): void => {};
  try {
    await run(options, profile);
  } finally {
    straighten();
    mend();
    unwatch();
  }
}

async function run(options: SimulationOptions, profile: Profile): Promise<void> {
  const { archives, caches, conditions, diskTimes, storeMsMax } = profile;
  const { seed, coverage, trace } = options;
  const memoryBytes = profile.memoryBytes?.[seed % profile.memoryBytes.length] ?? Number.POSITIVE_INFINITY;
  const cluster = new SimulatedCluster({
    seed,
    archives,
    caches,
    conditions,
    diskTimes,
    storeMsMax,
    memoryBytes,
    ...(profile.historyMs === undefined ? {} : { historyMs: profile.historyMs }),
    acksBeforeSync: options.mutant === "ack-before-fsync",
    forgetsVotes: options.mutant === "vote-not-saved",
    coverage,
    ...(profile.network === undefined ? {} : { groupOf: (name: string) => groupOf(profile, name) }),
    ...(trace === undefined ? {} : { trace }),
  });
  try {
    await cluster.start();
    const random = seededRandom(cluster.random.integer(2 ** 48));
    const workload = new Workload(cluster, seededRandom(random.integer(2 ** 48)), someOf(profile.mix, random), profile.thinkMsMax, profile.favourMs);
    const plan = { ...profile.faults, weights: someOf(profile.faults.weights, random) };
    const faults = new Faults(cluster, seededRandom(random.integer(2 ** 48)), plan);
    await workload.prepare("C1");
    for (let client = 0; client < profile.clients; client++) workload.begin();
    faults.begin();
    await cluster.runFor(profile.workMs);
    workload.stop();
    faults.stop();
    await cluster.runUntil("every client has its answer", () => workload.isDone && !faults.isReplacing, answerMsMax);
    await cluster.expectConverged();
    for (const { name, state } of cluster.names("cache")) if (state === "up") await audit(cluster, workload, name);
    await cluster.expectConverged();
    await expectAllAtoms(cluster);
    check(workload.operations.length > 0, "everything finishes", () => "no client did anything");
  } finally {
    cluster.end();
  }
}

function groupOf({ network }: Profile, name: string): string | null {
  return network === "unicast" ? null : `island ${Number(name.slice(1)) % 2}`;
}

/** Every Cache can list all atoms, also those of tables that it had nothing to do with; and then has their catalogs like everybody. */
async function expectAllAtoms(cluster: SimulatedCluster): Promise<void> {
  for (const process of cluster.names("cache")) {
    if (process.state !== "up" || process.core === null) continue;
    const { committed } = cluster.invariants;
    let listed: readonly (readonly SqlValue[])[] = [];
    // Atoms are merged and handed over though no client does anything any more, but not for ever.
    for (let seq = -1; seq !== committed.lastSeq; ) {
      await cluster.runUntil("it has applied all", () => process.core?.context.position.seq === committed.lastSeq);
      seq = committed.lastSeq;
      listed = await cluster.sql(process.name, "select id from system.atoms order by id");
    }
    const ids = [...committed.catalog.atoms.all()].map(({ id }) => id).sort((left, right) => left - right);
    const isAll = listed.length === ids.length && listed.every(([id], index) => Number(id) === ids[index]);
    check(isAll, "equal catalogs at equal seq", () => `${process.name} lists ${listed.length} atoms of ${ids.length}`);
    cluster.invariants.compareCatalog(process, process.core);
  }
}

/**
 * Half of the seeds leave out some kinds: what is rare among everything is frequent without the rest, and some bugs need that others do not
 * happen ("swarm testing").
 */
function someOf<Kind extends string>(weights: Partial<Readonly<Record<Kind, number>>>, random: Random): Partial<Readonly<Record<Kind, number>>> {
  if (random.integer(2) === 0) return weights;
  const entries = Object.entries(weights) as [Kind, number][];
  const kept = entries.filter(() => random.integer(3) > 0);
  return kept.length === 0 ? weights : (Object.fromEntries(kept) as Partial<Record<Kind, number>>);
}
