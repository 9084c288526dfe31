/** One client that writes all the time, and others that look when its rows come to their Caches. */
import { type Client, createClient } from "@libsql/client";
import { eventually, pause } from "./waiting.js";

const writeEveryMs = 20;
const lookEveryMs = 10;
/** An engine that is cut off keeps its clients waiting; these ask again. */
const requestMs = 10_000;

export interface CommitWatch {
  /** Rows whose commit the writer was told of. */
  readonly written: number;
  /** The longest time without a new row at that Cache, in milliseconds, since this was last asked of it. */
  takeLongestGapMs(url: string): number;
  /** Waits until so many more rows have come to each of them. */
  progress(count: number, urls?: readonly string[]): Promise<void>;
  /** Moves the writer to another Cache. */
  writeAt(url: string): void;
  /** Ends, and fails unless every Cache in the end has each row that was told, and all have the same. */
  stop(): Promise<void>;
}

interface Looker {
  readonly client: Client;
  count: number;
  changedMs: number;
  longestGapMs: number;
}

export async function watchCommits(writer: string, urls: readonly string[]): Promise<CommitWatch> {
  const at = (url: string): Client => createClient({ url, fetch: impatientFetch });
  let client = at(writer);
  await client.execute("create table ticks (id integer primary key, told integer)");
  let written = 0;
  let isStopping = false;
  const lookers = new Map(urls.map((url): [string, Looker] => [url, { client: at(url), count: 0, changedMs: performance.now(), longestGapMs: 0 }]));
  const write = async (): Promise<void> => {
    while (!isStopping) {
      const told = await client.execute("insert into ticks (told) values (1)").then(
        () => true,
        () => false,
      );
      if (told) written++;
      await pause(writeEveryMs);
    }
  };
  const look = async (looker: Looker): Promise<void> => {
    while (!isStopping) {
      const count = await countAt(looker.client).catch(() => looker.count);
      const nowMs = performance.now();
      // A row that is not there yet counts too: whoever asks while nothing comes is told how long.
      looker.longestGapMs = Math.max(looker.longestGapMs, nowMs - looker.changedMs);
      if (count > looker.count) looker.changedMs = nowMs;
      looker.count = count;
      await pause(lookEveryMs);
    }
  };
  const tasks = [write(), ...[...lookers.values()].map(look)];
  const lookerOf = (url: string): Looker => {
    const looker = lookers.get(url);
    if (looker === undefined) throw new Error(`${url} is not watched`);
    return looker;
  };
  return {
    get written() {
      return written;
    },
    takeLongestGapMs(url) {
      const looker = lookerOf(url);
      const { longestGapMs } = looker;
      looker.longestGapMs = 0;
      return longestGapMs;
    },
    async progress(count, wanted = urls) {
      const goals = wanted.map((url) => ({ looker: lookerOf(url), count: lookerOf(url).count + count }));
      await eventually(`${count} more rows at ${wanted.join(", ")}`, 60_000, () => {
        for (const { looker, count: goal } of goals) if (looker.count < goal) throw new Error(`${looker.count} rows of ${goal}`);
      });
    },
    writeAt(url) {
      client = at(url);
    },
    async stop() {
      isStopping = true;
      await Promise.all(tasks);
      await eventually("all Caches have the same rows", 60_000, async () => {
        const counts = await Promise.all([...lookers.values()].map((looker) => countAt(looker.client)));
        if (counts.some((count) => count < written || count !== counts[0])) throw new Error(`${counts.join(", ")} rows, ${written} were told`);
      });
    },
  };
}

async function countAt(client: Client): Promise<number> {
  const { rows } = await client.execute("select count(*) from ticks");
  return Number(rows[0]?.[0]);
}

const impatientFetch: typeof fetch = (input, init) => fetch(input, { ...init, signal: AbortSignal.timeout(requestMs) });
