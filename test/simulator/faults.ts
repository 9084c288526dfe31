/**
 * Seeded faults: what happens to processes, disks and the network while clients work. A fault is drawn every so often by the profile's weights;
 * what it has broken is mended some time later, or at the end. No fault takes a majority of the voters' disks for good: nothing survives that.
 */
import type { Random } from "../../src/base/random.js";
import type { FabricConditions } from "../../src/messages/network/memory-fabric-types.js";
import { check } from "./committed-stream.js";
import { type SimulatedCluster, votersTarget } from "./simulated-cluster.js";
import type { SimulatedProcess } from "./simulated-process.js";

export const faultKinds = [
  "crashArchive",
  "crashCache",
  "crashSequencer",
  "crashAll",
  "flicker",
  "flickerVoter",
  "pause",
  "longPause",
  "isolate",
  "oneWay",
  "longCut",
  "cutPair",
  "badNetwork",
  "reset",
  "leaveCache",
  "leaveArchive",
  "newCache",
  "replaceArchive",
  "trim",
  "fallBehind",
  "damage",
  "diskFails",
  "moveIsland",
] as const;
export type FaultKind = (typeof faultKinds)[number];
export type FaultWeights = Partial<Readonly<Record<FaultKind, number>>>;

export interface FaultPlan {
  readonly weights: FaultWeights;
  /** Between one fault and the next, in virtual milliseconds. */
  readonly everyMsMin: number;
  readonly everyMsMax: number;
}

/** An election begins within this after the sequencer is gone, or not at all. Virtual milliseconds. */
const votedWithinMs = 300;

export class Faults {
  readonly #cluster: SimulatedCluster;
  readonly #random: Random;
  readonly #plan: FaultPlan;
  readonly #kinds: readonly FaultKind[];
  readonly #calm: FabricConditions;
  #stopped = false;
  /** A voter's disk is damaged or lost, and not whole again yet: no other may be meanwhile. */
  #isDiskAtRisk = false;
  /** Being removed and replaced, one at a time. */
  #isReplacing = false;

  constructor(cluster: SimulatedCluster, random: Random, plan: FaultPlan) {
    this.#cluster = cluster;
    this.#random = random;
    this.#plan = plan;
    this.#calm = cluster.fabric.conditions;
    this.#kinds = faultKinds.flatMap((kind) => new Array<FaultKind>(plan.weights[kind] ?? 0).fill(kind));
  }

