/**
 * Hostile and odd peers. One relay meets all of them, one after another, and goes on:
 *
 *   a peer that the test scripts == arca-relay -- tap, tag 100 -- br-int -- tag 100 -- partner (10.9.0.100)
 */
import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import type { RelayCounters } from '../../src/native.js';
import { INTERFACE, joinContainer } from '../support/container.js';
import { testTransport } from '../support/endpoint.js';
import { BROADCAST, capture, frameHex, keepSending, newMarker, sendFrames } from '../support/frames.js';
import { createPartner, type Partner } from '../support/partner.js';
import { type RelayProcess, spawnRelay, startRelay } from '../support/relay.js';
import { useSandbox } from '../support/sandbox.js';
import { connectPeer, type ScriptedPeer } from '../support/scripted-peer.js';
import { eventually, SLOWDOWN, scaled, within } from '../support/time.js';
import {
  type BreachWord,
  CONTROL,
  decodeHello,
  encodeControl,
  encodeHello,
  encodeOffloadedFrame,
  encodeRecord,
  encodeRecordHeader,
  FRAME,
  isHelloFrame,
  LARGEST_FRAME,
  OFFLOADED_FRAME,
  type VirtioNetHeader,
} from '../support/wire.js';

const NETWORK = 'net-a';
const MTU = 1500;
const PEER_MAC = '02:00:00:00:03:01';
/**
 * What the relay may take more than before, for anything that a peer does: one MiB is usual. If each HELLO were kept until
 * it is read, it would be 25.
 */
const MOST_GROWTH_MIB = 8;
let partner: Partner;
let relay: RelayProcess;
/** Events before the test. */
let since: number;

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch(NETWORK, 100);
  partner = await createPartner(sandbox, 100, 100);
  relay = await startRelay(sandbox, { network: NETWORK, withStatus: true });
  return async () => {
    // It lived through all of that.
    expect(await relay.stop()).toEqual({ exitCode: 0, signal: null });
    await partner.remove();
  };
});

beforeEach(() => {
  since = relay.events.length;
});

const fromPeer = (marker: string, sizeBytes = 60): string =>
  frameHex({ destination: BROADCAST, source: PEER_MAC, marker, sizeBytes });
const fromPartner = (marker: string, sizeBytes = 60): string =>
  frameHex({ destination: BROADCAST, source: partner.mac, marker, sizeBytes });
const record = (hex: string): Uint8Array => encodeRecord(FRAME, Buffer.from(hex, 'hex'));
const atPartner = (marker: string) => capture(box.current, partner.netns, partner.device, marker);
const meet = (options?: Parameters<typeof connectPeer>[2]) => connectPeer(box.current, relay.endpoint, options);
const counters = async (): Promise<RelayCounters> => (await relay.status()).counters;

/** The peer goes in its own way; resolves when the relay has told it. */
async function leave(peer: ScriptedPeer) {
  const mark = relay.events.length;
  await peer.end();
  return await relay.waitFor('peer-gone', { since: mark });
}

/** The peer that comes next has its frames delivered. */
async function expectNextPeerServed(): Promise<void> {
  const marker = newMarker();
  const arriving = await atPartner(marker);
  const peer = await meet();
  await peer.sendFrames(fromPeer(marker));
  await arriving.waitFor(marker);
  await arriving.stop();
  await sendFrames(partner.netns, partner.device, [fromPartner(marker)]);
  await peer.waitFor(marker);
  await leave(peer);
}

/** The relay has closed the peer's stream, and told why. */
async function closedByRelay(peer: ScriptedPeer) {
  await within(peer.closed, 'the relay to close the stream');
  return await relay.waitFor('peer-gone', { since });
}

