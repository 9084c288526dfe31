/** Hashes of catalogs, whatever the order of their records. */
import { type Atom, encodeAtom } from "../../src/atoms/atom.js";
import type { SpaceId } from "../../src/base/ids.js";
import type { BinaryRange } from "../../src/base/key-ranges.js";
import { encodeGaps } from "../../src/catalog/atom-map.js";
import { type Catalog, encodeStamp } from "../../src/catalog/catalog.js";
import { formerName } from "../../src/catalog/former-objects.js";
import { encodeMember } from "../../src/catalog/member.js";
import { encodeTableRecord } from "../../src/catalog/schema-catalog.js";
import { encodeSchemaRecord } from "../../src/catalog/schema-record.js";

/** No record is made to collide with another, so no cryptographic hash is needed: two multiplicative ones of 32 bits, mixed at the end ("cyrb53"). */
export function recordHash(name: string, bytes: Uint8Array): bigint {
  let [left, right] = [0xdeadbeef, 0x41c6ce57];
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index);
    left = Math.imul(left ^ code, 0x9e3779b1);
    right = Math.imul(right ^ code, 0x5f356495);
  }
  // A name ends where the bytes begin: no byte is 256.
  left = Math.imul(left ^ 256, 0x9e3779b1);
  right = Math.imul(right ^ 256, 0x5f356495);
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    left = Math.imul(left ^ byte, 0x9e3779b1);
    right = Math.imul(right ^ byte, 0x5f356495);
  }
  const mixedLeft = Math.imul(left ^ (left >>> 16), 0x85ebca6b) ^ Math.imul(right ^ (right >>> 13), 0xc2b2ae35);
  const mixedRight = Math.imul(right ^ (right >>> 16), 0x85ebca6b) ^ Math.imul(left ^ (left >>> 13), 0xc2b2ae35);
  return (BigInt(mixedLeft >>> 0) << 32n) | BigInt(mixedRight >>> 0);
}

/** Of all that the catalog says of itself. */
export function catalogHash(catalog: Catalog): bigint {
  let sum = 0n;
  for (const [name, bytes] of catalog.dump()) sum += recordHash(name, bytes);
  return sum;
}

/** Records are values, and a change makes another: so a hash is kept as long as its record. */
const kept = new WeakMap<object, bigint>();

/**
 * The same, for looks in passing: what has not changed since some other look is not encoded again. Of spaces of whose record catalog parts are not known
 * it takes what is known, or only how many atoms they have.
 */
export function passingCatalogHash(catalog: Catalog, parts: "with parts" | "without parts"): bigint {
  const { members, atoms, schema, stamps } = catalog;
  const lacking = atoms.lacking();
  let sum = recordHash("v", catalog.encodeVoters()) + recordHash("m", catalog.encodeMark());
  for (const stamp of stamps.all) sum += kept.get(stamp) ?? keep(stamp, `h:${stamp.seq}`, encodeStamp(stamp.timeMs));
  for (const member of members.values()) sum += kept.get(member) ?? keep(member, `e:${member.id}`, encodeMember(member));
  for (const atom of atoms.all()) if (parts === "with parts" || !lacking.has(atom.space)) sum += atomHash(atom);
  for (const space of lacking)
    sum +=
      parts === "with parts"
        ? gapsHash(space, atoms.countOf(space) - atoms.knownOf(space), atoms.gapsWithin(space, null))
        : gapsHash(space, atoms.countOf(space));
  for (const [name, record] of schema.records()) sum += kept.get(record) ?? keep(record, `s:${name}`, encodeSchemaRecord(record));
  for (const former of schema.former.all) sum += kept.get(former) ?? keep(former, formerName(former), encodeSchemaRecord(former.record));
  for (const table of schema.tables.values()) sum += kept.get(table) ?? keep(table, `t:${table.space}`, encodeTableRecord(table));
  return sum;
}

export function atomHash(atom: Atom): bigint {
  return kept.get(atom) ?? keep(atom, `a:${atom.id}`, encodeAtom(atom));
}

export function gapsHash(space: SpaceId, count: number, gaps?: readonly BinaryRange[]): bigint {
  return recordHash(`c:${space}`, encodeGaps(count, gaps));
}

function keep(record: object, name: string, bytes: Uint8Array): bigint {
  const hash = recordHash(name, bytes);
  kept.set(record, hash);
  return hash;
}
