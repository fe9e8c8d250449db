/**
 * A client of ovsdb-server (RFC 7047; `monitor_cond` is in ovsdb-server(7), section 4.1.12). Knows the protocol's
 * methods, not what any database is for. Every call has a deadline; a lost connection ends the client, and whoever
 * made it makes another (link.ts does). What it can do: docs/ovsdb.md.
 */
import { connectRpc, type Probe, type RpcConnection } from './json-rpc.js';
import { holdToLeader } from './leader.js';
import { createLocks, type LockMethod, type Locks, type OvsdbLock } from './locks.js';
import { MONITOR, MONITOR_COND, type MonitorMethod, type MonitorSpec, type Tables } from './monitor.js';
import { checkResults, type Operation, type OperationResult } from './operations.js';
import { type RpcServer, type RpcTarget, serversOf, targetText } from './remote.js';
import { type CallOptions, deadlineOf, RpcError } from './rpc-error.js';
import { type DatabaseSchema, parseSchema } from './schema.js';
import type { Row } from './values.js';

export type { MonitorSpec, Tables } from './monitor.js';
export {
  type Condition,
  checkResults,
  type Mutation,
  type Operation,
  OperationError,
  type OperationResult,
} from './operations.js';

export interface OvsdbClient {
  readonly target: RpcServer;
  /** Names of the databases that the server has. */
  listDatabases(options: CallOptions): Promise<readonly string[]>;
  getSchema(database: string, options: CallOptions): Promise<DatabaseSchema>;
  /**
   * Runs a transaction. Rejects with `OperationError`, and then nothing was changed; or with `RpcError`. At its deadline,
   * or when its signal aborts, the server is told to cancel it: nothing of it stays in the server's queue. What was
   * committed by then stays, and whether it was is not known.
   */
  transact(database: string, operations: readonly Operation[], options: CallOptions): Promise<OperationResult[]>;
  /**
   * Watches rows. The tables that come back are kept up to date; `onChange` is called after each change from then on,
   * and must not throw.
   */
  monitor(database: string, spec: MonitorSpec, onChange: () => void, options: CallOptions): Promise<Tables>;
  /** Ends the monitor that gave `tables`; they keep what they hold, and `onChange` is not called any more. */
  cancelMonitor(tables: Tables, options: CallOptions): Promise<void>;
  /** Joins the queue for a lock; the one that comes back may not be held yet. `onChange` must not throw. */
  lock(name: string, onChange: (isHeld: boolean) => void, options: CallOptions): Promise<OvsdbLock>;
  /** Takes a lock from whoever holds it. */
  steal(name: string, onChange: (isHeld: boolean) => void, options: CallOptions): Promise<OvsdbLock>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
  readonly closed: Promise<RpcError>;
  isOpen(): boolean;
  /** Safe to call twice. Calls that wait reject with `reason`. */
  close(reason?: RpcError): void;
}

export interface OvsdbOptions extends CallOptions {
  /** How long the server may be silent before it is asked for an echo, and how long it has for that. */
  readonly probeIntervalMs?: number | undefined;
  readonly probeTimeoutMs?: number | undefined;
  /** Of a cluster's servers, only the one that leads it for this database; the client ends when it does not any more. */
  readonly leaderOf?: string | undefined;
}

const DEFAULT_PROBE_MS = 5000;

/** Of a cluster, the first of its servers that will do. Rejects with `RpcError`. */
export async function connectOvsdb(target: RpcTarget, options: OvsdbOptions): Promise<OvsdbClient> {
  const servers = serversOf(target);
  const left = deadlineOf(options);
  const failures: RpcError[] = [];
  for (const [index, server] of servers.entries()) {
    // One that does not answer leaves the others their share of the time.
    const timeoutMs = left().timeoutMs / (servers.length - index);
    try {
      return await connectServer(server, { ...options, timeoutMs });
    } catch (error) {
      if (!(error instanceof RpcError) || error.failure === 'aborted' || servers.length === 1) throw error;
      failures.push(error);
    }
  }
  const [first] = failures;
  const why = failures.map(({ message }) => message).join('; ');
  throw new RpcError(first?.failure ?? 'unreachable', `no server of ${targetText(target)} will do: ${why}`, {
    cause: first?.cause,
  });
}

