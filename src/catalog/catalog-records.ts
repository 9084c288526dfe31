/**
 * Catalogs as records, to be sent part by part. What is there when they are asked for is kept (in immutable parts that the catalog shares), and
 * each record is encoded when it is taken: the cost is that of the part that is sent, and all records are of one seq.
 *
 * | catalog | records |
 * |---|---|
 * | root | voters, low-water mark, members, schema, sequences, the schema space's own atom, and of each other space how many atoms it has |
 * | of a space | its atoms, in key order |
 */
import { encodeAtom } from "../atoms/atom.js";
import { type SpaceId, schemaSpace } from "../base/ids.js";
import { encodeCount } from "./atom-map.js";
import type { Catalog } from "./catalog.js";
import { encodeMember } from "./member.js";
import { encodeSchemaRecord, encodeTableRecord } from "./schema-catalog.js";

export type CatalogRecord = readonly [name: string, bytes: Uint8Array];

/** What an engine that begins without a store begins with. */
export function rootRecords(catalog: Catalog): Iterator<CatalogRecord, undefined> {
  const voters = catalog.encodeVoters();
  const mark = catalog.encodeMark();
  const members = [...catalog.members.values()];
  const schema = [...catalog.schema.records()];
  const tables = [...catalog.schema.tables.values()];
  const schemaPages = catalog.atoms.snapshot(schemaSpace);
  const spaces = [...catalog.atoms.spaces()].filter((space) => space !== schemaSpace).map((space) => [space, catalog.atoms.countOf(space)] as const);
  return (function* (): Generator<CatalogRecord, undefined> {
    yield ["v", voters];
    yield ["m", mark];
    for (const member of members) yield [`e:${member.id}`, encodeMember(member)];
    for (const [name, record] of schema) yield [`s:${name}`, encodeSchemaRecord(record)];
    for (const table of tables) yield [`t:${table.space}`, encodeTableRecord(table)];
    for (const { atoms } of schemaPages) for (const atom of atoms) yield [`a:${atom.id}`, encodeAtom(atom)];
    for (const [space, count] of spaces) yield [`c:${space}`, encodeCount(count)];
    return undefined;
  })();
}

/** The record catalog of one space; nothing where it is gone. */
export function spaceRecords(catalog: Catalog, space: SpaceId): Iterator<CatalogRecord, undefined> {
  const pages = catalog.atoms.snapshot(space);
  return (function* (): Generator<CatalogRecord, undefined> {
    for (const { atoms } of pages) for (const atom of atoms) yield [`a:${atom.id}`, encodeAtom(atom)];
    return undefined;
  })();
}
