/** From edits to ONE transaction (RFC 7047, section 5.2), with guards: whatever it was planned from still holds, or nothing is done. Pure. */
import { BUMP_NEXT_CFG, OWNER_KEY } from '../ovs/port-commands.js';
import type { Condition, Mutation, Operation, OperationResult } from '../ovsdb/operations.js';
import { type Atom, integer, map, set, uuid, uuidText, type Value } from '../ovsdb/values.js';
import { STATE_OWNER } from './database.js';
import type { BridgeRef, ColumnEdit, Edit, Made, NewBridge, NewPort, TableName } from './edits.js';
import { madeKey } from './edits.js';

export interface Transaction {
  readonly operations: readonly Operation[];
  /** The first so many are guards: when one of them fails, somebody else changed what the plan was made from. */
  readonly guardCount: number;
  /** Index of the operation that makes a row, by `madeKey`. */
  readonly inserts: ReadonlyMap<string, number>;
}

export interface Committed {
  readonly made: Made;
  /** vswitchd has worked the transaction through when its `cur_cfg` is this. */
  readonly nextCfg: number;
}

export function transactionOf(edits: readonly Edit[]): Transaction {
  const guards = guardsOf(edits);
  const changes: Operation[] = [];
  const inserts = new Map<string, number>();
  let count = 0;

  /** Gives the reference to a row that this transaction makes. */
  const insert = (table: TableName, name: string, row: Readonly<Record<string, Value>>): Atom => {
    // RFC 7047: [A-Za-z_][A-Za-z0-9_]*, so not the name of the row.
    const uuidName = `row${count++}`;
    inserts.set(madeKey(table, name), guards.length + changes.length);
    changes.push({ op: 'insert', table, row, 'uuid-name': uuidName });
    return ['named-uuid', uuidName];
  };
  const insertPort = ({ name, columns, interfaces }: NewPort): Atom => {
    const rows = interfaces.map((iface) => insert('Interface', iface.name, iface.columns));
    return insert('Port', name, { ...columns, interfaces: set(rows) });
  };
  const insertBridge = ({ name, columns, ports }: NewBridge): Atom =>
    insert('Bridge', name, { ...columns, ports: set(ports.map(insertPort)) });
  const mutate = (table: string, where: readonly Condition[], mutation: Mutation): void => {
    changes.push({ op: 'mutate', table, where, mutations: [mutation] });
  };

  for (const edit of edits) {
    switch (edit.kind) {
      case 'create-bridge':
        // A row that Open_vSwitch does not name is collected with the end of the transaction.
        mutate('Open_vSwitch', [], ['bridges', 'insert', insertBridge(edit.bridge)]);
        break;
      case 'delete-bridge':
        mutate('Open_vSwitch', [], ['bridges', 'delete', uuid(edit.bridge.uuid)]);
        break;
      case 'create-port':
        mutate('Bridge', byUuid(edit.bridge.uuid), ['ports', 'insert', insertPort(edit.port)]);
        break;
      case 'delete-port':
        mutate('Bridge', byUuid(edit.bridge.uuid), ['ports', 'delete', uuid(edit.uuid)]);
        break;
      case 'update':
        changes.push(...updatesOf(edit.table, edit.uuid, edit.columns));
    }
  }
  // On the disk before it is answered: what was said to be there survives a loss of power.
  const operations: Operation[] = [...guards, ...changes, { op: 'commit', durable: true }, ...BUMP_NEXT_CFG];
  return { operations, guardCount: guards.length, inserts };
}

export function readCommitted({ inserts }: Transaction, results: readonly OperationResult[]): Committed {
  return {
    made: new Map([...inserts].map(([key, index]) => [key, uuidText(results[index]?.uuid) ?? ''])),
    nextCfg: integer(results.at(-1)?.rows?.[0]?.['next_cfg']) ?? 0,
  };
}

function byUuid(id: string): readonly Condition[] {
  return [['_uuid', '==', uuid(id)]];
}

/** A `wait` that holds now, or fails the transaction. */
function holds(
  table: string,
  where: readonly Condition[],
  ...rows: readonly Readonly<Record<string, Value>>[]
): Operation {
  const columns = Object.keys(rows[0] ?? { name: '' });
  return { op: 'wait', table, where, columns, until: '==', rows, timeout: 0 };
}

