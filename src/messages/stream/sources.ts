/**
 * The taking end of the relay tree: from whom an engine hears the stream. What it may hear it from, best first:
 *
 * | source  | what it is                                              | subscribed to                       | taken for silent after       |
 * |---------|---------------------------------------------------------|-------------------------------------|------------------------------|
 * | root    | the sequencer's own multicast                           | never: it is there or not           | `multicastSilentHeartbeats`  |
 * | segment | the multicast of this segment's relay (not for voters)  | at that relay, "multicast will do"  | the same                     |
 * | engine  | unicast: for a voter the sequencer; this segment's      | there                               | `silentHeartbeats`           |
 * |         | relay; those above in the tree; any Archive; a contact  |                                     |                              |
 *
 * The engines whose multicast is heard here (they announce themselves once a second) are this engine's segment, and the lowest of them in the order
 * of the tree its relay, the next one standing by: whoever has nobody lower within hearing takes the stream from above by unicast, and multicasts it when
 * one of the others asks. Those above the lowest of a segment are all outside of it, so relays of several segments cannot wait for each other.
 *
 * | label     | what it finds                                           | what it does                                                  |
 * |-----------|---------------------------------------------------------|---------------------------------------------------------------|
 * | silent    | nothing is heard                                        | subscribes to the next one, and again after each silence      |
 * | lost      | the connection to the source has ended                  | takes it for silent at once                                   |
 * | heard     | a source, the best that is heard                        | ends the subscriptions to worse ones                          |
 * | better    | it hears a source, and there are better ones            | tries these from time to time, and keeps what it has meanwhile |
 * | returned  | multicast, beside a unicast source                      | takes it only when it was steady for a while                  |
 * | refused   | a source is full                                        | tries one of those that it names                              |
 *
 * Nothing but speed rests on what is chosen here.
 */
import type { Endpoint } from "../../base/ids.js";
import type { Random } from "../../base/random.js";
import { subscriptionHeartbeats } from "./relay.js";
import { ancestorsOf, type TreeEngine, treeOrder } from "./relay-tree.js";
import type { TreePlace } from "./stream-node-types.js";

/** One lost heartbeat is nothing; with a tick more, a silent parent is left within 300 ms. */
const silentHeartbeats = 2.2;

/** Multicast that was heard is waited for longer: an engine that is busy for a moment should not ask others for what is in its own socket. */
const multicastSilentHeartbeats = 10;

/** From one attempt at a better source to the next, and how long one that failed is left in peace. */
const betterAgainHeartbeats = 20;
const avoidHeartbeats = 10;

/** Better sources that are tried at once: a segment's relay by multicast, and one by unicast. */
const betterAtOnce = 2;

/** A subscription that brings nothing for so long is given up. */
const fruitlessHeartbeats = 6;

/** Announcements come once a second: three may be lost. Milliseconds. */
const nearMs = 3500;

/** Endpoints that are remembered as near, or avoided; the oldest go first. Reason: more engines than any segment has. */
const rememberedMax = 1024;

/** "root", "segment", or an endpoint. */
type Source = string;

interface Subscription {
  readonly to: Endpoint;
  readonly multicast: boolean;
  readonly sinceMs: number;
  renewMs: number;
}

export interface SourcesHost {
  readonly self: Endpoint;
  readonly heartbeatMs: number;
  readonly hasMulticast: boolean;
  readonly random: Random;
  isVoter(): boolean;
  /** Of whom it knows; null where nobody is, or it is itself. */
  sequencer(): Endpoint | null;
  /** `opens`: over the reliable channel too, so that its end tells of the other's. */
  subscribe(to: Endpoint, forMs: number, multicast: boolean, opens: boolean): void;
}

