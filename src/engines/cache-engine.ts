/**
 * A Cache engine from nothing to its LEAVE: takes the root catalog from an Archive, follows the stream, and serves SQL from its local store. Where it
 * was taken for dead, or its store failed, it starts over: a new member with an empty store, in the same process.
 */

import { DatabaseError } from "../base/errors.js";
import { type Endpoint, type EngineId, type Nonce, noEngine, noNode, noSeq, noTerm, type SpaceId } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import { Catalog } from "../catalog/catalog.js";
import type { Network } from "../messages/network/network.js";
import type { AsOf, Description, SessionSettings, SqlFault, Step } from "../sql/local-store.js";
import { splitScript } from "../sql/parse/split-script.js";
import type { BatchAnswer } from "./core-types.js";
import type { Database, Session, Status } from "./database.js";
import { EngineCore } from "./engine-core.js";
import { EngineHost } from "./engine-host.js";
import type { Cancel, Environment, LocalHandlers, LocalPort } from "./environment.js";
import { type FirstRead, firstRead } from "./first-read.js";
import { contactsOf, Joining, type JoiningEffect } from "./joining.js";
import { CacheSession } from "./session.js";
import type { EngineSetting } from "./setting-rows.js";
import { statusOf, systemTablesOf } from "./system-tables.js";

export interface CacheOptions {
  readonly environment: Environment;
  readonly database: string;
  readonly clusterId: string;
  /** Of rows that it holds, in bytes: beyond it the coldest atoms are given up. Infinity: none ever is. */
  readonly memoryBytes: number;
  /** How it was started. */
  readonly settings: readonly EngineSetting[];
  /** `isPast`: for reads of the past, beside the local store. */
  openLocal(handlers: LocalHandlers, isPast: boolean): LocalPort;
  readonly onFailure: (error: Error) => void;
}

/** A batch that was handed to the engine. */
export interface Running {
  readonly request: number;
  readonly answered: Promise<BatchAnswer>;
}

const leaveTimeoutMs = 5000;
const joinTickMs = 20;
/** Shorter than what `atomcast remove` waits, so that its user is told why. */
const removalTimeoutMs = 5000;

export class CacheEngine implements Database {
  readonly #options: CacheOptions;
  #nonce: Nonce;
  #network: Network | null = null;
  #local: LocalPort | null = null;
  #host: EngineHost | null = null;
  #joining: Joining | null = null;
  #cancelJoining: Cancel | null = null;
  #stopped = false;
  /** Where its clients reach it, or "-"; told to the other engines. */
  #http = "-";
  readonly #answers = new Map<number, (answer: BatchAnswer) => void>();
  #nextRequest = 1;
  /** Its engine id once its local store answers too; 0 before. */
  #servesAs: EngineId = noEngine;
  #whenMember: ((engine: EngineId) => void)[] = [];
  #onLeft: (() => void) | null = null;
  readonly #removals = new Map<number, (refusal: string) => void>();

