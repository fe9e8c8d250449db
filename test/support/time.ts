/** Deadlines of tests. Where system calls are dear (User Mode Linux) every one of them is stretched by one factor. */
import { setTimeout as delay } from 'node:timers/promises';

export const SLOWDOWN = Math.max(1, Number(process.env['ARCA_TEST_SLOWDOWN'] ?? 1) || 1);

/** A time-out, or the length of something that has to last, on this machine. */
export function scaled(milliseconds: number): number {
  return milliseconds * SLOWDOWN;
}

const LOOK_INTERVAL_MS = 10;

/**
 * For a state that tells nobody when it changes: looks until there is something, and fails with `what` at the deadline.
 * What `look` throws ends it at once.
 */
export async function eventually<T>(
  what: string | (() => string),
  look: () => T | undefined | Promise<T | undefined>,
  timeoutMs = 5_000,
): Promise<T> {
  const deadline = performance.now() + scaled(timeoutMs);
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() >= deadline) {
      throw new Error(`not within ${scaled(timeoutMs)} ms: ${typeof what === 'string' ? what : what()}`);
    }
    await delay(scaled(LOOK_INTERVAL_MS));
  }
}

/** The promise's value, or an error that names what was waited for. */
export async function within<T>(promise: Promise<T>, what: string | (() => string), timeoutMs = 5_000): Promise<T> {
  const timeout = new AbortController();
  const deadline = delay(scaled(timeoutMs), undefined, { signal: timeout.signal }).then(
    () => {
      throw new Error(`not within ${scaled(timeoutMs)} ms: ${typeof what === 'string' ? what : what()}`);
    },
    () => new Promise<never>(() => {}),
  );
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    timeout.abort();
  }
}