/** Connects for one piece of work, and closes whatever becomes of it. `left` gives what remains of the call's time. */
export async function withOvsdb<T>(
  target: RpcTarget,
  options: OvsdbOptions,
  use: (client: OvsdbClient, left: () => CallOptions) => Promise<T>,
): Promise<T> {
  const left = deadlineOf(options);
  const client = await connectOvsdb(target, { ...options, ...left() });
  try {
    return await use(client, left);
  } finally {
    client.close();
  }
}

async function connectServer(server: RpcServer, options: OvsdbOptions): Promise<OvsdbClient> {
  const left = deadlineOf(options);
  const monitors = new Map<string, (updates: unknown) => void>();
  const probe: Probe = {
    method: 'echo',
    intervalMs: options.probeIntervalMs ?? DEFAULT_PROBE_MS,
    timeoutMs: options.probeTimeoutMs ?? DEFAULT_PROBE_MS,
  };
  // No notification comes before the connection is there: it is read in later turns only.
  const locks = createLocks(() => connection);
  const connection: RpcConnection = await connectRpc(server, {
    ...left(),
    probe,
    onNotification(method, params) {
      if ((method === 'update2' || method === 'update') && Array.isArray(params)) {
        monitors.get(String(params[0]))?.(params[1]);
      } else locks.onNotification(method, params);
    },
  });
  const client = clientOver(connection, monitors, locks);
  if (options.leaderOf === undefined) return client;
  try {
    await holdToLeader(client, options.leaderOf, left());
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

function clientOver(
  connection: RpcConnection,
  monitors: Map<string, (updates: unknown) => void>,
  locks: Locks,
): OvsdbClient {
  const monitorIds = new WeakMap<Tables, string>();
  const where = targetText(connection.target);
  let nextMonitor = 1;

  async function watch(
    method: MonitorMethod,
    database: string,
    spec: MonitorSpec,
    onChange: () => void,
    options: CallOptions,
  ): Promise<Tables> {
    const id = `monitor-${nextMonitor++}`;
    const tables = new Map(Object.keys(spec).map((table) => [table, new Map<string, Row>()]));
    let isHandedOut = false;
    await connection.call(method.name, [database, id, method.request(spec)], {
      ...options,
      // At once: an update may come in the same chunk as the answer, before the promise of the answer runs on.
      onResult(rows) {
        method.apply(spec, tables, rows);
        monitors.set(id, (updates) => {
          method.apply(spec, tables, updates);
          if (isHandedOut) onChange();
        });
      },
    });
    monitorIds.set(tables, id);
    isHandedOut = true;
    return tables;
  }

  const take = (method: LockMethod) => (name: string, onChange: (isHeld: boolean) => void, options: CallOptions) =>
    locks.take(method, name, onChange, options);

  return {
    target: connection.target,
    closed: connection.closed,
    isOpen: connection.isOpen,
    close: connection.close,
    lock: take('lock'),
    steal: take('steal'),

    async echo(options) {
      await connection.call('echo', [], options);
    },

    async listDatabases(options) {
      const names = await connection.call('list_dbs', [], options);
      if (Array.isArray(names) && names.every((name) => typeof name === 'string')) return names;
      throw new RpcError('protocol', `${where} gave no list of databases`);
    },

    async getSchema(database, options) {
      return parseSchema(await connection.call('get_schema', [database], options));
    },

    async transact(database, operations, options) {
      let wasCancelled = false;
      const onGivenUp = (id: number): void => {
        wasCancelled = true;
        connection.notify('cancel', [id]);
      };
      try {
        const results = await connection.call('transact', [database, ...operations], { ...options, onGivenUp });
        return checkResults(operations.length, results);
      } catch (error) {
        if (!wasCancelled || !(error instanceof RpcError)) throw error;
        const message = `${error.message}; it was told to cancel the transaction, but what it may have committed stays`;
        throw new RpcError(error.failure, message, { cause: error });
      }
    },

    async monitor(database, spec, onChange, options) {
      const left = deadlineOf(options);
      try {
        return await watch(MONITOR_COND, database, spec, onChange, left());
      } catch (error) {
        if (!(error instanceof RpcError) || error.answer !== 'unknown method') throw error;
        return watch(MONITOR, database, spec, onChange, left());
      }
    },

    async cancelMonitor(tables, options) {
      const id = monitorIds.get(tables);
      if (id === undefined) throw new Error('these tables are of no monitor of this client');
      monitors.delete(id);
      await connection.call('monitor_cancel', [id], options);
    },
  };
}
