/**
 * The sequencer's end, for one term: whom it has heard, what a majority has durable, and what goes out next.
 *
 * A voter's ack counts when its term is this one and its hash is the log's. What a majority of the voters in force has durable is
 * committed, provided its term is this one (an older term's entry can be durable on a majority and still be overwritten; Raft, §3.6.2).
 */
import type { Endpoint, NodeId, Seq } from "../../base/ids.js";
import { type AckMessage, encodeStreamMessage, type FrameHeader, relayedHeadBytesMax } from "../wire/stream-messages.js";
import { packEmptyFrame, packFrame, type SendCursor } from "./frame-packing.js";
import type { StreamLog } from "./stream-log.js";
import type { StreamLimits } from "./stream-node-types.js";

/** Larger entries are not multicast, in bytes: receivers take them by catch-up. Reason: they would fill every receiver's socket buffer. */
export const multicastEntryBytesMax = 1024 * 1024;

/** A voter that has not answered a heartbeat when this many more have gone is taken not to hear the multicast. */
const unansweredHeartbeatsMax = 2;

/** And gets copies by unicast for this many heartbeats, before the multicast alone is tried again. */
const copiedHeartbeats = 50;

/**
 * A commit is told at once to the engines that it concerns, if they are so few at most, and to all others with the next frame, or when this many milliseconds
 * have gone: each frame wakes every engine, and a round of commits need not do so twice.
 */
const concernedMax = 4;
const tellAllAfterMs = 4;

/** What was ordered together. */
interface Ordered {
  readonly lastSeq: Seq;
  /** null: all. */
  readonly concerned: readonly Endpoint[] | null;
}

/** What the sequencer knows of a voter in this term, since it votes. */
interface Voter {
  durableSeq: Seq;
  round: number;
  /** At first, when it became a voter: until then its acks did not count, so it has not been silent. */
  heardMs: number;
  /** Copies go out until then. */
  copiesUntilMs: number;
}

export interface ReplicationHost {
  readonly nodeId: NodeId;
  readonly self: Endpoint;
  readonly hasMulticast: boolean;
  readonly limits: StreamLimits;
  readonly log: StreamLog;
  commitSeq(): Seq;
  durableSeq(): Seq;
  frameHeader(): FrameHeader;
  endpointOf(node: NodeId): Endpoint | undefined;
  /** Engines that are sent to besides the multicast: the tops of the relay tree. */
  subscribers(): readonly Endpoint[];
  multicast(payload: Buffer): void;
  sendDatagram(to: Endpoint, payload: Buffer): void;
  /** A frame that goes there besides the multicast, or instead of it. */
  sendLive(to: Endpoint, payload: Buffer): void;
}

export class Replication {
  readonly #host: ReplicationHost;
  /** Of this term: only from its commit on does counting commit anything. */
  readonly noopSeq: Seq;
  readonly #voters = new Map<NodeId, Voter>();
  readonly #cursor: SendCursor;
  /** The time of the last input. */
  #nowMs: number;
  #round = 0;
  #heartbeatMs: number;
  /** Counts what was sent through the relay tree. */
  #relayedNumber = 0;
  /** Rounds of the last heartbeats, oldest first. */
  #heartbeatRounds: number[] = [];
  #isFrameDue = true;
  #sentCommitSeq = 0;
  /** Told to those concerned, at least. */
  #toldCommitSeq = 0;
  /** Since when not all have been told the commit seq; null: they have. */
  #untoldSinceMs: number | null = null;
  /** Not told yet, oldest first; no more than may be ordered and uncommitted (the engine stops ordering beyond that). */
  #ordered: Ordered[] = [];

  /** `noopSeq`: the place of the term's NOOP, just appended. */
  constructor(host: ReplicationHost, noopSeq: Seq, nowMs: number) {
    this.#host = host;
    this.noopSeq = noopSeq;
    this.#cursor = { seq: noopSeq, offset: 0 };
    this.#nowMs = nowMs;
    this.#heartbeatMs = nowMs;
  }

  get round(): number {
    return this.#round;
  }

  /** The last commit seq that was multicast. */
  get sentCommitSeq(): number {
    return this.#sentCommitSeq;
  }

  /** The next entry that was not sent whole. */
  get unsentSeq(): Seq {
    return this.#cursor.seq;
  }

  /** Everything up to `lastSeq` that was not told of before. */
  onOrdered(lastSeq: Seq, concerned: readonly Endpoint[] | null): void {
    this.#ordered.push({ lastSeq, concerned });
  }

  /** All are to be told the commit seq before `nowMs`, and perhaps no entry comes along. */
  isTellingDueBefore(nowMs: number): boolean {
    return this.#untoldSinceMs !== null && this.#untoldSinceMs + tellAllAfterMs < nowMs;
  }

