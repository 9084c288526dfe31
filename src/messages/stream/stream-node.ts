/**
 * One engine's end of the stream: a Raft log whose entries travel by multicast (design.md §4; docs/stream.md has the rules and the bytes).
 *
 * What it promises to the engine: "commit" gives each committed entry once, in seq order, and all engines get the same entries; what was
 * committed stays so as long as a majority of the voters keeps its disks. "ordered" and "role" promise nothing beyond the term.
 *
 * Under which failures: datagrams are lost, doubled, reordered, late; connections end; processes stop at any line and come back with what
 * their journal had made durable; clocks run at different speeds. Not: peers that lie (the network's sealing keeps strangers out), and
 * disks that forget what they confirmed.
 *
 * This file joins the parts: election.ts (who orders), replication.ts (the sequencer's end), delivery.ts (a receiver's end),
 * journal-queue.ts (what is durable), repair.ts, repair-server.ts and catch-up.ts (what was lost), stream-log.ts (the log).
 */
import { MalformedBytesError } from "../../base/bytes.js";
import { chainHash, genesisHash } from "../../base/chain-hash.js";
import { assert, unreachable } from "../../base/errors.js";
import type { Endpoint, NodeId, Seq, Term } from "../../base/ids.js";
import { noNode, noSeq } from "../../base/ids.js";
import { entryBytesMax } from "../../base/limits.js";
import type { LogEntry, LogPosition } from "../../base/log-entry.js";
import { encodeEntry } from "../wire/entry.js";
import {
  type AckMessage,
  decodeStreamMessage,
  encodeStreamMessage,
  type FrameHeader,
  type FrameMessage,
  type HashedSeq,
  type RepairRefusal,
  type StreamMessage,
} from "../wire/stream-messages.js";
import { CatchUpClient, CatchUpServer, type CatchUpSource, creditBytes } from "./catch-up.js";
import { Delivery } from "./delivery.js";
import { Election } from "./election.js";
import { payloadBytesMin } from "./frame-packing.js";
import { JournalQueue } from "./journal-queue.js";
import { Peers } from "./peers.js";
import { otherPeersFromAttempt, RepairSchedule } from "./repair.js";
import { RepairServer } from "./repair-server.js";
import { Replication } from "./replication.js";
import { StreamLog, votersOf } from "./stream-log.js";
import type { StreamEffect, StreamInput, StreamNodeOptions, StreamView } from "./stream-node-types.js";

const noopBytes = encodeEntry({ kind: "noop" });
const noEffects: readonly StreamEffect[] = [];
const nothingDurable: HashedSeq = { seq: noSeq, hash: genesisHash };

export class StreamNode implements StreamView {
  readonly #options: StreamNodeOptions;
  readonly #log: StreamLog;
  readonly #journal: JournalQueue;
  readonly #delivery: Delivery;
  readonly #election: Election;
  readonly #peers = new Peers();
  readonly #repair: RepairSchedule;
  readonly #repairServer: RepairServer;
  readonly #catchUp: CatchUpClient;
  readonly #catchUpServer: CatchUpServer;
  #replication: Replication | null = null;
  #effects: StreamEffect[] = [];
  #nowMs: number;
  /** "commit" effects were given up to here. */
  #deliveredSeq: Seq;
  #appliedSeq: Seq;
  #engine = 0;
  #isDamaged: boolean;
  #voteToSave: { readonly term: Term; readonly votedFor: NodeId } | null = null;
  /** The last role effect, as text. */
  #toldRole = "";
  /** Of the term's sequencer, as a receiver. */
  #heardRound = 0;
  #heardCommitSeq: Seq = noSeq;
  #ackedRound = 0;
  #ackedDurableSeq: Seq = noSeq;
  #ackedMs = Number.NEGATIVE_INFINITY;
  /** The connection to the sequencer is to be opened, by a message over it. */
  #helloDue = false;
  /** Former sequencers that were heard in this turn: they are told the term. */
  readonly #staleSequencers = new Set<Endpoint>();
  #snapshotProgress = -1;
  #malformedCount = 0;

