/**
 * Keeps what this Cache knows of record catalogs within a limit: it forgets atoms that it knows of and has nothing to do with, those first that it learned
 * first. What is forgotten is a gap of its space's catalog again, as it was before it was needed; whoever needs it, pulls that part again
 * (catalog-pulls.ts). It is nobody else's business: an entry about an atom that is not known here changes nothing here.
 *
 * | label | when | then |
 * |-------|------|------|
 * | K1 | the limit is not exceeded | nothing |
 * | K2 | it is | so many atoms are looked at with each look, until an eighth of the limit is free |
 * | K3 | all have been looked at, and too few could go | counted; again a second later |
 *
 * What may not go, as an entry that names it would otherwise pass by unnoticed: what this Cache holds, originates, or has asked to hold; the atom that a
 * block of ids was asked of lately, from which one may still come; and the atom that a unique index has, since who only asks for permissions there may be
 * handed it (catalog/ownership.ts). And what transactions, pulls of rows and pulls of catalogs under way need, or they would begin again; and the schema
 * catalog, which every engine has.
 */
import type { Atom } from "../atoms/atom.js";
import { type AtomId, type SpaceId, schemaSpace } from "../base/ids.js";
import { KeyRanges, wholeRange } from "../base/key-ranges.js";
import type { CatalogNeed } from "./catalog-pulls.js";
import type { CoreContext } from "./core-context.js";
import type { CatalogLimits } from "./core-types.js";

/** Of the memory for rows, what record catalogs may take beside it; and what one atom's record takes there, in bytes, about. */
const knownShare = 1 / 4;
const knownAtomBytes = 512;

/** Once above the limit, atoms are forgotten until so much of it is free. */
const freeShare = 1 / 8;
/** Looked at in one look: about a millisecond. */
const looksMax = 500;
/** Between two looks above the limit, and after one for which nothing was left. Milliseconds. */
const nearLookMs = 20;
const farLookMs = 1000;

/** What is under way here. */
export interface CatalogUsers {
  /** Of rows and catalogs that are being pulled, and that transactions have pulled. */
  needs(): Iterable<CatalogNeed>;
  /** Its HOLD is undecided. */
  isProposed(atom: AtomId): boolean;
  /** A block of ids may still come from it. */
  mayGiveIds(atom: AtomId): boolean;
}

/** Atoms that a Cache of so much memory knows at most, but for those that it has something to do with. */
export function knownAtomsMax(memoryBytes: number, { knownAtomsMin }: CatalogLimits): number {
  return Math.max(knownAtomsMin, Math.floor((memoryBytes * knownShare) / knownAtomBytes));
}

export class CatalogEviction {
  readonly #context: CoreContext;
  readonly #users: CatalogUsers;
  readonly #atomsMax: number;
  readonly #onForgotten: (space: SpaceId) => void;
  /** Where the next look begins; null: below the limit. */
  #walk: Iterator<Atom> | null = null;
  #nextMs = 0;
  /** In this walk. */
  #forgotten = 0;
  readonly counters = { forgotten: 0, exceeded: 0 };

  /** `onForgotten`: parts of the space's catalog are not known any more. */
  constructor(context: CoreContext, users: CatalogUsers, atomsMax: number, onForgotten: (space: SpaceId) => void) {
    this.#context = context;
    this.#users = users;
    this.#atomsMax = atomsMax;
    this.#onForgotten = onForgotten;
  }

  tick(): void {
    const { catalog, nowMs } = this.#context;
    if (nowMs < this.#nextMs || (this.#walk === null && catalog.atoms.size <= this.#atomsMax)) return;
    this.#nextMs = nowMs + nearLookMs;
    this.#walk ??= catalog.atoms.all();
    this.#look(this.#walk);
  }

  #look(walk: Iterator<Atom>): void {
    const { atoms } = this.#context.catalog;
    const kept = this.#kept();
    const goal = this.#atomsMax * (1 - freeShare);
    const spaces = new Set<SpaceId>();
    for (let looks = 0; looks < looksMax && atoms.size > goal; looks++) {
      const next = walk.next();
      if (next.done === true) {
        this.#endWalk();
        break;
      }
      const atom = next.value;
      if (!this.#mayGo(atom) || this.#isWithin(kept, atom)) continue;
      this.#context.catalog.forget(atom);
      this.#forgotten++;
      spaces.add(atom.space);
    }
    for (const space of spaces) this.#onForgotten(space);
    if (atoms.size <= goal) this.#endWalk();
  }

  #endWalk(): void {
    if (this.#context.catalog.atoms.size > this.#atomsMax && this.#forgotten === 0) {
      this.counters.exceeded++;
      this.#nextMs = this.#context.nowMs + farLookMs;
    }
    this.counters.forgotten += this.#forgotten;
    this.#forgotten = 0;
    this.#walk = null;
  }

  #mayGo(atom: Atom): boolean {
    const { engine } = this.#context;
    return (
      atom.space !== schemaSpace &&
      atom.indexOf === 0 &&
      atom.originator !== engine &&
      !atom.holders.some((holder) => holder.engine === engine) &&
      !this.#users.isProposed(atom.id) &&
      !this.#users.mayGiveIds(atom.id)
    );
  }

  /** Ranges, and not their atoms: these may be many, and each look builds it anew. */
  #kept(): ReadonlyMap<SpaceId, KeyRanges> {
    const kept = new Map<SpaceId, KeyRanges>();
    for (const { space, ranges } of this.#users.needs()) {
      const all = kept.get(space) ?? new KeyRanges();
      for (const range of ranges ?? [wholeRange]) all.add(range);
      kept.set(space, all);
    }
    return kept;
  }

  #isWithin(kept: ReadonlyMap<SpaceId, KeyRanges>, atom: Atom): boolean {
    const high = this.#context.catalog.atoms.highKeyOf(atom);
    return (kept.get(atom.space)?.within({ low: atom.lowKey, high }).length ?? 0) > 0;
  }
}
