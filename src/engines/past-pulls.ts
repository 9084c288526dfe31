/**
 * What a store of the past needs is asked of Archives alone, as it was then, chunk by chunk. Nobody becomes a holder by it: what was there does not change any more.
 * Whole ranges are asked for as the statement named them; of an index, the entries first, and then the rows that they stand for (sql/held-indexes.ts).
 *
 * | a range | then |
 * |---|---|
 * | has keys in common with one that is under way | waits for that; the statement asks again for what is missing |
 * | of an index, is all of it, has more than one chunk or entriesMax entries, or is known to no Archive any more | the whole table instead |
 * | is whole | who waits for it and for nothing else goes on |
 * | of a table, is known to no Archive any more | all that wait fail: the past is gone |
 */
import type { Endpoint, Seq, SpaceId } from "../base/ids.js";
import { type BinaryRange, overlap, wholeRange } from "../base/key-ranges.js";
import type { LargeValue } from "../base/large-values.js";
import type { PullRefusedMessage, PullReplyMessage } from "../messages/wire/engine-messages.js";
import type { PullNeed } from "../sql/local-store.js";
import type { CoreContext } from "./core-context.js";
import type { LargeValuePulls } from "./large-value-pulls.js";
import type { LocalDriver } from "./local-driver.js";
import { type PulledRange, PullQuestions } from "./pull-questions.js";

/** Chunks asked for or being installed at once, of all stores of the past together. */
const chunksAtOnceMax = 4;
/** Entries of one range of an index, and ranges in one need, that are looked up. */
const entriesMax = 1000;
const lookUpsMax = 256;

export interface PastSource {
  readonly seq: Seq;
  readonly driver: LocalDriver;
  /** Of keys and rows that were pulled. */
  bytes: number;
}

interface PastRange extends PulledRange {
  readonly source: PastSource;
  readonly low: Buffer;
  /** `low` and `high` again, to compare with. */
  readonly range: BinaryRange;
  /** Its large values are being fetched, it is being installed, or its entries' rows are under way. */
  reply: PullReplyMessage | null;
  forgetValues: () => void;
}

interface Waiting {
  readonly source: PastSource;
  needs: readonly PullNeed[];
  readonly then: (outcome: "held" | "gone") => void;
}

export class PastPulls {
  readonly #questions: PullQuestions<PastRange>;
  readonly #values: LargeValuePulls;
  readonly #tasks = new Set<PastRange>();
  #waiting: Waiting[] = [];
  readonly counters = { chunks: 0 };

  constructor(context: CoreContext, values: LargeValuePulls) {
    this.#questions = new PullQuestions(context, "past");
    this.#values = values;
  }

  /** `then` is called once: when nothing that the needs overlap is under way any more, or when it never will be here. */
  ensure(source: PastSource, needs: readonly PullNeed[], then: Waiting["then"]): void {
    const waiting: Waiting = { source, needs: needs.map(wholeIfWide), then };
    this.#waiting.push(waiting);
    for (const need of waiting.needs) this.#start(source, need);
    this.#wake();
  }

  #start(source: PastSource, need: PullNeed): void {
    const { space, ranges } = need;
    const indexOf = need.indexOf ?? null;
    for (const range of ranges ?? [wholeRange]) {
      if (this.#isUnderWay(source, space, range)) continue;
      const [low, high] = [Buffer.from(range.low, "latin1"), range.high === null ? null : Buffer.from(range.high, "latin1")];
      source.driver.beginHold(space, low, high);
      const { seq } = source;
      const asked = { space, indexOf, at: low, high, minSeq: seq, asOf: seq, question: 0, notHeldBy: new Set<Endpoint>(), leftBy: null };
      this.#tasks.add({ ...asked, source, low, range, reply: null, forgetValues: () => {} });
    }
  }

  #isUnderWay(source: PastSource, space: SpaceId, range: BinaryRange): boolean {
    for (const task of this.#tasks) if (task.source === source && task.space === space && overlap(task.range, range)) return true;
    return false;
  }

  onReply(from: Endpoint, message: PullReplyMessage): void {
    const task = this.#questions.answered(from, message);
    if (task === undefined) return;
    this.counters.chunks++;
    for (const { key, row } of message.rows) task.source.bytes += key.length + row.length;
    task.reply = message;
    if (task.indexOf === null) this.#fetchValues(task, message);
    else if (message.next !== null || message.rows.length > entriesMax) this.#instead(task, task.indexOf);
    else this.#install(task, message, []);
  }

