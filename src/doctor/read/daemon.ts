/** How a daemon is: asked over its own protocol, so that one that hangs is told apart from one that is gone. */
import { join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { withOvsdb } from '../../ovsdb/client.js';
import {
  type CallOptions,
  connectRpc,
  deadlineOf,
  RpcError,
  type RpcTarget,
  targetText,
} from '../../ovsdb/json-rpc.js';
import { isDeadState, readPidFiles, readProcessStat } from '../../processes.js';

export type DaemonState =
  | 'answers'
  /** It takes connections, or is there as a process, and says nothing. */
  | 'hangs'
  /** What it left says that it ran; it does not any more. */
  | 'dead'
  /** Somebody answers there, and not as this daemon does. */
  | 'strange'
  /** Nothing says that it ever ran. */
  | 'gone'
  /** We may not ask. */
  | 'denied'
  /** It belongs to a database on another machine. */
  | 'elsewhere';

export interface DaemonFacts {
  readonly state: DaemonState;
  /** What was asked, and what came of it. */
  readonly detail: string;
  readonly pid?: number;
  /** By its process's state: SIGSTOP, or a debugger. */
  readonly isStopped?: boolean;
  /** What it said of itself. */
  readonly version?: string;
  /** For an ovn-controller: what `connection-status` says. For northd: `status`. */
  readonly status?: string;
}

export interface ControlledDaemon {
  readonly name: string;
  /** Where its pidfile may be, the likelier one first. */
  readonly runDirs: readonly string[];
  /** A further command of its control socket, asked after `version`. */
  readonly statusCommand?: string;
}

export interface DatabaseServer {
  readonly target: RpcTarget;
  readonly database: string;
  /** Only looked for where the server is on this machine. */
  readonly pidFile: { readonly name: string; readonly runDirs: readonly string[] };
}

/** By its pidfile and its control socket (unixctl; ovs-appctl(8)). */
export async function askControlled(daemon: ControlledDaemon, call: CallOptions): Promise<DaemonFacts> {
  const found = (await readPidFiles(daemon.runDirs, `${daemon.name}.pid`))[0];
  if (found === undefined) return { state: 'gone', detail: `no ${daemon.name}.pid in ${daemon.runDirs.join(', ')}` };
  const { pid, runDir } = found;
  const process = await processState(pid);
  if (process === undefined) {
    return { state: 'dead', detail: `it left ${join(runDir, `${daemon.name}.pid`)}, and process ${pid} is gone` };
  }
  const path = join(runDir, `${daemon.name}.${pid}.ctl`);
  const left = deadlineOf(call);
  try {
    const connection = await connectRpc({ transport: 'unix', path }, left());
    try {
      const version = String(await connection.call('version', [], left()));
      const status =
        daemon.statusCommand === undefined
          ? undefined
          : String(await connection.call(daemon.statusCommand, [], left())).trim();
      return {
        state: 'answers',
        detail: firstLine(version),
        pid,
        version: firstLine(version),
        ...(status && { status }),
      };
    } finally {
      connection.close();
    }
  } catch (error) {
    return { ...failureOf(error, `unix:${path}`), pid, isStopped: isStoppedState(process) };
  }
}

/** A database server: by an empty transaction, which it answers from its main loop. */
export async function askDatabase(
  { target, database, pidFile }: DatabaseServer,
  call: CallOptions,
): Promise<DaemonFacts> {
  const where = targetText(target);
  const found = target.transport === 'unix' ? (await readPidFiles(pidFile.runDirs, pidFile.name))[0] : undefined;
  const process = found && (await processState(found.pid));
  const known =
    found === undefined || process === undefined ? {} : { pid: found.pid, isStopped: isStoppedState(process) };
  try {
    await withOvsdb(target, call, (client, left) => client.transact(database, [], left()));
    return { state: 'answers', detail: `${where} answers`, ...known };
  } catch (error) {
    return { ...failureOf(error, where), ...known };
  }
}

/** Pure. */
export function failureOf(error: unknown, where: string): Pick<DaemonFacts, 'state' | 'detail'> {
  if (!(error instanceof RpcError)) throw error;
  const why = errnoOf(error.cause);
  switch (error.failure) {
    case 'timed-out':
      return { state: 'hangs', detail: `${where} does not answer: ${error.message}` };
    case 'unreachable':
      if (why === 'ENOENT') return { state: 'gone', detail: `there is no ${where}` };
      if (why === 'EACCES' || why === 'EPERM')
        return { state: 'denied', detail: `no permission to connect to ${where}` };
      return { state: 'dead', detail: error.message };
    case 'protocol':
    case 'refused':
      return { state: 'strange', detail: error.message };
    case 'closed':
    case 'aborted':
      return { state: 'dead', detail: error.message };
  }
}

/** By a signal, or by a debugger. */
export function isStoppedState(letter: string | undefined): boolean {
  return letter === 'T' || letter === 't';
}

/** The letter of proc(5), `/proc/PID/stat`; nothing for a process that is gone, or a zombie. */
export async function processState(pid: number): Promise<string | undefined> {
  const state = (await readProcessStat(pid))?.state;
  return state === undefined || isDeadState(state) ? undefined : state;
}

function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? '';
}