export class Sources {
  readonly #host: SourcesHost;
  #engines: readonly TreeEngine[] = [];
  #contacts: readonly Endpoint[] = [];
  #order: readonly Endpoint[] = [];
  #orderRoot: Endpoint | null = null;
  readonly #near = new Map<Endpoint, number>();
  readonly #heardMs = new Map<Source, number>();
  /** Since when multicast has come without a pause. */
  readonly #steadySinceMs = new Map<Source, number>();
  readonly #subscriptions = new Map<Source, Subscription>();
  readonly #avoidUntilMs = new Map<Endpoint, number>();
  /** Named by who refused. */
  #instead: readonly Endpoint[] = [];
  #current: Source | null = null;
  #triedMs: number;
  #betterMs = 0;
  /** Whose multicast it is that is heard in this segment. */
  #segmentFrom: Endpoint | null = null;

  constructor(host: SourcesHost, nowMs: number) {
    this.#host = host;
    // Where there is multicast, it is heard before it is missed.
    this.#triedMs = host.hasMulticast ? nowMs : Number.NEGATIVE_INFINITY;
  }

  /** Whom to ask for what was lost, before the sequencer; null: nobody better. */
  get parent(): Endpoint | null {
    if (this.#current === null || this.#current === "root") return null;
    return this.#current === "segment" ? this.#segmentFrom : (this.#current as Endpoint);
  }

  get by(): TreePlace["by"] {
    if (this.#current === null) return null;
    if (!isMulticast(this.#current)) return "unicast";
    return this.#current === "root" ? "multicast of the sequencer" : "multicast of a relay";
  }

  onEngines(engines: readonly TreeEngine[], contacts: readonly Endpoint[]): void {
    this.#engines = engines;
    this.#contacts = contacts;
    this.#orderEngines();
  }

  #orderEngines(): void {
    this.#orderRoot = this.#host.sequencer();
    this.#order = treeOrder(this.#engines, this.#orderRoot);
  }

  /** Multicast of that engine has come, whatever was in it. */
  onNear(endpoint: Endpoint, nowMs: number): void {
    remember(this.#near, endpoint, nowMs);
  }

  /** A frame, by the multicast of the term's sequencer. */
  onRoot(nowMs: number): void {
    this.#hear("root", nowMs);
  }

  /** A relayed frame of the own term, new or not. */
  onRelayed(from: Endpoint, byMulticast: boolean, nowMs: number): void {
    if (byMulticast) this.#segmentFrom = from;
    if (byMulticast) this.#hear("segment", nowMs);
    else if (this.#subscriptions.has(from)) this.#hear(from, nowMs);
  }

  #hear(source: Source, nowMs: number): void {
    const isAfterSilence = nowMs - (this.#heardMs.get(source) ?? Number.NEGATIVE_INFINITY) > this.#silenceMs;
    if (isMulticast(source) && isAfterSilence) this.#steadySinceMs.set(source, nowMs);
    this.#heardMs.set(source, nowMs);
  }

  get #silenceMs(): number {
    return silentHeartbeats * this.#host.heartbeatMs;
  }

  #isHeard(source: Source, nowMs: number): boolean {
    const patienceMs = isMulticast(source) ? multicastSilentHeartbeats * this.#host.heartbeatMs : this.#silenceMs;
    return nowMs - (this.#heardMs.get(source) ?? Number.NEGATIVE_INFINITY) < patienceMs;
  }

  #isSteady(source: Source, nowMs: number): boolean {
    if (!isMulticast(source)) return true;
    const sinceMs = this.#steadySinceMs.get(source) ?? nowMs;
    const isLate = nowMs - (this.#heardMs.get(source) ?? nowMs) > this.#silenceMs;
    return !isLate && nowMs - sinceMs >= multicastSilentHeartbeats * this.#host.heartbeatMs;
  }

  onRefusal(from: Endpoint, instead: readonly Endpoint[], nowMs: number): void {
    if (!this.#subscriptions.has(from) && !this.#isSegmentRelay(from)) return;
    this.#drop(from, nowMs);
    this.#instead = instead.filter((endpoint) => endpoint !== this.#host.self);
    if (this.#current !== null) return;
    const next = this.#instead[this.#host.random.integer(Math.max(1, this.#instead.length))];
    if (next !== undefined && !this.#isAvoided(next, nowMs)) this.#subscribe(next, nowMs);
  }

  onDisconnected(endpoint: Endpoint, nowMs: number): void {
    this.#near.delete(endpoint);
    if (!this.#subscriptions.has(endpoint) && !this.#isSegmentRelay(endpoint)) return;
    this.#drop(endpoint, nowMs);
    this.tick(nowMs);
  }

  #isSegmentRelay(endpoint: Endpoint): boolean {
    return this.#subscriptions.get("segment")?.to === endpoint;
  }

  /** What comes from there counts no more, and it is left in peace for a while. */
  #drop(endpoint: Endpoint, nowMs: number): void {
    const gone: Source[] = this.#isSegmentRelay(endpoint) ? [endpoint, "segment"] : [endpoint];
    for (const source of gone) {
      this.#subscriptions.delete(source);
      this.#heardMs.delete(source);
      if (this.#current === source) this.#becomeSilent();
    }
    remember(this.#avoidUntilMs, endpoint, nowMs + avoidHeartbeats * this.#host.heartbeatMs);
  }

  /** Its patience is over already: the next one is tried at once. */
  #becomeSilent(): void {
    this.#current = null;
    this.#triedMs = Number.NEGATIVE_INFINITY;
  }

  #isAvoided(endpoint: Endpoint, nowMs: number): boolean {
    return (this.#avoidUntilMs.get(endpoint) ?? 0) > nowMs;
  }

  tick(nowMs: number): void {
    if (this.#engines.length + this.#contacts.length === 0) return;
    const isAtRest = this.#current === "root" && this.#subscriptions.size === 0;
    if (isAtRest && this.#isHeard("root", nowMs)) return;
    if (this.#host.sequencer() !== this.#orderRoot) this.#orderEngines();
    const sources = this.#sources(nowMs);
    if (this.#current !== null && !this.#isHeard(this.#current, nowMs)) this.#becomeSilent();
    const best = sources.findIndex((source) => this.#isHeard(source, nowMs) && this.#mayTake(source, nowMs));
    const found = sources[best];
    if (found !== undefined) this.#settle(sources, best, found, nowMs);
    else if (nowMs - this.#triedMs >= this.#silenceMs) this.#tryNext(sources, nowMs);
    this.#renew(nowMs);
  }

  #mayTake(source: Source, nowMs: number): boolean {
    return this.#current === null || this.#current === source || this.#isSteady(source, nowMs);
  }

  /** The sequencer hears from itself. */
  stop(): void {
    for (const [source, subscription] of this.#subscriptions) this.#end(source, subscription);
    this.#current = null;
  }

  /** Best first; what is heard now is among them. */
  #sources(nowMs: number): readonly Source[] {
    const { self, hasMulticast } = this.#host;
    const sources = new Set<Source>();
    if (hasMulticast) sources.add("root");
    const sequencer = this.#host.sequencer();
    if (this.#host.isVoter()) {
      if (sequencer !== null) sources.add(sequencer);
    } else {
      const relay = this.#segmentRelay(nowMs);
      if (relay !== null && relay !== sequencer) sources.add("segment").add(relay);
    }
    for (const endpoint of ancestorsOf(this.#order, self)) sources.add(endpoint);
    for (const { kind, endpoint } of this.#engines) if (kind === "archive") sources.add(endpoint);
    for (const endpoint of this.#instead) sources.add(endpoint);
    for (const endpoint of this.#contacts) sources.add(endpoint);
    if (this.#current !== null) sources.add(this.#current);
    sources.delete(self);
    return [...sources];
  }

  /** The lowest whose multicast is heard; null: this engine itself. */
  #segmentRelay(nowMs: number): Endpoint | null {
    if (this.#near.size === 0) return null;
    for (const endpoint of this.#order) {
      if (endpoint === this.#host.self) return null;
      if (nowMs - (this.#near.get(endpoint) ?? Number.NEGATIVE_INFINITY) < nearMs) return endpoint;
    }
    return null;
  }

  #settle(sources: readonly Source[], best: number, found: Source, nowMs: number): void {
    if (this.#current !== found) {
      this.#current = found;
      this.#betterMs = nowMs + betterAgainHeartbeats * this.#host.heartbeatMs;
      this.#instead = [];
    }
    if (found !== "root" && !this.#subscriptions.has(found)) this.#subscribe(found, nowMs);
    const better = sources.slice(0, best);
    for (const [source, subscription] of [...this.#subscriptions]) if (source !== found && !better.includes(source)) this.#end(source, subscription);
    if (nowMs < this.#betterMs) return;
    this.#betterMs = nowMs + betterAgainHeartbeats * this.#host.heartbeatMs;
    const tried = better.filter((source) => source !== "root").slice(0, betterAtOnce);
    for (const source of tried) if (!this.#subscriptions.has(source)) this.#subscribe(source, nowMs);
  }

  #tryNext(sources: readonly Source[], nowMs: number): void {
    this.#triedMs = nowMs;
    const others = sources.filter((source) => source !== "root" && !this.#subscriptions.has(source));
    const next = others.find((source) => !this.#isAvoided(this.#endpointOf(source, nowMs) ?? this.#host.self, nowMs));
    if (next !== undefined) this.#subscribe(next, nowMs);
    else this.#avoidUntilMs.clear();
  }

  #subscribe(source: Source, nowMs: number): void {
    const to = this.#endpointOf(source, nowMs);
    if (to === null) return;
    const subscription = { to, multicast: source === "segment", sinceMs: nowMs, renewMs: nowMs + this.#host.heartbeatMs };
    this.#subscriptions.set(source, subscription);
    this.#host.subscribe(to, this.#termMs, subscription.multicast, true);
  }

  /** Of a source that is subscribed to. */
  #endpointOf(source: Source, nowMs: number): Endpoint | null {
    return source === "segment" ? this.#segmentRelay(nowMs) : (source as Endpoint);
  }

  #end(source: Source, { to, multicast }: Subscription): void {
    this.#subscriptions.delete(source);
    if (!multicast) this.#heardMs.delete(source);
    if (!multicast) this.#host.subscribe(to, 0, false, false);
  }

  /** A subscription's time. */
  get #termMs(): number {
    return subscriptionHeartbeats * this.#host.heartbeatMs;
  }

  #renew(nowMs: number): void {
    const { heartbeatMs } = this.#host;
    for (const [source, subscription] of [...this.#subscriptions]) {
      const { to, multicast, sinceMs } = subscription;
      const isHeard = this.#isHeard(source, nowMs);
      const isOther = source === "segment" && this.#segmentRelay(nowMs) !== to;
      if (isOther || (!isHeard && nowMs - sinceMs >= fruitlessHeartbeats * heartbeatMs)) {
        this.#subscriptions.delete(source);
        if (!multicast) this.#heardMs.delete(source);
        if (!isOther) remember(this.#avoidUntilMs, to, nowMs + avoidHeartbeats * heartbeatMs);
        continue;
      }
      if (nowMs < subscription.renewMs) continue;
      subscription.renewMs = nowMs + (isHeard ? this.#termMs / 4 : heartbeatMs);
      this.#host.subscribe(to, this.#termMs, multicast, false);
    }
  }
}

function isMulticast(source: Source): boolean {
  return source === "root" || source === "segment";
}

function remember(map: Map<Endpoint, number>, endpoint: Endpoint, atMs: number): void {
  map.delete(endpoint);
  map.set(endpoint, atMs);
  if (map.size <= rememberedMax) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
