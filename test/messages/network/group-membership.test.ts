/** What comes by multicast while the group is joined again all the time; what needs other hosts is in test/end-to-end/namespaces.test.ts. */
import { createSocket } from "node:dgram";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { keepMembership } from "../../../src/messages/network/group-membership.js";
import { bytes, openEngine } from "./network-conformance.js";
import { nodeHarness } from "./node-harness.js";

const harness = nodeHarness({ rejoinEveryMs: 1 });
afterEach(() => harness.reset());

test("nothing is lost while the group is joined again and again", async () => {
  const [sender, receiver] = [await openEngine(harness), await openEngine(harness)];
  const rounds = 200;
  for (let round = 0; round < rounds; round++) {
    for (let index = 0; index < 5; index++) sender.network.multicast(bytes(`${round}`));
    await sleep(1);
  }
  await harness.until(() => receiver.datagrams.length === rounds * 5);
  expect(harness.log).toEqual([]);
});

test("a membership that is gone comes back, and one that cannot be had is told", async () => {
  const groupAddress = "239.255.77.77";
  const interfaceAddress = "127.0.0.1";
  const [sender, receiver] = [createSocket("udp4"), createSocket({ type: "udp4", reuseAddr: true })];
  const lines: string[] = [];
  const log = (key: string, message: string): void => void lines.push(`${key}: ${message}`);
  await new Promise<void>((resolve) => receiver.bind(0, groupAddress, resolve));
  await new Promise<void>((resolve) => sender.bind(0, interfaceAddress, resolve));
  const heard: string[] = [];
  receiver.on("message", (message) => void heard.push(message.toString()));
  const { port } = receiver.address();
  // Not joined yet, as after the interface was another one.
  const stop = keepMembership({ sender, receiver, groupAddress, interfaceAddress }, 5, log);
  await harness.until(() => {
    sender.send("come", port, groupAddress);
    return heard.length > 0;
  });
  stop();
  expect(lines).toEqual([]);
  const stopOther = keepMembership({ sender, receiver, groupAddress, interfaceAddress: "192.0.2.1" }, 5, log);
  await harness.until(() => lines.length > 0);
  stopOther();
  expect(lines[0]).toMatch(/^membership: the multicast group 239\.255\.77\.77 was not joined again: /);
  sender.close();
  receiver.close();
});
