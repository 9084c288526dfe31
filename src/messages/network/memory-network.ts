/**
 * The network's twin for the simulator: many networks on one fabric, in virtual time. Nothing happens but in `due(nowMs)`, in an order that
 * the seed alone decides: no timers, no sockets.
 *
 * Datagrams are lost, duplicated, delayed and overtaken as the conditions say. Connections behave as TCP's do:
 *
 * | event                            | datagrams                       | connections                                                     |
 * |----------------------------------|---------------------------------|-----------------------------------------------------------------|
 * | `cut` (one way)                  | that way lost                   | that way held; both sides end it when it lasts `cutBreaksAfterMs` |
 * | `heal`                           |                                 | what was held goes on, in order                                 |
 * | `pause` (a stopped process)      | kept up to a bound, then lost   | held, for as long as it lasts; a probe succeeds                 |
 * | `resume`                         | kept ones are delivered         | what was held goes on                                           |
 * | `kill`, `close`                  | to it lost; its own still fly   | peers are told after a delay; what has not arrived by then is lost |
 * | `kill` behind a cut              |                                 | peers are told when the cut is healed, or breaks it             |
 *
 * Two sides that open at once share one connection from the start: who opens it is no matter of timing here (connection-choice.ts is tested
 * by itself).
 */
import { assert } from "../../base/errors.js";
import type { Endpoint } from "../../base/ids.js";
import { loopbackFrameBytesMax } from "../../base/limits.js";
import type { Random } from "../../base/random.js";
import { messageBytesMax, queueBytesMax } from "./frame-codec.js";
import { MemoryConnections } from "./memory-connections.js";
import { EventQueue } from "./memory-event-queue.js";
import { calmConditions, type FabricConditions, type MemoryNetworkOptions, type MemoryProcess } from "./memory-fabric-types.js";
import type { Network, NetworkHandlers } from "./network.js";
import { SelfDelivery } from "./self-delivery.js";

/** Datagrams kept for a paused process: what a receive buffer of 4 MiB holds of small ones. */
const pausedDatagramsMax = 4096;

export class MemoryFabric {
  readonly #random: Random;
  readonly #events = new EventQueue();
  readonly #processes = new Map<Endpoint, MemoryProcess>();
  readonly #cuts = new Map<string, number>();
  readonly #connections: MemoryConnections;
  #conditions: FabricConditions;
  #nowMs = 0;

