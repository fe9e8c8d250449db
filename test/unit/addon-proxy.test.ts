/** The byte proxy as JavaScript meets it: arguments, errors, events, an HTTP server behind it, and its ends. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, get } from 'node:http';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type NativeError,
  type StreamProxy,
  type StreamProxyEvent,
  type StreamProxyOptions,
  startStreamProxy,
} from '../../src/native.js';
import { eventually, scaled, within } from '../support/time.js';

const ADDON = resolve('build/Release/arca_native.node');
const SCRIPT_TIMEOUT_MS = scaled(15_000);

let directory: string;
let server: Server | undefined;
let proxies: StreamProxy[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'arca-proxy-'));
  proxies = [];
});
afterEach(async () => {
  await Promise.all(proxies.map((proxy) => proxy.stop()));
  server?.close();
  server = undefined;
  await rm(directory, { recursive: true, force: true });
});

const path = (name: string): string => join(directory, name);

function options(changes: Partial<StreamProxyOptions> = {}): StreamProxyOptions {
  return {
    listen: { transport: 'unix', path: path('in') },
    target: { transport: 'unix', path: path('out') },
    allowedCids: [],
    maxConnections: 64,
    ...changes,
  };
}

function start(changes: Partial<StreamProxyOptions> = {}): { proxy: StreamProxy; events: StreamProxyEvent[] } {
  const events: StreamProxyEvent[] = [];
  const proxy = startStreamProxy(options(changes), (event) => events.push(event));
  proxies.push(proxy);
  return { proxy, events };
}

async function serve(onConnection: (socket: Socket) => void): Promise<void> {
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(path('out'));
  await once(server, 'listening');
}

async function call(): Promise<Socket> {
  const socket = connect({ path: path('in'), allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** To the end of what comes; the socket may still be written to, which an iteration over it would not allow. */
function read(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (piece) => {
    text += String(piece);
  });
  return new Promise((done) => socket.once('end', () => done(text)).once('close', () => done(text)));
}

function errorOf(attempt: () => unknown): NativeError {
  try {
    attempt();
  } catch (error) {
    return error as NativeError;
  }
  throw new Error('nothing was thrown');
}

/** Runs it in a process of its own. */
async function runScript(body: string): Promise<{ exitCode: number | null; stdout: string; stderr: string }> {
  const file = path(`script-${(await readdir(directory)).length}.cjs`);
  await writeFile(
    file,
    `'use strict';
    const addon = require(${JSON.stringify(ADDON)});
    const net = require('node:net');
    const options = (more) => ({
      listen: { transport: 'unix', path: ${JSON.stringify(path('in'))} + (more ?? '') },
      target: { transport: 'unix', path: ${JSON.stringify(path('out'))} }, allowedCids: [], maxConnections: 4,
    });
    (async () => {\n${body}\n})();`,
  );
  return new Promise((done) => {
    const child = execFile(
      process.execPath,
      [file],
      { timeout: SCRIPT_TIMEOUT_MS, killSignal: 'SIGKILL' },
      (_error, stdout, stderr) => done({ exitCode: child.exitCode, stdout, stderr }),
    );
  });
}

describe('startStreamProxy', () => {
  it('checks its arguments field by field, and a wrong one leaves nothing behind', async () => {
    const wrong: [field: string, changes: Record<string, unknown>][] = [
      ['endpoint', { listen: undefined }],
      ['transport', { listen: { transport: 'tcp' } }],
      ['path', { listen: { transport: 'unix', path: '' } }],
      ['port', { listen: { transport: 'vsock', cid: 1, port: 0 } }],
      ['allowedCids', { listen: { transport: 'vsock', cid: 0xffffffff, port: 5 } }],
      ['endpoint', { target: 5 }],
      ['target', { target: { transport: 'vsock', cid: 2, port: 5 } }],
      ['path', { target: { transport: 'unix', path: 'x'.repeat(108) } }],
      ['allowedCids', { allowedCids: [-1] }],
      ['allowedCids', { allowedCids: [0xffffffff] }],
      ['allowedCids', { allowedCids: '3' }],
      ['maxConnections', { maxConnections: undefined }],
      ['maxConnections', { maxConnections: 0 }],
      ['maxConnections', { maxConnections: 1025 }],
      ['maxConnections', { maxConnections: 1.5 }],
    ];
    for (const [field, changes] of wrong) {
      const error = errorOf(() => startStreamProxy({ ...options(), ...changes } as StreamProxyOptions, () => {}));
      expect(error).toMatchObject({ code: 'EINVAL', operation: 'argument' });
      expect(error.message).toMatch(new RegExp(`^${field} `));
    }
    expect(errorOf(() => startStreamProxy(options(), undefined as never)).code).toBe('EINVAL');
    expect(await readdir(directory)).toEqual([]);
  });

  it('carries the code and the operation of what failed', () => {
    start();
    expect(errorOf(() => start())).toMatchObject({ code: 'EADDRINUSE', operation: 'bind' });
    const listen = { transport: 'unix', path: path('missing/in') } as const;
    expect(errorOf(() => start({ listen }))).toMatchObject({ code: 'ENOENT', operation: 'bind' });
  });

  it('is what makes a proxy: its constructor alone gives one that does nothing', () => {
    const { proxy } = start();
    const Constructor = proxy.constructor as new () => StreamProxy;
    const empty = new Constructor();
    expect(errorOf(() => empty.stats()).code).toBe('ESHUTDOWN');
    expect(errorOf(() => empty.stop()).code).toBe('ESHUTDOWN');
  });
});

