/**
 * What time it was at which seq: MARK entries carry the sequencer's clock, and every engine applies them alike, so a time names the same seq everywhere
 * (design.md §8 "`AS OF` reads"). Times rise from stamp to stamp, whatever clocks say. Pure.
 *
 * | a time | names |
 * |---|---|
 * | at or behind the newest stamp | nothing yet: what is ordered next may be of before it |
 * | before that | the last stamp at or before it |
 * | before the first | nothing any more |
 *
 * So what a time has once named it names for good, until the low-water mark passes it. The newest is kept for good when the next one comes, if one of its neighbours is `spacingMs`
 * away or more: a long history has no more stamps than a short one, and the last stamp before a quiet time stays.
 */
import { noSeq, type Seq } from "../base/ids.js";

export interface Stamp {
  readonly seq: Seq;
  readonly timeMs: number;
}

/** Of a history, about: two for each spacing. */
const spacingsPerHistory = 2000;
/** Beyond it the oldest go: times before the first that is left name nothing, seqs still do. Reason: a snapshot that is held for days. */
export const stampsMax = 8192;

export function spacingMsOf(historyMs: number): number {
  return historyMs / spacingsPerHistory;
}

export class Stamps {
  /** In the order of seq, and of time. */
  #stamps: Stamp[] = [];

  copy(): Stamps {
    const copy = new Stamps();
    copy.#stamps = [...this.#stamps];
    return copy;
  }

  get newest(): Stamp | null {
    return this.#stamps.at(-1) ?? null;
  }

  get all(): readonly Stamp[] {
    return this.#stamps;
  }

  /** Those that are stamps no more. */
  add(seq: Seq, timeMs: number, spacingMs: number): readonly Seq[] {
    const gone: Seq[] = [];
    const [before, last] = [this.#stamps.at(-2), this.#stamps.at(-1)];
    const time = Math.max(timeMs, (last?.timeMs ?? 0) + 1);
    if (before !== undefined && last !== undefined && last.timeMs - before.timeMs < spacingMs && time - last.timeMs < spacingMs) {
      this.#stamps.pop();
      gone.push(last.seq);
    }
    this.#stamps.push({ seq, timeMs: time });
    if (this.#stamps.length > stampsMax) gone.push(...this.#stamps.splice(0, this.#stamps.length - stampsMax).map((one) => one.seq));
    return gone;
  }

  /** The mark has passed these. */
  dropBelow(mark: Seq): readonly Seq[] {
    const kept = this.#stamps.findIndex(({ seq }) => seq >= mark);
    return this.#stamps.splice(0, kept < 0 ? this.#stamps.length : kept).map(({ seq }) => seq);
  }

  /** The last at or before the time, whether or not another may come: what is older than it is older than the time. `noSeq`: none. */
  lastAt(timeMs: number): Seq {
    return this.#stamps[this.#countUntil(timeMs) - 1]?.seq ?? noSeq;
  }

  /** As the table above says. */
  named(timeMs: number): Seq | "not yet" | "not any more" {
    const { newest } = this;
    if (newest === null || timeMs >= newest.timeMs) return "not yet";
    const seq = this.lastAt(timeMs);
    return seq === noSeq ? "not any more" : seq;
  }

  timeOf(seq: Seq): number | undefined {
    return this.#stamps.find((one) => one.seq === seq)?.timeMs;
  }

  /** Of a copy, in any order. */
  load(seq: Seq, timeMs: number): void {
    // Nearly in order, as stores have them: whoever leads makes a copy while others wait.
    let place = this.#stamps.length;
    while (place > 0 && (this.#stamps[place - 1] as Stamp).seq > seq) place--;
    this.#stamps.splice(place, 0, { seq, timeMs });
  }

  #countUntil(timeMs: number): number {
    let low = 0;
    let high = this.#stamps.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#stamps[middle] as Stamp).timeMs <= timeMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
