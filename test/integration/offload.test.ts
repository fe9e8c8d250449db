/**
 * Offloads end to end, and where one side can't take them: the content of transfers, and what a port sees that takes
 * none. Three on one network:
 *
 *   subject (10.9.0.2) -- what the test says == arca-relay --.
 *   other   (10.9.0.3) -- arca-tap           == arca-relay --+-- br-int
 *   partner (10.9.0.100), a veth pair without offloads ------'
 *
 * The kernel datapath takes offloads. The userspace datapath does with userspace-tso-enable, and is tried with both.
 */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { run } from '../../src/exec.js';
import type { Offload } from '../../src/native.js';
import { createContainer, INTERFACE, joinContainer } from '../support/container.js';
import { capture, sendFrames } from '../support/frames.js';
import { faultOf, findSegment, partialTcpFrame, TAGGED_TCP_AT } from '../support/packets.js';
import { createPartner, type Partner } from '../support/partner.js';
import { type RelayProcess, startRelay } from '../support/relay.js';
import { type TestSandbox, testDatapath, useSandbox } from '../support/sandbox.js';
import { connectPeer } from '../support/scripted-peer.js';
import { scaled } from '../support/time.js';
import { PEER_TOOL } from '../support/tools.js';
import { type Transport, transfer } from '../support/transfer.js';
import {
  decodeOffloadedFrame,
  encodeHello,
  encodeOffloadedFrame,
  encodeRecord,
  FRAME,
  OFFLOADED_FRAME,
  type VirtioNetHeader,
} from '../support/wire.js';

const NETWORK = 'net-a';
const MTU = 1500;
const ALL: readonly Offload[] = ['checksum', 'tso4', 'tso6'];
/** Large enough for segments of 64 KiB to make up most of it; a datagram is sent when the one before it was answered. */
const SIZE_BYTES: Readonly<Record<Transport, number>> = { tcp: 256 << 10, udp: 40_000 };

interface End {
  readonly netns: string;
  readonly mac: string;
  /** IPv4 and IPv6. */
  readonly addresses: readonly [string, string];
}

interface Joined extends End {
  readonly relay: RelayProcess;
}

let partner: Partner;
let far: End;
let other: Joined;

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch(NETWORK, 100);
  partner = await createPartner(sandbox, 100, 100);
  far = endAt(100, partner.mac, partner.netns);
  // What leaves by this port leaves for a device that takes no offload.
  await sandbox.exec('ethtool', ['-K', 'partner100', 'tx', 'off']);
  await ip(partner.netns, 'addr', 'add', `${far.addresses[1]}/64`, 'dev', partner.device, 'nodad');
  other = await joinArca(sandbox, 3);
  return () => partner.remove();
});

const ip = (netns: string, ...args: string[]) => run('ip', ['-n', netns, ...args], { timeoutMs: scaled(5_000) });

function endAt(host: number, mac: string, netns: string): End {
  return { netns, mac, addresses: [`10.9.0.${host}`, `fd00:9::${host}`] };
}

interface JoinOptions {
  readonly relayArgs?: readonly string[];
  readonly tapArgs?: readonly string[];
}

const SUBJECT = 2;
const macOf = (host: number): string => `02:00:00:00:04:0${host}`;
const startRelayOf = (sandbox: TestSandbox, args: readonly string[] = []): Promise<RelayProcess> =>
  startRelay(sandbox, { network: NETWORK, withStatus: true, args });

async function joinArca(
  sandbox: TestSandbox,
  host: number,
  { relayArgs, tapArgs = [] }: JoinOptions = {},
): Promise<Joined> {
  const relay = await startRelayOf(sandbox, relayArgs);
  const { addresses } = endAt(host, '', '');
  const args = ['--mac', macOf(host), '--address', `${addresses[0]}/24`, '--address', `${addresses[1]}/64`];
  const { netns } = await joinContainer(sandbox, relay, { args: [...args, ...tapArgs] });
  return { ...endAt(host, macOf(host), netns), relay };
}

