/**
 * Replicas of tables: what is asked of the server, and how its updates change them (RFC 7047, 4.1.5 and 4.1.6;
 * ovsdb-server(7), 4.1.12 and 4.1.14). Pure.
 */
import { isMatch } from './conditions.js';
import { isRecord } from './json-rpc.js';
import type { Condition } from './operations.js';
import { applyDifference, type ColumnKind, type Row, uuid } from './values.js';

export interface TableMonitor {
  /** Every column to watch, and how its changes arrive. */
  readonly columns: Readonly<Record<string, ColumnKind>>;
  /** Rows to watch: those that meet one of these (`monitor_cond` has it so; the `where` of an operation wants all). */
  readonly where?: readonly Condition[];
}

export type MonitorSpec = Readonly<Record<string, TableMonitor>>;

/** Table name, then UUID, to row. */
export type Tables = ReadonlyMap<string, ReadonlyMap<string, Row>>;

type OwnTables = ReadonlyMap<string, Map<string, Row>>;

/** A method of monitoring: what it is asked with, and what its updates mean. */
export interface MonitorMethod {
  readonly name: 'monitor_cond' | 'monitor';
  request(spec: MonitorSpec): Record<string, unknown>;
  apply(spec: MonitorSpec, tables: OwnTables, updates: unknown): void;
}

export const MONITOR_COND: MonitorMethod = {
  name: 'monitor_cond',
  request(spec) {
    const request: Record<string, unknown> = {};
    for (const [table, { columns, where }] of Object.entries(spec)) {
      request[table] = [{ columns: Object.keys(columns), ...(where && { where }) }];
    }
    return request;
  },
  apply: applyUpdates,
};

/** For a server older than Open vSwitch 2.6: it sends every row, and those that were not asked for are left out here. */
export const MONITOR: MonitorMethod = {
  name: 'monitor',
  request(spec) {
    const request: Record<string, unknown> = {};
    for (const [table, { columns, where = [] }] of Object.entries(spec)) {
      const judged = where.map(([column]) => column).filter((column) => column !== '_uuid');
      request[table] = [{ columns: [...new Set([...Object.keys(columns), ...judged])] }];
    }
    return request;
  },
  apply: applyWholeRows,
};

/** Applies the `<table-updates2>` of an answer or a notification. */
export function applyUpdates(spec: MonitorSpec, tables: OwnTables, updates: unknown): void {
  for (const { table, columns, id, change } of changesIn(spec, tables, updates)) {
    const added = change['initial'] ?? change['insert'];
    if (isRecord(added)) table.set(id, added);
    else if (isRecord(change['modify'])) table.set(id, changedRow(columns, table.get(id) ?? {}, change['modify']));
    else if ('delete' in change) table.delete(id);
  }
}

/** Applies the `<table-updates>` of `monitor`: a row that is there comes whole as `new`. */
export function applyWholeRows(spec: MonitorSpec, tables: OwnTables, updates: unknown): void {
  for (const { table, columns, where, id, change } of changesIn(spec, tables, updates)) {
    const row = change['new'];
    if (isRecord(row) && isMatch({ ...row, _uuid: uuid(id) }, where)) table.set(id, onlyColumns(row, columns));
    else table.delete(id);
  }
}

interface RowChange extends Pick<TableMonitor, 'columns'> {
  readonly table: Map<string, Row>;
  readonly where: readonly Condition[];
  readonly id: string;
  readonly change: Record<string, unknown>;
}

function* changesIn(spec: MonitorSpec, tables: OwnTables, updates: unknown): Iterable<RowChange> {
  if (!isRecord(updates)) return;
  for (const [name, rows] of Object.entries(updates)) {
    const table = tables.get(name);
    const monitor = spec[name];
    if (table === undefined || monitor === undefined || !isRecord(rows)) continue;
    const { columns, where = [] } = monitor;
    for (const [id, change] of Object.entries(rows)) {
      if (isRecord(change)) yield { table, columns, where, id, change };
    }
  }
}

function changedRow(columns: TableMonitor['columns'], old: Row, changes: Record<string, unknown>): Row {
  const row: Record<string, unknown> = { ...old };
  for (const [column, difference] of Object.entries(changes)) {
    row[column] = applyDifference(columns[column] ?? 'plain', old[column], difference);
  }
  return row;
}

function onlyColumns(row: Row, columns: TableMonitor['columns']): Row {
  return Object.fromEntries(Object.entries(row).filter(([column]) => column in columns));
}
