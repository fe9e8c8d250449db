/**
 * All relays in one text for Prometheus. No label names a container or a network: the series stay as many, however many
 * attachments there are. Counters never go back while this process lives: what a relay had counted when it ended counts on.
 */
import type { MetricsText } from '../metrics.js';
import type { DirectionCounters, RelayCounters } from '../native.js';
import type { AttachmentState } from './model.js';

export interface ControlSnapshot {
  readonly attachments: readonly { readonly state: AttachmentState; readonly connected: boolean }[];
  readonly networks: number;
  /** Relays that were started again since this process began. */
  readonly restarts: number;
  readonly version: string;
}

export interface ControlMetrics {
  /** What relays count now: those that answered, of those that live. */
  observe(relays: readonly CountingRelay[], living: ReadonlySet<string>): void;
  render(snapshot: ControlSnapshot): Promise<MetricsText>;
}

/** A relay is known by its TAP and its process id. */
export interface CountingRelay {
  readonly tap: string;
  readonly pid: number;
  readonly counters: RelayCounters;
}

/** Sums by metric name and labels. */
type Sums = Map<string, { readonly name: string; readonly labels: Readonly<Record<string, string>>; value: number }>;

const STATES: readonly AttachmentState[] = ['starting', 'ready', 'degraded', 'restarting', 'failed'];

const HELP: Readonly<Record<string, { readonly help: string; readonly labels: readonly string[] }>> = {
  arca_frames_total: { help: 'Ethernet frames delivered by all relays.', labels: ['direction'] },
  arca_bytes_total: { help: 'Bytes of Ethernet frames delivered by all relays.', labels: ['direction'] },
  arca_stalls_total: { help: 'Times that the sink of a relay was full.', labels: ['direction'] },
  arca_drops_total: { help: 'Frames dropped by all relays, by reason.', labels: ['direction', 'reason'] },
  arca_breaches_total: { help: 'Links closed because the peer broke the protocol.', labels: ['reason'] },
  arca_peers_refused_total: { help: 'Peers that were refused.', labels: ['reason'] },
  arca_peers_connected_total: { help: 'Peers that connected.', labels: [] },
  arca_tap_queue_drops_total: { help: "Frames dropped because a TAP's queue was full.", labels: [] },
};

export async function createControlMetrics(): Promise<ControlMetrics> {
  const { Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const registers = [registry];
  const counters = new Map(
    Object.entries(HELP).map(([name, { help, labels }]) => [
      name,
      new Counter({ name, help, labelNames: [...labels], registers }),
    ]),
  );
  const attachments = new Gauge({
    name: 'arca_attachments',
    help: 'Attachments, by state.',
    labelNames: ['state'],
    registers,
  });
  const connected = new Gauge({
    name: 'arca_attachments_connected',
    help: "Attachments whose container's end is connected.",
    registers,
  });
  const networks = new Gauge({ name: 'arca_networks', help: 'Networks, those of others included.', registers });
  const restarts = new Counter({
    name: 'arca_relay_restarts_total',
    help: 'Relays that were started again.',
    registers,
  });
  const info = new Gauge({
    name: 'arca_control_info',
    help: 'Always 1; the version is the label.',
    labelNames: ['version'],
    registers,
  });

  const sums: Sums = new Map();
  /** By TAP, what its relay had counted when it was last asked. */
  const seen = new Map<string, { readonly pid: number; readonly sums: Sums }>();

  function count({ tap, pid, counters: now }: CountingRelay): void {
    const before = seen.get(tap);
    const counted = sumsOf(now);
    for (const [key, { name, labels, value }] of counted) {
      const known = before?.pid === pid ? (before.sums.get(key)?.value ?? 0) : 0;
      const sum = sums.get(key) ?? { name, labels, value: 0 };
      sum.value += Math.max(0, value - known);
      sums.set(key, sum);
    }
    seen.set(tap, { pid, sums: counted });
  }

  return {
    observe(relays, living) {
      for (const tap of seen.keys()) if (!living.has(tap)) seen.delete(tap);
      for (const relay of relays) count(relay);
    },

    async render(snapshot) {
      for (const counter of counters.values()) counter.reset();
      for (const { name, labels, value } of sums.values()) counters.get(name)?.inc(labels, value);
      for (const state of STATES) {
        attachments.set({ state }, snapshot.attachments.filter((attachment) => attachment.state === state).length);
      }
      connected.set(snapshot.attachments.filter((attachment) => attachment.connected).length);
      networks.set(snapshot.networks);
      restarts.reset();
      restarts.inc(snapshot.restarts);
      info.set({ version: snapshot.version }, 1);
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}

function sumsOf(counters: RelayCounters): Sums {
  const sums: Sums = new Map();
  const add = (name: string, labels: Readonly<Record<string, string>>, value: number): void => {
    sums.set(`${name} ${Object.values(labels).join(' ')}`, { name, labels, value });
  };
  const direction = (label: string, { frames, bytes, stalls, drops }: DirectionCounters): void => {
    add('arca_frames_total', { direction: label }, frames);
    add('arca_bytes_total', { direction: label }, bytes);
    add('arca_stalls_total', { direction: label }, stalls);
    for (const [reason, count] of Object.entries(drops)) add('arca_drops_total', { direction: label, reason }, count);
  };
  direction('tap_to_stream', counters.tapToStream);
  direction('stream_to_tap', counters.streamToTap);
  for (const [reason, count] of Object.entries(counters.breaches)) add('arca_breaches_total', { reason }, count);
  for (const [reason, count] of Object.entries(counters.peersRefused))
    add('arca_peers_refused_total', { reason }, count);
  add('arca_peers_connected_total', {}, counters.peersConnected);
  add('arca_tap_queue_drops_total', {}, counters.tapQueueDrops);
  return sums;
}
