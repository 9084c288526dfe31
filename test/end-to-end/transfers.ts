/**
 * A load whose right outcome is known at every moment: transfers between accounts, each one batch of a client, BEGIN … COMMIT, with a row that
 * names it. What a client was told decides what must be found:
 *
 * | the client was told | the transfer's row |
 * |---|---|
 * | it is committed | is there |
 * | outcome unknown, or nothing (the connection ended, the time was over) | may be there |
 * | anything else: nothing was changed | is not there |
 *
 * Each account's balance follows from the rows that are there, at every snapshot of every engine; so none took effect twice, or in part.
 */
import { type Client, createClient, LibsqlError } from "@libsql/client";
import { expect } from "vitest";
import { eventually, pause } from "./waiting.js";

export const accountCount = 24;
const openingBalance = 1000;
const total = accountCount * openingBalance;
/** Transfers that one Cache is asked for at once. */
const writersPerCache = 3;
/** A request that takes longer has failed, as far as its client can tell. More than an engine may try for (30 s). */
const requestMs = 40_000;
/** Before a writer whose engine failed it tries again. */
const afterFailureMs = 25;
const readEveryMs = 40;
/** A commit is on every engine within a heartbeat or two; more where the machine is busy. */
const arrivalMs = 3000;

/** Empty: every balance follows from the transfers, and the total is right. */
const auditSql = `
  select 'total ' || sum(balance) as wrong from accounts having sum(balance) <> ${total} or count(*) <> ${accountCount}
  union all
  select 'account ' || id || ' has ' || balance || ', its transfers say ' || told from (
    select id, balance, ${openingBalance}
      - coalesce((select sum(amount) from transfers where source = accounts.id), 0)
      + coalesce((select sum(amount) from transfers where target = accounts.id), 0) as told
    from accounts
  ) where balance <> told`;

export type Outcome = "committed" | "unknown" | "refused";

export interface TransferLoad {
  /** Transfers that were acknowledged so far. */
  readonly committedCount: number;
  /** The longest time between two acknowledgements, in milliseconds, since it was last asked for. */
  takeLongestGapMs(): number;
  /** Sends transfers through one more Cache too. */
  add(url: string): void;
  /** Waits for that many more acknowledged transfers, through the Cache at `url` or any. */
  progress(count: number, withinMs: number, url?: string): Promise<void>;
  /** Ends, when what is under way has ended. Fails if any read of any engine was wrong. */
  stop(): Promise<void>;
  /** Fails unless the engine at `url` has what clients were told: all of it once the load has stopped, else what they were told before the question. */
  expectTold(url: string): Promise<void>;
}

