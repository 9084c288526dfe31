/**
 * The record catalogs of all spaces: atoms by id, and by key within their space. Ranges never overlap and leave no gap.
 *
 * An Archive has them all. A Cache that joined later has those that it has needed (engines/catalog-pulls.ts); of the others it knows what the
 * root catalog says: that they exist, and how many atoms they have.
 */
import type { Atom } from "../atoms/atom.js";
import { ByteReader, ByteWriter } from "../base/bytes.js";
import { assert } from "../base/errors.js";
import type { AtomId, EngineId, SpaceId } from "../base/ids.js";
import { HeldAtoms } from "./held-atoms.js";
import { type AtomPages, SpaceAtoms } from "./space-atoms.js";

export class AtomMap {
  readonly #byId = new Map<AtomId, Atom>();
  readonly #bySpace = new Map<SpaceId, SpaceAtoms>();
  /** Record catalogs that are not here: how many atoms they have. */
  readonly #lacking = new Map<SpaceId, number>();
  #held: HeldAtoms | null = null;

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
    for (const count of this.#lacking.values()) total += count;
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

  countOf(space: SpaceId): number {
    return this.#bySpace.get(space)?.count ?? this.#lacking.get(space) ?? 0;
  }

  /** Those whose record catalog is here. */
  spaces(): IterableIterator<SpaceId> {
    return this.#bySpace.keys();
  }

  /** Spaces whose record catalog is not here, with the count of their atoms. */
  lacking(): ReadonlyMap<SpaceId, number> {
    return this.#lacking;
  }

  /** Whether the space exists and its record catalog is not here. */
  lacks(space: SpaceId): boolean {
    return this.#lacking.has(space);
  }

  /** The space's record catalog is elsewhere. */
  lack(space: SpaceId, count: number): void {
    assert(!this.#bySpace.has(space), `the record catalog of space ${space} is here`);
    this.#lacking.set(space, count);
  }

  /** A space that is not here has so many atoms more. */
  countMore(space: SpaceId, count: number): void {
    const known = this.#lacking.get(space);
    if (known !== undefined) this.#lacking.set(space, known + count);
  }

  /** Takes a space's record catalog over from another map, which is not used any more. */
  adopt(space: SpaceId, other: AtomMap): void {
    const atoms = other.#bySpace.get(space);
    assert(atoms !== undefined && this.#lacking.delete(space), `the record catalog of space ${space} was not lacking`);
    this.#bySpace.set(space, atoms);
    for (const atom of atoms) {
      this.#byId.set(atom.id, atom);
      this.#held?.set(atom);
    }
  }

  /** The space's atoms of now, in key order, whatever comes later. */
  snapshot(space: SpaceId): AtomPages {
    return this.#bySpace.get(space)?.snapshot() ?? [];
  }

  /** The atom whose range has the key (a latin1 string of its bytes). */
  at(space: SpaceId, key: string): Atom | undefined {
    return this.#bySpace.get(space)?.at(key);
  }

  /** Those with keys of [low, high); null is the end. */
  overlapping(space: SpaceId, low: string, high: string | null): readonly Atom[] {
    return this.#bySpace.get(space)?.overlapping(low, high) ?? [];
  }

  /** Where the atom's range ends: the next one's low key, or null at the space's end. */
  highOf(atom: Atom): Buffer | null {
    return this.#bySpace.get(atom.space)?.after(atom.lowKey)?.low ?? null;
  }

  /** Likewise, as a string to compare keys with. */
  highKeyOf(atom: Atom): string | null {
    return this.#bySpace.get(atom.space)?.after(atom.lowKey)?.lowKey ?? null;
  }

  add(atom: Atom): void {
    assert(!this.#byId.has(atom.id), `atom ${atom.id} twice`);
    this.#byId.set(atom.id, atom);
    let atoms = this.#bySpace.get(atom.space);
    if (atoms === undefined) {
      atoms = new SpaceAtoms();
      this.#bySpace.set(atom.space, atoms);
    }
    atoms.add(atom);
    this.#held?.set(atom);
  }

  /** Same id, same low key. */
  replace(atom: Atom): void {
    const former = this.#byId.get(atom.id);
    assert(former !== undefined && former.lowKey === atom.lowKey, `atom ${atom.id} replaced by another range`);
    this.#bySpace.get(atom.space)?.replace(atom);
    this.#byId.set(atom.id, atom);
    this.#held?.set(atom);
  }

  /** Of a space, at most `count`, in order, from the one that has the key. */
  from(space: SpaceId, key: string, count: number): readonly Atom[] {
    return this.#bySpace.get(space)?.from(key, count) ?? [];
  }

  /** The neighbour behind it. */
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

/** Of a space whose record catalog is elsewhere. */
export function encodeCount(count: number): Buffer {
  return new ByteWriter(8).varint(count).finish();
}

export function decodeCount(bytes: Uint8Array): number {
  const reader = new ByteReader(bytes);
  const count = reader.varint();
  reader.end();
  return count;
}
