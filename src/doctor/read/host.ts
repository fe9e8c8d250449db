/** Devices, modules, capabilities, programs and versions of this machine. Nothing here connects to vsock. */
import { constants as fsConstants } from 'node:fs';
import { access, open, readdir, readFile, stat } from 'node:fs/promises';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { CommandError, run } from '../../exec.js';
import { OVS_DATABASE } from '../../ovs/port-commands.js';
import { withOvsdb } from '../../ovsdb/client.js';
import { type CallOptions, deadlineOf, isRecord } from '../../ovsdb/json-rpc.js';

export type TunFacts =
  | { readonly state: 'opens' }
  | { readonly state: 'missing' }
  /** There is something else in its place: what. */
  | { readonly state: 'other'; readonly what: string }
  | { readonly state: 'fails'; readonly errno: string };

export interface VsockFacts {
  readonly hasDevice: boolean;
  /** Of `VSOCK_TRANSPORTS`, those that the kernel has loaded. */
  readonly transports: readonly string[];
}

export interface CapabilityFacts {
  /** `this process`, or `arca-control (process N)`. */
  readonly who: string;
  readonly isControl: boolean;
  /** CapEff of proc(5). */
  readonly effective: bigint;
}

/** Name of a program to where it is. */
export type ToolFacts = ReadonlyMap<string, string | undefined>;

export interface VersionFacts {
  readonly kernel: string;
  /** Of ovs-vswitchd's program, as it is installed now; nothing: it is not. */
  readonly installedOvs: string | undefined;
  /** Of the database that runs, and of the schema file that is installed. */
  readonly databaseSchema: string | undefined;
  readonly installedSchema: string | undefined;
}

const TUN = '/dev/net/tun';
/** Documentation/admin-guide/devices.txt. */
const MISC_MAJOR = 10;
const TUN_MINOR = 200;

/** Kernel module to what it is for. */
export const VSOCK_TRANSPORTS: Readonly<Record<string, string>> = {
  vhost_vsock: 'for the VMs of this host',
  vmw_vsock_virtio_transport: 'to the host of this VM',
  hv_sock: 'to the host of this VM (Hyper-V)',
  vmw_vsock_vmci_transport: 'to the host of this VM (VMware)',
  vsock_loopback: 'for this machine alone',
};

/** What relays, arca-control and this need: program to Debian's package. */
export const TOOL_PACKAGES: Readonly<Record<string, string>> = {
  'ovs-vsctl': 'openvswitch-switch',
  'ovs-ofctl': 'openvswitch-switch',
  'ovn-nbctl': 'ovn-common',
  ip: 'iproute2',
  flock: 'util-linux',
};

const SCHEMA_FILE = '/usr/share/openvswitch/vswitch.ovsschema';

export async function readTun(): Promise<TunFacts> {
  let number: number;
  try {
    const stats = await stat(TUN);
    if (!stats.isCharacterDevice()) return { state: 'other', what: 'no character device' };
    number = stats.rdev;
  } catch (error) {
    const errno = errnoOf(error) ?? String(error);
    return errno === 'ENOENT' || errno === 'ENOTDIR' ? { state: 'missing' } : { state: 'fails', errno };
  }
  // makedev(3), for numbers of this size.
  const [major, minor] = [number >> 8, number & 0xff];
  if (major !== MISC_MAJOR || minor !== TUN_MINOR) {
    return { state: 'other', what: `device ${major}:${minor}` };
  }
  try {
    // Opening it makes no device: that takes an ioctl.
    await (await open(TUN, fsConstants.O_RDWR | fsConstants.O_NONBLOCK)).close();
    return { state: 'opens' };
  } catch (error) {
    return { state: 'fails', errno: errnoOf(error) ?? String(error) };
  }
}

/** By what the kernel shows: a socket could reach somebody. */
export async function readVsock(): Promise<VsockFacts> {
  const hasDevice = await stat('/dev/vsock').then(
    (stats) => stats.isCharacterDevice() && stats.rdev >> 8 === MISC_MAJOR,
    () => false,
  );
  const loaded = new Set(await readdir('/sys/module').catch(() => []));
  // A kernel without /sys/module of its own still lists what it has loaded.
  const modules = await readFile('/proc/modules', 'utf8').catch(() => '');
  for (const line of modules.split('\n')) loaded.add(line.split(' ', 1)[0] ?? '');
  return { hasDevice, transports: Object.keys(VSOCK_TRANSPORTS).filter((name) => loaded.has(name)) };
}

export async function readCapabilities(controlPid: number | undefined): Promise<readonly CapabilityFacts[]> {
  const own = { who: 'this process', isControl: false, effective: await effectiveOf('self') };
  if (controlPid === undefined) return [own];
  const who = `arca-control (process ${controlPid})`;
  return [own, { who, isControl: true, effective: await effectiveOf(String(controlPid)) }];
}

async function effectiveOf(pid: string): Promise<bigint> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  if (mask === undefined) throw new Error(`/proc/${pid}/status has no CapEff`);
  return BigInt(`0x${mask}`);
}

export async function readTools(env: NodeJS.ProcessEnv): Promise<ToolFacts> {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(Boolean);
  const found = await Promise.all(
    Object.keys(TOOL_PACKAGES).map(async (name) => [name, await findProgram(name, folders)] as const),
  );
  return new Map(found);
}

async function findProgram(name: string, folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const path = join(folder, name);
    const isThere = await access(path, fsConstants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}

/** Rejects when the database does not say what its schema is. What is not installed has no version. */
export async function readVersions(ovsSocketPath: string, call: CallOptions): Promise<VersionFacts> {
  const left = deadlineOf(call);
  const target = { transport: 'unix', path: ovsSocketPath } as const;
  const [installedOvs, { version: databaseSchema }, installedSchema] = await Promise.all([
    installedVersion(left()),
    withOvsdb(target, left(), (client, rest) => client.getSchema(OVS_DATABASE, rest())),
    installedSchemaVersion(),
  ]);
  return { kernel: release(), installedOvs, databaseSchema, installedSchema };
}

async function installedVersion(call: CallOptions): Promise<string | undefined> {
  try {
    return (await run('ovs-vswitchd', ['--version'], call)).stdout.split('\n', 1)[0];
  } catch (error) {
    if (error instanceof CommandError && error.failure === 'not-found') return undefined;
    throw error;
  }
}

async function installedSchemaVersion(): Promise<string | undefined> {
  try {
    return versionOf(JSON.parse(await readFile(SCHEMA_FILE, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function versionOf(schema: unknown): string | undefined {
  const version = isRecord(schema) ? schema['version'] : undefined;
  return typeof version === 'string' ? version : undefined;
}
