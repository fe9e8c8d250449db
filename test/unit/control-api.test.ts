/** The control API over a real Unix socket, with a service that the test holds. Every answer is held to the document. */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeProblem, PROBLEM_CODES } from '../../src/control/api/problems.js';
import { type ApiLimits, type ControlApi, startControlApi } from '../../src/control/api/server.js';
import type { ControlEvent } from '../../src/control/model.js';
import { ArcaError, ERROR_KINDS, type ErrorCode } from '../../src/errors.js';
import { run } from '../../src/exec.js';
import { createLogger, type Logger } from '../../src/log.js';
import {
  type ApiContract,
  type HttpAnswer,
  type HttpCall,
  http,
  rawConnection,
  readContract,
} from '../support/control-api.js';
import { createFakeControl, type FakeControl } from '../support/fake-control.js';
import { eventually, within } from '../support/time.js';

let folder: string;
let path: string;
let control: FakeControl;
let log: Logger;
let api: ControlApi | undefined;
/** One for all tests: the document is the same. */
let contract: ApiContract | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  path = join(folder, 'control.sock');
  control = createFakeControl();
  log = await createLogger({ level: 'silent' });
});

afterEach(async () => {
  await api?.stop();
  api = undefined;
  rmSync(folder, { recursive: true });
});

async function start(limits: Partial<ApiLimits> = {}, group = 'no-such-group'): Promise<void> {
  api = await startControlApi({ service: control, paths: [path], group, log, version: '1.2.3', limits });
  contract ??= await readContract((await http(path, { path: '/v1/openapi.json' })).json);
}

async function call(what: HttpCall): Promise<HttpAnswer> {
  const answer = await http(path, what);
  contract?.check(what, answer);
  return answer;
}

const get = (url: string): Promise<HttpAnswer> => call({ path: url });
const post = (url: string, body: object | string): Promise<HttpAnswer> => call({ method: 'POST', path: url, body });
const del = (url: string): Promise<HttpAnswer> => call({ method: 'DELETE', path: url });
const SPEC = { name: 'net-a', subnet: '10.9.0.0/24', gateway: '10.9.0.1', dns: ['10.9.0.1'], mtu: 1400 };

