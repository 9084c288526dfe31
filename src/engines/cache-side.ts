/** What a Cache does: clients' transactions on its local store, the pulls and id blocks that they need, and what other Caches pull from it. */
import { type Endpoint, noEngine } from "../base/ids.js";
import type { LogEntry } from "../base/log-entry.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import type { EngineMessage } from "../messages/wire/engine-messages.js";
import type { Entry, SplitBody } from "../messages/wire/entry.js";
import { CatalogEviction, knownAtomsMax } from "./catalog-eviction.js";
import { type CatalogNeed, CatalogPulls } from "./catalog-pulls.js";
import type { CoreContext } from "./core-context.js";
import type { CatalogLimits } from "./core-types.js";
import { Eviction } from "./eviction.js";
import { IdBlocks } from "./id-blocks.js";
import { LargeValuePulls } from "./large-value-pulls.js";
import { LocalDriver } from "./local-driver.js";
import type { OriginatorDesk } from "./originator-desk.js";
import type { PastPulls } from "./past-pulls.js";
import { PastReads } from "./past-reads.js";
import type { ProposalQueue } from "./proposal-queue.js";
import { PullManager } from "./pull-manager.js";
import { questionKindOf } from "./pull-questions.js";
import { RowSource } from "./row-source.js";
import { SilentOriginators } from "./silent-originators.js";
import { Transactions } from "./transactions.js";

export class CacheSide {
  readonly local: LocalDriver;
  readonly catalogs: CatalogPulls;
  readonly pulls: PullManager;
  readonly values: LargeValuePulls;
  readonly rows: RowSource;
  readonly ids: IdBlocks;
  readonly past: PastReads;
  readonly transactions: Transactions;
  readonly eviction: Eviction;
  readonly catalogEviction: CatalogEviction;
  /** Something is its own of which it does not know: only a new engine can go on. */
  hasLostTrack = false;
  readonly #context: CoreContext;

  constructor(context: CoreContext, proposals: ProposalQueue, desk: OriginatorDesk, limits: CatalogLimits, memoryBytes = Number.POSITIVE_INFINITY) {
    this.#context = context;
    this.local = new LocalDriver(context);
    this.catalogs = new CatalogPulls(context, limits);
    this.values = new LargeValuePulls(context);
    this.pulls = new PullManager(context, this.local, proposals, this.catalogs, this.values);
    this.rows = new RowSource(context, this.local);
    const silent = new SilentOriginators(context);
    this.ids = new IdBlocks(context, this.local, desk, silent, this.catalogs);
    this.past = new PastReads(context, proposals, this.values);
    this.transactions = new Transactions(context, this.local, proposals, desk, this.catalogs, this.pulls, this.ids, silent, this.past);
    this.eviction = new Eviction(context, this.local, proposals, this.pulls, () => this.transactions.needs(), memoryBytes);
    this.catalogEviction = new CatalogEviction(
      context,
      {
        needs: () => this.#needs(),
        isProposed: (atom) => this.pulls.isProposed(atom),
        mayGiveIds: (atom) => this.ids.mayComeFrom(atom),
      },
      knownAtomsMax(memoryBytes, limits),
      (space) => this.catalogs.forgotten(space),
    );
  }

  *#needs(): Iterable<CatalogNeed> {
    yield* this.transactions.needs();
    yield* this.pulls.needs();
    yield* this.catalogs.needs();
  }

  /** Before the events of the entry go round: what they post must come after it in the local store. */
  onEntry(log: LogEntry, entry: Entry): void {
    this.catalogs.onEntry(log.seq, entry, log.bytes.length);
    if (entry.kind === "proposal" && entry.body.kind === "split" && this.#isUnknownTaker(entry.body)) this.hasLostTrack = true;
    this.local.add(log, entry.kind === "proposal" && (entry.body.kind === "transaction" || entry.body.kind === "split"));
  }

  /** A block of ids that was asked for so long ago that the atom, which it comes from, was forgotten since (catalog-eviction.ts). */
  #isUnknownTaker({ space, atom, pieces, firstTaker }: SplitBody): boolean {
    const { engine, catalog } = this.#context;
    const isTaker = engine !== noEngine && (firstTaker === engine || pieces.some(({ taker }) => taker === engine));
    return isTaker && catalog.schema.tables.has(space) && catalog.atoms.get(pieces[0]?.atom ?? atom) === undefined;
  }

  onEvent(event: CatalogEvent): void {
    this.ids.onEvent(event);
    this.transactions.onEvent(event);
    if (event.kind === "departed") {
      this.pulls.questions.sources.departed(event.member.endpoint);
      this.past.pulls.departed(event.member.endpoint);
      this.values.departed(event.member.endpoint);
      this.rows.departed(event.member.endpoint);
    }
    if (event.kind !== "spaceGone") return;
    this.pulls.spaceGone(event.space);
    this.catalogs.spaceGone(event.space);
  }

  /** After a batch of entries. */
  onApplied(): void {
    this.catalogs.onApplied();
    this.transactions.onApplied();
    this.past.onApplied();
    this.rows.onApplied();
  }

  disconnected(endpoint: Endpoint): void {
    this.catalogs.disconnected(endpoint);
    this.pulls.questions.disconnected(endpoint);
    this.past.pulls.disconnected(endpoint);
    this.values.disconnected(endpoint);
    this.transactions.disconnected(endpoint);
  }

  /** True where the message was one for a Cache. */
  onMessage(from: Endpoint, message: EngineMessage): boolean {
    switch (message.kind) {
      case "permissionReply":
        this.transactions.onReply(from, message);
        return true;
      case "released":
        this.transactions.onReleased(from, message.transaction, message.attempt);
        return true;
      case "catalog":
        this.catalogs.onReply(from, message);
        return true;
      case "pullReply":
        this.#pullsOf(message.pull).onReply(from, message);
        return true;
      case "pullRequest":
        this.rows.onRequest(from, message);
        return true;
      case "pullRefused":
        this.#pullsOf(message.pull).refused(from, message);
        return true;
      default:
        return false;
    }
  }

  #pullsOf(pull: number): PullManager | PastPulls | LargeValuePulls {
    const about = questionKindOf(pull);
    return about === "values" ? this.values : about === "past" ? this.past.pulls : this.pulls;
  }

  tick(): void {
    this.ids.tick();
    this.transactions.tick();
    this.eviction.tick();
    this.catalogEviction.tick();
    this.rows.tick();
    this.past.tick();
  }

  turnEnd(): void {
    this.#context.catalog.forgetDirty();
    this.catalogs.turnEnd();
    this.pulls.turnEnd();
    this.past.pulls.turnEnd();
    this.values.turnEnd();
  }
}
