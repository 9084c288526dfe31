/** The commands that run engines in this process: `start`, `archive`, `cache`. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Logger } from "pino";
import { DatabaseError } from "../base/errors.js";
import type { ClusterId, Endpoint } from "../base/ids.js";
import { ArchiveEngine } from "../engines/archive-engine.js";
import { CacheEngine } from "../engines/cache-engine.js";
import type { Environment } from "../engines/environment.js";
import { fileArchiveDisk, makeArchiveFolder } from "../engines/file-archive-disk.js";
import { defaultMemoryBytes } from "../engines/machine-memory.js";
import { nodeEnvironment } from "../engines/node-environment.js";
import { pastStoresMax } from "../engines/past-reads.js";
import { openWorkerLocalPort } from "../engines/worker-local-port.js";
import { parseFaults } from "../messages/network/datagram-faults.js";
import { openHranaServer } from "../servers/hrana/hrana-server.js";
import { type DataFolder, folderState, openDataFolder } from "../storage/data-folder.js";
import { createKeyFile, type DatabaseKey, keyDirectory, listKeyFiles, loadKeyFile } from "../storage/key-file.js";
import { contactsOf } from "./contacts.js";
import { liveDatabases } from "./discovery.js";
import { cacheSettings, type SourceOf } from "./engine-settings.js";
import { openLogger } from "./logger.js";
import {
  type CommonOptions,
  checkNetwork,
  type HostPort,
  historyOf,
  isLoopback,
  multicastGroup,
  parseHostPort,
  parseMemory,
  parseStatementTimeout,
  portOf,
  usage,
  votersOf,
} from "./options.js";
import { rehearse } from "./rehearsal.js";
import { endNow, type Stoppable, stopOnSignals } from "./signals.js";
import { version } from "./version.js";

export interface ArchiveCommand extends CommonOptions {
  readonly data: string;
  readonly create?: boolean;
  readonly history?: string;
}

export interface CacheCommand extends CommonOptions {
  readonly http: string;
  readonly memory?: string;
  readonly statementTimeout?: string;
}

export type StartCommand = ArchiveCommand & CacheCommand;

/** How long a new engine seeks its database before it gives up. */
const seekTimeoutMs = 10_000;

export async function runStart(options: StartCommand, sourceOf: SourceOf): Promise<void> {
  const stops: Stoppable[] = [];
  const signals = stopOnSignals(stops);
  // Looked at first: a slip in the options leaves no new database behind.
  checkCache(options);
  const create = await isNewFolder(options.data);
  const { key, archive } = await openArchive({ ...options, create });
  stops.push(archive);
  let cache: Running;
  try {
    // The Archive has the port that was asked for, and the Cache finds it in this process, with multicast and without.
    const join = archive.endpoint === null ? options.join : [...options.join, archive.endpoint];
    cache = await openCache({ ...options, join, port: "0" }, key, sourceOf);
    stops.unshift(cache);
  } catch (error) {
    // Without clients it is of no use; it leaves as if it had been told to.
    await archive.stop();
    throw error;
  }
  process.stdout.write(archive.readyLine());
  process.stdout.write(cache.readyLine());
  await signals;
}

export async function runArchive(options: ArchiveCommand): Promise<void> {
  const stops: Stoppable[] = [];
  const signals = stopOnSignals(stops);
  const { archive } = await openArchive(options);
  stops.push(archive);
  process.stdout.write(archive.readyLine());
  await signals;
}

export async function runCache(options: CacheCommand, sourceOf: SourceOf): Promise<void> {
  const stops: Stoppable[] = [];
  const signals = stopOnSignals(stops);
  checkCache(options);
  const cache = await openCache(options, await findLiveKey(options), sourceOf);
  stops.push(cache);
  process.stdout.write(cache.readyLine());
  await signals;
}

/** Whether a database is still to be made in the folder. */
async function isNewFolder(path: string): Promise<boolean> {
  const state = await folderState(path);
  return state === "absent" || state === "unfinished";
}

interface Running extends Stoppable {
  readyLine(): string;
}

async function environmentOf(options: CommonOptions, key: DatabaseKey, logger: Logger): Promise<Environment> {
  const { clusterId, secret } = key;
  const { interface: interfaceAddress, multicast, faults } = options;
  const [port, contacts] = [portOf(options), await contactsOf(options)];
  return nodeEnvironment({
    clusterId,
    secret,
    interfaceAddress,
    multicast,
    port,
    contacts,
    ...multicastGroup(options),
    ...(faults !== undefined && { faults: parseFaults(faults) }),
    logger,
  });
}

/** Why it waits, and at whom it asks: a wrong address shows. */
function tellWaiting(logger: Logger, what: string, asked: readonly Endpoint[]): void {
  logger.info(asked.length === 0 ? {} : { asked }, what);
}

/** Ends the process: a database engine that goes on after a failed fsync, or a bug, does harm; another serves. */
function fatal(logger: Logger, name: string): (error: Error) => void {
  return (error) => {
    logger.fatal({ err: error }, `the ${name} cannot go on`);
    endNow();
  };
}

async function openArchive(options: ArchiveCommand): Promise<{ key: DatabaseKey; archive: Running & { readonly endpoint: Endpoint | null } }> {
  const voters = votersOf(options);
  const historyMs = historyOf(options);
  checkNetwork(options);
  const logger = openLogger(options.log, "archive");
  const { folder, key } = await openFolder(options);
  const engine = new ArchiveEngine({
    environment: await environmentOf(options, key, logger),
    disk: fileArchiveDisk(folder),
    votersTarget: voters,
    historyMs,
    onFailure: fatal(logger, "Archive"),
  });
  await engine.start();
  logger.info({ endpoint: engine.endpoint }, "other engines reach it");
  const progress = setInterval(() => tellWaiting(logger, "waits for the other Archives: a majority of the voters must be up", engine.asked), 5000);
  const id = await engine
    .whenMember()
    .catch(async (error: unknown) => {
      await engine.stop();
      throw error;
    })
    .finally(() => clearInterval(progress));
  const readyLine = (): string => `ready archive id=${id} pid=${process.pid} http=-\n`;
  return { key, archive: { endpoint: engine.endpoint, readyLine, stop: () => engine.stop() } };
}

