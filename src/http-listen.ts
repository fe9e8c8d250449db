/** Where HTTP is served, on a Unix socket or TCP: for the relay's status and for the control API. */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:http';
import { dirname } from 'node:path';
import { ArcaError, errnoOf } from './errors.js';
import { isUnixSocketAlive } from './unix-socket.js';

export type HttpEndpoint =
  | { readonly transport: 'unix'; readonly path: string }
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number };

export interface ListenOptions {
  /** The option of the command line that asked for it, for messages. */
  readonly option: string;
  /** Of a Unix socket. Until then nobody but our own user can connect. By default what the umask leaves. */
  readonly mode?: number | undefined;
  /** Called with the path of a Unix socket before it gets its `mode`, for example to give it to a group. */
  readonly beforeMode?: ((path: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const OWNER_ONLY_UMASK = 0o177;

/**
 * Lets the server listen. A Unix socket that a dead process left is replaced; rejects with `endpoint-in-use` when
 * somebody listens there. Node removes the Unix socket of a server that is closed.
 */
export async function listenHttp(server: Server, endpoint: HttpEndpoint, options: ListenOptions): Promise<void> {
  try {
    await listen(server, endpoint, options);
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE' || endpoint.transport !== 'unix') throw listenFailure(error, endpoint, options);
    // A connect to a file that is no socket is refused too (unix(7)); it is not ours to remove.
    if (!lstatSync(endpoint.path).isSocket() || (await isUnixSocketAlive(endpoint.path, options.signal))) {
      throw listenFailure(error, endpoint, options);
    }
    unlinkSync(endpoint.path);
    await listen(server, endpoint, options).catch((again: unknown) => {
      throw listenFailure(again, endpoint, options);
    });
  }
}

function listen(server: Server, endpoint: HttpEndpoint, { mode, beforeMode }: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.off('error', reject);
      server.on('error', () => {});
      try {
        if (endpoint.transport === 'unix' && mode !== undefined) {
          beforeMode?.(endpoint.path);
          chmodSync(endpoint.path, mode);
        }
        resolve();
      } catch (error) {
        server.close(() => reject(error));
      }
    };
    if (endpoint.transport === 'tcp') server.listen(endpoint.port, endpoint.host, listening);
    else if (mode === undefined) server.listen(endpoint.path, listening);
    else withUmask(OWNER_ONLY_UMASK, () => server.listen(endpoint.path, listening));
  });
}

/** libuv binds a Unix socket inside of `listen`, so the umask is ours for as long as that call takes. */
function withUmask(mask: number, act: () => void): void {
  const before = process.umask(mask);
  try {
    act();
  } finally {
    process.umask(before);
  }
}

function listenFailure(error: unknown, endpoint: HttpEndpoint, { option }: ListenOptions): ArcaError {
  const where = endpoint.transport === 'unix' ? `unix:${endpoint.path}` : `${endpoint.host}:${endpoint.port}`;
  const said = error instanceof Error ? error.message : String(error);
  const cause = error;
  // libuv tells a missing folder as EACCES.
  if (endpoint.transport === 'unix' && !existsSync(dirname(endpoint.path))) {
    return new ArcaError('endpoint-failed', `${option} ${where}: the folder does not exist`, { cause });
  }
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return new ArcaError('endpoint-in-use', `${option} ${where}: somebody listens there already (${said})`, {
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new ArcaError('permission-denied', `${option} ${where}: no permission (${said})`, { cause });
    default:
      return new ArcaError('endpoint-failed', `${option} ${where}: can not listen there: ${said}`, { cause });
  }
}
