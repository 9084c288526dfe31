/**
 * Virtual time: one queue of what is to happen, in the order of time, then of adding. The memory fabric keeps a queue of its own; both go on
 * together. Between two events all that promises have waiting is run, so that engines' asynchronous code takes no virtual time and always
 * the same order.
 */
import type { Random } from "../../src/base/random.js";
import type { Cancel, Clock } from "../../src/engines/environment.js";
import { EventQueue } from "../../src/messages/network/memory-event-queue.js";
import type { MemoryFabric } from "../../src/messages/network/memory-network.js";

/** Rounds of promise continuations between two events. What is chained deeper goes on after the next event: later, and still always alike. */
const microtaskRounds = 6;

/** Events at one moment; more are a circle that never ends. */
const stillCountMax = 100_000;

export class VirtualTime {
  readonly fabric: MemoryFabric;
  readonly #events = new EventQueue();
  #nowMs = 0;
  /** Events since time last went on. */
  #stillCount = 0;

  constructor(fabric: MemoryFabric) {
    this.fabric = fabric;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, act: () => void): Cancel {
    let cancelled = false;
    this.#events.add(this.#nowMs + Math.max(0, delayMs), () => {
      if (!cancelled) act();
    });
    return () => {
      cancelled = true;
    };
  }

  /** The next moment at which something happens, and all of the fabric or one event of ours. False: nothing is left. */
  async step(): Promise<boolean> {
    for (let round = 0; this.#isEmpty && round < 20; round++) await settle();
    const ours = this.#events.nextAtMs();
    const theirs = this.fabric.nextDueMs();
    if (this.#isEmpty) return false;
    const atMs = Math.min(ours ?? Number.POSITIVE_INFINITY, theirs ?? Number.POSITIVE_INFINITY);
    if (atMs > this.#nowMs) this.#stillCount = 0;
    else if (++this.#stillCount > stillCountMax) throw new Error(`time stands still at ${this.#nowMs}`);
    this.#nowMs = Math.max(this.#nowMs, atMs);
    this.fabric.due(this.#nowMs);
    if (ours !== null && (theirs === null || ours < theirs)) this.#events.takeDue(this.#nowMs)?.act();
    await settle();
    return true;
  }

  get #isEmpty(): boolean {
    return this.#events.nextAtMs() === null && this.fabric.nextDueMs() === null;
  }
}

async function settle(): Promise<void> {
  for (let round = 0; round < microtaskRounds; round++) await null;
}

/** One process's clock: runs at an offset of its own, stands still for the process while it is paused, and is silent for ever once it is killed. */
export class ProcessClock implements Clock {
  readonly #time: VirtualTime;
  readonly #random: Random;
  readonly #offsetMs: number;
  readonly #onEvent: () => void;
  #state: "running" | "paused" | "killed" = "running";
  #kept: (() => void)[] = [];

  /** `onEvent`: called before each event of the process. */
  constructor(time: VirtualTime, random: Random, offsetMs: number, onEvent: () => void) {
    this.#time = time;
    this.#random = random;
    this.#offsetMs = offsetMs;
    this.#onEvent = onEvent;
  }

  nowMs(): number {
    return this.#time.nowMs + this.#offsetMs;
  }

  /** The end of a turn comes a little after its first input, so that it may have several. */
  soon(act: () => void): void {
    this.after(this.#random.integer(100) / 1000, act);
  }

  after(delayMs: number, act: () => void): Cancel {
    let cancelled = false;
    this.#time.after(delayMs, () =>
      this.#run(() => {
        if (!cancelled) act();
      }),
    );
    return () => {
      cancelled = true;
    };
  }

  every(periodMs: number, act: () => void): Cancel {
    let cancelled = false;
    const again = (): void => {
      this.#time.after(periodMs, () =>
        this.#run(() => {
          if (cancelled) return;
          act();
          again();
        }),
      );
    };
    again();
    return () => {
      cancelled = true;
    };
  }

  #run(act: () => void): void {
    if (this.#state === "killed") return;
    if (this.#state === "paused") {
      this.#kept.push(act);
      return;
    }
    this.#onEvent();
    act();
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused";
  }

  /** What became due meanwhile happens now, in its order. */
  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    const kept = this.#kept;
    this.#kept = [];
    for (const act of kept) this.after(0, act);
  }

  kill(): void {
    this.#state = "killed";
    this.#kept = [];
  }
}
