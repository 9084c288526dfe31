/**
 * One space's atoms in key order: its record catalog. In pages, so that an atom more costs a page and not the whole list, and so that what is
 * there now can be kept (`snapshot`) for the price of the list of pages: a page that a snapshot shares is copied before it changes.
 */
import type { Atom } from "../atoms/atom.js";
import { assert } from "../base/errors.js";

/** Atoms in one page; a full one is halved. Reason: a copy of so many references is cheap beside the change that needs it. */
const pageAtomsMax = 256;

interface Page {
  /** Equal to the map's: nobody else has it. */
  readonly era: number;
  /** Never empty. */
  readonly atoms: Atom[];
}

export type AtomPages = readonly { readonly atoms: readonly Atom[] }[];

export class SpaceAtoms {
  readonly #pages: Page[] = [];
  #era = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  *[Symbol.iterator](): IterableIterator<Atom> {
    for (const { atoms } of this.#pages) yield* atoms;
  }

  toArray(): readonly Atom[] {
    return this.#pages.length === 1 ? (this.#pages[0] as Page).atoms : this.#pages.flatMap(({ atoms }) => atoms);
  }

  /** What is there now, whatever comes later. */
  snapshot(): AtomPages {
    this.#era++;
    return this.#pages.slice();
  }

  /** The last that begins at or before the key; the first where none does. */
  at(key: string): Atom | undefined {
    const { atoms } = this.#pageAt(key) ?? {};
    return atoms?.[placeIn(atoms, key)];
  }

  /** Those with keys of [low, high); null is the end. */
  overlapping(low: string, high: string | null): readonly Atom[] {
    if (low === "" && high === null) return this.toArray();
    const found: Atom[] = [];
    let page = this.#pageIndexAt(low);
    let place = placeIn(this.#pages[page]?.atoms ?? [], low);
    for (; page < this.#pages.length; page++, place = 0) {
      const { atoms } = this.#pages[page] as Page;
      for (; place < atoms.length; place++) {
        const atom = atoms[place] as Atom;
        if (found.length > 0 && high !== null && atom.lowKey >= high) return found;
        found.push(atom);
      }
    }
    return found;
  }

  /** The one behind the atom that begins at this key. */
  after(lowKey: string): Atom | undefined {
    const index = this.#pageIndexAt(lowKey);
    const atoms = this.#pages[index]?.atoms ?? [];
    return atoms[placeIn(atoms, lowKey) + 1] ?? this.#pages[index + 1]?.atoms[0];
  }

  add(atom: Atom): void {
    this.#count++;
    if (this.#pages.length === 0) {
      this.#pages.push({ era: this.#era, atoms: [atom] });
      return;
    }
    const index = this.#pageIndexAt(atom.lowKey);
    const { atoms } = this.#own(index);
    const isFirst = (atoms[0] as Atom).lowKey > atom.lowKey;
    const place = isFirst ? 0 : placeIn(atoms, atom.lowKey) + 1;
    assert(place === 0 || (atoms[place - 1] as Atom).lowKey < atom.lowKey, `atoms of space ${atom.space} overlap`);
    atoms.splice(place, 0, atom);
    // Halves; but what is added at the end fills pages, as a catalog that is loaded does.
    if (atoms.length <= pageAtomsMax) return;
    const behind = atoms.splice(place === atoms.length - 1 ? place : atoms.length >>> 1);
    this.#pages.splice(index + 1, 0, { era: this.#era, atoms: behind });
  }

  /** Same low key. */
  replace(atom: Atom): void {
    const { atoms } = this.#own(this.#pageIndexAt(atom.lowKey));
    const place = placeIn(atoms, atom.lowKey);
    assert(atoms[place]?.lowKey === atom.lowKey, `space ${atom.space} has no atom that begins as ${atom.id}`);
    atoms[place] = atom;
  }

  /** At most `count` of them, in order, from the one whose range has the key. */
  from(key: string, count: number): readonly Atom[] {
    const found: Atom[] = [];
    let page = this.#pageIndexAt(key);
    let place = placeIn(this.#pages[page]?.atoms ?? [], key);
    for (; page < this.#pages.length && found.length < count; page++, place = 0) {
      found.push(...(this.#pages[page] as Page).atoms.slice(place, place + count - found.length));
    }
    return found;
  }

  /** The one that begins at this key; its range is the one's before it now. */
  remove(lowKey: string): void {
    const index = this.#pageIndexAt(lowKey);
    const { atoms } = this.#own(index);
    const place = placeIn(atoms, lowKey);
    assert(atoms[place]?.lowKey === lowKey && place + index > 0, `no atom but the first begins at ${lowKey}`);
    atoms.splice(place, 1);
    this.#count--;
    // A page that has become small goes into the one before it, where there is room.
    const before = this.#pages[index - 1];
    if (atoms.length > 0 && (before === undefined || before.atoms.length + atoms.length > pageAtomsMax / 2)) return;
    if (atoms.length > 0) this.#own(index - 1).atoms.push(...atoms);
    this.#pages.splice(index, 1);
  }

  #pageAt(key: string): Page | undefined {
    return this.#pages[this.#pageIndexAt(key)];
  }

  #pageIndexAt(key: string): number {
    let low = 0;
    let high = this.#pages.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (((this.#pages[middle] as Page).atoms[0] as Atom).lowKey <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #own(index: number): Page {
    const page = this.#pages[index] as Page;
    if (page.era === this.#era) return page;
    const copy = { era: this.#era, atoms: page.atoms.slice() };
    this.#pages[index] = copy;
    return copy;
  }
}

/** The last that begins at or before the key; 0 where none does. */
function placeIn(atoms: readonly Atom[], key: string): number {
  let low = 0;
  let high = atoms.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((atoms[middle] as Atom).lowKey <= key) low = middle;
    else high = middle - 1;
  }
  return low;
}
