/**
 * The transactions that change networks and attachments: first what has to hold (guards: `wait` with no time to wait),
 * then what is written. Pure. docs/northbound.md says what each guard is for.
 */
import { randomBytes } from 'node:crypto';
import { ArcaError } from '../errors.js';
import type { Operation } from '../ovsdb/client.js';
import { map, set, uuid, type Value } from '../ovsdb/values.js';
import {
  CONTROL_OWNER,
  ENDPOINT_KEY,
  GENERATION_KEY,
  MADE_KEY,
  OWNER_KEY,
  SUBNET_KEY,
  TAG_KEY,
  TAP_KEY,
} from './names.js';
import type { LogicalPortView, LogicalSwitchView, NorthboundView } from './northbound-view.js';

/** A row of Logical_Switch that is to be made. Our mark is added. */
export interface LogicalSwitchSpec {
  readonly name: string;
  /** With its tag under `vlan_tag`. */
  readonly externalIds: Readonly<Record<string, string>>;
  readonly otherConfig: Readonly<Record<string, string>>;
}

/** Keys to add to a switch that exists, or to overwrite. */
export interface LogicalSwitchUpdate {
  readonly row: LogicalSwitchView;
  readonly externalIds: Readonly<Record<string, string>>;
  readonly otherConfig: Readonly<Record<string, string>>;
}

/** A row of Logical_Switch_Port that is to be made. Our mark is added. */
export interface LogicalPortSpec {
  readonly switchUuid: string;
  /** By `logicalPortName`. */
  readonly name: string;
  /** northd draws what is not given. An address is without a prefix length. */
  readonly mac?: string | undefined;
  readonly address?: string | undefined;
  /** Keys of names.ts. Endpoint and TAP have to be those of no other port. */
  readonly externalIds: Readonly<Record<string, string>>;
}

export interface Transaction {
  /** All of them `wait`: one that fails says that the view was old. */
  readonly guards: readonly Operation[];
  readonly changes: readonly Operation[];
}

type Where = Extract<Operation, { op: 'wait' }>['where'];

/** Holds if the rows that `where` finds are these, now. */
function holds(
  table: string,
  where: Where,
  rows: readonly Readonly<Record<string, Value>>[],
  columns: readonly string[],
): Operation {
  return { op: 'wait', timeout: 0, table, where, columns, until: '==', rows };
}

function noRow(table: string, where: Where): Operation {
  return holds(table, where, [], ['name']);
}

function tagIsFree(tag: string | undefined): readonly Operation[] {
  return tag === undefined ? [] : [noRow('Logical_Switch', [['external_ids', 'includes', map({ [TAG_KEY]: tag })]])];
}

function switchIsAs(row: LogicalSwitchView): Operation {
  return holds(
    'Logical_Switch',
    [['_uuid', '==', uuid(row.uuid)]],
    [
      {
        name: row.name,
        external_ids: map(row.externalIds),
        other_config: map(row.otherConfig),
        ports: set(row.ports.map(uuid)),
      },
    ],
    ['name', 'external_ids', 'other_config', 'ports'],
  );
}

export function createSwitchTransaction(spec: LogicalSwitchSpec, generation: string): Transaction {
  return {
    guards: [noRow('Logical_Switch', [['name', '==', spec.name]]), ...tagIsFree(spec.externalIds[TAG_KEY])],
    changes: [
      {
        op: 'insert',
        table: 'Logical_Switch',
        row: {
          name: spec.name,
          external_ids: map({ ...spec.externalIds, [OWNER_KEY]: CONTROL_OWNER, [MADE_KEY]: generation }),
          other_config: map(spec.otherConfig),
        },
      },
    ],
  };
}

export function updateSwitchTransaction({ row, externalIds, otherConfig }: LogicalSwitchUpdate): Transaction {
  const tag = externalIds[TAG_KEY];
  return {
    guards: [switchIsAs(row), ...(tag === row.externalIds[TAG_KEY] ? [] : tagIsFree(tag))],
    changes: [
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: [['_uuid', '==', uuid(row.uuid)]],
        mutations: [...overwrite('external_ids', externalIds), ...overwrite('other_config', otherConfig)],
      },
    ],
  };
}

/** `insert` leaves the pairs of a map whose keys are there already (RFC 7047, section 5.1). */
function overwrite(column: string, entries: Readonly<Record<string, string>>) {
  const keys = Object.keys(entries);
  if (keys.length === 0) return [];
  return [[column, 'delete', set(keys)] as const, [column, 'insert', map(entries)] as const];
}

/** Only without ports, and only ours. */
export function removeSwitchTransaction(switchUuid: string): Transaction {
  const where: Where = [
    ['_uuid', '==', uuid(switchUuid)],
    ['external_ids', 'includes', map({ [OWNER_KEY]: CONTROL_OWNER })],
  ];
  return {
    guards: [holds('Logical_Switch', where, [{ ports: set([]) }], ['ports'])],
    changes: [{ op: 'delete', table: 'Logical_Switch', where: [['_uuid', '==', uuid(switchUuid)]] }],
  };
}

