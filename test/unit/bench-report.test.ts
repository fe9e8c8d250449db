import { describe, expect, it, vi } from 'vitest';
import type { MeasureInfo, Results, Sample } from '../../bench/model.js';
import { judge } from '../../bench/must-reach.js';
import { checkNames, readOptions } from '../../bench/options.js';
import { drawCharts } from '../../bench/report/charts.js';
import { formatNumber, formatSpread } from '../../bench/report/format.js';
import { renderHtml } from '../../bench/report/html.js';
import { comparisonTable, measureTables, renderMarkdown, renderText } from '../../bench/report/tables.js';
import { spreadOf } from '../../bench/stats.js';
import { judgeNoise, present, summarize } from '../../bench/summary.js';
import { readIperf } from '../../bench/tools.js';

const MEASURES: readonly MeasureInfo[] = [
  { id: 'tcp1-ab-1500', suites: ['throughput', 'cpu'], title: 'TCP 1 flow, a→b, MTU 1500', primary: 'gbps' },
  { id: 'rtt-idle', suites: ['latency'], title: 'round trip, idle', primary: 'p50Us' },
];

function sample(measure: string, contender: string, round: number, rest: Partial<Sample>): Sample {
  return { measure, contender, round, metrics: {}, foreignCpuShare: 0, seconds: 1, ...rest };
}

const SAMPLES: readonly Sample[] = [1, 2, 3].flatMap((round) => [
  sample('tcp1-ab-1500', 'veth', round, { metrics: { gbps: 20 + round / 10 } }),
  sample('tcp1-ab-1500', 'naive', round, { metrics: { gbps: 1, cpuSecondsPerGb: 8 } }),
  sample('tcp1-ab-1500', 'arca', round, { metrics: { gbps: 12, cpuSecondsPerGb: 0.5 } }),
  sample('tcp1-ab-1500', 'vde', round, { error: 'no link <&>' }),
  sample('rtt-idle', 'arca', round, {
    metrics: { p50Us: 60, p99Us: 90 },
    histogram: [
      [60_000, 900],
      [90_000, 100],
    ],
  }),
]);

const RESULTS: Results = {
  format: 1,
  startedAt: '2026-01-02T03:04:05.000Z',
  finishedAt: '2026-01-02T03:14:05.000Z',
  options: { suites: ['throughput'], rounds: 3, quick: false, seconds: 2, commandLine: ['--suite', 'throughput'] },
  machine: {
    kernel: '6.1.0',
    cpu: 'CPU <i>',
    cpuCount: 2,
    memoryMb: 4000,
    autogroup: '1',
    session: 1,
    congestionControl: 'cubic',
    versions: { node: 'v20' },
    commit: 'abc',
  },
  contenders: [
    { name: 'veth', description: 'the ceiling' },
    { name: 'naive', description: 'the ancestor' },
    { name: 'arca', description: 'ours' },
    { name: 'vde', description: 'VDE' },
    { name: 'openvpn', description: 'OpenVPN', missing: 'openvpn is not installed: apt-get install openvpn' },
  ],
  measures: MEASURES,
  notes: [],
  commands: { 'contender naive': ['naive_relay --listen a', 'naive_relay --connect a'] },
  samples: SAMPLES,
};
const SUMMARY = summarize(SAMPLES);
const ORDER = present(RESULTS.contenders, SAMPLES);

describe('numbers', () => {
  it('have three significant digits and no exponent', () => {
    expect([0, 0.0647, 0.5, 7, 11.12, 1234.5].map(formatNumber)).toEqual([
      '0',
      '0.0647',
      '0.500',
      '7.00',
      '11.1',
      '1235',
    ]);
  });

  it('have their spread with them where there is one', () => {
    expect(formatSpread('gbps', spreadOf([2]))).toBe('2.00');
    expect(formatSpread('gbps', spreadOf([1, 2, 3]))).toBe('2.00 ±25 %');
  });
});

describe('tables', () => {
  it('show contenders in their order, and failures as such', () => {
    const [table] = measureTables(RESULTS, SUMMARY, ORDER);
    expect(table?.rows.map(([name]) => name)).toEqual(['veth', 'naive', 'arca', 'vde']);
    expect(table?.rows[3]?.[1]).toBe('failed');
    expect(table?.header[1]).toBe('throughput Gbit/s');
  });

  it('align numbers to the right and words to the left', () => {
    const table = {
      title: 'T',
      header: ['name', 'n', 'word'],
      rows: [
        ['a', '1', 'x'],
        ['bb', '22', 'yyy'],
      ],
    };
    expect(renderText(table)).toBe(['T', '  name   n  word', '  a      1  x', '  bb    22  yyy'].join('\n'));
  });

  it('become Markdown', () => {
    expect(renderMarkdown({ title: '', header: ['a', 'b'], rows: [['x|y', '1']] })).toBe(
      '| a | b |\n|---|---|\n| x\\|y | 1 |',
    );
  });

  it('set a run beside an earlier one', () => {
    const before = summarize([sample('tcp1-ab-1500', 'arca', 1, { metrics: { gbps: 10 } })]);
    expect(comparisonTable(RESULTS, before, SUMMARY).rows).toEqual([
      ['tcp1-ab-1500', 'arca', 'Gbit/s', '10.00', '12.00 ±0 %', '+20.0 %'],
    ]);
  });
});

