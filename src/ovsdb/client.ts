/**
 * A client of ovsdb-server (RFC 7047; `monitor_cond` is in ovsdb-server(7), section 4.1.12). Knows the protocol's
 * methods, not what any database is for. Every call has a deadline; a lost connection ends the client, and whoever
 * made it makes another.
 */
import {
  type CallOptions,
  connectRpc,
  deadlineOf,
  isRecord,
  type Probe,
  type RpcConnection,
  RpcError,
  type RpcTarget,
} from './json-rpc.js';
import { applyDifference, type ColumnKind, type Row, type Value } from './values.js';

export type Condition = readonly [column: string, comparison: string, value: Value];
export type Mutation = readonly [column: string, mutator: string, value: Value];

export type Operation =
  | {
      readonly op: 'select';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns?: readonly string[];
    }
  | {
      readonly op: 'insert';
      readonly table: string;
      readonly row: Readonly<Record<string, Value>>;
      /** Must match `[A-Za-z_][A-Za-z0-9_]*`. */
      readonly 'uuid-name'?: string;
    }
  | {
      readonly op: 'update';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly row: Readonly<Record<string, Value>>;
    }
  | {
      readonly op: 'mutate';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly mutations: readonly Mutation[];
    }
  | { readonly op: 'delete'; readonly table: string; readonly where: readonly Condition[] }
  | {
      readonly op: 'wait';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns: readonly string[];
      readonly until: '==' | '!=';
      readonly rows: readonly Readonly<Record<string, Value>>[];
      /** Milliseconds; 0: it holds now, or the transaction fails. */
      readonly timeout: number;
    };

export interface OperationResult {
  /** Rows changed by `update`, `mutate` and `delete`. */
  readonly count?: number;
  /** Rows found by `select`. */
  readonly rows?: readonly Row[];
  /** The row that `insert` made. */
  readonly uuid?: unknown;
}

/** One operation of a transaction failed, so nothing of it was done. */
export class OperationError extends Error {
  /** Index of the operation; the number of operations when the commit as a whole failed. */
  readonly index: number;
  /** RFC 7047's word: `timed out`, `constraint violation`, `referential integrity violation`, ... */
  readonly error: string;
  readonly details: string;

  constructor(index: number, error: string, details: string) {
    super(`operation ${index} failed: ${error}${details === '' ? '' : ` (${details})`}`);
    this.name = 'OperationError';
    this.index = index;
    this.error = error;
    this.details = details;
  }
}

export interface TableMonitor {
  /** Every column to watch, and how its changes arrive. */
  readonly columns: Readonly<Record<string, ColumnKind>>;
  /** Rows to watch; all by default. */
  readonly where?: readonly Condition[];
}

export type MonitorSpec = Readonly<Record<string, TableMonitor>>;

/** Table name, then UUID, to row. */
export type Tables = ReadonlyMap<string, ReadonlyMap<string, Row>>;

export interface OvsdbClient {
  readonly target: RpcTarget;
  /** Runs a transaction. Rejects with `RpcError`, or with `OperationError` and then nothing was changed. */
  transact(database: string, operations: readonly Operation[], options: CallOptions): Promise<OperationResult[]>;
  /** Watches rows. The tables that come back are kept up to date; `onChange` is called after each change. */
  monitor(database: string, spec: MonitorSpec, onChange: () => void, options: CallOptions): Promise<Tables>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
  readonly closed: Promise<RpcError>;
  isOpen(): boolean;
  close(): void;
}

export interface OvsdbOptions extends CallOptions {
  /** How long the server may be silent before it is asked for an echo, and how long it has for that. */
  readonly probeIntervalMs?: number;
  readonly probeTimeoutMs?: number;
}

const DEFAULT_PROBE_MS = 5000;

export async function connectOvsdb(target: RpcTarget, options: OvsdbOptions): Promise<OvsdbClient> {
  const monitors = new Map<string, (updates: unknown) => void>();
  const probe: Probe = {
    method: 'echo',
    intervalMs: options.probeIntervalMs ?? DEFAULT_PROBE_MS,
    timeoutMs: options.probeTimeoutMs ?? DEFAULT_PROBE_MS,
  };
  const connection = await connectRpc(target, {
    timeoutMs: options.timeoutMs,
    signal: options.signal,
    probe,
    onNotification(method, params) {
      if (method !== 'update2' || !Array.isArray(params)) return;
      monitors.get(String(params[0]))?.(params[1]);
    },
  });
  return clientOver(connection, monitors);
}

