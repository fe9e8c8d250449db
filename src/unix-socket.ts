/** Whether a Unix socket is somebody's, or was left by a process that is gone. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { errnoOf } from './errors.js';

/** How long somebody who listens on a socket that is in our way has to take a connection. */
const STALE_PROBE_MS = 500;

/** Does anybody take connections there? One that is slow to say counts as alive: its socket is not ours to remove. */
export function isUnixSocketAlive(path: string, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const timer = setTimeout(() => done(true), STALE_PROBE_MS);
    const onAbort = (): void => done(true);
    const done = (alive: boolean): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
      resolve(alive);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', () => done(true));
    socket.once('error', (error) => done(errnoOf(error) !== 'ECONNREFUSED'));
  });
}

/** Removes a socket that nobody listens on; says what became of it otherwise. */
export async function removeDeadSocket(path: string): Promise<'removed' | 'absent' | 'alive'> {
  const isSocket = await lstat(path).then(
    (stats) => stats.isSocket(),
    () => false,
  );
  if (!isSocket) return 'absent';
  if (await isUnixSocketAlive(path)) return 'alive';
  await unlink(path);
  return 'removed';
}
