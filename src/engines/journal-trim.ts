/**
 * What an Archive's journal may forget. The store has flushed all of it; what is kept is for engines that catch up: some while for any of them, and for an Archive that copies
 * this one's store all that comes after its copy, or it would have to begin again when it is through, with a larger store each time.
 */
import type { Endpoint, Seq } from "../base/ids.js";
import type { StoreWrites } from "../storage/atom-store.js";
import type { Journal } from "../storage/journal.js";

/** What is kept behind what the store has flushed: so many entries, and no more than so many bytes. */
const keptEntries = 200_000;
const keptBytes = 1024 ** 3;
/** What is kept for copies of the store. Beyond it they begin again. */
const keptForCopiesBytes = 16 * 1024 ** 3;
/** After its last question a copying Archive has so long to catch up. Milliseconds. */
const copyMs = 600_000;
/** Copies that are kept for; the oldest is forgotten first. A store serves four at once. */
const copiesMax = 16;

interface Copy {
  readonly seq: Seq;
  readonly askedMs: number;
}

export interface TrimLimits {
  readonly entries: number;
  readonly bytes: number;
  readonly copiesBytes: number;
}

export class JournalTrim {
  readonly #limits: TrimLimits;
  readonly #copies = new Map<Endpoint, Copy>();

  constructor(limits: TrimLimits = { entries: keptEntries, bytes: keptBytes, copiesBytes: keptForCopiesBytes }) {
    this.#limits = limits;
  }

  /** It asks for a part of the store. `isNew`: of a copy that begins now, at the store's position or later. */
  onAsked(by: Endpoint, isNew: boolean, position: Seq, nowMs: number): void {
    const seq = isNew ? position : (this.#copies.get(by)?.seq ?? position);
    // At the end of the map, so that the first one is the oldest.
    this.#copies.delete(by);
    this.#copies.set(by, { seq, askedMs: nowMs });
    for (const oldest of this.#copies.keys()) {
      if (this.#copies.size <= copiesMax) break;
      this.#copies.delete(oldest);
    }
  }

  /** Entries up to here may go. */
  through({ flushedSeq }: Pick<StoreWrites, "flushedSeq">, journal: Pick<Journal, "seqBefore">, nowMs: number): Seq {
    for (const [by, { askedMs }] of this.#copies) if (nowMs - askedMs > copyMs) this.#copies.delete(by);
    const { entries, bytes, copiesBytes } = this.#limits;
    const usual = Math.min(flushedSeq, Math.max(flushedSeq - entries, journal.seqBefore(bytes)));
    const copied = Math.min(...[...this.#copies.values()].map(({ seq }) => seq));
    return Math.max(0, Math.min(usual, Math.max(copied, journal.seqBefore(copiesBytes)))) as Seq;
  }
}