describe('a byte proxy', () => {
  it('carries both ways, passes on the end of each, and counts', async () => {
    await serve((socket) => void read(socket).then((text) => socket.end(`${text}!`)));
    const { proxy, events } = start();
    const socket = await call();
    socket.end('hello');
    expect(await read(socket)).toBe('hello!');
    await eventually('its end', () => proxy.stats().connectionsOpen === 0 || undefined);
    expect(proxy.stats()).toEqual({
      connectionsOpen: 0,
      connectionsAccepted: 1,
      connectionsRefused: { busy: 0, 'cid-not-allowed': 0, 'target-unreachable': 0 },
      bytesToTarget: 5,
      bytesFromTarget: 6,
    });
    expect(events).toEqual([]);
  });

  it('serves HTTP: answers, several at once, and a stream of events whose reader goes away', async () => {
    let streaming = 0;
    const http = createHttpServer((request, response) => {
      if (request.url !== '/events') return void response.end(`you asked for ${request.url}`);
      streaming += 1;
      response.on('close', () => {
        streaming -= 1;
      });
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: first\n\n');
    });
    server = http;
    http.listen(path('out'));
    await once(http, 'listening');
    const { proxy } = start();
    const ask = (url: string): Promise<string> =>
      new Promise((done, fail) => {
        get({ socketPath: path('in'), path: url, agent: false }, (response) => {
          let text = '';
          response.on('data', (piece) => {
            text += String(piece);
          });
          response.on('end', () => done(text));
        }).on('error', fail);
      });
    const urls = Array.from({ length: 20 }, (_, i) => `/${i}`);
    expect(await Promise.all(urls.map(ask))).toEqual(urls.map((url) => `you asked for ${url}`));

    const events = get({ socketPath: path('in'), path: '/events', agent: false });
    const [response] = (await once(events, 'response')) as [import('node:http').IncomingMessage];
    expect(String((await once(response, 'data'))[0])).toBe('data: first\n\n');
    expect(streaming).toBe(1);
    events.destroy();
    await eventually('the end of the stream at the server', () => streaming === 0 || undefined);
    await eventually('no connection', () => proxy.stats().connectionsOpen === 0 || undefined);
  });

  it('tells who was refused and why, and serves on', async () => {
    const { proxy, events } = start({ maxConnections: 1 });
    const refused = await call();
    expect(await read(refused)).toBe('');
    await eventually('the event', () => events.length > 0 || undefined);
    expect(events).toEqual([
      {
        type: 'refused',
        reason: 'target-unreachable',
        peer: { transport: 'unix', pid: process.pid },
        count: 1,
        detail: 'connect: No such file or directory',
      },
    ]);
    await serve((socket) => socket.end('here'));
    expect(await read(await call())).toBe('here');
    expect(proxy.stats().connectionsRefused['target-unreachable']).toBe(1);
  });

  it('stops with connections open: their ends are told, the socket is gone, and it may start again', async () => {
    await serve(() => {});
    const { proxy } = start();
    const sockets = await Promise.all(Array.from({ length: 5 }, call));
    await eventually('all of them', () => proxy.stats().connectionsOpen === 5 || undefined);
    const ends = Promise.all(sockets.map(read));
    await Promise.all([proxy.stop(), proxy.stop()]);
    expect(await within(ends, 'the ends')).toEqual(['', '', '', '', '']);
    expect(await readdir(directory)).toEqual(['out']);
    expect(proxy.stats()).toMatchObject({ connectionsOpen: 0, connectionsAccepted: 5 });
    await proxy.stop();
    start();
  });

  it('tells nothing once it was asked to stop', async () => {
    const { proxy, events } = start();
    const refused = await call();
    await read(refused);
    const stopped = proxy.stop();
    const told = events.length;
    await stopped;
    expect(events.length).toBe(told);
  });
});

describe('the end of a process with a byte proxy', () => {
  const CONNECTED = `
    const server = net.createServer((socket) => socket.on('error', () => {}).write('x'));
    server.listen(options().target.path);
    const proxy = addon.startStreamProxy(options(), () => {});
    const socket = net.connect(options().listen.path);
    await new Promise((done) => socket.once('data', done));
  `;

  it('is not held up by one that was stopped, nor crashed by one that was not', async () => {
    for (const end of [
      'process.exit(0);',
      'await proxy.stop(); server.close(); socket.destroy();',
      'proxy.stop(); process.exit(0);',
      "socket.on('error', () => {}); proxy.stop(); server.close();",
    ]) {
      await rm(path('out'), { force: true });
      const outcome = await runScript(CONNECTED + end);
      expect({ end, ...outcome }).toEqual({ end, exitCode: 0, stdout: '', stderr: '' });
    }
  });

  it('comes when a listener throws, as with any exception', async () => {
    const outcome = await runScript(`
      addon.startStreamProxy(options(), () => { throw new Error('of the listener'); });
      net.connect(options().listen.path).on('error', () => {});
    `);
    expect(outcome.exitCode).toBe(1);
    expect(outcome.stderr).toContain('of the listener');
  });

  it('is survived in a worker thread, which ends with a connection open', async () => {
    const outcome = await runScript(`
      const { Worker, isMainThread, parentPort } = require('node:worker_threads');
      if (!isMainThread) { ${CONNECTED} parentPort.postMessage('up'); return; }
      for (let i = 0; i < 5; ++i) {
        const worker = new Worker(__filename);
        await new Promise((done, fail) => worker.once('message', done).once('error', fail));
        await worker.terminate();
        require('node:fs').rmSync(options().target.path, { force: true });
      }
      const threads = require('node:fs').readdirSync('/proc/self/task').length;
      console.log(threads < 20 && !require('node:fs').existsSync(options().listen.path));
    `);
    expect(outcome).toEqual({ exitCode: 0, stdout: 'true\n', stderr: '' });
  });
});
