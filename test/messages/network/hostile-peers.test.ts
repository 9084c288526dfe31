/** Real sockets against peers that have no key, another version, or no manners. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import type { ClusterId, Endpoint, Nonce } from "../../../src/base/ids.js";
import { seededRandom } from "../../../src/base/random.js";
import { endpointAddress, parseEndpoint } from "../../../src/messages/network/endpoint-address.js";
import { FrameReader } from "../../../src/messages/network/frame-codec.js";
import { decodeGreeting, encodeGreeting, type Greeting, type Hello } from "../../../src/messages/network/hello.js";
import { openNodeNetwork } from "../../../src/messages/network/node-network.js";
import { createSealer, tlsKey } from "../../../src/messages/network/sealing.js";
import { connectTls } from "../../../src/messages/network/tls-sockets.js";
import { formatVersion } from "../../../src/messages/wire/entry.js";
import { bytes, clusterId, type Engine, newNonce, openEngine, otherClusterId, otherSecret, secret } from "./network-conformance.js";
import { nodeHarness, testGroup } from "./node-harness.js";

const harness = nodeHarness();
const sockets: { destroy(): void }[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await harness.reset();
});

function addressOf(endpoint: Endpoint): NonNullable<ReturnType<typeof parseEndpoint>> {
  const parsed = parseEndpoint(endpoint);
  if (parsed === null) throw new Error(`${endpoint} is no endpoint`);
  return parsed;
}

/** A TLS client with the key (or a wrong one) that says what it likes. */
async function strangerOf(engine: Engine, key = tlsKey({ clusterId, secret }), cluster = clusterId): Promise<TLSSocket> {
  const socket = connectTls({ clusterId: cluster, key }, addressOf(engine.network.endpoint), "127.0.0.1");
  sockets.push(socket);
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

function frame(payload: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(payload.length);
  return Buffer.concat([header, payload]);
}

function helloOf(endpoint: string, changes: Partial<Hello> = {}): Hello {
  const numbers = { dialNumber: 1, takenDialNumber: 0, takenDialNonce: 0 };
  return { kind: "hello", clusterId, nonce: newNonce(), endpoint: endpoint as Endpoint, ...numbers, ...changes };
}

async function answerTo(socket: TLSSocket): Promise<Greeting> {
  const reader = new FrameReader(10_000);
  for (;;) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    reader.append(chunk);
    const answer = reader.next();
    if (answer !== null) return decodeGreeting(answer, formatVersion);
  }
}

test("datagrams without the key, replayed, cut short, of another version or cluster are counted, and never answered", async () => {
  const a = await openEngine(harness);
  const raw = createSocket("udp4");
  sockets.push({ destroy: () => raw.close() });
  raw.bind(0, "127.0.0.1");
  await once(raw, "listening");
  let answers = 0;
  raw.on("message", () => void answers++);
  const source = endpointAddress("127.0.0.1", raw.address().port)?.bytes ?? Buffer.alloc(0);
  const { port, address, bytes: destination } = addressOf(a.network.endpoint);
  const nonce = newNonce();
  const seal = (changes: { secret?: Buffer; clusterId?: ClusterId; nonce?: Nonce }, version = formatVersion): Buffer =>
    createSealer({ clusterId, secret, nonce, ...changes }, source, version).seal("unicast", destination, bytes("in"));
  const good = seal({});
  const bad = [
    good,
    good.subarray(0, 39),
    good.subarray(0, -1),
    seal({ secret: otherSecret, nonce: newNonce() }),
    seal({ clusterId: otherClusterId }),
    seal({}, formatVersion + 1),
  ];
  const tooLarge = Buffer.concat([good, Buffer.alloc(20_000)]);
  raw.send(good, port, address);
  await harness.until(() => a.datagrams.length === 1);
  for (const datagram of [...bad, tooLarge, Buffer.alloc(0), bytes("GET / HTTP/1.1")]) raw.send(datagram, port, address);
  await harness.until(() => a.network.counters.datagramsRefused === bad.length + 3);
  await sleep(20);
  expect([a.datagrams.length, answers]).toEqual([1, 0]);
  expect(harness.log.some((line) => line.includes("another format version"))).toBe(true);
  expect(harness.log.some((line) => line.includes("key does not open"))).toBe(true);
});

