/**
 * What the network carries on loopback: node dist/bench/network.js. One process sends to two others; all figures are of one run on this
 * machine, and hold as ratios only.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import type { ClusterId, Endpoint, Nonce } from "../src/base/ids.js";
import { groupOf } from "../src/messages/network/group.js";
import type { Network, NetworkHandlers } from "../src/messages/network/network.js";
import { openNodeNetwork } from "../src/messages/network/node-network.js";

const script = fileURLToPath(import.meta.url);
const runMs = 2000;
/** libuv reads at most so many per turn (design.md §4). */
const datagramsPerTurn = 32;
/** Sent and not yet acknowledged by every receiver: no flow control here but this. */
const windowDatagrams = 256;
const ackEvery = 32;

const request = 1;
const acknowledgement = 2;
const echo = 3;

function open(handlers: Partial<NetworkHandlers>): Promise<Network> {
  return openNodeNetwork({
    clusterId: "00112233445566aa" as ClusterId,
    secret: Buffer.alloc(32, 1),
    nonce: (process.pid * 2 ** 16) as Nonce,
    interfaceAddress: "127.0.0.1",
    ...groupOf(`bench ${process.env.ATOMCAST_BENCH ?? process.pid}`),
    handlers: { onDatagram() {}, onReliable() {}, onConnected() {}, onDisconnected() {}, ...handlers },
    log: (_level, message) => console.error(message),
  });
}

/** Acknowledges every 32nd datagram and message, and echoes what asks for it. */
async function receiver(): Promise<void> {
  let datagrams = 0;
  let messages = 0;
  const network = await open({
    onDatagram(from, _nonce, payload) {
      if (payload[0] === echo) network.sendDatagram(from, payload);
      else if (++datagrams % ackEvery === 0) network.sendDatagram(from, Buffer.from([acknowledgement]));
    },
    onReliable(from, _nonce, payload) {
      if (payload[0] === echo) network.sendReliable(from, payload);
      else if (++messages % ackEvery === 0) network.sendReliable(from, Buffer.from([acknowledgement]));
    },
  });
  process.on("message", () => process.send?.({ drops: network.counters.kernelDrops, received: network.counters.datagramsReceived }));
  process.on("disconnect", () => process.exit(0));
  process.send?.({ endpoint: network.endpoint });
}

interface Peer {
  readonly child: ChildProcess;
  readonly endpoint: Endpoint;
}

async function startPeer(): Promise<Peer> {
  const child = fork(script, ["receiver"], { env: { ...process.env, ATOMCAST_BENCH: String(process.pid) } });
  const [{ endpoint }] = (await once(child, "message")) as [{ endpoint: Endpoint }];
  return { child, endpoint };
}

/** Sends for two seconds, as fast as the acknowledgements of all peers allow; what they do not acknowledge for 50 ms is taken as lost. */
async function rate(acked: Map<Endpoint, number>, window: number, sendOne: () => void): Promise<number> {
  for (const endpoint of acked.keys()) acked.set(endpoint, 0);
  const endMs = performance.now() + runMs;
  let sent = 0;
  let lostUpTo = 0;
  let movedMs = performance.now();
  let lastAcked = 0;
  while (performance.now() < endMs) {
    const slowest = Math.min(...acked.values());
    if (slowest !== lastAcked) movedMs = performance.now();
    else if (performance.now() - movedMs > 50) lostUpTo = sent - slowest;
    lastAcked = slowest;
    for (let index = 0; index < datagramsPerTurn && sent - slowest - lostUpTo < window; index++, sent++) sendOne();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return (Math.min(...acked.values()) / runMs) * 1000;
}

async function roundTrips(count: number, once1: () => Promise<void>): Promise<string> {
  const micros: number[] = [];
  for (let index = 0; index < count; index++) {
    const startMs = performance.now();
    await once1();
    micros.push((performance.now() - startMs) * 1000);
  }
  micros.sort((left, right) => left - right);
  return `p50 ${micros[count >> 1]?.toFixed(0)} µs, p99 ${micros[Math.floor(count * 0.99)]?.toFixed(0)} µs`;
}

async function main(): Promise<void> {
  process.env.ATOMCAST_BENCH = String(process.pid);
  const peers = [await startPeer(), await startPeer()];
  const acked = new Map<Endpoint, number>(peers.map((peer) => [peer.endpoint, 0]));
  let echoed = (): void => {};
  const onPayload = (from: Endpoint, _nonce: Nonce, payload: Buffer): void => {
    if (payload[0] === echo) echoed();
    else acked.set(from, (acked.get(from) ?? 0) + ackEvery);
  };
  const network = await open({ onDatagram: onPayload, onReliable: onPayload });
  const first = peers[0]?.endpoint ?? ("" as Endpoint);
  for (const sizeBytes of [1400, 8192]) {
    const payload = Buffer.alloc(sizeBytes, request);
    const perSecond = await rate(acked, windowDatagrams, () => network.multicast(payload));
    console.log(`multicast, ${sizeBytes} B, to two: ${Math.round(perSecond)} datagrams/s, ${Math.round((perSecond * sizeBytes) / 1e6)} MB/s each`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const message = Buffer.alloc(150, request);
  const sendToAll = (): void => {
    for (const peer of peers) network.sendReliable(peer.endpoint, message);
  };
  console.log(`reliable, 150 B, to two: ${Math.round(await rate(acked, 4096, sendToAll))} messages/s each`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const asked = Buffer.from([echo]);
  const answer = (send: () => void): Promise<void> =>
    new Promise((resolve) => {
      echoed = resolve;
      send();
    });
  console.log(`datagram and back: ${await roundTrips(3000, () => answer(() => network.sendDatagram(first, asked)))}`);
  console.log(`reliable and back: ${await roundTrips(3000, () => answer(() => void network.sendReliable(first, asked)))}`);
  for (const { child } of peers) {
    child.send("counters");
    await once(child, "message");
    await new Promise((resolve) => setTimeout(resolve, 1100));
    child.send("counters");
    const [counters] = (await once(child, "message")) as [{ drops: number; received: number }];
    console.log(`a receiver took ${counters.received} datagrams; the kernel dropped ${counters.drops}`);
    child.disconnect();
  }
  await network.close();
}

await (process.argv[2] === "receiver" ? receiver() : main());