describe('the calls', () => {
  beforeEach(() => start());

  it('are all in the document, and nothing else', () => {
    expect([...(contract?.operationIds ?? [])].sort()).toEqual(
      [
        ...['listNetworks', 'createNetwork', 'getNetwork', 'removeNetwork', 'adoptNetwork', 'setNetworkPolicy'],
        ...['listAttachments', 'attach', 'getAttachment', 'detach'],
        ...['listChassis', 'registerChassis', 'removeChassis'],
        ...['health', 'reconcile', 'events', 'metrics', 'version', 'openapi', 'describeProblem'],
      ].sort(),
    );
  });

  it('make a network once', async () => {
    expect(await post('/v1/networks', SPEC)).toMatchObject({
      status: 201,
      json: { name: 'net-a', vlan: 100, mtu: 1400 },
    });
    expect(await post('/v1/networks', SPEC)).toMatchObject({ status: 200, json: { vlan: 100 } });
    expect(await post('/v1/networks', { ...SPEC, vlan: 7 })).toMatchObject({
      status: 409,
      json: { code: 'network-conflict', differences: [{ property: 'vlan', is: 100, wanted: 7 }] },
    });
    expect(await get('/v1/networks')).toMatchObject({ status: 200, json: [{ name: 'net-a' }] });
    expect(await get('/v1/networks/net-a')).toMatchObject({ status: 200, json: { subnet: '10.9.0.0/24' } });
    expect(await get('/v1/networks/net-b')).toMatchObject({ status: 404, json: { code: 'network-unknown' } });
  });

  it('remove a network, with force also one that is in use', async () => {
    await post('/v1/networks', SPEC);
    await post('/v1/attachments', { container: 'web', network: 'net-a' });
    expect(await del('/v1/networks/net-a')).toMatchObject({ status: 409, json: { code: 'network-busy' } });
    expect(await del('/v1/networks/net-a?force=false')).toMatchObject({ status: 409 });
    expect(await del('/v1/networks/net-a?force=yes')).toMatchObject({ status: 400, json: { code: 'spec-invalid' } });
    expect(await del('/v1/networks/net-a?force=true')).toMatchObject({ status: 204, text: '' });
    expect(control.attachments.size).toBe(0);
    expect(await del('/v1/networks/net-a')).toMatchObject({ status: 404 });
  });

  it('adopt a network', async () => {
    await post('/v1/networks', SPEC);
    expect(await post('/v1/networks/net-a/adopt', { vlan: 300 })).toMatchObject({ status: 200, json: { vlan: 300 } });
    expect(await post('/v1/networks/net-a/adopt', {})).toMatchObject({ status: 200 });
    expect(await post('/v1/networks/net-b/adopt', {})).toMatchObject({ status: 404 });
  });

  it('refuse policy: nothing answers success that did nothing', async () => {
    await post('/v1/networks', SPEC);
    const answer = await call({ method: 'PUT', path: '/v1/networks/net-a/policy', body: { rules: [] } });
    expect(answer).toMatchObject({ status: 501, json: { code: 'not-supported' } });
    expect(answer.json.detail).toContain('not in VLAN mode');
  });

  it('attach once, list by filter, detach', async () => {
    await post('/v1/networks', SPEC);
    await post('/v1/networks', { name: 'net-b' });
    const spec = { container: 'web', network: 'net-a', address: '10.9.0.7', peerCids: [3] };
    expect(await post('/v1/attachments', spec)).toMatchObject({
      status: 201,
      json: { addresses: ['10.9.0.7/24'], connect: 'arca-tap --connect vsock:2:5000 --tap eth0' },
    });
    expect(await post('/v1/attachments', spec)).toMatchObject({ status: 200 });
    const endpoint = { transport: 'unix', path: '/tmp/x.sock' };
    expect(await post('/v1/attachments', { container: 'web', network: 'net-b', endpoint })).toMatchObject({
      status: 201,
      json: { endpoint },
    });
    expect((await get('/v1/attachments')).json).toHaveLength(2);
    expect((await get('/v1/attachments?network=net-b')).json).toMatchObject([{ container: 'web', network: 'net-b' }]);
    expect((await get('/v1/attachments?container=api')).json).toEqual([]);
    expect(await get('/v1/attachments?containr=api')).toMatchObject({
      status: 400,
      json: { code: 'spec-invalid', errors: [{ in: 'query', field: '/containr', message: 'is not known' }] },
    });
    expect(await get('/v1/attachments/web/net-a')).toMatchObject({ status: 200, json: { tap: 'tap5000' } });
    expect(await del('/v1/attachments/web/net-a')).toMatchObject({ status: 204 });
    expect(await del('/v1/attachments/web/net-a')).toMatchObject({ status: 404, json: { code: 'attachment-unknown' } });
    expect(await get('/v1/attachments/web/net-a')).toMatchObject({ status: 404 });
  });

  it('register and remove chassis', async () => {
    const spec = { name: 'host-1', encapIp: '192.0.2.1' };
    expect(await post('/v1/chassis', spec)).toMatchObject({ status: 201, json: { isOurs: true } });
    expect(await post('/v1/chassis', spec)).toMatchObject({ status: 200 });
    expect((await get('/v1/chassis')).json).toMatchObject([{ name: 'host-1' }]);
    expect(await del('/v1/chassis/host-1')).toMatchObject({ status: 204 });
    expect(await del('/v1/chassis/host-1')).toMatchObject({ status: 404, json: { code: 'chassis-unknown' } });
  });

  it('tell health, by status and in words', async () => {
    expect(await get('/v1/health')).toMatchObject({ status: 200, json: { state: 'ok' } });
    control.healthNow = { state: 'ill', parts: [{ part: 'northd', state: 'ill', detail: 'sb_cfg stands still' }] };
    expect(await get('/v1/health')).toMatchObject({ status: 503, json: { parts: [{ part: 'northd' }] } });
  });

  it('reconcile, dry and really', async () => {
    control.plan = [
      { action: 'start-relay', container: 'web', network: 'net-a', reason: 'it has none' },
      { action: 'stop-relay', pid: 7, tap: 'tap7', reason: 'nobody wants it' },
      { action: 'restart-relay', container: 'api', network: 'net-a', reason: 'dead TAP' },
      { action: 'remove-port', port: 'tap9', reason: 'its relay is gone' },
    ];
    expect(await post('/v1/reconcile', { dryRun: true })).toMatchObject({
      json: { dryRun: true, steps: control.plan },
    });
    expect(await post('/v1/reconcile', { dryRun: false })).toMatchObject({ json: { dryRun: false } });
    expect(await post('/v1/reconcile', {})).toMatchObject({
      status: 400,
      json: { errors: [{ in: 'body', field: '/dryRun', message: 'is missing' }] },
    });
  });

  it('give metrics and the version', async () => {
    const metrics = await get('/metrics');
    expect(metrics.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(metrics.text).toContain('arca_control_networks 1');
    expect(await get('/v1/version')).toMatchObject({ json: { version: '1.2.3', api: 'v1', pid: process.pid } });
  });

  it('answer HEAD as GET without the body', async () => {
    expect(await http(path, { method: 'HEAD', path: '/v1/networks' })).toMatchObject({ status: 200, text: '' });
  });

  const NAMES = [
    'a/b',
    '../x',
    '..',
    '.',
    'with space',
    'naïve ☃ 網',
    '100%',
    '?#&=+',
    '%2F',
    'a'.repeat(255),
    ';',
    '\\',
    '\'"',
  ];
  it.each(NAMES)('take the name %j', async (name) => {
    const url = encodeURIComponent(name);
    expect(await post('/v1/networks', { name })).toMatchObject({ status: 201, json: { name } });
    expect(await get(`/v1/networks/${url}`)).toMatchObject({ status: 200, json: { name } });
    expect(await post('/v1/attachments', { container: name, network: name })).toMatchObject({ status: 201 });
    expect((await get(`/v1/attachments?network=${url}`)).json).toMatchObject([{ network: name }]);
    expect(await get(`/v1/attachments/${url}/${url}`)).toMatchObject({ json: { container: name, network: name } });
    expect(await del(`/v1/attachments/${url}/${url}`)).toMatchObject({ status: 204 });
    expect(await post(`/v1/networks/${url}/adopt`, {})).toMatchObject({ status: 200 });
    expect(await del(`/v1/networks/${url}`)).toMatchObject({ status: 204 });
  });
});

describe('problems', () => {
  beforeEach(() => start());

  it.each(Object.keys(ERROR_KINDS) as ErrorCode[])('of the code %s', async (code) => {
    control.failure = new ArcaError(code, 'what failed', {
      details: { step: 'tap', status: 1, code: 'x' },
      cause: 'inside',
    });
    const { status, json, text } = await get('/v1/networks');
    expect(status).toBe(describeProblem(code).status);
    expect(json).toMatchObject({ code, title: ERROR_KINDS[code].meaning });
    expect(text).not.toContain('inside');
    if (code !== 'unexpected') expect(json).toMatchObject({ detail: 'what failed', step: 'tap' });
    expect(await get(json.type)).toMatchObject({ status: 200, json: { code, exitCode: ERROR_KINDS[code].exitCode } });
  });

  it('say nothing of what no code names', async () => {
    for (const failure of [new Error('/secret/path'), new TypeError('secret of undefined'), 'secret', { secret: 1 }]) {
      control.failure = failure;
      const { status, json, text } = await get('/v1/networks');
      expect({ status, code: json.code }).toEqual({ status: 500, code: 'unexpected' });
      expect(text).not.toMatch(/secret|node_modules|\.ts/);
    }
  });

  it('are not taken for a fault of the caller because an error looks like one', async () => {
    control.failure = Object.assign(new Error('secret'), { statusCode: 404, validation: [{}] });
    expect(await get('/v1/networks')).toMatchObject({ status: 500, json: { code: 'unexpected' } });
  });

  it('name the fields that are wrong', async () => {
    const bad = { name: 7, vlan: 5000, dns: 'x', color: 'red' };
    const { status, json } = await post('/v1/networks', bad);
    expect({ status, code: json.code }).toEqual({ status: 400, code: 'spec-invalid' });
    expect(json.errors.map(({ field }: { field: string }) => field).sort()).toEqual([
      '/color',
      '/dns',
      '/name',
      '/vlan',
    ]);
    expect(json.detail).toContain('vlan must be <= 4094');
    expect(control.networks.size).toBe(0);

    const endpoint = { transport: 'vsock', port: 0 };
    expect((await post('/v1/attachments', { container: 'a', network: 'b', endpoint })).json.errors).toMatchObject([
      { in: 'body', field: '/endpoint/port' },
    ]);
    expect(
      (await post('/v1/attachments', { container: 'a', network: 'b', endpoint: { transport: 'tcp' } })).json.errors,
    ).toMatchObject([{ field: '/endpoint/transport' }]);
    expect((await post('/v1/networks', '{}')).json.errors).toEqual([
      { in: 'body', field: '/name', message: 'is missing' },
    ]);
    expect((await post('/v1/networks', '[]')).json.errors).toMatchObject([{ field: '' }]);
  });

  it('tell what the service found wrong in the same form', async () => {
    control.failure = new ArcaError('spec-invalid', 'no host', { details: { property: 'gateway' } });
    expect((await post('/v1/networks', SPEC)).json.errors).toEqual([
      { in: 'body', field: '/gateway', message: 'no host' },
    ]);
  });

  it('are bounded, whatever came', async () => {
    const body = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`p${index}`, 1]));
    const { json, text } = await post('/v1/networks', { name: 'a', ...body });
    expect(json.errors.length).toBeLessThanOrEqual(10);
    expect(text.length).toBeLessThan(4000);
  });

  it('of paths and methods', async () => {
    for (const url of ['/', '/v1', '/v2/networks', '/v1/networks/a/b', '//v1/networks', '/v1/Networks']) {
      expect(await get(url)).toMatchObject({ status: 404, json: { code: 'route-unknown' } });
    }
    expect(await call({ method: 'PATCH', path: '/v1/networks' })).toMatchObject({
      status: 405,
      json: { code: 'method-not-allowed' },
      headers: { allow: 'GET, POST, HEAD' },
    });
    expect(await del('/v1/health')).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    expect(await call({ method: 'POST', path: '/v1/events', body: 'x'.repeat(1e6) })).toMatchObject({ status: 405 });
    expect(await call({ method: 'PROPFIND', path: '/v1/networks' })).toMatchObject({ status: 404 });
  });

  it.each([
    ['no JSON', '{"name":', {}, 400, 'request-malformed'],
    ['nothing', '', { 'content-type': 'application/json' }, 400, 'request-malformed'],
    ['a prototype', '{"name":"a","__proto__":{"x":1}}', {}, 400, 'request-malformed'],
    ['a form', 'name=a', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'media-type-unsupported'],
    ['a large body', JSON.stringify({ name: 'x'.repeat(100_000) }), {}, 413, 'body-too-large'],
    ['null', 'null', {}, 400, 'spec-invalid'],
  ])('of a body that is %s', async (_what, body, headers, status, code) => {
    const answer = await call({ method: 'POST', path: '/v1/networks', body, headers });
    expect(answer).toMatchObject({ status, json: { code } });
  });

  it('of a path that can not be read', async () => {
    expect(await get('/v1/networks/%E0%A4%A')).toMatchObject({ status: 400, json: { code: 'request-malformed' } });
    expect((await get(`/v1/networks/${'a'.repeat(256)}`)).json).toMatchObject({ code: 'spec-invalid' });
    expect((await get(`/v1/networks/${'a'.repeat(5000)}`)).status).toBeGreaterThanOrEqual(400);
    expect(await get('/v1/networks/%00')).toMatchObject({ status: 404, json: { code: 'network-unknown' } });
  });

  it('have every code, once', () => {
    expect(new Set(PROBLEM_CODES).size).toBe(PROBLEM_CODES.length);
  });
});

