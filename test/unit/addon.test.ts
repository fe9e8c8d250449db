/**
 * The addon as JavaScript meets it: arguments, errors, events, and the ends of processes, threads and objects. Each test
 * is a script in a process and a network namespace of its own, since it makes TAPs and looks at the whole process.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RelayCounters } from '../../src/native.js';
import { SLOWDOWN, scaled } from '../support/time.js';

const SCRIPT_TIMEOUT_MS = scaled(40_000);
const ADDON = path.resolve('build/Release/arca_native.node');

/** What every script begins with. */
const PRELUDE = `
'use strict';
const fs = require('node:fs');
const net = require('node:net');
const { once } = require('node:events');
const { setTimeout: delay } = require('node:timers/promises');
const { execFileSync } = require('node:child_process');
const ADDON = ${JSON.stringify(ADDON)};
const addon = require(ADDON);

const options = (tap, more = {}) => ({
  tap, mtu: 1500, allowedCids: [], onSecondPeer: 'refuse', burstBytes: 0, offloads: [], interfaceConfig: {}, ...more,
});
const unix = (name) => ({ transport: 'unix', path: process.env.SCRATCH + '/' + name });
const links = () => JSON.parse(execFileSync('ip', ['-j', 'link'])).map(({ ifname }) => ifname).filter((name) => name !== 'lo');
const threads = () => fs.readdirSync('/proc/self/task').length;
// Without the one of this very look, and without libuv's own, which come with the first use.
const descriptors = () => fs.readdirSync('/proc/self/fd').flatMap((fd) => {
  try { return [fs.readlinkSync('/proc/self/fd/' + fd)]; } catch { return []; }
}).filter((what) => /tun|eventpoll|eventfd|socket/.test(what)).length;
const collect = async () => { for (let i = 0; i < 5; ++i) { global.gc(); await delay(1); } };

async function until(what, condition) {
  const deadline = performance.now() + 20000 * ${SLOWDOWN};
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('not in time: ' + what);
    await delay(1);
  }
}
// Events as they come, and a way to wait for the next one.
function events() {
  const told = [];
  let read = 0;
  const listener = (event) => void told.push(event);
  return Object.assign(listener, {
    told,
    next: async () => {
      await until('an event after ' + JSON.stringify(told.slice(0, read)), () => told.length > read);
      return told[read++];
    },
  });
}
async function connect(name) {
  const socket = net.connect(unix(name).path);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}
function attempt(call) {
  try {
    return { value: call() };
  } catch (error) {
    return { name: error.name, code: error.code, operation: error.operation, message: error.message };
  }
}
const print = (value) => fs.writeSync(1, JSON.stringify(value));
`;