  constructor(options: StreamNodeOptions) {
    const { limits, base, entries, random } = options;
    assert(limits.datagramBytesMax >= payloadBytesMin, `datagrams of ${limits.datagramBytesMax} bytes: at least ${payloadBytesMin} are needed`);
    assert(limits.datagramsPerTurnMax >= 1 && limits.windowBytesMax >= 1, "a stream that may send nothing");
    this.#options = options;
    this.#nowMs = options.nowMs;
    this.#log = new StreamLog(base, options.voters, entries);
    const last = this.#log.last;
    // A damaged journal can end below what was once known committed: what is missing comes back by repair.
    const commitSeq = Math.max(base.seq, Math.min(options.commitSeq, last.seq)) as Seq;
    this.#deliveredSeq = options.appliedSeq;
    this.#appliedSeq = options.appliedSeq;
    this.#isDamaged = options.repairThrough > last.seq;
    this.#journal = new JournalQueue(options.kind === "archive", last.seq);
    this.#delivery = new Delivery(this.#log, commitSeq, limits.catchUpBytes, {
      onAppend: (entry) => this.#journal.append(entry),
      onTruncate: (from) => this.#journal.truncate(from),
    });
    const send = (to: Endpoint, message: StreamMessage) => this.#send(to, "datagram", message);
    const sendDatagram = (to: Endpoint, payload: Buffer) => this.#sendPayload(to, "datagram", payload);
    const frameHeader = () => this.#frameHeader();
    this.#repair = new RepairSchedule(random, limits);
    this.#repairServer = new RepairServer(this.#log, limits, { send, sendDatagram, frameHeader });
    const sendReliable = (to: Endpoint, message: StreamMessage) => this.#send(to, "reliable", message);
    this.#catchUp = new CatchUpClient(
      {
        send: sendReliable,
        request: (requestId) => ({
          kind: "catchUpRequest",
          term: this.term,
          requestId,
          from: this.#missingSeq,
          offset: this.#delivery.assembledBytes,
          prevHash: this.#log.hashAt(this.#delivery.matchedSeq) ?? genesisHash,
          creditBytes,
        }),
        needSnapshot: () => this.#needSnapshot(),
      },
      limits.electionTimeoutMsMin,
    );
    this.#catchUpServer = new CatchUpServer({
      send: sendReliable,
      sendPayload: (to, payload) => this.#sendPayload(to, "reliable", payload),
      frameHeader,
      readJournal: (requestId, from, bytesMax) => this.#effects.push({ kind: "readJournal", requestId, from, bytesMax }),
    });
    this.#election = new Election(
      {
        nodeId: options.nodeId,
        random,
        limits,
        voters: () => this.#log.voters,
        last: () => this.#log.last,
        isDamaged: () => this.#isDamaged,
        endpointOf: (node) => this.#peers.endpointOf(node),
        send,
        saveVote: (term, votedFor) => {
          this.#voteToSave = { term, votedFor };
        },
        onNewTerm: () => this.#onNewTerm(),
        onWon: () => this.#onWon(),
        onSteppedDown: () => this.#onSteppedDown(),
      },
      options.term,
      options.votedFor,
      last.term,
      options.nowMs,
    );
    this.#toldRole = this.#roleKey();
  }

  get role(): "sequencer" | "follower" | "candidate" {
    const role = this.#election.role;
    return role === "preCandidate" ? "candidate" : role;
  }

  get term(): Term {
    return this.#election.term;
  }

  get commitSeq(): Seq {
    return this.#delivery.commitSeq;
  }

  get last(): LogPosition {
    return this.#log.last;
  }

  get sequencer(): Endpoint | null {
    return this.#replication === null ? this.#election.sequencer : this.#options.endpoint;
  }

  get voters(): readonly NodeId[] {
    return this.#log.voters;
  }

  get leadsSurely(): boolean {
    return this.#replication !== null && this.commitSeq >= this.#replication.noopSeq;
  }

  get mayChangeVoters(): boolean {
    return this.leadsSurely && this.#log.votersSeq <= this.commitSeq;
  }

  get round(): number {
    return this.#replication?.round ?? 0;
  }

  get confirmedRound(): number {
    return this.#replication?.confirmedRound ?? 0;
  }

  get uncommittedBytes(): number {
    const sentSeq = this.#replication === null ? this.commitSeq : this.#replication.unsentSeq - 1;
    return this.#log.bytesBetween(Math.min(this.commitSeq, sentSeq) as Seq, this.#log.last.seq);
  }

  get malformedCount(): number {
    return this.#malformedCount;
  }

  heardFrom(endpoint: Endpoint): ReturnType<StreamView["heardFrom"]> {
    return this.#peers.heardFrom(endpoint);
  }

  step(input: StreamInput): readonly StreamEffect[] {
    if ("nowMs" in input && input.nowMs > this.#nowMs) this.#nowMs = input.nowMs;
    this.#dispatch(input);
    if (this.#voteToSave !== null) {
      this.#effects.push({ kind: "saveVote", ...this.#voteToSave });
      this.#voteToSave = null;
    }
    this.#tellRole();
    if (this.#effects.length === 0) return noEffects;
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #dispatch(input: StreamInput): void {
    switch (input.kind) {
      case "tick":
        this.#onTick();
        break;
      case "message":
        this.#onPayload(input.from, input.payload);
        break;
      case "connected":
        break;
      case "disconnected":
        this.#onDisconnected(input.endpoint);
        break;
      case "peer":
        this.#peers.learn(input.nodeId, input.endpoint);
        break;
      case "journaled":
        this.#onJournaled(input.position);
        break;
      case "voteSaved":
        this.#election.onVoteSaved(input.term, input.votedFor, this.#nowMs);
        break;
      case "order":
        this.#order(input.entries);
        break;
      case "journalRead":
        this.#catchUpServer.onJournalRead(input.requestId, input.entries, this.commitSeq, this.#catchUpSource());
        break;
      case "applied":
        this.#appliedSeq = input.seq;
        break;
      case "member":
        this.#engine = input.engine;
        break;
      case "confirm":
        this.#replication?.beginRound();
        break;
      case "turnEnd":
        this.#onTurnEnd();
        break;
      default:
        unreachable(input);
    }
  }

  #onTick(): void {
    const nowMs = this.#nowMs;
    this.#election.tick(nowMs);
    this.#catchUpServer.tick(nowMs);
    if (this.#replication === null) {
      this.#catchUp.tick(this.#delivery.progress, nowMs);
      this.#chaseGap();
      return;
    }
    this.#replication.tick(nowMs);
    if (!this.#replication.hearsMajority(nowMs)) this.#election.stepDown(nowMs);
  }

  #onTurnEnd(): void {
    const isWorkLeft = this.#replication === null ? this.#endReceiversTurn() : this.#endSequencersTurn(this.#replication);
    this.#emitAppend();
    this.#emitCommits();
    const droppable = Math.min(
      this.commitSeq,
      this.#journal.durableSeq,
      this.#deliveredSeq,
      (this.#replication?.unsentSeq ?? Number.POSITIVE_INFINITY) - 1,
    );
    this.#log.dropTo(this.#options.limits.keptBytesMax, droppable as Seq);
    if (isWorkLeft) this.#effects.push({ kind: "again" });
  }

  #endSequencersTurn(replication: Replication): boolean {
    const seq = replication.committableSeq();
    if (seq > this.commitSeq) this.#delivery.commitOwn(seq);
    const budget = this.#options.limits.datagramsPerTurnMax;
    // Half of the turn at most goes to repairs: they must neither starve nor be starved by new frames.
    const forRepairs = Math.ceil(budget / 2);
    const afterRepairs = budget - forRepairs + this.#repairServer.sendFrames(forRepairs);
    const left = replication.sendFrames(afterRepairs, this.#nowMs);
    const isRemoved = !this.voters.includes(this.#options.nodeId) && this.#log.votersSeq <= replication.sentCommitSeq;
    // Its own removal is committed and told: it has no part in the term any more.
    if (isRemoved) this.#election.stepDown(this.#nowMs);
    return left === null || this.#repairServer.isBusy;
  }

  #endReceiversTurn(): boolean {
    this.#chaseGap();
    for (const endpoint of this.#staleSequencers) this.#send(endpoint, "datagram", this.#ack(nothingDurable));
    this.#staleSequencers.clear();
    this.#ackWhereDue();
    this.#repairServer.sendFrames(this.#options.limits.datagramsPerTurnMax);
    return this.#repairServer.isBusy;
  }

  #emitAppend(): void {
    const append = this.#journal.take();
    const first = append?.entries[0];
    if (append === null || first === undefined) return;
    // Recovery takes a journal that ends below a recorded commit seq for damaged, and this write can be torn anywhere.
    const commitSeq = Math.min(this.commitSeq, first.seq - 1) as Seq;
    this.#effects.push({ kind: "append", ...append, commitSeq });
  }

  #emitCommits(): void {
    if (this.commitSeq <= this.#deliveredSeq) return;
    this.#effects.push({ kind: "commit", entries: this.#log.slice((this.#deliveredSeq + 1) as Seq, this.commitSeq) });
    this.#deliveredSeq = this.commitSeq;
  }

  #roleKey(): string {
    return `${this.role} ${this.term} ${this.sequencer}`;
  }

  #tellRole(): void {
    const key = this.#roleKey();
    if (key === this.#toldRole) return;
    this.#toldRole = key;
    const { role, term, sequencer } = this;
    let tail: readonly LogEntry[] = [];
    if (role === "sequencer") {
      // The engine adds the tail to what was given to it as committed: nothing may be missing between the two.
      this.#emitCommits();
      tail = this.#log.slice((this.commitSeq + 1) as Seq, this.#log.last.seq);
    }
    this.#effects.push({ kind: "role", role, term, sequencer, tail });
  }

  #onNewTerm(): void {
    this.#delivery.restart();
    this.#catchUp.stop();
    this.#repair.rest();
    this.#repairServer.clear();
    this.#heardRound = 0;
    this.#ackedRound = 0;
    this.#ackedDurableSeq = noSeq;
    this.#heardCommitSeq = noSeq;
  }

  #onWon(): void {
    this.#peers.forgetHeard();
    this.#repairServer.clear();
    const noop = this.#append(noopBytes);
    this.#replication = new Replication(
      {
        nodeId: this.#options.nodeId,
        limits: this.#options.limits,
        log: this.#log,
        commitSeq: () => this.commitSeq,
        durableSeq: () => this.#journal.durableSeq,
        frameHeader: () => this.#frameHeader(),
        endpointOf: (node) => this.#peers.endpointOf(node),
        multicast: (payload) => this.#effects.push({ kind: "multicast", payload }),
        sendDatagram: (to, payload) => this.#sendPayload(to, "datagram", payload),
      },
      noop.seq,
      this.#nowMs,
    );
  }

  #onSteppedDown(): void {
    this.#replication = null;
    this.#repairServer.clear();
    this.#delivery.restart();
  }

  #append(bytes: Uint8Array): LogEntry {
    const { seq, hash } = this.#log.last;
    const term = this.term;
    const entry: LogEntry = { seq: (seq + 1) as Seq, term, hash: chainHash(hash, term, bytes), bytes };
    this.#log.append(entry);
    this.#journal.append(entry);
    return entry;
  }

  #order(entries: readonly Uint8Array[]): void {
    if (this.#replication === null) {
      this.#effects.push({ kind: "ordered", entries: [] });
      return;
    }
    const ordered = entries.map((bytes) => {
      assert(bytes.length > 0 && bytes.length <= entryBytesMax, `an entry of ${bytes.length} bytes`);
      const voters = votersOf(bytes);
      assert(voters === null || this.#isVotersChangeSound(voters), "a change of voters while another is under way, or by more than one node");
      return this.#append(bytes);
    });
    this.#effects.push({ kind: "ordered", entries: ordered });
  }

  #isVotersChangeSound(next: readonly NodeId[]): boolean {
    const added = next.filter((node) => !this.voters.includes(node)).length;
    const removed = this.voters.filter((node) => !next.includes(node)).length;
    const isDistinct = new Set(next).size === next.length && !next.includes(noNode);
    return this.mayChangeVoters && added + removed <= 1 && next.length > 0 && isDistinct;
  }

  #onJournaled(position: LogPosition): void {
    this.#journal.onJournaled(position);
    this.#mendIfRepaired();
  }

  /** A damaged journal is sound again when what it once confirmed is back, matched and durable. */
  #mendIfRepaired(): void {
    if (!this.#isDamaged) return;
    if (Math.min(this.#journal.durableSeq, this.#delivery.matchedSeq) >= this.#options.repairThrough) this.#isDamaged = false;
  }

  #onDisconnected(endpoint: Endpoint): void {
    if (endpoint === this.#election.sequencer) this.#helloDue = true;
    this.#election.onDisconnected(endpoint, this.#nowMs);
    this.#catchUp.onDisconnected(endpoint);
    this.#catchUpServer.onDisconnected(endpoint);
  }

  #onPayload(from: Endpoint, payload: Buffer): void {
    let message: StreamMessage;
    try {
      message = decodeStreamMessage(payload);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#malformedCount++;
      return;
    }
    this.#onMessage(from, message);
  }

  #onMessage(from: Endpoint, message: StreamMessage): void {
    const nowMs = this.#nowMs;
    // Votes judge terms by their own rules: a pre-vote changes none, and a lease keeps a disturber's away.
    if (message.kind !== "voteRequest" && message.kind !== "voteReply") this.#election.raiseTerm(message.term, nowMs);
    switch (message.kind) {
      case "frame":
        this.#onFrame(from, message);
        break;
      case "ack":
        this.#onAck(from, message);
        break;
      case "voteRequest":
        this.#peers.learn(message.nodeId, from);
        this.#election.onVoteRequest(from, message, nowMs);
        break;
      case "voteReply":
        this.#peers.learn(message.nodeId, from);
        this.#election.onVoteReply(message, nowMs);
        break;
      case "repairRequest":
        this.#repairServer.onRequest(from, message, this.#giveThrough());
        break;
      case "repairRefusal":
        this.#onRepairRefusal(from, message);
        break;
      case "catchUpRequest":
        this.#catchUpServer.onRequest(from, message, this.#catchUpSource(), nowMs);
        break;
      case "catchUpEnd":
        this.#catchUp.onEnd(from, message, this.#otherSources(from), nowMs);
        break;
      default:
        unreachable(message);
    }
  }

  #onFrame(from: Endpoint, frame: FrameMessage): void {
    if (frame.sender === this.#options.nodeId && frame.sender !== noNode) return;
    if (frame.committed) {
      if (this.role !== "sequencer" && this.#election.role !== "candidate") this.#receive(frame);
      return;
    }
    this.#peers.learn(frame.sender, from);
    if (frame.term < this.term) {
      this.#staleSequencers.add(from);
      return;
    }
    assert(this.#replication === null, `${from} is sequencer of term ${frame.term} too`);
    if (this.#election.sequencer !== from) this.#helloDue = true;
    this.#election.hear(from, this.#nowMs);
    if (frame.round > this.#heardRound) this.#heardRound = frame.round;
    this.#receive(frame);
  }

  #receive(frame: FrameMessage): void {
    if (frame.commit.seq > this.#heardCommitSeq) this.#heardCommitSeq = frame.commit.seq;
    this.#delivery.receive(frame);
    this.#mendIfRepaired();
  }

  #onAck(from: Endpoint, ack: AckMessage): void {
    this.#peers.learn(ack.nodeId, from);
    if (this.#replication === null) return;
    this.#peers.onAck(from, ack, this.term, this.#nowMs);
    if (ack.term === this.term && this.voters.includes(ack.nodeId)) this.#replication.onAck(ack, this.#nowMs);
  }

  #ackWhereDue(): void {
    const sequencer = this.#election.sequencer;
    if (sequencer === null || !this.#election.isTermSaved) return;
    const durable = this.#ackableDurable();
    const isVoter = this.voters.includes(this.#options.nodeId);
    const isDue =
      this.#helloDue ||
      this.#heardRound > this.#ackedRound ||
      (isVoter && durable.seq > this.#ackedDurableSeq) ||
      this.#nowMs - this.#ackedMs >= this.#options.limits.heartbeatMs;
    if (!isDue) return;
    const ack = this.#ack(durable);
    this.#send(sequencer, "datagram", ack);
    if (this.#helloDue) this.#send(sequencer, "reliable", ack);
    this.#helloDue = false;
    this.#ackedRound = this.#heardRound;
    this.#ackedDurableSeq = durable.seq;
    this.#ackedMs = this.#nowMs;
  }

  /** What is durable, contiguous, and matched in this term; nothing while the journal is damaged. */
  #ackableDurable(): HashedSeq {
    if (this.#isDamaged) return nothingDurable;
    return this.#log.positionAt(Math.min(this.#journal.durableSeq, this.#delivery.matchedSeq) as Seq) ?? nothingDurable;
  }

  #ack(durable: HashedSeq): AckMessage {
    const { nodeId, nonce } = this.#options;
    const matchedSeq = this.#delivery.matchedSeq;
    const appliedSeq = this.#appliedSeq;
    return { kind: "ack", term: this.term, nodeId, nonce, engine: this.#engine, durable, matchedSeq, appliedSeq, round: this.#heardRound };
  }

  get #missingSeq(): Seq {
    return (this.#delivery.matchedSeq + 1) as Seq;
  }

  /** Asks for the first gap when it is time. */
  #chaseGap(): void {
    const target = Math.max(this.#delivery.heardLastSeq, this.#isDamaged ? this.#options.repairThrough : 0);
    if (this.#catchUp.isActive || this.#replication !== null || this.#delivery.matchedSeq >= target) {
      this.#repair.rest();
      return;
    }
    const { assembledBytes } = this.#delivery;
    const attempts = this.#repair.missing(this.#missingSeq, assembledBytes, this.#nowMs);
    if (attempts === null) return;
    const source = this.#repairSource(attempts);
    if (source === null) return;
    const through = Math.max(this.#missingSeq, this.#delivery.gapEnd) as Seq;
    this.#send(source, "datagram", { kind: "repairRequest", term: this.term, from: this.#missingSeq, offset: assembledBytes, through });
  }

  /** The sequencer; another engine where there is none, or now and then where it does not answer and the gap is committed. */
  #repairSource(attempts: number): Endpoint | null {
    const sequencer = this.#election.sequencer;
    const isOthersTurn = attempts >= otherPeersFromAttempt && attempts % 2 === 1 && this.#missingSeq <= this.#heardCommitSeq;
    if (sequencer !== null && !isOthersTurn) return sequencer;
    const others = this.#otherSources(sequencer);
    return others[(attempts >> 1) % Math.max(1, others.length)] ?? sequencer;
  }

  /** Where else committed entries may be had: the sequencer first, then the voters. */
  #otherSources(except: Endpoint | null): readonly Endpoint[] {
    const sources = new Set<Endpoint>();
    if (this.#election.sequencer !== null) sources.add(this.#election.sequencer);
    for (const voter of this.voters) {
      const endpoint = voter === this.#options.nodeId ? undefined : this.#peers.endpointOf(voter);
      if (endpoint !== undefined) sources.add(endpoint);
    }
    if (except !== null) sources.delete(except);
    return [...sources];
  }

  #onRepairRefusal(from: Endpoint, refusal: RepairRefusal): void {
    const isSource = from === this.#election.sequencer || this.#election.sequencer === null;
    if (this.#replication === null && isSource && refusal.from === this.#missingSeq) this.#catchUp.start(from, this.#nowMs);
  }

  /** Told once, and again only when something came in between. */
  #needSnapshot(): void {
    if (this.#snapshotProgress === this.#delivery.progress) return;
    this.#snapshotProgress = this.#delivery.progress;
    this.#effects.push({ kind: "needSnapshot" });
  }

  /** The last entry that others may have from here. */
  #giveThrough(): Seq {
    return this.#replication === null ? this.commitSeq : this.#log.last.seq;
  }

  #catchUpSource(): CatchUpSource {
    return { log: this.#log, through: this.#giveThrough(), hasJournal: this.#options.kind === "archive" };
  }

  #frameHeader(): FrameHeader {
    const commit = this.#log.positionAt(this.commitSeq);
    assert(commit !== undefined, `commit seq ${this.commitSeq} is not in memory`);
    const last = this.#replication === null ? commit : this.#log.last;
    return { term: this.term, sender: this.#options.nodeId, committed: this.#replication === null, round: this.round, commit, last };
  }

  #send(to: Endpoint, channel: "datagram" | "reliable", message: StreamMessage): void {
    this.#sendPayload(to, channel, encodeStreamMessage(message));
  }

  #sendPayload(to: Endpoint, channel: "datagram" | "reliable", payload: Buffer): void {
    this.#effects.push({ kind: "send", to, channel, payload });
  }
}
