/**
 * As much of OVSDB as `arca state` uses, in memory: transactions with waits, named UUIDs, sets and maps, rows that go
 * when nothing refers to them, and names that only one row may have. For properties over many databases; the real
 * server is in the integration tests.
 */
import type { Condition, Mutation, Operation, OperationResult } from '../../src/ovsdb/client.js';
import { checkResults } from '../../src/ovsdb/client.js';
import { elements, type Row } from '../../src/ovsdb/values.js';
import { type ActualDatabase, compareText, databaseOf } from '../../src/state/database.js';

type Table = Map<string, Record<string, unknown>>;

export interface OvsdbModel {
  /** Throws `OperationError`, and has changed nothing then. */
  transact(operations: readonly Operation[]): OperationResult[];
  read(): ActualDatabase;
  /** Everything but UUIDs and `next_cfg`, as text: the same for databases that mean the same. */
  dump(): string;
}

const CHILDREN: Readonly<Record<string, readonly [column: string, table: string]>> = {
  Open_vSwitch: ['bridges', 'Bridge'],
  Bridge: ['ports', 'Port'],
  Port: ['interfaces', 'Interface'],
};
const MAP_COLUMNS = new Set(['external_ids', 'other_config', 'options']);
const SET_COLUMNS = new Set(['bridges', 'ports', 'interfaces', 'trunks', 'tag', 'vlan_mode']);

export function createOvsdbModel(): OvsdbModel {
  let tables = new Map<string, Table>(['Open_vSwitch', 'Bridge', 'Port', 'Interface'].map((name) => [name, new Map()]));
  let nextUuid = 1;
  tables.get('Open_vSwitch')?.set('root', { next_cfg: 0, cur_cfg: 0 });

  function transact(operations: readonly Operation[]): OperationResult[] {
    const before = new Map([...tables].map(([name, table]) => [name, copyOf(table)]));
    const names = new Map<string, string>();
    for (const operation of operations) {
      if (operation.op === 'insert') names.set(operation['uuid-name'] ?? '', `u${nextUuid++}`);
    }
    const results: unknown[] = [];
    for (const operation of operations) {
      const result = perform(tables, operation, names);
      results.push(result);
      if ('error' in result) break;
    }
    if (results.length === operations.length) {
      collect(tables);
      const taken = takenName(tables);
      if (taken) results.push({ error: 'constraint violation', details: taken });
    }
    try {
      return checkResults(operations.length, results);
    } catch (error) {
      tables = before;
      throw error;
    }
  }

  const rows = (table: string): Row[] =>
    [...(tables.get(table) ?? [])].map(([id, row]) => ({ ...row, _uuid: ['uuid', id] }));
  const read = (): ActualDatabase =>
    databaseOf(rows('Open_vSwitch')[0] ?? {}, rows('Bridge'), rows('Port'), rows('Interface'));
  return {
    transact,
    read,
    dump: () => JSON.stringify(read().bridges, (key, value) => (key === 'uuid' ? undefined : plain(value)), 1),
  };
}

function perform(tables: ReadonlyMap<string, Table>, operation: Operation, names: ReadonlyMap<string, string>): object {
  if (operation.op === 'commit') return {};
  if (!('table' in operation)) return { error: 'not modelled' };
  const table = tables.get(operation.table) ?? new Map();
  if (operation.op === 'insert') {
    const id = names.get(operation['uuid-name'] ?? '') ?? '';
    table.set(id, resolved(operation.row, names) as Record<string, unknown>);
    return { uuid: ['uuid', id] };
  }
  const found = [...table].filter(([id, row]) => operation.where.every((condition) => matches(id, row, condition)));
  switch (operation.op) {
    case 'select':
      return { rows: found.map(([, row]) => row) };
    case 'wait': {
      const seen = found.map(([, row]) => projection(row, operation.columns));
      const wanted = operation.rows.map((row) => projection(row, operation.columns));
      return seen.sort().join() === wanted.sort().join() ? {} : { error: 'timed out' };
    }
    case 'update':
      for (const [, row] of found) Object.assign(row, resolved(operation.row, names));
      return { count: found.length };
    case 'mutate':
      for (const [, row] of found) for (const mutation of operation.mutations) mutate(row, mutation, names);
      return { count: found.length };
    case 'delete':
      return { error: 'not modelled' };
  }
}

