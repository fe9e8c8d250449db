/** Starts a relay's process, and waits until it says ready, or why not. */
import { open } from 'node:fs/promises';
import { ArcaError, ERROR_KINDS, type ErrorCode } from '../../errors.js';
import { CommandError, type Ending, startDetached } from '../../exec.js';
import { signalProcess } from '../../processes.js';
import type { RelayEvent } from '../../relay/notify.js';

export interface LaunchOptions {
  /** The whole command. */
  readonly command: readonly [command: string, ...args: string[]];
  readonly env: NodeJS.ProcessEnv;
  readonly logPath: string;
  /** For all of the start. Its own deadline comes first, so that the relay can say what it waited for. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What the relay's own deadline has to be shorter: time for Node to start, and for the relay to undo its start. */
export const LAUNCH_GRACE_MS = 5_000;
/** From SIGTERM to SIGKILL for a start that is given up. */
const GIVE_UP_MS = 3_000;
const LOG_TAIL_BYTES = 2_000;

/** The relay said why it ended, so it has undone what it had done. Otherwise there may be something to sweep. */
export function saidItself(error: unknown): boolean {
  return error instanceof ArcaError && error.details?.['relayExitCode'] !== undefined;
}

/**
 * Resolves with the process id when the relay is ready, or degraded: it has its port then. Rejects with the relay's own
 * code and message, after it has undone what it had done and has ended.
 */
export async function launchRelay(options: LaunchOptions): Promise<number> {
  const { command, env, logPath, timeoutMs, signal } = options;
  signal?.throwIfAborted();
  let failure: ArcaError | undefined;
  let begin: () => void = () => {};
  const begun = new Promise<'begun'>((resolve) => {
    begin = () => resolve('begun');
  });
  const onLine = (line: string): void => {
    const event = readEvent(line);
    if (event?.event === 'ready' || event?.event === 'degraded') begin();
    if (event?.event === 'failed') {
      failure = new ArcaError(codeOf(event.code), event.message, { details: { relayExitCode: event.exitCode } });
    }
  };

  const [program, ...args] = command;
  const relay = await startDetached(program, args, { env: withoutSystemd(env), logPath, onLine }).catch((error) => {
    throw error instanceof CommandError ? new ArcaError('command-missing', error.message, { cause: error }) : error;
  });
  const over = new AbortController();
  const givenUp = new Promise<'given up'>((resolve) => {
    const timer = setTimeout(() => resolve('given up'), timeoutMs);
    timer.unref();
    const onAbort = (): void => resolve('given up');
    signal?.addEventListener('abort', onAbort, { once: true });
    over.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    });
  });
  try {
    const outcome = await Promise.race([begun, relay.ended, givenUp]);
    if (outcome === 'begun') return relay.pid;
    if (outcome !== 'given up') throw failure ?? (await endedEarly(outcome, logPath));
    await endForGood(relay.pid, relay.ended);
    signal?.throwIfAborted();
    throw failure ?? new ArcaError('timed-out', `the relay was not ready in ${timeoutMs} ms${await tailOf(logPath)}`);
  } finally {
    over.abort();
  }
}

async function endForGood(pid: number, ended: Promise<Ending>): Promise<void> {
  signalProcess(pid, 'SIGTERM');
  const killing = setTimeout(() => signalProcess(pid, 'SIGKILL'), GIVE_UP_MS);
  await ended;
  clearTimeout(killing);
}

async function endedEarly(ending: Ending, logPath: string): Promise<ArcaError> {
  const how = 'exitCode' in ending ? `exit code ${ending.exitCode}` : ending.endedBy;
  return new ArcaError('command-failed', `the relay ended before it was ready (${how})${await tailOf(logPath)}`);
}

/** The end of the log, for a relay that could not say itself what was wrong. */
async function tailOf(logPath: string): Promise<string> {
  const log = await open(logPath).catch(() => undefined);
  if (log === undefined) return '';
  try {
    const { size } = await log.stat();
    const position = Math.max(0, size - LOG_TAIL_BYTES);
    const { buffer, bytesRead } = await log.read(Buffer.alloc(LOG_TAIL_BYTES), 0, LOG_TAIL_BYTES, position);
    const text = buffer.subarray(0, bytesRead).toString('utf8').trim();
    return text === '' ? '' : `; it said: ${text}`;
  } finally {
    await log.close();
  }
}

/** Nothing for what is no event: the program may be any. */
function readEvent(line: string): RelayEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof event === 'object' && event !== null && 'event' in event ? (event as RelayEvent) : undefined;
  } catch {
    return undefined;
  }
}

function codeOf(code: string): ErrorCode {
  return code in ERROR_KINDS ? (code as ErrorCode) : 'attach-failed';
}

/** What systemd told this process is not for its relays: they would say READY in its name. */
function withoutSystemd(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, ...rest } = env;
  return rest;
}
