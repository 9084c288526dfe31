/**
 * An Archive's folder on disk.
 *
 *   atomcast.json      which database and which node this is: {format, clusterId, database, nodeId}
 *   journal/, atoms/   the journal's segments and the vote; the atom store
 *   in-use-<n>         sockets: the lock (folder-lock.ts)
 *   unfinished         only while the folder is being made
 *
 * Making a folder, and what a crash leaves:
 *
 *   absent      no folder, or an empty one (locks aside)      made
 *   unfinished  the mark `unfinished` is there                emptied of our own parts and made: nothing was ever acked from it
 *   database    atomcast.json, no mark                        opened
 *   foreign     anything else                                 ATOMCAST_NOT_A_FOLDER: whatever it is, it is not ours to write to
 */

import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { DatabaseError } from "../base/errors.js";
import type { ClusterId, NodeId } from "../base/ids.js";
import { errorCode, isMissing, nodeFileSystem, replaceFile } from "./file-system.js";
import { isLockName, lockFolder } from "./folder-lock.js";

export interface FolderIdentity {
  readonly clusterId: ClusterId;
  readonly database: string;
  readonly nodeId: NodeId;
  /** This Archive made the database: while its journal is empty, it is the one voter. */
  readonly founder: boolean;
}

export interface DataFolder {
  readonly path: string;
  readonly identity: FolderIdentity;
  /** Segments and the vote. */
  readonly journalPath: string;
  readonly atomsPath: string;
  /** Lets another process in. */
  close(): Promise<void>;
}

/** What the caller takes for granted; a folder of another database is refused. */
export interface ExpectedDatabase {
  readonly clusterId?: ClusterId;
  readonly database?: string;
}

export type FolderState = "absent" | "unfinished" | "database" | "foreign";

export const folderFormat = 1;

const identityName = "atomcast.json";
const unfinishedName = "unfinished";
const journalName = "journal";
const atomsName = "atoms";

const identitySchema = v.object({
  format: v.literal(folderFormat),
  clusterId: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  database: v.pipe(v.string(), v.minLength(1)),
  nodeId: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 48 - 1)),
  founder: v.boolean(),
});

/** Looks and changes nothing. Throws ATOMCAST_NOT_A_FOLDER where the path is a file. */
export async function folderState(path: string): Promise<FolderState> {
  const names = (await namesIn(path)).filter((name) => !isLockName(name));
  if (names.length === 0) return "absent";
  if (names.includes(unfinishedName)) return "unfinished";
  return names.includes(identityName) ? "database" : "foreign";
}

/**
 * Makes the folder of a new Archive. `fill` makes the journal, the vote and the atom store in it; only when it has resolved does the
 * folder become a database: a crash before leaves one that is made anew.
 */
export async function createDataFolder(path: string, identity: FolderIdentity, fill: (folder: DataFolder) => Promise<void>): Promise<DataFolder> {
  refuseUnlessNew(path, await folderState(path));
  await mkdir(path, { recursive: true, mode: 0o700 });
  const folder = await lockedFolder(path, identity);
  try {
    // Looked at again: only the holder of the lock knows what it sees.
    refuseUnlessNew(path, await folderState(path));
    await replaceFile(nodeFileSystem, path, unfinishedName, Buffer.from("This folder is being made by Atomcast.\n"));
    for (const name of [identityName, journalName, atomsName]) await rm(join(path, name), { recursive: true, force: true });
    await mkdir(folder.journalPath, { mode: 0o700 });
    await mkdir(folder.atomsPath, { mode: 0o700 });
    await fill(folder);
    const json = `${JSON.stringify({ format: folderFormat, ...identity }, null, 2)}\n`;
    await replaceFile(nodeFileSystem, path, identityName, Buffer.from(json));
    await rm(join(path, unfinishedName));
    await nodeFileSystem.syncDirectory(path);
    await nodeFileSystem.syncDirectory(join(path, ".."));
    return folder;
  } catch (error) {
    await folder.close();
    throw error;
  }
}

export async function openDataFolder(path: string, expected: ExpectedDatabase = {}): Promise<DataFolder> {
  const state = await folderState(path);
  if (state !== "database") throw notAFolder(path, state);
  const identity = await readIdentity(path);
  if (expected.clusterId !== undefined && expected.clusterId !== identity.clusterId) {
    throw otherDatabase(path, identity, `cluster ${expected.clusterId}`);
  }
  if (expected.database !== undefined && expected.database !== identity.database) {
    throw otherDatabase(path, identity, `database "${expected.database}"`);
  }
  return lockedFolder(path, identity);
}

async function lockedFolder(path: string, identity: FolderIdentity): Promise<DataFolder> {
  const lock = await lockFolder(path);
  return { path, identity, journalPath: join(path, journalName), atomsPath: join(path, atomsName), close: () => lock.release() };
}

async function readIdentity(path: string): Promise<FolderIdentity> {
  const file = join(path, identityName);
  const text = await readFile(file, "utf8");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new DatabaseError("ATOMCAST_NOT_A_FOLDER", `${file} is not JSON`, { cause });
  }
  const format = v.safeParse(v.object({ format: v.number() }), json);
  if (format.success && format.output.format > folderFormat) {
    const message = `${path} has format ${format.output.format}, this Atomcast reads format ${folderFormat}: run the version that wrote it, or a newer one`;
    throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
  }
  const parsed = v.safeParse(identitySchema, json);
  if (!parsed.success) {
    const issue = parsed.issues[0];
    throw new DatabaseError("ATOMCAST_NOT_A_FOLDER", `${file}: ${v.getDotPath(issue) ?? "content"}: ${issue.message}`);
  }
  const { clusterId, database, nodeId, founder } = parsed.output;
  return { clusterId: clusterId as ClusterId, database, nodeId: nodeId as NodeId, founder };
}

function refuseUnlessNew(path: string, state: FolderState): void {
  if (state === "database") throw new DatabaseError("ATOMCAST_FOLDER_EXISTS", `${path} holds a database already: start without --create to use it`);
  if (state === "foreign") throw notAFolder(path, state);
}

function notAFolder(path: string, state: FolderState): DatabaseError {
  const what: Record<FolderState, string> = {
    absent: "there is no database in it: create one, or join one",
    unfinished: "its making was cut short: create or join again",
    database: "it is in use",
    foreign: `it has files in it and no ${identityName}: name an empty folder`,
  };
  return new DatabaseError("ATOMCAST_NOT_A_FOLDER", `${path} is not the folder of an Archive: ${what[state]}`);
}

function otherDatabase(path: string, identity: FolderIdentity, wanted: string): DatabaseError {
  const message = `${path} belongs to the database "${identity.database}" (cluster ${identity.clusterId}), not to ${wanted}`;
  return new DatabaseError("ATOMCAST_OTHER_DATABASE", message);
}

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) throw new DatabaseError("ATOMCAST_NOT_A_FOLDER", `${path} is a file: name a folder`);
    return await nodeFileSystem.list(path);
  } catch (error) {
    if (isMissing(error)) return [];
    if (errorCode(error) === "ENOTDIR") throw new DatabaseError("ATOMCAST_NOT_A_FOLDER", `${path} is below a file: name a folder`, { cause: error });
    throw error;
  }
}
