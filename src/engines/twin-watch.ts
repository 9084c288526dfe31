/**
 * Keeps two Archives apart that have one data folder, or copies of one. The folder's lock keeps a second process out on the same machine (folder-lock.ts); a copy, there
 * or elsewhere, has the same node id, and two voters of one id would vote twice, and what is on one's disk would count as on the other's.
 *
 * An Archive that begins from a folder is quiet at first: it takes no part in the stream, announces itself only to who asks, and asks those that it knows and all who
 * hear its multicast who they are.
 *
 * | label   | it hears, from its sender itself                       | what it does                                                                   |
 * |---------|--------------------------------------------------------|--------------------------------------------------------------------------------|
 * | alone   | nobody of its node id                                  | its quiet time over, it goes on                                                |
 * | suspect | its node id from another process                       | asks that one again: it may be the last word, late, of its own former process; is quiet as long as it is no member |
 * | replaced | nothing, but the BOOT of its node id from elsewhere, which has ended its membership, is in the stream | starts over where that one departs as well: it was a former process's, late. Stops where it stays for `certainAfterMs` |
 * | twin    | again and again, for `certainAfterMs` at least         | one of the two stops: who is no member; of two members the older one, whose membership the other's BOOT has ended; of two others that with the larger nonce |
 *
 * Both find out, and both say so, where they reach each other; of two that only others reach, the one that was there before stops.
 */
import { type Endpoint, noEngine } from "../base/ids.js";
import type { Member } from "../catalog/member.js";
import { type AnnounceMessage, encodeEngineMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";

/**
 * Of the shortest election timeout, how long it is quiet. Reason: a restart must not cost a term. By default 250 ms: answers come within a few, and a
 * busy machine takes some more.
 */
export const quietShare = 0.25;

const askEveryMs = 100;

/** Longer than a datagram of a process that has ended may be on its way; and who gives way stays a little longer, so that the other becomes certain too. */
const certainAfterMs = 1000;
const givesWayAfterMs = 1500;

/** One that has not answered for so long was nobody, or is gone. */
const forgetMs = 1500;

/** Who is asked in the quiet time, and suspects: more than a database's Archives. */
const askedMax = 64;
const suspectsMax = 8;

interface Suspect {
  announce: AnnounceMessage;
  readonly firstMs: number;
  lastMs: number;
  isTold: boolean;
}

export class TwinWatch {
  readonly #context: CoreContext;
  readonly #announcement: () => AnnounceMessage;
  readonly #quietUntilMs: number;
  readonly #asked = new Set<Endpoint>();
  readonly #suspects = new Map<Endpoint, Suspect>();
  #askedMs = Number.NEGATIVE_INFINITY;
  /** The member whose BOOT has ended this engine's membership. */
  #replacement: { readonly endpoint: Endpoint; readonly sinceMs: number } | null = null;
  /** A twin that this engine gives way to. */
  #given: Endpoint | null = null;

  /** `known`: whom to ask. `quietMs`: 0: it does not begin from a folder. */
  constructor(context: CoreContext, known: readonly Endpoint[], quietMs: number, announcement: () => AnnounceMessage) {
    this.#context = context;
    this.#announcement = announcement;
    this.#quietUntilMs = context.nowMs + quietMs;
    this.onContacts(known);
  }

  /** This engine's membership has ended, while it was alive. True: by the BOOT of a twin, perhaps; then it is for this to say how it goes on. */
  replaced(): boolean {
    const { self, nowMs } = this.#context;
    const other = self.kind === "archive" ? this.#otherMember() : undefined;
    if (other !== undefined) this.#replacement = { endpoint: other.endpoint, sinceMs: nowMs };
    return other !== undefined;
  }

  /** It was no twin: the engine starts over, as after any LEAVE. */
  get mustStartOver(): boolean {
    return this.#replacement !== null && this.#otherMember()?.endpoint !== this.#replacement.endpoint;
  }

  #otherMember(): Member | undefined {
    const { self, catalog } = this.#context;
    for (const member of catalog.members.values()) if (member.nodeId === self.nodeId && member.endpoint !== self.endpoint) return member;
    return undefined;
  }

  /** It takes no part in anything. */
  get isQuiet(): boolean {
    const { nowMs, engine } = this.#context;
    return nowMs < this.#quietUntilMs || this.#given !== null || (engine === noEngine && this.#suspects.size > 0);
  }

  onContacts(endpoints: readonly Endpoint[]): void {
    for (const endpoint of endpoints) if (this.#asked.size < askedMax && endpoint !== this.#context.self.endpoint) this.#asked.add(endpoint);
  }

  /** Told by `from` itself. True: of this Archive's own node id. */
  onAnnounce(from: Endpoint, announce: AnnounceMessage): boolean {
    const { self, nowMs } = this.#context;
    if (self.kind !== "archive" || announce.nodeId !== self.nodeId) return false;
    // At this engine's own endpoint nobody else can be alive.
    if (announce.nonce === self.nonce || from === self.endpoint) return true;
    const known = this.#suspects.get(from);
    if (known !== undefined && known.announce.nonce === announce.nonce) {
      known.announce = announce;
      known.lastMs = nowMs;
    } else if (this.#suspects.size < suspectsMax || known !== undefined) {
      this.#suspects.set(from, { announce, firstMs: nowMs, lastMs: nowMs, isTold: false });
    }
    return true;
  }

  tick(): void {
    const { nowMs } = this.#context;
    for (const [endpoint, suspect] of this.#suspects) {
      if (nowMs - suspect.lastMs >= forgetMs) this.#suspects.delete(endpoint);
      else if (!suspect.isTold) this.#judge(endpoint, suspect);
    }
    if (this.#replacement !== null && this.#given === null && !this.mustStartOver && nowMs - this.#replacement.sinceMs >= certainAfterMs)
      this.#giveWay(this.#replacement.endpoint);
    if (nowMs - this.#askedMs >= askEveryMs && (nowMs < this.#quietUntilMs || this.#suspects.size > 0)) this.#ask();
  }

  #ask(): void {
    const context = this.#context;
    this.#askedMs = context.nowMs;
    const seek = encodeEngineMessage({ kind: "seek" });
    if (context.nowMs < this.#quietUntilMs) {
      context.push({ kind: "multicast", payload: seek });
      for (const to of this.#asked) context.push({ kind: "send", to, channel: "datagram", payload: seek });
    }
    // They are to find out as well.
    const announcement = encodeEngineMessage(this.#announcement());
    for (const to of this.#suspects.keys())
      for (const payload of [seek, announcement]) context.push({ kind: "send", to, channel: "datagram", payload });
  }

  #judge(endpoint: Endpoint, suspect: Suspect): void {
    const givesWay = this.#givesWayTo(suspect.announce);
    if (suspect.lastMs - suspect.firstMs < (givesWay ? givesWayAfterMs : certainAfterMs)) return;
    suspect.isTold = true;
    if (givesWay) this.#giveWay(endpoint);
    else this.#context.log("warn", "another Archive has a copy of this one's data folder, and is told to stop", { endpoint });
  }

  #giveWay(endpoint: Endpoint): void {
    this.#given = endpoint;
    this.#context.push({ kind: "twin", endpoint });
  }

  #givesWayTo({ engine, nonce }: AnnounceMessage): boolean {
    const own = this.#context;
    if ((own.engine === noEngine) !== (engine === noEngine)) return own.engine === noEngine;
    return own.engine === engine ? own.self.nonce > nonce : own.engine < engine;
  }
}
