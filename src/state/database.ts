/** What OVS's database holds: bridges with their ports and interfaces, read in one transaction, so that they fit together. */
import { ovsdbFailure } from '../ovs/failures.js';
import { OVS_DATABASE, OWNER_KEY } from '../ovs/port-commands.js';
import type { Operation, OvsdbClient } from '../ovsdb/client.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { elements, integer, type Row, text, textMap, uuidText, type Value } from '../ovsdb/values.js';

/** The mark of what `arca state` made or adopted: it changes and removes nothing else. */
export const STATE_OWNER = 'arca-state';

export interface ActualInterface {
  readonly uuid: string;
  readonly name: string;
  /** `''` for `system`, which is the same. */
  readonly type: string;
  readonly options: Readonly<Record<string, string>>;
  readonly externalIds: Readonly<Record<string, string>>;
  /** OpenFlow port number; -1: vswitchd could not add it; nothing: not tried yet. */
  readonly ofport: number | undefined;
  readonly error: string;
  /** Of the device; 0: there is none; nothing: not looked at yet. */
  readonly ifindex: number | undefined;
  readonly config: RowConfig;
}

export interface ActualPort {
  readonly uuid: string;
  readonly name: string;
  /** `external_ids:arca-owner`; empty: it carries no mark. */
  readonly owner: string;
  readonly tag: number | undefined;
  /** Ascending. */
  readonly trunks: readonly number[];
  /** Empty: what follows from tag and trunks. */
  readonly vlanMode: string;
  readonly externalIds: Readonly<Record<string, string>>;
  /** More than one: a bond. */
  readonly interfaces: readonly ActualInterface[];
  readonly config: RowConfig;
}

export interface ActualBridge {
  readonly uuid: string;
  readonly name: string;
  readonly owner: string;
  readonly datapathType: string;
  readonly externalIds: Readonly<Record<string, string>>;
  /** With the bridge's own. */
  readonly ports: readonly ActualPort[];
  readonly config: RowConfig;
}

export interface ActualDatabase {
  /** Of the Open_vSwitch row. */
  readonly rootUuid: string;
  readonly bridges: readonly ActualBridge[];
  /** `external_ids` of the Open_vSwitch row. */
  readonly rootIds: Readonly<Record<string, string>>;
}

/** The columns of a row that somebody set, to make it again as it was. No references to rows that go with it. */
export type RowConfig = Readonly<Record<string, Value>>;

/** Every version of OVS that is still in use has these. */
const CONFIG = {
  Bridge: [
    ...['name', 'datapath_type', 'fail_mode', 'external_ids', 'other_config', 'protocols'],
    ...['stp_enable', 'rstp_enable', 'mcast_snooping_enable', 'flood_vlans'],
  ],
  Port: [
    ...['name', 'tag', 'trunks', 'vlan_mode', 'external_ids', 'other_config', 'qos', 'mac'],
    ...['bond_mode', 'bond_updelay', 'bond_downdelay', 'lacp'],
  ],
  Interface: [
    ...['name', 'type', 'options', 'external_ids', 'other_config', 'mac', 'mtu_request', 'ofport_request'],
    ...['ingress_policing_rate', 'ingress_policing_burst', 'lldp', 'bfd'],
  ],
} as const;

const SELECTS: readonly Operation[] = [
  { op: 'select', table: 'Open_vSwitch', where: [], columns: ['_uuid', 'external_ids'] },
  { op: 'select', table: 'Bridge', where: [], columns: ['_uuid', 'ports', ...CONFIG.Bridge] },
  { op: 'select', table: 'Port', where: [], columns: ['_uuid', 'interfaces', ...CONFIG.Port] },
  {
    op: 'select',
    table: 'Interface',
    where: [],
    columns: ['_uuid', 'ofport', 'error', 'ifindex', ...CONFIG.Interface],
  },
];

/** Rejects with `ovs-unreachable` or `ovs-timeout`. */
export async function readDatabase(client: OvsdbClient, call: CallOptions): Promise<ActualDatabase> {
  try {
    const [root, bridges, ports, interfaces] = await client.transact(OVS_DATABASE, SELECTS, call);
    return databaseOf(root?.rows?.[0] ?? {}, bridges?.rows ?? [], ports?.rows ?? [], interfaces?.rows ?? []);
  } catch (error) {
    throw ovsdbFailure(error, client.target, 'reading bridges and ports');
  }
}

/** Pure. Rows that nothing refers to are not in a database for longer than a transaction. */
export function databaseOf(
  root: Row,
  bridges: readonly Row[],
  ports: readonly Row[],
  interfaces: readonly Row[],
): ActualDatabase {
  const interfacesById = byId(interfaces, readInterface);
  const portsById = byId(ports, (row) => readPort(row, referred(row['interfaces'], interfacesById)));
  const all = bridges.map((row) => readBridge(row, referred(row['ports'], portsById)));
  return {
    bridges: all.sort((a, b) => compareText(a.name, b.name)),
    rootUuid: uuidText(root['_uuid']) ?? '',
    rootIds: textMap(root['external_ids']),
  };
}

function readBridge(row: Row, ports: readonly ActualPort[]): ActualBridge {
  const externalIds = textMap(row['external_ids']);
  return {
    uuid: uuidText(row['_uuid']) ?? '',
    name: text(row['name']),
    owner: externalIds[OWNER_KEY] ?? '',
    // ovs-vswitchd.conf.db(5): empty means system.
    datapathType: text(row['datapath_type']) || 'system',
    externalIds,
    ports: [...ports].sort((a, b) => compareText(a.name, b.name)),
    config: configOf(row, CONFIG.Bridge),
  };
}

function readPort(row: Row, interfaces: readonly ActualInterface[]): ActualPort {
  const externalIds = textMap(row['external_ids']);
  return {
    uuid: uuidText(row['_uuid']) ?? '',
    name: text(row['name']),
    owner: externalIds[OWNER_KEY] ?? '',
    tag: integer(row['tag']),
    trunks: elements(row['trunks'])
      .filter((trunk) => typeof trunk === 'number')
      .sort((a, b) => a - b),
    vlanMode: text(row['vlan_mode']),
    externalIds,
    interfaces,
    config: configOf(row, CONFIG.Port),
  };
}

function readInterface(row: Row): ActualInterface {
  const type = text(row['type']);
  return {
    uuid: uuidText(row['_uuid']) ?? '',
    name: text(row['name']),
    type: type === 'system' ? '' : type,
    options: textMap(row['options']),
    externalIds: textMap(row['external_ids']),
    ofport: integer(row['ofport']),
    error: text(row['error']),
    ifindex: integer(row['ifindex']),
    config: configOf(row, CONFIG.Interface),
  };
}

function configOf(row: Row, columns: readonly string[]): RowConfig {
  return Object.fromEntries(
    columns.filter((column) => row[column] !== undefined).map((column) => [column, row[column] as Value]),
  );
}

function byId<T>(rows: readonly Row[], read: (row: Row) => T): ReadonlyMap<string, T> {
  return new Map(rows.map((row) => [uuidText(row['_uuid']) ?? '', read(row)]));
}

function referred<T>(references: unknown, rows: ReadonlyMap<string, T>): readonly T[] {
  return elements(references)
    .map((reference) => rows.get(uuidText(reference) ?? ''))
    .filter((row) => row !== undefined);
}

/** By code units: the same on every machine. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
