/**
 * One engine's end of the relay tree (relay-tree.ts): from whom it hears the stream (sources.ts), whom it sends to (relay.ts), and what has gone over each
 * of its links.
 */
import { MalformedBytesError } from "../../base/bytes.js";
import type { Endpoint, Term } from "../../base/ids.js";
import type { Random } from "../../base/random.js";
import {
  decodeStreamMessage,
  encodeStreamMessage,
  type FrameMessage,
  type RelayedMessage,
  type StreamMessage,
  type SubscribedMessage,
  type SubscribeMessage,
  type SubscribeRefusal,
} from "../wire/stream-messages.js";
import { Links } from "./links.js";
import { Relay } from "./relay.js";
import type { TreeEngine } from "./relay-tree.js";
import { segment } from "./repair-server.js";
import { Sources } from "./sources.js";
import type { StreamEffect, TreePlace } from "./stream-node-types.js";

export interface TreeHost {
  readonly self: Endpoint;
  readonly heartbeatMs: number;
  readonly hasMulticast: boolean;
  readonly random: Random;
  nowMs(): number;
  term(): Term;
  /** Whom this engine takes for the sequencer; itself among others. */
  sequencer(): Endpoint | null;
  isVoter(): boolean;
  /** A voter there, and this engine is the sequencer. */
  servesVoter(endpoint: Endpoint): boolean;
  push(effect: StreamEffect): void;
}

export class TreeEnd {
  readonly #host: TreeHost;
  readonly #relay: Relay;
  readonly #sources: Sources;
  readonly #links = new Links();

  constructor(host: TreeHost) {
    this.#host = host;
    const { self, heartbeatMs, hasMulticast, random } = host;
    this.#relay = new Relay({
      self,
      heartbeatMs,
      hasMulticast,
      term: () => host.term(),
      servesVoter: (endpoint) => host.servesVoter(endpoint),
      send: (to, message) => this.#send(to, "datagram", message),
      sendDatagram: (to, payload) => {
        this.onSent(to);
        host.push({ kind: "send", to, channel: "datagram", payload });
      },
      multicast: (payload) => host.push({ kind: "multicast", payload }),
    });
    this.#sources = new Sources(
      {
        self,
        heartbeatMs,
        hasMulticast,
        random,
        isVoter: () => host.isVoter(),
        sequencer: () => (host.sequencer() === self ? null : host.sequencer()),
        subscribe: (to, forMs, multicast, opens) => this.#subscribe(to, forMs, multicast, opens),
      },
      host.nowMs(),
    );
  }

  #send(to: Endpoint, channel: "datagram" | "reliable", message: StreamMessage): void {
    this.#host.push({ kind: "send", to, channel, payload: encodeStreamMessage(message) });
  }

  #subscribe(to: Endpoint, forMs: number, multicast: boolean, opens: boolean): void {
    const message: SubscribeMessage = { kind: "subscribe", term: this.#host.term(), forMs, multicast, atUs: Math.round(this.#host.nowMs() * 1000) };
    this.#send(to, "datagram", message);
    if (opens) this.#send(to, "reliable", message);
  }

  get place(): TreePlace {
    const { by, parent } = this.#sources;
    return { by, parent, children: this.subscribers, multicasts: this.#relay.multicasts(this.#host.nowMs()), links: this.#links.all() };
  }

  /** Whom to ask for what was lost, before the sequencer; null: nobody better. */
  get parent(): Endpoint | null {
    return this.#sources.parent;
  }

  /** null: not known, or it sends by multicast. */
  get parentRoundTripMs(): number | null {
    const { by, parent } = this.#sources;
    return by === "unicast" && parent !== null ? this.#links.of(parent).roundTripMs : null;
  }

  /** Who hears the stream from here. */
  get below(): readonly (Endpoint | typeof segment)[] {
    return this.#relay.multicasts(this.#host.nowMs()) ? [...this.subscribers, segment] : this.subscribers;
  }

  get subscribers(): readonly Endpoint[] {
    return this.#relay.subscribers(this.#host.nowMs());
  }

  tick(): void {
    this.#sources.tick(this.#host.nowMs());
  }

  /** The sequencer hears from itself. */
  stop(): void {
    this.#sources.stop();
  }

  onEngines(engines: readonly TreeEngine[], contacts: readonly Endpoint[]): void {
    this.#sources.onEngines(engines, contacts);
  }

  onNear(endpoint: Endpoint): void {
    this.#sources.onNear(endpoint, this.#host.nowMs());
  }

  /** A frame of the term's sequencer, by its multicast. */
  onRoot(from: Endpoint): void {
    this.#sources.onRoot(this.#host.nowMs());
    this.#links.of(from).frames++;
  }

  onDisconnected(endpoint: Endpoint): void {
    this.#relay.onDisconnected(endpoint);
    this.#sources.onDisconnected(endpoint, this.#host.nowMs());
  }

  onSubscribe(from: Endpoint, message: SubscribeMessage): void {
    const isTaken = this.#relay.onSubscribe(from, message, this.#host.nowMs());
    if (isTaken && message.forMs > 0) this.#send(from, "datagram", { kind: "subscribed", term: this.#host.term(), atUs: message.atUs });
  }

  onSubscribed(from: Endpoint, { atUs }: SubscribedMessage): void {
    this.#links.of(from).roundTripMs = Math.max(0, this.#host.nowMs() - atUs / 1000);
  }

  onRefusal(from: Endpoint, { instead }: SubscribeRefusal): void {
    this.#sources.onRefusal(from, instead, this.#host.nowMs());
  }

  /** A live frame that went there by unicast. */
  onSent(to: Endpoint): void {
    this.#links.of(to).sent++;
  }

  onRepairAsked(of: Endpoint): void {
    this.#links.of(of).repairs++;
  }

  /** The frame in it. Throws MalformedBytesError. */
  open(message: RelayedMessage): FrameMessage {
    const frame = decodeStreamMessage(message.frame);
    if (frame.kind === "frame" && !frame.committed && frame.term === message.term) return frame;
    throw new MalformedBytesError("what was relayed is no frame of its term");
  }

  /** Of the own term. True: the frame is new here; it has been passed on. */
  take(from: Endpoint, message: RelayedMessage, payload: Buffer, byMulticast: boolean): boolean {
    const nowMs = this.#host.nowMs();
    this.#sources.onRelayed(from, byMulticast, nowMs);
    this.#links.onRelayed(from, message);
    return this.#relay.take(from, message, payload, byMulticast, nowMs);
  }
}
