/**
 * Catch-up over the reliable channel, for what datagrams cannot repair: entries that are in no one's memory, very large, or very many.
 *
 * The receiver asks for at most `creditBytes`, gets them as ordinary frames (larger ones), then an end, and asks again: what is in flight
 * is bounded by the credit, whatever the speeds. A lost end or a dead server shows as a lack of progress, and the receiver turns to the
 * next source. A server that no longer has an entry says "gone"; when all sources that answer do, the receiver needs a snapshot.
 */
import { type ChainHash, chainHash } from "../../base/chain-hash.js";
import type { Endpoint, Seq } from "../../base/ids.js";
import type { LogEntry } from "../../base/log-entry.js";
import type { CatchUpEnd, CatchUpOutcome, CatchUpRequest, FrameHeader, StreamMessage } from "../wire/stream-messages.js";
import { type EntrySource, packFrame, type SendCursor } from "./frame-packing.js";
import type { StreamLog } from "./stream-log.js";

/** What a receiver asks for at once, in bytes. Reason: several round trips' worth on a fast network, little memory. */
export const creditBytes = 1024 * 1024;

/** Payload of one frame of catch-up, in bytes. Reason: few messages, and none that holds up a connection for long. */
export const catchUpFrameBytesMax = 64 * 1024;

/** Receivers served at once; others are not answered, and ask again. Reason: each may hold entries that were read for it. */
export const sessionsMax = 16;

/** A session without a request for this long ends, in milliseconds. */
export const sessionIdleMs = 10_000;

/** What the server may say: its log, and how far it may give it out. */
export interface CatchUpSource {
  readonly log: StreamLog;
  /** The last entry that may go out: the sequencer's last, another engine's commit seq. */
  readonly through: Seq;
  /** Whether there is a journal to read. */
  readonly hasJournal: boolean;
}

export interface CatchUpOutput {
  send(to: Endpoint, message: StreamMessage): void;
  sendPayload(to: Endpoint, payload: Buffer): void;
  frameHeader(): FrameHeader;
  readJournal(requestId: number, from: Seq, bytesMax: number): void;
}

/** Entries from the journal, proven to follow the hash before them. */
class JournalRead implements EntrySource {
  readonly #entries: readonly LogEntry[];
  readonly #first: Seq;
  readonly #prevHash: ChainHash;

  constructor(entries: readonly LogEntry[], first: Seq, prevHash: ChainHash) {
    this.#entries = entries;
    this.#first = first;
    this.#prevHash = prevHash;
  }

  entryAt(seq: Seq): LogEntry | undefined {
    return this.#entries[seq - this.#first];
  }

  hashAt(seq: Seq): ChainHash | undefined {
    return seq === this.#first - 1 ? this.#prevHash : this.entryAt(seq)?.hash;
  }
}

interface Session {
  request: CatchUpRequest;
  /** Null: the request was answered. */
  cursor: SendCursor | null;
  creditLeft: number;
  /** Read from the journal, in order; all committed. */
  read: JournalRead | null;
  readId: number | null;
  /**
   * The log's floor when it was asked: up to there the journal is durable, committed and final. What lies above can be a tail that is given up while it is
   * being read, or whose replacement is not written yet.
   */
  readThrough: Seq;
  atMs: number;
}

export class CatchUpServer {
  readonly #sessions = new Map<Endpoint, Session>();
  readonly #output: CatchUpOutput;
  #readIds = 0;

  constructor(output: CatchUpOutput) {
    this.#output = output;
  }

  onRequest(from: Endpoint, request: CatchUpRequest, source: CatchUpSource, nowMs: number): void {
    const former = this.#sessions.get(from);
    if (former === undefined && this.#sessions.size >= sessionsMax) return;
    const goesOn = former?.read?.hashAt((request.from - 1) as Seq) === request.prevHash;
    const session: Session = {
      request,
      cursor: { seq: request.from, offset: request.offset },
      creditLeft: Math.min(request.creditBytes, creditBytes),
      read: goesOn ? (former?.read ?? null) : null,
      readId: null,
      readThrough: 0 as Seq,
      atMs: nowMs,
    };
    this.#sessions.set(from, session);
    this.#serve(from, session, source);
  }

  /** Of what was read, what was final when it was asked for. */
  onJournalRead(readId: number, entries: readonly LogEntry[] | "gone", source: CatchUpSource): void {
    for (const [endpoint, session] of this.#sessions) {
      if (session.readId !== readId || session.cursor === null) continue;
      session.readId = null;
      if (entries === "gone") {
        this.#end(endpoint, session, "gone");
        continue;
      }
      const { seq } = session.cursor;
      session.read = proveRead(entries, seq, session.readThrough, this.#hashBefore(session, seq));
      if (session.read === null) this.#end(endpoint, session, "done");
      else this.#serve(endpoint, session, source);
    }
  }

  /** The hash of the entry before `seq`: the last one sent, or the asker's own. */
  #hashBefore(session: Session, seq: Seq): ChainHash {
    return seq === session.request.from ? session.request.prevHash : (session.read?.hashAt((seq - 1) as Seq) ?? session.request.prevHash);
  }

  onDisconnected(endpoint: Endpoint): void {
    this.#sessions.delete(endpoint);
  }

  tick(nowMs: number): void {
    for (const [endpoint, session] of this.#sessions) if (nowMs - session.atMs >= sessionIdleMs) this.#sessions.delete(endpoint);
  }

  #serve(to: Endpoint, session: Session, source: CatchUpSource): void {
    const { log, through } = source;
    const header = this.#output.frameHeader();
    const cursor = session.cursor;
    while (cursor !== null) {
      if (cursor.seq > through) {
        this.#end(to, session, "done");
        return;
      }
      if (session.creditLeft <= 0) {
        this.#end(to, session, "more");
        return;
      }
      const entries = cursor.seq > log.floor.seq ? log : session.read;
      const first = entries?.entryAt(cursor.seq);
      if (entries === null || first === undefined) {
        this.#read(to, session, source, cursor.seq);
        return;
      }
      if (cursor.offset >= first.bytes.length && cursor.offset > 0) {
        this.#end(to, session, "done");
        return;
      }
      const payload = packFrame(entries, header, cursor, through, catchUpFrameBytesMax);
      session.creditLeft -= payload.length;
      this.#output.sendPayload(to, payload);
    }
  }

  #read(to: Endpoint, session: Session, source: CatchUpSource, from: Seq): void {
    if (!source.hasJournal) {
      this.#end(to, session, "gone");
      return;
    }
    session.readId = ++this.#readIds;
    session.readThrough = source.log.floor.seq;
    this.#output.readJournal(session.readId, from, creditBytes);
  }

