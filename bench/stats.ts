/** Statistics of small samples. Pure; every function throws on an empty list rather than inventing a number. */

/** By linear interpolation between the closest ranks (type 7 of Hyndman and Fan, the default of R and NumPy). */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * share;
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  if (below === undefined || above === undefined) throw new RangeError('no quantile of nothing');
  return below + (above - below) * (position - Math.floor(position));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Median absolute deviation, not scaled. */
export function mad(values: readonly number[]): number {
  const centre = median(values);
  return median(values.map((value) => Math.abs(value - centre)));
}

export interface Spread {
  readonly count: number;
  readonly median: number;
  readonly least: number;
  readonly most: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
  readonly mad: number;
}

export function spreadOf(values: readonly number[]): Spread {
  return {
    count: values.length,
    median: median(values),
    least: Math.min(...values),
    most: Math.max(...values),
    lowerQuartile: quantile(values, 0.25),
    upperQuartile: quantile(values, 0.75),
    mad: mad(values),
  };
}

/**
 * Interquartile range as a share of the median. Chosen over the MAD to judge noise, since the MAD of three rounds
 * overlooks the worst of them. 0 when all are 0.
 */
export function relativeSpread({ median: centre, lowerQuartile, upperQuartile }: Spread): number {
  const range = upperQuartile - lowerQuartile;
  if (range === 0) return 0;
  return centre === 0 ? Number.POSITIVE_INFINITY : range / Math.abs(centre);
}

/** Buckets as [lower bound, count], ascending. */
export type Histogram = readonly (readonly [lowerNs: number, count: number])[];

export function mergeHistograms(histograms: readonly Histogram[]): Histogram {
  const counts = new Map<number, number>();
  for (const histogram of histograms) {
    for (const [lowerNs, count] of histogram) counts.set(lowerNs, (counts.get(lowerNs) ?? 0) + count);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

export function countOf(histogram: Histogram): number {
  return histogram.reduce((sum, [, count]) => sum + count, 0);
}

/** Lower bound of the bucket that holds the value of that rank; `share` of 0.99 is the 99th percentile. */
export function percentileNs(histogram: Histogram, share: number): number {
  const rank = Math.max(1, Math.ceil(countOf(histogram) * share));
  let seen = 0;
  for (const [lowerNs, count] of histogram) {
    seen += count;
    if (seen >= rank) return lowerNs;
  }
  throw new RangeError('no percentile of an empty histogram');
}
