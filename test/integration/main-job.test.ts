/**
 * The main job on real OVS and OVN:
 *
 *   web (10.9.0.2) -- arca-tap == arca-relay -- tap, tag 100 --.
 *   api (10.9.0.3) -- arca-tap == arca-relay -- tap, tag 100 --+-- br-int
 *   db  (10.9.0.4) -- arca-tap == arca-relay -- tap, tag 101 --'
 *
 * All three are in one subnet, so that nothing but the VLAN tag parts them.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { type Container, createContainer, INTERFACE, measureTcp, transferTcp } from '../support/container.js';
import { BROADCAST, type Capture, capture, frameHex, newMarker, sendFrames } from '../support/frames.js';
import { type RelayProcess, startRelay } from '../support/relay.js';
import { createSandbox, type TestSandbox } from '../support/sandbox.js';
import { expectNothingMore, type SystemSnapshot, snapshot } from '../support/system.js';

interface Member {
  readonly name: string;
  readonly network: string;
  readonly tag: number;
  readonly address: string;
  readonly mac: string;
  readonly relay: RelayProcess;
  readonly container: Container;
}

const GATEWAY = '10.9.0.1';
const MTU = 1400;
let sandbox: TestSandbox;
let before: SystemSnapshot;
let web: Member;
let api: Member;
let db: Member;

async function join(name: string, network: string, tag: number, host: number): Promise<Member> {
  const mac = `02:00:00:00:00:0${host}`;
  const address = `10.9.0.${host}`;
  const relay = await startRelay(sandbox, {
    network,
    withStatus: true,
    args: ['--peer-mac', mac, '--peer-address', `${address}/24`, '--peer-gateway', GATEWAY, '--mtu', String(MTU)],
  });
  const container = await createContainer(sandbox, name);
  // Nothing but where the relay is: all else has to come by HELLO.
  container.startTap(relay.endpoint.connectAddress);
  await relay.waitFor('peer-connected');
  await container.waitUntilUp();
  return { name, network, tag, address, mac, relay, container };
}

async function setUp(): Promise<void> {
  await sandbox.addSwitch('net-a', 100);
  await sandbox.addSwitch('net-b', 101);
  before = await snapshot(sandbox);
  [web, api, db] = await Promise.all([
    join('web', 'net-a', 100, 2),
    join('api', 'net-a', 100, 3),
    join('db', 'net-b', 101, 4),
  ]);
}

describe('three containers on two networks', () => {
  // One set-up for all of these tests, taken down by the last one; by the hook if that was never reached.
  beforeAll(async () => {
    sandbox = await createSandbox();
    try {
      await setUp();
    } catch (error) {
      await sandbox.stop();
      throw error;
    }
    return () => sandbox.stop();
  });

  it('gives each container its MAC, MTU, address and gateway by HELLO', async () => {
    for (const { container, mac, address } of [web, api, db]) {
      expect(await container.interface()).toEqual({ mac, mtu: MTU, hasCarrier: true, addresses: [`${address}/24`] });
      const { stdout } = await container.exec('ip', ['route', 'show', 'default']);
      expect(stdout).toContain(`default via ${GATEWAY} dev ${INTERFACE}`);
    }
  });

  it('gives each OVS port its tag, our marks and no error', async () => {
    for (const { relay, network, tag } of [web, api, db]) {
      const read = (table: string, column: string): Promise<string> => sandbox.vsctl('get', table, relay.tap, column);
      expect(await read('Port', 'tag')).toBe(String(tag));
      const ids = await read('Port', 'external_ids');
      expect(ids).toContain('arca-owner=arca-relay');
      expect(ids).toContain(`arca-network=${network}`);
      expect(ids).toContain(`arca-endpoint="${relay.endpoint.listenAddress}"`);
      expect(await read('Interface', 'error')).toBe('[]');
      const ready = await relay.waitFor('ready');
      expect(ready).toMatchObject({ tap: relay.tap, tag, network, bridge: 'br-int', mtu: MTU, role: 'listen' });
      expect(await read('Interface', 'ofport')).toBe(String(ready.ofport));
      expect(await sandbox.vsctl('port-to-br', relay.tap)).toBe('br-int');
    }
  });

  it('Test 1: VLAN Isolation: containers of one network reach each other', async () => {
    await web.container.waitUntilPings(api.address);
    await api.container.waitUntilPings(web.address);
  });

  it('Test 1: VLAN Isolation: containers of two networks do not', async () => {
    expect(await web.container.canPing(db.address)).toBe(false);
    expect(await db.container.canPing(web.address)).toBe(false);
    expect(await db.container.canPing(api.address)).toBe(false);
  });

  it.each([
    ['broadcast', () => ({ fromWeb: BROADCAST, fromDb: BROADCAST })],
    ['unicast', () => ({ fromWeb: db.mac, fromDb: web.mac })],
  ])('Test 1: VLAN Isolation: no %s frame crosses, in either direction', async (_kind, destinations) => {
    // Every frame of this test holds `marker`; what follows it tells who sent it.
    const marker = newMarker();
    const fence = `${marker}00`;
    const foreign = { web: `${marker}01`, db: `${marker}02` };
    const { fromWeb, fromDb } = destinations();
    const captures = await Promise.all(
      [web, api, db].map(({ container }) => capture(sandbox, container.netns, INTERFACE, marker)),
    );
    const [atWeb, atApi, atDb] = captures as [Capture, Capture, Capture];
    const send = (member: Member, destination: string, text: string): Promise<void> =>
      sendFrames(member.container.netns, INTERFACE, [frameHex({ destination, source: member.mac, marker: text })]);

    await send(web, fromWeb, foreign.web);
    await send(db, fromDb, foreign.db);
    // The same path, after them, to a place where they may arrive: what was to cross has crossed by then.
    await send(web, BROADCAST, fence);
    await send(api, BROADCAST, fence);
    await Promise.all([atApi.waitFor(fence), atWeb.waitFor(fence)]);
    // And the wire into db works: its own network's frames arrive, here from a port that is put there for it.
    await sendFromNetworkOfDb(fence);
    await atDb.waitFor(fence);

    const seen = async (at: Capture, who: string): Promise<number> =>
      (await at.stop()).filter((frame) => frame.includes(who)).length;
    expect(await seen(atDb, foreign.web)).toBe(0);
    expect(await seen(atWeb, foreign.db)).toBe(0);
    expect(await seen(atApi, foreign.db)).toBe(0);
    // A frame for a MAC that nobody on net-a has is flooded there: so it was sent, and did reach the switch.
    expect(atApi.frames.filter((frame) => frame.includes(foreign.web))).toHaveLength(1);
  });

  /** A frame from an access port with the tag of db's network, made for the moment. */
  async function sendFromNetworkOfDb(marker: string): Promise<void> {
    const [inside, outside] = [sandbox.uniqueName('in'), sandbox.uniqueName('out')];
    await sandbox.exec('ip', ['link', 'add', inside, 'type', 'veth', 'peer', 'name', outside]);
    try {
      for (const link of [inside, outside]) await sandbox.exec('ip', ['link', 'set', link, 'up']);
      await sandbox.vsctl('add-port', 'br-int', inside, `tag=${db.tag}`);
      const source = '02:00:00:00:00:99';
      await sendFrames(sandbox.netns, outside, [frameHex({ destination: BROADCAST, source, marker })]);
    } finally {
      await sandbox.vsctl('--if-exists', 'del-port', 'br-int', inside);
      await sandbox.exec('ip', ['link', 'delete', inside]);
    }
  }

  it('carries TCP both ways, and counts it', async () => {
    const first = await web.relay.status();
    const forth = await measureTcp(web.container, api.container, api.address);
    const back = await measureTcp(web.container, api.container, api.address, { reverse: true });
    expect(forth.receivedBytes).toBeGreaterThan(0);
    expect(back.receivedBytes).toBeGreaterThan(0);

    const { counters } = await web.relay.status();
    for (const [direction, atLeast] of [
      ['streamToTap', forth.receivedBytes],
      ['tapToStream', back.receivedBytes],
    ] as const) {
      const moved = counters[direction].bytes - first.counters[direction].bytes;
      expect(moved, direction).toBeGreaterThan(atLeast);
      expect(counters[direction].frames, direction).toBeGreaterThan(first.counters[direction].frames);
      expect(counters[direction].bursts, direction).toBeGreaterThan(first.counters[direction].bursts);
      expect(counters[direction].systemCalls, direction).toBeGreaterThan(0);
    }
    expect(counters.peerUp).toBe(1);
    expect(counters.peersConnected).toBe(1);
    expect(Object.values(counters.breaches).reduce((sum, count) => sum + count, 0)).toBe(0);
    expect(await web.relay.metrics()).toMatch(/^arca_relay_frames_total\{direction="stream_to_tap"\} [1-9]/m);
  });

  it('delivers every byte of a stream, both ways', async () => {
    const sizeBytes = 4 << 20;
    const forth = await transferTcp(web.container, api.container, api.address, sizeBytes);
    expect(forth.received).toBe(forth.sent);
    const back = await transferTcp(api.container, web.container, web.address, sizeBytes);
    expect(back.received).toBe(back.sent);
  });

  it('leaves nothing behind', async () => {
    for (const { relay } of [web, api, db]) expect(await relay.stop()).toEqual({ exitCode: 0, signal: null });
    for (const { container } of [web, api, db]) await container.remove();
    expectNothingMore(before, await snapshot(sandbox));
  });
});
