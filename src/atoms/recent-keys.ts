/**
 * When keys last changed: what lets an originator refuse a permission whose snapshot is older (design.md §6). Bounded: what has not changed for
 * longest is forgotten, and the floor says since when nothing has been.
 *
 * Two generations: notes go to the young one. When it has half of what may be remembered, it becomes the old one, and what only the former old one
 * knew is forgotten at once. (To forget keys one by one, oldest first, takes ever longer: a Map's iteration passes all that was deleted before.)
 */
import type { Seq, SpaceId } from "../base/ids.js";

/** Keys remembered at most, about 100 bytes each. What is forgotten: requests from before it run again at a newer snapshot. */
export const recentKeysMax = 200_000;

interface Uses {
  write: number;
  /** A delete, or the key's going: the only change that disturbs an `exist`. */
  delete: number;
  /** A child row that relied on the key: it disturbs a later delete at an older snapshot. */
  exist: number;
}

/** What is known of a key: the seq of a write, or less the seq of a delete, which is a write as well, where there is nothing else; as most keys are. */
type Recent = number | Uses;

interface SpaceKeys {
  readonly keys: Map<string, Recent>;
  /** One of its keys was not only written: a younger generation must know that as well. */
  hasOthers: boolean;
}

interface Generation {
  readonly spaces: Map<SpaceId, SpaceKeys>;
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
    this.#remember(seq, space, key, use);
    if (use !== "exist") this.#spaces.set(space, seq);
    this.#young.newest = seq;
    if (this.#young.count < this.#generationMax) return;
    this.#floor = Math.max(this.#floor, this.#old.newest);
    this.#old = this.#young;
    this.#young = emptyGeneration();
  }

  #remember(seq: Seq, space: SpaceId, key: string, use: KeyUse): void {
    let young = this.#young.spaces.get(space);
    if (young === undefined) {
      young = { keys: new Map(), hasOthers: false };
      this.#young.spaces.set(space, young);
    }
    let known = young.keys.get(key);
    if (known === undefined) {
      this.#young.count++;
      const old = this.#old.spaces.get(space);
      if (old !== undefined && (use === "exist" || old.hasOthers)) known = old.keys.get(key);
    }
    const next = withUse(known, seq, use);
    if (typeof next === "object" || next < 0) young.hasOthers = true;
    young.keys.set(key, next);
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
    const recent = this.#young.spaces.get(space)?.keys.get(key) ?? this.#old.spaces.get(space)?.keys.get(key);
    // What is 0 may have happened and been forgotten, at or before the floor.
    const newestOf = (seq: number): number => seq || this.#floor;
    let newest = newestOf(use === "exist" ? deleteOf(recent) : writeOf(recent));
    if (use === "delete") newest = Math.max(newest, newestOf(existOf(recent)));
    return (newest > snapshot ? newest : 0) as Seq;
  }

  /** When a key of [low, high) last changed, as far as is known (high null: to the end). null: the space has more than `keysMax` keys to look at. */
  newestWithin(space: SpaceId, low: string, high: string | null, keysMax: number): Seq | null {
    const generations = [this.#young.spaces.get(space)?.keys, this.#old.spaces.get(space)?.keys];
    if (generations.reduce((sum, keys) => sum + (keys?.size ?? 0), 0) > keysMax) return null;
    let newest = this.#floor;
    for (const keys of generations)
      for (const [key, recent] of keys ?? []) {
        const write = writeOf(recent);
        if (write > newest && key >= low && (high === null || key < high)) newest = write;
      }
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

function withUse(known: Recent | undefined, seq: Seq, use: KeyUse): Recent {
  const isOther = typeof known === "object" || (known ?? 0) < 0;
  if (use === "write" && !isOther) return seq;
  if (use === "delete" && typeof known !== "object") return -seq;
  const uses = { write: writeOf(known), delete: deleteOf(known), exist: existOf(known) };
  uses[use] = seq;
  if (use === "delete") uses.write = seq;
  return uses;
}

function writeOf(recent: Recent | undefined): number {
  return typeof recent === "object" ? recent.write : Math.abs(recent ?? 0);
}

function deleteOf(recent: Recent | undefined): number {
  return typeof recent === "object" ? recent.delete : Math.max(0, -(recent ?? 0));
}

function existOf(recent: Recent | undefined): number {
  return typeof recent === "object" ? recent.exist : 0;
}