  #end(to: Endpoint, session: Session, outcome: CatchUpOutcome): void {
    session.cursor = null;
    // One that is over must not keep another asker waiting.
    if (outcome !== "more") this.#sessions.delete(to);
    this.#output.send(to, { kind: "catchUpEnd", term: this.#output.frameHeader().term, requestId: session.request.requestId, outcome });
  }
}

/** Null where what was read does not follow `prevHash`: the asker's history is another, and frames of the term will show where they part. */
function proveRead(entries: readonly LogEntry[], first: Seq, through: Seq, prevHash: ChainHash): JournalRead | null {
  const head = entries[0];
  if (head === undefined || head.seq !== first || first > through || chainHash(prevHash, head.term, head.bytes) !== head.hash) return null;
  return new JournalRead(entries.slice(0, through - first + 1), first, prevHash);
}

export interface CatchUpClientOutput {
  send(to: Endpoint, message: StreamMessage): void;
  /** The request for the first missing byte. */
  request(requestId: number): CatchUpRequest;
  needSnapshot(): void;
}

/** The receiver's end: one source at a time. */
export class CatchUpClient {
  readonly #output: CatchUpClientOutput;
  readonly #patienceMs: number;
  #target: Endpoint | null = null;
  #requestId = 0;
  #progress = -1;
  #progressMs = 0;
  /** Sources that no longer have what is missing. */
  readonly #gone = new Set<Endpoint>();
  /** Sources that were asked in vain since something came: one that is dead must not keep the others' "gone" from counting. */
  readonly #silent = new Set<Endpoint>();

  /** `patienceMs`: without progress for this long, the source is given up. */
  constructor(output: CatchUpClientOutput, patienceMs: number) {
    this.#output = output;
    this.#patienceMs = patienceMs;
  }

  get isActive(): boolean {
    return this.#target !== null;
  }

  start(target: Endpoint, nowMs: number): void {
    if (this.#target !== null) return;
    this.#target = target;
    this.#progressMs = nowMs;
    this.#ask();
  }

  stop(): void {
    this.#target = null;
  }

  /** `progress`: grows with every byte that is taken from frames. */
  tick(progress: number, nowMs: number): void {
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.#progressMs = nowMs;
      this.#silent.clear();
    }
    if (this.#target !== null && nowMs - this.#progressMs >= this.#patienceMs) this.#giveUp(this.#target);
  }

  onDisconnected(endpoint: Endpoint): void {
    this.#gone.delete(endpoint);
    if (this.#target === endpoint) this.#giveUp(endpoint);
  }

  #giveUp(source: Endpoint): void {
    this.#silent.add(source);
    this.stop();
  }

  /** `others`: further sources, best first. */
  onEnd(from: Endpoint, end: CatchUpEnd, others: readonly Endpoint[], nowMs: number): void {
    if (from !== this.#target || end.requestId !== this.#requestId) return;
    if (end.outcome === "more") {
      this.#progressMs = nowMs;
      this.#forget();
      this.#ask();
      return;
    }
    this.stop();
    if (end.outcome === "done") {
      this.#forget();
      return;
    }
    this.#gone.add(from);
    const next = others.find((endpoint) => !this.#gone.has(endpoint) && !this.#silent.has(endpoint));
    if (next !== undefined) {
      this.start(next, nowMs);
      return;
    }
    this.#forget();
    this.#output.needSnapshot();
  }

  #forget(): void {
    this.#gone.clear();
    this.#silent.clear();
  }

  #ask(): void {
    if (this.#target === null) return;
    this.#requestId++;
    this.#output.send(this.#target, this.#output.request(this.#requestId));
  }
}
