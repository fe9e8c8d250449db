import { setTimeout as delay } from 'node:timers/promises';
import { BenchError } from './errors.js';

const STEP_MS = 5;

/** Asks again until the answer is yes, where nothing tells of the change. Throws at the deadline. */
export async function until(what: string, timeoutMs: number, ask: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new BenchError(`${what}: not in ${timeoutMs} ms`);
    await delay(STEP_MS);
  }
}
