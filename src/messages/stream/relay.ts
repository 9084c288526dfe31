/**
 * The giving end of the relay tree: an engine sends what it hears of the stream to those that have subscribed to it lately, and to nobody else. The
 * computed tree (relay-tree.ts) says whom to ask (sources.ts); who is sent to, the subscriptions alone decide, so that engines whose trees differ
 * are served all the same.
 *
 * | label     | what comes                                        | what it does                                                        |
 * |-----------|---------------------------------------------------|---------------------------------------------------------------------|
 * | forward   | a relayed frame of its term, number not seen yet  | sends the same bytes to all subscribers within the turn, takes the frame |
 * | island    | the same, by unicast, and somebody wants multicast | multicasts it besides                                              |
 * | duplicate | a number that it has seen, or one far behind      | drops it: so no circle of subscriptions can turn                    |
 * | stale     | a relayed frame of an older term                  | drops it, and tells its sequencer the term                          |
 * | taken     | a subscription, and there is room                 | sends to it until the time that it names                            |
 * | full      | a subscription beyond the bound                   | refuses, and names those that it sends to: they may have room       |
 * | voter     | a voter's subscription at the sequencer           | takes it always                                                     |
 */
import type { Endpoint, Term } from "../../base/ids.js";
import { ReplayWindow } from "../../base/replay-window.js";
import { insteadMax, type RelayedMessage, type StreamMessage, type SubscribeMessage } from "../wire/stream-messages.js";

/**
 * Engines that one engine sends to at most, voters at the sequencer left out. Twice what the tree gives it: room for the children of a sibling, or of
 * a child, that has died.
 */
export const subscribersMax = 8;

/** A subscription is for so many heartbeats, and renewed three times meanwhile: two lost datagrams do no harm. */
export const subscriptionHeartbeats = 12;

export interface RelayHost {
  readonly self: Endpoint;
  readonly heartbeatMs: number;
  readonly hasMulticast: boolean;
  term(): Term;
  /** A voter there, and this engine is the sequencer. */
  servesVoter(endpoint: Endpoint): boolean;
  send(to: Endpoint, message: StreamMessage): void;
  sendDatagram(to: Endpoint, payload: Buffer): void;
  multicast(payload: Buffer): void;
}

export class Relay {
  readonly #host: RelayHost;
  /** Until when each is sent to. */
  readonly #subscribers = new Map<Endpoint, number>();
  #multicastUntilMs = Number.NEGATIVE_INFINITY;
  #term: Term | null = null;
  #window = new ReplayWindow();

  constructor(host: RelayHost) {
    this.#host = host;
  }

  /** Whether it is taken. */
  onSubscribe(from: Endpoint, { forMs, multicast }: SubscribeMessage, nowMs: number): boolean {
    const untilMs = nowMs + Math.min(forMs, subscriptionHeartbeats * this.#host.heartbeatMs);
    if (multicast) {
      if (!this.#host.hasMulticast) return this.#refuse(from, nowMs);
      if (untilMs > this.#multicastUntilMs) this.#multicastUntilMs = untilMs;
      return true;
    }
    if (forMs === 0) return this.#subscribers.delete(from);
    const isTaken = this.#subscribers.has(from) || this.#hasRoom(nowMs) || this.#host.servesVoter(from);
    if (!isTaken) return this.#refuse(from, nowMs);
    this.#subscribers.set(from, untilMs);
    return true;
  }

  /** Somebody has asked for its multicast lately. */
  multicasts(nowMs: number): boolean {
    return this.#multicastUntilMs > nowMs;
  }

  #hasRoom(nowMs: number): boolean {
    return this.subscribers(nowMs).filter((endpoint) => !this.#host.servesVoter(endpoint)).length < subscribersMax;
  }

  #refuse(from: Endpoint, nowMs: number): false {
    const instead = this.subscribers(nowMs).slice(0, insteadMax);
    this.#host.send(from, { kind: "subscribeRefusal", term: this.#host.term(), instead });
    return false;
  }

  onDisconnected(endpoint: Endpoint): void {
    this.#subscribers.delete(endpoint);
  }

  /** Who is sent to. */
  subscribers(nowMs: number): readonly Endpoint[] {
    for (const [endpoint, untilMs] of this.#subscribers) if (untilMs <= nowMs) this.#subscribers.delete(endpoint);
    return [...this.#subscribers.keys()];
  }

  /** Whether the message is new here; then it has been passed on. Its term is the own one. `payload`: the message's bytes. */
  take(from: Endpoint, message: RelayedMessage, payload: Buffer, byMulticast: boolean, nowMs: number): boolean {
    if (message.term !== this.#term) {
      this.#term = message.term;
      this.#window = new ReplayWindow();
    }
    if (message.origin === this.#host.self || !this.#window.accepts(message.number)) return false;
    this.#window.take(message.number);
    for (const endpoint of this.subscribers(nowMs)) {
      if (endpoint !== from && endpoint !== message.origin) this.#host.sendDatagram(endpoint, payload);
    }
    if (!byMulticast && this.multicasts(nowMs)) this.#host.multicast(payload);
    return true;
  }
}