async function openFolder(options: ArchiveCommand): Promise<{ folder: DataFolder; key: DatabaseKey }> {
  const { data, database } = options;
  if (!(await isNewFolder(data))) {
    if (options.create === true) throw usage(`--create: ${data} is not empty; leave the option out to start what is there`);
    const folder = await openDataFolder(data, { database });
    try {
      const { clusterId } = folder.identity;
      const key = await loadKeyFile(options.key ?? join(keyDirectory(), `${clusterId}.key`));
      if (key.clusterId === clusterId) return { folder, key };
      throw new DatabaseError("ATOMCAST_OTHER_DATABASE", `the key ${key.path} is of another database than ${data}`);
    } catch (error) {
      await folder.close();
      throw error;
    }
  }
  if (options.create === true) {
    const clusterId = randomBytes(8).toString("hex") as ClusterId;
    const key = options.key === undefined ? await createKeyFile(database, clusterId) : await loadKeyFile(options.key);
    return { folder: await makeArchiveFolder(data, database, key.clusterId, true), key };
  }
  // A key that is named is sought too: an Archive that joins nobody would wait for ever, with a folder made for nothing.
  const key = await findLiveKey(options);
  return { folder: await makeArchiveFolder(data, database, key.clusterId, false), key };
}

/** The key of the one database of this name, or of this key, that is up. */
async function findLiveKey(options: CommonOptions): Promise<DatabaseKey> {
  const { database } = options;
  const keys = options.key === undefined ? await listKeyFiles(database) : [await loadKeyFile(options.key)];
  if (keys.length === 0) {
    throw new DatabaseError(
      "ATOMCAST_NO_KEY",
      `no key of a database "${database}" is on this machine: make one with "atomcast start", or name its key with --key FILE`,
    );
  }
  const { interface: interfaceAddress, multicast } = options;
  const contacts = await contactsOf(options);
  if (!multicast && contacts.length === 0) throw usage("--no-multicast: name a live engine of the database with --join HOST:PORT");
  const where = { interfaceAddress, multicast, contacts, ...multicastGroup(options) };
  const { live, otherVersion } = await liveDatabases(keys, where, seekTimeoutMs);
  const [only, another] = live;
  if (only === undefined) {
    const asked = contacts.length === 0 ? options.interface : `${options.interface} nor at ${contacts.join(", ")}`;
    const hint =
      otherVersion === null
        ? "start an Archive first; one of another version does not answer, and its log says so"
        : `the engine at ${otherVersion} is of another format version, and engines of one database must run the same version`;
    throw new DatabaseError("ATOMCAST_NO_DATABASE", `no engine of a database "${database}" answers on ${asked}: ${hint}`);
  }
  if (another !== undefined) {
    throw new DatabaseError(
      "ATOMCAST_AMBIGUOUS",
      `${live.length} databases "${database}" are up on this machine: name one with --key FILE (${live.map((key) => key.path).join(", ")})`,
    );
  }
  return only;
}

/** Throws what is wrong with the options of a Cache; gives where it shall serve, and what it may hold. */
function checkCache(options: CacheCommand): HostPort & { readonly memoryBytes: number; readonly statementTimeoutMs: number } {
  checkNetwork(options);
  const memoryBytes = options.memory === undefined ? defaultMemoryBytes() : parseMemory(options.memory);
  const statementTimeoutMs = parseStatementTimeout(options.statementTimeout);
  const address = parseHostPort("http", options.http);
  if (isLoopback(address.host)) return { ...address, memoryBytes, statementTimeoutMs };
  throw usage(`--http ${options.http}: beyond loopback clients need tokens, which this version does not have; take 127.0.0.1`);
}

async function openCache(options: CacheCommand, key: DatabaseKey, sourceOf: SourceOf): Promise<Running> {
  const { host, port, memoryBytes, statementTimeoutMs } = checkCache(options);
  const logger = openLogger(options.log, "cache");
  const { groupAddress, groupPort } = multicastGroup(options);
  const engine = new CacheEngine({
    environment: await environmentOf(options, key, logger),
    database: options.database,
    clusterId: key.clusterId,
    memoryBytes,
    settings: cacheSettings(options, sourceOf, { memoryBytes, statementTimeoutMs, group: `${groupAddress}:${groupPort}` }),
    // All stores of the past together may have what the local one has.
    openLocal: (handlers, isPast) =>
      openWorkerLocalPort(handlers, { memoryBytes: isPast ? memoryBytes / pastStoresMax : memoryBytes, statementTimeoutMs }),
    onFailure: fatal(logger, "Cache"),
  });
  const server = await openHranaServer({ host, port, database: engine, version, log: logger, requireLoopbackHostHeader: true });
  engine.servesAt(server.url);
  await engine.start();
  logger.info({ endpoint: engine.endpoint }, "other engines reach it");
  const progress = setInterval(() => tellWaiting(logger, "waits for the database: a majority of its voting Archives must be up", engine.asked), 5000);
  const id = await engine.whenMember();
  clearInterval(progress);
  await rehearse(server.url, engine.archiveCount, () => engine.firstRead(), logger);
  return {
    readyLine: () => `ready cache id=${id} pid=${process.pid} http=${server.url}\n`,
    async stop() {
      await server.close();
      await engine.stop();
    },
  };
}
