/** A program that runs beside the test: its output as lines, its end as a promise. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { within } from './time.js';

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Lines {
  readonly all: readonly string[];
  /** The first line that matches, of those from `since` on; rejects at the deadline, and when the stream has ended without it. */
  waitFor(matches: RegExp | ((line: string) => boolean), options?: WaitOptions): Promise<string>;
}

export interface WaitOptions {
  /** Index of the first one that counts; 0 by default. */
  readonly since?: number;
  readonly timeoutMs?: number;
}

export interface Background {
  /** `ip netns exec` becomes the program that it runs: this is the program's own. */
  readonly pid: number;
  readonly stdout: Lines;
  readonly stderr: Lines;
  /** Of the descriptor `extraFd`. */
  readonly extra: Lines;
  /** Settles when the program has ended and all of its output was read. */
  readonly ended: Promise<Ended>;
  isRunning(): boolean;
  kill(signal: NodeJS.Signals): boolean;
  /** SIGKILL if it still runs; resolves when it has ended. */
  destroy(): Promise<void>;
  /** The write end of its standard input, to be closed by the test. */
  closeInput(): void;
}

export interface BackgroundOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Written to standard input, which is closed then. `'open'` keeps it open. */
  readonly input?: Uint8Array | 'open' | undefined;
}

/** The descriptor that `Background.extra` reads. */
export const EXTRA_FD = 3;

export function startInBackground(
  command: string,
  args: readonly string[],
  options: BackgroundOptions = {},
): Background {
  const child = spawn(command, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', 'pipe'],
    ...(options.env && { env: options.env }),
  });
  const commandLine = [command, ...args].join(' ');
  child.stdin?.on('error', () => {});
  if (options.input instanceof Uint8Array) child.stdin?.end(options.input);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', (cause) => {
      if (child.pid === undefined) reject(new Error(`can not start ${commandLine}`, { cause }));
    });
    child.once('close', (exitCode, signal) => resolve({ exitCode, signal }));
  });
  ended.catch(() => {});
  const isRunning = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  const lines = (fd: 1 | 2 | 3): Lines => collectLines(child.stdio[fd] as Readable, () => describe(child, commandLine));
  const background: Background = {
    pid: child.pid ?? -1,
    stdout: lines(1),
    stderr: lines(2),
    extra: lines(EXTRA_FD),
    ended,
    isRunning,
    kill: (signal) => isRunning() && child.kill(signal),
    async destroy() {
      background.kill('SIGKILL');
      await within(ended, () => `the end of ${commandLine}`, 10_000).catch(() => {
        // Somebody that it started holds its output.
        for (const stream of child.stdio) stream?.destroy();
      });
    },
    closeInput: () => child.stdin?.end(),
  };
  return background;
}

function describe(child: ChildProcess, commandLine: string): string {
  const state =
    child.exitCode !== null
      ? `ended with ${child.exitCode}`
      : child.signalCode !== null
        ? `ended by ${child.signalCode}`
        : 'runs';
  return `${commandLine} (${state})`;
}

function collectLines(stream: Readable, owner: () => string): Lines {
  const all: string[] = [];
  const changed = new Set<() => void>();
  let rest = '';
  let isOver = false;
  const notify = (): void => {
    for (const look of [...changed]) look();
  };
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const pieces = (rest + text).split('\n');
    rest = pieces.pop() ?? '';
    all.push(...pieces);
    if (pieces.length > 0) notify();
  });
  stream.on('error', () => {});
  stream.on('close', () => {
    if (rest !== '') all.push(rest);
    rest = '';
    isOver = true;
    notify();
  });
  return {
    all,
    async waitFor(matches, { since = 0, timeoutMs = 10_000 } = {}) {
      const test = typeof matches === 'function' ? matches : (line: string) => matches.test(line);
      const story = (): string => `${matches} from ${owner()}, which said:\n${all.slice(-30).join('\n')}`;
      let look: (() => void) | undefined;
      const found = new Promise<string>((resolve, reject) => {
        let at = since;
        look = () => {
          for (; at < all.length; at++) {
            const line = all[at];
            if (line !== undefined && test(line)) return resolve(line);
          }
          if (isOver) reject(new Error(`never said: ${story()}`));
        };
        changed.add(look);
        look();
      });
      try {
        return await within(found, story, timeoutMs);
      } finally {
        if (look) changed.delete(look);
      }
    },
  };
}
