/** How far a long task is: a bar that is drawn over itself on a terminal, else a line now and then. */
export interface ProgressDisplay {
  update(label: string, done: number, total: number): void;
  /** Takes the bar away. */
  finish(): void;
}

export interface TextOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Time between two drawings of the bar, in milliseconds: smooth to the eye, nothing to the terminal. */
const barIntervalMs = 100;
/** Time between two lines, in milliseconds: enough to see that it lives, few enough for a log. */
const lineIntervalMs = 5_000;
const barCells = 24;

export function createProgressDisplay(output: TextOutput, now: () => number = () => performance.now()): ProgressDisplay {
  const isTerminal = output.isTTY === true;
  const intervalMs = isTerminal ? barIntervalMs : lineIntervalMs;
  const startedMs = now();
  // A terminal shows the bar at once; a log gets no line from a task that is short.
  let shownMs = isTerminal ? -Infinity : startedMs;
  let isBarShown = false;
  return {
    update(label, done, total) {
      const nowMs = now();
      if (nowMs - shownMs < intervalMs) return;
      shownMs = nowMs;
      const share = total === 0 ? 1 : Math.min(1, done / total);
      const perSecond = Math.round(done / Math.max(0.001, (nowMs - startedMs) / 1000));
      const figures = `${Math.floor(share * 100)} %  ${done.toLocaleString("en")} of ${total.toLocaleString("en")} rows  ${perSecond.toLocaleString("en")}/s  ${label}`;
      if (!isTerminal) {
        output.write(`${figures}\n`);
        return;
      }
      const filled = Math.round(share * barCells);
      const line = `[${"#".repeat(filled)}${".".repeat(barCells - filled)}] ${figures}`;
      output.write(`\r\u001b[K${line.slice(0, (output.columns ?? 80) - 1)}`);
      isBarShown = true;
    },
    finish() {
      if (isBarShown) output.write("\r\u001b[K");
      isBarShown = false;
    },
  };
}
