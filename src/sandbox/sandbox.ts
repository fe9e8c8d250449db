/**
 * A private OVS and OVN: databases, ovs-vswitchd and ovn-northd in a run directory and a network namespace of their
 * own, so that nothing of the machine's is touched, and any number of them run side by side.
 *
 * br-int switches by itself (fail_mode=standalone, the NORMAL action), and `external_ids:ovn-bridge` names another
 * bridge, so that an ovn-controller that is started here can't take br-int: it would leave it without a flow.
 *
 * Nothing is kept in memory that `stop` would miss: the directory carries our mark, and a daemon is known by the pid
 * file that its command line names. So a sandbox can be stopped by another process, after any crash.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArcaError, toArcaError } from '../errors.js';
import { findByArgument, type ProcessInfo, signalProcess, waitForExit } from '../processes.js';
import { DAEMON_NAMES, type DaemonName, describeDaemon, STANDARD_DAEMONS } from './daemons.js';
import { defaultNetns } from './layout.js';
import {
  addNamespace,
  claimRunDirectory,
  type Datapath,
  describePlace,
  findPlace,
  inNamespace,
  namespaceExists,
  type Place,
  removeNamespace,
  removeRunDirectory,
} from './place.js';
import { chooseDatapath, type Limits, startDaemon, startOvn, startOvs } from './start.js';
import { runTool } from './tool.js';

export type { DaemonName } from './daemons.js';
export type { Datapath } from './place.js';

export interface SandboxOptions {
  /** An absolute path. Made by us, mode 0700; it may exist if it is empty. */
  readonly runDir: string;
  /** Must not exist. By default a name that follows from the run directory. */
  readonly netns?: string | undefined;
  /** `auto` (the default): `system` where the kernel has openvswitch, otherwise `netdev`. */
  readonly datapath?: Datapath | 'auto' | undefined;
  /** For all of the start. */
  readonly timeoutMs?: number | undefined;
  /** Aborting undoes the start. */
  readonly signal?: AbortSignal | undefined;
}

/** Process ids by daemon; only those that live. */
export type DaemonPids = Readonly<Partial<Record<DaemonName, number>>>;

/** How a daemon is ended: as by a crash, or in its own way. */
export type Ending = 'SIGKILL' | 'SIGTERM';

export interface Sandbox {
  readonly runDir: string;
  readonly netns: string;
  readonly datapath: Datapath;
  /** Variables by which the tools of OVS and OVN, and arca-relay, use this sandbox. */
  readonly env: Readonly<Record<string, string>>;
  /** Command and arguments that run a program inside the namespace. */
  inNamespace(command: string, args: readonly string[]): [command: string, args: string[]];
  daemons(): Promise<DaemonPids>;
  /** Starts a daemon that does not run; resolves when it answers. */
  start(name: DaemonName): Promise<void>;
  /** Resolves when it is gone; also if it was not there. */
  kill(name: DaemonName, ending?: Ending): Promise<void>;
  /** `kill`, then `start`. */
  restart(name: DaemonName, ending?: Ending): Promise<void>;
  /** Makes a daemon hang: it lives, its socket takes connections, and nothing answers. */
  pause(name: DaemonName): Promise<void>;
  resume(name: DaemonName): Promise<void>;
  /** Ends every daemon, then removes the namespace and the directory. Safe to call twice. */
  stop(): Promise<void>;
}

const DEFAULT_START_TIMEOUT_MS = 30_000;
/** What each step of an end may take before the next, harder one. */
const END_STEP_MS = 3_000;

/** What a failed start had made is gone when the promise rejects. */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { runDir, netns = defaultNetns(runDir), timeoutMs = DEFAULT_START_TIMEOUT_MS, signal } = options;
  requireRoot();
  const limits = limitsOf(timeoutMs, signal);
  const place = describePlace(runDir, netns, await chooseDatapath(options.datapath ?? 'auto', limits()));
  if (namespaceExists(netns)) {
    throw new ArcaError('sandbox-failed', `the network namespace ${netns} exists already; choose another --netns`);
  }
  await claimRunDirectory(place);
  const sandbox = sandboxAt(place);
  try {
    await addNamespace(netns, limits());
    await allOrFirstError([startOvs(place, limits), startOvn(place, limits)]);
    return sandbox;
  } catch (error) {
    throw await undone(error, sandbox);
  }
}

/** The sandbox that was started in that directory, by whichever process, alive or not; undefined if there is none. */
export async function openSandbox(runDir: string): Promise<Sandbox | undefined> {
  const place = await findPlace(runDir);
  return place && sandboxAt(place);
}

/** The daemons that should live and do not. */
export function missingDaemons(daemons: DaemonPids): DaemonName[] {
  return STANDARD_DAEMONS.filter((name) => daemons[name] === undefined);
}

