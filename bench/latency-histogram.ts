/**
 * Latencies in buckets, each 2 % wider than the one before: bounded however long a run is, and mergeable over processes. A quantile is told to
 * within 2 %.
 */
export interface LatencyHistogram {
  count: number;
  readonly buckets: number[];
}

/** From 1 µs up; the last bucket takes what is longer than about 100 s. */
const bucketCount = 931;
const growth = 1.02;
const logGrowth = Math.log(growth);

export function emptyHistogram(): LatencyHistogram {
  return { count: 0, buckets: new Array<number>(bucketCount).fill(0) };
}

export function addLatency(histogram: LatencyHistogram, micros: number): void {
  const bucket = micros <= 1 ? 0 : Math.min(bucketCount - 1, Math.ceil(Math.log(micros) / logGrowth));
  histogram.buckets[bucket] = (histogram.buckets[bucket] ?? 0) + 1;
  histogram.count++;
}

export function mergeHistograms(histograms: readonly LatencyHistogram[]): LatencyHistogram {
  const merged = emptyHistogram();
  for (const { count, buckets } of histograms) {
    merged.count += count;
    for (const [bucket, inBucket] of buckets.entries()) merged.buckets[bucket] = (merged.buckets[bucket] ?? 0) + inBucket;
  }
  return merged;
}

/** The latency, in microseconds, that a share `fraction` (0 to 1) of all stays at or below; null where there is none. */
export function quantileMicros(histogram: LatencyHistogram, fraction: number): number | null {
  if (histogram.count === 0) return null;
  let left = Math.max(1, Math.ceil(histogram.count * fraction));
  for (const [bucket, inBucket] of histogram.buckets.entries()) {
    left -= inBucket;
    if (left <= 0) return growth ** bucket;
  }
  return growth ** (bucketCount - 1);
}
