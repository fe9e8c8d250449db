/** A private OVS for the suites that need a switch. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { type Datapath, type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { type Context, canRun } from '../context.js';
import { inNetns, SANDBOX_PREFIX } from '../lab.js';
import type { Running } from '../processes.js';

export const BRIDGE = 'br-int';
const START_MS = 20_000;
const TOOL_MS = 5000;
const RELAY_READY_MS = 15_000;

export interface Switch {
  readonly datapath: Datapath;
  readonly netns: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly directory: string;
  /** Of the sandbox: its sockets are in there. */
  readonly runDir: string;
  vsctl(...args: string[]): Promise<void>;
  /** An arca-relay that is ready, listening on that Unix socket, with a TAP of that name. */
  startRelay(path: string, tap: string, place: readonly string[]): Promise<Running>;
  close(): Promise<void>;
}

/** Why there can be no switch here; undefined when there can. */
export async function switchMissing({ programs }: Context): Promise<string | undefined> {
  if (!existsSync(programs.arcaRelay) || !existsSync(programs.addon)) return 'arca-relay is not built: npm run build';
  for (const [program, debianPackage] of [
    ['ovs-vsctl', 'openvswitch-switch'],
    ['ovn-nbctl', 'ovn-central'],
  ] as const) {
    if (!(await canRun(program))) return `${program} is not installed: apt-get install ${debianPackage}`;
  }
  return undefined;
}

let switchCount = 0;

export async function openSwitch(context: Context, datapath: Datapath): Promise<Switch> {
  const { lab, processes, signal, adopted, programs } = context;
  const runDir = join(lab.directory, `${SANDBOX_PREFIX}${++switchCount}`);
  const sandbox: Sandbox = await startSandbox({ runDir, datapath, timeoutMs: START_MS, signal });
  const daemons = Object.values(await sandbox.daemons());
  for (const pid of daemons) adopted.add(pid);
  const environment = { ...process.env, ...sandbox.env };
  return {
    datapath,
    netns: sandbox.netns,
    environment,
    directory: lab.directory,
    runDir,
    async vsctl(...args) {
      await run('ovs-vsctl', args, { timeoutMs: TOOL_MS, env: environment, signal });
    },
    async startRelay(path, tap, place) {
      const relay = processes.start(
        inNetns(sandbox.netns, [
          ...['node', programs.arcaRelay, '--listen', `unix:${path}`, '--tap', tap, ...place],
          ...['--notify-fd', '3', '--log-level', 'error'],
        ]),
        { notifyPipe: true, env: environment },
      );
      await relay.waitForLine(/"event":"ready"/, RELAY_READY_MS);
      return relay;
    },
    async close() {
      await sandbox.stop();
      for (const pid of daemons) adopted.delete(pid);
    },
  };
}
