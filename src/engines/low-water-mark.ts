/**
 * When the sequencer orders a MARK, and with which seq (design.md §8 "Low-water mark"). The mark is a promise of all members together: none of them reads
 * a snapshot below it, now or later. What rows were before it nobody asks for any more.
 *
 * Each engine promises with its acks (`oldestSnapshot`): its oldest open transaction, else what its store has applied. Only promises that were made in the
 * sequencer's own term count, one of every member of its log. An engine whose BOOT comes later reads nothing older than its BOOT, which is above every
 * MARK before it; one that has departed is not waited for. So the mark is never above a promise of a member, whoever orders it. Who reads the past has said so by a
 * PIN, which is in the log: it counts as a promise.
 *
 * With a history (`PRAGMA atomcast.history`) it also trails the sequencer's clock by that much: it rises no higher than the last stamp of so long ago
 * (catalog/stamps.ts). MARK entries are those stamps.
 *
 * | the smallest promise, or stamp, is | then |
 * |---|---|
 * | unknown: a member has promised nothing in this term | nothing |
 * | at or below the mark | nothing |
 * | above the mark, and nothing was written between the mark and it | nothing: an idle database goes quiet |
 * | above the mark by stepMin or more | MARK, at most once in everyMs |
 * | above the mark by less | MARK, at most once in patienceFactor times that |
 *
 * | there is a history, and | then |
 * |---|---|
 * | something was written since the last stamp | MARK, at most once in everyMs, though the mark should not rise |
 * | a PIN asks what time it is (with or without a history) | MARK, at once |
 */
import type { EngineId, Seq } from "../base/ids.js";
import { noSeq } from "../base/ids.js";
import type { Catalog } from "../catalog/catalog.js";
import type { StreamView } from "../messages/stream/stream-node-types.js";
import type { Entry, MarkEntry } from "../messages/wire/entry.js";

/** Entries. A MARK for less is not worth much: a few old versions may wait. */
const stepMin = 100;
const patienceFactor = 10;

export class LowWaterMark {
  readonly #everyMs: number;
  #orderedMs = 0;
  #raisedMs = 0;
  /** The last entry of the log that may have left an old version of a row. */
  #writtenSeq: Seq = noSeq;
  /** Somebody asks what time it is. */
  #isStampWanted = false;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** A new term: what was written before counts as written at its end. */
  begin(lastSeq: Seq, nowMs: number): void {
    this.#writtenSeq = lastSeq;
    this.#orderedMs = nowMs;
    this.#raisedMs = nowMs;
  }

  /** An entry of the log. */
  note(seq: Seq, entry: Entry): void {
    if (entry.kind !== "proposal") return;
    if (entry.body.kind === "transaction") this.#writtenSeq = seq;
    if (entry.body.kind === "pin" && entry.body.wantsStamp) this.#isStampWanted = true;
  }

  /** The MARK that is to be ordered now; null: none. `self`: the sequencer's own engine id. */
  next(log: Catalog, view: StreamView, self: EngineId, nowMs: number): MarkEntry | null {
    if (!this.#isStampWanted && nowMs - this.#orderedMs < this.#everyMs) return null;
    const isStampDue = this.#isStampWanted || (log.historyMs > 0 && this.#writtenSeq > (log.stamps.newest?.seq ?? noSeq));
    const oldest = this.#oldest(log, view, self, nowMs);
    const raised = oldest !== null && Math.min(oldest, this.#writtenSeq) > log.mark ? oldest : log.mark;
    const isPatient = raised - log.mark < stepMin && nowMs - this.#raisedMs < this.#everyMs * patienceFactor;
    if (!isStampDue && (raised === log.mark || isPatient)) return null;
    this.#orderedMs = nowMs;
    this.#isStampWanted = false;
    if (raised > log.mark) this.#raisedMs = nowMs;
    return { kind: "mark", mark: raised, timeMs: Math.floor(nowMs) };
  }

  /** How high the mark may be. null: not known yet. */
  #oldest(log: Catalog, view: StreamView, self: EngineId, nowMs: number): Seq | null {
    const promised = oldestPromise(log, view, self);
    if (promised === null || log.historyMs === 0) return promised;
    return Math.min(promised, log.stamps.lastAt(nowMs - log.historyMs)) as Seq;
  }
}

/** null: not known yet. */
function oldestPromise(log: Catalog, view: StreamView, self: EngineId): Seq | null {
  let oldest: Seq | null = null;
  for (const { id, endpoint, pin } of log.members.values()) {
    if (pin !== noSeq && (oldest === null || pin < oldest)) oldest = pin;
    const heard = id === self ? view : view.heardFrom(endpoint);
    if (heard === null || ("engine" in heard && heard.engine !== id) || heard.oldestSnapshot === noSeq) return null;
    if (oldest === null || heard.oldestSnapshot < oldest) oldest = heard.oldestSnapshot;
  }
  return oldest;
}
