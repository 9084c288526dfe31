/**
 * Carries clients' batches to their answers: tentative run, permission, proposal, application (design.md §2 "Life of a commit", §6).
 *
 * A batch is a row of units; each unit ends at a commit (an autocommit statement that wrote, or the COMMIT of a BEGIN in the batch). Where a
 * unit stands, and what moves it on:
 *
 * | phase | moves on by | to |
 * |---|---|---|
 * | running | done | answer, or the next unit |
 * | running | needs rows, or ids | fetching, then running |
 * | running | something to commit | asking |
 * | running | the steps end within a transaction | answer; the local store keeps it, for the session's next batch |
 * | running, asking | a record catalog is not here that names the atoms concerned, or that the statement lists | fetching, then as before |
 * | asking | all originators granted, fences still hold | proposed |
 * | asking | a key has changed since the snapshot | running, at that seq at least; permissions are kept |
 * | asking | refused for its age | everything is released; running, after a while, with the same age |
 * | asking | an originator has moved, or departed, or a connection to it has ended | asking, another attempt |
 * | asking | an originator is silent (silent-originators.ts) | asking; the sequencer is told |
 * | proposed | its entry is applied | settling: until it is posted to the local store, with all that is committed with it; then the next unit |
 * | proposed | REFUSED for a fence | asking, another attempt |
 * | proposed | REFUSED for a schema version | running |
 * | proposed | nothing for outcomeDeadlineMs | failed, "outcome unknown"; the proposal stays |
 * | any | the engine starts over | failed; "outcome unknown" where it was proposed |
 *
 * | fetching, asking, resting | its time is over, or its client is gone | everything is released; failed |
 *
 * | running, asking, proposed | as above, where the unit is the end of a transaction that was kept open | what would run again fails as busy: its client has seen what it read |
 *
 * Any other unit never fails for a conflict: it runs again until it succeeds or its time is over. What is proposed has no such end: it is decided by the
 * stream alone. A batch that fails behind units that are committed says so, step by step.
 */
import type { PermissionRequest } from "../atoms/permission-table.js";
import type { Endpoint, EngineId, Seq } from "../base/ids.js";
import { entryBytesMax } from "../base/limits.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import type { PermissionReplyMessage } from "../messages/wire/engine-messages.js";
import type { Fence, RefusalReason } from "../messages/wire/entry.js";
import type { AsOf, PullNeed, RunResult, SessionSettings, SqlFault, Step, StepOutcome } from "../sql/local-store.js";
import type { Batch, ListedTransaction, OpenTransaction, Unit } from "./batch.js";
import type { CatalogNeed, CatalogPulls } from "./catalog-pulls.js";
import { conflictText, isOvertaken } from "./conflict-text.js";
import type { CoreContext } from "./core-context.js";
import type { BatchAnswer } from "./core-types.js";
import type { IdBlocks } from "./id-blocks.js";
import type { LocalDriver } from "./local-driver.js";
import type { DeskOutcome, OriginatorDesk } from "./originator-desk.js";
import type { PastReads } from "./past-reads.js";
import { isTooLarge, lackingFor, mayShareAnEntry, permissionGroups } from "./permission-groups.js";
import type { ProposalQueue } from "./proposal-queue.js";
import type { PullManager } from "./pull-manager.js";
import { Releases } from "./releases.js";
import type { SilentOriginators } from "./silent-originators.js";

/** Batches under way; more are refused as overload. */
export const batchesMax = 16_384;
/** A unit that has not been proposed after this fails as busy, its first run and what it fetched not counted; and one that fetches when nothing has come for so long. Milliseconds. */
const unitDeadlineMs = 30_000;
/** A unit whose proposal is undecided for so long is told as "outcome unknown". Milliseconds. */
const outcomeDeadlineMs = 30_000;
/** A transaction that is left open, and that nobody goes on in for so long, is rolled back. Milliseconds. Servers end their idle streams sooner. */
const openIdleMs = 60_000;
/** An originator that has not answered is asked again. Milliseconds. */
const askAgainMs = 500;
/** Runs of one unit that asked for rows or ids in a row: beyond it the store and the catalog disagree. */
const fetchesInARowMax = 50;
/** Likewise, after which tables are taken whole: keys that come out one after another, each in an atom of its own. */
const narrowFetchesMax = 16;

/** Statements that name `system.atoms`, or count atoms, and a few that do not. */
const namesAtoms = /\bsystem\b[\s\S]*\batoms\b|^\s*explain\s+pull\b/i;

