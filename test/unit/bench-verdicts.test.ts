import { describe, expect, it } from 'vitest';
import type { MeasureInfo, Metrics, Sample } from '../../bench/model.js';
import { judge, PLEDGES } from '../../bench/must-reach.js';
import { judgeNoise, summarize } from '../../bench/summary.js';

const ONE_FLOW = 'tcp1-ab-1500';
const MEASURES: readonly MeasureInfo[] = [
  { id: ONE_FLOW, suites: ['throughput'], title: 'TCP', primary: 'gbps' },
  { id: 'udp64', suites: ['throughput'], title: 'UDP', primary: 'kpps' },
];

function sample(measure: string, contender: string, round: number, metrics: Metrics, foreignCpuShare = 0): Sample {
  return { measure, contender, round, metrics, foreignCpuShare, seconds: 1 };
}

/** One sample a round, of one metric. */
function rounds(measure: string, contender: string, metric: keyof Metrics, values: readonly number[]): Sample[] {
  return values.map((value, index) => sample(measure, contender, index + 1, { [metric]: value }));
}

function verdicts(samples: readonly Sample[]) {
  const rows = judge(samples, judgeNoise(samples, MEASURES, 3));
  return (measure: string, relation: string) =>
    rows.find((row) => row.measure === measure && row.relation === relation);
}

const QUIET = [...rounds(ONE_FLOW, 'veth', 'gbps', [20, 21, 20]), ...rounds(ONE_FLOW, 'naive', 'gbps', [1, 1, 1.05])];

describe('summarize', () => {
  it('puts the rounds of a contender together and keeps each error once', () => {
    const failed = { ...sample('m', 'x', 1, {}), error: 'no link' };
    const { cells } = summarize([failed, { ...failed, round: 2 }, sample('m', 'x', 3, { gbps: 2 })]);
    expect(cells).toHaveLength(1);
    expect(cells[0]?.errors).toEqual(['no link']);
    expect(cells[0]?.metrics.gbps?.count).toBe(1);
  });

  it('leaves out what is no number', () => {
    const { cells } = summarize([sample('m', 'x', 1, { gbps: Number.NaN, kpps: 1 })]);
    expect(cells[0]?.metrics.gbps).toBeUndefined();
    expect(cells[0]?.metrics.kpps?.median).toBe(1);
  });
});

describe('noise', () => {
  it('is not there when the references are steady and nobody else runs', () => {
    expect(judgeNoise(QUIET, MEASURES, 3)).toMatchObject({ tooNoisy: false, sources: [] });
  });

  it('is told of a reference that varies', () => {
    const samples = [
      ...rounds(ONE_FLOW, 'veth', 'gbps', [20, 30, 10]),
      ...rounds(ONE_FLOW, 'naive', 'gbps', [1, 1, 1]),
    ];
    const noise = judgeNoise(samples, MEASURES, 3);
    expect(noise.sources).toMatchObject([{ measure: ONE_FLOW, contender: 'veth' }]);
    expect(noise.tooNoisy).toBe(false);
  });

  it('is there when other processes had the CPUs', () => {
    const samples = QUIET.map((one) => ({ ...one, foreignCpuShare: 0.3 }));
    expect(judgeNoise(samples, MEASURES, 3)).toMatchObject({ tooNoisy: true, sources: [], foreignCpuShare: 0.3 });
  });

  it('can not be told from two rounds', () => {
    expect(judgeNoise(QUIET, MEASURES, 2)).toMatchObject({ tooNoisy: true, unknown: true });
  });

  it('is not what a contender of ours varies by', () => {
    const samples = [...QUIET, ...rounds(ONE_FLOW, 'arca', 'gbps', [5, 10, 15])];
    expect(judgeNoise(samples, MEASURES, 3).tooNoisy).toBe(false);
  });
});

