/**
 * Other databases on the same machine, one after another and never beside ours: three nodes of MariaDB Galera, PostgreSQL with two synchronous
 * standbys, three nodes of etcd. Scripts that start and stop them are outside the repository, in ../shared/peers.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startWorker, type WorkerChild } from "./child-processes.js";
import type { Target, Work } from "./load-messages.js";
import { withDescendants } from "./process-cpu.js";
import { measureThroughput, type Throughput, warmUp } from "./throughput.js";

export type PeerName = "galera" | "postgres" | "etcd";

interface Peer {
  readonly title: string;
  /** A program that it needs, and the Debian packages that bring it. */
  readonly needs: readonly { readonly program: string; readonly packages: string }[];
  readonly target: Target;
  /** Of its servers. */
  pids(directory: string): number[];
}

const peers: Readonly<Record<PeerName, Peer>> = {
  galera: {
    title: "MariaDB Galera, 3 nodes",
    needs: [
      { program: "/usr/sbin/mariadbd", packages: "mariadb-server" },
      { program: "/usr/lib/galera/libgalera_smm.so", packages: "galera-4" },
      { program: "/usr/bin/rsync", packages: "rsync" },
      { program: "/usr/bin/lsof", packages: "lsof" },
    ],
    target: { kind: "galera", ports: [13301, 13302, 13303] },
    pids: listedPids,
  },
  postgres: {
    title: "PostgreSQL, 2 synchronous standbys",
    needs: [{ program: "/usr/lib/postgresql/15/bin/postgres", packages: "postgresql" }],
    target: { kind: "postgres", port: 15432 },
    pids: (directory) => ["p", "s1", "s2"].flatMap((node) => firstPid(join(directory, node, "postmaster.pid"))),
  },
  etcd: {
    title: "etcd, 3 nodes, JSON gateway",
    needs: [
      { program: "/usr/bin/etcd", packages: "etcd-server" },
      { program: "/usr/bin/etcdctl", packages: "etcd-client" },
    ],
    target: { kind: "etcd", ports: [12379, 22379, 32379] },
    pids: listedPids,
  },
};

export const peerNames = Object.keys(peers) as readonly PeerName[];

export interface PeerResult {
  readonly name: PeerName;
  readonly title: string;
  readonly version: string;
  readonly runs: readonly Throughput[];
}

/** How long its servers may take to start and to end. Milliseconds. */
const startTimeoutMs = 120_000;
const endTimeoutMs = 30_000;
const workerCount = 2;

/** null: it is not here, and `say` was told why. */
export async function measurePeer(
  name: PeerName,
  work: readonly { readonly work: Work; readonly inFlight: number }[],
  { seconds, warmUpSeconds }: { readonly seconds: number; readonly warmUpSeconds: number },
  say: (text: string) => void,
): Promise<PeerResult | null> {
  const peer = peers[name];
  const script = join(process.cwd(), "..", "shared", "peers", `${name}.sh`);
  if (!existsSync(script)) {
    say(`${peer.title}: skipped, ${script} is not there`);
    return null;
  }
  const missing = peer.needs.filter(({ program }) => !existsSync(program));
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((one) => one.packages))].join(" ");
    say(`${peer.title}: skipped, ${missing.map(({ program }) => program).join(", ")} missing; apt-get install ${packages}`);
    return null;
  }
  const directory = await mkdtemp(join(tmpdir(), `bench-${name}-`));
  // The servers run as users of their own, which must be able to reach their folder.
  spawnSync("chmod", ["755", directory]);
  const data = join(directory, "data");
  const stopOnExit = (): void => {
    spawnSync("bash", [script, "stop", data], { stdio: "ignore" });
    rmSync(directory, { recursive: true, force: true });
  };
  process.on("exit", stopOnExit);
  const workers: WorkerChild[] = [];
  try {
    await runScript(script, "start", data, startTimeoutMs);
    for (let index = 0; index < workerCount; index++) {
      const worker = startWorker(`client ${index + 1}`, [], process.env);
      workers.push(worker);
      await worker.ask("open", peer.target);
    }
    await workers[0]?.ask("setUp", null);
    const watched = [
      { name: "servers", pids: () => withDescendants(peer.pids(data)) },
      { name: "clients", pids: () => workers.map(({ pid }) => pid) },
    ];
    const runs: Throughput[] = [];
    await warmUp(workers, [...new Set(work.map((one) => one.work))], warmUpSeconds);
    for (const { work: kind, inFlight } of work) runs.push(await measureThroughput(workers, kind, inFlight, seconds, watched));
    return { name, title: peer.title, version: versionOf(name), runs };
  } finally {
    await Promise.all(workers.map((worker) => worker.end()));
    const pids = withDescendants(peer.pids(data));
    await runScript(script, "stop", data, endTimeoutMs).catch((error: unknown) => say(String(error)));
    await waitUntilGone(pids);
    process.off("exit", stopOnExit);
    rmSync(directory, { recursive: true, force: true });
  }
}

function runScript(script: string, action: string, directory: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    // Output by a file of its own: the servers inherit it, and a pipe would stay open as long as they live.
    const child = spawn("bash", [script, action, directory], { stdio: ["ignore", "ignore", "inherit"] });
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${script} ${action} took more than ${timeoutMs / 1000} s`));
    }, timeoutMs);
    child.once("error", reject);
    child.once("exit", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve();
      else reject(new Error(`${script} ${action} failed with code ${code}`));
    });
  });
}

async function waitUntilGone(pids: readonly number[]): Promise<void> {
  for (const beganMs = performance.now(); performance.now() - beganMs < endTimeoutMs; ) {
    if (pids.every((pid) => !existsSync(`/proc/${pid}`))) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // What is measured next must not share the machine with it.
  for (const pid of pids.filter((one) => existsSync(`/proc/${one}`))) process.kill(pid, "SIGKILL");
}

function listedPids(directory: string): number[] {
  const path = join(directory, "pids");
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8").split("\n").filter(Boolean).map(Number);
}

function firstPid(path: string): number[] {
  if (!existsSync(path)) return [];
  return [Number(readFileSync(path, "utf8").split("\n")[0])];
}

function versionOf(name: PeerName): string {
  const commands: Readonly<Record<PeerName, readonly string[]>> = {
    galera: ["/usr/sbin/mariadbd", "--version"],
    postgres: ["/usr/lib/postgresql/15/bin/postgres", "--version"],
    etcd: ["/usr/bin/etcd", "--version"],
  };
  const [program = "", ...args] = commands[name];
  return (spawnSync(program, args, { encoding: "utf8" }).stdout ?? "").split("\n")[0]?.trim() ?? "";
}
