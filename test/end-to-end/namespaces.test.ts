/**
 * `npm run test:network`: real engines on islands of multicast (islands.ts). `ATOMCAST_TEST_NAMESPACES=short` is the first test alone. Left out, with a message, where
 * namespaces cannot be made. Exact times are the simulator's to check (test/stream/relay.test.ts): what is allowed here has the noise of the machine in it.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { EngineStatus, Status } from "../../src/engines/database.js";
import { type CommitWatch, watchCommits } from "./commit-watch.js";
import { canMakeNamespaces, type Host, type Islands, makeIslands } from "./islands.js";
import { copyFolder, openSite, type Running, type Site } from "./processes.js";
import { eventually, pause } from "./waiting.js";

const wanted = process.env.ATOMCAST_TEST_NAMESPACES ?? "";
if (!["", "short", "long"].includes(wanted)) throw new Error(`ATOMCAST_TEST_NAMESPACES is short or long, not ${wanted}`);
const isPossible = wanted !== "" && canMakeNamespaces();
if (wanted !== "" && !isPossible) process.stderr.write("test:network is left out: it wants root and iproute2, to make network namespaces\n");
const isLong = isPossible && wanted === "long";
const timeout = 300_000;

/** Longer than silence that ends a membership: who was cut off starts over. */
const cutMs = 4500;

/** All Archives are reached there. */
const archivePort = 7700;

interface Placed {
  readonly name: string;
  readonly host: Host;
  readonly running: Running;
  readonly pid: number;
  /** From here; "-" for an Archive. */
  readonly url: string;
}

/** A database with an Archive on each of these hosts; every engine is told of all of them. */
class Placement {
  readonly site: Site;
  readonly islands: Islands;
  readonly archives: Placed[] = [];
  readonly caches: Placed[] = [];
  readonly #extra: readonly string[];
  #archiveHosts: readonly Host[] = [];

  constructor(islandCount: number, ...extra: string[]) {
    this.site = openSite("multicast");
    this.islands = makeIslands(this.site, islandCount);
    this.#extra = extra;
  }

  #start(host: Host, name: string, kind: "archive" | "cache", ...args: string[]): Running {
    const joins = this.#archiveHosts.flatMap((one) => ["--join", `${one.address}:${archivePort}`]);
    return host.start(name, kind, ...args, ...joins, "--interface", host.address, ...this.#extra);
  }

  /** One each; the first makes the database. */
  async openArchives(...islands: readonly number[]): Promise<void> {
    const hosts: Host[] = [];
    for (const island of islands) hosts.push(await this.islands.host(island));
    this.#archiveHosts = hosts;
    for (const [index, host] of hosts.entries()) this.archives.push(await this.archive(host, index, ...(index === 0 ? ["--create"] : [])));
  }

  /** The one with that folder. */
  async archive(host: Host, index: number, ...args: string[]): Promise<Placed> {
    const name = `archive-${index + 1}`;
    const running = this.#start(host, name, "archive", "--data", join(this.site.directory, name), "--port", String(archivePort), ...args);
    await running.says(/^ready archive/m, 60_000);
    return { name, host, running, pid: running.pid, url: "-" };
  }

  /** On any folder. */
  strayArchive(host: Host, folder: string, ...args: string[]): Running {
    return this.#start(host, `stray ${host.name}`, "archive", "--data", folder, "--port", String(archivePort), ...args);
  }

  /** So many, all at once. */
  async openCaches(host: Host, count: number): Promise<readonly Placed[]> {
    const opened = Array.from({ length: count }, async (_, index): Promise<Placed> => {
      const name = `cache-${host.name}-${index + 1}`;
      const running = this.#start(host, name, "cache");
      const [, url = ""] = await running.says(/^ready cache id=\d+ pid=\d+ http=(\S+)$/m, 60_000);
      return { name, host, running, pid: running.pid, url: await host.reach(url) };
    });
    const caches = await Promise.all(opened);
    this.caches.push(...caches);
    return caches;
  }

  get urls(): readonly string[] {
    return this.caches.map(({ url }) => url);
  }

  placedOf(pid: number): Placed {
    const placed = [...this.archives, ...this.caches].find((one) => one.pid === pid);
    if (placed === undefined) throw new Error(`no engine has pid ${pid}`);
    return placed;
  }
}

async function statusAt(url: string): Promise<readonly EngineStatus[]> {
  const response = await fetch(new URL("/v1/status", url));
  return ((await response.json()) as Status).engines;
}

interface Heard {
  readonly engine: Placed;
  readonly isSequencer: boolean;
  readonly hears: string;
}

