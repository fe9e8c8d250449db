/** Who may work when: one at a time for each key, and so many at a time over all. In the order in which they came. */

export interface KeyedTurns {
  /** Runs `work` when every earlier one of that key is over. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Somebody works on it, or waits to. */
  isBusy(key: string): boolean;
  /** Resolves when nobody works on any key any more. */
  settled(): Promise<void>;
}

export function createKeyedTurns(): KeyedTurns {
  const last = new Map<string, Promise<unknown>>();
  return {
    isBusy: (key) => last.has(key),
    async settled() {
      while (last.size > 0) await Promise.all(last.values());
    },
    run(key, work) {
      const before = last.get(key) ?? Promise.resolve();
      const turn = before.then(work);
      const over = turn.then(
        () => {},
        () => {},
      );
      last.set(key, over);
      void over.then(() => {
        if (last.get(key) === over) last.delete(key);
      });
      return turn;
    },
  };
}

export interface Semaphore {
  /** Runs `work` when less than the limit are at work. Rejects with the signal's reason if that aborts before its turn. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
}

export function createSemaphore(limit: number): Semaphore {
  let atWork = 0;
  const waiting: (() => void)[] = [];

  function turn(signal: AbortSignal | undefined): Promise<void> {
    if (atWork < limit) {
      atWork++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        waiting.splice(waiting.indexOf(begin), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', leave, { once: true });
      waiting.push(begin);
    });
  }

  return {
    async run(work, signal) {
      signal?.throwIfAborted();
      await turn(signal);
      try {
        return await work();
      } finally {
        // The next one takes over this place, so that nobody comes in between.
        const next = waiting.shift();
        if (next === undefined) atWork--;
        else next();
      }
    },
  };
}
