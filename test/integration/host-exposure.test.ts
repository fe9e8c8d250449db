/**
 * What the host's own stack tells a container, with a host that has an address on the container's subnet and a server
 * that listens everywhere: nothing. A TAP belongs to the kernel, too, and the userspace datapath only reads along.
 *
 *   container (10.9.0.2) == arca-relay -- tap, tag 100 -- br-int -- partner (10.9.0.100)
 *                                          |
 *                       the host's stack --'-- host0 (10.9.0.50), a veth whose other end is host1
 */
import { describe, expect, it } from 'vitest';
import { run } from '../../src/exec.js';
import { startInBackground } from '../support/background.js';
import { type Container, INTERFACE, joinContainer } from '../support/container.js';
import { BROADCAST, capture, frameHex, newMarker, sendFrames } from '../support/frames.js';
import { udpFrame } from '../support/packets.js';
import { createPartner, type Partner } from '../support/partner.js';
import { type RelayProcess, startRelay } from '../support/relay.js';
import { testDatapath, useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';
import { TRANSFER_TOOL } from '../support/tools.js';

const HOST = { v4: '10.9.0.50', v6: 'fd00:9::50', mac: '02:00:00:00:05:50' };
const CONTAINER_MAC = '02:00:00:00:05:02';
const PORT = 5401;
let partner: Partner;
let container: Container;
let relay: RelayProcess;

const ip = (netns: string, ...args: string[]) => run('ip', ['-n', netns, ...args], { timeoutMs: scaled(5_000) });

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch('net-a', 100);
  partner = await createPartner(sandbox, 100, 100);
  await ip(partner.netns, 'addr', 'add', 'fd00:9::100/64', 'dev', partner.device, 'nodad');
  await ip(sandbox.netns, 'link', 'add', 'host0', 'address', HOST.mac, 'type', 'veth', 'peer', 'name', 'host1');
  await ip(sandbox.netns, 'addr', 'add', `${HOST.v4}/24`, 'dev', 'host0');
  await ip(sandbox.netns, 'addr', 'add', `${HOST.v6}/64`, 'dev', 'host0', 'nodad');
  for (const link of ['host0', 'host1', 'lo']) await ip(sandbox.netns, 'link', 'set', link, 'up');
  relay = await startRelay(sandbox, { network: 'net-a' });
  container = await joinContainer(sandbox, relay, {
    args: ['--mac', CONTAINER_MAC, '--address', '10.9.0.2/24', '--address', 'fd00:9::2/64'],
  });
  return async () => {
    await partner.remove();
    await ip(sandbox.netns, 'link', 'delete', 'host0');
  };
});

const v4 = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number));
/** Of an address that has `::` once. */
const v6 = (text: string): Uint8Array => {
  const groups = (half = ''): string[] => half.split(':').map((group) => group.padStart(4, '0'));
  const [head = [], tail = []] = text.split('::').map(groups);
  const zeros = Array<string>(8 - head.length - tail.length).fill('0000');
  return Buffer.from([...head, ...zeros, ...tail].join(''), 'hex');
};

async function macOf(netns: string, device: string): Promise<string> {
  const { stdout } = await ip(netns, '-j', 'link', 'show', device);
  return (JSON.parse(stdout) as [{ address: string }])[0].address;
}

/** Frames pass from the container to the partner; what it sent before has reached whoever it could reach. */
async function expectForwarding(): Promise<void> {
  const marker = newMarker();
  const arriving = await capture(box.current, partner.netns, partner.device, marker);
  await sendFrames(container.netns, INTERFACE, [frameHex({ destination: BROADCAST, source: CONTAINER_MAC, marker })]);
  await arriving.waitFor(marker);
  await arriving.stop();
}