function sandboxAt(place: Place): Sandbox {
  const { layout, netns, datapath, env } = place;

  const processesOf = (name: DaemonName): Promise<ProcessInfo[]> => {
    const daemon = describeDaemon(name, layout);
    return findByArgument(daemon.command, daemon.purpose);
  };
  const signalDaemon = async (name: DaemonName, signal: NodeJS.Signals): Promise<void> => {
    for (const { pid } of await processesOf(name)) signalProcess(pid, signal);
  };

  const sandbox: Sandbox = {
    runDir: layout.runDir,
    netns,
    datapath,
    env,
    inNamespace: (command, args) => inNamespace(netns, command, args),
    async daemons() {
      const pids: Partial<Record<DaemonName, number>> = {};
      for (const name of DAEMON_NAMES) {
        const [first] = await processesOf(name);
        if (first) pids[name] = first.pid;
      }
      return pids;
    },
    start: (name) => startDaemon(name, place, limitsOf(DEFAULT_START_TIMEOUT_MS)),
    async kill(name, ending = 'SIGKILL') {
      await endProcesses(await processesOf(name), ending);
    },
    async restart(name, ending) {
      await sandbox.kill(name, ending);
      await sandbox.start(name);
    },
    pause: (name) => signalDaemon(name, 'SIGSTOP'),
    resume: (name) => signalDaemon(name, 'SIGCONT'),
    async stop() {
      await cleanUpDatapath(place, await processesOf('ovs-vswitchd'));
      // ovs-vswitchd and the OVN daemons first, their databases last, as DAEMON_NAMES has them.
      for (const name of DAEMON_NAMES) await endProcesses(await processesOf(name), 'SIGTERM');
      await removeNamespace(netns, limitsOf(END_STEP_MS)());
      await removeRunDirectory(layout);
    },
  };
  return sandbox;
}

/** Asks ovs-vswitchd to end and to take its devices and kernel datapath along. If it can't, the namespace's end does. */
async function cleanUpDatapath({ layout, env }: Place, processes: readonly ProcessInfo[]): Promise<void> {
  for (const { pid } of processes) {
    signalProcess(pid, 'SIGCONT');
    const target = join(layout.runDir, `ovs-vswitchd.${pid}.ctl`);
    const options = { ...limitsOf(END_STEP_MS)(), env: { ...process.env, ...env } };
    await runTool('ovs-appctl', ['-t', target, 'exit', '--cleanup'], options).catch(() => {});
  }
  await waitForExit(processes, END_STEP_MS);
}

async function endProcesses(processes: readonly ProcessInfo[], ending: Ending): Promise<void> {
  const steps: Ending[] = ending === 'SIGKILL' ? ['SIGKILL'] : ['SIGTERM', 'SIGKILL'];
  for (const step of steps) {
    for (const { pid } of processes) {
      signalProcess(pid, step);
      // A stopped process takes SIGTERM only when it goes on.
      signalProcess(pid, 'SIGCONT');
    }
    if (await waitForExit(processes, END_STEP_MS)) return;
  }
  const pids = processes.map(({ pid }) => pid).join(', ');
  throw new ArcaError('cleanup-incomplete', `SIGKILL did not end process ${pids}; it hangs in the kernel`);
}

function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new ArcaError('permission-denied', 'a sandbox needs root: it makes a network namespace and network devices');
}

function limitsOf(timeoutMs: number, signal?: AbortSignal): Limits {
  const deadline = performance.now() + timeoutMs;
  return () => ({ timeoutMs: Math.max(1, Math.round(deadline - performance.now())), signal });
}

/** Waits for all of them, so that none is still at work when the undoing begins, then throws the first error. */
async function allOrFirstError(steps: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(steps)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** Undoes a start, and gives the error that says why it failed, with what the daemons logged. */
async function undone(error: unknown, sandbox: Sandbox): Promise<ArcaError> {
  const { code, message } = toArcaError(error);
  const complaints = await daemonComplaints(sandbox.runDir);
  const notes = complaints.length > 0 ? ['the daemons said:', ...complaints] : [];
  try {
    await sandbox.stop();
  } catch (stopError) {
    notes.push(`and the start could not be undone: ${toArcaError(stopError).message}`);
  }
  return new ArcaError(code, [`the sandbox did not start: ${message}`, ...notes].join('\n  '), { cause: error });
}

/** The last warnings and errors of each log: with the directory they are gone. */
async function daemonComplaints(runDir: string): Promise<string[]> {
  const complaints: string[] = [];
  for (const file of await readdir(runDir)) {
    if (!file.endsWith('.log')) continue;
    const lines = (await readFile(join(runDir, file), 'utf8')).split('\n');
    const bad = lines.filter((line) => /\|(WARN|ERR|EMER)\|/.test(line));
    complaints.push(...bad.slice(-3).map((line) => `${file}: ${line}`));
  }
  return complaints;
}
