/** arca-control as its user starts it, in the sandbox's network namespace, and what a test asks it. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ControlClient, createClient } from '../../src/control/client.js';
import type { Attachment, AttachmentSpec, ControlEvent, Network, NetworkSpec } from '../../src/control/model.js';
import { findProcesses } from '../../src/processes.js';
import { type Ended, startInBackground } from './background.js';
import { type Container, createContainer, type Interface } from './container.js';
import { testTransport } from './endpoint.js';
import type { TestSandbox } from './sandbox.js';
import { eventually, scaled, within } from './time.js';

export const CONTROL_PROGRAM = fileURLToPath(new URL('../../dist/cli/arca-control.js', import.meta.url));

const CALL_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;

export interface ControlProcess extends ControlClient {
  readonly pid: number;
  readonly runDir: string;
  readonly socketPath: string;
  /** All events since it answered; grows. */
  readonly seen: readonly ControlEvent[];
  /** The first such event of those from `since` on, also one that is past. */
  waitForEvent(
    matches: (event: ControlEvent) => boolean,
    options?: { readonly since?: number; readonly timeoutMs?: number },
  ): Promise<ControlEvent>;
  log(): string;
  isRunning(): boolean;
  readonly ended: Promise<Ended>;
  /** SIGKILL, and its end. Its relays go on. */
  kill(): Promise<void>;
  /** SIGTERM, and its end. Its relays go on. */
  stop(): Promise<Ended>;
}

