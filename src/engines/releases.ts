/** Releases of permissions at other originators, sent again until each is acknowledged, or its originator is gone (design.md §6). */
import type { Endpoint, EngineId } from "../base/ids.js";
import type { CoreContext } from "./core-context.js";

/** A release that was not acknowledged is sent again. Milliseconds. */
const releaseAgainMs = 500;

interface Release {
  readonly engine: EngineId;
  readonly transaction: number;
  readonly attempt: number;
  sentMs: number;
}

/** Holds at most one for each transaction under way and originator. */
export class Releases {
  readonly #context: CoreContext;
  readonly #open = new Map<string, Release>();

  constructor(context: CoreContext) {
    this.#context = context;
  }

  /** Not acknowledged yet. */
  get count(): number {
    return this.#open.size;
  }

  add(originator: EngineId, transaction: number, attempt: number): void {
    // It has departed since it was asked: nobody would acknowledge, and no departure follow.
    if (this.#context.endpointOf(originator) === null) return;
    const release = { engine: originator, transaction, attempt, sentMs: 0 };
    this.#open.set(`${originator}/${transaction}`, release);
    this.#send(release);
  }

  #send(release: Release): void {
    release.sentMs = this.#context.nowMs;
    const to = this.#context.endpointOf(release.engine);
    const { transaction, attempt } = release;
    if (to !== null) this.#context.send(to, { kind: "release", engine: this.#context.engine, transaction, attempt });
  }

  acknowledged(from: Endpoint, transaction: number, attempt: number): void {
    for (const [key, release] of this.#open) {
      if (release.transaction !== transaction || release.attempt > attempt || this.#context.endpointOf(release.engine) !== from) continue;
      this.#open.delete(key);
      return;
    }
  }

  /** What it had granted is void with it. */
  departed(originator: EngineId): void {
    for (const [key, release] of this.#open) if (release.engine === originator) this.#open.delete(key);
  }

  tick(): void {
    for (const release of this.#open.values()) if (this.#context.nowMs - release.sentMs > releaseAgainMs) this.#send(release);
  }
}
