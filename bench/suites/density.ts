/**
 * 1, 100 and 1000 links in one engine, all connected, one of them busy: its throughput, what the idle ones cost in CPU
 * time, and what each takes in memory. The TAPs' own memory is the kernel's and counted apart.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/exec.js';
import { waitForDevice } from '../contenders/contender.js';
import type { Context } from '../context.js';
import { BenchError } from '../errors.js';
import { ADDRESS_A, ADDRESS_B, INTERFACE, inNetns, ip, type Pair } from '../lab.js';
import type { MeasureInfo, Metrics } from '../model.js';
import { anonymousBytes, cpuSeconds } from '../proc.js';
import type { Running } from '../processes.js';
import { endsOf, firstAnswer, iperf } from '../tools.js';
import type { Outcome, Stage, Task } from './stage.js';

const ENGINE_SCRIPT = fileURLToPath(new URL('../density-engine.js', import.meta.url));
/** A thousand TAPs are made in seconds; each is a network device with all that belongs to it. */
const MAKE_MS = 60_000;
const STEP_MS = 10_000;
/** Idle links are watched so long. After the links are up nothing is due for them. */
const IDLE_SECONDS = 2;
const SETTLE_MS = 500;
/**
 * For about ten seconds after a thousand devices are made, everything on the machine moves less, an engine in another
 * process and other namespaces as much as this one: docs/performance.md. What is asked here is what idle links cost.
 */
const DEVICES_SETTLE_MS = 15_000;
const TAP_GROUP = '77';
const COUNTS = [1, 100, 1000];

export function densityMissing({ programs, quick }: Context): string | undefined {
  if (quick) return `not with --quick: what making links disturbs takes ${DEVICES_SETTLE_MS / 1000} s to be over`;
  return existsSync(programs.addon) ? undefined : 'the addon is not built: npm run build';
}

export function densityStages(context: Context): readonly Stage[] {
  return COUNTS.map((count) => ({
    name: `density, ${count} links`,
    measures: [measureOf(count)],
    open: async () => ({ tasks: [taskOf(context, count)], close: async () => {} }),
  }));
}

function measureOf(count: number): MeasureInfo {
  const others = count === 1 ? 'alone' : `beside ${count - 1} idle ones`;
  return {
    id: `density-${count}`,
    suites: ['density'],
    title: `one busy link ${others}, in one engine`,
    primary: 'gbps',
  };
}

function taskOf(context: Context, count: number): Task {
  return {
    measure: `density-${count}`,
    contender: 'arca',
    async run() {
      const pair = await context.lab.addPair('density');
      const running: Running[] = [];
      try {
        return await measure(context, pair, count, running);
      } finally {
        await removeTaps(pair, count);
        await Promise.all(running.map((process) => process.stop()));
        await pair.remove();
      }
    },
  };
}

async function measure(context: Context, pair: Pair, count: number, running: Running[]): Promise<Outcome> {
  const { processes, programs } = context;
  const prefix = join(pair.directory, 's');
  const key = `measure density-${count} flow`;
  const start = (netns: string, command: readonly string[]): Running => {
    const process = processes.start(inNetns(netns, command));
    running.push(process);
    context.note(
      `measure density-${count}`,
      running.map(({ commandLine }) => commandLine),
    );
    return process;
  };

  const engine = start(pair.a, ['node', '--expose-gc', ENGINE_SCRIPT, programs.addon, prefix]);
  await engine.waitForLine(/started/, STEP_MS);
  await tell(engine, 'make 1');
  start(pair.b, [programs.arcaTap, '--connect', `unix:${prefix}0`, '--tap', INTERFACE, '--quiet']);
  await configure(pair);
  await firstAnswer(context, endsOf(pair), STEP_MS);

  const gbps = async (): Promise<number> => (await iperf(context, endsOf(pair), [], key)).bitsPerSecond / 1e9;
  const alone: Metrics = count > 1 ? { gbpsAlone: await gbps() } : {};
  const memory = await growTo(count, engine, () => start(pair.b, [programs.idlePeers, prefix, '1', String(count - 1)]));
  if (count > 1) await new Promise((resolve) => setTimeout(resolve, DEVICES_SETTLE_MS));
  const idle = await watchIdle(engine);
  return { metrics: { gbps: await gbps(), ...alone, idleCpuPercent: idle, ...memory } };
}

/** All in one request: a TAP that goes with its descriptor takes 18 ms of waiting, one after the other. */
async function removeTaps(pair: Pair, count: number): Promise<void> {
  const lines = Array.from({ length: count }, (_, index) => `link set d${index} group ${TAP_GROUP}\n`);
  // What a failed start did not make is not there.
  await ip(['-n', pair.a, '-force', '-batch', '-'], lines.join('')).catch(() => {});
  await ip(['-n', pair.a, 'link', 'del', 'group', TAP_GROUP]).catch(() => {});
}

/** The relay's TAP is silent towards the host's stack, which here is the other container. */
async function configure(pair: Pair): Promise<void> {
  await waitForDevice(pair.b, INTERFACE);
  await ip(['-n', pair.b, 'addr', 'add', `${ADDRESS_B}/24`, 'dev', INTERFACE]);
  await ip(['-n', pair.a, 'link', 'set', 'd0', 'arp', 'on']);
  await ip(['-n', pair.a, 'addr', 'add', `${ADDRESS_A}/24`, 'dev', 'd0']);
  const sysctls = ['net.ipv4.conf.d0.arp_ignore=0', 'net.ipv4.conf.d0.rp_filter=0'];
  const [command = '', ...args] = inNetns(pair.a, ['sysctl', '-qe', ...sysctls]);
  await run(command, args, { timeoutMs: STEP_MS });
}

/** Makes the other links, connects them, and says what each took. */
async function growTo(count: number, engine: Running, connect: () => Running): Promise<Metrics> {
  if (count === 1) return {};
  await tell(engine, 'collect 1');
  const before = anonymousBytes(engine.pid);
  const kernelBefore = await kernelBytes();
  await tell(engine, `make ${count}`);
  const kernelAfter = await kernelBytes();
  await connect().waitForLine(/ready/, STEP_MS);
  await settled();
  await tell(engine, 'collect 2');
  const added = count - 1;
  return {
    linkKib: (anonymousBytes(engine.pid) - before) / added / 1024,
    tapKib: (kernelAfter - kernelBefore) / added / 1024,
  };
}

/** Share of one CPU that the engine has while no frame moves, in percent. */
async function watchIdle(engine: Running): Promise<number> {
  await settled();
  const before = cpuSeconds([engine.pid]);
  const startMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
  return (100 * (cpuSeconds([engine.pid]) - before)) / ((performance.now() - startMs) / 1000);
}

/** What follows a connection (HELLO, the time in which a peer counts as unknown) is over. Nothing tells when. */
function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

async function tell(engine: Running, line: string): Promise<void> {
  engine.write(`${line}\n`);
  await engine.waitForLine(new RegExp(`^done ${line}$`), MAKE_MS);
}

/** The kernel's own memory that a device lives in; other processes change it too. */
async function kernelBytes(): Promise<number> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN);
  const sum = kb('Slab') + kb('Percpu');
  if (!Number.isFinite(sum)) throw new BenchError('/proc/meminfo without Slab or Percpu');
  return sum * 1024;
}
