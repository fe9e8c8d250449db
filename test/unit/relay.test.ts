import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ArcaError } from '../../src/errors.js';
import { createLogger, type Logger } from '../../src/log.js';
import type { NativeEvent } from '../../src/native.js';
import { attachPort, clearPortName } from '../../src/ovs/attach.js';
import { keepAttached } from '../../src/ovs/keeper.js';
import type { FoundBridge, LookUps } from '../../src/relay/look-ups.js';
import type { RelayEvent } from '../../src/relay/notify.js';
import type { RelayOptions } from '../../src/relay/options.js';
import { type Relay, startRelay } from '../../src/relay/relay.js';

// The parts that talk to daemons; what they do with real ones is in the integration tests. Here: the order.
vi.mock('../../src/ovs/attach.js', async (original) => ({
  ...(await original<object>()),
  attachPort: vi.fn(),
  clearPortName: vi.fn(),
}));
vi.mock('../../src/ovs/keeper.js', async (original) => ({ ...(await original<object>()), keepAttached: vi.fn() }));

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
  offload: 'auto',
  busyPollUs: 0,
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
let onDatapath: Parameters<typeof keepAttached>[0]['onDatapath'];
let onTrouble: Parameters<typeof keepAttached>[0]['onTrouble'];
let detach: () => Promise<'removed' | 'absent' | 'foreign'>;
let folder: string;
let log: Logger;
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
  setOffloads: (offloads: readonly string[]) => void done.push(`offloads ${offloads.join()}`),
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

beforeEach(async () => {
  log = await createLogger({ level: 'silent' });
  done = [];
  events = [];
  failing = undefined;
  detach = async () => 'removed';
  folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  vi.mocked(clearPortName).mockResolvedValue('was-clear');
  vi.mocked(attachPort).mockImplementation(async () => {
    step('attach');
    return { ofport: 40000 };
  });
  vi.mocked(keepAttached).mockImplementation((options) => {
    ({ onTrouble, onDatapath } = options);
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

const FOUND: FoundBridge = {
  bridge: { name: 'br-int', failMode: '', datapathType: 'netdev', ovnBridge: '', systemId: '', userspaceTso: false },
  session: {} as never,
  vswitchd: undefined,
  warnings: [],
};

/** What `beginLookUps` gives; `failing` makes its parts fail, the bridge first. */
function lookUpsOf(): LookUps {
  const found = failing === 'bridge' || failing === 'both' ? 'bridge failed' : undefined;
  const lookUps: LookUps = {
    tag: new Promise((resolve, reject) => {
      setImmediate(() => {
        if (failing === 'tag' || failing === 'both') reject(new ArcaError('tag-missing', 'tag failed'));
        else resolve(100);
      });
    }),
    bridge: found ? Promise.reject(new ArcaError('bridge-missing', found)) : Promise.resolve(FOUND),
    deadline: performance.now() + 5000,
    onChange() {},
    cancel: async () => void done.push('cancel look-ups'),
  };
  lookUps.bridge.catch(() => {});
  return lookUps;
}

const start = (options: Partial<RelayOptions> = {}, signal = new AbortController().signal): Promise<Relay> =>
  startRelay(
    { ...OPTIONS, ...options },
    lookUpsOf(),
    {
      engine: engine as never,
      notifier: { emit: (event) => events.push(event), close() {} },
      log,
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
    expect(done).toEqual(['tap', 'attach', 'listen']);
    expect(words()).toEqual(['arguments', 'tag', 'bridge', 'tap', 'attach', 'listen', 'ready']);
    expect(events.at(-1)).toMatchObject({
      ...{ tap: 'tap0', ifindex: 7, tag: 100, bridge: 'br-int', ofport: 40000, mtu: 1500, datapathType: 'netdev' },
      ...{ role: 'listen', endpoint: 'unix:/run/x.sock', network: 'net-a' },
    });
    done = [];
    await relay.stop('SIGTERM');
    expect(done).toEqual(['remove port', 'close TAP', 'cancel look-ups']);
    expect(events.at(-1)).toEqual({ event: 'stopping', reason: 'SIGTERM' });
    await relay.stop('again');
    expect(done).toHaveLength(3);
  });

  it.each<[string, string[], string[]]>([
    ['tag', ['arguments'], ['cancel look-ups']],
    ['bridge', ['arguments', 'tag'], ['cancel look-ups']],
    ['tap', ['arguments', 'tag', 'bridge'], ['cancel look-ups']],
    ['attach', ['arguments', 'tag', 'bridge', 'tap'], ['close TAP', 'cancel look-ups']],
    ['listen', ['arguments', 'tag', 'bridge', 'tap', 'attach'], ['remove port', 'close TAP', 'cancel look-ups']],
  ])('undoes what was done when %s fails', async (name, told, undone) => {
    failing = name;
    expect(await failureOf(start())).toMatchObject({ message: expect.stringContaining(`${name} failed`) });
    expect(words()).toEqual(told);
    expect(done.filter((word) => !['tap', 'attach', 'listen'].includes(word))).toEqual(undone);
  });

  it('undoes all when the metrics endpoint is taken', async () => {
    const path = join(folder, 'm.sock');
    blocker = createServer();
    await new Promise<void>((resolve) => blocker?.listen(path, resolve));
    expect(await failureOf(start({ metrics: { transport: 'unix', path } }))).toMatchObject({ code: 'endpoint-in-use' });
    expect(done.slice(-3)).toEqual(['remove port', 'close TAP', 'cancel look-ups']);
  });

  it('tells the error of the tag when the bridge fails too, and earlier', async () => {
    failing = 'both';
    expect(await failureOf(start())).toMatchObject({ code: 'tag-missing' });
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
    expect(done).toEqual(['remove port', 'close TAP', 'cancel look-ups']);
  });

  it('makes the TAP anew when vswitchd may have meddled with it', async () => {
    vi.mocked(clearPortName).mockResolvedValue('cleared');
    const relay = await start();
    expect(done).toEqual(['tap', 'close TAP', 'tap', 'attach', 'listen']);
    done = [];
    await relay.stop('x');
    expect(done).toEqual(['remove port', 'close TAP', 'cancel look-ups']);
  });

  it('undoes all when the name can not be cleared', async () => {
    vi.mocked(clearPortName).mockRejectedValue(new ArcaError('ovs-timeout', 'x'));
    expect(await failureOf(start())).toMatchObject({ code: 'ovs-timeout' });
    expect(done).toEqual(['tap', 'close TAP', 'cancel look-ups']);
  });

  it('dials where it is asked to', async () => {
    await start({ role: 'dial' });
    expect(done.at(-1)).toBe('dial');
  });

  it('follows what the switch takes', async () => {
    await start();
    onDatapath({ datapathType: 'netdev', userspaceTso: true });
    onDatapath({ datapathType: 'netdev', userspaceTso: false });
    expect(done.filter((step) => step.startsWith('offloads'))).toEqual(['offloads checksum,tso4,tso6', 'offloads ']);
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
