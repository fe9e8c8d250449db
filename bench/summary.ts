/** Samples put together over rounds. Pure. */
import { type ContenderInfo, METRICS, type MeasureInfo, type Metric, type Sample } from './model.js';
import { type Histogram, median, mergeHistograms, relativeSpread, type Spread, spreadOf } from './stats.js';

export interface Cell {
  readonly measure: string;
  readonly contender: string;
  readonly metrics: Readonly<Partial<Record<Metric, Spread>>>;
  /** Of all rounds together. */
  readonly histogram?: Histogram;
  /** Different errors, each once. */
  readonly errors: readonly string[];
}

export interface Summary {
  readonly cells: readonly Cell[];
  cell(measure: string, contender: string): Cell | undefined;
}

export function summarize(samples: readonly Sample[]): Summary {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const key = keyOf(sample.measure, sample.contender);
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  const cells = new Map([...groups].map(([key, group]) => [key, cellOf(group)]));
  return { cells: [...cells.values()], cell: (measure, contender) => cells.get(keyOf(measure, contender)) };
}

function keyOf(measure: string, contender: string): string {
  return `${measure}\n${contender}`;
}

function cellOf(group: readonly Sample[]): Cell {
  const metrics: Partial<Record<Metric, Spread>> = {};
  for (const metric of Object.keys(METRICS) as Metric[]) {
    const values = valuesOf(group, metric);
    if (values.length > 0) metrics[metric] = spreadOf(values);
  }
  const histograms = group.flatMap(({ histogram }) => (histogram ? [histogram] : []));
  return {
    measure: group[0]?.measure ?? '',
    contender: group[0]?.contender ?? '',
    metrics,
    ...(histograms.length > 0 && { histogram: mergeHistograms(histograms) }),
    errors: [...new Set(group.flatMap(({ error }) => (error === undefined ? [] : [error])))],
  };
}

function valuesOf(samples: readonly Sample[], metric: Metric): number[] {
  return samples.flatMap(({ metrics: { [metric]: value } }) =>
    value !== undefined && Number.isFinite(value) ? [value] : [],
  );
}

/** The value of each round in which it was measured. */
export function byRound(
  samples: readonly Sample[],
  measure: string,
  contender: string,
  metric: Metric,
): ReadonlyMap<number, number> {
  const values = new Map<number, number>();
  for (const sample of samples) {
    const value = sample.metrics[metric];
    if (sample.measure === measure && sample.contender === contender && value !== undefined && Number.isFinite(value)) {
      values.set(sample.round, value);
    }
  }
  return values;
}

export interface NoiseSource {
  readonly measure: string;
  readonly contender: string;
  readonly metric: Metric;
  readonly spread: number;
  readonly threshold: number;
}

export interface Noise {
  /** Median over all samples. */
  readonly foreignCpuShare: number;
  readonly foreignCpuThreshold: number;
  /** Too few rounds to tell. */
  readonly unknown: boolean;
  /** References that varied. What drifts between rounds does so for all: verdicts rest on ratios within a round. */
  readonly sources: readonly NoiseSource[];
  /** Whether nothing may be concluded from the whole run. */
  readonly tooNoisy: boolean;
  readonly reasons: readonly string[];
}

/** The contenders that do not change when this project does: what they vary by is the machine's doing. */
export const REFERENCES = ['veth', 'naive'] as const;
const FOREIGN_CPU_THRESHOLD = 0.05;
const LEAST_ROUNDS = 3;

/** Beside each measure's primary metric: what a verdict may rest on. */
const ALSO_JUDGED: readonly Metric[] = ['cpuSecondsPerGb', 'p99Us'];

function noiseOf(summary: Summary, measure: string, contender: string, metric: Metric): NoiseSource | undefined {
  const found = summary.cell(measure, contender)?.metrics[metric];
  if (found === undefined || found.count < LEAST_ROUNDS) return undefined;
  const spread = relativeSpread(found);
  const threshold = METRICS[metric].noisySpread;
  return spread > threshold ? { measure, contender, metric, spread, threshold } : undefined;
}

export function judgeNoise(samples: readonly Sample[], measures: readonly MeasureInfo[], rounds: number): Noise {
  const summary = summarize(samples);
  const sources: NoiseSource[] = [];
  for (const { id, primary } of measures) {
    for (const contender of REFERENCES) {
      for (const metric of new Set([primary, ...ALSO_JUDGED])) {
        const source = noiseOf(summary, id, contender, metric);
        if (source) sources.push(source);
      }
    }
  }
  const foreignCpuShare = samples.length > 0 ? median(samples.map((sample) => sample.foreignCpuShare)) : 0;
  const reasons: string[] = [];
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  if (rounds < LEAST_ROUNDS) reasons.push(`${rounds} rounds are too few to tell: at least ${LEAST_ROUNDS}`);
  if (foreignCpuShare > FOREIGN_CPU_THRESHOLD) {
    reasons.push(
      `other processes had ${percent(foreignCpuShare)} of the CPUs (at most ${percent(FOREIGN_CPU_THRESHOLD)})`,
    );
  }
  return {
    foreignCpuShare,
    foreignCpuThreshold: FOREIGN_CPU_THRESHOLD,
    unknown: rounds < LEAST_ROUNDS,
    sources,
    tooNoisy: reasons.length > 0,
    reasons,
  };
}

/** For people: `noise: veth spread over 30 % of its median in tcp1-ab-1500 (throughput)`. */
export function describeNoise({ contender, measure, metric, spread }: NoiseSource): string {
  const percent = (spread * 100).toFixed(0);
  return `noise: ${contender} spread over ${percent} % of its median in ${measure} (${METRICS[metric].title})`;
}

/** Contenders that have a sample, in the order of the list. */
export function present(contenders: readonly ContenderInfo[], samples: readonly Sample[]): readonly string[] {
  const seen = new Set(samples.map((sample) => sample.contender));
  const listed = contenders.map(({ name }) => name).filter((name) => seen.has(name));
  return [...listed, ...[...seen].filter((name) => !listed.includes(name))];
}
