/** Processes as /proc shows them: found by their command line, signalled, waited for. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
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

/** The process of that number, unless it is gone, a zombie, or ending. */
export async function findProcess(pid: number): Promise<ProcessInfo | undefined> {
  const args = await commandLine(pid);
  return args && { pid, args };
}

/** The processes of that program which carry that argument. */
export function findByArgument(command: string, argument: string): Promise<ProcessInfo[]> {
  return findProcesses((args) => args[0] !== undefined && basename(args[0]) === command && args.includes(argument));
}

/** A process that is gone, is a zombie or is ending has no command line. */
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

/** True once nothing is left of any of them; false after the deadline. */
export async function waitForExit(processes: readonly ProcessInfo[], timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (const process of processes) {
    while (await isThere(process)) {
      if (performance.now() >= deadline) return false;
      await delay(EXIT_POLL_MS);
    }
  }
  return true;
}

/** Waits for a process that is ending already; not for one that lives on. */
export async function waitForEnding(pid: number, timeoutMs: number): Promise<void> {
  await waitForExit([{ pid, args: [] }], timeoutMs);
}

/** A process number that was given to somebody else meanwhile carries other arguments. */
async function isThere({ pid, args }: ProcessInfo): Promise<boolean> {
  const now = await commandLine(pid);
  return now === undefined ? isEnding(pid) : now.join('\0') === args.join('\0');
}

/**
 * A process that ends loses its command line first. Its descriptors are open, and so its sockets and TAPs are there,
 * until the last of its threads has ended; then it is a zombie, or gone.
 */
async function isEnding(pid: number): Promise<boolean> {
  const stat = await readProcessStat(pid);
  return stat !== undefined && (!isDeadState(stat.state) || stat.threadCount > 1);
}

/** Of `/proc/PID/stat` (proc(5)). */
export interface ProcessStat {
  /** A letter: `S`, `T` for one that is stopped, `Z` for a zombie, ... */
  readonly state: string;
  readonly threadCount: number;
  /** When it was started, after the boot. */
  readonly startSeconds: number;
}

/** USER_HZ, the unit of times in /proc/PID/stat. */
const TICKS_PER_SECOND = 100;

/** Nothing: there is no such process. */
export async function readProcessStat(pid: number): Promise<ProcessStat | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : parseProcessStat(text);
}

/** Pure. */
export function parseProcessStat(text: string): ProcessStat | undefined {
  // The third field, behind a name in brackets that may hold anything; the 20th and the 22nd.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threadCount, startTicks] = [fields[0], Number(fields[17]), Number(fields[19])];
  if (state === undefined || Number.isNaN(threadCount) || Number.isNaN(startTicks)) return undefined;
  return { state, threadCount, startSeconds: startTicks / TICKS_PER_SECOND };
}

/** A zombie, or gone in this moment. */
export function isDeadState(state: string): boolean {
  return state === 'Z' || state === 'X';
}

export interface PidFile {
  readonly pid: number;
  readonly runDir: string;
}

/** The pidfiles of that name in these directories, in their order. Whether the process lives is not looked at. */
export async function readPidFiles(runDirs: Iterable<string>, name: string): Promise<PidFile[]> {
  const found: PidFile[] = [];
  for (const runDir of runDirs) {
    const text = await readFile(join(runDir, name), 'utf8').catch(() => undefined);
    if (text !== undefined && /^\d+\s*$/.test(text)) found.push({ pid: Number(text), runDir });
  }
  return found;
}
