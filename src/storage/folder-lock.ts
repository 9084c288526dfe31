/**
 * Keeps a second process out of a folder. The lock is a listening socket in the folder: the kernel ends it with its process, however that
 * ends, so no lock is ever stale; and it holds for containers that share the folder on one machine.
 *
 * A dead socket's file stays, and to remove it and take its name is a race that two starters can both win. So names are never taken again:
 * `in-use-1`, `in-use-2` …, and the largest number counts.
 *
 *   listed  the largest number is n (0: none)
 *   alive   n answers, or might: in use
 *   dead    n refuses: link a socket that listens already as n + 1
 *   lost    n + 1 exists, or after the link a larger number does: look again
 *   held    n + 1 is the largest: held. Smaller ones are removed; n + 1 itself never is, not even at release
 *
 * Two holders would need two numbers of which each was seen as the largest while the other's socket lived. The holder of h answers; whoever
 * would make h + 1 asks it first, and whoever makes a smaller number sees h afterwards.
 */

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, type FileHandle, link, open, readdir, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { DatabaseError } from "../base/errors.js";
import { errorCode, isMissing } from "./file-system.js";

export interface FolderLock {
  release(): Promise<void>;
}

/** Rounds of looking again before giving up: each means that another process started at the same moment. */
const roundCountMax = 50;
/** A path to a socket ends at 107 bytes on Linux and 103 on macOS. */
const socketPathBytesMax = 103;
/** A holder that does not answer in this time, in milliseconds, is busy: it lives. */
const answerMsMax = 2000;

export function isLockName(name: string): boolean {
  return /^in-use-(\d+|new-[0-9a-f]+)$/.test(name);
}

export async function lockFolder(path: string): Promise<FolderLock> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  let server: Server | null = null;
  const temporary = `in-use-new-${randomBytes(6).toString("hex")}`;
  try {
    const socketFolder = await shortPath(path, handle);
    const socketPath = (name: string): string => `${socketFolder}/${name}`;
    server = await listen(path, socketPath(temporary));
    for (let round = 0; round < roundCountMax; round++) {
      const largest = await largestNumber(path);
      if (largest > 0 && (await isAlive(path, socketPath(`in-use-${largest}`)))) throw inUse(path);
      if ((await take(path, temporary, largest + 1)) && (await largestNumber(path)) === largest + 1) {
        await removeSmaller(path, largest + 1);
        return { release: () => closeServer(server) };
      }
    }
    throw inUse(path);
  } catch (error) {
    await closeServer(server);
    throw error;
  } finally {
    await unlink(`${path}/${temporary}`).catch(() => {});
    await handle.close();
  }
}

/** On Linux a folder's descriptor is a short name for it, however long its path is. */
async function shortPath(path: string, handle: FileHandle): Promise<string> {
  const short = `/proc/self/fd/${handle.fd}`;
  const isThere = await access(short).then(
    () => true,
    () => false,
  );
  if (isThere) return short;
  if (Buffer.byteLength(path) + 32 <= socketPathBytesMax) return path;
  throw new DatabaseError(
    "ATOMCAST_FOLDER_UNUSABLE",
    `${path} is too long a path for the lock's socket: name one of ${socketPathBytesMax - 32} bytes`,
  );
}

function listen(path: string, socketPath: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (cause) => {
      const message = `${path} cannot hold the lock's socket: ${cause.message}. Name a folder on a local disk that can be written to`;
      reject(new DatabaseError("ATOMCAST_FOLDER_UNUSABLE", message, { cause }));
    });
    server.listen(socketPath, () => {
      server.removeAllListeners("error");
      // A lock that fails to take one more connection is a lock still.
      server.on("error", () => {});
      server.unref();
      resolve(server);
    });
  });
}

/** Only a refusal is a death: a socket that nobody listens to. */
function isAlive(path: string, socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.setTimeout(answerMsMax, () => answer(true));
    socket.once("connect", () => answer(true));
    socket.once("error", (cause) => {
      const code = errorCode(cause);
      if (code === "ECONNREFUSED" || code === "ENOENT") answer(false);
      else if (code === "EAGAIN" || code === "ECONNRESET") answer(true);
      else reject(new DatabaseError("ATOMCAST_FOLDER_UNUSABLE", `${path}: the lock cannot be asked: ${cause.message}`, { cause }));
    });
    const answer = (isThere: boolean): void => {
      socket.destroy();
      resolve(isThere);
    };
  });
}

async function take(path: string, temporary: string, number: number): Promise<boolean> {
  try {
    await link(`${path}/${temporary}`, `${path}/in-use-${number}`);
    return true;
  } catch (cause) {
    if (errorCode(cause) === "EEXIST") return false;
    const message = `${path} cannot hold the lock: ${cause instanceof Error ? cause.message : String(cause)}. Name a folder on a local disk`;
    throw new DatabaseError("ATOMCAST_FOLDER_UNUSABLE", message, { cause });
  }
}

async function largestNumber(path: string): Promise<number> {
  return Math.max(0, ...(await numbersIn(path)));
}

async function removeSmaller(path: string, number: number): Promise<void> {
  for (const one of await numbersIn(path)) {
    if (one >= number) continue;
    await unlink(`${path}/in-use-${one}`).catch((error) => {
      if (!isMissing(error)) throw error;
    });
  }
}

async function numbersIn(path: string): Promise<number[]> {
  return (await readdir(path)).flatMap((name) => {
    const digits = /^in-use-(\d+)$/.exec(name)?.[1];
    return digits === undefined ? [] : [Number(digits)];
  });
}

function closeServer(server: Server | null): Promise<void> {
  if (server === null) return Promise.resolve();
  return new Promise((resolve) => server.close(() => resolve()));
}

function inUse(path: string): DatabaseError {
  return new DatabaseError("ATOMCAST_FOLDER_IN_USE", `${path} is in use by another process: stop that one, or name another folder`);
}
