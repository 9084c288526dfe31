/** The command as its users meet it: what it prints, how it ends, and what it says to wrong uses. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { describe, expect, test } from "vitest";
import { type Engine, type Finished, freePort, openSite, type Site } from "./processes.js";
import { eventually, pause } from "./waiting.js";

async function rows(url: string, sql: string): Promise<unknown[][]> {
  const client = createClient({ url });
  try {
    return (await client.execute(sql)).rows.map((row) => Object.values(row));
  } finally {
    client.close();
  }
}

/** Failed with one line for people, matching; whatever else is on stderr is log. */
function expectRefusal(finished: Finished, message: RegExp): void {
  const lines = finished.stderr.trimEnd().split("\n");
  const told = lines.filter((line) => !line.startsWith("{"));
  expect(told.join("\n")).toMatch(message);
  expect(told.length).toBe(1);
  expect(told[0]).toMatch(/^atomcast: /);
  expect(finished.stdout).toBe("");
  expect(finished.code).toBe(1);
}

const endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n";

describe("ready, and the end", () => {
  test("the ready lines; SIGTERM is a LEAVE that others apply", async () => {
    const site = openSite();
    const archive = await site.archive("archive-1");
    const [cache, other] = await Promise.all([site.cache("cache-1"), site.cache("cache-2")]);
    expect(archive.stdout).toBe(`ready archive id=${archive.id} pid=${archive.pid} http=-\n`);
    expect(cache.stdout).toBe(`ready cache id=${cache.id} pid=${cache.pid} http=${cache.url}\n`);
    expect(cache.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const ids = async (): Promise<unknown[]> => (await rows(other.url, "select id from system.engines order by id")).flat();
    expect(await ids()).toEqual([archive.id, cache.id, other.id].sort((left, right) => left - right));
    cache.kill("SIGTERM");
    expect(await cache.ended()).toEqual({ code: 0, signal: null });
    // Its LEAVE was applied by the sequencer before it ended; this Cache follows within a heartbeat, long before silence would evict it.
    await eventually("its LEAVE is applied", 1000, async () => expect(await ids()).not.toContain(cache.id));
    other.kill("SIGTERM");
    expect(await other.ended()).toEqual({ code: 0, signal: null });
    archive.kill("SIGTERM");
    expect(await archive.ended()).toEqual({ code: 0, signal: null });
    const again = await archive.restart();
    expect(again.id).toBeGreaterThan(other.id);
  });

  test("a second SIGTERM ends at once, in the middle of what the first waits for", async () => {
    const site = openSite();
    const archive = await site.archive("archive-1");
    const cache = await site.cache("cache-1");
    // Without its sequencer nobody orders the Cache's LEAVE, so the first signal waits.
    archive.kill("SIGKILL");
    await archive.ended();
    cache.kill("SIGTERM");
    await pause(300);
    expect(cache.isRunning).toBe(true);
    cache.kill("SIGTERM");
    expect(await cache.ended(1000)).toEqual({ code: null, signal: "SIGKILL" });
  });

  test("a statement that goes on for ever is ended with its Cache", async () => {
    const site = openSite();
    await site.archive("archive-1");
    const cache = await site.cache("cache-1");
    const asked = expect(rows(cache.url, endless)).rejects.toThrow();
    await pause(500);
    cache.kill("SIGTERM");
    expect(await cache.ended(15_000)).toEqual({ code: 0, signal: null });
    expect(cache.stderr).not.toMatch(/FATAL|stopping failed/);
    await asked;
  });

  test("one that cannot be ended, for it is a join in a view's text that names no column, holds up neither the first signal nor the second", async () => {
    const site = openSite();
    await site.archive("archive-1");
    const [cache, hurried] = await Promise.all([site.cache("cache-1"), site.cache("cache-2")]);
    await rows(cache.url, "create table n (i integer primary key)");
    await rows(cache.url, "insert into n with recursive c(i) as (select 1 union all select i + 1 from c where i < 1000) select i from c");
    await rows(cache.url, "create view forever as select count(*) from n, n as a, n as b, n as c, n as d");
    await expect.poll(() => rows(hurried.url, "select name from sqlite_schema where type = 'view'")).toEqual([["forever"]]);
    const asked = [cache, hurried].map((one) => expect(rows(one.url, "select * from forever")).rejects.toThrow());
    await pause(500);
    cache.kill("SIGTERM");
    hurried.kill("SIGTERM");
    await pause(50);
    hurried.kill("SIGTERM");
    expect(await hurried.ended(1000)).toEqual({ code: null, signal: "SIGKILL" });
    // It has left, and its thread is left behind: only force ends that.
    expect(await cache.ended(15_000)).toEqual({ code: null, signal: "SIGKILL" });
    expect(cache.stderr).not.toMatch(/FATAL|stopping failed/);
    await Promise.all(asked);
  });

  test("start: both engines in one process, on what is there when run again", async () => {
    const site = openSite();
    const args = ["start", "--data", join(site.directory, "all"), "--http", "127.0.0.1:0"];
    const ready = /^ready archive id=(\d+) pid=(\d+) http=-\nready cache id=(\d+) pid=(\d+) http=(\S+)\n$/;
    const first = site.spawn("start", args);
    const [, , pid, , cachePid, url = ""] = await first.says(ready);
    expect([Number(pid), Number(cachePid)]).toEqual([first.pid, first.pid]);
    await rows(url, "create table kept (id integer primary key)");
    await rows(url, "insert into kept values (7)");
    first.kill("SIGTERM");
    expect(await first.ended()).toEqual({ code: 0, signal: null });
    const second = site.spawn("start again", args);
    const again = await second.says(ready);
    expect(await rows(again[5] ?? "", "select id from kept")).toEqual([[7]]);
    // Ctrl-C under npm: the terminal's, and npm's own.
    second.kill("SIGINT");
    await pause(20);
    second.kill("SIGINT");
    expect(await second.ended()).toEqual({ code: 0, signal: null });
  });

  test("without multicast: start, a Cache that joins it by name, one that is told of that Cache alone, a cluster", async () => {
    const site = openSite("multicast");
    const [port, cachePort] = [await freePort(), await freePort()];
    const unicast = (...args: string[]): string[] => [...args, "--no-multicast"];
    const first = site.spawn("start", unicast("start", "--data", join(site.directory, "all"), "--http", "127.0.0.1:0", "--port", String(port)));
    const [, url = ""] = await first.says(/^ready cache id=\d+ pid=\d+ http=(\S+)$/m);
    await rows(url, "create table kept (id integer primary key)");
    await rows(url, "insert into kept values (7)");
    expectRefusal(await site.run(unicast("cache")), /--no-multicast: name a live engine of the database with --join HOST:PORT/);
    const second = await site.cache("cache", unicast("--join", `localhost:${port}`, "--port", String(cachePort)));
    expect(await rows(second.url, "select id from kept")).toEqual([[7]]);
    // A Cache cannot give it the catalogs: it says who can.
    const third = await site.cache("another", unicast("--join", "127.0.0.1:9", "--join", `127.0.0.1:${cachePort}`));
    expect(await rows(third.url, "select id from kept")).toEqual([[7]]);
    await rows(third.url, "insert into kept values (8)");
    await eventually("all have it", 5000, async () => expect(await rows(second.url, "select count(*) from kept")).toEqual([[2]]));
    const engines = await rows(second.url, "select id, kind from system.engines order by id");
    const archive = engines.find(([, kind]) => kind === "archive")?.[0];
    // In from the one above; out to those below: both Caches besides are below the Archive.
    const link = `select l."from", e.kind, l.kind as how, l.frames > 0 as came, l.losses, l.round_trip_ms > 0 as took from system.links l join system.engines e on e.id = l."to"`;
    expect(await rows(second.url, link)).toEqual([[archive, "cache", "unicast", 1, 0, 1]]);
    const status = await site.run(["status", second.url]);
    expect(status.stdout.match(new RegExp(`unicast of ${archive} `, "g"))?.length).toBe(3);
    const discovered = await site.run(unicast("discover", "--join", `127.0.0.1:${cachePort}`));
    expect(discovered.stdout).toMatch(new RegExp(`^database ${site.database} \\([0-9a-f]{16}\\), key`));
    expect(discovered.stdout.match(/ (sequencer|member) /g)?.length).toBe(4);
    const http = await freePort();
    const cluster = ["cluster", "--data", join(site.directory, "cluster"), "--archives", "3", "--caches", "1", "--http", String(http)];
    const fourth = site.spawn("cluster", unicast(...cluster, "--database", `${site.database}-2`));
    await fourth.says(/^ready cluster$/m);
    await rows(`http://127.0.0.1:${http}`, "create table kept (id integer primary key)");
    fourth.kill("SIGINT");
    expect(await fourth.ended()).toEqual({ code: 0, signal: null });
  });

  test("start: a port that is taken lets the Archive leave cleanly, and the database is there for the next try", async () => {
    const site = openSite();
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const address = taken.address();
    const port = typeof address === "object" ? address?.port : 0;
    const args = ["start", "--data", join(site.directory, "all")];
    expectRefusal(await site.run([...args, "--http", `127.0.0.1:${port}`]), new RegExp(`127\\.0\\.0\\.1:${port}: another program listens there`));
    taken.close();
    const second = site.spawn("start", [...args, "--http", `127.0.0.1:${port}`]);
    await second.says(/^ready cache/m);
  });

  test("cluster: its engines are children; Ctrl-C ends all of them in order, kill -9 of it too", async () => {
    const site = openSite();
    const port = await freePort();
    const args = ["cluster", "--data", join(site.directory, "cluster"), "--archives", "3", "--caches", "1", "--http", String(port)];
    const first = site.spawn("cluster", args);
    await first.says(/^ready cluster$/m);
    const pids = [...first.stdout.matchAll(/^ready (archive|cache) id=\d+ pid=(\d+) http=(\S+)$/gm)].map((match) => Number(match[2]));
    expect(pids.length).toBe(4);
    expect(first.stdout.trimEnd().split("\n").length).toBe(5);
    const url = `http://127.0.0.1:${port}`;
    await rows(url, "create table kept (id integer primary key)");
    await rows(url, "insert into kept values (7)");
    first.kill("SIGINT");
    expect(await first.ended()).toEqual({ code: 0, signal: null });
    expect(first.stderr).not.toMatch(/ended \((?!code 0)/);
    expect(pids.filter(isAlive)).toEqual([]);
    const second = site.spawn("cluster again", args);
    await second.says(/^ready cluster$/m);
    expect(await rows(url, "select id from kept")).toEqual([[7]]);
    const others = [...second.stdout.matchAll(/ pid=(\d+) /g)].map((match) => Number(match[1]));
    second.kill("SIGKILL");
    await second.ended();
    await eventually("no child outlives it", 15_000, () => expect(others.filter(isAlive)).toEqual([]));
  });

  test("cluster: what cannot start is told, and nothing is left running", async () => {
    const site = openSite();
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const address = taken.address();
    const port = typeof address === "object" ? address?.port : 0;
    const finished = await site.run([
      "cluster",
      "--data",
      join(site.directory, "cluster"),
      "--archives",
      "1",
      "--caches",
      "1",
      "--http",
      String(port),
    ]);
    taken.close();
    expect(finished.code).toBe(1);
    expect(finished.stderr).toMatch(/another program listens there/);
    expect(finished.stderr).toMatch(/^atomcast: cache-1 ended before it was ready$/m);
    const pids = [...finished.stdout.matchAll(/ pid=(\d+) /g)].map((match) => Number(match[1]));
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("wrong uses are one line on stderr and exit 1", () => {
  test("options", async () => {
    const site = openSite();
    const data = join(site.directory, "never");
    const cases: [readonly string[], RegExp][] = [
      [["start", "--data", data, "--nonsense"], /unknown option '--nonsense'/],
      [["nonsense"], /unknown command 'nonsense'/],
      [["archive"], /required option '--data <dir>'/],
      [["start", "--data", data, "--log", "loud"], /'loud' is invalid.*trace, debug/],
      [["start", "--data", data, "--http", "8787"], /--http takes HOST:PORT, such as 127\.0\.0\.1:8787, not "8787"/],
      [["start", "--data", data, "--http", "127.0.0.1:70000"], /--http takes HOST:PORT/],
      [["start", "--data", data, "--http", "0.0.0.0:0"], /beyond loopback clients need tokens/],
      [["start", "--data", data, "--group", "10.0.0.1:4000"], /--group takes an IPv4 multicast address/],
      [["archive", "--data", data, "--create", "--group", "239.1.1.1"], /--group takes HOST:PORT/],
      [["archive", "--data", data, "--create", "--voters", "2"], /--voters 2: an even number/],
      [["archive", "--data", data, "--create", "--voters", "many"], /--voters takes a whole number from 1 to 7, not "many"/],
      [["archive", "--data", data, "--create", "--interface", "203.0.113.9"], /203\.0\.113\.9/],
      [["archive", "--data", data, "--create", "--join", "nowhere"], /--join takes HOST:PORT, such as 127\.0\.0\.1:8787, not "nowhere"/],
      [["archive", "--data", data, "--create", "--join", "127.0.0.1:0"], /--join 127\.0\.0\.1:0: port 0 is nobody's/],
      [["start", "--data", data, "--port", "70000"], /--port takes a whole number from 0 to 65535/],
      [["cluster", "--data", data, "--archives", "0"], /--archives takes a whole number from 1 to 64/],
      [["cluster", "--data", data, "--caches", "-1"], /--caches takes a whole number from 0 to 64/],
      [["cluster", "--data", data, "--http", "65535", "--caches", "2"], /end beyond 65535/],
      [["cluster", "--data", data, "--voters", "4"], /--voters 4: an even number/],
      [["start", "--data", data, "--memory", "lots"], /--memory takes a size such as 64MB or 2GB, not "lots"/],
      [["start", "--data", data, "--memory", "-1MB"], /--memory takes a size/],
      [["cache", "--memory", "64 parsecs"], /--memory takes a size/],
      [["cluster", "--data", data, "--memory", "100K"], /--memory 100K: a Cache needs 1MB at least/],
      [["remove", "archive-2"], /ARCHIVE is a node id/],
      [["status", "http://127.0.0.1:1"], /no engine answers at http:\/\/127\.0\.0\.1:1/],
      [["import", join(site.directory, "nothing.sqlite"), "http://127.0.0.1:1"], /nothing\.sqlite/],
    ];
    for (let at = 0; at < cases.length; at += 4) {
      const some = cases.slice(at, at + 4);
      const finished = await Promise.all(some.map(([args]) => site.run(args)));
      for (const [index, [, message]] of some.entries()) expectRefusal(finished[index] as Finished, message);
    }
    // The shell's own way of telling errors.
    const shell = await site.run(["sql", "http://127.0.0.1:1", "-c", "select 1"]);
    expect(shell.stderr).toMatch(/^Error: No answer from http:\/\/127\.0\.0\.1:1.*\n$/);
    expect(shell.code).toBe(2);
    // But for the interface, which only the network can refuse, nothing was begun.
    expect(readdirSync(site.directory).filter((name) => name !== "never" && name !== "state")).toEqual([]);
  });

  test("folders, keys and databases", async () => {
    const site = openSite();
    const archive = await site.archive("archive-1");
    const data = join(site.directory, "archive-1");
    const stranger = join(site.directory, "stranger");
    mkdirSync(stranger);
    writeFileSync(join(stranger, "letter.txt"), "hello");
    expectRefusal(await site.run(["archive", "--data", stranger]), /is not the folder of an Archive: it has files in it/);
    expectRefusal(await site.run(["archive", "--data", join(stranger, "letter.txt")]), /is a file: name a folder/);
    expectRefusal(await site.run(["archive", "--data", data]), /in use/);
    expectRefusal(await site.run(["archive", "--data", data, "--create"]), /--create: .* is not empty; leave the option out/);
    archive.kill("SIGTERM");
    await archive.ended();
    expectRefusal(await site.run(["archive", "--data", data, "--database", "other"]), /belongs to the database "e2e-/);
    const identity = join(data, "atomcast.json");
    const text = readFileSync(identity, "utf8");
    writeFileSync(identity, text.replace('"format": 1', '"format": 99'));
    expectRefusal(await site.run(["archive", "--data", data]), /has format 99, this Atomcast reads format 1/);
    writeFileSync(identity, text);
    const keyFile = join(site.directory, "state", "atomcast", readdirSync(join(site.directory, "state", "atomcast"))[0] ?? "");
    chmodSync(keyFile, 0o644);
    expectRefusal(await site.run(["archive", "--data", data]), /can be read or changed by other users: run chmod 600/);
    chmodSync(keyFile, 0o600);
    expectRefusal(await site.run(["archive", "--data", data, "--key", join(stranger, "no.key")]), /no\.key cannot be read: there is no such file/);
    expectRefusal(await site.run(["archive", "--data", data, "--key", join(stranger, "letter.txt")]), /letter\.txt/);
    const otherKey = join(stranger, "other.key");
    writeFileSync(otherKey, readFileSync(keyFile, "utf8").replace(/"clusterId": "[0-9a-f]+"/, '"clusterId": "0123456789abcdef"'), { mode: 0o600 });
    expectRefusal(await site.run(["archive", "--data", data, "--key", otherKey]), /is of another database than/);
    await archive.restart();
  });

  test("no database to join: no key, or nobody who has it", async () => {
    const site = openSite("multicast");
    expectRefusal(await site.run(["cache"]), /no key of a database "e2e-[0-9a-f]+" is on this machine/);
    expectRefusal(await site.run(["archive", "--data", join(site.directory, "new")]), /no key of a database/);
    const archive = await site.archive("archive-1");
    archive.kill("SIGTERM");
    await archive.ended();
    const key = join(site.directory, "state", "atomcast", readdirSync(join(site.directory, "state", "atomcast"))[0] ?? "");
    const nobody = /no engine of a database "e2e-[0-9a-f]+" answers on 127\.0\.0\.1: start an Archive first/;
    const found = await Promise.all([
      site.run(["cache"]),
      site.run(["cache", "--key", key]),
      site.run(["archive", "--data", join(site.directory, "new"), "--key", key]),
    ]);
    for (const finished of found) expectRefusal(finished, nobody);
    expect(readdirSync(site.directory).sort()).toEqual(["archive-1", "state"]);
  });

  test("two databases of one name: the key decides", async () => {
    const site = openSite("multicast");
    const first = await site.archive("archive-1");
    const second = site.spawn("another", ["archive", "--data", join(site.directory, "another"), "--create"]);
    await second.says(/^ready archive/m);
    expectRefusal(await site.run(["cache"]), /2 databases "e2e-[0-9a-f]+" are up on this machine: name one with --key FILE \(.*\.key, .*\.key\)/);
    const { clusterId } = JSON.parse(readFileSync(join(site.directory, "another", "atomcast.json"), "utf8")) as { clusterId: string };
    const cache = await site.cache("cache-1", ["--key", join(site.directory, "state", "atomcast", `${clusterId}.key`)]);
    const status = JSON.parse((await site.run(["status", cache.url, "--json"])).stdout) as { clusterId: string };
    expect(status.clusterId).toBe(clusterId);
    for (const one of [first, second]) expect(one.stderr).toMatch(/another database \([0-9a-f]{16}\) uses this multicast group/);
  });
});

describe("asking a running engine", () => {
  const small = async (): Promise<{ site: Site; archive: Engine; cache: Engine }> => {
    const site = openSite();
    const archive = await site.archive("archive-1");
    return { site, archive, cache: await site.cache("cache-1") };
  };

  test("status, sql -c, and their JSON; ATOMCAST_… stands for each option", async () => {
    const { site, archive, cache } = await small();
    const status = await site.run(["status", cache.url]);
    expect(status).toMatchObject({ code: 0, stderr: "" });
    expect(status.stdout).toMatch(new RegExp(`^database ${site.database} \\([0-9a-f]{16}\\), committed \\d+, 1 atoms$`, "m"));
    expect(status.stdout).toMatch(new RegExp(`${archive.id}\\s+│ archive │ sequencer\\s+│ ${archive.pid}`));
    expect(status.stdout).toMatch(new RegExp(`${cache.id}\\s+│ cache\\s+│ learner\\s+│ ${cache.pid}\\s+│ ${cache.url}`));
    expect(status.stdout).toMatch(/^since this engine began: 0 atoms handed over, 0 demoted, 0 merged$/m);
    const json = JSON.parse((await site.run(["status"], { ATOMCAST_URL: cache.url, ATOMCAST_JSON: "1" })).stdout);
    expect(json).toMatchObject({ database: site.database, voters: [{ engine: archive.id }], engines: [{ id: archive.id }, { id: cache.id }] });
    const made = await site.run(["sql", cache.url, "-c", "create table pair (a, b); insert into pair values (1, 'x'), (2, null)"]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
    const asked = await site.run(["sql", cache.url, "--json", "-c", "select * from pair order by a"]);
    expect(asked).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(asked.stdout)).toEqual([
      { a: 1, b: "x" },
      { a: 2, b: null },
    ]);
    const byVariable = await site.run(["sql"], { ATOMCAST_URL: cache.url, ATOMCAST_COMMAND: "select count(*) from pair", ATOMCAST_JSON: "0" });
    expect(byVariable.stdout).toContain("count(*)");
    const wrong = await site.run(["sql", cache.url, "-c", "select * from nowhere"]);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain("no such table: nowhere");
  });

  test("engines take their options from ATOMCAST_…", async () => {
    const site = openSite("multicast");
    const port = await freePort();
    const variables = {
      ATOMCAST_DATA: join(site.directory, "by-variable"),
      ATOMCAST_DATABASE: `${site.database}-other`,
      ATOMCAST_HTTP: `127.0.0.1:${port}`,
      ATOMCAST_GROUP: `239.77.1.2:${await freePort()}`,
      ATOMCAST_VOTERS: "1",
      ATOMCAST_LOG: "warn",
      ATOMCAST_CREATE: "1",
    };
    const archive = site.spawn("archive", ["archive"], variables);
    await archive.says(/^ready archive/m);
    expect(archive.stderr).toBe("");
    const cache = site.spawn("cache", ["cache"], variables);
    await cache.says(new RegExp(`^ready cache id=\\d+ pid=\\d+ http=http://127\\.0\\.0\\.1:${port}$`, "m"));
    expect(await rows(`http://127.0.0.1:${port}`, "select 1")).toEqual([[1]]);
    expect((await site.run(["archive"], { ...variables, ATOMCAST_CREATE: "0" })).stderr).toMatch(/in use/);
    expect((await site.run(["archive"], { ...variables, ATOMCAST_VOTERS: "2" })).stderr).toMatch(/--voters 2/);
  });

  test("remove: not a voter, alive, the last one", async () => {
    const { site, cache } = await small();
    const { voters } = JSON.parse((await site.run(["status", cache.url, "--json"])).stdout) as { voters: { nodeId: number }[] };
    expectRefusal(await site.run(["remove", "1", cache.url]), /that Archive is not a voter/);
    expectRefusal(await site.run(["remove", String(voters[0]?.nodeId), cache.url]), /that Archive is alive; stop it first/);
  });
});
