/**
 * How an engine without a state gets one to begin from: it seeks its database by multicast, and at the contacts that it was given; asks an Archive for the root catalog (a Cache;
 * the other catalogs it pulls when it needs them, catalog-pulls.ts) or for the whole store (an Archive). Pure; the host carries out what it wants and gives it what arrives.
 *
 * A store is of one seq, whole: parts of another one, or of a source whose numbers of transfers are others, void what was taken in. So is a root
 * catalog, and its parts are of one source besides: where that is lost, silent or has given it up, it begins again with another.
 */

import { MalformedBytesError } from "../base/bytes.js";
import { type Endpoint, type EngineKind, noSeq, noTerm, type Seq, type SpaceId, type Term } from "../base/ids.js";
import type { LogPosition } from "../base/log-entry.js";
import type { Random } from "../base/random.js";
import type { Catalog } from "../catalog/catalog.js";
import {
  type CatalogMessage,
  decodeEngineMessage,
  type EngineMessage,
  encodeEngineMessage,
  firstEngineKind,
  type TransferReplyMessage,
} from "../messages/wire/engine-messages.js";
import { formatVersion } from "../messages/wire/entry.js";
import type { Environment } from "./environment.js";

/**
 * What an Archive may have acknowledged. A voter that took an older store would take back what a majority may count on: a store will do that is of
 * this seq at least, or of a later term, whose sequencer had all that was committed before.
 */
export interface Acknowledged {
  readonly seq: Seq;
  readonly term: Term;
}

export type JoiningEffect =
  | { readonly kind: "multicast"; readonly payload: Buffer }
  | { readonly kind: "send"; readonly to: Endpoint; readonly channel: "datagram" | "reliable"; readonly payload: Buffer }
  /** Cache: begin here. */
  | { readonly kind: "catalog"; readonly position: LogPosition; readonly records: ReadonlyMap<string, Uint8Array> }
  /** Archive: parts in order; the last one is empty. `restart`: what was taken in before is void. */
  | { readonly kind: "part"; readonly position: LogPosition; readonly part: Buffer; readonly restart: boolean; readonly last: boolean }
  /** Told once for each engine of the database whose format is another. */
  | { readonly kind: "otherVersion"; readonly endpoint: Endpoint; readonly version: number };

export type JoiningInput =
  | { readonly kind: "tick"; readonly nowMs: number }
  | { readonly kind: "message"; readonly nowMs: number; readonly from: Endpoint; readonly payload: Buffer }
  | { readonly kind: "disconnected"; readonly nowMs: number; readonly endpoint: Endpoint }
  /** Archive: one more part is in the store. */
  | { readonly kind: "taken"; readonly nowMs: number };

const seekAgainMs = 100;
/** A source that is silent for this long is given up for another. Milliseconds. */
const sourceSilentMs = 3000;
/** Likewise, while a store is being copied: another source has another copy, and all begins anew. One that is dead is known by its connection; this one may be slow, or stand still. */
const copySilentMs = 15_000;

/** Parts of a store that have come and are not taken in yet; with so many the next one is not asked for. A disk may be slower than the network. */
export const partsUntakenMax = 4;

/** Endpoints that are asked for the database, those that were named by others among them. */
const contactsMax = 64;
/** Of these, so many at once. */
const soughtAtOnce = 8;

/** Whom an engine may ask: those that its user named, and the members that it knew, Archives first. */
export function contactsOf({ contacts }: Pick<Environment, "contacts">, catalog: Catalog | null): readonly Endpoint[] {
  const members = [...(catalog?.members.values() ?? [])];
  const known = members.sort((left, right) => Number(right.kind === "archive") - Number(left.kind === "archive"));
  return [...new Set([...contacts, ...known.map(({ endpoint }) => endpoint)])].slice(0, contactsMax);
}

export interface JoiningOptions {
  readonly contacts?: readonly Endpoint[];
  readonly acknowledged?: Acknowledged;
  readonly catalogPartBytes?: number;
}

