/**
 * Fetches the large values that pulled rows refer to (base/large-values.ts), in chunks, from Archives. What is named by its content is the same wherever it comes from, so nobody
 * becomes a holder by it, and each value may come from several in turn.
 *
 * | a value | then |
 * |---|---|
 * | has come, all of it | kept until all that were asked for with it have |
 * | is not with the Archive that was asked, or not all of it | asked of another, from there on: one that began from a copy has no values that only the past refers to |
 * | is with none of them (any more) | the row that refers to it has changed since it was read, and nobody reads that any more: "gone", and whoever asked reads the rows again |
 *
 * Memory is bounded by who asks: a chunk of rows has one large row, or values that weigh as little as its rows (AtomStore.readRows), and few are under way at once.
 */
import { type Endpoint, largeValueSpace, noSeq, type Seq } from "../base/ids.js";
import { chunkKey, chunkKeys, type LargeValue, nameOfValue, referencesOf } from "../base/large-values.js";
import type { Reference } from "../base/values.js";
import type { PullRefusedMessage, PullReplyMessage } from "../messages/wire/engine-messages.js";
import type { CoreContext } from "./core-context.js";
import { type PulledRange, PullQuestions } from "./pull-questions.js";

/** Questions that are open at once, of a quarter of a mebibyte each. */
const questionsAtOnceMax = 8;

interface Fetch {
  /** Values that are still to come. */
  missing: number;
  readonly values: LargeValue[];
  readonly then: (values: readonly LargeValue[] | "gone") => void;
}

interface Task extends PulledRange {
  readonly fetch: Fetch;
  readonly hash: Buffer;
  readonly byteCount: number;
  readonly chunks: Buffer[];
  fetched: number;
}

export class LargeValuePulls {
  readonly #questions: PullQuestions<Task>;
  readonly #tasks = new Set<Task>();
  /** Values that were pulled, and their bytes; and how often one was gone. */
  readonly counters = { values: 0, bytes: 0, gone: 0 };

  constructor(context: CoreContext) {
    this.#questions = new PullQuestions(context, "values");
  }

  /** What these rows refer to, as it was at `seq` or later. `then` is called once, at once where they refer to nothing, unless what it returns is called before. */
  fetch(rows: Iterable<{ readonly row: Uint8Array | null }>, seq: Seq, then: Fetch["then"]): () => void {
    const references = new Map<string, Reference>();
    for (const { row } of rows) for (const one of row === null ? [] : referencesOf(row)) references.set(nameOfValue(one.hash), one);
    const fetch: Fetch = { missing: references.size, values: [], then };
    for (const { hash, byteCount } of references.values()) {
      const { low, high } = chunkKeys(hash);
      const asked = {
        space: largeValueSpace,
        indexOf: null,
        at: low,
        high,
        minSeq: seq,
        asOf: noSeq,
        question: 0,
        notHeldBy: new Set<Endpoint>(),
        leftBy: null,
      };
      this.#tasks.add({ ...asked, fetch, hash: Buffer.from(hash), byteCount, chunks: [], fetched: 0 });
    }
    if (fetch.missing === 0) then([]);
    return () => this.#forget(fetch);
  }

  #forget(fetch: Fetch): void {
    for (const task of this.#tasks) {
      if (task.fetch !== fetch) continue;
      this.#tasks.delete(task);
      this.#questions.close(task);
    }
  }

  onReply(from: Endpoint, message: PullReplyMessage): void {
    const task = this.#questions.answered(from, message);
    if (task === undefined) return;
    for (const { row } of message.rows) {
      // Copied: it is a view of the message, which would be kept for it.
      task.chunks.push(Buffer.from(row));
      task.fetched += row.length;
    }
    const { fetch, hash, byteCount } = task;
    if (task.fetched < byteCount) {
      task.at = chunkKey(hash, task.chunks.length);
      if (message.next === null) task.notHeldBy.add(from);
      return;
    }
    this.#tasks.delete(task);
    this.counters.values++;
    this.counters.bytes += byteCount;
    fetch.values.push({ hash, bytes: Buffer.concat(task.chunks) });
    if (--fetch.missing === 0) fetch.then(fetch.values);
  }

  #gone({ fetch }: Task): void {
    this.#forget(fetch);
    this.counters.gone++;
    fetch.then("gone");
  }

  refused(from: Endpoint, message: PullRefusedMessage): void {
    this.#questions.refused(from, message);
  }

  departed(endpoint: Endpoint): void {
    this.#questions.sources.departed(endpoint);
  }

  disconnected(endpoint: Endpoint): void {
    this.#questions.disconnected(endpoint);
  }

  turnEnd(): void {
    this.#questions.turnEnd();
    for (const task of [...this.#tasks]) {
      if (this.#questions.openCount >= questionsAtOnceMax) return;
      if (task.question !== 0 || !this.#tasks.has(task)) continue;
      if (!this.#questions.ask(task, noSeq, true) && task.notHeldBy.size > 0) this.#gone(task);
    }
  }
}