/** Nothing but type 0 goes in or out: what its TAP gives and takes are the records as they are. */
async function joinPlain(sandbox: TestSandbox, host: number): Promise<Joined> {
  const relay = await startRelayOf(sandbox);
  const { netns, start } = await createContainer(sandbox);
  const end = endAt(host, macOf(host), netns);
  const peer = start(PEER_TOOL, ['tap', relay.endpoint.connectAddress, INTERFACE]);
  await peer.stderr.waitFor(/^connected$/);
  await ip(netns, 'link', 'set', INTERFACE, 'address', end.mac);
  await ip(netns, 'link', 'set', INTERFACE, 'up');
  await ip(netns, 'addr', 'add', `${end.addresses[0]}/24`, 'dev', INTERFACE);
  await ip(netns, 'addr', 'add', `${end.addresses[1]}/64`, 'dev', INTERFACE, 'nodad');
  await relay.waitFor('peer-connected');
  return { ...end, relay };
}

async function expectTransfer(transport: Transport, from: End, to: End, version: 4 | 6 = 4): Promise<void> {
  const address = to.addresses[version === 4 ? 0 : 1];
  const { sent, received } = await transfer(
    box.current,
    transport,
    from,
    { netns: to.netns, address },
    randomBytes(SIZE_BYTES[transport]),
  );
  expect(received, `${transport} from ${from.addresses[0]} to ${address}`).toBe(sent);
}

interface Watch {
  /** Frames that the end should not have been given; fails if what was watched for did not come at all. */
  faults(): Promise<string[]>;
}

/** All that comes in for this end, as its device was given it. */
async function watch({ netns, mac }: End, device: string): Promise<Watch> {
  const frames = await capture(box.current, netns, device, mac.replaceAll(':', ''));
  return {
    async faults() {
      const seen = (await frames.stop()).map((hex) => Buffer.from(hex, 'hex'));
      const kinds = new Set(seen.map(findSegment).map((segment) => `${segment?.protocol} over ${segment?.ipVersion}`));
      expect([...kinds]).toEqual(expect.arrayContaining(['6 over 4', '6 over 6', '17 over 4', '17 over 6']));
      return seen.map((frame) => faultOf(frame, MTU)).filter((fault) => fault !== undefined);
    },
  };
}

/**
 * Everything with everybody, both ways. `showsRecords`: its interface is given what the stream brings, frame by frame
 * and as it is, which then has to be whole. (An arca-tap with offloads joins segments before it hands them over.)
 */
async function expectAllTransfers(subject: Joined, showsRecords: boolean): Promise<void> {
  const atFar = await watch(far, partner.device);
  const atSubject = showsRecords ? await watch(subject, INTERFACE) : undefined;
  for (const end of [other, far]) {
    for (const transport of ['tcp', 'udp'] as const) {
      for (const version of [4, 6] as const) {
        await expectTransfer(transport, subject, end, version);
        await expectTransfer(transport, end, subject, version);
      }
    }
  }
  expect(await atFar.faults()).toEqual([]);
  if (atSubject) expect(await atSubject.faults()).toEqual([]);
  const { breaches, streamToTap } = (await subject.relay.status()).counters;
  expect(Object.values(breaches).every((count) => count === 0)).toBe(true);
  expect(streamToTap.drops).toMatchObject({ oversize: 0, 'misplaced-checksum': 0, 'offload-withdrawn': 0 });
}

/** The mean size of frames in one direction of a relay while `move` runs. */
async function meanFrameBytes(
  relay: RelayProcess,
  direction: 'tapToStream' | 'streamToTap',
  move: () => Promise<void>,
): Promise<number> {
  const before = (await relay.status()).counters[direction];
  await move();
  const after = (await relay.status()).counters[direction];
  return (after.bytes - before.bytes) / (after.frames - before.frames);
}

/** Content goes in segments that are larger than any frame of this MTU, or in none that is. */
async function expectLargeSegments({ relay, ...subject }: Joined, areLarge: boolean): Promise<void> {
  const sizes = [
    await meanFrameBytes(relay, 'streamToTap', () => expectTransfer('tcp', subject, other)),
    await meanFrameBytes(relay, 'tapToStream', () => expectTransfer('tcp', other, subject)),
  ];
  for (const size of sizes) {
    if (areLarge) expect(size).toBeGreaterThan(MTU + 14);
    else expect(size).toBeLessThanOrEqual(MTU + 14);
  }
}

