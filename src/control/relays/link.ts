/**
 * A connection to the status socket of a relay that lives, kept open for as long as it does: each of its events comes
 * over it, and its end is the end of the process, whatever ended that.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { createInterface } from 'node:readline';
import { ArcaError, errnoOf, toArcaError } from '../../errors.js';
import type { CallOptions } from '../../ovsdb/json-rpc.js';
import type { RelayEvent } from '../../relay/notify.js';
import type { RelayStatus, RelayStatusLine } from '../../relay/relay.js';

export interface RelayLink {
  /** As it was when we connected. */
  readonly status: RelayStatus;
  /** Settles, never rejects, when the connection has ended; with true when we ended it. */
  readonly ended: Promise<{ readonly byUs: boolean }>;
  close(): void;
}

/**
 * Resolves when the relay has told its status; with nothing when nobody listens there. Rejects with `timed-out` when
 * somebody does, and does not answer. `onEvent` is called with each event after the status.
 */
export async function connectRelay(
  statusPath: string,
  onEvent: (event: RelayEvent) => void,
  call: CallOptions,
): Promise<RelayLink | undefined> {
  const answer = await get(statusPath, '/events', call);
  if (answer === undefined) return undefined;
  let byUs = false;
  const ended = new Promise<{ readonly byUs: boolean }>((resolve) => answer.once('close', () => resolve({ byUs })));
  answer.on('error', () => {});
  const close = (): void => {
    byUs = true;
    answer.destroy();
  };
  const lines = createInterface({ input: answer });
  // readline passes the errors of its input on; nobody else hears them, and one ended the whole process.
  lines.on('error', () => {});
  const first = new Promise<RelayStatus | undefined>((resolve, reject) => {
    void ended.then(() => resolve(undefined));
    let isFirst = true;
    lines.on('line', (line) => {
      try {
        const event = JSON.parse(line) as RelayStatusLine | RelayEvent;
        if (!isFirst) onEvent(event as RelayEvent);
        else if (event.event === 'status') resolve(event);
        else reject(notARelay(statusPath));
        isFirst = false;
      } catch {
        // The last line of one that was killed is not whole.
        if (isFirst) reject(notARelay(statusPath));
      }
    });
  });
  try {
    const status = await withDeadline(first, statusPath, call, close);
    return status && { status, ended, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** `GET /status`. Nothing when nobody listens there; rejects with `timed-out` when there is no answer. */
export async function askRelay(statusPath: string, call: CallOptions): Promise<RelayStatus | undefined> {
  const answer = await get(statusPath, '/status', call);
  if (answer === undefined) return undefined;
  const whole = new Promise<string | undefined>((resolve) => {
    let body = '';
    answer.setEncoding('utf8');
    answer.on('data', (text: string) => {
      body += text;
    });
    answer.on('error', () => resolve(undefined));
    answer.on('end', () => resolve(body));
  });
  const body = await withDeadline(whole, statusPath, call, () => answer.destroy());
  if (body === undefined) return undefined;
  try {
    return JSON.parse(body) as RelayStatus;
  } catch {
    throw notARelay(statusPath);
  }
}

/** The answer's head. Nothing when nobody listens, or the process ended meanwhile. */
function get(statusPath: string, path: string, call: CallOptions): Promise<IncomingMessage | undefined> {
  let asking: ClientRequest;
  const head = new Promise<IncomingMessage | undefined>((resolve, reject) => {
    asking = request({ socketPath: statusPath, path, agent: false }, (answer) => {
      if (answer.statusCode === 200) resolve(answer);
      else {
        answer.destroy();
        reject(notARelay(statusPath));
      }
    });
    asking.on('error', (error) => {
      switch (errnoOf(error)) {
        case 'ENOENT':
        case 'ECONNREFUSED':
        case 'ECONNRESET':
        case 'EPIPE':
          resolve(undefined);
          return;
        default:
          reject(toArcaError(error));
      }
    });
    asking.end();
  });
  return withDeadline(head, statusPath, call, () => asking.destroy());
}

async function withDeadline<T>(
  promise: Promise<T>,
  statusPath: string,
  { timeoutMs, signal }: CallOptions,
  giveUp: () => void,
): Promise<T> {
  let stop: () => void = () => {};
  const over = new Promise<never>((_, reject) => {
    const timer = setTimeout(
      () => reject(new ArcaError('timed-out', `the relay behind ${statusPath} did not answer in ${timeoutMs} ms`)),
      timeoutMs,
    );
    const onAbort = (): void => reject(new ArcaError('timed-out', `stopped while asking the relay at ${statusPath}`));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
  });
  try {
    return await Promise.race([promise, over]);
  } catch (error) {
    promise.catch(() => {});
    giveUp();
    throw error;
  } finally {
    stop();
  }
}

function notARelay(statusPath: string): ArcaError {
  return new ArcaError('unexpected', `${statusPath} does not answer as an arca-relay`);
}
