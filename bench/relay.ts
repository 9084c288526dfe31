/**
 * `npm run bench:network`: what the relay tree costs and gains, as docs/network.md tells it. Stream nodes in virtual time, with delays and losses as
 * given: datagrams and bytes are exact, times are those of the network and the disks alone, and the same on every machine.
 */
import { genesisHash } from "../src/base/chain-hash.js";
import type { Endpoint, EngineKind, NodeId, Nonce, Seq, Term } from "../src/base/ids.js";
import type { LogPosition } from "../src/base/log-entry.js";
import { type Random, seededRandom } from "../src/base/random.js";
import { streamLimits } from "../src/engines/node-environment.js";
import { sealedOverheadBytes } from "../src/messages/network/sealing.js";
import { ancestorsOf, treeOrder } from "../src/messages/stream/relay-tree.js";
import { StreamNode } from "../src/messages/stream/stream-node.js";
import type { StreamEffect, StreamInput } from "../src/messages/stream/stream-node-types.js";

interface Conditions {
  readonly engines: number;
  /** Whom multicast reaches: those of one island; 0: there is none. */
  readonly islands: number;
  readonly lossPerMille: number;
  /** One way, in milliseconds, in an island and between two. */
  readonly nearMs: number;
  readonly farMs: number;
}

const voters = [1, 2, 3] as NodeId[];
const diskMs = 0.3;
/** After its inputs an engine's turn ends so much later. */
const turnMs = 0.02;
/** As engine-host.ts does. */
const tickMs = 20;
const hastyTickMs = 5;
const entryBytes = 150;
const settleMs = 8000;
const orderEveryMs = 5;
/** Commits that are the last ones for a while: nothing that follows shows what was lost of them. */
const loneEveryMs = 150;
const orders = 800;
const loneOrders = 200;

interface Engine {
  readonly endpoint: Endpoint;
  readonly kind: EngineKind;
  readonly island: number;
  readonly node: StreamNode;
  turnPending: boolean;
  tickPending: boolean;
  datagrams: number;
  bytes: number;
}

class World {
  readonly engines: Engine[];
  readonly #conditions: Conditions;
  readonly #random: Random = seededRandom(1);
  /** By time, then in the order in which they were made. */
  readonly #events: { readonly atMs: number; readonly act: () => void }[] = [];
  nowMs = 0;
  onCommit: (engine: Engine, seq: number) => void = () => {};

  constructor(conditions: Conditions) {
    this.#conditions = conditions;
    const kinds = Array.from({ length: conditions.engines }, (_, index): EngineKind => (index < voters.length ? "archive" : "cache"));
    this.engines = kinds.map((kind, index) => {
      const endpoint = `10.0.${index >> 8}.${index & 255}:7000` as Endpoint;
      const nodeId = (kind === "archive" ? index + 1 : 0) as NodeId;
      const node = new StreamNode({
        kind,
        nodeId,
        nonce: (index + 1) as Nonce,
        endpoint,
        base: { seq: 0 as Seq, term: 0 as Term, hash: genesisHash },
        entries: [],
        commitSeq: 0 as Seq,
        appliedSeq: 0 as Seq,
        voters,
        term: 0 as Term,
        votedFor: 0 as NodeId,
        repairThrough: 0 as Seq,
        random: seededRandom(index + 1),
        limits: { ...streamLimits, datagramBytesMax: 1400 },
        hasMulticast: conditions.islands > 0,
        nowMs: 0,
      });
      const island = conditions.islands > 0 ? index % conditions.islands : 0;
      return { endpoint, kind, island, node, turnPending: false, tickPending: false, datagrams: 0, bytes: 0 };
    });
    const tree = this.engines.map(({ endpoint, kind }, index) => ({ id: index + 1, kind, endpoint }));
    for (const engine of this.engines) {
      for (const nodeId of voters) this.input(engine, { kind: "peer", nodeId, endpoint: this.engines[nodeId - 1]?.endpoint as Endpoint });
      this.input(engine, { kind: "engines", engines: tree, contacts: [] });
      this.#every(tickMs, () => this.input(engine, { kind: "tick", nowMs: this.nowMs }));
      if (conditions.islands > 0) this.#every(1000, () => this.#announce(engine));
    }
  }

