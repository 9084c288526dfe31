/**
 * What an originator has granted, to whom, and who waits (design.md §6). Kept by key, not by atom: grants survive a SPLIT.
 *
 * | a request finds | outcome |
 * |---|---|
 * | nothing in its way | granted, all of it |
 * | the same, but a key changed since its snapshot (RecentKeys) | conflict, naming the seq to reach; granted all the same, so that it runs once more and not in vain |
 * | keys granted to others, and it is older than all of those and of all who wait for them before it | waits |
 * | the same, and it holds nothing anywhere | waits: who holds nothing closes no circle |
 * | the same, otherwise | refused for its age: it gives up everything and comes back with the same age |
 *
 * Nobody who holds something waits for a younger one that holds nothing, and so may wait for anybody: it goes in front of it.
 * Those who wait are served by age, except that who holds nothing never passes another such that came before: begin times are of the proposers' clocks, and
 * an engine whose clock is ahead would wait for as long as it is.
 *
 * A grant ends with the transaction's entry applied, with its release, or with its engine. A release closes its attempt, and an entry its
 * transaction: what arrives late of them is void. A release that is sent again must not end what a later attempt was granted meanwhile.
 */
import type { EngineId, Seq, SpaceId } from "../base/ids.js";
import { Remembered } from "../base/remembered.js";
import type { KeyUse, RecentKeys } from "./recent-keys.js";

/** Of a transaction, kept over its retries. Smaller is older: first by begin time (proposer's clock, milliseconds), then engine, then counter. */
export interface Age {
  readonly beginMs: number;
  readonly engine: EngineId;
  readonly counter: number;
}

export interface PermissionItem {
  readonly space: SpaceId;
  /** Sort key as a latin1 string. */
  readonly key: string;
  readonly use: KeyUse;
}

export interface PermissionRequest {
  readonly engine: EngineId;
  readonly transaction: number;
  readonly attempt: number;
  readonly age: Age;
  readonly snapshot: Seq;
  readonly items: readonly PermissionItem[];
  /** Spaces that must be unchanged since the snapshot, whole. */
  readonly wholeSpaces: readonly SpaceId[];
  /** It has no permission of another originator, and asks for none there. */
  readonly holdsNothing: boolean;
}

export type PermissionOutcome = { readonly kind: "granted" } | { readonly kind: "conflict"; readonly reach: Seq } | { readonly kind: "tooYoung" };

export interface PermissionAnswer {
  readonly engine: EngineId;
  readonly transaction: number;
  readonly attempt: number;
  readonly outcome: PermissionOutcome;
}

/** Requests that wait at one originator. Beyond it a request is refused for its age, and comes back. */
export const waitingRequestsMax = 4096;
/** Closed attempts remembered at most, and as many decided transactions: only a request that was overtaken by its own release or entry needs one. */
export const closedAttemptsMax = 8192;

interface Waiting {
  readonly request: PermissionRequest;
  /** Served in this order: a begin time. */
  readonly place: number;
}

interface Lock {
  /** Who writes or deletes. */
  writer: Grant | null;
  deletes: boolean;
  readonly sharers: Set<Grant>;
}

interface Grant {
  readonly id: string;
  readonly engine: EngineId;
  /** The last that was granted. */
  attempt: number;
  readonly age: Age;
  readonly names: Set<string>;
  readonly spaces: Set<SpaceId>;
  readonly wholeSpaces: Set<SpaceId>;
}

interface Block {
  readonly space: SpaceId;
  readonly low: string;
  /** null: to the space's end. */
  readonly high: string | null;
}

export function compareAge(left: Age, right: Age): number {
  return left.beginMs - right.beginMs || left.engine - right.engine || left.counter - right.counter;
}

export class PermissionTable {
  readonly #recent: RecentKeys;
  readonly #locks = new Map<string, Lock>();
  readonly #grants = new Map<string, Grant>();
  /** Grants with any key in the space. */
  readonly #bySpace = new Map<SpaceId, Set<Grant>>();
  /** In order of place; where that is equal, of arrival. */
  #waiting: Waiting[] = [];
  readonly #closed = new Remembered<string, number>(closedAttemptsMax);
  /** Of those that had or wanted something here. */
  readonly #decided = new Remembered<string, true>(closedAttemptsMax);
  readonly #blocks = new Set<Block>();

  constructor(recent: RecentKeys) {
    this.#recent = recent;
  }

  get grantCount(): number {
    return this.#grants.size;
  }

  /** Granted to a live attempt, as tests and the simulator ask. */
  grantedKeys(): IterableIterator<string> {
    return this.#locks.keys();
  }

