/**
 * The only module of `src/` that starts processes. There is no shell: arguments reach the program as they are.
 */
import { spawn } from 'node:child_process';
import { type FileHandle, open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

export interface RunOptions {
  /** The program has this long, then it gets SIGTERM, and SIGKILL shortly after. */
  readonly timeoutMs: number;
  /** Aborting kills the program in the same way. */
  readonly signal?: AbortSignal | undefined;
  /** The whole environment of the program; the environment of this process by default. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
  /** Written to the program's standard input, which is empty by default. */
  readonly input?: string | undefined;
  /** A program that prints more than this on either stream is killed. */
  readonly maxOutputBytes?: number | undefined;
  /** Descriptors of ours that it gets as 3 and up; it has no others. */
  readonly inherit?: readonly number[] | undefined;
}

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

export type CommandFailure =
  /** No program of that name (ENOENT), or it can't be executed. */
  | 'not-found'
  /** It ended with an exit code other than 0. */
  | 'exit-code'
  /** A signal that was not ours ended it. */
  | 'signal'
  | 'timed-out'
  | 'aborted'
  /** It printed more than `maxOutputBytes`. */
  | 'output-limit';

export class CommandError extends Error {
  readonly command: string;
  readonly args: readonly string[];
  readonly failure: CommandFailure;
  /** Set when the program ended by itself. */
  readonly exitCode: number | undefined;
  /** Set when a signal ended it. */
  readonly endedBy: NodeJS.Signals | undefined;
  /** What it had printed by then. */
  readonly output: Output;

  constructor(
    what: {
      readonly command: string;
      readonly args: readonly string[];
      readonly failure: CommandFailure;
      readonly exitCode?: number | undefined;
      readonly endedBy?: NodeJS.Signals | undefined;
      readonly output: Output;
    },
    message: string,
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
    this.name = 'CommandError';
    this.command = what.command;
    this.args = what.args;
    this.failure = what.failure;
    this.exitCode = what.exitCode;
    this.endedBy = what.endedBy;
    this.output = what.output;
  }
}

/** A program that ignores SIGTERM, or is stopped (SIGSTOP), gets SIGKILL this much later. */
const KILL_GRACE_MS = 100;
/** A program that has ended may have left its output to a child (a daemon that kept it open): we wait no longer. */
const DRAIN_GRACE_MS = 100;
const DEFAULT_MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/**
 * Runs a program to its end. Resolves when it exits with 0; otherwise rejects with a `CommandError`, after the
 * program is gone. (One that not even SIGKILL ends, in uninterruptible sleep, is left behind.)
 */
export function run(command: string, args: readonly string[], options: RunOptions): Promise<Output> {
  const { timeoutMs, signal, input, maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES } = options;
  const commandLine = [command, ...args].join(' ');
  const noOutput: Output = { stdout: '', stderr: '' };

  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      const message = `${command} was not started: ${reasonText(signal.reason)}`;
      reject(new CommandError({ command, args, failure: 'aborted', output: noOutput }, message));
      return;
    }

    const child = spawn(command, args, {
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...(options.inherit ?? [])],
      ...(options.env && { env: options.env }),
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    const stdout = collect(child.stdout, maxOutputBytes, () => stop('output-limit'));
    const stderr = collect(child.stderr, maxOutputBytes, () => stop('output-limit'));
    // A program that does not read its input (EPIPE) tells us why by its exit code.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);

    let stoppedBy: 'timed-out' | 'aborted' | 'output-limit' | undefined;
    let killTimer: NodeJS.Timeout | undefined;
    let drainTimer: NodeJS.Timeout | undefined;
    let settled = false;

    const deadline = setTimeout(() => stop('timed-out'), timeoutMs);
    const onAbort = (): void => stop('aborted');
    signal?.addEventListener('abort', onAbort, { once: true });

    function stop(why: 'timed-out' | 'aborted' | 'output-limit'): void {
      if (stoppedBy !== undefined || settled) return;
      stoppedBy = why;
      child.kill('SIGTERM');
      killTimer = setTimeout(() => {
        child.kill('SIGKILL');
        // Uninterruptible sleep: the caller's deadline counts for more than the child's end.
        killTimer = setTimeout(() => settle(null, 'SIGKILL'), KILL_GRACE_MS);
      }, KILL_GRACE_MS);
    }

    function release(): void {
      settled = true;
      clearTimeout(deadline);
      clearTimeout(killTimer);
      clearTimeout(drainTimer);
      signal?.removeEventListener('abort', onAbort);
      child.stdout?.destroy();
      child.stderr?.destroy();
    }

    function settle(exitCode: number | null, endedBy: NodeJS.Signals | null): void {
      if (settled) return;
      release();
      const output: Output = { stdout: stdout(), stderr: stderr() };
      if (stoppedBy === undefined && exitCode === 0) {
        resolve(output);
        return;
      }
      const what = { command, args, exitCode: exitCode ?? undefined, endedBy: endedBy ?? undefined, output };
      const said = firstLine(output.stderr);
      switch (stoppedBy) {
        case 'timed-out':
          reject(
            new CommandError({ ...what, failure: 'timed-out' }, `no answer in ${timeoutMs} ms from: ${commandLine}`),
          );
          return;
        case 'aborted':
          reject(
            new CommandError({ ...what, failure: 'aborted' }, `stopped: ${commandLine}: ${reasonText(signal?.reason)}`),
          );
          return;
        case 'output-limit':
          reject(
            new CommandError(
              { ...what, failure: 'output-limit' },
              `printed more than ${maxOutputBytes} bytes: ${commandLine}`,
            ),
          );
          return;
        case undefined: {
          const failure = exitCode === null ? 'signal' : 'exit-code';
          const ending = exitCode === null ? `ended by ${endedBy}` : `exit code ${exitCode}`;
          reject(
            new CommandError({ ...what, failure }, `${ending} from: ${commandLine}${said === '' ? '' : `: ${said}`}`),
          );
        }
      }
    }

    child.once('error', (cause) => {
      // Also emitted when a kill failed; only a child without a pid never started.
      if (child.pid !== undefined || settled) return;
      release();
      const what = { command, args, failure: 'not-found', output: noOutput } as const;
      reject(new CommandError(what, `can not start ${command}: ${cause.message}`, { cause }));
    });
    child.once('exit', (exitCode, endedBy) => {
      drainTimer = setTimeout(() => settle(exitCode, endedBy), DRAIN_GRACE_MS);
    });
    child.once('close', settle);
  });
}

