/**
 * When a receiver asks for its first gap: after a jitter (multicast can swap neighbours, and many ask at once), or almost at once where a parent sends by
 * unicast; then ever more rarely while nothing comes. Any progress starts over, so that a receiver which is merely a few frames behind asks for nothing.
 */
import type { Seq } from "../../base/ids.js";
import type { Random } from "../../base/random.js";
import type { StreamLimits } from "./stream-node-types.js";

/** How often the delay between requests doubles. Reason: 10 ms doubled six times is beyond half a second, the pace of a dead peer. */
const retryDoublingsMax = 6;

/** How an answer can be expected from who is asked first. */
export interface RepairWay {
  /** Frames come from one engine by unicast: in order, and with few others that miss the same. */
  readonly isOrdered: boolean;
  /** When the answer to the first request may be taken for lost. */
  readonly answerMs: number;
}

/** From this request on, every other one goes to another engine than the sequencer, where the gap is committed. */
export const otherPeersFromAttempt = 2;

export class RepairSchedule {
  readonly #random: Random;
  readonly #limits: StreamLimits;
  #dueMs: number | null = null;
  #seq = 0;
  #offset = 0;
  #attempts = 0;

  constructor(random: Random, limits: StreamLimits) {
    this.#random = random;
    this.#limits = limits;
  }

  /** Something is missing, and is asked for when its time comes. */
  get isWaiting(): boolean {
    return this.#dueMs !== null;
  }

  /** Nothing is missing, or something else takes care of it. */
  rest(): void {
    this.#dueMs = null;
  }

  /**
   * The first missing byte is at `offset` of `seq`. Returns how many requests went before, when one is due now; else null.
   */
  missing(seq: Seq, offset: number, way: RepairWay, nowMs: number): number | null {
    if (this.#dueMs === null || seq !== this.#seq || offset !== this.#offset) {
      this.#seq = seq;
      this.#offset = offset;
      this.#attempts = 0;
      this.#dueMs = nowMs + (way.isOrdered ? this.#limits.repairDelayMsMin : this.#jitterMs());
      return null;
    }
    if (nowMs < this.#dueMs) return null;
    const attempts = this.#attempts++;
    this.#dueMs = nowMs + way.answerMs * 2 ** Math.min(attempts, retryDoublingsMax) + (way.isOrdered ? 0 : this.#jitterMs());
    return attempts;
  }

  #jitterMs(): number {
    const { repairDelayMsMin, repairDelayMsMax } = this.#limits;
    return repairDelayMsMin + this.#random.integer(repairDelayMsMax - repairDelayMsMin + 1);
  }
}