function isSame(left: AsOf, right: AsOf | undefined): boolean {
  return right !== undefined && "seq" in left && "seq" in right && left.seq === right.seq;
}

export class Transactions {
  readonly #context: CoreContext;
  readonly #local: LocalDriver;
  readonly #proposals: ProposalQueue;
  readonly #desk: OriginatorDesk;
  readonly #catalogs: CatalogPulls;
  readonly #pulls: PullManager;
  readonly #ids: IdBlocks;
  readonly #past: PastReads;
  readonly #batches = new Map<number, Batch>();
  readonly #byTransaction = new Map<number, Batch>();
  readonly #resting = new Set<Batch>();
  /** Transactions that sessions have left open and are not at work in. As many as the local store keeps, at most. */
  readonly #open = new Map<number, OpenTransaction>();
  readonly #releases: Releases;
  readonly #silent: SilentOriginators;
  /** Units whose entries are applied within the batch of entries that is under way. */
  readonly #settling: (() => void)[] = [];
  #nextTransaction = 1;
  #nextLookMs = 0;
  /** Chunks and parts pulled, as seen last, and since when there are so many. */
  #chunks = 0;
  #chunksSinceMs = 0;
  readonly #reaching = new Map<Batch, { readonly seq: Seq; readonly then: () => void }>();
  /** `pulled`: of the units, those that had to pull. */
  readonly counters = { units: 0, pulled: 0, commits: 0, conflicts: 0, tooYoung: 0, refused: 0, moved: 0 };

  constructor(
    context: CoreContext,
    local: LocalDriver,
    proposals: ProposalQueue,
    desk: OriginatorDesk,
    catalogs: CatalogPulls,
    pulls: PullManager,
    ids: IdBlocks,
    silent: SilentOriginators,
    past: PastReads,
  ) {
    this.#past = past;
    this.#context = context;
    this.#silent = silent;
    this.#releases = new Releases(context);
    this.#local = local;
    this.#proposals = proposals;
    this.#desk = desk;
    this.#catalogs = catalogs;
    this.#pulls = pulls;
    this.#ids = ids;
  }

  get count(): number {
    return this.#batches.size;
  }

  /** Releases that no originator has acknowledged yet. */
  get releaseCount(): number {
    return this.#releases.count;
  }

  /** Units rest for a few milliseconds. */
  get isResting(): boolean {
    return this.#resting.size > 0;
  }

  /** `open`: the session's transaction that was left open; null: none is. */
  begin(request: number, steps: readonly Step[], settings: SessionSettings, open: number | null): void {
    const kept = open === null ? null : (this.#open.get(open) ?? null);
    if (open !== null) this.#open.delete(open);
    const refusal = this.#whyNotNow();
    if (refusal !== null) {
      // Its session counts it as over, as after any request that failed.
      if (open !== null) this.#endTransaction(open);
      this.#answer(request, refusal);
      return;
    }
    const listsAtoms = steps.some(({ sql }) => namesAtoms.test(sql));
    const batch: Batch = {
      request,
      transaction: open ?? request,
      resumes: open !== null,
      open: kept,
      steps,
      outcomes: [],
      settings,
      cancelled: false,
      listsAtoms,
      committedUnits: 0,
      unit: null,
    };
    this.#batches.set(request, batch);
    this.#nextUnit(batch);
  }

  #whyNotNow(): BatchAnswer | null {
    if (this.#context.engine === 0)
      return { kind: "failed", code: "ATOMCAST_UNAVAILABLE", message: "this engine is not a member of the database yet" };
    if (this.#batches.size < batchesMax) return null;
    return { kind: "failed", code: "ATOMCAST_OVERLOAD", message: `${batchesMax} batches are under way on this engine already` };
  }

  listOpen(): ListedTransaction[] {
    const idle = [...this.#open].map(([id, { beganMs, leftMs, summary }]) => ({
      id,
      beganMs,
      idleSinceMs: leftMs,
      expiresMs: leftMs + openIdleMs,
      summary,
    }));
    const running = [...this.#batches.values()].flatMap(({ transaction: id, resumes, open }) =>
      resumes && open !== null ? [{ id, beganMs: open.beganMs, idleSinceMs: null, expiresMs: null, summary: open.summary }] : [],
    );
    return [...idle, ...running].sort((left, right) => left.beganMs - right.beganMs || left.id - right.id);
  }

