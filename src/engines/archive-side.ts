/** What an Archive does besides ordering: brings the atom store up to the stream in batches, and serves joining and pulling engines from it. */
import { type Endpoint, largeValueSpace, noSeq, type Seq, type SpaceId } from "../base/ids.js";
import type { LogEntry } from "../base/log-entry.js";
import type { RowIndex } from "../base/row-index.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import { indexesOf } from "../catalog/schema-catalog.js";
import type { CutsRequestMessage, EngineMessage, PullRequestMessage } from "../messages/wire/engine-messages.js";
import type { Entry } from "../messages/wire/entry.js";
import type { KeptValues, StoreChange } from "../storage/atom-store.js";
import { noVersions } from "../storage/row-versions.js";
import { readStoreChanges, type StoreChanges } from "../storage/store-changes.js";
import { CatalogSource } from "./catalog-source.js";
import type { CoreContext } from "./core-context.js";
import { StoreBacklog } from "./store-backlog.js";

/** Pulls and questions for cuts that wait for the store to reach their seq. Beyond it they are dropped, and asked again by their engine. */
const parkedPullsMax = 4096;
/**
 * A batch of the store waits this long after the one before, unless a pull waits for it or it is large already: one write transaction costs the
 * store as much as many rows, and the disk a flush that the journal's wait behind; nobody else waits. Milliseconds.
 */
const batchEveryMs = 200;
/** Changes that a pull is compared with at most: about a millisecond. Beyond it, it waits for the store. */
const comparedMax = 4000;
/** What was swept is told to the log this often at most, all of it together. Milliseconds. */
const tellEveryMs = 60_000;

interface Parked {
  readonly from: Endpoint;
  readonly request: PullRequestMessage | CutsRequestMessage;
  /** With what waits for the store. */
  isCompared: boolean;
}

export class ArchiveSide {
  readonly catalogs: CatalogSource;
  readonly #context: CoreContext;
  readonly #backlog: StoreBacklog;
  /** Of the batch that the store is at. */
  #underWay: StoreChanges | null = null;
  #beganMs = Number.NEGATIVE_INFINITY;
  /** By table. */
  #indexes: ReadonlyMap<SpaceId, readonly RowIndex[]>;
  stored: Seq;
  /** As the store has told it last. */
  versions = noVersions;
  values: KeptValues = { count: 0, bytes: 0 };
  /** Of it, what the log has been told of, and when. */
  #told = noVersions;
  #toldMs = Number.NEGATIVE_INFINITY;
  #parked: Parked[] = [];

  constructor(context: CoreContext) {
    this.#context = context;
    this.catalogs = new CatalogSource(context);
    this.stored = context.appliedSeq;
    this.#backlog = new StoreBacklog(context);
    this.#indexes = indexesOf(context.catalog.schema);
  }

