/**
 * The record catalogs of all spaces: atoms by id, and by key within their space. Ranges never overlap and leave no gap.
 *
 * An Archive has them all. A Cache that joined later has those parts that it has needed (engines/catalog-pulls.ts); of the others it knows what the
 * root catalog says: that they exist, and how many atoms they have. What an engine holds or originates, it knows.
 */
import type { Atom } from "../atoms/atom.js";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { AtomId, EngineId, SpaceId } from "../base/ids.js";
import { type BinaryKey, type BinaryRange, readRange, wholeRange, writeRange } from "../base/key-ranges.js";
import { HeldAtoms } from "./held-atoms.js";
import { type AtomPages, SpaceAtoms } from "./space-atoms.js";

export class AtomMap {
  readonly #byId = new Map<AtomId, Atom>();
  readonly #bySpace = new Map<SpaceId, SpaceAtoms>();
  /** Those of which parts are not here. */
  readonly #lacking = new Set<SpaceId>();
  #held: HeldAtoms | null = null;

  /** As it is now, to go its own way; what an engine holds is not watched in it. */
  copy(): AtomMap {
    const copy = new AtomMap();
    for (const [id, atom] of this.#byId) copy.#byId.set(id, atom);
    for (const [space, atoms] of this.#bySpace) copy.#bySpace.set(space, atoms.copy());
    for (const space of this.#lacking) copy.#lacking.add(space);
    return copy;
  }

  /** What the engine of `watch` holds; null: nobody's is watched. */
  get held(): HeldAtoms | null {
    return this.#held;
  }

  /** From now on it is known what the engine holds. */
  watch(engine: EngineId): void {
    this.#held = new HeldAtoms(engine, this.#byId.values());
  }

  /** Of those that are here. */
  get size(): number {
    return this.#byId.size;
  }

  /** Of all spaces. */
  get total(): number {
    let total = this.#byId.size;
    for (const space of this.#lacking) total += this.#bySpace.get(space)?.unknown ?? 0;
    return total;
  }

  all(): IterableIterator<Atom> {
    return this.#byId.values();
  }

  get(id: AtomId): Atom | undefined {
    return this.#byId.get(id);
  }

  ofSpace(space: SpaceId): readonly Atom[] {
    return this.#bySpace.get(space)?.toArray() ?? [];
  }

  /** Known or not. */
  countOf(space: SpaceId): number {
    const atoms = this.#bySpace.get(space);
    return atoms === undefined ? 0 : atoms.count + atoms.unknown;
  }

  knownOf(space: SpaceId): number {
    return this.#bySpace.get(space)?.count ?? 0;
  }

  spaces(): IterableIterator<SpaceId> {
    return this.#bySpace.keys();
  }

  /** Spaces of whose record catalog parts are not here. */
  lacking(): ReadonlySet<SpaceId> {
    return this.#lacking;
  }

  /** What of the ranges is not known here; null: of all of it. */
  gapsWithin(space: SpaceId, ranges: readonly BinaryRange[] | null): readonly BinaryRange[] {
    const atoms = this.#bySpace.get(space);
    if (atoms === undefined || atoms.gaps.length === 0) return [];
    return ranges === null ? atoms.gaps : ranges.flatMap((range) => atoms.gapsWithin(range));
  }

  /** These parts of the space's record catalog are elsewhere; it has so many atoms there. Atoms between them are added one by one. */
  lack(space: SpaceId, count: number, gaps: readonly BinaryRange[] = [wholeRange]): void {
    this.#ofSpace(space).beginWithGaps(gaps, count);
    this.#lacking.add(space);
  }

  /** What is not known of the space has so many atoms more. */
  countUnknown(space: SpaceId, more: number): void {
    if (this.#lacking.has(space)) this.#bySpace.get(space)?.countUnknown(more);
  }

  /** `atoms` are all that the range has. Returns those that were not known. */
  learn(space: SpaceId, range: BinaryRange, atoms: readonly Atom[]): readonly Atom[] {
    const known = this.#bySpace.get(space);
    if (known === undefined) return [];
    const learned = known.learn(range, atoms);
    for (const atom of learned) {
      this.#byId.set(atom.id, atom);
      this.#held?.set(atom);
    }
    if (known.gaps.length === 0) this.#lacking.delete(space);
    return learned;
  }

  /** A known atom is known no more. */
  forget(atom: Atom): void {
    this.#bySpace.get(atom.space)?.forget(atom.lowKey);
    this.#byId.delete(atom.id);
    this.#held?.delete(atom.id);
    this.#lacking.add(atom.space);
  }

  /** The space's atoms of now, in key order, whatever comes later. */
  snapshot(space: SpaceId): AtomPages {
    return this.#bySpace.get(space)?.snapshot() ?? [];
  }

  /** The atom whose range has the key, where it is known. */
  at(space: SpaceId, key: BinaryKey): Atom | undefined {
    return this.#bySpace.get(space)?.at(key);
  }

  /** Those known with keys of [low, high); null is the end. */
  overlapping(space: SpaceId, low: BinaryKey, high: BinaryKey | null): readonly Atom[] {
    return this.#bySpace.get(space)?.overlapping(low, high) ?? [];
  }

  /** Where the atom's range ends; null: at the space's end. */
  highOf(atom: Atom): Buffer | null {
    const high = this.highKeyOf(atom);
    return high === null ? null : Buffer.from(high, "latin1");
  }

  /** Likewise, as a string to compare keys with. */
  highKeyOf(atom: Atom): BinaryKey | null {
    return this.#bySpace.get(atom.space)?.endOf(atom.lowKey) ?? null;
  }

  add(atom: Atom): void {
    assert(!this.#byId.has(atom.id), `atom ${atom.id} twice`);
    this.#byId.set(atom.id, atom);
    this.#ofSpace(atom.space).add(atom);
    this.#held?.set(atom);
  }

  #ofSpace(space: SpaceId): SpaceAtoms {
    let atoms = this.#bySpace.get(space);
    if (atoms === undefined) {
      atoms = new SpaceAtoms();
      this.#bySpace.set(space, atoms);
    }
    return atoms;
  }

  /** Same id, same low key. */
  replace(atom: Atom): void {
    const former = this.#byId.get(atom.id);
    assert(former !== undefined && former.lowKey === atom.lowKey, `atom ${atom.id} replaced by another range`);
    this.#bySpace.get(atom.space)?.replace(atom);
    this.#byId.set(atom.id, atom);
    this.#held?.set(atom);
  }

  /** Of a space, at most `count` of those known, in order, from the one that has the key or comes before it. */
  from(space: SpaceId, key: BinaryKey, count: number): readonly Atom[] {
    return this.#bySpace.get(space)?.from(key, count) ?? [];
  }

  /** The neighbour behind it, where it is known. */
  after(atom: Atom): Atom | undefined {
    return this.#bySpace.get(atom.space)?.after(atom.lowKey);
  }

  /** Neighbours become one, which begins where the first of them does. */
  merge(atoms: readonly Atom[], into: Atom): void {
    const space = this.#bySpace.get(into.space);
    assert(space !== undefined && atoms[0]?.lowKey === into.lowKey, `atom ${into.id} begins elsewhere`);
    for (const atom of atoms) {
      this.#byId.delete(atom.id);
      this.#held?.delete(atom.id);
    }
    for (const atom of atoms.slice(1)) space.remove(atom.lowKey);
    space.replace(into);
    this.#byId.set(into.id, into);
    this.#held?.set(into);
  }

  removeSpace(space: SpaceId): readonly Atom[] {
    const atoms = this.ofSpace(space);
    for (const atom of atoms) {
      this.#byId.delete(atom.id);
      this.#held?.delete(atom.id);
    }
    this.#bySpace.delete(space);
    this.#lacking.delete(space);
    return atoms;
  }
}

/** What of a space's record catalog is elsewhere: its gaps, and how many atoms they have. */
export function encodeGaps(count: number, gaps: readonly BinaryRange[] = [wholeRange]): Buffer {
  const writer = new ByteWriter(16).varint(count).varint(gaps.length);
  for (const gap of gaps) writeRange(writer, gap);
  return writer.finish();
}

export function decodeGaps(bytes: Uint8Array): { readonly count: number; readonly gaps: readonly BinaryRange[] } {
  const reader = new ByteReader(bytes);
  const count = reader.varint();
  const gaps = reader.list(readRange, 2);
  reader.end();
  return { count, gaps };
}