  /** Of those that have a snapshot, the one with the oldest. */
  oldestOpen(): ListedTransaction | null {
    let oldest: ListedTransaction | null = null;
    for (const one of this.listOpen())
      if (one.summary.snapshot !== null && one.summary.snapshot < (oldest?.summary.snapshot ?? Number.POSITIVE_INFINITY)) oldest = one;
    return oldest;
  }

  /** A session ends with its transaction open, or leaves it alone for too long. */
  endOpen(transaction: number): void {
    this.#open.delete(transaction);
    this.#endTransaction(transaction);
  }

  cancel(request: number): void {
    const batch = this.#batches.get(request);
    if (batch === undefined) return;
    batch.cancelled = true;
    if (batch.unit?.run != null) batch.unit.run.cancel();
    if (batch.unit !== null && this.#isOverdue(batch, batch.unit)) this.#giveUp(batch, batch.unit);
  }

  #answer(request: number, answer: BatchAnswer): void {
    this.#context.push({ kind: "answer", request, answer });
  }

  #end(batch: Batch, answer: BatchAnswer): void {
    this.#batches.delete(batch.request);
    this.#resting.delete(batch);
    this.#reaching.delete(batch);
    if (batch.unit !== null) this.#byTransaction.delete(batch.unit.transaction);
    batch.unit = null;
    this.#answer(batch.request, answer);
  }

  #nextUnit(batch: Batch): void {
    const { nowMs, engine, random } = this.#context;
    const transaction = this.#nextTransaction++;
    this.counters.units++;
    if (batch.unit !== null) this.#byTransaction.delete(batch.unit.transaction);
    batch.unit = {
      transaction,
      age: { beginMs: nowMs, engine, counter: transaction },
      firstStep: batch.outcomes.length,
      seed: random.integer(2 ** 31),
      beganMs: nowMs,
      phaseSinceMs: 0,
      attempt: 0,
      fetches: 0,
      needs: [],
      asked: new Set(),
      isGranted: false,
      run: null,
      phase: "running",
      pending: new Map(),
      isFinal: false,
      fences: [],
      result: null,
      restUntilMs: 0,
    };
    this.#byTransaction.set(transaction, batch);
    this.#run(batch, batch.unit);
  }

  #run(batch: Batch, unit: Unit): void {
    if (batch.cancelled || this.#context.nowMs - unit.beganMs > unitDeadlineMs) {
      this.#giveUp(batch, unit);
      return;
    }
    const { atoms } = this.#context.catalog;
    if (batch.listsAtoms && atoms.lacking().size > 0) {
      const needs = [...atoms.lacking()].map((space): CatalogNeed => ({ space, ranges: null }));
      this.#fetchCatalogs(batch, unit, needs, () => this.#run(batch, unit));
      return;
    }
    unit.phase = "running";
    unit.phaseSinceMs = this.#context.nowMs;
    const request = {
      steps: batch.steps,
      firstStep: unit.firstStep,
      earlier: batch.outcomes.map((outcome) => outcome.kind),
      settings: batch.settings,
      seed: unit.seed,
      transaction: { id: batch.transaction, resumes: batch.resumes },
    };
    const done = (result: RunResult | null): void => {
      if (batch.unit !== unit) return;
      if (result === null) this.#giveUp(batch, unit);
      else this.#ran(batch, unit, result);
    };
    const store = this.#storeFor(batch, unit);
    if (store !== null) unit.run = store.run(request, done, () => batch.unit === unit && !batch.cancelled);
  }

  /** Where the unit runs. null: its store of the past is opened first; then it runs. */
  #storeFor(batch: Batch, unit: Unit): LocalDriver | null {
    const { asOf } = batch.settings;
    if (asOf === undefined) return this.#local;
    const open = this.#past.storeOf(asOf);
    if (open !== undefined) return open.driver;
    this.#openPast(batch, unit, asOf, (outcome) => {
      if ("code" in outcome) this.#fail(batch, unit, outcome.code, outcome.message);
      else this.#run(batch, unit);
    });
    return null;
  }

  #openPast(batch: Batch, unit: Unit, asOf: AsOf, then: (outcome: { readonly seq: Seq } | SqlFault) => void): void {
    unit.phase = "fetching";
    unit.phaseSinceMs = this.#context.nowMs;
    this.#past.open(asOf, (outcome) => {
      if (batch.unit !== unit) return;
      unit.beganMs += this.#context.nowMs - unit.phaseSinceMs;
      then(outcome);
    });
  }

  /** The session's last statement was a PRAGMA atomcast.as_of: what stands against it is its error, and the session stays where it was. */
  #enterPast(batch: Batch, unit: Unit, asOf: AsOf, { outcomes, nextStep, settings }: Extract<RunResult, { kind: "done" }>): void {
    this.#openPast(batch, unit, asOf, (outcome) => {
      if (!("code" in outcome)) this.#advance(batch, outcomes, nextStep, { ...settings, asOf: { seq: outcome.seq } });
      else this.#advance(batch, [...outcomes.slice(0, -1), { kind: "error", fault: outcome }], nextStep, batch.settings);
    });
  }

  #endTransaction(transaction: number): void {
    if (!this.#past.endTransaction(transaction)) this.#local.endTransaction(transaction);
  }

  #giveUp(batch: Batch, unit: Unit): void {
    const seconds = unitDeadlineMs / 1000;
    if (batch.cancelled) this.#fail(batch, unit, "ATOMCAST_CANCELLED", "the request was given up by its client");
    else if (unit.phase === "fetching")
      this.#fail(
        batch,
        unit,
        "ATOMCAST_UNAVAILABLE",
        `nothing of what the statement needs has come for ${seconds} s; is a majority of the Archives up?`,
      );
    else this.#fail(batch, unit, "SQLITE_BUSY", `database is locked: the statement met conflicting changes for ${seconds} s`);
  }

  /** Nothing of the unit is or will be in the stream. What the units before it have done is: their outcomes are told. */
  #fail(batch: Batch, unit: Unit, code: string, message: string): void {
    this.#release(unit);
    if (batch.resumes) this.#endTransaction(batch.transaction);
    if (batch.committedUnits === 0) {
      this.#end(batch, { kind: "failed", code, message });
      return;
    }
    batch.outcomes.push({ kind: "error", fault: { code, message, offset: -1 } });
    while (batch.outcomes.length < batch.steps.length) batch.outcomes.push({ kind: "skipped" });
    this.#end(batch, { kind: "done", outcomes: batch.outcomes, settings: batch.settings, open: null });
  }

  /** A transaction that was kept open is over. What was to follow in it must not run outside of it. */
  #lose(batch: Batch, unit: Unit, outcomes: readonly StepOutcome[], fault: SqlFault): void {
    this.#release(unit);
    for (const outcome of outcomes) batch.outcomes.push(outcome);
    while (batch.outcomes.length < batch.steps.length) batch.outcomes.push({ kind: "error", fault });
    this.#end(batch, { kind: "done", outcomes: batch.outcomes, settings: batch.settings, open: null });
  }

  /** What cannot run again ends at its COMMIT. */
  #conflicts(batch: Batch, unit: Unit): void {
    const { catalog, recent } = this.#context;
    const why = unit.result === null ? "" : conflictText(catalog, recent, unit.result.changes, unit.result.snapshot);
    const before = unit.result?.outcomes.slice(0, -1) ?? [];
    this.#lose(batch, unit, before, { code: "SQLITE_BUSY_SNAPSHOT", message: `database is locked: ${why}; begin it again`, offset: -1 });
  }

  #ran(batch: Batch, unit: Unit, result: RunResult): void {
    if (unit.attempt === 0) unit.beganMs += this.#context.nowMs - unit.phaseSinceMs;
    if (batch.settings.asOf !== undefined && result.kind !== "pull")
      this.#past.noteTransaction(batch.settings.asOf, batch.transaction, result.kind === "open");
    switch (result.kind) {
      case "done":
        this.#release(unit);
        if (result.settings.asOf !== undefined && !isSame(result.settings.asOf, batch.settings.asOf)) {
          this.#enterPast(batch, unit, result.settings.asOf, result);
          return;
        }
        this.#advance(batch, result.outcomes, result.nextStep, result.settings);
        return;
      case "open":
        this.#release(unit);
        for (const outcome of result.outcomes) batch.outcomes.push(outcome);
        this.#open.set(batch.transaction, {
          beganMs: batch.open?.beganMs ?? unit.age.beginMs,
          leftMs: this.#context.nowMs,
          summary: result.summary,
        });
        this.#end(batch, { kind: "done", outcomes: batch.outcomes, settings: result.settings, open: batch.transaction });
        return;
      case "lost":
        batch.settings = result.settings;
        this.#lose(batch, unit, result.outcomes, result.fault);
        return;
      case "pull":
      case "ids":
        this.#fetch(batch, unit, result);
        return;
      case "commit":
        unit.fetches = 0;
        unit.isFinal = batch.resumes;
        unit.result = result;
        if (isOvertaken(this.#context.recent, result.changes)) this.#conflicts(batch, unit);
        else this.#ask(batch, unit, result);
        return;
    }
  }

  #advance(batch: Batch, outcomes: readonly StepOutcome[], nextStep: number, settings: SessionSettings): void {
    for (const outcome of outcomes) batch.outcomes.push(outcome);
    batch.settings = settings;
    batch.resumes = false;
    if (nextStep < batch.steps.length || settings.isBegun === true) this.#nextUnit(batch);
    else this.#end(batch, { kind: "done", outcomes: batch.outcomes, settings, open: null });
  }

  #fetch(batch: Batch, unit: Unit, result: Extract<RunResult, { kind: "pull" | "ids" }>): void {
    if (++unit.fetches > fetchesInARowMax) {
      this.#fail(batch, unit, "ATOMCAST_UNAVAILABLE", "the rows that the statement needs could not be held; try again");
      return;
    }
    if (result.kind === "ids" && this.#ids.isExhausted(result.table)) {
      this.#fail(batch, unit, "SQLITE_FULL", "database or disk is full: the table's ids have reached 9223372036854775807; name an id that is free");
      return;
    }
    unit.phase = "fetching";
    unit.phaseSinceMs = this.#context.nowMs;
    const again = (): void => {
      if (batch.unit !== unit) return;
      unit.beganMs += this.#context.nowMs - unit.phaseSinceMs;
      this.#run(batch, unit);
    };
    const isPatient = unit.fetches <= narrowFetchesMax;
    if (result.kind === "pull") {
      if (batch.settings.asOf !== undefined) {
        this.#fetchPast(batch, unit, batch.settings.asOf, result.needs, again);
        return;
      }
      const whole = (): PullNeed[] => result.needs.map(({ space, indexOf }) => ({ space: indexOf ?? space, ranges: null }));
      this.#pull(unit, isPatient ? result.needs : whole(), again);
    } else this.#ids.want(result.table, again, unit.fetches);
  }

  #fetchPast(batch: Batch, unit: Unit, asOf: AsOf, needs: readonly PullNeed[], again: () => void): void {
    const store = this.#past.storeOf(asOf);
    // Closed meanwhile: the run opens it.
    if (store === undefined) again();
    else
      this.#past.ensure(store, needs, unit.fetches === 1, (reason) => {
        if (reason === null) again();
        else if (batch.unit === unit) this.#fail(batch, unit, reason.code, reason.message);
      });
  }

  #pull(unit: Unit, needs: readonly PullNeed[], then: () => void): void {
    if (unit.needs.length === 0) this.counters.pulled++;
    unit.needs.push(...needs);
    this.#pulls.ensure(needs, (all) => {
      unit.needs.push(...all.filter((need) => !needs.includes(need)));
      then();
    });
  }

  /** What units under way have pulled. */
  *needs(): Iterable<PullNeed> {
    for (const { unit } of this.#byTransaction.values()) if (unit !== null) yield* unit.needs;
  }

  #fetchCatalogs(batch: Batch, unit: Unit, needs: readonly CatalogNeed[], then: () => void): void {
    unit.phase = "fetching";
    unit.phaseSinceMs = this.#context.nowMs;
    this.#catalogs.ensure(needs, () => {
      if (batch.unit !== unit) return;
      unit.beganMs += this.#context.nowMs - unit.phaseSinceMs;
      then();
    });
  }

  /** Asks every originator concerned at once. */
  #ask(batch: Batch, unit: Unit, result: Extract<RunResult, { kind: "commit" }>): void {
    if (isTooLarge(result.changes, 0)) {
      this.#fail(batch, unit, "SQLITE_TOOBIG", `the transaction's changes are larger than ${entryBytesMax >> 20} MiB`);
      return;
    }
    const lacking = lackingFor(this.#context.catalog, result.changes);
    if (lacking.length > 0) {
      this.#fetchCatalogs(batch, unit, lacking, () => this.#askAgain(batch, unit));
      return;
    }
    const groups = permissionGroups(this.#context.catalog, result.changes);
    if (groups === null) {
      // An originator is unknown (none lives just now): the next LEAVE or BOOT will name one.
      this.#rest(batch, unit, 5 + this.#context.random.integer(20));
      return;
    }
    unit.phase = "asking";
    unit.attempt++;
    unit.pending.clear();
    // What the one that it asks has granted, and the answer was lost, that one knows.
    const mayHold = unit.isGranted || groups.size > 1 || [...unit.asked].some((engine) => !groups.has(engine));
    const fences: Fence[] = [];
    for (const group of groups.values()) fences.push(...group.fences);
    unit.fences = fences;
    for (const engine of groups.keys()) {
      unit.pending.set(engine, this.#context.nowMs);
      unit.asked.add(engine);
    }
    const { attempt } = unit;
    for (const [engine, group] of groups) {
      const request: PermissionRequest = {
        engine: this.#context.engine,
        transaction: unit.transaction,
        attempt,
        age: unit.age,
        snapshot: result.snapshot,
        items: group.items,
        wholeSpaces: group.wholeSpaces,
        holdsNothing: !mayHold,
      };
      if (engine === this.#context.engine) {
        this.#desk.ask(request, group.fences, (outcome) => {
          if (batch.unit === unit && unit.attempt === attempt) this.#answered(batch, unit, engine, outcome);
        });
      } else this.#send(engine, request, group.fences);
      if (batch.unit !== unit || unit.attempt !== attempt || unit.phase !== "asking") return;
    }
    if (groups.size === 0) this.#propose(batch, unit, result);
  }

  #send(engine: EngineId, request: PermissionRequest, fences: readonly Fence[]): void {
    const to = this.#context.endpointOf(engine);
    if (to === null) return;
    this.#silent.asked(engine);
    const { transaction, attempt, age, snapshot, items, wholeSpaces, holdsNothing } = request;
    this.#context.send(to, {
      kind: "permissionRequest",
      engine: request.engine,
      transaction,
      attempt,
      ageBeginMs: age.beginMs,
      ageCounter: age.counter,
      snapshot,
      applied: this.#context.position,
      holdsNothing,
      fences,
      items,
      wholeSpaces,
    });
  }

  onReply(from: Endpoint, message: PermissionReplyMessage): void {
    this.#silent.heardFrom(from);
    // Who answers this engine has applied its BOOT. What is older was meant for the one that it was before, whose transactions had the same numbers.
    if (message.applied.seq < this.#context.engine) return;
    const batch = this.#byTransaction.get(message.transaction);
    const unit = batch?.unit;
    if (batch === undefined || unit == null || unit.attempt !== message.attempt || unit.phase !== "asking") return;
    for (const engine of unit.pending.keys()) {
      if (this.#context.endpointOf(engine) !== from) continue;
      const outcome: DeskOutcome =
        message.outcome === "conflict" || message.outcome === "moved" ? { kind: message.outcome, reach: message.reach } : { kind: message.outcome };
      this.#answered(batch, unit, engine, outcome);
      return;
    }
  }

  #answered(batch: Batch, unit: Unit, engine: EngineId, outcome: DeskOutcome): void {
    if (outcome.kind === "waits" || !unit.pending.delete(engine) || unit.phase !== "asking" || unit.result === null) return;
    if (outcome.kind === "granted" || outcome.kind === "conflict") unit.isGranted = true;
    switch (outcome.kind) {
      case "granted":
        if (unit.pending.size === 0) this.#propose(batch, unit, unit.result);
        return;
      case "conflict":
        this.counters.conflicts++;
        this.#whenReached(batch, unit, outcome.reach, () => {
          if (unit.isFinal) this.#conflicts(batch, unit);
          else this.#run(batch, unit);
        });
        return;
      case "moved":
        this.counters.moved++;
        this.#whenReached(batch, unit, outcome.reach, () => {
          // Where nothing has changed here either, asking at once would go round in a circle.
          if (unit.fences.every((fence) => this.#context.catalog.fenceHolds(fence))) this.#rest(batch, unit, 2 + this.#context.random.integer(10));
          else this.#askAgain(batch, unit);
        });
        return;
      case "tooYoung":
        this.counters.tooYoung++;
        this.#release(unit);
        this.#rest(batch, unit, 1 + this.#context.random.integer(10));
        return;
    }
  }

  #askAgain(batch: Batch, unit: Unit): void {
    if (unit.result === null) this.#run(batch, unit);
    else if (this.#context.nowMs - unit.beganMs > unitDeadlineMs) this.#giveUp(batch, unit);
    else this.#ask(batch, unit, unit.result);
  }

  /** Once the catalog has applied `seq`: what is posted to the local store afterwards reads it. */
  #whenReached(batch: Batch, unit: Unit, seq: Seq, then: () => void): void {
    unit.phase = "resting";
    if (seq <= this.#context.appliedSeq) then();
    else this.#reaching.set(batch, { seq, then });
  }

  #rest(batch: Batch, unit: Unit, forMs: number): void {
    unit.phase = "resting";
    unit.restUntilMs = this.#context.nowMs + forMs;
    this.#resting.add(batch);
  }

  #propose(batch: Batch, unit: Unit, result: Extract<RunResult, { kind: "commit" }>): void {
    if (this.#proposals.isFull) {
      this.#rest(batch, unit, 5);
      return;
    }
    if (batch.cancelled) {
      this.#giveUp(batch, unit);
      return;
    }
    if (!unit.fences.every((fence) => this.#context.catalog.fenceHolds(fence))) {
      this.#askAgain(batch, unit);
      return;
    }
    if (isTooLarge(result.changes, unit.fences.length)) {
      this.#fail(batch, unit, "SQLITE_TOOBIG", `the transaction's changes are larger than ${entryBytesMax >> 20} MiB with all that they rely on`);
      return;
    }
    unit.phase = "proposed";
    unit.phaseSinceMs = this.#context.nowMs;
    this.#proposals.join({
      transaction: unit.transaction,
      snapshot: result.snapshot,
      fences: unit.fences,
      schemaVersions: result.changes.schemaVersions,
      body: result.changes.body,
      mayJoin: mayShareAnEntry(result.changes),
      onDecided: (outcome) => this.#decided(batch, unit, outcome, result),
    });
  }

  #decided(batch: Batch, unit: Unit, outcome: "applied" | RefusalReason, result: Extract<RunResult, { kind: "commit" }>): void {
    // Its entry ends what it was granted by those who were asked last. To others a request may still be on its way, and nothing else would end what they grant.
    if (outcome === "applied") for (const { originator } of unit.fences) unit.asked.delete(originator);
    if (batch.unit !== unit) {
      // Its client was told that the outcome is unknown. It is known now, and nobody asks for it any more.
      this.#release(unit);
      return;
    }
    if (outcome === "applied") {
      this.#release(unit);
      this.counters.commits++;
      batch.committedUnits++;
      unit.phase = "settling";
      this.#byTransaction.delete(unit.transaction);
      this.#settling.push(() => {
        if (batch.unit === unit) this.#advance(batch, result.outcomes, result.nextStep, result.settings);
      });
      return;
    }
    this.counters.refused++;
    if (outcome === "fence") this.#askAgain(batch, unit);
    else if (unit.isFinal && outcome !== "malformed") this.#conflicts(batch, unit);
    else if (outcome === "malformed") this.#fail(batch, unit, "ATOMCAST_REFUSED", "the sequencer could not read the proposal");
    else this.#run(batch, unit);
  }

  /** Gives back every permission of the unit, at every originator that may have granted one. */
  #release(unit: Unit): void {
    const { engine } = this.#context;
    for (const originator of unit.asked) {
      if (originator === engine) this.#desk.release(engine, unit.transaction, unit.attempt);
      else this.#releases.add(originator, unit.transaction, unit.attempt);
    }
    unit.asked.clear();
    unit.isGranted = false;
    unit.pending.clear();
  }

  onReleased(from: Endpoint, transaction: number, attempt: number): void {
    this.#releases.acknowledged(from, transaction, attempt);
  }

  onEvent(event: CatalogEvent): void {
    if (event.kind === "moved") this.#moved(event.from);
    if (event.kind !== "departed") return;
    const gone = event.member.id;
    this.#releases.departed(gone);
    this.#silent.departed(gone);
    for (const batch of [...this.#byTransaction.values()]) {
      const unit = batch.unit;
      if (unit === null || !unit.asked.delete(gone)) continue;
      // Its permissions are void with it. What is proposed already meets the fence at the sequencer.
      if (unit.phase === "asking") this.#askAgain(batch, unit);
    }
  }

  /** Who waits for an answer of a former originator asks the next one. */
  #moved(from: EngineId): void {
    const { catalog, engine } = this.#context;
    if (from === engine) return;
    for (const batch of [...this.#byTransaction.values()]) {
      const { unit } = batch;
      if (unit?.phase !== "asking" || !unit.pending.has(from)) continue;
      if (!unit.fences.every((fence) => catalog.fenceHolds(fence))) this.#askAgain(batch, unit);
    }
  }

  /** What was on its way is lost: asked again, at the next look. */
  disconnected(endpoint: Endpoint): void {
    for (const member of this.#context.catalog.members.values()) {
      if (member.endpoint !== endpoint) continue;
      this.#silent.disconnected(member.id);
      for (const { unit } of this.#byTransaction.values())
        if (unit?.pending.has(member.id) === true) unit.pending.set(member.id, Number.NEGATIVE_INFINITY);
    }
  }

  /**
   * After a batch of entries is applied here. What they store is posted to the local store before anybody is answered: whatever a client asks next
   * is posted behind it, and so sees it.
   */
  onApplied(): void {
    if (this.#settling.length > 0) {
      this.#local.flush();
      for (const advance of this.#settling.splice(0)) advance();
    }
    if (this.#reaching.size === 0) return;
    for (const [batch, { seq, then }] of [...this.#reaching]) {
      if (seq > this.#context.appliedSeq) continue;
      this.#reaching.delete(batch);
      if (batch.unit !== null) then();
    }
  }

  tick(): void {
    const { nowMs } = this.#context;
    for (const batch of [...this.#resting]) {
      const unit = batch.unit;
      if (unit === null || nowMs < unit.restUntilMs) continue;
      this.#resting.delete(batch);
      if (unit.asked.size > 0 || unit.isFinal) this.#askAgain(batch, unit);
      else this.#run(batch, unit);
    }
    if (nowMs < this.#nextLookMs) return;
    this.#nextLookMs = nowMs + 100;
    const chunks = this.#pulls.counters.chunks + this.#past.pulls.counters.chunks + this.#catalogs.counters.parts;
    if (chunks !== this.#chunks) [this.#chunks, this.#chunksSinceMs] = [chunks, nowMs];
    this.#releases.tick();
    for (const [transaction, { leftMs }] of this.#open) if (nowMs - leftMs > openIdleMs) this.endOpen(transaction);
    for (const batch of [...this.#byTransaction.values()]) {
      const unit = batch.unit;
      if (unit !== null && this.#isOverdue(batch, unit)) this.#giveUp(batch, unit);
      else if (unit?.phase === "proposed" && nowMs - unit.phaseSinceMs > outcomeDeadlineMs) this.#endUnknown(batch);
      else if (unit?.phase === "asking") this.#askWhoIsSilent(batch, unit);
    }
    this.#silent.tell();
  }

  /** The proposal stays, with its permissions, until it is decided: it may be in the stream already, or come to be. */
  #endUnknown(batch: Batch): void {
    const message = `outcome unknown: the stream has not decided it for ${outcomeDeadlineMs / 1000} s (is a majority of the Archives up?); read before trying again`;
    this.#end(batch, { kind: "failed", code: "ATOMCAST_OUTCOME_UNKNOWN", message });
  }

  #isOverdue(batch: Batch, unit: Unit): boolean {
    const { nowMs } = this.#context;
    switch (unit.phase) {
      case "fetching":
        return batch.cancelled || nowMs - Math.max(unit.phaseSinceMs, this.#chunksSinceMs) > unitDeadlineMs;
      case "asking":
      case "resting":
        return batch.cancelled || nowMs - unit.beganMs > unitDeadlineMs;
      default:
        return false;
    }
  }

  #askWhoIsSilent(batch: Batch, unit: Unit): void {
    for (const engine of unit.pending.keys()) {
      if (!this.#silent.isSilent(engine)) continue;
      for (const fence of unit.fences) if (fence.originator === engine) this.#silent.accuse(fence);
    }
    for (const askedMs of unit.pending.values()) {
      if (this.#context.nowMs - askedMs <= askAgainMs) continue;
      this.#askAgain(batch, unit);
      return;
    }
  }

  /** The engine starts over: what was proposed may or may not be in the stream; the rest certainly is not. */
  failAll(reason: string): void {
    for (const batch of [...this.#batches.values()]) {
      // A unit that is committed, and only settles, or that others follow, is in the stream for certain: "nothing was changed" would be a lie.
      const unknown = batch.unit?.phase === "proposed" || batch.committedUnits > 0;
      this.#end(batch, {
        kind: "failed",
        code: unknown ? "ATOMCAST_OUTCOME_UNKNOWN" : "ATOMCAST_UNAVAILABLE",
        message: unknown ? `outcome unknown: ${reason}; read before trying again` : `nothing was changed: ${reason}; try again`,
      });
    }
  }
}