  onAck(ack: AckMessage, nowMs: number): void {
    this.#nowMs = nowMs;
    const voter = this.#voter(ack.nodeId);
    voter.heardMs = nowMs;
    voter.round = Math.min(this.#round, Math.max(voter.round, ack.round));
    const { log } = this.#host;
    if (ack.durable.seq <= voter.durableSeq || ack.durable.seq > log.last.seq) return;
    // Below the floor everything is committed; such an ack cannot commit anything, and may count for the window.
    const hash = log.hashAt(ack.durable.seq);
    if (hash === undefined || hash === ack.durable.hash) voter.durableSeq = ack.durable.seq;
  }

  #voter(node: NodeId): Voter {
    let voter = this.#voters.get(node);
    if (voter === undefined) {
      voter = { durableSeq: 0 as Seq, round: 0, heardMs: this.#nowMs, copiesUntilMs: 0 };
      this.#voters.set(node, voter);
    }
    return voter;
  }

  /** Whether a majority of the voters, itself included, was heard within the election timeout. */
  hearsMajority(nowMs: number): boolean {
    const { nodeId, limits, log } = this.#host;
    this.#nowMs = nowMs;
    // A node that is given its vote back begins anew.
    for (const node of this.#voters.keys()) if (!log.voters.includes(node)) this.#voters.delete(node);
    const isHeard = (node: NodeId) => node === nodeId || nowMs - this.#voter(node).heardMs < limits.electionTimeoutMsMin;
    return log.voters.filter(isHeard).length * 2 > log.voters.length;
  }

  /** What may be committed now: the largest seq of this term that a majority has durable, or the present commit seq. */
  committableSeq(): Seq {
    const commitSeq = this.#host.commitSeq();
    const seq = this.#majority((node) => this.#durableSeqOf(node));
    return seq > commitSeq && seq >= this.noopSeq ? (seq as Seq) : commitSeq;
  }

  /** The last round that a majority has answered: it had this sequencer when that round began. */
  get confirmedRound(): number {
    return this.#majority((node) => (node === this.#host.nodeId ? this.#round : this.#voter(node).round));
  }

  #durableSeqOf(node: NodeId): Seq {
    return node === this.#host.nodeId ? this.#host.durableSeq() : this.#voter(node).durableSeq;
  }

  /** The largest value that a majority of the voters reaches. */
  #majority(reachedBy: (node: NodeId) => number): number {
    const values = this.#host.log.voters.map(reachedBy).sort((left, right) => right - left);
    return values[values.length >> 1] ?? 0;
  }