async function offloadsOf({ relay }: Joined): Promise<readonly Offload[] | undefined> {
  return (await relay.status()).agreed?.offloads;
}

/** As an operator does it: vswitchd reads it at its start. Resolves when both of the relay's sides know. */
async function setUserspaceTso(isOn: boolean): Promise<void> {
  const since = other.relay.events.length;
  await box.current.vsctl('set', 'Open_vSwitch', '.', `other_config:userspace-tso-enable=${isOn}`);
  // The relay waits for the new vswitchd. (OVS 3.1 does not: set and not restarted, the ports that it has lose TCP.)
  expect(await offloadsOf(other)).toEqual(isOn ? [] : ALL);
  await box.current.restart('ovs-vswitchd');
  await other.relay.waitFor(
    ({ event, ...rest }) =>
      event === 'peer-updated' && 'agreed' in rest && rest.agreed.offloads.length === (isOn ? ALL.length : 0),
    { since },
  );
  await other.relay.waitFor('ready', { since });
}

interface Kind {
  readonly what: string;
  readonly takesOffloads: boolean;
  readonly showsRecords: boolean;
  readonly join: () => Promise<Joined>;
}

const KINDS: readonly Kind[] = [
  { what: 'arca-tap', takesOffloads: true, showsRecords: false, join: () => joinArca(box.current, SUBJECT) },
  {
    what: 'arca-tap --offload off',
    takesOffloads: false,
    showsRecords: true,
    join: () => joinArca(box.current, SUBJECT, { tapArgs: ['--offload', 'off'] }),
  },
  { what: 'a plain peer', takesOffloads: false, showsRecords: true, join: () => joinPlain(box.current, SUBJECT) },
  {
    what: 'arca-relay --offload off',
    takesOffloads: false,
    showsRecords: false,
    join: () => joinArca(box.current, SUBJECT, { relayArgs: ['--offload', 'off'] }),
  },
];

if (testDatapath() === 'netdev') {
  describe('a switch that takes no offloads', () => {
    // A partial checksum is garbage to everybody but TCP's and UDP's own stack, and what is larger than the MTU is
    // dropped here: the combination that breaks silently, since ping needs neither.
    it('ping works, TCP hangs: not where an arca-tap with offloads meets the userspace datapath without', async () => {
      const subject = await joinArca(box.current, SUBJECT);
      expect(await offloadsOf(subject)).toEqual([]);
      await run('ip', ['netns', 'exec', subject.netns, 'ping', '-n', '-c1', '-W5', other.addresses[0]], {
        timeoutMs: scaled(10_000),
      });
      await expectTransfer('tcp', subject, other);
      await expectTransfer('tcp', other, subject);
    });

    it.each(KINDS)('$what: content both ways, checksums whole, nothing oversize', async ({ showsRecords, join }) => {
      const subject = await join();
      expect(await offloadsOf(subject)).toEqual([]);
      await expectAllTransfers(subject, showsRecords);
      await expectLargeSegments(subject, false);
    });
  });

  describe('userspace-tso-enable while the relay runs', () => {
    it('on, and vswitchd restarted: the peer is told, and large segments flow', async () => {
      await setUserspaceTso(true);
      const subject = await joinArca(box.current, SUBJECT);
      await expectLargeSegments(subject, true);
    });
  });
}

describe('a switch that takes offloads', () => {
  it.each(KINDS)(
    '$what: content both ways, and whole where it leaves',
    async ({ takesOffloads, showsRecords, join }) => {
      const subject = await join();
      expect(await offloadsOf(subject)).toEqual(takesOffloads ? ALL : []);
      await expectAllTransfers(subject, showsRecords);
      if (takesOffloads) await expectLargeSegments(subject, true);
    },
  );
});

