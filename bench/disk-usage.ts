/** What an Archive's folder takes on the disk, looked at from outside while the Archive runs. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { open } from "lmdb";

export interface DiskUsage {
  readonly journalBytes: number;
  /** Of the atom store's file. LMDB never gives it back, and uses again what is free in it. */
  readonly storeBytes: number;
  /** Of its pages, those that hold something. */
  readonly storeUsedBytes: number;
}

interface TreeStats {
  readonly pageSize: number;
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

/** Tables of one store at most. */
const tablesMax = 32;

export async function diskUsageOf(folder: string): Promise<DiskUsage> {
  return { journalBytes: bytesIn(join(folder, "journal")), ...(await storeUsage(join(folder, "atoms"))) };
}

/** Opened anew each time: a read transaction that stays open would keep the store from using pages again. */
async function storeUsage(path: string): Promise<Pick<DiskUsage, "storeBytes" | "storeUsedBytes">> {
  const root = open({ path, noSubdir: false, readOnly: true, maxDbs: tablesMax, compression: false, cache: false });
  try {
    const names = [...root.getKeys()].map(String);
    const trees = names.map((name) => root.openDB({ name, keyEncoding: "binary", encoding: "binary" }).getStats() as TreeStats);
    const usedBytes = trees.map((tree) => tree.pageSize * (tree.treeBranchPageCount + tree.treeLeafPageCount + tree.overflowPages));
    return { storeBytes: statSync(join(path, "data.mdb")).size, storeUsedBytes: usedBytes.reduce((sum, bytes) => sum + bytes, 0) };
  } finally {
    await root.close();
  }
}

/** As allocated: what a segment has been given and not written counts. */
function bytesIn(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => {
    try {
      return sum + statSync(join(directory, name)).blocks * 512;
    } catch {
      // Removed since it was listed.
      return sum;
    }
  }, 0);
}
