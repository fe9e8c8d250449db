/** What a failure of OVSDB's protocol means to the user of one of OVN's databases. */
import { ArcaError, errnoOf } from '../errors.js';
import { OperationError } from '../ovsdb/client.js';
import { RpcError, type RpcTarget, targetText } from '../ovsdb/json-rpc.js';

export type OvnDatabase = 'northbound' | 'southbound';

/** Makes the ArcaError for a call that failed; `doing` completes "while ...". */
export function ovnFailure(error: unknown, database: OvnDatabase, target: RpcTarget, doing: string): ArcaError {
  if (error instanceof ArcaError) return error;
  const where = `the OVN ${database} database (ovsdb-server) at ${targetText(target)}`;
  const cause = error;
  if (error instanceof RpcError) {
    if (['EACCES', 'EPERM'].includes(errnoOf(error.cause) ?? '')) {
      return new ArcaError('permission-denied', `no permission to connect to ${where}; run as root`, { cause });
    }
    switch (error.failure) {
      case 'unreachable':
      case 'closed':
        return new ArcaError(
          `${database}-unreachable`,
          `no connection to ${where} while ${doing}: ${error.message}. Is it running (${status(database)}), and --${option(database)} right?`,
          { cause },
        );
      case 'timed-out':
        return new ArcaError(
          `${database}-timeout`,
          `${where} does not answer while ${doing}: ${error.message}. Is the daemon stopped or overloaded?`,
          { cause },
        );
      case 'aborted':
        return new ArcaError('timed-out', `stopped while ${doing}`, { cause });
      case 'protocol':
      case 'refused':
        return new ArcaError(
          `${database}-unreachable`,
          `${targetText(target)} does not answer as OVN's ${database} database while ${doing}: ${error.message}`,
          { cause },
        );
    }
  }
  const why = error instanceof Error ? error.message : String(error);
  const what = error instanceof OperationError ? `${where} refused a change while ${doing}` : `failed while ${doing}`;
  return new ArcaError('unexpected', `${what}: ${why}`, { cause });
}

function option(database: OvnDatabase): string {
  return database === 'northbound' ? 'nb' : 'sb';
}

function status(database: OvnDatabase): string {
  return `ovn-ctl status_ovn${option(database)}`;
}