function guardsOf(edits: readonly Edit[]): Operation[] {
  const guards: Operation[] = [];
  const bridges = new Map<string, BridgeRef>();
  const leaving = new Set<string>();
  for (const edit of edits) {
    if (edit.kind === 'delete-bridge' || edit.kind === 'create-port' || edit.kind === 'delete-port') {
      bridges.set(edit.bridge.uuid, edit.bridge);
    }
    for (const key of namesLeaving(edit)) leaving.add(key);
  }
  for (const { uuid: id, name, portUuids } of bridges.values()) {
    guards.push(holds('Bridge', byUuid(id), portUuids ? { name, ports: set(portUuids.map(uuid)) } : { name }));
  }
  for (const edit of edits) guards.push(...guardsOfEdit(edit, leaving));
  return guards;
}

function guardsOfEdit(edit: Edit, leaving: ReadonlySet<string>): Operation[] {
  const isFree = (table: TableName, name: string): Operation[] =>
    leaving.has(madeKey(table, name)) ? [] : [holds(table, [['name', '==', name]])];
  const isFreeForPort = ({ name, interfaces }: NewPort): Operation[] => [
    ...isFree('Port', name),
    ...interfaces.flatMap((iface) => isFree('Interface', iface.name)),
  ];
  switch (edit.kind) {
    case 'create-bridge':
      return [...isFree('Bridge', edit.bridge.name), ...edit.bridge.ports.flatMap(isFreeForPort)];
    case 'delete-bridge':
      return [holds('Bridge', isStillOurs(edit.bridge.uuid), { name: edit.bridge.name })];
    case 'create-port':
      return isFreeForPort(edit.port);
    case 'delete-port':
      return [holds('Port', isStillOurs(edit.uuid), { name: edit.was.name })];
    case 'update':
      return [guardOfUpdate(edit.table, edit.uuid, edit.name, edit.columns)];
  }
}

function isStillOurs(id: string): readonly Condition[] {
  return [...byUuid(id), ['external_ids', 'includes', map({ [OWNER_KEY]: STATE_OWNER })]];
}

/** Names that the edit takes away, so that another edit of the same transaction may take them. */
function namesLeaving(edit: Edit): string[] {
  const ofPort = ({ name, interfaces }: NewPort): string[] => [
    madeKey('Port', name),
    ...interfaces.map((iface) => madeKey('Interface', iface.name)),
  ];
  switch (edit.kind) {
    case 'delete-bridge':
      return [madeKey('Bridge', edit.was.name), ...edit.was.ports.flatMap(ofPort)];
    case 'delete-port':
      return ofPort(edit.was);
    case 'create-bridge':
    case 'create-port':
    case 'update':
      return [];
  }
}

/** The row is there, and every column that changes is as it was. */
function guardOfUpdate(
  table: TableName,
  id: string,
  name: string | undefined,
  edits: readonly ColumnEdit[],
): Operation {
  const where: Condition[] = [...byUuid(id)];
  const row: Record<string, Value> = name === undefined ? { _uuid: uuid(id) } : { name };
  for (const edit of edits) {
    if (!('key' in edit)) row[edit.column] = edit.before;
    else if (edit.before !== undefined) where.push([edit.column, 'includes', map({ [edit.key]: edit.before })]);
  }
  return holds(table, where, row);
}

function updatesOf(table: TableName, id: string, edits: readonly ColumnEdit[]): Operation[] {
  const row: Record<string, Value> = {};
  const mutations: Mutation[] = [];
  for (const edit of edits) {
    if (!('key' in edit)) row[edit.column] = edit.after;
    else {
      // To insert a key that is there changes nothing: it has to go first.
      mutations.push([edit.column, 'delete', set([edit.key])]);
      if (edit.after !== undefined) mutations.push([edit.column, 'insert', map({ [edit.key]: edit.after })]);
    }
  }
  const where = byUuid(id);
  const operations: Operation[] = [];
  if (Object.keys(row).length > 0) operations.push({ op: 'update', table, where, row });
  if (mutations.length > 0) operations.push({ op: 'mutate', table, where, mutations });
  return operations;
}
