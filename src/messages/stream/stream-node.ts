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
 * This file joins the parts: election.ts (who orders), replication.ts (the sequencer's end), receiver.ts and delivery.ts (a follower's
 * end), journal-queue.ts (what is durable), repair.ts, repair-server.ts and catch-up.ts (what was lost), stream-log.ts (the log), relay.ts and
 * sources.ts (the way from engine to engine where multicast does not reach).
 */
import { MalformedBytesError } from "../../base/bytes.js";
import { chainHash } from "../../base/chain-hash.js";
import { assert, unreachable } from "../../base/errors.js";
import type { Endpoint, NodeId, Seq, Term } from "../../base/ids.js";
import { noNode } from "../../base/ids.js";
import { entryBytesMax } from "../../base/limits.js";
import type { LogEntry, LogPosition } from "../../base/log-entry.js";
import { encodeEntry } from "../wire/entry.js";
import {
  type AckMessage,
  decodeStreamMessage,
  encodeStreamMessage,
  type FrameHeader,
  type FrameMessage,
  type RelayedMessage,
  type StreamMessage,
} from "../wire/stream-messages.js";
import { CatchUpServer, type CatchUpSource } from "./catch-up.js";
import { Election } from "./election.js";
import { payloadBytesMin } from "./frame-packing.js";
import { JournalQueue } from "./journal-queue.js";
import { Peers } from "./peers.js";
import { Receiver } from "./receiver.js";
import { RepairServer } from "./repair-server.js";
import { Replication } from "./replication.js";
import { StreamLog, votersOf } from "./stream-log.js";
import type { StreamEffect, StreamInput, StreamNodeOptions, StreamView, TreePlace } from "./stream-node-types.js";
import { TreeEnd } from "./tree-end.js";

const noopBytes = encodeEntry({ kind: "noop" });
const noEffects: readonly StreamEffect[] = [];