  #fetchValues(task: PastRange, message: PullReplyMessage): void {
    task.forgetValues = this.#values.fetch(message.rows, task.source.seq, (values) => {
      if (values === "gone") {
        this.#gone(task);
        return;
      }
      for (const { bytes } of values) task.source.bytes += bytes.length;
      this.#install(task, message, values);
    });
  }

  refused(from: Endpoint, message: PullRefusedMessage): void {
    this.#questions.refused(from, message);
  }

  #install(task: PastRange, message: PullReplyMessage, values: readonly LargeValue[]): void {
    const { source, space, at, high } = task;
    const { seq } = source;
    source.driver.install(space, at, message.next ?? high, seq, seq, { rows: message.rows, images: [], values }, (outcome) => {
      if (!this.#tasks.has(task)) return;
      if (typeof outcome === "object") {
        // The rows of an index's entries: they wait for nothing else, so this ends.
        this.ensure(source, [outcome], (rows) => {
          if (rows === "gone") this.#gone(task);
          else if (this.#tasks.has(task)) this.#install(task, message, values);
        });
        return;
      }
      task.reply = null;
      if (message.next !== null) task.at = message.next;
      else this.#tasks.delete(task);
      this.#wake();
    });
  }

  /** The whole table instead of a range of an index. */
  #instead(task: PastRange, table: SpaceId): void {
    this.#tasks.delete(task);
    task.source.driver.abandonHold(task.space, task.low, task.high);
    const need = { space: table, ranges: null };
    for (const waiting of this.#waiting) if (waitsFor(waiting, task)) waiting.needs = [...waiting.needs, need];
    this.#start(task.source, need);
    this.#wake();
  }

  /** Nobody can tell what was in the range. */
  #gone(task: PastRange): void {
    const { source, space, indexOf, low, high } = task;
    if (indexOf !== null) {
      this.#instead(task, indexOf);
      return;
    }
    this.#tasks.delete(task);
    this.#questions.close(task);
    source.driver.abandonHold(space, low, high);
    const lost = this.#waiting.filter((waiting) => waitsFor(waiting, task));
    this.#waiting = this.#waiting.filter((waiting) => !lost.includes(waiting));
    for (const { then } of lost) then("gone");
  }

  /** The store is closed, or begins anew. */
  forget(source: PastSource): void {
    for (const task of this.#tasks) {
      if (task.source !== source) continue;
      this.#tasks.delete(task);
      this.#questions.close(task);
      task.forgetValues();
    }
    this.#wake();
  }

  isWaitedFor(source: PastSource): boolean {
    return this.#waiting.some((waiting) => waiting.source === source);
  }

  departed(endpoint: Endpoint): void {
    this.#questions.sources.departed(endpoint);
  }

  disconnected(endpoint: Endpoint): void {
    this.#questions.disconnected(endpoint);
  }

  turnEnd(): void {
    this.#questions.turnEnd();
    let chunks = this.#questions.openCount;
    for (const { reply, indexOf } of this.#tasks) if (reply !== null && indexOf === null) chunks++;
    for (const task of [...this.#tasks]) {
      if (chunks >= chunksAtOnceMax) return;
      if (task.question !== 0 || task.reply !== null || !this.#tasks.has(task)) continue;
      if (this.#questions.ask(task, task.source.seq, true)) chunks++;
      else if (task.notHeldBy.size > 0) this.#gone(task);
    }
  }

  #wake(): void {
    // Task by task: the first of those that a statement waits for tells that it waits, where range by range all that have come are looked at first.
    const ready = this.#waiting.filter((waiting) => !this.#isAwaited(waiting));
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((one) => !ready.includes(one));
    for (const { then } of ready) then("held");
  }

  #isAwaited(waiting: Waiting): boolean {
    for (const task of this.#tasks) if (waitsFor(waiting, task)) return true;
    return false;
  }
}

/** Of an index, a few ranges are looked up; for more, the table is taken. */
function wholeIfWide(need: PullNeed): PullNeed {
  const isWide = need.indexOf !== undefined && (need.ranges === null || need.ranges.length > lookUpsMax);
  return isWide ? { space: need.indexOf as SpaceId, ranges: null } : need;
}

function waitsFor({ source, needs }: Waiting, task: PastRange): boolean {
  return (
    source === task.source &&
    needs.some(({ space, ranges }) => space === task.space && (ranges === null || ranges.some((range) => overlap(range, task.range))))
  );
}
