/**
 * Asks each part over its own protocol whether it does its work: not whether a process of that name runs. All at the
 * same time, each with a deadline.
 */
import { toArcaError } from '../errors.js';
import type { PartHealth } from './model.js';

export interface HealthQuestion {
  readonly part: string;
  /** Resolves with what the answer was, for people; rejects when the part is ill. */
  ask(call: { readonly timeoutMs: number }): Promise<string>;
}

/** The answers in the order of the questions. Never rejects, and takes hardly longer than `timeoutMs`. */
export function askAll(questions: readonly HealthQuestion[], timeoutMs: number): Promise<readonly PartHealth[]> {
  return Promise.all(questions.map((question) => askOne(question, timeoutMs)));
}

async function askOne({ part, ask }: HealthQuestion, timeoutMs: number): Promise<PartHealth> {
  const startedAt = performance.now();
  try {
    const detail = await ask({ timeoutMs });
    return { part, state: 'ok', detail: `${detail} (${Math.round(performance.now() - startedAt)} ms)` };
  } catch (error) {
    return { part, state: 'ill', detail: toArcaError(error).message };
  }
}

export function stateOf(parts: readonly PartHealth[]): 'ok' | 'ill' {
  return parts.some(({ state }) => state === 'ill') ? 'ill' : 'ok';
}

/** Pure: the parts that fell ill or got well since then; new ones that are well are no news, and `unknown` is none. */
export function changedParts(before: readonly PartHealth[], after: readonly PartHealth[]): readonly PartHealth[] {
  const ill = new Set(before.filter(({ state }) => state === 'ill').map(({ part }) => part));
  return after.filter(({ part, state }) => state !== 'unknown' && (state === 'ill') !== ill.has(part));
}
