/**
 * One space's atoms in key order: its record catalog. In pages, so that an atom more costs a page and not the whole list, and so that what is
 * there now can be kept (`snapshot`) for the price of the list of pages: a page that a snapshot shares is copied before it changes.
 *
 * An Archive knows all of it. A Cache that joined later knows the parts that it has needed; between them are gaps, which begin and end where
 * atoms do. How many atoms are in the gaps is known, and nothing else.
 */
import type { Atom } from "../atoms/atom.js";
import { assert } from "../base/errors.js";
import { type BinaryKey, type BinaryRange, KeyRanges } from "../base/key-ranges.js";

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
  #gaps = new KeyRanges();
  /** Atoms in the gaps. */
  #unknown = 0;

  /** Of those that are known. */
  get count(): number {
    return this.#count;
  }

  get unknown(): number {
    return this.#unknown;
  }

  get gaps(): readonly BinaryRange[] {
    return this.#gaps.pieces;
  }

  gapsWithin(range: BinaryRange): readonly BinaryRange[] {
    return this.#gaps.pieces.length === 0 ? [] : this.#gaps.within(range);
  }

  /** Nothing was known; these are gaps now, of so many atoms. */
  beginWithGaps(gaps: Iterable<BinaryRange>, unknown: number): void {
    this.#gaps = new KeyRanges(gaps);
    this.#unknown = unknown;
  }

  countUnknown(more: number): void {
    this.#unknown += more;
  }

  /** The atoms are all that the range has; those of them that were in gaps are known now, and are given back. */
  learn(range: BinaryRange, atoms: readonly Atom[]): readonly Atom[] {
    const learned = atoms.filter(({ lowKey }) => this.#gaps.at(lowKey) !== undefined);
    for (const atom of learned) this.add(atom);
    this.#gaps.remove(range);
    this.#unknown -= learned.length;
    return learned;
  }

  /** The known atom that begins there is a gap's from now on; what becomes of their count, the caller says. */
  forget(lowKey: BinaryKey): void {
    const [index, place] = this.#placeOf(lowKey);
    this.#gaps.add({ low: lowKey, high: this.endOf(lowKey) });
    this.#take(index, place);
  }

  *[Symbol.iterator](): IterableIterator<Atom> {
    for (const { atoms } of this.#pages) yield* atoms;
  }

  toArray(): readonly Atom[] {
    return this.#pages.length === 1 ? (this.#pages[0] as Page).atoms : this.#pages.flatMap(({ atoms }) => atoms);
  }

  /** What is there now, whatever comes later. */
  snapshot(): readonly Page[] {
    this.#era++;
    return this.#pages.slice();
  }

  /** As it is now, to go its own way: pages are shared until one of the two changes them. */
  copy(): SpaceAtoms {
    const copy = new SpaceAtoms();
    copy.#pages.push(...this.snapshot());
    copy.#era = this.#era;
    copy.#count = this.#count;
    copy.#gaps = new KeyRanges(this.#gaps.pieces);
    copy.#unknown = this.#unknown;
    return copy;
  }

  /** The one whose range has the key; undefined in a gap. */
  at(key: BinaryKey): Atom | undefined {
    if (this.#gaps.pieces.length > 0 && this.#gaps.at(key) !== undefined) return undefined;
    const { atoms } = this.#pages[pageIndexAt(this.#pages, key)] ?? {};
    return atoms?.[placeIn(atoms, key)];
  }

  /** Those known with keys of [low, high); null is the end. */
  overlapping(low: BinaryKey, high: BinaryKey | null): readonly Atom[] {
    if (low === "" && high === null) return this.toArray();
    const found: Atom[] = [];
    let page = pageIndexAt(this.#pages, low);
    let place = placeIn(this.#pages[page]?.atoms ?? [], low);
    const before = this.#pages[page]?.atoms[place];
    // Between it and the key a gap begins.
    if (before !== undefined && before.lowKey <= low && this.at(low) !== before) place++;
    for (; page < this.#pages.length; page++, place = 0) {
      const { atoms } = this.#pages[page] as Page;
      for (; place < atoms.length; place++) {
        const atom = atoms[place] as Atom;
        if (high !== null && atom.lowKey >= high && atom.lowKey > low) return found;
        found.push(atom);
      }
    }
    return found;
  }

  /** The one behind the atom that begins at this key; undefined at the end, and where a gap is. */
  after(lowKey: BinaryKey): Atom | undefined {
    const next = this.#nextKnown(lowKey);
    return next === undefined || this.#gapBetween(lowKey, next) !== undefined ? undefined : next;
  }

  /** Where the range ends of the known atom that begins at this key; null: at the space's end. */
  endOf(lowKey: BinaryKey): BinaryKey | null {
    const next = this.#nextKnown(lowKey);
    return this.#gapBetween(lowKey, next)?.low ?? next?.lowKey ?? null;
  }

  #nextKnown(lowKey: BinaryKey): Atom | undefined {
    const index = pageIndexAt(this.#pages, lowKey);
    const atoms = this.#pages[index]?.atoms ?? [];
    return atoms[placeIn(atoms, lowKey) + 1] ?? this.#pages[index + 1]?.atoms[0];
  }

  #gapBetween(lowKey: BinaryKey, next: Atom | undefined): BinaryRange | undefined {
    if (this.#gaps.pieces.length === 0) return undefined;
    const gap = this.#gaps.after(lowKey);
    return gap !== undefined && (next === undefined || gap.low < next.lowKey) ? gap : undefined;
  }

  add(atom: Atom): void {
    this.#count++;
    if (this.#pages.length === 0) {
      this.#pages.push({ era: this.#era, atoms: [atom] });
      return;
    }
    const index = pageIndexAt(this.#pages, atom.lowKey);
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
    const [index, place] = this.#placeOf(atom.lowKey);
    this.#own(index).atoms[place] = atom;
  }

  /** At most `count` of them, in order, from the one whose range has the key. */
  from(key: BinaryKey, count: number): readonly Atom[] {
    const found: Atom[] = [];
    let page = pageIndexAt(this.#pages, key);
    let place = placeIn(this.#pages[page]?.atoms ?? [], key);
    for (; page < this.#pages.length && found.length < count; page++, place = 0) {
      found.push(...(this.#pages[page] as Page).atoms.slice(place, place + count - found.length));
    }
    return found;
  }

  /** The one that begins at this key; its range is the one's before it now. */
  remove(lowKey: BinaryKey): void {
    const [index, place] = this.#placeOf(lowKey);
    assert(place + index > 0, `no atom but the first begins at ${lowKey}`);
    this.#take(index, place);
  }

  #placeOf(lowKey: BinaryKey): [index: number, place: number] {
    const index = pageIndexAt(this.#pages, lowKey);
    const atoms = this.#pages[index]?.atoms ?? [];
    const place = placeIn(atoms, lowKey);
    assert(atoms[place]?.lowKey === lowKey, `no atom begins at ${lowKey}`);
    return [index, place];
  }

  #take(index: number, place: number): void {
    const { atoms } = this.#own(index);
    atoms.splice(place, 1);
    this.#count--;
    // A page that has become small goes into the one before it, where there is room.
    const before = this.#pages[index - 1];
    if (atoms.length > 0 && (before === undefined || before.atoms.length + atoms.length > pageAtomsMax / 2)) return;
    if (atoms.length > 0) this.#own(index - 1).atoms.push(...atoms);
    this.#pages.splice(index, 1);
  }

  #own(index: number): Page {
    const page = this.#pages[index] as Page;
    if (page.era === this.#era) return page;
    const copy = { era: this.#era, atoms: page.atoms.slice() };
    this.#pages[index] = copy;
    return copy;
  }
}

/** Where the last atom stands that begins at or before the key; the first one where none does. */
export function pageAt(pages: AtomPages, key: BinaryKey): [page: number, place: number] {
  const page = pageIndexAt(pages, key);
  return [page, placeIn(pages[page]?.atoms ?? [], key)];
}

function pageIndexAt(pages: AtomPages, key: BinaryKey): number {
  let low = 0;
  let high = pages.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (((pages[middle] as AtomPages[number]).atoms[0] as Atom).lowKey <= key) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The last that begins at or before the key; 0 where none does. */
function placeIn(atoms: readonly Atom[], key: BinaryKey): number {
  let low = 0;
  let high = atoms.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((atoms[middle] as Atom).lowKey <= key) low = middle;
    else high = middle - 1;
  }
  return low;
}
