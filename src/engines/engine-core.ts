/**
 * An engine's protocol, whole, as one pure state machine: the stream's end, the catalogs, the originator's desk, the engine's own proposals,
 * and the side of its kind (Archive: sequencer and store; Cache: transactions and local store). No clock, socket, file or chance of its own:
 * the same code runs in production and in the simulator. docs/architecture.md follows a commit and a pull through it.
 *
 * A core lives as long as one engine id at most: from a state at some seq (an Archive's store, or catalogs fetched by a Cache), by following
 * the stream, to BOOT, to LEAVE. An engine that is evicted starts over with a new core.
 */
import { MalformedBytesError } from "../base/bytes.js";
import { assert, unreachable } from "../base/errors.js";
import { type Endpoint, type EngineId, type Nonce, noEngine, noNode, type Seq, schemaSpace, type Term } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import type { Random } from "../base/random.js";
import type { Catalog, CatalogEvent } from "../catalog/catalog.js";
import { foldName } from "../catalog/schema-catalog.js";
import { StreamNode } from "../messages/stream/stream-node.js";
import type { StreamInput, StreamLimits, StreamNodeOptions, StreamView } from "../messages/stream/stream-node-types.js";
import { type AnnounceMessage, decodeEngineMessage, type EngineMessage, firstEngineKind } from "../messages/wire/engine-messages.js";
import { decodeEntry, encodeEntry, formatVersion, type TransactionBody } from "../messages/wire/entry.js";
import type { HashedSeq } from "../messages/wire/stream-messages.js";
import { Announcements, type Peer } from "./announcements.js";
import { ArchiveSide } from "./archive-side.js";
import { CacheSide } from "./cache-side.js";
import { collectorFigures } from "./collector-report.js";
import { CoreContext } from "./core-context.js";
import type { CatalogLimits, CoreEffect, CoreInput, Self } from "./core-types.js";
import { InitialHistory } from "./initial-history.js";
import { contactsOf } from "./joining.js";
import { OriginatorDesk } from "./originator-desk.js";
import { ProposalQueue } from "./proposal-queue.js";
import { Removals } from "./removals.js";
import { type Order, Sequencer } from "./sequencer.js";
import { quietShare, TwinWatch } from "./twin-watch.js";

export interface CoreOptions {
  readonly self: Self;
  /** The catalogs as of `position`. */
  readonly catalog: Catalog;
  readonly position: LogPosition;
  /** An Archive's journal after `position`; empty for a Cache. */
  readonly entries: readonly LogEntry[];
  readonly commitSeq: Seq;
  /** Voters where the catalog names none: the founder alone. */
  readonly founders: StreamNodeOptions["voters"];
  readonly term: Term;
  readonly votedFor: StreamNodeOptions["votedFor"];
  readonly repairThrough: Seq;
  /** Voters wanted (`--voters`). */
  readonly votersTarget: number;
  readonly random: Random;
  readonly limits: StreamLimits;
  readonly hasMulticast: boolean;
  /** Endpoints of engines of this database: whom it has its state from, and those that were named by the user. */
  readonly contacts: readonly Endpoint[];
  readonly catalogLimits: CatalogLimits;
  /** Of rows that a Cache holds, beyond which it gives some up. */
  readonly memoryBytes: number;
  /** Of an Archive that makes a new database; null: not said. */
  readonly historyMs: number | null;
  /** An Archive that begins from its folder: it makes sure first that nobody else has it. */
  readonly looksForTwin: boolean;
  readonly nowMs: number;
}

const bootAgainMs = 200;
/** An engine that leaves waits so long for its local store to say which ids it has left. Reason: a statement that goes on for ever delays no end. Milliseconds. */
const giveBackMsMax = 500;