  constructor(options: CacheOptions) {
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

  get http(): string | null {
    return this.#http === "-" ? null : this.#http;
  }

  /** Before `start`: the URL that its clients use. */
  servesAt(url: string): void {
    this.#http = url;
  }

  /** Whether anybody of the database has been heard. */
  get heardAnyone(): boolean {
    return this.#host !== null || this.#joining?.heardAnyone === true;
  }

  async start(): Promise<void> {
    this.#network = await this.#options.environment.openNetwork(this.#nonce, {
      onDatagram: (from, _nonce, payload, byMulticast) => this.#onMessage(from, payload, byMulticast),
      onReliable: (from, _nonce, payload) => this.#onMessage(from, payload, false),
      onConnected: (endpoint, nonce) => this.#host?.onConnected(endpoint, nonce),
      onDisconnected: (endpoint) => this.#onDisconnected(endpoint),
    });
    this.#join();
  }

  #join(): void {
    const { environment } = this.#options;
    const contacts = contactsOf(environment, this.#host?.core.catalog ?? null);
    this.#host = null;
    this.#servesAs = noEngine;
    // Its thread starts while the database is sought.
    this.#local = this.#openLocal();
    const joining = new Joining("cache", environment.random, { contacts, catalogPartBytes: environment.catalogLimits.partBytes });
    this.#joining = joining;
    this.#cancelJoining?.();
    this.#cancelJoining = environment.clock.every(joinTickMs, () => this.#perform(joining.step({ kind: "tick", nowMs: environment.clock.nowMs() })));
    this.#perform(joining.step({ kind: "tick", nowMs: environment.clock.nowMs() }));
  }

  #perform(effects: readonly JoiningEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "multicast") this.#network?.multicast(effect.payload);
      else if (effect.kind === "send" && effect.channel === "datagram") this.#network?.sendDatagram(effect.to, effect.payload);
      else if (effect.kind === "send") this.#network?.sendReliable(effect.to, effect.payload);
      else if (effect.kind === "catalog") this.#begin(effect.position, effect.records);
      else if (effect.kind === "otherVersion")
        this.#options.environment.log("warn", "an engine of this database speaks another format", { ...effect });
    }
  }

  #begin(position: LogPosition, records: ReadonlyMap<string, Uint8Array>): void {
    const { environment } = this.#options;
    const source = this.#joining?.source ?? null;
    this.#cancelJoining?.();
    const network = this.#network;
    const local = this.#local;
    if (this.#stopped || network === null || local === null) return;
    const catalog = Catalog.load(records);
    const schema = catalog.schema
      .inOrder()
      .map(({ object, version }) => ({ object, version: catalog.schema.tables.get(object.space)?.version ?? version }));
    local.post({ kind: "reset", seq: position.seq, schema, isPast: false });
    local.flush();
    const core = new EngineCore({
      self: { kind: "cache", nodeId: noNode, nonce: this.#nonce, endpoint: network.endpoint, http: this.#http, pid: environment.pid },
      catalog,
      position,
      entries: [],
      commitSeq: position.seq,
      founders: [],
      term: noTerm,
      votedFor: noNode,
      repairThrough: noSeq,
      votersTarget: 0,
      random: environment.random,
      limits: { ...environment.limits, datagramBytesMax: network.datagramBytesMax },
      hasMulticast: network.hasMulticast,
      // Whom it has its catalogs from may be no member in them yet.
      contacts: [...new Set([...(source === null ? [] : [source]), ...environment.contacts])],
      catalogLimits: environment.catalogLimits,
      memoryBytes: this.#options.memoryBytes,
      historyMs: null,
      looksForTwin: false,
      nowMs: environment.clock.nowMs(),
    });
    this.#joining = null;
    const host = new EngineHost(core, {
      environment,
      network,
      journal: null,
      votes: null,
      store: null,
      openServing: null,
      local,
      openPast: (handlers) => this.#options.openLocal(handlers, true),
      handlers: {
        onAnswer: (request, answer) => this.#answered(request, answer),
        onVoterRemoved: (request, refusal) => {
          this.#removals.get(request)?.(refusal);
          this.#removals.delete(request);
        },
        onMember: (engine) => this.#becameMember(engine, local),
        onLeft: () => this.#onLeft?.(),
        onStartOver: (reason) => this.#startOver(reason),
        onFailure: (error) => this.#fail(error),
        systemTables: () => systemTablesOf(core, this.#options.settings),
      },
    });
    this.#host = host;
  }

  #openLocal(): LocalPort {
    const { environment, openLocal } = this.#options;
    const handlers: LocalHandlers = {
      onReply: (reply) => {
        if (local === this.#local) this.#host?.input({ kind: "local", nowMs: environment.clock.nowMs(), reply });
      },
      onFailure: (error) => this.#fail(error),
    };
    const local = openLocal(handlers, false);
    return local;
  }

  /** Who says that it is ready should answer at once: any question, behind all that the store has to do first. Where it fails, the engine does. */
  #becameMember(engine: EngineId, local: LocalPort): void {
    const tell = (): void => {
      if (local !== this.#local) return;
      this.#servesAs = engine;
      for (const told of this.#whenMember.splice(0)) told(engine);
    };
    local.describe("select 1", null).then(tell, () => {});
  }

  #fail(error: Error): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#host?.stop();
    this.#failRequests("ATOMCAST_UNAVAILABLE", error.message);
    this.#options.onFailure(error);
  }

  #failRequests(code: string, message: string): void {
    for (const request of [...this.#answers.keys()]) this.#answered(request, { kind: "failed", code, message });
  }

  #startOver(reason: string): void {
    this.#options.environment.log("warn", "starts over", { reason });
    const local = this.#local;
    this.#local = null;
    local?.close().catch((error: unknown) => this.#fail(error as Error));
    this.#failRequests("ATOMCAST_OUTCOME_UNKNOWN", `outcome unknown: ${reason}`);
    if (!this.#stopped) this.#join();
  }

  #onMessage(from: Endpoint, payload: Buffer, byMulticast: boolean): void {
    if (this.#joining !== null) this.#perform(this.#joining.step({ kind: "message", nowMs: this.#options.environment.clock.nowMs(), from, payload }));
    else this.#host?.onMessage(from, payload, byMulticast);
  }

  #onDisconnected(endpoint: Endpoint): void {
    this.#joining?.step({ kind: "disconnected", nowMs: this.#options.environment.clock.nowMs(), endpoint });
    this.#host?.onDisconnected(endpoint);
  }

  #answered(request: number, answer: BatchAnswer): void {
    const resolve = this.#answers.get(request);
    this.#answers.delete(request);
    resolve?.(answer);
  }

  /** Carries out a batch; sessions call it. `open`: the transaction that their last batch left open. */
  run(steps: readonly Step[], settings: SessionSettings, open: number | null): Running {
    const host = this.#host;
    const request = this.#nextRequest++;
    if (host === null || this.#stopped) {
      const message = "this engine is joining the database; try again";
      return { request, answered: Promise.resolve({ kind: "failed", code: "ATOMCAST_UNAVAILABLE", message }) };
    }
    const answered = new Promise<BatchAnswer>((resolve) => {
      this.#answers.set(request, resolve);
      host.input({ kind: "batch", nowMs: this.#options.environment.clock.nowMs(), request, steps, settings, open });
    });
    return { request, answered };
  }

  /** Nobody waits for the batch's answer any more. It has one all the same. */
  cancel(request: number): void {
    this.#host?.input({ kind: "cancel", nowMs: this.#options.environment.clock.nowMs(), request });
  }

  /** A session that ends leaves nothing open. */
  endTransaction(transaction: number): void {
    this.#host?.input({ kind: "endTransaction", nowMs: this.#options.environment.clock.nowMs(), transaction });
  }

  split(script: string): readonly string[] | SqlFault {
    return splitScript(script);
  }

  /** `asOf`: of a session that reads the past, and has just done so; left out: it reads the present. */
  async describe(sql: string, transaction: number | null, asOf?: AsOf): Promise<Description | SqlFault> {
    const past = asOf === undefined ? undefined : this.core?.cache?.past.storeOf(asOf);
    const port = asOf === undefined ? this.#local : past === undefined ? null : (this.#host?.pastPort(past.id) ?? null);
    if (port === null || this.#host === null) throw new DatabaseError("ATOMCAST_UNAVAILABLE", "this engine is joining the database; try again");
    return port.describe(sql, transaction);
  }

  openSession(): Session {
    return new CacheSession(this);
  }

  /** Order-independent hash of a table's rows, where it is held whole: equal on all engines at one seq. */
  async tableHash(space: SpaceId): Promise<string | null> {
    return this.#local === null || this.#host === null ? null : this.#local.tableHash(space);
  }

  async status(): Promise<Status> {
    const core = this.core;
    if (core === null) throw new DatabaseError("ATOMCAST_UNAVAILABLE", "this engine is joining the database; try again");
    return statusOf(core, this.#options.database, this.#options.clusterId);
  }

  /** What its clients are likely to ask first, drawn anew each time; null: there is nothing to read. */
  firstRead(): FirstRead | null {
    const core = this.core;
    return core === null ? null : firstRead(core.catalog, this.#options.environment.random);
  }

  get archiveCount(): number {
    return this.core?.context.archives().length ?? 0;
  }

  /** "" when it is ordered, else why not. */
  removeVoter(nodeId: number): Promise<string> {
    const host = this.#host;
    if (host === null) return Promise.resolve("this engine is joining the database; try again");
    const request = this.#nextRequest++;
    return new Promise((resolve) => {
      // The request, its sequencer, or the reply may be lost; nobody asks again by himself.
      const cancel = this.#options.environment.clock.after(removalTimeoutMs, () => {
        this.#removals.delete(request);
        resolve("the sequencer has not answered; look at the status before trying again");
      });
      this.#removals.set(request, (refusal) => {
        cancel();
        resolve(refusal);
      });
      host.input({ kind: "removeVoter", nowMs: this.#options.environment.clock.nowMs(), request, nodeId: nodeId as typeof noNode });
    });
  }

  whenMember(): Promise<EngineId> {
    if (this.#servesAs !== noEngine) return Promise.resolve(this.#servesAs);
    return new Promise((resolve) => this.#whenMember.push(resolve));
  }

  /** Leaves cleanly: what is under way ends or fails, LEAVE applied (or its time over), the local store is thrown away. */
  async stop(): Promise<void> {
    const { environment } = this.#options;
    const host = this.#host;
    if (host !== null && !this.#stopped) {
      await new Promise<void>((resolve) => {
        const cancel = environment.clock.after(leaveTimeoutMs, resolve);
        this.#onLeft = () => {
          cancel();
          resolve();
        };
        host.input({ kind: "leave", nowMs: environment.clock.nowMs() });
      });
    }
    this.#stopped = true;
    this.#host?.stop();
    this.#cancelJoining?.();
    this.#failRequests("ATOMCAST_UNAVAILABLE", "the engine is stopping");
    await this.#network?.close();
    await this.#local?.close();
    await this.#host?.drained();
  }
}
