/** Three Archives and a table of about 200 bytes a row that a Cache has filled, which has gone by then: for what is measured of Caches that begin empty. */
import { existsSync, rmSync } from "node:fs";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Child, type EngineChild, startEngine } from "./child-processes.js";
import { execute, integer } from "./clients/hrana-client.js";
import { openPoster, type Poster } from "./clients/http-post.js";
import { longestGap } from "./statistics.js";

/** How a table came to be. */
export interface Built {
  readonly rows: number;
  /** As its atoms' records count: keys and rows. */
  readonly tableBytes: number;
  readonly atoms: number;
  /** From the first row to the last one's answer. */
  readonly fillSeconds: number;
  /** In it, the longest time between two answers. */
  readonly fillGapMs: number;
  /** From there until no atom is too large any more, or none is split. */
  readonly settleSeconds: number;
}

export interface WideTable extends Built {
  readonly archives: readonly EngineChild[];
  /** Of these Archives, in their order. */
  readonly folders: readonly string[];
  /** It was there: built by an earlier run. */
  readonly isKept: boolean;
  /** A Cache that holds nothing yet. */
  startCache(...args: readonly string[]): Promise<EngineChild>;
  /** A further Archive, which copies the store. Ready when it is a member. */
  startArchive(): Promise<EngineChild>;
}

const bodyBytesDefault = 180;
/** Of bodies, in one INSERT. */
const insertBytes = 72_000;
const fillersAtOnce = 4;
/** On a machine that others keep busy. Milliseconds. */
const cacheReadyMs = 120_000;
/** A joining Archive copies all there is. Milliseconds. */
const archiveReadyMs = 3_600_000;
/** Looks, half a second apart, at which the atoms are the same: an originator looks again after three seconds at one that was not split. */
const calmLooks = 20;

/** `more`: statements before the rows come (an index), and after. */
export interface Filling {
  readonly rows: number;
  readonly bodyBytes?: number;
  /** Caches that fill it, each a range of keys of its own, and what they are started with. */
  readonly caches?: number;
  readonly cacheArgs?: readonly string[];
  /** Told of each engine that is started. */
  readonly onStarted?: (child: EngineChild) => void;
  readonly before?: readonly string[];
  readonly after?: readonly string[];
  /** A folder that has the database afterwards. What an earlier run has left there is taken as it is. */
  readonly keep?: string | null;
}

interface Kept extends Built {
  readonly database: string;
}

/** Written when the table is there: a folder without it is half built, or somebody else's. */
const keptName = "built.json";

async function keptIn(directory: string, { rows, bodyBytes = bodyBytesDefault }: Filling): Promise<Kept | null> {
  const file = join(directory, keptName);
  if (!existsSync(file)) {
    if (!existsSync(directory) || (await readdir(directory)).length === 0) return null;
    throw new Error(`${directory} is neither empty nor a database that was built to its end: name another folder, or remove it`);
  }
  const { bodyBytes: keptBytes, ...kept } = JSON.parse(await readFile(file, "utf8")) as Kept & { readonly bodyBytes: number };
  if (kept.rows === rows && keptBytes === bodyBytes) return kept;
  throw new Error(`${directory} has ${kept.rows} rows of ${keptBytes} bytes, not ${rows} of ${bodyBytes}: name another folder, or remove it`);
}

