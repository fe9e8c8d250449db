/**
 * Processes that live longer than one call: relays, servers, peers. The only module of the bench that starts
 * processes by itself; what runs to its end goes through `run` of src/exec.ts.
 *
 * All of them stay in this process's session (none is detached): the scheduler groups by session, and a contender in
 * another one would be measured by another rule. They die with this process even if it is killed, by PR_SET_PDEATHSIG.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { BenchError, messageOf } from './errors.js';

const STOP_GRACE_MS = 500;
const OUTPUT_KEPT_BYTES = 16 * 1024;

export interface Running {
  readonly pid: number;
  readonly commandLine: string;
  /** Resolves when a line of its standard output matches; rejects when it ends before, or at the deadline. */
  waitForLine(pattern: RegExp, timeoutMs: number): Promise<string>;
  /** The end of what it printed, both streams together. */
  output(): string;
  /** Resolves to what ended it: `exit code 0`, `SIGKILL`. */
  readonly ended: Promise<string>;
  hasEnded(): boolean;
  /** To its standard input. */
  write(text: string): void;
  /** SIGTERM, and SIGKILL half a second later. Resolves when it is gone. */
  stop(): Promise<void>;
}

export interface StartOptions {
  /** Descriptor 3 of the process is a pipe to us, whose lines count as output. */
  readonly notifyPipe?: boolean;
  readonly env?: NodeJS.ProcessEnv;
}

export interface Processes {
  start(command: readonly string[], options?: StartOptions): Running;
  /** Every process that is left, at once. */
  stopAll(): Promise<void>;
  /** For a process that is about to exit. */
  killAllNow(): void;
}

export function createProcesses(): Processes {
  const running = new Set<Running>();
  return {
    start(command, options = {}) {
      const process = startOne(command, options, () => running.delete(process));
      running.add(process);
      return process;
    },
    async stopAll() {
      await Promise.all([...running].map((process) => process.stop()));
    },
    killAllNow() {
      for (const process of running) kill(process.pid, 'SIGKILL');
    },
  };
}

function startOne(command: readonly string[], options: StartOptions, onEnd: () => void): Running {
  const commandLine = command.join(' ');
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    stdio: options.notifyPipe ? ['pipe', 'pipe', 'pipe', 'pipe'] : ['pipe', 'pipe', 'pipe'],
    ...(options.env && { env: options.env }),
  });
  const { pid } = child;
  let text = '';
  let ending: string | undefined;
  const waiters = new Set<() => void>();
  const onText = (chunk: Buffer): void => {
    text = (text + chunk.toString('utf8')).slice(-OUTPUT_KEPT_BYTES);
    for (const look of waiters) look();
  };
  for (const stream of [child.stdout, child.stderr, child.stdio[3]]) stream?.on('data', onText);
  child.stdin?.on('error', () => {});

  const ended = new Promise<string>((resolve) => {
    const settle = (how: string): void => {
      ending ??= how;
      onEnd();
      resolve(ending);
      for (const look of waiters) look();
    };
    child.once('error', (error) => settle(`can not be started: ${messageOf(error)}`));
    child.once('exit', (code, signal) => settle(signal ?? `exit code ${code}`));
  });

  return {
    pid: pid ?? -1,
    commandLine,
    ended,
    output: () => text,
    hasEnded: () => ending !== undefined,
    write: (line) => child.stdin?.write(line),
    waitForLine(pattern, timeoutMs) {
      return new Promise((resolve, reject) => {
        const finish = (act: () => void): void => {
          clearTimeout(timer);
          waiters.delete(look);
          act();
        };
        const fail = (what: string): void =>
          finish(() => reject(new BenchError(`${commandLine}: ${what}${text === '' ? '' : `: ${text.trim()}`}`)));
        const look = (): void => {
          const line = text.split('\n').find((candidate) => pattern.test(candidate));
          if (line !== undefined) finish(() => resolve(line));
          else if (ending !== undefined) fail(ending);
        };
        const timer = setTimeout(() => fail(`no ${pattern} in ${timeoutMs} ms`), timeoutMs);
        waiters.add(look);
        look();
      });
    },
    async stop() {
      if (ending !== undefined || pid === undefined) return;
      await stopChild(child, ended);
    },
  };
}

async function stopChild(child: ChildProcess, ended: Promise<string>): Promise<void> {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
  await ended;
  clearTimeout(timer);
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}
