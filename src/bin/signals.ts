/**
 * SIGTERM and SIGINT stop what runs, in order, and end the process; a second one ends it at once. A child of `atomcast cluster` stops
 * also when its parent is gone: nobody else would.
 */
import { strandedThreadCount } from "../sql/worker-local-store.js";

export interface Stoppable {
  stop(): Promise<void>;
}

/**
 * SIGINTs closer than this are one: at Ctrl-C the terminal sends it to the whole process group, and npm once more to its child. No person is
 * so quick. Milliseconds.
 */
const samePressMs = 200;

/** Calls `first` at the first signal, `second` at each further one. */
export function onStopSignals(first: () => void, second: () => void): void {
  let signalled = false;
  let interruptedMs = Number.NEGATIVE_INFINITY;
  const onSignal = (): void => {
    if (signalled) second();
    else {
      signalled = true;
      first();
    }
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", () => {
    const nowMs = performance.now();
    if (nowMs - interruptedMs < samePressMs) return;
    interruptedMs = nowMs;
    onSignal();
  });
  if (process.connected) process.once("disconnect", onSignal);
}

/**
 * Ends the process now. process.exit() would wait for worker threads, and a statement that goes on within SQLite cannot be interrupted. What is
 * to be done at the exit (temporary files) is done.
 */
export function endNow(): void {
  process.emit("exit", 1);
  process.kill(process.pid, "SIGKILL");
}

/** What is added to `stops` later is stopped too. The promise never resolves: the process exits. */
export function stopOnSignals(stops: readonly Stoppable[]): Promise<never> {
  const stop = (): void => {
    stopAll(stops).then(
      () => {
        if (strandedThreadCount() > 0) endNow();
        else process.exit(0);
      },
      (error: unknown) => {
        process.stderr.write(`atomcast: stopping failed: ${error instanceof Error ? error.message : String(error)}\n`);
        endNow();
      },
    );
  };
  onStopSignals(stop, endNow);
  return new Promise(() => {});
}

async function stopAll(stops: readonly Stoppable[]): Promise<void> {
  for (const one of stops) await one.stop();
}
