/**
 * Cuts atoms that have grown too large (design.md §1). Each is measured first, by an Archive whose store is as new as this engine: a mebibyte of rows at a time,
 * so that the Archive's thread is never kept for long, until all of it, or `splitCutsMax`, is known. Then one SPLIT is proposed, with the sizes that were found.
 *
 * | label | the Archive's answer | then |
 * |-------|----------------------|------|
 * | more | cuts, and there are rows behind the last one | asked on from there |
 * | whole | cuts, up to the atom's end | SPLIT |
 * | enough | more, with `splitCutsMax` cuts or `splitCutBytesMax` of their keys already | SPLIT; the last piece has the rest, and is measured in its turn |
 * | drifted | no cut, and less than the atom counts | a SPLIT without pieces puts its size right |
 * | uncuttable | no cut, though it is too large: one row, or keys that were cut | left alone for `uncuttableMs` |
 * | moved | the atom was split, merged or handed over meanwhile | forgotten |
 * | silent | none | all of it is asked for again after `silentMs` |
 */
import { type Atom, atomBytesMax } from "../atoms/atom.js";
import { type AtomId, noEngine, type Seq } from "../base/ids.js";
import type { CutsReplyMessage } from "../messages/wire/engine-messages.js";
import { type AtomSize, encodeBody, type SplitBody, type SplitPiece, sumOfSizes } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import type { ProposalQueue } from "./proposal-queue.js";

/** An Archive that has not answered within this is not waited for. Milliseconds. */
const silentMs = 3000;
/** What cannot be cut is measured again after this; it may have got rows meanwhile. Milliseconds. */
const uncuttableMs = 30_000;
/** Atoms that are being measured or split at once. */
const atomsAtOnceMax = 16;
/** Pieces of one SPLIT, and bytes of their keys. Reason: some ten kilobytes of entry for 64 MiB of rows. */
const splitCutsMax = 1024;
const splitCutBytesMax = 256 * 1024;

interface Measuring {
  askedMs: number;
  readonly ownershipVersion: Seq;
  /** When it was first asked for: the Archive's store was no older. */
  readonly minSeq: Seq;
  readonly counted: AtomSize;
  /** Where pieces begin, but for the first. */
  readonly cuts: Buffer[];
  /** Of all pieces that are known whole. */
  readonly sizes: AtomSize[];
  isProposed: boolean;
}

export class Splits {
  readonly #context: CoreContext;
  readonly #proposals: ProposalQueue;
  readonly #measuring = new Map<AtomId, Measuring>();
  /** Until when; only of what is oversize. */
  readonly #uncuttable = new Map<AtomId, number>();

  constructor(context: CoreContext, proposals: ProposalQueue) {
    this.#context = context;
    this.#proposals = proposals;
  }

  /** Looks for atoms that this engine originates and that are too large. */
  tick(): void {
    const { nowMs, catalog, engine } = this.#context;
    for (const [id, { askedMs, isProposed }] of this.#measuring) if (!isProposed && nowMs - askedMs > silentMs) this.#measuring.delete(id);
    for (const [id, untilMs] of this.#uncuttable) if (untilMs <= nowMs || !catalog.oversize.has(id)) this.#uncuttable.delete(id);
    for (const id of catalog.oversize) {
      if (this.#measuring.size >= atomsAtOnceMax) return;
      const atom = catalog.atoms.get(id);
      if (atom === undefined || atom.originator !== engine || this.#measuring.has(id) || this.#uncuttable.has(id)) continue;
      const { bytes, rows, ownershipVersion } = atom;
      const known = { counted: { bytes, rows }, ownershipVersion, minSeq: this.#context.appliedSeq };
      const measuring: Measuring = { ...known, askedMs: nowMs, cuts: [], sizes: [], isProposed: false };
      this.#measuring.set(id, measuring);
      this.#ask(atom, measuring);
    }
  }

  #ask({ id, space, low }: Atom, measuring: Measuring): void {
    const { catalog, random, nowMs } = this.#context;
    const archives = this.#context.archives();
    const to = archives[random.integer(Math.max(1, archives.length))];
    const atom = catalog.atoms.get(id);
    if (to === undefined || atom === undefined) return;
    measuring.askedMs = nowMs;
    const from = measuring.cuts.at(-1) ?? low;
    this.#context.send(to, { kind: "cutsRequest", atom: id, space, low: from, high: catalog.atoms.highOf(atom), minSeq: measuring.minSeq });
  }

  onCuts({ atom: id, low, cuts, pieces }: CutsReplyMessage): void {
    const { catalog, engine } = this.#context;
    const measuring = this.#measuring.get(id);
    if (measuring === undefined || measuring.isProposed) return;
    const atom = catalog.atoms.get(id);
    if (atom === undefined || atom.originator !== engine || atom.ownershipVersion !== measuring.ownershipVersion) {
      this.#measuring.delete(id);
      return;
    }
    if (!low.equals(measuring.cuts.at(-1) ?? atom.low) || !this.#fits(atom, low, cuts, pieces)) return;
    measuring.cuts.push(...cuts);
    measuring.sizes.push(...pieces);
    const isWhole = measuring.sizes.length > measuring.cuts.length;
    const cutBytes = measuring.cuts.reduce((sum, cut) => sum + cut.length, 0);
    if (isWhole || measuring.cuts.length >= splitCutsMax || cutBytes >= splitCutBytesMax) this.#decide(atom, measuring);
    else this.#ask(atom, measuring);
  }

  /** Cuts of the atom behind `from`, in order, with a size for each piece. */
  #fits(atom: Atom, from: Buffer, cuts: readonly Buffer[], pieces: readonly AtomSize[]): boolean {
    const high = this.#context.catalog.atoms.highOf(atom);
    let low = from;
    for (const cut of cuts) {
      if (Buffer.compare(cut, low) <= 0 || (high !== null && Buffer.compare(cut, high) >= 0)) return false;
      low = cut;
    }
    return pieces.length === cuts.length + 1 || (cuts.length > 0 && pieces.length === cuts.length);
  }

  #decide(atom: Atom, measuring: Measuring): void {
    const { counted, cuts, sizes } = measuring;
    const [first] = sizes;
    if (first === undefined) return;
    if (cuts.length === 0 && first.bytes > atomBytesMax) {
      this.#measuring.delete(atom.id);
      this.#uncuttable.set(atom.id, this.#context.nowMs + uncuttableMs);
      return;
    }
    const known = sumOfSizes(sizes);
    const rest = { bytes: Math.max(0, counted.bytes - known.bytes), rows: Math.max(0, counted.rows - known.rows) };
    const pieces = cuts.map((low, index): SplitPiece => ({ atom: this.#context.nextAtomId(), low, taker: noEngine, ...(sizes[index + 1] ?? rest) }));
    const { id, space, originator, ownershipVersion } = atom;
    const measured = { first, counted };
    const body: SplitBody = { kind: "split", atom: id, space, firstTaker: noEngine, pieces, measured, sequenceFirst: 0n, sequenceNext: 0n };
    measuring.isProposed = true;
    this.#proposals.propose(encodeBody(body), [{ atom: id, originator, ownershipVersion }], () => this.#measuring.delete(id));
  }
}