export class Joining {
  readonly #kind: EngineKind;
  readonly #random: Random;
  readonly #acknowledged: Acknowledged;
  #soughtMs = -seekAgainMs;
  readonly #sources = new Map<Endpoint, number>();
  #source: Endpoint | null = null;
  #askedMs = 0;
  readonly #partBytes: number;
  /** Of the root catalog: the number of the question, the source's read, the next part, and what has come. */
  #pull = 0;
  #read = 0;
  #part = 0;
  #records = new Map<string, Uint8Array>();
  #transfer = 0;
  #cursor = "";
  #position: LogPosition | null = null;
  #untaken = 0;
  #done = false;
  readonly #told = new Set<Endpoint>();
  readonly #contacts: Endpoint[];
  #contactsTurn = 0;
  bytes = 0;

  constructor(kind: EngineKind, random: Random, options: JoiningOptions = {}) {
    this.#kind = kind;
    this.#partBytes = options.catalogPartBytes ?? 256 * 1024;
    this.#random = random;
    this.#acknowledged = options.acknowledged ?? { seq: noSeq, term: noTerm };
    this.#contacts = [...(options.contacts ?? [])];
  }

  /** Whom it has its state from, when it has it. */
  get source(): Endpoint | null {
    return this.#source;
  }

  /** Whether anybody of the database has answered yet. */
  get heardAnyone(): boolean {
    return this.#sources.size > 0;
  }

  step(input: JoiningInput): readonly JoiningEffect[] {
    if (this.#done) return [];
    switch (input.kind) {
      case "tick":
        return this.#tick(input.nowMs);
      case "disconnected":
        this.#sources.delete(input.endpoint);
        if (this.#source === input.endpoint) this.#source = null;
        return [];
      case "taken":
        return this.#onTaken(input.nowMs);
      case "message":
        return this.#onPayload(input.nowMs, input.from, input.payload);
    }
  }

  get #rests(): boolean {
    return this.#untaken >= partsUntakenMax;
  }

  #onTaken(nowMs: number): readonly JoiningEffect[] {
    const rested = this.#rests;
    this.#untaken--;
    return rested && !this.#rests && this.#source !== null ? this.#ask(nowMs, this.#source) : [];
  }

