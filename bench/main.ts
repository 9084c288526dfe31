/** `npm run bench`: measures, prints, and ends what it has started. docs/benchmark.md says what the figures mean. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killAll } from "./child-processes.js";
import { type Cluster, type ClusterKind, cacheCount, startCluster } from "./cluster.js";
import { readProfiles, type ThreadProfile } from "./cpu-profile.js";
import { type CurveRun, curveText, measureCurve } from "./curve.js";
import { type EvictionRun, measureEviction } from "./eviction.js";
import { type FailoverRun, measureFailover } from "./failover.js";
import { type LargeRun, largeText, measureLarge } from "./large.js";
import type { Work } from "./load-messages.js";
import { describeMachine, machineLine } from "./machine.js";
import { type BenchOptions, parseOptions } from "./options.js";
import { measurePeer, type PeerResult, peerNames } from "./peers.js";
import { measurePulls, type PullRun } from "./pulls.js";
import { cpuTable, evictionText, failoverTable, profileText, pullsText, ratioTable, type SystemRuns, throughputTable } from "./report.js";
import { measureThroughput, type Throughput, type Watched, warmUp } from "./throughput.js";

interface Item {
  readonly work: Work;
  readonly inFlight: number;
}

const titles: Readonly<Record<ClusterKind, string>> = {
  embedded: "Atomcast, embedded",
  hrana: "Atomcast, Hrana",
  libsql: "Atomcast, @libsql/client",
};

/** CPU time by process is told of this one. */
const cpuItem: Item = { work: "insert", inFlight: 64 };
/** One row that all update. */
const hotItem: Item = { work: "hot", inFlight: 64 };
const works: readonly Work[] = ["insert", "update", "read"];
const failoverRuns = 5;
const pullRuns = 3;
const profileTop = 18;

