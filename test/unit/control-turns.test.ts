import { describe, expect, it } from 'vitest';
import { createKeyedTurns, createSemaphore } from '../../src/control/turns.js';

/** Work that ends when it is told to. */
function work(log: string[], name: string) {
  let end: (error?: Error) => void = () => {};
  const ended = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  const run = async (): Promise<string> => {
    log.push(`${name} begins`);
    await ended;
    log.push(`${name} ends`);
    return name;
  };
  return { run, end };
}

const turnOver = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('createKeyedTurns', () => {
  it('runs one at a time for a key, and all keys beside each other', async () => {
    const log: string[] = [];
    const turns = createKeyedTurns();
    const [a, b, c] = [work(log, 'a'), work(log, 'b'), work(log, 'c')];
    const first = turns.run('k', a.run);
    const second = turns.run('k', b.run);
    const other = turns.run('l', c.run);
    await turnOver();
    expect(log).toEqual(['a begins', 'c begins']);
    expect([turns.isBusy('k'), turns.isBusy('l'), turns.isBusy('m')]).toEqual([true, true, false]);
    a.end();
    b.end();
    c.end();
    expect(await Promise.all([first, second, other])).toEqual(['a', 'b', 'c']);
    expect(log.indexOf('b begins')).toBeGreaterThan(log.indexOf('a ends'));
    await turns.settled();
    expect(turns.isBusy('k')).toBe(false);
  });

  it('goes on after one that failed', async () => {
    const turns = createKeyedTurns();
    const failed = turns.run('k', () => Promise.reject(new Error('no')));
    const next = turns.run('k', () => Promise.resolve('yes'));
    await expect(failed).rejects.toThrow('no');
    expect(await next).toBe('yes');
  });

  it('is settled when nobody works any more, those that came meanwhile included', async () => {
    const log: string[] = [];
    const turns = createKeyedTurns();
    const [a, b] = [work(log, 'a'), work(log, 'b')];
    void turns.run('k', a.run).then(() => turns.run('l', b.run));
    const settled = turns.settled().then(() => log.push('settled'));
    a.end();
    await turnOver();
    b.end();
    await settled;
    expect(log.at(-1)).toBe('settled');
    expect(log).toContain('b ends');
  });
});

describe('createSemaphore', () => {
  it('lets so many work at a time, in the order in which they came', async () => {
    const log: string[] = [];
    const semaphore = createSemaphore(2);
    const works = ['a', 'b', 'c', 'd'].map((name) => work(log, name));
    const running = works.map(({ run }) => semaphore.run(run));
    await turnOver();
    expect(log).toEqual(['a begins', 'b begins']);
    works[1]?.end();
    await turnOver();
    expect(log.slice(2)).toEqual(['b ends', 'c begins']);
    for (const { end } of works) end();
    expect(await Promise.all(running)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('gives the place on after one that failed, and forgets who left', async () => {
    const log: string[] = [];
    const semaphore = createSemaphore(1);
    const a = work(log, 'a');
    const failing = semaphore.run(a.run);
    const leaving = new AbortController();
    const left = semaphore.run(() => Promise.resolve('left'), leaving.signal);
    const last = semaphore.run(() => Promise.resolve('last'));
    leaving.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    a.end(new Error('no'));
    await expect(failing).rejects.toThrow('no');
    expect(await last).toBe('last');
    expect(await semaphore.run(() => Promise.resolve('again'))).toBe('again');
  });

  it('does not begin what is aborted already', async () => {
    const semaphore = createSemaphore(1);
    await expect(semaphore.run(() => Promise.resolve(1), AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  });
});