export function createPortTransaction(
  spec: LogicalPortSpec,
  { switches }: NorthboundView,
  generation: string,
): Transaction {
  const row = switches.find(({ uuid }) => uuid === spec.switchUuid);
  if (row === undefined) {
    throw new ArcaError('network-unknown', `the logical switch of port ${JSON.stringify(spec.name)} was removed`);
  }
  return {
    // With the switch's ports: another one with the same MAC or address could have come.
    guards: [noRow('Logical_Switch_Port', [['name', '==', spec.name]]), switchIsAs(row)],
    changes: [
      {
        op: 'insert',
        table: 'Logical_Switch_Port',
        'uuid-name': 'port',
        row: {
          name: spec.name,
          addresses: addressesText(spec, row),
          external_ids: map({ ...spec.externalIds, [OWNER_KEY]: CONTROL_OWNER, [MADE_KEY]: generation }),
        },
      },
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: [['_uuid', '==', uuid(row.uuid)]],
        mutations: [['ports', 'insert', ['named-uuid', 'port']]],
      },
    ],
  };
}

/** ovn-nb(5), `addresses`. On a switch without a subnet northd draws at most the MAC. */
function addressesText({ mac, address }: LogicalPortSpec, { otherConfig }: LogicalSwitchView): string {
  if (mac === undefined) return address === undefined ? 'dynamic' : `dynamic ${address}`;
  if (address !== undefined) return `${mac} ${address}`;
  return otherConfig[SUBNET_KEY] === undefined ? mac : `${mac} dynamic`;
}

export function removePortTransaction({ uuid: portUuid, switchUuid, name }: LogicalPortView): Transaction {
  const where: Where = [
    ['_uuid', '==', uuid(portUuid)],
    ['external_ids', 'includes', map({ [OWNER_KEY]: CONTROL_OWNER })],
  ];
  return {
    guards: [holds('Logical_Switch_Port', where, [{ name }], ['name'])],
    // The row goes with the last reference to it.
    changes: [
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: [['_uuid', '==', uuid(switchUuid)]],
        mutations: [['ports', 'delete', uuid(portUuid)]],
      },
    ],
  };
}

/** Throws for the first thing that another port has. */
export function checkPortIsFree(spec: LogicalPortSpec, { ports }: NorthboundView): void {
  for (const port of ports) {
    const conflict = conflictWith(spec, port);
    if (conflict === undefined) continue;
    const { code, what } = conflict;
    throw new ArcaError(code, `${what} is that of logical port ${JSON.stringify(port.name)}`, {
      details: { logicalPort: port.name, network: port.network },
    });
  }
}

function conflictWith(spec: LogicalPortSpec, port: LogicalPortView) {
  if (port.name === spec.name) {
    return { code: 'attachment-conflict', what: `the name ${JSON.stringify(spec.name)}` } as const;
  }
  for (const key of [ENDPOINT_KEY, TAP_KEY]) {
    const wanted = spec.externalIds[key];
    if (wanted !== undefined && port.externalIds[key] === wanted) {
      return {
        code: 'endpoint-in-use',
        what: `${key === TAP_KEY ? 'the TAP name' : 'the endpoint'} ${wanted}`,
      } as const;
    }
  }
  if (spec.mac !== undefined && claims(port).includes(spec.mac)) {
    return { code: 'mac-in-use', what: `the MAC ${spec.mac}` } as const;
  }
  if (spec.address !== undefined && port.switchUuid === spec.switchUuid && claims(port).includes(spec.address)) {
    return { code: 'address-in-use', what: `the address ${spec.address}` } as const;
  }
  return undefined;
}

/** Every word of its addresses: MACs and addresses, whether given or drawn. */
function claims({ addresses, dynamicAddresses }: LogicalPortView): readonly string[] {
  return [...addresses, dynamicAddresses].flatMap((text) => text.toLowerCase().split(/\s+/));
}

/** Never the same twice, and a number that grows, for people. */
export function nextGeneration(globalIds: NorthboundView['globalIds']): string {
  const generation = globalIds?.[GENERATION_KEY];
  const number = Number.parseInt(generation ?? '0', 10);
  return `${Number.isSafeInteger(number) ? number + 1 : 1}.${randomBytes(4).toString('hex')}`;
}

/** Holds if nobody of ours changed anything since the view. */
export function generationGuard({ globalIds }: NorthboundView): Operation {
  const rows = globalIds === undefined ? [] : [{ external_ids: map(globalIds) }];
  return holds('NB_Global', [], rows, ['external_ids']);
}

/** A database that nobody initialised has no row of NB_Global; whoever comes first makes it, as `ovn-nbctl init` does. */
export function bumpGeneration({ globalIds }: NorthboundView, generation: string): Operation {
  const entries = { [GENERATION_KEY]: generation };
  if (globalIds === undefined) return { op: 'insert', table: 'NB_Global', row: { external_ids: map(entries) } };
  return { op: 'mutate', table: 'NB_Global', where: [], mutations: overwrite('external_ids', entries) };
}

/** Asks northd to say, by `sb_cfg`, that it has worked through everything that was committed before. */
export const BUMP_NB_CFG: readonly Operation[] = [
  { op: 'mutate', table: 'NB_Global', where: [], mutations: [['nb_cfg', '+=', 1]] },
  { op: 'select', table: 'NB_Global', where: [], columns: ['nb_cfg'] },
];

/** Rows that a transaction made which was given up. */
export function madeBy(
  view: NorthboundView,
  generations: readonly string[],
): {
  readonly switches: readonly LogicalSwitchView[];
  readonly ports: readonly LogicalPortView[];
} {
  const isMade = ({ isOurs, externalIds }: LogicalSwitchView | LogicalPortView): boolean =>
    isOurs && generations.includes(externalIds[MADE_KEY] ?? '');
  return { switches: view.switches.filter(isMade), ports: view.ports.filter(isMade) };
}
