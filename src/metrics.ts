/**
 * A relay's counters in Prometheus' text format. The library is loaded by the first scrape: a relay that nobody
 * scrapes pays neither its time nor its memory.
 */
import type { DirectionCounters, RelayCounters } from './native.js';

export interface MetricsSnapshot {
  readonly counters: RelayCounters;
  /** The port forwards, as far as OVS tells. */
  readonly isReady: boolean;
  readonly version: string;
}

export interface MetricsText {
  readonly contentType: string;
  readonly body: string;
}

export interface MetricsRenderer {
  render(snapshot: MetricsSnapshot): Promise<MetricsText>;
}

const DIRECTIONS = ['tapToStream', 'streamToTap'] as const;
const DIRECTION_LABELS = { tapToStream: 'tap_to_stream', streamToTap: 'stream_to_tap' } as const;

/** Labels are few and their values are fixed words: the series of a thousand relays must stay countable. */
export async function createMetricsRenderer(): Promise<MetricsRenderer> {
  const { Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const registers = [registry];

  const perDirection = (name: string, help: string, read: (counters: DirectionCounters) => number) => {
    const metric = new Counter({ name, help, labelNames: ['direction'], registers });
    return ({ counters }: MetricsSnapshot): void => {
      metric.reset();
      for (const direction of DIRECTIONS)
        metric.inc({ direction: DIRECTION_LABELS[direction] }, read(counters[direction]));
    };
  };
  const byReason = (
    name: string,
    help: string,
    labels: readonly string[],
    read: (counters: RelayCounters) => readonly (readonly [Record<string, string>, number])[],
  ) => {
    const metric = new Counter({ name, help, labelNames: [...labels], registers });
    return ({ counters }: MetricsSnapshot): void => {
      metric.reset();
      for (const [values, count] of read(counters)) metric.inc(values, count);
    };
  };
  const total = (name: string, help: string, read: (counters: RelayCounters) => number) =>
    byReason(name, help, [], (counters) => [[{}, read(counters)]]);
  const gauge = (name: string, help: string, read: (snapshot: MetricsSnapshot) => number) => {
    const metric = new Gauge({ name, help, registers });
    return (snapshot: MetricsSnapshot): void => metric.set(read(snapshot));
  };
  const info = new Gauge({
    name: 'arca_relay_info',
    help: 'Always 1; the version is the label.',
    labelNames: ['version'],
    registers,
  });

  const setters = [
    perDirection('arca_relay_frames_total', 'Ethernet frames delivered.', (direction) => direction.frames),
    perDirection('arca_relay_bytes_total', 'Bytes of Ethernet frames delivered.', (direction) => direction.bytes),
    perDirection('arca_relay_bursts_total', 'Sends or receives that moved something.', (direction) => direction.bursts),
    perDirection(
      'arca_relay_system_calls_total',
      'System calls on the data path.',
      (direction) => direction.systemCalls,
    ),
    perDirection('arca_relay_stalls_total', 'Times that the sink was full.', (direction) => direction.stalls),
    byReason('arca_relay_drops_total', 'Frames dropped, by reason.', ['direction', 'reason'], (counters) =>
      DIRECTIONS.flatMap((direction) =>
        Object.entries(counters[direction].drops).map(
          ([reason, count]) => [{ direction: DIRECTION_LABELS[direction], reason }, count] as const,
        ),
      ),
    ),
    byReason('arca_relay_breaches_total', 'Links closed because the peer broke the protocol.', ['reason'], (counters) =>
      Object.entries(counters.breaches).map(([reason, count]) => [{ reason }, count] as const),
    ),
    byReason('arca_relay_peers_refused_total', 'Peers that were refused.', ['reason'], (counters) =>
      Object.entries(counters.peersRefused).map(([reason, count]) => [{ reason }, count] as const),
    ),
    total('arca_relay_peers_connected_total', 'Peers that connected.', (counters) => counters.peersConnected),
    total(
      'arca_relay_tap_queue_drops_total',
      "Frames that the kernel dropped because the TAP's queue was full.",
      (counters) => counters.tapQueueDrops,
    ),
    gauge('arca_relay_peer_up', '1 while a peer is connected.', ({ counters }) => counters.peerUp),
    gauge('arca_relay_ready', '1 while the OVS port forwards; 0 while degraded.', ({ isReady }) => (isReady ? 1 : 0)),
    ({ version }: MetricsSnapshot): void => info.set({ version }, 1),
  ];

  return {
    async render(snapshot) {
      for (const set of setters) set(snapshot);
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}
