/**
 * Blocks of row ids that this engine may generate from, by table. Consumption can be marked and undone, so that a run that ends
 * without anything to commit leaves no hole. Pure.
 */
import type { SpaceId } from "../base/ids.js";

interface Block {
  readonly first: bigint;
  readonly last: bigint;
}

interface Sequence {
  /** In the order of their grants. */
  readonly blocks: readonly Block[];
  /** The next id to give, within the first block. */
  readonly next: bigint;
}

/** Blocks that wait behind the one in use, by table. An engine that has this many unused asks for no more; a further one is left unused. */
export const waitingBlocksMax = 64;

const emptySequence: Sequence = { blocks: [], next: 0n };

/** What was consumed up to a moment; valid until the next grant. */
export type IdMark = ReadonlyMap<SpaceId, Sequence>;

export class IdBlocks {
  #sequences = new Map<SpaceId, Sequence>();

  grant(table: SpaceId, first: bigint, last: bigint): void {
    if (last < first) return;
    const { blocks, next } = this.#sequences.get(table) ?? emptySequence;
    if (blocks.length >= waitingBlocksMax) return;
    this.#sequences.set(table, { blocks: [...blocks, { first, last }], next: blocks.length === 0 ? first : next });
  }

  /** What is left to give, in that order. */
  remaining(table: SpaceId): readonly Block[] {
    const { blocks, next } = this.#sequences.get(table) ?? emptySequence;
    return blocks.map((block, index) => (index === 0 ? { first: next, last: block.last } : block));
  }

  /** Those with ids left. */
  tables(): readonly SpaceId[] {
    return [...this.#sequences.keys()];
  }

  /** The next id for which `taken` does not hold, or null: the blocks are exhausted. */
  take(table: SpaceId, taken: (id: bigint) => boolean): bigint | null {
    let { blocks, next } = this.#sequences.get(table) ?? emptySequence;
    for (let block = blocks[0]; block !== undefined; block = blocks[0]) {
      while (next <= block.last) {
        const id = next++;
        if (taken(id)) continue;
        this.#sequences.set(table, { blocks, next });
        return id;
      }
      blocks = blocks.slice(1);
      next = blocks[0]?.first ?? 0n;
    }
    // What was left in these blocks is taken by rows that exist: it need not be looked at again.
    this.#sequences.delete(table);
    return null;
  }

  mark(): IdMark {
    return new Map(this.#sequences);
  }

  undo(mark: IdMark): void {
    this.#sequences = new Map(mark);
  }

  forget(table: SpaceId): void {
    this.#sequences.delete(table);
  }

  clear(): void {
    this.#sequences.clear();
  }
}
