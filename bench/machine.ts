/** What a result must name so that it can be compared: kernel, CPU, versions, commit. */
import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { run } from '../src/exec.js';
import type { Machine } from './model.js';
import { ownSession } from './proc.js';
import { CONGESTION_CONTROL } from './tools.js';

const VERSION_MS = 3000;

const VERSION_COMMANDS: Readonly<Record<string, readonly string[]>> = {
  iperf3: ['iperf3', '--version'],
  iproute2: ['ip', '-Version'],
  'ovs-vsctl': ['ovs-vsctl', '--version'],
  vde2: ['vde_switch', '--version'],
  openvpn: ['openvpn', '--version'],
  socat: ['socat', '-V'],
  valgrind: ['valgrind', '--version'],
  'g++': ['g++', '--version'],
};

export async function describeMachine(root: string): Promise<Machine> {
  const versions: Record<string, string> = { node: process.version };
  for (const [name, [command = '', ...args]] of Object.entries(VERSION_COMMANDS)) {
    versions[name] = await firstLineOf(command, args);
  }
  const [cpu] = cpus();
  return {
    kernel: release(),
    cpu: cpu?.model ?? 'unknown',
    cpuCount: cpus().length,
    memoryMb: Math.round(totalmem() / 1e6),
    autogroup: await textOf('/proc/sys/kernel/sched_autogroup_enabled'),
    session: ownSession(),
    congestionControl: CONGESTION_CONTROL,
    versions,
    commit: await firstLineOf('git', ['-C', root, 'describe', '--always', '--dirty', '--abbrev=12']),
  };
}

async function textOf(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => 'unknown')).trim();
}

/** openvpn and others end with 1 after telling their version. */
async function firstLineOf(command: string, args: readonly string[]): Promise<string> {
  const output = await run(command, args, { timeoutMs: VERSION_MS }).catch(
    (error: { readonly output?: { readonly stdout: string } }) => error.output,
  );
  // socat prints its name and address first.
  const lines = (output?.stdout ?? '').split('\n').map((line) => line.trim());
  return lines.find((line) => /\d+\.\d+|^[0-9a-f]{7,}/.test(line)) ?? 'not installed';
}