describe('a peer that breaks the protocol', () => {
  const offloaded = (header: Partial<VirtioNetHeader>): Uint8Array => {
    const none = { flags: 0, gsoType: 0, headerSize: 0, gsoSize: 0, checksumStart: 0, checksumOffset: 0 };
    const frame = Buffer.from(fromPeer(newMarker()), 'hex');
    return encodeRecord(OFFLOADED_FRAME, encodeOffloadedFrame({ ...none, ...header }, frame));
  };
  const text = (line: string): Uint8Array => Buffer.from(line, 'latin1');
  const frameOf = (sizeBytes: number): Uint8Array => encodeRecord(FRAME, new Uint8Array(sizeBytes));

  it.each<readonly [what: string, word: BreachWord, bytes: () => Uint8Array]>([
    [
      'an HTTP request, as gvforwarder makes it',
      'unknown-type',
      () => text('POST /connect HTTP/1.1\r\nHost: x\r\n\r\n'),
    ],
    ['VDE: two bytes of length', 'too-long', () => Uint8Array.of(0, 60, ...new Uint8Array(60).fill(0xff))],
    ['a little-endian length', 'unknown-type', () => Uint8Array.of(60, 0, 0, 0, ...new Uint8Array(60))],
    ['bytes of 0xff', 'unknown-type', () => new Uint8Array(4096).fill(0xff)],
    ['a length of 0', 'too-short', () => encodeRecordHeader(FRAME, 0)],
    ['a length of 13', 'too-short', () => frameOf(13)],
    ['a length of 16 MiB, less one byte', 'too-long', () => encodeRecordHeader(FRAME, 2 ** 24 - 1)],
    // It reads as type 1 with no length at all.
    ['a length of 16 MiB', 'too-short', () => encodeRecordHeader(FRAME, 2 ** 24)],
    ['a length of 4 GiB, less one byte', 'unknown-type', () => encodeRecordHeader(FRAME, 2 ** 32 - 1)],
    ['one byte more than the largest frame', 'too-long', () => encodeRecordHeader(FRAME, LARGEST_FRAME + 1)],
    ['an unknown type', 'unknown-type', () => encodeRecord(3, new Uint8Array(60))],
    ['unknown flags', 'unknown-flags', () => offloaded({ flags: 4 })],
    ['UDP fragmentation', 'unknown-gso-type', () => offloaded({ gsoType: 3, gsoSize: 1400 })],
    ['segments of no size', 'zero-gso-size', () => offloaded({ flags: 1, gsoType: 1, gsoSize: 0 })],
    ['a checksum behind the end', 'checksum-outside-frame', () => offloaded({ flags: 1, checksumStart: 59 })],
    ['UDP segmentation, which nobody offered', 'offload-not-agreed', () => offloaded({ gsoType: 5, gsoSize: 1400 })],
    ['control that is malformed', 'malformed-control', () => encodeRecord(CONTROL, Uint8Array.of(0, 1, 0, 8, 1))],
    ['control of no length', 'too-short', () => encodeRecordHeader(CONTROL, 0)],
    ['control of 1025 bytes', 'too-long', () => encodeRecordHeader(CONTROL, 1025)],
  ])('%s: %s; what is before it is delivered, nothing after it', async (_what, word, bytes) => {
    const before = await counters();
    const marker = newMarker();
    const arriving = await atPartner(marker);
    const peer = await meet();
    await peer.send(record(fromPeer(`${marker}01`)), bytes(), record(fromPeer(`${marker}02`)));
    expect(await closedByRelay(peer)).toMatchObject({ reason: 'breach', detail: word });

    const next = await meet();
    await next.sendFrames(fromPeer(`${marker}03`));
    await arriving.waitFor(`${marker}03`);
    await leave(next);
    expect(await arriving.stop()).toEqual([fromPeer(`${marker}01`), fromPeer(`${marker}03`)]);
    const after = await counters();
    expect(after.breaches).toEqual({ ...before.breaches, [word]: (before.breaches[word] ?? 0) + 1 });
    expect(after.peersConnected).toBe(before.peersConnected + 2);
  });
});