  begin(): void {
    if (this.#kinds.length === 0) return;
    this.#next();
  }

  #next(): void {
    this.#cluster.time.after(this.#between(this.#plan.everyMsMin, this.#plan.everyMsMax), () => {
      if (this.#stopped) return;
      const kind = this.#kinds[this.#random.integer(this.#kinds.length)];
      if (kind !== undefined) this.#happen(kind);
      this.#next();
    });
  }

  /** Nothing more goes wrong, and what is broken is mended. Disks that are lost stay so. */
  stop(): void {
    this.#stopped = true;
    const cluster = this.#cluster;
    cluster.fabric.conditions = this.#calm;
    cluster.heal();
    for (const process of cluster.names()) {
      cluster.setGroup(process, cluster.groupOf(process.name));
      process.resume();
      cluster.restart(process.name);
    }
  }

  #between(min: number, max: number): number {
    return min + this.#random.integer(Math.round((max - min) * 1000) + 1) / 1000;
  }

  #later(minMs: number, maxMs: number, act: () => void): void {
    this.#cluster.time.after(this.#between(minMs, maxMs), () => {
      if (!this.#stopped) act();
    });
  }

  #pick(among: readonly SimulatedProcess[]): SimulatedProcess | undefined {
    return among[this.#random.integer(Math.max(1, among.length))];
  }

  #up(kind?: "archive" | "cache"): SimulatedProcess[] {
    return this.#cluster.names(kind).filter((process) => process.state === "up");
  }

  #happen(kind: FaultKind): void {
    switch (kind) {
      case "crashArchive":
        this.#crash(this.#pick(this.#up("archive")));
        return;
      case "crashCache":
        this.#crash(this.#pick(this.#up("cache")));
        return;
      case "crashSequencer":
        this.#crash(this.#up("archive").find((process) => process.core?.stream.role === "sequencer"));
        return;
      case "crashAll":
        this.#crashAll();
        return;
      case "flicker":
        this.#flicker(this.#pick(this.#up("archive")));
        return;
      case "flickerVoter":
        this.#flicker(this.#up("archive").find((process) => process.core?.stream.role === "sequencer"));
        this.#flickerWhoVotes(this.#cluster.nowMs + votedWithinMs);
        return;
      case "pause":
        this.#pause(this.#pick(this.#up()), 20, 500);
        return;
      case "longPause":
        this.#pause(this.#pick(this.#up()), 3100, 3600);
        return;
      case "isolate":
        this.#cut(this.#pick(this.#up()), false, 50, 900);
        return;
      case "oneWay":
        this.#cut(this.#pick(this.#up()), true, 50, 900);
        return;
      case "longCut":
        this.#cut(this.#pick(this.#up()), this.#random.integer(3) === 0, 3100, 3600);
        return;
      case "cutPair":
        this.#cutPair();
        return;
      case "badNetwork":
        this.#badNetwork();
        return;
      case "reset":
        this.#reset(this.#pick(this.#up()), this.#pick(this.#up()));
        return;
      case "leaveCache":
        this.#leave(this.#pick(this.#up("cache")));
        return;
      case "leaveArchive":
        if (this.#up("archive").length >= votersTarget) this.#leave(this.#pick(this.#up("archive")));
        return;
      case "newCache":
        if (this.#cluster.names("cache").length < 5) this.#cluster.add("cache", `C${this.#cluster.names("cache").length + 1}`).start();
        return;
      case "replaceArchive":
        this.#replaceArchive();
        return;
      case "trim":
        for (const process of this.#up("archive")) void process.disk?.trim();
        return;
      case "fallBehind":
        this.#fallBehind();
        return;
      case "damage":
        this.#damage();
        return;
      case "moveIsland":
        this.#moveIsland(this.#pick(this.#up()));
        return;
      case "diskFails":
        this.#diskFails(this.#pick(this.#up("archive")));
        return;
    }
  }

  #crash(process: SimulatedProcess | undefined): void {
    if (process === undefined) return;
    this.#cluster.crash(process.name);
    this.#later(5, 700, () => this.#cluster.restart(process.name));
  }

  /** An fsync fails: the Archive ends itself, whatever it had written since is in doubt, and comes back with a disk that works. */
  #diskFails(process: SimulatedProcess | undefined): void {
    if (process === undefined) return;
    this.#cluster.trace(process.name, "its disk fails");
    this.#cluster.failDisk(process.name);
    this.#later(5, 700, () => this.#cluster.restart(process.name));
  }

  #crashAll(): void {
    const all = this.#cluster.names().filter((process) => process.state !== "down");
    for (const process of all) this.#cluster.crash(process.name);
    for (const process of all) this.#later(5, 100, () => this.#cluster.restart(process.name));
  }

  /** Gone and back while what was sent to it is still under way. */
  #flicker(process: SimulatedProcess | undefined): void {
    if (process === undefined) return;
    this.#cluster.crash(process.name);
    this.#later(0.2, 4, () => this.#cluster.restart(process.name));
  }

  /**
   * Whoever has just voted is gone and back: what it has told must still count for it when another one asks in the same term. It does more often where the
   * winner is heard by nobody.
   */
  #flickerWhoVotes(untilMs: number): void {
    const archives = this.#up("archive").flatMap((process) => (process.core === null ? [] : [{ process, stream: process.core.stream }]));
    const candidates = archives.filter(({ stream }) => stream.role === "candidate");
    const voted = archives.find(
      ({ stream }) => stream.role === "follower" && stream.sequencer === null && candidates.some((one) => one.stream.term === stream.term),
    );
    if (voted === undefined) {
      if (this.#cluster.nowMs < untilMs) this.#later(0.5, 1, () => this.#flickerWhoVotes(untilMs));
      return;
    }
    const { term } = voted.stream;
    const candidate = candidates.find(({ stream }) => stream.term === term)?.process;
    if (candidate !== undefined && this.#random.integer(2) === 0) {
      const others = this.#cluster.names().filter((other) => other !== candidate);
      this.#cluster.cut([candidate], others, true);
      this.#later(200, 500, () => this.#cluster.heal());
    }
    this.#flicker(voted.process);
  }

  #pause(process: SimulatedProcess | undefined, minMs: number, maxMs: number): void {
    if (process === undefined) return;
    process.pause();
    this.#later(minMs, maxMs, () => process.resume());
  }

  #cut(process: SimulatedProcess | undefined, oneWay: boolean, minMs: number, maxMs: number): void {
    if (process === undefined) return;
    const others = this.#cluster.names().filter((other) => other !== process);
    const some = this.#random.integer(2) === 0 ? others : others.filter(() => this.#random.integer(2) === 0);
    if (oneWay && this.#random.integer(2) === 0) this.#cluster.cut(some, [process], true);
    else this.#cluster.cut([process], some, oneWay);
    this.#later(minMs, maxMs, () => this.#cluster.heal());
  }

  /** Two Caches do not reach each other, and all others reach both: what one originates, the other cannot ask for. */
  #cutPair(): void {
    const left = this.#pick(this.#up("cache"));
    const right = this.#pick(this.#up("cache").filter((process) => process !== left));
    if (left === undefined || right === undefined) return;
    this.#cluster.cut([left], [right], this.#random.integer(3) === 0);
    this.#later(1200, 3000, () => this.#cluster.heal());
  }

  #badNetwork(): void {
    const { fabric } = this.#cluster;
    fabric.conditions = {
      ...this.#calm,
      lossPerMille: this.#random.integer(300),
      duplicatePerMille: this.#random.integer(200),
      reorderPerMille: this.#random.integer(300),
      reorderDelayMs: this.#between(1, 20),
      delayMsMax: this.#between(0.2, 8),
    };
    this.#later(50, 800, () => {
      fabric.conditions = this.#calm;
    });
  }

  /** To another island, as far as multicast goes, or out of its reach altogether. */
  #moveIsland(process: SimulatedProcess | undefined): void {
    if (process === undefined) return;
    const islands = [...new Set(this.#cluster.names().map(({ name }) => this.#cluster.groupOf(name))), null];
    this.#cluster.setGroup(process, islands[this.#random.integer(islands.length)] ?? null);
  }

  /** Connections between two that live: what was on its way is lost. */
  #reset(left: SimulatedProcess | undefined, right: SimulatedProcess | undefined): void {
    if (left === undefined || right === undefined || left === right) return;
    this.#cluster.trace("net", `connection of ${left.name} and ${right.name} ends`);
    left.engine?.network?.disconnect(right.endpoint);
  }

  #leave(process: SimulatedProcess | undefined): void {
    if (process === undefined) return;
    this.#cluster.leave(process.name, () => this.#later(5, 300, () => this.#cluster.restart(process.name)));
  }

  /** A voter's disk is lost for good; its place is given to a new Archive, with an empty disk. */
  #replaceArchive(): void {
    const voters = this.#cluster.invariants.committed.voters();
    const healthy = this.#up("archive").filter((process) => process.isMember && voters.includes(process.disk?.nodeId ?? (0 as never)));
    const victim = this.#pick(healthy);
    if (victim === undefined || healthy.length < votersTarget || this.#isDiskAtRisk || this.#isReplacing) return;
    this.#isReplacing = true;
    this.#cluster.crash(victim.name);
    victim.disk?.destroy();
    this.#cluster.trace(victim.name, "has lost its disk");
    const name = `A${this.#cluster.names("archive").length + 1}`;
    this.#removeVoter(victim, () => {
      this.#cluster.add("archive", name).start();
      this.#whenVoter(name);
    });
  }

  /** As an operator would: asks until it is done. Goes on when the faults have stopped, since the database is not whole without. */
  #removeVoter(victim: SimulatedProcess, then: () => void): void {
    const cluster = this.#cluster;
    const node = victim.disk?.nodeId;
    if (node === undefined) return;
    if (!cluster.invariants.committed.voters().includes(node)) {
      then();
      return;
    }
    const asked = this.#pick(this.#up()) ?? null;
    asked?.engine?.removeVoter(node).then((refusal) => {
      cluster.trace(asked.name, `removal of ${node}: ${refusal || "done"}`);
      const voters = refusal === "" ? [...(asked.core?.catalog.voters ?? [])] : [];
      // In its own turn of simulated time, where what is broken is told with its seed.
      cluster.time.after(0, () =>
        check(!voters.includes(node), "a removal that is told is done", () => `${asked.name} has ${node} among its voters`),
      );
    });
    cluster.time.after(200, () => this.#removeVoter(victim, then));
  }

  /** The place among the voters is taken again, by the new one or by one that stood by. */
  #whenVoter(name: string): void {
    const isWhole = this.#cluster.invariants.committed.voters().length >= votersTarget && this.#cluster.process(name).isMember;
    if (isWhole) this.#isReplacing = false;
    else this.#cluster.time.after(50, () => this.#whenVoter(name));
  }

  get isReplacing(): boolean {
    return this.#isReplacing;
  }

  /** An Archive is away until no journal goes back to where it was. */
  #fallBehind(): void {
    const up = this.#up("archive").filter((process) => process.isMember);
    const victim = this.#pick(up);
    if (victim === undefined || up.length < votersTarget) return;
    this.#cluster.crash(victim.name);
    this.#later(200, 500, () => {
      for (const process of this.#up("archive")) void process.disk?.trim();
      this.#cluster.restart(victim.name);
    });
  }

  /** The end of a crashed voter's journal cannot be read any more; the others have it. */
  #damage(): void {
    const up = this.#up("archive").filter((process) => process.isMember);
    const victim = this.#pick(up);
    const disk = victim?.disk;
    if (victim === undefined || disk === undefined || disk === null || up.length < votersTarget || this.#isDiskAtRisk || this.#isReplacing) return;
    this.#isDiskAtRisk = true;
    const seq = this.#cluster.invariants.committed.lastSeq;
    this.#cluster.crash(victim.name);
    disk.damage(1 + this.#random.integer(20));
    this.#cluster.trace(victim.name, "has a damaged journal");
    this.#later(5, 200, () => this.#cluster.restart(victim.name));
    this.#whenRepaired(victim, seq);
  }

  #whenRepaired(victim: SimulatedProcess, seq: number): void {
    const { disk } = victim;
    const hash = this.#cluster.invariants.committed.entries[seq - 1]?.hash ?? "";
    if (disk?.isSafe(seq as never, hash) === true) this.#isDiskAtRisk = false;
    else this.#cluster.time.after(50, () => this.#whenRepaired(victim, seq));
  }
}
