/** Rounds over stages: A B C, A B C. A task that fails is a sample with its error, and the run goes on. */
import type { Context } from './context.js';
import { messageOf } from './errors.js';
import type { Sample } from './model.js';
import { watchForeignCpu } from './proc.js';
import type { Progress } from './progress.js';
import type { OpenStage, Stage, Task } from './suites/stage.js';

export async function runRounds(
  context: Context,
  stages: readonly Stage[],
  rounds: number,
  progress: Progress,
  note: (text: string) => void,
): Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; ++round) {
    for (const [index, stage] of stages.entries()) {
      context.signal.throwIfAborted();
      progress.stage(`round ${round} of ${rounds}: ${stage.name}`);
      const open = await openStage(context, stage, note);
      if (!open) continue;
      try {
        for (const [done, task] of open.tasks.entries()) {
          context.signal.throwIfAborted();
          const stageShare = (index + done / open.tasks.length) / stages.length;
          progress.task(`${task.measure}, ${task.contender}`, (round - 1 + stageShare) / rounds);
          samples.push(await runTask(context, task, round));
        }
      } finally {
        await open.close();
      }
    }
  }
  return samples;
}

/** A stage that can't be set up costs its own measures alone. */
async function openStage(context: Context, stage: Stage, note: (text: string) => void): Promise<OpenStage | undefined> {
  try {
    return await stage.open();
  } catch (error) {
    context.signal.throwIfAborted();
    note(`${stage.name}: could not be set up: ${messageOf(error)}`);
    return undefined;
  }
}

async function runTask(context: Context, task: Task, round: number): Promise<Sample> {
  const { measure, contender } = task;
  const startMs = performance.now();
  const foreignCpu = watchForeignCpu(context.adopted);
  const common = () => ({
    measure,
    contender,
    round,
    foreignCpuShare: foreignCpu(),
    seconds: (performance.now() - startMs) / 1000,
  });
  try {
    const { metrics, histogram } = await task.run();
    return { ...common(), metrics, ...(histogram && { histogram }) };
  } catch (error) {
    // An interrupted measure says nothing about its contender.
    context.signal.throwIfAborted();
    return { ...common(), metrics: {}, error: messageOf(error) };
  }
}
