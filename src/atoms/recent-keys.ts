/**
 * When keys last changed: what lets an originator refuse a permission whose snapshot is older (design.md §6). Bounded: beyond the bound the
 * oldest are forgotten, and the floor says since when nothing has been.
 */
import type { Seq, SpaceId } from "../base/ids.js";

/** Keys remembered, about 150 bytes each. Beyond it the oldest are forgotten: requests from before them run again at a newer snapshot. */
export const recentKeysMax = 200_000;

interface Recent {
  write: number;
  /** A delete, or the key's going: the only change that disturbs an `exist`. */
  delete: number;
  /** A child row that relied on the key: it disturbs a later delete at an older snapshot. */
  exist: number;
}

export type KeyUse = "write" | "delete" | "exist";

export class RecentKeys {
  /** By `space:key`, in the order of the newest change. */
  readonly #keys = new Map<string, Recent>();
  readonly #spaces = new Map<SpaceId, number>();
  /** Every unknown key counts as changed at this seq. */
  #floor: number;

  constructor(floor: Seq) {
    this.#floor = floor;
  }

  get size(): number {
    return this.#keys.size;
  }

  note(seq: Seq, space: SpaceId, key: string, use: KeyUse): void {
    const name = `${space}:${key}`;
    const recent = this.#keys.get(name);
    if (recent !== undefined) this.#keys.delete(name);
    const next = recent ?? { write: 0, delete: 0, exist: 0 };
    next[use] = seq;
    if (use === "delete") next.write = seq;
    this.#keys.set(name, next);
    if (use !== "exist") this.#spaces.set(space, seq);
    if (this.#keys.size > recentKeysMax) this.#trim();
  }

  /** Schema changes count for every row of the table. */
  noteSpace(seq: Seq, space: SpaceId): void {
    this.#spaces.set(space, seq);
  }

  forgetSpace(space: SpaceId): void {
    this.#spaces.delete(space);
  }

  #trim(): void {
    for (const [name, recent] of this.#keys) {
      this.#keys.delete(name);
      this.#floor = Math.max(this.#floor, recent.write, recent.exist);
      return;
    }
  }

  /** The seq that a snapshot must have reached for this use of the key; 0 when `snapshot` will do. */
  newerThan(snapshot: Seq, space: SpaceId, key: string, use: KeyUse): Seq {
    const recent = this.#keys.get(`${space}:${key}`);
    // What is 0 may have happened and been forgotten, at or before the floor.
    const newestOf = (seq: number | undefined): number => seq || this.#floor;
    let newest = newestOf(use === "exist" ? recent?.delete : recent?.write);
    if (use === "delete") newest = Math.max(newest, newestOf(recent?.exist));
    return (newest > snapshot ? newest : 0) as Seq;
  }

  /** Likewise for any row of the space. */
  spaceNewerThan(snapshot: Seq, space: SpaceId): Seq {
    const newest = this.#spaces.get(space) ?? this.#floor;
    return (newest > snapshot ? newest : 0) as Seq;
  }
}
