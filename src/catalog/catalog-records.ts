/**
 * Catalogs as records, to be sent part by part. What is there when they are asked for is kept (in immutable parts that the catalog shares), and
 * each record is encoded when it is taken: the cost is that of the part that is sent, and all records are of one seq.
 *
 * | catalog | records |
 * |---|---|
 * | root | voters, low-water mark, what time it was at which seq, members, schema, what objects of it were, sequences, the schema space's own atom, and of each other space how many atoms it has |
 * | of a space's ranges | their atoms, in key order; and behind one where others are left out, the key at which it ends |
 */
import { type Atom, decodeAtom, encodeAtom } from "../atoms/atom.js";
import { MalformedBytesError } from "../base/bytes.js";
import { type SpaceId, schemaSpace } from "../base/ids.js";
import { type BinaryKey, type BinaryRange, binaryKey, KeyRanges } from "../base/key-ranges.js";
import { encodeGaps } from "./atom-map.js";
import { type Catalog, encodeStamp } from "./catalog.js";
import { formerName } from "./former-objects.js";
import { encodeMember } from "./member.js";
import { encodeTableRecord } from "./schema-catalog.js";
import { encodeSchemaRecord } from "./schema-record.js";
import { type AtomPages, pageAt } from "./space-atoms.js";

export type CatalogRecord = readonly [name: string, bytes: Uint8Array];

/** What an engine that begins without a store begins with. */
export function rootRecords(catalog: Catalog): Iterator<CatalogRecord, undefined> {
  const voters = catalog.encodeVoters();
  const mark = catalog.encodeMark();
  const stamps = [...catalog.stamps.all];
  const members = [...catalog.members.values()];
  const schema = [...catalog.schema.records()];
  const former = [...catalog.schema.former.all];
  const tables = [...catalog.schema.tables.values()];
  const schemaPages = catalog.atoms.snapshot(schemaSpace);
  const spaces = [...catalog.atoms.spaces()].filter((space) => space !== schemaSpace).map((space) => [space, catalog.atoms.countOf(space)] as const);
  return (function* (): Generator<CatalogRecord, undefined> {
    yield ["v", voters];
    yield ["m", mark];
    for (const { seq, timeMs } of stamps) yield [`h:${seq}`, encodeStamp(timeMs)];
    for (const member of members) yield [`e:${member.id}`, encodeMember(member)];
    for (const [name, record] of schema) yield [`s:${name}`, encodeSchemaRecord(record)];
    for (const one of former) yield [formerName(one), encodeSchemaRecord(one.record)];
    for (const table of tables) yield [`t:${table.space}`, encodeTableRecord(table)];
    for (const { atoms } of schemaPages) for (const atom of atoms) yield [`a:${atom.id}`, encodeAtom(atom)];
    for (const [space, count] of spaces) yield [`c:${space}`, encodeGaps(count)];
    return undefined;
  })();
}

/** Name of a record that has the key where the run of atoms before it ends; the number makes names differ. */
const endName = "g:";

/** Of the record catalog of one space what has keys of the ranges, and of each so many atoms at least, with those behind it; nothing where the space is gone. */
export function spaceRecords(catalog: Catalog, space: SpaceId, ranges: readonly BinaryRange[], atomsMin = 0): Iterator<CatalogRecord, undefined> {
  const pages = catalog.atoms.snapshot(space);
  const wanted = new KeyRanges(ranges).pieces;
  return (function* (): Generator<CatalogRecord, undefined> {
    yield* partRecords(pages, wanted, atomsMin);
    return undefined;
  })();
}

/** `ranges`: ascending, disjoint. */
function* partRecords(pages: AtomPages, ranges: readonly BinaryRange[], atomsMin: number): Generator<CatalogRecord, void> {
  let page = 0;
  let place = 0;
  let runs = 0;
  const here = (): Atom | undefined => pages[page]?.atoms[place];
  const end = (atom: Atom): CatalogRecord => [`${endName}${++runs}`, atom.low];
  let isFirst = true;
  for (const { low, high } of ranges) {
    const [firstPage, firstPlace] = pageAt(pages, low);
    if (firstPage > page || (firstPage === page && firstPlace > place)) {
      const left = here();
      if (!isFirst && left !== undefined) yield end(left);
      [page, place] = [firstPage, firstPlace];
    }
    isFirst = false;
    for (let atom = here(), count = 0; atom !== undefined && (count < atomsMin || high === null || atom.lowKey < high); atom = here(), count++) {
      yield [`a:${atom.id}`, encodeAtom(atom)];
      place++;
      if (place < (pages[page]?.atoms.length ?? 0)) continue;
      page++;
      place = 0;
    }
  }
  const left = here();
  if (left !== undefined) yield end(left);
}

/** Atoms in a row, and where the last one's range ends. */
export interface AtomRun {
  readonly atoms: Atom[];
  high: BinaryKey | null;
}

/** The next part of what `spaceRecords` gives, added to the runs so far. Throws MalformedBytesError where they are not in order, or of another space. */
export function addToRuns(runs: AtomRun[], space: SpaceId, records: Iterable<CatalogRecord>): void {
  for (const [name, bytes] of records) {
    const last = runs.at(-1);
    const isOpen = last !== undefined && last.high === null;
    const before = isOpen ? (last.atoms.at(-1)?.lowKey ?? null) : (last?.high ?? null);
    if (name.startsWith(endName)) {
      const key = binaryKey(bytes);
      if (!isOpen || before === null || key <= before) throw new MalformedBytesError(`a run of atoms of space ${space} ends before it begins`);
      last.high = key;
      continue;
    }
    const atom = decodeAtom(bytes);
    const follows = before === null || (isOpen ? before < atom.lowKey : before <= atom.lowKey);
    if (atom.space !== space || !follows) throw new MalformedBytesError(`atom ${atom.id} is not the next one of space ${space}`);
    if (isOpen) last.atoms.push(atom);
    else runs.push({ atoms: [atom], high: null });
  }
}
