/** What a transaction's changes ask of whom, and whether they fit an entry: from what the local store says of them, and from the catalogs. */
import type { Atom } from "../atoms/atom.js";
import type { PermissionItem } from "../atoms/permission-table.js";
import { type EngineId, type SpaceId, schemaSpace } from "../base/ids.js";
import { rangeOfKey } from "../base/key-ranges.js";
import { entryBytesMax } from "../base/limits.js";
import type { Catalog } from "../catalog/catalog.js";
import type { Fence } from "../messages/wire/entry.js";
import type { Changes } from "../sql/local-store.js";
import type { CatalogNeed } from "./catalog-pulls.js";

/** What stands before the body of a proposal: three, two and a few numbers of 8 bytes at most. */
const fenceBytesMax = 24;
const schemaVersionBytesMax = 16;
const entryHeaderBytesMax = 64;

/** What one originator is asked for. */
export interface PermissionGroup {
  readonly items: PermissionItem[];
  readonly wholeSpaces: SpaceId[];
  readonly fences: Fence[];
  readonly atoms: Set<number>;
}

/** Of the record catalogs of what is under permission, what this engine does not know. */
export function lackingFor({ atoms }: Catalog, { permissions, wholeTables }: Changes): CatalogNeed[] {
  if (atoms.lacking().size === 0) return [];
  const needs = [...wholeTables].map((space): CatalogNeed => ({ space, ranges: null }));
  for (const { space, key } of permissions) needs.push({ space, ranges: [rangeOfKey(key)] });
  return needs.filter(({ space, ranges }) => atoms.gapsWithin(space, ranges).length > 0);
}

/** By originator. A space without atoms is one that the transaction itself makes: its name's permission covers it. null: someone is missing. */
export function permissionGroups(catalog: Catalog, changes: Changes): Map<EngineId, PermissionGroup> | null {
  const groups = new Map<EngineId, PermissionGroup>();
  const groupOf = (atom: Atom): PermissionGroup => {
    let group = groups.get(atom.originator);
    if (group === undefined) {
      group = { items: [], wholeSpaces: [], fences: [], atoms: new Set() };
      groups.set(atom.originator, group);
    }
    if (!group.atoms.has(atom.id)) {
      group.atoms.add(atom.id);
      catalog.atoms.held?.touch(atom.id);
      group.fences.push({ atom: atom.id, originator: atom.originator, ownershipVersion: atom.ownershipVersion });
    }
    return group;
  };
  for (const permission of changes.permissions) {
    const atom = catalog.atoms.at(permission.space, permission.key);
    if (atom !== undefined) groupOf(atom).items.push({ space: permission.space, key: permission.key, use: permission.kind });
  }
  for (const space of changes.wholeTables) {
    for (const atom of catalog.atoms.ofSpace(space)) {
      const group = groupOf(atom);
      if (!group.wholeSpaces.includes(space)) group.wholeSpaces.push(space);
    }
  }
  return groups.has(0 as EngineId) ? null : groups;
}

/** Larger than an entry may be, with so many fences. */
export function isTooLarge({ body, schemaVersions }: Changes, fenceCount: number): boolean {
  return body.length + fenceCount * fenceBytesMax + schemaVersions.length * schemaVersionBytesMax + entryHeaderBytesMax > entryBytesMax;
}

/**
 * What changes the schema, or looks at a whole table, stands alone: what shares its entry would have been made for the schema before it. So does what has large values: a
 * group's rows of one table are applied together, and the values of all of them would be in memory.
 */
export function mayShareAnEntry({ wholeTables, permissions, hasLargeValues }: Changes): boolean {
  return wholeTables.length === 0 && hasLargeValues !== true && !permissions.some(({ space }) => space === schemaSpace);
}
