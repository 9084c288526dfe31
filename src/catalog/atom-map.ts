/** The record catalogs of all spaces: atoms by id, and by key within their space. Ranges never overlap and leave no gap. */
import type { Atom } from "../atoms/atom.js";
import { assert } from "../base/errors.js";
import type { AtomId, SpaceId } from "../base/ids.js";

export class AtomMap {
  readonly #byId = new Map<AtomId, Atom>();
  /** In key order; the first begins at the space's beginning. */
  readonly #bySpace = new Map<SpaceId, Atom[]>();

  get size(): number {
    return this.#byId.size;
  }

  all(): IterableIterator<Atom> {
    return this.#byId.values();
  }

  get(id: AtomId): Atom | undefined {
    return this.#byId.get(id);
  }

  ofSpace(space: SpaceId): readonly Atom[] {
    return this.#bySpace.get(space) ?? [];
  }

  spaces(): IterableIterator<SpaceId> {
    return this.#bySpace.keys();
  }

  /** The atom whose range has the key (a latin1 string of its bytes). */
  at(space: SpaceId, key: string): Atom | undefined {
    const atoms = this.#bySpace.get(space);
    return atoms?.[this.#indexAt(atoms, key)];
  }

  /** Those with keys of [low, high); null is the end. */
  overlapping(space: SpaceId, low: string, high: string | null): readonly Atom[] {
    const atoms = this.ofSpace(space);
    if (low === "" && high === null) return atoms;
    const first = this.#indexAt(atoms, low);
    let end = first;
    while (end < atoms.length && (end === first || high === null || (atoms[end] as Atom).lowKey < high)) end++;
    return atoms.slice(first, end);
  }

  /** Where the atom's range ends: the next one's low key, or null at the space's end. */
  highOf(atom: Atom): Buffer | null {
    const atoms = this.ofSpace(atom.space);
    return atoms[this.#indexAt(atoms, atom.lowKey) + 1]?.low ?? null;
  }

  /** Likewise, as a string to compare keys with. */
  highKeyOf(atom: Atom): string | null {
    const atoms = this.ofSpace(atom.space);
    return atoms[this.#indexAt(atoms, atom.lowKey) + 1]?.lowKey ?? null;
  }

  /** The last atom that begins at or before the key. */
  #indexAt(atoms: readonly Atom[], key: string): number {
    let low = 0;
    let high = atoms.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((atoms[middle] as Atom).lowKey <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  add(atom: Atom): void {
    assert(!this.#byId.has(atom.id), `atom ${atom.id} twice`);
    this.#byId.set(atom.id, atom);
    const atoms = this.#bySpace.get(atom.space);
    if (atoms === undefined) {
      this.#bySpace.set(atom.space, [atom]);
      return;
    }
    const before = atoms.length === 0 || (atoms[0] as Atom).lowKey > atom.lowKey ? 0 : this.#indexAt(atoms, atom.lowKey) + 1;
    assert(before === 0 || (atoms[before - 1] as Atom).lowKey < atom.lowKey, `atoms of space ${atom.space} overlap`);
    atoms.splice(before, 0, atom);
  }

  /** Same id, same low key. */
  replace(atom: Atom): void {
    const former = this.#byId.get(atom.id);
    assert(former !== undefined && former.lowKey === atom.lowKey, `atom ${atom.id} replaced by another range`);
    const atoms = this.#bySpace.get(atom.space);
    assert(atoms !== undefined, `space ${atom.space} has no atoms`);
    atoms[this.#indexAt(atoms, atom.lowKey)] = atom;
    this.#byId.set(atom.id, atom);
  }

  removeSpace(space: SpaceId): readonly Atom[] {
    const atoms = this.ofSpace(space);
    for (const atom of atoms) this.#byId.delete(atom.id);
    this.#bySpace.delete(space);
    return atoms;
  }
}