  /** After DDL: the store has made what is stored here as of before, and is told of what is new. */
  #readIndexes(seq: Seq): void {
    const before = this.#indexes;
    this.#indexes = indexesOf(this.#context.catalog.schema);
    for (const [table, indexes] of this.#indexes) {
      const known = new Set(before.get(table)?.map(({ space }) => space));
      for (const index of indexes) if (!known.has(index.space)) this.#backlog.add({ kind: "index", space: table, index, seq });
    }
  }

  /** So many committed changes, or bytes of them, wait for the store that this Archive acknowledges and orders nothing more until it has caught up. */
  get isBehind(): boolean {
    return this.#backlog.isBehind;
  }

  onEntry(log: LogEntry, entry: Entry, events: readonly CatalogEvent[]): void {
    const { seq } = log;
    if (entry.kind === "proposal" && entry.body.kind === "transaction") {
      if (entry.body.parts.some((part) => part.kind === "ddl")) this.#readIndexes(seq);
      for (const part of entry.body.parts) {
        if (part.kind !== "rows") continue;
        for (const { hash, bytes } of part.values ?? []) this.#backlog.add({ kind: "value", space: largeValueSpace, hash, bytes });
        const indexes = this.#indexes.get(part.table);
        const common = { space: part.table, seq, ...(indexes === undefined ? {} : { indexes }) };
        for (const { key, row, oldBytes } of part.rows)
          this.#backlog.add(row === null ? { kind: "delete", key, ...common } : { kind: "put", key, row, isNew: oldBytes === 0, ...common });
      }
    }
    for (const event of events) if (event.kind === "spaceGone") this.#backlog.add({ kind: "drop", space: event.space, seq, bytes: event.bytes });
    this.#backlog.endEntry(seq);
  }

  turnEnd(): void {
    this.#tellSwept();
    this.#serveUnchanged();
    if (this.#underWay !== null || this.#backlog.last === this.stored) return;
    const { nowMs } = this.#context;
    const isAwaited = this.#parked.some(({ request }) => request.minSeq <= this.#backlog.last);
    if (nowMs - this.#beganMs < batchEveryMs && !isAwaited && !this.#backlog.isFull) return;
    this.#beganMs = nowMs;
    const batch = this.#backlog.take();
    this.#underWay = batch.changes;
    this.#context.push({ kind: "storeBatch", batch });
  }

  #tellSwept(): void {
    const { nowMs } = this.#context;
    if (this.versions.sweptCount === this.#told.sweptCount || nowMs - this.#toldMs < tellEveryMs) return;
    const { count, bytes, floor, sweptCount, sweptBytes } = this.versions;
    const swept = { versions: sweptCount - this.#told.sweptCount, bytes: sweptBytes - this.#told.sweptBytes };
    this.#context.log("info", "old versions of rows were swept", { ...swept, kept: count, keptBytes: bytes, keptFrom: floor });
    this.#told = this.versions;
    this.#toldMs = nowMs;
  }

  onStored(seq: Seq): void {
    this.#underWay = null;
    this.stored = seq;
    if (this.#parked.length === 0) return;
    const ready = this.#parked.filter(({ request }) => request.minSeq <= seq);
    this.#parked = this.#parked.filter(({ request }) => request.minSeq > seq);
    for (const { from, request } of ready) this.#serve(from, request);
  }

  #serve(to: Endpoint, request: PullRequestMessage | CutsRequestMessage): void {
    if (request.kind === "pullRequest") this.#context.push({ kind: "serveRows", to, request, sameThrough: noSeq });
    else this.#context.push({ kind: "serveCuts", to, request });
  }

  /** A HOLD, and what others write elsewhere, need not be stored first: one transaction of the store takes tens of milliseconds where it is large. */
  #serveUnchanged(): void {
    if (this.#parked.length === 0) return;
    this.#parked = this.#parked.filter((one) => {
      const { request, from } = one;
      if (one.isCompared || request.kind !== "pullRequest" || request.asOf !== noSeq || request.minSeq > this.#backlog.last) return true;
      one.isCompared = true;
      if (!this.#isUnchanged(request)) return true;
      this.#context.push({ kind: "serveRows", to: from, request, sameThrough: request.minSeq });
      return false;
    });
  }

  /** Nothing that the store has not applied yet touches the range. */
  #isUnchanged({ space, low, high }: PullRequestMessage): boolean {
    if ((this.#underWay?.count ?? 0) + this.#backlog.count > comparedMax) return false;
    const touches = (change: StoreChange): boolean => {
      if (change.kind === "index") return change.index.space === space;
      if (change.kind === "value") return space === largeValueSpace;
      if (change.space !== space) return change.kind !== "drop" && change.indexes?.some((index) => index.space === space) === true;
      return change.kind === "drop" || (Buffer.compare(change.key, low) >= 0 && (high === null || Buffer.compare(change.key, high) < 0));
    };
    for (const change of readStoreChanges(this.#underWay?.chunks ?? [])) if (touches(change)) return false;
    for (const change of this.#backlog.changes()) if (touches(change)) return false;
    return true;
  }

  /** True where the message was one for an Archive. */
  onMessage(from: Endpoint, message: EngineMessage): boolean {
    switch (message.kind) {
      case "pullRequest":
      case "cutsRequest":
        if (message.minSeq <= this.stored) this.#serve(from, message);
        else if (this.#parked.length < parkedPullsMax) this.#parked.push({ from, request: message, isCompared: false });
        return true;
      case "transferRequest":
        this.#context.push({ kind: "serveTransfer", to: from, transfer: message.transfer, cursor: message.cursor });
        return true;
      case "catalogRequest":
        this.catalogs.onRequest(from, message);
        return true;
      default:
        return false;
    }
  }
}
