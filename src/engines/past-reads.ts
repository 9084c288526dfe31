/**
 * Reads of the past (`PRAGMA atomcast.as_of`). A session that reads as of a seq does so in a store of its own kind: another SQLite beside the local one, empty at first, that stays at
 * that seq and takes rows as they were then from Archives (past-pulls.ts). Planner, pulls by need and SQL are those of the local store; nothing is rewound,
 * no change is applied, and sessions of one seq share one store.
 *
 * | label | when | then |
 * |---|---|---|
 * | not come | the seq is not applied here, or the time is not stamped after a stamp was asked for | refused |
 * | gone | the low-water mark has passed the seq, or the time | refused |
 * | pin | no PIN of this engine in the stream is low enough | a PIN is proposed; one is under way at a time, of the lowest seq that is read here |
 * | time | the time names no seq yet (catalog/stamps.ts) | the PIN asks for a stamp, and is proposed again where none comes |
 * | schema | more of the schema has been altered or dropped since than is kept | refused |
 * | open | the PIN is applied | the store begins, with the schema of that seq (catalog/former-objects.ts) |
 * | full | too many other stores are in use | refused; one that nobody uses is closed for it |
 * | idle | nobody has used the store for idleMs, and no transaction is open in it | it is closed; a session that comes back opens another, if the mark allows |
 * | large | pulled rows exceed bytesMax | emptied before a statement's first pull, refused at a later one |
 * | unpin | the lowest seq that is read here has changed | PIN of the new one, or of none |
 */
import { timeText } from "../base/history.js";
import { noSeq, type Seq } from "../base/ids.js";
import { formerBytesMax, formerCountMax } from "../catalog/former-objects.js";
import type { SchemaRecord } from "../catalog/schema-record.js";
import { encodeBody } from "../messages/wire/entry.js";
import type { AsOf, PullNeed, SqlFault } from "../sql/local-store.js";
import type { CoreContext } from "./core-context.js";
import type { PastId } from "./core-types.js";
import type { LargeValuePulls } from "./large-value-pulls.js";
import { LocalDriver } from "./local-driver.js";
import { PastPulls, type PastSource } from "./past-pulls.js";
import type { ProposalQueue } from "./proposal-queue.js";

/** Seqs of the past that are read here at once: each has a thread and a SQLite of its own. */
export const pastStoresMax = 4;
/** A store is closed, and its seq pinned no more, when nobody has used it for so long. Milliseconds. */
export const idleMs = 60_000;
/** Keys and rows pulled into one store. */
const bytesMax = 256 * 1024 * 1024;
/** A stamp that was asked for has not come. Milliseconds. */
const stampAgainMs = 1000;
/** What is opened waits so long for PIN and stamp. Milliseconds. */
const openTimeoutMs = 20_000;

interface PastStore extends PastSource {
  readonly id: PastId;
  /** As it was then. */
  readonly schema: readonly SchemaRecord[];
  usedMs: number;
  /** Open between two requests. */
  readonly transactions: Set<number>;
}

interface Opening {
  readonly asOf: AsOf;
  readonly sinceMs: number;
  /** A PIN that is low enough is applied; a stamp after it tells what time it was. */
  pinnedAt: Seq | null;
  readonly then: (outcome: PastStore | SqlFault) => void;
}

export class PastReads {
  readonly pulls: PastPulls;
  readonly #context: CoreContext;
  readonly #proposals: ProposalQueue;
  readonly #stores = new Map<Seq, PastStore>();
  #openings: Opening[] = [];
  #isPinning = false;
  #pinnedMs = Number.NEGATIVE_INFINITY;
  #nextId: PastId = 1;

  constructor(context: CoreContext, proposals: ProposalQueue, values: LargeValuePulls) {
    this.#context = context;
    this.#proposals = proposals;
    this.pulls = new PastPulls(context, values);
  }

  get count(): number {
    return this.#stores.size;
  }

  /** The store of the seq, where it is open. */
  storeOf(asOf: AsOf): PastStore | undefined {
    const store = "seq" in asOf ? this.#stores.get(asOf.seq) : undefined;
    if (store !== undefined) store.usedMs = this.#context.nowMs;
    return store;
  }

