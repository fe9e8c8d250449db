import { describe, expect, it } from 'vitest';
import { askAll, changedParts, stateOf } from '../../src/control/health.js';
import { createControlMetrics } from '../../src/control/metrics.js';
import type { PartHealth } from '../../src/control/model.js';
import type { RelayCounters } from '../../src/native.js';

function counters(frames: number): RelayCounters {
  const direction = {
    frames,
    bytes: frames * 100,
    bursts: 1,
    systemCalls: 1,
    stalls: 0,
    drops: { runt: 1, tagged: 0 },
  };
  return {
    tapToStream: direction,
    streamToTap: direction,
    peersConnected: 1,
    peersRefused: { busy: 0, 'cid-not-allowed': 0 },
    breaches: { 'too-long': 0 },
    tapWrites: { state: 'batched' },
    tapQueueDrops: 2,
    peerUp: 1,
  };
}

const idle = { attachments: [], networks: 0, restarts: 0, version: '1' };

describe('createControlMetrics', () => {
  const relay = (tap: string, pid: number, frames: number) => ({ tap, pid, counters: counters(frames) });

  async function framesAfter(...scrapes: ReturnType<typeof relay>[][]): Promise<number> {
    const metrics = await createControlMetrics();
    for (const relays of scrapes) metrics.observe(relays, new Set(relays.map(({ tap }) => tap)));
    const { body } = await metrics.render(idle);
    return Number(/^arca_frames_total\{direction="tap_to_stream"\} (\d+)$/m.exec(body)?.[1]);
  }

  it('sums over relays', async () => {
    expect(await framesAfter([relay('tap1', 1, 10), relay('tap2', 2, 5)])).toBe(15);
  });

  it('counts what came since the last time', async () => {
    expect(await framesAfter([relay('tap1', 1, 10)], [relay('tap1', 1, 12)])).toBe(12);
  });

  it('never goes back when a relay ends, or a new one counts from zero', async () => {
    expect(await framesAfter([relay('tap1', 1, 10)], [])).toBe(10);
    expect(await framesAfter([relay('tap1', 1, 10)], [relay('tap1', 2, 3)])).toBe(13);
    expect(await framesAfter([relay('tap1', 1, 10)], [], [relay('tap1', 2, 3)])).toBe(13);
  });

  it('counts nothing twice of one that did not answer once', async () => {
    const metrics = await createControlMetrics();
    const living = new Set(['tap1']);
    metrics.observe([relay('tap1', 1, 10)], living);
    metrics.observe([], living);
    metrics.observe([relay('tap1', 1, 11)], living);
    expect((await metrics.render(idle)).body).toContain('arca_frames_total{direction="tap_to_stream"} 11\n');
  });

  it('gives every series, and labels of fixed words only', async () => {
    const metrics = await createControlMetrics();
    metrics.observe([relay('tap1', 1, 10)], new Set(['tap1']));
    const { body, contentType } = await metrics.render({
      attachments: [
        { state: 'ready', connected: true },
        { state: 'ready', connected: false },
        { state: 'failed', connected: false },
      ],
      ...{ networks: 3, restarts: 4, version: '1.2.3' },
    });
    expect(contentType).toContain('text/plain');
    for (const line of [
      'arca_frames_total{direction="stream_to_tap"} 10',
      'arca_bytes_total{direction="tap_to_stream"} 1000',
      'arca_drops_total{direction="tap_to_stream",reason="runt"} 1',
      'arca_drops_total{direction="tap_to_stream",reason="tagged"} 0',
      'arca_breaches_total{reason="too-long"} 0',
      'arca_peers_connected_total 1',
      'arca_tap_queue_drops_total 2',
      'arca_attachments{state="ready"} 2',
      'arca_attachments{state="failed"} 1',
      'arca_attachments{state="starting"} 0',
      'arca_attachments_connected 1',
      'arca_networks 3',
      'arca_relay_restarts_total 4',
      'arca_control_info{version="1.2.3"} 1',
    ]) {
      expect(body.split('\n')).toContain(line);
    }
  });
});

describe('askAll', () => {
  it('asks all at the same time, and tells what each said', async () => {
    let waiting = 0;
    let most = 0;
    const ask = async (): Promise<string> => {
      most = Math.max(most, ++waiting);
      await new Promise(setImmediate);
      waiting--;
      return 'answers';
    };
    const parts = await askAll(
      [
        { part: 'one', ask },
        { part: 'two', ask },
        { part: 'ill', ask: () => Promise.reject(new Error('it is not there')) },
      ],
      1000,
    );
    expect(most).toBe(2);
    expect(parts).toEqual([
      { part: 'one', state: 'ok', detail: expect.stringMatching(/^answers \(\d+ ms\)$/) },
      { part: 'two', state: 'ok', detail: expect.any(String) },
      { part: 'ill', state: 'ill', detail: 'it is not there' },
    ]);
    expect(stateOf(parts)).toBe('ill');
    expect(stateOf(parts.slice(0, 2))).toBe('ok');
  });
});

describe('changedParts', () => {
  const part = (name: string, state: PartHealth['state']): PartHealth => ({ part: name, state, detail: '' });

  it('tells what fell ill and what got well, and no more', () => {
    const before = [part('a', 'ok'), part('b', 'ill'), part('c', 'ill'), part('d', 'unknown')];
    const after = [
      part('a', 'ill'),
      part('b', 'ok'),
      part('c', 'ill'),
      part('d', 'ok'),
      part('e', 'ok'),
      part('f', 'ill'),
    ];
    expect(changedParts(before, after).map((changed) => changed.part)).toEqual(['a', 'b', 'f']);
    expect(changedParts([], [part('g', 'unknown')])).toEqual([]);
  });
});
