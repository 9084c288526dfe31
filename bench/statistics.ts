/** Small sums over few figures. */

/** The middle one, or the mean of the two in the middle; null of nothing. */
export function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted[middle - 1];
  if (upper === undefined) return null;
  return sorted.length % 2 === 1 || lower === undefined ? upper : (lower + upper) / 2;
}

/** null of nothing. */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** null where there is nothing to divide by. */
export function ratio(value: number | null, base: number | null): number | null {
  return value === null || base === null || base === 0 ? null : value / base;
}

export interface Gap {
  readonly lengthMs: number;
  /** False: no success came within the window, the gap is at least this long. */
  readonly ended: boolean;
}

/**
 * The longest time between two successes in a row that is over after `fromMs`: a kill at `fromMs` is within it, or before it. `throughMs`
 * closes the window; what is open there is a gap that did not end. Times in milliseconds of one clock, in any order.
 */
export function longestGap(successesMs: readonly number[], fromMs: number, throughMs: number): Gap {
  const sorted = successesMs.filter((timeMs) => timeMs <= throughMs).sort((left, right) => left - right);
  let lastMs = sorted.findLast((timeMs) => timeMs <= fromMs) ?? fromMs;
  let longest: Gap = { lengthMs: 0, ended: true };
  for (const timeMs of sorted) {
    if (timeMs <= fromMs) continue;
    if (timeMs - lastMs > longest.lengthMs) longest = { lengthMs: timeMs - lastMs, ended: true };
    lastMs = timeMs;
  }
  return throughMs - lastMs > longest.lengthMs ? { lengthMs: throughMs - lastMs, ended: false } : longest;
}