describe('charts', () => {
  const charts = drawCharts(MEASURES, SUMMARY, ORDER);

  it('are drawn of what was measured, and of nothing else', () => {
    expect(charts.map(({ name }) => name)).toEqual(['throughput', 'latency', 'cpu']);
    expect(drawCharts(MEASURES, summarize([]), [])).toEqual([]);
  });

  it('are well-formed and name the contenders', () => {
    for (const { svg } of charts) {
      expect(svg).toMatch(/^<svg [^>]*viewBox="0 0 \d+ [\d.]+"/);
      expect(svg).toMatch(/<\/svg>$/);
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
    expect(charts[0]?.svg).toContain('>arca<');
  });

  it('make the longest bar of the greatest median', () => {
    const widths = [...(charts[0]?.svg.matchAll(/<rect [^>]*width="([\d.]+)"/g) ?? [])].map(([, width]) =>
      Number(width),
    );
    expect(widths).toHaveLength(3);
    expect(Math.max(...widths)).toBe(widths[0]);
    expect(widths[2]).toBeCloseTo(((widths[0] ?? 0) * 12) / 20.2, -1);
  });
});

describe('the HTML report', () => {
  const noise = judgeNoise(SAMPLES, MEASURES, 3);
  const html = renderHtml({
    results: RESULTS,
    summary: SUMMARY,
    noise,
    rows: judge(SAMPLES, noise),
    charts: drawCharts(MEASURES, SUMMARY, ORDER),
    order: ORDER,
  });

  it('needs nothing from anywhere', () => {
    expect(html).not.toMatch(/<(script|link|img)|src=|@import|url\(/);
  });

  it('has the charts, the commands, and why a contender did not run', () => {
    expect(html.match(/<svg /g)).toHaveLength(3);
    expect(html).toContain('naive_relay --connect a');
    expect(html).toContain('apt-get install openvpn');
  });

  it('escapes what came from outside', () => {
    expect(html).toContain('CPU &lt;i&gt;');
    expect(html).not.toContain('<i>');
  });

  it('says so when the run was too noisy', () => {
    expect(html).not.toContain('Too noisy');
    const few = judgeNoise(SAMPLES, MEASURES, 1);
    const report = {
      results: RESULTS,
      summary: SUMMARY,
      noise: few,
      rows: judge(SAMPLES, few),
      charts: [],
      order: ORDER,
    };
    expect(renderHtml(report)).toContain('Too noisy for a conclusion');
  });
});

describe('what iperf3 prints', () => {
  const json = (protocol: string, end: object): string => JSON.stringify({ start: { test_start: { protocol } }, end });

  it('is summed over both directions', () => {
    const sum = (bits: number) => ({ bytes: bits / 8, bits_per_second: bits, seconds: 1, retransmits: 2 });
    const end = {
      sum_sent: sum(5e9),
      sum_received: sum(4e9),
      sum_sent_bidir_reverse: sum(3e9),
      sum_received_bidir_reverse: sum(2e9),
    };
    expect(readIperf(json('TCP', end))).toMatchObject({ bitsPerSecond: 6e9, bytes: 6e9 / 8, retransmits: 4 });
  });

  it('counts as lost what was sent and did not arrive, also at the end', () => {
    const end = {
      sum_sent: { packets: 1000, seconds: 1 },
      sum_received: { packets: 900, lost_packets: 300, bytes: 38400, bits_per_second: 307200, seconds: 1 },
    };
    expect(readIperf(json('UDP', end))).toMatchObject({ delivered: 600, lost: 400, bytes: 38400 });
  });

  it('is an error when it says so, or says nothing', () => {
    expect(() => readIperf('{"error":"unable to connect"}')).toThrow('unable to connect');
    expect(() => readIperf(json('TCP', {}))).toThrow('sum_received');
    expect(() => readIperf(json('UDP', {}))).toThrow('datagrams');
  });
});

describe('the command line', () => {
  it('has fewer rounds with --quick', () => {
    expect(readOptions(['--quick'])).toMatchObject({ quick: true, rounds: 3, seconds: 1 });
    expect(readOptions(['--quick', '--rounds', '5'])).toMatchObject({ rounds: 5 });
    expect(readOptions([])).toMatchObject({ quick: false, rounds: 5, contenders: undefined });
  });

  it('takes lists, and other builds', () => {
    expect(readOptions(['--suite', 'throughput,cpu', '--contenders', 'veth,naive'])).toMatchObject({
      suites: ['throughput', 'cpu'],
      contenders: ['veth', 'naive'],
    });
    expect(readOptions(['--arca-tap', 'old=/a', '--arca-tap', 'new=/b'])).toMatchObject({
      otherBuilds: [
        { label: 'old', path: '/a' },
        { label: 'new', path: '/b' },
      ],
    });
  });

  it('ends with 2 for what it does not know', () => {
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    expect(readOptions(['--suite', 'speed'])).toBe(2);
    expect(readOptions(['--rounds', '0'])).toBe(2);
    expect(readOptions(['--frobnicate'])).toBe(2);
    expect(readOptions(['--help'])).toBe(0);
    vi.restoreAllMocks();
  });

  it('tells a name that is not there', () => {
    expect(() => checkNames('contender', ['veht'], ['veth'])).toThrow('no contender veht; there are: veth');
    expect(() => checkNames('contender', undefined, [])).not.toThrow();
  });
});
