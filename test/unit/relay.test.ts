import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ArcaError } from '../../src/errors.js';
import { silentLogger } from '../../src/log.js';
import type { NativeEvent } from '../../src/native.js';
import { lookUpTag } from '../../src/ovn/network-tag.js';
import { attachPort } from '../../src/ovs/attach.js';
import { keepAttached } from '../../src/ovs/keeper.js';
import { lookAtBridge } from '../../src/relay/look-ups.js';
import type { RelayEvent } from '../../src/relay/notify.js';
import type { RelayOptions } from '../../src/relay/options.js';
import { type Relay, startRelay } from '../../src/relay/relay.js';

// The parts that talk to daemons; what they do with real ones is in the integration tests. Here: the order.
vi.mock('../../src/ovn/network-tag.js', async (original) => ({ ...(await original<object>()), lookUpTag: vi.fn() }));
vi.mock('../../src/ovs/attach.js', async (original) => ({ ...(await original<object>()), attachPort: vi.fn() }));
vi.mock('../../src/ovs/keeper.js', async (original) => ({ ...(await original<object>()), keepAttached: vi.fn() }));
vi.mock('../../src/relay/look-ups.js', () => ({ lookAtBridge: vi.fn() }));

const OPTIONS: RelayOptions = {
  role: 'listen',
  endpoint: { transport: 'unix', path: '/run/x.sock' },
  network: 'net-a',
  vlan: undefined,
  bridge: 'br-int',
  attach: 'vlan',
  tap: 'tap0',
  mtu: 1500,
  allowedCids: [],
  onSecondPeer: 'refuse',
  burstBytes: 0,
  ovsSocketPath: '/run/db.sock',
  nb: undefined,
  timeoutMs: 5000,
  metrics: undefined,
  interfaceConfig: {},
};

/** What was done and undone, in its order. */
let done: string[];
let events: RelayEvent[];
let failing: string | undefined;
let onNativeEvent: (event: NativeEvent) => void;
let onTrouble: Parameters<typeof keepAttached>[0]['onTrouble'];
let detach: () => Promise<'removed' | 'absent' | 'foreign'>;
let folder: string;
let blocker: Server | undefined;

function step(name: string): void {
  if (failing === name) throw new ArcaError('unexpected', `${name} failed`);
  done.push(name);
}

const native = {
  tap: 'tap0',
  ifindex: 7,
  listen: () => step('listen'),
  dial: () => step('dial'),
  counters: () => ({ peerUp: 0 }) as never,
  close: async () => void done.push('close TAP'),
};
const engine = {
  createRelay(_options: unknown, onEvent: (event: NativeEvent) => void) {
    step('tap');
    onNativeEvent = onEvent;
    return native;
  },
  close: async () => {},
};

beforeEach(() => {
  done = [];
  events = [];
  failing = undefined;
  detach = async () => 'removed';
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  vi.mocked(lookUpTag).mockImplementation(async () => {
    step('tag');
    return 100;
  });
  vi.mocked(lookAtBridge).mockImplementation(async () => {
    step('bridge');
    return {
      bridge: { name: 'br-int', failMode: '', datapathType: 'netdev', ovnBridge: '', systemId: '' },
      session: { close: () => done.push('close session') } as never,
      vswitchd: { close: () => done.push('close vswitchd') } as never,
    };
  });
  vi.mocked(attachPort).mockImplementation(async () => {
    step('attach');
    return { ofport: 40000 };
  });
  vi.mocked(keepAttached).mockImplementation((options) => {
    ({ onTrouble } = options);
    return {
      notice() {},
      stop: async () => {
        done.push('remove port');
        return detach();
      },
    };
  });
});

afterEach(() => {
  blocker?.close();
  blocker = undefined;
  rmSync(folder, { recursive: true });
});

const start = (options: Partial<RelayOptions> = {}, signal = new AbortController().signal): Promise<Relay> =>
  startRelay(
    { ...OPTIONS, ...options },
    {
      engine: engine as never,
      notifier: { emit: (event) => events.push(event), close() {} },
      log: silentLogger(),
      env: {},
      version: '1',
    },
    signal,
  );

