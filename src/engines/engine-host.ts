/**
 * Performs an EngineCore's effects and brings it what happens. Everything that arrives within one event-loop turn is stepped at once; the
 * turn's end is stepped once, so that what it brought becomes one frame, one write, one batch (design.md §3 "Batch everywhere").
 */

import { DatabaseError } from "../base/errors.js";
import type { Endpoint, EngineId, Nonce } from "../base/ids.js";
import type { Network } from "../messages/network/network.js";
import type { SystemTables } from "../sql/local-store.js";
import type { KeptValues, StoreWrites } from "../storage/atom-store.js";
import type { Journal, VoteStore } from "../storage/journal.js";
import type { KeptVersions } from "../storage/row-versions.js";
import type { BatchAnswer, CoreEffect, CoreInput, PastId } from "./core-types.js";
import type { EngineCore } from "./engine-core.js";
import type { Cancel, Environment, LocalHandlers, LocalPort, StorePort, StorePortHandlers } from "./environment.js";
import { JournalTrim } from "./journal-trim.js";

export interface HostHandlers {
  onAnswer(request: number, answer: BatchAnswer): void;
  onVoterRemoved(request: number, refusal: string): void;
  onMember(engine: EngineId): void;
  onLeft(): void;
  /** The core is at its end; the engine makes a new one. */
  onStartOver(reason: string, needsState: boolean): void;
  /** Nothing can go on: a disk that fails, a bug. */
  onFailure(error: Error): void;
  /** Rows of the system tables, where a run's statements name them. */
  systemTables(): SystemTables;
}

export interface HostPorts {
  readonly environment: Environment;
  readonly network: Network;
  readonly handlers: HostHandlers;
  readonly journal: Journal | null;
  readonly votes: VoteStore | null;
  readonly store: StoreWrites | null;
  /** Answers others from the store; closed by `stop`. */
  readonly openServing: ((handlers: StorePortHandlers) => StorePort) | null;
  readonly local: LocalPort | null;
  /** A Cache's stores of the past, beside it. */
  openPast(handlers: LocalHandlers): LocalPort;
}

/** What takes longer than this by nature (heartbeats, silence, batches for the store). Each tick wakes the process. */
const tickMs = 20;
/** While something is due sooner: the repair of a gap, an election, a unit that rests. */
const hastyTickMs = 5;
const probeTimeoutMs = 250;
const journalTrimMs = 10_000;
const versionLookMs = 1000;

export class EngineHost {
  readonly core: EngineCore;
  readonly #ports: HostPorts;
  #turnEnds = false;
  #closed = false;
  #hastyTick: Cancel | null = null;
  readonly #cancels: Cancel[] = [];
  /** Writes under way at the store and the vote file. */
  readonly #writes = new Set<Promise<unknown>>();
  readonly #serving: StorePort | null;
  readonly #trim = new JournalTrim();
  readonly #pasts = new Map<PastId, LocalPort>();
  #closing: Promise<void> | null = null;
  #toldVersions: KeptVersions | null = null;
  #toldValues: KeptValues | null = null;

  constructor(core: EngineCore, ports: HostPorts) {
    this.core = core;
    this.#ports = ports;
    const { clock } = ports.environment;
    this.#serving = ports.openServing?.(this.#servingHandlers()) ?? null;
    this.#cancels.push(clock.every(tickMs, () => this.#tick()));
    if (ports.store !== null) this.#cancels.push(clock.every(versionLookMs, () => this.#tellVersions()));
    if (ports.journal !== null) this.#cancels.push(clock.every(journalTrimMs, () => this.#trimJournal()));
    this.#endTurnSoon();
  }

