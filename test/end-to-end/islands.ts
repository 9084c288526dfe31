/**
 * Hosts on islands of multicast, as network namespaces of this machine: each island is a switch, all are joined by one router, which lets no multicast
 * through. Nothing leaves the machine. Wants root and iproute2.
 *
 *     host ── switch 1 ── router ── switch 2 ── host
 *     host ──┘              └────── switch 3 ── host
 */
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { command, type Running, type Site } from "./processes.js";

const gateway = fileURLToPath(new URL("../../dist/test/end-to-end/gateway.js", import.meta.url));

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

export function canMakeNamespaces(): boolean {
  const name = `atomcast-${process.pid}`;
  if (spawnSync("ip", ["netns", "add", name]).status !== 0) return false;
  ip("netns", "delete", name);
  return true;
}

export interface Host {
  readonly name: string;
  /** Changes when it moves. */
  readonly address: string;
  readonly island: number;
  /** Starts a program there. */
  start(name: string, ...args: string[]): Running;
  /** A URL of this process for one that is the host's own. */
  reach(url: string): Promise<string>;
  /** Its interface goes, and another comes with the same address, as when a virtual machine moves. */
  replaceInterface(): void;
  /** Sends nothing to these hosts, whatever way. */
  avoid(...others: readonly Host[]): void;
  /** To another island, with an address of that. */
  move(island: number): void;
}

export interface Islands {
  /** Another host. */
  host(island: number): Promise<Host>;
  /** Between the island and the router. */
  link(island: number, isUp: boolean): void;
  /** Whether the island's switch passes multicast on. */
  multicast(island: number, isOn: boolean): void;
  /** Runs a command where the switches are. */
  atSwitches(...args: string[]): string;
}

/** Names of interfaces have fifteen characters at most. */
export function makeIslands(site: Site, count: number): Islands {
  const tag = `at${process.pid % 10_000}`;
  const router = `${tag}r`;
  const namespaces = [router];
  onTestFinished(() => {
    for (const name of namespaces) spawnSync("ip", ["netns", "delete", name]);
  });
  const within = (namespace: string, ...args: string[]): string =>
    execFileSync("ip", ["netns", "exec", namespace, ...args], { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
  const atRouter = (...args: string[]): string => within(router, ...args);
  ip("netns", "add", router);
  atRouter("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
  for (let island = 1; island <= count; island++) {
    atRouter("ip", "link", "add", `s${island}`, "type", "bridge", "mcast_snooping", "0");
    atRouter("ip", "link", "add", `r${island}`, "type", "veth", "peer", "name", `u${island}`);
    atRouter("ip", "address", "add", `10.77.${island}.1/24`, "dev", `r${island}`);
    atRouter("ip", "link", "set", `u${island}`, "master", `s${island}`);
    for (const device of [`s${island}`, `u${island}`, `r${island}`]) atRouter("ip", "link", "set", device, "up");
  }
  const ports: { readonly port: string; island: number }[] = [];
  const withoutMulticast = new Set<number>();
  const setFlood = (port: string, isOn: boolean): void => void atRouter("bridge", "link", "set", "dev", port, "mcast_flood", isOn ? "on" : "off");

  const makeHost = async (firstIsland: number): Promise<Host> => {
    const number = ports.length + 1;
    const namespace = `${tag}h${number}`;
    const port = { port: `p${number}`, island: firstIsland };
    namespaces.push(namespace);
    ports.push(port);
    ip("netns", "add", namespace);
    within(namespace, "ip", "link", "set", "lo", "up");
    const makeInterface = (): void => ip("link", "add", "eth", "netns", namespace, "type", "veth", "peer", "name", port.port, "netns", router);
    const address = (): string => `10.77.${port.island}.${number + 10}`;
    const plug = (): void => {
      atRouter("ip", "link", "set", port.port, "master", `s${port.island}`, "up");
      setFlood(port.port, !withoutMulticast.has(port.island));
      within(namespace, "ip", "address", "add", `${address()}/24`, "dev", "eth");
      within(namespace, "ip", "link", "set", "eth", "up");
      within(namespace, "ip", "route", "replace", "default", "via", `10.77.${port.island}.1`);
    };
    makeInterface();
    plug();
    const socket = join(site.directory, `${namespace}.gateway`);
    const run = (name: string, ...args: string[]): Running => site.spawnProgram(name, "ip", ["netns", "exec", namespace, process.execPath, ...args]);
    await run(`${namespace} gateway`, gateway, socket).says(/^ready$/m);
    return {
      name: namespace,
      get address() {
        return address();
      },
      get island() {
        return port.island;
      },
      start: (name, ...args) => run(name, command, ...args),
      reach: (url) => reachThrough(socket, url),
      replaceInterface: () => {
        within(namespace, "ip", "link", "delete", "eth");
        makeInterface();
        plug();
      },
      avoid: (...others) => {
        for (const other of others) within(namespace, "ip", "route", "replace", "blackhole", `${other.address}/32`);
      },
      move: (island) => {
        within(namespace, "ip", "address", "flush", "dev", "eth");
        port.island = island;
        plug();
      },
    };
  };
  return {
    host: makeHost,
    link: (island, isUp) => void atRouter("ip", "link", "set", `r${island}`, isUp ? "up" : "down"),
    multicast: (island, isOn) => {
      if (isOn) withoutMulticast.delete(island);
      else withoutMulticast.add(island);
      for (const one of ports) if (one.island === island) setFlood(one.port, isOn);
    },
    atSwitches: atRouter,
  };
}

/** A port of this process that leads to the gateway, and with it to the port of `url`. */
async function reachThrough(socket: string, url: string): Promise<string> {
  const server = createServer((client) => {
    const inner = connect(socket);
    inner.write(`${new URL(url).port}\n`);
    client.pipe(inner);
    inner.pipe(client);
    for (const one of [client, inner]) {
      one.on("error", () => one.destroy());
      one.on("close", () => (one === client ? inner : client).destroy());
    }
  });
  onTestFinished(() => {
    server.close();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
