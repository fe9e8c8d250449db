/**
 * Network devices, and who reads and holds them. All of the network namespace of this process: facts of another one
 * than ovs-vswitchd's would be wrong, so there are none then.
 */
import { readlinkSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { errnoOf } from '../../errors.js';
import { run } from '../../exec.js';
import type { CallOptions } from '../../ovsdb/json-rpc.js';
import { isRecord } from '../../ovsdb/json-rpc.js';
import type { DaemonFacts } from './daemon.js';

export interface Link {
  readonly name: string;
  readonly ifindex: number;
  /** Bytes. */
  readonly mtu: number;
  readonly isUp: boolean;
  readonly hasArp: boolean;
  /** Of the driver: `tun`, `veth`, `openvswitch`; empty for hardware. */
  readonly kind: string;
  /** For a TAP: it outlives whoever holds it. */
  readonly isPersistent: boolean;
  /** For a TAP: whoever opened it carries offloads. */
  readonly hasVnetHeader: boolean;
  /** It is a port of the kernel's datapath. */
  readonly isOvsSlave: boolean;
  readonly addresses: readonly string[];
}

/** Name of a TAP to the processes that have it open. */
export type TapHolders = ReadonlyMap<string, readonly number[]>;

export interface TapSettings {
  /** 0: none, 1: strict, 2: loose. As the kernel goes by it: the larger one of `all` and the device's own (ip-sysctl.rst). */
  readonly rpFilter: number;
  /** Nothing: this kernel has no IPv6. */
  readonly disableIpv6: number | undefined;
}

/** Rejects where ovs-vswitchd is in another network namespace, or it is not known in which. */
export async function readLinks(vswitchd: DaemonFacts, call: CallOptions): Promise<readonly Link[]> {
  const { pid, state, detail } = vswitchd;
  if (pid === undefined) throw new Error(`ovs-vswitchd does not run (${detail}): nobody says which devices are its`);
  const [own, its] = await Promise.all([namespaceOf('self'), namespaceOf(String(pid))]);
  if (own !== its) {
    throw new Error(
      `ovs-vswitchd (process ${pid}${state === 'answers' ? '' : `, which ${state}`}) is in another network namespace: ` +
        `look from there: nsenter --net=/proc/${pid}/ns/net arca doctor`,
    );
  }
  const { stdout } = await run('ip', ['-json', '-details', 'address', 'show'], call);
  return parseLinks(stdout);
}

/** Pure: what `ip -json -details address show` printed. */
export function parseLinks(printed: string): readonly Link[] {
  const parsed: unknown = JSON.parse(printed);
  if (!Array.isArray(parsed)) throw new Error('ip printed no list');
  return parsed.filter(isRecord).map((link) => {
    const info = isRecord(link['linkinfo']) ? link['linkinfo'] : {};
    const data = isRecord(info['info_data']) ? info['info_data'] : {};
    const flags = Array.isArray(link['flags']) ? link['flags'] : [];
    const addresses = Array.isArray(link['addr_info']) ? link['addr_info'].filter(isRecord) : [];
    return {
      name: String(link['ifname']),
      ifindex: Number(link['ifindex']),
      mtu: Number(link['mtu']),
      isUp: flags.includes('UP'),
      hasArp: !flags.includes('NOARP'),
      kind: typeof info['info_kind'] === 'string' ? info['info_kind'] : '',
      isPersistent: data['persist'] === true,
      hasVnetHeader: data['vnet_hdr'] === true,
      isOvsSlave: info['info_slave_kind'] === 'openvswitch',
      addresses: addresses.map((address) => String(address['local'])),
    };
  });
}

/** Indices of the devices to which that process has packet sockets bound: a device that was made anew has another. */
export async function readPacketSockets(pid: number): Promise<ReadonlySet<number>> {
  const inodes = new Set<string>();
  for (const target of (await openFiles(pid)).values()) {
    const [, inode] = /^socket:\[(\d+)\]$/.exec(target) ?? [];
    if (inode !== undefined) inodes.add(inode);
  }
  return parsePacketSockets(await readFile(`/proc/${pid}/net/packet`, 'utf8'), inodes);
}

/** Pure: `/proc/net/packet` has a socket a line: sk, RefCnt, Type, Proto, Iface, R, Rmem, User, Inode. */
export function parsePacketSockets(table: string, inodes: ReadonlySet<string>): ReadonlySet<number> {
  const devices = new Set<number>();
  for (const line of table.split('\n').slice(1)) {
    const [, , , , device, , , , inode] = line.trim().split(/\s+/);
    if (device !== undefined && inode !== undefined && inodes.has(inode)) devices.add(Number(device));
  }
  return devices;
}

/** By what each open /dev/net/tun says of itself (`iff:` in proc(5), fdinfo). Rejects for who may not look. */
export async function readTapHolders(): Promise<TapHolders> {
  if (process.getuid?.() !== 0) throw new Error('only root sees who holds a TAP device');
  const holders = new Map<string, number[]>();
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    for (const name of await tapsOf(pid)) holders.set(name, [...(holders.get(name) ?? []), pid]);
  }
  return holders;
}

async function tapsOf(pid: number): Promise<string[]> {
  const taps: string[] = [];
  for (const [fd, target] of await openFiles(pid)) {
    if (target !== '/dev/net/tun') continue;
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8').catch(() => '');
    const [, name] = /^iff:\s*(\S+)$/m.exec(info) ?? [];
    if (name !== undefined) taps.push(name);
  }
  return taps;
}

export async function readTapSettings(names: readonly string[]): Promise<ReadonlyMap<string, TapSettings>> {
  const settings = new Map<string, TapSettings>();
  for (const name of names) {
    const [ofAll = 0, own = 0] = [await sysctl('ipv4', 'all', 'rp_filter'), await sysctl('ipv4', name, 'rp_filter')];
    settings.set(name, { rpFilter: Math.max(ofAll, own), disableIpv6: await sysctl('ipv6', name, 'disable_ipv6') });
  }
  return settings;
}

async function sysctl(family: string, device: string, key: string): Promise<number | undefined> {
  try {
    return Number(await readFile(`/proc/sys/net/${family}/conf/${device}/${key}`, 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export async function namespaceOf(pid: string): Promise<string> {
  return readlink(`/proc/${pid}/ns/net`);
}

/**
 * By descriptor; a process that ends meanwhile has none. Not a promise for each: somebody may have tens of thousands
 * open, and that made seconds of milliseconds.
 */
async function openFiles(pid: number): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  const folder = `/proc/${pid}/fd`;
  const descriptors = await readdir(folder).catch(() => []);
  for (const fd of descriptors) {
    const target = linkTarget(`${folder}/${fd}`);
    if (target !== undefined) files.set(fd, target);
  }
  return files;
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
