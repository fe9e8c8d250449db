/**
 * HTTP on `--metrics`: `GET /metrics` for Prometheus, `GET /status` for whoever wants to know or adopt this relay.
 */
import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { ArcaError, errnoOf } from '../errors.js';
import type { MetricsText } from '../metrics.js';
import type { HttpEndpoint } from './options.js';

export interface StatusSource {
  /** What `GET /status` answers, as JSON. */
  status(): unknown;
  metrics(): Promise<MetricsText>;
}

export interface StatusServer {
  /** Ends every connection, and removes the Unix socket. */
  stop(): Promise<void>;
}

/** How long somebody who listens on a socket that is in our way has to take a connection. */
const STALE_PROBE_MS = 500;

/** Listens. A Unix socket that a dead process left is replaced; rejects with `endpoint-in-use` when somebody listens there. */
export async function startStatusServer(
  endpoint: HttpEndpoint,
  source: StatusSource,
  signal?: AbortSignal,
): Promise<StatusServer> {
  const server = createServer((request, response) => void answer(request, response, source));
  // Scrapes are small; nobody may hold a connection open for ever by saying nothing.
  server.headersTimeout = 5000;
  server.requestTimeout = 5000;
  try {
    await listen(server, endpoint);
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE' || endpoint.transport !== 'unix') throw listenFailure(error, endpoint);
    // A connect to a file that is no socket is refused too (unix(7)); it is not ours to remove.
    if (!lstatSync(endpoint.path).isSocket() || (await isAlive(endpoint.path, signal))) {
      throw listenFailure(error, endpoint);
    }
    unlinkSync(endpoint.path);
    await listen(server, endpoint).catch((again: unknown) => {
      throw listenFailure(again, endpoint);
    });
  }
  return {
    // Node removes the Unix socket of a server that it closes.
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, endpoint: HttpEndpoint): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    };
    if (endpoint.transport === 'unix') server.listen(endpoint.path, listening);
    else server.listen(endpoint.port, endpoint.host, listening);
  });
}

/** Does anybody take connections there? One that is slow to say counts as alive: its socket is not ours to remove. */
function isAlive(path: string, signal?: AbortSignal): Promise<boolean> {
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

async function answer(request: IncomingMessage, response: ServerResponse, source: StatusSource): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
    return;
  }
  try {
    // The body first: what fails must fail before the head says that all is well.
    const { status, contentType, body } = await read(request.url?.split('?', 1)[0], source);
    response.writeHead(status, { 'content-type': contentType }).end(body);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    response.writeHead(500, { 'content-type': 'text/plain' }).end(`${message}\n`);
  }
}

async function read(
  path: string | undefined,
  source: StatusSource,
): Promise<MetricsText & { readonly status: number }> {
  switch (path) {
    case '/metrics':
      return { status: 200, ...(await source.metrics()) };
    case '/status':
      return { status: 200, contentType: 'application/json', body: `${JSON.stringify(source.status())}\n` };
    default:
      return { status: 404, contentType: 'text/plain', body: 'GET /metrics or GET /status\n' };
  }
}

function listenFailure(error: unknown, endpoint: HttpEndpoint): ArcaError {
  const where = endpoint.transport === 'unix' ? `unix:${endpoint.path}` : `${endpoint.host}:${endpoint.port}`;
  const said = error instanceof Error ? error.message : String(error);
  const cause = error;
  // libuv tells a missing folder as EACCES.
  if (endpoint.transport === 'unix' && !existsSync(dirname(endpoint.path))) {
    return new ArcaError('endpoint-failed', `--metrics ${where}: the folder does not exist`, { cause });
  }
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return new ArcaError('endpoint-in-use', `--metrics ${where}: somebody listens there already (${said})`, {
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new ArcaError('permission-denied', `--metrics ${where}: no permission (${said})`, { cause });
    default:
      return new ArcaError('endpoint-failed', `--metrics ${where}: can not listen there: ${said}`, { cause });
  }
}
