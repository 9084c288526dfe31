/**
 * What engines tell each other of themselves, once a second: where they are, how far, and what they keep. To those who hear its multicast an engine
 * announces itself by that; to members who do not (another network, or none has multicast) it gossips: to a few of them in turn, with what it has lately
 * heard of others. So each sends the same few datagrams a second however many there are, and figures are some seconds old with many.
 *
 * Nothing in the protocol rests on it: members' endpoints come with their BOOTs. It lets engines that are no members yet be found, and fills the system
 * tables.
 */
import type { Endpoint } from "../base/ids.js";
import { type AnnounceMessage, encodeEngineMessage, type GossipMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";

/** What an announcement told of a peer. */
export interface Peer extends Omit<AnnounceMessage, "kind"> {
  readonly heardMs: number;
  /** When its multicast came last; -Infinity: never. */
  readonly nearMs: number;
}

const announceMs = 1000;
/** Announced this often while not a member, so that joining does not wait. */
const announceJoiningMs = 200;
/** Three announcements may be lost before an engine counts as out of the multicast's reach. */
const nearMs = 3500;
/** Peers remembered; the one heard longest ago is forgotten first. */
const peersMax = 4096;
/** Told to so many at once; and while it is no member, or knows no sequencer, so that it is found soon. */
const toldAtOnce = 3;
const soughtAtOnce = 8;
/** In one gossip, the sender among them: what fits the smallest datagram, with all numbers at their largest. */
const gossipMax = 6;
/** Endpoints that one who seeks is told. */
const contactsTold = 16;

export interface AnnouncementsHost {
  readonly context: CoreContext;
  readonly hasMulticast: boolean;
  /** Named by the user, for when no member answers. */
  readonly contacts: readonly Endpoint[];
  announcement(): AnnounceMessage;
}

export class Announcements {
  readonly #host: AnnouncementsHost;
  readonly peers = new Map<Endpoint, Peer>();
  #announcedMs = -announceMs;
  /** Whose turn it is to be told. */
  #turn = 0;

  constructor(host: AnnouncementsHost) {
    this.#host = host;
  }

  tick(): void {
    const { nowMs, engine } = this.#host.context;
    if (nowMs - this.#announcedMs >= (engine === 0 ? announceJoiningMs : announceMs)) this.announce();
  }

  /** A new member has heard nothing yet: its first status should not take the others for standing still. */
  hasten(): void {
    const { nowMs, random } = this.#host.context;
    this.#announcedMs = Math.min(this.#announcedMs, nowMs - announceMs + random.integer(100));
  }

  announce(): void {
    const { context, hasMulticast } = this.#host;
    this.#announcedMs = context.nowMs;
    const own = this.#host.announcement();
    if (hasMulticast) context.push({ kind: "multicast", payload: encodeEngineMessage(own) });
    const others = this.#outOfReach();
    if (others.length === 0) return;
    const payload = encodeEngineMessage(this.#gossip(own));
    const isSettled = context.engine !== 0 && context.sequencer !== null;
    const told = Math.min(others.length, isSettled ? toldAtOnce : soughtAtOnce);
    for (let index = 0; index < told; index++) {
      const to = others[(this.#turn + index) % others.length];
      if (to !== undefined) context.push({ kind: "send", to, channel: "datagram", payload });
    }
    this.#turn = (this.#turn + told) % others.length;
  }

  #outOfReach(): readonly Endpoint[] {
    const { context, contacts } = this.#host;
    const all = new Set<Endpoint>();
    for (const { endpoint } of context.catalog.members.values()) all.add(endpoint);
    if (context.engine === 0 || context.sequencer === null) for (const endpoint of contacts) all.add(endpoint);
    all.delete(context.self.endpoint);
    return [...all].filter((endpoint) => context.nowMs - (this.peers.get(endpoint)?.nearMs ?? Number.NEGATIVE_INFINITY) > nearMs);
  }

  #gossip({ kind: _, ...own }: AnnounceMessage): GossipMessage {
    const { nowMs, self } = this.#host.context;
    const heard: GossipMessage["heard"][number][] = [{ endpoint: self.endpoint, ageMs: 0, announce: own }];
    // Those heard last are at the map's end.
    for (const [endpoint, { heardMs, nearMs: __, ...announce }] of [...this.peers].slice(1 - gossipMax)) {
      heard.push({ endpoint, ageMs: Math.max(0, Math.round(nowMs - heardMs)), announce });
    }
    return { kind: "gossip", heard };
  }

  onSeek(from: Endpoint, byMulticast: boolean): void {
    const { context } = this.#host;
    context.push({ kind: "send", to: from, channel: "datagram", payload: encodeEngineMessage(this.#host.announcement()) });
    if (byMulticast) return;
    const members = [...context.catalog.members.values()].filter(({ endpoint }) => endpoint !== context.self.endpoint);
    const archivesFirst = members.sort((left, right) => Number(right.kind === "archive") - Number(left.kind === "archive"));
    const endpoints = archivesFirst.slice(0, contactsTold).map(({ endpoint }) => endpoint);
    context.push({ kind: "send", to: from, channel: "datagram", payload: encodeEngineMessage({ kind: "contacts", endpoints }) });
  }

  onAnnounce(from: Endpoint, { kind: _, ...rest }: AnnounceMessage, byMulticast: boolean): void {
    const { nowMs } = this.#host.context;
    this.#remember(from, { ...rest, heardMs: nowMs, nearMs: byMulticast ? nowMs : this.#nearMsOf(from) });
  }

  /** What is older than what it knows says nothing new; of itself, each knows best. */
  onGossip({ heard }: GossipMessage): void {
    const { nowMs, self } = this.#host.context;
    for (const { endpoint, ageMs, announce } of heard) {
      const heardMs = nowMs - ageMs;
      if (endpoint === self.endpoint || heardMs <= (this.peers.get(endpoint)?.heardMs ?? Number.NEGATIVE_INFINITY)) continue;
      this.#remember(endpoint, { ...announce, heardMs, nearMs: this.#nearMsOf(endpoint) });
    }
  }

  #nearMsOf(endpoint: Endpoint): number {
    return this.peers.get(endpoint)?.nearMs ?? Number.NEGATIVE_INFINITY;
  }

  #remember(endpoint: Endpoint, peer: Peer): void {
    this.peers.delete(endpoint);
    this.peers.set(endpoint, peer);
    if (this.peers.size <= peersMax) return;
    for (const oldest of this.peers.keys()) {
      this.peers.delete(oldest);
      return;
    }
  }
}
