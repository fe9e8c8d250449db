/** What /proc says of CPU time and memory. */
import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** USER_HZ: what /proc counts CPU time in, on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

interface StatFields {
  readonly parent: number;
  readonly session: number;
  /** Of itself and of children that it has waited for. */
  readonly ticks: number;
}

function parseStat(text: string): StatFields | undefined {
  // The name stands in parentheses and may hold any byte: proc(5).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const at = (index: number): number => Number(fields[index - 3]);
  const ticks = at(14) + at(15) + at(16) + at(17);
  return Number.isFinite(ticks) ? { parent: at(4), session: at(6), ticks } : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

export function ownSession(): number {
  return parseStat(readText('/proc/self/stat') ?? '')?.session ?? 0;
}

/**
 * CPU ticks of everything that does not descend from us, nor is one of `ours` (daemons that left our tree). Without
 * kernel threads (session 0): what they do meanwhile, they mostly do for us.
 */
function foreignTicks(ours: ReadonlySet<number>): number {
  const stats = new Map<number, StatFields>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? parseStat(readText(`/proc/${name}/stat`) ?? '') : undefined;
    if (stat) stats.set(Number(name), stat);
  }
  const isOurs = (pid: number): boolean => {
    for (let at = pid; at > 1; at = stats.get(at)?.parent ?? 0) {
      if (at === process.pid || ours.has(at)) return true;
    }
    return false;
  };
  let sum = 0;
  for (const [pid, stat] of stats) {
    if (stat.session !== 0 && !isOurs(pid)) sum += stat.ticks;
  }
  return sum;
}

/** Starts to watch; the function that comes back gives the share of all CPUs that others had since then. */
export function watchForeignCpu(ours: ReadonlySet<number>): () => number {
  const startTicks = foreignTicks(ours);
  const startMs = performance.now();
  const cpuCount = cpus().length;
  return () => {
    const seconds = (performance.now() - startMs) / 1000;
    const share = (foreignTicks(ours) - startTicks) / TICKS_PER_SECOND / seconds / cpuCount;
    return Math.min(1, Math.max(0, share));
  };
}

/**
 * CPU seconds of these processes so far, all their threads. From schedstat, in ns, where the kernel has it; utime and
 * stime come in ticks of 10 ms.
 */
export function cpuSeconds(processIds: readonly number[]): number {
  return processIds.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0);
}

function cpuSecondsOf(pid: number): number {
  let ns = 0;
  let tasks: string[];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    return 0;
  }
  for (const task of tasks) {
    const text = readText(`/proc/${pid}/task/${task}/schedstat`);
    if (text === undefined) return (parseStat(readText(`/proc/${pid}/stat`) ?? '')?.ticks ?? 0) / TICKS_PER_SECOND;
    ns += Number(text.split(' ')[0]);
  }
  return ns / 1e9;
}

/** Resident memory in bytes. */
export function residentBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readText(`/proc/${pid}/status`) ?? '');
  return Number(match?.[1] ?? Number.NaN) * 1024;
}

/** Resident memory that is its own: heap and stacks, without what is mapped from files. */
export function anonymousBytes(pid: number): number {
  const match = /^RssAnon:\s+(\d+) kB/m.exec(readText(`/proc/${pid}/status`) ?? '');
  return Number(match?.[1] ?? Number.NaN) * 1024;
}

export function isAlive(pid: number): boolean {
  const text = readText(`/proc/${pid}/stat`);
  return text !== undefined && !/\) [ZX] /.test(text);
}
