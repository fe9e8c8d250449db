/** Brings edits into OVS's database: as one transaction, or not at all. */

import { ArcaError } from '../errors.js';
import { ovsdbFailure } from '../ovs/failures.js';
import { OVS_DATABASE } from '../ovs/port-commands.js';
import { OperationError, type OvsdbClient } from '../ovsdb/client.js';
import { type CallOptions, RpcError, targetText } from '../ovsdb/json-rpc.js';
import type { Edit } from './edits.js';
import { type Committed, readCommitted, transactionOf } from './operations.js';

/**
 * Does not wait for vswitchd. Rejects with `state-changed` when somebody else changed what the edits were planned from
 * (nothing was done), with `state-incomplete` when the server did not say whether it did it.
 */
export async function commit(client: OvsdbClient, edits: readonly Edit[], call: CallOptions): Promise<Committed> {
  const transaction = transactionOf(edits);
  try {
    return readCommitted(transaction, await client.transact(OVS_DATABASE, transaction.operations, call));
  } catch (error) {
    throw commitFailure(error, client, transaction.guardCount);
  }
}

function commitFailure(cause: unknown, { target }: OvsdbClient, guardCount: number): ArcaError {
  if (cause instanceof OperationError) {
    if (cause.index < guardCount) {
      return new ArcaError(
        'state-changed',
        'somebody else changed bridges or ports of the plan at the same time; nothing was done. Try it again',
        { cause },
      );
    }
    return new ArcaError(
      'state-invalid',
      `the OVS database at ${targetText(target)} refused the changes, and nothing was done: ${cause.message}`,
      { cause },
    );
  }
  if (cause instanceof RpcError && cause.failure !== 'unreachable') {
    return new ArcaError(
      'state-incomplete',
      `the OVS database at ${targetText(target)} did not answer the transaction (${cause.message}): it was done as a ` +
        'whole or not at all, and `arca state verify` tells which when the server answers again',
      { cause },
    );
  }
  return ovsdbFailure(cause, target, 'changing bridges and ports');
}
