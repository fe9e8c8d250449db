/**
 * Throughput, latency and CPU through each contender's link. In a round all links of one MTU stand at once, idle but for
 * the one that is measured, and each measure goes over all contenders before the next begins: A B C, A B C.
 */
import { type Contender, type Link, openLink } from '../contenders/contender.js';
import type { Context } from '../context.js';
import { BenchError, messageOf } from '../errors.js';
import type { MeasureInfo, Metrics, SuiteName } from '../model.js';
import { cpuSeconds } from '../proc.js';
import { type Histogram, percentileNs } from '../stats.js';
import { endsOf, iperf, pingpong } from '../tools.js';
import type { OpenStage, Outcome, Stage, Task } from './stage.js';

/** Round trips a second: enough for a tail in a few seconds, and far from a load of its own. */
const PING_RATE_HZ = 1000;
/** Let pass before round trips count: caches, ARP, and a TCP flow that fills its window. */
const IDLE_WARMUP_MS = 100;
const LOAD_WARMUP_MS = 250;
const QUICK_LATENCY_SECONDS = 0.75;
const FULL_LATENCY_SECONDS = 4;
/** Bytes of TCP payload in a frame of that MTU: 20 of IPv4, 20 of TCP, 12 of timestamps. */
const TCP_OVERHEAD_BYTES = 52;

export interface LinkMeasure extends MeasureInfo {
  readonly mtu: number;
  /** With --quick only these contenders; undefined: not with --quick. */
  readonly quick?: readonly string[];
  readonly run: LinkRun;
}

type Way = 'ab' | 'ba' | 'bidir';

function tcp(flows: number, way: Way, mtu: number, quick?: readonly string[]): LinkMeasure {
  const arrow = { ab: 'a→b', ba: 'b→a', bidir: 'both ways' }[way];
  const suites: SuiteName[] = flows === 1 && way === 'ab' && mtu === 1500 ? ['throughput', 'cpu'] : ['throughput'];
  return {
    id: `tcp${flows}-${way}-${mtu}`,
    suites,
    title: `TCP ${flows} flow${flows > 1 ? 's' : ''}, ${arrow}, MTU ${mtu}`,
    primary: 'gbps',
    mtu,
    ...(quick && { quick }),
    run: runTcp(flows, way),
  };
}

type LinkRun = (context: Context, link: Link, key: string) => Promise<Outcome>;

export function runTcp(flows: number, way: Way): LinkRun {
  const wayArgs = { ab: [], ba: ['-R'], bidir: ['--bidir'] }[way];
  const args = [...(flows > 1 ? ['-P', String(flows)] : []), ...wayArgs];
  return async (context, link, key) => {
    const before = cpuSeconds(link.processIds);
    const result = await iperf(context, endsOf(link.pair), args, key);
    const cpu = cpuSeconds(link.processIds) - before;
    const frames = result.bytes / (link.mtu - TCP_OVERHEAD_BYTES);
    const metrics: Metrics = {
      gbps: result.bitsPerSecond / 1e9,
      retransmits: result.retransmits,
      ...(link.processIds.length > 0 && {
        cpuSecondsPerGb: cpu / (result.bytes / 1e9),
        cpuUsPerFrame: (cpu * 1e6) / frames,
      }),
    };
    return { metrics };
  };
}

function udp(sizeBytes: number, quick?: readonly string[]): LinkMeasure {
  return {
    id: `udp${sizeBytes}`,
    suites: ['throughput', 'cpu'],
    title: `UDP ${sizeBytes} bytes, a→b, MTU 1500`,
    primary: 'kpps',
    mtu: 1500,
    ...(quick && { quick }),
    run: runUdp(sizeBytes),
  };
}

export function runUdp(sizeBytes: number): LinkRun {
  return async (context, link, key) => {
    const before = cpuSeconds(link.processIds);
    const result = await iperf(context, endsOf(link.pair), ['-u', '-b', '0', '-l', String(sizeBytes)], key);
    const cpu = cpuSeconds(link.processIds) - before;
    const metrics: Metrics = {
      kpps: result.delivered / result.seconds / 1e3,
      gbps: result.bitsPerSecond / 1e9,
      lossPercent: (100 * result.lost) / (result.lost + result.delivered),
      ...(link.processIds.length > 0 && { cpuUsPerFrame: (cpu * 1e6) / result.delivered }),
    };
    return { metrics };
  };
}

function roundTrip(load: boolean, quick: readonly string[]): LinkMeasure {
  return {
    id: load ? 'rtt-load' : 'rtt-idle',
    suites: ['latency'],
    title: load ? 'round trip under one full-speed TCP flow a→b' : 'round trip, idle',
    primary: 'p50Us',
    mtu: 1500,
    quick,
    run: runRoundTrip(load),
  };
}