export async function openTransferLoad(urls: readonly string[]): Promise<TransferLoad> {
  const [first = ""] = urls;
  await makeAccounts(first);
  const outcomes = new Map<string, Outcome>();
  const wrongReads: string[] = [];
  const tasks: Promise<void>[] = [];
  const committed = new Map<string, number>();
  const refusals = new Map<string, number>();
  let readCount = 0;
  let isStopping = false;
  let nextWriter = 1;
  let lastMs = performance.now();
  let longestGapMs = 0;
  let committedCount = 0;

  const note = (url: string, id: string, outcome: Outcome): void => {
    outcomes.set(id, outcome);
    if (outcome !== "committed") return;
    const nowMs = performance.now();
    longestGapMs = Math.max(longestGapMs, nowMs - lastMs);
    lastMs = nowMs;
    committedCount++;
    committed.set(url, (committed.get(url) ?? 0) + 1);
  };

  const write = async (url: string, writer: number): Promise<void> => {
    const client = openClient(url);
    for (let count = 1; !isStopping; count++) {
      const id = `${writer}/${count}`;
      try {
        await transfer(client, id, writer * 31 + count * 7);
        note(url, id, "committed");
      } catch (error) {
        const outcome = outcomeOf(error);
        note(url, id, outcome);
        const told = error instanceof Error ? error.message : String(error);
        if (outcome === "refused") refusals.set(told, (refusals.get(told) ?? 0) + 1);
        await pause(afterFailureMs);
      }
    }
    client.close();
  };

  const read = async (url: string): Promise<void> => {
    const client = openClient(url);
    while (!isStopping) {
      try {
        const { rows } = await client.execute(auditSql);
        readCount++;
        for (const row of rows) wrongReads.push(`${url}: ${String(row.wrong)}`);
      } catch {
        // The engine is down: it tells nothing, and nothing wrong.
      }
      await pause(readEveryMs);
    }
    client.close();
  };

  const add = (url: string): void => {
    for (let index = 0; index < writersPerCache; index++) tasks.push(write(url, nextWriter++));
    tasks.push(read(url));
  };
  for (const url of urls) add(url);

  return {
    get committedCount() {
      return committedCount;
    },
    takeLongestGapMs() {
      const longest = longestGapMs;
      longestGapMs = 0;
      return Math.round(longest);
    },
    add,
    progress(count, withinMs, url) {
      const current = (): number => (url === undefined ? committedCount : (committed.get(url) ?? 0));
      const wanted = current() + count;
      return eventually(`${count} more transfers${url === undefined ? "" : ` through ${url}`}`, withinMs, () => {
        if (current() < wanted) throw new Error(`${wanted - current()} are missing; refused so far: ${JSON.stringify(Object.fromEntries(refusals))}`);
      });
    },
    async stop() {
      isStopping = true;
      await Promise.all(tasks);
      expect(wrongReads.slice(0, 10)).toEqual([]);
      expect(readCount).toBeGreaterThan(0);
    },
    async expectTold(url) {
      const told = new Map(outcomes);
      const of = (outcome: Outcome): string[] => [...told].filter(([, one]) => one === outcome).map(([id]) => id);
      const client = openClient(url);
      // A read is the engine's own snapshot: what another one has acknowledged arrives there a moment later.
      await eventually(`${url} has what was acknowledged`, arrivalMs, async () => {
        const { rows } = await client.execute("select id from transfers");
        const found = new Set(rows.map((row) => String(row.id)));
        expect({ lost: of("committed").filter((id) => !found.has(id)) }).toEqual({ lost: [] });
        expect({ denied: of("refused").filter((id) => found.has(id)) }).toEqual({ denied: [] });
        if (isStopping) expect({ unasked: [...found].filter((id) => !told.has(id)) }).toEqual({ unasked: [] });
      });
      expect((await client.execute(auditSql)).rows).toEqual([]);
      client.close();
    },
  };
}

function openClient(url: string): Client {
  return createClient({
    url,
    fetch: (input: string | URL | Request, init?: RequestInit) => fetch(input, { ...init, signal: AbortSignal.timeout(requestMs) }),
  });
}

async function makeAccounts(url: string): Promise<void> {
  const client = openClient(url);
  await client.batch(
    [
      "create table accounts (id integer primary key, balance integer not null)",
      "create table transfers (id text primary key, source integer not null references accounts (id), target integer not null references accounts (id), amount integer not null)",
      "create index transfers_source on transfers (source)",
      "create index transfers_target on transfers (target)",
    ],
    "write",
  );
  const accounts = Array.from({ length: accountCount }, (_, index) => `(${index + 1}, ${openingBalance})`);
  await client.execute(`insert into accounts values ${accounts.join(", ")}`);
  client.close();
}

async function transfer(client: Client, id: string, number: number): Promise<void> {
  const source = (number % accountCount) + 1;
  const target = ((number + 1 + (number % (accountCount - 1))) % accountCount) + 1;
  const amount = (number % 9) + 1;
  await client.batch(
    [
      { sql: "insert into transfers values (?, ?, ?, ?)", args: [id, source, target, amount] },
      { sql: "update accounts set balance = balance - ? where id = ?", args: [amount, source] },
      { sql: "update accounts set balance = balance + ? where id = ?", args: [amount, target] },
    ],
    "write",
  );
}

/** What the client may take for granted after a failure: an engine that answers says whether anything happened. */
function outcomeOf(error: unknown): Outcome {
  if (!(error instanceof LibsqlError) || error.code === "ATOMCAST_OUTCOME_UNKNOWN") return "unknown";
  return /^(SQLITE|ATOMCAST)_|^TOO_BUSY$/.test(error.code) ? "refused" : "unknown";
}
