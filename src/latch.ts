/** An event that is remembered until somebody waits for it. For loops that look again whenever something changed. */
export interface Latch {
  /** Ends the wait that is going on, or the next one. */
  set(): void;
  /** Resolves when `set` was called since the last wait, `timeoutMs` have passed, or `signal` aborts; it never rejects. */
  wait(options: { readonly timeoutMs?: number | undefined; readonly signal?: AbortSignal | undefined }): Promise<void>;
}

export function createLatch(): Latch {
  let isSet = false;
  let wake: (() => void) | undefined;
  return {
    set() {
      isSet = true;
      wake?.();
    },
    wait({ timeoutMs, signal }) {
      return new Promise((resolve) => {
        let timer: NodeJS.Timeout | undefined;
        const done = (): void => {
          wake = undefined;
          isSet = false;
          clearTimeout(timer);
          signal?.removeEventListener('abort', done);
          resolve();
        };
        if (isSet || signal?.aborted) {
          done();
          return;
        }
        wake = done;
        if (timeoutMs !== undefined) timer = setTimeout(done, timeoutMs);
        signal?.addEventListener('abort', done, { once: true });
      });
    },
  };
}