/** Connects for one piece of work, and closes whatever becomes of it. `left` gives what remains of the call's time. */
export async function withOvsdb<T>(
  target: RpcTarget,
  call: CallOptions,
  use: (client: OvsdbClient, left: () => CallOptions) => Promise<T>,
): Promise<T> {
  const left = deadlineOf(call);
  const client = await connectOvsdb(target, left());
  try {
    return await use(client, left);
  } finally {
    client.close();
  }
}

function clientOver(connection: RpcConnection, monitors: Map<string, (updates: unknown) => void>): OvsdbClient {
  let nextMonitor = 1;
  return {
    target: connection.target,
    closed: connection.closed,
    isOpen: connection.isOpen,
    close: connection.close,

    async echo(options) {
      await connection.call('echo', [], options);
    },

    async transact(database, operations, options) {
      return checkResults(operations.length, await connection.call('transact', [database, ...operations], options));
    },

    async monitor(database, spec, onChange, options) {
      const id = `monitor-${nextMonitor++}`;
      const tables = new Map(Object.keys(spec).map((table) => [table, new Map<string, Row>()]));
      // An update may come in the same chunk as the answer, before the promise of the answer runs on. So nothing may
      // be lost between: updates wait here for the initial rows.
      let early: unknown[] | undefined = [];
      monitors.set(id, (updates) => {
        if (early) early.push(updates);
        else {
          applyUpdates(spec, tables, updates);
          onChange();
        }
      });
      try {
        applyUpdates(spec, tables, await connection.call('monitor_cond', [database, id, requestOf(spec)], options));
      } catch (error) {
        monitors.delete(id);
        throw error;
      }
      for (const updates of early) applyUpdates(spec, tables, updates);
      early = undefined;
      return tables;
    },
  };
}

function requestOf(spec: MonitorSpec): Record<string, unknown> {
  const request: Record<string, unknown> = {};
  for (const [table, { columns, where }] of Object.entries(spec)) {
    request[table] = [{ columns: Object.keys(columns), ...(where && { where }) }];
  }
  return request;
}

/** The RPC succeeds even when operations fail: their errors stand in the result, where they must be looked for. */
export function checkResults(operationCount: number, results: unknown): OperationResult[] {
  if (!Array.isArray(results)) throw new RpcError('protocol', 'the answer to transact is no array');
  results.forEach((result: unknown, index) => {
    if (!isRecord(result) || typeof result['error'] !== 'string') return;
    throw new OperationError(index, result['error'], typeof result['details'] === 'string' ? result['details'] : '');
  });
  if (results.length < operationCount) throw new RpcError('protocol', 'the answer to transact is too short');
  return results.map((result: unknown) => (isRecord(result) ? result : {}));
}

/** Applies the `<table-updates2>` of an answer or a notification. */
export function applyUpdates(spec: MonitorSpec, tables: ReadonlyMap<string, Map<string, Row>>, updates: unknown): void {
  if (!isRecord(updates)) return;
  for (const [name, rows] of Object.entries(updates)) {
    const table = tables.get(name);
    const columns = spec[name]?.columns;
    if (table === undefined || columns === undefined || !isRecord(rows)) continue;
    for (const [id, change] of Object.entries(rows)) {
      if (!isRecord(change)) continue;
      const added = change['initial'] ?? change['insert'];
      if (isRecord(added)) table.set(id, added);
      else if (isRecord(change['modify'])) table.set(id, changedRow(columns, table.get(id) ?? {}, change['modify']));
      else if ('delete' in change) table.delete(id);
    }
  }
}

function changedRow(columns: Readonly<Record<string, ColumnKind>>, old: Row, changes: Record<string, unknown>): Row {
  const row: Record<string, unknown> = { ...old };
  for (const [column, difference] of Object.entries(changes)) {
    row[column] = applyDifference(columns[column] ?? 'plain', old[column], difference);
  }
  return row;
}
