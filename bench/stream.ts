/**
 * Entries per second through the pure stream: one process plays three voters in memory, without sockets, disks or sealing. The
 * sequencer's share of the time is measured apart: in production the others run elsewhere.
 *
 *     npm run build && node dist/bench/stream.js [entry bytes] [datagram bytes]
 */
import { genesisHash } from "../src/base/chain-hash.js";
import type { Endpoint, NodeId, Nonce, Seq, Term } from "../src/base/ids.js";
import type { LogPosition } from "../src/base/log-entry.js";
import { seededRandom } from "../src/base/random.js";
import { StreamNode } from "../src/messages/stream/stream-node.js";
import type { StreamEffect, StreamInput } from "../src/messages/stream/stream-node-types.js";

const entryBytes = Number(process.argv[2] ?? 150);
const datagramBytesMax = Number(process.argv[3] ?? 8192);
const measuredMs = 3000;
const nodeIds = [1, 2, 3] as NodeId[];

interface Voter {
  readonly endpoint: Endpoint;
  readonly node: StreamNode;
  readonly inputs: StreamInput[];
  busyNs: bigint;
}

const voters: Voter[] = nodeIds.map((nodeId) => ({
  endpoint: `a${nodeId}` as Endpoint,
  node: new StreamNode({
    kind: "archive",
    nodeId,
    nonce: nodeId as number as Nonce,
    endpoint: `a${nodeId}` as Endpoint,
    base: { seq: 0 as Seq, term: 0 as Term, hash: genesisHash },
    entries: [],
    commitSeq: 0 as Seq,
    appliedSeq: 0 as Seq,
    voters: nodeIds,
    term: 0 as Term,
    votedFor: 0 as NodeId,
    repairThrough: 0 as Seq,
    random: seededRandom(nodeId),
    limits: {
      heartbeatMs: 100,
      electionTimeoutMsMin: 1000,
      electionTimeoutMsMax: 2000,
      repairDelayMsMin: 1,
      repairDelayMsMax: 10,
      datagramBytesMax,
      datagramsPerTurnMax: 32,
      windowBytesMax: 4 * 1024 * 1024,
      keptBytesMax: 64 * 1024 * 1024,
      catchUpBytes: 16 * 1024 * 1024,
    },
    hasMulticast: true,
    nowMs: 0,
  }),
  inputs: [],
  busyNs: 0n,
}));

function perform(from: Voter, effects: readonly StreamEffect[], nowMs: number): void {
  for (const effect of effects) {
    if (effect.kind === "multicast") {
      for (const to of voters) if (to !== from) to.inputs.push({ kind: "message", nowMs, from: from.endpoint, payload: effect.payload });
    } else if (effect.kind === "send") {
      voters.find((to) => to.endpoint === effect.to)?.inputs.push({ kind: "message", nowMs, from: from.endpoint, payload: effect.payload });
    } else if (effect.kind === "append") {
      from.inputs.push({ kind: "journaled", nowMs, position: effect.entries.at(-1) as LogPosition });
    } else if (effect.kind === "saveVote") {
      from.inputs.push({ kind: "voteSaved", nowMs, term: effect.term, votedFor: effect.votedFor });
    }
  }
}

function turn(nowMs: number, ordered: readonly Uint8Array[]): void {
  for (const voter of voters) {
    const inputs = voter.inputs.splice(0);
    inputs.push({ kind: "tick", nowMs });
    if (ordered.length > 0 && voter.node.role === "sequencer") inputs.push({ kind: "order", nowMs, entries: ordered });
    inputs.push({ kind: "turnEnd", nowMs });
    for (const input of inputs) {
      const start = process.hrtime.bigint();
      const effects = voter.node.step(input);
      voter.busyNs += process.hrtime.bigint() - start;
      perform(voter, effects, nowMs);
    }
  }
}

for (const voter of voters) {
  for (const peer of nodeIds) turnPeer(voter, peer);
}

function turnPeer(voter: Voter, nodeId: NodeId): void {
  const endpoint = `a${nodeId}` as Endpoint;
  if (endpoint !== voter.endpoint) voter.node.step({ kind: "peer", nodeId, endpoint });
}

let nowMs = 0;
while (!voters.some((voter) => voter.node.leadsSurely)) {
  nowMs += 5;
  turn(nowMs, []);
}
const sequencer = voters.find((voter) => voter.node.leadsSurely) as Voter;

for (const batch of [1, 64, 512]) {
  const entries = Array.from({ length: batch }, () => Buffer.alloc(entryBytes, 5));
  for (let index = 0; index < 2000; index++) turn(++nowMs, entries);
  const before = sequencer.node.commitSeq;
  for (const voter of voters) voter.busyNs = 0n;
  const start = process.hrtime.bigint();
  while (process.hrtime.bigint() - start < BigInt(measuredMs) * 1_000_000n) turn(++nowMs, entries);
  const count = sequencer.node.commitSeq - before;
  const perEntry = (busyNs: bigint): string => (Number(busyNs) / count / 1000).toFixed(2);
  const rate = (busyNs: bigint): string => Math.round((count * 1e9) / Number(busyNs)).toLocaleString("en");
  const follower = voters.find((voter) => voter !== sequencer) as Voter;
  console.log(
    `${batch} entries of ${entryBytes} bytes a turn: sequencer ${perEntry(sequencer.busyNs)} µs each, ${rate(sequencer.busyNs)}/s; ` +
      `follower ${perEntry(follower.busyNs)} µs each, ${rate(follower.busyNs)}/s`,
  );
}
