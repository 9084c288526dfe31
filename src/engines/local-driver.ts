/**
 * The core's end of the local store: what has been posted to it, in order. The store carries out calls one after another, so a run posted
 * after the application of a seq reads at least that seq.
 */
import { asBuffer } from "../base/bytes.js";
import type { EngineId, Life, Seq, SpaceId } from "../base/ids.js";
import type { LogEntry } from "../base/log-entry.js";
import type { PullRequestMessage } from "../messages/wire/engine-messages.js";
import type { IdRange } from "../messages/wire/entry.js";
import type { InstallOutcome, PulledRows, RunRequest, RunResult, Usage } from "../sql/local-store.js";
import { type LocalStoreCall, type LocalStoreReply, runsPostedMax } from "../sql/local-store-calls.js";
import type { CoreContext } from "./core-context.js";
import type { PastId } from "./core-types.js";

/**
 * Entries that nobody here waits for are posted together: so long after the first of them, in milliseconds, or when there are so many bytes. Reason:
 * to wake the store's thread costs more than to apply an entry; whatever reads is posted behind them, so nothing is seen later for it.
 */
const postAfterMs = 10;
const postAfterBytes = 256 * 1024;

/** Entries that the store has not applied, in bytes: beyond it the Cache starts over rather than take memory without bound. */
const waitingBytesMax = 256 * 1024 * 1024;

/** Of a chunk for another Cache; null: it is not held. */
type ChunkDone = (message: Buffer | null) => void;

export interface LocalRun {
  /** null: it waits to be posted. */
  id: number | null;
  readonly request: RunRequest;
  /** null: nobody wanted it any more, and it was not run. */
  readonly done: (result: RunResult | null) => void;
  readonly isWanted: () => boolean;
  /** It is not wanted any more: where it is posted and loops, it is ended. */
  cancel(): void;
}

type InstallDone = (outcome: InstallOutcome) => void;

export class LocalDriver {
  readonly #context: CoreContext;
  #posted: Seq = 0 as Seq;
  #entries: { readonly seq: Seq; readonly bytes: Uint8Array }[] = [];
  /** Batches posted and not answered, and their entries' size. */
  readonly #batches: { readonly through: Seq; readonly byteCount: number }[] = [];
  #addedBytes = 0;
  #addedSinceMs = 0;
  #waitingBytes = 0;
  #through: Seq;
  /** Applied by the store, as it has answered. */
  applied: Seq;
  /** Of its open transactions, as it has answered; null: none is. */
  #oldestOpen: Seq | null = null;
  /** A transaction is open there, or was when it last answered. */
  hasOpen = false;
  readonly #runs = new Map<number, LocalRun>();
  /** Beyond `runsPostedMax` they wait here, so that applies are not queued behind thousands of statements. */
  readonly #queue: LocalRun[] = [];
  #nextRun = 1;
  readonly #installs = new Map<number, InstallDone>();
  #idsTakenBack: ((left: readonly IdRange[]) => void) | null = null;
  readonly #chunks = new Map<number, ChunkDone>();
  readonly #drops = new Map<number, () => void>();
  readonly #usages = new Map<number, (usage: Usage) => void>();
  #nextId = 1;

  /** null: the local store; else one of the past, which stays at the seq that it was opened with (past-reads.ts). */
  readonly #past: PastId | null;

  constructor(context: CoreContext, past: { readonly id: PastId; readonly seq: Seq } | null = null) {
    this.#context = context;
    this.#past = past?.id ?? null;
    this.#through = past?.seq ?? context.appliedSeq;
    if (past !== null) this.#posted = past.seq;
    this.applied = this.#through;
  }

