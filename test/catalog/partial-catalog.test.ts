/** A Cache's catalog, that knows parts of a table's atoms, beside an Archive's, that knows all, through random histories. */
import { expect, test } from "vitest";
import type { Atom } from "../../src/atoms/atom.js";
import type { AtomId, EngineId, Seq } from "../../src/base/ids.js";
import { type BinaryRange, binaryKey, rangeOfKey } from "../../src/base/key-ranges.js";
import { type Random, seededRandom } from "../../src/base/random.js";
import { integerKey } from "../../src/base/sort-key.js";
import { Catalog } from "../../src/catalog/catalog.js";
import { type AtomRun, addToRuns, type CatalogRecord, rootRecords, spaceRecords } from "../../src/catalog/catalog-records.js";
import type { Entry } from "../../src/messages/wire/entry.js";
import { atom, boot, createTable, proposal, space } from "../engines/engine-parts.js";

const keysEnd = 4000;

class Histories {
  readonly whole = new Catalog();
  partial: Catalog;
  /** The one of two copies that nothing is applied to any more. */
  #copied: { expectUnchanged(): void } | null = null;
  readonly #random: Random;
  #seq = 0;
  #nextAtom = atom + 1;
  /** MERGEs of atoms of which the partial one knew some, and not all. */
  forgotten = 0;

  constructor(random: Random) {
    this.#random = random;
    for (const entry of [boot(1, 11), boot(2), boot(3), proposal(2, 1, createTable())]) this.#apply(entry, [this.whole]);
    for (let cuts = 0; cuts < 30; cuts++) this.#split([this.whole]);
    this.partial = Catalog.load(taken(rootRecords(this.whole)));
  }

