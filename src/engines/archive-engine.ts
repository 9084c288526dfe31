/**
 * An Archive engine from its folder to its LEAVE: recovers what the disk has, or takes another Archive's store where it has nothing, follows
 * the stream, and starts over where it was taken for dead.
 *
 * | the folder has | it begins by |
 * |---|---|
 * | nothing, and it founded the database | being the one voter, at seq 0 |
 * | nothing, otherwise | a transfer of another Archive's store |
 * | a store, and a sound journal | the store's state, then its journal after it |
 * | a store, and a journal that ends below it | the store's state, and a journal that goes on from there |
 * | a store, and a damaged journal | the same, neither voting nor acking until a peer has repaired it |
 * | a store behind what any journal still has | a transfer (told by the stream) |
 */

import { genesisHash } from "../base/chain-hash.js";
import { BugError, DatabaseError } from "../base/errors.js";
import { type Endpoint, type EngineId, type NodeId, type Nonce, noSeq, noTerm, type Seq, type Term } from "../base/ids.js";
import type { LogEntry, LogPosition } from "../base/log-entry.js";
import { Catalog } from "../catalog/catalog.js";
import type { Network } from "../messages/network/network.js";
import type { StoreInstall, StoreWrites } from "../storage/atom-store.js";
import type { Journal, JournalHandlers, RecoveredJournal, VoteStore } from "../storage/journal.js";
import { EngineCore } from "./engine-core.js";
import { EngineHost } from "./engine-host.js";
import type { ArchiveDisk, Cancel, Environment } from "./environment.js";
import { type Acknowledged, contactsOf, Joining, type JoiningEffect } from "./joining.js";

export interface ArchiveOptions {
  readonly environment: Environment;
  readonly disk: ArchiveDisk;
  readonly votersTarget: number;
  /** For a new database: how long what rows were is kept. null: not said. */
  readonly historyMs: number | null;
  /** Called when the engine cannot go on: the process ends, another serves. */
  readonly onFailure: (error: Error) => void;
}

export const genesis: LogPosition = { seq: noSeq, term: noTerm, hash: genesisHash };
/** Journal entries read at once at start. */
const recoveryReadBytes = 8 * 1024 * 1024;
const leaveTimeoutMs = 5000;
/** A leaving Archive that has known no sequencer for this long stops without its LEAVE being ordered. */
const aloneMs = 1000;
const joinTickMs = 20;

export class ArchiveEngine {
  readonly #options: ArchiveOptions;
  readonly #nonce: Nonce;
  #network: Network | null = null;
  #store: StoreWrites | null = null;
  #journal: Journal | null = null;
  #votes: VoteStore | null = null;
  #host: EngineHost | null = null;
  #joining: Joining | null = null;
  #cancelJoining: Cancel | null = null;
  #install: StoreInstall | null = null;
  /** Parts of a transfer are taken in one after another. */
  #installing: Promise<void> = Promise.resolve();
  #stopped = false;
  #onMember: { readonly told: (engine: EngineId) => void; readonly failed: (error: Error) => void }[] = [];
  #onLeft: (() => void) | null = null;
  readonly #removals = new Map<number, (refusal: string) => void>();
  #nextRemoval = 1;

  constructor(options: ArchiveOptions) {
    this.#options = options;
    this.#nonce = (options.environment.random.integer(2 ** 48 - 1) + 1) as Nonce;
  }

  get host(): EngineHost | null {
    return this.#host;
  }

  get core(): EngineCore | null {
    return this.#host?.core ?? null;
  }

  get endpoint(): Endpoint | null {
    return this.#network?.endpoint ?? null;
  }

