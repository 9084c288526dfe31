/** What an operator may start by mistake: a copy of an Archive's folder, another version. Both sides say so, and nothing comes of it. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { query } from "./convergence.js";
import { bothNetworks, command, copyFolder, type Engine, openSite, type Running, type Site } from "./processes.js";
import { eventually } from "./waiting.js";

const refusal = /has this one's data folder, or a copy of it\. Stop this one for good/;
const warning = /another Archive has a copy of this one's data folder, and is told to stop/;

/** The folder as it was when its engine had stopped, which runs again then. */
async function copyOf(site: Site, archive: Engine): Promise<{ copy: string; again: Engine }> {
  archive.kill("SIGTERM");
  await archive.ended();
  const copy = join(site.directory, `${archive.name}-copy`);
  copyFolder(join(site.directory, archive.name), copy);
  return { copy, again: await archive.restart() };
}

describe("a copy of an Archive's folder", () => {
  test.each(bothNetworks)("is not let in beside the one that runs, which goes on (%s)", async (network) => {
    const site = openSite(network);
    const archives = [await site.archive("archive-1"), await site.archive("archive-2"), await site.archive("archive-3")];
    const cache = await site.cache("cache-1");
    await query(cache.url, "create table t (id integer primary key)");
    const { copy, again } = await copyOf(site, archives[2] as Engine);
    const refused = await site.run(["archive", "--data", copy]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(refusal);
    await eventually("the one that runs has found out", 5000, () => expect(again.stderr).toMatch(warning));
    for (const archive of [archives[0], archives[1], again]) expect(archive?.isRunning).toBe(true);
    await query(cache.url, "insert into t values (1)");
    const members = await query(cache.url, "select pid from system.engines where kind = 'archive' order by pid");
    expect(members.map(([pid]) => Number(pid))).toEqual(
      [archives[0]?.pid, archives[1]?.pid, again.pid].sort((left, right) => Number(left) - Number(right)),
    );
  });

  test.each(bothNetworks)("of the only Archive neither: it would have voted for itself (%s)", async (network) => {
    const site = openSite(network);
    const { copy, again } = await copyOf(site, await site.archive("archive-1"));
    const cache = await site.cache("cache-1");
    await query(cache.url, "create table t (id integer primary key)");
    const refused = await site.run(["archive", "--data", copy]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(refusal);
    await query(cache.url, "insert into t values (1)");
    expect(again.isRunning).toBe(true);
  });

  test("two that begin at once: one of them goes on", async () => {
    const site = openSite("multicast");
    const { copy, again } = await copyOf(site, await site.archive("archive-1"));
    again.kill("SIGTERM");
    await again.ended();
    const both: Running[] = [copy, join(site.directory, "archive-1")].map((folder, index) =>
      site.spawn(`twin-${index}`, ["archive", "--data", folder]),
    );
    const ended = await Promise.race(both.map((one) => one.ended(30_000).then(() => one)));
    expect(ended.stderr).toMatch(refusal);
    const other = both.find((one) => one !== ended) as Running;
    await other.says(/^ready archive/m);
    expect(other.stderr).toMatch(warning);
  });
});

/** The built command as a later version would be, with entries of another format. */
function otherVersion(site: Site): string {
  const root = join(site.directory, "other-version");
  const source = dirname(dirname(command));
  mkdirSync(root);
  cpSync(source, join(root, "dist", "src"), { recursive: true });
  const repository = fileURLToPath(new URL("../../", import.meta.url));
  cpSync(join(repository, "package.json"), join(root, "package.json"));
  symlinkSync(join(repository, "node_modules"), join(root, "node_modules"));
  const entry = join(root, "dist", "src", "messages", "wire", "entry.js");
  const text = readFileSync(entry, "utf8");
  const changed = text.replace(/formatVersion = (\d+);/, (_, version: string) => `formatVersion = ${Number(version) + 1};`);
  expect(changed).not.toBe(text);
  writeFileSync(entry, changed);
  return join(root, "dist", "src", "bin", "atomcast.js");
}

describe("another version", () => {
  test("finds the database by multicast, says what is wrong, and is told of", async () => {
    const site = openSite("multicast");
    const archive = await site.archive("archive-1");
    const cache = await site.cache("cache-1");
    const newer = site.spawnProgram("newer", process.execPath, [otherVersion(site), "cache"]);
    expect(await newer.ended(30_000)).toMatchObject({ code: 1 });
    expect(newer.stderr).toMatch(
      /the engine at 127\.0\.0\.1:\d+ is of another format version, and engines of one database must run the same version/,
    );
    expect(archive.stderr).toMatch(/sends datagrams of another format version/);
    await query(cache.url, "create table t (id integer primary key)");
  });

  test("is not answered where it has to ask, and is told of there", async () => {
    const site = openSite("unicast");
    const archive = await site.archive("archive-1");
    const [, contact = ""] = /"endpoint":"(127\.0\.0\.1:\d+)"|endpoint: "?(127\.0\.0\.1:\d+)/.exec(archive.stderr) ?? [];
    const newer = site.spawnProgram("newer", process.execPath, [otherVersion(site), "cache", "--no-multicast", "--join", contact]);
    expect(await newer.ended(30_000)).toMatchObject({ code: 1 });
    expect(newer.stderr).toMatch(/nor at 127\.0\.0\.1:\d+: start an Archive first; one of another version does not answer, and its log says so/);
    expect(archive.stderr).toMatch(/sends datagrams of another format version/);
    expect(archive.isRunning).toBe(true);
  });
});
