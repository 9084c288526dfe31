/** The relay tree in virtual time, with the product's heartbeats: who takes a dead relay's place, and how long its children wait for it. */
import { describe, expect, test } from "vitest";
import type { Endpoint } from "../../src/base/ids.js";
import { ancestorsOf, childrenMax, type TreeEngine, treeOrder } from "../../src/messages/stream/relay-tree.js";
import { type Member, StreamSimulation } from "./stream-simulation.js";

/** design: a relay that dies is replaced without a gap in commits longer than this. */
const gapMsMax = 300;

function opened(seed: number, caches: number, islands = 0, orderEveryMs = 20): StreamSimulation {
  const simulation = new StreamSimulation({
    seed,
    voters: 3,
    caches,
    spares: 0,
    faults: false,
    hasty: false,
    unicast: islands === 0,
    wrongTrees: false,
    ...(islands > 0 && { islands }),
  });
  const order = (): void => {
    simulation.order();
    simulation.at(orderEveryMs, order);
  };
  order();
  simulation.run(7000);
  return simulation;
}

function sequencerOf(simulation: StreamSimulation): Member {
  const { sequencer } = simulation;
  if (sequencer === undefined) throw new Error("nobody orders");
  return sequencer;
}

/** In the tree's order. */
function membersInOrder(simulation: StreamSimulation): readonly Member[] {
  const engines = simulation.members.map(({ name, isArchive }, index): TreeEngine => {
    return { id: index + 1, kind: isArchive ? "archive" : "cache", endpoint: name };
  });
  return treeOrder(engines, sequencerOf(simulation).name).map((name) => simulation.members.find((one) => one.name === name) as Member);
}

function parentOf(member: Member): Endpoint | null {
  return member.node?.tree.parent ?? null;
}

/** The longest time without a new commit at any of them. */
function longestGapMs(simulation: StreamSimulation, members: readonly Member[], durationMs: number): number {
  const last = new Map(members.map((member) => [member, { seq: member.deliveredSeq, atMs: simulation.nowMs }]));
  let longest = 0;
  for (const endMs = simulation.nowMs + durationMs; simulation.nowMs < endMs; ) {
    simulation.run(1);
    for (const [member, { seq, atMs }] of last) {
      longest = Math.max(longest, simulation.nowMs - atMs);
      if (member.deliveredSeq > seq) last.set(member, { seq: member.deliveredSeq, atMs: simulation.nowMs });
    }
  }
  return longest;
}

describe("the relay tree", () => {
  test("each engine hears from the one above it, and nobody sends to more than four besides voters", () => {
    const simulation = opened(1, 40);
    const all = membersInOrder(simulation);
    const order = all.map(({ name }) => name);
    for (const member of all.slice(1)) {
      // A voter has the sequencer's frames directly.
      const expected = member.isArchive ? order[0] : ancestorsOf(order, member.name)[0];
      expect(parentOf(member), member.name).toBe(expected);
    }
    for (const member of all) expect(member.node?.tree.children.length, member.name).toBeLessThanOrEqual(childrenMax);
    expect(longestGapMs(simulation, all.slice(1), 1000)).toBeLessThan(100);
  });

  test.each([1, 2, 3])("a relay is killed under load: its children wait no longer than 300 ms (seed %i)", (seed) => {
    const simulation = opened(seed, 22);
    const all = membersInOrder(simulation);
    const relay = all[5] as Member;
    const children = all.slice(21, 25);
    for (const child of children) expect(parentOf(child)).toBe(relay.name);
    simulation.crash(relay);
    expect(longestGapMs(simulation, children, 2000)).toBeLessThanOrEqual(gapMsMax);
    simulation.start(relay);
    simulation.run(6000);
    for (const child of children) expect(parentOf(child), "it has gone back").toBe(relay.name);
  });

  test.each([1, 2, 3])("a relay that hangs is left as soon (seed %i)", (seed) => {
    const simulation = opened(seed, 22);
    const all = membersInOrder(simulation);
    const relay = all[5] as Member;
    const children = all.slice(21, 25);
    simulation.pause(relay, 1500);
    expect(longestGapMs(simulation, children, 1400)).toBeLessThanOrEqual(gapMsMax);
    for (const child of children) expect(parentOf(child)).not.toBe(relay.name);
  });

  test("where all above hang, the sequencer itself is asked in the end", () => {
    const simulation = opened(7, 22);
    const all = membersInOrder(simulation);
    const last = all[21] as Member;
    const path = ancestorsOf(
      all.map(({ name }) => name),
      last.name,
    );
    expect(path).toHaveLength(3);
    for (const name of path.slice(0, -1)) simulation.pause(all.find((one) => one.name === name) as Member, 5000);
    // The third voter goes on, and a majority with it.
    expect(longestGapMs(simulation, [last], 1500)).toBeLessThanOrEqual(3 * gapMsMax);
    // The sequencer, or, where it is full by then, one that it has named.
    const { name, node } = sequencerOf(simulation);
    expect([name, ...(node?.tree.children ?? [])]).toContain(parentOf(last));
    expect(path.slice(0, -1)).not.toContain(parentOf(last));
  });

  test("the sequencer is killed: all engines hear of its successor", () => {
    const simulation = opened(8, 22);
    const former = sequencerOf(simulation);
    simulation.crash(former);
    simulation.run(3000);
    const rest = simulation.members.filter((one) => one !== former);
    expect(sequencerOf(simulation)).not.toBe(former);
    expect(longestGapMs(simulation, rest, 1000)).toBeLessThan(gapMsMax);
  });
});

