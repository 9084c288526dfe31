/**
 * Asks holders for the chunks that pulls need, one holder at a time for each range: the best by what was measured (pull-sources.ts), of those that can have it.
 * Whoever does not answer in time, or cannot, is replaced; a chunk names its range, so the next one goes on from where it was.
 *
 * | label | the question is over when | then |
 * |---|---|---|
 * | answered | its chunk comes | measured |
 * | refused: busy | a Cache has too much to do | it is left alone for a little; another is asked |
 * | refused: notHeld | a Cache has given the range up meanwhile | it is not asked for this range again; another is |
 * | refused: gone | an Archive does not know (any more) what was there then | it is not asked for this range again; another is |
 * | silent | nothing comes for the patience with its kind | another is asked |
 * | lost | the connection breaks | another is asked |
 * | late | an answer comes to a question that is over | it is nobody's: numbers of questions are used once |
 *
 * Who can have it: Archives that are members; Caches that the catalog, as it is applied here, says are ready holders of the atom in which the chunk begins (never
 * one that is joining, has dropped it, or has left), but for ranges of indexes, and while transactions are open here: Archives alone have indexes' entries, and
 * what rows were at older snapshots. Without anybody, the pull waits.
 */
import type { Endpoint, Seq, SpaceId } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";
import type { PullRefusedMessage, PullReplyMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";
import { type Candidate, PullSources } from "./pull-sources.js";
import { chunksAtOnceMax } from "./row-source.js";

/** A source that has not answered within this is replaced: a Cache refuses what it cannot give soon, an Archive's store has to come up to the seq. Milliseconds. */
export const silentMs = { archive: 2000, cache: 300 } as const;
const chunkBytesMax = 256 * 1024;

/** What is asked for: rows as they are, as they were, or large values. */
const questionKinds = ["rows", "past", "values"] as const;
export type QuestionKind = (typeof questionKinds)[number];

/** By its number, which answers repeat. */
export function questionKindOf(pull: number): QuestionKind {
  return questionKinds[pull % questionKinds.length] as QuestionKind;
}

/** A range that is being fetched. */
export interface PulledRange {
  readonly space: SpaceId;
  /** The table, where the space is an index's. */
  readonly indexOf: SpaceId | null;
  /** How far it has come. */
  at: Buffer;
  readonly high: Buffer | null;
  /** Rows are to be of this seq at least. */
  minSeq: Seq;
  /** Rows are to be as they were then. 0: as they are. */
  readonly asOf: Seq;
  /** The open question's number; 0: none. */
  question: number;
  /** Caches that have not got it though the catalog says so; Archives that do not know what was there `asOf`, or have not got the value. */
  readonly notHeldBy: Set<Endpoint>;
  /** Who was asked last, and did not give a chunk. */
  leftBy: Endpoint | null;
}

interface Question<R> {
  readonly range: R;
  readonly source: Candidate;
  readonly askedMs: number;
}

export class PullQuestions<R extends PulledRange> {
  readonly sources = new PullSources();
  /** Rows of the table above; and questions of which the next one went to another holder. */
  readonly counters = { byArchive: 0, byCache: 0, busy: 0, notHeld: 0, gone: 0, silent: 0, lost: 0, elsewhere: 0 };
  readonly #context: CoreContext;
  readonly #open = new Map<number, Question<R>>();
  #nextNumber: number;

  constructor(context: CoreContext, about: QuestionKind) {
    this.#context = context;
    // Not from 1: an answer to a former core's question must not pass for one to this one's.
    this.#nextNumber = questionKinds.length * (1 + context.random.integer(2 ** 40)) + questionKinds.indexOf(about);
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** `since`: what rows were since then is wanted with them; `mustTell`: it will be read. False: there is nobody who could have it. */
  ask(range: R, since: Seq, mustTell: boolean): boolean {
    const { nowMs, random } = this.#context;
    const source = this.sources.choose(this.#candidates(range, mustTell), nowMs, random);
    if (source === undefined) return false;
    if (range.leftBy !== null && range.leftBy !== source.endpoint) this.counters.elsewhere++;
    range.leftBy = null;
    range.question = this.#nextNumber;
    this.#nextNumber += questionKinds.length;
    this.#open.set(range.question, { range, source, askedMs: nowMs });
    const { space, at, high, minSeq, asOf } = range;
    const pull = range.question;
    this.#context.send(source.endpoint, { kind: "pullRequest", pull, space, low: at, high, minSeq, since, bytesMax: chunkBytesMax, asOf });
    return true;
  }

  #candidates({ space, indexOf, at, notHeldBy }: R, mustTell: boolean): Candidate[] {
    const { catalog, engine } = this.#context;
    const asked = new Map<Endpoint, number>();
    for (const { source } of this.#open.values()) asked.set(source.endpoint, (asked.get(source.endpoint) ?? 0) + 1);
    const candidates: Candidate[] = [];
    for (const { kind, endpoint } of catalog.members.values())
      if (kind === "archive" && !notHeldBy.has(endpoint)) candidates.push({ kind, endpoint, asked: asked.get(endpoint) ?? 0 });
    const holders = indexOf === null && !mustTell ? (catalog.atoms.at(space, binaryKey(at))?.holders ?? []) : [];
    for (const holder of holders) {
      const member = catalog.members.get(holder.engine);
      if (holder.state !== "ready" || holder.engine === engine || member === undefined || notHeldBy.has(member.endpoint)) continue;
      const count = asked.get(member.endpoint) ?? 0;
      if (count < chunksAtOnceMax) candidates.push({ kind: "cache", endpoint: member.endpoint, asked: count });
    }
    return candidates;
  }

  /** The range that the chunk is of; undefined: late. */
  answered(from: Endpoint, { pull, seq, rows }: PullReplyMessage): R | undefined {
    const open = this.#open.get(pull);
    if (open === undefined || open.source.endpoint !== from || seq < open.range.minSeq) return undefined;
    let bytes = 0;
    for (const { key, row } of rows) bytes += key.length + row.length;
    const { nowMs } = this.#context;
    this.sources.answered(from, nowMs - open.askedMs, bytes, nowMs);
    this.counters[open.source.kind === "cache" ? "byCache" : "byArchive"]++;
    this.close(open.range);
    return open.range;
  }

  refused(from: Endpoint, { pull, reason }: PullRefusedMessage): void {
    const open = this.#open.get(pull);
    if (open === undefined || open.source.endpoint !== from) return;
    if (reason !== "gone") this.sources.refused(from, reason, this.#context.nowMs);
    if (reason !== "busy") open.range.notHeldBy.add(from);
    this.#leave(open, reason);
  }

  #leave({ range, source }: Question<R>, why: "busy" | "notHeld" | "gone" | "silent" | "lost"): void {
    this.counters[why]++;
    range.leftBy = source.endpoint;
    this.close(range);
  }

  /** Whatever is still answered for the range is late. */
  close(range: R): void {
    this.#open.delete(range.question);
    range.question = 0;
  }

  disconnected(endpoint: Endpoint): void {
    for (const open of this.#open.values()) {
      if (open.source.endpoint !== endpoint) continue;
      this.sources.lost(endpoint, this.#context.nowMs);
      this.#leave(open, "lost");
    }
  }

  turnEnd(): void {
    const { nowMs } = this.#context;
    for (const open of this.#open.values()) {
      const { source, askedMs } = open;
      if (nowMs - askedMs <= silentMs[source.kind]) continue;
      this.sources.silent(source.endpoint, nowMs - askedMs, nowMs);
      this.#leave(open, "silent");
    }
  }
}