describe('events', () => {
  const event: ControlEvent = { at: '2026-01-02T03:04:05.678Z', type: 'network-created', network: 'net\n\ndata: x' };

  function openEvents() {
    const reader = rawConnection(path);
    reader.socket.write('GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n');
    return reader;
  }

  it('come as they happen, one line of data each, to all that listen', async () => {
    await start();
    const readers = [openEvents(), openEvents()];
    for (const reader of readers) {
      await eventually('the head', () => reader.text().includes(': listening\n\n') || undefined);
      expect(reader.text()).toContain('content-type: text/event-stream');
    }
    control.emit(event);
    await post('/v1/networks', { name: 'net-b' });
    for (const reader of readers) {
      const data = await eventually('two events', () => {
        const found = [...reader.text().matchAll(/^event: (.*)\ndata: (.*)\n\n/gm)];
        return found.length >= 2 ? found : undefined;
      });
      expect(data.map((match) => [match[1], JSON.parse(match[2] ?? '').network])).toEqual([
        ['network-created', event.network],
        ['network-created', 'net-b'],
      ]);
      reader.socket.destroy();
    }
  });

  it('have a heartbeat', async () => {
    await start({ events: { maxStreams: 4, heartbeatMs: 20, backlogBytes: 1000 } });
    const reader = openEvents();
    await eventually('two heartbeats', () => reader.text().split(': alive\n\n').length > 2 || undefined);
    reader.socket.destroy();
  });

  it('are for so many readers and no more, and gone readers make room', async () => {
    await start({ events: { maxStreams: 2, heartbeatMs: 1000, backlogBytes: 1000 } });
    const readers = [openEvents(), openEvents()];
    for (const reader of readers) await eventually('the head', () => reader.text().includes('listening') || undefined);
    expect(await get('/v1/events')).toMatchObject({ status: 503, json: { code: 'too-busy' } });
    readers[0]?.socket.destroy();
    const again = await eventually('room', async () => {
      const reader = openEvents();
      await eventually(
        'an answer',
        () => reader.text().includes('\n\n') || reader.text().includes('\r\n\r\n') || undefined,
      );
      if (reader.text().startsWith('HTTP/1.1 200')) return reader;
      reader.socket.destroy();
      return undefined;
    });
    again.socket.destroy();
    readers[1]?.socket.destroy();
  });

  it('do not wait for a reader that does not read', async () => {
    await start({ events: { maxStreams: 2, heartbeatMs: 10_000, backlogBytes: 64 * 1024 } });
    const slow = openEvents();
    const quick = openEvents();
    for (const reader of [slow, quick])
      await eventually('the head', () => reader.text().includes('listening') || undefined);
    slow.socket.pause();
    const long = { ...event, network: 'x'.repeat(10_000) };
    // What the kernel holds for a reader on a Unix socket, and the backlog, are some 100 KB each.
    for (let count = 1; count <= 100; count++) {
      control.emit(long);
      await eventually('the quick one keeps up', () => quick.text().length > count * 10_000 || undefined);
    }
    slow.socket.resume();
    await within(slow.ended, 'the end of the slow reader');
    expect(slow.text().length).toBeLessThan(quick.text().length);
    // Cut off, not ended: the last chunk is missing.
    expect(slow.text().endsWith('0\r\n\r\n')).toBe(false);
    control.emit(event);
    await eventually('the quick one lives', () => quick.text().includes('data: x') || undefined);
    quick.socket.destroy();
  });

  it('end cleanly when the server stops, and the service is left', async () => {
    await start();
    const reader = openEvents();
    await eventually('the head', () => reader.text().includes('listening') || undefined);
    await api?.stop();
    expect((await within(reader.ended, 'its end')).endsWith('0\r\n\r\n')).toBe(true);
    expect(control.listenerCount).toBe(0);
  });
});