/** Members of an island: every so many-th. */
function islandOf(simulation: StreamSimulation, island: number, islands: number): readonly Member[] {
  return simulation.members.filter((_, index) => index % islands === island);
}

function howMany(members: readonly Member[], by: string): number {
  return members.filter((member) => member.node?.tree.by === by).length;
}

/** design: multicast that stops is bridged within this. */
const bridgedMsMax = 2000;

describe("islands of multicast", () => {
  const islands = 3;

  test("one of each island hears by unicast, and the others hear that one's multicast; voters have the sequencer's frames", () => {
    const simulation = opened(11, 21, islands);
    const sequencer = sequencerOf(simulation);
    const all = membersInOrder(simulation);
    for (let island = 0; island < islands; island++) {
      const members = islandOf(simulation, island, islands);
      if (members.includes(sequencer)) {
        for (const member of members) if (member !== sequencer) expect(member.node?.tree.by, member.name).toBe("multicast of the sequencer");
        continue;
      }
      // The lowest is an Archive here, and a voter.
      const relay = all.find((member) => members.includes(member)) as Member;
      expect(relay.node?.tree).toMatchObject({ by: "unicast", parent: sequencer.name });
      for (const member of members)
        if (member !== relay) expect(member.node?.tree, member.name).toMatchObject({ by: "multicast of a relay", parent: relay.name });
    }
    // Two datagrams and a multicast for each frame, whatever the number of engines.
    expect(sequencer.node?.tree.children).toHaveLength(2);
    expect(longestGapMs(simulation, all.slice(1), 1000)).toBeLessThan(100);
  });

  test.each([12, 13, 14])("an island's relay is killed: the next one stands in within 300 ms (seed %i)", (seed) => {
    const simulation = opened(seed, 21, islands);
    const sequencer = sequencerOf(simulation);
    const island = [0, 1, 2].find((one) => !islandOf(simulation, one, islands).includes(sequencer)) ?? 0;
    const all = membersInOrder(simulation);
    const members = all.filter((member) => islandOf(simulation, island, islands).includes(member));
    const [relay, standby, ...others] = members as [Member, Member, ...Member[]];
    simulation.crash(relay);
    expect(longestGapMs(simulation, [standby, ...others], 2000)).toBeLessThanOrEqual(gapMsMax);
    simulation.run(3000);
    expect(standby.node?.tree.by).toBe("unicast");
    for (const member of others) expect(member.node?.tree, member.name).toMatchObject({ by: "multicast of a relay", parent: standby.name });
    // It comes back, and takes its place again.
    simulation.start(relay);
    simulation.run(8000);
    for (const member of [standby, ...others])
      expect(member.node?.tree, member.name).toMatchObject({ by: "multicast of a relay", parent: relay.name });
  });

  test("multicast stops in an island, as switches can make it: it is bridged by unicast within 2 s, and used again when it returns", () => {
    const simulation = opened(15, 21, islands);
    const sequencer = sequencerOf(simulation);
    for (let island = 0; island < islands; island++) {
      const members = islandOf(simulation, island, islands).filter((member) => member !== sequencer);
      const before = members.map((member) => member.node?.tree.by);
      for (const member of islandOf(simulation, island, islands)) simulation.setIsland(member, null);
      expect(longestGapMs(simulation, members, 6000)).toBeLessThanOrEqual(bridgedMsMax);
      expect(howMany(members, "unicast")).toBe(members.length);
      for (const member of islandOf(simulation, island, islands)) simulation.setIsland(member, island);
      expect(longestGapMs(simulation, members, 8000)).toBeLessThanOrEqual(gapMsMax);
      expect(members.map((member) => member.node?.tree.by)).toEqual(before);
    }
  });

  test("islands fall apart and join; an engine moves from one to another", () => {
    const simulation = opened(16, 21, islands);
    const sequencer = sequencerOf(simulation);
    const rest = simulation.members.filter((member) => member !== sequencer);
    for (const [index, member] of simulation.members.entries()) simulation.setIsland(member, index % 6);
    expect(longestGapMs(simulation, rest, 10_000)).toBeLessThanOrEqual(bridgedMsMax);
    // Five islands without the sequencer, one relay each; the other voter of its own island, if any, is with it.
    expect(howMany(rest, "unicast")).toBeLessThanOrEqual(6);
    for (const member of simulation.members) simulation.setIsland(member, 0);
    expect(longestGapMs(simulation, rest, 10_000)).toBeLessThanOrEqual(bridgedMsMax);
    expect(howMany(rest, "multicast of the sequencer")).toBe(rest.length);
    expect(sequencer.node?.tree.children).toEqual([]);
    const moved = rest.at(-1) as Member;
    simulation.setIsland(moved, 7);
    expect(longestGapMs(simulation, rest, 6000)).toBeLessThanOrEqual(bridgedMsMax);
    expect(moved.node?.tree.by).toBe("unicast");
  });

  test("one island has no multicast: its engines are in the tree by themselves", () => {
    const simulation = opened(17, 21, islands);
    const sequencer = sequencerOf(simulation);
    const island = [0, 1, 2].find((one) => !islandOf(simulation, one, islands).includes(sequencer)) ?? 0;
    const members = islandOf(simulation, island, islands);
    for (const member of members) simulation.setIsland(member, null);
    simulation.run(8000);
    expect(howMany(members, "unicast")).toBe(members.length);
    for (const member of simulation.members) expect(member.node?.tree.children.length, member.name).toBeLessThanOrEqual(childrenMax);
    expect(longestGapMs(simulation, members, 1000)).toBeLessThan(100);
  });
});

