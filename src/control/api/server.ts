/** Serves the control API on Unix sockets, and stops without cutting anybody off. */
import { chownSync, mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf } from '../../errors.js';
import { CommandError, run } from '../../exec.js';
import { listenHttp } from '../../http-listen.js';
import type { Logger } from '../../log.js';
import type { ControlService } from '../model.js';
import { createApp, rawProblem } from './app.js';
import { createEventStreams, EVENT_LIMITS, type EventLimits } from './events.js';
import type { HttpCode } from './problems.js';

export interface ControlApiOptions {
  readonly service: ControlService;
  /** Unix sockets, absolute. Folders that are missing are made. */
  readonly paths: readonly string[];
  /** Gets the sockets, if there is one of that name. */
  readonly group: string;
  readonly log: Logger;
  readonly version: string;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: Partial<ApiLimits> | undefined;
}

export interface ApiLimits {
  readonly maxConnections: number;
  /** From the first byte of a request to its last. */
  readonly requestTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** Calls that run have this long when the server stops. */
  readonly drainMs: number;
  readonly events: EventLimits;
}

export interface ControlApi {
  /** Takes no more calls, lets those that run end within a bound, ends event streams, removes the sockets. Safe to call twice. */
  stop(): Promise<void>;
}

const SOCKET_MODE = 0o660;
const FOLDER_MODE = 0o755;
const LOOK_UP_TIMEOUT_MS = 5_000;
/** An answer that nobody reads is not waited for. */
const FLUSH_MS = 1_000;

const LIMITS: ApiLimits = {
  maxConnections: 512,
  requestTimeoutMs: 10_000,
  headersTimeoutMs: 5_000,
  drainMs: 20_000,
  events: EVENT_LIMITS,
};

/** Rejects with `endpoint-in-use`, `endpoint-failed` or `permission-denied`; nothing listens then. */
export async function startControlApi(options: ControlApiOptions): Promise<ControlApi> {
  const { service, paths, group, log, version, signal } = options;
  const limits = { ...LIMITS, ...options.limits };
  const groupId = await findGroup(group, log);
  const streams = createEventStreams(service, log, limits.events);
  const servers: Server[] = [];

  try {
    const app = await createApp({ service, streams, log, version });
    for (const path of paths) {
      const server = createHttpServer(app.handle, limits);
      makeFolder(path);
      await listenHttp(
        server,
        { transport: 'unix', path },
        {
          option: '--listen',
          mode: SOCKET_MODE,
          beforeMode: (socket) => giveToGroup(socket, group, groupId, log),
          signal,
        },
      );
      servers.push(server);
      log.info({ listen: `unix:${path}` }, 'the control API listens');
    }

    let stopped: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      const closed = Promise.all(servers.map(closeServer));
      streams.stop();
      if (!(await inTime(app.drain(), limits.drainMs))) {
        log.warn({ drainMs: limits.drainMs }, 'calls still run; their callers get no answer');
      }
      await inTime(closed, FLUSH_MS);
      for (const server of servers) server.closeAllConnections();
      await closed;
    };
    return {
      stop() {
        stopped ??= stop();
        return stopped;
      },
    };
  } catch (error) {
    streams.stop();
    await Promise.all(servers.map(closeServer));
    throw error;
  }
}

function createHttpServer(handle: Parameters<typeof createServer>[1], limits: ApiLimits): Server {
  const { requestTimeoutMs: requestTimeout, headersTimeoutMs: headersTimeout, maxConnections } = limits;
  const connectionsCheckingInterval = Math.max(1, Math.round(Math.min(requestTimeout, headersTimeout) / 5));
  const server = createServer({ requestTimeout, headersTimeout, connectionsCheckingInterval }, handle);
  server.maxConnections = maxConnections;
  server.on('clientError', (error, socket) => refuse(error, socket));
  return server;
}

/** What came is no request; the parser says why. */
function refuse(error: Error, socket: Duplex): void {
  if (errnoOf(error) === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [code, detail] = describeClientError(errnoOf(error));
  socket.end(rawProblem(code, detail), () => socket.destroy());
}

function describeClientError(code: string | undefined): [HttpCode, string] {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['request-timeout', 'the request did not arrive in time'];
    case 'HPE_HEADER_OVERFLOW':
      return ['headers-too-large', 'the header fields are too large'];
    default:
      return ['request-malformed', 'that is no HTTP/1.1 request'];
  }
}

function makeFolder(socketPath: string): void {
  try {
    mkdirSync(dirname(socketPath), { recursive: true, mode: FOLDER_MODE });
  } catch (error) {
    // What is wrong with it is told better by who listens there.
    if (errnoOf(error) === undefined) throw error;
  }
}

/** By getent(1), so that groups count that are in no file. */
async function findGroup(name: string, log: Logger): Promise<number | undefined> {
  try {
    const { stdout } = await run('getent', ['group', name], { timeoutMs: LOOK_UP_TIMEOUT_MS });
    return Number(stdout.split(':')[2]);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    log.info({ group: name }, 'there is no such group; only our own user can open the sockets');
    return undefined;
  }
}

function giveToGroup(path: string, group: string, groupId: number | undefined, log: Logger): void {
  if (groupId === undefined) return;
  try {
    chownSync(path, -1, groupId);
  } catch (error) {
    log.warn({ group, err: error }, 'the socket can not be given to the group; only our own user can open it');
  }
}

/** Accepts nobody any more; resolves when the last connection has ended. Node removes the socket's file. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

async function inTime(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const deadline = new AbortController();
  try {
    return await Promise.race([
      work.then(() => true),
      delay(timeoutMs, false, { signal: deadline.signal }).catch(() => false),
    ]);
  } finally {
    deadline.abort();
  }
}
