/**
 * Leases by DHCP for devices of a state file: a client of the distribution, one for each device, that lives on when we end.
 * packaging/dhcp-event does what it is told about the lease. A client is known by its pid file in the run directory.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ArcaError, errnoOf } from '../errors.js';
import { CommandError, run } from '../exec.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { packageRoot } from '../package-root.js';
import { findProcess, type ProcessInfo, signalProcess, waitForExit } from '../processes.js';

export interface DhcpPlace {
  /** Holds a pid file for each client; made when the first is started. One for each network namespace. */
  readonly runDir: string;
}

export const DEFAULT_DHCP_PLACE: DhcpPlace = { runDir: '/run/arca-state' };

interface DhcpFiles {
  readonly pid: string;
  /** Written by packaging/dhcp-event: the address of the lease. */
  readonly address: string;
  readonly leases: string;
}

interface DhcpClient {
  readonly command: string;
  readonly debianPackage: string;
  /** Asks for a lease, goes into the background when it has one, and fails when there is none. */
  args(device: string, files: DhcpFiles, timeoutMs: number): readonly string[];
}

const EVENT_SCRIPT = join(packageRoot, 'packaging', 'dhcp-event');
const EVENT_VARIABLE = 'ARCA_DHCP_STATE';

/** The first that is installed is taken. udhcpc goes before: it needs no file but its pid file, and says why it fails. */
const CLIENTS: readonly DhcpClient[] = [
  {
    ...{ command: 'udhcpc', debianPackage: 'udhcpc' },
    args: (device, { pid }, timeoutMs) => [
      ...['-i', device, '-p', pid, '-s', EVENT_SCRIPT],
      // One packet a second, for as long as there is time; without a lease it ends (-n). At its end it gives the lease back (-R).
      ...['-T', '1', '-t', String(Math.max(2, Math.floor(timeoutMs / 1000))), '-n', '-R'],
    ],
  },
  {
    ...{ command: 'dhclient', debianPackage: 'isc-dhcp-client' },
    args: (device, { pid, leases, address }) => [
      ...['-4', '-1', '-q', '-pf', pid, '-lf', leases, '-sf', EVENT_SCRIPT],
      // It gives its script no other variables.
      ...['-e', `${EVENT_VARIABLE}=${address}`, device],
    ],
  },
];

/** How long a client may take to give its lease back before it is killed. */
const STOP_GRACE_MS = 2_000;

/** Clients of ours that run: the address of the lease by device; nothing: it has none, or none any more. */
export async function readDhcpClients({ runDir }: DhcpPlace): Promise<ReadonlyMap<string, string | undefined>> {
  const names = await readdir(runDir).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const clients = new Map<string, string | undefined>();
  for (const name of names) {
    const [, device] = /^dhcp-(.+)\.pid$/.exec(name) ?? [];
    if (device === undefined) continue;
    const files = filesOf(runDir, device);
    if ((await findClient(device, files)) !== undefined) clients.set(device, await readLease(files));
  }
  return clients;
}

/**
 * Resolves when there is a lease. A client that runs already is ended before: it is one without a lease, or on a device
 * that was made again meanwhile. Rejects with `command-missing` when no client is installed, and with `command-failed` or
 * `timed-out` when there was no lease; then no client is left.
 */
export async function startDhcp(device: string, place: DhcpPlace, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const files = filesOf(place.runDir, device);
  await stopDhcp(device, place, left());
  await mkdir(place.runDir, { recursive: true, mode: 0o755 });
  for (const { command, args } of CLIENTS) {
    const env = { ...process.env, [EVENT_VARIABLE]: files.address };
    try {
      await run(command, args(device, files, left().timeoutMs), { ...left(), env });
      return;
    } catch (cause) {
      if (!(cause instanceof CommandError)) throw cause;
      if (cause.failure === 'not-found') continue;
      // It may have gone into the background in its last moment.
      await stopDhcp(device, place, { timeoutMs: 2 * STOP_GRACE_MS });
      const isTime = cause.failure === 'timed-out' || cause.failure === 'aborted';
      const said = cause.output.stderr.trim().split('\n').at(-1) || cause.message;
      throw new ArcaError(
        isTime ? 'timed-out' : 'command-failed',
        `no lease by DHCP on ${device}: ${command}: ${said}. Does a DHCP server answer there?`,
        { cause },
      );
    }
  }
  const packages = CLIENTS.map(({ debianPackage }) => debianPackage).join(' or ');
  throw new ArcaError(
    'command-missing',
    `dhcp on ${device} wants a DHCP client, and none is installed (Debian: ${packages})`,
  );
}

/** Resolves when the client is gone, and with it the address of its lease; at once when there is neither. */
export async function stopDhcp(device: string, { runDir }: DhcpPlace, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const files = filesOf(runDir, device);
  const client = await findClient(device, files);
  if (client !== undefined) {
    signalProcess(client.pid, 'SIGTERM');
    if (!(await waitForExit([client], Math.min(STOP_GRACE_MS, left().timeoutMs)))) {
      signalProcess(client.pid, 'SIGKILL');
      if (!(await waitForExit([client], left().timeoutMs))) {
        throw new ArcaError('timed-out', `the DHCP client of ${device} (pid ${client.pid}) does not end`);
      }
    }
  }
  await removeLease(device, files, left());
  await removeFiles(files);
}

/** What a client that was killed has left. */
async function removeLease(device: string, files: DhcpFiles, call: CallOptions): Promise<void> {
  const address = await readLease(files);
  if (address === undefined) return;
  try {
    await run('ip', ['address', 'del', address, 'dev', device], call);
  } catch (cause) {
    // Exit code 2: the kernel says no, for the lease has run out.
    if (cause instanceof CommandError && (cause.exitCode === 2 || isDeviceGone(cause))) return;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ArcaError('command-failed', `can not remove ${address}, the lease of ${device}: ${why}`, { cause });
  }
}

/** ip(8) looks for it before it asks the kernel. */
function isDeviceGone({ output }: CommandError): boolean {
  return output.stderr.includes('Cannot find device');
}

function filesOf(runDir: string, device: string): DhcpFiles {
  const file = (kind: string): string => join(runDir, `dhcp-${device}.${kind}`);
  return { pid: file('pid'), address: file('address'), leases: file('leases') };
}

/** The pid may be somebody else's by now: it has to be a client, of that device and that file. */
async function findClient(device: string, files: DhcpFiles): Promise<ProcessInfo | undefined> {
  const pid = Number(await readText(files.pid));
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const found = await findProcess(pid);
  const isClient =
    found !== undefined &&
    CLIENTS.some(({ command }) => basename(found.args[0] ?? '') === command) &&
    found.args.includes(device) &&
    found.args.includes(files.pid);
  return isClient ? found : undefined;
}

async function readLease({ address }: DhcpFiles): Promise<string | undefined> {
  return (await readText(address))?.trim() || undefined;
}

async function removeFiles({ pid, address, leases }: DhcpFiles): Promise<void> {
  for (const file of [pid, address, leases]) await rm(file, { force: true });
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
