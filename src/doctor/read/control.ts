/** arca-control, asked over its own API. */
import { createClient } from '../../control/client.js';
import type { Health } from '../../control/model.js';
import { errnoOf, toArcaError } from '../../errors.js';
import { type CallOptions, deadlineOf } from '../../ovsdb/json-rpc.js';
import type { DaemonFacts } from './daemon.js';

export interface ControlFacts extends DaemonFacts {
  /** Only of one that answers, and told it in time. */
  readonly health?: Health;
}

export async function readControl(socketPath: string, call: CallOptions): Promise<ControlFacts> {
  const left = deadlineOf(call);
  const client = (): ReturnType<typeof createClient> => createClient({ path: socketPath, ...left() });
  try {
    const { version, pid } = await client().version();
    const known = { state: 'answers', detail: `arca-control ${version} on unix:${socketPath}`, pid, version } as const;
    // It asks each part itself, which takes seconds where one hangs; it is not the one that hangs then.
    const health = await client().health().catch(nothingInTime);
    return health === undefined ? known : { ...known, health };
  } catch (error) {
    const { code, message, cause } = toArcaError(error);
    switch (code) {
      case 'timed-out':
        return { state: 'hangs', detail: message };
      case 'permission-denied':
        return { state: 'denied', detail: message };
      default:
        return { state: errnoOf(cause) === 'ENOENT' ? 'gone' : 'dead', detail: message };
    }
  }
}

function nothingInTime(error: unknown): undefined {
  if (toArcaError(error).code !== 'timed-out') throw error;
}