  /** Whom it asks where multicast does not reach. */
  get asked(): readonly Endpoint[] {
    return contactsOf(this.#options.environment, this.core?.catalog ?? null);
  }

  get network(): Network | null {
    return this.#network;
  }

  get store(): StoreWrites | null {
    return this.#store;
  }

  /** Resolves once it follows or seeks; `whenMember` tells when it counts. */
  async start(): Promise<void> {
    const { environment, disk } = this.#options;
    this.#store = await disk.openStore();
    this.#votes = await disk.openVotes();
    this.#network = await environment.openNetwork(this.#nonce, {
      onDatagram: (from, _nonce, payload, byMulticast) => this.#onMessage(from, payload, byMulticast),
      onReliable: (from, _nonce, payload) => this.#onMessage(from, payload, false),
      onConnected: (endpoint, nonce) => this.#host?.onConnected(endpoint, nonce),
      onDisconnected: (endpoint) => this.#onDisconnected(endpoint),
    });
    const { position } = this.#store;
    const recovered = await disk.openJournal(this.#journalHandlers(), position.seq);
    this.#journal = recovered.journal;
    // A store behind the journal's base had begun to take in a transfer when the process ended.
    const isEmpty = position.seq === noSeq && recovered.journal.last.seq === noSeq && !disk.founder;
    if (isEmpty || position.seq < recovered.journal.base.seq) await this.#join(acknowledgedBy(recovered));
    else await this.#begin(recovered, null, recovered.journal.last.seq > noSeq);
  }

