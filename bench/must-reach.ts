/** The promises of the data plane and of the control plane, and whether this run kept them. Pure. */
import type { Metric, Sample } from './model.js';
import { type Spread, spreadOf } from './stats.js';
import { byRound, type Noise } from './summary.js';

interface Term {
  readonly measure: string;
  readonly contender: string;
  readonly metric: Metric;
}

interface Pledge {
  readonly measure: string;
  /** What the number is: `of veth`, `times naive`, `ms over node and ovs-vsctl`. */
  readonly relation: string;
  readonly unit: '×' | '%' | 'ms' | 'MB' | 'KiB';
  readonly terms: readonly Term[];
  /** Of the terms' values in one round. */
  readonly combine: (...values: number[]) => number;
  readonly better: 'more' | 'less';
  readonly floor: number;
  readonly aim?: number;
}

export type Verdict = 'aim reached' | 'reached' | 'missed' | 'undecided' | 'not measured' | 'too noisy';

export interface Row {
  readonly measure: string;
  readonly relation: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly floor: number;
  readonly aim?: number;
  readonly spread?: Spread;
  readonly verdict: Verdict;
}

const ratio = (value: number, reference: number): number => value / reference;

function term(measure: string, contender: string, metric: Metric): Term {
  return { measure, contender, metric };
}

function ratioTo(
  measure: string,
  relation: string,
  of: Term,
  to: Term,
  better: 'more' | 'less',
  floor: number,
  aim?: number,
): Pledge {
  return {
    measure,
    relation,
    unit: '×',
    terms: [of, to],
    combine: ratio,
    better,
    floor,
    ...(aim !== undefined && { aim }),
  };
}

const ONE_FLOW = 'tcp1-ab-1500';
const EIGHT_BOTH = 'tcp8-bidir-1500';

export const PLEDGES: readonly Pledge[] = [
  ratioTo(
    'TCP, one flow, offloaded',
    'of veth',
    term(ONE_FLOW, 'arca', 'gbps'),
    term(ONE_FLOW, 'veth', 'gbps'),
    'more',
    0.5,
    0.65,
  ),
  ratioTo(
    'TCP, one flow, offloaded',
    'times naive',
    term(ONE_FLOW, 'arca', 'gbps'),
    term(ONE_FLOW, 'naive', 'gbps'),
    'more',
    7,
  ),
  ratioTo(
    'TCP, one flow, peer plain',
    'of veth',
    term(ONE_FLOW, 'arca-plain', 'gbps'),
    term(ONE_FLOW, 'veth', 'gbps'),
    'more',
    0.3,
    0.4,
  ),
  ratioTo(
    'TCP, one flow, peer plain',
    'times naive',
    term(ONE_FLOW, 'arca-plain', 'gbps'),
    term(ONE_FLOW, 'naive', 'gbps'),
    'more',
    4,
  ),
  ratioTo(
    'TCP, 8 flows, both ways',
    'of veth',
    term(EIGHT_BOTH, 'arca', 'gbps'),
    term(EIGHT_BOTH, 'veth', 'gbps'),
    'more',
    0.45,
    0.6,
  ),
  ratioTo(
    'UDP 64 bytes, delivered',
    'times naive',
    term('udp64', 'arca', 'kpps'),
    term('udp64', 'naive', 'kpps'),
    'more',
    1.5,
    3,
  ),
  ratioTo(
    'idle round trip, p50',
    'of naive',
    term('rtt-idle', 'arca', 'p50Us'),
    term('rtt-idle', 'naive', 'p50Us'),
    'less',
    1,
  ),
  ratioTo(
    'idle round trip, p99',
    'of naive',
    term('rtt-idle', 'arca', 'p99Us'),
    term('rtt-idle', 'naive', 'p99Us'),
    'less',
    1,
  ),
  ratioTo(
    'idle round trip, p50, busy-poll',
    'of naive',
    term('rtt-idle', 'arca-busy', 'p50Us'),
    term('rtt-idle', 'naive', 'p50Us'),
    'less',
    1,
    0.7,
  ),
  ratioTo(
    'idle round trip, p99, busy-poll',
    'of naive',
    term('rtt-idle', 'arca-busy', 'p99Us'),
    term('rtt-idle', 'naive', 'p99Us'),
    'less',
    1,
    0.7,
  ),
  ratioTo(
    'round trip p99 under load',
    'times idle p99',
    term('rtt-load', 'arca', 'p99Us'),
    term('rtt-idle', 'arca', 'p99Us'),
    'less',
    5,
    2,
  ),
  ratioTo(
    'CPU seconds per GB',
    'of naive',
    term(ONE_FLOW, 'arca', 'cpuSecondsPerGb'),
    term(ONE_FLOW, 'naive', 'cpuSecondsPerGb'),
    'less',
    1 / 6,
    1 / 12,
  ),
  ratioTo(
    'one busy link beside 999 idle',
    'of it alone',
    term('density-1000', 'arca', 'gbps'),
    term('density-1000', 'arca', 'gbpsAlone'),
    'more',
    0.95,
    1,
  ),
  {
    measure: 'CPU of 1000 idle links',
    relation: 'of one CPU',
    unit: '%',
    terms: [term('density-1000', 'arca', 'idleCpuPercent')],
    combine: (percent) => percent,
    better: 'less',
    // None. A timer or two of Node's own is less than this.
    floor: 0.1,
  },
  {
    measure: 'memory per idle link, TAP aside',
    relation: '',
    unit: 'KiB',
    terms: [term('density-1000', 'arca', 'linkKib')],
    combine: (kib) => kib,
    better: 'less',
    floor: 32,
    aim: 8,
  },
  {
    measure: 'arca-relay, start to ready',
    relation: 'over node -e 0 and one ovs-vsctl',
    unit: 'ms',
    terms: [term('start', 'arca-relay', 'ms'), term('start', 'node -e 0', 'ms'), term('start', 'ovs-vsctl', 'ms')],
    combine: (relay, node, vsctl) => relay - node - vsctl,
    better: 'less',
    floor: 60,
    aim: 20,
  },
  {
    measure: 'RSS of one arca-relay',
    relation: 'over node -e with a timer',
    unit: 'MB',
    terms: [term('start', 'arca-relay', 'rssMb'), term('start', 'node -e timer', 'rssMb')],
    combine: (relay, node) => relay - node,
    better: 'less',
    floor: 15,
    aim: 8,
  },
  ratioTo(
    'attach beside 200 attachments',
    'of attach alone',
    term('control-attach', '200 attachments', 'ms'),
    term('control-attach', '1 attachment', 'ms'),
    'less',
    1.5,
  ),
  {
    measure: 'listing 200 attachments',
    relation: 'p50',
    unit: 'ms',
    terms: [term('control-list', '200 attachments', 'ms')],
    combine: (ms) => ms,
    better: 'less',
    floor: 50,
  },
  ratioTo(
    'a port put on a bridge, client connects anew',
    'of ovs-vsctl',
    term('ovsdb-add-port', 'client, new connection', 'p50Us'),
    term('ovsdb-add-port', 'ovs-vsctl', 'p50Us'),
    'less',
    0.5,
    0.2,
  ),
  ratioTo(
    'its transaction alone, client connects anew',
    'of ovsdb-client',
    term('ovsdb-transact', 'client, new connection', 'p50Us'),
    term('ovsdb-transact', 'ovsdb-client', 'p50Us'),
    'less',
    0.5,
    0.2,
  ),
];