function itemsOf(quick: boolean): readonly Item[] {
  const inFlights = quick ? [1, 64] : [1, 64, 256];
  return works.flatMap((work) => inFlights.map((inFlight) => ({ work, inFlight })));
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function withCluster<T>(
  kind: ClusterKind,
  profileDirectory: string | null,
  use: (cluster: Cluster) => Promise<T>,
  caches = cacheCount,
): Promise<T> {
  note(`${titles[kind]}: starting 3 Archives and ${caches} Cache${caches === 1 ? "" : "s"}`);
  const cluster = await startCluster({ kind, profileDirectory, caches });
  try {
    return await use(cluster);
  } finally {
    await cluster.stop();
  }
}

async function measureCluster(kind: ClusterKind, items: readonly Item[], options: BenchOptions, caches = cacheCount): Promise<SystemRuns> {
  const { seconds, warmUpSeconds } = options;
  const title = caches === cacheCount ? titles[kind] : `${titles[kind]}, ${caches} Cache${caches === 1 ? "" : "s"}`;
  return withCluster(
    kind,
    null,
    async (cluster) => {
      const runs: Throughput[] = [];
      await warmUp(cluster.workers, [...new Set(items.map(({ work }) => work))], warmUpSeconds);
      for (const { work, inFlight } of items) runs.push(await measureThroughput(cluster.workers, work, inFlight, seconds, watchedOf(cluster)));
      return { title, runs };
    },
    caches,
  );
}

function watchedOf(cluster: Cluster): Watched[] {
  return cluster.children.map(({ name, pid }) => ({ name, pids: () => [pid] }));
}

interface Profiled {
  readonly run: Throughput;
  readonly profiles: readonly (ThreadProfile & { readonly name: string })[];
}

async function profile({ seconds, warmUpSeconds }: BenchOptions): Promise<Profiled> {
  const directory = await mkdtemp(join(tmpdir(), "atomcast-profiles-"));
  const names = new Map<number, string>();
  const run = await withCluster("embedded", directory, async (cluster) => {
    const { engines } = await cluster.status();
    const sequencer = engines.find((engine) => engine.isSequencer)?.pid;
    for (const { pid, name } of cluster.children) names.set(pid, pid === sequencer ? `${name} (sequencer)` : name);
    await warmUp(cluster.workers, [cpuItem.work], warmUpSeconds);
    return measureThroughput(cluster.workers, cpuItem.work, cpuItem.inFlight, seconds, watchedOf(cluster));
  });
  note(`the profiles are kept in ${directory}`);
  return { run, profiles: readProfiles(directory).map((one) => ({ ...one, name: names.get(one.pid) ?? `pid ${one.pid}` })) };
}

function sayProfile({ run, profiles }: Profiled): void {
  say(`inserts, 64 in flight, embedded, profiled: ${Math.round(run.perSecond)} per second\n`);
  say(`${cpuTable(run)}\n`);
  // Start and set-up are in the profiles as well; they are short beside the run.
  for (const one of [...profiles].sort((left, right) => right.busyMicros - left.busyMicros)) {
    if (one.busyMicros < 100_000) continue;
    say(`${profileText(one.name, one, profileTop)}\n`);
  }
}

async function measureAll(options: BenchOptions, report: Report): Promise<void> {
  const { seconds, quick, only } = options;
  const items = itemsOf(quick);
  if (only.includes("embedded")) report.systems.push(await measureCluster("embedded", items, options));
  if (only.includes("hrana")) report.systems.push(await measureCluster("hrana", items, options));
  const few = items.filter(({ inFlight }) => inFlight <= 64);
  if (only.includes("libsql")) report.systems.push(await measureCluster("libsql", few, options));
  if (only.includes("failover")) {
    const runs = quick ? 1 : failoverRuns;
    report.failover.push(
      ...(await withCluster("embedded", null, async (cluster) => [
        ...(await measureFailover(cluster, "originating cache", runs)),
        ...(await measureFailover(cluster, "sequencer", runs)),
      ])),
    );
  }
  if (only.includes("scaling")) {
    for (const caches of quick ? [4] : [1, 4]) report.systems.push(await measureCluster("embedded", [cpuItem, hotItem], options, caches));
  }
  if (only.includes("eviction")) {
    const { rows, memoryBytes } = options;
    report.eviction.push(await measureEviction({ rows, memoryBytes, seconds: Math.max(seconds, quick ? 3 : 20) }, note));
  }
  if (only.includes("pulls")) report.pulls.push(await measurePulls(options.rows, quick ? 1 : pullRuns, note));
  if (only.includes("curve")) report.curve.push(await measureCurve({ rows: options.rows, minutes: options.minutes }, note));
  if (only.includes("large")) {
    const { gigabytes, largeMemoryBytes: memoryBytes, keep, parts } = options;
    report.large.push(await measureLarge({ gigabytes, memoryBytes, keep, parts, seconds: Math.max(seconds, quick ? 3 : 20) }, note));
  }
  if (!options.peers) return;
  for (const name of peerNames) {
    note(`${name}: starting`);
    const result = await measurePeer(name, only.includes("scaling") ? [...items, hotItem] : items, options, say);
    if (result !== null) report.peers.push(result);
  }
}

interface Report {
  readonly systems: SystemRuns[];
  readonly failover: FailoverRun[];
  readonly eviction: EvictionRun[];
  readonly pulls: PullRun[];
  readonly curve: CurveRun[];
  readonly large: LargeRun[];
  readonly peers: PeerResult[];
}

function sayReport({ systems, failover, eviction, pulls, curve, large, peers }: Report): void {
  if (systems.length + peers.length > 0) say(`${throughputTable([...systems, ...peers])}\n`);
  for (const { title, runs } of [...systems, ...peers]) {
    const run = runs.find((one) => one.work === cpuItem.work && one.inFlight === cpuItem.inFlight);
    if (run !== undefined) say(`${title}, ${cpuItem.work}, ${cpuItem.inFlight} in flight:\n${cpuTable(run)}\n`);
  }
  if (failover.length > 0)
    say(`Longest time between two successful writes around a kill, 8 writers on each writing Cache:\n${failoverTable(failover)}\n`);
  for (const run of eviction) say(`${evictionText(run)}\n`);
  for (const run of pulls) say(`${pullsText(run)}\n`);
  for (const run of curve) say(`${curveText(run)}\n`);
  for (const run of large) say(`${largeText(run)}\n`);
  if (peers.length > 0) for (const ours of systems) say(`${ratioTable(ours, peers)}\n`);
  for (const { title, version } of peers) say(`${title}: ${version}`);
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const options = parseOptions(args);
  const machine = describeMachine(args);
  const report: Report = { systems: [], failover: [], eviction: [], pulls: [], curve: [], large: [], peers: [] };
  let profiled: Profiled | null = null;
  if (options.profile) {
    profiled = await profile(options);
    sayProfile(profiled);
  } else {
    await measureAll(options, report);
    sayReport(report);
  }
  say(machineLine(machine));
  if (options.json !== null) {
    await writeFile(
      options.json,
      `${JSON.stringify({ machine, seconds: options.seconds, warmUpSeconds: options.warmUpSeconds, quick: options.quick, ...report, profiled }, null, 2)}\n`,
    );
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    killAll();
    process.exit(1);
  });
}
main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
