/**
 * Which of a cluster's servers is of use: the leader, which alone has everything that was committed. Each server tells
 * its own state in the database `_Server`, table Database (ovsdb-server(5)).
 */
import type { OvsdbClient } from './client.js';
import type { Tables } from './monitor.js';
import { targetText } from './remote.js';
import { type CallOptions, RpcError } from './rpc-error.js';
import { text } from './values.js';

const SERVER_DATABASE = '_Server';

/** Pure. Completes "the server ..."; nothing when it is fit. */
export function whyNotLeader(tables: Tables, database: string): string | undefined {
  const row = [...(tables.get('Database')?.values() ?? [])].find((candidate) => text(candidate['name']) === database);
  if (row === undefined) return `has no database ${database}`;
  if (text(row['model']) !== 'clustered') return undefined;
  if (row['connected'] !== true) return 'is cut off from its cluster';
  return row['leader'] === true ? undefined : 'is not the leader of its cluster';
}

/**
 * Rejects when the server does not lead the cluster that `database` is of; closes the client as soon as it does not any
 * more. A database that is in no cluster is fine, and a server too old to have clusters (before Open vSwitch 2.9).
 */
export async function holdToLeader(client: OvsdbClient, database: string, call: CallOptions): Promise<void> {
  let tables: Tables | undefined;
  const judge = (): RpcError | undefined => {
    const why = tables === undefined ? undefined : whyNotLeader(tables, database);
    if (why === undefined) return undefined;
    const error = new RpcError('closed', `the server at ${targetText(client.target)} ${why}`);
    client.close(error);
    return error;
  };
  try {
    // Not `index`: it changes with each commit, and would wake us for it.
    const columns = { name: 'plain', model: 'plain', connected: 'plain', leader: 'plain' } as const;
    const spec = { Database: { columns, where: [['name', '==', database]] } } as const;
    tables = await client.monitor(SERVER_DATABASE, spec, () => void judge(), call);
  } catch (error) {
    if (error instanceof RpcError && error.failure === 'refused') return;
    throw error;
  }
  const unfit = judge();
  if (unfit !== undefined) throw unfit;
}