/** Combines what was measured in the same round: what drifts between rounds cancels out. */
export function judge(samples: readonly Sample[], noise: Noise): readonly Row[] {
  return PLEDGES.map((pledge) => {
    const { measure, relation, unit, better, floor, aim } = pledge;
    const common = { measure, relation, unit, better, floor, ...(aim !== undefined && { aim }) };
    const values = valuesOf(samples, pledge);
    if (values.length === 0) return { ...common, verdict: 'not measured' };
    const spread = spreadOf(values);
    return { ...common, spread, verdict: verdictOf(pledge, spread, noise) };
  });
}

function valuesOf(samples: readonly Sample[], { terms, combine }: Pledge): number[] {
  const columns = terms.map(({ measure, contender, metric }) => byRound(samples, measure, contender, metric));
  const rounds = [...(columns[0]?.keys() ?? [])];
  return rounds.flatMap((round) => {
    const values = columns.flatMap((column) => column.get(round) ?? []);
    return values.length === terms.length ? [combine(...values)] : [];
  });
}

/**
 * The middle half of the rounds has to agree: with a bound among it the promise is undecided, however far it is from the
 * bound in the median. So noise takes away verdicts, and never makes one.
 */
function verdictOf({ better, floor, aim }: Pledge, { lowerQuartile, upperQuartile }: Spread, noise: Noise): Verdict {
  if (noise.tooNoisy) return 'too noisy';
  const [worse, best] = better === 'more' ? [lowerQuartile, upperQuartile] : [upperQuartile, lowerQuartile];
  const holds = (value: number, bound: number): boolean => (better === 'more' ? value >= bound : value <= bound);
  if (!holds(best, floor)) return 'missed';
  if (!holds(worse, floor)) return 'undecided';
  return aim !== undefined && holds(worse, aim) ? 'aim reached' : 'reached';
}
