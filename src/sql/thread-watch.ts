/**
 * How a run is cancelled on a thread that is at work in SQLite and reads no messages: by memory that it shares with who posted the run. Runs are numbered
 * one by one, and no more than `runsPostedMax` are posted and not answered, so each has a slot of its own.
 */
import { runsPostedMax } from "./local-store-calls.js";
import { cancelledFault, type StatementWatch, tooLongFault } from "./statement-watch.js";

export function cancelSlots(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(runsPostedMax * Int32Array.BYTES_PER_ELEMENT));
}

/** Before it is posted: whoever had the slot has been answered. */
export function clearSlot(slots: Int32Array, run: number): void {
  Atomics.store(slots, run % runsPostedMax, 0);
}

export function cancelRun(slots: Int32Array, run: number): void {
  Atomics.store(slots, run % runsPostedMax, 1);
}

export interface ThreadWatch extends StatementWatch {
  /** The run that is carried out. */
  run: number;
}

/** `timeoutMs`: of one statement, as long as it runs at a stretch; 0: none. */
export function threadWatch(slots: Int32Array, timeoutMs: number): ThreadWatch {
  let endMs = Number.POSITIVE_INFINITY;
  return {
    run: 0,
    begin() {
      if (timeoutMs > 0) endMs = performance.now() + timeoutMs;
    },
    look() {
      if (Atomics.load(slots, this.run % runsPostedMax) !== 0) return cancelledFault;
      return timeoutMs > 0 && performance.now() > endMs ? tooLongFault(`${timeoutMs} ms`) : null;
    },
  };
}