async function heardBy(placement: Placement, island: number): Promise<readonly Heard[]> {
  const engines = (await statusAt(placement.urls[0] ?? "")).map(({ pid, isSequencer, hears }) => ({
    engine: placement.placedOf(pid),
    isSequencer,
    hears,
  }));
  return engines.filter(({ engine }) => engine.host.island === island);
}

/** One of the island takes the stream from another island, and passes it on by its multicast. */
function expectIslandFound(placement: Placement, island: number): Promise<void> {
  return eventually(`island ${island} has found itself`, 40_000, async () => {
    const all = await heardBy(placement, island);
    const members = all.filter(({ isSequencer }) => !isSequencer);
    const unicast = members.filter(({ hears }) => hears === "unicast");
    expect(unicast.length).toBe(members.length < all.length ? 0 : 1);
    for (const one of members) expect(one.hears).toMatch(/^(unicast|multicast of .*)$/);
  });
}

function expectAllHear(placement: Placement, island: number, how: RegExp, withinMs = 40_000): Promise<void> {
  return eventually(`island ${island} hears by ${how}`, withinMs, async () => {
    for (const { isSequencer, hears } of await heardBy(placement, island)) if (!isSequencer) expect(hears).toMatch(how);
  });
}

/** What goes by without a fault: the machine's own pauses. */
async function quietGapMs(watch: CommitWatch, urls: readonly string[]): Promise<number> {
  for (const url of urls) watch.takeLongestGapMs(url);
  await pause(2000);
  return longestGapMs(watch, urls);
}

function longestGapMs(watch: CommitWatch, urls: readonly string[]): number {
  return Math.max(...urls.map((url) => watch.takeLongestGapMs(url)));
}

/** Of a fault that is bridged within `ms` on a machine that has nothing else to do. */
function withNoise(ms: number, quietMs: number): number {
  return ms + 3 * quietMs + 500;
}

async function islandOfSequencer(placement: Placement): Promise<number> {
  const found = (await statusAt(placement.urls[0] ?? "")).find(({ isSequencer }) => isSequencer);
  return placement.placedOf(found?.pid ?? 0).host.island;
}

test.runIf(isPossible)("two islands: a link that goes down and comes back, multicast that stops and returns", { timeout }, async () => {
  const placement = new Placement(2);
  const { islands } = placement;
  await placement.openArchives(1, 1, 2);
  const near = await placement.openCaches(await islands.host(1), 1);
  const far = [...(await placement.openCaches(await islands.host(2), 1)), ...(await placement.openCaches(await islands.host(2), 1))];
  const [writer] = near as [Placed];
  const watch = await watchCommits(writer.url, placement.urls);
  const farUrls = far.map(({ url }) => url);
  await watch.progress(20);
  for (const island of [1, 2]) await expectIslandFound(placement, island);

  // The island of the one voter is cut off; the other goes on.
  islands.link(2, false);
  await pause(cutMs);
  await watch.progress(20, [writer.url]);
  islands.link(2, true);
  await watch.progress(20);
  for (const island of [1, 2]) await expectIslandFound(placement, island);

  // Its switch passes on no multicast any more, as IGMP snooping can make it.
  const quietMs = await quietGapMs(watch, farUrls);
  islands.multicast(2, false);
  await expectAllHear(placement, 2, /^unicast$/);
  await watch.progress(20);
  expect(longestGapMs(watch, farUrls)).toBeLessThan(withNoise(2000, quietMs));
  islands.multicast(2, true);
  await expectIslandFound(placement, 2);
  await watch.stop();
});

