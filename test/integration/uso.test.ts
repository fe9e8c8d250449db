/**
 * UDP segmentation, by option: two arca-tap, one at each end of a stream. No switch is between: the userspace datapath
 * takes none, and the nested kernel with the kernel datapath is older than Linux 6.2.
 */
import { randomBytes } from 'node:crypto';
import { release } from 'node:os';
import { describe, expect, it } from 'vitest';
import { type Container, createContainer, INTERFACE, TAP_PROGRAM } from '../support/container.js';
import { newEndpoint } from '../support/endpoint.js';
import { capture } from '../support/frames.js';
import { useSandbox } from '../support/sandbox.js';
import { transfer } from '../support/transfer.js';

/** Source 10.9.7.2 and destination 10.9.7.3, as they stand in the IP header. */
const UDP_TO_RECEIVER = '0a0907020a090703';
const SIZE_BYTES = 200_000;
const LARGEST_FRAME_BYTES = 1514;
const [major = 0, minor = 0] = release().split('.').map(Number);
const knowsUso = major > 6 || (major === 6 && minor >= 2);

/** What this kernel can't show is no test here. */
const noTests = (_name: string, _body: () => void): void => {};

const box = useSandbox();

interface Pair {
  readonly sender: Container;
  readonly receiver: Container;
}

async function joinBoth(offloadOfSender: string, offloadOfReceiver: string): Promise<Pair> {
  const { listenAddress, connectAddress } = newEndpoint(box.current);
  const sender = await createContainer(box.current);
  const receiver = await createContainer(box.current);
  const args = (host: number, offload: string) => ['--address', `10.9.7.${host}/24`, '--offload', offload];
  const listener = sender.start(TAP_PROGRAM, ['--listen', listenAddress, ...args(2, offloadOfSender)]);
  // In its own way: it removes its socket.
  box.current.defer(async () => {
    listener.kill('SIGTERM');
    await listener.ended;
  });
  receiver.startTap(connectAddress, args(3, offloadOfReceiver));
  await sender.waitUntilUp();
  await receiver.waitUntilUp();
  return { sender, receiver };
}

/** Sizes in bytes of the UDP frames that the receiver's interface was given; the content arrived whole. */
async function sizesOfTransfer({ sender, receiver }: Pair): Promise<number[]> {
  const content = randomBytes(SIZE_BYTES);
  const arriving = await capture(box.current, receiver.netns, INTERFACE, UDP_TO_RECEIVER);
  const to = { netns: receiver.netns, address: '10.9.7.3' };
  const { sent, received } = await transfer(box.current, 'udp-segments', sender, to, content);
  expect(received).toBe(sent);
  return (await arriving.stop()).map((hex) => hex.length / 2);
}

(knowsUso ? describe : noTests)('UDP segmentation', () => {
  it('datagrams that were sent at once travel as one frame, and arrive one by one', async () => {
    const sizes = await sizesOfTransfer(await joinBoth('uso', 'uso'));
    expect(Math.max(...sizes)).toBeGreaterThan(2 * LARGEST_FRAME_BYTES);
  });

  it.each([
    ['uso', 'auto'],
    ['auto', 'uso'],
  ])('%s at the sender, %s at the receiver: the kernel parts them before they are sent', async (from, to) => {
    const sizes = await sizesOfTransfer(await joinBoth(from, to));
    expect(sizes.length).toBeGreaterThan(SIZE_BYTES / LARGEST_FRAME_BYTES);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(LARGEST_FRAME_BYTES);
  });
});

(knowsUso ? noTests : describe)('UDP segmentation on a kernel that has none', () => {
  it('is refused, and says what is missing', async () => {
    const { connectAddress } = newEndpoint(box.current);
    const container = await createContainer(box.current);
    const tap = container.startTap(connectAddress, ['--offload', 'uso']);
    expect(await tap.ended).toMatchObject({ exitCode: 1 });
    expect(tap.stderr.all.join('\n')).toContain('UDP segmentation');
  });
});
