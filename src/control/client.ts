/** What `arca` asks arca-control, over its Unix socket. Every call has a deadline; failures are ArcaErrors. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { ArcaError, ERROR_KINDS, type ErrorCode, errnoOf } from '../errors.js';
import type { ControlEvent, ControlService, Health, Made } from './model.js';

export interface ClientOptions {
  /** Of the Unix socket. */
  readonly path: string;
  /** For each call, from its start to the end of its answer. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Its own version, and that of what it speaks. */
export interface ControlVersion {
  readonly version: string;
  readonly api: string;
  readonly pid: number;
}

export interface EventStream {
  /** Ends when the server ends the stream; rejects when the connection breaks, or is silent for too long. */
  readonly events: AsyncIterable<ControlEvent>;
  close(): void;
}

/** The service's calls, as they are answered over HTTP. */
export interface ControlClient extends Omit<ControlService, 'listAttachments' | 'metrics' | 'subscribe'> {
  listAttachments(
    filter?: Parameters<ControlService['listAttachments']>[0],
  ): ReturnType<ControlService['listAttachments']>;
  /** Always refused: there is no policy in VLAN mode. */
  setNetworkPolicy(name: string): Promise<void>;
  metrics(): Promise<string>;
  version(): Promise<ControlVersion>;
  /** Resolves when the server listens to what happens: from then on nothing is missed. */
  openEvents(): Promise<EventStream>;
}

interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: object;
}

interface Reply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** A server that answers more than this is none of ours. */
const MOST_REPLY_BYTES = 64 * 1024 * 1024;
const LONGEST_EVENT = 1024 * 1024;
/** The server's heartbeat comes every 15 s. */
const MOST_SILENCE_MS = 45_000;

export function createClient(options: ClientOptions): ControlClient {
  const where = `unix:${options.path}`;

  async function json<T>(call: Call, accepted: readonly number[] = [200]): Promise<T> {
    const reply = await ask(options, call);
    if (!accepted.includes(reply.status)) throw failureOf(reply, where);
    return parseJson(reply, where) as T;
  }

  /** Calls that answer 201 when they made something, and 200 when it was there. */
  async function make<T>(path: string, body: object): Promise<Made<T>> {
    const reply = await ask(options, { method: 'POST', path, body });
    if (reply.status !== 200 && reply.status !== 201) throw failureOf(reply, where);
    return { created: reply.status === 201, value: parseJson(reply, where) as T };
  }

  async function remove(path: string): Promise<void> {
    const reply = await ask(options, { method: 'DELETE', path });
    if (reply.status !== 204) throw failureOf(reply, where);
  }

  const get = <T>(path: string): Promise<T> => json<T>({ method: 'GET', path });

  return {
    listNetworks: () => get('/v1/networks'),
    getNetwork: async (name) => get(`/v1/networks/${encoded(name)}`),
    createNetwork: (spec) => make('/v1/networks', spec),
    adoptNetwork: async (name, spec) =>
      json({ method: 'POST', path: `/v1/networks/${encoded(name)}/adopt`, body: spec }),
    removeNetwork: async (name, { force }) => remove(`/v1/networks/${encoded(name)}${force ? '?force=true' : ''}`),
    async setNetworkPolicy(name) {
      const reply = await ask(options, { method: 'PUT', path: `/v1/networks/${encoded(name)}/policy`, body: {} });
      throw failureOf(reply, where);
    },

    listAttachments: async (filter = {}) => get(`/v1/attachments${queryOf({ ...filter })}`),
    getAttachment: async (container, network) => get(`/v1/attachments/${encoded(container)}/${encoded(network)}`),
    attach: (spec) => make('/v1/attachments', spec),
    detach: async (container, network) => remove(`/v1/attachments/${encoded(container)}/${encoded(network)}`),

    listChassis: () => get('/v1/chassis'),
    registerChassis: (spec) => make('/v1/chassis', spec),
    removeChassis: async (name) => remove(`/v1/chassis/${encoded(name)}`),

    // Both are an answer to the question.
    async health() {
      const reply = await ask(options, { method: 'GET', path: '/v1/health' });
      if (!isJson(reply) || (reply.status !== 200 && reply.status !== 503)) throw failureOf(reply, where);
      return parseJson(reply, where) as Health;
    },
    reconcile: ({ dryRun }) => json({ method: 'POST', path: '/v1/reconcile', body: { dryRun } }),
    async metrics() {
      const reply = await ask(options, { method: 'GET', path: '/metrics' });
      if (reply.status !== 200) throw failureOf(reply, where);
      return reply.body;
    },
    version: () => get('/v1/version'),
    openEvents: () => openEvents(options),
  };
}

/** `.` and `..` are names too; nothing between here and the server reads them as steps of a path. */
function encoded(name: string): string {
  try {
    return encodeURIComponent(name);
  } catch (cause) {
    throw new ArcaError('spec-invalid', `${JSON.stringify(name)} is no Unicode text`, { cause });
  }
}

function queryOf(parameters: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(parameters).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return given.length === 0 ? '' : `?${given.map(([name, value]) => `${name}=${encoded(value)}`).join('&')}`;
}

function send({ path: socketPath }: ClientOptions, { method, path, body }: Call): ClientRequest {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    host: 'arca-control',
    ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
  };
  const request = httpRequest({ socketPath, method, path, headers, agent: false });
  request.end(text);
  return request;
}

