/**
 * An Atomcast cluster of child processes on loopback: three Archives, and two load workers that either have a Cache engine each in themselves
 * ("embedded"), or speak Hrana to a Cache process each. Everything is under one temporary directory, which goes with it.
 */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Status } from "../src/engines/database.js";
import { type Child, type EngineChild, startEngine, startWorker, type WorkerChild } from "./child-processes.js";
import type { Target } from "./load-messages.js";

export type ClusterKind = "embedded" | "hrana" | "libsql";

export interface ClusterOptions {
  readonly kind: ClusterKind;
  /** Where V8's CPU profiles go; null: none are taken. */
  readonly profileDirectory: string | null;
  /** Load workers, each with a Cache in itself or to itself. Left out: cacheCount. */
  readonly caches?: number;
}

export interface Cluster {
  readonly kind: ClusterKind;
  readonly workers: readonly WorkerChild[];
  /** All, for figures by process. */
  readonly children: readonly Child[];
  status(): Promise<Status>;
  /** kill -9, and start it again, with what it has on its disk. By the pid that the status names. */
  killArchive(pid: number): Promise<() => Promise<void>>;
  /** kill -9 of an embedded Cache; what is returned starts another in its place. */
  killWorker(index: number): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

const archiveCount = 3;
export const cacheCount = 2;
/** How long the Archives may take to become voters. Milliseconds. */
const votersTimeoutMs = 15_000;

let clustersStarted = 0;

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const directory = await mkdtemp(join(tmpdir(), "atomcast-bench-"));
  const removeDirectory = (): void => rmSync(directory, { recursive: true, force: true });
  // The children are killed at exit before: child-processes.ts was loaded first.
  process.once("exit", removeDirectory);
  const database = `bench-${process.pid}-${++clustersStarted}`;
  const env = { ...process.env, XDG_STATE_HOME: join(directory, "state") };
  for (const name of Object.keys(env)) if (name.startsWith("ATOMCAST_")) delete (env as NodeJS.ProcessEnv)[name];
  const nodeArgs = options.profileDirectory === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${options.profileDirectory}`];
  const workerCount = options.caches ?? cacheCount;
  const archives: EngineChild[] = [];
  const caches: EngineChild[] = [];
  const workers: WorkerChild[] = [];
  const common = ["--database", database, "--log", process.env.BENCH_LOG ?? "error"];

  const startArchive = (index: number): Promise<EngineChild> => {
    const args = ["archive", "--data", join(directory, `archive-${index + 1}`), ...common];
    const create = index === 0 && archives.length === 0 ? ["--create"] : [];
    return startEngine(`archive ${index + 1}`, [...args, ...create], nodeArgs, env);
  };
  const openWorker = async (index: number): Promise<WorkerChild> => {
    const worker = startWorker(options.kind === "embedded" ? `embedded cache ${index + 1}` : `client ${index + 1}`, nodeArgs, env);
    // In its place before it is opened, so that it is ended whatever happens.
    workers[index] = worker;
    await worker.ask("open", targetOf(options.kind, database, caches[index]));
    return worker;
  };
  const stop = async (): Promise<void> => {
    // Clients, Caches, then Archives one after another: each LEAVE needs a majority of those that are left.
    await Promise.all(workers.map((worker) => worker.end()));
    await Promise.all(caches.map((cache) => cache.end()));
    if (options.profileDirectory === null) await Promise.all(archives.map((archive) => archive.kill()));
    else for (const archive of archives.reverse()) await archive.end();
    process.removeListener("exit", removeDirectory);
    removeDirectory();
  };

  try {
    for (let index = 0; index < archiveCount; index++) archives.push(await startArchive(index));
    if (options.kind !== "embedded")
      for (let index = 0; index < workerCount; index++)
        caches.push(await startEngine(`cache ${index + 1}`, ["cache", "--http", "127.0.0.1:0", ...common], nodeArgs, env));
    for (let index = 0; index < workerCount; index++) await openWorker(index);
    const cluster: Cluster = {
      kind: options.kind,
      workers,
      get children() {
        return [...archives, ...caches, ...workers];
      },
      async status() {
        for (const worker of workers) {
          const status = await worker.ask("status", null).catch(() => null);
          if (status !== null) return status;
        }
        throw new Error("no Cache tells its status");
      },
      async killArchive(pid) {
        const index = archives.findIndex((archive) => archive.pid === pid);
        if (index < 0) throw new Error(`no Archive has the pid ${pid}`);
        await archives[index]?.kill();
        return async () => {
          archives[index] = await startArchive(index);
          await waitForVoters(cluster);
        };
      },
      async killWorker(index) {
        await workers[index]?.kill();
        return async () => {
          await openWorker(index);
        };
      },
      stop,
    };
    await waitForVoters(cluster);
    await workers[0]?.ask("setUp", null);
    return cluster;
  } catch (error) {
    await stop();
    throw error;
  }
}

function targetOf(kind: ClusterKind, database: string, cache: EngineChild | undefined): Target {
  if (kind === "embedded") return { kind, database };
  const url = /http=(\S+)/.exec(cache?.readyLine ?? "")?.[1];
  if (url === undefined) throw new Error("the Cache has not said where it serves");
  return { kind, url };
}

/** Until all Archives vote: before, a commit is durable on fewer of them. */
async function waitForVoters(cluster: Cluster): Promise<void> {
  for (const beganMs = performance.now(); performance.now() - beganMs < votersTimeoutMs; ) {
    const { voters } = await cluster.status();
    if (voters.length === archiveCount && voters.every(({ engine }) => engine !== null)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`the ${archiveCount} Archives were not all voters within ${votersTimeoutMs / 1000} s`);
}
