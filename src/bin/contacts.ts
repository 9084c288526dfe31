/** What `--join` names, as endpoints. */
import { lookup } from "node:dns/promises";
import { createServer } from "node:net";
import type { Endpoint } from "../base/ids.js";
import { endpointOf } from "../messages/network/endpoint-address.js";
import { type CommonOptions, parseHostPort } from "./options.js";

/** A name that is not known just now is told and left out: the others may do, and an Archive knows members by its folder. */
export async function contactsOf({ join }: CommonOptions): Promise<readonly Endpoint[]> {
  const endpoints = await Promise.all(join.map(endpointOfName));
  return [...new Set(endpoints.filter((endpoint) => endpoint !== null))];
}

async function endpointOfName(name: string): Promise<Endpoint | null> {
  const { host, port } = parseHostPort("join", name);
  try {
    return endpointOf((await lookup(host, 4)).address, port);
  } catch (error) {
    process.stderr.write(`atomcast: --join ${name}: ${(error as Error).message}; it is left out\n`);
    return null;
  }
}

/** Ports of the interface that were free a moment ago, each another one. */
export async function freePorts(host: string, count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once("error", reject);
          server.listen(0, host, () => {
            const address = server.address();
            resolve(typeof address === "object" && address !== null ? address.port : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
