/** Hashes of catalogs, whatever the order of their records. */
import { createHash } from "node:crypto";
import { encodeAtom } from "../../src/atoms/atom.js";
import { encodeCount } from "../../src/catalog/atom-map.js";
import type { Catalog } from "../../src/catalog/catalog.js";
import { encodeMember } from "../../src/catalog/member.js";
import { encodeSchemaRecord, encodeTableRecord } from "../../src/catalog/schema-catalog.js";

export function recordHash(name: string, bytes: Uint8Array): bigint {
  return createHash("sha1").update(name).update("\0").update(bytes).digest().readBigUInt64BE(0);
}

/** Of all that the catalog says of itself. */
export function catalogHash(catalog: Catalog): bigint {
  let sum = 0n;
  for (const [name, bytes] of catalog.dump()) sum += recordHash(name, bytes);
  return sum;
}

/** Records are values, and a change makes another: so a hash is kept as long as its record. */
const kept = new WeakMap<object, bigint>();

/** The same, for looks in passing: what has not changed since some other look is not encoded again. */
export function passingCatalogHash(catalog: Catalog): bigint {
  const { members, atoms, schema } = catalog;
  let sum = recordHash("v", catalog.encodeVoters()) + recordHash("m", catalog.encodeMark());
  for (const member of members.values()) sum += kept.get(member) ?? keep(member, `e:${member.id}`, encodeMember(member));
  for (const atom of atoms.all()) sum += kept.get(atom) ?? keep(atom, `a:${atom.id}`, encodeAtom(atom));
  for (const [space, count] of atoms.lacking()) sum += recordHash(`c:${space}`, encodeCount(count));
  for (const [name, record] of schema.records()) sum += kept.get(record) ?? keep(record, `s:${name}`, encodeSchemaRecord(record));
  for (const table of schema.tables.values()) sum += kept.get(table) ?? keep(table, `t:${table.space}`, encodeTableRecord(table));
  return sum;
}

function keep(record: object, name: string, bytes: Uint8Array): bigint {
  const hash = recordHash(name, bytes);
  kept.set(record, hash);
  return hash;
}