export class EngineCore {
  readonly context: CoreContext;
  readonly #stream: StreamNode;
  readonly #proposals: ProposalQueue;
  readonly #desk: OriginatorDesk;
  readonly #sequencer: Sequencer | null;
  readonly archive: ArchiveSide | null;
  readonly cache: CacheSide | null;
  readonly #announcements: Announcements;
  readonly #removals: Removals;
  readonly #history: InitialHistory;
  readonly #twins: TwinWatch;
  readonly #contacts: readonly Endpoint[];
  #bootNonce: Nonce;
  #bootAskedMs = -bootAgainMs;
  #leaving = false;
  #leavingSinceMs = 0;
  /** Nothing is waited for any more before the farewell. */
  #mayGo = false;
  #ended = false;
  #ordered: readonly LogEntry[] = [];
  /** The last durable position that was not told to the stream yet. */
  #journaled: Extract<CoreInput, { kind: "journaled" }> | null = null;

  constructor(options: CoreOptions) {
    const { self, catalog, position, random, nowMs } = options;
    this.#contacts = options.contacts;
    this.context = new CoreContext(self, catalog, random, position, nowMs, options.limits.heartbeatMs);
    this.#bootNonce = (random.integer(2 ** 48 - 1) + 1) as Nonce;
    this.#stream = new StreamNode({
      kind: self.kind,
      nodeId: self.nodeId,
      nonce: self.nonce,
      endpoint: self.endpoint,
      base: position,
      entries: options.entries,
      commitSeq: options.commitSeq,
      appliedSeq: position.seq,
      voters: catalog.voters.length > 0 ? catalog.voters : options.founders,
      term: options.term,
      votedFor: options.votedFor,
      repairThrough: options.repairThrough,
      random,
      limits: options.limits,
      hasMulticast: options.hasMulticast,
      nowMs,
    });
    this.#removals = new Removals(this.context);
    this.#announcements = new Announcements({
      context: this.context,
      hasMulticast: options.hasMulticast,
      contacts: options.contacts,
      announcement: () => this.#announcement(),
    });
    const known = contactsOf({ contacts: options.contacts }, catalog);
    const quietMs = options.looksForTwin ? options.limits.electionTimeoutMsMin * quietShare : 0;
    this.#twins = new TwinWatch(this.context, known, quietMs, () => this.#announcement());
    this.#proposals = new ProposalQueue(this.context);
    this.#desk = new OriginatorDesk(this.context, this.#proposals, options.catalogLimits.mergeEveryMs);
    const order: Order = (entries, concerned) => {
      this.#ordered = [];
      this.#step({ kind: "order", nowMs: this.context.nowMs, entries, ...(concerned !== null && { concerned: [...concerned] }) });
      return this.#ordered;
    };
    this.archive = self.kind === "archive" ? new ArchiveSide(this.context) : null;
    const { catalogLimits, memoryBytes } = options;
    const { markEveryMs } = catalogLimits;
    this.#sequencer = self.kind === "archive" ? new Sequencer(this.context, this.#stream, order, options.votersTarget, markEveryMs) : null;
    this.cache = self.kind === "cache" ? new CacheSide(this.context, this.#proposals, this.#desk, catalogLimits, memoryBytes) : null;
    this.#history = new InitialHistory(this.context, this.#desk, this.#proposals, options.historyMs);
    for (const member of catalog.members.values()) {
      if (member.nodeId !== 0) this.#step({ kind: "peer", nodeId: member.nodeId, endpoint: member.endpoint });
    }
    this.#tellEngines();
  }

  /** What the relay tree is computed from. */
  #tellEngines(): void {
    const engines = [...this.catalog.members.values()].map(({ id, kind, endpoint }) => ({ id, kind, endpoint }));
    this.#step({ kind: "engines", engines, contacts: this.#contacts });
  }

  /** What others have announced. */
  get peers(): ReadonlyMap<Endpoint, Peer> {
    return this.#announcements.peers;
  }

  get stream(): StreamView {
    return this.#stream;
  }

  get catalog(): Catalog {
    return this.context.catalog;
  }

  get engine(): EngineId {
    return this.context.engine;
  }

  get desk(): OriginatorDesk {
    return this.#desk;
  }

  /** A tick before `nowMs` would do something that should not wait until then. */
  isDueBefore(nowMs: number): boolean {
    const { awakeMs } = this.context;
    return !this.#ended && (this.#stream.isDueBefore(awakeMs + nowMs - this.context.nowMs) || this.cache?.transactions.isResting === true);
  }

  step(input: CoreInput): readonly CoreEffect[] {
    if (this.#ended) return [];
    this.context.nowMs = input.nowMs;
    this.#take(input);
    return this.context.take();
  }

  #take(input: CoreInput): void {
    switch (input.kind) {
      case "tick":
        this.#tick(input.nowMs);
        return;
      case "message":
        this.#onPayload(input.from, input.payload, input.byMulticast === true);
        return;
      case "journaled":
        this.#journaled = input;
        this.#acknowledge();
        return;
      case "connected":
      case "voteSaved":
      case "journalRead":
        this.#step(input);
        return;
      case "disconnected":
        this.#step(input);
        this.#sequencer?.disconnected(input.endpoint);
        this.cache?.disconnected(input.endpoint);
        return;
      case "probed":
        this.#sequencer?.probed(input.endpoint, input.alive);
        return;
      case "stored":
        this.archive?.onStored(input.seq);
        this.#step({ kind: "applied", seq: input.seq });
        this.#step({ kind: "snapshots", oldest: input.seq });
        this.#acknowledge();
        return;
      case "versions":
        if (this.archive !== null) {
          this.archive.versions = input.versions;
          this.archive.values = input.values;
        }
        return;
      case "local":
        this.cache?.local.onReply(input.reply);
        if (input.reply.kind === "applied") this.#step({ kind: "applied", seq: input.reply.through });
        if (this.cache !== null && "oldestSnapshot" in input.reply) this.#step({ kind: "snapshots", oldest: this.cache.local.oldestSnapshot });
        return;
      case "past":
        this.cache?.past.onReply(input.past, input.reply);
        return;
      case "batch":
        this.cache?.transactions.begin(input.request, input.steps, input.settings, input.open);
        return;
      case "endTransaction":
        this.cache?.transactions.endOpen(input.transaction);
        return;
      case "cancel":
        this.cache?.transactions.cancel(input.request);
        return;
      case "removeVoter":
        this.#removals.ask(input.request, input.nodeId);
        return;
      case "leave":
        if (this.#leaving) return;
        this.#leaving = true;
        this.#leavingSinceMs = input.nowMs;
        if (this.cache === null || this.context.engine === noEngine) this.#goes();
        else this.cache.ids.giveBack(() => this.#goes());
        return;
      case "turnEnd":
        // Commits come out of it: what a Cache does about them (a chunk that a HOLD allows to ask for) belongs to this turn, and does not wait for the next.
        if (this.cache !== null) this.#step(input);
        this.cache?.turnEnd();
        this.#proposals.flush();
        if (this.archive?.isBehind !== true) this.#sequencer?.turnEnd();
        // What is ordered goes out with it.
        if (this.archive !== null) this.#step(input);
        this.archive?.turnEnd();
        this.cache?.local.turnEnd();
        return;
      default:
        unreachable(input);
    }
  }

  /**
   * What is durable counts only while the store keeps up: an Archive that fell behind its own journal would otherwise gather committed changes in
   * memory without bound. Acks are cumulative, so the last one stands for those that were held back.
   */
  #acknowledge(): void {
    if (this.#journaled === null || this.archive?.isBehind === true) return;
    this.#step(this.#journaled);
    this.#journaled = null;
  }

  #tick(nowMs: number): void {
    this.#twins.tick();
    if (this.#twins.isQuiet) return;
    if (this.#twins.mustStartOver) this.#startOver(takenForDead);
    this.#step({ kind: "tick", nowMs });
    this.#sequencer?.tick();
    this.#proposals.tick();
    this.#desk.tick();
    this.#history.tick();
    this.cache?.tick();
    if (this.#leaving && nowMs - this.#leavingSinceMs > giveBackMsMax) this.#goes();
    if (this.context.isWornOut) this.#startOver("it has made as many atoms as one engine can");
    this.#askForBoot();
    this.#announcements.tick();
  }

  #goes(): void {
    if (this.#mayGo) return;
    this.#mayGo = true;
    this.#farewell();
  }

  #farewell(): void {
    const { sequencer, engine } = this.context;
    if (engine === noEngine) {
      this.context.push({ kind: "left" });
      this.#ended = true;
    } else if (sequencer !== null) this.context.send(sequencer, { kind: "farewell", engine, ids: this.cache?.ids.givenBack ?? [] });
  }

  /** Asks for its BOOT once it follows the stream: what it has then is a state that the BOOT's place continues. */
  #askForBoot(): void {
    const { context } = this;
    if (context.engine !== noEngine || this.#leaving || context.sequencer === null || context.nowMs - this.#bootAskedMs < bootAgainMs) return;
    this.#bootAskedMs = context.nowMs;
    const { kind, nodeId, endpoint, http, pid } = context.self;
    const entry = encodeEntry({ kind: "boot", engineKind: kind, nodeId, nonce: this.#bootNonce, endpoint, http, pid, formatVersion });
    context.send(context.sequencer, { kind: "bootRequest", entry });
  }

  #announcement(): AnnounceMessage {
    const { context } = this;
    const { kind, nodeId, nonce } = context.self;
    return {
      kind: "announce",
      engineKind: kind,
      nodeId,
      nonce,
      engine: context.engine,
      sequencer: context.sequencer ?? "",
      term: this.#stream.term,
      commitSeq: this.#stream.commitSeq,
      appliedSeq: this.archive?.stored ?? this.cache?.local.applied ?? context.appliedSeq,
      atomsHeld: this.#atomsHeld(),
      formatVersion,
      canServe: kind === "archive" && context.engine !== noEngine,
      ...collectorFigures(this),
      by: this.#stream.tree.by ?? "",
      parent: this.#stream.tree.parent ?? "",
    };
  }

  #atomsHeld(): number {
    if (this.archive !== null) return this.catalog.atoms.size;
    let held = 0;
    for (const atom of this.catalog.atoms.all())
      for (const holder of atom.holders) if (holder.engine === this.context.engine && holder.state === "ready") held++;
    return held;
  }

  #onPayload(from: Endpoint, payload: Buffer, byMulticast: boolean): void {
    const { nowMs } = this.context;
    if ((payload[0] ?? 255) < firstEngineKind) {
      if (this.#twins.isQuiet) return;
      this.#step({ kind: "message", nowMs, from, payload, byMulticast });
      return;
    }
    if (byMulticast) this.#step({ kind: "near", nowMs, endpoint: from });
    try {
      const message = decodeEngineMessage(payload);
      // Who asks is answered: it may be a twin that begins as well.
      if (!this.#concernsTwin(from, message) && (!this.#twins.isQuiet || message.kind === "seek")) this.#onMessage(from, message, byMulticast);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.context.log("warn", "a message could not be read", { from, error: error.message });
    }
  }

  /** What one of its own node id tells of itself is for nobody else. */
  #concernsTwin(from: Endpoint, message: EngineMessage): boolean {
    if (message.kind === "announce") return this.#twins.onAnnounce(from, message);
    if (message.kind === "contacts") this.#twins.onContacts(message.endpoints);
    const [first] = message.kind === "gossip" ? message.heard : [];
    return first !== undefined && first.endpoint === from && this.#twins.onAnnounce(from, { kind: "announce", ...first.announce });
  }

  #onMessage(from: Endpoint, message: EngineMessage, byMulticast: boolean): void {
    switch (message.kind) {
      case "seek":
        this.#announcements.onSeek(from, byMulticast);
        return;
      case "announce":
        this.#announcements.onAnnounce(from, message, byMulticast);
        if (message.nodeId !== noNode) this.#step({ kind: "peer", nodeId: message.nodeId, endpoint: from });
        return;
      case "gossip": {
        this.#announcements.onGossip(message);
        const [first] = message.heard;
        if (first !== undefined && first.endpoint === from && first.announce.nodeId !== noNode)
          this.#step({ kind: "peer", nodeId: first.announce.nodeId, endpoint: from });
        return;
      }
      case "propose":
        this.#sequencer?.propose(from, message);
        return;
      case "proposeAgain":
        if (message.engine === this.context.engine && from === this.context.sequencer) this.#proposals.fill(message.from);
        return;
      case "notMember":
        if (message.engine === this.context.engine && from === this.context.sequencer)
          this.#startOver("the sequencer no longer counts it as a member");
        return;
      case "bootRequest":
        this.#sequencer?.boot(message.entry);
        return;
      case "farewell":
        this.#sequencer?.farewell(message);
        return;
      case "silentOriginator":
        this.#sequencer?.silentOriginator(message);
        return;
      case "permissionRequest":
        this.#learnCommitted(message.applied);
        this.#desk.onMessage(from, message);
        return;
      case "permissionReply":
        this.#learnCommitted(message.applied);
        this.cache?.onMessage(from, message);
        return;
      case "release":
        this.#desk.release(message.engine, message.transaction, message.attempt);
        this.context.send(from, { kind: "released", transaction: message.transaction, attempt: message.attempt });
        return;
      case "blockRequest":
        this.#desk.wantBlock(message.space, message.engine, message.atom, message.count);
        return;
      case "cutsReply":
        this.#desk.splits.onCuts(message);
        return;
      case "removeVoter": {
        const refusal = this.#sequencer?.removeVoter(message.nodeId) ?? "this engine is not the sequencer";
        this.context.send(from, { kind: "removeVoterReply", request: message.request, refusal });
        return;
      }
      case "removeVoterReply":
        this.#removals.onReply(message);
        return;
      default:
        if (this.archive?.onMessage(from, message) !== true) this.cache?.onMessage(from, message);
    }
  }

  /** Who does not wait for a commit hears of it a little later; one that asks, or is asked, about what came of it does so by the question. */
  #learnCommitted(place: HashedSeq): void {
    if (place.seq > this.#stream.commitSeq) this.#step({ kind: "committed", nowMs: this.context.nowMs, place });
  }

  /** The stream's time is that in which this process ran: by it others are silent. */
  #step(input: StreamInput): void {
    for (const effect of this.#stream.step("nowMs" in input ? { ...input, nowMs: this.context.awakeMs } : input)) {
      switch (effect.kind) {
        case "commit":
          this.#commit(effect.entries);
          break;
        case "role":
          this.#role(effect.role === "sequencer", effect.sequencer, effect.tail);
          break;
        case "ordered":
          this.#ordered = effect.entries;
          break;
        case "needSnapshot":
          this.#startOver("what it needs of the stream is in no journal any more", true);
          break;
        default:
          this.context.push(effect);
      }
    }
  }

  #role(isSequencer: boolean, sequencer: Endpoint | null, tail: readonly LogEntry[]): void {
    const { context } = this;
    const former = context.sequencer;
    context.sequencer = isSequencer ? context.self.endpoint : sequencer;
    if (isSequencer) this.#sequencer?.begin(tail);
    else this.#sequencer?.end();
    if (context.sequencer !== former || isSequencer) {
      context.push({ kind: "role", sequencer: context.sequencer, isSequencer, term: this.#stream.term });
      this.#proposals.sendAgain();
      this.#bootAskedMs = -bootAgainMs;
      if (this.#mayGo) this.#farewell();
    }
  }

  #commit(entries: readonly LogEntry[]): void {
    for (const log of entries) {
      if (this.#ended) return;
      this.#apply(log);
    }
    if (this.cache?.local.isBehind === true) {
      this.#startOver("its local store could not keep up with the stream");
      return;
    }
    if (this.cache?.hasLostTrack === true) {
      this.#startOver("a block of ids came from an atom that it had forgotten");
      return;
    }
    this.#desk.answerWaiting();
    this.archive?.catalogs.onApplied();
    this.cache?.onApplied();
  }

  #apply(log: LogEntry): void {
    const { context } = this;
    assert(log.seq === context.position.seq + 1, `entry ${log.seq} after ${context.position.seq}`);
    const entry = context.decoded.get(log.bytes) ?? decodeEntry(log.bytes);
    const events = context.catalog.apply(log.seq, entry);
    context.position = { seq: log.seq, term: log.term, hash: log.hash };
    if (entry.kind === "proposal" && entry.body.kind === "transaction") noteChanges(context, log.seq, entry.body);
    this.archive?.onEntry(log, entry, events);
    this.cache?.onEntry(log, entry);
    for (const event of events) this.#onEvent(event);
  }

  #onEvent(event: CatalogEvent): void {
    const { context } = this;
    if (event.kind === "joined" && event.member.nonce === this.#bootNonce && context.engine === noEngine) {
      context.engine = event.member.id;
      context.life = event.member.life;
      this.#step({ kind: "member", engine: context.engine });
      if (this.cache !== null) context.catalog.atoms.watch(context.engine);
      this.cache?.local.become(context.engine, context.life);
      context.push({ kind: "member", engine: context.engine });
      this.#announcements.announce();
    } else if (event.kind === "joined") this.#announcements.hasten();
    if (event.kind === "joined" && event.member.nodeId !== noNode)
      this.#step({ kind: "peer", nodeId: event.member.nodeId, endpoint: event.member.endpoint });
    if (event.kind === "joined" || event.kind === "departed") this.#tellEngines();
    if (event.kind === "voters") this.#removals.look();
    if (event.kind === "spaceGone") context.recent.forgetSpace(event.space);
    if (event.kind === "moved") context.atomChanges[event.by] += event.atoms.length;
    if (event.kind === "merged") context.atomChanges.merge += event.atoms.length;
    this.#desk.onEvent(event);
    this.cache?.onEvent(event);
    if (event.kind === "decided" && event.engine === context.engine) this.#proposals.decided(event.proposalSeq, event.outcome, event.seq);
    if (event.kind === "departed" && event.member.id === context.engine && context.engine !== noEngine) this.#departed();
  }

  #departed(): void {
    if (!this.#leaving) {
      if (!this.#twins.replaced()) this.#startOver(takenForDead);
      return;
    }
    this.cache?.transactions.failAll("the engine has left");
    this.context.push({ kind: "left" });
    this.#ended = true;
  }

  #startOver(reason: string, needsState = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.cache?.transactions.failAll(reason);
    this.context.push({ kind: "startOver", reason, needsState });
  }
}

const takenForDead = "it was taken for dead: its LEAVE is in the stream";

/** What an originator must remember of a committed transaction. */
function noteChanges(context: CoreContext, seq: Seq, body: TransactionBody): void {
  const { recent } = context;
  for (const { space, key } of body.exists) recent.note(seq, space, binaryKey(key), "exist");
  for (const part of body.parts) {
    if (part.kind === "ddl") {
      for (const table of part.touchedTables) recent.noteSpace(seq, table);
      for (const name of [...part.drops, ...part.upserts.map((object) => object.name)])
        recent.note(seq, schemaSpace, binaryKey(Buffer.from(foldName(name))), "write");
      continue;
    }
    for (const { key, row, indexKeys } of part.rows) {
      recent.note(seq, part.table, binaryKey(key), row === null ? "delete" : "write");
      for (const one of indexKeys) recent.note(seq, one.space, binaryKey(one.key), "delete");
    }
  }
}
