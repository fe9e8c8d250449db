import { describe, expect, it } from 'vitest';
import { createTurns } from '../../src/ovn/turns.js';

const call = { timeoutMs: 2000, doing: 'a test' };

async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => (error as { code: unknown }).code,
  );
}

describe('createTurns', () => {
  it('runs one after another, in their order, whatever becomes of them', async () => {
    const turns = createTurns();
    const seen: string[] = [];
    const step = (name: string, fails: boolean) => async (): Promise<string> => {
      seen.push(`${name} begins`);
      await Promise.resolve();
      seen.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    };
    const results = await Promise.allSettled([
      turns.take(step('a', false), call),
      turns.take(step('b', true), call),
      turns.take(step('c', false), call),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(seen).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('does not run what is late or was stopped, and lets nobody past who is still at work', async () => {
    const turns = createTurns();
    let finish = (): void => {};
    const first = turns.take(
      () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
      call,
    );
    const controller = new AbortController();
    const ran: string[] = [];
    const run = (name: string) => async (): Promise<void> => void ran.push(name);
    const late = codeOf(turns.take(run('late'), { ...call, timeoutMs: 20 }));
    const stopped = codeOf(turns.take(run('stopped'), { ...call, signal: controller.signal }));
    const last = turns.take(run('last'), call);
    controller.abort();
    expect(await late).toBe('northbound-timeout');
    expect(await stopped).toBe('timed-out');
    expect(ran).toEqual([]);
    finish();
    await Promise.all([first, last]);
    expect(ran).toEqual(['last']);
  });
});