const words = (): string[] => events.map((event) => (event.event === 'starting' ? event.step : event.event));

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('startRelay', () => {
  it('does the steps in their order and tells each, then undoes them backwards', async () => {
    const relay = await start();
    expect(done).toEqual(['tag', 'bridge', 'tap', 'attach', 'listen']);
    expect(words()).toEqual(['arguments', 'tag', 'bridge', 'tap', 'attach', 'listen', 'ready']);
    expect(events.at(-1)).toMatchObject({
      ...{ tap: 'tap0', ifindex: 7, tag: 100, bridge: 'br-int', ofport: 40000, mtu: 1500, datapathType: 'netdev' },
      ...{ role: 'listen', endpoint: 'unix:/run/x.sock', network: 'net-a' },
    });
    done = [];
    await relay.stop('SIGTERM');
    expect(done).toEqual(['remove port', 'close TAP', 'close session', 'close vswitchd']);
    expect(events.at(-1)).toEqual({ event: 'stopping', reason: 'SIGTERM' });
    await relay.stop('again');
    expect(done).toHaveLength(4);
  });

  it.each<[string, string[], string[]]>([
    ['tag', ['arguments'], ['close session', 'close vswitchd']],
    ['bridge', ['arguments', 'tag'], []],
    ['tap', ['arguments', 'tag', 'bridge'], ['close session', 'close vswitchd']],
    ['attach', ['arguments', 'tag', 'bridge', 'tap'], ['close TAP', 'close session', 'close vswitchd']],
    [
      'listen',
      ['arguments', 'tag', 'bridge', 'tap', 'attach'],
      ['remove port', 'close TAP', 'close session', 'close vswitchd'],
    ],
  ])('undoes what was done when %s fails', async (name, told, undone) => {
    failing = name;
    expect(await failureOf(start())).toBeInstanceOf(ArcaError);
    expect(words()).toEqual(told);
    const steps = ['tag', 'bridge', 'tap', 'attach', 'listen'];
    expect(done.filter((word) => !steps.includes(word))).toEqual(undone);
  });

  it('undoes all when the metrics endpoint is taken', async () => {
    const path = join(folder, 'm.sock');
    blocker = createServer();
    await new Promise<void>((resolve) => blocker?.listen(path, resolve));
    expect(await failureOf(start({ metrics: { transport: 'unix', path } }))).toMatchObject({ code: 'endpoint-in-use' });
    expect(done.slice(-4)).toEqual(['remove port', 'close TAP', 'close session', 'close vswitchd']);
  });

  it('tells the error of the tag when the bridge fails too', async () => {
    vi.mocked(lookAtBridge).mockRejectedValue(new ArcaError('bridge-missing', 'b'));
    vi.mocked(lookUpTag).mockImplementation(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      throw new ArcaError('tag-missing', 't');
    });
    expect(await failureOf(start())).toMatchObject({ code: 'tag-missing' });
  });

  it('stops looking at the bridge when there is no tag', async () => {
    failing = 'tag';
    let aborted: boolean | undefined;
    vi.mocked(lookAtBridge).mockImplementation(
      ({ signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted = true;
            reject(new ArcaError('timed-out', 'stopped'));
          });
        }),
    );
    expect(await failureOf(start())).toMatchObject({ message: 'tag failed' });
    expect(aborted).toBe(true);
  });

  it('takes the tag that was given', async () => {
    failing = 'tag';
    const relay = await start({ vlan: 7 });
    expect(vi.mocked(attachPort).mock.lastCall?.[0].port).toMatchObject({ tag: 7 });
    await relay.stop('x');
  });

  it.each(['tap', 'attach', 'listen'])('undoes all when it is aborted while in step %s', async (name) => {
    const controller = new AbortController();
    const original = { tap: engine.createRelay, listen: native.listen };
    if (name === 'tap') {
      engine.createRelay = (...args) => {
        controller.abort('SIGTERM');
        return original.tap(...args);
      };
    }
    if (name === 'attach') {
      vi.mocked(attachPort).mockImplementation(async () => {
        controller.abort('SIGTERM');
        return { ofport: 1 };
      });
    }
    if (name === 'listen') native.listen = () => controller.abort('SIGTERM');
    expect(await failureOf(start({}, controller.signal))).toBeInstanceOf(ArcaError);
    Object.assign(engine, { createRelay: original.tap });
    Object.assign(native, { listen: original.listen });
    expect(words()).not.toContain('ready');
    expect(done).toContain('close TAP');
    expect(done.includes('remove port')).toBe(name !== 'tap');
  });

  it('goes on undoing when one part can not be undone, and tells that part', async () => {
    const relay = await start();
    detach = () => Promise.reject(new ArcaError('ovs-unreachable', 'gone'));
    done = [];
    expect(await failureOf(relay.stop('SIGTERM'))).toMatchObject({
      code: 'cleanup-incomplete',
      message: expect.stringContaining('gone'),
    });
    expect(done).toEqual(['remove port', 'close TAP', 'close session', 'close vswitchd']);
  });

  it('dials where it is asked to', async () => {
    await start({ role: 'dial' });
    expect(done.at(-1)).toBe('dial');
  });

  it('tells trouble and its end, and shows them in the status', async () => {
    const relay = await start();
    events = [];
    const trouble = { reason: 'ovs-vswitchd-gone', detail: 'd' } as const;
    onTrouble(trouble, 40000);
    expect(events).toEqual([{ event: 'degraded', ...trouble }]);
    expect(relay.status()).toMatchObject({ state: 'degraded', trouble });
    onTrouble(undefined, 40001);
    expect(events.at(-1)).toMatchObject({ event: 'ready', ofport: 40001 });
    expect(relay.status()).toMatchObject({ state: 'ready', ofport: 40001 });
    expect(relay.status().trouble).toBeUndefined();
  });

  it('tells trouble that came during the start once it is started', async () => {
    native.listen = () => onTrouble({ reason: 'port-missing', detail: 'd' }, 1);
    await start();
    native.listen = () => step('listen');
    expect(words().slice(-2)).toEqual(['listen', 'degraded']);
  });

  it('tells peers, and ends when the TAP is lost', async () => {
    const relay = await start();
    events = [];
    const peer = { transport: 'vsock', cid: 3, port: 9 } as const;
    const agreed = { protocol: 'plain', offloads: [], largestRecordBytes: 65535, largestBurstBytes: 1 } as const;
    onNativeEvent({ type: 'peer-connected', peer, agreed });
    expect(relay.status()).toMatchObject({ peer, agreed });
    onNativeEvent({ type: 'peer-refused', peer, reason: 'busy' });
    onNativeEvent({ type: 'peer-gone', peer, reason: 'breach', detail: 'too-long' });
    expect(relay.status().peer).toBeUndefined();
    onNativeEvent({ type: 'dial-failed', code: 'ECONNREFUSED', detail: 'd' });
    expect(events).toEqual([
      { event: 'peer-connected', peer, agreed },
      { event: 'peer-refused', peer, reason: 'busy' },
      { event: 'peer-gone', peer, reason: 'breach', detail: 'too-long' },
      { event: 'dial-failed', code: 'ECONNREFUSED', detail: 'd' },
    ]);
    onNativeEvent({ type: 'tap-lost', code: 'EBADFD', detail: 'd' });
    expect(await relay.failed).toMatchObject({ code: 'tap-lost' });
  });
});
