/** `atomcast cluster`: a cluster of child processes on this machine, for trying things. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DatabaseError } from "../base/errors.js";
import { type CommonOptions, parseCount } from "./options.js";

export interface ClusterCommand extends CommonOptions {
  readonly data: string;
  readonly archives: string;
  readonly caches: string;
  readonly http: string;
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
  const port = parseCount("http", options.http, 0, 65_535);
  await mkdir(options.data, { recursive: true });
  const children: Child[] = [];
  const stop = stopper(children);
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  const present = await readdir(options.data);
  const folders = Array.from({ length: archives }, (_, index) => `archive-${index + 1}`);
  const isNew = !folders.some((folder) => present.includes(folder));
  const start = (name: string, args: readonly string[]): Promise<void> => startChild(children, name, [...args, ...commonArgs(options)]);
  // The founder comes first where the database is new; else a majority must come up together.
  const first = folders[0] as string;
  const archiveArgs = (folder: string): string[] => ["archive", "--data", join(options.data, folder)];
  if (isNew) {
    await start(first, [...archiveArgs(first), "--create"]);
    for (const folder of folders.slice(1)) await start(folder, archiveArgs(folder));
  } else await Promise.all(folders.map((folder) => start(folder, archiveArgs(folder))));
  for (let index = 0; index < caches; index++) await start(`cache-${index + 1}`, ["cache", "--http", `127.0.0.1:${port === 0 ? 0 : port + index}`]);
  process.stdout.write("ready cluster\n");
}

function commonArgs(options: ClusterCommand): string[] {
  const args = ["--database", options.database, "--interface", options.interface, "--voters", options.voters, "--log", options.log];
  if (options.group !== undefined) args.push("--group", options.group);
  if (options.key !== undefined) args.push("--key", options.key);
  return args;
}

function startChild(children: Child[], name: string, args: readonly string[]): Promise<void> {
  const environment = { ...process.env };
  for (const key of ["ATOMCAST_DATA", "ATOMCAST_HTTP", "ATOMCAST_CREATE"]) delete environment[key];
  const child: Child = {
    name,
    process: spawn(process.execPath, [fileURLToPath(new URL("./atomcast.js", import.meta.url)), ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      env: environment,
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
    child.process.on("exit", (code, signal) => {
      child.exited = true;
      clearTimeout(timer);
      process.stderr.write(`atomcast: ${name} ended (${signal ?? `code ${code}`})\n`);
      reject(new DatabaseError("ATOMCAST_CLUSTER", `${name} ended before it was ready`));
    });
  });
}

/** The first signal stops Caches, then Archives, cleanly; the second ends all at once. */
function stopper(children: readonly Child[]): () => void {
  let stopping = false;
  return () => {
    if (stopping) {
      for (const child of children) child.process.kill("SIGKILL");
      process.exit(1);
    }
    stopping = true;
    void stopAll(children).then(() => process.exit(0));
  };
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