  /** null: it waits; the answer comes from a later call. */
  request(request: PermissionRequest): PermissionOutcome | null {
    const id = grantId(request.engine, request.transaction);
    if ((this.#closed.get(id) ?? -1) >= request.attempt || this.#decided.has(id)) return { kind: "tooYoung" };
    const { index, place } = this.#placeOf(request);
    const outcome = this.#decide(request, this.#waiting.slice(0, index));
    if (outcome !== null) return outcome;
    if (this.#waiting.length >= waitingRequestsMax) return { kind: "tooYoung" };
    this.#waiting.splice(index, 0, { request, place });
    return null;
  }

  /** Where it is to wait. One that asks again has kept its place, and is taken out of the queue. */
  #placeOf({ engine, transaction, age, holdsNothing }: PermissionRequest): { readonly index: number; readonly place: number } {
    const former = this.#waiting.findIndex(({ request: one }) => one.engine === engine && one.transaction === transaction);
    const [kept] = former < 0 ? [] : this.#waiting.splice(former, 1);
    if (kept !== undefined) return { index: former, place: kept.place };
    const last = holdsNothing ? this.#waiting.findLast((one) => one.request.holdsNothing) : undefined;
    const place = Math.max(age.beginMs, last?.place ?? age.beginMs);
    const behind = this.#waiting.findLastIndex((one) => one.place <= place);
    return { index: behind + 1, place };
  }

  /** `before`: those who wait and are served before it. */
  #decide(request: PermissionRequest, before: readonly Waiting[]): PermissionOutcome | null {
    const blockers = this.#blockers(request);
    const own = this.#grants.get(grantId(request.engine, request.transaction));
    const holdsNothing = request.holdsNothing && own === undefined;
    // On a hot row many wait, and are looked at after each commit: no more than this is done for each.
    if (holdsNothing && blockers.length > 0) return null;
    // Who waits for what it has already is not waited for in its turn.
    const waitsForIt = (one: PermissionRequest): boolean => own !== undefined && this.#blockers(one).includes(own);
    const isOlder = (age: Age): boolean => compareAge(request.age, age) < 0;
    const passes = (one: PermissionRequest): boolean => !holdsNothing && one.holdsNothing && isOlder(one.age);
    const ahead = before.filter((one) => overlaps(one.request, request) && !waitsForIt(one.request) && !passes(one.request));
    if (blockers.length === 0 && ahead.length === 0) {
      this.#grant(request);
      const reach = this.#newerThan(request);
      return reach > 0 ? { kind: "conflict", reach } : { kind: "granted" };
    }
    const oldest = ahead.every((one) => isOlder(one.request.age)) && blockers.every((grant) => grant === "block" || isOlder(grant.age));
    return oldest || holdsNothing ? null : { kind: "tooYoung" };
  }

  #newerThan(request: PermissionRequest): Seq {
    let reach = 0;
    for (const { space, key, use } of request.items) reach = Math.max(reach, this.#recent.newerThan(request.snapshot, space, key, use));
    for (const space of request.wholeSpaces) reach = Math.max(reach, this.#recent.spaceNewerThan(request.snapshot, space));
    return reach as Seq;
  }

  /** Grants of others in the way, or "block" for an id block that is being handed out. */
  #blockers(request: PermissionRequest): (Grant | "block")[] {
    const id = grantId(request.engine, request.transaction);
    const found: (Grant | "block")[] = [];
    const consider = (grant: Grant | null): void => {
      if (grant !== null && grant.id !== id) found.push(grant);
    };
    for (const { space, key, use } of request.items) {
      for (const block of this.#blocks)
        if (block.space === space && key >= block.low && (block.high === null || key < block.high)) found.push("block");
      for (const grant of this.#bySpace.get(space) ?? []) if (grant.wholeSpaces.has(space)) consider(grant);
      const lock = this.#locks.get(lockName(space, key));
      if (lock === undefined) continue;
      if (use === "exist") consider(lock.deletes ? lock.writer : null);
      else consider(lock.writer);
      if (use === "delete") for (const grant of lock.sharers) consider(grant);
    }
    for (const space of request.wholeSpaces) for (const grant of this.#bySpace.get(space) ?? []) consider(grant);
    return found;
  }

  #grant(request: PermissionRequest): void {
    const id = grantId(request.engine, request.transaction);
    let grant = this.#grants.get(id);
    if (grant === undefined) {
      grant = { id, engine: request.engine, attempt: request.attempt, age: request.age, names: new Set(), spaces: new Set(), wholeSpaces: new Set() };
      this.#grants.set(id, grant);
    }
    grant.attempt = Math.max(grant.attempt, request.attempt);
    for (const { space, key, use } of request.items) {
      this.#enter(grant, space);
      const name = lockName(space, key);
      grant.names.add(name);
      let lock = this.#locks.get(name);
      if (lock === undefined) {
        lock = { writer: null, deletes: false, sharers: new Set() };
        this.#locks.set(name, lock);
      }
      if (use === "exist") lock.sharers.add(grant);
      else {
        lock.writer = grant;
        lock.deletes ||= use === "delete";
      }
    }
    for (const space of request.wholeSpaces) {
      this.#enter(grant, space);
      grant.wholeSpaces.add(space);
    }
  }

  #enter(grant: Grant, space: SpaceId): void {
    if (grant.spaces.has(space)) return;
    grant.spaces.add(space);
    let grants = this.#bySpace.get(space);
    if (grants === undefined) {
      grants = new Set();
      this.#bySpace.set(space, grants);
    }
    grants.add(grant);
  }

  #end(grant: Grant): void {
    this.#grants.delete(grant.id);
    for (const name of grant.names) {
      const lock = this.#locks.get(name);
      if (lock === undefined) continue;
      lock.sharers.delete(grant);
      if (lock.writer === grant) [lock.writer, lock.deletes] = [null, false];
      if (lock.writer === null && lock.sharers.size === 0) this.#locks.delete(name);
    }
    for (const space of grant.spaces) {
      const grants = this.#bySpace.get(space);
      grants?.delete(grant);
      if (grants?.size === 0) this.#bySpace.delete(space);
    }
  }

  /** Its entry is applied (RecentKeys knows of it already). Answers those who waited; call `answerWaiting` after a batch of these. */
  decided(engine: EngineId, transaction: number): void {
    const id = grantId(engine, transaction);
    const grant = this.#grants.get(id);
    if (grant !== undefined) this.#end(grant);
    // What it wanted here it was given elsewhere, the atom having moved.
    const waited = this.#waiting.length > 0 && this.#dropWaiting(engine, transaction, Number.POSITIVE_INFINITY);
    if (grant === undefined && !waited) return;
    this.#decided.set(id, true);
  }

  release(engine: EngineId, transaction: number, attempt: number): void {
    const id = grantId(engine, transaction);
    this.#closed.set(id, Math.max(attempt, this.#closed.get(id) ?? attempt));
    this.#dropWaiting(engine, transaction, attempt);
    const grant = this.#grants.get(id);
    if (grant !== undefined && grant.attempt <= attempt) this.#end(grant);
  }

  #dropWaiting(engine: EngineId, transaction: number, attempt: number): boolean {
    const before = this.#waiting.length;
    this.#waiting = this.#waiting.filter(({ request: one }) => one.engine !== engine || one.transaction !== transaction || one.attempt > attempt);
    return this.#waiting.length < before;
  }