test("another database in the group is told of, once", async () => {
  const a = await openEngine(harness);
  const others = [
    await openEngine(harness, { clusterId: otherClusterId, secret: otherSecret }),
    await openEngine(harness, { clusterId: otherClusterId }),
  ];
  const told = (cluster: string): number =>
    harness.log.filter((line) => line.includes(`another database (${cluster}) uses this multicast group`)).length;
  for (const { network } of others) for (let index = 0; index < 3; index++) network.multicast(bytes("all"));
  a.network.multicast(bytes("all"));
  await harness.until(() => a.network.counters.datagramsRefused >= 6 && others.every(({ network }) => network.counters.datagramsRefused >= 1));
  expect([a.datagrams.length, told(otherClusterId), told(clusterId)]).toEqual([0, 1, 2]);
});

test("a datagram recorded on its way to one engine is refused by another, and from another source", async () => {
  const [a, b] = [await openEngine(harness), await openEngine(harness)];
  const raw = createSocket("udp4");
  sockets.push({ destroy: () => raw.close() });
  raw.bind(0, "127.0.0.1");
  await once(raw, "listening");
  const realSource = endpointAddress("127.0.0.1", raw.address().port)?.bytes ?? Buffer.alloc(0);
  const otherSource = endpointAddress("127.0.0.1", 9)?.bytes ?? Buffer.alloc(0);
  const [toA, toB] = [addressOf(a.network.endpoint), addressOf(b.network.endpoint)];
  const forA = createSealer({ clusterId, secret, nonce: newNonce() }, realSource).seal("unicast", toA.bytes, bytes("vote"));
  const fromElsewhere = createSealer({ clusterId, secret, nonce: newNonce() }, otherSource).seal("unicast", toB.bytes, bytes("vote"));
  raw.send(forA, toB.port, toB.address);
  raw.send(fromElsewhere, toB.port, toB.address);
  await harness.until(() => b.network.counters.datagramsRefused === 2);
  raw.send(forA, toA.port, toA.address);
  await harness.until(() => a.datagrams.length === 1);
  expect(b.datagrams).toEqual([]);
});

test("a wrong key over TLS is refused, and both sides say so", async () => {
  const a = await openEngine(harness);
  await expect(strangerOf(a, tlsKey({ clusterId, secret: otherSecret }))).rejects.toThrow();
  await expect(strangerOf(a, tlsKey({ clusterId: otherClusterId, secret }), otherClusterId)).rejects.toThrow();
  await harness.until(() => harness.log.length >= 2);
  expect(harness.log.join("\n")).toContain("has not proved this database's key");
  expect(harness.log.join("\n")).toContain(`wants to join cluster "${otherClusterId}"`);
  const b = await openEngine(harness, { secret: otherSecret });
  b.network.sendReliable(a.network.endpoint, bytes("x"));
  await harness.until(() => b.events.length === 1);
  expect(b.reasons[0]).toContain("the key or the cluster id differs");
  expect(a.events).toEqual([]);
});

test("a HELLO of another version or cluster is answered with the reason, and the connection is closed", async () => {
  const a = await openEngine(harness);
  const say = async (hello: Buffer): Promise<Greeting> => {
    const socket = await strangerOf(a);
    const closed = once(socket, "close");
    socket.write(frame(hello));
    const answer = await answerTo(socket);
    await closed;
    return answer;
  };
  expect(await say(encodeGreeting(helloOf("127.0.0.1:9"), formatVersion + 1))).toEqual({ kind: "refused", reason: "other version" });
  const elsewhere = helloOf("127.0.0.1:9", { clusterId: otherClusterId });
  expect(await say(encodeGreeting(elsewhere, formatVersion))).toEqual({ kind: "refused", reason: "other cluster" });
  expect(harness.log.join("\n")).toContain(`format version ${formatVersion + 1}, this engine ${formatVersion}`);
  expect(harness.log.join("\n")).toContain(`belongs to cluster ${otherClusterId}`);
  expect(a.events).toEqual([]);
});

