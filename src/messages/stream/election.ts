/**
 * Who orders: terms, votes and roles (Raft with pre-vote and check-quorum; docs/stream.md, "Elections").
 *
 * | label        | event                                              | condition                                   | what happens                                    |
 * |--------------|----------------------------------------------------|---------------------------------------------|-------------------------------------------------|
 * | timeout      | silence for the randomised election timeout        | may stand                                   | pre-vote                                        |
 * | lost         | the connection to the sequencer ended              | may stand                                   | pre-vote after a few ms of jitter               |
 * | alone        | the first tick                                     | the sole voter                              | candidate at once, without pre-vote             |
 * | pre-granted  | a pre-vote is asked                                | sequencer silent or lost, log new enough    | granted; nothing changes here                   |
 * | pre-refused  | a pre-vote is asked                                | otherwise                                   | refused, naming the own term                    |
 * | pre-won      | a majority grants                                  | pre-candidate                               | term + 1, vote for itself, saved; then asks     |
 * | leased       | a vote is asked                                    | sequencer heard, not lost                   | refused, and the term is not taken up           |
 * | granted      | a vote is asked                                    | none given in the term, log new enough      | vote saved, then answered                       |
 * | refused      | a vote is asked                                    | otherwise                                   | refused once the term is saved                  |
 * | won          | a majority grants, itself (saved) included         | candidate                                   | sequencer                                       |
 * | tied         | nothing within the retry delay                     | candidate, pre-candidate                    | pre-vote again; the delay doubles, with jitter  |
 * | higher       | a higher term in any message but a pre-vote's      |                                             | the term is taken up and saved; follower        |
 * | heard        | a frame of the own term                            |                                             | follower of its sender                          |
 * | deaf         | a majority not heard for the election timeout      | sequencer                                   | follower, sequencer unknown                     |
 *
 * A vote is granted to whoever asks by name, whether or not the own log has the VOTERS entry that makes this node a voter: the
 * candidate counts by its own, newer voters, and could else not win (Raft, §4.2.2).
 */
import type { Endpoint, NodeId, Seq, Term } from "../../base/ids.js";
import { noNode } from "../../base/ids.js";
import type { LogPosition } from "../../base/log-entry.js";
import type { Random } from "../../base/random.js";
import type { StreamMessage, VoteReply, VoteRequest } from "../wire/stream-messages.js";
import type { StreamLimits } from "./stream-node-types.js";

export type ElectionRole = "follower" | "preCandidate" | "candidate" | "sequencer";

/** What the election asks of its node. */
export interface ElectionHost {
  readonly nodeId: NodeId;
  readonly random: Random;
  readonly limits: StreamLimits;
  /** In force, newest first in the log. */
  voters(): readonly NodeId[];
  last(): LogPosition;
  /** Its journal is damaged: neither votes nor stands. */
  isDamaged(): boolean;
  endpointOf(node: NodeId): Endpoint | undefined;
  send(to: Endpoint, message: StreamMessage): void;
  saveVote(term: Term, votedFor: NodeId): void;
  /** Called when the term is above all former ones. */
  onNewTerm(): void;
  onWon(): void;
  onSteppedDown(): void;
}

/** Longest wait before the pre-vote after a lost connection, in repair delays. Reason: voters that notice together should not tie. */
const lostJitterRepairDelays = 2;

/** How often the retry delay doubles, from one heartbeat. Reason: ties become rare quickly; the election timeout caps it anyway. */
const retryDoublingsMax = 5;

export class Election {
  readonly #host: ElectionHost;
  #role: ElectionRole = "follower";
  #term: Term;
  #votedFor: NodeId;
  #savedTerm: Term;
  #savedVote: NodeId;
  #sequencer: Endpoint | null = null;
  #sequencerHeardMs = Number.NEGATIVE_INFINITY;
  /** The connection to the sequencer ended and it was not heard since. */
  #lost = false;
  #deadlineMs: number;
  #attempts = 0;
  readonly #grants = new Set<NodeId>();
  /** An answer that waits until term and vote are saved. */
  #waiting: { readonly to: Endpoint; readonly reply: VoteReply } | null = null;

  /**
   * `term`, `votedFor`: as saved. `logTerm`: of the last entry; above `term` where a crash came between the entry and the term, both of
   * which go to disk on their own. No vote was given in it then: a vote is saved before it is told.
   */
  constructor(host: ElectionHost, term: Term, votedFor: NodeId, logTerm: Term, nowMs: number) {
    this.#host = host;
    this.#term = term;
    this.#votedFor = votedFor;
    this.#savedTerm = term;
    this.#savedVote = votedFor;
    if (logTerm > term) this.#setTermAndVote(logTerm, noNode);
    this.#deadlineMs = nowMs + this.#electionTimeoutMs();
  }