describe('a stream cut anywhere', () => {
  it.each([
    ['half a header', 2],
    ['a header alone', 4],
    ['half a frame', 34],
  ])(
    '%s and then nothing: the other direction goes on, and so does the record when the rest comes',
    async (_what, cut) => {
      const marker = newMarker();
      const arriving = await atPartner(marker);
      const peer = await meet();
      const bytes = record(fromPeer(`${marker}01`));
      await peer.send(record(fromPeer(`${marker}00`)), bytes.subarray(0, cut));
      await arriving.waitFor(`${marker}00`);
      await sendFrames(partner.netns, partner.device, [fromPartner(`${marker}02`)]);
      await peer.waitFor(`${marker}02`);
      expect((await relay.status()).state).toBe('ready');
      expect(arriving.frames).toHaveLength(1);
      await peer.send(bytes.subarray(cut));
      await arriving.waitFor(`${marker}01`);
      await arriving.stop();
      expect(await leave(peer)).toMatchObject({ reason: 'end-of-stream', detail: '' });
    },
  );

  it('one byte at a time: every frame arrives', async () => {
    const marker = newMarker();
    const sizes = [14 + marker.length / 2 + 1, 60, 61, 127, 128, 1514];
    const arriving = await atPartner(marker);
    const peer = await meet({ writeBytes: 1 });
    const frames = sizes.map((sizeBytes, i) => fromPeer(`${marker}0${i}`, sizeBytes));
    await peer.send(record(Buffer.from(encodeHello({ nonce: 77n })).toString('hex')));
    await peer.sendFrames(...frames);
    await arriving.waitFor(`${marker}0${sizes.length - 1}`);
    expect(await arriving.stop()).toEqual(frames);
    expect(await leave(peer)).toMatchObject({ reason: 'end-of-stream' });
  });

  it(
    'a peer that goes at every byte of a record: frames before it are delivered, and the next is served',
    async () => {
      const marker = newMarker();
      const arriving = await atPartner(marker);
      const whole = record(fromPeer(`${marker}ffff`, 60));
      const before = await counters();
      const expected: string[] = [];
      for (let cut = 0; cut <= whole.length; cut++) {
        const first = fromPeer(`${marker}${cut.toString(16).padStart(4, '0')}`);
        expected.push(first);
        const peer = await meet();
        await peer.send(record(first), whole.subarray(0, cut));
        const isInside = cut > 0 && cut < whole.length;
        const { reason, detail } = await leave(peer);
        expect({ cut, reason, detail }).toEqual({
          cut,
          reason: 'end-of-stream',
          detail: isInside ? 'inside a record' : '',
        });
      }
      expected.push(fromPeer(`${marker}ffff`, 60));
      await arriving.waitFor(`${marker}ffff`);
      expect(await arriving.stop()).toEqual(expected);
      expect((await counters()).breaches).toEqual(before.breaches);
    },
    scaled(60_000),
  );

  it('a peer that is killed in the middle of a record', async () => {
    const marker = newMarker();
    const arriving = await atPartner(marker);
    const peer = await meet();
    await peer.send(record(fromPeer(marker)), record(fromPeer(marker)).subarray(0, 40));
    await arriving.waitFor(marker);
    await arriving.stop();
    await peer.kill();
    expect((await closedByRelay(peer)).reason).toMatch(/^(end-of-stream|reset)$/);
    await expectNextPeerServed();
  });
});