test("whoever greets badly, or sends too long a message, is cut off", async () => {
  const a = await openEngine(harness);
  const badStarts = [
    bytes("GET / HTTP/1.1\r\n\r\n"),
    frame(bytes("nonsense")),
    frame(Buffer.alloc(600)),
    frame(encodeGreeting(helloOf("not an endpoint"), formatVersion)),
    frame(encodeGreeting(helloOf(a.network.endpoint), formatVersion)),
  ];
  for (const start of badStarts) {
    const socket = await strangerOf(a);
    socket.write(start);
    await once(socket, "close");
  }
  expect(a.events).toEqual([]);
  const greeted = await strangerOf(a);
  greeted.write(Buffer.concat([frame(encodeGreeting(helloOf("127.0.0.1:9"), formatVersion)), frame(bytes("fine"))]));
  expect((await answerTo(greeted)).kind).toBe("hello");
  await harness.until(() => a.messages.length === 1);
  const tooLong = Buffer.alloc(4);
  tooLong.writeUInt32BE(64 * 1024 * 1024 + 64 * 1024 + 1);
  greeted.write(tooLong);
  await once(greeted, "close");
  await harness.until(() => a.events.length === 2);
  expect(a.events).toEqual(["connected 127.0.0.1:9", "disconnected 127.0.0.1:9"]);
  expect(a.reasons[0]).toMatch(/a message of \d+ bytes, above/);
});

test("a connection that says nothing is closed after five seconds; so is one that nobody answers", async () => {
  const a = await openEngine(harness);
  const mute = await strangerOf(a);
  const plain = connect(addressOf(a.network.endpoint).port, "127.0.0.1");
  const hole = createServer(() => {}).listen(0, "127.0.0.1");
  sockets.push(plain, { destroy: () => hole.close() });
  await once(hole, "listening");
  const bound = hole.address();
  const dead = `127.0.0.1:${bound !== null && typeof bound === "object" ? bound.port : 0}` as Endpoint;
  const begunAtMs = performance.now();
  expect(a.network.sendReliable(dead, bytes("anyone?"))).toBe(true);
  plain.on("error", () => {});
  await Promise.all([once(mute, "close"), once(plain, "close"), harness.until(() => a.events.length === 1)]);
  expect(performance.now() - begunAtMs).toBeGreaterThan(4000);
  expect(performance.now() - begunAtMs).toBeLessThan(8000);
  expect(a.events).toEqual([`disconnected ${dead}`]);
  expect(a.reasons[0]).toContain("within 5000 ms");
});

test("connections without the key are held to 256, and the next engine comes in when they have gone", async () => {
  const [a, b] = [await openEngine(harness), await openEngine(harness)];
  const { port, address } = addressOf(a.network.endpoint);
  const idle: Socket[] = [];
  let refused = 0;
  for (let index = 0; index < 280; index++) {
    const socket = connect(port, address);
    socket.on("error", () => {});
    socket.on("close", () => void refused++);
    idle.push(socket);
  }
  sockets.push(...idle);
  await harness.until(() => refused === 24);
  b.network.sendReliable(a.network.endpoint, bytes("crowded out"));
  await harness.until(() => b.events.length === 1);
  for (const socket of idle) socket.destroy();
  await sleep(50);
  b.network.sendReliable(a.network.endpoint, bytes("in"));
  await harness.until(() => a.messages.length === 1);
  expect(b.events.at(-1)).toBe(`connected ${a.network.endpoint}`);
});

test("random sends and disconnects on real sockets: order, no doubles, events that alternate", async () => {
  const engines = await Promise.all(Array.from({ length: 4 }, () => openEngine(harness)));
  const random = seededRandom(11);
  const pick = (): Engine => engines[random.integer(engines.length)] as Engine;
  let sent = 0;
  for (let step = 0; step < 1500; step++) {
    const [from, to] = [pick(), pick()];
    if (random.integer(12) === 0) from.network.disconnect(to.network.endpoint);
    else from.network.sendReliable(to.network.endpoint, bytes(String(++sent)));
    if (random.integer(4) === 0) await sleep(random.integer(3));
  }
  await sleep(300);
  for (const from of engines) for (const to of engines) from.network.sendReliable(to.network.endpoint, bytes(String(++sent)));
  const settled = (): boolean => engines.every((one) => engines.every((other) => lastOf(one, other) > sent - 16));
  await harness.until(settled);
  for (const engine of engines) {
    for (const peer of engines) {
      const numbers = engine.messages.filter((one) => one.from === peer.network.endpoint).map((one) => Number(one.payload));
      expect(numbers).toEqual([...new Set(numbers)].sort((left, right) => left - right));
      const words = engine.events.filter((event) => event.endsWith(` ${peer.network.endpoint}`)).map((event) => event.split(" ")[0]);
      expect(words.some((word, index) => word === "connected" && words[index - 1] === "connected")).toBe(false);
      if (peer !== engine) expect(words.at(-1)).toBe("connected");
    }
  }
});

