import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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
