/**
 * The faults of this project's ancestor, a relay that was written first and measured later. Each that concerns the relay
 * has a test, here or where it belongs:
 *
 * | its fault | what holds it down |
 * |---|---|
 * | a short read put the stream out of step for ever | peers: a stream cut anywhere; native: records cut at every byte |
 * | header and body in two writes, and a split frame broke the peer | peers: --burst 1 |
 * | EAGAIN or a short write was fatal | peers: a peer that stops reading under a flood; native: partial writes |
 * | polling with sleeps of 1 ms | here |
 * | a second connection attached the port again | life-cycle: a second peer; a peer that goes |
 * | stop left the accept blocked, and the port taken | here |
 * | a start that failed was only logged | bad-input: all of it; life-cycle: during the start |
 * | a sleep of 100 ms after add-port | here: the first frame after ready |
 * | the MAC of the TAP was not the one that the network knew | main-job: MAC, MTU, address and gateway by HELLO |
 * | the MTU was nobody's business | here; peers: larger than the MTU |
 * | stale ports broke the next start | life-cycle: SIGKILL at any moment |
 * | partial checksums broke UDP on the userspace datapath | offload: a switch that takes no offloads |
 * | the switch forwarded seconds after the port was there | here: the first frame after ready |
 *
 * The others are about tags, addresses and names that are allocated, which is not the relay's work: networks.test.ts,
 * chassis.test.ts and the control-*.test.ts files.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { INTERFACE, joinContainer } from '../support/container.js';
import { newEndpoint } from '../support/endpoint.js';
import { BROADCAST, capture, frameHex, newMarker } from '../support/frames.js';
import { createPartner, type Partner } from '../support/partner.js';
import { startRelay } from '../support/relay.js';
import { useSandbox } from '../support/sandbox.js';
import { connectPeer } from '../support/scripted-peer.js';
import { transfer } from '../support/transfer.js';

const NETWORK = 'net-a';
let partner: Partner;

const box = useSandbox(async (sandbox) => {
  await sandbox.addSwitch(NETWORK, 100);
  partner = await createPartner(sandbox, 100, 100);
  return () => partner.remove();
});

describe('what the ancestor did, and this does not', () => {
  it('polls: a link that is idle wakes nobody', async () => {
    const relay = await startRelay(box.current, { network: NETWORK });
    const { tap } = await joinContainer(box.current, relay, { address: '10.9.0.2/24' });
    /** Times that a thread of the process began to wait, or waited for its turn. */
    const switches = (pid: number): number =>
      readdirSync(`/proc/${pid}/task`)
        .map((task) => readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8'))
        .flatMap((status) => [...status.matchAll(/ctxt_switches:\s*(\d+)$/gm)])
        .reduce((sum, [, count]) => sum + Number(count), 0);
    const before = [relay.pid, tap.pid].map(switches);
    // Not for something to happen: for nothing to. A loop that sleeps for 1 ms would wake a thousand times.
    await delay(1000);
    const after = [relay.pid, tap.pid].map(switches);
    for (const [i, count] of after.entries()) expect(count - (before[i] ?? 0)).toBeLessThan(100);
  });

  it('stops without its accept: the endpoint is free at once, with and without a peer', async () => {
    const endpoint = newEndpoint(box.current);
    for (const hasPeer of [false, true, true, false]) {
      const relay = await startRelay(box.current, { network: NETWORK, endpoint });
      const peer = hasPeer ? await connectPeer(box.current, endpoint) : undefined;
      if (peer) await relay.waitFor('peer-connected');
      expect(await relay.stop()).toEqual({ exitCode: 0, signal: null });
      await peer?.closed;
    }
  });

  it('forwards later than it says: the first frame after ready arrives', async () => {
    for (let round = 0; round < 3; round++) {
      const marker = newMarker();
      const arriving = await capture(box.current, partner.netns, partner.device, marker);
      const endpoint = newEndpoint(box.current);
      const relay = await startRelay(box.current, { network: NETWORK, endpoint });
      const peer = await connectPeer(box.current, endpoint);
      const frame = frameHex({ destination: BROADCAST, source: '02:00:00:00:06:01', marker });
      await peer.sendFrames(frame);
      await arriving.waitFor(marker);
      expect(await arriving.stop()).toEqual([frame]);
      await peer.end();
      await relay.stop();
    }
  });

  it('knows no MTU: one of 1300 holds on both sides, and content passes', async () => {
    const sandbox = box.current;
    const mtu = 1300;
    const relay = await startRelay(sandbox, { network: NETWORK, args: ['--mtu', String(mtu)] });
    const container = await joinContainer(sandbox, relay, { address: '10.9.0.2/24' });
    expect((await container.interface())?.mtu).toBe(mtu);
    const { stdout } = await sandbox.exec('ip', ['-j', 'link', 'show', relay.tap]);
    expect(JSON.parse(stdout)).toMatchObject([{ mtu }]);
    await container.waitUntilPings(partner.address);
    const largest = mtu - 20 - 8;
    const ping = (sizeBytes: number) =>
      container.exec('ping', [
        '-n',
        '-c1',
        '-W5',
        '-M',
        'do',
        '-s',
        String(sizeBytes),
        '-I',
        INTERFACE,
        partner.address,
      ]);
    await ping(largest);
    await expect(ping(largest + 1)).rejects.toThrow(/message too long/i);
    const content = Buffer.alloc(100_000, 'content');
    for (const [from, to] of [
      [container, { netns: partner.netns, address: partner.address }],
      [partner, { netns: container.netns, address: '10.9.0.2' }],
    ] as const) {
      const { sent, received } = await transfer(sandbox, 'tcp', from, to, content);
      expect(received).toBe(sent);
    }
  });
});
