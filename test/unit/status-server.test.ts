import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../../src/exec.js';
import { createMetricsRenderer } from '../../src/metrics.js';
import type { RelayCounters } from '../../src/native.js';
import { type StatusServer, startStatusServer } from '../../src/relay/status-server.js';

const direction = { frames: 3, bytes: 4, bursts: 5, systemCalls: 6, stalls: 7, drops: { runt: 8 } };
const counters: RelayCounters = {
  tapToStream: direction,
  streamToTap: { ...direction, frames: 30, drops: { tagged: 1, oversize: 0 } },
  peersConnected: 2,
  peersRefused: { busy: 1, 'cid-not-allowed': 0 },
  breaches: { 'too-long': 1 },
  tapWrites: { state: 'batched' },
  tapQueueDrops: 9,
  peerUp: 1,
};

let folder: string;
let path: string;
let server: StatusServer | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  path = join(folder, 'm.sock');
});

afterEach(async () => {
  await server?.stop();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const source = {
  status: () => ({ state: 'ready' }),
  metrics: async () => (await createMetricsRenderer()).render({ counters, isReady: true, version: '1' }),
  subscribe: () => () => {},
};
const unix = () => ({ transport: 'unix', path }) as const;

function get(url: string, method = 'GET'): Promise<{ readonly status: number | undefined; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath: path, path: url, method }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode, body }));
    });
    asking.on('error', reject);
    asking.end();
  });
}

describe('startStatusServer', () => {
  it('serves status and metrics, and nothing else', async () => {
    server = await startStatusServer(unix(), source);
    expect(await get('/status')).toEqual({ status: 200, body: '{"state":"ready"}\n' });
    expect((await get('/metrics')).body).toContain('arca_relay_ready 1\n');
    expect((await get('/')).status).toBe(404);
    expect((await get('/status', 'POST')).status).toBe(405);
  });

  it('says 500 when the source fails, and lives on', async () => {
    const status = () => {
      throw new Error('closed');
    };
    server = await startStatusServer(unix(), { ...source, status });
    expect(await get('/status')).toEqual({ status: 500, body: 'closed\n' });
    expect((await get('/metrics')).status).toBe(200);
  });

  it('removes its socket, and ends connections that are kept', async () => {
    const started = await startStatusServer(unix(), source);
    await get('/status');
    await started.stop();
    expect(existsSync(path)).toBe(false);
  });

  it('replaces a socket that a dead process left', async () => {
    const leave = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await run(process.execPath, ['-e', leave], { timeoutMs: 10_000 }).catch(() => {});
    expect(existsSync(path)).toBe(true);
    server = await startStatusServer(unix(), source);
    expect((await get('/status')).status).toBe(200);
  });

  it('leaves alone a socket that somebody listens on', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(path, resolve));
    await expect(startStatusServer(unix(), source)).rejects.toMatchObject({ code: 'endpoint-in-use' });
    expect(existsSync(path)).toBe(true);
    other.close();
  });

  it('leaves alone a file that is no socket', async () => {
    writeFileSync(path, 'precious');
    await expect(startStatusServer(unix(), source)).rejects.toMatchObject({ code: 'endpoint-in-use' });
    expect(existsSync(path)).toBe(true);
  });

  it('says that the folder is missing', async () => {
    const endpoint = { transport: 'unix', path: join(folder, 'no', 'm.sock') } as const;
    await expect(startStatusServer(endpoint, source)).rejects.toMatchObject({ code: 'endpoint-failed' });
  });

  it('serves on TCP', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const endpoint = { transport: 'tcp', host: '127.0.0.1', port } as const;
    await expect(startStatusServer(endpoint, source)).rejects.toMatchObject({ code: 'endpoint-in-use' });
    await new Promise((resolve) => taken.close(resolve));
    server = await startStatusServer(endpoint, source);
    expect((await (await fetch(`http://127.0.0.1:${port}/status`)).text()).trim()).toBe('{"state":"ready"}');
  });
});

describe('GET /events', () => {
  const tellers = new Set<(event: object) => void>();
  const watched = {
    ...source,
    subscribe(listener: (event: object) => void) {
      tellers.add(listener);
      return () => tellers.delete(listener);
    },
  };

  function watch(): Promise<{ readonly lines: string[]; readonly ended: Promise<void>; readonly end: () => void }> {
    return new Promise((resolve, reject) => {
      const asking = request({ socketPath: path, path: '/events', agent: false }, (response) => {
        const lines: string[] = [];
        response.setEncoding('utf8');
        const ended = new Promise<void>((resolve) => response.once('close', resolve));
        response.on('error', () => {});
        response.on('data', (text: string) => {
          lines.push(...text.split('\n').filter(Boolean));
          resolve({ lines, ended, end: () => response.destroy() });
        });
      });
      asking.on('error', reject);
      asking.end();
    });
  }

  it('begins with the status, and goes on with each event', async () => {
    server = await startStatusServer(unix(), watched);
    const { lines, end } = await watch();
    for (const tell of tellers) tell({ event: 'degraded' });
    await vi.waitUntil(() => lines.length === 2);
    expect(lines).toEqual(['{"event":"status","state":"ready"}', '{"event":"degraded"}']);
    end();
    await vi.waitUntil(() => tellers.size === 0);
  });

  it('outlives the server: only the end of the process ends it', async () => {
    const started = await startStatusServer(unix(), watched);
    const { lines, ended, end } = await watch();
    await started.stop();
    expect(existsSync(path)).toBe(false);
    for (const tell of tellers) tell({ event: 'stopping' });
    await vi.waitUntil(() => lines.length === 2);
    end();
    await ended;
  });

  it('cuts a watcher off that does not read, and is not held up by it', async () => {
    server = await startStatusServer(unix(), watched);
    const socket = connect(path);
    socket.pause();
    socket.write('GET /events HTTP/1.1\r\nhost: x\r\n\r\n');
    await vi.waitUntil(() => tellers.size === 1);
    for (let i = 0; tellers.size > 0 && i < 10_000; i++) {
      for (const tell of tellers) tell({ event: 'x'.repeat(1000) });
      if (i % 100 === 0) await new Promise(setImmediate);
    }
    expect(tellers.size).toBe(0);
    socket.destroy();
  });
});

describe('createMetricsRenderer', () => {
  it('gives every counter, with its labels, as it is now', async () => {
    const renderer = await createMetricsRenderer();
    await renderer.render({ counters, isReady: true, version: '1' });
    const { body } = await renderer.render({
      counters: { ...counters, peersConnected: 5 },
      isReady: false,
      version: '1',
    });
    for (const line of [
      'arca_relay_info{version="1"} 1',
      'arca_relay_frames_total{direction="tap_to_stream"} 3',
      'arca_relay_frames_total{direction="stream_to_tap"} 30',
      'arca_relay_bytes_total{direction="tap_to_stream"} 4',
      'arca_relay_bursts_total{direction="tap_to_stream"} 5',
      'arca_relay_system_calls_total{direction="tap_to_stream"} 6',
      'arca_relay_stalls_total{direction="tap_to_stream"} 7',
      'arca_relay_drops_total{direction="tap_to_stream",reason="runt"} 8',
      'arca_relay_drops_total{direction="stream_to_tap",reason="oversize"} 0',
      'arca_relay_breaches_total{reason="too-long"} 1',
      'arca_relay_peers_refused_total{reason="busy"} 1',
      'arca_relay_peers_connected_total 5',
      'arca_relay_tap_queue_drops_total 9',
      'arca_relay_peer_up 1',
      'arca_relay_ready 0',
    ]) {
      expect(body.split('\n')).toContain(line);
    }
  });
});