test.runIf(isLong)("15 engines on two islands of multicast and one without: relays are killed, links go down", { timeout }, async () => {
  const placement = new Placement(3);
  const { islands } = placement;
  islands.multicast(3, false);
  await placement.openArchives(1, 2, 3);
  for (const [island, count] of [
    [1, 2],
    [1, 2],
    [2, 2],
    [2, 2],
    [3, 1],
    [3, 1],
    [3, 1],
    [3, 1],
  ] as const) {
    await placement.openCaches(await islands.host(island), count);
  }
  expect(placement.archives.length + placement.caches.length).toBe(15);
  const urlsIn = (island: number): string[] => placement.caches.filter(({ host }) => host.island === island).map(({ url }) => url);
  const watch = await watchCommits(placement.urls[0] ?? "", placement.urls);
  await watch.progress(20);
  const root = await islandOfSequencer(placement);
  for (const island of [1, 2]) await expectIslandFound(placement, island);
  await expectAllHear(placement, 3, /^unicast$/);

  // The relay of an island is killed: the next one stands in.
  const island = root === 2 ? 1 : 2;
  const relay = (await heardBy(placement, island)).find(({ hears }) => hears === "unicast")?.engine as Placed;
  const quietMs = await quietGapMs(watch, urlsIn(island));
  relay.running.kill("SIGKILL");
  await pause(2000);
  expect(
    longestGapMs(
      watch,
      urlsIn(island).filter((url) => url !== relay.url),
    ),
  ).toBeLessThan(withNoise(300, quietMs));
  await watch.progress(
    20,
    placement.urls.filter((url) => url !== relay.url),
  );
  // It is an Archive: the lowest of its island.
  const index = placement.archives.indexOf(relay);
  placement.archives[index] = await placement.archive(relay.host, index);
  await expectIslandFound(placement, island);

  // Each island but the writer's is cut off for a while, one after the other; the others go on.
  for (const cut of [2, 3]) {
    islands.link(cut, false);
    await pause(cutMs);
    await watch.progress(20, urlsIn(1));
    islands.link(cut, true);
    await watch.progress(20);
  }
  await expectAllHear(placement, 3, /^unicast$/);
  await watch.stop();
});

test.runIf(isLong)("three islands 50 ms apart, with loss, doubles and reordering; each is cut off in turn", { timeout }, async () => {
  const placement = new Placement(3, "--faults", "loss=1,double=1,reorder=5,far=50");
  const { islands } = placement;
  await placement.openArchives(1, 2, 3);
  for (const island of [1, 2, 3]) await placement.openCaches(await islands.host(island), 2);
  const [first = "", , third = "", , fifth = ""] = placement.urls;
  const watch = await watchCommits(first, placement.urls);
  await watch.progress(40);
  for (const [cut, writer] of [
    [1, third],
    [2, fifth],
    [3, first],
  ] as const) {
    watch.writeAt(writer);
    islands.link(cut, false);
    await pause(cutMs);
    await watch.progress(
      20,
      placement.caches.filter(({ host }) => host.island !== cut).map(({ url }) => url),
    );
    islands.link(cut, true);
    await watch.progress(20);
  }
  await watch.stop();
});

test.runIf(isLong)("an Archive's host moves to another island, and a Cache is started again elsewhere", { timeout }, async () => {
  const placement = new Placement(2);
  const { islands } = placement;
  await placement.openArchives(1, 1, 2);
  const [writer] = (await placement.openCaches(await islands.host(1), 1)) as [Placed];
  const [moving] = (await placement.openCaches(await islands.host(2), 1)) as [Placed];
  const watch = await watchCommits(writer.url, [writer.url]);
  await watch.progress(20);

  // Its address is another one after the move, so its process is started again; its folder says who it is, and --join where the others are.
  const archive = placement.archives[2] as Placed;
  archive.host.move(1);
  await watch.progress(20);
  archive.running.kill("SIGKILL");
  await archive.running.ended();
  placement.archives[2] = await placement.archive(archive.host, 2);
  await eventually("the Archive votes from its new address", 30_000, async () => {
    const engines = await statusAt(writer.url);
    expect(engines.filter(({ kind }) => kind === "archive").map(({ endpoint }) => endpoint)).toContain(`${archive.host.address}:${archivePort}`);
    expect(engines.filter(({ kind }) => kind === "archive")).toHaveLength(3);
  });
  // Without the other one, a majority needs it.
  const other = placement.archives[1] as Placed;
  other.running.kill("SIGKILL");
  await watch.progress(20);
  placement.archives[1] = await placement.archive(other.host, 1);

  moving.running.kill("SIGKILL");
  moving.host.move(1);
  const [moved] = (await placement.openCaches(moving.host, 1)) as [Placed];
  await watch.stop();
  await eventually("the Cache has all rows", 20_000, async () => {
    expect((await statusAt(moved.url)).filter(({ kind }) => kind === "cache")).toHaveLength(2);
  });
});

/** A bridge's default (bridge(8), mcast_membership_interval). */
const forgottenAfterSeconds = 260;