/** Everything that was started is gone afterwards, whatever happens, and so are its files but for what is to be kept. */
export async function withWideTable<T>(
  name: string,
  filling: Filling,
  note: (text: string) => void,
  use: (table: WideTable) => Promise<T>,
): Promise<T> {
  const { keep = null } = filling;
  const kept = keep === null ? null : await keptIn(keep, filling);
  const temporary = await mkdtemp(join(tmpdir(), "atomcast-bench-"));
  const removeTemporary = (): void => rmSync(temporary, { recursive: true, force: true });
  process.once("exit", removeTemporary);
  const directory = keep ?? temporary;
  const env = { ...process.env, XDG_STATE_HOME: join(directory, "state") };
  for (const key of Object.keys(env)) if (key.startsWith("ATOMCAST_")) delete (env as NodeJS.ProcessEnv)[key];
  const database = kept?.database ?? `bench-${name}-${process.pid}`;
  const common = ["--database", database, "--log", process.env.BENCH_LOG ?? "error"];
  const children: Child[] = [];
  const start = async (title: string, args: readonly string[], readyMs?: number): Promise<EngineChild> => {
    const child = await startEngine(title, [...args, ...common], [], env, readyMs);
    children.push(child);
    filling.onStarted?.(child);
    return child;
  };
  const folders = [1, 2, 3].map((index) => join(directory, `archive-${index}`));
  const startCache = (...args: readonly string[]): Promise<EngineChild> => start("cache", ["cache", "--http", "127.0.0.1:0", ...args], cacheReadyMs);
  const startArchive = (): Promise<EngineChild> => {
    const count = children.filter(({ name: title }) => title.startsWith("archive")).length + 1;
    return start(`archive ${count}`, ["archive", "--data", join(temporary, `archive-${count}`)], archiveReadyMs);
  };
  /** Each is ready when a majority is there. */
  const startKept = (): Promise<EngineChild[]> =>
    Promise.all(folders.map((folder, index) => start(`archive ${index + 1}`, ["archive", "--data", folder], archiveReadyMs)));
  const startNew = async (): Promise<EngineChild[]> => {
    const archives: EngineChild[] = [];
    for (const [index, folder] of folders.entries())
      archives.push(await start(`archive ${index + 1}`, ["archive", "--data", folder, ...(index === 0 ? ["--create"] : [])]));
    return archives;
  };
  try {
    const archives = kept === null ? await startNew() : await startKept();
    const built = kept ?? (await build(name, filling, note, startCache));
    if (keep !== null && kept === null) {
      const { bodyBytes = bodyBytesDefault } = filling;
      await writeFile(join(keep, keptName), `${JSON.stringify({ database, bodyBytes, ...built }, null, 2)}\n`);
    }
    return await use({ ...built, archives, folders, isKept: kept !== null, startCache, startArchive });
  } finally {
    // What is kept is left by all but its Archives first: nobody is waited for when it is started again.
    if (keep !== null) for (const child of children.slice(folders.length).reverse()) await child.end();
    await Promise.all(children.map((child) => child.kill()));
    process.removeListener("exit", removeTemporary);
    removeTemporary();
  }
}

async function build(name: string, filling: Filling, note: (text: string) => void, startCache: WideTable["startCache"]): Promise<Built> {
  const { rows, caches = 1, cacheArgs = [] } = filling;
  const fillers: EngineChild[] = [];
  while (fillers.length < caches) fillers.push(await startCache(...cacheArgs));
  const urls = fillers.map(urlOf);
  note(`${name}: filling ${rows} rows`);
  const beganMs = performance.now();
  const answeredMs = await fill(urls, filling, (share) =>
    note(`${name}: ${Math.round(100 * share)} % after ${Math.round((performance.now() - beganMs) / 1000)} s`),
  );
  const filledMs = performance.now();
  const { bytes: tableBytes, atoms } = await settled(urls[0] as string);
  const settledMs = performance.now();
  await Promise.all(fillers.map((filler) => filler.end()));
  const fillGapMs = longestGap(answeredMs, beganMs, filledMs).lengthMs;
  return { rows, tableBytes, atoms, fillSeconds: (filledMs - beganMs) / 1000, fillGapMs, settleSeconds: (settledMs - filledMs) / 1000 };
}

export function urlOf({ readyLine }: EngineChild): string {
  const url = /http=(\S+)/.exec(readyLine)?.[1];
  if (url === undefined) throw new Error("the Cache has not said where it serves");
  return url;
}

