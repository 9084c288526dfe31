/** An Archive's folder as its disk: journal, vote and atom store in files. */
import { randomBytes } from "node:crypto";
import type { ClusterId, NodeId } from "../base/ids.js";
import { createDataFolder, type DataFolder } from "../storage/data-folder.js";
import { createFileJournal, openFileJournal } from "../storage/file-journal.js";
import { createFileVoteStore, openFileVoteStore } from "../storage/file-vote-store.js";
import { openLmdbAtomStore } from "../storage/lmdb-atom-store.js";
import { openWorkerAtomStore } from "../storage/worker-atom-store.js";
import { genesis } from "./archive-engine.js";
import type { ArchiveDisk } from "./environment.js";
import { openWorkerStorePort } from "./worker-store-port.js";

/** Makes the folder of a new Archive; `founder`: of a new database. */
export function makeArchiveFolder(path: string, database: string, clusterId: ClusterId, founder: boolean): Promise<DataFolder> {
  const nodeId = (randomBytes(6).readUIntBE(0, 6) || 1) as NodeId;
  return createDataFolder(path, { clusterId, database, nodeId, founder }, async (folder) => {
    const handlers = { onDurable: () => {}, onFailure: () => {} };
    await (await createFileJournal({ directory: folder.journalPath, handlers, base: genesis })).close();
    await (await createFileVoteStore(folder.journalPath)).close();
    await (await openLmdbAtomStore(folder.atomsPath)).close();
  });
}

export function fileArchiveDisk(folder: DataFolder): ArchiveDisk {
  return {
    nodeId: folder.identity.nodeId,
    founder: folder.identity.founder,
    openStore: () => openWorkerAtomStore(folder.atomsPath),
    openServing: (_clock, handlers) => openWorkerStorePort(folder.atomsPath, handlers),
    openJournal: (handlers, appliedSeq) => openFileJournal({ directory: folder.journalPath, handlers, appliedSeq }),
    openVotes: () => openFileVoteStore(folder.journalPath),
    close: () => folder.close(),
  };
}