describe('must reach', () => {
  it('tells what was reached, what was missed, and what was not measured', () => {
    const row = verdicts([...QUIET, ...rounds(ONE_FLOW, 'arca', 'gbps', [9, 9, 9])]);
    expect(row('TCP, one flow, offloaded', 'of veth')).toMatchObject({ verdict: 'missed' });
    expect(row('TCP, one flow, offloaded', 'times naive')).toMatchObject({ verdict: 'reached' });
    expect(row('TCP, one flow, peer plain', 'of veth')).toMatchObject({ verdict: 'not measured' });
  });

  it('tells when the aim was reached', () => {
    const row = verdicts([...QUIET, ...rounds(ONE_FLOW, 'arca', 'gbps', [14, 14, 14])]);
    expect(row('TCP, one flow, offloaded', 'of veth')).toMatchObject({ verdict: 'aim reached' });
  });

  it('where less is better, a floor is a ceiling', () => {
    const cpu = (value: number) => [
      ...QUIET,
      ...rounds(ONE_FLOW, 'arca', 'cpuSecondsPerGb', [value, value, value]),
      ...rounds(ONE_FLOW, 'naive', 'cpuSecondsPerGb', [6, 6, 6]),
    ];
    expect(verdicts(cpu(2))('CPU seconds per GB', 'of naive')?.verdict).toBe('missed');
    expect(verdicts(cpu(0.9))('CPU seconds per GB', 'of naive')?.verdict).toBe('reached');
    expect(verdicts(cpu(0.1))('CPU seconds per GB', 'of naive')?.verdict).toBe('aim reached');
  });

  it('compares within a round, so that what drifts between rounds cancels out', () => {
    const row = verdicts([
      ...rounds(ONE_FLOW, 'veth', 'gbps', [20, 20.5, 21]),
      ...rounds(ONE_FLOW, 'naive', 'gbps', [1, 1, 1]),
      ...rounds(ONE_FLOW, 'arca', 'gbps', [12, 12.3, 12.6]),
    ]);
    const spread = row('TCP, one flow, offloaded', 'of veth')?.spread;
    expect(spread?.least).toBeCloseTo(0.6);
    expect(spread?.most).toBeCloseTo(0.6);
  });

  it('leaves out rounds in which a part is missing', () => {
    const row = verdicts([...QUIET, sample(ONE_FLOW, 'arca', 2, { gbps: 21 })]);
    expect(row('TCP, one flow, offloaded', 'of veth')?.spread).toMatchObject({ count: 1, median: 1 });
  });

  it('gives no verdict from a noisy run', () => {
    const disturbed = [...QUIET, ...rounds(ONE_FLOW, 'arca', 'gbps', [20, 20, 20])];
    const row = verdicts(disturbed.map((one) => ({ ...one, foreignCpuShare: 0.3 })));
    expect(row('TCP, one flow, offloaded', 'times naive')?.verdict).toBe('too noisy');
  });

  it.each([
    ['reached', [11, 11.5, 12, 12.5, 13]],
    ['undecided', [9, 9.5, 10.5, 11, 12]],
    ['undecided', [8, 9, 9.5, 10.5, 11]],
    ['missed', [8, 8.5, 9, 9.5, 12]],
  ])('is %s where half of the rounds say so: %j of 20 and a floor of 10', (verdict, values) => {
    const row = verdicts([
      ...rounds(ONE_FLOW, 'veth', 'gbps', [20, 20, 20, 20, 20]),
      ...rounds(ONE_FLOW, 'arca', 'gbps', values),
    ]);
    expect(row('TCP, one flow, offloaded', 'of veth')?.verdict).toBe(verdict);
  });

  it('gives a verdict though a reference drifts, where the ratio does not', () => {
    const row = verdicts([
      ...rounds(ONE_FLOW, 'veth', 'gbps', [20, 30, 10]),
      ...rounds(ONE_FLOW, 'arca', 'gbps', [12, 18, 6]),
    ]);
    expect(row('TCP, one flow, offloaded', 'of veth')?.verdict).toBe('reached');
  });

  it('where less is better, the middle half has to be under the floor', () => {
    const row = verdicts([
      ...rounds(ONE_FLOW, 'naive', 'cpuSecondsPerGb', [6, 6, 6]),
      ...rounds(ONE_FLOW, 'arca', 'cpuSecondsPerGb', [0.5, 0.9, 1.6]),
    ]);
    expect(row('CPU seconds per GB', 'of naive')?.verdict).toBe('undecided');
  });

  it('has no aim that is easier than its floor', () => {
    for (const { better, floor, aim } of PLEDGES) {
      if (aim !== undefined) expect(better === 'more' ? aim >= floor : aim <= floor).toBe(true);
    }
  });
});
