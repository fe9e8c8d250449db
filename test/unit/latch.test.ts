import { describe, expect, it } from 'vitest';
import { createLatch } from '../../src/latch.js';

describe('createLatch', () => {
  it('remembers what happened before the wait, once', async () => {
    const latch = createLatch();
    latch.set();
    latch.set();
    await latch.wait({});
    const start = performance.now();
    await latch.wait({ timeoutMs: 20 });
    expect(performance.now() - start).toBeGreaterThan(15);
  });

  it('ends a wait, by an event or by abort', async () => {
    const latch = createLatch();
    const waiting = latch.wait({ timeoutMs: 60_000 });
    latch.set();
    await waiting;
    const controller = new AbortController();
    const aborted = latch.wait({ signal: controller.signal });
    controller.abort();
    await aborted;
    await latch.wait({ signal: controller.signal });
  });
});
