import { describe, expect, test } from "vitest";
import { runSimulation, type SimulationOptions } from "./stream-simulation.js";

/** Replay one: ATOMCAST_STREAM_SEED=<seed> npx vitest run test/stream/stream-simulation.test.ts */
const onlySeed = Number(process.env.ATOMCAST_STREAM_SEED ?? 0);
const seedCount = Number(process.env.ATOMCAST_STREAM_SEEDS ?? 150);

function optionsOf(seed: number): SimulationOptions {
  const unicast = seed % 5 < 2;
  return {
    seed,
    voters: 3 + (seed % 3),
    caches: unicast ? 4 : 2,
    spares: seed % 2,
    faults: true,
    hasty: seed % 4 !== 0,
    unicast,
    wrongTrees: seed % 3 === 0,
  };
}

describe("stream simulation", () => {
  test("without faults, everyone agrees and nothing is lost", () => {
    const simulation = runSimulation(
      { seed: 1, voters: 3, caches: 2, spares: 0, faults: false, hasty: false, unicast: false, wrongTrees: false },
      3000,
    );
    expect(simulation.committed.length).toBeGreaterThan(300);
  });

  test("without multicast, everyone agrees and nothing is lost", () => {
    const simulation = runSimulation(
      { seed: 1, voters: 3, caches: 20, spares: 0, faults: false, hasty: false, unicast: true, wrongTrees: false },
      3000,
    );
    expect(simulation.committed.length).toBeGreaterThan(300);
  });

  test("a sole voter", () => {
    const simulation = runSimulation(
      { seed: 2, voters: 1, caches: 1, spares: 0, faults: false, hasty: false, unicast: false, wrongTrees: false },
      1000,
    );
    expect(simulation.committed.length).toBeGreaterThan(300);
  });

  test("seeded faults", () => {
    const seeds = onlySeed > 0 ? [onlySeed] : Array.from({ length: seedCount }, (_, index) => index + 1);
    for (const seed of seeds) {
      try {
        runSimulation(optionsOf(seed), seed % 4 !== 0 ? 3000 : 8000);
      } catch (cause) {
        throw new Error(`seed ${seed}: ATOMCAST_STREAM_SEED=${seed} npx vitest run test/stream/stream-simulation.test.ts\n${cause}`, { cause });
      }
    }
  });
});
