/**
 * What a Cache gives of its rows to other Caches that pull them (design.md §5 "A pull"): chunks that its local store's thread reads and encodes, between its own
 * statements. Nobody who asks waits long: what cannot be given soon is refused, and the asker goes on with another holder from where it was.
 *
 * | label | a request | answer |
 * |---|---|---|
 * | given | its seq is posted to the store, and the store holds the range from its beginning on | a chunk, as of what the store has applied then |
 * | early | its seq is not applied here yet | waits for it, for patienceMs |
 * | not held | the store has given the range up, or never had it | refused: notHeld |
 * | full | as many chunks as may be are being read, or requests wait | refused: busy |
 * | held up | the store's thread has not come to it within patienceMs: a long statement, a large apply | refused: busy, and what comes of it later is thrown away |
 */
import type { Endpoint } from "../base/ids.js";
import { encodeEngineMessage, type PullRequestMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";
import type { LocalDriver } from "./local-driver.js";

/** Chunks that the store is reading: a statement of this Cache waits for so many at most. */
export const chunksAtOnceMax = 2;
/** Requests whose seq is not applied here yet. */
const earlyMax = 64;
/** Longer than a chunk takes to read, far shorter than a pull's patience with a source. Milliseconds. */
export const patienceMs = 50;

interface Question {
  readonly from: Endpoint;
  readonly request: PullRequestMessage;
  readonly sinceMs: number;
  isRefused: boolean;
}

/** What one engine was given, since it became a member. */
export interface Given {
  chunks: number;
  bytes: number;
  busy: number;
  notHeld: number;
}

export class RowSource {
  readonly #context: CoreContext;
  readonly #local: LocalDriver;
  #early: Question[] = [];
  readonly #reading = new Set<Question>();
  /** Of members. */
  readonly given = new Map<Endpoint, Given>();

  constructor(context: CoreContext, local: LocalDriver) {
    this.#context = context;
    this.#local = local;
  }

  onRequest(from: Endpoint, request: PullRequestMessage): void {
    const question = { from, request, sinceMs: this.#context.nowMs, isRefused: false };
    if (request.minSeq <= this.#context.appliedSeq) this.#read(question);
    else if (this.#early.length < earlyMax) this.#early.push(question);
    else this.#refuse(question, "busy");
  }

  #read(question: Question): void {
    if (this.#reading.size >= chunksAtOnceMax) {
      this.#refuse(question, "busy");
      return;
    }
    this.#reading.add(question);
    this.#local.readChunk(question.request, (message) => {
      this.#reading.delete(question);
      if (question.isRefused) return;
      if (message === null) this.#refuse(question, "notHeld");
      else this.#give(question, message);
    });
  }

  #give({ from }: Question, payload: Buffer): void {
    this.#context.push({ kind: "send", to: from, channel: "reliable", payload });
    const given = this.#givenTo(from);
    given.chunks++;
    given.bytes += payload.length;
  }

  #refuse(question: Question, reason: "busy" | "notHeld"): void {
    question.isRefused = true;
    this.#givenTo(question.from)[reason]++;
    this.#context.push({
      kind: "send",
      to: question.from,
      channel: "reliable",
      payload: encodeEngineMessage({ kind: "pullRefused", pull: question.request.pull, reason }),
    });
  }

  /** Of one that is no member, or not any more, nothing is remembered. */
  #givenTo(endpoint: Endpoint): Given {
    const known = this.given.get(endpoint);
    if (known !== undefined) return known;
    const given = { chunks: 0, bytes: 0, busy: 0, notHeld: 0 };
    for (const member of this.#context.catalog.members.values()) if (member.endpoint === endpoint) this.given.set(endpoint, given);
    return given;
  }

  /** After a batch of entries. */
  onApplied(): void {
    if (this.#early.length === 0) return;
    const { appliedSeq } = this.#context;
    const ready = this.#early.filter(({ request }) => request.minSeq <= appliedSeq);
    this.#early = this.#early.filter(({ request }) => request.minSeq > appliedSeq);
    for (const question of ready) this.#read(question);
  }

  tick(): void {
    const isHeldUp = (question: Question): boolean => this.#context.nowMs - question.sinceMs > patienceMs;
    for (const question of this.#reading) if (!question.isRefused && isHeldUp(question)) this.#refuse(question, "busy");
    for (const question of this.#early) if (isHeldUp(question)) this.#refuse(question, "busy");
    this.#early = this.#early.filter((question) => !question.isRefused);
  }

  departed(endpoint: Endpoint): void {
    this.given.delete(endpoint);
  }
}
