/** The relay tree in virtual time, with the product's heartbeats: who takes a dead relay's place, and how long its children wait for it. */
import { describe, expect, test } from "vitest";
import type { Endpoint } from "../../src/base/ids.js";
import { ancestorsOf, childrenMax, type TreeEngine, treeOrder } from "../../src/messages/stream/relay-tree.js";
import { type Member, StreamSimulation } from "./stream-simulation.js";

/** design: a relay that dies is replaced without a gap in commits longer than this. */
const gapMsMax = 300;

function opened(seed: number, caches: number): StreamSimulation {
  const simulation = new StreamSimulation({
    seed,
    voters: 3,
    caches,
    spares: 0,
    faults: false,
    hasty: false,
    unicast: true,
    wrongTrees: false,
  });
  const order = (): void => {
    simulation.order();
    simulation.at(15, order);
  };
  order();
  simulation.run(6000);
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

  test.each([1, 2, 3, 4, 5])("a relay is killed under load: its children wait no longer than 300 ms (seed %i)", (seed) => {
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

  test.each([1, 2, 3, 4, 5])("a relay that hangs is left as soon (seed %i)", (seed) => {
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
    expect(parentOf(last)).toBe(sequencerOf(simulation).name);
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
