/** Parts of the core by themselves: time per frame, and instructions per frame, which no other process can disturb. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { type Context, canRun } from '../context.js';
import { BenchError } from '../errors.js';
import type { MeasureInfo, Metrics } from '../model.js';
import type { Stage, Task } from './stage.js';

const BUILD_MS = 300_000;
const CASE_MS = 60_000;
const CALIBRATION_FRAMES = 4096;
const TIMED_SECONDS = 0.25;
const QUICK_TIMED_SECONDS = 0.05;
const COUNTED_FRAMES = 8192;

/** Builds the program first; a core that does not build throws here. */
export async function microStage(context: Context): Promise<Stage> {
  const { root, programs, signal } = context;
  await run('make', ['-s', '-C', join(root, 'bench/native'), 'micro'], { timeoutMs: BUILD_MS, signal });
  const { stdout } = await run(programs.micro, ['--list'], { timeoutMs: CASE_MS });
  const cases = stdout.split('\n').filter((name) => name !== '');
  const withCallgrind = !context.quick && (await canRun('valgrind'));
  const instructions = new Map<string, number>();
  return {
    name: 'micro',
    measures: cases.map(measureOf),
    async open() {
      return { tasks: cases.map((name) => taskOf(context, name, withCallgrind, instructions)), close: async () => {} };
    },
  };
}

function measureOf(name: string): MeasureInfo {
  return { id: `micro-${name}`, suites: ['micro'], title: `core: ${name}`, primary: 'nsPerFrame' };
}

/** Instructions do not vary: they are counted in the first round and kept. */
function taskOf(context: Context, name: string, withCallgrind: boolean, instructions: Map<string, number>): Task {
  return {
    measure: `micro-${name}`,
    contender: 'arca',
    async run() {
      const seconds = context.quick ? QUICK_TIMED_SECONDS : TIMED_SECONDS;
      const calibration = await time(context, name, CALIBRATION_FRAMES);
      const frames = Math.max(CALIBRATION_FRAMES, Math.round((seconds * 1e9) / calibration));
      const metrics: Metrics = { nsPerFrame: await time(context, name, frames) };
      if (!withCallgrind) return { metrics };
      const counted = instructions.get(name) ?? (await countInstructions(context, name));
      if (counted === undefined) return { metrics };
      instructions.set(name, counted);
      return { metrics: { ...metrics, instructionsPerFrame: counted } };
    },
  };
}

async function time({ programs, signal, note }: Context, name: string, frames: number): Promise<number> {
  note(`measure micro-${name}`, [`${programs.micro} ${name} ${frames}`]);
  const { stdout } = await run(programs.micro, [name, String(frames)], { timeoutMs: CASE_MS, signal });
  const result = JSON.parse(stdout) as { readonly frames: number; readonly ns: number };
  return result.ns / result.frames;
}

/** Only of what is timed: the program switches counting on and off. */
async function countInstructions({ programs, signal, lab, note }: Context, name: string): Promise<number | undefined> {
  const file = join(lab.directory, `callgrind.${name}`);
  const command = [programs.micro, name, String(COUNTED_FRAMES)];
  const args = ['--tool=callgrind', '--collect-atstart=no', `--callgrind-out-file=${file}`, ...command];
  note(`measure micro-${name} instructions`, [`valgrind ${args.join(' ')}`]);
  await run('valgrind', args, { timeoutMs: CASE_MS, signal });
  const match = /^(?:totals|summary): (\d+)/m.exec(await readFile(file, 'utf8'));
  if (!match) throw new BenchError(`no totals in what callgrind wrote for ${name}`);
  const total = Number(match[1]);
  // Built without valgrind's header: nothing was switched on.
  return total > 0 ? total / COUNTED_FRAMES : undefined;
}
