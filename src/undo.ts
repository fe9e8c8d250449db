/** What has to be undone, in the reverse order of how it was done: after a start that failed, and at the end. */
import type { Logger } from './log.js';

export interface UndoStack {
  push(what: string, undo: () => void | Promise<void>): void;
  /** Runs everything that is on the stack, also after one of them failed, and gives the first error. Safe to call twice. */
  run(log: Logger): Promise<unknown>;
}

export function createUndoStack(): UndoStack {
  const steps: { readonly what: string; readonly undo: () => void | Promise<void> }[] = [];
  return {
    push(what, undo) {
      steps.push({ what, undo });
    },
    async run(log) {
      let firstError: unknown;
      for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
        try {
          await step.undo();
        } catch (error) {
          log.debug({ err: error, step: step.what }, 'could not be undone');
          firstError ??= error;
        }
      }
      return firstError;
    },
  };
}
