/** What stands in a transaction's way, and what its client is told of it: the first of what it asks permission for that has changed since it read it. */
import type { RecentKeys } from "../atoms/recent-keys.js";
import type { Seq, SpaceId } from "../base/ids.js";
import { integerOfKey } from "../base/sort-key.js";
import type { Catalog } from "../catalog/catalog.js";
import type { Changes } from "../sql/local-store.js";

/** Something of what it wrote before its snapshot has changed between the two. Once this engine has applied the snapshot. */
export function isOvertaken(recent: RecentKeys, { permissions }: Changes): boolean {
  return permissions.some(({ space, key, kind, since }) => since !== undefined && recent.newerThan(since, space, key, kind) > 0);
}

/** To be asked once this engine has applied what the originator knew. */
export function conflictText(catalog: Catalog, recent: RecentKeys, { permissions, wholeTables }: Changes, snapshot: Seq): string {
  for (const { space, key, kind, since } of permissions)
    if (recent.newerThan(since ?? snapshot, space, key, kind) > 0)
      return `${keyText(catalog, space, key)} was changed by another transaction since this one${since === undefined ? "'s snapshot" : " wrote it"}`;
  for (const space of wholeTables)
    if (recent.spaceNewerThan(snapshot, space) > 0)
      return `${tableText(catalog, space)}, which it read, was changed by another transaction since its snapshot`;
  return "what it changed, or relied on, was changed by another transaction since its snapshot";
}

function tableText(catalog: Catalog, space: SpaceId): string {
  const table = catalog.schema.tables.get(space);
  return table === undefined ? "the schema" : `table ${table.name}`;
}

function keyText(catalog: Catalog, space: SpaceId, key: string): string {
  const bytes = Buffer.from(key, "latin1");
  if (catalog.schema.tables.has(space)) {
    const id = integerOfKey(bytes);
    return `${id === null ? "a row" : `the row ${id}`} of ${tableText(catalog, space)}`;
  }
  for (const { object } of catalog.schema.inOrder()) {
    const isUnique = object.type === "index" ? object.space === space : object.uniques.some((one) => one.space === space);
    if (isUnique) return `a unique value of table ${object.tableName}`;
  }
  if (key.startsWith("\0")) return key.slice(1);
  return `the name ${JSON.stringify(bytes.toString("utf8"))} in the schema`;
}
