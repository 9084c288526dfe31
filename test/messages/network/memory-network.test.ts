import { afterEach, describe, expect, test } from "vitest";
import type { Endpoint } from "../../../src/base/ids.js";
import { seededRandom } from "../../../src/base/random.js";
import { calmConditions, type FabricConditions } from "../../../src/messages/network/memory-fabric-types.js";
import { MemoryFabric } from "../../../src/messages/network/memory-network.js";
import {
  bytes,
  clusterId,
  type Engine,
  type NetworkHarness,
  networkConformance,
  newNonce,
  type OpenSpec,
  openEngine,
  secret,
} from "./network-conformance.js";

interface MemoryHarness extends NetworkHarness {
  fabric: MemoryFabric;
  begin(seed: number, conditions?: FabricConditions): void;
}

function memoryHarness(group: string | null = "g"): MemoryHarness {
  let ports = 1000;
  const harness: MemoryHarness = {
    fabric: new MemoryFabric(seededRandom(1)),
    begin(seed, conditions) {
      harness.fabric = new MemoryFabric(seededRandom(seed), conditions);
      ports = 1000;
    },
    open: (spec) => Promise.resolve(harness.fabric.open({ ...spec, endpoint: `10.0.0.1:${++ports}` as Endpoint, group })),
    until(condition) {
      while (!condition()) {
        const atMs = harness.fabric.nextDueMs();
        if (atMs === null) return Promise.reject(new Error("nothing is left to happen"));
        harness.fabric.due(atMs);
      }
      return Promise.resolve();
    },
    pass(ms) {
      harness.fabric.due(harness.fabric.nowMs + ms);
      return Promise.resolve();
    },
    async settle(answer) {
      harness.fabric.due(harness.fabric.nowMs + 2000);
      return await answer;
    },
    deadEndpoint: () => Promise.resolve("10.0.0.9:9" as Endpoint),
    reset() {
      harness.begin(1);
      return Promise.resolve();
    },
  };
  return harness;
}

networkConformance("memory network", memoryHarness());
networkConformance("memory network without multicast", memoryHarness(null), false);