test.runIf(isLong)("multicast groups are joined again: a switch that forgot its members, an interface that was replaced", { timeout }, async () => {
  const placement = new Placement(1);
  const { islands } = placement;
  await placement.openArchives(1, 1, 1);
  const [writer] = (await placement.openCaches(await islands.host(1), 1)) as [Placed];
  const [cache] = (await placement.openCaches(await islands.host(1), 1)) as [Placed];
  const watch = await watchCommits(writer.url, placement.urls);
  await expectAllHear(placement, 1, /^multicast of the sequencer$/);
  // From here on the switch takes notes, and it has heard of nobody: what was said before is lost.
  islands.atSwitches("ip", "link", "set", "s1", "type", "bridge", "mcast_snooping", "1");
  const portsInGroup = (): string[] =>
    [...islands.atSwitches("bridge", "mdb", "show", "dev", "s1").matchAll(/port (p\d+) grp 239\./g)].map(([, port = ""]) => port);
  expect(portsInGroup()).toEqual([]);
  const seen = new Set<string>();
  await eventually("every host's membership is heard of again", 60_000, () => {
    for (const port of portsInGroup()) seen.add(port);
    expect([...seen].sort()).toEqual(["p1", "p2", "p3", "p4", "p5"]);
  });
  // Right after the Cache has joined again (the report may be said twice, within ten seconds), so that it does not do so for twenty more.
  await eventually("the Cache's own membership was heard just now", 60_000, () => {
    const [, leftSeconds = "0"] = /port p5 grp 239\.\S+ .* (\d+)\.\d+/.exec(islands.atSwitches("bridge", "-s", "mdb", "show", "dev", "s1")) ?? [];
    expect(Number(leftSeconds)).toBeGreaterThan(forgottenAfterSeconds - 3);
  });
  islands.atSwitches("ip", "link", "set", "s1", "type", "bridge", "mcast_snooping", "0");

  cache.host.replaceInterface();
  await eventually("it does not hear multicast", 40_000, async () => {
    const own = (await statusAt(writer.url)).find(({ pid }) => pid === cache.pid);
    // On a machine that is busy it may be out for a while.
    expect(own?.hears ?? "").not.toMatch(/^multicast/);
  });
  await watch.progress(20);
  await expectAllHear(placement, 1, /^multicast of the sequencer$/, 60_000);
  await watch.stop();
});

test.runIf(isLong)("a copy of an Archive's folder on another host, and another database of the same name", { timeout }, async () => {
  const placement = new Placement(2);
  const { islands, site } = placement;
  await placement.openArchives(1, 1, 2);
  const [cache] = (await placement.openCaches(await islands.host(1), 1)) as [Placed];
  const watch = await watchCommits(cache.url, placement.urls);
  await watch.progress(20);
  const stopped = placement.archives[2] as Placed;
  stopped.running.kill("SIGTERM");
  await stopped.running.ended();
  const copy = join(site.directory, "copy");
  copyFolder(join(site.directory, stopped.name), copy);
  const archive = await placement.archive(stopped.host, 2);
  placement.archives[2] = archive;

  // No multicast between the two.
  const stray = placement.strayArchive(await islands.host(1), copy);
  expect(await stray.ended(60_000)).toMatchObject({ code: 1 });
  expect(stray.stderr).toMatch(/has this one's data folder, or a copy of it/);
  await eventually("the one that runs has found out", 10_000, () =>
    expect(archive.running.stderr).toMatch(/another Archive has a copy of this one's data folder/),
  );

  // Now the two do not reach each other, and all others reach both: by its BOOT the copy takes the other's place.
  const secondCopy = join(site.directory, "second-copy");
  archive.running.kill("SIGTERM");
  await archive.running.ended();
  copyFolder(join(site.directory, archive.name), secondCopy);
  const before = await placement.archive(stopped.host, 2);
  const apart = await islands.host(1);
  apart.avoid(before.host);
  before.host.avoid(apart);
  const after = placement.strayArchive(apart, secondCopy);
  await after.says(/^ready archive/m, 60_000);
  expect((await before.running.ended(60_000)).code).not.toBe(0);
  expect(before.running.stderr).toMatch(/has this one's data folder, or a copy of it/);
  await watch.progress(20);
  after.kill("SIGTERM");
  await after.ended();
  placement.archives[2] = await placement.archive(stopped.host, 2);

  const other = placement.strayArchive(await islands.host(1), join(site.directory, "other"), "--create");
  await other.says(/^ready archive/m, 60_000);
  const near = placement.archives[0] as Placed;
  await eventually("both databases have heard of the other", 20_000, () => {
    for (const one of [other, near.running]) expect(one.stderr).toMatch(/another database \([0-9a-f]{16}\) uses this multicast group/);
  });
  await watch.progress(20);
  expect(
    (await statusAt(cache.url))
      .filter(({ kind }) => kind === "archive")
      .map(({ pid }) => pid)
      .sort(),
  ).toEqual(placement.archives.map(({ pid }) => pid).sort());
  await watch.stop();
});
