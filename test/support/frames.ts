/** Ethernet frames sent and captured inside a network namespace, by test/tools/frame_tool.cc. */
import { run } from '../../src/exec.js';
import { type Background, startInBackground } from './background.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';
import { FRAME_TOOL } from './tools.js';

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** Local experimental EtherType 2 (IEEE 802); type 1 is HELLO's. */
const TEST_ETHERTYPE = '88b6';

export interface TestFrame {
  readonly destination: string;
  readonly source: string;
  /** Hex; what a listener looks for, so no other frame of the test may hold it. */
  readonly marker: string;
  readonly etherType?: string;
  /** Of the frame in bytes; 60 by default. */
  readonly sizeBytes?: number;
}

/** The frame in hex, padded with zeros. */
export function frameHex({
  destination,
  source,
  marker,
  etherType = TEST_ETHERTYPE,
  sizeBytes = 60,
}: TestFrame): string {
  const head = `${destination}${source}`.replaceAll(':', '') + etherType + marker;
  return head.padEnd(sizeBytes * 2, '0');
}

let markerCount = 0;

/** Eight bytes in hex that no other frame of this test run holds. */
export function newMarker(): string {
  markerCount++;
  const text = `${process.pid.toString(16).padStart(8, '0')}${markerCount.toString(16).padStart(6, '0')}`;
  return `a5${text.slice(-14)}`;
}

export interface Capture {
  /** Frames in hex that came in and held the marker, so far. A VLAN tag that the kernel took off is put back. */
  readonly frames: readonly string[];
  /** Resolves with the first frame that holds this, also one that is past. */
  waitFor(hex: string, timeoutMs?: number): Promise<string>;
  stop(): Promise<readonly string[]>;
}

export interface SendOptions {
  readonly count?: number;
  readonly intervalUs?: number;
  /** Each frame begins with a virtio-net header, which asks for checksum and segmentation. */
  readonly withVirtioNetHeader?: boolean;
}

/** Sends each frame `count` times, in turn. Resolves when all are sent. */
export async function sendFrames(
  netns: string,
  device: string,
  frames: readonly string[],
  { count = 1, intervalUs = 0, withVirtioNetHeader = false }: SendOptions = {},
): Promise<void> {
  const args = ['send', device, ...frames, '--count', String(count), '--interval-us', String(intervalUs)];
  if (withVirtioNetHeader) args.push('--virtio-net-header');
  await run('ip', ['netns', 'exec', netns, FRAME_TOOL, ...args], {
    timeoutMs: scaled(10_000) + (2 * count * frames.length * intervalUs) / 1000,
  });
}

/** Sends for as long as the test runs, or until it is destroyed. */
export function keepSending(
  sandbox: TestSandbox,
  netns: string,
  device: string,
  frames: readonly string[],
  intervalUs = 1000,
): Background {
  const args = ['send', device, ...frames, '--count', '1000000000', '--interval-us', String(intervalUs)];
  const sending = startInBackground('ip', ['netns', 'exec', netns, FRAME_TOOL, ...args]);
  sandbox.defer(sending.destroy);
  return sending;
}

/** Captures what comes in on a device and holds these bytes. Resolves when the socket is bound. */
export async function capture(sandbox: TestSandbox, netns: string, device: string, match: string): Promise<Capture> {
  const limitMs = scaled(120_000);
  const args = ['listen', device, '--match', match, '--timeout', String(limitMs)];
  const listening = startInBackground('ip', ['netns', 'exec', netns, FRAME_TOOL, ...args]);
  sandbox.defer(listening.destroy);
  await listening.stdout.waitFor(/^listening$/);
  const frames = (): readonly string[] => listening.stdout.all.slice(1);
  return {
    get frames() {
      return frames();
    },
    waitFor: (hex, timeoutMs = 5_000) =>
      listening.stdout.waitFor((line) => line.includes(hex.toLowerCase()), { since: 1, timeoutMs }),
    async stop() {
      // It prints all that was queued on its socket before it ends.
      listening.kill('SIGTERM');
      await listening.ended;
      return frames();
    },
  };
}
