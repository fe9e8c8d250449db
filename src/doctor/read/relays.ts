/** Relays as processes of this network namespace, and what their status sockets say. */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { askRelay } from '../../control/relays/link.js';
import { errnoOf, toArcaError } from '../../errors.js';
import type { CallOptions } from '../../ovsdb/json-rpc.js';
import { findProcesses } from '../../processes.js';
import type { RelayStatus } from '../../relay/relay.js';
import { isUnixSocketAlive } from '../../unix-socket.js';
import { isStoppedState, processState } from './daemon.js';
import { namespaceOf } from './links.js';

export interface RelayFacts {
  readonly pid: number;
  /** Nothing: it has no status socket. */
  readonly statusPath: string | undefined;
  /** It was started by the arca-control of the run directory. */
  readonly isControlled: boolean;
  readonly status: RelayStatus | undefined;
  /** Why there is no status, though there is a socket. */
  readonly silence: string | undefined;
  readonly isStopped: boolean;
}

export async function readRelays(runDir: string, call: CallOptions): Promise<readonly RelayFacts[]> {
  const own = await namespaceOf('self');
  const found = await findProcesses(isRelay);
  const relays = await Promise.all(
    found.map(async ({ pid, args }) => {
      const namespace = await namespaceOf(String(pid)).catch(() => undefined);
      return namespace === own ? askOne(pid, args, runDir, call) : undefined;
    }),
  );
  return relays.filter((relay) => relay !== undefined);
}

/** Pure: the program itself, or the Node that runs it. */
export function isRelay([command = '', ...args]: readonly string[]): boolean {
  if (basename(command) === 'arca-relay') return true;
  const script = args.find((arg) => !arg.startsWith('-')) ?? '';
  return /^node/.test(basename(command)) && ['arca-relay', 'arca-relay.js'].includes(basename(script));
}

/** Pure: the path of `--metrics unix:PATH`, however it is written. */
export function statusPathOf(args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => arg === '--metrics' || arg.startsWith('--metrics='));
  const text = args[at] === '--metrics' ? args[at + 1] : args[at]?.slice('--metrics='.length);
  return text?.startsWith('unix:') ? text.slice('unix:'.length) : undefined;
}

async function askOne(pid: number, args: readonly string[], runDir: string, call: CallOptions): Promise<RelayFacts> {
  const statusPath = statusPathOf(args);
  const isControlled = statusPath?.startsWith(`${join(runDir, 'relays')}/`) ?? false;
  const known = { pid, statusPath, isControlled, isStopped: isStoppedState(await processState(pid)) };
  if (statusPath === undefined) return { ...known, status: undefined, silence: undefined };
  try {
    const status = await askRelay(statusPath, call);
    return { ...known, status, silence: status === undefined ? `nobody listens on ${statusPath}` : undefined };
  } catch (error) {
    return { ...known, status: undefined, silence: toArcaError(error).message };
  }
}

/** No run directory: none. */
export async function readDeadSockets(runDir: string): Promise<readonly string[]> {
  const folder = join(runDir, 'relays');
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const sockets = entries.filter((entry) => entry.isSocket()).map(({ name }) => join(folder, name));
  const dead = await Promise.all(sockets.map(async (path) => !(await isUnixSocketAlive(path))));
  return sockets.filter((_, index) => dead[index]);
}
