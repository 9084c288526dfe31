/**
 * `npm run test:network`: islands of multicast with routers between them, as network namespaces of this machine. Each island is a host with engines of its
 * own; multicast does not pass the router (its time to live is 1). Nothing leaves the machine. Wants root and iproute2; left out, with a message, elsewhere.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Status } from "../../src/engines/database.js";
import { command, openSite, type Running, type Site } from "./processes.js";
import { eventually } from "./waiting.js";

const isWanted = process.env.ATOMCAST_TEST_NAMESPACES === "1";

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

function canMakeNamespaces(): boolean {
  const name = `atomcast-${process.pid}`;
  if (spawnSync("ip", ["netns", "add", name]).status !== 0) return false;
  ip("netns", "delete", name);
  return true;
}

const isPossible = isWanted && canMakeNamespaces();
if (isWanted && !isPossible) process.stderr.write("test:network is left out: it wants root and iproute2, to make network namespaces\n");

interface Islands {
  /** Runs a program in an island. */
  exec(island: number, ...args: string[]): string[];
  link(island: number, isUp: boolean): void;
  addressOf(island: number): string;
}

/** Hosts 1 … count, each with its own network, and a router between them. */
function makeIslands(count: number): Islands {
  const tag = `at${process.pid % 10_000}`;
  const router = `${tag}r`;
  const names = Array.from({ length: count }, (_, index) => `${tag}i${index + 1}`);
  onTestFinished(() => {
    for (const name of [router, ...names]) spawnSync("ip", ["netns", "delete", name]);
  });
  const within = (namespace: string, ...args: string[]): void => ip("netns", "exec", namespace, ...args);
  ip("netns", "add", router);
  within(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
  for (const [index, name] of names.entries()) {
    const [inner, outer] = [`${tag}v${index + 1}`, `${tag}w${index + 1}`];
    ip("netns", "add", name);
    ip("link", "add", inner, "netns", name, "type", "veth", "peer", "name", outer, "netns", router);
    within(name, "ip", "address", "add", `10.77.${index + 1}.2/24`, "dev", inner);
    within(router, "ip", "address", "add", `10.77.${index + 1}.1/24`, "dev", outer);
    within(name, "ip", "link", "set", "lo", "up");
    within(name, "ip", "link", "set", inner, "up");
    within(router, "ip", "link", "set", outer, "up");
    within(name, "ip", "route", "add", "default", "via", `10.77.${index + 1}.1`);
  }
  return {
    exec: (island, ...args) => ["netns", "exec", names[island - 1] as string, ...args],
    link: (island, isUp) => within(router, "ip", "link", "set", `${tag}w${island}`, isUp ? "up" : "down"),
    addressOf: (island) => `10.77.${island}.2`,
  };
}

interface Cache {
  readonly running: Running;
  readonly island: number;
  readonly url: string;
}

test.runIf(isPossible)("three islands of multicast, a voter in each; a link that goes down, and comes back", { timeout: 240_000 }, async () => {
  const site: Site = openSite("multicast");
  const islands = makeIslands(3);
  const port = 7700;
  const inIsland = (island: number, name: string, ...args: string[]): Running =>
    site.spawnProgram(name, "ip", islands.exec(island, process.execPath, command, ...args, "--interface", islands.addressOf(island)));
  const contact = `${islands.addressOf(1)}:${port}`;
  for (const island of [1, 2, 3]) {
    const folder = join(site.directory, `archive-${island}`);
    const how = island === 1 ? ["--create", "--port", String(port)] : ["--join", contact];
    await inIsland(island, `archive-${island}`, "archive", "--data", folder, ...how).says(/^ready archive/m);
  }
  const caches: Cache[] = [];
  for (const [index, island] of [1, 2, 2, 2, 3, 3, 3].entries()) {
    const running = inIsland(island, `cache-${index + 1}`, "cache", "--join", contact);
    const [, url = ""] = await running.says(/^ready cache id=\d+ pid=\d+ http=(\S+)$/m);
    caches.push({ running, island, url });
  }
  const ask = (cache: Cache, ...args: string[]): string => {
    const asked = spawnSync("ip", islands.exec(cache.island, process.execPath, command, ...args), { encoding: "utf8", env: site.environment });
    if (asked.status !== 0) throw new Error(asked.stderr);
    return asked.stdout;
  };
  const sql = (cache: Cache, text: string): string => ask(cache, "sql", cache.url, "--json", "-c", text);
  const statusOf = (cache: Cache): Status => JSON.parse(ask(cache, "status", cache.url, "--json")) as Status;
  const expectCount = (cache: Cache, count: number): Promise<void> =>
    eventually(`${count} rows`, 20_000, () => expect(sql(cache, "select count(*) from t")).toContain(`${count}`));
  const [first, , , , last] = caches as [Cache, Cache, Cache, Cache, Cache];

  sql(first, "create table t (id integer primary key, note text)");
  sql(last, "insert into t (note) values ('from the third island')");
  for (const cache of caches) await expectCount(cache, 1);

  // Of each island without the sequencer, one Cache or Archive hears by unicast; the others hear that one's multicast.
  await eventually("islands have found themselves", 20_000, () => {
    const { engines } = statusOf(first);
    const ofIsland = (island: number) => engines.filter(({ endpoint }) => endpoint.startsWith(`${islands.addressOf(island)}:`));
    const sequencer = engines.find((engine) => engine.isSequencer);
    for (const island of [1, 2, 3]) {
      const members = ofIsland(island).filter((engine) => engine !== sequencer);
      const isRoot = sequencer !== undefined && ofIsland(island).includes(sequencer);
      const unicast = members.filter(({ hears }) => hears === "unicast").length;
      expect([island, unicast]).toEqual([island, isRoot ? 0 : 1]);
      expect(members.filter(({ hears }) => hears.startsWith("multicast")).length).toBe(members.length - unicast);
    }
  });

  // The third island is cut off, and the other two go on; then it is back.
  const sequencerAt = statusOf(first).engines.find((engine) => engine.isSequencer)?.endpoint ?? "";
  const cut = sequencerAt.startsWith(islands.addressOf(3)) ? 2 : 3;
  islands.link(cut, false);
  await eventually("the others go on", 30_000, () => {
    sql(first, "insert into t (note) values ('meanwhile')");
  });
  islands.link(cut, true);
  for (const cache of caches) await expectCount(cache, 2);
});
