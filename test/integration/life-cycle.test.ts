/**
 * Relays, peers and daemons that come, go, hang and are killed. One container, and a partner on the same network:
 *
 *   container -- arca-tap == arca-relay -- tap, tag 100 -- br-int -- tag 100 -- partner (10.9.0.100)
 *
 * Each test ends with a look at the system: useSandbox sees to it.
 */
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import type { StartStep } from '../../src/relay/notify.js';
import type { DaemonName } from '../../src/sandbox/sandbox.js';
import { type Ended, startInBackground } from '../support/background.js';
import { type Container, createContainer, INTERFACE, joinContainer } from '../support/container.js';
import { newEndpoint, type TestEndpoint } from '../support/endpoint.js';
import { BROADCAST, capture, frameHex, keepSending, newMarker } from '../support/frames.js';
import { createPartner, type Partner } from '../support/partner.js';
import { type RelayProcess, type RelayStart, spawnRelay, startRelay } from '../support/relay.js';
import { useSandbox } from '../support/sandbox.js';
import { eventually, SLOWDOWN, within } from '../support/time.js';

const NETWORK = 'net-a';
const ADDRESS = '10.9.0.2';
const CLEAN_EXIT: Ended = { exitCode: 0, signal: null };
let partner: Partner;

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch(NETWORK, 100);
  partner = await createPartner(sandbox, 100, 100);
  return () => partner.remove();
});

const start = (options: RelayStart = {}): Promise<RelayProcess> =>
  startRelay(box.current, { network: NETWORK, ...options });
const joined = (relay: RelayProcess, args: readonly string[] = []) =>
  joinContainer(box.current, relay, { address: `${ADDRESS}/24`, args });

/** Frames in both directions at once, for as long as the test lasts. */
function flood(container: Container): void {
  const source = '02:00:00:00:02:01';
  const frame = frameHex({ destination: BROADCAST, source, marker: newMarker(), sizeBytes: 1000 });
  keepSending(box.current, container.netns, INTERFACE, [frame], 500 * SLOWDOWN);
  const back = frameHex({ destination: BROADCAST, source: partner.mac, marker: newMarker(), sizeBytes: 1000 });
  keepSending(box.current, partner.netns, partner.device, [back], 500 * SLOWDOWN);
}

/** Frames arrive in either direction. Under load one may be lost; a dead port loses all of those from the container. */
async function expectFramesBothWays(container: Container): Promise<void> {
  const ends = [
    { netns: container.netns, device: INTERFACE, mac: '02:00:00:00:02:02' },
    { netns: partner.netns, device: partner.device, mac: partner.mac },
  ] as const;
  for (const [from, to] of [ends, [ends[1], ends[0]]] as const) {
    const marker = newMarker();
    const arriving = await capture(box.current, to.netns, to.device, marker);
    const frame = frameHex({ destination: BROADCAST, source: from.mac, marker });
    const sending = keepSending(box.current, from.netns, from.device, [frame], 20_000);
    await arriving.waitFor(marker);
    await sending.destroy();
    await arriving.stop();
  }
}

async function hasCarrier(tap: string): Promise<boolean> {
  const { stdout } = await box.current.exec('ip', ['-j', 'link', 'show', tap]);
  const [link] = JSON.parse(stdout) as { flags: string[] }[];
  return link?.flags.includes('LOWER_UP') ?? false;
}

/** How long `kill` takes to end it. */
async function endedAfter(relay: RelayProcess, signal: NodeJS.Signals): Promise<{ ended: Ended; tookMs: number }> {
  const sentAt = performance.now();
  relay.kill(signal);
  const ended = await relay.waitForEnd();
  return { ended, tookMs: performance.now() - sentAt };
}

