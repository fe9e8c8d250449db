/**
 * JSON-RPC 1.0 over a Unix or TCP stream, as OVS speaks it: to ovsdb-server (RFC 7047) and on the control sockets of
 * its daemons (unixctl; ovs-appctl(8)). Knows messages, not what they mean.
 */
import { connect, type Socket } from 'node:net';
import { createJsonStreamParser } from './json-stream.js';

export type RpcTarget =
  | { readonly transport: 'unix'; readonly path: string }
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number };

export type RpcFailure =
  /** Nobody listens there, or it may not be reached. */
  | 'unreachable'
  | 'timed-out'
  | 'aborted'
  /** The connection ended: by the other side, or by `close`. */
  | 'closed'
  /** The other side sent what is no JSON-RPC. */
  | 'protocol'
  /** The other side answered with an error. */
  | 'refused';

export class RpcError extends Error {
  readonly failure: RpcFailure;
  /** What the other side gave as `error`, with `failure: 'refused'`. */
  readonly answer: unknown;

  constructor(failure: RpcFailure, message: string, options?: { readonly cause?: unknown; readonly answer?: unknown }) {
    super(message, options);
    this.name = 'RpcError';
    this.failure = failure;
    this.answer = options?.answer;
  }
}

/** Every call has a deadline: none of these servers has one of its own. */
export interface CallOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What is left of a call's time, each time that it is asked: for steps that share one deadline. Whole milliseconds. */
export function deadlineOf({ timeoutMs, signal }: CallOptions): () => CallOptions {
  const deadline = performance.now() + timeoutMs;
  return () => ({ timeoutMs: Math.max(1, Math.ceil(deadline - performance.now())), signal });
}

/** A request that is sent when nothing was heard for a while; any answer to it, an error too, says that the server lives. */
export interface Probe {
  readonly method: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export interface ConnectOptions extends CallOptions {
  readonly onNotification?: ((method: string, params: unknown) => void) | undefined;
  readonly probe?: Probe | undefined;
}

export interface RpcConnection {
  readonly target: RpcTarget;
  /** Sends a request and gives its `result`. Rejects with `RpcError`. */
  call(method: string, params: readonly unknown[], options: CallOptions): Promise<unknown>;
  /** Settles, never rejects, when the connection has ended, with the reason. */
  readonly closed: Promise<RpcError>;
  isOpen(): boolean;
  /** Safe to call twice. Calls that wait reject with `closed`. */
  close(): void;
}

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: RpcError) => void;
}

export function targetText(target: RpcTarget): string {
  return target.transport === 'unix' ? `unix:${target.path}` : `tcp:${target.host}:${target.port}`;
}

/** Connects; rejects with `RpcError` (`unreachable`, `timed-out`, `aborted`). */
export async function connectRpc(target: RpcTarget, options: ConnectOptions): Promise<RpcConnection> {
  const socket = await connectSocket(target, options);
  return overSocket(target, socket, options);
}

function connectSocket(target: RpcTarget, { timeoutMs, signal }: CallOptions): Promise<Socket> {
  const where = targetText(target);
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new RpcError('aborted', `not connected to ${where}: aborted`));
      return;
    }
    const socket =
      target.transport === 'unix' ? connect(target.path) : connect({ host: target.host, port: target.port });
    const timer = setTimeout(
      () => fail(new RpcError('timed-out', `${where} did not take a connection in ${Math.round(timeoutMs)} ms`)),
      timeoutMs,
    );
    const onAbort = (): void => fail(new RpcError('aborted', `not connected to ${where}: aborted`));
    signal?.addEventListener('abort', onAbort, { once: true });

    function release(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
    }
    function fail(error: RpcError): void {
      release();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    }
    socket.once('error', (cause) => {
      fail(new RpcError('unreachable', `can not connect to ${where}: ${cause.message}`, { cause }));
    });
    socket.once('connect', () => {
      release();
      resolve(socket);
    });
  });
}

