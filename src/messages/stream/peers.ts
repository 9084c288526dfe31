/** Where nodes are, and what each endpoint last said of itself. */
import type { Endpoint, NodeId, Nonce, Seq, Term } from "../../base/ids.js";
import { noNode } from "../../base/ids.js";
import type { AckMessage } from "../wire/stream-messages.js";

/** Nodes and endpoints remembered; the one that was learnt first is forgotten. Reason: more engines than any database has. */
export const peersMax = 4096;

export interface Heard {
  nonce: Nonce;
  atMs: number;
  durableSeq: Seq;
  matchedSeq: Seq;
  appliedSeq: Seq;
  /** As promised in the own term; 0: not yet. */
  oldestSnapshot: Seq;
  nodeId: NodeId;
  engine: number;
}

export class Peers {
  readonly #endpoints = new Map<NodeId, Endpoint>();
  readonly #heard = new Map<Endpoint, Heard>();

  learn(node: NodeId, endpoint: Endpoint): void {
    if (node === noNode) return;
    if (this.#endpoints.get(node) === endpoint) return;
    this.#endpoints.set(node, endpoint);
    forgetBeyond(this.#endpoints);
  }

  endpointOf(node: NodeId): Endpoint | undefined {
    return this.#endpoints.get(node);
  }

  /** A new sequencer counts only what it is told itself. */
  forgetHeard(): void {
    this.#heard.clear();
  }

  heardFrom(endpoint: Endpoint): Heard | null {
    return this.#heard.get(endpoint) ?? null;
  }

  /** Seqs count for acks of the own term only; within one process's life they never go back, whatever order acks come in. */
  onAck(from: Endpoint, ack: AckMessage, term: Term, nowMs: number): void {
    const isOfTerm = ack.term === term;
    const durableSeq = isOfTerm ? ack.durable.seq : (0 as Seq);
    const matchedSeq = isOfTerm ? ack.matchedSeq : (0 as Seq);
    const oldestSnapshot = isOfTerm ? ack.oldestSnapshot : (0 as Seq);
    const heard = this.#heard.get(from);
    if (heard === undefined || heard.nonce !== ack.nonce) {
      const { nonce, appliedSeq, nodeId, engine } = ack;
      this.#heard.set(from, { nonce, atMs: nowMs, durableSeq, matchedSeq, appliedSeq, oldestSnapshot, nodeId, engine });
      forgetBeyond(this.#heard);
      return;
    }
    heard.atMs = nowMs;
    heard.nodeId = ack.nodeId;
    // 0 again is news (evicted); ids otherwise grow.
    if (heard.engine !== ack.engine) heard.oldestSnapshot = 0 as Seq;
    heard.engine = ack.engine;
    if (durableSeq > heard.durableSeq) heard.durableSeq = durableSeq;
    if (matchedSeq > heard.matchedSeq) heard.matchedSeq = matchedSeq;
    if (ack.appliedSeq > heard.appliedSeq) heard.appliedSeq = ack.appliedSeq;
    if (oldestSnapshot > heard.oldestSnapshot) heard.oldestSnapshot = oldestSnapshot;
  }
}

function forgetBeyond<Key, Value>(map: Map<Key, Value>): void {
  if (map.size <= peersMax) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
