/**
 * Whom a pull asks next (design.md §5 "A pull": "the best ready holder"). Each source has a measure: how long its last chunks took, as a moving mean that
 * is forgotten with time, and until when it had better be left alone. It is a guess for speed only: whoever is chosen, the rules of the pull are the same.
 *
 * The one with the lowest cost is asked; of equals, one by chance:
 *
 * | what | why |
 * |---|---|
 * | cost grows with what was measured | a slow one is asked less |
 * | a measure halves every halfLifeMs | who was slow once, or has not been asked for long, is tried again |
 * | nobody has been measured yet: no time at all | everybody is tried once |
 * | cost grows with what it is being asked already | load spreads over equals |
 * | an Archive costs archiveWeight times what a Cache does | Archives have every commit to store; but a Cache that is much slower is passed over |
 * | it was silent, busy, or its connection broke: left alone for a while, unless all are | a question that is refused costs its way there and back |
 */
import type { Endpoint } from "../base/ids.js";
import type { Random } from "../base/random.js";

export interface Candidate {
  readonly endpoint: Endpoint;
  readonly kind: "archive" | "cache";
  /** Chunks that it is being asked for. */
  readonly asked: number;
}

/** Milliseconds, all of them. */
export const halfLifeMs = 5000;
/** What asking costs where the source takes no time. */
const leastMs = 0.5;
export const archiveWeight = 2;
/** A new chunk's share of the mean; the longer ago the last one was, the greater. */
const newestShare = 0.25;
export const restMs = { busy: 20, lost: 500, silent: 1000 } as const;

interface Measure {
  meanMs: number;
  measuredMs: number;
  restUntilMs: number;
  chunks: number;
  bytes: number;
  busy: number;
  notHeld: number;
  silent: number;
}

export type SourceCounters = Readonly<Omit<Measure, "measuredMs" | "restUntilMs">>;

export class PullSources {
  /** Of members that were asked; who departs is forgotten, and what still comes of it is no measure of anybody. */
  readonly #measures = new Map<Endpoint, Measure>();

  get counters(): ReadonlyMap<Endpoint, SourceCounters> {
    return this.#measures;
  }

  /** undefined: there are no candidates. */
  choose(candidates: readonly Candidate[], nowMs: number, random: Random): Candidate | undefined {
    const rested = candidates.filter(({ endpoint }) => this.#restUntilMs(endpoint) <= nowMs);
    const cost = rested.length > 0 ? (one: Candidate) => this.#cost(one, nowMs) : (one: Candidate) => this.#restUntilMs(one.endpoint);
    let best: Candidate[] = [];
    let least = Number.POSITIVE_INFINITY;
    for (const candidate of rested.length > 0 ? rested : candidates) {
      const costs = cost(candidate);
      if (costs > least) continue;
      if (costs < least) best = [];
      least = costs;
      best.push(candidate);
    }
    const chosen = best.length > 1 ? best[random.integer(best.length)] : best[0];
    if (chosen !== undefined && !this.#measures.has(chosen.endpoint)) this.#measures.set(chosen.endpoint, unmeasured());
    return chosen;
  }

  #restUntilMs(endpoint: Endpoint): number {
    return this.#measures.get(endpoint)?.restUntilMs ?? Number.NEGATIVE_INFINITY;
  }

  #cost({ endpoint, kind, asked }: Candidate, nowMs: number): number {
    const measure = this.#measures.get(endpoint);
    const expectedMs = measure === undefined ? 0 : measure.meanMs * remaining(measure, nowMs);
    return (leastMs + expectedMs) * (1 + asked) * (kind === "archive" ? archiveWeight : 1);
  }

  answered(endpoint: Endpoint, tookMs: number, bytes: number, nowMs: number): void {
    const measure = this.#measures.get(endpoint);
    if (measure === undefined) return;
    measure.chunks++;
    measure.bytes += bytes;
    this.#measured(measure, tookMs, nowMs);
  }

  #measured(measure: Measure, tookMs: number, nowMs: number): void {
    const formerShare = (1 - newestShare) * remaining(measure, nowMs);
    measure.meanMs = measure.meanMs * formerShare + tookMs * (1 - formerShare);
    measure.measuredMs = nowMs;
  }

  refused(endpoint: Endpoint, reason: "busy" | "notHeld", nowMs: number): void {
    const measure = this.#measures.get(endpoint);
    if (measure === undefined) return;
    measure[reason]++;
    if (reason === "busy") rest(measure, nowMs + restMs.busy);
  }

  silent(endpoint: Endpoint, waitedMs: number, nowMs: number): void {
    const measure = this.#measures.get(endpoint);
    if (measure === undefined) return;
    measure.silent++;
    this.#measured(measure, waitedMs, nowMs);
    rest(measure, nowMs + restMs.silent);
  }

  /** The connection to it, while it was asked. */
  lost(endpoint: Endpoint, nowMs: number): void {
    const measure = this.#measures.get(endpoint);
    if (measure !== undefined) rest(measure, nowMs + restMs.lost);
  }

  departed(endpoint: Endpoint): void {
    this.#measures.delete(endpoint);
  }
}

function unmeasured(): Measure {
  const never = Number.NEGATIVE_INFINITY;
  return { meanMs: 0, measuredMs: never, restUntilMs: never, chunks: 0, bytes: 0, busy: 0, notHeld: 0, silent: 0 };
}

function rest(measure: Measure, untilMs: number): void {
  measure.restUntilMs = Math.max(measure.restUntilMs, untilMs);
}

/** Share of what was measured that still counts. */
function remaining({ measuredMs }: Measure, nowMs: number): number {
  return 2 ** ((measuredMs - nowMs) / halfLifeMs);
}
