/**
 * What the Archive that leads the stream does besides leading: orders proposals strictly by their engines' numbers, checks fences against its
 * log, sees who has gone, and looks after the voters (design.md §4, §6).
 *
 * | it finds | it orders |
 * |---|---|
 * | the next proposal of a member, fences and schema versions of its log hold | the proposal |
 * | the next proposal of a member, something stale | REFUSED(engine, n) |
 * | a proposal beyond the next | nothing; asks for the hole |
 * | a proposal of no member | nothing; tells its sender |
 * | a BOOT whose nonce is not in the log | the BOOT |
 * | a BOOT of another format | nothing; tells its own log |
 * | a member whose connection is lost and whose port refuses, or that has been silent | LEAVE |
 * | a complaint of an originator that does not answer | DEMOTE, or nothing: `demotions.ts` |
 * | all members promise to read no snapshot that old any more | MARK: `low-water-mark.ts` |
 * | a live Archive that has caught up, and a place among the voters | VOTERS with it |
 */

import { BugError } from "../base/errors.js";
import type { Endpoint, EngineId, NodeId, ProposalSeq, Seq } from "../base/ids.js";
import { entryBytesMax } from "../base/limits.js";
import type { LogEntry } from "../base/log-entry.js";
import type { Catalog } from "../catalog/catalog.js";
import type { StreamView } from "../messages/stream/stream-node-types.js";
import type { FarewellMessage, ProposeMessage, SilentOriginatorMessage } from "../messages/wire/engine-messages.js";
import { decodeEntry, type Entry, encodeEntry, formatVersion, type RefusalReason } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import { Demotions } from "./demotions.js";
import { LowWaterMark } from "./low-water-mark.js";

/** A member that has not been heard for this long is taken for dead (a busy machine is not a dead one). */
export const silenceMs = 3000;
/** After taking over, members that have not been heard for this long are probed: those that died with the old sequencer are found so. */
const firstProbeMs = 150;
/** A hole in an engine's proposals is asked for again after this. */
const holeMs = 20;
/** A probe that fails sooner was refused; one that fails later had no answer (the host gives up after 250 ms). */
const refusedWithinMs = 200;
/** Ordered and uncommitted bytes beyond which proposals wait. */
const uncommittedBytesMax = 32 * 1024 * 1024;
/**
 * Proposals of one engine that may wait for their turn, counted from the one whose turn it is, which is always taken; later ones are dropped, and
 * sent again by their engine.
 */
const waitingPerEngineMax = 8192;
/** An Archive may vote once it is durable to within this of the commit seq. */
const voterLagMax = 256;

/** Gives the entries the next seqs. `concerned`: who waits for their commit, and hears of it at once; null: everyone. */
export type Order = (entries: readonly Uint8Array[], concerned: ReadonlySet<Endpoint> | null) => readonly LogEntry[];

interface Lane {
  readonly waiting: Map<ProposalSeq, Buffer>;
  from: Endpoint;
  askedMs: number;
}

export class Sequencer {
  readonly #context: CoreContext;
  readonly #view: StreamView;
  readonly #order: Order;
  readonly #votersTarget: number;
  /** The catalog as of the end of the log; null while not leading. */
  #log: Catalog | null = null;
  readonly #lanes = new Map<EngineId, Lane>();
  #batch: Buffer[] = [];
  /** Of the batch; null: all. */
  #concerned: Set<Endpoint> | null = new Set();
  #sinceMs = 0;
  /** Nonces of BOOTs in the log, so that a request is ordered once; and when they came there: a new member is not silent before its first ack. */
  readonly #booted = new Map<number, number>();
  /** The last that was not let in, so that it is told once. */
  #refusedBoot = 0;
  /** By endpoint, since when. */
  readonly #probing = new Map<Endpoint, { readonly nowMs: number; readonly awakeMs: number }>();
  readonly #demotions = new Demotions();
  readonly #mark: LowWaterMark;
  #votersSeq = 0;
  #nextLookMs = 0;

