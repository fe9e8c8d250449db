import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type RelaySpec, relayArguments, shapeDifferences } from '../../src/control/relays/arguments.js';
import { createBackoff, FIRST_DELAY_MS, LAST_DELAY_MS, STABLE_AFTER_MS } from '../../src/control/relays/backoff.js';
import { launchRelay, saidItself } from '../../src/control/relays/launch.js';
import { askRelay, connectRelay } from '../../src/control/relays/link.js';
import { createSupervisor, type SupervisorEvent } from '../../src/control/relays/supervisor.js';

const spec: RelaySpec = {
  container: 'web',
  network: 'net-a',
  endpoint: { transport: 'vsock', port: 5555 },
  tap: 'tap5555',
  vlan: 100,
  mac: '02:00:00:00:00:01',
  addresses: ['10.9.0.2/24'],
  gateway: '10.9.0.1',
  dns: ['10.9.0.1', '10.9.0.53'],
  mtu: 1400,
  peerCids: [7, 8],
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('relayArguments', () => {
  it('says all that the relay and its container need', () => {
    const surroundings = { bridge: 'br-int', ovsSocketPath: '/run/db.sock' };
    const start = { statusPath: '/run/arca/relays/tap5555.sock', notifyFd: 3, timeoutMs: 10_000 };
    expect(relayArguments(spec, surroundings, start)).toEqual([
      ...['--listen=vsock:5555', '--tap=tap5555', '--network=net-a', '--vlan=100', '--bridge=br-int', '--mtu=1400'],
      ...['--peer-mac=02:00:00:00:00:01', '--peer-address=10.9.0.2/24', '--peer-gateway=10.9.0.1'],
      ...['--peer-dns=10.9.0.1', '--peer-dns=10.9.0.53', '--peer-cid=7', '--peer-cid=8', '--ovs=unix:/run/db.sock'],
      ...['--metrics=unix:/run/arca/relays/tap5555.sock', '--notify-fd=3', '--timeout=10', '--log-format=json'],
    ]);
  });

  it('leaves out what there is not', () => {
    const plain = { ...spec, gateway: null, dns: [], addresses: [], peerCids: [] };
    const args = relayArguments(
      plain,
      { bridge: 'b', ovsSocketPath: '/o' },
      { statusPath: '/s', notifyFd: 3, timeoutMs: 1 },
    );
    expect(args.join(' ')).not.toMatch(/peer-(gateway|dns|address|cid)/);
  });
});

describe('shapeDifferences', () => {
  const shape = {
    ...{ tap: 'tap5555', tag: 100, bridge: 'br-int', endpoint: 'vsock:5555', mtu: 1400, network: 'net-a' },
    interfaceConfig: {
      ...{ mtu: 1400, mac: spec.mac, addresses: spec.addresses, gateways: ['10.9.0.1'], dns: spec.dns },
    },
    allowedCids: [7, 8],
  };

  it('finds none in a relay that was started by these arguments', () => {
    expect(shapeDifferences(spec, 'br-int', shape)).toEqual([]);
  });

  it('names each', () => {
    expect(shapeDifferences({ ...spec, vlan: 101, dns: [] }, 'br-x', shape)).toEqual([
      'the VLAN tag is 100, and should be 101',
      'the bridge is br-int, and should be br-x',
      'the DNS servers is 10.9.0.1, 10.9.0.53, and should be none',
    ]);
  });
});

describe('createBackoff', () => {
  it('waits longer and longer, up to a limit, and begins anew after a stable time', () => {
    const backoff = createBackoff();
    const waits = Array.from({ length: 10 }, () => backoff.next(0));
    expect(waits.slice(0, 4)).toEqual([250, 500, 1000, 2000]);
    expect(waits.at(-1)).toBe(LAST_DELAY_MS);
    expect(backoff.next(STABLE_AFTER_MS - 1)).toBe(LAST_DELAY_MS);
    expect(backoff.next(STABLE_AFTER_MS)).toBe(FIRST_DELAY_MS);
    expect(backoff.next(0)).toBe(2 * FIRST_DELAY_MS);
  });
});

describe('launchRelay', () => {
  const launch = (script: string, more: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
    launchRelay({
      command: ['sh', '-c', script],
      env: { ...process.env, NOTIFY_SOCKET: '/run/systemd/notify' },
      logPath: join(folder, 'log'),
      timeoutMs: 5_000,
      ...more,
    });
  const failureOf = (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error: unknown) => error,
    );

  it('gives the process id as soon as it is ready', async () => {
    const pid = await launch(
      `echo '{"event":"starting","step":"tag"}' >&3; echo '{"event":"ready"}' >&3; exec sleep 60`,
    );
    expect(process.kill(pid, 0)).toBe(true);
    process.kill(pid, 'SIGKILL');
  });

  it("gives the relay's own code and message", async () => {
    const failed = '{"event":"failed","code":"tap-name-in-use","message":"tap1 exists","exitCode":32}';
    const error = await failureOf(launch(`echo '${failed}' >&3; exit 32`));
    expect(error).toMatchObject({ code: 'tap-name-in-use', message: 'tap1 exists', details: { relayExitCode: 32 } });
    expect(saidItself(error)).toBe(true);
  });

  it('gives the exit code and the end of the log of one that says nothing', async () => {
    const error = await failureOf(launch('echo no such module >&2; exit 7'));
    expect(error).toMatchObject({
      code: 'command-failed',
      message: expect.stringMatching(/exit code 7.*no such module/),
    });
    expect(saidItself(error)).toBe(false);
  });

  it('survives lines that are no events', async () => {
    const error = await failureOf(launch(`echo 'not JSON' >&3; echo '[1]' >&3; echo null >&3; exit 3`));
    expect(error).toMatchObject({ code: 'command-failed' });
  });

  it('ends one that is not ready in time', async () => {
    const error = await failureOf(launch('echo $$ >&2; exec sleep 60', { timeoutMs: 200 }));
    expect(error).toMatchObject({ code: 'timed-out' });
    const pid = Number(readFileSync(join(folder, 'log'), 'utf8'));
    expect(() => process.kill(pid, 0)).toThrow();
  });

  it('ends one when it is told to, with that reason', async () => {
    const stop = new AbortController();
    const launching = launch('echo $$ >&2; exec sleep 60', { signal: stop.signal });
    await vi.waitUntil(
      () => existsSync(join(folder, 'log')) && readFileSync(join(folder, 'log'), 'utf8').endsWith('\n'),
    );
    stop.abort(new Error('enough'));
    await expect(launching).rejects.toThrow('enough');
    expect(() => process.kill(Number(readFileSync(join(folder, 'log'), 'utf8')), 0)).toThrow();
  });

  it('says that there is no such program', async () => {
    const error = await failureOf(
      launchRelay({ command: ['/nonexistent'], env: {}, logPath: join(folder, 'log'), timeoutMs: 1000 }),
    );
    expect(error).toMatchObject({ code: 'command-missing' });
  });

  it('does not let the relay speak to systemd in our name', async () => {
    await failureOf(launch('echo "notify=$NOTIFY_SOCKET." >&2; exit 1'));
    expect(readFileSync(join(folder, 'log'), 'utf8')).toBe('notify=.\n');
  });
});

describe('connectRelay', () => {
  let server: Server | undefined;
  const path = (): string => join(folder, 's.sock');
  const status = { event: 'status', tap: 'tap1', pid: 1, tag: 100 };
  const call = { timeoutMs: 500 };

  afterEach(async () => {
    server?.closeAllConnections();
    await new Promise((resolve) => (server === undefined ? resolve(0) : server.close(resolve)));
    server = undefined;
  });

  async function serve(answer: Parameters<typeof createServer>[1]): Promise<void> {
    server = createServer({}, answer);
    await new Promise<void>((resolve) => server?.listen(path(), resolve));
  }

  it('gives the status, each event, and the end', async () => {
    await serve((_, response) => {
      response.write(`${JSON.stringify(status)}\n{"event":"degr`);
      setImmediate(() => {
        response.write('aded"}\n{"event":"half');
        setImmediate(() => response.destroy());
      });
    });
    const events: object[] = [];
    const link = await connectRelay(path(), (event) => events.push(event), call);
    expect(link?.status).toEqual(status);
    expect(await link?.ended).toEqual({ byUs: false });
    expect(events).toEqual([{ event: 'degraded' }]);
  });

  it('gives nothing where nobody listens, or the process ends before it has said anything', async () => {
    expect(await connectRelay(path(), () => {}, call)).toBeUndefined();
    writeFileSync(path(), '');
    expect(await connectRelay(path(), () => {}, call)).toBeUndefined();
    rmSync(path());
    await serve((request) => request.socket.destroy());
    expect(await connectRelay(path(), () => {}, call)).toBeUndefined();
    expect(await askRelay(path(), call)).toBeUndefined();
  });

  it('says that somebody is there and does not answer', async () => {
    await serve(() => {});
    await expect(connectRelay(path(), () => {}, { timeoutMs: 100 })).rejects.toMatchObject({ code: 'timed-out' });
    await expect(askRelay(path(), { timeoutMs: 100 })).rejects.toMatchObject({ code: 'timed-out' });
  });

  it('says that it is no relay', async () => {
    await serve((_, response) => response.end('<html>\n'));
    await expect(connectRelay(path(), () => {}, call)).rejects.toMatchObject({ code: 'unexpected' });
    await expect(askRelay(path(), call)).rejects.toMatchObject({ code: 'unexpected' });
  });

  it('ends when it is told to', async () => {
    await serve((_, response) => response.write(`${JSON.stringify(status)}\n`));
    const link = await connectRelay(path(), () => {}, call);
    link?.close();
    expect(await link?.ended).toEqual({ byUs: true });
  });
});

/** Answers on its status socket as a relay does, and stops at SIGTERM; `how` makes it misbehave. */
const FAKE_RELAY = `
import { createServer } from 'node:http';
import { writeSync, unlinkSync } from 'node:fs';
const option = (name) => process.argv.find((arg) => arg.startsWith('--' + name + '='))?.split('=')[1];
const path = option('metrics').slice(5);
const status = { tap: option('tap'), tag: Number(option('vlan')), bridge: 'b', endpoint: option('listen'), mtu: 1500, pid: process.pid, state: 'ready', counters: {} };
const how = process.env.FAKE ?? '';
const streams = new Set();
createServer((request, response) => {
  if (how === 'mute') return;
  if (request.url === '/events') { streams.add(response); response.write(JSON.stringify({ event: 'status', ...status }) + '\\n'); }
  else response.end(JSON.stringify(status));
}).listen(path, () => writeSync(3, '{"event":"ready"}\\n'));
process.on('SIGTERM', () => { if (how !== 'stubborn') { unlinkSync(path); process.exit(0); } });
process.on('SIGUSR1', () => { for (const stream of streams) stream.write('{"event":"degraded","reason":"tap-down","detail":"it is down"}\\n'); });
process.on('SIGUSR2', () => { for (const stream of streams) stream.end(); });
`;

describe('createSupervisor', () => {
  const started: { close(): void }[] = [];
  const events: SupervisorEvent[] = [];
  const types = (): string[] => events.map(({ type }) => type);

  function supervise(how = '') {
    writeFileSync(join(folder, 'fake.mjs'), FAKE_RELAY);
    mkdirSync(join(folder, 'relays'), { recursive: true });
    const supervisor = createSupervisor({
      relaysDir: join(folder, 'relays'),
      surroundings: { bridge: 'b', ovsSocketPath: '/o' },
      relayProgram: [process.execPath, join(folder, 'fake.mjs')],
      env: { ...process.env, FAKE: how },
      startTimeoutMs: 5_000,
      log: pino({ level: 'silent' }),
      onEvent: (event) => events.push(event),
    });
    started.push(supervisor);
    return supervisor;
  }

  afterEach(async () => {
    for (const supervisor of started.splice(0)) supervisor.close();
    const last = supervise();
    await last.adopt({});
    for (const { tap } of last.list()) await last.stop(tap);
    last.close();
    events.length = 0;
  });

  it('starts a relay, tells what becomes of it, and ends it with its files', async () => {
    const supervisor = supervise();
    const { pid } = await supervisor.start(spec, {});
    expect(supervisor.list()).toMatchObject([{ tap: 'tap5555', pid, trouble: undefined, connected: false }]);
    process.kill(pid, 'SIGUSR1');
    await vi.waitUntil(() => supervisor.get('tap5555')?.trouble !== undefined);
    expect(supervisor.get('tap5555')?.trouble).toMatchObject({ reason: 'tap-down', detail: 'it is down' });
    expect(await supervisor.stop('tap5555')).toBe('stopped');
    expect(supervisor.list()).toEqual([]);
    expect(types()).toEqual(['started', 'changed']);
    expect(existsSync(join(folder, 'relays', 'tap5555.log'))).toBe(false);
    expect(await supervisor.stop('tap5555')).toBe('absent');
  });

  it('tells at once that one died', async () => {
    const supervisor = supervise();
    const { pid } = await supervisor.start(spec, {});
    process.kill(pid, 'SIGKILL');
    await vi.waitUntil(() => types().includes('died'));
    expect(supervisor.list()).toEqual([]);
    expect(events.at(-1)).toMatchObject({ detail: `process ${pid} was killed` });
  });

  it('connects again to one that lives and has closed the connection', async () => {
    const supervisor = supervise();
    const { pid } = await supervisor.start(spec, {});
    process.kill(pid, 'SIGUSR2');
    await vi.waitUntil(() => types().includes('changed'));
    expect(types()).not.toContain('died');
    process.kill(pid, 'SIGUSR1');
    await vi.waitUntil(() => supervisor.get('tap5555')?.trouble !== undefined);
  });

  it('lets them live when it ends, and the next one adopts them', async () => {
    const first = supervise();
    const { pid } = await first.start(spec, {});
    first.close();
    const next = supervise();
    await next.adopt({});
    expect(next.list()).toMatchObject([{ tap: 'tap5555', pid, shape: { tag: 100, endpoint: 'vsock:5555' } }]);
    await next.adopt({});
    expect(types()).toEqual(['started', 'adopted']);
    process.kill(pid, 'SIGKILL');
    await vi.waitUntil(() => types().includes('died'));
  });

  it('removes the socket that a dead one left', async () => {
    const first = supervise();
    const { pid } = await first.start(spec, {});
    first.close();
    process.kill(pid, 'SIGKILL');
    await vi.waitUntil(() => !existsSync(`/proc/${pid}/exe`));
    const next = supervise();
    await next.adopt({});
    expect(next.list()).toEqual([]);
    expect(existsSync(join(folder, 'relays', 'tap5555.sock'))).toBe(false);
  });

  it('ends one that hangs by force, and says so', async () => {
    const supervisor = supervise();
    const { pid } = await supervisor.start(spec, {});
    process.kill(pid, 'SIGSTOP');
    expect(await supervisor.probe({ timeoutMs: 100 })).toEqual([]);
    expect(supervisor.get('tap5555')?.silentSince).toBeDefined();
    process.kill(pid, 'SIGCONT');
    expect(await supervisor.probe({ timeoutMs: 2_000 })).toMatchObject([{ pid }]);
    expect(supervisor.get('tap5555')?.silentSince).toBeUndefined();
    expect(types()).toEqual(['started', 'changed', 'changed']);
  });

  it('rejects when the relay can not be watched, and leaves nothing', async () => {
    const supervisor = supervise('mute');
    await expect(supervisor.start(spec, {})).rejects.toMatchObject({ code: 'timed-out' });
    expect(await supervisor.stop('tap5555')).toBe('stopped');
  });
});
