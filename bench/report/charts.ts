/** Charts of a run as SVG. Pure; what was not measured is left out, and a chart without anything is undefined. */
import { METRICS, type MeasureInfo, type Metric } from '../model.js';
import { countOf, type Histogram, percentileNs, type Spread } from '../stats.js';
import type { Summary } from '../summary.js';
import { document, element, line, text } from './svg.js';

export interface Chart {
  /** Of the file: `throughput.svg`. */
  readonly name: string;
  readonly title: string;
  readonly svg: string;
}

const WIDTH = 760;
const COLOURS: Readonly<Record<string, string>> = {
  veth: '#8c959f',
  naive: '#cf222e',
  batched: '#bf8700',
  'arca-plain': '#2da44e',
  arca: '#0969da',
  'arca-busy': '#1b7c83',
  vde: '#8250df',
  openvpn: '#bc4c00',
  socat: '#bf3989',
};
const OTHER_COLOUR = '#57606a';

function colourOf(contender: string): string {
  return COLOURS[contender] ?? OTHER_COLOUR;
}

export function drawCharts(
  measures: readonly MeasureInfo[],
  summary: Summary,
  order: readonly string[],
): readonly Chart[] {
  const has = (id: string): MeasureInfo[] => measures.filter((measure) => measure.id === id);
  const tcp = ['tcp1-ab-1500', 'tcp8-bidir-1500', 'tcp1-ab-9000', 'tcp8-bidir-9000'].flatMap(has);
  const charts = [
    barChart('throughput', 'TCP throughput, Gbit/s (more is better)', 'gbps', tcp, summary, order),
    barChart(
      'udp',
      'UDP delivered, thousand datagrams a second (more is better)',
      'kpps',
      ['udp64', 'udp1400'].flatMap(has),
      summary,
      order,
    ),
    latencyChart(['rtt-idle', 'rtt-load'].flatMap(has), summary, order),
    barChart(
      'cpu',
      'CPU seconds per GB of TCP, relay processes alone (less is better)',
      'cpuSecondsPerGb',
      has('tcp1-ab-1500'),
      summary,
      order,
    ),
  ];
  return charts.flatMap((chart) => chart ?? []);
}

interface Bar {
  readonly contender: string;
  readonly spread: Spread;
}

const BAR_LEFT = 110;
const BAR_RIGHT = 90;
const BAR_STEP = 22;
const GROUP_GAP = 38;
const HEAD = 34;

/** Medians as bars, the middle half of the rounds as a line across their ends. Each measure has its own group, all one scale. */
function barChart(
  name: string,
  title: string,
  metric: Metric,
  measures: readonly MeasureInfo[],
  summary: Summary,
  order: readonly string[],
): Chart | undefined {
  const groups = measures
    .map((measure) => ({ measure, bars: barsOf(measure, metric, summary, order) }))
    .filter(({ bars }) => bars.length > 0);
  const most = Math.max(
    ...groups.flatMap(({ bars }) => bars.map(({ spread }) => Math.max(spread.median, spread.upperQuartile))),
  );
  if (groups.length === 0 || !(most > 0)) return undefined;
  const scale = (value: number): number => BAR_LEFT + (value / most) * (WIDTH - BAR_LEFT - BAR_RIGHT);
  let y = HEAD;
  const parts = [text(0, 18, title, 't')];
  for (const { measure, bars } of groups) {
    parts.push(text(0, y + 14, measure.title, 'h'));
    y += 24;
    for (const bar of bars) {
      parts.push(drawBar(bar, metric, y, scale));
      y += BAR_STEP;
    }
    y += GROUP_GAP - 24;
  }
  return { name, title, svg: document(WIDTH, y, title, parts.join('')) };
}

function barsOf(measure: MeasureInfo, metric: Metric, summary: Summary, order: readonly string[]): readonly Bar[] {
  return order.flatMap((contender) => {
    const spread = summary.cell(measure.id, contender)?.metrics[metric];
    return spread ? [{ contender, spread }] : [];
  });
}

function drawBar({ contender, spread }: Bar, metric: Metric, y: number, scale: (value: number) => number): string {
  const middle = y + BAR_STEP / 2 - 2;
  const end = scale(spread.median);
  const whisker =
    spread.count > 1 ? line(scale(spread.lowerQuartile), middle, scale(spread.upperQuartile), middle, 'w') : '';
  const labelAt = Math.max(end, scale(spread.upperQuartile)) + 6;
  return [
    text(BAR_LEFT - 8, middle + 4, contender, 'l', 'end'),
    element('rect', {
      x: BAR_LEFT,
      y,
      width: Math.max(1, end - BAR_LEFT),
      height: BAR_STEP - 5,
      rx: 2,
      fill: colourOf(contender),
    }),
    whisker,
    text(labelAt, middle + 4, spread.median.toFixed(METRICS[metric].digits), 'l'),
  ].join('');
}