  #call(call: LocalStoreCall): void {
    this.#context.push({ kind: "local", past: this.#past, call });
  }

  /** Runs that are not answered. */
  get runCount(): number {
    return this.#runs.size + this.#queue.length;
  }

  /** Everything that is there is thrown away. */
  reset(seq: Seq, schema: Extract<LocalStoreCall, { kind: "reset" }>["schema"]): void {
    this.#call({ kind: "reset", seq, schema, isPast: this.#past !== null });
  }

  /** A committed entry; posted at a turn's end. `stores`: whether the local store has anything to do for it. */
  add(entry: LogEntry, stores: boolean): void {
    if (this.#through === this.#posted) this.#addedSinceMs = this.#context.nowMs;
    this.#through = entry.seq;
    if (!stores) return;
    this.#entries.push({ seq: entry.seq, bytes: entry.bytes });
    this.#addedBytes += entry.bytes.length;
    this.#waitingBytes += entry.bytes.length;
  }

  /** The store is so far behind the stream that the engine should give it up and start over. */
  get isBehind(): boolean {
    return this.#waitingBytes > waitingBytesMax;
  }

  turnEnd(): void {
    if (this.#addedBytes >= postAfterBytes || this.#context.nowMs - this.#addedSinceMs >= postAfterMs) this.flush();
  }

  /** Posts what was added. Called before anything that must come after it. */
  flush(): void {
    if (this.#through === this.#posted) return;
    this.#posted = this.#through;
    this.#call({ kind: "apply", entries: this.#entries, through: this.#through });
    this.#batches.push({ through: this.#through, byteCount: this.#addedBytes });
    this.#entries = [];
    this.#addedBytes = 0;
  }

  /** `isWanted` is asked when its turn comes. */
  run(request: RunRequest, done: LocalRun["done"], isWanted: () => boolean): LocalRun {
    const run: LocalRun = { id: null, request, done, isWanted, cancel: () => this.#cancel(run) };
    if (this.#runs.size < runsPostedMax) this.#post(run);
    else this.#queue.push(run);
    return run;
  }

  #post(run: LocalRun): void {
    this.flush();
    run.id = this.#nextRun++;
    this.#runs.set(run.id, run);
    this.#call({ kind: "run", id: run.id, request: run.request });
  }

  #cancel({ id }: LocalRun): void {
    if (id !== null && this.#runs.has(id)) this.#context.push({ kind: "cancelRun", past: this.#past, run: id });
  }

  #runNext(): void {
    while (this.#runs.size < runsPostedMax) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      if (next.isWanted()) this.#post(next);
      else next.done(null);
    }
  }

  /** After the runs that were asked for before. */
  endTransaction(transaction: number): void {
    this.#call({ kind: "endTransaction", transaction });
  }

  /** The engine is a member: from here on statements may run. */
  become(engine: EngineId, life: Life): void {
    this.flush();
    this.#call({ kind: "become", engine, life });
  }

  beginHold(space: SpaceId, low: Uint8Array, high: Uint8Array | null): void {
    this.#call({ kind: "beginHold", space, low, high });
  }

  abandonHold(space: SpaceId, low: Uint8Array, high: Uint8Array | null): void {
    this.#call({ kind: "abandonHold", space, low, high });
  }

  /** Once what is posted has reached `seq`, which the rows are of. */
  install(
    space: SpaceId,
    low: Uint8Array,
    high: Uint8Array | null,
    seq: Seq,
    changedSeq: Seq,
    { rows, images, values }: PulledRows,
    done: InstallDone,
  ): void {
    this.flush();
    const id = this.#nextId++;
    this.#installs.set(id, done);
    this.#call({ kind: "install", id, space, low, high, seq, changedSeq, rows, images, values });
  }

  /** A chunk of the range, as of `minSeq` at least, which is applied here. */
  readChunk({ pull, space, low, high, minSeq, bytesMax }: PullRequestMessage, done: ChunkDone): void {
    if (this.#posted < minSeq) this.flush();
    const id = this.#nextId++;
    this.#chunks.set(id, done);
    this.#call({ kind: "readChunk", id, pull, space, low, high, bytesMax });
  }

  /** After what is posted: of the range nothing is here any more. */
  dropRange(space: SpaceId, low: Uint8Array, high: Uint8Array | null, done: () => void): void {
    this.flush();
    const id = this.#nextId++;
    this.#drops.set(id, done);
    this.#call({ kind: "dropRange", id, space, low, high });
  }

  usage(done: (usage: Usage) => void): void {
    const id = this.#nextId++;
    this.#usages.set(id, done);
    this.#call({ kind: "usage", id });
  }

  /** After what is posted: the range is this engine's own from the entry on that was applied last, and has no rows. */
  holdEmpty(space: SpaceId, low: Uint8Array, high: Uint8Array | null): void {
    this.flush();
    this.#call({ kind: "holdEmpty", space, low, high });
  }

  grantIds(space: SpaceId, first: bigint, last: bigint): void {
    this.flush();
    this.#call({ kind: "grantIds", space, first, last });
  }

  /** No statement behind this takes any of the blocks' ids. `done`: what was left of them. */
  takeIdsBack(done: (left: readonly IdRange[]) => void): void {
    this.flush();
    this.#idsTakenBack = done;
    this.#call({ kind: "takeIdsBack" });
  }

  /**
   * The store reads no snapshot below it from here on: what is opened later reads what is applied then. (What was opened since it answered, too: it
   * carries out calls in order.)
   */
  get oldestSnapshot(): Seq {
    return this.#oldestOpen ?? this.applied;
  }

  #answered(oldestOpen: Seq | null): void {
    this.#oldestOpen = oldestOpen;
    this.hasOpen = oldestOpen !== null;
  }

  onReply(reply: LocalStoreReply): void {
    switch (reply.kind) {
      case "ran": {
        const run = this.#runs.get(reply.id);
        this.#runs.delete(reply.id);
        if (reply.result.kind === "open") this.hasOpen = true;
        // To be told what is open still: no entry need follow that would tell it. Before whatever the session does next.
        else if (run?.request.transaction?.resumes === true && hasEnded(reply.result)) this.endTransaction(run.request.transaction.id);
        run?.done(reply.result);
        this.#runNext();
        return;
      }
      case "installed": {
        const done = this.#installs.get(reply.id);
        this.#installs.delete(reply.id);
        done?.(reply.outcome);
        return;
      }
      case "chunk": {
        const done = this.#chunks.get(reply.id);
        this.#chunks.delete(reply.id);
        done?.(reply.message === null ? null : asBuffer(reply.message));
        return;
      }
      case "idsTakenBack":
        this.#idsTakenBack?.(reply.left);
        return;
      case "dropped": {
        const done = this.#drops.get(reply.id);
        this.#drops.delete(reply.id);
        done?.();
        return;
      }
      case "usage": {
        const done = this.#usages.get(reply.id);
        this.#usages.delete(reply.id);
        done?.(reply.usage);
        return;
      }
      case "applied": {
        this.applied = reply.through;
        this.#answered(reply.oldestSnapshot);
        while (this.#batches[0] !== undefined && this.#batches[0].through <= reply.through)
          this.#waitingBytes -= this.#batches.shift()?.byteCount ?? 0;
        return;
      }
      case "transactionEnded":
        this.#answered(reply.oldestSnapshot);
        return;
      case "described":
      case "hashed":
        // Asked around the core, answered around it.
        return;
    }
  }
}

/** The transaction that the run went on in is over. */
function hasEnded({ kind }: RunResult): boolean {
  return kind === "done" || kind === "commit" || kind === "lost";
}
