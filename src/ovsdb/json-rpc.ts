/**
 * JSON-RPC 1.0 over a stream (Unix, TCP or TLS), as OVS speaks it: to ovsdb-server (RFC 7047) and on the control sockets of
 * its daemons (unixctl; ovs-appctl(8)). Knows messages, not what they mean.
 */
import type { Socket } from 'node:net';
import { createJsonStreamParser } from './json-stream.js';
import { type RpcServer, targetText } from './remote.js';
import { type CallOptions, RpcError } from './rpc-error.js';
import { connectSocket } from './socket.js';

export { type RpcTarget, targetText } from './remote.js';
export { type CallOptions, deadlineOf, RpcError } from './rpc-error.js';

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

export interface RequestOptions extends CallOptions {
  /** Called with the result before anything is read that came behind it. It must not throw. */
  readonly onResult?: ((result: unknown) => void) | undefined;
  /** Called with the id of the request when its deadline has passed, or its signal aborts, before there was an answer. */
  readonly onGivenUp?: ((id: number) => void) | undefined;
}

export interface RpcConnection {
  readonly target: RpcServer;
  /** Sends a request and gives its `result`. Rejects with `RpcError`. */
  call(method: string, params: readonly unknown[], options: RequestOptions): Promise<unknown>;
  /** Sends what has no answer. */
  notify(method: string, params: readonly unknown[]): void;
  /** Settles, never rejects, when the connection has ended, with the reason. */
  readonly closed: Promise<RpcError>;
  isOpen(): boolean;
  /** Safe to call twice. Calls that wait reject with `closed`, or with the reason that is given. */
  close(reason?: RpcError): void;
}

/** What may wait to be sent; a server that reads nothing any more can't make us keep more. One message may be larger. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: RpcError) => void;
}

/** Connects; rejects with `RpcError` (`unreachable`, `timed-out`, `aborted`). */
export async function connectRpc(target: RpcServer, options: ConnectOptions): Promise<RpcConnection> {
  const socket = await connectSocket(target, options);
  return overSocket(target, socket, options);
}

function overSocket(target: RpcServer, socket: Socket, options: ConnectOptions): RpcConnection {
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
    if (socket.writableLength > MAX_UNSENT_BYTES) {
      end(new RpcError('closed', `${where} does not read what it is sent`));
      return;
    }
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

  function call(method: string, params: readonly unknown[], options: RequestOptions): Promise<unknown> {
    const { timeoutMs, signal, onResult, onGivenUp } = options;
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
        () => giveUp(new RpcError('timed-out', `${where} did not answer ${method} in ${Math.round(timeoutMs)} ms`)),
        timeoutMs,
      );
      const onAbort = (): void => giveUp(new RpcError('aborted', `${method} to ${where}: aborted`));
      signal?.addEventListener('abort', onAbort, { once: true });

      function release(): void {
        pending.delete(id);
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      }
      function giveUp(error: RpcError): void {
        release();
        onGivenUp?.(id);
        reject(error);
      }
      pending.set(id, {
        resolve(result) {
          release();
          onResult?.(result);
          resolve(result);
        },
        reject(error) {
          release();
          reject(error);
        },
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
    notify(method, params) {
      if (ended === undefined) send({ method, params, id: null });
    },
    closed,
    isOpen: () => ended === undefined,
    close: (reason = new RpcError('closed', `connection to ${where} was closed here`)) => end(reason),
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
