/** What a run produces, and the names of things in it. The results file holds exactly these. */
import type { Histogram } from './stats.js';

export const SUITES = [
  'throughput',
  'latency',
  'cpu',
  'switch',
  'start',
  'control',
  'ovsdb',
  'density',
  'micro',
] as const;
export type SuiteName = (typeof SUITES)[number];

interface MetricKind {
  readonly title: string;
  readonly unit: string;
  readonly better: 'more' | 'less' | 'neither';
  readonly digits: number;
  /** The relative spread of a reference over which nothing is concluded from this metric. */
  readonly noisySpread: number;
}

const RATE_SPREAD = 0.15;
const LATENCY_SPREAD = 0.25;
/** A tail is few samples: it spreads wider on the quietest machine. */
const TAIL_SPREAD = 0.5;

export const METRICS = {
  gbps: { title: 'throughput', unit: 'Gbit/s', better: 'more', digits: 2, noisySpread: RATE_SPREAD },
  gbpsAlone: { title: 'the same alone', unit: 'Gbit/s', better: 'neither', digits: 2, noisySpread: RATE_SPREAD },
  kpps: { title: 'delivered', unit: 'kpps', better: 'more', digits: 1, noisySpread: RATE_SPREAD },
  lossPercent: { title: 'lost', unit: '%', better: 'less', digits: 1, noisySpread: RATE_SPREAD },
  retransmits: { title: 'TCP retransmits', unit: '', better: 'less', digits: 0, noisySpread: RATE_SPREAD },
  cpuSecondsPerGb: { title: 'CPU', unit: 's/GB', better: 'less', digits: 3, noisySpread: RATE_SPREAD },
  cpuUsPerFrame: { title: 'CPU', unit: 'µs/frame', better: 'less', digits: 2, noisySpread: RATE_SPREAD },
  p50Us: { title: 'p50', unit: 'µs', better: 'less', digits: 1, noisySpread: LATENCY_SPREAD },
  p99Us: { title: 'p99', unit: 'µs', better: 'less', digits: 1, noisySpread: TAIL_SPREAD },
  p999Us: { title: 'p99.9', unit: 'µs', better: 'less', digits: 1, noisySpread: TAIL_SPREAD },
  ms: { title: 'time', unit: 'ms', better: 'less', digits: 1, noisySpread: LATENCY_SPREAD },
  rssMb: { title: 'RSS', unit: 'MB', better: 'less', digits: 1, noisySpread: RATE_SPREAD },
  idleCpuPercent: { title: 'CPU of idle links', unit: '%', better: 'less', digits: 3, noisySpread: RATE_SPREAD },
  linkKib: { title: 'memory per link', unit: 'KiB', better: 'less', digits: 2, noisySpread: RATE_SPREAD },
  tapKib: { title: 'kernel per TAP', unit: 'KiB', better: 'neither', digits: 1, noisySpread: RATE_SPREAD },
  nsPerFrame: { title: 'time', unit: 'ns/frame', better: 'less', digits: 1, noisySpread: RATE_SPREAD },
  instructionsPerFrame: {
    title: 'instructions',
    unit: '/frame',
    better: 'less',
    digits: 1,
    noisySpread: RATE_SPREAD,
  },
} as const satisfies Record<string, MetricKind>;

export type Metric = keyof typeof METRICS;
export type Metrics = Readonly<Partial<Record<Metric, number>>>;

/** One measure of one contender in one round. */
export interface Sample {
  readonly measure: string;
  readonly contender: string;
  readonly round: number;
  readonly metrics: Metrics;
  /** Round trips; of the latency measures. */
  readonly histogram?: Histogram;
  /** CPU that everything outside of this session used meanwhile, as a share of all CPUs. */
  readonly foreignCpuShare: number;
  readonly seconds: number;
  /** Why there are no metrics. */
  readonly error?: string;
}

export interface MeasureInfo {
  readonly id: string;
  readonly suites: readonly SuiteName[];
  readonly title: string;
  /** The one that the table shows first, and that noise is judged by. */
  readonly primary: Metric;
}

export interface ContenderInfo {
  readonly name: string;
  readonly description: string;
  /** Why it did not run, and what would make it. */
  readonly missing?: string;
}

export interface Machine {
  readonly kernel: string;
  readonly cpu: string;
  readonly cpuCount: number;
  readonly memoryMb: number;
  readonly autogroup: string;
  readonly session: number;
  readonly congestionControl: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly commit: string;
}

export interface Results {
  readonly format: 1;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly options: {
    readonly suites: readonly SuiteName[];
    readonly rounds: number;
    readonly quick: boolean;
    readonly seconds: number;
    readonly commandLine: readonly string[];
  };
  readonly machine: Machine;
  readonly contenders: readonly ContenderInfo[];
  readonly measures: readonly MeasureInfo[];
  /** What could not be measured, by suite or measure, and why. */
  readonly notes: readonly string[];
  /** As they were run in the first round; `contender NAME` or `measure ID`. */
  readonly commands: Readonly<Record<string, readonly string[]>>;
  readonly samples: readonly Sample[];
}