function overSocket(target: RpcTarget, socket: Socket, options: ConnectOptions): RpcConnection {
  const where = targetText(target);
  const pending = new Map<number, PendingCall>();
  let nextId = 1;
  let heardAt = performance.now();
  let probeTimer: NodeJS.Timeout | undefined;
  let ended: RpcError | undefined;
  let settleClosed: (reason: RpcError) => void;
  const closed = new Promise<RpcError>((resolve) => {
    settleClosed = resolve;
  });

  function end(reason: RpcError): void {
    if (ended) return;
    ended = reason;
    clearTimeout(probeTimer);
    socket.destroy();
    for (const call of pending.values()) call.reject(reason);
    pending.clear();
    settleClosed(reason);
  }

  function send(message: unknown): void {
    socket.write(JSON.stringify(message));
  }

  function receive(message: unknown): void {
    if (!isRecord(message)) return;
    const { id, method } = message;
    if (typeof method === 'string') {
      if (id === null || id === undefined) options.onNotification?.(method, message['params']);
      // RFC 7047, 4.1.11: either side may ask; the answer is the parameters.
      else if (method === 'echo') send({ id, result: message['params'], error: null });
      else send({ id, result: null, error: 'unknown method' });
      return;
    }
    const call = typeof id === 'number' ? pending.get(id) : undefined;
    // An answer that came after its deadline.
    if (call === undefined) return;
    pending.delete(id as number);
    const { error } = message;
    if (error === null || error === undefined) {
      call.resolve(message['result']);
      return;
    }
    const text = typeof error === 'string' ? error : JSON.stringify(error);
    call.reject(new RpcError('refused', `${where} answered: ${text.trim()}`, { answer: error }));
  }

  const parser = createJsonStreamParser(receive);
  socket.on('data', (chunk: Buffer) => {
    heardAt = performance.now();
    try {
      parser.push(chunk);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      end(new RpcError('protocol', `${where} sent what is no JSON-RPC: ${why}`, { cause }));
    }
  });
  socket.on('error', (cause) =>
    end(new RpcError('closed', `connection to ${where} lost: ${cause.message}`, { cause })),
  );
  socket.on('close', () => end(new RpcError('closed', `${where} closed the connection`)));

  function call(method: string, params: readonly unknown[], { timeoutMs, signal }: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (ended) {
        reject(ended);
        return;
      }
      if (signal?.aborted) {
        reject(new RpcError('aborted', `${method} was not sent to ${where}: aborted`));
        return;
      }
      const id = nextId++;
      const timer = setTimeout(
        () => give(new RpcError('timed-out', `${where} did not answer ${method} in ${Math.round(timeoutMs)} ms`)),
        timeoutMs,
      );
      const onAbort = (): void => give(new RpcError('aborted', `${method} to ${where}: aborted`));
      signal?.addEventListener('abort', onAbort, { once: true });

      function release(): void {
        pending.delete(id);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      }
      function give(error: RpcError): void {
        release();
        reject(error);
      }
      pending.set(id, {
        resolve(result) {
          release();
          resolve(result);
        },
        reject: give,
      });
      send({ method, params, id });
    });
  }

  function scheduleProbe({ method, intervalMs, timeoutMs }: Probe): void {
    const idleMs = performance.now() - heardAt;
    probeTimer = setTimeout(
      async () => {
        if (performance.now() - heardAt >= intervalMs) {
          try {
            await call(method, [], { timeoutMs });
          } catch (error) {
            if (error instanceof RpcError && error.failure === 'timed-out') end(error);
          }
        }
        if (!ended) scheduleProbe({ method, intervalMs, timeoutMs });
      },
      Math.max(1, intervalMs - idleMs),
    );
    // A probe is no reason for a process to live on.
    probeTimer.unref();
  }
  if (options.probe) scheduleProbe(options.probe);

  return {
    target,
    call,
    closed,
    isOpen: () => ended === undefined,
    close: () => end(new RpcError('closed', `connection to ${where} was closed here`)),
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