describe('hostile and slow callers', () => {
  it('get an answer for what is no HTTP', async () => {
    await start();
    for (const text of ['hello\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', '\u0016\u0003\u0001\u0000', 'GET /\r\n']) {
      const caller = rawConnection(path);
      caller.socket.write(text);
      caller.socket.end();
      const answer = await within(caller.ended, 'the answer');
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
      expect(JSON.parse(body)).toMatchObject({ code: 'request-malformed' });
    }
    const caller = rawConnection(path);
    caller.socket.write(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`);
    expect(await within(caller.ended, 'the answer')).toContain('headers-too-large');
  });

  it('do not hold their connection by half a request', async () => {
    await start({ headersTimeoutMs: 200, requestTimeoutMs: 400 });
    const texts = [
      '',
      'GET /v1/networks HT',
      'POST /v1/networks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"name',
    ];
    for (const text of texts) {
      const caller = rawConnection(path);
      if (text !== '') caller.socket.write(text);
      const answer = await within(caller.ended, `the end of ${JSON.stringify(text)}`);
      if (text !== '') expect(answer).toContain('request-timeout');
    }
  });

  it('do not keep others out by many connections', async () => {
    await start({ maxConnections: 20, headersTimeoutMs: 300, requestTimeoutMs: 400 });
    const callers = Array.from({ length: 60 }, () => rawConnection(path));
    await eventually('an answer for somebody else', async () => {
      const answer = await http(path, { path: '/v1/version' }).catch(() => undefined);
      return answer?.status === 200 || undefined;
    });
    for (const { socket } of callers) socket.destroy();
  });

  it('are answered one after another on one connection', async () => {
    await start();
    const caller = rawConnection(path);
    caller.socket.write('GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(50));
    await eventually('50 answers', () => caller.text().split('HTTP/1.1 200').length === 51 || undefined);
    caller.socket.destroy();
  });

  it('that go away do not stop what they began', async () => {
    await start();
    await post('/v1/networks', SPEC);
    let open = (): void => {};
    control.attachGate = new Promise((resolve) => {
      open = resolve;
    });
    const body = '{"container":"web","network":"net-a"}';
    const caller = rawConnection(path);
    caller.socket.write(
      `POST /v1/attachments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    caller.socket.destroy();
    open();
    await eventually('the attachment', () => control.attachments.size === 1 || undefined);
  });
});

describe('listening', () => {
  it('makes folder and socket with their modes, and removes the socket', async () => {
    path = join(folder, 'run', 'arca', 'control.sock');
    await start();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(statSync(join(folder, 'run', 'arca')).mode & 0o777 & ~0o022).toBe(0o755);
    await api?.stop();
    await api?.stop();
    expect(existsSync(path)).toBe(false);
  });

  it.runIf(process.getuid?.() === 0)('gives the socket to the group (needs root)', async () => {
    const { stdout } = await run('getent', ['group', 'nogroup'], { timeoutMs: 5_000 });
    await start({}, 'nogroup');
    expect(statSync(path).gid).toBe(Number(stdout.split(':')[2]));
  });

  it('serves several sockets', async () => {
    const paths = [path, join(folder, 'other.sock')];
    api = await startControlApi({ service: control, paths, group: 'none', log, version: '1' });
    for (const each of paths) expect((await http(each, { path: '/v1/version' })).status).toBe(200);
  });

  it('replaces a socket that a dead process left, and no other', async () => {
    const leave = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await run(process.execPath, ['-e', leave], { timeoutMs: 10_000 }).catch(() => {});
    expect(existsSync(path)).toBe(true);
    await start();
    const second = startControlApi({ service: control, paths: [path], group: 'none', log, version: '1' });
    await expect(second).rejects.toMatchObject({ code: 'endpoint-in-use' });
    expect(await get('/v1/version')).toMatchObject({ status: 200 });
    await api?.stop();
    writeFileSync(path, 'precious');
    await expect(start()).rejects.toMatchObject({ code: 'endpoint-in-use' });
    expect(existsSync(path)).toBe(true);
  });

  it('leaves nothing when the second socket can not be had', async () => {
    const other = createServer();
    const taken = join(folder, 'taken.sock');
    await new Promise<void>((resolve) => other.listen(taken, resolve));
    const starting = startControlApi({ service: control, paths: [path, taken], group: 'none', log, version: '1' });
    await expect(starting).rejects.toMatchObject({ code: 'endpoint-in-use' });
    expect(existsSync(path)).toBe(false);
    expect(control.listenerCount).toBe(0);
    await new Promise((resolve) => other.close(resolve));
  });

  it('stops when the calls that run have ended, and takes no more', async () => {
    await start();
    await post('/v1/networks', SPEC);
    let open = (): void => {};
    control.attachGate = new Promise((resolve) => {
      open = resolve;
    });
    const running = post('/v1/attachments', { container: 'web', network: 'net-a' });
    const kept = rawConnection(path);
    kept.socket.write('GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n');
    await eventually('the first answer', () => kept.text().includes('1.2.3') || undefined);
    const stopping = api?.stop();
    await expect(http(path, { path: '/v1/version' })).rejects.toThrow();
    open();
    expect(await running).toMatchObject({ status: 201 });
    await within(Promise.all([stopping, kept.ended]), 'the stop');
  });

  it('stops within its bound though a call does not end and a reader does not read', async () => {
    await start({ drainMs: 100 });
    await post('/v1/networks', SPEC);
    control.attachGate = new Promise(() => {});
    const running = http(path, {
      method: 'POST',
      path: '/v1/attachments',
      body: { container: 'web', network: 'net-a' },
    });
    running.catch(() => {});
    const idle = rawConnection(path);
    await eventually('the connections', () => idle.socket.readyState === 'open' || undefined);
    await within(api?.stop() ?? Promise.resolve(), 'the stop', 4_000);
    await expect(running).rejects.toThrow();
  });
});
