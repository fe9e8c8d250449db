/** What there is on the machine for one sandbox: links, namespaces, OVS rows, processes, sockets. */
import { readdir } from 'node:fs/promises';
import { expect } from 'vitest';
import { run } from '../../src/exec.js';
import { findProcesses } from '../../src/processes.js';
import { IN_NESTED_KERNEL } from './nested-kernel.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';

/** Each list is sorted. Nothing in it changes when a daemon is restarted. */
export interface SystemSnapshot {
  /** `NETNS/NAME` */
  readonly links: readonly string[];
  readonly namespaces: readonly string[];
  readonly ports: readonly string[];
  readonly interfaces: readonly string[];
  /** Command lines of processes that name the run directory or one of our namespaces; daemons of OVS and OVN are left out. */
  readonly processes: readonly string[];
  /** In the run directory, without what OVS and OVN put there. */
  readonly files: readonly string[];
  /** Bound vsock sockets; none where the kernel has no vsock of its own. */
  readonly vsockListeners: readonly string[];
}

/** Databases, sockets, logs, pid files and locks of the daemons. Some carry a process id. */
const DAEMON_FILE = /^(ov[sn].*|br-.*|db\.sock|conf\.db|sandbox\.json|\..*\.~lock~|system-id\.conf)$/;
const DAEMONS = /(^|\/)(ovsdb-server|ovs-vswitchd|ovn-northd|ovn-controller)$/;

/** `namespaces`: those of containers whose links count too. */
export async function snapshot(sandbox: TestSandbox, namespaces: readonly string[] = []): Promise<SystemSnapshot> {
  const links: string[] = [];
  for (const netns of [sandbox.netns, ...namespaces]) {
    for (const name of await linkNames(netns)) links.push(`${netns}/${name}`);
  }
  const names = (table: string): string[] => ['--', '--columns=name', 'list', table];
  // One process for both: where system calls are dear, each counts. A blank line follows each row.
  const [ports = '', interfaces = ''] = (
    await sandbox.vsctl('--bare', ...names('Port'), '--', 'get', 'Open_vSwitch', '.', 'bridges', ...names('Interface'))
  ).split(/^\[.*\]$/m);
  const rows = (text: string): string[] => text.split('\n').filter(Boolean);
  const processes = await findProcesses(
    ([command = '', ...args]) => !DAEMONS.test(command) && args.some((arg) => arg.includes(sandbox.prefix)),
  );
  return sorted({
    links,
    namespaces: (await readdir('/run/netns')).filter((name) => name.startsWith(sandbox.prefix)),
    ports: rows(ports),
    interfaces: rows(interfaces),
    processes: processes.map(({ args }) => args.join(' ')),
    files: (await readdir(sandbox.runDir)).filter((name) => !DAEMON_FILE.test(name)),
    vsockListeners: await vsockListeners(),
  });
}

/** Fails with what is there after and was not there before. */
export function expectNothingMore(before: SystemSnapshot, after: SystemSnapshot): void {
  const more = (list: keyof SystemSnapshot): string[] => {
    const known = [...before[list]];
    return after[list].filter((entry) => {
      const at = known.indexOf(entry);
      if (at >= 0) known.splice(at, 1);
      return at < 0;
    });
  };
  const left = Object.fromEntries(Object.keys(before).map((list) => [list, more(list as keyof SystemSnapshot)]));
  expect(left).toEqual(Object.fromEntries(Object.keys(before).map((list) => [list, []])));
}

async function linkNames(netns: string): Promise<string[]> {
  const { stdout } = await run('ip', ['-n', netns, '-j', 'link'], { timeoutMs: scaled(5_000) });
  return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
}

async function vsockListeners(): Promise<string[]> {
  if (!IN_NESTED_KERNEL) return [];
  const { stdout } = await run('ss', ['--vsock', '-l', '-H'], { timeoutMs: scaled(5_000) });
  return stdout.split('\n').filter(Boolean);
}

function sorted(snapshot: SystemSnapshot): SystemSnapshot {
  const entries = Object.entries(snapshot).map(([list, values]) => [list, [...(values as string[])].sort()]);
  return Object.fromEntries(entries) as SystemSnapshot;
}