export function runRoundTrip(load: boolean): LinkRun {
  return async (context, link, key) => {
    const seconds = context.quick ? QUICK_LATENCY_SECONDS : FULL_LATENCY_SECONDS;
    const warmupMs = load ? LOAD_WARMUP_MS : IDLE_WARMUP_MS;
    const ends = endsOf(link.pair);
    // The flow outlives the last round trip: it starts at the same time, and ends in whole seconds.
    const flowSeconds = Math.ceil(seconds + warmupMs / 1000);
    const flow = load ? iperf(context, ends, [], `${key} flow`, flowSeconds) : undefined;
    const [pings, flowed] = await allSettledOrThrow(
      pingpong(context, ends, { rateHz: PING_RATE_HZ, seconds, warmupMs }, key),
      flow,
    );
    const metrics: Metrics = {
      ...latencyMetrics(pings.histogram),
      lossPercent: (100 * (pings.sent - pings.answered)) / pings.sent,
      ...(flowed && { gbps: flowed.bitsPerSecond / 1e9 }),
    };
    return { metrics, histogram: pings.histogram };
  };
}

export function latencyMetrics(histogram: Histogram): Metrics {
  if (histogram.length === 0) return {};
  const us = (share: number): number => percentileNs(histogram, share) / 1000;
  return { p50Us: us(0.5), p99Us: us(0.99), p999Us: us(0.999) };
}

/** Waits for both, so that neither goes on when the other failed. */
async function allSettledOrThrow<A, B>(first: Promise<A>, second: Promise<B> | undefined): Promise<[A, B | undefined]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'rejected') throw a.reason;
  if (b.status === 'rejected') throw b.reason;
  return [a.value, b.value];
}

/** Without those of others. */
export const QUICK_CONTENDERS: readonly string[] = ['veth', 'naive', 'batched', 'arca-plain', 'arca'];

export const LINK_MEASURES: readonly LinkMeasure[] = [
  tcp(1, 'ab', 1500, QUICK_CONTENDERS),
  tcp(1, 'ba', 1500),
  tcp(1, 'bidir', 1500),
  tcp(8, 'ab', 1500),
  tcp(8, 'ba', 1500),
  tcp(8, 'bidir', 1500, ['veth', 'naive', 'arca']),
  udp(64, ['veth', 'naive', 'arca']),
  udp(1400),
  roundTrip(false, ['veth', 'naive', 'arca', 'arca-busy']),
  roundTrip(true, ['veth', 'naive', 'arca']),
  tcp(1, 'ab', 9000),
  tcp(1, 'ba', 9000),
  tcp(1, 'bidir', 9000),
  tcp(8, 'ab', 9000),
  tcp(8, 'ba', 9000),
  tcp(8, 'bidir', 9000),
];

/** One stage for each MTU among the measures. */
export function linkStages(
  context: Context,
  contenders: readonly Contender[],
  measures: readonly LinkMeasure[],
): readonly Stage[] {
  const offered = context.quick ? measures.filter((measure) => measure.quick) : measures;
  const mtus = [...new Set(offered.map((measure) => measure.mtu))];
  return mtus.map((mtu) => {
    const here = offered.filter((measure) => measure.mtu === mtu);
    return {
      name: `links, MTU ${mtu}`,
      measures: here,
      mtu,
      open: () => openLinks(context, contenders, here, mtu),
    };
  });
}

function takesPart(context: Context, measure: LinkMeasure, contender: string): boolean {
  if (!context.quick || measure.quick === undefined) return true;
  // Another build runs where the own one does.
  return measure.quick.includes(contender.startsWith('arca:') ? 'arca' : contender);
}

/** A link of each contender, and every measure over all of them. A link that can't be made fails its own tasks. */
export async function openLinks(
  context: Context,
  contenders: readonly Contender[],
  measures: readonly LinkMeasure[],
  mtu: number,
): Promise<OpenStage> {
  const running = contenders.filter(
    ({ name, mostMtu = mtu }) => mostMtu >= mtu && measures.some((measure) => takesPart(context, measure, name)),
  );
  const links = new Map<string, Link>();
  const failures = new Map<string, string>();
  for (const contender of running) {
    if (context.signal.aborted) break;
    try {
      links.set(contender.name, await openLink(context, contender, mtu));
    } catch (error) {
      failures.set(contender.name, messageOf(error));
    }
  }
  const taskOf = (measure: LinkMeasure, name: string): Task => ({
    measure: measure.id,
    contender: name,
    async run() {
      const link = links.get(name);
      if (!link) throw new BenchError(failures.get(name) ?? 'no link');
      link.check();
      const outcome = await measure.run(context, link, `measure ${measure.id}`);
      link.check();
      return outcome;
    },
  });
  return {
    tasks: measures.flatMap((measure) =>
      running.filter(({ name }) => takesPart(context, measure, name)).map(({ name }) => taskOf(measure, name)),
    ),
    async close() {
      await Promise.all([...links.values()].map((link) => link.close()));
    },
  };
}