  constructor(random: Random, conditions: FabricConditions = calmConditions) {
    this.#random = random;
    this.#conditions = conditions;
    this.#connections = new MemoryConnections({
      conditions: () => this.#conditions,
      delayMs: () => this.#delayMs(),
      after: (delayMs, act) => this.#after(delayMs, act),
      nowMs: () => this.#nowMs,
      isCut: (from, to) => this.#isCut(from, to),
      process: (endpoint) => this.#living(endpoint),
    });
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  set conditions(conditions: FabricConditions) {
    this.#conditions = conditions;
  }

  get conditions(): FabricConditions {
    return this.#conditions;
  }

  /** When the next thing happens; null: never, unless somebody sends. */
  nextDueMs(): number | null {
    return this.#events.nextAtMs();
  }

  /** Lets everything happen that is due, in order of time; time goes on to `nowMs`, and never back. */
  due(nowMs: number): void {
    assert(nowMs >= this.#nowMs, "virtual time goes forward only");
    for (let event = this.#events.takeDue(nowMs); event !== null; event = this.#events.takeDue(nowMs)) {
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      event.act();
    }
    this.#nowMs = nowMs;
  }

  /** A new process. Its endpoint may be that of one that has been killed or closed. */
  open(options: MemoryNetworkOptions): Network {
    assert(this.#living(options.endpoint) === null, `${options.endpoint} is in use`);
    const counters = { datagramsSent: 0, datagramsReceived: 0, bytesSent: 0, bytesReceived: 0, datagramsRefused: 0, kernelDrops: 0 };
    const process: MemoryProcess = { options, counters, group: options.group, alive: true, paused: false, resuming: false, kept: [] };
    this.#processes.set(options.endpoint, process);
    return this.#networkOf(process);
  }

  /** Nothing passes from one to the other any more; the other way is another cut. */
  cut(from: Endpoint, to: Endpoint): void {
    const name = pairName(from, to);
    if (from === to || this.#cuts.has(name)) return;
    this.#cuts.set(name, this.#nowMs);
    const since = this.#nowMs;
    this.#after(this.#conditions.cutBreaksAfterMs, () => {
      if (this.#cuts.get(name) === since) this.#connections.breakPair(from, to, "the network is cut");
    });
  }

  heal(from: Endpoint, to: Endpoint): void {
    if (this.#cuts.delete(pairName(from, to))) this.#connections.onHeal(from, to);
  }

  healAll(): void {
    for (const name of [...this.#cuts.keys()]) {
      const [from, to] = name.split(">") as [Endpoint, Endpoint];
      this.heal(from, to);
    }
  }

  /** The process stops, and keeps its sockets: who steps its engine must stop that too. */
  pause(endpoint: Endpoint): void {
    const process = this.#living(endpoint);
    if (process === null) return;
    process.paused = true;
    process.resuming = false;
  }

  resume(endpoint: Endpoint): void {
    const process = this.#living(endpoint);
    if (process === null || !process.paused) return;
    process.resuming = true;
    this.#after(0, () => this.#goOn(process));
  }

  /** From now on its multicast reaches those of that group, and theirs it; null: nobody, though it goes on sending. */
  setGroup(endpoint: Endpoint, group: string | null): void {
    const process = this.#living(endpoint);
    if (process !== null) process.group = group;
  }

  /** In one event, so that nothing newer reaches the process before what was kept for it. */
  #goOn(process: MemoryProcess): void {
    if (!process.resuming) return; // paused again, or gone on already
    process.resuming = false;
    process.paused = false;
    for (const deliver of process.kept.splice(0)) deliver();
    this.#connections.onResume(process.options.endpoint);
  }

  /** The process is gone, without a word to its handlers. */
  kill(endpoint: Endpoint): void {
    const process = this.#living(endpoint);
    if (process === null) return;
    process.alive = false;
    process.kept = [];
    this.#processes.delete(endpoint);
    this.#connections.onGone(endpoint);
  }

  #isCut(from: Endpoint, to: Endpoint): boolean {
    return this.#cuts.size > 0 && this.#cuts.has(pairName(from, to));
  }

  #living(endpoint: Endpoint): MemoryProcess | null {
    return this.#processes.get(endpoint) ?? null;
  }

  #after(delayMs: number, act: () => void): void {
    this.#events.add(this.#nowMs + delayMs, act);
  }

  #delayMs(): number {
    const { delayMsMin, delayMsMax } = this.#conditions;
    return delayMsMin + this.#random.integer(Math.round((delayMsMax - delayMsMin) * 1000) + 1) / 1000;
  }

  #happens(perMille: number): boolean {
    return perMille > 0 && this.#random.integer(1000) < perMille;
  }

  #networkOf(process: MemoryProcess): Network {
    const { endpoint, nonce, datagramBytesMax = loopbackFrameBytesMax } = process.options;
    const limits = { datagramBytesMax, messageBytesMax, queueBytesMax };
    const self = new SelfDelivery(endpoint, nonce, guarded(process), limits, (deliver) => this.#after(0, () => this.#whenAwake(process, deliver)));
    const checkSize = (payload: Uint8Array): void =>
      assert(payload.length <= datagramBytesMax, `a datagram of ${payload.length} bytes, above ${datagramBytesMax}`);
    return {
      endpoint,
      datagramBytesMax,
      counters: process.counters,
      sendDatagram: (to, payload) => {
        checkSize(payload);
        if (to === endpoint) self.sendDatagram(payload);
        else this.#sendDatagram(process, to, Buffer.from(payload), false);
      },
      hasMulticast: process.options.group !== null,
      multicast: (payload) => {
        checkSize(payload);
        this.#multicast(process, payload);
      },
      sendReliable: (to, payload) => {
        assert(payload.length <= messageBytesMax, `a message of ${payload.length} bytes, above ${messageBytesMax}`);
        if (!process.alive) return false;
        return to === endpoint ? self.sendReliable(payload) : this.#connections.send(process, to, payload, queueBytesMax);
      },
      queuedBytes: (to) => (to === endpoint ? self.queuedBytes : this.#connections.queuedBytes(endpoint, to)),
      probe: (to, timeoutMs) => this.#probe(endpoint, to, timeoutMs),
      disconnect: (to) => this.#connections.disconnect(process, to),
      close: () => {
        if (process.alive) this.kill(endpoint);
        return Promise.resolve();
      },
    };
  }

  #multicast(process: MemoryProcess, payload: Uint8Array): void {
    if (!process.alive || process.options.group === null) return;
    process.counters.datagramsSent++;
    process.counters.bytesSent += payload.length;
    for (const other of this.#processes.values()) {
      if (other === process || other.group === null || other.group !== process.group) continue;
      this.#sendDatagram(process, other.options.endpoint, Buffer.from(payload), true);
    }
  }

  #sendDatagram(process: MemoryProcess, to: Endpoint, payload: Buffer, byMulticast: boolean): void {
    if (!process.alive) return;
    if (!byMulticast) {
      process.counters.datagramsSent++;
      process.counters.bytesSent += payload.length;
    }
    const { lossPerMille, duplicatePerMille, reorderPerMille, reorderDelayMs } = this.#conditions;
    if (this.#happens(lossPerMille)) return;
    const copies = this.#happens(duplicatePerMille) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = this.#delayMs() + (this.#happens(reorderPerMille) ? reorderDelayMs : 0);
      const one = copy === 0 ? payload : Buffer.from(payload);
      this.#after(delayMs, () => this.#arrive(process.options, to, one, byMulticast));
    }
  }

  #arrive(from: MemoryNetworkOptions, to: Endpoint, payload: Buffer, byMulticast: boolean): void {
    const receiver = this.#living(to);
    if (receiver === null || this.#isCut(from.endpoint, to)) return;
    if (receiver.options.clusterId !== from.clusterId || !receiver.options.secret.equals(from.secret)) {
      receiver.counters.datagramsRefused++;
      return;
    }
    this.#whenAwake(receiver, () => {
      receiver.counters.datagramsReceived++;
      receiver.counters.bytesReceived += payload.length;
      receiver.options.handlers.onDatagram(from.endpoint, from.nonce, payload, byMulticast);
    });
  }

  #whenAwake(process: MemoryProcess, deliver: () => void): void {
    if (!process.alive) return;
    if (!process.paused) deliver();
    else if (process.kept.length < pausedDatagramsMax) process.kept.push(() => this.#whenAwake(process, deliver));
    else process.counters.kernelDrops++;
  }

  #probe(from: Endpoint, to: Endpoint, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#after(timeoutMs, () => resolve(false));
      this.#after(this.#delayMs(), () => {
        if (this.#isCut(from, to)) return; // lost: the time limit decides
        const there = this.#living(to) !== null;
        this.#after(this.#delayMs(), () => {
          if (!this.#isCut(to, from)) resolve(there);
        });
      });
    });
  }
}

function guarded(process: MemoryProcess): NetworkHandlers {
  const { handlers } = process.options;
  return {
    onDatagram: (from, nonce, payload, byMulticast) => process.alive && handlers.onDatagram(from, nonce, payload, byMulticast),
    onReliable: (from, nonce, payload) => process.alive && handlers.onReliable(from, nonce, payload),
    onConnected: (endpoint, nonce) => process.alive && handlers.onConnected(endpoint, nonce),
    onDisconnected: (endpoint, reason) => process.alive && handlers.onDisconnected(endpoint, reason),
  };
}

function pairName(from: Endpoint, to: Endpoint): string {
  return `${from}>${to}`;
}