  /** `then` is called once, perhaps at once. */
  open(asOf: AsOf, then: (outcome: PastStore | SqlFault) => void): void {
    const store = this.storeOf(asOf);
    if (store !== undefined) {
      then(store);
      return;
    }
    const { nowMs, appliedSeq } = this.#context;
    if ("seq" in asOf && asOf.seq > appliedSeq) {
      then(fault("ATOMCAST_NOT_YET", `${asOf.seq} has not come yet: this engine is at ${appliedSeq}`));
      return;
    }
    this.#openings.push({ asOf, sinceMs: nowMs, pinnedAt: null, then });
    this.#goOn();
  }

  /** What the mark must not pass until it is known: the seq, or the last stamp before the time, which only rises. */
  #floorOf(asOf: AsOf): Seq {
    if ("seq" in asOf) return asOf.seq;
    const { mark, stamps } = this.#context.catalog;
    return Math.max(mark, stamps.lastAt(asOf.timeMs), 1) as Seq;
  }

  /** After a batch of entries, and now and then. */
  #goOn(): void {
    const { catalog, engine } = this.#context;
    const pin = catalog.members.get(engine)?.pin ?? noSeq;
    for (const opening of [...this.#openings]) {
      const outcome = this.#decide(opening, pin);
      if (outcome === null) continue;
      this.#openings = this.#openings.filter((one) => one !== opening);
      opening.then(outcome);
    }
    this.#pin(pin);
  }

  /** null: it waits. */
  #decide(opening: Opening, pin: Seq): PastStore | SqlFault | null {
    const { catalog, nowMs, appliedSeq } = this.#context;
    const { asOf } = opening;
    const floor = this.#floorOf(asOf);
    if (nowMs - opening.sinceMs > openTimeoutMs)
      return fault("ATOMCAST_UNAVAILABLE", "the past could not be pinned in time: is a majority of the Archives up? try again");
    if (floor < catalog.mark) return this.#goneFault(asOf);
    if (this.#isPinning || pin === noSeq || pin > floor) return null;
    opening.pinnedAt ??= appliedSeq;
    if ("seq" in asOf) return this.#openAt(asOf.seq);
    const named = catalog.stamps.named(asOf.timeMs);
    if (typeof named === "number") return this.#openAt(named);
    if (named === "not any more") return this.#goneFault(asOf);
    // A stamp that came after the PIN tells what time it was then.
    const isKnown = (catalog.stamps.newest?.seq ?? noSeq) > opening.pinnedAt;
    return isKnown ? fault("ATOMCAST_NOT_YET", `${timeText(asOf.timeMs)} has not come yet, by the clock of the database's sequencer`) : null;
  }

  #goneFault(asOf: AsOf): SqlFault {
    const { mark, historyMs, stamps } = this.#context.catalog;
    const [oldest] = stamps.all;
    const from = oldest === undefined ? "" : `, which is of ${timeText(oldest.timeMs)}`;
    const hint = historyMs === 0 ? ": nothing is kept without PRAGMA atomcast.history" : "";
    return fault(
      "ATOMCAST_PAST_GONE",
      `what was there as of ${"seq" in asOf ? asOf.seq : timeText(asOf.timeMs)} is not kept any more: the oldest is ${mark}${from}${hint}`,
    );
  }

  #openAt(seq: Seq): PastStore | SqlFault {
    const known = this.#stores.get(seq);
    if (known !== undefined) return known;
    const { nowMs, catalog } = this.#context;
    const schema = catalog.schema.inOrderAsOf(seq);
    if (schema === null)
      return fault(
        "ATOMCAST_PAST_GONE",
        `what the schema was as of ${seq} is not kept any more: of objects that are altered or dropped, ${formerCountMax} and ${formerBytesMax} bytes at most`,
      );
    if (this.#stores.size >= pastStoresMax && !this.#closeOne())
      return fault("SQLITE_BUSY", `${pastStoresMax} seqs of the past are being read on this engine already: wait, or use another engine`);
    const id = this.#nextId++;
    const driver = new LocalDriver(this.#context, { id, seq });
    const store: PastStore = { id, seq, schema, driver, bytes: 0, usedMs: nowMs, transactions: new Set() };
    this.#stores.set(seq, store);
    this.#context.push({ kind: "openPast", past: id });
    this.#begin(store);
    return store;
  }

  #begin(store: PastStore): void {
    store.bytes = 0;
    store.driver.reset(
      store.seq,
      store.schema.map(({ object, version }) => ({ object, version })),
    );
  }

  /** The one that was used longest ago, of those that nobody uses. */
  #closeOne(): boolean {
    const idle = [...this.#stores.values()].filter((store) => !this.#isInUse(store)).sort((left, right) => left.usedMs - right.usedMs);
    const [oldest] = idle;
    if (oldest !== undefined) this.#close(oldest);
    return oldest !== undefined;
  }

  #isInUse(store: PastStore): boolean {
    return store.transactions.size > 0 || store.driver.runCount > 0 || this.pulls.isWaitedFor(store);
  }

  #close(store: PastStore): void {
    this.#stores.delete(store.seq);
    this.pulls.forget(store);
    this.#context.push({ kind: "closePast", past: store.id });
  }

  #pin(pin: Seq): void {
    const { catalog, nowMs, engine } = this.#context;
    if (this.#isPinning || engine === 0) return;
    const floors = [...this.#stores.keys(), ...this.#openings.map(({ asOf }) => this.#floorOf(asOf))];
    const wanted = floors.length === 0 ? noSeq : (Math.min(...floors) as Seq);
    const wantsStamp = this.#openings.some(
      ({ asOf, pinnedAt }) =>
        !("seq" in asOf) && catalog.stamps.named(asOf.timeMs) === "not yet" && (pinnedAt === null || nowMs - this.#pinnedMs > stampAgainMs),
    );
    if (wanted === pin && !wantsStamp) return;
    this.#isPinning = true;
    this.#pinnedMs = nowMs;
    this.#proposals.propose(encodeBody({ kind: "pin", seq: wanted, wantsStamp }), [], (outcome, seq) => {
      this.#isPinning = false;
      // Refused: the mark has passed it where it was ordered. It is applied here before this is.
      if (outcome !== "applied") return;
      for (const opening of this.#openings) opening.pinnedAt = seq;
    });
  }

  /** `then`: null, or why the rows cannot be here. `isFirst`: of the statement's pulls. */
  ensure(store: PastStore, needs: readonly PullNeed[], isFirst: boolean, then: (reason: SqlFault | null) => void): void {
    if (store.bytes > bytesMax && !isFirst) {
      then(fault("SQLITE_FULL", `what is read as of ${store.seq} is more than ${bytesMax} bytes: read it in smaller parts`));
      return;
    }
    if (store.bytes > bytesMax && !this.#isInUse(store)) {
      this.pulls.forget(store);
      this.#begin(store);
    }
    this.pulls.ensure(store, needs, (outcome) => {
      store.usedMs = this.#context.nowMs;
      if (outcome === "held") then(null);
      else
        then(
          fault(
            "ATOMCAST_PAST_GONE",
            `no Archive knows any more what was there as of ${store.seq}: they keep a bounded number of bytes (system.gc), and a table that is dropped is gone`,
          ),
        );
    });
  }

  /** A transaction stays open in it, or is over. */
  noteTransaction(asOf: AsOf, transaction: number, isOpen: boolean): void {
    const store = this.storeOf(asOf);
    if (isOpen) store?.transactions.add(transaction);
    else store?.transactions.delete(transaction);
  }

  /** False: it is none of the past. */
  endTransaction(transaction: number): boolean {
    for (const store of this.#stores.values()) {
      if (!store.transactions.delete(transaction)) continue;
      store.driver.endTransaction(transaction);
      return true;
    }
    return false;
  }

  onReply(past: PastId, reply: Parameters<LocalDriver["onReply"]>[0]): void {
    for (const store of this.#stores.values()) if (store.id === past) store.driver.onReply(reply);
  }

  onApplied(): void {
    if (this.#openings.length > 0) this.#goOn();
  }

  tick(): void {
    const { nowMs } = this.#context;
    for (const store of this.#stores.values()) if (nowMs - store.usedMs > idleMs && !this.#isInUse(store)) this.#close(store);
    this.#goOn();
  }
}

function fault(code: string, message: string): SqlFault {
  return { code, message, offset: -1 };
}
