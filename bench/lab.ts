/**
 * Where measures run: pairs of network namespaces of our own, and a directory for sockets. Names carry our process id,
 * so that any number of benches run side by side, and a later one can tell and remove what a killed one left.
 */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Output, run } from '../src/exec.js';
import { findProcesses, signalProcess, waitForExit } from '../src/processes.js';
import { openSandbox } from '../src/sandbox/sandbox.js';
import { BenchError } from './errors.js';
import { isAlive } from './proc.js';

const PREFIX = 'arca-bench-';
/** Of the run directories of sandboxes, in the lab's directory. */
export const SANDBOX_PREFIX = 'sandbox-';
const TOOL_TIMEOUT_MS = 5000;
const END_MS = 20_000;

/** Name of the interface under test, in both namespaces. */
export const INTERFACE = 'bench0';
export const ADDRESS_A = '10.77.0.1';
export const ADDRESS_B = '10.77.0.2';

export interface Pair {
  readonly a: string;
  readonly b: string;
  /** For sockets and files of what runs between the two. */
  readonly directory: string;
  remove(): Promise<void>;
}

export interface Lab {
  readonly directory: string;
  addNamespace(name: string): Promise<string>;
  removeNamespace(netns: string): Promise<void>;
  addPair(name: string): Promise<Pair>;
  close(): Promise<void>;
}

export function ip(args: readonly string[], input?: string): Promise<Output> {
  return run('ip', args, { timeoutMs: TOOL_TIMEOUT_MS, ...(input !== undefined && { input }) });
}

/** Command and arguments that run in a namespace. `ip netns exec` becomes the command: the process id stays. */
export function inNetns(netns: string, command: readonly string[]): string[] {
  return ['ip', 'netns', 'exec', netns, ...command];
}

export async function openLab(): Promise<Lab> {
  await sweep();
  const directory = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
  const namespaces = new Set<string>();
  let pairCount = 0;

  const lab: Lab = {
    directory,
    async addNamespace(name) {
      const netns = `${PREFIX}${process.pid}-${name}`;
      await ip(['netns', 'add', netns]);
      namespaces.add(netns);
      await ip(['-n', netns, 'link', 'set', 'lo', 'up']);
      // No router solicitations and no duplicate address detection among the frames that are measured.
      // A route counts once its interface has carrier: a request for an address (ARP) that is sent before is lost, and
      // the next one follows a second later.
      const carrier = ['all', 'default'].map((which) => `net.ipv4.conf.${which}.ignore_routes_with_linkdown=1`);
      const sysctls = [...carrier, 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'];
      const [command = '', ...args] = inNetns(netns, ['sysctl', '-qe', ...sysctls]);
      await run(command, args, { timeoutMs: TOOL_TIMEOUT_MS });
      return netns;
    },
    async removeNamespace(netns) {
      if (namespaces.delete(netns)) await ip(['netns', 'del', netns]);
    },
    async addPair(name) {
      const unique = `${name}-${++pairCount}`;
      const place = join(directory, unique);
      await mkdir(place);
      const a = await lab.addNamespace(`${unique}-a`);
      const b = await lab.addNamespace(`${unique}-b`);
      return {
        a,
        b,
        directory: place,
        async remove() {
          await lab.removeNamespace(a);
          await lab.removeNamespace(b);
          await rm(place, { recursive: true, force: true });
        },
      };
    },
    async close() {
      for (const netns of [...namespaces]) await lab.removeNamespace(netns).catch(() => {});
      await rm(directory, { recursive: true, force: true });
    },
  };
  return lab;
}

/** Removes what a bench left that was killed. */
async function sweep(): Promise<void> {
  const isStale = (name: string): boolean => {
    const owner = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
    return Number.isFinite(owner) && owner !== process.pid && !isAlive(owner);
  };
  for (const name of await readdir('/run/netns').catch(() => [])) {
    if (isStale(name)) await ip(['netns', 'del', name]).catch(() => {});
  }
  for (const name of await readdir(tmpdir())) {
    if (!isStale(name)) continue;
    await endProcessesOf(join(tmpdir(), name));
    await stopSandboxes(join(tmpdir(), name));
    await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** Relays that arca-control started outlive it. They are known by what stands in their folder. */
export async function endProcessesOf(directory: string): Promise<void> {
  const found = await findProcesses(
    ([command = '', ...args]) => /(^|\/)node$/.test(command) && args.some((arg) => arg.includes(`${directory}/`)),
  );
  for (const { pid } of found) signalProcess(pid, 'SIGKILL');
  if (!(await waitForExit(found, END_MS))) throw new BenchError(`processes of ${directory} do not end`);
}

/** Their daemons outlive whoever started them. */
async function stopSandboxes(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const sandbox = name.startsWith(SANDBOX_PREFIX) ? await openSandbox(join(directory, name)) : undefined;
    await sandbox?.stop();
  }
}