  get sequencer(): Engine {
    const engine = this.engines.find(({ node }) => node.leadsSurely);
    if (engine === undefined) throw new Error("nobody leads");
    return engine;
  }

  #announce(from: Engine): void {
    for (const to of this.engines)
      if (to !== from && to.island === from.island) this.input(to, { kind: "near", nowMs: this.nowMs, endpoint: from.endpoint });
  }

  #every(ms: number, act: () => void): void {
    this.at(ms * ((this.#random.integer(1000) + 1) / 1000), () => {
      act();
      const again = (): void => {
        act();
        this.at(ms, again);
      };
      this.at(ms, again);
    });
  }

  at(delayMs: number, act: () => void): void {
    const atMs = this.nowMs + delayMs;
    let low = 0;
    for (let high = this.#events.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((this.#events[middle]?.atMs ?? 0) <= atMs) low = middle + 1;
      else high = middle;
    }
    this.#events.splice(low, 0, { atMs, act });
  }

  run(ms: number): void {
    const endMs = this.nowMs + ms;
    for (let event = this.#events[0]; event !== undefined && event.atMs <= endMs; event = this.#events[0]) {
      this.#events.shift();
      this.nowMs = event.atMs;
      event.act();
    }
    this.nowMs = endMs;
  }

  input(engine: Engine, input: StreamInput): void {
    this.#perform(engine, engine.node.step(input));
    if (input.kind === "turnEnd" || engine.turnPending) return;
    engine.turnPending = true;
    this.at(turnMs, () => {
      engine.turnPending = false;
      this.input(engine, { kind: "turnEnd", nowMs: this.nowMs });
      this.#tickSoonWhereDue(engine);
    });
  }

  #tickSoonWhereDue(engine: Engine): void {
    if (engine.tickPending || !engine.node.isDueBefore(this.nowMs + tickMs)) return;
    engine.tickPending = true;
    this.at(hastyTickMs, () => {
      engine.tickPending = false;
      this.input(engine, { kind: "tick", nowMs: this.nowMs });
    });
  }

  #perform(from: Engine, effects: readonly StreamEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send")
        this.#send(
          from,
          this.engines.find(({ endpoint }) => endpoint === effect.to),
          effect.payload,
          effect.channel,
        );
      else if (effect.kind === "multicast") this.#multicast(from, effect.payload);
      else if (effect.kind === "append") {
        const { seq, term, hash } = effect.entries.at(-1) as LogPosition;
        this.at(diskMs, () => this.input(from, { kind: "journaled", nowMs: this.nowMs, position: { seq, term, hash } }));
      } else if (effect.kind === "saveVote") {
        const { term, votedFor } = effect;
        this.at(diskMs, () => this.input(from, { kind: "voteSaved", nowMs: this.nowMs, term, votedFor }));
      } else if (effect.kind === "commit") for (const { seq } of effect.entries) this.onCommit(from, seq);
      else if (effect.kind === "again") this.input(from, { kind: "tick", nowMs: this.nowMs });
    }
  }

  #count(from: Engine, payload: Buffer): void {
    from.datagrams++;
    from.bytes += payload.length + sealedOverheadBytes;
  }

  #multicast(from: Engine, payload: Buffer): void {
    this.#count(from, payload);
    for (const to of this.engines) if (to !== from && to.island === from.island) this.#fly(from, to, payload, true);
  }

  #send(from: Engine, to: Engine | undefined, payload: Buffer, channel: "datagram" | "reliable"): void {
    if (to === undefined) return;
    if (channel === "reliable") {
      this.at(this.#delayMs(from, to), () => this.input(to, { kind: "message", nowMs: this.nowMs, from: from.endpoint, payload }));
      return;
    }
    this.#count(from, payload);
    this.#fly(from, to, payload, false);
  }

  #fly(from: Engine, to: Engine, payload: Buffer, byMulticast: boolean): void {
    if (this.#random.integer(1000) < this.#conditions.lossPerMille) return;
    this.at(this.#delayMs(from, to), () => this.input(to, { kind: "message", nowMs: this.nowMs, from: from.endpoint, payload, byMulticast }));
  }

  #delayMs(from: Engine, to: Engine): number {
    return from.island === to.island ? this.#conditions.nearMs : this.#conditions.farMs;
  }
}

