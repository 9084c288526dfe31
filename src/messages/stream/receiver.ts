/**
 * An engine that follows: takes the sequencer's frames, tells it what is here, and asks for what is missing (first by datagram, from
 * memory; then by catch-up, from journals). It holds the delivery also while its engine is the sequencer, for the commit seq.
 */
import { genesisHash } from "../../base/chain-hash.js";
import type { Endpoint, Seq } from "../../base/ids.js";
import { noSeq } from "../../base/ids.js";
import type { AckMessage, CatchUpEnd, FrameEntries, FrameMessage, HashedSeq, RepairRefusal, StreamMessage } from "../wire/stream-messages.js";
import { CatchUpClient, creditBytes } from "./catch-up.js";
import { Delivery } from "./delivery.js";
import type { Election } from "./election.js";
import type { JournalQueue } from "./journal-queue.js";
import type { Peers } from "./peers.js";
import { otherPeersFromAttempt, RepairSchedule, type RepairWay } from "./repair.js";
import type { StreamLog } from "./stream-log.js";
import type { StreamNodeOptions } from "./stream-node-types.js";

const noEntries: FrameEntries = { kind: "entries", entries: [] };
/** So often the parent is asked before others are: it may lack the same frame, and be asking for it. */
const parentAttempts = 4;

/** From this request on, catch-up is tried: what datagrams have not brought so often, the reliable channel will. */
const catchUpFromAttempt = 6;

/**
 * An answer of a parent is late after so many round trips, but for the time that its turn may take. Measured round trips have the hiccups of busy machines in
 * them: beyond the last bound they say nothing.
 */
const lateAfterRoundTrips = 1.5;
const answerMsMin = 5;
const answerMsMax = 200;

const nothingDurable: HashedSeq = { seq: noSeq, hash: genesisHash };

export interface ReceiverHost {
  readonly options: StreamNodeOptions;
  readonly log: StreamLog;
  readonly journal: JournalQueue;
  readonly peers: Peers;
  election(): Election;
  /** From whom it hears the stream, where that is not the sequencer. */
  parent(): Endpoint | null;
  /** That one sends by unicast, and answers within so many milliseconds; null: neither is known. */
  parentRoundTripMs(): number | null;
  onRepairAsked(of: Endpoint): void;
  send(to: Endpoint, channel: "datagram" | "reliable", message: StreamMessage): void;
  needSnapshot(): void;
}

export class Receiver {
  readonly #host: ReceiverHost;
  readonly delivery: Delivery;
  readonly #repair: RepairSchedule;
  readonly #catchUp: CatchUpClient;
  #isDamaged: boolean;
  appliedSeq: Seq;
  oldestSnapshot: Seq;
  engine = 0;
  /** Of the term's sequencer. */
  #heardRound = 0;
  #heardCommitSeq: Seq = noSeq;
  #ackedRound = 0;
  #ackedDurableSeq: Seq = noSeq;
  #ackedMs = Number.NEGATIVE_INFINITY;
  /** The connection to the sequencer is to be opened, by a message over it: its end then tells of the sequencer's. */
  #helloDue = false;
  /** That connection ended; it is opened again when the sequencer was heard since, and not while it may be dead. */
  #isDisconnected = false;
  /** Former sequencers that were heard in this turn: they are told the term. */
  readonly #staleSequencers = new Set<Endpoint>();
  /** The progress at which the lack of a snapshot was told. */
  #snapshotProgress = -1;
  /** Of the last request for repair. */
  #asked: Endpoint | null = null;
  /** Came by repair, and was not passed on yet. */
  #repaired: { readonly from: Seq; readonly through: Seq } | null = null;

