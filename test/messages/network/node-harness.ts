/** Real networks on loopback, for tests. */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Endpoint } from "../../../src/base/ids.js";
import { groupOf } from "../../../src/messages/network/group.js";
import type { Network } from "../../../src/messages/network/network.js";
import { type NodeNetworkOptions, openNodeNetwork } from "../../../src/messages/network/node-network.js";
import { clusterId, type NetworkHarness, newNonce, type OpenSpec, secret } from "./network-conformance.js";

/** One group per test process, so that test files that run side by side do not hear each other. */
export const testGroup = groupOf(`test ${createHash("sha256").update(String(process.pid)).digest("hex")}`);

export interface NodeHarness extends NetworkHarness {
  openWith(spec: OpenSpec, more: Partial<NodeNetworkOptions>): Promise<Network>;
  readonly log: string[];
}

const silent = { onDatagram() {}, onReliable() {}, onConnected() {}, onDisconnected() {} };

export function nodeHarness(always: Partial<NodeNetworkOptions> = {}): NodeHarness {
  const opened: Network[] = [];
  const log: string[] = [];
  const openWith = async (spec: OpenSpec, more: Partial<NodeNetworkOptions>): Promise<Network> => {
    const network = await openNodeNetwork({
      ...spec,
      ...testGroup,
      interfaceAddress: "127.0.0.1",
      log: (_level, message) => void log.push(message),
      ...always,
      ...more,
    });
    opened.push(network);
    return network;
  };
  return {
    log,
    openWith,
    open: (spec) => openWith(spec, {}),
    async until(condition) {
      for (let waitedMs = 0; !condition(); waitedMs += 5) {
        if (waitedMs > 20_000) throw new Error(`not reached in ${waitedMs} ms; log: ${log.join("; ")}`);
        await sleep(5);
      }
    },
    async pass(ms) {
      await sleep(ms);
    },
    settle: (answer) => answer,
    async deadEndpoint(): Promise<Endpoint> {
      const network = await openNodeNetwork({ clusterId, secret, nonce: newNonce(), handlers: silent, interfaceAddress: "127.0.0.1", ...testGroup });
      await network.close();
      return network.endpoint;
    },
    async reset() {
      await Promise.all(opened.splice(0).map((network) => network.close()));
      log.length = 0;
    },
  };
}