interface Measured {
  readonly datagramsPerCommit: number;
  readonly bytesPerCommit: number;
  /** Milliseconds from the order to the commit, by depth in the tree. */
  readonly byDepth: readonly number[];
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** At the engine that waits for it. */
  readonly waiter99Ms: number;
}

const base: Conditions = { engines: 16, islands: 0, lossPerMille: 0, nearMs: 0.1, farMs: 0.1 };

function entry(): Buffer {
  return Buffer.alloc(entryBytes, 5);
}

/** `isLone`: seldom, and the last engine waits for its commit; else often, and all are told at once. */
function measure(conditions: Conditions, isLone = false): Measured {
  const world = new World(conditions);
  world.run(settleMs);
  const { sequencer } = world;
  const order = treeOrder(
    world.engines.map(({ endpoint, kind }, index) => ({ id: index + 1, kind, endpoint })),
    sequencer.endpoint,
  );
  const depthOf = new Map(world.engines.map((engine) => [engine, engine.kind === "archive" ? 1 : ancestorsOf(order, engine.endpoint).length]));
  const orderedMs = new Map<number, number>();
  const latencies: { readonly engine: Engine; readonly depth: number; readonly ms: number }[] = [];
  world.onCommit = (engine, seq) => {
    const sinceMs = orderedMs.get(seq);
    if (sinceMs !== undefined && engine !== sequencer) latencies.push({ engine, depth: depthOf.get(engine) ?? 0, ms: world.nowMs - sinceMs });
  };
  const [datagrams, bytes] = [sequencer.datagrams, sequencer.bytes];
  let commits = 0;
  const waiter = world.engines.at(-1) as Engine;
  const [count, everyMs] = isLone ? [loneOrders, loneEveryMs] : [orders, orderEveryMs];
  for (let index = 0; index < count; index++) {
    world.at(index * everyMs, () => {
      orderedMs.set(sequencer.node.last.seq + 1, world.nowMs);
      world.input(sequencer, { kind: "order", nowMs: world.nowMs, entries: [entry()], ...(isLone && { concerned: [waiter.endpoint] }) });
      commits++;
    });
  }
  world.run(count * everyMs);
  const sent = { datagrams: sequencer.datagrams - datagrams, bytes: sequencer.bytes - bytes };
  world.run(2000);
  const sorted = sortedMs(latencies);
  const atWaiter = sortedMs(latencies.filter(({ engine }) => engine === waiter));
  const depths = [...new Set(depthOf.values())].filter((depth) => depth > 0).sort();
  const mean = (all: readonly number[]): number => all.reduce((sum, one) => sum + one, 0) / Math.max(1, all.length);
  return {
    datagramsPerCommit: sent.datagrams / commits,
    bytesPerCommit: sent.bytes / commits,
    byDepth: depths.map((depth) => mean(latencies.filter((one) => one.depth === depth).map(({ ms }) => ms))),
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    waiter99Ms: quantile(atWaiter, 0.99),
  };
}

function sortedMs(latencies: readonly { readonly ms: number }[]): readonly number[] {
  return latencies.map(({ ms }) => ms).sort((left, right) => left - right);
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.floor(sorted.length * part)] ?? 0;
}

