/** What was done, step by step, so that it can be taken back; and the account of a failure. */
import { ArcaError, toArcaError } from '../errors.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { type Change, changeText } from './changes.js';
import type { Lost } from './kept.js';

export interface Done {
  readonly changes: readonly Change[];
  undo(call: CallOptions): Promise<void>;
}

/** What a failure left, in `details` of `state-incomplete`. Each as `create bridge vmbr0, port eth0`. */
export interface Incomplete {
  /** What had been done when it failed. */
  readonly applied: readonly string[];
  readonly rolledBack: readonly string[];
  /** What is still in place. */
  readonly left: readonly string[];
}

/**
 * Takes back all that was done, the last first, whatever fails, and puts back what went with it; gives the error that
 * says what is in place.
 */
export async function takeBack(
  cause: unknown,
  done: readonly Done[],
  putBack: (call: CallOptions) => Promise<readonly Lost[]>,
  left: () => CallOptions,
): Promise<ArcaError> {
  const { code, message } = toArcaError(cause);
  const rolledBack: string[] = [];
  const stays: string[] = [];
  const reasons: string[] = [];
  for (const { changes, undo } of done.toReversed()) {
    try {
      await undo(left());
      rolledBack.push(...changes.map(changeText));
    } catch (error) {
      const why = toArcaError(error);
      reasons.push(why.code === 'state-changed' ? 'somebody else has changed it since' : why.message);
      stays.push(...changes.map(changeText));
    }
  }
  for (const { changes, why } of await putBack(left())) {
    reasons.push(why);
    stays.push(...changes.map(changeText));
  }
  const applied = done.flatMap(({ changes }) => changes.map(changeText));
  const account: Incomplete = {
    applied,
    rolledBack: rolledBack.filter((text) => !stays.includes(text)),
    left: [...new Set(stays)],
  };
  return new ArcaError('state-incomplete', `${message}. ${accountText(account, reasons)}`, {
    cause,
    details: { code, ...account },
  });
}

function accountText({ applied, rolledBack, left }: Incomplete, reasons: readonly string[]): string {
  if (applied.length === 0) return 'Nothing else had been changed';
  if (left.length === 0) return 'All of it was taken back';
  const back = rolledBack.length === 0 ? '' : `; taken back: ${rolledBack.join('; ')}`;
  return `Still in place, for it could not be taken back (${[...new Set(reasons)].join('; ')}): ${left.join('; ')}${back}`;
}