  /** Stops performing: what the core wants from here on does not happen. Ports stay open. */
  stop(): void {
    this.#closed = true;
    this.#hastyTick?.();
    for (const cancel of this.#cancels) cancel();
    for (const past of [...this.#pasts.keys()]) this.#closePast(past);
    this.#closing ??= this.#serving?.close() ?? null;
  }

  /** After `stop`: when what it had begun to write is written, nobody reads the store for it any more, and its stores of the past are closed. */
  async drained(): Promise<void> {
    await Promise.allSettled([...this.#writes, this.#closing]);
  }

  #servingHandlers(): StorePortHandlers {
    const { network, environment } = this.#ports;
    return {
      onAnswer: (to, payload) => {
        if (!this.#closed) network.sendReliable(to, payload);
      },
      // Keys and cursors are a peer's: what the store cannot read of them must not end this Archive.
      onMalformed: ({ to, kind }, error) => environment.log("warn", "a request could not be read", { from: to, kind, error }),
      onFailure: (error) => this.#fail(error),
    };
  }

  #tick(): void {
    this.input({ kind: "tick", nowMs: this.#nowMs });
  }

  #tickSoonWhereDue(): void {
    if (this.#hastyTick !== null || !this.core.isDueBefore(this.#nowMs + tickMs)) return;
    this.#hastyTick = this.#ports.environment.clock.after(hastyTickMs, () => {
      this.#hastyTick = null;
      this.#tick();
    });
  }

  input(input: CoreInput): void {
    if (this.#closed) return;
    try {
      for (const effect of this.core.step(input)) this.#perform(effect);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#endTurnSoon();
  }

  #endTurnSoon(): void {
    if (this.#turnEnds || this.#closed) return;
    this.#turnEnds = true;
    const { clock } = this.#ports.environment;
    clock.soon(() => {
      this.#turnEnds = false;
      if (this.#closed) return;
      try {
        for (const effect of this.core.step({ kind: "turnEnd", nowMs: clock.nowMs() })) this.#perform(effect);
        this.#ports.local?.flush();
        for (const port of this.#pasts.values()) port.flush();
        this.#tickSoonWhereDue();
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    this.stop();
    this.#ports.handlers.onFailure(error instanceof Error ? error : new Error(String(error)));
  }

  get #nowMs(): number {
    return this.#ports.environment.clock.nowMs();
  }

  onMessage(from: Endpoint, payload: Buffer, byMulticast: boolean): void {
    this.input({ kind: "message", nowMs: this.#nowMs, from, payload, byMulticast });
  }

  onConnected(endpoint: Endpoint, _nonce: Nonce): void {
    this.input({ kind: "connected", nowMs: this.#nowMs, endpoint });
  }

  onDisconnected(endpoint: Endpoint): void {
    this.input({ kind: "disconnected", nowMs: this.#nowMs, endpoint });
  }

  #perform(effect: CoreEffect): void {
    const { network, handlers, environment } = this.#ports;
    switch (effect.kind) {
      case "send":
        if (effect.channel === "datagram") network.sendDatagram(effect.to, effect.payload);
        else network.sendReliable(effect.to, effect.payload);
        return;
      case "multicast":
        network.multicast(effect.payload);
        return;
      case "probe":
        this.#later(network.probe(effect.endpoint, probeTimeoutMs), (alive) => ({
          kind: "probed",
          nowMs: this.#nowMs,
          endpoint: effect.endpoint,
          alive,
        }));
        return;
      case "append":
        this.#ports.journal?.append(effect);
        return;
      case "saveVote": {
        const { term, votedFor } = effect;
        if (this.#ports.votes !== null)
          this.#write(this.#ports.votes.save(term, votedFor), () => ({ kind: "voteSaved", nowMs: this.#nowMs, term, votedFor }));
        return;
      }
      case "readJournal": {
        const { requestId, from, bytesMax } = effect;
        const { journal } = this.#ports;
        if (journal !== null)
          this.#later(journal.read(from, bytesMax), (entries) => ({ kind: "journalRead", nowMs: this.#nowMs, requestId, entries }));
        return;
      }
      case "storeBatch": {
        const { seq } = effect.batch.position;
        if (this.#ports.store !== null) this.#write(this.#ports.store.apply(effect.batch), () => ({ kind: "stored", nowMs: this.#nowMs, seq }));
        return;
      }
      case "serveTransfer":
        if (this.#ports.store !== null) this.#trim.onAsked(effect.to, effect.transfer === 0, this.#ports.store.position.seq, this.#nowMs);
        this.#serving?.ask(effect);
        return;
      case "serveRows":
      case "serveCuts":
        this.#serving?.ask(effect);
        return;
      case "local":
        this.#localPort(effect.past)?.post(
          effect.call.kind === "run" ? { ...effect.call, system: this.#systemTables(effect.call.request.steps) } : effect.call,
        );
        return;
      case "cancelRun":
        this.#localPort(effect.past)?.cancelRun(effect.run);
        return;
      case "openPast":
        this.#openPast(effect.past);
        return;
      case "closePast":
        this.#closePast(effect.past);
        return;
      case "answer":
        handlers.onAnswer(effect.request, effect.answer);
        return;
      case "voterRemoved":
        handlers.onVoterRemoved(effect.request, effect.refusal);
        return;
      case "member":
        handlers.onMember(effect.engine);
        return;
      case "left":
        this.stop();
        handlers.onLeft();
        return;
      case "startOver":
        this.stop();
        handlers.onStartOver(effect.reason, effect.needsState);
        return;
      case "twin": {
        const told = `the Archive at ${effect.endpoint} has this one's data folder, or a copy of it. Stop this one for good; one that is to take part besides begins with an empty folder`;
        this.stop();
        handlers.onFailure(new DatabaseError("ATOMCAST_FOLDER_TWICE", told));
        return;
      }
      case "role":
        environment.log("info", effect.isSequencer ? "is the sequencer" : "follows a sequencer", { sequencer: effect.sequencer, term: effect.term });
        return;
      case "again":
        this.#endTurnSoon();
        return;
      case "log":
        environment.log(effect.level, effect.message, effect.fields);
        return;
    }
  }

  #localPort(past: PastId | null): LocalPort | null {
    return past === null ? this.#ports.local : this.pastPort(past);
  }

  /** null: it is closed. */
  pastPort(past: PastId): LocalPort | null {
    return this.#pasts.get(past) ?? null;
  }

  #openPast(past: PastId): void {
    const port = this.#ports.openPast({
      onReply: (reply) => this.input({ kind: "past", nowMs: this.#nowMs, past, reply }),
      onFailure: (error) => this.#fail(error),
    });
    this.#pasts.set(past, port);
  }

  #closePast(past: PastId): void {
    const closed = this.#pasts.get(past)?.close() ?? Promise.resolve();
    this.#pasts.delete(past);
    this.#writes.add(closed);
    const done = (): void => void this.#writes.delete(closed);
    closed.then(done, (error: unknown) => {
      done();
      this.#fail(error);
    });
  }

  #write<T>(promise: Promise<T>, then: (value: T) => CoreInput): void {
    this.#writes.add(promise);
    const done = (): void => void this.#writes.delete(promise);
    promise.then(done, done);
    this.#later(promise, then);
  }

  #later<T>(promise: Promise<T>, then: (value: T) => CoreInput): void {
    promise.then(
      (value) => this.input(then(value)),
      (error: unknown) => this.#fail(error),
    );
  }

  #systemTables(steps: readonly { readonly sql: string }[]): SystemTables {
    return steps.some((step) => /\bsystem\b|^\s*explain\s+pull\b/i.test(step.sql)) ? this.#ports.handlers.systemTables() : {};
  }

  #tellVersions(): void {
    const { store } = this.#ports;
    if (store === null) return;
    const { versions, values } = store;
    if (versions === this.#toldVersions && values === this.#toldValues) return;
    this.#toldVersions = versions;
    this.#toldValues = values;
    this.input({ kind: "versions", nowMs: this.#nowMs, versions, values });
  }

  #trimJournal(): void {
    const { store, journal } = this.#ports;
    if (store === null || journal === null) return;
    const through = this.#trim.through(store, journal, this.#nowMs);
    if (through > journal.base.seq) journal.removeThrough(through).catch((error: unknown) => this.#fail(error));
  }
}