interface Outcome {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface ScriptOptions {
  readonly nodeArguments?: readonly string[];
  /** Before `node`: `setpriv` and its arguments. */
  readonly wrapper?: readonly string[];
}

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)(
  'addon (needs root for TAPs and network namespaces)',
  { timeout: SCRIPT_TIMEOUT_MS + 5_000 },
  () => {
    let scratch: string;
    let count = 0;

    beforeAll(async () => {
      scratch = await mkdtemp(path.join(tmpdir(), 'arca-addon-'));
    });
    afterAll(() => rm(scratch, { recursive: true, force: true }));

    async function runScript(body: string, { nodeArguments = [], wrapper = [] }: ScriptOptions = {}): Promise<Outcome> {
      const directory = await mkdtemp(path.join(scratch, `${++count}-`));
      const file = path.join(directory, 'script.cjs');
      await writeFile(file, `${PRELUDE}\n(async () => {\n${body}\n})();\n`);
      return new Promise((resolve) => {
        const child = execFile(
          'unshare',
          ['--net', ...wrapper, process.execPath, ...nodeArguments, file],
          { timeout: SCRIPT_TIMEOUT_MS, killSignal: 'SIGKILL', env: { ...process.env, SCRATCH: directory } },
          (_error, stdout, stderr) => resolve({ exitCode: child.exitCode, signal: child.signalCode, stdout, stderr }),
        );
      });
    }

    /** What the script printed as JSON; fails if it did not end well. */
    async function resultOf(body: string, options?: ScriptOptions): Promise<unknown> {
      const outcome = await runScript(body, options);
      expect(outcome).toMatchObject({ exitCode: 0, signal: null, stderr: '' });
      return JSON.parse(outcome.stdout);
    }

    interface Attempt {
      readonly name?: string;
      readonly code?: string;
      readonly operation?: string;
      readonly message?: string;
    }

    describe('arguments', () => {
      it('are checked field by field, and a wrong one leaves nothing behind', async () => {
        const wrong: [field: string, changes: string][] = [
          ['tap', '{ tap: undefined }'],
          ['tap', '{ tap: 5 }'],
          ['tap', "{ tap: '' }"],
          ['tap', "{ tap: 'sixteen-bytes-xy' }"],
          ['tap', "{ tap: 'a\\0b' }"],
          ['tap', "{ tap: 'a/b' }"],
          ['tap', "{ tap: 'tap%d' }"],
          ['tap', "{ tap: '..' }"],
          ['mtu', '{ mtu: undefined }'],
          ['mtu', "{ mtu: '1500' }"],
          ['mtu', '{ mtu: NaN }'],
          ['mtu', '{ mtu: Infinity }'],
          ['mtu', '{ mtu: 67 }'],
          ['mtu', '{ mtu: 65522 }'],
          ['mtu', '{ mtu: 1500.5 }'],
          ['mtu', '{ mtu: 1500n }'],
          ['burstBytes', '{ burstBytes: undefined }'],
          ['burstBytes', '{ burstBytes: -1 }'],
          ['burstBytes', '{ burstBytes: 0.5 }'],
          ['burstBytes', '{ burstBytes: 262145 }'],
          ['onSecondPeer', '{ onSecondPeer: undefined }'],
          ['onSecondPeer', "{ onSecondPeer: 'maybe' }"],
          ['onSecondPeer', '{ onSecondPeer: 1 }'],
          ['allowedCids', '{ allowedCids: 5 }'],
          ['allowedCids', "{ allowedCids: ['3'] }"],
          ['allowedCids', '{ allowedCids: [-1] }'],
          ['allowedCids', '{ allowedCids: [1.5] }'],
          ['allowedCids', '{ allowedCids: [4294967295] }'],
          ['allowedCids', '{ allowedCids: [3, NaN] }'],
          ['allowedCids', '{ allowedCids: { length: 1 } }'],
          ['allowedCids', '{ allowedCids: new Array(4294967295) }'],
          ['offloads', "{ offloads: 'tso4' }"],
          ['offloads', "{ offloads: ['tso9'] }"],
          ['offloads', '{ offloads: [1] }'],
          ['offloads', "{ offloads: [Symbol('tso4')] }"],
          ['interfaceConfig', '{ interfaceConfig: undefined }'],
          ['interfaceConfig', '{ interfaceConfig: 5 }'],
          ['mac', "{ interfaceConfig: { mac: 'zz' } }"],
          ['mac', '{ interfaceConfig: { mac: 5 } }'],
          ['mac', "{ interfaceConfig: { mac: '01:00:00:00:00:00' } }"],
          ['mtu', '{ interfaceConfig: { mtu: 67 } }'],
          ['mtu', '{ interfaceConfig: { mtu: 1.5e9 } }'],
          ['addresses', "{ interfaceConfig: { addresses: '10.9.0.2/24' } }"],
          ['addresses', "{ interfaceConfig: { addresses: ['10.9.0.2'] } }"],
          ['addresses', '{ interfaceConfig: { addresses: [5] } }'],
          ['addresses', "{ interfaceConfig: { addresses: new Array(17).fill('10.9.0.2/24') } }"],
          ['gateways', "{ interfaceConfig: { gateways: ['x'] } }"],
          ['dns', '{ interfaceConfig: { dns: [null] } }'],
          ['dns', "{ interfaceConfig: { dns: new Array(17).fill('10.9.0.53') } }"],
        ];
        const attempts = (await resultOf(`
        const engine = new addon.Engine();
        const attempts = [${wrong.map(([, changes]) => changes).join(', ')}].map((changes) =>
          attempt(() => engine.createRelay(options('tap0', changes), () => {})));
        attempts.push(links());
        await engine.close();
        print(attempts);
      `)) as Attempt[];
        expect(attempts.pop()).toEqual([]);
        expect(attempts.map(({ name, code, operation }) => ({ name, code, operation }))).toEqual(
          wrong.map(() => ({ name: 'Error', code: 'EINVAL', operation: 'argument' })),
        );
        wrong.forEach(([field], i) => {
          expect(attempts[i]?.message).toMatch(new RegExp(`^${field} `));
        });
      });

      it('of other shapes are refused, not crashed on', async () => {
        const attempts = (await resultOf(`
        const engine = new addon.Engine();
        const relay = engine.createRelay(options('tap0'), () => {});
        const f = () => {};
        const attempts = [
          ...[undefined, null, 5, 'x', [], Symbol('s')].map((value) => attempt(() => engine.createRelay(value, f))),
          attempt(() => engine.createRelay()),
          attempt(() => engine.createRelay(options('tap1'))),
          attempt(() => engine.createRelay(options('tap1'), {})),
          ...[undefined, null, 5, 'vsock:1', {}, { transport: 'tcp' },
            { transport: 'vsock' }, { transport: 'vsock', cid: 3 }, { transport: 'vsock', cid: 3, port: 0 },
            { transport: 'vsock', cid: 3, port: '5' }, { transport: 'vsock', cid: -1, port: 5 },
            { transport: 'vsock', cid: 3, port: 5.5 }, { transport: 'vsock', cid: 3, port: 4294967295 },
            { transport: 'unix' }, { transport: 'unix', path: '' }, { transport: 'unix', path: 5 },
            { transport: 'unix', path: 'a\\0b' }, { transport: 'unix', path: '/'.repeat(108) },
          ].flatMap((value) => [attempt(() => relay.listen(value)), attempt(() => relay.dial(value))]),
          attempt(() => relay.dial({ transport: 'vsock', cid: 4294967295, port: 5 })),
          ...[undefined, 5, {}, ['x']].map((value) => attempt(() => relay.setOffloads(value))),
          ...[undefined, 5, 'x', 'vsock:0', 'unix:'].map((value) => attempt(() => addon.parseEndpoint(value))),
          attempt(() => addon.sdNotify()),
          attempt(() => addon.sdNotify('/x', 5)),
          ...[5, 'x', null, { workers: 0 }, { workers: 65 }, { workers: 1.5 }, { workers: '2' }, { workers: NaN }]
            .map((value) => attempt(() => new addon.Engine(value))),
        ];
        await engine.close();
        print(attempts);
      `)) as Attempt[];
        for (const each of attempts) expect(each).toMatchObject({ code: 'EINVAL', operation: 'argument' });
      });

      it('may have getters, whose own errors come through', async () => {
        expect(
          await resultOf(`
          const engine = new addon.Engine();
          const mine = () => { throw new RangeError('mine'); };
          const result = [
            attempt(() => engine.createRelay({ get tap() { return mine(); } }, () => {})),
            attempt(() => engine.createRelay(new Proxy({}, { get: mine }), () => {})),
            attempt(() => engine.createRelay(options('tap0', { interfaceConfig: { get mac() { return mine(); } } }), () => {})),
            attempt(() => engine.createRelay(options('tap0', { get offloads() { return mine(); } }), () => {})),
            attempt(() => engine.createRelay(options('tap0', { offloads: [{ toString: mine }] }), () => {})),
            attempt(() => new addon.Engine({ get workers() { return mine(); } })),
            links(),
          ];
          await engine.close();
          print(result);
        `),
        ).toEqual([
          { name: 'RangeError', message: 'mine' },
          { name: 'RangeError', message: 'mine' },
          { name: 'RangeError', message: 'mine' },
          { name: 'RangeError', message: 'mine' },
          expect.objectContaining({ message: expect.any(String) }),
          { name: 'RangeError', message: 'mine' },
          [],
        ]);
      });

      it('called without `new`, or on something else, throw', async () => {
        const attempts = (await resultOf(`
        const engine = new addon.Engine();
        const relay = engine.createRelay(options('tap0'), () => {});
        const attempts = [
          attempt(() => addon.Engine()),
          attempt(() => relay.listen.call({}, unix('s'))),
          attempt(() => relay.close.call(undefined)),
          attempt(() => new relay.constructor().listen(unix('s'))),
          attempt(() => new relay.constructor(1, 2).counters()),
        ];
        await new relay.constructor().close();
        await engine.close();
        print(attempts);
      `)) as Attempt[];
        for (const each of attempts) expect(each.name).toMatch(/^(Type)?Error$/);
      });
    });

    describe('errors', () => {
      it('carry the code and the operation', async () => {
        expect(
          await resultOf(`
          const engine = new addon.Engine();
          const relay = engine.createRelay(options('tap0'), () => {});
          const other = engine.createRelay(options('tap1'), () => {});
          relay.listen(unix('s'));
          const result = [
            attempt(() => engine.createRelay(options('tap0'), () => {})),
            attempt(() => other.listen(unix('s'))),
            attempt(() => other.listen({ transport: 'unix', path: '/nonexistent/s' })),
            attempt(() => relay.listen(unix('t'))),
            attempt(() => relay.dial(unix('t'))),
            attempt(() => addon.sdNotify('/nonexistent/s', 'READY=1')),
          ].map(({ code, operation, message }) => ({ code, operation, message }));
          await engine.close();
          print(result);
        `),
        ).toEqual([
          { code: 'EBUSY', operation: 'ioctl(TUNSETIFF)', message: 'ioctl(TUNSETIFF): Device or resource busy' },
          { code: 'EADDRINUSE', operation: 'bind', message: 'bind: Address already in use' },
          { code: 'ENOENT', operation: 'bind', message: 'bind: No such file or directory' },
          { code: 'EALREADY', operation: 'listen', message: 'listen: Operation already in progress' },
          { code: 'EALREADY', operation: 'dial', message: 'dial: Operation already in progress' },
          {
            code: 'ENOENT',
            operation: 'sendto(NOTIFY_SOCKET)',
            message: 'sendto(NOTIFY_SOCKET): No such file or directory',
          },
        ]);
      });

      it('tell what a missing capability stopped', async () => {
        expect(
          await resultOf(
            `
          const engine = new addon.Engine();
          const result = attempt(() => engine.createRelay(options('tap0'), () => {}));
          await engine.close();
          print(result);
          `,
            { wrapper: ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'] },
          ),
        ).toMatchObject({ code: 'EPERM', operation: 'ioctl(TUNSETIFF)' });
      });
    });

    describe('events', () => {
      it("come in order, with 'peer-connected' exactly once a link", async () => {
        const told = (await resultOf(`
        const engine = new addon.Engine();
        const listener = events();
        const relay = engine.createRelay(options('tap0'), listener);
        relay.listen(unix('s'));
        for (let i = 0; i < 100; ++i) {
          const socket = await connect('s');
          socket.destroy();
          await listener.next();
          await listener.next();
        }
        await relay.close();
        await engine.close();
        print(listener.told);
      `)) as { type: string; peer: object; agreed?: object }[];
        expect(told.map(({ type }) => type)).toEqual(
          Array.from({ length: 100 }, () => ['peer-connected', 'peer-gone']).flat(),
        );
        expect(told[0]).toMatchObject({
          peer: { transport: 'unix', pid: expect.any(Number) },
          agreed: { protocol: 'plain', offloads: [], largestRecordBytes: 65563, largestBurstBytes: 262144 },
        });
      });

      it('stop with close(): none comes after its promise', async () => {
        expect(
          await resultOf(`
          const engine = new addon.Engine();
          let closed = 0;
          let late = 0;
          let told = 0;
          for (let i = 0; i < 30; ++i) {
            let done = false;
            const relay = engine.createRelay(options('tap0'), () => { ++told; if (done) ++late; });
            relay.listen(unix('s'));
            const sockets = await Promise.all([connect('s'), connect('s'), connect('s')]);
            await relay.close().then(() => { done = true; ++closed; });
            for (const socket of sockets) socket.destroy();
            if (fs.existsSync(unix('s').path)) throw new Error('the socket is still there');
            if (links().length > 0) throw new Error('the TAP is still there');
          }
          await engine.close();
          print({ closed, late, some: told > 0 });
        `),
        ).toEqual({ closed: 30, late: 0, some: true });
      });

      it('carry what the relays of two ends tell each other', async () => {
        expect(
          await resultOf(`
          const engine = new addon.Engine({ workers: 3 });
          const server = events();
          const client = events();
          const a = engine.createRelay(options('tap0', { mtu: 1400 }), server);
          const b = engine.createRelay(options('tap1', { mtu: 1450, burstBytes: 4096 }), client);
          b.dial(unix('s'));
          const failed = await client.next();
          a.listen(unix('s'));
          const result = [failed.type, failed.code, (await client.next()).agreed, (await server.next()).agreed];
          await a.close();
          const gone = await client.next();
          await engine.close();
          print([...result, gone.type, gone.reason, gone.detail]);
        `),
        ).toEqual([
          'dial-failed',
          'ENOENT',
          { protocol: 'arca', offloads: [], largestRecordBytes: 65563, largestBurstBytes: 4096, peerMtu: 1400 },
          { protocol: 'arca', offloads: [], largestRecordBytes: 65563, largestBurstBytes: 262144, peerMtu: 1450 },
          'peer-gone',
          'goodbye',
          'stopped',
        ]);
      });

      it('tell that the TAP was deleted', async () => {
        expect(
          await resultOf(`
          const engine = new addon.Engine();
          const listener = events();
          const relay = engine.createRelay(options('tap0'), listener);
          execFileSync('ip', ['link', 'del', 'tap0']);
          const event = await listener.next();
          const counters = relay.counters();
          await relay.close();
          await engine.close();
          print([event.type, event.code, counters.tapQueueDrops]);
        `),
        ).toEqual(['tap-lost', 'EBADFD', 0]);
      });

      const THROWING = `
      const engine = new addon.Engine();
      let told = 0;
      const relay = engine.createRelay(options('tap0'), () => { if (++told === 1) throw new Error('from the listener'); });
      relay.listen(unix('s'));
      const socket = await connect('s');
    `;

      it('whose listener throws give an uncaughtException, and go on', async () => {
        expect(
          await resultOf(`
          const caught = [];
          process.on('uncaughtException', (error) => caught.push(error.message));
          ${THROWING}
          await until('the first event', () => told === 1);
          socket.destroy();
          await until('the second event', () => told === 2);
          await relay.close();
          await engine.close();
          print(caught);
        `),
        ).toEqual(['from the listener']);
      });

      it('whose listener throws end a process that does not catch it, as any exception does', async () => {
        const outcome = await runScript(`${THROWING}\nawait delay(20000);`);
        expect(outcome).toMatchObject({ exitCode: 1, signal: null });
        expect(outcome.stderr).toContain('Error: from the listener');
      });
    });

    it('counts, with every reason that there is', async () => {
      const counters = await resultOf(`
      const engine = new addon.Engine();
      const listener = events();
      const relay = engine.createRelay(options('tap0'), listener);
      relay.listen(unix('s'));
      const socket = await connect('s');
      socket.write(Buffer.concat([Buffer.from([0, 0, 0, 60]), Buffer.alloc(60, 2), Buffer.from([0, 0, 0, 2])]));
      await listener.next();
      await listener.next();
      const counters = relay.counters();
      await engine.close();
      print(counters);
    `);
      const direction = { frames: 0, bytes: 0, bursts: 0, systemCalls: expect.any(Number), stalls: 0 };
      expect(counters).toMatchObject({
        tapToStream: { ...direction, drops: { 'forged-hello': 0, runt: 0, unsegmented: 0, 'peer-limit': 0 } },
        streamToTap: { ...direction, frames: 1, bytes: 60, bursts: 1, drops: { oversize: 0, tagged: 0 } },
        peersConnected: 1,
        peersRefused: { busy: 0, 'cid-not-allowed': 0 },
        breaches: { 'too-short': 1, 'too-long': 0, 'unknown-type': 0 },
        tapWrites: { state: 'untried' },
        tapQueueDrops: 0,
      });
    });

    it('says how frames that came together were written', async () => {
      const { streamToTap, tapWrites } = (await resultOf(`
      const engine = new addon.Engine();
      const listener = events();
      const relay = engine.createRelay(options('tap0'), listener);
      relay.listen(unix('s'));
      const socket = await connect('s');
      const record = Buffer.concat([Buffer.from([0, 0, 0, 60]), Buffer.alloc(60, 2)]);
      socket.end(Buffer.concat(Array.from({ length: 32 }, () => record)));
      while ((await listener.next()).type !== 'peer-gone');
      const counters = relay.counters();
      await engine.close();
      print(counters);
    `)) as RelayCounters;
      expect(streamToTap.frames).toBe(32);
      // A receive, one that finds the end, and what the writes took: the kernel here decides how many.
      if (tapWrites.state === 'batched') expect(streamToTap.systemCalls).toBe(3);
      else expect(streamToTap.systemCalls).toBe(34);
      expect(tapWrites).toEqual(
        tapWrites.state === 'batched' ? { state: 'batched' } : { state: 'refused', code: expect.stringMatching(/^E/) },
      );
    });

    describe('the end', () => {
      it('close() twice, in any order, and what is called afterwards throws', async () => {
        const [before, after] = (await resultOf(`
        const engine = new addon.Engine();
        const relay = engine.createRelay(options('tap0'), () => {});
        const other = engine.createRelay(options('tap1'), () => {});
        relay.listen(unix('s'));
        const socket = await connect('s');
        const pending = [relay.close(), relay.close()];
        const call = (target) => [
          attempt(() => target.listen(unix('t'))), attempt(() => target.dial(unix('t'))),
          attempt(() => target.counters()), attempt(() => target.setOffloads([])),
        ];
        const before = call(relay);
        pending.push(engine.close(), other.close(), engine.close(), relay.close());
        before.push(attempt(() => engine.createRelay(options('tap2'), () => {})));
        const values = await Promise.all(pending);
        const after = [...call(relay), ...call(other), attempt(() => engine.createRelay(options('tap2'), () => {}))];
        await relay.close();
        await engine.close();
        if (values.some((value) => value !== undefined) || links().length > 0) throw new Error('not closed: ' + values + ' ' + links());
        socket.destroy();
        print([before, after]);
      `)) as [Attempt[], Attempt[]];
        for (const each of [...before, ...after]) expect(each).toMatchObject({ code: 'ESHUTDOWN', message: /closed/ });
      });

      it('a closed engine holds no thread and no descriptor', async () => {
        const [before, after] = (await resultOf(`
          await connect('s').catch(() => {});
          const before = [threads(), descriptors()];
          const engines = [];
          for (let i = 0; i < 10; ++i) {
            const engine = new addon.Engine({ workers: 4 });
            engines.push(engine);
            const relay = engine.createRelay(options('tap' + i), () => {});
            relay.listen(unix('s' + i));
            await engine.close();
          }
          print([before, [threads(), descriptors()]]);
        `)) as [number[], number[]];
        expect(after).toEqual(before);
      });

      it('what was dropped is collected, with its threads and descriptors', async () => {
        expect(
          await resultOf(
            `
          await connect('s').catch(() => {});
          await collect();
          const before = [threads(), descriptors()];
          // In a function of its own, so that no variable keeps the last ones.
          await (async () => { for (let i = 0; i < 10; ++i) {
            new addon.Engine({ workers: 4 });                                              // never closed
            attempt(() => new addon.Engine().createRelay(options('lo'), () => {}));        // a relay that failed
            const engine = new addon.Engine();
            const relay = engine.createRelay(options('tap0'), () => {});                   // closed, its engine not
            relay.listen(unix('s'));
            await relay.close();
          } })();
          await collect();
          await until('as before: ' + [before, threads(), descriptors()], () => {
            global.gc();
            return threads() === before[0] && descriptors() === before[1];
          });
          print(links());
          `,
            { nodeArguments: ['--expose-gc'] },
          ),
        ).toEqual([]);
      });

      it('an open relay stays, whoever still knows it', async () => {
        expect(
          await resultOf(
            `
          const listener = events();
          let engine = new addon.Engine();
          engine.createRelay(options('tap0'), listener).listen(unix('s'));
          const weak = new WeakRef(engine);
          engine = undefined;
          await collect();
          (await connect('s')).destroy();
          const types = [(await listener.next()).type, (await listener.next()).type];
          await weak.deref().close();
          print([...types, ...links()]);
          `,
            { nodeArguments: ['--expose-gc'] },
          ),
        ).toEqual(['peer-connected', 'peer-gone']);
      });

      const LINK_UP = `
      const engine = new addon.Engine();
      const listener = events();
      const relay = engine.createRelay(options('tap0'), listener);
      relay.listen(unix('s'));
      const other = engine.createRelay(options('tap1'), listener);
      other.dial(unix('s'));
      await listener.next();
      await listener.next();
    `;

      it('of a process with links up: exit code 0, no hang, no crash', async () => {
        const outcomes = await Promise.all([
          runScript(`${LINK_UP}\nprocess.exit(0);`),
          runScript(`${LINK_UP}\nawait relay.close();\nawait engine.close();`),
          runScript(`${LINK_UP}\nengine.close();`),
          runScript(`${LINK_UP}\nengine.close(); process.exit(0);`),
          runScript(`${LINK_UP}\nrelay.close(); process.exit(0);`),
          runScript(`
          const engine = new addon.Engine();
          const relay = engine.createRelay(options('tap0'), () => process.exit(0));
          relay.listen(unix('s'));
          await connect('s');
          await delay(20000);
        `),
          runScript('new addon.Engine();'),
          runScript("new addon.Engine().createRelay(options('tap0'), () => {}); process.exit(0);"),
        ]);
        for (const outcome of outcomes) {
          expect(outcome).toEqual({ exitCode: 0, signal: null, stdout: '', stderr: '' });
        }
      });

      it('of a process by an exception: exit code 1, no crash', async () => {
        const outcome = await runScript(`${LINK_UP}\nthrow new Error('the end');`);
        expect(outcome).toMatchObject({ exitCode: 1, signal: null });
        expect(outcome.stderr).toContain('Error: the end');
      });

      it('of a process that is under way to close in an event', async () => {
        const outcome = await runScript(`
        const engine = new addon.Engine();
        const relay = engine.createRelay(options('tap0'), () => { relay.close(); engine.close(); });
        relay.listen(unix('s'));
        (await connect('s')).destroy();
      `);
        expect(outcome).toEqual({ exitCode: 0, signal: null, stdout: '', stderr: '' });
      });
    });

    describe('loaded more than once', () => {
      it('in one thread', async () => {
        expect(
          await resultOf(`
          delete require.cache[require.resolve(ADDON)];
          const second = require(ADDON);
          const engines = [new addon.Engine(), new second.Engine()];
          engines[0].createRelay(options('tap0'), () => {});
          engines[1].createRelay(options('tap1'), () => {});
          const both = links();
          await Promise.all(engines.map((engine) => engine.close()));
          print([second !== addon, both.length, links().length]);
        `),
        ).toEqual([true, 2, 0]);
      });

      const WORKER = `
      const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
      if (!isMainThread) {
        const engine = new addon.Engine();
        const listener = events();
        const names = [workerData + 'a', workerData + 'b'];
        const relay = engine.createRelay(options('tap' + names[0]), listener);
        relay.listen(unix(workerData));
        engine.createRelay(options('tap' + names[1]), listener).dial(unix(workerData));
        await listener.next();
        await listener.next();
        parentPort.on('message', async (message) => {
          if (message === 'close') await engine.close();
          if (message !== 'throw') process.exit(0);
          throw new Error('in a worker');
        });
        parentPort.postMessage('up');
        return;
      }
      const start = async (name) => {
        const worker = new Worker(__filename, { workerData: name });
        worker.on('error', () => {});
        await once(worker, 'message');
        return worker;
      };
    `;

      it('in worker threads, which end with links up', async () => {
        expect(
          await resultOf(`
          ${WORKER}
          const engine = new addon.Engine();
          await (await start('w')).terminate();
          const before = [threads(), descriptors()];
          for (let round = 0; round < 5; ++round) {
            const workers = await Promise.all(['x', 'y', 'z'].map(start));
            const exits = Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
            if (links().length !== 6) throw new Error('not up');
            workers[0].terminate();
            workers[1].postMessage(round % 2 === 0 ? 'exit' : 'close');
            workers[2].postMessage(round % 2 === 0 ? 'exit' : 'throw');
            await exits;
            if (links().length !== 0) throw new Error('left: ' + links());
          }
          await until('as before', () => threads() === before[0] && descriptors() === before[1]);
          await engine.close();
          print('ok');
        `),
        ).toBe('ok');
      });

      it('in a worker thread that is terminated inside its listener', async () => {
        expect(
          await resultOf(`
          const { Worker, isMainThread, parentPort } = require('node:worker_threads');
          if (!isMainThread) {
            const engine = new addon.Engine();
            const relay = engine.createRelay(options('tap0'), () => {
              parentPort.postMessage('told');
              for (;;) relay.counters();
            });
            relay.listen(unix('s'));
            parentPort.postMessage('up');
            return;
          }
          for (let i = 0; i < 20; ++i) {
            const worker = new Worker(__filename);
            await once(worker, 'message');
            const told = once(worker, 'message');
            const sockets = await Promise.all(Array.from({ length: 20 }, () => connect('s')));
            await told;
            await worker.terminate();
            for (const socket of sockets) socket.destroy();
            if (links().length !== 0) throw new Error('left: ' + links());
          }
          print('ok');
        `),
        ).toBe('ok');
      });

      it('in worker threads, when the process ends', async () => {
        const outcome = await runScript(`
        ${WORKER}
        await Promise.all(['x', 'y', 'z'].map(start));
        process.exit(0);
      `);
        expect(outcome).toEqual({ exitCode: 0, signal: null, stdout: '', stderr: '' });
      });
    });
  },
);