/** So many orders wait for their commit at any time. */
function commitsPerSecond(conditions: Conditions, inFlight: number): number {
  const world = new World(conditions);
  world.run(settleMs);
  const { sequencer } = world;
  let commits = 0;
  const order = (): void => world.input(sequencer, { kind: "order", nowMs: world.nowMs, entries: [entry()] });
  world.onCommit = (engine) => {
    if (engine !== sequencer) return;
    commits++;
    world.at(0, order);
  };
  for (let index = 0; index < inFlight; index++) order();
  world.run(1000);
  return commits;
}

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.map((cell) => (typeof cell === "number" ? cell.toFixed(cell >= 100 ? 0 : 2) : cell)).join(" | ")} |`;
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n");
}

function report(): string {
  const sizes = [4, 16, 64];
  const sent = sizes.map((engines) => {
    const tree = measure({ ...base, engines });
    const multicast = measure({ ...base, engines, islands: 1 });
    // A sequencer that sends each of these frames to every engine by itself.
    const all = { datagrams: multicast.datagramsPerCommit * (engines - 1), bytes: multicast.bytesPerCommit * (engines - 1) };
    return { engines, tree, multicast, all };
  });
  const lost = [0, 10, 100].map((lossPerMille) => {
    const conditions = { ...base, engines: 64, lossPerMille };
    return { lossPerMille, often: measure(conditions), lone: measure(conditions, true) };
  });
  const islands = { ...base, engines: 15, islands: 3, farMs: 50 };
  const growth = (sent[2]?.tree.datagramsPerCommit ?? 0) / (sent[1]?.tree.datagramsPerCommit ?? 1);
  return `# The network, measured

\`npm run bench:network\` prints this page. Three Archives, the rest Caches; entries of ${entryBytes} bytes, one each ${orderEveryMs} ms; ${base.nearMs} ms one way, ${diskMs} ms a write of
the journal. The stream's own code runs in virtual time: datagrams and bytes (sealed, without UDP's and IP's headers) are what would be sent; times have the
network and the disks in them, and no processor. A turn with several entries sends one frame for them all: these are the costs of single ones.

## What the sequencer sends for a commit

${table(
  ["engines", "relay tree: datagrams", "bytes", "multicast: datagrams", "bytes", "unicast to everyone: datagrams", "bytes"],
  sent.map(({ engines, tree, multicast, all }) => [
    String(engines),
    tree.datagramsPerCommit,
    tree.bytesPerCommit,
    multicast.datagramsPerCommit,
    multicast.bytesPerCommit,
    all.datagrams,
    all.bytes,
  ]),
)}

From 16 to 64 engines the tree's datagrams change by ${((growth - 1) * 100).toFixed(1)} %.

## From the order to the commit at an engine, by its depth in the tree (64 engines), milliseconds

${table(["depth 1", "depth 2", "depth 3", "multicast"], [[...(sent[2]?.tree.byDepth ?? []), sent[2]?.multicast.p50Ms ?? 0]])}

All are told of each commit at once here. In an engine those who wait for one are, and others hear of it with the next frame, or 4 ms later.

## With losses on every link (64 engines, no multicast), milliseconds from the order to the commit, all engines

${table(
  ["loss", "half within", "99 % within", "lone: who waits, 99 % within", "lone: all, 99 % within"],
  lost.map(({ lossPerMille, often, lone }) => [`${lossPerMille / 10} %`, often.p50Ms, often.p99Ms, lone.waiter99Ms, lone.p99Ms]),
)}

Lone: a commit each ${loneEveryMs} ms, so that nothing but its own notices and the heartbeat (100 ms) show what was lost of it; a Cache at the bottom of the tree waits for
it, and is told at once, the others 4 ms later.

## Commits per second, 64 in flight (15 engines)

${table(
  ["one segment", "three islands, 50 ms apart, a voter in each"],
  [[commitsPerSecond({ ...base, engines: 15, islands: 1 }, 64), commitsPerSecond(islands, 64)]],
)}

Over islands a commit takes one way there and back to the nearest other voter, whatever carries the frames.
`;
}

process.stdout.write(report());
