/**
 * How long a start takes, beside what it can't do without: a Node that starts, and one call of ovs-vsctl. And from
 * attach to the first answer: a relay and a container's end are started, and a container that is already there is
 * pinged.
 */
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import type { Context } from '../context.js';
import { BenchError } from '../errors.js';
import { ADDRESS_A, ADDRESS_B, INTERFACE, inNetns, type Pair } from '../lab.js';
import type { MeasureInfo } from '../model.js';
import { residentBytes } from '../proc.js';
import type { Running } from '../processes.js';
import { startFirstAnswer } from '../tools.js';
import { openSwitch, type Switch } from './ovs.js';
import type { Outcome, Stage, Task } from './stage.js';

const STEP_MS = 15_000;
const VLAN = ['--vlan', '100'];
const NETWORK = 'bench-net';

export const START_MEASURES: readonly MeasureInfo[] = [
  { id: 'start', suites: ['start'], title: 'start to ready, and memory then', primary: 'ms' },
  { id: 'attach', suites: ['start'], title: 'attach to first answer of another container', primary: 'ms' },
];

export function startStage(context: Context): Stage {
  return {
    name: 'start',
    measures: START_MEASURES,
    async open() {
      const ovs = await openSwitch(context, 'netdev');
      const pair = await context.lab.addPair('start');
      const neighbour: Running[] = [];
      const close = async (): Promise<void> => {
        for (const process of neighbour) await process.stop();
        await pair.remove();
        await ovs.close();
      };
      try {
        await addNetwork(ovs);
        neighbour.push(...(await attach(context, ovs, pair.b, `${ADDRESS_B}/24`, join(pair.directory, 'b'), 'startB')));
        return { tasks: tasksOf(context, ovs, pair), close };
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

async function addNetwork(ovs: Switch): Promise<void> {
  const args = ['ls-add', NETWORK, '--', 'set', 'Logical_Switch', NETWORK, 'external_ids:vlan_tag=200'];
  await run('ovn-nbctl', args, { timeoutMs: STEP_MS, env: ovs.environment });
}

function tasksOf(context: Context, ovs: Switch, pair: Pair): readonly Task[] {
  const { processes } = context;
  const start = (contender: string, act: () => Promise<Outcome>): Task => ({ measure: 'start', contender, run: act });
  const runToEnd = async (key: string, command: readonly string[]): Promise<Outcome> => {
    context.note(`measure start ${key}`, [command.join(' ')]);
    const startMs = performance.now();
    const process = processes.start(command, { env: ovs.environment });
    const how = await process.ended;
    const ms = performance.now() - startMs;
    if (how !== 'exit code 0') throw new BenchError(`${command.join(' ')}: ${how}: ${process.output().trim()}`);
    return { metrics: { ms } };
  };
  const timeRelay = async (place: readonly string[]): Promise<Outcome> => {
    const startMs = performance.now();
    const relay = await ovs.startRelay(join(pair.directory, 'timed'), 'timed', place);
    const ms = performance.now() - startMs;
    context.note(`measure start arca-relay ${place[0]}`, [relay.commandLine]);
    const rssMb = residentBytes(relay.pid) / 1e6;
    await relay.stop();
    return { metrics: { ms, rssMb } };
  };
  return [
    start('node -e 0', () => runToEnd('node', ['node', '-e', '0'])),
    start('node -e timer', () => timeNodeWithTimer(context)),
    start('ovs-vsctl', () => runToEnd('ovs-vsctl', ['ovs-vsctl', 'get', 'Open_vSwitch', '.', '_uuid'])),
    start('arca-relay', () => timeRelay(VLAN)),
    start('arca-relay --network', () => timeRelay(['--network', NETWORK])),
    { measure: 'attach', contender: 'arca', run: () => timeAttach(context, ovs, pair) },
  ];
}

/** Memory of a Node that does nothing but live. */
async function timeNodeWithTimer({ processes }: Context): Promise<Outcome> {
  const startMs = performance.now();
  const process = processes.start(['node', '-e', 'setInterval(() => {}, 1e9); console.log("ready")']);
  await process.waitForLine(/ready/, STEP_MS);
  const ms = performance.now() - startMs;
  const rssMb = residentBytes(process.pid) / 1e6;
  await process.stop();
  return { metrics: { ms, rssMb } };
}

async function attach(
  { processes, programs }: Context,
  ovs: Switch,
  netns: string,
  address: string,
  path: string,
  tap: string,
): Promise<readonly Running[]> {
  const relay = await ovs.startRelay(path, tap, VLAN);
  const end = [programs.arcaTap, '--connect', `unix:${path}`, '--tap', INTERFACE, '--address', address, '--quiet'];
  return [relay, processes.start(inNetns(netns, end))];
}

async function timeAttach(context: Context, ovs: Switch, pair: Pair): Promise<Outcome> {
  const ends = { client: pair.a, server: pair.b, serverAddress: ADDRESS_B };
  const answered = await startFirstAnswer(context, ends, STEP_MS);
  let processes: readonly Running[] = [];
  try {
    const startMs = performance.now();
    const attaching = attach(context, ovs, pair.a, `${ADDRESS_A}/24`, join(pair.directory, 'a'), 'startA');
    processes = await attaching;
    await answered.answer;
    return { metrics: { ms: performance.now() - startMs } };
  } finally {
    await answered.stop();
    for (const process of processes) await process.stop();
  }
}
