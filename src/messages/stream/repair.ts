/**
 * When a receiver asks for its first gap: after a jitter (multicast can swap neighbours), then ever more rarely while nothing comes.
 * Any progress starts over, so that a receiver which is merely a few frames behind asks for nothing.
 */
import type { Seq } from "../../base/ids.js";
import type { Random } from "../../base/random.js";
import type { StreamLimits } from "./stream-node-types.js";

/** How often the delay between requests doubles. Reason: 10 ms doubled six times is beyond half a second, the pace of a dead peer. */
const retryDoublingsMax = 6;

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
  missing(seq: Seq, offset: number, nowMs: number): number | null {
    if (this.#dueMs === null || seq !== this.#seq || offset !== this.#offset) {
      this.#seq = seq;
      this.#offset = offset;
      this.#attempts = 0;
      this.#dueMs = nowMs + this.#jitterMs();
      return null;
    }
    if (nowMs < this.#dueMs) return null;
    const attempts = this.#attempts++;
    this.#dueMs = nowMs + this.#limits.repairDelayMsMax * 2 ** Math.min(this.#attempts, retryDoublingsMax) + this.#jitterMs();
    return attempts;
  }

  #jitterMs(): number {
    const { repairDelayMsMin, repairDelayMsMax } = this.#limits;
    return repairDelayMsMin + this.#random.integer(repairDelayMsMax - repairDelayMsMin + 1);
  }
}