describe('frames that are not to pass', () => {
  it('tagged and larger than the MTU: dropped and counted; exactly the MTU passes', async () => {
    const before = (await counters()).streamToTap;
    const marker = newMarker();
    const arriving = await atPartner(marker);
    const tagged = (etherType: string, text: string): string =>
      frameHex({ destination: BROADCAST, source: PEER_MAC, etherType, marker: `0064${text}` });
    const largest = fromPeer(`${marker}04`, MTU + 14);
    const peer = await meet();
    await peer.sendFrames(
      tagged('8100', `${marker}01`),
      tagged('88a8', `${marker}02`),
      fromPeer(`${marker}03`, MTU + 15),
      fromPeer(`${marker}03`, 9000),
      fromPeer(`${marker}03`, LARGEST_FRAME),
      largest,
    );
    await arriving.waitFor(`${marker}04`);
    expect(await arriving.stop()).toEqual([largest]);
    const after = (await counters()).streamToTap;
    expect(after.drops).toEqual({
      ...before.drops,
      tagged: (before.drops['tagged'] ?? 0) + 2,
      oversize: (before.drops['oversize'] ?? 0) + 3,
    });
    expect(after.frames).toBe(before.frames + 1);
    await leave(peer);
  });

  it('a frame of 14 bytes is one, and goes to the switch', async () => {
    const before = (await counters()).streamToTap;
    const marker = newMarker();
    const arriving = await atPartner(marker);
    const peer = await meet();
    const least = frameHex({ destination: BROADCAST, source: PEER_MAC, marker: '', sizeBytes: 14 });
    await peer.sendFrames(least, fromPeer(marker));
    await arriving.waitFor(marker);
    await arriving.stop();
    const after = (await counters()).streamToTap;
    expect(after.frames).toBe(before.frames + 2);
    expect(after.drops).toEqual(before.drops);
    await leave(peer);
  });

  it('a HELLO that comes back is an echo, and one that is damaged is dropped: the peer stays plain', async () => {
    const before = (await counters()).streamToTap.drops;
    const marker = newMarker();
    const arriving = await atPartner(marker);
    const peer = await meet();
    const { payload: hello } = await peer.waitFor('0180c200000e');
    expect(decodeHello(hello)).toBeDefined();
    const damaged = Buffer.from(encodeHello({ nonce: 5n, mtu: 1400 }));
    damaged[18] = 2;
    await peer.send(encodeRecord(FRAME, hello), encodeRecord(FRAME, damaged), record(fromPeer(marker)));
    await arriving.waitFor(marker);
    expect(await arriving.stop()).toEqual([fromPeer(marker)]);
    const { agreed } = await relay.waitFor('peer-connected', { since });
    expect(agreed.protocol).toBe('plain');
    expect((await counters()).streamToTap.drops).toEqual({
      ...before,
      'hello-echo': (before['hello-echo'] ?? 0) + 1,
      'bad-hello': (before['bad-hello'] ?? 0) + 1,
    });
    await leave(peer);
    expect(relay.events.slice(since).map(({ event }) => event)).toEqual(['peer-connected', 'peer-gone']);
  });

  it('a HELLO that was forged behind the TAP reaches no peer', async () => {
    const sandbox = box.current;
    const before = (await counters()).tapToStream.drops['forged-hello'] ?? 0;
    const peer = await meet();
    const own = await peer.waitFor('0180c200000e');
    const forged = (nonce: bigint): string => Buffer.from(encodeHello({ nonce, mtu: 1300 })).toString('hex');
    // By whoever sends on the TAP in the relay's own namespace, and by another port of the bridge, which has to be told
    // to forward that address at all.
    await sendFrames(sandbox.netns, relay.tap, [forged(21n)]);
    await sandbox.vsctl('set', 'Bridge', 'br-int', 'other-config:forward-bpdu=true');
    await sendFrames(partner.netns, partner.device, [forged(22n)]);
    const marker = newMarker();
    await sendFrames(partner.netns, partner.device, [fromPartner(marker)]);
    await peer.waitFor(marker);
    await sandbox.vsctl('remove', 'Bridge', 'br-int', 'other-config', 'forward-bpdu');
    expect(peer.records.filter(({ payload }) => isHelloFrame(payload))).toEqual([own]);
    expect((await counters()).tapToStream.drops['forged-hello']).toBe(before + 2);
    await leave(peer);
  });

  it('a HELLO that a process in the container forged changes nothing', async () => {
    const container = await joinContainer(box.current, relay, { address: '10.9.0.2/24' });
    const first = await relay.waitFor('peer-connected', { since });
    expect(first.agreed.protocol).toBe('arca');
    const forged = Buffer.from(encodeHello({ nonce: 23n, mtu: 1300, largestRecord: 60 })).toString('hex');
    await sendFrames(container.netns, INTERFACE, [forged]);
    // Behind it on the same way, and back: what the forged one could do is done by then.
    await container.waitUntilPings(partner.address);
    expect((await relay.status()).agreed).toEqual(first.agreed);
    expect(relay.events.slice(since).map(({ event }) => event)).toEqual(['peer-connected']);
    container.tap.kill('SIGTERM');
    await relay.waitFor('peer-gone', { since });
  });
});

