/** A Cache's local store in virtual time: the real SQLite store in memory, carrying out calls in order, some time after they were posted. */
import type { Random } from "../../src/base/random.js";
import type { LocalHandlers, LocalPort } from "../../src/engines/environment.js";
import type { LocalStore } from "../../src/sql/local-store.js";
import { carryOut, type LocalStoreCall, type LocalStoreReply } from "../../src/sql/local-store-calls.js";
import { openSqliteLocalStore } from "../../src/sql/sqlite-local-store.js";
import { cancelledFault, type StatementWatch, tooLongFault } from "../../src/sql/statement-watch.js";
import type { Coverage } from "./coverage.js";
import type { ProcessClock } from "./virtual-time.js";

export interface SimulatedLocalPort extends LocalPort {
  /** Its seq and tables, as of now: the invariants compare them. */
  readonly store: LocalStore;
  /** All that was posted is carried out. */
  readonly isIdle: boolean;
  /** At once, whatever is under way. */
  end(): void;
}

export interface SimulatedLocalPortOptions {
  readonly clock: ProcessClock;
  readonly random: Random;
  readonly handlers: LocalHandlers;
  /** The longest time that a round of calls takes, in milliseconds. */
  readonly storeMsMax: number;
  readonly coverage: Coverage;
  readonly trace: (text: string) => void;
}

/** Ticks after which a statement is ended: there is no clock, and what a seed does must not hang on one. None of the workload's own comes near it. */
export const ticksMax = 10_000;

/** By count, where there is no thread: a run that is cancelled before it is carried out ends at its first tick. */
function countingWatch(max: number): StatementWatch & { isCancelled: boolean } {
  let count = 0;
  return {
    isCancelled: false,
    begin() {
      count = 0;
    },
    look() {
      if (this.isCancelled) return cancelledFault;
      return ++count > max ? tooLongFault(`${max} ticks`) : null;
    },
  };
}

export function openSimulatedLocalPort(options: SimulatedLocalPortOptions): SimulatedLocalPort {
  const { clock, random, handlers, coverage } = options;
  const watch = countingWatch(ticksMax);
  const store = openSqliteLocalStore(null, undefined, watch);
  let calls: LocalStoreCall[] = [];
  const cancelled = new Set<number>();
  let isBusy = false;
  let isEnded = false;
  const work = (): void => {
    if (isEnded) return;
    isBusy = false;
    const round = calls;
    calls = [];
    const replies: LocalStoreReply[] = [];
    try {
      for (const call of round) {
        if (call.kind === "install" && call.images.length > 0 && store.oldestSnapshot !== null)
          coverage.count("transactions", "kept open: pulled, with what rows were");
        if (call.kind === "run") watch.isCancelled = cancelled.delete(call.id);
        const reply = carryOut(store, call);
        if (reply !== null) replies.push(reply);
      }
    } catch (error) {
      handlers.onFailure(error as Error);
      return;
    }
    for (const reply of replies) {
      countReply(coverage, reply);
      if (!isEnded) handlers.onReply(reply);
    }
    flush();
  };
  const flush = (): void => {
    if (isBusy || isEnded || calls.length === 0) return;
    isBusy = true;
    clock.after(random.integer(Math.round(options.storeMsMax * 1000) + 1) / 1000, work);
  };
  const end = (): void => {
    if (isEnded) return;
    isEnded = true;
    store.close();
  };
  return {
    store,
    get isIdle() {
      return !isBusy && calls.length === 0;
    },
    post: (call) => void calls.push(call),
    flush,
    cancelRun: (run) => void cancelled.add(run),
    describe: async (sql, transaction) => store.describe(sql, transaction),
    tableHash: async (space) => store.tableHash(space),
    end,
    close: async () => end(),
  };
}

function countReply(coverage: Coverage, reply: LocalStoreReply): void {
  if (reply.kind === "installed") coverage.count("stream", "pull chunk");
  if (reply.kind !== "ran") return;
  switch (reply.result.kind) {
    case "done":
      coverage.count("transactions", "running: done");
      break;
    case "pull":
      for (const { ranges } of reply.result.needs)
        coverage.count("transactions", ranges === null ? "running: needs tables" : "running: needs ranges");
      break;
    case "ids":
      coverage.count("transactions", "running: needs ids");
      break;
    case "commit":
      coverage.count("transactions", "running: something to commit");
      break;
    case "open":
      coverage.count("transactions", "running: kept open");
      break;
    case "lost":
      coverage.count("transactions", "kept open: lost");
      break;
  }
}
