/**
 * What of the tables statements have used since it was asked last: the eviction's evidence (engines/eviction.ts). It is a sample: beyond a bound no
 * more is noted until it is asked again, and of a table that is held whole only that it was used. So a statement pays one comparison where all
 * its tables are whole, and an element of a list for each range where they are not.
 */
import type { SpaceId } from "../base/ids.js";
import type { BinaryRange } from "../base/key-ranges.js";
import type { PullNeed } from "./local-store.js";
import { joinRanges } from "./plan/key-selector.js";

/** Ranges noted between two questions. Reason: asked ten times a second, these are ten thousand statements a second, which is sample enough. */
export const usedRangesMax = 1024;

export class UsedRanges {
  /** Raised when it is asked: a plan that has noted its tables in this round need not do so again. */
  round = 0;
  #spaces = new Set<SpaceId>();
  #ranges = new Map<SpaceId, BinaryRange[]>();
  #left = usedRangesMax;

  noteSpace(space: SpaceId): void {
    this.#spaces.add(space);
  }

  note(space: SpaceId, ranges: readonly BinaryRange[]): void {
    if (this.#left === 0) return;
    const known = this.#ranges.get(space) ?? [];
    if (known.length === 0) this.#ranges.set(space, known);
    for (const range of ranges) {
      if (this.#left === 0) return;
      this.#left--;
      known.push(range);
    }
  }

  take(): PullNeed[] {
    const used: PullNeed[] = [...this.#spaces].map((space) => ({ space, ranges: null }));
    for (const [space, ranges] of this.#ranges) if (!this.#spaces.has(space)) used.push({ space, ranges: joinRanges(ranges) });
    this.round++;
    this.#spaces = new Set();
    this.#ranges = new Map();
    this.#left = usedRangesMax;
    return used;
  }
}
