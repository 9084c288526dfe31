/**
 * The originator's side of permission, id blocks and splits: answers for the atoms that this engine originates (design.md §5, §6).
 * Requests of this engine's own transactions come here by a call, those of others by message.
 */
import type { Atom } from "../atoms/atom.js";
import { compareAge, type PermissionOutcome, type PermissionRequest, PermissionTable } from "../atoms/permission-table.js";
import { type AtomId, type Endpoint, type EngineId, noEngine, type Seq, type SpaceId } from "../base/ids.js";
import { binaryKey } from "../base/key-ranges.js";
import { integerKey, integerOfKey } from "../base/sort-key.js";
import type { CatalogEvent } from "../catalog/catalog.js";
import { nextIds } from "../catalog/schema-catalog.js";
import type { PermissionRequestMessage } from "../messages/wire/engine-messages.js";
import { encodeBody, type Fence, type SplitBody, type SplitPiece } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";
import { Handoffs } from "./handoffs.js";
import { Merges } from "./merges.js";
import type { ProposalQueue } from "./proposal-queue.js";
import { Splits } from "./splits.js";

export type DeskOutcome =
  | PermissionOutcome
  | { readonly kind: "moved"; readonly reach: Seq }
  /** To one that asks again: it still waits, and is answered later. */
  | { readonly kind: "waits" };

/** Requests that wait for this engine to reach their sender's seq. Beyond it: refused for their age. */
const parkedMax = 4096;
/** The largest rowid; the sequence ends before it. */
export const idMax = 2n ** 63n - 1n;
/** Ids in one block. Reason: more rows than this hardly fit in one entry. */
export const largestBlockIds = 1_048_576;

interface Asker {
  readonly request: PermissionRequest;
  readonly fences: readonly Fence[];
  readonly reply: (outcome: DeskOutcome) => void;
}

interface BlockWish {
  readonly taker: EngineId;
  /** The one that it named, and what has been split off since: the taker knows these. */
  readonly atoms: Set<AtomId>;
  readonly count: number;
  readonly askedMs: number;
}

/** A wish that names an atom which has not come to be here waits for it so long: then its taker asks again. Milliseconds. */
const unknownAtomMs = 300;

export class OriginatorDesk {
  readonly #context: CoreContext;
  readonly #proposals: ProposalQueue;
  readonly table: PermissionTable;
  /** Those who wait in the table, by engine and transaction. */
  readonly #askers = new Map<string, Asker>();
  #parked: { readonly seq: Seq; readonly asker: Asker }[] = [];
  readonly #wishes = new Map<SpaceId, BlockWish[]>();
  readonly #blocksUnderWay = new Set<SpaceId>();
  readonly #handoffs: Handoffs;
  readonly #merges: Merges;
  readonly splits: Splits;
  readonly #mergeEveryMs: number;
  #nextLookMs = 0;

  constructor(context: CoreContext, proposals: ProposalQueue, mergeEveryMs: number) {
    this.#context = context;
    this.#mergeEveryMs = mergeEveryMs;
    this.#proposals = proposals;
    this.table = new PermissionTable(context.recent);
    this.#handoffs = new Handoffs(context, proposals);
    this.splits = new Splits(context, proposals);
    this.#merges = new Merges(context, proposals, this.table, this.#handoffs);
  }

  /** A request of this engine or, by `onMessage`, of another. `reply` is called once, perhaps later. True: it waits, and has waited before. */
  ask(request: PermissionRequest, fences: readonly Fence[], reply: (outcome: DeskOutcome) => void): boolean {
    const { catalog, engine, appliedSeq } = this.#context;
    if (!fences.every((fence) => fence.originator === engine && catalog.fenceHolds(fence))) {
      reply({ kind: "moved", reach: appliedSeq });
      return false;
    }
    const key = `${request.engine}/${request.transaction}`;
    const former = this.#askers.get(key);
    this.#askers.delete(key);
    const outcome = this.table.request(request);
    if (outcome?.kind === "granted") this.#handoffs.granted(request.engine, fences);
    if (outcome !== null) reply(outcome);
    else this.#askers.set(key, { request, fences, reply });
    return outcome === null && former !== undefined;
  }