/** Returns when each INSERT was answered. */
async function fill(urls: readonly string[], filling: Filling, tell: (share: number) => void): Promise<readonly number[]> {
  const { rows, bodyBytes = bodyBytesDefault, before = [], after = [] } = filling;
  const first = openPoster(urls[0] as string);
  await execute(first, "create table wide (id integer primary key, n integer not null, code integer not null, body text not null)");
  for (const sql of before) await execute(first, sql);
  const body = "b".repeat(bodyBytes);
  const rowsPerInsert = Math.max(1, Math.floor(insertBytes / bodyBytes));
  const answeredMs: number[] = [];
  let done = 0;
  let told = 0;
  const fillRange = (url: string, low: number, high: number): Promise<void>[] => {
    let next = low;
    const filler = async (): Promise<void> => {
      const poster = openPoster(url);
      while (next < high) {
        const begin = next;
        next += rowsPerInsert;
        const count = Math.min(rowsPerInsert, high - begin);
        // One text for all: what an engine parses and plans once.
        const values = Array.from({ length: count }, (_, index) => `(?${2 * index + 2},0,?${2 * index + 3},?1)`);
        const numbers = Array.from({ length: count }, (_, index) => [integer(begin + index), integer(codeOf(begin + index))]);
        await insert(poster, `insert into wide values ${values.join(",")}`, [{ type: "text", value: body }, ...numbers.flat()]);
        answeredMs.push(performance.now());
        done += count;
        if (done < told + rows / 20 || rows * bodyBytes < toldFromBytes) continue;
        told = done;
        tell(done / rows);
      }
      poster.close();
    };
    return Array.from({ length: fillersAtOnce }, filler);
  };
  const borderOf = (index: number): number => 1 + Math.floor((rows * index) / urls.length);
  await Promise.all(urls.flatMap((url, index) => fillRange(url, borderOf(index), borderOf(index + 1))));
  for (const sql of after) await execute(first, sql);
  first.close();
  return answeredMs;
}

/** A fill of an hour may meet a commit whose outcome its engine cannot tell: then the rows are there already, or they go in now. Or an engine that starts over. */
async function insert(poster: Poster, sql: string, args: readonly unknown[]): Promise<void> {
  const beganMs = performance.now();
  for (let attempt = 1; ; attempt++) {
    try {
      await execute(poster, sql, args);
      return;
    } catch (error) {
      if (attempt > 1 && String(error).includes("UNIQUE constraint failed")) return;
      if (performance.now() - beganMs > insertPatienceMs) throw error;
      process.stderr.write(`an INSERT failed, and is tried again: ${String(error)}\n`);
      await pause(1000);
    }
  }
}

/** Engines that get next to no processor for minutes go on when they get some. */
const insertPatienceMs = 3_600_000;

/** A fill below it is over before anybody asks. */
const toldFromBytes = 100_000_000;

/** Neighbours by code are far apart by id. */
export function codeOf(id: number): number {
  return (id * 7_919) % 1_000_003;
}

/** Until the table's atoms have been split. */
async function settled(url: string): Promise<{ atoms: number; bytes: number }> {
  const poster = openPoster(url);
  const look = async (): Promise<readonly number[]> => {
    const { result } = await execute(poster, "select count(*), sum(bytes), max(bytes) from system.atoms where table_name = 'wide' and kind = 'rows'");
    return (result.rows[0] ?? []).map(({ value }) => Number(value));
  };
  let [atoms = 0, bytes = 0, largest = 0] = await look();
  for (let calm = 0; calm < calmLooks; ) {
    await pause(500);
    const [now = 0, nowBytes = 0, nowLargest = 0] = await look();
    calm = now === atoms ? calm + 1 : 0;
    [atoms, bytes, largest] = [now, nowBytes, nowLargest];
    if (largest <= 128 * 1024) break;
  }
  poster.close();
  return { atoms, bytes };
}

export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
