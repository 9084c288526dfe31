const lookAgainMs = 50;

/** Waits until `check` no longer throws; then what it threw last says why it never came true. */
export async function eventually(what: string, withinMs: number, check: () => void | Promise<void>): Promise<void> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`, { cause: error });
    }
    await pause(lookAgainMs);
  }
}

export function pause(forMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, forMs));
}
