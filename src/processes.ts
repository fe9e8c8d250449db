/** Processes as /proc shows them: found by their command line, signalled, waited for. */
import { readdir, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessInfo {
  readonly pid: number;
  readonly args: readonly string[];
}

/** Node has no pidfd, and these are nobody's children: their end can only be looked for. */
const EXIT_POLL_MS = 5;

/** Every live process (zombies are not) whose arguments satisfy `matches`. */
export async function findProcesses(matches: (args: readonly string[]) => boolean): Promise<ProcessInfo[]> {
  const found: ProcessInfo[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const args = await commandLine(pid);
    if (args !== undefined && matches(args)) found.push({ pid, args });
  }
  return found;
}

/** The process of that number, unless it is gone or a zombie. */
export async function findProcess(pid: number): Promise<ProcessInfo | undefined> {
  const args = await commandLine(pid);
  return args && { pid, args };
}

/** The processes of that program which carry that argument. */
export function findByArgument(command: string, argument: string): Promise<ProcessInfo[]> {
  return findProcesses((args) => args[0] !== undefined && basename(args[0]) === command && args.includes(argument));
}

/** A process that is gone, or is a zombie, has no command line. */
async function commandLine(pid: number): Promise<string[] | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8');
    return text === '' ? undefined : text.replace(/\0$/, '').split('\0');
  } catch {
    return undefined;
  }
}

/** False: there was no such process any more. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** True once none of them lives; false after the deadline. */
export async function waitForExit(processes: readonly ProcessInfo[], timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (const { pid, args } of processes) {
    const identity = args.join('\0');
    // A pid that was given to somebody else meanwhile carries other arguments.
    while ((await commandLine(pid))?.join('\0') === identity) {
      if (performance.now() >= deadline) return false;
      await delay(EXIT_POLL_MS);
    }
  }
  return true;
}