function matches(id: string, row: Row, [column, comparison, value]: Condition): boolean {
  const there = column === '_uuid' ? ['uuid', id] : row[column];
  if (comparison === '==') return canonical(column, there) === canonical(column, value);
  if (comparison !== 'includes') throw new Error(`not modelled: ${comparison}`);
  const all = new Set(members(there).map((member) => JSON.stringify(member)));
  return members(value).every((member) => all.has(JSON.stringify(member)));
}

function mutate(row: Record<string, unknown>, mutation: Mutation, names: ReadonlyMap<string, string>): void {
  const [column, mutator, raw] = mutation;
  const value = resolved(raw, names);
  if (mutator === '+=') {
    row[column] = Number(row[column] ?? 0) + Number(value);
    return;
  }
  const isMap = MAP_COLUMNS.has(column);
  const keyOf = (member: unknown): string => JSON.stringify(isMap && Array.isArray(member) ? member[0] : member);
  const kept = new Map(members(row[column]).map((member) => [keyOf(member), member]));
  for (const member of members(value)) {
    if (mutator === 'delete') kept.delete(keyOf(member));
    // RFC 7047, 5.1: a key that is there stays as it is.
    else if (!kept.has(keyOf(member))) kept.set(keyOf(member), member);
  }
  row[column] = [isMap ? 'map' : 'set', [...kept.values()]];
}

function collect(tables: ReadonlyMap<string, Table>): void {
  for (const [parent, [column, name]] of Object.entries(CHILDREN)) {
    const used = new Set<string>();
    for (const row of tables.get(parent)?.values() ?? []) {
      for (const reference of members(row[column])) used.add(String((reference as string[])[1]));
    }
    const table = tables.get(name) ?? new Map();
    for (const id of table.keys()) if (!used.has(id)) table.delete(id);
  }
}

function takenName(tables: ReadonlyMap<string, Table>): string | undefined {
  for (const name of ['Bridge', 'Port', 'Interface']) {
    const seen = new Set<unknown>();
    for (const row of tables.get(name)?.values() ?? []) {
      if (seen.has(row['name'])) return `two rows of ${name} are named ${row['name']}`;
      seen.add(row['name']);
    }
  }
  return undefined;
}

function members(value: unknown): readonly unknown[] {
  if (Array.isArray(value) && value[0] === 'map') return value[1] as unknown[];
  return elements(value);
}

function canonical(column: string, value: unknown): string {
  if (!SET_COLUMNS.has(column) && !MAP_COLUMNS.has(column)) return JSON.stringify(value ?? '');
  return members(value)
    .map((member) => JSON.stringify(member))
    .sort()
    .join();
}

function projection(row: Row, columns: readonly string[]): string {
  return columns.map((column) => `${column}=${canonical(column, row[column])}`).join(' ');
}

function resolved(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) {
    if (value[0] === 'named-uuid') return ['uuid', names.get(String(value[1]))];
    return value.map((item) => resolved(item, names));
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, names)]));
}

/** One element bare or in a set, pairs and keys in any order: the same. */
function plain(value: unknown): unknown {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => compareText(a, b)));
  }
  if (!Array.isArray(value) || (value[0] !== 'set' && value[0] !== 'map')) return value;
  return members(value)
    .map((member) => JSON.stringify(member))
    .sort();
}

function copyOf(table: Table): Table {
  return new Map([...table].map(([id, row]) => [id, { ...row }]));
}