  departed(engine: EngineId): void {
    this.#waiting = this.#waiting.filter((one) => one.request.engine !== engine);
    for (const grant of [...this.#grants.values()]) if (grant.engine === engine) this.#end(grant);
    for (const ids of [this.#closed, this.#decided]) ids.forget((id) => id.startsWith(`${engine}/`));
  }

  /** Decides again for all who wait, in order. */
  answerWaiting(): readonly PermissionAnswer[] {
    if (this.#waiting.length === 0) return [];
    const answers: PermissionAnswer[] = [];
    const stay: Waiting[] = [];
    for (const one of this.#waiting) {
      const { request } = one;
      const outcome = this.#decide(request, stay);
      if (outcome === null) stay.push(one);
      else answers.push({ engine: request.engine, transaction: request.transaction, attempt: request.attempt, outcome });
    }
    this.#waiting = stay;
    return answers;
  }

  /** Everything that waits is taken out, to be asked again elsewhere (this engine no longer originates the atom, say). */
  takeWaiting(matches: (request: PermissionRequest) => boolean): readonly PermissionRequest[] {
    const taken = this.#waiting.filter(({ request }) => matches(request));
    this.#waiting = this.#waiting.filter(({ request }) => !matches(request));
    return taken.map(({ request }) => request);
  }

  /** Keeps [low, high) free of grants, while it is split or merged say; null where there are grants in it already. */
  block(space: SpaceId, low: string, high: string | null): (() => void) | null {
    const start = lockName(space, low);
    const end = high === null ? lockNamesEnd(space) : lockName(space, high);
    for (const grant of this.#bySpace.get(space) ?? []) {
      if (grant.wholeSpaces.has(space)) return null;
      for (const name of grant.names) if (name >= start && name < end) return null;
    }
    for (const block of this.#blocks)
      if (block.space === space && (high === null || block.low < high) && (block.high === null || low < block.high)) return null;
    const block = { space, low, high };
    this.#blocks.add(block);
    return () => this.#blocks.delete(block);
  }
}

function grantId(engine: EngineId, transaction: number): string {
  return `${engine}/${transaction}`;
}

function lockName(space: SpaceId, key: string): string {
  return `${space}:${key}`;
}

/** Behind the names of all keys of the space. */
function lockNamesEnd(space: SpaceId): string {
  return `${space};`;
}

function overlaps(left: PermissionRequest, right: PermissionRequest): boolean {
  const names = new Map(left.items.map((item) => [lockName(item.space, item.key), item.use]));
  for (const item of right.items) {
    const use = names.get(lockName(item.space, item.key));
    if (use !== undefined && !(use === "exist" && item.use === "exist")) return true;
  }
  const spaces = new Set(left.items.map((item) => item.space));
  return (
    right.wholeSpaces.some((space) => spaces.has(space) || left.wholeSpaces.includes(space)) ||
    left.wholeSpaces.some((space) => right.items.some((item) => item.space === space))
  );
}
