/** A container: a network namespace that has nothing but the interface that arca-tap makes in it. */
import { createHash, randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { CommandError, type Output, run } from '../../src/exec.js';
import { type Background, startInBackground } from './background.js';
import type { RelayProcess } from './relay.js';
import type { TestSandbox } from './sandbox.js';
import { eventually, scaled } from './time.js';

export const TAP_PROGRAM = fileURLToPath(new URL('../../build/Release/arca-tap', import.meta.url));
export const INTERFACE = 'eth0';

export interface Interface {
  readonly mac: string;
  readonly mtu: number;
  readonly hasCarrier: boolean;
  /** CIDR, IPv4 and IPv6, without link-local. */
  readonly addresses: readonly string[];
}

export interface Container {
  readonly netns: string;
  /** Starts arca-tap; what it is told beside `--connect`, `--tap` and `--netns` stands in `args`. */
  startTap(connectAddress: string, args?: readonly string[]): Background;
  /** Nothing while there is no such interface. */
  interface(): Promise<Interface | undefined>;
  /** Resolves when the interface is there with a carrier and at least one address. */
  waitUntilUp(timeoutMs?: number): Promise<Interface>;
  exec(command: string, args: readonly string[], timeoutMs?: number): Promise<Output>;
  /** Runs beside the test, to the end of it at most. */
  start(command: string, args: readonly string[], input?: Uint8Array | 'open'): Background;
  /** One echo request; whether an answer came within a second. */
  canPing(address: string): Promise<boolean>;
  /** Echo requests until one is answered. */
  waitUntilPings(address: string, timeoutMs?: number): Promise<void>;
  remove(): Promise<void>;
}

let containerCount = 0;

/** Gone at the end of the test. */
export async function createContainer(sandbox: TestSandbox, name = 'c'): Promise<Container> {
  const netns = `${sandbox.prefix}-${name}${containerCount++}`;
  const limits = { timeoutMs: scaled(10_000) };
  const started: Background[] = [];
  await run('ip', ['netns', 'add', netns], limits);

  const inside = (command: string, args: readonly string[]): [string, string[]] => [
    'ip',
    ['netns', 'exec', netns, command, ...args],
  ];
  let isRemoved = false;
  const container: Container = {
    netns,
    startTap(connectAddress, args = []) {
      const own = ['--connect', connectAddress, '--tap', INTERFACE, '--netns', netns];
      const tap = startInBackground(TAP_PROGRAM, [...own, ...args]);
      started.push(tap);
      return tap;
    },
    interface: () => readInterface(netns),
    waitUntilUp(timeoutMs) {
      let last: Interface | undefined;
      return eventually(
        () =>
          `${INTERFACE} of ${netns} up: ${JSON.stringify(last)}\n${started.flatMap(({ stderr }) => stderr.all).join('\n')}`,
        async () => {
          last = await readInterface(netns);
          if (!last?.hasCarrier || last.addresses.length === 0) return undefined;
          // ip asks for the link first and for its addresses then: the MAC may be of before the address came.
          return readInterface(netns);
        },
        timeoutMs,
      );
    },
    exec: (command, args, timeoutMs = 10_000) => run(...inside(command, args), { timeoutMs: scaled(timeoutMs) }),
    start(command, args, input) {
      const background = startInBackground(...inside(command, args), { input });
      started.push(background);
      return background;
    },
    async canPing(address) {
      try {
        await run(...inside('ping', ['-n', '-c1', '-W1', address]), { timeoutMs: scaled(3_000) });
        return true;
      } catch (error) {
        if (error instanceof CommandError && error.failure === 'exit-code') return false;
        throw error;
      }
    },
    async waitUntilPings(address, timeoutMs) {
      await eventually(
        `${netns} reaches ${address}`,
        async () => ((await container.canPing(address)) ? true : undefined),
        timeoutMs,
      );
    },
    async remove() {
      if (isRemoved) return;
      isRemoved = true;
      for (const background of started) await background.destroy();
      await run('ip', ['netns', 'delete', netns], limits);
    },
  };
  sandbox.defer(container.remove);
  return container;
}

/** A container with its arca-tap at that relay, both up. `address` is a CIDR; without one the relay tells it. */
export async function joinContainer(
  sandbox: TestSandbox,
  relay: RelayProcess,
  { name, address, args = [] }: { name?: string; address?: string; args?: readonly string[] } = {},
): Promise<Container & { readonly tap: Background }> {
  const container = await createContainer(sandbox, name);
  const since = relay.events.length;
  const tap = container.startTap(relay.endpoint.connectAddress, [
    ...(address === undefined ? [] : ['--address', address]),
    ...args,
  ]);
  await relay.waitFor('peer-connected', { since });
  await container.waitUntilUp();
  return { ...container, tap };
}

async function readInterface(netns: string): Promise<Interface | undefined> {
  let text: string;
  try {
    text = (await run('ip', ['-n', netns, '-j', 'addr', 'show', INTERFACE], { timeoutMs: scaled(5_000) })).stdout;
  } catch (error) {
    if (error instanceof CommandError && error.failure === 'exit-code') return undefined;
    throw error;
  }
  // ip prints nothing, and succeeds, for an interface that goes or comes between its two questions.
  if (text.trim() === '') return undefined;
  interface Link {
    address: string;
    mtu: number;
    flags: string[];
    addr_info: { scope: string; local: string; prefixlen: number }[];
  }
  const [link] = JSON.parse(text) as Link[];
  if (link === undefined) return undefined;
  return {
    mac: link.address,
    mtu: link.mtu,
    hasCarrier: link.flags.includes('LOWER_UP') && !link.flags.includes('NO-CARRIER'),
    addresses: link.addr_info
      .filter(({ scope }) => scope !== 'link')
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
  };
}

export interface Throughput {
  readonly bitsPerSecond: number;
  readonly receivedBytes: number;
  readonly retransmits: number;
}

const IPERF_PORT = 5201;

/** iperf3 over TCP from one container to another; `reverse` lets the server send. */
export async function measureTcp(
  client: Container,
  server: Container,
  serverAddress: string,
  { seconds = 1, reverse = false }: { seconds?: number; reverse?: boolean } = {},
): Promise<Throughput> {
  const limitMs = 20_000 + scaled(1000 * seconds);
  const limit = String(scaled(limitMs) / 1000);
  const listening = server.start('timeout', [limit, 'iperf3', '-s', '-1', '--forceflush', '-p', String(IPERF_PORT)]);
  await listening.stdout.waitFor(/Server listening/);
  const common = ['-c', serverAddress, '-p', String(IPERF_PORT), '-t', String(seconds), '-J'];
  const { stdout } = await client.exec('timeout', [limit, 'iperf3', ...common, ...(reverse ? ['-R'] : [])], limitMs);
  await listening.ended;
  interface Sum {
    bits_per_second: number;
    bytes: number;
    retransmits?: number;
  }
  const { end } = JSON.parse(stdout) as { end: { sum_sent: Sum; sum_received: Sum } };
  return {
    bitsPerSecond: end.sum_received.bits_per_second,
    receivedBytes: end.sum_received.bytes,
    retransmits: end.sum_sent.retransmits ?? 0,
  };
}

const TRANSFER_PORT = 5301;

/** Sends random bytes over one TCP connection; what arrived is compared by its hash. */
export async function transferTcp(
  from: Container,
  to: Container,
  toAddress: string,
  sizeBytes: number,
): Promise<{ readonly sent: string; readonly received: string }> {
  const content = randomBytes(sizeBytes);
  const receiver = to.start('timeout', [
    String(scaled(30_000) / 1000),
    ...['socat', '-d', '-d', '-u', `TCP-LISTEN:${TRANSFER_PORT},reuseaddr`, 'SYSTEM:sha256sum'],
  ]);
  await receiver.stderr.waitFor(/listening on/);
  const sender = from.start(
    'timeout',
    [String(scaled(30_000) / 1000), 'socat', '-u', '-', `TCP:${toAddress}:${TRANSFER_PORT}`],
    content,
  );
  await sender.ended;
  const line = await receiver.stdout.waitFor(/^[0-9a-f]{64}/, { timeoutMs: 30_000 });
  return { sent: createHash('sha256').update(content).digest('hex'), received: line.slice(0, 64) };
}
