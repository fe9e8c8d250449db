/**
 * The control plane: how long an attachment takes, alone and beside 199 others, and what it costs to list them all;
 * beside it, what arca-control itself takes meanwhile. Over its API, as everybody uses it.
 */
import { existsSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ControlClient, createClient } from '../../src/control/client.js';
import type { Context } from '../context.js';
import { BenchError } from '../errors.js';
import { endProcessesOf, inNetns } from '../lab.js';
import type { MeasureInfo } from '../model.js';
import { cpuSeconds, residentBytes } from '../proc.js';
import type { Running } from '../processes.js';
import { median } from '../stats.js';
import { until } from '../until.js';
import { openSwitch, type Switch } from './ovs.js';
import type { Outcome, Stage, Task } from './stage.js';

const MANY = 200;
/** A relay is a Node process; most of what it has resident is shared with the others. */
const RELAY_MEMORY_BYTES = 60e6;
const NETWORK = 'bench-control';
const START_MS = 15_000;
const CALL_MS = 30_000;
/** As many as there are at once, when the network is filled. */
const FILLERS = 4;
const ATTACH_TIMES = 15;
const LIST_TIMES = 50;
const IDLE_SECONDS = 3;
/** After its start a Node tidies up its heap for some seconds: two hundred of them take a third of a processor then. */
const SETTLE_MS = 15_000;
const ALONE = '1 attachment';
const CROWD = `${MANY} attachments`;

const CONTROL_MEASURES: readonly MeasureInfo[] = [
  { id: 'control-attach', suites: ['control'], title: 'attach, until the relay is ready', primary: 'ms' },
  { id: 'control-detach', suites: ['control'], title: 'detach, until its port and relay are gone', primary: 'ms' },
  { id: 'control-list', suites: ['control'], title: 'list all attachments', primary: 'ms' },
  { id: 'control-idle', suites: ['control'], title: 'arca-control when nothing happens', primary: 'idleCpuPercent' },
];

/** Why it can't run here; undefined when it can. */
export function controlMissing({ programs, quick }: Context): string | undefined {
  if (quick) return `not with --quick: ${MANY} relays take minutes`;
  if (!existsSync(programs.arcaControl)) return 'arca-control is not built: npm run build';
  const needed = MANY * RELAY_MEMORY_BYTES;
  if (freemem() >= needed) return undefined;
  return `${MANY} relays need ${needed / 1e9} GB of free memory, and there are ${(freemem() / 1e9).toFixed(1)}`;
}

export function controlStage(context: Context): Stage {
  return {
    name: 'control plane',
    measures: CONTROL_MEASURES,
    async open() {
      const ovs = await openSwitch(context, 'netdev');
      const place = join(ovs.runDir, 'control');
      let control: Running | undefined;
      const close = async (): Promise<void> => {
        await control?.stop();
        // They outlive it, as they promise. Their ports and devices go with the sandbox.
        await endProcessesOf(place);
        await ovs.close();
      };
      try {
        const socket = join(ovs.runDir, 'control.sock');
        control = startControl(context, ovs, socket, place);
        const client = createClient({ path: socket, timeoutMs: CALL_MS, signal: context.signal });
        await untilItAnswers(control, client);
        await client.createNetwork({ name: NETWORK, subnet: '10.78.0.0/16' });
        return { tasks: tasksOf(client, ovs.runDir, control.pid), close };
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

function startControl({ processes, programs, note }: Context, ovs: Switch, socket: string, place: string): Running {
  const database = (name: string): string => `unix:${join(ovs.runDir, name)}`;
  const control = processes.start(
    inNetns(ovs.netns, [
      ...['node', programs.arcaControl, '--listen', `unix:${socket}`, '--run-dir', place, '--log-level', 'error'],
      ...['--ovs', database('db.sock'), '--nb', database('ovnnb_db.sock'), '--sb', database('ovnsb_db.sock')],
    ]),
    { env: ovs.environment },
  );
  note('measure control', [control.commandLine]);
  return control;
}

async function untilItAnswers(control: Running, client: ControlClient): Promise<void> {
  await until('arca-control answers', START_MS, async () => {
    if (control.hasEnded()) throw new BenchError(`${control.commandLine}: ${control.output().trim()}`);
    return client.listNetworks().then(
      () => true,
      () => false,
    );
  });
}

/** In this order: few first, then many, then what can be asked of many. */
function tasksOf(client: ControlClient, folder: string, controlPid: number): readonly Task[] {
  const task = (measure: string, contender: string, run: () => Promise<Outcome>): Task => ({ measure, contender, run });
  // Unix sockets: on this machine's own kernel nobody listens on vsock.
  const attach = (container: string): Promise<unknown> => {
    const path = join(folder, `${container}.sock`);
    return client.attach({ container, network: NETWORK, endpoint: { transport: 'unix', path } });
  };
  let detachMs: readonly number[] = [];
  /** Each time the last one of those that there are then. */
  const timeAttaching = async (): Promise<Outcome> => {
    const attachMs: number[] = [];
    const mirrored: number[] = [];
    for (let i = 0; i < ATTACH_TIMES; i++) {
      attachMs.push(await timed(() => attach('timed')));
      mirrored.push(await timed(() => client.detach('timed', NETWORK)));
    }
    detachMs = mirrored;
    return { metrics: { ms: median(attachMs) } };
  };
  const tellDetaching = async (): Promise<Outcome> => ({ metrics: { ms: median(detachMs) } });
  return [
    task('control-attach', ALONE, timeAttaching),
    task('control-detach', ALONE, tellDetaching),
    task('control-attach', CROWD, async () => {
      await fill(attach);
      await delay(SETTLE_MS);
      return timeAttaching();
    }),
    task('control-detach', CROWD, tellDetaching),
    task('control-list', CROWD, () => timeListing(client)),
    task('control-idle', CROWD, () => watchIdle(controlPid)),
  ];
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await act();
  return performance.now() - startMs;
}

async function fill(attach: (container: string) => Promise<unknown>): Promise<void> {
  const names = Array.from({ length: MANY }, (_, i) => `filler-${i}`);
  const work = async (): Promise<void> => {
    for (let name = names.pop(); name !== undefined; name = names.pop()) await attach(name);
  };
  await Promise.all(Array.from({ length: FILLERS }, work));
}

async function timeListing(client: ControlClient): Promise<Outcome> {
  const times: number[] = [];
  for (let i = 0; i < LIST_TIMES; i++) times.push(await timed(() => client.listAttachments()));
  return { metrics: { ms: median(times) } };
}

async function watchIdle(pid: number): Promise<Outcome> {
  const before = cpuSeconds([pid]);
  await delay(IDLE_SECONDS * 1000);
  const idleCpuPercent = ((cpuSeconds([pid]) - before) / IDLE_SECONDS) * 100;
  return { metrics: { idleCpuPercent, rssMb: residentBytes(pid) / 1e6 } };
}