function lastOf(engine: Engine, from: Engine): number {
  return Number(engine.messages.filter((one) => one.from === from.network.endpoint).at(-1)?.payload ?? 0);
}

test("faults for tests: loss, doubles and delay on real sockets", async () => {
  let heard = 0;
  const faults = {
    drop: (payload: Buffer) => payload.toString() === "drop",
    duplicate: (payload: Buffer) => payload.toString() === "twice",
    delayMs: (payload: Buffer) => (payload.toString() === "late" ? 30 : 0),
  };
  const received: string[] = [];
  const handlers = { onDatagram: (_from: Endpoint, _nonce: Nonce, payload: Buffer) => void received.push(payload.toString()) };
  const ignore = { onReliable() {}, onConnected() {}, onDisconnected: () => void heard++ };
  const b = await harness.openWith({ clusterId, secret, nonce: newNonce(), handlers: { ...handlers, ...ignore } }, { faults });
  const a = await openEngine(harness);
  for (const text of ["drop", "late", "twice", "last"]) a.network.sendDatagram(b.endpoint, bytes(text));
  await harness.until(() => received.length === 4);
  expect(received).toEqual(["twice", "twice", "last", "late"]);
  expect(heard).toBe(0);
});

test("an address that is not there, a port that is taken and a nonce that was used are told at opening", async () => {
  const handlers = { onDatagram() {}, onReliable() {}, onConnected() {}, onDisconnected() {} };
  const a = await openEngine(harness);
  const spec = (): Parameters<typeof openNodeNetwork>[0] => ({
    clusterId,
    secret,
    nonce: newNonce(),
    handlers,
    interfaceAddress: "127.0.0.1",
    ...testGroup,
  });
  await expect(openNodeNetwork({ ...spec(), interfaceAddress: "203.0.113.7" })).rejects.toMatchObject({ code: "ATOMCAST_ADDRESS" });
  await expect(openNodeNetwork({ ...spec(), interfaceAddress: "0.0.0.0" })).rejects.toMatchObject({ code: "ATOMCAST_ADDRESS" });
  await expect(openNodeNetwork({ ...spec(), interfaceAddress: "localhost" })).rejects.toMatchObject({ code: "ATOMCAST_ADDRESS" });
  const { port } = addressOf(a.network.endpoint);
  await expect(openNodeNetwork({ ...spec(), port })).rejects.toMatchObject({ code: "ATOMCAST_ADDRESS" });
  await expect(openNodeNetwork({ ...spec(), nonce: a.nonce })).rejects.toThrow(/nonce/);
});

test("endpoints that are none are no way to bring an engine down", async () => {
  const a = await openEngine(harness);
  const nowhere = "example.org:80" as Endpoint;
  a.network.sendDatagram(nowhere, bytes("x"));
  expect(a.network.sendReliable(nowhere, bytes("x"))).toBe(true);
  expect(await a.network.probe(nowhere, 100)).toBe(false);
  await harness.until(() => a.events.length === 1);
  expect(a.events).toEqual([`disconnected ${nowhere}`]);
});

test("what is queued at close still arrives", async () => {
  const [a, b] = [await openEngine(harness), await openEngine(harness)];
  a.network.sendReliable(b.network.endpoint, bytes("first"));
  await harness.until(() => b.messages.length === 1);
  for (let index = 0; index < 100; index++) a.network.sendReliable(b.network.endpoint, Buffer.alloc(20_000, index));
  await a.network.close();
  await harness.until(() => b.events.length === 2);
  expect(b.messages.length).toBe(101);
});

test("datagrams that the kernel drops are counted where it tells", async () => {
  if (process.platform !== "linux") return;
  const [a, b] = [await openEngine(harness), await openEngine(harness)];
  expect(b.network.counters.kernelDrops).toBe(0);
  const large = Buffer.alloc(a.network.datagramBytesMax);
  for (let index = 0; index < 4000; index++) a.network.sendDatagram(b.network.endpoint, large); // 32 MB in one turn: more than any buffer
  await sleep(1100);
  await harness.until(() => b.network.counters.kernelDrops > 0);
  await sleep(20);
  expect(b.network.counters.kernelDrops + b.datagrams.length).toBe(4000);
});
