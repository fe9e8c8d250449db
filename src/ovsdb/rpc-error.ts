/** What every call here shares: how it fails, and how long it may take. */

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
