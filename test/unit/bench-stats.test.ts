import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  countOf,
  type Histogram,
  mad,
  median,
  mergeHistograms,
  percentileNs,
  quantile,
  relativeSpread,
  spreadOf,
} from '../../bench/stats.js';

const values = fc.array(fc.double({ min: -1e9, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 50 });

describe('quantile', () => {
  it('interpolates between ranks, as R and NumPy do by default', () => {
    expect(quantile([1, 2, 3, 4], 0.25)).toBe(1.75);
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([10], 0.99)).toBe(10);
    expect(quantile([1, 2, 3], 1)).toBe(3);
  });

  it('refuses to invent a number', () => {
    expect(() => median([])).toThrow(RangeError);
  });

  it('leaves its argument as it was', () => {
    const given = [3, 1, 2];
    median(given);
    expect(given).toEqual([3, 1, 2]);
  });

  it('lies between least and most, and does not depend on the order', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (sample, share) => {
        const result = quantile(sample, share);
        expect(result).toBeGreaterThanOrEqual(Math.min(...sample) - 1e-6);
        expect(result).toBeLessThanOrEqual(Math.max(...sample) + 1e-6);
        expect(quantile([...sample].reverse(), share)).toBe(result);
      }),
    );
  });
});

describe('spread', () => {
  it('gives quartiles, MAD and range', () => {
    expect(spreadOf([1, 2, 3, 4, 100])).toEqual({
      count: 5,
      median: 3,
      least: 1,
      most: 100,
      lowerQuartile: 2,
      upperQuartile: 4,
      mad: 1,
    });
  });

  it('sees the one bad round of three that the MAD overlooks', () => {
    const rounds = [100, 101, 50];
    expect(mad(rounds)).toBe(1);
    expect(relativeSpread(spreadOf(rounds))).toBeGreaterThan(0.2);
  });

  it('of equal values is none, also of zeros', () => {
    expect(relativeSpread(spreadOf([7, 7, 7]))).toBe(0);
    expect(relativeSpread(spreadOf([0, 0, 0]))).toBe(0);
  });

  it('around a median of 0 has no bound', () => {
    expect(relativeSpread(spreadOf([-1, 0, 1]))).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('histograms', () => {
  const histogram: Histogram = [
    [100, 98],
    [200, 1],
    [900, 1],
  ];

  it('give percentiles by rank', () => {
    expect(percentileNs(histogram, 0.5)).toBe(100);
    expect(percentileNs(histogram, 0.98)).toBe(100);
    expect(percentileNs(histogram, 0.99)).toBe(200);
    expect(percentileNs(histogram, 0.999)).toBe(900);
    expect(percentileNs(histogram, 0)).toBe(100);
    expect(() => percentileNs([], 0.5)).toThrow(RangeError);
  });

  it('merge by bucket, in order', () => {
    const merged = mergeHistograms([
      [
        [300, 1],
        [500, 2],
      ],
      [
        [100, 4],
        [300, 3],
      ],
    ]);
    expect(merged).toEqual([
      [100, 4],
      [300, 4],
      [500, 2],
    ]);
    expect(countOf(merged)).toBe(10);
  });

  it('have the percentile of the values that went in', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (sample, share) => {
          const made = mergeHistograms(sample.map((value) => [[value, 1]]));
          const sorted = [...sample].sort((a, b) => a - b);
          expect(percentileNs(made, share)).toBe(sorted[Math.max(1, Math.ceil(sample.length * share)) - 1]);
        },
      ),
    );
  });
});
