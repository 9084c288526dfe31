/** `atomcast cluster`: a cluster of child processes on this machine, for trying things. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DatabaseError } from "../base/errors.js";
import { defaultMemoryBytes, memoryBytesMin } from "../engines/machine-memory.js";
import { folderState } from "../storage/data-folder.js";
import { freePorts } from "./contacts.js";
import { type CommonOptions, checkNetwork, historyOf, parseCount, parseMemory, parseStatementTimeout, usage, votersOf } from "./options.js";
import { onStopSignals } from "./signals.js";

export interface ClusterCommand extends CommonOptions {
  readonly data: string;
  readonly archives: string;
  readonly caches: string;
  readonly http: string;
  readonly history?: string;
  readonly memory?: string;
  readonly statementTimeout?: string;
}

/** How long a child may take to be ready, and to stop. */
const readyTimeoutMs = 60_000;
const stopTimeoutMs = 15_000;

interface Child {
  readonly process: ChildProcess;
  readonly name: string;
  exited: boolean;
}

export async function runCluster(options: ClusterCommand): Promise<void> {
  const archives = parseCount("archives", options.archives, 1, 64);
  const caches = parseCount("caches", options.caches, 0, 64);
  const port = portOf(options, caches);
  votersOf(options);
  checkNetwork(options);
  const enginePorts = await enginePortsOf(options, archives);
  const memoryBytes = memoryOf(options, caches);
  parseStatementTimeout(options.statementTimeout);
  historyOf(options);
  await mkdir(options.data, { recursive: true });
  const children: Child[] = [];
  let isStopping = false;
  // The first signal stops Caches, then Archives, cleanly; the second ends all at once.
  onStopSignals(
    () => {
      isStopping = true;
      void stopAll(children).then(() => process.exit(0));
    },
    () => {
      for (const child of children) child.process.kill("SIGKILL");
      process.exit(1);
    },
  );
  try {
    await startAll(options, enginePorts, caches, port, memoryBytes, children);
  } catch (error) {
    // A signal while it starts lets children end before they are ready: that is no failure, and the signal's own way leads out.
    if (isStopping) return;
    await stopAll(children);
    throw error;
  }
  process.stdout.write("ready cluster\n");
}

function portOf(options: ClusterCommand, caches: number): number {
  const port = parseCount("http", options.http, 0, 65_535);
  if (port + caches > 65_536) throw usage(`--http ${port}: the ports of ${caches} Caches from there on end beyond 65535`);
  return port;
}

/** Of each Cache. What is not said, they share. */
function memoryOf({ memory }: ClusterCommand, caches: number): number {
  return memory === undefined ? Math.max(memoryBytesMin, Math.floor(defaultMemoryBytes() / Math.max(1, caches))) : parseMemory(memory);
}

async function startAll(
  options: ClusterCommand,
  enginePorts: readonly number[],
  caches: number,
  port: number,
  memoryBytes: number,
  children: Child[],
): Promise<void> {
  const folders = enginePorts.map((_, index) => `archive-${index + 1}`);
  const states = await Promise.all(folders.map((folder) => folderState(join(options.data, folder))));
  const isMade = folders.map((_, index) => states[index] !== "absent" && states[index] !== "unfinished");
  const start = (name: string, args: readonly string[]): Promise<void> => startChild(children, name, [...args, ...commonArgs(options, enginePorts)]);
  const archiveArgs = (folder: string): string[] => [
    ...["archive", "--data", join(options.data, folder)],
    ...["--port", String(enginePorts[folders.indexOf(folder)])],
  ];
  // The founder comes first where the database is new; else a majority must come up together, and those without a folder join it then.
  const first = folders[0] as string;
  const isNew = !isMade.includes(true);
  const history = options.history === undefined ? [] : ["--history", options.history];
  if (isNew) await start(first, [...archiveArgs(first), "--create", ...history]);
  else await Promise.all(folders.filter((_, index) => isMade[index]).map((folder) => start(folder, archiveArgs(folder))));
  const joining = folders.filter((folder, index) => !isMade[index] && !(isNew && folder === first));
  for (const folder of joining) await start(folder, archiveArgs(folder));
  for (let index = 0; index < caches; index++) {
    const http = `127.0.0.1:${port === 0 ? 0 : port + index}`;
    const timeout = options.statementTimeout === undefined ? [] : ["--statement-timeout", options.statementTimeout];
    await start(`cache-${index + 1}`, ["cache", "--http", http, "--memory", String(memoryBytes), ...timeout]);
  }
}

