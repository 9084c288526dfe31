/**
 * The atoms of rows that one engine holds, joining or ready, the one used longest ago first, and what they weigh: what a Cache's eviction goes by. Kept
 * up by the AtomMap whenever an atom changes, so nobody has to look through a catalog for it. Unique indexes' atoms are left out: they have no rows of
 * their own.
 */
import type { Atom } from "../atoms/atom.js";
import type { AtomId, EngineId } from "../base/ids.js";

export class HeldAtoms {
  readonly #engine: EngineId;
  /** In the order of their last use. */
  readonly #atoms = new Map<AtomId, Atom>();
  #bytes = 0;

  constructor(engine: EngineId, atoms: Iterable<Atom>) {
    this.#engine = engine;
    for (const atom of atoms) this.set(atom);
  }

  /** Encoded bytes of keys and rows, as the record catalogs estimate them. */
  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#atoms.size;
  }

  has(id: AtomId): boolean {
    return this.#atoms.has(id);
  }

  /** From the one used longest ago on. */
  [Symbol.iterator](): IterableIterator<Atom> {
    return this.#atoms.values();
  }

  /** The atom is as given from now on; one that is new here counts as used now. */
  set(atom: Atom): void {
    const former = this.#atoms.get(atom.id);
    // Most changes are of sizes, and leave the list of holders the same.
    const isHeld = former?.holders === atom.holders || (atom.indexOf === 0 && atom.holders.some(({ engine }) => engine === this.#engine));
    if (!isHeld) {
      this.delete(atom.id);
      return;
    }
    this.#bytes += atom.bytes - (former?.bytes ?? 0);
    this.#atoms.set(atom.id, atom);
  }

  delete(id: AtomId): void {
    this.#bytes -= this.#atoms.get(id)?.bytes ?? 0;
    this.#atoms.delete(id);
  }

  /** It is used now. */
  touch(id: AtomId): void {
    const atom = this.#atoms.get(id);
    if (atom === undefined) return;
    this.#atoms.delete(id);
    this.#atoms.set(id, atom);
  }
}
