/** When a relay that died is started again: at once is for the first time, later and later while it dies again. */

export const FIRST_DELAY_MS = 250;
export const LAST_DELAY_MS = 30_000;
/** One that was ready for this long begins anew with the first delay. */
export const STABLE_AFTER_MS = 30_000;

export interface Backoff {
  /** How long to wait after this failure. `readyForMs`: how long it had been ready; 0: it did not come to that. */
  next(readyForMs: number): number;
}

export function createBackoff(): Backoff {
  let delayMs = FIRST_DELAY_MS;
  return {
    next(readyForMs) {
      if (readyForMs >= STABLE_AFTER_MS) delayMs = FIRST_DELAY_MS;
      const now = delayMs;
      delayMs = Math.min(delayMs * 2, LAST_DELAY_MS);
      return now;
    },
  };
}