export interface ControlStart {
  /** Another one's, to come after it. */
  readonly runDir?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

let controlCount = 0;

/** A run directory that is gone at the end of the test, with the relays that live there. */
function newRunDir(sandbox: TestSandbox): string {
  const runDir = join(sandbox.runDir, `c${controlCount++}`);
  sandbox.defer(async () => {
    await endRelays(runDir);
    await rm(runDir, { recursive: true, force: true });
  });
  return runDir;
}

/** Ends what lives in a run directory in its own way, so that its ports go, too. */
async function endRelays(runDir: string): Promise<void> {
  const find = () => findProcesses((args) => args.some((arg) => arg.startsWith(`--metrics=unix:${runDir}/`)));
  for (const { pid } of await find()) process.kill(pid, 'SIGTERM');
  await eventually(
    'the end of the relays',
    async () => ((await find()).length === 0 ? true : undefined),
    STOP_TIMEOUT_MS,
  ).catch(async () => {
    for (const { pid } of await find()) process.kill(pid, 'SIGKILL');
  });
}

/** Starts it, and does not wait. It is stopped at the end of the test if it still runs. */
export function spawnControl(sandbox: TestSandbox, start: ControlStart = {}) {
  const runDir = start.runDir ?? newRunDir(sandbox);
  const socketPath = join(runDir, 'control.sock');
  const at = (name: string): string => `unix:${join(sandbox.runDir, name)}`;
  const args = [
    ...['--run-dir', runDir, '--listen', `unix:${socketPath}`],
    ...['--ovs', at('db.sock'), '--nb', at('ovnnb_db.sock'), '--sb', at('ovnsb_db.sock')],
    ...['--log-format', 'json', '--log-level', 'debug'],
    ...(start.args ?? []),
  ];
  const background = startInBackground(...sandbox.inNamespace(process.execPath, [CONTROL_PROGRAM, ...args]), {
    env: { ...sandbox.fullEnv, ...start.env },
  });
  sandbox.defer(async () => {
    background.kill('SIGTERM');
    await within(background.ended, 'the end of arca-control', STOP_TIMEOUT_MS).catch(() => {});
    await background.destroy();
  });
  return { background, runDir, socketPath };
}

/** Starts it, and resolves when it answers. */
export async function startControl(sandbox: TestSandbox, start: ControlStart = {}): Promise<ControlProcess> {
  const { background, runDir, socketPath } = spawnControl(sandbox, start);
  const log = (): string => background.stderr.all.join('\n');
  const client = createClient({ path: socketPath, timeoutMs: scaled(CALL_TIMEOUT_MS) });
  const stream = await eventually(
    () => `arca-control answers:\n${log()}`,
    async () => {
      if (!background.isRunning()) throw new Error(`arca-control ended:\n${log()}`);
      return client.openEvents().catch(() => undefined);
    },
    10_000,
  );
  const seen: ControlEvent[] = [];
  const looks = new Set<() => void>();
  const reading = (async () => {
    for await (const event of stream.events) {
      seen.push(event);
      for (const look of [...looks]) look();
    }
  })();
  reading.catch(() => {});
  sandbox.defer(async () => stream.close());

  return {
    ...client,
    pid: background.pid,
    runDir,
    socketPath,
    seen,
    async waitForEvent(matches, { since = 0, timeoutMs = 15_000 } = {}) {
      let look: (() => void) | undefined;
      const found = new Promise<ControlEvent>((resolve) => {
        look = () => {
          const event = seen.slice(since).find(matches);
          if (event !== undefined) resolve(event);
        };
        looks.add(look);
        look();
      });
      const story = (): string =>
        `an event ${matches} of:\n${seen.map((event) => JSON.stringify(event)).join('\n')}\nlog:\n${log()}`;
      try {
        return await within(found, story, timeoutMs);
      } finally {
        if (look) looks.delete(look);
      }
    },
    log,
    isRunning: background.isRunning,
    ended: background.ended,
    async kill() {
      background.kill('SIGKILL');
      await within(background.ended, 'the end of arca-control', STOP_TIMEOUT_MS);
    },
    async stop() {
      background.kill('SIGTERM');
      return within(background.ended, () => `the end of arca-control:\n${log()}`, STOP_TIMEOUT_MS);
    },
  };
}

/**
 * An attachment over what the tests move frames by: a Unix socket, or in the nested kernel a vsock port that arca-control
 * draws.
 */
export function specHere(sandbox: TestSandbox, container: string, network: string): AttachmentSpec {
  if (testTransport() === 'vsock') return { container, network };
  const path = join(sandbox.runDir, `${container}-${network}.ep`);
  return { container, network, endpoint: { transport: 'unix', path } };
}

/** Where arca-tap connects for it. */
export function connectAddress({ endpoint }: Attachment): string {
  return endpoint.transport === 'unix' ? `unix:${endpoint.path}` : `vsock:1:${endpoint.port}`;
}

/** Removed at the end of the test, with its ports. */
export async function makeNetwork(
  sandbox: TestSandbox,
  control: ControlProcess,
  spec: Partial<NetworkSpec> = {},
): Promise<Network> {
  const name = spec.name ?? sandbox.uniqueName('net-');
  sandbox.defer(async () => {
    await sandbox.nbctl('--if-exists', 'ls-del', name);
  });
  return (await control.createNetwork({ subnet: nextSubnet(), ...spec, name })).value;
}

let subnetCount = 0;
function nextSubnet(): string {
  subnetCount++;
  return `10.${80 + Math.floor(subnetCount / 256)}.${subnetCount % 256}.0/24`;
}

export interface Joined extends Container {
  /** As it was when it was attached. */
  readonly attachment: Attachment;
  readonly eth0: Interface;
  /** Without prefix length. */
  readonly address: string;
}

/** Attached, and its container's end up, which is told nothing but where to connect. */
export async function joinNetwork(
  sandbox: TestSandbox,
  control: ControlProcess,
  container: string,
  network: string,
): Promise<Joined> {
  const { value: attachment } = await control.attach(specHere(sandbox, container, network));
  const inside = await createContainer(sandbox, container.slice(0, 4));
  inside.startTap(connectAddress(attachment));
  const eth0 = await inside.waitUntilUp(15_000);
  return { ...inside, attachment, eth0, address: addressOf(attachment) };
}

export function addressOf({ addresses }: Attachment): string {
  return (addresses[0] ?? '').split('/')[0] ?? '';
}

/** The rows of both OVN databases, without the counters that every look at northd raises. */
export async function ovnRows({ nbctl, exec }: TestSandbox): Promise<readonly string[]> {
  await nbctl('--wait=sb', 'sync');
  const northbound = ['Logical_Switch', 'Logical_Switch_Port', 'DHCP_Options', 'Address_Set', 'DNS'];
  const southbound = ['Datapath_Binding', 'Port_Binding', 'Chassis', 'MAC_Binding'];
  const list = async (tool: string, table: string): Promise<string> => {
    const { stdout } = await exec(tool, ['--format=json', 'list', table]);
    return `${table} ${stdout.trim()}`;
  };
  return Promise.all([
    ...northbound.map((table) => list('ovn-nbctl', table)),
    ...southbound.map((table) => list('ovn-sbctl', table)),
  ]);
}

/** Echo requests, one each 50 ms, until `stop`, which gives how many were lost. */
export async function startPing(from: Container, address: string) {
  const ping = from.start('ping', ['-n', '-i', '0.05', '-W', '1', address]);
  await ping.stdout.waitFor(/icmp_seq=3 /);
  const answered = (): number => ping.stdout.all.filter((line) => line.includes('bytes from')).length;
  return {
    answered,
    /** So many answers more than there are now. */
    async waitForMore(count: number): Promise<void> {
      const goal = answered() + count;
      await eventually(
        () => `${count} more answers from ${address}; now ${answered()} of ${goal}`,
        () => (answered() >= goal ? true : undefined),
        20_000,
      );
    },
    async stop(): Promise<{ readonly sent: number; readonly lost: number }> {
      ping.kill('SIGINT');
      await within(ping.ended, 'the end of ping');
      const [, sent = '', received = ''] = /(\d+) packets transmitted, (\d+)/.exec(ping.stdout.all.join('\n')) ?? [];
      // The last request may be on its way when it is stopped.
      return { sent: Number(sent), lost: Math.max(0, Number(sent) - Number(received) - 1) };
    },
  };
}

/** The relays' files that a run directory holds. */
export async function relayFiles(control: ControlProcess): Promise<readonly string[]> {
  return (await readdir(join(control.runDir, 'relays'))).sort();
}
