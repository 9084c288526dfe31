/** What every Network promises (src/messages/network/network.ts), asked of the real one and of its twin in memory. */
import { afterEach, expect, test } from "vitest";
import type { ClusterId, Endpoint, Nonce } from "../../../src/base/ids.js";
import type { Network, NetworkHandlers } from "../../../src/messages/network/network.js";

export const clusterId = "00112233445566aa" as ClusterId;
export const otherClusterId = "ffeeddccbbaa9988" as ClusterId;
export const secret = Buffer.alloc(32, 7);
export const otherSecret = Buffer.alloc(32, 8);

export interface OpenSpec {
  readonly clusterId: ClusterId;
  readonly secret: Buffer;
  readonly nonce: Nonce;
  readonly handlers: NetworkHandlers;
}

export interface NetworkHarness {
  open(spec: OpenSpec): Promise<Network>;
  /** Lets things happen until the condition holds; fails after some seconds of them. */
  until(condition: () => boolean): Promise<void>;
  /** Lets about this much time pass. */
  pass(ms: number): Promise<void>;
  /** An answer that comes while things happen. */
  settle<T>(answer: Promise<T>): Promise<T>;
  /** An endpoint where nothing listens. */
  deadEndpoint(): Promise<Endpoint>;
  /** Between tests. */
  reset(): Promise<void>;
}

/** A network with a diary. */
export interface Engine {
  readonly network: Network;
  readonly nonce: Nonce;
  readonly datagrams: { readonly from: Endpoint; readonly nonce: Nonce; readonly payload: Buffer; readonly byMulticast: boolean }[];
  readonly messages: { readonly from: Endpoint; readonly nonce: Nonce; readonly payload: Buffer }[];
  /** "connected address:port" and "disconnected address:port", in order. */
  readonly events: string[];
  readonly reasons: string[];
}

let nonces = 0;

/** Different in each run, so that what a former run left in a socket's buffer is never taken for this one's. */
export function newNonce(): Nonce {
  nonces++;
  return (process.pid * 2 ** 20 + nonces) as Nonce;
}

export async function openEngine(harness: Pick<NetworkHarness, "open">, spec: Partial<OpenSpec> = {}): Promise<Engine> {
  const diary: Omit<Engine, "network" | "nonce"> = { datagrams: [], messages: [], events: [], reasons: [] };
  const handlers: NetworkHandlers = {
    onDatagram: (from, nonce, payload, byMulticast) => void diary.datagrams.push({ from, nonce, payload, byMulticast }),
    onReliable: (from, nonce, payload) => void diary.messages.push({ from, nonce, payload }),
    onConnected: (endpoint) => void diary.events.push(`connected ${endpoint}`),
    onDisconnected: (endpoint, reason) => {
      diary.events.push(`disconnected ${endpoint}`);
      diary.reasons.push(reason);
    },
    ...spec.handlers,
  };
  const nonce = spec.nonce ?? newNonce();
  const network = await harness.open({ clusterId, secret, ...spec, nonce, handlers });
  return { network, nonce, ...diary };
}

export function bytes(text: string): Buffer {
  return Buffer.from(text);
}

function texts(received: readonly { readonly payload: Buffer }[]): string[] {
  return received.map((one) => one.payload.toString());
}