function ask(options: ClientOptions, call: Call): Promise<Reply> {
  const { timeoutMs, signal } = options;
  return new Promise((resolve, reject) => {
    const request = send(options, call);
    const fail = (error: unknown): void => {
      release();
      request.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(signal?.reason);
    const timer = setTimeout(() => fail(tooSlow(options, call)), timeoutMs);
    const release = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    request.on('error', (error) => fail(unreachable(options, error)));
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      response.on('data', (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > MOST_REPLY_BYTES) fail(notOurs(`unix:${options.path}`, 'the answer does not end'));
        else chunks.push(chunk);
      });
      response.on('error', (error) => fail(unreachable(options, error)));
      response.on('end', () => {
        release();
        resolve({ ...headOf(response), body: Buffer.concat(chunks).toString('utf8') });
      });
    });
  });
}

function headOf(response: IncomingMessage): Omit<Reply, 'body'> {
  const contentType = (response.headers['content-type'] ?? '').split(';', 1)[0] ?? '';
  return { status: response.statusCode ?? 0, contentType };
}

function isJson({ contentType }: Reply): boolean {
  return contentType === 'application/json';
}

function parseJson(reply: Reply, where: string): unknown {
  if (!isJson(reply)) throw notOurs(where, `HTTP ${reply.status}, ${reply.contentType || 'no content type'}`);
  try {
    return JSON.parse(reply.body);
  } catch (cause) {
    throw notOurs(where, 'its answer is no JSON', cause);
  }
}

/** The error that the server told; its code and details are what they were there. */
function failureOf(reply: Reply, where: string): ArcaError {
  if (reply.contentType !== 'application/problem+json') return notOurs(where, `HTTP ${reply.status}`);
  let told: Readonly<Record<string, unknown>>;
  try {
    told = JSON.parse(reply.body) as Record<string, unknown>;
  } catch (cause) {
    return notOurs(where, 'its problem is no JSON', cause);
  }
  const { type: _type, title, status: _status, detail, code, ...details } = told;
  const message = String(detail ?? title ?? `HTTP ${reply.status}`);
  // A newer server may have codes that this client does not know.
  if (isErrorCode(code)) return new ArcaError(code, message, { details });
  return new ArcaError('unexpected', message, { details: { ...details, code } });
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERROR_KINDS, code);
}

function unreachable({ path }: ClientOptions, cause: unknown): ArcaError {
  const why = errnoOf(cause);
  const start = `start it: arca-control --listen unix:${path}`;
  switch (why) {
    case 'ENOENT':
      return new ArcaError('control-unreachable', `no arca-control listens on unix:${path}; ${start}`, { cause });
    case 'ECONNREFUSED':
      return new ArcaError(
        'control-unreachable',
        `the arca-control of unix:${path} is dead (its socket is left); ${start}`,
        { cause },
      );
    case 'EACCES':
    case 'EPERM':
      return new ArcaError(
        'permission-denied',
        `no permission to open unix:${path}; it belongs to root and the group of arca-control's --socket-group`,
        { cause },
      );
    default: {
      const said = cause instanceof Error ? cause.message : String(cause);
      return new ArcaError('control-unreachable', `arca-control on unix:${path} did not answer: ${said}`, { cause });
    }
  }
}

function notOurs(where: string, why: string, cause?: unknown): ArcaError {
  return new ArcaError('control-unreachable', `what listens on ${where} is no arca-control: ${why}`, { cause });
}

function tooSlow({ path, timeoutMs }: ClientOptions, { method, path: url }: Call): ArcaError {
  const seconds = timeoutMs / 1000;
  return new ArcaError(
    'timed-out',
    `arca-control on unix:${path} did not answer ${method} ${url} in ${seconds} s; it may still do it: look, or wait longer with --timeout`,
  );
}

function openEvents(options: ClientOptions): Promise<EventStream> {
  const { timeoutMs, signal } = options;
  const call: Call = { method: 'GET', path: '/v1/events' };
  return new Promise((resolve, reject) => {
    const request = send(options, call);
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      request.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(signal?.reason);
    const timer = setTimeout(() => fail(tooSlow(options, call)), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    request.on('error', (error) => fail(unreachable(options, error)));
    request.on('response', (response) => {
      const { status, contentType } = headOf(response);
      if (status !== 200 || contentType !== 'text/event-stream') {
        response.setEncoding('utf8');
        let body = '';
        response.on('data', (text: string) => {
          if (body.length < LONGEST_EVENT) body += text;
        });
        response.on('error', (error) => fail(unreachable(options, error)));
        response.on('end', () => fail(failureOf({ status, contentType, body }, `unix:${options.path}`)));
        return;
      }
      clearTimeout(timer);
      response.on('close', () => signal?.removeEventListener('abort', onAbort));
      response.socket.setTimeout(MOST_SILENCE_MS, () => response.destroy(new Error('it says nothing any more')));
      resolve({ events: readEvents(response, options), close: () => request.destroy() });
    });
  });
}

/** WHATWG HTML, 9.2.6, as far as our server makes use of it: one `data` line an event. */
async function* readEvents(response: IncomingMessage, options: ClientOptions): AsyncGenerator<ControlEvent> {
  response.setEncoding('utf8');
  let rest = '';
  try {
    for await (const text of response) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > LONGEST_EVENT) throw new Error('an event does not end');
      for (const line of lines) {
        if (line.startsWith('data: ')) yield JSON.parse(line.slice('data: '.length)) as ControlEvent;
      }
    }
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw unreachable(options, error);
  }
}
