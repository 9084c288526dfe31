/** Engines killed under load, and no acknowledged transfer lost, none twice, no read ever wrong. */
import { describe, expect, test } from "vitest";
import { type Cluster, engineOf, openCluster, originatorOf, sequencerOf, urlsOf } from "./cluster.js";
import { expectConverged } from "./convergence.js";
import { bothNetworks } from "./processes.js";
import { openTransferLoad, type TransferLoad } from "./transfers.js";

const isLong = process.env.ATOMCAST_LONG === "1";
/** Transfers acknowledged before and after each fault. */
const steady = isLong ? 400 : 100;
const progressMs = isLong ? 120_000 : 30_000;
const timeout = isLong ? 1_800_000 : 120_000;
const rounds = isLong ? 6 : 1;

async function killAndRestart(cluster: Cluster, name: string, load: TransferLoad): Promise<void> {
  const engine = engineOf(cluster, name);
  engine.kill("SIGKILL");
  await engine.ended();
  await load.progress(steady, progressMs);
  const again = await engine.restart();
  cluster.engines.set(name, again);
  // Its clients find it where it was.
  await load.progress(again.kind === "cache" ? steady / 2 : steady, progressMs, again.kind === "cache" ? again.url : undefined);
}

async function expectWhole(cluster: Cluster, load: TransferLoad): Promise<void> {
  await load.stop();
  const urls = urlsOf(cluster);
  for (const url of urls) await load.expectTold(url);
  await expectConverged(urls, cluster.engines.size);
}

describe("kill -9 under load", () => {
  test.each(bothNetworks)("the originating Cache, an Archive, the sequencer; each comes back (%s)", { timeout }, async (network) => {
    const cluster = await openCluster(3, 2, network);
    const load = await openTransferLoad(urlsOf(cluster));
    await load.progress(steady, progressMs);
    for (let round = 0; round < rounds; round++) {
      const originator = await originatorOf(cluster, "accounts");
      expect(originator).toMatch(/^cache/);
      await killAndRestart(cluster, originator, load);
      const sequencer = await sequencerOf(cluster);
      const follower = [...cluster.engines.keys()].find((name) => name.startsWith("archive") && name !== sequencer);
      await killAndRestart(cluster, follower ?? "", load);
      load.takeLongestGapMs();
      await killAndRestart(cluster, await sequencerOf(cluster), load);
      expect(load.takeLongestGapMs()).toBeLessThan(10_000);
    }
    await expectWhole(cluster, load);
  });

  test.each(bothNetworks)("all engines at once (%s)", { timeout }, async (network) => {
    const cluster = await openCluster(3, 2, network);
    const load = await openTransferLoad(urlsOf(cluster));
    for (let round = 0; round < rounds; round++) {
      await load.progress(steady, progressMs);
      for (const engine of cluster.engines.values()) engine.kill("SIGKILL");
      await Promise.all([...cluster.engines].map(async ([name, engine]) => cluster.engines.set(name, await engine.restart())));
      for (const url of urlsOf(cluster)) await load.progress(steady / 2, progressMs, url);
    }
    await expectWhole(cluster, load);
  });

  test("engines that hang are replaced, and welcome back", { timeout }, async () => {
    const cluster = await openCluster(3, 2);
    const load = await openTransferLoad(urlsOf(cluster));
    await load.progress(steady, progressMs);
    for (let round = 0; round < rounds; round++) {
      const sequencer = engineOf(cluster, await sequencerOf(cluster));
      sequencer.kill("SIGSTOP");
      await load.progress(steady, progressMs);
      // What it still has to say is of an old term.
      sequencer.kill("SIGCONT");
      await load.progress(steady, progressMs);
      const cache = engineOf(cluster, await originatorOf(cluster, "accounts"));
      const [other] = urlsOf(cluster).filter((url) => url !== cache.url);
      cache.kill("SIGSTOP");
      await load.progress(steady, progressMs, other);
      // What it had granted and proposed is over: it starts over, in the same process.
      cache.kill("SIGCONT");
      await load.progress(steady / 2, progressMs, cache.url);
    }
    await expectWhole(cluster, load);
  });
});
