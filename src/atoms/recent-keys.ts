/**
 * When keys last changed: what lets an originator refuse a permission whose snapshot is older (design.md §6). Bounded: what has not changed for
 * longest is forgotten, and the floor says since when nothing has been.
 *
 * Two generations: notes go to the young one. When it has half of what may be remembered, it becomes the old one, and what only the former old one
 * knew is forgotten at once. (To forget keys one by one, oldest first, takes ever longer: a Map's iteration passes all that was deleted before.)
 */
import type { Seq, SpaceId } from "../base/ids.js";

/** Keys remembered at most, about 150 bytes each. What is forgotten: requests from before it run again at a newer snapshot. */
export const recentKeysMax = 200_000;

interface Recent {
  write: number;
  /** A delete, or the key's going: the only change that disturbs an `exist`. */
  delete: number;
  /** A child row that relied on the key: it disturbs a later delete at an older snapshot. */
  exist: number;
}

interface Generation {
  readonly spaces: Map<SpaceId, Map<string, Recent>>;
  count: number;
  /** Of all that it was given. */
  newest: number;
}

export type KeyUse = "write" | "delete" | "exist";

export class RecentKeys {
  /** A key is in one of them, or in both: the young one then has all that is known of it. */
  #young = emptyGeneration();
  #old = emptyGeneration();
  readonly #spaces = new Map<SpaceId, number>();
  readonly #generationMax: number;
  /** Every unknown key counts as changed at this seq. */
  #floor: number;

  constructor(floor: Seq, keysMax = recentKeysMax) {
    this.#floor = floor;
    this.#generationMax = Math.max(1, Math.floor(keysMax / 2));
  }

  get size(): number {
    return this.#young.count + this.#old.count;
  }

  note(seq: Seq, space: SpaceId, key: string, use: KeyUse): void {
    const recent = this.#inYoung(space, key);
    recent[use] = seq;
    if (use === "delete") recent.write = seq;
    if (use !== "exist") this.#spaces.set(space, seq);
    this.#young.newest = seq;
    if (this.#young.count < this.#generationMax) return;
    this.#floor = Math.max(this.#floor, this.#old.newest);
    this.#old = this.#young;
    this.#young = emptyGeneration();
  }

  #inYoung(space: SpaceId, key: string): Recent {
    let keys = this.#young.spaces.get(space);
    if (keys === undefined) {
      keys = new Map();
      this.#young.spaces.set(space, keys);
    }
    const known = keys.get(key);
    if (known !== undefined) return known;
    const old = this.#old.spaces.get(space)?.get(key);
    const recent = old === undefined ? { write: 0, delete: 0, exist: 0 } : { ...old };
    keys.set(key, recent);
    this.#young.count++;
    return recent;
  }

  /** Schema changes count for every row of the table. */
  noteSpace(seq: Seq, space: SpaceId): void {
    this.#spaces.set(space, seq);
  }

  forgetSpace(space: SpaceId): void {
    this.#spaces.delete(space);
  }

  /** The seq that a snapshot must have reached for this use of the key; 0 when `snapshot` will do. */
  newerThan(snapshot: Seq, space: SpaceId, key: string, use: KeyUse): Seq {
    const recent = this.#young.spaces.get(space)?.get(key) ?? this.#old.spaces.get(space)?.get(key);
    // What is 0 may have happened and been forgotten, at or before the floor.
    const newestOf = (seq: number | undefined): number => seq || this.#floor;
    let newest = newestOf(use === "exist" ? recent?.delete : recent?.write);
    if (use === "delete") newest = Math.max(newest, newestOf(recent?.exist));
    return (newest > snapshot ? newest : 0) as Seq;
  }

  /** When a key of [low, high) last changed, as far as is known (high null: to the end). null: the space has more than `keysMax` keys to look at. */
  newestWithin(space: SpaceId, low: string, high: string | null, keysMax: number): Seq | null {
    const generations = [this.#young.spaces.get(space), this.#old.spaces.get(space)];
    if (generations.reduce((sum, keys) => sum + (keys?.size ?? 0), 0) > keysMax) return null;
    let newest = this.#floor;
    for (const keys of generations)
      for (const [key, { write }] of keys ?? []) if (write > newest && key >= low && (high === null || key < high)) newest = write;
    return newest as Seq;
  }

  /** Likewise for any row of the space. */
  spaceNewerThan(snapshot: Seq, space: SpaceId): Seq {
    const newest = this.#spaces.get(space) ?? this.#floor;
    return (newest > snapshot ? newest : 0) as Seq;
  }
}

function emptyGeneration(): Generation {
  return { spaces: new Map(), count: 0, newest: 0 };
}