/** `multicast` false: of a network that has none. */
export function networkConformance(name: string, harness: NetworkHarness, multicast = true): void {
  afterEach(() => harness.reset());

  test(`${name}: a datagram arrives with its sender's endpoint and nonce`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    a.network.sendDatagram(b.network.endpoint, bytes("hello"));
    await harness.until(() => b.datagrams.length > 0);
    expect(b.datagrams[0]?.payload).toEqual(bytes("hello"));
    expect(b.datagrams[0]?.from).toBe(a.network.endpoint);
    expect(b.datagrams[0]?.nonce).toBe(a.nonce);
    expect(a.network.counters.datagramsSent).toBe(1);
    expect(b.network.counters.datagramsReceived).toBe(1);
  });

  test(`${name}: datagrams may be empty or of the largest size; a larger one is a bug`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    const largest = Buffer.alloc(a.network.datagramBytesMax, 5);
    a.network.sendDatagram(b.network.endpoint, bytes(""));
    a.network.sendDatagram(b.network.endpoint, largest);
    await harness.until(() => b.datagrams.length === 2);
    expect(b.datagrams.map((one) => one.payload.length).sort((x, y) => x - y)).toEqual([0, largest.length]);
    expect(b.datagrams.some((one) => one.payload.equals(largest))).toBe(true);
    const tooLarge = Buffer.alloc(largest.length + 1);
    expect(() => a.network.sendDatagram(b.network.endpoint, tooLarge)).toThrow(/above/);
    if (multicast) expect(() => a.network.multicast(tooLarge)).toThrow(/above/);
    expect(() => a.network.sendDatagram(a.network.endpoint, tooLarge)).toThrow(/above/);
  });

  test(`${name}: it says whether it has multicast, and what came by that`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    expect([a.network.hasMulticast, b.network.hasMulticast]).toEqual([multicast, multicast]);
    a.network.multicast(bytes("all"));
    await harness.pass(30);
    a.network.sendDatagram(b.network.endpoint, bytes("one"));
    await harness.until(() => texts(b.datagrams).includes("one"));
    const heard = b.datagrams.map((one) => [one.payload.toString(), one.byMulticast]);
    expect(heard).toEqual(
      multicast
        ? [
            ["all", true],
            ["one", false],
          ]
        : [["one", false]],
    );
    expect(a.network.counters.datagramsSent).toBe(multicast ? 2 : 1);
  });

  test.runIf(multicast)(`${name}: multicast is heard by every other engine of the group, and not by its sender`, async () => {
    const [a, b, c] = [await openEngine(harness), await openEngine(harness), await openEngine(harness)];
    a.network.multicast(bytes("all"));
    await harness.until(() => b.datagrams.length > 0 && c.datagrams.length > 0);
    await harness.pass(30);
    expect(texts(b.datagrams)).toEqual(["all"]);
    expect(texts(c.datagrams)).toEqual(["all"]);
    expect(b.datagrams[0]?.from).toBe(a.network.endpoint);
    expect(a.datagrams).toEqual([]);
    expect(a.network.counters.datagramsRefused).toBe(0);
  });

  test(`${name}: other keys and other clusters are neither heard nor answered`, async () => {
    const a = await openEngine(harness);
    const strangers = [await openEngine(harness, { secret: otherSecret }), await openEngine(harness, { clusterId: otherClusterId })];
    for (const stranger of strangers) {
      stranger.network.sendDatagram(a.network.endpoint, bytes("let me in"));
      stranger.network.multicast(bytes("let me in"));
      stranger.network.sendReliable(a.network.endpoint, bytes("let me in"));
    }
    await harness.until(() => a.network.counters.datagramsRefused >= (multicast ? 4 : 2) && strangers.every((one) => one.events.length > 0));
    await harness.pass(20);
    expect([a.datagrams, a.messages, a.events]).toEqual([[], [], []]);
    expect(strangers.map((one) => one.events)).toEqual(strangers.map(() => [`disconnected ${a.network.endpoint}`]));
    expect(strangers.map((one) => one.network.queuedBytes(a.network.endpoint))).toEqual([0, 0]);
  });

  test(`${name}: reliable messages arrive once and in order, both ways over one connection`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    const count = 3000;
    for (let index = 0; index < count; index++) {
      expect(a.network.sendReliable(b.network.endpoint, bytes(`a${index}`))).toBe(true);
      expect(b.network.sendReliable(a.network.endpoint, bytes(`b${index}`))).toBe(true);
    }
    await harness.until(() => a.messages.length >= count && b.messages.length >= count);
    expect(texts(b.messages)).toEqual(Array.from({ length: count }, (_, index) => `a${index}`));
    expect(texts(a.messages)).toEqual(Array.from({ length: count }, (_, index) => `b${index}`));
    await harness.pass(50);
    expect(a.events).toEqual([`connected ${b.network.endpoint}`]);
    expect(b.events).toEqual([`connected ${a.network.endpoint}`]);
    expect(b.messages.every((one) => one.from === a.network.endpoint && one.nonce === a.nonce)).toBe(true);
    expect(a.network.queuedBytes(b.network.endpoint)).toBe(0);
  });

  test(`${name}: large and empty messages keep their order`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    const large = Buffer.alloc(5_000_003, 3);
    large.write("end", large.length - 3);
    const sent = [bytes("first"), large, bytes(""), bytes("last")];
    for (const payload of sent) a.network.sendReliable(b.network.endpoint, payload);
    await harness.until(() => b.messages.length === sent.length);
    expect(b.messages.every((one, index) => sent[index]?.equals(one.payload))).toBe(true);
  });

  test(`${name}: a full queue refuses, and takes one message of any allowed size when empty`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    const largest = Buffer.alloc(64 * 1024 * 1024);
    expect(a.network.sendReliable(b.network.endpoint, largest)).toBe(true);
    expect(a.network.queuedBytes(b.network.endpoint)).toBeGreaterThanOrEqual(largest.length);
    expect(a.network.sendReliable(b.network.endpoint, bytes("more"))).toBe(false);
    await harness.until(() => b.messages.length === 1 && a.network.queuedBytes(b.network.endpoint) === 0);
    expect(b.messages[0]?.payload.length).toBe(largest.length);
    expect(a.network.sendReliable(b.network.endpoint, bytes("more"))).toBe(true);
    await harness.until(() => b.messages.length === 2);
    expect(() => a.network.sendReliable(b.network.endpoint, Buffer.alloc(largest.length + 64 * 1024 + 1))).toThrow(/above/);
  });

  test(`${name}: an end of the connection is told once, to both, and the next message opens another`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    a.network.sendReliable(b.network.endpoint, bytes("one"));
    await harness.until(() => b.messages.length === 1);
    a.network.disconnect(b.network.endpoint);
    expect(a.events).toEqual([`connected ${b.network.endpoint}`]);
    await harness.until(() => a.events.length === 2 && b.events.length === 2);
    b.network.sendReliable(a.network.endpoint, bytes("two"));
    await harness.until(() => a.messages.length === 1);
    await harness.pass(30);
    const seen = (peer: Engine): string[] => ["connected", "disconnected", "connected"].map((word) => `${word} ${peer.network.endpoint}`);
    expect(a.events).toEqual(seen(b));
    expect(b.events).toEqual(seen(a));
    a.network.disconnect((await harness.deadEndpoint()) as Endpoint);
    await harness.pass(10);
    expect(a.events.length).toBe(3);
  });

  test(`${name}: messages sent right after disconnect go over a new connection`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    a.network.sendReliable(b.network.endpoint, bytes("one"));
    await harness.until(() => b.messages.length === 1);
    a.network.disconnect(b.network.endpoint);
    a.network.sendReliable(b.network.endpoint, bytes("two"));
    await harness.until(() => b.messages.length === 2 && a.events.length === 3);
    expect(texts(b.messages)).toEqual(["one", "two"]);
    expect(a.events.map((event) => event.split(" ")[0])).toEqual(["connected", "disconnected", "connected"]);
    expect(b.events.map((event) => event.split(" ")[0])).toEqual(["connected", "disconnected", "connected"]);
  });

  test(`${name}: a peer that closes is told to those that were connected, and to those that try`, async () => {
    const [a, b, c] = [await openEngine(harness), await openEngine(harness), await openEngine(harness)];
    a.network.sendReliable(b.network.endpoint, bytes("one"));
    await harness.until(() => b.messages.length === 1);
    await harness.settle(b.network.close());
    await harness.until(() => a.events.length === 2);
    expect(b.network.sendReliable(a.network.endpoint, bytes("after close"))).toBe(false);
    c.network.sendReliable(b.network.endpoint, bytes("anyone?"));
    await harness.until(() => c.events.length === 1);
    await harness.pass(20);
    expect(a.events).toEqual([`connected ${b.network.endpoint}`, `disconnected ${b.network.endpoint}`]);
    expect(c.events).toEqual([`disconnected ${b.network.endpoint}`]);
    expect(b.events).toEqual([`connected ${a.network.endpoint}`]);
    expect(c.network.queuedBytes(b.network.endpoint)).toBe(0);
  });

  test(`${name}: a probe finds who listens`, async () => {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    expect(await harness.settle(a.network.probe(b.network.endpoint, 1000))).toBe(true);
    expect(await harness.settle(a.network.probe(await harness.deadEndpoint(), 1000))).toBe(false);
    await harness.settle(b.network.close());
    expect(await harness.settle(a.network.probe(b.network.endpoint, 1000))).toBe(false);
    expect(a.events).toEqual([]);
  });

  test(`${name}: what an engine sends to itself arrives later, in order, without a connection`, async () => {
    const a = await openEngine(harness);
    a.network.sendReliable(a.network.endpoint, bytes("one"));
    a.network.sendReliable(a.network.endpoint, bytes("two"));
    a.network.sendDatagram(a.network.endpoint, bytes("three"));
    expect(a.messages).toEqual([]);
    expect(a.network.queuedBytes(a.network.endpoint)).toBeGreaterThan(0);
    await harness.until(() => a.messages.length === 2 && a.datagrams.length === 1);
    expect(texts(a.messages)).toEqual(["one", "two"]);
    expect(a.messages[0]?.from).toBe(a.network.endpoint);
    expect(a.messages[0]?.nonce).toBe(a.nonce);
    expect(a.events).toEqual([]);
    expect(a.network.queuedBytes(a.network.endpoint)).toBe(0);
  });

  test(`${name}: many engines that all open connections at once end with one per pair`, async () => {
    const engines = await Promise.all(Array.from({ length: 5 }, () => openEngine(harness)));
    for (const from of engines) {
      for (const to of engines) if (to !== from) from.network.sendReliable(to.network.endpoint, bytes(from.network.endpoint));
    }
    await harness.until(() => engines.every((one) => one.messages.length >= engines.length - 1));
    await harness.pass(100);
    for (const engine of engines) {
      const others = engines.filter((one) => one !== engine).map((one) => one.network.endpoint);
      expect(texts(engine.messages).sort()).toEqual([...others].sort());
      expect([...engine.events].sort()).toEqual(others.map((one) => `connected ${one}`).sort());
    }
  });
}