describe('peers that take without measure', () => {
  /** In MiB; the most that it ever had, and what it has. */
  const memory = (): { peak: number; now: number } => {
    const status = readFileSync(`/proc/${relay.pid}/status`, 'utf8');
    const read = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
    return { peak: read('VmHWM'), now: read('VmRSS') };
  };

  it(
    '100,000 HELLOs and as many pings: bounded memory, a relay that answers, and frames behind them',
    async () => {
      const before = memory();
      const marker = newMarker();
      const arriving = await atPartner(marker);
      const peer = await meet();
      // Each is another than the one before it, and as large as it may be: nothing is to be gained by comparing.
      const dns = Array.from({ length: 16 }, (_, i) => `fd00::${i + 1}`);
      const round = [1400, 1500].map((mtu) =>
        Buffer.concat([
          encodeRecord(FRAME, encodeHello({ nonce: 9n, mtu, interfaceDns: dns })),
          encodeRecord(CONTROL, encodeControl({ ping: BigInt(mtu) })),
        ]),
      );
      const rounds = Buffer.concat(Array<Buffer>(500).fill(Buffer.concat(round)));
      for (let i = 0; i < 100; i++) {
        await peer.send(rounds);
        if (i % 25 === 0) expect((await relay.status()).state).toBe('ready');
      }
      await peer.send(record(fromPeer(marker)));
      await arriving.waitFor(marker, 20_000);
      await arriving.stop();
      expect(memory().peak - before.now).toBeLessThan(MOST_GROWTH_MIB);
      expect((await leave(peer)).reason).toBe('end-of-stream');
      await expectNextPeerServed();
    },
    scaled(60_000),
  );

  // The issue has a minute of this. Here it is three seconds of the same (more where the machine is slower): memory that
  // grows does so from the first one on, and the flood is several hundred MB a second of it.
  it(
    'a peer that stops reading under a flood: bounded memory, drops at the TAP, the other direction unharmed',
    async () => {
      const sandbox = box.current;
      const peer = await meet();
      await relay.waitFor('peer-connected', { since });
      const before = memory();
      const first = await counters();
      peer.pause();
      const flood = keepSending(sandbox, partner.netns, partner.device, [fromPartner('', 1400)], 0);
      await eventually(
        'the stream to be full and the TAP to drop',
        async () => {
          const { tapToStream, tapQueueDrops } = await counters();
          const isFull = tapToStream.stalls > first.tapToStream.stalls && tapQueueDrops > first.tapQueueDrops;
          return isFull ? true : undefined;
        },
        20_000,
      );
      const full = await counters();

      const until = performance.now() + 3_000 * SLOWDOWN;
      const marker = newMarker();
      const arriving = await atPartner(marker);
      let sent = 0;
      for (let i = 0; performance.now() < until; i++) {
        const each = `${marker}${i.toString(16).padStart(4, '0')}`;
        // The switch is flooded, and may lose a frame. The relay may not: it is counted below.
        await eventually(`${each} to arrive`, async () => {
          await peer.sendFrames(fromPeer(each));
          sent++;
          return await arriving.waitFor(each, 1_000).catch(() => undefined);
        });
      }
      await arriving.stop();
      const later = await counters();
      expect(later.tapQueueDrops).toBeGreaterThan(full.tapQueueDrops);
      expect(later.tapToStream.frames).toBe(full.tapToStream.frames);
      expect(later.streamToTap.frames).toBe(full.streamToTap.frames + sent);
      expect(later.streamToTap.drops).toEqual(full.streamToTap.drops);
      expect(memory().peak - before.now).toBeLessThan(MOST_GROWTH_MIB);

      // At once: while the flood goes on, frames come again; and behind it, ours.
      const { length } = peer.records;
      peer.resume();
      await eventually(
        'frames after the pause',
        async () => ((await counters()).tapToStream.frames > later.tapToStream.frames ? true : undefined),
        1_000,
      );
      await flood.destroy();
      const last = newMarker();
      await sendFrames(partner.netns, partner.device, [fromPartner(last)]);
      await peer.waitFor(last, { since: length, timeoutMs: 20_000 });
      await leave(peer);
    },
    scaled(60_000),
  );
});