describe('SIGKILL at any moment, then the same command again', () => {
  const steps: readonly StartStep[] = ['arguments', 'tag', 'bridge', 'tap', 'attach', 'listen'];

  it.each(steps)('after the step %s of the start', async (step) => {
    const endpoint = newEndpoint(box.current);
    const first = spawnRelay(box.current, { network: NETWORK, endpoint });
    await first.waitFor((event) => event.event === 'starting' && event.step === step);
    first.kill('SIGKILL');
    await first.waitForEnd();

    const second = await start({ endpoint });
    const container = await joined(second);
    await container.waitUntilPings(partner.address);
    expect(await second.stop()).toEqual(CLEAN_EXIT);
  });

  // The dead port of docs/decisions/0001-dead-ports.md: a TAP that is made again under a port that is attached.
  it('under traffic, three times: frames flow both ways, and arca-tap comes back by itself', async () => {
    const endpoint = newEndpoint(box.current);
    let relay = await start({ endpoint });
    const container = await joined(relay);
    flood(container);
    for (let round = 0; round < 3; round++) {
      relay.kill('SIGKILL');
      expect(await relay.waitForEnd()).toEqual({ exitCode: null, signal: 'SIGKILL' });
      relay = await start({ endpoint });
      await relay.waitFor('peer-connected');
      await expectFramesBothWays(container);
    }
    await container.waitUntilPings(partner.address);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('while ovs-vswitchd is stopped, so that it sees both ends of the gap at once', async () => {
    const sandbox = box.current;
    const endpoint = newEndpoint(sandbox);
    const first = await start({ endpoint });
    await sandbox.pause('ovs-vswitchd');
    sandbox.defer(() => sandbox.resume('ovs-vswitchd'));
    first.kill('SIGKILL');
    await first.waitForEnd();
    const second = spawnRelay(sandbox, { network: NETWORK, endpoint });
    // It can get no further than to the bridge's flows, which vswitchd tells.
    await second.waitFor((event) => event.event === 'starting' && event.step === 'tag');
    await sandbox.resume('ovs-vswitchd');
    await second.waitFor('ready');
    const container = await joined(second);
    await expectFramesBothWays(container);
    expect(await second.stop()).toEqual(CLEAN_EXIT);
  });
});

describe('SIGTERM and SIGINT', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('%s: exit 0 within a second, under traffic', async (signal) => {
    const relay = await start();
    flood(await joined(relay));
    const { ended, tookMs } = await endedAfter(relay, signal);
    expect(ended).toEqual(CLEAN_EXIT);
    expect(tookMs).toBeLessThan(1000 * SLOWDOWN);
    expect(relay.events.slice(-2).map(({ event }) => event)).toEqual(['stopping', 'stopped']);
  });

  it('with a peer that does not read: exit 0 within a second', async () => {
    const relay = await start({ withStatus: true });
    const { tap } = await joined(relay);
    tap.kill('SIGSTOP');
    box.current.defer(async () => void tap.kill('SIGCONT'));
    const frame = frameHex({ destination: BROADCAST, source: partner.mac, marker: newMarker(), sizeBytes: 1400 });
    keepSending(box.current, partner.netns, partner.device, [frame], 0);
    await eventually(
      'the stream to be full',
      async () => ((await relay.status()).counters.tapToStream.stalls > 0 ? true : undefined),
      20_000,
    );
    const { ended, tookMs } = await endedAfter(relay, 'SIGTERM');
    expect(ended).toEqual(CLEAN_EXIT);
    expect(tookMs).toBeLessThan(1000 * SLOWDOWN);
  });

  it('during the start: exit 0, and nothing is left', async () => {
    const relay = spawnRelay(box.current, { network: NETWORK });
    await relay.waitFor((event) => event.event === 'starting' && event.step === 'tap');
    expect((await endedAfter(relay, 'SIGTERM')).ended).toEqual(CLEAN_EXIT);
  });

  it('with ovsdb-server stopped: exits in about a second, says that the port may be left, and it is removed later', async () => {
    const sandbox = box.current;
    const relay = await start();
    await sandbox.pause('ovsdb-server');
    sandbox.defer(() => sandbox.resume('ovsdb-server'));
    const { ended, tookMs } = await endedAfter(relay, 'SIGTERM');
    expect(ended).toEqual({ exitCode: ERROR_KINDS['cleanup-incomplete'].exitCode, signal: null });
    expect(tookMs).toBeLessThan(1500 * SLOWDOWN);
    expect(relay.events.at(-1)).toMatchObject({ event: 'failed', code: 'cleanup-incomplete' });
    await sandbox.resume('ovsdb-server');
    // The removal was sent, and is read by the daemon when it goes on.
    await eventually('the port to be removed', async () =>
      (await sandbox.vsctl('--bare', '--columns=name', 'find', 'Port', `name=${relay.tap}`)) === '' ? true : undefined,
    );
  });

  it('a second signal forces the exit', async () => {
    const sandbox = box.current;
    const endpoint = newEndpoint(sandbox);
    const relay = await start({ endpoint });
    await sandbox.pause('ovsdb-server');
    sandbox.defer(() => sandbox.resume('ovsdb-server'));
    relay.kill('SIGTERM');
    await relay.waitFor('stopping');
    relay.kill('SIGINT');
    expect(await relay.waitForEnd()).toEqual({ exitCode: ERROR_KINDS['forced-exit'].exitCode, signal: null });
    await sandbox.resume('ovsdb-server');
    const again = await start({ endpoint });
    expect(await again.stop()).toEqual(CLEAN_EXIT);
  });
});

describe('peers', () => {
  it('a peer that goes: the TAP and the port stay, the carrier follows', async () => {
    const sandbox = box.current;
    const relay = await start();
    const portOf = (): Promise<string> => sandbox.vsctl('get', 'Port', relay.tap, '_uuid');
    const port = await portOf();
    expect(await hasCarrier(relay.tap)).toBe(false);
    const container = await joined(relay);
    expect(await hasCarrier(relay.tap)).toBe(true);

    const since = relay.events.length;
    container.tap.kill('SIGKILL');
    const gone = await relay.waitFor('peer-gone', { since });
    expect(gone.reason).toMatch(/^(end-of-stream|reset)$/);
    expect(await hasCarrier(relay.tap)).toBe(false);
    expect(await portOf()).toBe(port);

    container.startTap(relay.endpoint.connectAddress, ['--address', `${ADDRESS}/24`]);
    await relay.waitFor('peer-connected', { since });
    expect(await hasCarrier(relay.tap)).toBe(true);
    await container.waitUntilUp();
    await container.waitUntilPings(partner.address);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('200 peers come and go', async () => {
    const relay = await start({ withStatus: true });
    const descriptors = (): number => readdirSync(`/proc/${relay.pid}/fd`).length;
    await relay.status();
    const before = descriptors();
    for (let flap = 0; flap < 200; flap++) {
      const since = relay.events.length;
      await comeAndGo(relay.endpoint);
      await relay.waitFor('peer-gone', { since });
    }
    const { counters } = await relay.status();
    expect(counters.peersConnected).toBe(200);
    expect(counters.peerUp).toBe(0);
    expect(relay.events.filter(({ event }) => event === 'peer-gone')).toHaveLength(200);
    await eventually(
      () => `as many descriptors as before (${before}): ${descriptors()}`,
      () => (descriptors() <= before ? true : undefined),
    );
    const container = await joined(relay);
    await container.waitUntilPings(partner.address);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('a second peer is refused, and the first goes on', async () => {
    const relay = await start({ withStatus: true });
    const first = await joined(relay);
    const second = await createContainer(box.current);
    const since = relay.events.length;
    const tap = second.startTap(relay.endpoint.connectAddress, ['--once', '--address', '10.9.0.3/24']);
    expect(await relay.waitFor('peer-refused', { since })).toMatchObject({ reason: 'busy' });
    await within(tap.ended, 'the end of the refused arca-tap');
    await first.waitUntilPings(partner.address);
    expect(relay.events.slice(since).filter(({ event }) => event === 'peer-gone')).toHaveLength(0);
    expect((await relay.status()).counters.peersRefused.busy).toBe(1);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('--on-second-peer replace: the second takes the place of the first', async () => {
    const relay = await start({ args: ['--on-second-peer', 'replace'] });
    const first = await joined(relay, ['--once']);
    const since = relay.events.length;
    const second = await createContainer(box.current);
    second.startTap(relay.endpoint.connectAddress, ['--address', '10.9.0.3/24']);
    expect(await relay.waitFor('peer-gone', { since })).toMatchObject({ reason: 'replaced' });
    await relay.waitFor('peer-connected', { since });
    await within(first.tap.ended, 'the end of the arca-tap that was replaced');
    await second.waitUntilUp();
    await second.waitUntilPings(partner.address);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });
});

/** A peer that connects, says one frame and is gone. */
async function comeAndGo({ socketPath, connectAddress }: TestEndpoint): Promise<void> {
  const frame = Buffer.from(frameHex({ destination: BROADCAST, source: '02:00:00:00:02:03', marker: '00' }), 'hex');
  const header = Buffer.alloc(4);
  header.writeUInt32BE(frame.length);
  const record = Buffer.concat([header, frame]);
  if (socketPath === undefined) {
    const address = connectAddress.replace(/^vsock:/, 'VSOCK-CONNECT:');
    const peer = startInBackground('socat', ['-u', '-', address], { input: record });
    expect(await within(peer.ended, 'the end of a peer')).toEqual(CLEAN_EXIT);
    return;
  }
  const socket = connect(socketPath);
  const closed = new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => resolve());
    socket.end(record, () => socket.destroy());
  });
  await within(closed, 'the end of a peer');
}

describe('daemons that end', () => {
  type Restart = readonly [what: string, restart: () => Promise<void>];
  const killAll = async (...names: DaemonName[]): Promise<void> => {
    for (const name of names) await box.current.kill(name);
  };
  const startAll = async (...names: DaemonName[]): Promise<void> => {
    // Together: ovs-vswitchd is not started before it has seen its database.
    await Promise.all(names.map((name) => box.current.start(name)));
  };
  const restarts: readonly Restart[] = [
    [
      'ovsdb-server',
      async () => {
        await killAll('ovsdb-server');
        await startAll('ovsdb-server');
      },
    ],
    [
      'ovs-vswitchd',
      async () => {
        await killAll('ovs-vswitchd');
        await startAll('ovs-vswitchd');
      },
    ],
    [
      'ovsdb-server, then ovs-vswitchd',
      async () => {
        await killAll('ovsdb-server', 'ovs-vswitchd');
        await startAll('ovsdb-server', 'ovs-vswitchd');
      },
    ],
    [
      'ovs-vswitchd, then ovsdb-server',
      async () => {
        await killAll('ovs-vswitchd', 'ovsdb-server');
        await startAll('ovs-vswitchd', 'ovsdb-server');
      },
    ],
  ];

  it.each(restarts)('kill -9 of %s under traffic: degraded, ready, and frames flow again', async (_what, restart) => {
    const relay = await start();
    const container = await joined(relay);
    flood(container);
    await container.waitUntilPings(partner.address);
    const since = relay.events.length;
    await restart();
    await relay.waitFor('degraded', { since });
    const degradedAt = relay.events.findIndex(({ event }, at) => at >= since && event === 'degraded');
    await relay.waitFor('ready', { since: degradedAt });
    await container.waitUntilPings(partner.address);
    await expectFramesBothWays(container);
    // The peer has noticed nothing.
    expect(relay.events.slice(since).filter(({ event }) => event === 'peer-gone')).toHaveLength(0);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });
});

describe('what somebody else does', () => {
  it.each([
    ['deletes the port', 'port-missing', (tap: string) => ['del-port', 'br-int', tap]],
    ['changes the tag', 'port-changed', (tap: string) => ['set', 'Port', tap, 'tag=200']],
  ] as const)('%s: it is attached again', async (_what, reason, command) => {
    const sandbox = box.current;
    const relay = await start();
    const container = await joined(relay);
    await container.waitUntilPings(partner.address);
    const since = relay.events.length;
    await sandbox.vsctl(...command(relay.tap));
    const degraded = await relay.waitFor('degraded', { since });
    expect(degraded.reason).toBe(reason);
    await relay.waitFor('ready', { since });
    expect(await sandbox.vsctl('get', 'Port', relay.tap, 'tag')).toBe('100');
    await container.waitUntilPings(partner.address);
    await expectFramesBothWays(container);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it.each([
    [
      'takes the bridge over (fail_mode=secure) and gives it back',
      'bridge-black-hole',
      () => box.current.vsctl('set-fail-mode', 'br-int', 'secure'),
      () => box.current.vsctl('set-fail-mode', 'br-int', 'standalone'),
    ],
    [
      'sets the TAP down and up',
      'tap-down',
      (tap: string) => box.current.exec('ip', ['link', 'set', tap, 'down']),
      (tap: string) => box.current.exec('ip', ['link', 'set', tap, 'up']),
    ],
  ] as const)('%s: degraded until then', async (_what, reason, harm, mend) => {
    const relay = await start();
    const container = await joined(relay);
    await container.waitUntilPings(partner.address);
    box.current.defer(async () => void (await box.current.vsctl('set-fail-mode', 'br-int', 'standalone')));
    const since = relay.events.length;
    await harm(relay.tap);
    const degraded = await relay.waitFor('degraded', { since });
    expect(degraded.reason).toBe(reason);
    expect(relay.events.slice(since).map(({ event }) => event)).not.toContain('ready');
    await mend(relay.tap);
    await relay.waitFor('ready', { since });
    await container.waitUntilPings(partner.address);
    expect(await relay.stop()).toEqual(CLEAN_EXIT);
  });

  it('deletes the TAP: the relay ends with its own code, and cleans up', async () => {
    const relay = await start();
    await joined(relay);
    await box.current.exec('ip', ['link', 'delete', relay.tap]);
    const ended = await relay.waitForEnd();
    expect(ended).toEqual({ exitCode: ERROR_KINDS['tap-lost'].exitCode, signal: null });
    expect(relay.events.at(-1)).toMatchObject({ event: 'failed', code: 'tap-lost' });
  });
});
