/** What a failure of OVSDB's protocol means to the user. */
import { ArcaError, errnoOf } from '../errors.js';
import { OperationError } from '../ovsdb/client.js';
import { RpcError, type RpcTarget, targetText } from '../ovsdb/json-rpc.js';

/** Makes the ArcaError for a call to ovsdb-server that failed; `doing` completes "while ...". */
export function ovsdbFailure(error: unknown, target: RpcTarget, doing: string): ArcaError {
  if (error instanceof ArcaError) return error;
  const where = targetText(target);
  if (error instanceof RpcError) {
    if (['EACCES', 'EPERM'].includes(errnoOf(error.cause) ?? '')) {
      return new ArcaError('permission-denied', `no permission to connect to ovsdb-server at ${where}; run as root`, {
        cause: error,
      });
    }
    switch (error.failure) {
      case 'unreachable':
      case 'closed':
        return new ArcaError(
          'ovs-unreachable',
          `no connection to ovsdb-server at ${where} while ${doing}: ${error.message}. ` +
            'Is Open vSwitch running (ovs-ctl status, or systemctl status openvswitch-switch), and --ovs right?',
          { cause: error },
        );
      case 'timed-out':
        return new ArcaError(
          'ovs-timeout',
          `ovsdb-server at ${where} does not answer while ${doing}: ${error.message}. Is the daemon stopped or overloaded?`,
          { cause: error },
        );
      case 'aborted':
        return new ArcaError('timed-out', `stopped while ${doing}`, { cause: error });
      case 'protocol':
      case 'refused':
        return new ArcaError(
          'ovs-unreachable',
          `${where} does not answer as an OVS database server while ${doing}: ${error.message}`,
          { cause: error },
        );
    }
  }
  if (error instanceof OperationError) {
    return new ArcaError(
      'attach-failed',
      `the OVS database at ${where} refused a change while ${doing}: ${error.message}`,
      {
        cause: error,
      },
    );
  }
  const why = error instanceof Error ? error.message : String(error);
  return new ArcaError('unexpected', `failed while ${doing}: ${why}`, { cause: error });
}

/** The database answers, and the daemon that should act on it does not. */
export function vswitchdTimeout(target: RpcTarget, what: string, timeoutMs: number, cause?: unknown): ArcaError {
  return new ArcaError(
    'ovs-timeout',
    `ovs-vswitchd does not answer: waited ${Math.round(timeoutMs)} ms for ${what} (database ${targetText(target)}). ` +
      'Is the daemon running (ovs-appctl version)?',
    { cause },
  );
}