  #journalHandlers(): JournalHandlers {
    const { environment } = this.#options;
    return {
      onDurable: (position) => this.#host?.input({ kind: "journaled", nowMs: environment.clock.nowMs(), position }),
      onFailure: (error) => this.#fail(new DatabaseError("ATOMCAST_DISK", `the journal cannot be written: ${error.message}`, { cause: error })),
    };
  }

  #fail(error: Error): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#host?.stop();
    const waiting = this.#onMember.splice(0);
    // Nothing is lost with an Archive that was not let in: who waits for it is told, and no more.
    if (error instanceof DatabaseError && error.code === "ATOMCAST_FOLDER_TWICE" && waiting.length > 0)
      for (const { failed } of waiting) failed(error);
    else this.#options.onFailure(error);
  }

  /** `source`: of its store, where that was just copied. It may be no member in that yet. */
  async #begin(recovered: RecoveredJournal, source: Endpoint | null, looksForTwin: boolean): Promise<void> {
    const { environment, disk } = this.#options;
    const { network, store, votes, journal } = this.#ports();
    // A journal that ends below the store was cut short by a crash after a transfer, or is damaged there: what is missing is committed, and the
    // store has it. One that has another entry there was not reset yet when the process ended: the tail that it gave up is behind it.
    if (!(await hasPosition(journal, store.position))) await journal.reset(store.position);
    const entries = await readAfter(journal, store.position.seq);
    const catalog = Catalog.load(await store.readCatalog());
    if (this.#stopped) return;
    const damage = recovered.damage !== null && recovered.damage.through > journal.last.seq ? recovered.damage : null;
    if (damage !== null) environment.log("warn", "the journal is damaged; it is repaired from a peer", { ...damage });
    const core = new EngineCore({
      self: { kind: "archive", nodeId: disk.nodeId, nonce: this.#nonce, endpoint: network.endpoint, http: "-", pid: environment.pid },
      catalog,
      position: store.position,
      entries,
      commitSeq: Math.max(store.position.seq, Math.min(recovered.commitSeq, entries.at(-1)?.seq ?? 0)) as Seq,
      founders: disk.founder ? [disk.nodeId] : [],
      term: votes.term,
      votedFor: votes.votedFor,
      repairThrough: damage?.through ?? noSeq,
      votersTarget: this.#options.votersTarget,
      random: environment.random,
      limits: { ...environment.limits, datagramBytesMax: network.datagramBytesMax },
      hasMulticast: network.hasMulticast,
      contacts: [...new Set([...(source === null ? [] : [source]), ...environment.contacts])],
      catalogLimits: environment.catalogLimits,
      memoryBytes: Number.POSITIVE_INFINITY,
      historyMs: this.#options.historyMs,
      looksForTwin,
      nowMs: environment.clock.nowMs(),
    });
    this.#host = new EngineHost(core, {
      environment,
      network,
      journal,
      votes,
      store,
      openServing: (handlers) => disk.openServing(environment.clock, handlers),
      local: null,
      openPast: () => {
        throw new BugError("an Archive has no stores of the past");
      },
      handlers: {
        onAnswer: () => {},
        onVoterRemoved: (request, refusal) => {
          this.#removals.get(request)?.(refusal);
          this.#removals.delete(request);
        },
        onMember: (engine) => {
          for (const { told } of this.#onMember.splice(0)) told(engine);
        },
        onLeft: () => this.#onLeft?.(),
        onStartOver: (reason, needsState) => {
          this.#startOver(reason, needsState).catch((error: unknown) => this.#fail(error as Error));
        },
        onFailure: (error) => this.#fail(error),
        systemTables: () => ({}),
      },
    });
  }

  #ports(): { network: Network; store: StoreWrites; votes: VoteStore; journal: Journal } {
    const [network, store, votes, journal] = [this.#network, this.#store, this.#votes, this.#journal];
    if (network === null || store === null || votes === null || journal === null)
      throw new DatabaseError("ATOMCAST_CLOSED", "the Archive is not open");
    return { network, store, votes, journal };
  }

  #onMessage(from: Endpoint, payload: Buffer, byMulticast: boolean): void {
    if (this.#joining !== null) this.#perform(this.#joining.step({ kind: "message", nowMs: this.#options.environment.clock.nowMs(), from, payload }));
    else this.#host?.onMessage(from, payload, byMulticast);
  }

  #onDisconnected(endpoint: Endpoint): void {
    if (this.#joining !== null) this.#joining.step({ kind: "disconnected", nowMs: this.#options.environment.clock.nowMs(), endpoint });
    else this.#host?.onDisconnected(endpoint);
  }

  /** Seeks a peer and takes in its store. */
  async #join(acknowledged: Acknowledged): Promise<void> {
    const { environment } = this.#options;
    // A store that is too old to go on from still knows who was there.
    const { store } = this.#ports();
    this.#host = null;
    const contacts = contactsOf(environment, store.position.seq === noSeq ? null : Catalog.load(await store.readCatalog()));
    if (this.#stopped) return;
    const joining = new Joining("archive", environment.random, { contacts, acknowledged });
    this.#joining = joining;
    environment.log("info", "seeks an Archive to copy the database from", contacts.length === 0 ? {} : { contacts });
    this.#cancelJoining = environment.clock.every(joinTickMs, () => this.#perform(joining.step({ kind: "tick", nowMs: environment.clock.nowMs() })));
  }

  #perform(effects: readonly JoiningEffect[]): void {
    const network = this.#network;
    for (const effect of effects) {
      if (effect.kind === "multicast") network?.multicast(effect.payload);
      else if (effect.kind === "send" && effect.channel === "datagram") network?.sendDatagram(effect.to, effect.payload);
      else if (effect.kind === "send") network?.sendReliable(effect.to, effect.payload);
      else if (effect.kind === "part")
        this.#installing = this.#installing.then(() => this.#takeIn(effect)).catch((error: unknown) => this.#fail(error as Error));
      else if (effect.kind === "otherVersion")
        this.#options.environment.log("warn", "an engine of this database speaks another format", { ...effect });
    }
  }

  async #takeIn(effect: Extract<JoiningEffect, { kind: "part" }>): Promise<void> {
    if (this.#stopped) return;
    const { store } = this.#ports();
    if (effect.restart && this.#install !== null) {
      await this.#install.abort();
      this.#install = null;
    }
    this.#install ??= await store.beginInstall();
    if (!effect.last) {
      await this.#install.write(effect.part);
      if (this.#joining !== null) this.#perform(this.#joining.step({ kind: "taken", nowMs: this.#options.environment.clock.nowMs() }));
      return;
    }
    await this.#install.finish(effect.position);
    this.#install = null;
    this.#cancelJoining?.();
    const { journal } = this.#ports();
    await journal.reset(effect.position);
    this.#options.environment.log("info", "has copied the database", { seq: effect.position.seq, bytes: this.#joining?.bytes });
    const source = this.#joining?.source ?? null;
    this.#joining = null;
    await this.#begin({ journal, commitSeq: effect.position.seq, damage: null }, source, false);
  }

  /** What the old core had begun to write comes to its end first: the new one begins from what is durable. */
  async #startOver(reason: string, needsState: boolean): Promise<void> {
    const { environment, disk } = this.#options;
    environment.log("warn", "starts over", { reason });
    const { journal, store } = this.#ports();
    await this.#host?.drained();
    await journal.close();
    if (this.#stopped) return;
    const recovered = await disk.openJournal(this.#journalHandlers(), store.position.seq);
    this.#journal = recovered.journal;
    if (needsState) await this.#join(acknowledgedBy(recovered));
    else await this.#begin(recovered, null, false);
  }

  /** Rejects where another process has its folder. */
  whenMember(): Promise<EngineId> {
    const engine = this.core?.engine ?? 0;
    if (engine !== 0) return Promise.resolve(engine as EngineId);
    return new Promise((told, failed) => this.#onMember.push({ told, failed }));
  }

  /** "" when it is committed and applied here, else why not. */
  removeVoter(nodeId: NodeId): Promise<string> {
    const host = this.#host;
    if (host === null) return Promise.resolve("this engine is not up yet");
    const request = this.#nextRemoval++;
    return new Promise((resolve) => {
      this.#removals.set(request, resolve);
      host.input({ kind: "removeVoter", nowMs: this.#options.environment.clock.nowMs(), request, nodeId });
    });
  }

  /** Without a sequencer nobody can order a LEAVE: this may be the last Archive to stop. */
  #giveUpWithoutMajority(giveUp: () => void): void {
    const { clock } = this.#options.environment;
    let aloneSinceMs: number | null = null;
    const cancel = clock.every(aloneMs / 5, () => {
      if (this.#stopped) cancel();
      else if (this.core?.context.sequencer !== null) aloneSinceMs = null;
      else if (aloneSinceMs === null) aloneSinceMs = clock.nowMs();
      else if (clock.nowMs() - aloneSinceMs >= aloneMs) giveUp();
    });
  }

  /** Leaves cleanly: LEAVE applied (or its time over), journal and store closed. */
  async stop(): Promise<void> {
    const { environment, disk } = this.#options;
    if (this.#host !== null && !this.#stopped) {
      await new Promise<void>((resolve) => {
        const cancel = environment.clock.after(leaveTimeoutMs, resolve);
        this.#onLeft = () => {
          cancel();
          resolve();
        };
        this.#host?.input({ kind: "leave", nowMs: environment.clock.nowMs() });
        this.#giveUpWithoutMajority(resolve);
      });
    }
    this.#stopped = true;
    this.#host?.stop();
    await this.#host?.drained();
    this.#cancelJoining?.();
    await this.#network?.close();
    await this.#journal?.close();
    await this.#store?.close();
    await this.#votes?.close();
    await disk.close();
  }
}

/** Of damaged records the term is not known, so that the seq alone decides. */
function acknowledgedBy({ journal, damage }: RecoveredJournal): Acknowledged {
  const { seq, term } = journal.last;
  return damage === null ? { seq, term } : { seq: Math.max(seq, damage.through) as Seq, term: Number.MAX_SAFE_INTEGER as Term };
}

/** Whether the journal goes on from there: what follows in it is of the same history. */
export async function hasPosition(journal: Journal, { seq, hash }: LogPosition): Promise<boolean> {
  if (journal.last.seq < seq) return false;
  if (journal.base.seq >= seq) return journal.base.seq === seq && journal.base.hash === hash;
  const read = await journal.read(seq, 1);
  return read !== "gone" && read[0]?.hash === hash;
}

/** The journal's entries after `seq`: what the store does not have. */
async function readAfter(journal: Journal, seq: Seq): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for (let from = seq + 1; from <= journal.last.seq; ) {
    const read = await journal.read(from as Seq, recoveryReadBytes);
    if (read === "gone" || read.length === 0) break;
    for (const entry of read) entries.push(entry);
    from = (read.at(-1) as LogEntry).seq + 1;
  }
  return entries;
}