/** Each with all before it. */
function sumsOf(sizes: readonly number[]): number[] {
  let sum = 0;
  return sizes.map((size) => {
    sum += size;
    return sum;
  });
}

describe('--burst 1, for a reader that can not put a frame together', () => {
  it('sends each frame by itself, header and body at once: no receive ends inside a record', async () => {
    const burst = await startRelay(box.current, { network: NETWORK, withStatus: true, args: ['--burst', '1'] });
    const peer = await connectPeer(box.current, burst.endpoint, { tellsReadSizes: true });
    await peer.waitFor('0180c200000e');
    const marker = newMarker();
    const sizes = [60, 61, 590, 1400, MTU + 14];
    const frames = sizes.map((sizeBytes) => fromPartner(marker, sizeBytes));
    await sendFrames(partner.netns, partner.device, frames, { count: 60, intervalUs: 500 });
    const fence = newMarker();
    await sendFrames(partner.netns, partner.device, [fromPartner(fence)]);
    await peer.waitFor(fence);

    const recordEnds = new Set(sumsOf(peer.records.map(({ payload }) => 4 + payload.length)));
    expect(sumsOf(peer.readSizes).filter((end) => !recordEnds.has(end))).toEqual([]);
    // The reader may have been late and taken two at once. The sender counts: a send for each frame.
    const { tapToStream } = (await burst.status()).counters;
    expect(tapToStream.frames).toBeGreaterThanOrEqual(60 * sizes.length);
    expect(tapToStream.bursts).toBe(tapToStream.frames);
    expect(await burst.stop()).toEqual({ exitCode: 0, signal: null });
  });
});

describe('the endpoint', () => {
  it('a second relay on the same endpoint: endpoint-in-use, and the first goes on', async () => {
    const { listenAddress } = relay.endpoint;
    const args = ['--listen', listenAddress, '--tap', 'tap-second'];
    const second = spawnRelay(box.current, { network: NETWORK, endpointArgs: args });
    expect(await second.waitFor('failed')).toMatchObject({ code: 'endpoint-in-use' });
    expect(await second.waitForEnd()).toEqual({ exitCode: ERROR_KINDS['endpoint-in-use'].exitCode, signal: null });
    await expectNextPeerServed();
  });

  // A CID is what only vsock has: scripts/vm.
  if (testTransport() === 'vsock') {
    it('a peer whose CID is not allowed: refused and counted, and told which', async () => {
      const strict = await startRelay(box.current, {
        network: NETWORK,
        withStatus: true,
        args: ['--peer-cid', '42', '--peer-cid', '43'],
      });
      const peer = await connectPeer(box.current, strict.endpoint);
      expect(await strict.waitFor('peer-refused')).toMatchObject({ reason: 'cid-not-allowed', peer: { cid: 1 } });
      await within(peer.closed, 'the refused peer to be closed');
      expect(peer.records).toEqual([]);
      const { peersRefused, peersConnected, peerUp } = (await strict.status()).counters;
      expect({ peersRefused, peersConnected, peerUp }).toEqual({
        peersRefused: { busy: 0, 'cid-not-allowed': 1 },
        peersConnected: 0,
        peerUp: 0,
      });
      expect(await strict.stop()).toEqual({ exitCode: 0, signal: null });
    });
  }
});
