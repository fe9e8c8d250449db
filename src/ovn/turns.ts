/** One after another, in the order in which they were asked for. */
import { ArcaError } from '../errors.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';

export interface Turns {
  /** Runs `work` when all before it have settled. Work whose deadline comes first is not run. */
  take<T>(work: () => Promise<T>, options: CallOptions & { readonly doing: string }): Promise<T>;
}

export function createTurns(): Turns {
  let last: Promise<unknown> = Promise.resolve();
  return {
    take(work, options) {
      const before = last;
      const mine = untilSettled(before, options).then(work);
      last = Promise.allSettled([before, mine]);
      return mine;
    },
  };
}

export function lateFailure(doing: string, { timeoutMs }: CallOptions): ArcaError {
  return new ArcaError(
    'northbound-timeout',
    `the OVN northbound database is overloaded, or does not answer: the ${Math.round(timeoutMs)} ms for ${doing} were over ` +
      'while it worked on what was asked before',
  );
}

function untilSettled(
  before: Promise<unknown>,
  { doing, timeoutMs, signal }: CallOptions & { readonly doing: string },
) {
  return new Promise<void>((resolve, reject) => {
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const onAbort = (): void => finish(() => reject(new ArcaError('timed-out', `stopped while ${doing}`)));
    const timer = setTimeout(() => finish(() => reject(lateFailure(doing, { timeoutMs }))), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    void before.then(() => finish(resolve));
  });
}