  /** `commitSeq`: of what the log has. */
  constructor(host: ReceiverHost, commitSeq: Seq) {
    const { options, log, journal } = host;
    this.#host = host;
    this.appliedSeq = options.appliedSeq;
    this.oldestSnapshot = options.appliedSeq;
    this.#isDamaged = options.repairThrough > log.last.seq;
    this.delivery = new Delivery(log, commitSeq, options.limits.catchUpBytes, {
      onAppend: (entry) => journal.append(entry),
      onTruncate: (from) => journal.truncate(from),
    });
    this.#repair = new RepairSchedule(options.random, options.limits);
    this.#catchUp = new CatchUpClient(
      {
        send: (to, message) => host.send(to, "reliable", message),
        request: (requestId) => ({
          kind: "catchUpRequest",
          term: host.election().term,
          requestId,
          from: this.#missingSeq,
          offset: this.delivery.assembledBytes,
          prevHash: log.hashAt(this.delivery.matchedSeq) ?? genesisHash,
          creditBytes,
        }),
        needSnapshot: () => this.#needSnapshot(),
      },
      options.limits.electionTimeoutMsMin,
    );
  }

  get isDamaged(): boolean {
    return this.#isDamaged;
  }

  get #missingSeq(): Seq {
    return (this.delivery.matchedSeq + 1) as Seq;
  }

  onNewTerm(): void {
    this.delivery.restart();
    this.#catchUp.stop();
    this.#repair.rest();
    this.#repaired = null;
    this.#heardRound = 0;
    this.#heardCommitSeq = noSeq;
    this.#ackedRound = 0;
    this.#ackedDurableSeq = noSeq;
  }

  /** A gap is waited for: it is asked for within milliseconds. */
  get isChasing(): boolean {
    return this.#repair.isWaiting;
  }

  tick(nowMs: number): void {
    this.#catchUp.tick(this.delivery.progress, nowMs);
    this.#chaseGap(nowMs);
  }

  endTurn(nowMs: number): void {
    this.#chaseGap(nowMs);
    for (const endpoint of this.#staleSequencers) this.#host.send(endpoint, "datagram", this.#ack(nothingDurable));
    this.#staleSequencers.clear();
    this.#ackWhereDue(nowMs);
  }

  onJournaled(): void {
    this.#mendIfRepaired();
  }

  onDisconnected(endpoint: Endpoint): void {
    if (endpoint === this.#host.election().sequencer) this.#isDisconnected = true;
    this.#catchUp.onDisconnected(endpoint);
  }

  /** A repair of committed entries: whoever sends them, every later sequencer has them. */
  onCommittedFrame(frame: FrameMessage): void {
    this.#receiveRepair(frame);
  }

  /** A frame of the sequencer of the own term; `isLive`: one that goes to all, sooner or later. */
  onFrame(from: Endpoint, frame: FrameMessage, isLive: boolean, nowMs: number): void {
    const election = this.#host.election();
    if (election.sequencer !== from || this.#isDisconnected) this.#helloDue = true;
    this.#isDisconnected = false;
    election.hear(from, nowMs);
    if (frame.round > this.#heardRound) this.#heardRound = frame.round;
    if (isLive) this.#receive(frame);
    else this.#receiveRepair(frame);
  }

  onStaleSequencer(from: Endpoint): void {
    this.#staleSequencers.add(from);
  }

  /** Those who hear the stream from here miss what was missing here: it is remembered for them. What catch-up brings is too much for datagrams. */
  #receiveRepair(frame: FrameMessage): void {
    const before = this.delivery.matchedSeq;
    this.#receive(frame);
    const count = frame.content.kind === "entries" ? frame.content.entries.length : 1;
    const from = Math.max(before + 1, frame.firstSeq) as Seq;
    const through = Math.min(this.delivery.matchedSeq, frame.firstSeq + count - 1) as Seq;
    if (from > through || this.#catchUp.isActive) return;
    this.#repaired = {
      from: Math.min(from, this.#repaired?.from ?? from) as Seq,
      through: Math.max(through, this.#repaired?.through ?? through) as Seq,
    };
  }

  /** What was repaired and is committed, each entry once; null: nothing. */
  takeRepaired(): { readonly from: Seq; readonly through: Seq } | null {
    const repaired = this.#repaired;
    const { commitSeq } = this.delivery;
    if (repaired === null || commitSeq < repaired.from) return null;
    const through = Math.min(repaired.through, commitSeq) as Seq;
    this.#repaired = through < repaired.through ? { from: (through + 1) as Seq, through: repaired.through } : null;
    return { from: repaired.from, through };
  }

  #receive(frame: FrameMessage): void {
    if (frame.commit.seq > this.#heardCommitSeq) this.#heardCommitSeq = frame.commit.seq;
    this.delivery.receive(this.#isBacklogged ? { ...frame, content: noEntries } : frame);
    this.#mendIfRepaired();
  }

  /**
   * The disk is slower than the stream, and the stream goes on with a majority of faster ones: nothing more is taken until some of what
   * waits is durable, for it must stay in memory until then. What passes by meanwhile is repaired.
   */
  get #isBacklogged(): boolean {
    const { log, journal, options } = this.#host;
    return log.bytesBetween(journal.durableSeq, log.last.seq) > options.limits.catchUpBytes;
  }

  /** A damaged journal is sound again when what it once confirmed is back, matched and durable. */
  #mendIfRepaired(): void {
    if (!this.#isDamaged) return;
    const reached = Math.min(this.#host.journal.durableSeq, this.delivery.matchedSeq);
    if (reached >= this.#host.options.repairThrough) this.#isDamaged = false;
  }

  #ackWhereDue(nowMs: number): void {
    const { options, log } = this.#host;
    const election = this.#host.election();
    if (election.sequencer === null || !election.isTermSaved) return;
    const durable = this.#ackableDurable();
    const isDue =
      this.#helloDue ||
      this.#heardRound > this.#ackedRound ||
      (durable.seq > this.#ackedDurableSeq && log.voters.includes(options.nodeId)) ||
      nowMs - this.#ackedMs >= options.limits.heartbeatMs;
    if (!isDue) return;
    const ack = this.#ack(durable);
    this.#host.send(election.sequencer, "datagram", ack);
    if (this.#helloDue) this.#host.send(election.sequencer, "reliable", ack);
    this.#helloDue = false;
    this.#ackedRound = this.#heardRound;
    this.#ackedDurableSeq = durable.seq;
    this.#ackedMs = nowMs;
  }

  /** What is durable, contiguous, and matched in this term; nothing while the journal is damaged. */
  #ackableDurable(): HashedSeq {
    if (this.#isDamaged) return nothingDurable;
    const seq = Math.min(this.#host.journal.durableSeq, this.delivery.matchedSeq) as Seq;
    return this.#host.log.positionAt(seq) ?? nothingDurable;
  }

  #ack(durable: HashedSeq): AckMessage {
    const { nodeId, nonce } = this.#host.options;
    const { term } = this.#host.election();
    const { engine, appliedSeq, oldestSnapshot } = this;
    const { matchedSeq } = this.delivery;
    return { kind: "ack", term, nodeId, nonce, engine, durable, matchedSeq, appliedSeq, oldestSnapshot, round: this.#heardRound };
  }

  /** Asks for the first gap when it is time. */
  #chaseGap(nowMs: number): void {
    const { delivery } = this;
    const target = Math.max(delivery.heardLastSeq, this.#isDamaged ? this.#host.options.repairThrough : 0);
    if (this.#catchUp.isActive || this.#isBacklogged || delivery.matchedSeq >= target) {
      this.#repair.rest();
      return;
    }
    const from = this.#missingSeq;
    const offset = delivery.assembledBytes;
    const attempts = this.#repair.missing(from, offset, this.#repairWay(), nowMs);
    if (attempts === null) return;
    const source = this.#repairSource(attempts);
    if (source === null) return;
    if (attempts >= catchUpFromAttempt) {
      this.#catchUp.start(source, nowMs);
      return;
    }
    this.#asked = source;
    const through = Math.max(from, delivery.gapEnd) as Seq;
    this.#host.onRepairAsked(source);
    this.#host.send(source, "datagram", { kind: "repairRequest", term: this.#host.election().term, from, offset, through });
  }

  #repairWay(): RepairWay {
    const roundTripMs = this.#host.parentRoundTripMs();
    if (roundTripMs === null) return { isOrdered: false, answerMs: 2 * this.#host.options.limits.repairDelayMsMax };
    return { isOrdered: true, answerMs: Math.min(answerMsMax, answerMsMin + lateAfterRoundTrips * roundTripMs) };
  }

  /**
   * What is committed, from the parent in the relay tree first: it has just been through this itself. Else the sequencer; another engine where there is
   * none, or now and then where it does not answer and the gap is committed.
   */
  #repairSource(attempts: number): Endpoint | null {
    const { sequencer } = this.#host.election();
    const parent = this.#host.parent();
    if (parent !== null && attempts < parentAttempts && this.#missingSeq <= this.#heardCommitSeq) return parent;
    const isOthersTurn = attempts >= otherPeersFromAttempt && attempts % 2 === 1 && this.#missingSeq <= this.#heardCommitSeq;
    if (sequencer !== null && !isOthersTurn) return sequencer;
    const others = this.#otherSources(sequencer);
    return others[(attempts >> 1) % Math.max(1, others.length)] ?? sequencer;
  }

  /** Where else committed entries may be had: the sequencer first, then the voters. */
  #otherSources(except: Endpoint | null): readonly Endpoint[] {
    const { log, options, peers } = this.#host;
    const { sequencer } = this.#host.election();
    const sources = new Set<Endpoint>();
    if (sequencer !== null) sources.add(sequencer);
    for (const voter of log.voters) {
      const endpoint = voter === options.nodeId ? undefined : peers.endpointOf(voter);
      if (endpoint !== undefined) sources.add(endpoint);
    }
    if (except !== null) sources.delete(except);
    return [...sources];
  }

  onRepairRefusal(from: Endpoint, refusal: RepairRefusal, nowMs: number): void {
    if (from === this.#asked && refusal.from === this.#missingSeq) this.#catchUp.start(from, nowMs);
  }

  onCatchUpEnd(from: Endpoint, end: CatchUpEnd, nowMs: number): void {
    // What the next credit brings could not be taken; the gap is chased again when the disk has caught up.
    if (this.#isBacklogged) this.#catchUp.stop();
    else this.#catchUp.onEnd(from, end, this.#otherSources(from), nowMs);
  }

  /** Told once, and again only when something came in between. */
  #needSnapshot(): void {
    if (this.#snapshotProgress === this.delivery.progress) return;
    this.#snapshotProgress = this.delivery.progress;
    this.#host.needSnapshot();
  }
}
