/**
 * HTTP on `--metrics`: `GET /metrics` for Prometheus, `GET /status` for whoever wants to know or adopt this relay.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type HttpEndpoint, listenHttp } from '../http-listen.js';
import type { MetricsText } from '../metrics.js';

export interface StatusSource {
  /** What `GET /status` answers, as JSON. */
  status(): unknown;
  metrics(): Promise<MetricsText>;
}

export interface StatusServer {
  /** Ends every connection, and removes the Unix socket. */
  stop(): Promise<void>;
}

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
  await listenHttp(server, endpoint, { option: '--metrics', signal });
  return {
    // Node removes the Unix socket of a server that it closes.
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
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
