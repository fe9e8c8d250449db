/**
 * Changes of OVS's database as data: each knows how it was before, so that it can be guarded and turned round. From
 * them operations.ts makes a transaction.
 */
import { map, textMap, type Value } from '../ovsdb/values.js';
import type { ActualBridge, ActualDatabase, ActualPort, RowConfig } from './database.js';

export type TableName = 'Open_vSwitch' | 'Bridge' | 'Port' | 'Interface';

export interface NewInterface {
  readonly name: string;
  readonly columns: RowConfig;
}

export interface NewPort {
  readonly name: string;
  readonly columns: RowConfig;
  readonly interfaces: readonly NewInterface[];
}

export interface NewBridge {
  readonly name: string;
  readonly columns: RowConfig;
  readonly ports: readonly NewPort[];
}

export interface BridgeRef {
  readonly uuid: string;
  readonly name: string;
  /** The ports that it had when this was planned; nothing: it does not matter. */
  readonly portUuids: readonly string[] | undefined;
}

export type ColumnEdit =
  | { readonly column: string; readonly before: Value; readonly after: Value }
  /** One key of a map; nothing: it is not there. Other keys are left to others. */
  | {
      readonly column: string;
      readonly key: string;
      readonly before: string | undefined;
      readonly after: string | undefined;
    };

export type Edit =
  | { readonly kind: 'create-bridge'; readonly bridge: NewBridge }
  | { readonly kind: 'delete-bridge'; readonly bridge: BridgeRef; readonly was: NewBridge }
  | { readonly kind: 'create-port'; readonly bridge: BridgeRef; readonly port: NewPort }
  | { readonly kind: 'delete-port'; readonly bridge: BridgeRef; readonly uuid: string; readonly was: NewPort }
  | {
      readonly kind: 'update';
      readonly table: TableName;
      readonly uuid: string;
      /** Nothing: rows of this table have none. */
      readonly name: string | undefined;
      readonly columns: readonly ColumnEdit[];
    };

/** UUIDs of the rows that a transaction made, by `madeKey`. */
export type Made = ReadonlyMap<string, string>;

export function madeKey(table: TableName, name: string): string {
  return `${table} ${name}`;
}

export function bridgeRef({ uuid, name, ports }: ActualBridge): BridgeRef {
  return { uuid, name, portUuids: ports.map((port) => port.uuid) };
}

export function newBridgeLike({ name, config, ports }: ActualBridge): NewBridge {
  return { name, columns: config, ports: ports.map(newPortLike) };
}

export function newPortLike({ name, config, interfaces }: ActualPort): NewPort {
  return {
    name,
    columns: config,
    interfaces: interfaces.map((iface) => ({ name: iface.name, columns: iface.config })),
  };
}

/**
 * The edits, so that a bridge (or the root, without a name) has this text under a key of its `external_ids` then; empty:
 * it has not. The bridge is there, or one of the edits makes it.
 */
export function withExternalId(
  edits: readonly Edit[],
  { bridges, rootUuid, rootIds }: ActualDatabase,
  bridge: string | undefined,
  key: string,
  text: string,
): Edit[] {
  const column = 'external_ids';
  const after = text === '' ? undefined : text;
  const there = bridges.find(({ name }) => name === bridge);
  const isNew = (edit: Edit): boolean => edit.kind === 'create-bridge' && edit.bridge.name === bridge;
  if (bridge !== undefined && edits.some(isNew)) {
    return edits.map((edit) => {
      if (after === undefined || edit.kind !== 'create-bridge' || edit.bridge.name !== bridge) return edit;
      const columns = {
        ...edit.bridge.columns,
        [column]: map({ ...textMap(edit.bridge.columns[column]), [key]: after }),
      };
      return { ...edit, bridge: { ...edit.bridge, columns } };
    });
  }
  const before = (bridge === undefined ? rootIds : there?.externalIds)?.[key];
  if (before === after || (bridge !== undefined && there === undefined)) return [...edits];
  const row = there
    ? ({ table: 'Bridge', uuid: there.uuid, name: there.name } as const)
    : ({ table: 'Open_vSwitch', uuid: rootUuid, name: undefined } as const);
  return [...edits, { kind: 'update', ...row, columns: [{ column, key, before, after }] }];
}

/** What takes the edits back, the last one first. */
export function inverseOf(edits: readonly Edit[], made: Made): Edit[] {
  return edits.toReversed().map((edit) => inverse(edit, made));
}

function inverse(edit: Edit, made: Made): Edit {
  const uuidOf = (table: TableName, name: string): string => made.get(madeKey(table, name)) ?? '';
  switch (edit.kind) {
    case 'create-bridge': {
      const { name, ports } = edit.bridge;
      const portUuids = ports.map((port) => uuidOf('Port', port.name));
      return { kind: 'delete-bridge', bridge: { uuid: uuidOf('Bridge', name), name, portUuids }, was: edit.bridge };
    }
    case 'delete-bridge':
      return { kind: 'create-bridge', bridge: edit.was };
    case 'create-port':
      // Others may have put ports of their own beside it since.
      return {
        kind: 'delete-port',
        bridge: { ...edit.bridge, portUuids: undefined },
        uuid: uuidOf('Port', edit.port.name),
        was: edit.port,
      };
    case 'delete-port':
      return { kind: 'create-port', bridge: { ...edit.bridge, portUuids: undefined }, port: edit.was };
    case 'update':
      return { ...edit, columns: edit.columns.map(turned).toReversed() };
  }
}

function turned(edit: ColumnEdit): ColumnEdit {
  return { ...edit, before: edit.after, after: edit.before } as ColumnEdit;
}