const PERCENTILES = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];
const LABELLED: readonly (readonly [share: number, label: string])[] = [
  [0.5, '50'],
  [0.9, '90'],
  [0.99, '99'],
  [0.999, '99.9'],
  [0.9999, '99.99'],
];
/** Fewer samples than this above a percentile say nothing about it. */
const LEAST_ABOVE = 2;
const PANEL = { top: 62, height: 250, left: 60, right: 24, gap: 40 } as const;

interface Curve {
  readonly contender: string;
  readonly points: readonly (readonly [share: number, us: number])[];
}

/** Round trips by percentile: both axes logarithmic, so that the tail has as much room as the middle. */
function latencyChart(measures: readonly MeasureInfo[], summary: Summary, order: readonly string[]): Chart | undefined {
  const panels = measures
    .map((measure) => ({ measure, curves: curvesOf(measure, summary, order) }))
    .filter(({ curves }) => curves.length > 0);
  const all = panels.flatMap(({ curves }) => curves.flatMap(({ points }) => points.map(([, us]) => us)));
  if (all.length === 0) return undefined;
  const title = 'Round trip by percentile, µs (less is better)';
  const least = 10 ** Math.floor(Math.log10(Math.min(...all)));
  const most = 10 ** Math.ceil(Math.log10(Math.max(...all)));
  const { top, height, left, right, gap } = PANEL;
  const width = (WIDTH - left - gap * (panels.length - 1) - right) / panels.length;
  const yOf = (us: number): number => top + height * (1 - Math.log10(us / least) / Math.log10(most / least));
  const parts = [text(0, 18, title, 't')];
  panels.forEach(({ measure, curves }, index) => {
    const x = left + index * (width + gap);
    parts.push(text(x, top - 14, measure.title, 'h'));
    parts.push(drawGrid(x, width, least, most, yOf, index === 0));
    parts.push(...curves.map((curve) => drawCurve(curve, (share) => x + width * positionOf(share), yOf)));
  });
  const contenders = order.filter((name) =>
    panels.some(({ curves }) => curves.some((curve) => curve.contender === name)),
  );
  parts.push(drawLegend(contenders, top + height + 44));
  return { name: 'latency', title, svg: document(WIDTH, top + height + 60, title, parts.join('')) };
}

/** 0.5 at the left end, 0.9999 at the right one, each nine a step of the same width. */
function positionOf(share: number): number {
  const nines = (value: number): number => -Math.log10(1 - value);
  return (nines(share) - nines(0.5)) / (nines(0.9999) - nines(0.5));
}

function curvesOf(measure: MeasureInfo, summary: Summary, order: readonly string[]): readonly Curve[] {
  return order.flatMap((contender) => {
    const histogram = summary.cell(measure.id, contender)?.histogram;
    const points = histogram ? pointsOf(histogram) : [];
    return points.length > 0 ? [{ contender, points }] : [];
  });
}

function pointsOf(histogram: Histogram): readonly (readonly [number, number])[] {
  const count = countOf(histogram);
  return PERCENTILES.filter((share) => count * (1 - share) >= LEAST_ABOVE).map(
    (share) => [share, percentileNs(histogram, share) / 1000] as const,
  );
}

function drawGrid(
  x: number,
  width: number,
  least: number,
  most: number,
  yOf: (us: number) => number,
  withLabels: boolean,
): string {
  const parts: string[] = [];
  for (let us = least; us <= most * 1.001; us *= 10) {
    parts.push(line(x, yOf(us), x + width, yOf(us), 'g'));
    if (withLabels) parts.push(text(x - 8, yOf(us) + 4, us.toLocaleString('en-US'), 's', 'end'));
  }
  for (const [share, label] of LABELLED) {
    const at = x + width * positionOf(share);
    parts.push(line(at, yOf(most), at, yOf(least), 'g'), text(at, yOf(least) + 18, label, 's', 'middle'));
  }
  return parts.join('');
}

function drawCurve({ contender, points }: Curve, xOf: (share: number) => number, yOf: (us: number) => number): string {
  const path = points.map(([share, us]) => `${xOf(share).toFixed(1)},${yOf(us).toFixed(1)}`).join(' ');
  const width = contender.startsWith('arca') ? 2.5 : 1.5;
  return element('polyline', { points: path, fill: 'none', stroke: colourOf(contender), 'stroke-width': width });
}

function drawLegend(contenders: readonly string[], y: number): string {
  const step = 82;
  return contenders
    .map((name, index) => {
      const x = index * step;
      return (
        element('rect', { x, y: y - 9, width: 12, height: 12, rx: 2, fill: colourOf(name) }) +
        text(x + 17, y + 1, name, 'l')
      );
    })
    .join('');
}