  /** A heartbeat when its time has come. */
  tick(nowMs: number): void {
    const { heartbeatMs } = this.#host.limits;
    if (this.#untoldSinceMs !== null && nowMs - this.#untoldSinceMs >= tellAllAfterMs) this.#isFrameDue = true;
    if (nowMs - this.#heartbeatMs < heartbeatMs) return;
    this.#heartbeatMs = nowMs;
    if (this.#heartbeatRounds.length >= unansweredHeartbeatsMax) {
      const answeredByNow = this.#heartbeatRounds.shift() ?? 0;
      for (const node of this.#host.log.voters) {
        const voter = this.#voter(node);
        if (voter.round < answeredByNow) voter.copiesUntilMs = nowMs + copiedHeartbeats * heartbeatMs;
      }
    }
    this.beginRound();
    this.#heartbeatRounds.push(this.#round);
  }

  /** A frame at the next turn's end whose answers are later than now. */
  beginRound(): void {
    this.#round++;
    this.#isFrameDue = true;
  }

  /**
   * Sends what was ordered, and the commit seq, within `budget` datagrams. Returns how many are left, or null where the budget ended
   * before the work.
   */
  sendFrames(budget: number, nowMs: number): number | null {
    const { log, limits } = this.#host;
    const header = this.#host.frameHeader();
    let left = budget;
    while (this.#cursor.seq <= log.last.seq && this.#isWindowOpen()) {
      if (this.#skipsLarge()) continue;
      if (left <= 0) return null;
      const payload = packFrame(log, header, this.#cursor, log.last.seq, limits.datagramBytesMax - relayedHeadBytesMax);
      left = this.#send(payload, left, false, nowMs);
      this.#isFrameDue = this.#isFrameDue && !this.#everyoneGets(nowMs);
      this.#allTold(header.commit.seq);
    }
    if (!this.#isFrameDue && header.commit.seq <= this.#toldCommitSeq) return left;
    if (left <= 0) return null;
    const concerned = this.#isFrameDue ? null : this.#concernedBy(header.commit.seq);
    const payload = packEmptyFrame(header);
    if (concerned === null || concerned.size > Math.min(concernedMax, left)) {
      left = this.#send(payload, left, this.#isFrameDue, nowMs);
      this.#isFrameDue = false;
      this.#allTold(header.commit.seq);
      return left;
    }
    for (const endpoint of concerned) this.#host.sendDatagram(endpoint, payload);
    this.#forgetOrdered(header.commit.seq);
    this.#toldCommitSeq = header.commit.seq;
    this.#untoldSinceMs ??= nowMs;
    return left - concerned.size;
  }

  #allTold(commitSeq: Seq): void {
    this.#forgetOrdered(commitSeq);
    this.#sentCommitSeq = commitSeq;
    this.#toldCommitSeq = commitSeq;
    this.#untoldSinceMs = null;
  }

  #forgetOrdered(commitSeq: Seq): void {
    let told = 0;
    while ((this.#ordered[told]?.lastSeq ?? Number.POSITIVE_INFINITY) <= commitSeq) told++;
    if (told > 0) this.#ordered.splice(0, told);
  }

  /** Who waits for what has become committed since it was told last; null: everyone. */
  #concernedBy(commitSeq: Seq): Set<Endpoint> | null {
    // The term's NOOP, and the tail before it, were not ordered here.
    if (this.#toldCommitSeq < this.noopSeq) return null;
    const all = new Set<Endpoint>();
    let firstSeq = this.#toldCommitSeq + 1;
    for (const { lastSeq, concerned } of this.#ordered) {
      if (firstSeq > commitSeq) break;
      if (concerned === null) return null;
      for (const endpoint of concerned) all.add(endpoint);
      firstSeq = lastSeq + 1;
    }
    return all;
  }

  /** The entries' frames of this turn were the heartbeat: true unless a voter that hears nothing must have one of its own. */
  #everyoneGets(nowMs: number): boolean {
    for (const voter of this.#voters.values()) if (this.#wantsCopies(voter, nowMs) && !this.#isAlive(voter, nowMs)) return false;
    return true;
  }

  /** It may not hear the multicast, and the relay tree alone is not to be trusted with a voter. */
  #wantsCopies(voter: Voter, nowMs: number): boolean {
    return !this.#host.hasMulticast || voter.copiesUntilMs > nowMs;
  }

  #isAlive(voter: Voter, nowMs: number): boolean {
    return nowMs - voter.heardMs < this.#host.limits.electionTimeoutMsMin;
  }

  /** Entries that no datagrams should carry are passed over; frames that follow show that they are missing. */
  #skipsLarge(): boolean {
    const bytes = this.#host.log.entryAt(this.#cursor.seq)?.bytes.length ?? 0;
    if (this.#cursor.offset > 0 || bytes <= Math.min(multicastEntryBytesMax, this.#host.limits.windowBytesMax)) return false;
    this.#cursor.seq = (this.#cursor.seq + 1) as Seq;
    this.#isFrameDue = true;
    return true;
  }

  #isWindowOpen(): boolean {
    const { log, limits } = this.#host;
    const sent = log.bytesBetween(log.floor.seq, (this.#cursor.seq - 1) as Seq) + this.#cursor.offset;
    const durable = log.bytesBetween(log.floor.seq, this.#majority((node) => this.#durableSeqOf(node)) as Seq);
    return sent - durable < limits.windowBytesMax;
  }

  /** By multicast, and by unicast to those who ask for that, and to voters who need it. */
  #send(payload: Buffer, budget: number, isHeartbeat: boolean, nowMs: number): number {
    let left = budget;
    if (this.#host.hasMulticast) {
      this.#host.multicast(payload);
      left--;
    }
    const targets = this.#unicastTargets(isHeartbeat, nowMs);
    if (targets.size === 0) return left;
    const { term } = this.#host.frameHeader();
    const relayed = encodeStreamMessage({ kind: "relayed", term, origin: this.#host.self, number: ++this.#relayedNumber, frame: payload });
    for (const endpoint of targets) this.#host.sendLive(endpoint, relayed);
    return left - targets.size;
  }

  /** Copies go to voters that do not hear the multicast: heartbeats to all of them, other frames to those that are alive. */
  #unicastTargets(isHeartbeat: boolean, nowMs: number): ReadonlySet<Endpoint> {
    const targets = new Set(this.#host.subscribers());
    for (const node of this.#host.log.voters) {
      const voter = this.#voter(node);
      if (node === this.#host.nodeId || !this.#wantsCopies(voter, nowMs) || !(isHeartbeat || this.#isAlive(voter, nowMs))) continue;
      const endpoint = this.#host.endpointOf(node);
      if (endpoint !== undefined) targets.add(endpoint);
    }
    return targets;
  }
}