/** Of the Archives, from `--port` on. Without multicast they must be known beforehand: each engine is told all of them. */
async function enginePortsOf(options: ClusterCommand, archives: number): Promise<readonly number[]> {
  const first = parseCount("port", options.port, 0, 65_536 - archives);
  if (first !== 0) return Array.from({ length: archives }, (_, index) => first + index);
  return options.multicast ? new Array<number>(archives).fill(0) : freePorts(options.interface, archives);
}

function commonArgs(options: ClusterCommand, enginePorts: readonly number[]): string[] {
  const args = ["--database", options.database, "--interface", options.interface, "--voters", options.voters, "--log", options.log];
  if (!options.multicast) args.push("--no-multicast");
  const contacts = options.multicast ? [] : enginePorts.map((port) => `${options.interface}:${port}`);
  for (const contact of [...options.join, ...contacts]) args.push("--join", contact);
  if (options.group !== undefined) args.push("--group", options.group);
  if (options.key !== undefined) args.push("--key", options.key);
  return args;
}

/**
 * A process group of its own: Ctrl-C at the terminal reaches the parent alone, which stops its children in order. The channel ends with the
 * parent, however it ends, and its children with it (signals.ts).
 */
function startChild(children: Child[], name: string, args: readonly string[]): Promise<void> {
  const environment = { ...process.env };
  for (const key of ["ATOMCAST_DATA", "ATOMCAST_HTTP", "ATOMCAST_CREATE", "ATOMCAST_PORT", "ATOMCAST_JOIN"]) delete environment[key];
  const child: Child = {
    name,
    process: spawn(process.execPath, [fileURLToPath(new URL("./atomcast.js", import.meta.url)), ...args], {
      stdio: ["ignore", "pipe", "inherit", "ipc"],
      env: environment,
      detached: true,
    }),
    exited: false,
  };
  children.push(child);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new DatabaseError("ATOMCAST_CLUSTER", `${name} was not ready within ${readyTimeoutMs / 1000} s`)),
      readyTimeoutMs,
    );
    let text = "";
    child.process.stdout?.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk);
      text = (text + chunk.toString()).slice(-4096);
      if (!text.includes("ready ")) return;
      clearTimeout(timer);
      resolve();
    });
    const ended = (how: string): void => {
      if (child.exited) return;
      child.exited = true;
      clearTimeout(timer);
      process.stderr.write(`atomcast: ${name} ended (${how})\n`);
      reject(new DatabaseError("ATOMCAST_CLUSTER", `${name} ended before it was ready`));
    };
    child.process.on("exit", (code, signal) => ended(signal ?? `code ${code}`));
    child.process.on("error", (error) => ended(error.message));
  });
}

async function stopAll(children: readonly Child[]): Promise<void> {
  const isCache = (child: Child): boolean => child.name.startsWith("cache");
  await Promise.all(children.filter(isCache).map(stopChild));
  // One after another: each LEAVE needs a majority of those that are left.
  for (const child of children.filter((one) => !isCache(one)).reverse()) await stopChild(child);
}

function stopChild(child: Child): Promise<void> {
  if (child.exited) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.process.kill("SIGKILL"), stopTimeoutMs);
    child.process.once("exit", () => {
      clearTimeout(timer);
      resolve();
    });
    child.process.kill("SIGTERM");
  });
}
