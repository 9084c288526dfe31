/**
 * Who asks this engine for permissions, atom by atom: an atom that another engine writes nearly alone goes to that engine, which then asks nobody
 * (design.md §5 "Ownership follows the writer").
 *
 * Against an atom that two engines write and that goes to and fro: what is written by halves stays where it is (`favouriteShare`), and what is
 * written in turns moves at most once in `handoffEveryMs`, which pays for it many times over.
 */
import type { AtomId, EngineId } from "../base/ids.js";
import { Remembered } from "../base/remembered.js";

/**
 * Permissions that were asked for before anything is concluded from who did. A HANDOFF is an entry, as a commit is, and what is in flight asks
 * again; a permission elsewhere costs a commit two hops more. So it has paid after about as many.
 */
export const favouriteAsksMin = 16;
/** Of those asked for, so much is one engine's. With less, the others would ask more than it saves. */
export const favouriteShare = 3 / 4;
/** From the first that another engine asked for to the HANDOFF, and so from one HANDOFF of an atom to the next. Milliseconds. */
export const handoffEveryMs = 1000;
/** What a block of ids counts for: one saves very many permissions, and comes rarely. */
export const blockWeight = 8;
/** Counts are halved at this sum, so that the present counts for more than the past. */
const sumMax = 64;
/** Atoms counted; beyond it those asked for longest ago are forgotten. */
export const atomsCountedMax = 8192;

interface Counts {
  readonly sinceMs: number;
  sum: number;
  readonly byEngine: Map<EngineId, number>;
}

export class AskCounts {
  readonly #atoms = new Remembered<AtomId, Counts>(atomsCountedMax);

  /** `own`: this engine itself, which is not counted where nobody else has asked: nothing could follow from it. */
  note(atom: AtomId, engine: EngineId, own: EngineId, weight: number, nowMs: number): void {
    const counts = this.#atoms.get(atom) ?? { sinceMs: nowMs, sum: 0, byEngine: new Map<EngineId, number>() };
    if (counts.sum === 0 && engine === own) return;
    this.#atoms.set(atom, counts);
    counts.sum += weight;
    counts.byEngine.set(engine, (counts.byEngine.get(engine) ?? 0) + weight);
    if (counts.sum >= sumMax) halve(counts);
  }

  /** Who should originate the atom, if not this engine. */
  favourite(atom: AtomId, own: EngineId, nowMs: number): EngineId | null {
    const counts = this.#atoms.get(atom);
    if (counts === undefined || counts.sum < favouriteAsksMin || nowMs - counts.sinceMs < handoffEveryMs) return null;
    for (const [engine, count] of counts.byEngine) if (engine !== own && count >= counts.sum * favouriteShare) return engine;
    return null;
  }

  /** What was asked of one atom is asked of this piece of it from now on. */
  carry(atom: AtomId, piece: AtomId): void {
    const counts = this.#atoms.get(atom);
    if (counts === undefined) return;
    this.#atoms.delete(atom);
    this.#atoms.set(piece, counts);
  }

  forget(atom: AtomId): void {
    this.#atoms.delete(atom);
  }
}

function halve(counts: Counts): void {
  counts.sum = 0;
  for (const [engine, count] of counts.byEngine) {
    const half = count >>> 1;
    if (half === 0) counts.byEngine.delete(engine);
    else counts.byEngine.set(engine, half);
    counts.sum += half;
  }
}
