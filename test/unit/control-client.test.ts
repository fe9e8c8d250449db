/** The client of the control API against the server, and against what is none. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ControlApi, startControlApi } from '../../src/control/api/server.js';
import { type ControlClient, createClient } from '../../src/control/client.js';
import { ArcaError } from '../../src/errors.js';
import { createLogger } from '../../src/log.js';
import { createFakeControl, type FakeControl } from '../support/fake-control.js';
import { eventually, within } from '../support/time.js';

let folder: string;
let path: string;
const undos: (() => unknown)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  path = join(folder, 'control.sock');
});

afterEach(async () => {
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) await undo();
  rmSync(folder, { recursive: true });
});

function client(timeoutMs = 5_000, signal?: AbortSignal): ControlClient {
  return createClient({ path, timeoutMs, signal });
}

async function serve(): Promise<{ readonly control: FakeControl; readonly api: ControlApi }> {
  const control = createFakeControl();
  const log = await createLogger({ level: 'silent' });
  const api = await startControlApi({ service: control, paths: [path], group: 'none', log, version: '1.2.3' });
  undos.push(() => api.stop());
  return { control, api };
}

async function serveHttp(listener: RequestListener): Promise<void> {
  const server = createHttpServer(listener);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  undos.push(() => {
    server.close();
    server.closeAllConnections();
  });
}

async function serveBytes(onConnection: (socket: Socket) => void): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  undos.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
}

describe('against the server', () => {
  it('makes every call', async () => {
    const { control } = await serve();
    const name = 'a/b ☃ ..';
    const ours = client();
    expect(await ours.createNetwork({ name, subnet: '10.9.0.0/24' })).toMatchObject({ created: true, value: { name } });
    expect(await ours.createNetwork({ name })).toMatchObject({ created: false });
    expect(await ours.getNetwork(name)).toMatchObject({ subnet: '10.9.0.0/24' });
    expect(await ours.adoptNetwork(name, {})).toMatchObject({ owner: 'arca' });
    expect(await ours.attach({ container: name, network: name })).toMatchObject({ created: true });
    expect(await ours.attach({ container: name, network: name })).toMatchObject({ created: false });
    expect(await ours.getAttachment(name, name)).toMatchObject({ container: name });
    expect(await ours.listAttachments({ network: name })).toHaveLength(1);
    expect(await ours.listAttachments({ container: 'other' })).toHaveLength(0);
    await expect(ours.removeNetwork(name, { force: false })).rejects.toMatchObject({ code: 'network-busy' });
    await ours.detach(name, name);
    await ours.removeNetwork(name, { force: true });
    expect(await ours.listNetworks()).toEqual([]);
    expect(await ours.registerChassis({ name: 'h', encapIp: '192.0.2.1' })).toMatchObject({ created: true });
    expect(await ours.listChassis()).toHaveLength(1);
    await ours.removeChassis('h');
    expect(await ours.health()).toMatchObject({ state: 'ok' });
    control.healthNow = { state: 'ill', parts: [] };
    expect(await ours.health()).toMatchObject({ state: 'ill' });
    expect(await ours.reconcile({ dryRun: true })).toEqual({ dryRun: true, steps: [] });
    expect(await ours.metrics()).toContain('arca_control_networks');
    expect(await ours.version()).toMatchObject({ version: '1.2.3' });
    await expect(ours.setNetworkPolicy(name)).rejects.toMatchObject({ code: 'not-supported' });
    await expect(ours.getNetwork('\ud800')).rejects.toMatchObject({ code: 'spec-invalid' });
  });

  it('tells the code and the details of a problem', async () => {
    const { control } = await serve();
    control.failure = new ArcaError('attach-failed', 'no ofport', { details: { step: 'relay' } });
    await expect(client().listNetworks()).rejects.toMatchObject({
      ...{ code: 'attach-failed', message: 'no ofport', details: { step: 'relay' } },
    });
    await expect(client().health()).rejects.toMatchObject({ code: 'attach-failed' });
  });

  it('has a deadline, and can be ended', async () => {
    const { control } = await serve();
    await client().createNetwork({ name: 'net-a' });
    control.attachGate = new Promise((resolve) => undos.push(resolve));
    const spec = { container: 'web', network: 'net-a' };
    await expect(client(100).attach(spec)).rejects.toMatchObject({ code: 'timed-out' });
    const controller = new AbortController();
    const call = client(5_000, controller.signal).attach(spec);
    controller.abort(new Error('enough'));
    await expect(call).rejects.toThrow('enough');
    await expect(client(5_000, controller.signal).listNetworks()).rejects.toThrow('enough');
  });

  it('reads events to the end of the server', async () => {
    const { control, api } = await serve();
    const stream = await client().openEvents();
    await client().createNetwork({ name: 'net\n\ndata: {}' });
    control.emit({ at: '2026-01-02T03:04:05Z', type: 'relay-died', container: 'web', network: 'n', detail: 'SIGKILL' });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of stream.events) seen.push(event.type);
    })();
    await eventually('both', () => seen.length === 2 || undefined);
    expect(seen).toEqual(['network-created', 'relay-died']);
    await api.stop();
    await within(reading, 'the end');
  });

  it('ends events when it is told to', async () => {
    await serve();
    const controller = new AbortController();
    const stream = await client(5_000, controller.signal).openEvents();
    const reading = (async () => {
      for await (const _event of stream.events);
    })();
    controller.abort(new Error('enough'));
    await expect(within(reading, 'the end')).rejects.toThrow('enough');
  });
});

describe('against what is no arca-control', () => {
  it('nobody', async () => {
    await expect(client().listNetworks()).rejects.toMatchObject({
      code: 'control-unreachable',
      message: expect.stringContaining(`arca-control --listen unix:${path}`),
    });
    writeFileSync(path, '');
    await expect(client().openEvents()).rejects.toMatchObject({ code: 'control-unreachable' });
  });

  it.each<[string, RequestListener]>([
    ['a page', (_request, response) => response.setHeader('content-type', 'text/html').end('<p>hello</p>')],
    ['no JSON', (_request, response) => response.setHeader('content-type', 'application/json').end('{')],
    ['an error that is no problem', (_request, response) => response.writeHead(500).end('oh')],
    [
      'a problem that is no JSON',
      (_request, response) => response.writeHead(500, { 'content-type': 'application/problem+json' }).end('oh'),
    ],
  ])('%s', async (_what, listener) => {
    await serveHttp(listener);
    await expect(client().listNetworks()).rejects.toMatchObject({ code: 'control-unreachable' });
    await expect(client().health()).rejects.toMatchObject({ code: 'control-unreachable' });
    await expect(client().openEvents()).rejects.toMatchObject({ code: 'control-unreachable' });
  });

  it('a newer server with a code that is not known here', async () => {
    const body = JSON.stringify({ title: 'x', detail: 'new trouble', code: 'brand-new', status: 409 });
    await serveHttp((_request, response) =>
      response.writeHead(409, { 'content-type': 'application/problem+json' }).end(body),
    );
    await expect(client().listNetworks()).rejects.toMatchObject({
      ...{ code: 'unexpected', message: 'new trouble', details: { code: 'brand-new' } },
    });
  });

  it('somebody who says nothing', async () => {
    await serveBytes(() => {});
    await expect(client(100).listNetworks()).rejects.toMatchObject({ code: 'timed-out' });
    await expect(client(100).openEvents()).rejects.toMatchObject({ code: 'timed-out' });
  });

  it('somebody who says half of it', async () => {
    await serveBytes((socket) => {
      socket.end('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n[');
    });
    await expect(client().listNetworks()).rejects.toMatchObject({ code: 'control-unreachable' });
  });

  it('a stream that breaks, or is none', async () => {
    await serveBytes((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: listening\n\ndata: {no json\n\n');
    });
    const stream = await client().openEvents();
    const reading = (async () => {
      for await (const _event of stream.events);
    })();
    await expect(within(reading, 'the end')).rejects.toMatchObject({ code: 'control-unreachable' });
  });
});
