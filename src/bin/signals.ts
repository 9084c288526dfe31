/**
 * SIGTERM and SIGINT stop what runs, in order, and end the process; a second one ends it at once. A child of `atomcast cluster` stops
 * also when its parent is gone: nobody else would.
 */
export interface Stoppable {
  stop(): Promise<void>;
}

/** What is added to `stops` later is stopped too. The promise never resolves: the process exits. */
export function stopOnSignals(stops: readonly Stoppable[]): Promise<never> {
  let stopping = false;
  const onSignal = (): void => {
    if (stopping) process.exit(1);
    stopping = true;
    stopAll(stops).then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`atomcast: stopping failed: ${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  if (process.connected) process.once("disconnect", onSignal);
  return new Promise(() => {});
}

async function stopAll(stops: readonly Stoppable[]): Promise<void> {
  for (const one of stops) await one.stop();
}