  onMessage(from: Endpoint, message: PermissionRequestMessage): void {
    const { engine, transaction, attempt, snapshot, items, wholeSpaces, holdsNothing, fences } = message;
    const answer = (outcome: DeskOutcome): void => {
      const reach = "reach" in outcome ? outcome.reach : (0 as Seq);
      const applied = this.#context.position;
      this.#context.send(from, { kind: "permissionReply", transaction, attempt, outcome: outcome.kind, reach, applied });
    };
    const age = { beginMs: message.ageBeginMs, engine, counter: message.ageCounter };
    const request = { engine, transaction, attempt, age, snapshot, items, wholeSpaces, holdsNothing };
    const { seq } = message.applied;
    if (seq <= this.#context.appliedSeq) this.#admit({ request, fences, reply: answer });
    else if (this.#parked.length < parkedMax) this.#parked.push({ seq, asker: { request, fences, reply: answer } });
    else answer({ kind: "tooYoung" });
  }

  #admit(asker: Asker): void {
    // One that is no member any more holds nothing and is granted nothing: its LEAVE is applied here.
    if (!this.#context.catalog.members.has(asker.request.engine)) asker.reply({ kind: "moved", reach: this.#context.appliedSeq });
    else if (this.ask(asker.request, asker.fences, asker.reply)) asker.reply({ kind: "waits" });
  }

  release(engine: EngineId, transaction: number, attempt: number): void {
    const key = `${engine}/${transaction}`;
    const asker = this.#askers.get(key);
    if (asker !== undefined && asker.request.attempt <= attempt) this.#askers.delete(key);
    this.#parked = this.#parked.filter(
      ({ asker: { request } }) => request.engine !== engine || request.transaction !== transaction || request.attempt > attempt,
    );
    this.table.release(engine, transaction, attempt);
    this.answerWaiting();
  }

  onEvent(event: CatalogEvent): void {
    this.#handoffs.onEvent(event);
    this.#merges.onEvent(event);
    if (event.kind === "decided" && event.outcome === "applied") {
      for (const transaction of event.transactions) {
        this.table.decided(event.engine, transaction);
        if (this.#askers.size > 0) this.#askers.delete(`${event.engine}/${transaction}`);
      }
    }
    if (event.kind === "spaceGone") this.#wishes.delete(event.space);
    if (event.kind === "split") {
      const { space, atom, pieces } = event.body;
      for (const wish of this.#wishes.get(space) ?? []) if (wish.atoms.has(atom)) for (const piece of pieces) wish.atoms.add(piece.atom);
    }
    if (event.kind === "merged" || event.kind === "split" || (event.kind === "moved" && event.from === this.#context.engine)) this.#sendOn();
    if (event.kind !== "departed") return;
    const gone = event.member.id;
    this.table.departed(gone);
    for (const key of this.#askers.keys()) if (key.startsWith(`${gone}/`)) this.#askers.delete(key);
  }

  /** Those who wait with a fence that holds no longer: what they are granted would be refused, or nothing that happens here would answer them. */
  #sendOn(): void {
    const { catalog, appliedSeq } = this.#context;
    for (const [key, { request, fences, reply }] of this.#askers) {
      if (fences.every((fence) => catalog.fenceHolds(fence))) continue;
      this.table.takeWaiting((one) => one.engine === request.engine && one.transaction === request.transaction);
      this.#askers.delete(key);
      reply({ kind: "moved", reach: appliedSeq });
    }
  }

  /** After a batch of entries: who waited may go on now. */
  answerWaiting(): void {
    for (const { engine, transaction, outcome } of this.table.answerWaiting()) {
      const key = `${engine}/${transaction}`;
      const asker = this.#askers.get(key);
      this.#askers.delete(key);
      if (asker !== undefined && outcome.kind === "granted") this.#handoffs.granted(engine, asker.fences);
      asker?.reply(outcome);
    }
    if (this.#parked.length === 0) return;
    const ready = this.#parked.filter(({ seq }) => seq <= this.#context.appliedSeq);
    if (ready.length === 0) return;
    this.#parked = this.#parked.filter(({ seq }) => seq > this.#context.appliedSeq);
    ready.sort((left, right) => compareAge(left.asker.request.age, right.asker.request.age));
    for (const { asker } of ready) this.#admit(asker);
  }

  /** Wants a block of ids for `taker`, of the atom; nothing comes of it where this engine does not originate the next ids, or in that atom (the taker asks again). */
  wantBlock(space: SpaceId, taker: EngineId, atom: AtomId, count: number): void {
    const wishes = this.#wishes.get(space) ?? [];
    const wish = { taker, atoms: new Set([atom]), count: Math.min(count, largestBlockIds), askedMs: this.#context.nowMs };
    const place = wishes.findIndex((one) => one.taker === taker);
    // Asked again it keeps its place, and names what it knows by now.
    if (place < 0) wishes.push(wish);
    else if (!(wishes[place] as BlockWish).atoms.has(atom)) wishes[place] = wish;
    this.#wishes.set(space, wishes);
    this.#handOut(space);
  }

  #handOut(space: SpaceId): void {
    if (this.#blocksUnderWay.has(space)) return;
    for (const wish of this.#wishes.get(space) ?? []) {
      const split = this.#blockSplit(space, wish);
      if (split === "later") return;
      if (split === "unknown" && this.#context.nowMs - wish.askedMs < unknownAtomMs) continue;
      this.#dropWish(space, wish);
      if (split === null || split === "unknown") continue;
      this.#blocksUnderWay.add(space);
      this.#proposeSplit(split.atom, split.body, () => {
        split.unblock();
        this.#blocksUnderWay.delete(space);
        this.#handOut(space);
      });
      return;
    }
  }

  #dropWish(space: SpaceId, wish: BlockWish): void {
    const rest = (this.#wishes.get(space) ?? []).filter((one) => one !== wish);
    if (rest.length === 0) this.#wishes.delete(space);
    else this.#wishes.set(space, rest);
  }

  /** The split that hands the next ids out; "later" while permissions stand in the way; "unknown": the wish names another atom, not known here; null: not ours to do. */
  #blockSplit(space: SpaceId, wish: BlockWish): { atom: Atom; body: SplitBody; unblock: () => void } | "later" | "unknown" | null {
    const { catalog, engine } = this.#context;
    const table = catalog.schema.tables.get(space);
    if (table === undefined || !catalog.members.has(wish.taker)) return null;
    const { first, end: freeEnd } = nextIds(table);
    const lowKey = integerKey(first);
    const atom = catalog.atoms.at(space, binaryKey(lowKey));
    if (atom === undefined || atom.originator !== engine) return null;
    if (!wish.atoms.has(atom.id)) return [...wish.atoms].some((id) => catalog.atoms.get(id) !== undefined) ? null : "unknown";
    const high = catalog.atoms.highOf(atom);
    // Of new ids so many as are asked for, and one is left for the rest's beginning; what was given back, whole.
    const wanted = freeEnd ?? first + BigInt(wish.count);
    const limit = high === null ? idMax : (integerOfKey(high) ?? 0n) - (freeEnd === null ? 1n : 0n);
    const end = wanted < limit ? wanted : limit;
    if (end <= first) return null;
    const highKey = integerKey(end);
    const unblock = this.table.block(space, binaryKey(lowKey), binaryKey(highKey));
    if (unblock === null) return "later";
    const restTaker = freeEnd === null ? this.#handoffs.blockTaken(atom.id, wish.taker) : noEngine;
    const piece = (low: Buffer, taker: EngineId): SplitPiece => ({ atom: this.#context.nextAtomId(), low, taker, bytes: 0, rows: 0 });
    const isWhole = Buffer.compare(lowKey, atom.low) === 0;
    const pieces = isWhole ? [] : [piece(lowKey, wish.taker)];
    if (high === null || Buffer.compare(highKey, high) < 0) pieces.push(piece(highKey, restTaker));
    return {
      atom,
      unblock,
      body: {
        kind: "split",
        atom: atom.id,
        space,
        firstTaker: isWhole ? wish.taker : noEngine,
        pieces,
        measured: null,
        sequenceFirst: first,
        sequenceNext: end,
      },
    };
  }

  #proposeSplit(atom: Atom, body: SplitBody, onDecided: () => void): void {
    const fence = { atom: atom.id, originator: atom.originator, ownershipVersion: atom.ownershipVersion };
    this.#proposals.propose(encodeBody(body), [fence], onDecided);
  }

  tick(): void {
    const { nowMs, engine } = this.#context;
    if (engine === 0 || nowMs < this.#nextLookMs) return;
    this.#nextLookMs = nowMs + 50;
    this.#merges.tick(this.#mergeEveryMs);
    this.#handoffs.tick();
    for (const space of [...this.#wishes.keys()]) this.#handOut(space);
    this.splits.tick();
  }
}