// They are given to the TAP itself, for a port with a tag of its own is sent none.
describe('a large TCP segment with a partial checksum, behind a VLAN tag', () => {
  const VLAN_ID = 7;
  const SEGMENT_BYTES = 1400;
  const content = randomBytes(3 * SEGMENT_BYTES);
  const frame = partialTcpFrame({ destination: macOf(SUBJECT), source: macOf(9), vlanId: VLAN_ID, content });
  const header: VirtioNetHeader = {
    flags: 1,
    gsoType: 1,
    headerSize: TAGGED_TCP_AT + 20,
    gsoSize: SEGMENT_BYTES,
    checksumStart: TAGGED_TCP_AT,
    checksumOffset: 16,
  };
  const sendTo = ({ tap }: RelayProcess): Promise<void> =>
    sendFrames(box.current.netns, tap, [Buffer.from(encodeOffloadedFrame(header, frame)).toString('hex')], {
      withVirtioNetHeader: true,
    });

  it('a plain peer gets frames that are whole, each with its tag', async () => {
    const relay = await startRelayOf(box.current);
    const peer = await connectPeer(box.current, relay.endpoint);
    await relay.waitFor('peer-connected');
    await sendTo(relay);
    const last = await peer.waitFor(content.subarray(-16).toString('hex'));
    // Others of the network speak too: neighbours are looked for by multicast.
    const isOfSender = (payload: Uint8Array): boolean =>
      Buffer.from(frame.subarray(6, 12)).equals(payload.subarray(6, 12));
    const frames = peer.records.map(({ payload }) => payload).filter(isOfSender);
    expect(last.type).toBe(FRAME);
    expect(frames).toHaveLength(3);
    for (const [i, each] of frames.entries()) {
      expect(faultOf(each, MTU)).toBeUndefined();
      expect(Buffer.from(each.subarray(12, 16)).toString('hex')).toBe('81000007');
      const part = content.subarray(i * SEGMENT_BYTES, (i + 1) * SEGMENT_BYTES);
      expect(Buffer.from(each.subarray(TAGGED_TCP_AT + 20)).equals(part)).toBe(true);
    }
  });

  it('a peer that takes offloads gets it in one piece, where the switch does too', async () => {
    const relay = await startRelayOf(box.current);
    const peer = await connectPeer(box.current, relay.endpoint);
    await peer.send(encodeRecord(FRAME, encodeHello({ nonce: 3n, accepts: 7, largestRecord: 65563 })));
    const { agreed } = await relay.waitFor('peer-connected');
    expect(agreed.offloads).toEqual(ALL);
    await sendTo(relay);
    const { type, payload } = await peer.waitFor(content.subarray(-16).toString('hex'));
    expect(type).toBe(OFFLOADED_FRAME);
    const got = decodeOffloadedFrame(payload);
    expect(got.header).toMatchObject({ gsoType: 1, gsoSize: SEGMENT_BYTES, checksumStart: TAGGED_TCP_AT });
    expect(Buffer.from(got.frame).equals(frame)).toBe(true);
  });

  it('arca-tap hands it to the container', async () => {
    const subject = await joinArca(box.current, SUBJECT);
    const arriving = await capture(box.current, subject.netns, INTERFACE, content.subarray(-16).toString('hex'));
    await sendTo(subject.relay);
    const seen = Buffer.from(await arriving.waitFor(content.subarray(-16).toString('hex')), 'hex');
    expect(seen.subarray(12, 16).toString('hex')).toBe('81000007');
    expect(seen.subarray(TAGGED_TCP_AT + 20).equals(content)).toBe(true);
    await arriving.stop();
  });
});

if (testDatapath() === 'netdev') {
  describe('userspace-tso-enable, switched off while the relay runs', () => {
    it('the peer is told, and what it sends is whole again', async () => {
      const subject = await joinArca(box.current, SUBJECT);
      const since = subject.relay.events.length;
      await setUserspaceTso(false);
      await subject.relay.waitFor('peer-updated', { since });
      await subject.relay.waitFor('ready', { since });
      expect(await offloadsOf(subject)).toEqual([]);
      await expectAllTransfers(subject, false);
      await expectLargeSegments(subject, false);
    });
  });
}
