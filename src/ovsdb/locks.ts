/**
 * Locks between clients (RFC 7047, sections 4.1.8 to 4.1.10): advice that the server keeps, and that `assert` in a
 * transaction makes binding. The server frees what a connection holds when that ends.
 */
import type { RpcConnection } from './json-rpc.js';
import { type CallOptions, RpcError } from './rpc-error.js';

export interface OvsdbLock {
  readonly name: string;
  isHeld(): boolean;
  /** Resolves as soon as it is held. Rejects at the deadline, and stays in the queue then; and when the connection ends. */
  whenHeld(options: CallOptions): Promise<void>;
  /** Gives it back, or leaves the queue. */
  unlock(options: CallOptions): Promise<void>;
}

/** How to come by it: `lock` joins the queue, `steal` takes it from whoever holds it. */
export type LockMethod = 'lock' | 'steal';

/** The locks of one connection. */
export interface Locks {
  /** `onChange` is called when the lock comes later, and when somebody steals it. It must not throw. */
  take(method: LockMethod, name: string, onChange: (isHeld: boolean) => void, options: CallOptions): Promise<OvsdbLock>;
  /** The server's `locked` and `stolen`. */
  onNotification(method: string, params: unknown): void;
}

const GIVE_BACK_MS = 5000;

export function createLocks(connection: () => RpcConnection): Locks {
  /** What is to be told of each lock that was asked for. */
  const told = new Map<string, (isHeld: boolean) => void>();

  async function take(
    method: LockMethod,
    name: string,
    onChange: (isHeld: boolean) => void,
    options: CallOptions,
  ): Promise<OvsdbLock> {
    let isHeld = false;
    const waiters = new Set<() => void>();
    const tell = (now: boolean): void => {
      isHeld = now;
      for (const check of [...waiters]) check();
    };
    await connection().call(method, [name], {
      ...options,
      onResult(result) {
        // Before the notifications behind the answer.
        tell((result as { readonly locked?: unknown } | null)?.locked === true);
        told.set(name, (now) => {
          tell(now);
          onChange(now);
        });
      },
      // Nobody would know that we hold it. The server reads this behind the request, whether or not it answers in time.
      onGivenUp: () =>
        void connection()
          .call('unlock', [name], { timeoutMs: GIVE_BACK_MS })
          .catch(() => {}),
    });
    void connection().closed.then(() => tell(false));
    return {
      name,
      isHeld: () => isHeld,
      whenHeld: (call) => whenTrue(() => isHeld, waiters, `lock ${name}`, connection(), call),
      async unlock(call) {
        told.delete(name);
        isHeld = false;
        await connection().call('unlock', [name], call);
      },
    };
  }

  return {
    take,
    onNotification(method, params) {
      if ((method !== 'locked' && method !== 'stolen') || !Array.isArray(params)) return;
      told.get(String(params[0]))?.(method === 'locked');
    },
  };
}

function whenTrue(
  look: () => boolean,
  waiters: Set<() => void>,
  what: string,
  connection: RpcConnection,
  { timeoutMs, signal }: CallOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      waiters.delete(check);
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const fail = (error: RpcError): void => finish(() => reject(error));
    const check = (): void => {
      if (look()) finish(resolve);
      else if (!connection.isOpen()) fail(new RpcError('closed', `the connection ended while waiting for ${what}`));
    };
    const onAbort = (): void => fail(new RpcError('aborted', `waiting for ${what}: aborted`));
    const timer = setTimeout(
      () => fail(new RpcError('timed-out', `${what} was not free in ${Math.round(timeoutMs)} ms`)),
      timeoutMs,
    );
    waiters.add(check);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    else check();
  });
}