export class StreamNode implements StreamView {
  readonly #options: StreamNodeOptions;
  readonly #log: StreamLog;
  readonly #journal: JournalQueue;
  readonly #election: Election;
  readonly #receiver: Receiver;
  readonly #peers = new Peers();
  readonly #repairServer: RepairServer;
  readonly #catchUpServer: CatchUpServer;
  readonly #tree: TreeEnd;
  #replication: Replication | null = null;
  #effects: StreamEffect[] = [];
  #nowMs: number;
  /** "commit" effects were given up to here. */
  #deliveredSeq: Seq;
  #voteToSave: { readonly term: Term; readonly votedFor: NodeId } | null = null;
  /** The last role effect, as text. */
  #toldRole = "";
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
    this.#journal = new JournalQueue(options.kind === "archive", last.seq);
    this.#receiver = new Receiver(
      {
        options,
        log: this.#log,
        journal: this.#journal,
        peers: this.#peers,
        election: () => this.#election,
        parent: () => this.#tree.parent,
        parentRoundTripMs: () => this.#tree.parentRoundTripMs,
        onRepairAsked: (of) => this.#tree.onRepairAsked(of),
        send: (to, channel, message) => this.#send(to, channel, message),
        needSnapshot: () => this.#effects.push({ kind: "needSnapshot" }),
      },
      commitSeq,
    );
    const send = (to: Endpoint, message: StreamMessage) => this.#send(to, "datagram", message);
    const sendDatagram = (to: Endpoint, payload: Buffer) => this.#sendPayload(to, "datagram", payload);
    this.#tree = new TreeEnd({
      self: options.endpoint,
      heartbeatMs: limits.heartbeatMs,
      hasMulticast: options.hasMulticast,
      random,
      nowMs: () => this.#nowMs,
      term: () => this.term,
      sequencer: () => this.sequencer,
      isVoter: () => this.voters.includes(options.nodeId),
      servesVoter: (endpoint) => this.#replication !== null && this.voters.some((node) => this.#peers.endpointOf(node) === endpoint),
      push: (effect) => this.#effects.push(effect),
    });
    const frameHeader = () => this.#frameHeader();
    const multicast = (payload: Buffer) => this.#effects.push({ kind: "multicast", payload });
    this.#repairServer = new RepairServer(this.#log, limits, { send, sendDatagram, multicast, frameHeader });
    this.#catchUpServer = new CatchUpServer({
      send: (to, message) => this.#send(to, "reliable", message),
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
        isDamaged: () => this.#receiver.isDamaged,
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
    return this.#receiver.delivery.commitSeq;
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

  get tree(): TreePlace {
    return this.#tree.place;
  }

  get malformedCount(): number {
    return this.#malformedCount;
  }

  get oldestSnapshot(): Seq {
    return this.#receiver.oldestSnapshot;
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
        this.#onPayload(input.from, input.payload, input.byMulticast === true);
        break;
      case "near":
        this.#tree.onNear(input.endpoint);
        break;
      case "engines":
        this.#tree.onEngines(input.engines, input.contacts);
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
        this.#order(input.entries, input.concerned);
        break;
      case "committed":
        this.#receiver.delivery.matchCommitted(input.place);
        break;
      case "journalRead":
        this.#catchUpServer.onJournalRead(input.requestId, input.entries, this.#catchUpSource());
        break;
      case "applied":
        this.#receiver.appliedSeq = input.seq;
        break;
      case "snapshots":
        if (input.oldest > this.#receiver.oldestSnapshot) this.#receiver.oldestSnapshot = input.oldest;
        break;
      case "member":
        this.#receiver.engine = input.engine;
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

  /** A tick has something to do before `nowMs`. What takes longer (heartbeats, silence) is looked at by every tick anyway. */
  isDueBefore(nowMs: number): boolean {
    const isDue = this.#replication === null ? this.#receiver.isChasing : this.#replication.isTellingDueBefore(nowMs);
    return isDue || this.#election.standsBefore(nowMs);
  }

  #onTick(): void {
    const nowMs = this.#nowMs;
    this.#election.tick(nowMs);
    this.#catchUpServer.tick(nowMs);
    if (this.#replication === null) {
      this.#tree.tick();
      this.#receiver.tick(nowMs);
      return;
    }
    this.#replication.tick(nowMs);
    if (!this.#replication.hearsMajority(nowMs)) this.#election.stepDown(nowMs);
  }

  #onTurnEnd(): void {
    const isWorkLeft = this.#replication === null ? this.#endReceiversTurn() : this.#endSequencersTurn(this.#replication);
    // Where it was not taken already.
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
    if (seq > this.commitSeq) this.#receiver.delivery.commitOwn(seq);
    // Its own write begins before those who are woken by the frames take the machine's cores.
    this.#emitAppend();
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
    this.#receiver.endTurn(this.#nowMs);
    const repaired = this.#receiver.takeRepaired();
    if (repaired !== null) for (const to of this.#tree.below) this.#repairServer.passOn(to, repaired.from, repaired.through);
    this.#repairServer.answerWaiting(this.#giveThrough());
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
    this.#receiver.onNewTerm();
    this.#repairServer.clear();
  }

  #onWon(): void {
    this.#peers.forgetHeard();
    this.#repairServer.clear();
    this.#tree.stop();
    const noop = this.#append(noopBytes);
    this.#replication = new Replication(
      {
        nodeId: this.#options.nodeId,
        self: this.#options.endpoint,
        hasMulticast: this.#options.hasMulticast,
        limits: this.#options.limits,
        log: this.#log,
        commitSeq: () => this.commitSeq,
        durableSeq: () => this.#journal.durableSeq,
        frameHeader: () => this.#frameHeader(),
        endpointOf: (node) => this.#peers.endpointOf(node),
        subscribers: () => this.#tree.subscribers,
        multicast: (payload) => this.#effects.push({ kind: "multicast", payload }),
        sendDatagram: (to, payload) => this.#sendPayload(to, "datagram", payload),
        sendLive: (to, payload) => {
          this.#tree.onSent(to);
          this.#sendPayload(to, "datagram", payload);
        },
      },
      noop.seq,
      this.#nowMs,
    );
  }

  #onSteppedDown(): void {
    this.#replication = null;
    this.#repairServer.clear();
    this.#receiver.delivery.restart();
  }

  #append(bytes: Uint8Array): LogEntry {
    const { seq, hash } = this.#log.last;
    const term = this.term;
    const entry: LogEntry = { seq: (seq + 1) as Seq, term, hash: chainHash(hash, term, bytes), bytes };
    this.#log.append(entry);
    this.#journal.append(entry);
    return entry;
  }

  #order(entries: readonly Uint8Array[], concerned: readonly Endpoint[] | undefined): void {
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
    this.#replication.onOrdered(this.#log.last.seq, concerned ?? null);
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
    this.#receiver.onJournaled();
  }

  #onDisconnected(endpoint: Endpoint): void {
    this.#receiver.onDisconnected(endpoint);
    this.#tree.onDisconnected(endpoint);
    this.#election.onDisconnected(endpoint, this.#nowMs);
    this.#catchUpServer.onDisconnected(endpoint);
  }

  #onPayload(from: Endpoint, payload: Buffer, byMulticast: boolean): void {
    if (byMulticast) this.#tree.onNear(from);
    try {
      const message = decodeStreamMessage(payload);
      if (message.kind === "relayed") this.#onRelayed(from, message, payload, byMulticast);
      else this.#onMessage(from, message, byMulticast);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#malformedCount++;
    }
  }

  #onRelayed(from: Endpoint, message: RelayedMessage, payload: Buffer, byMulticast: boolean): void {
    const frame = this.#tree.open(message);
    this.#election.raiseTerm(frame.term, this.#nowMs);
    if (frame.term < this.term) this.#receiver.onStaleSequencer(message.origin);
    else if (this.#tree.take(from, message, payload, byMulticast)) this.#onFrame(message.origin, frame, true);
  }

  #onMessage(from: Endpoint, message: Exclude<StreamMessage, RelayedMessage>, byMulticast: boolean): void {
    const nowMs = this.#nowMs;
    // Votes judge terms by their own rules: a pre-vote changes none, and a lease keeps a disturber's away.
    if (message.kind !== "voteRequest" && message.kind !== "voteReply") this.#election.raiseTerm(message.term, nowMs);
    switch (message.kind) {
      case "frame":
        if (byMulticast && message.term === this.term && !message.committed) this.#tree.onRoot(from);
        this.#onFrame(from, message, byMulticast);
        break;
      case "subscribe":
        this.#tree.onSubscribe(from, message);
        break;
      case "subscribeRefusal":
        this.#tree.onRefusal(from, message);
        break;
      case "subscribed":
        this.#tree.onSubscribed(from, message);
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
        if (this.#replication === null) this.#receiver.onRepairRefusal(from, message, nowMs);
        break;
      case "catchUpRequest":
        this.#catchUpServer.onRequest(from, message, this.#catchUpSource(), nowMs);
        break;
      case "catchUpEnd":
        if (this.#replication === null) this.#receiver.onCatchUpEnd(from, message, nowMs);
        break;
      default:
        unreachable(message);
    }
  }

  #onFrame(from: Endpoint, frame: FrameMessage, isLive: boolean): void {
    if (frame.sender === this.#options.nodeId && frame.sender !== noNode) return;
    if (frame.committed) {
      if (this.role !== "sequencer" && this.#election.role !== "candidate") this.#receiver.onCommittedFrame(frame);
      return;
    }
    this.#peers.learn(frame.sender, from);
    if (frame.term < this.term) {
      this.#receiver.onStaleSequencer(from);
      return;
    }
    assert(this.#replication === null, `${from} is sequencer of term ${frame.term} too`);
    this.#receiver.onFrame(from, frame, isLive, this.#nowMs);
  }

  #onAck(from: Endpoint, ack: AckMessage): void {
    this.#peers.learn(ack.nodeId, from);
    if (this.#replication === null) return;
    this.#peers.onAck(from, ack, this.term, this.#nowMs);
    if (ack.term === this.term && this.voters.includes(ack.nodeId)) this.#replication.onAck(ack, this.#nowMs);
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