  #tick(nowMs: number): readonly JoiningEffect[] {
    const effects: JoiningEffect[] = [];
    for (const [endpoint, heardMs] of this.#sources) if (nowMs - heardMs > sourceSilentMs) this.#sources.delete(endpoint);
    const silentMs = this.#transfer === 0 ? sourceSilentMs : copySilentMs;
    if (this.#source !== null && !this.#rests && nowMs - this.#askedMs > silentMs) {
      this.#sources.delete(this.#source);
      this.#source = null;
    }
    if (this.#source === null && !this.#rests) effects.push(...this.#choose(nowMs));
    if (nowMs - this.#soughtMs >= seekAgainMs && (this.#source === null || nowMs - this.#soughtMs > 1000)) {
      this.#soughtMs = nowMs;
      effects.push(...this.#seek());
    }
    return effects;
  }

  #seek(): readonly JoiningEffect[] {
    const payload = encodeEngineMessage({ kind: "seek" });
    const effects: JoiningEffect[] = [{ kind: "multicast", payload }];
    const count = this.#contacts.length;
    for (let index = 0; index < Math.min(count, soughtAtOnce); index++) {
      const to = this.#contacts[(this.#contactsTurn + index) % count];
      if (to !== undefined) effects.push({ kind: "send", to, channel: "datagram", payload });
    }
    this.#contactsTurn += soughtAtOnce;
    return effects;
  }

  #choose(nowMs: number): readonly JoiningEffect[] {
    const endpoints = [...this.#sources.keys()];
    const source = endpoints[this.#random.integer(Math.max(1, endpoints.length))];
    if (source === undefined) return [];
    this.#source = source;
    if (this.#kind === "cache") [this.#read, this.#part, this.#records, this.#position] = [0, 0, new Map(), null];
    return this.#ask(nowMs, source);
  }

  #ask(nowMs: number, source: Endpoint): readonly JoiningEffect[] {
    this.#askedMs = nowMs;
    const message = this.#kind === "cache" ? this.#catalogRequest() : this.#transferRequest();
    return [{ kind: "send", to: source, channel: "reliable", payload: encodeEngineMessage(message) }];
  }

  #catalogRequest(): EngineMessage {
    // Random: an answer to a question before this one must not pass for this one's.
    this.#pull = this.#random.integer(2 ** 40);
    const [catalog, minSeq] = [0 as SpaceId, noSeq];
    return {
      kind: "catalogRequest",
      pull: this.#pull,
      catalog,
      ranges: [],
      rangeAtomsMin: 0,
      read: this.#read,
      part: this.#part,
      minSeq,
      bytesMax: this.#partBytes,
    };
  }

  #transferRequest(): EngineMessage {
    return { kind: "transferRequest", transfer: this.#transfer, cursor: this.#cursor };
  }

  #onPayload(nowMs: number, from: Endpoint, payload: Buffer): readonly JoiningEffect[] {
    if ((payload[0] ?? 0) < firstEngineKind) return [];
    let message: EngineMessage;
    try {
      message = decodeEngineMessage(payload);
    } catch (error) {
      if (error instanceof MalformedBytesError) return [];
      throw error;
    }
    switch (message.kind) {
      case "announce":
        if (message.formatVersion !== formatVersion) {
          if (this.#told.has(from)) return [];
          this.#told.add(from);
          return [{ kind: "otherVersion", endpoint: from, version: message.formatVersion }];
        }
        if (message.canServe && this.#covers({ seq: message.appliedSeq, term: message.term })) this.#sources.set(from, nowMs);
        return this.#source === null && !this.#rests ? this.#choose(nowMs) : [];
      case "contacts":
        for (const endpoint of message.endpoints) {
          if (this.#contacts.length < contactsMax && !this.#contacts.includes(endpoint)) this.#contacts.push(endpoint);
        }
        return [];
      case "catalog":
        return from === this.#source && this.#kind === "cache" ? this.#onCatalogPart(nowMs, from, message) : [];
      case "transferReply":
        return from === this.#source && this.#kind === "archive" ? this.#onPart(nowMs, from, message) : [];
      default:
        return [];
    }
  }

  #onCatalogPart(nowMs: number, from: Endpoint, message: CatalogMessage): readonly JoiningEffect[] {
    if (message.catalog !== 0 || message.pull !== this.#pull) return [];
    this.#sources.set(from, nowMs);
    // Of another seq: an Archive that has started over counts its reads anew, and has another engine's under that number.
    if (message.read === 0 || (this.#position !== null && message.position.seq !== this.#position.seq)) {
      this.#source = null;
      return [];
    }
    this.#position = message.position;
    for (const [name, bytes] of message.records) {
      this.#records.set(name, bytes);
      this.bytes += bytes.length;
    }
    this.#read = message.read;
    this.#part = message.part + 1;
    this.#done = message.isLast;
    return this.#done ? [{ kind: "catalog", position: message.position, records: this.#records }] : this.#ask(nowMs, from);
  }

  #covers({ seq, term }: Acknowledged): boolean {
    return seq >= this.#acknowledged.seq || term > this.#acknowledged.term;
  }

  #onPart(nowMs: number, from: Endpoint, message: TransferReplyMessage): readonly JoiningEffect[] {
    if (message.cursor !== this.#cursor) return [];
    this.#sources.set(from, nowMs);
    if (message.transfer !== 0 && !this.#covers(message.position)) this.#sources.delete(from);
    const isOther = this.#position !== null && (message.position.seq !== this.#position.seq || message.position.hash !== this.#position.hash);
    if (message.transfer === 0 || isOther || !this.#covers(message.position)) {
      // The source does not have it, or has another: everything begins anew.
      this.#transfer = 0;
      this.#cursor = "";
      this.#position = null;
      this.#source = null;
      return [];
    }
    const restart = this.#position === null;
    this.#position = message.position;
    this.#transfer = message.transfer;
    this.#cursor = message.next;
    this.bytes += message.part.length;
    const last = message.part.length === 0;
    this.#done = last;
    const part: JoiningEffect = { kind: "part", position: message.position, part: message.part, restart, last };
    this.#untaken++;
    return last || this.#rests ? [part] : [part, ...this.#ask(nowMs, from)];
  }
}