  get role(): ElectionRole {
    return this.#role;
  }

  get term(): Term {
    return this.#term;
  }

  get sequencer(): Endpoint | null {
    return this.#sequencer;
  }

  /** The term is on disk: what depends on it may be said. */
  get isTermSaved(): boolean {
    return this.#savedTerm === this.#term;
  }

  /** It may stand before `nowMs`, where it hears nothing until then. */
  standsBefore(nowMs: number): boolean {
    return this.#role !== "sequencer" && this.#deadlineMs < nowMs && this.#mayStand();
  }

  tick(nowMs: number): void {
    if (this.#role === "sequencer") return;
    const isSilent = nowMs - this.#sequencerHeardMs >= this.#host.limits.electionTimeoutMsMax;
    if (!this.#mayStand()) {
      if (isSilent) this.#sequencer = null;
      return;
    }
    if (this.#isAlone()) {
      if (this.#role !== "candidate") this.#becomeCandidate(nowMs);
    } else if (nowMs >= this.#deadlineMs) this.#startPreVote(nowMs);
  }

  onDisconnected(endpoint: Endpoint, nowMs: number): void {
    if (endpoint !== this.#sequencer || this.#role !== "follower") return;
    this.#lost = true;
    const jitterMs = this.#host.random.integer(this.#host.limits.repairDelayMsMax * lostJitterRepairDelays + 1);
    this.#deadlineMs = Math.min(this.#deadlineMs, nowMs + jitterMs);
  }

  /** A higher term than the own, told by any message but a pre-vote's. */
  raiseTerm(term: Term, nowMs: number): void {
    if (term <= this.#term) return;
    this.#setTermAndVote(term, noNode);
    this.#sequencer = null;
    this.#lost = false;
    this.#becomeFollower(nowMs);
    this.#host.onNewTerm();
  }

  /** A frame of the own term: its sender is the sequencer. */
  hear(from: Endpoint, nowMs: number): void {
    this.#sequencer = from;
    this.#sequencerHeardMs = nowMs;
    this.#lost = false;
    this.#attempts = 0;
    this.#becomeFollower(nowMs);
  }

  stepDown(nowMs: number): void {
    if (this.#role !== "sequencer") return;
    this.#sequencer = null;
    this.#becomeFollower(nowMs);
  }

  onVoteSaved(term: Term, votedFor: NodeId, nowMs: number): void {
    if (term < this.#savedTerm) return;
    this.#savedTerm = term;
    this.#savedVote = votedFor;
    if (!this.#isSaved()) return;
    if (this.#waiting !== null) {
      this.#host.send(this.#waiting.to, this.#waiting.reply);
      this.#waiting = null;
    }
    if (this.#role !== "candidate") return;
    this.#grants.add(this.#host.nodeId);
    this.#ask(false, this.#term);
    this.#countGrants(nowMs);
  }

  onVoteRequest(from: Endpoint, request: VoteRequest, nowMs: number): void {
    const host = this.#host;
    if (host.nodeId === noNode || request.nodeId === host.nodeId || host.isDamaged()) return;
    const isLeased = this.#role === "sequencer" || this.#isSequencerFresh(nowMs);
    const isNewEnough = isLogNewEnough(request, host.last());
    if (request.pre) {
      const granted = !isLeased && isNewEnough && request.term > this.#term;
      host.send(from, this.#replyTo(request, granted));
      return;
    }
    if (isLeased) {
      host.send(from, this.#replyTo(request, false));
      return;
    }
    this.raiseTerm(request.term, nowMs);
    const isFree = this.#votedFor === noNode || this.#votedFor === request.nodeId;
    const granted = request.term === this.#term && isFree && isNewEnough;
    if (granted) {
      if (this.#votedFor !== request.nodeId) this.#setTermAndVote(this.#term, request.nodeId);
      this.#becomeFollower(nowMs);
    }
    const reply = this.#replyTo(request, granted);
    if (this.#isSaved()) host.send(from, reply);
    // One waits at most: a refusal may be lost, as any datagram, but never the term's one grant.
    else if (granted || this.#waiting === null) this.#waiting = { to: from, reply };
  }

  onVoteReply(reply: VoteReply, nowMs: number): void {
    this.raiseTerm(reply.term, nowMs);
    if (!reply.granted || !this.#host.voters().includes(reply.nodeId)) return;
    const isAwaited = reply.pre
      ? this.#role === "preCandidate" && reply.forTerm === this.#term + 1
      : this.#role === "candidate" && reply.forTerm === this.#term;
    if (!isAwaited) return;
    this.#grants.add(reply.nodeId);
    this.#countGrants(nowMs);
  }

  #countGrants(nowMs: number): void {
    const voters = this.#host.voters();
    const granted = voters.filter((voter) => this.#grants.has(voter)).length;
    if (granted * 2 <= voters.length) return;
    if (this.#role === "preCandidate") {
      this.#becomeCandidate(nowMs);
      return;
    }
    if (this.#role !== "candidate" || !this.#isSaved()) return;
    this.#role = "sequencer";
    this.#attempts = 0;
    this.#lost = false;
    this.#host.onWon();
  }

  #startPreVote(nowMs: number): void {
    this.#role = "preCandidate";
    this.#sequencer = null;
    this.#prepareToStand(nowMs);
    this.#grants.add(this.#host.nodeId);
    this.#ask(true, (this.#term + 1) as Term);
  }

  #becomeCandidate(nowMs: number): void {
    this.#role = "candidate";
    this.#sequencer = null;
    this.#prepareToStand(nowMs);
    // Requests go out when the vote for itself is saved: a candidate that forgot it could else vote for another in the same term.
    this.#setTermAndVote((this.#term + 1) as Term, this.#host.nodeId);
    this.#host.onNewTerm();
  }

  #prepareToStand(nowMs: number): void {
    this.#grants.clear();
    const { heartbeatMs, electionTimeoutMsMax } = this.#host.limits;
    const delayMs = Math.min(electionTimeoutMsMax, heartbeatMs * 2 ** Math.min(this.#attempts, retryDoublingsMax));
    this.#attempts++;
    this.#deadlineMs = nowMs + delayMs + this.#host.random.integer(delayMs + 1);
  }

  #becomeFollower(nowMs: number): void {
    const was = this.#role;
    this.#role = "follower";
    this.#deadlineMs = nowMs + this.#electionTimeoutMs();
    if (was === "sequencer") this.#host.onSteppedDown();
  }

  #setTermAndVote(term: Term, votedFor: NodeId): void {
    this.#term = term;
    this.#votedFor = votedFor;
    this.#waiting = null;
    if (this.#host.nodeId !== noNode) {
      this.#host.saveVote(term, votedFor);
      return;
    }
    // A Cache has nothing to save: it never votes, and a restarted one is another engine.
    this.#savedTerm = term;
    this.#savedVote = votedFor;
  }

  #isSaved(): boolean {
    return this.#savedTerm === this.#term && this.#savedVote === this.#votedFor;
  }

  #ask(pre: boolean, term: Term): void {
    const { nodeId } = this.#host;
    const last = this.#host.last();
    for (const voter of this.#host.voters()) {
      const endpoint = voter === nodeId ? undefined : this.#host.endpointOf(voter);
      if (endpoint === undefined) continue;
      this.#host.send(endpoint, { kind: "voteRequest", pre, term, nodeId, lastSeq: last.seq, lastTerm: last.term });
    }
  }

  #replyTo(request: VoteRequest, granted: boolean): VoteReply {
    return { kind: "voteReply", pre: request.pre, forTerm: request.term, term: this.#term, nodeId: this.#host.nodeId, granted };
  }

  #isSequencerFresh(nowMs: number): boolean {
    if (this.#sequencer === null || this.#lost) return false;
    return nowMs - this.#sequencerHeardMs < this.#host.limits.electionTimeoutMsMin;
  }

  #mayStand(): boolean {
    return this.#host.nodeId !== noNode && !this.#host.isDamaged() && this.#host.voters().includes(this.#host.nodeId);
  }

  #isAlone(): boolean {
    return this.#host.voters().length === 1;
  }

  #electionTimeoutMs(): number {
    const { electionTimeoutMsMin, electionTimeoutMsMax } = this.#host.limits;
    return electionTimeoutMsMin + this.#host.random.integer(electionTimeoutMsMax - electionTimeoutMsMin + 1);
  }
}

/** The election restriction: the last entry's (term, seq) is at least the voter's own. */
function isLogNewEnough(request: { readonly lastTerm: Term; readonly lastSeq: Seq }, last: LogPosition): boolean {
  return request.lastTerm > last.term || (request.lastTerm === last.term && request.lastSeq >= last.seq);
}
