/** Engines added and replaced while the database is in use. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Status } from "../../src/engines/database.js";
import { type Cluster, engineOf, openCluster, sequencerOf, urlsOf } from "./cluster.js";
import { expectConverged } from "./convergence.js";
import { bothNetworks } from "./processes.js";
import { openTransferLoad } from "./transfers.js";
import { eventually, pause } from "./waiting.js";

const steady = 100;
const progressMs = 30_000;

async function statusOf({ site }: Cluster, url: string): Promise<Status> {
  return JSON.parse((await site.run(["status", url, "--json"])).stdout) as Status;
}

/** As its folder says: its engine id may change, its node id does not. */
function nodeOf({ site }: Cluster, name: string): number {
  return (JSON.parse(readFileSync(join(site.directory, name, "atomcast.json"), "utf8")) as { nodeId: number }).nodeId;
}

async function expectVoter(cluster: Cluster, name: string): Promise<void> {
  const [url = ""] = urlsOf(cluster);
  expect((await statusOf(cluster, url)).voters.map(({ nodeId }) => nodeId)).toContain(nodeOf(cluster, name));
}

test.each(bothNetworks)("a Cache added under load serves at once, and is equal (%s)", { timeout: 120_000 }, async (network) => {
  const cluster = await openCluster(3, 1, network);
  const load = await openTransferLoad(urlsOf(cluster));
  await load.progress(steady, progressMs);
  for (const name of ["cache-2", "cache-3"]) {
    const cache = await cluster.site.cache(name);
    cluster.engines.set(name, cache);
    await load.expectTold(cache.url);
    load.add(cache.url);
    await load.progress(steady / 2, progressMs, cache.url);
  }
  await load.stop();
  for (const url of urlsOf(cluster)) await load.expectTold(url);
  await expectConverged(urlsOf(cluster), cluster.engines.size);
});

test("without multicast, an Archive finds its database by its folder when whom it was to join is gone", { timeout: 120_000 }, async () => {
  const cluster = await openCluster(3, 1, "unicast");
  const load = await openTransferLoad(urlsOf(cluster));
  await load.progress(steady, progressMs);
  engineOf(cluster, "archive-1").kill("SIGKILL");
  engineOf(cluster, "archive-2").kill("SIGKILL");
  await engineOf(cluster, "archive-1").ended();
  await engineOf(cluster, "archive-2").ended();
  const { site } = cluster;

  // Nobody is there: what it remembers of archive-3 and the Cache must do.
  const again = await site.archive("archive-2", ["--join", "127.0.0.1:9"]);
  cluster.engines.set("archive-2", again);
  await load.progress(steady, progressMs);
  await load.stop();
  cluster.engines.set("archive-1", await engineOf(cluster, "archive-1").restart());
  await expectConverged(urlsOf(cluster), cluster.engines.size);
});

test("Archives join a database that has stood alone for a while", async () => {
  const cluster = await openCluster(1, 1);
  const load = await openTransferLoad(urlsOf(cluster));
  // Longer than an election timeout.
  await pause(2500);
  for (const name of ["archive-2", "archive-3"]) {
    cluster.engines.set(name, await cluster.site.archive(name));
    await eventually(`${name} votes`, 10_000, () => expectVoter(cluster, name));
    await load.progress(20, progressMs);
  }
  await load.stop();
  await expectConverged(urlsOf(cluster), cluster.engines.size);
});

test("a lost Archive is removed, a fresh one takes its place, and the loss of another voter loses nothing", { timeout: 180_000 }, async () => {
  const cluster = await openCluster(3, 2);
  const { site, engines } = cluster;
  const load = await openTransferLoad(urlsOf(cluster));
  const [url = ""] = urlsOf(cluster);
  await load.progress(steady, progressMs);
  await eventually("three voters", 10_000, async () => expect((await statusOf(cluster, url)).voters.length).toBe(3));

  const sequencer = await sequencerOf(cluster);
  const lost = ["archive-2", "archive-3"].find((name) => name !== sequencer) ?? "";
  const node = nodeOf(cluster, lost);
  engineOf(cluster, lost).kill("SIGKILL");
  await engineOf(cluster, lost).ended();
  rmSync(join(site.directory, lost), { recursive: true });
  engines.delete(lost);
  await eventually("the lost Archive can be removed", 10_000, async () =>
    expect(await site.run(["remove", String(node), url])).toMatchObject({ code: 0, stdout: `Archive ${node} is no voter any more\n` }),
  );
  expect((await statusOf(cluster, url)).voters.map(({ nodeId }) => nodeId)).not.toContain(node);

  const fresh = await site.archive("archive-4");
  engines.set("archive-4", fresh);
  expect(fresh.stderr).toContain("has copied the database");
  await eventually("the fresh Archive votes", 20_000, () => expectVoter(cluster, "archive-4"));
  await load.progress(steady, progressMs);

  // With one of three gone, what is acknowledged is so by the fresh one too; then it is the only one that has all.
  const [second, third] = ["archive-1", "archive-2", "archive-3"].filter((name) => engines.has(name));
  engineOf(cluster, second ?? "").kill("SIGKILL");
  await engineOf(cluster, second ?? "").ended();
  await load.progress(steady, progressMs);
  engineOf(cluster, third ?? "").kill("SIGKILL");
  engines.set(second ?? "", await engineOf(cluster, second ?? "").restart());
  await load.progress(steady, progressMs);
  engines.set(third ?? "", await engineOf(cluster, third ?? "").restart());
  await load.progress(steady, progressMs);
  await load.stop();
  for (const one of urlsOf(cluster)) await load.expectTold(one);
  await expectConverged(urlsOf(cluster), engines.size);
});