describe("the fabric", () => {
  const harness = memoryHarness();
  afterEach(() => harness.reset());

  async function pair(): Promise<{ a: Engine; b: Engine; atA: Endpoint; atB: Endpoint }> {
    const [a, b] = [await openEngine(harness), await openEngine(harness)];
    return { a, b, atA: a.network.endpoint, atB: b.network.endpoint };
  }

  async function connected(): Promise<Awaited<ReturnType<typeof pair>>> {
    const engines = await pair();
    engines.a.network.sendReliable(engines.atB, bytes("connect"));
    await harness.until(() => engines.b.messages.length === 1);
    engines.b.messages.length = 0;
    return engines;
  }

  function texts(engine: Engine): string[] {
    return engine.messages.map((one) => one.payload.toString());
  }

  test("one seed, one history; another seed, another", async () => {
    const history = async (seed: number): Promise<string> => {
      harness.begin(seed, { ...calmConditions, lossPerMille: 200, duplicatePerMille: 100, reorderPerMille: 200 });
      const { a, b, atB } = await pair();
      for (let index = 0; index < 200; index++) a.network.sendDatagram(atB, bytes(String(index)));
      await harness.pass(100);
      return b.datagrams.map((one) => one.payload.toString()).join(",");
    };
    expect(await history(5)).toBe(await history(5));
    expect(await history(5)).not.toBe(await history(6));
  });

  test("datagrams are lost, doubled and overtaken, each about as often as asked", async () => {
    harness.begin(3, { ...calmConditions, lossPerMille: 100, duplicatePerMille: 50, reorderPerMille: 100 });
    const { a, b, atB } = await pair();
    const count = 5000;
    for (let index = 0; index < count; index++) {
      a.network.sendDatagram(atB, bytes(String(index)));
      await harness.pass(1);
    }
    await harness.pass(100);
    const numbers = b.datagrams.map((one) => Number(one.payload.toString()));
    const distinct = new Set(numbers).size;
    expect(distinct / count).toBeGreaterThan(0.87);
    expect(distinct / count).toBeLessThan(0.93);
    expect((numbers.length - distinct) / count).toBeGreaterThan(0.03);
    const overtaken = numbers.filter((number, index) => number < (numbers[index - 1] ?? -1)).length;
    expect(overtaken / count).toBeGreaterThan(0.05);
  });

  test("a cut is one way; messages held by it arrive in order when it heals in time", async () => {
    const { a, b, atA, atB } = await connected();
    harness.fabric.cut(atA, atB);
    for (const text of ["one", "two"]) a.network.sendReliable(atB, bytes(text));
    a.network.sendDatagram(atB, bytes("lost"));
    b.network.sendDatagram(atA, bytes("heard"));
    b.network.sendReliable(atA, bytes("back"));
    await harness.pass(5000);
    expect([b.messages.length, b.datagrams.length, a.datagrams.length, texts(a)]).toEqual([0, 0, 1, ["back"]]);
    expect(a.network.queuedBytes(atB)).toBe(6);
    harness.fabric.heal(atA, atB);
    a.network.sendReliable(atB, bytes("three"));
    await harness.pass(20_000);
    expect(texts(b)).toEqual(["one", "two", "three"]);
    expect([a.events.length, b.events.length]).toEqual([1, 1]);
  });

  test("a cut that lasts ends the connection on both sides, and loses what was in flight", async () => {
    const { a, b, atA, atB } = await connected();
    harness.fabric.cut(atA, atB);
    a.network.sendReliable(atB, bytes("lost"));
    await harness.pass(14_900);
    expect(a.events.length).toBe(1);
    await harness.pass(200);
    expect(a.events).toEqual([`connected ${atB}`, `disconnected ${atB}`]);
    expect(b.events).toEqual([`connected ${atA}`, `disconnected ${atA}`]);
    a.network.sendReliable(atB, bytes("tried"));
    await harness.pass(5100);
    expect(a.events.at(-1)).toBe(`disconnected ${atB}`);
    expect(a.events.length).toBe(3);
    harness.fabric.healAll();
    a.network.sendReliable(atB, bytes("after"));
    await harness.pass(100);
    expect(texts(b)).toEqual(["after"]);
    expect(b.events.length).toBe(3);
  });

  test("a kill is told to its peers within milliseconds; a new process at its endpoint is another peer", async () => {
    const { a, b, atA, atB } = await connected();
    b.network.sendReliable(atA, bytes("in flight"));
    harness.fabric.kill(atB);
    expect(a.events.length).toBe(1);
    await harness.pass(5);
    expect(a.events).toEqual([`connected ${atB}`, `disconnected ${atB}`]);
    expect(b.events.length).toBe(1);
    expect(b.network.sendReliable(atA, bytes("dead"))).toBe(false);
    expect(await harness.settle(a.network.probe(atB, 1000))).toBe(false);
    const received: string[] = [];
    const handlers = { onDatagram() {}, onReliable: (_from: Endpoint, _nonce: unknown, payload: Buffer) => void received.push(payload.toString()) };
    const ignore = { onConnected() {}, onDisconnected() {} };
    harness.fabric.open({ ...spec(), endpoint: atB, group: "g", handlers: { ...handlers, ...ignore } });
    a.network.sendReliable(atB, bytes("new life"));
    await harness.pass(5);
    expect(received).toEqual(["new life"]);
  });

  test("a restart that connects before its peer knows of the kill is told as an end and a beginning", async () => {
    const { a, atA, atB } = await connected();
    harness.fabric.cut(atB, atA); // the notice of the kill is held
    harness.fabric.kill(atB);
    await harness.pass(100);
    expect(a.events.length).toBe(1);
    harness.fabric.heal(atB, atA);
    const silent = { onDatagram() {}, onReliable() {}, onConnected() {}, onDisconnected() {} };
    const again = harness.fabric.open({ ...spec(), endpoint: atB, group: "g", handlers: silent });
    again.sendReliable(atA, bytes("back"));
    await harness.pass(100);
    expect(a.events).toEqual([`connected ${atB}`, `disconnected ${atB}`, `connected ${atB}`]);
    expect(texts(a)).toEqual(["back"]);
  });

  test("a paused process hears everything when it goes on; it can be probed", async () => {
    const { a, b, atA, atB } = await connected();
    harness.fabric.pause(atB);
    a.network.sendDatagram(atB, bytes("datagram"));
    a.network.sendReliable(atB, bytes("message"));
    await harness.pass(60_000);
    expect([b.datagrams.length, b.messages.length]).toEqual([0, 0]);
    const probed = a.network.probe(atB, 1000);
    expect(await harness.settle(probed)).toBe(true);
    harness.fabric.kill(atA);
    await harness.pass(10);
    harness.fabric.resume(atB);
    await harness.pass(10);
    expect(b.datagrams.length).toBe(1);
    expect(b.events).toEqual([`connected ${atA}`, `disconnected ${atA}`]);
  });

  test("a paused process keeps a bounded number of datagrams and counts the rest", async () => {
    const { a, b, atB } = await pair();
    harness.fabric.pause(atB);
    for (let index = 0; index < 5000; index++) a.network.sendDatagram(atB, bytes("x"));
    await harness.pass(10);
    harness.fabric.resume(atB);
    await harness.pass(10);
    expect(b.datagrams.length).toBe(4096);
    expect(b.network.counters.kernelDrops).toBe(904);
  });

  test("random cuts, heals, pauses and kills: order, no doubles, and events that alternate", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      harness.begin(seed, { ...calmConditions, cutBreaksAfterMs: 200, openTimeoutMs: 100 });
      const random = seededRandom(seed);
      const engines: Engine[] = [];
      for (let index = 0; index < 4; index++) engines.push(await openEngine(harness));
      const pick = (): Engine => engines[random.integer(engines.length)] as Engine;
      let sent = 0;
      for (let step = 0; step < 400; step++) {
        const [from, to] = [pick().network, pick().network];
        const action = random.integer(40);
        if (action < 30) from.sendReliable(to.endpoint, bytes(String(++sent)));
        else if (action < 33) harness.fabric.cut(from.endpoint, to.endpoint);
        else if (action < 36) harness.fabric.heal(from.endpoint, to.endpoint);
        else if (action === 36) harness.fabric.pause(from.endpoint);
        else if (action === 37) harness.fabric.resume(from.endpoint);
        else if (action === 38) from.disconnect(to.endpoint);
        else if (step > 350 && step % 7 === 0) harness.fabric.kill(from.endpoint);
        await harness.pass(random.integer(20));
      }
      harness.fabric.healAll();
      for (const engine of engines) harness.fabric.resume(engine.network.endpoint);
      await harness.pass(1000);
      for (const engine of engines) {
        for (const peer of engines) {
          const label = `seed ${seed}, ${engine.network.endpoint} of ${peer.network.endpoint}`;
          const from = peer.network.endpoint;
          const numbers = engine.messages.filter((one) => one.from === from).map((one) => Number(one.payload.toString()));
          expect(numbers, label).toEqual([...new Set(numbers)].sort((x, y) => x - y));
          const words = engine.events.filter((event) => event.endsWith(` ${from}`)).map((event) => event.split(" ")[0]);
          const twice = words.some((word, index) => word === "connected" && words[index - 1] === "connected");
          expect(twice, `${label}: ${words.join(" ")}`).toBe(false);
        }
      }
    }
  });
});

function spec(): Omit<OpenSpec, "handlers"> {
  return { clusterId, secret, nonce: newNonce() };
}