  #apply(entry: Entry, catalogs = [this.whole, this.partial]): void {
    const seq = ++this.#seq as Seq;
    for (const catalog of catalogs) catalog.apply(seq, entry);
  }

  get atoms(): readonly Atom[] {
    return this.whole.atoms.ofSpace(space);
  }

  step(): void {
    const choice = this.#random.integer(10);
    if (choice < 3) this.#split();
    else if (choice < 5) this.#merge();
    else if (choice < 7) this.#rows();
    else if (choice < 9) this.#learn();
    else this.#leave();
  }

  #split(catalogs = [this.whole, this.partial]): void {
    const key = integerKey(BigInt(1 + this.#random.integer(keysEnd)));
    const found = this.whole.atoms.at(space, binaryKey(key)) as Atom;
    if (found.low.equals(key)) return;
    const pieces = [{ atom: this.#nextAtom++ as AtomId, low: key, taker: 0 as EngineId, bytes: 10, rows: 1 }];
    const body = {
      kind: "split",
      atom: found.id,
      space,
      firstTaker: 0 as EngineId,
      pieces,
      measured: null,
      sequenceFirst: 0n,
      sequenceNext: 0n,
    } as const;
    this.#apply(proposal(2, 9, body), catalogs);
  }

  #merge(): void {
    const { atoms } = this;
    const first = this.#random.integer(atoms.length);
    const ids = atoms.slice(first, first + 2 + this.#random.integer(3)).map(({ id }) => id);
    if (ids.length < 2) return;
    const known = ids.filter((id) => this.partial.atoms.get(id) !== undefined).length;
    if (known > 0 && known < ids.length) this.forgotten++;
    this.#apply(proposal(2, 9, { kind: "merge", space, atoms: ids, into: this.#nextAtom++ as AtomId }));
  }

  #rows(): void {
    const keys = Array.from({ length: 5 }, () => this.#random.integer(keysEnd)).sort((left, right) => left - right);
    const rows = keys.map((key) => ({ key: integerKey(BigInt(key)), row: Buffer.alloc(this.#random.integer(100)), oldBytes: 0, indexKeys: [] }));
    this.#apply(proposal(2, 9, { kind: "transaction", exists: [], parts: [{ kind: "rows", table: space, rows }] }));
  }

  #leave(): void {
    this.#apply(boot(100 + this.#seq));
    this.#apply({ kind: "leave", engine: (this.#seq % 2 === 0 ? 2 : 3) as EngineId, ids: [] });
  }

  #learn(): void {
    const ranges = Array.from({ length: 1 + this.#random.integer(3) }, (): BinaryRange => {
      const low = this.#random.integer(keysEnd);
      const key = binaryKey(integerKey(BigInt(low)));
      return this.#random.integer(2) === 0 ? rangeOfKey(key) : { low: key, high: binaryKey(integerKey(BigInt(low + 1 + this.#random.integer(100)))) };
    });
    const copy = new Catalog();
    copy.atoms.lack(space, this.atoms.length);
    // In two parts, as over the wire.
    const all = [...taken(spaceRecords(this.whole, space, ranges, this.#random.integer(4)))];
    const runs: AtomRun[] = [];
    const cut = this.#random.integer(all.length + 1);
    for (const part of [all.slice(0, cut), all.slice(cut)]) addToRuns(runs, space, part);
    for (const { atoms, high } of runs) copy.atoms.learn(space, { low: atoms[0]?.lowKey ?? "", high }, atoms);
    this.partial.learn(space, copy);
    expect(this.partial.atoms.gapsWithin(space, ranges)).toEqual([]);
  }

  compare(): void {
    const { atoms } = this.partial;
    const isGap = ({ lowKey }: Atom): boolean => atoms.gapsWithin(space, [rangeOfKey(lowKey)]).length > 0;
    const known = this.atoms.filter((one) => !isGap(one));
    expect(atoms.ofSpace(space)).toEqual(known);
    expect(atoms.countOf(space)).toBe(this.atoms.length);
    expect(atoms.knownOf(space)).toBe(known.length);
    expect(atoms.lacking().has(space)).toBe(known.length < this.atoms.length);
    for (const one of known) {
      expect(atoms.highKeyOf(one)).toBe(this.whole.atoms.highKeyOf(one));
      const next = this.whole.atoms.after(one);
      expect(atoms.after(one)).toEqual(next === undefined || isGap(next) ? undefined : next);
    }
    for (let n = 0; n < 20; n++) {
      const low = binaryKey(integerKey(BigInt(this.#random.integer(keysEnd))));
      const high = binaryKey(integerKey(BigInt(this.#random.integer(keysEnd))));
      const at = this.whole.atoms.at(space, low) as Atom;
      expect(atoms.at(space, low)).toEqual(isGap(at) ? undefined : at);
      if (low < high)
        expect(atoms.overlapping(space, low, high)).toEqual(this.whole.atoms.overlapping(space, low, high).filter((one) => !isGap(one)));
    }
    expect(Catalog.load(this.partial.dump()).dump()).toEqual(this.partial.dump());
    // One copy goes on in its place, as a sequencer's does: what comes later must not be seen by the other.
    this.#copied?.expectUnchanged();
    const copy = this.partial.copy();
    expect(copy.dump()).toEqual(this.partial.dump());
    expect(copy.oversize).toEqual(this.partial.oversize);
    const [left, goesOn] = this.#random.integer(2) === 0 ? [copy, this.partial] : [this.partial, copy];
    const before = left.dump();
    this.#copied = { expectUnchanged: () => expect(left.dump()).toEqual(before) };
    this.partial = goesOn;
    expect([...this.partial.oversize].every((id) => this.whole.oversize.has(id))).toBe(true);
  }
}

function taken(records: Iterator<CatalogRecord, undefined>): Map<string, Uint8Array> {
  const all = new Map<string, Uint8Array>();
  for (let next = records.next(); next.done !== true; next = records.next()) all.set(...next.value);
  return all;
}

test("what is known of a table's atoms is as the whole catalog has it, whatever is split, merged and learned", () => {
  let forgotten = 0;
  let parts = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const histories = new Histories(seededRandom(seed));
    for (let round = 0; round < 80; round++) {
      histories.step();
      histories.compare();
      if (histories.partial.atoms.gapsWithin(space, null).length > 2) parts++;
    }
    forgotten += histories.forgotten;
  }
  expect(forgotten).toBeGreaterThan(8);
  expect(parts).toBeGreaterThan(100);
});

test("runs out of order, of another space, or that end before they begin are malformed", () => {
  const { whole } = new Histories(seededRandom(1));
  const records = [...taken(spaceRecords(whole, space, [rangeOfKey(""), rangeOfKey(binaryKey(integerKey(2000n)))]))];
  const [first, end, second] = records as unknown as [CatalogRecord, CatalogRecord, CatalogRecord];
  expect(end[0]).toBe("g:1");
  for (const wrong of [[second, first], [end], [first, ["g:1", first[1].subarray(0, 0)] as const], [first, end, end]])
    expect(() => addToRuns([], space, wrong)).toThrow("space");
  expect(() => addToRuns([], (space + 1) as typeof space, [first])).toThrow("not the next one");
});
