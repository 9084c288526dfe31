/** A cluster of processes under test, its engines by name, and which of them does what just now. */
import { query } from "./convergence.js";
import { type Engine, openSite, type Site, siteNetwork } from "./processes.js";

export interface Cluster {
  readonly site: Site;
  readonly engines: Map<string, Engine>;
}

export async function openCluster(archives: number, caches: number, network = siteNetwork): Promise<Cluster> {
  const site = openSite(network);
  const engines = new Map<string, Engine>();
  for (let index = 1; index <= archives; index++) engines.set(`archive-${index}`, await site.archive(`archive-${index}`));
  await Promise.all(Array.from({ length: caches }, async (_, index) => engines.set(`cache-${index + 1}`, await site.cache(`cache-${index + 1}`))));
  return { site, engines };
}

export function urlsOf({ engines }: Cluster): string[] {
  return [...engines.values()].filter((engine) => engine.kind === "cache").map((engine) => engine.url);
}

export function engineOf({ engines }: Cluster, name: string): Engine {
  const engine = engines.get(name);
  if (engine === undefined) throw new Error(`no engine ${name}`);
  return engine;
}

/** The name of the engine with this pid. */
function nameOf({ engines }: Cluster, pid: unknown): string {
  for (const [name, engine] of engines) if (engine.pid === Number(pid)) return name;
  throw new Error(`no engine has pid ${pid}`);
}

export async function originatorOf(cluster: Cluster, table: string): Promise<string> {
  const [url = ""] = urlsOf(cluster);
  const [row] = await query(
    url,
    `select e.pid, e.kind from system.atoms a join system.engines e on e.id = a.originator where a.table_name = '${table}' and a.kind = 'rows'`,
  );
  return nameOf(cluster, row?.[0]);
}

export async function sequencerOf(cluster: Cluster): Promise<string> {
  const [url = ""] = urlsOf(cluster);
  const [row] = await query(url, "select pid from system.engines where is_sequencer");
  return nameOf(cluster, row?.[0]);
}