export type Ending = { readonly exitCode: number } | { readonly endedBy: NodeJS.Signals };

/**
 * Runs a program with our own standard streams, to its end. Signals of the terminal reach it by themselves; those that
 * reach only us are passed on. Rejects with a `CommandError` if it can't be started.
 */
export function runInForeground(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ending> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env });
    const passOn = (signal: NodeJS.Signals): boolean => child.kill(signal);
    const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
    for (const signal of signals) process.on(signal, passOn);
    const settle = (finish: () => void): void => {
      for (const signal of signals) process.off(signal, passOn);
      finish();
    };
    child.once('error', (cause) => {
      if (child.pid !== undefined) return;
      const what = { command, args, failure: 'not-found', output: { stdout: '', stderr: '' } } as const;
      settle(() => reject(new CommandError(what, `can not start ${command}: ${cause.message}`, { cause })));
    });
    child.once('exit', (exitCode, endedBy) => {
      settle(() => resolve(endedBy === null ? { exitCode: exitCode ?? 1 } : { endedBy }));
    });
  });
}

/** The descriptor on which a detached program tells lines to who started it. */
export const NOTIFY_FD = 3;

export interface DetachedOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Its standard output and error are appended to that file. */
  readonly logPath: string;
  /** Called with each line that it writes to `NOTIFY_FD`, without the newline. */
  readonly onLine: (line: string) => void;
}

export interface DetachedProcess {
  readonly pid: number;
  /** Settles, never rejects, when the program has ended and its last line was told. */
  readonly ended: Promise<Ending>;
}

/**
 * Starts a program that lives on when we end, however that is: in a session of its own, so that no signal of our
 * terminal reaches it, without any descriptor of ours but `NOTIFY_FD`, whose other end the kernel closes with us. It
 * is no reason for this process to live on. Rejects with a `CommandError` if it can't be started, or the log not opened.
 */
export async function startDetached(
  command: string,
  args: readonly string[],
  { env, logPath, onLine }: DetachedOptions,
): Promise<DetachedProcess> {
  const failed = (cause: unknown): CommandError => {
    const why = cause instanceof Error ? cause.message : String(cause);
    const what = { command, args, failure: 'not-found', output: { stdout: '', stderr: '' } } as const;
    return new CommandError(what, `can not start ${command}: ${why}`, { cause });
  };
  let log: FileHandle;
  try {
    log = await open(logPath, 'a', 0o640);
  } catch (cause) {
    throw failed(cause);
  }
  try {
    const child = spawn(command, args, { detached: true, stdio: ['ignore', log.fd, log.fd, 'pipe'], env });
    const { pid } = child;
    if (pid === undefined) throw failed(await new Promise((resolve) => child.once('error', resolve)));
    const told = tellLines(child.stdio[NOTIFY_FD] as Socket, onLine);
    const exited = new Promise<Ending>((resolve) => {
      child.once('exit', (exitCode, endedBy) => resolve(endedBy === null ? { exitCode: exitCode ?? 1 } : { endedBy }));
    });
    child.unref();
    const ended = exited.then(async (ending) => {
      await Promise.race([told, delay(DRAIN_GRACE_MS, undefined, { ref: false })]);
      return ending;
    });
    return { pid, ended };
  } finally {
    await log.close();
  }
}

/** Settles when the stream has ended. A line that is not finished by then is told, too. */
function tellLines(stream: Socket, onLine: (line: string) => void): Promise<void> {
  stream.unref();
  stream.on('error', () => {});
  const lines = createInterface({ input: stream });
  // It passes on the errors of its input.
  lines.on('error', () => {});
  lines.on('line', onLine);
  return new Promise((resolve) => lines.once('close', resolve));
}

/** Collects a stream, at most `maxBytes` of it; the function that comes back gives the text so far. */
function collect(stream: NodeJS.ReadableStream | null, maxBytes: number, onTooMuch: () => void): () => string {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) onTooMuch();
    else chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? '';
}

function reasonText(reason: unknown): string {
  return reason instanceof Error ? reason.message : 'aborted';
}