/** From the commit at the sequencer to that at each other engine, in order of size. */
function lagsMs(simulation: StreamSimulation, durationMs: number): readonly number[] {
  const sequencer = sequencerOf(simulation);
  const firstSeq = sequencer.deliveredSeq + 1;
  const committedMs: number[] = [];
  const reached = new Map(simulation.members.map((member) => [member, sequencer.deliveredSeq as number]));
  const lags: number[] = [];
  for (const endMs = simulation.nowMs + durationMs; simulation.nowMs < endMs; ) {
    simulation.run(1);
    while (firstSeq + committedMs.length <= sequencer.deliveredSeq) committedMs.push(simulation.nowMs);
    for (const [member, before] of reached) {
      for (let seq = Math.max(firstSeq, before + 1); seq <= member.deliveredSeq; seq++) {
        if (member !== sequencer) lags.push(simulation.nowMs - (committedMs[seq - firstSeq] ?? simulation.nowMs));
      }
      reached.set(member, member.deliveredSeq);
    }
  }
  return lags.sort((left, right) => left - right);
}

describe("losses on every link, in a tree of 43 engines", () => {
  test.each([
    { lossPerMille: 10, islands: 0, halfMs: 10, nearlyAllMs: 30 },
    { lossPerMille: 100, islands: 0, halfMs: 15, nearlyAllMs: 200 },
    { lossPerMille: 10, islands: 3, halfMs: 10, nearlyAllMs: 30 },
    { lossPerMille: 100, islands: 3, halfMs: 15, nearlyAllMs: 200 },
  ])("$lossPerMille ‰, $islands islands: half of all commits come within $halfMs ms, 99 % within $nearlyAllMs ms", (one) => {
    const simulation = opened(21, 40, one.islands, 5);
    simulation.setLoss(one.lossPerMille);
    const lags = lagsMs(simulation, 4000);
    expect(lags.length).toBeGreaterThan(20_000);
    expect(lags[lags.length >> 1]).toBeLessThanOrEqual(one.halfMs);
    expect(lags[Math.floor(lags.length * 0.99)]).toBeLessThanOrEqual(one.nearlyAllMs);
  });
});