  constructor(context: CoreContext, view: StreamView, order: Order, votersTarget: number, markEveryMs: number) {
    this.#context = context;
    this.#view = view;
    this.#order = order;
    this.#votersTarget = votersTarget;
    this.#mark = new LowWaterMark(markEveryMs);
  }

  get leads(): boolean {
    return this.#log !== null;
  }

  /** `tail`: the log after what the context's catalog has applied. */
  begin(tail: readonly LogEntry[]): void {
    const { catalog, nowMs, awakeMs } = this.#context;
    this.#log = catalog.copy();
    this.#lanes.clear();
    this.#booted.clear();
    this.#probing.clear();
    this.#forgetBatch();
    this.#sinceMs = awakeMs;
    this.#votersSeq = 0;
    this.#mark.begin(this.#view.last.seq, nowMs);
    for (const member of catalog.members.values()) this.#booted.set(member.nonce, awakeMs);
    for (const entry of tail) this.#note(entry.seq, decodeEntry(entry.bytes));
  }

  end(): void {
    this.#log = null;
    this.#forgetBatch();
    this.#lanes.clear();
  }

  #forgetBatch(): void {
    this.#batch = [];
    this.#concerned = new Set();
  }

  #note(seq: Seq, entry: Entry): void {
    if (entry.kind === "boot") this.#booted.set(entry.nonce, this.#context.awakeMs);
    if (entry.kind === "voters") this.#votersSeq = seq;
    this.#mark.note(seq, entry);
    this.#log?.apply(seq, entry);
  }

  #append(entry: Entry, bytes: Buffer = encodeEntry(entry)): void {
    this.#batch.push(bytes);
    this.#context.decoded.set(bytes, entry);
    this.#noteConcerned(entry);
    this.#note((this.#view.last.seq + this.#batch.length) as Seq, entry);
  }

  /** Of rows that were changed, the engine that waits to answer its client, and the originators, who let the next ones change them. */
  #noteConcerned(entry: Entry): void {
    if (this.#concerned === null) return;
    const members = this.#log?.members;
    const isOfRows = entry.kind === "proposal" && entry.body.kind === "transaction" && entry.body.parts.every((part) => part.kind === "rows");
    if (members === undefined || !(isOfRows || entry.kind === "refused")) {
      this.#concerned = null;
      return;
    }
    const engines = isOfRows ? [entry.engine, ...entry.fences.map(({ originator }) => originator)] : [entry.engine];
    for (const engine of engines) {
      const endpoint = members.get(engine)?.endpoint;
      if (endpoint !== undefined && endpoint !== this.#context.self.endpoint) this.#concerned.add(endpoint);
    }
  }

  propose(from: Endpoint, message: ProposeMessage): void {
    const member = this.#log?.members.get(message.engine);
    if (member === undefined) {
      if (this.#log !== null) this.#context.send(from, { kind: "notMember", engine: message.engine });
      return;
    }
    if (message.proposalSeq <= member.decided) return;
    let lane = this.#lanes.get(message.engine);
    if (lane === undefined) {
      lane = { waiting: new Map(), from, askedMs: 0 };
      this.#lanes.set(message.engine, lane);
    }
    lane.from = from;
    if (message.proposalSeq <= member.decided + waitingPerEngineMax) lane.waiting.set(message.proposalSeq, message.entry);
  }

  boot(bytes: Buffer): void {
    if (this.#log === null) return;
    const entry = decodeEntry(bytes);
    if (entry.kind !== "boot" || this.#booted.has(entry.nonce)) return;
    // What it would journal, propose and grant, nobody else could read; and a voter must have a name.
    if (entry.formatVersion !== formatVersion || (entry.engineKind === "archive") !== (entry.nodeId !== 0)) {
      if (this.#refusedBoot !== entry.nonce) {
        this.#context.log("warn", "an engine is not let in: it speaks another format", { endpoint: entry.endpoint, version: entry.formatVersion });
      }
      this.#refusedBoot = entry.nonce;
      return;
    }
    this.#append(entry, bytes);
  }

  farewell({ engine, ids }: FarewellMessage): void {
    const log = this.#log;
    if (!log?.members.has(engine)) return;
    const unused = ids.filter(({ fence }) => fence.originator === engine && log.fenceHolds(fence));
    this.#append({ kind: "leave", engine, ids: unused.map(({ space, first, next }) => ({ space, first, next })) });
  }

  silentOriginator(message: SilentOriginatorMessage): void {
    const { engine, nowMs } = this.#context;
    if (this.#log === null || !this.#view.leadsSurely) return;
    for (const entry of this.#demotions.decide(this.#log, engine, message, nowMs)) {
      this.#context.log("warn", "an originator does not answer; another takes its place", {
        ...entry,
        atoms: entry.atoms.length,
        asker: message.engine,
      });
      this.#append(entry);
    }
  }

  /** "" when it is ordered, else why not. */
  removeVoter(node: NodeId): string {
    if (this.#log === null) return "this engine is not the sequencer";
    const { voters } = this.#view;
    if (!voters.includes(node)) return "that Archive is not a voter";
    if (this.#log.memberOfNode(node) !== undefined) return "that Archive is alive; stop it first";
    if (voters.length === 1) return "the last voter cannot be removed";
    if (!this.#votersMayChange()) return "another change of the voters is under way; try again";
    this.#append({ kind: "voters", voters: voters.filter((voter) => voter !== node) });
    return "";
  }

  #votersMayChange(): boolean {
    return this.#view.leadsSurely && this.#votersSeq <= this.#view.commitSeq;
  }

  disconnected(endpoint: Endpoint): void {
    const log = this.#log;
    if (log === null) return;
    for (const member of log.members.values()) if (member.endpoint === endpoint) this.#probe(endpoint);
  }

  #probe(endpoint: Endpoint): void {
    if (endpoint === this.#context.self.endpoint || this.#probing.has(endpoint)) return;
    const { nowMs, awakeMs } = this.#context;
    this.#probing.set(endpoint, { nowMs, awakeMs });
    this.#context.push({ kind: "probe", endpoint });
  }

  probed(endpoint: Endpoint, alive: boolean): void {
    const since = this.#probing.get(endpoint);
    this.#probing.delete(endpoint);
    const log = this.#log;
    if (log === null || alive || since === undefined || !this.#view.leadsSurely) return;
    // One lost packet makes a probe time out. Who was heard meanwhile lives; a port that refuses has nobody behind it, whatever was still on its way.
    const refused = this.#context.nowMs - since.nowMs < refusedWithinMs;
    if (!refused && (this.#view.heardFrom(endpoint)?.atMs ?? 0) > since.awakeMs) return;
    for (const member of [...log.members.values()]) {
      // The question was about who was there before.
      if (member.endpoint !== endpoint || (this.#booted.get(member.nonce) ?? 0) > since.awakeMs) continue;
      this.#leave(member.id, refused ? "its port refuses connections" : "it cannot be reached");
    }
  }

  #leave(engine: EngineId, reason: string): void {
    this.#context.log("warn", "engine is gone", { engine, reason });
    this.#append({ kind: "leave", engine, ids: [] });
  }

  tick(): void {
    const { nowMs, awakeMs } = this.#context;
    if (this.#log === null || nowMs < this.#nextLookMs) return;
    this.#nextLookMs = nowMs + 25;
    for (const [engine, lane] of this.#lanes) this.#askForHole(engine, lane);
    if (!this.#view.leadsSurely) {
      this.#sinceMs = awakeMs;
      return;
    }
    this.#lookForTheDead(this.#log, awakeMs);
    this.#lookAfterVoters(this.#log);
    this.#lookAfterMark(this.#log, nowMs);
  }

  #askForHole(engine: EngineId, lane: Lane): void {
    const member = this.#log?.members.get(engine);
    if (member === undefined) {
      this.#lanes.delete(engine);
      return;
    }
    const next = (member.decided + 1) as ProposalSeq;
    if (lane.waiting.size === 0 || lane.waiting.has(next) || this.#context.nowMs - lane.askedMs < holeMs) return;
    lane.askedMs = this.#context.nowMs;
    this.#context.send(lane.from, { kind: "proposeAgain", engine, from: next });
  }

  #lookForTheDead(log: Catalog, awakeMs: number): void {
    for (const member of [...log.members.values()]) {
      if (member.endpoint === this.#context.self.endpoint) continue;
      const heardMs = Math.max(this.#sinceMs, this.#booted.get(member.nonce) ?? 0, this.#view.heardFrom(member.endpoint)?.atMs ?? 0);
      if (awakeMs - heardMs > silenceMs) this.#leave(member.id, `silent for ${silenceMs} ms`);
      else if (awakeMs - heardMs > firstProbeMs) this.#probe(member.endpoint);
    }
  }

  #lookAfterVoters(log: Catalog): void {
    const { voters } = this.#view;
    if (!this.#votersMayChange()) return;
    if (log.voters.length === 0) {
      this.#append({ kind: "voters", voters });
      return;
    }
    if (voters.length >= this.#votersTarget) return;
    for (const member of log.members.values()) {
      if (member.kind !== "archive" || voters.includes(member.nodeId)) continue;
      const heard = this.#view.heardFrom(member.endpoint);
      if (heard === null || heard.durableSeq + voterLagMax < this.#view.commitSeq) continue;
      this.#context.log("info", "an Archive becomes a voter", { nodeId: member.nodeId, engine: member.id });
      this.#append({ kind: "voters", voters: [...voters, member.nodeId] });
      return;
    }
  }

  #lookAfterMark(log: Catalog, nowMs: number): void {
    const entry = this.#mark.next(log, this.#view, this.#context.engine, nowMs);
    if (entry !== null) this.#append(entry);
  }

  /** Orders what this turn has brought. */
  turnEnd(): void {
    if (this.#log === null) return;
    if (this.#view.uncommittedBytes < uncommittedBytesMax) for (const [engine, lane] of this.#lanes) this.#drain(engine, lane, this.#log);
    this.#log.forgetDirty();
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    const concerned = this.#concerned;
    const expected = this.#view.last.seq + 1;
    this.#forgetBatch();
    const ordered = this.#order(batch, concerned);
    if (ordered[0] !== undefined && ordered[0].seq !== expected) throw new BugError("the stream gave another seq than the fences were checked for");
  }

  #drain(engine: EngineId, lane: Lane, log: Catalog): void {
    for (;;) {
      const member = log.members.get(engine);
      if (member === undefined) {
        this.#lanes.delete(engine);
        return;
      }
      const next = (member.decided + 1) as ProposalSeq;
      const bytes = lane.waiting.get(next);
      if (bytes === undefined) {
        if (lane.waiting.size > 0) for (const proposalSeq of lane.waiting.keys()) if (proposalSeq < next) lane.waiting.delete(proposalSeq);
        return;
      }
      lane.waiting.delete(next);
      const { entry, refusal } = this.#check(engine, next, bytes, log);
      if (refusal === null && entry !== null) this.#append(entry, bytes);
      else this.#append({ kind: "refused", engine, proposalSeq: next, reason: refusal ?? "malformed" });
    }
  }

  #check(engine: EngineId, proposalSeq: ProposalSeq, bytes: Buffer, log: Catalog): { entry: Entry | null; refusal: RefusalReason | null } {
    if (bytes.length > entryBytesMax) return { entry: null, refusal: "malformed" };
    try {
      const entry = decodeEntry(bytes);
      if (entry.kind !== "proposal" || entry.engine !== engine || entry.proposalSeq !== proposalSeq) return { entry: null, refusal: "malformed" };
      return { entry, refusal: log.objection(entry) };
    } catch {
      return { entry: null, refusal: "malformed" };
    }
  }
}
