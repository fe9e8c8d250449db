/**
 * HTTP on `--metrics`: `GET /metrics` for Prometheus, `GET /status` for whoever wants to know or adopt this relay, and
 * `GET /events` for whoever watches over it: the status as a line of JSON, then a line for each event, until the
 * process ends.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type HttpEndpoint, listenHttp } from '../http-listen.js';
import type { MetricsText } from '../metrics.js';

export interface StatusSource {
  /** What `GET /status` answers, as JSON. */
  status(): object;
  metrics(): Promise<MetricsText>;
  /** Calls `listener` with each event, as JSON, from now on; the function that comes back ends that. */
  subscribe(listener: (event: object) => void): () => void;
}

export interface StatusServer {
  /**
   * Removes the Unix socket, and ends every connection but the streams of events. Those the kernel ends, with the
   * process: their end says that all that the relay had made is undone, or that it was killed.
   */
  stop(): Promise<void>;
}

/** A watcher that does not read is cut off here; it comes again, and begins with the status. */
const MOST_UNREAD_EVENT_BYTES = 64 * 1024;

/** Listens. A Unix socket that a dead process left is replaced; rejects with `endpoint-in-use` when somebody listens there. */
export async function startStatusServer(
  endpoint: HttpEndpoint,
  source: StatusSource,
  signal?: AbortSignal,
): Promise<StatusServer> {
  const streams = new Set<Socket>();
  const connections = new Set<Socket>();
  const server = createServer((request, response) => void answer(request, response, source, streams));
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  // Scrapes are small; nobody may hold a connection open for ever by saying nothing.
  server.headersTimeout = 5000;
  server.requestTimeout = 5000;
  await listenHttp(server, endpoint, { option: '--metrics', signal });
  return {
    // Node removes the Unix socket of a server that it closes, at once; it waits for connections only to call back.
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of connections) if (!streams.has(socket)) socket.destroy();
        if (streams.size > 0) resolve();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  source: StatusSource,
  streams: Set<Socket>,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
    return;
  }
  try {
    const path = request.url?.split('?', 1)[0];
    if (path === '/events' && request.method === 'GET') {
      streamEvents(response, source, streams);
      return;
    }
    // The body first: what fails must fail before the head says that all is well.
    const { status, contentType, body } = await read(path, source);
    response.writeHead(status, { 'content-type': contentType }).end(body);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    response.writeHead(500, { 'content-type': 'text/plain' }).end(`${message}\n`);
  }
}

/** Status and subscription are of one turn of the event loop: nothing is lost between them, and nothing told twice. */
function streamEvents(response: ServerResponse, source: StatusSource, streams: Set<Socket>): void {
  const { socket } = response;
  if (socket === null) return;
  const status = source.status();
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const tell = (line: object): void => {
    if (response.writableLength > MOST_UNREAD_EVENT_BYTES) socket.destroy();
    else response.write(`${JSON.stringify(line)}\n`);
  };
  const unsubscribe = source.subscribe(tell);
  streams.add(socket);
  response.once('close', () => {
    unsubscribe();
    streams.delete(socket);
  });
  tell({ event: 'status', ...status });
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
      return { status: 404, contentType: 'text/plain', body: 'GET /metrics, GET /status or GET /events\n' };
  }
}
