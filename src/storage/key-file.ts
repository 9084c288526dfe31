/**
 * The database's secret key on disk: `$XDG_STATE_HOME/atomcast/<cluster id>.key`, by default under ~/.local/state. Mode 0600, JSON
 * {format, database, clusterId, secret}; whoever can read it can read and change the database, so a key that others can read is refused.
 */

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { link, mkdir, open, readdir, unlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import * as v from "valibot";
import { DatabaseError } from "../base/errors.js";
import type { ClusterId } from "../base/ids.js";
import { errorCode, isMissing, nodeFileSystem } from "./file-system.js";

export interface DatabaseKey {
  readonly database: string;
  readonly clusterId: ClusterId;
  /** 32 random bytes. */
  readonly secret: Buffer;
  readonly path: string;
}

export const keyFormat = 1;
export const secretBytes = 32;

/** A key is some 200 bytes; a larger file is none. */
const keyFileBytesMax = 4096;
const suffix = ".key";

const keySchema = v.object({
  format: v.literal(keyFormat),
  database: v.pipe(v.string(), v.minLength(1)),
  clusterId: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  secret: v.pipe(v.string(), v.base64()),
});

/** Where this user's keys are. A relative XDG_STATE_HOME is ignored, as its specification demands. */
export function keyDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const state = environment.XDG_STATE_HOME;
  return join(state !== undefined && isAbsolute(state) ? state : join(homedir(), ".local", "state"), "atomcast");
}

/** Makes a new key; durable when resolved. Never replaces one. */
export async function createKeyFile(database: string, clusterId: ClusterId, directory = keyDirectory()): Promise<DatabaseKey> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, `${clusterId}${suffix}`);
  const secret = randomBytes(secretBytes);
  const json = JSON.stringify({ format: keyFormat, database, clusterId, secret: secret.toString("base64") }, null, 2);
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    await file.writeFile(`${json}\n`);
    await file.sync();
    // A link, not a rename: it fails where there is a key already.
    await link(temporary, path);
  } catch (cause) {
    if (errorCode(cause) === "EEXIST") throw new DatabaseError("ATOMCAST_KEY_EXISTS", `${path} exists already`, { cause });
    throw cause;
  } finally {
    await file.close();
    await unlink(temporary).catch(() => {});
  }
  await nodeFileSystem.syncDirectory(directory);
  await nodeFileSystem.syncDirectory(dirname(directory));
  return { database, clusterId, secret, path };
}

export async function loadKeyFile(path: string): Promise<DatabaseKey> {
  const text = await readPrivate(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw notAKey(path, "it is not JSON", cause);
  }
  const format = v.safeParse(v.object({ format: v.number() }), json);
  if (format.success && format.output.format > keyFormat) {
    const message = `${path} has format ${format.output.format}, this Atomcast reads format ${keyFormat}: run the version that wrote it, or a newer one`;
    throw new DatabaseError("ATOMCAST_NEWER_FORMAT", message);
  }
  const parsed = v.safeParse(keySchema, json);
  if (!parsed.success) {
    const issue = parsed.issues[0];
    throw notAKey(path, `${v.getDotPath(issue) ?? "content"}: ${issue.message.replace(/received .*/, "")}`);
  }
  const { database, clusterId, secret } = parsed.output;
  const bytes = Buffer.from(secret, "base64");
  if (bytes.length !== secretBytes) throw notAKey(path, `its secret has ${bytes.length} bytes, not ${secretBytes}`);
  return { database, clusterId: clusterId as ClusterId, secret: bytes, path };
}

/**
 * Keys of databases with this name (null: with any), by cluster id. Files that are no keys, or not readable, are left out; a key that is
 * refused for its mode is an error when it is the only way to say why nothing was found.
 */
export async function listKeyFiles(database: string | null, directory = keyDirectory()): Promise<readonly DatabaseKey[]> {
  const keys: DatabaseKey[] = [];
  let refused: DatabaseError | null = null;
  for (const name of (await namesIn(directory)).filter((one) => one.endsWith(suffix)).sort()) {
    try {
      const key = await loadKeyFile(join(directory, name));
      if (database === null || key.database === database) keys.push(key);
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      if (error.code === "ATOMCAST_KEY_EXPOSED") refused ??= error;
    }
  }
  if (keys.length === 0 && refused !== null) throw refused;
  return keys;
}

/** The mode is asked of the open file: what is read is what was checked. */
async function readPrivate(path: string): Promise<string> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const why = isMissing(cause) ? "there is no such file" : cause instanceof Error ? cause.message : String(cause);
    throw new DatabaseError("ATOMCAST_NO_KEY", `the key ${path} cannot be read: ${why}`, { cause });
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size > keyFileBytesMax) throw notAKey(path, "it is not a small file");
    if ((stats.mode & 0o077) !== 0) {
      throw new DatabaseError("ATOMCAST_KEY_EXPOSED", `the key ${path} can be read or changed by other users: run chmod 600 ${path}`);
    }
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function notAKey(path: string, why: string, cause?: unknown): DatabaseError {
  return new DatabaseError("ATOMCAST_BAD_KEY", `${path} is not a database's key: ${why}`, { cause });
}
