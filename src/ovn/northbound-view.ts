/**
 * What the northbound database holds for us, as pure data: logical switches (networks) and their ports (attachments).
 * Pure.
 */
import type { Tables } from '../ovsdb/client.js';
import { elements, integer, type Row, text, textMap, uuidText } from '../ovsdb/values.js';
import { CONTROL_OWNER, OWNER_KEY } from './names.js';

export interface LogicalSwitchView {
  readonly uuid: string;
  readonly name: string;
  readonly externalIds: Readonly<Record<string, string>>;
  readonly otherConfig: Readonly<Record<string, string>>;
  /** UUIDs of its Logical_Switch_Port rows. */
  readonly ports: readonly string[];
  /** It carries our mark. */
  readonly isOurs: boolean;
}

export interface LogicalPortView {
  readonly uuid: string;
  readonly name: string;
  /** Empty for a container's; `router`, `localnet` and others are not. */
  readonly type: string;
  /** As written: `dynamic`, `MAC dynamic`, `MAC IP`. */
  readonly addresses: readonly string[];
  /** What northd has drawn: `MAC IP`, or `MAC` alone. Empty: nothing (yet). */
  readonly dynamicAddresses: string;
  readonly externalIds: Readonly<Record<string, string>>;
  /** Name and UUID of the switch that holds it; a port never stands alone. */
  readonly network: string;
  readonly switchUuid: string;
  readonly isOurs: boolean;
}

export interface NorthboundView {
  readonly switches: readonly LogicalSwitchView[];
  readonly ports: readonly LogicalPortView[];
  /** `external_ids` of NB_Global; nothing in a database that nobody has initialised. */
  readonly globalIds: Readonly<Record<string, string>> | undefined;
  /** Number of the last configuration that somebody waited for, and of the last that northd has worked through. */
  readonly nbCfg: number;
  readonly sbCfg: number;
}

/** A MAC and the addresses that go with it. Lower case; without prefix lengths. */
export interface PortAddresses {
  readonly mac: string;
  readonly addresses: readonly string[];
}

/** From the rows of the monitor. */
export function readNorthboundView(tables: Tables): NorthboundView {
  const portRows = tables.get('Logical_Switch_Port') ?? new Map<string, Row>();
  const switches: LogicalSwitchView[] = [];
  const ports: LogicalPortView[] = [];
  for (const [uuid, row] of tables.get('Logical_Switch') ?? []) {
    const view = readSwitch(uuid, row);
    switches.push(view);
    for (const portUuid of view.ports) {
      const portRow = portRows.get(portUuid);
      if (portRow !== undefined) ports.push(readPort(portUuid, portRow, view));
    }
  }
  const global = tables.get('NB_Global')?.values().next().value;
  return {
    switches,
    ports,
    globalIds: global && textMap(global['external_ids']),
    nbCfg: integer(global?.['nb_cfg']) ?? 0,
    sbCfg: integer(global?.['sb_cfg']) ?? 0,
  };
}

function readSwitch(uuid: string, row: Row): LogicalSwitchView {
  const externalIds = textMap(row['external_ids']);
  return {
    uuid,
    name: text(row['name']),
    externalIds,
    otherConfig: textMap(row['other_config']),
    ports: elements(row['ports']).flatMap((port) => uuidText(port) ?? []),
    isOurs: externalIds[OWNER_KEY] === CONTROL_OWNER,
  };
}

function readPort(uuid: string, row: Row, { name: network, uuid: switchUuid }: LogicalSwitchView): LogicalPortView {
  const externalIds = textMap(row['external_ids']);
  return {
    uuid,
    name: text(row['name']),
    type: text(row['type']),
    addresses: elements(row['addresses']).filter((address) => typeof address === 'string'),
    dynamicAddresses: text(row['dynamic_addresses']),
    externalIds,
    network,
    switchUuid,
    isOurs: externalIds[OWNER_KEY] === CONTROL_OWNER,
  };
}

/** What the port has: what northd has drawn, or what was given in full. Nothing: not drawn yet. */
export function portAddresses({
  addresses,
  dynamicAddresses,
}: Pick<LogicalPortView, 'addresses' | 'dynamicAddresses'>): PortAddresses | undefined {
  return readAddresses(dynamicAddresses) ?? addresses.map(readAddresses).find((read) => read !== undefined);
}

const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;

/** `MAC IP...`, ovn-nb(5); `dynamic`, `MAC dynamic`, `unknown` and `router` are no addresses. */
function readAddresses(written: string): PortAddresses | undefined {
  const [mac = '', ...addresses] = written.trim().toLowerCase().split(/\s+/);
  if (!MAC.test(mac) || addresses.includes('dynamic')) return undefined;
  return { mac, addresses };
}
