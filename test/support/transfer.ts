/** Content from one namespace to another over TCP or UDP, by test/tools/transfer_tool.cc, compared by its hash. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { TestSandbox } from './sandbox.js';
import { within } from './time.js';
import { TRANSFER_TOOL } from './tools.js';

export type Transport = 'tcp' | 'udp';
/** `udp-segments` hands several datagrams to the kernel at once. */
type Sending = Transport | 'udp-segments';

interface Place {
  readonly netns: string;
}

const PORT = 5401;

interface Transfer {
  /** SHA-256, in hex. */
  readonly sent: string;
  readonly received: string;
}

export async function transfer(
  sandbox: TestSandbox,
  transport: Sending,
  from: Place,
  to: Place & { readonly address: string },
  content: Uint8Array,
  timeoutMs = 20_000,
): Promise<Transfer> {
  const what = `${content.length} bytes over ${transport} from ${from.netns} to ${to.address}`;
  const receiver = start(sandbox, to, 'receive', transport === 'tcp' ? 'tcp' : 'udp', to.address);
  const hash = createHash('sha256');
  receiver.stdout.on('data', (bytes: Buffer) => hash.update(bytes));
  await within(said(receiver, 'listening\n'), `${to.netns} to listen for ${what}`);
  const sender = start(sandbox, from, 'send', transport, to.address);
  sender.stdin.end(content);
  await within(Promise.all([ended(sender), ended(receiver)]), what, timeoutMs);
  return { sent: createHash('sha256').update(content).digest('hex'), received: hash.digest('hex') };
}

function start(sandbox: TestSandbox, { netns }: Place, ...args: string[]): ChildProcessWithoutNullStreams {
  const [command, ...rest] = ['ip', 'netns', 'exec', netns, TRANSFER_TOOL, ...args, String(PORT)] as const;
  const child = spawn(command, rest);
  child.stdin.on('error', () => {});
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  sandbox.defer(async () => {
    child.kill('SIGKILL');
    await within(closed, 'the end of transfer-tool');
  });
  return child;
}

function said(child: ChildProcessWithoutNullStreams, line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (more: string) => {
      text += more;
      if (text.startsWith(line)) resolve();
    });
    child.once('error', reject);
    child.once('close', () => reject(new Error(`transfer-tool: ${text}`)));
  });
}

function ended(child: ChildProcessWithoutNullStreams): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`transfer-tool ended with ${code}`));
    });
  });
}