describe('a host with an address on the subnet of its containers', () => {
  it.each([
    ['ARP', HOST.v4, () => partner.address],
    ['neighbour discovery', HOST.v6, () => 'fd00:9::100'],
  ])('%s: no answer for its address, while that of a neighbour is answered', async (_what, address, neighbour) => {
    await container.waitUntilPings(neighbour());
    expect(await container.canPing(address)).toBe(false);
    const { stdout } = await container.exec('ip', ['-j', 'neigh', 'show', address]);
    const [entry] = JSON.parse(stdout) as { lladdr?: string }[];
    expect(entry).toBeDefined();
    expect(entry?.lladdr).toBeUndefined();
    await expectForwarding();
  });

  it('ff02::1: of all nodes on the link the partner answers, and the host does not', async () => {
    const links = async (netns: string): Promise<string[]> => {
      const { stdout } = await ip(netns, '-j', '-6', 'addr', 'show');
      const found = JSON.parse(stdout) as { addr_info?: { local?: string }[] }[];
      return found.flatMap(({ addr_info = [] }) => addr_info.flatMap(({ local }) => local ?? []));
    };
    const ofPartner = (await links(partner.netns)).filter((address) => address.startsWith('fe80'));
    expect(ofPartner).toHaveLength(1);
    const answers = new Set<string>();
    await eventually('the partner to answer ff02::1', async () => {
      const pinging = container.exec('ping', ['-6', '-n', '-c3', '-i0.2', '-W1', `ff02::1%${INTERFACE}`]);
      const { stdout } = await pinging.catch(() => ({ stdout: '' }));
      for (const [, from] of stdout.matchAll(/from ([0-9a-f:]+)/g)) if (from !== undefined) answers.add(from);
      return ofPartner.every((address) => answers.has(address)) ? true : undefined;
    });
    const ofHost = await links(box.current.netns);
    expect(ofHost).toContain(HOST.v6);
    expect(ofHost.filter((address) => answers.has(address))).toEqual([]);
  });

  interface Case {
    readonly what: string;
    /** `tap` is that of the relay's TAP: a container may guess it. */
    readonly destination: string | 'tap';
    readonly from: Uint8Array;
    readonly to: Uint8Array;
  }

  it.each<Case>([
    { what: 'for its address', destination: 'tap', from: v4('10.9.0.2'), to: v4(HOST.v4) },
    { what: 'for its address, in a broadcast frame', destination: BROADCAST, from: v4('10.9.0.2'), to: v4(HOST.v4) },
    { what: 'for 255.255.255.255', destination: BROADCAST, from: v4('10.9.0.2'), to: v4('255.255.255.255') },
    { what: 'for the broadcast address', destination: BROADCAST, from: v4('10.9.0.2'), to: v4('10.9.0.255') },
    { what: 'for all hosts', destination: '01:00:5e:00:00:01', from: v4('10.9.0.2'), to: v4('224.0.0.1') },
    { what: 'from the partner, it says', destination: 'tap', from: v4('10.9.0.100'), to: v4(HOST.v4) },
    { what: 'over IPv6', destination: 'tap', from: v6('fd00:9::2'), to: v6(HOST.v6) },
    { what: 'for ff02::1', destination: '33:33:00:00:00:01', from: v6('fd00:9::2'), to: v6('ff02::1') },
  ])('no datagram $what reaches its server', async (sent) => {
    expect(await firstAtServer(sent)).toBe(FROM_HOST1);
  });

  // The kernel does not ask rp_filter about these (ip_route_input_slow), and the userspace datapath leaves them to it. A
  // server that takes them, as DHCP's does, belongs into another namespace than the TAPs. If this fails, all the better.
  it('a datagram from 0.0.0.0 for everybody does, by the userspace datapath alone', async () => {
    const sent = { destination: BROADCAST, from: v4('0.0.0.0'), to: v4('255.255.255.255') };
    expect(await firstAtServer(sent)).toBe(testDatapath() === 'netdev' ? FROM_CONTAINER : FROM_HOST1);
  });

  const FROM_CONTAINER = 'from the container';
  const FROM_HOST1 = 'from host1';

  /** The container sends it, then host1 does, where the way is open: which one arrives first. */
  async function firstAtServer({ destination, from, to }: Omit<Case, 'what'>): Promise<string> {
    const sandbox = box.current;
    const everywhere = from.length === 4 ? '0.0.0.0' : '::';
    const args = ['receive', 'udp', everywhere, String(PORT)];
    const server = startInBackground(...sandbox.inNamespace(TRANSFER_TOOL, args));
    sandbox.defer(server.destroy);
    await server.stderr.waitFor(/^listening$/);
    const datagram = (mac: string, text: string): string =>
      Buffer.from(
        udpFrame({
          destination: mac,
          source: CONTAINER_MAC,
          fromAddress: from,
          toAddress: to,
          port: PORT,
          content: Buffer.concat([new Uint8Array(4), Buffer.from(`${text}\n`)]),
        }),
      ).toString('hex');
    const mac = destination === 'tap' ? await macOf(sandbox.netns, relay.tap) : destination;
    await sendFrames(container.netns, INTERFACE, [datagram(mac, FROM_CONTAINER)]);
    await expectForwarding();
    await sendFrames(sandbox.netns, 'host1', [datagram(destination === 'tap' ? HOST.mac : mac, FROM_HOST1)]);
    return await server.stdout.waitFor(/./);
  }
});
