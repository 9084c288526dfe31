/**
 * Which originators do not answer this engine, so that the sequencer is told (demotions.ts decides what comes of it). One who waits in an
 * originator's queue is told so when it asks again; so silence is never patience.
 *
 * | since it was asked, the originator has | it counts as |
 * |---|---|
 * | answered anyone here anything | alive |
 * | not answered for `silentMs` | silent |
 * | not answered, and two connections to it have ended or could not be made | silent: one may break, two in a row do not just break |
 * | not been asked for `forgetMs` | as one that is asked for the first time |
 */
import type { Endpoint, EngineId } from "../base/ids.js";
import type { Fence } from "../messages/wire/entry.js";
import type { CoreContext } from "./core-context.js";

/** An originator that answers nothing for so long is silent (design.md §6). Milliseconds. */
const silentMs = 1000;
/** Asked for the first time again after this: longer than from one question to its repetition. Milliseconds. */
const forgetMs = 2000;
/** The sequencer is told again after this: it may be another one, or may not have been allowed to act. Milliseconds. */
const tellAgainMs = 500;
/** Atoms in one message; the rest is told next time. */
const fencesPerMessageMax = 1024;

interface Asked {
  sinceMs: number;
  lastMs: number;
  disconnects: number;
}

export class SilentOriginators {
  readonly #context: CoreContext;
  /** At most one for each member. */
  readonly #asked = new Map<EngineId, Asked>();
  /** What to tell the sequencer, by atom. */
  #accused = new Map<number, Fence>();
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(context: CoreContext) {
    this.#context = context;
  }

  asked(originator: EngineId): void {
    const { nowMs } = this.#context;
    const known = this.#asked.get(originator);
    if (known === undefined || nowMs - known.lastMs > forgetMs) this.#asked.set(originator, { sinceMs: nowMs, lastMs: nowMs, disconnects: 0 });
    else known.lastMs = nowMs;
  }

  /** An answer, to whichever question. */
  heardFrom(endpoint: Endpoint): void {
    for (const originator of this.#asked.keys()) if (this.#context.endpointOf(originator) === endpoint) this.#asked.delete(originator);
  }

  disconnected(originator: EngineId): void {
    const known = this.#asked.get(originator);
    if (known !== undefined) known.disconnects++;
  }

  departed(originator: EngineId): void {
    this.#asked.delete(originator);
  }

  isSilent(originator: EngineId): boolean {
    const known = this.#asked.get(originator);
    return known !== undefined && (known.disconnects > 1 || this.#context.nowMs - known.sinceMs >= silentMs);
  }

  /** The sequencer is to hear of this atom's originator, at the next `tell`. */
  accuse(fence: Fence): void {
    if (this.#accused.size < fencesPerMessageMax) this.#accused.set(fence.atom, fence);
  }

  tell(): void {
    const { sequencer, engine, nowMs, catalog } = this.#context;
    if (this.#accused.size === 0) return;
    const fences = [...this.#accused.values()].filter((fence) => catalog.fenceHolds(fence));
    if (fences.length > 0 && nowMs - this.#toldMs < tellAgainMs) return;
    this.#accused = new Map();
    if (fences.length === 0 || sequencer === null) return;
    this.#toldMs = nowMs;
    this.#context.send(sequencer, { kind: "silentOriginator", engine, fences });
  }
}
