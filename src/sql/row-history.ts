/**
 * What rows were before they changed, kept while transactions are open, so that a transaction goes on reading its snapshot (design.md §7 "rewind";
 * local-store.md rules 10, 11). Pure.
 *
 * | what | then a transaction at snapshot `s` |
 * |------|-----------------------------------|
 * | a held row changed at a seq after `s` | sees its oldest image after `s` instead |
 * | a range was pulled with what its rows were since `s` | sees that |
 * | a range was pulled without, and one of its keys may have changed after `s` | cannot know that table at `s` any more: it conflicts where it touches it |
 * | the images are more than may be kept | all transactions that are open then are too old |
 */
import type { Seq, SpaceId } from "../base/ids.js";
import type { BinaryKey } from "../base/key-ranges.js";
import type { PulledImage } from "./local-store.js";

export interface RowImage {
  readonly key: Uint8Array;
  /** null: there was no such row. */
  readonly row: Uint8Array | null;
}

interface Change extends RowImage {
  readonly seq: Seq;
  readonly binaryKey: BinaryKey;
}

/** Bytes of images. Beyond it they are all forgotten: whoever is open then is told to begin again. */
export const historyBytesMax = 64 * 1024 * 1024;
const changeOverheadBytes = 100;

export class RowHistory {
  /** Of each table, in the order of seq. */
  readonly #changes = new Map<SpaceId, Change[]>();
  /** The newest change that a pull may have brought without an image, by table. */
  readonly #pulled = new Map<SpaceId, Seq>();
  readonly #snapshots = new Map<number, Seq>();
  #oldest: Seq | null = null;
  readonly #bytesMax: number;
  #bytes = 0;
  /** Snapshots below it have lost images. */
  #floor = 0;

  constructor(bytesMax = historyBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Whether anybody may ever ask for what is noted now. */
  get isNeeded(): boolean {
    return this.#snapshots.size > 0;
  }

  /** Of those that are open; null: none is. */
  get oldest(): Seq | null {
    return this.#oldest;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Tables that have images. */
  get spaces(): Iterable<SpaceId> {
    return this.#changes.keys();
  }

  /** From now on what is newer than `snapshot`, which is what is applied now, is kept for the transaction. */
  open(transaction: number, snapshot: Seq): void {
    if (this.#snapshots.has(transaction)) return;
    this.#snapshots.set(transaction, snapshot);
    if (this.#oldest === null || snapshot < this.#oldest) this.#oldest = snapshot;
  }

  close(transaction: number): void {
    const snapshot = this.#snapshots.get(transaction);
    if (snapshot === undefined) return;
    this.#snapshots.delete(transaction);
    if (snapshot !== this.#oldest) return;
    this.#oldest = this.#snapshots.size === 0 ? null : (Math.min(...this.#snapshots.values()) as Seq);
    if (snapshot !== this.#oldest) this.#dropThrough(this.#oldest ?? Number.POSITIVE_INFINITY);
  }

  clear(): void {
    this.#changes.clear();
    this.#pulled.clear();
    this.#snapshots.clear();
    this.#oldest = null;
    this.#bytes = 0;
  }

  #dropThrough(seq: number): void {
    for (const [space, changes] of this.#changes) {
      const kept = changes.slice(firstAfter(changes, seq));
      for (const change of changes.slice(0, changes.length - kept.length)) this.#bytes -= sizeOf(change);
      if (kept.length === 0) this.#changes.delete(space);
      else this.#changes.set(space, kept);
    }
    for (const [space, changedSeq] of this.#pulled) if (changedSeq <= seq) this.#pulled.delete(space);
  }

  /** The row is changed by the entry at `seq`; this is what it was before. */
  note(seq: Seq, space: SpaceId, image: RowImage): void {
    const change = changeOf(seq, image);
    const changes = this.#changes.get(space);
    if (changes === undefined) this.#changes.set(space, [change]);
    else changes.push(change);
    this.#bytes += sizeOf(change);
    this.#keepWithinBound();
  }

  /**
   * A range of the table was pulled: what its rows were before they changed, in the order of seq. Some key of it may have changed as late as `changedSeq`
   * without an image.
   */
  notePull(space: SpaceId, images: readonly PulledImage[], changedSeq: Seq): void {
    if (changedSeq > (this.#pulled.get(space) ?? 0)) this.#pulled.set(space, changedSeq);
    const { oldest } = this;
    const pulled = images.flatMap((image) => (oldest !== null && image.seq > oldest ? [changeOf(image.seq, image)] : []));
    if (pulled.length === 0) return;
    for (const change of pulled) this.#bytes += sizeOf(change);
    // What comes may be older than what is here. A key that was here before has an image twice, and both say the same.
    const changes = [...(this.#changes.get(space) ?? []), ...pulled].sort((left, right) => left.seq - right.seq);
    this.#changes.set(space, changes);
    this.#keepWithinBound();
  }

  #keepWithinBound(): void {
    if (this.#bytes <= this.#bytesMax) return;
    for (const changes of this.#changes.values()) this.#floor = Math.max(this.#floor, changes.at(-1)?.seq ?? 0);
    this.#changes.clear();
    this.#bytes = 0;
  }

  /** The images that the snapshot needs are here. */
  reaches(snapshot: Seq): boolean {
    return snapshot >= this.#floor;
  }

  /** The table can be told as it was at the snapshot. */
  knows(space: SpaceId, snapshot: Seq): boolean {
    return snapshot >= (this.#pulled.get(space) ?? 0);
  }

  /** What rows were at the snapshot, of those that have changed since. */
  imagesAt(space: SpaceId, snapshot: Seq): ReadonlyMap<BinaryKey, RowImage> {
    const images = new Map<BinaryKey, RowImage>();
    const changes = this.#changes.get(space) ?? [];
    for (let place = firstAfter(changes, snapshot); place < changes.length; place++) {
      const change = changes[place] as Change;
      if (!images.has(change.binaryKey)) images.set(change.binaryKey, change);
    }
    return images;
  }
}

/** The bytes are copied: those given may be views of much more. */
function changeOf(seq: Seq, image: RowImage): Change {
  const key = new Uint8Array(image.key);
  return { seq, key, binaryKey: Buffer.from(key.buffer).toString("latin1"), row: image.row === null ? null : new Uint8Array(image.row) };
}

/** Place of the first change that is newer than the seq. */
function firstAfter(changes: readonly Change[], seq: number): number {
  let low = 0;
  let high = changes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((changes[middle] as Change).seq <= seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sizeOf({ key, row }: Change): number {
  return key.length * 2 + (row?.length ?? 0) + changeOverheadBytes;
}
