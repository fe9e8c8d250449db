/**
 * How a port is put on a bridge and taken off: arguments of ovs-vsctl and operations of OVSDB. Pure.
 */
import type { Operation } from '../ovsdb/client.js';
import { integer, map, type Row, uuid } from '../ovsdb/values.js';

export const OVS_DATABASE = 'Open_vSwitch';

/** The mark of what is ours: we change and remove nothing else. */
export const OWNER_KEY = 'arca-owner';
export const OWNER = 'arca-relay';

export interface PortSpec {
  readonly bridge: string;
  /** Name of the TAP device, the port and its interface. */
  readonly tap: string;
  readonly tag: number;
  /** Further marks on the Port row; an empty text removes one. */
  readonly marks: Readonly<Record<string, string>>;
}

/**
 * One ovs-vsctl command that leaves the port with its tag and our marks, whatever was there before: `--may-exist
 * add-port BRIDGE TAP tag=N` alone leaves the tag of a port that exists as it is (facts: ovs-ovn.md).
 * It waits for ovs-vswitchd, and succeeds also when vswitchd could not open the device: look at the Interface.
 */
export function attachArguments(
  socketPath: string,
  port: PortSpec,
  portNumber: number,
  timeoutMs: number,
): readonly string[] {
  const { bridge, tap, tag, marks } = port;
  const set = [`external_ids:${OWNER_KEY}=${quote(OWNER)}`];
  const removed: string[] = [];
  for (const [key, value] of Object.entries(marks)) {
    if (value === '') removed.push('--', 'remove', 'Port', tap, 'external_ids', key);
    else set.push(`external_ids:${key}=${quote(value)}`);
  }
  return [
    `--db=unix:${socketPath}`,
    // A backstop for the case that nobody is left to end it; ours is the deadline that counts.
    `--timeout=${Math.ceil(timeoutMs / 1000) + 1}`,
    '--may-exist',
    'add-port',
    bridge,
    tap,
    `tag=${tag}`,
    ...['--', 'set', 'Port', tap, `tag=${tag}`, 'vlan_mode=access', 'trunks=[]', ...set],
    ...removed,
    ...['--', 'set', 'Interface', tap, `ofport_request=${portNumber}`],
  ];
}

/** ovs-vsctl reads values as JSON strings when they begin with a quote; then no character has a meaning of its own. */
function quote(value: string): string {
  return JSON.stringify(value);
}

/** OpenFlow numbers that ports may have are 1 to 0xfeff. vswitchd gives its own from 1 up, we ask from the upper half. */
const FIRST_PORT_NUMBER = 0x8000;
const LAST_PORT_NUMBER = 0xfeff;

/**
 * An OpenFlow port number that nobody has or asks for. A number that somebody asked for would be refused, and one that
 * somebody has would be taken from them (decisions: 0001-dead-ports.md). `random` gives a number from 0 up to 1.
 */
export function choosePortNumber(interfaces: readonly Row[], random: () => number): number {
  const taken = new Set<number | undefined>();
  for (const row of interfaces) taken.add(integer(row['ofport'])).add(integer(row['ofport_request']));
  const count = LAST_PORT_NUMBER - FIRST_PORT_NUMBER + 1;
  const start = Math.floor(random() * count);
  for (let i = 0; i < count; i++) {
    const number = FIRST_PORT_NUMBER + ((start + i) % count);
    if (!taken.has(number)) return number;
  }
  throw new RangeError('OVS has no free OpenFlow port number from 32768 up');
}

/** Makes vswitchd say, by `cur_cfg`, that it has worked through everything that was committed before. */
export const BUMP_NEXT_CFG: readonly Operation[] = [
  { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
  { op: 'select', table: 'Open_vSwitch', where: [], columns: ['next_cfg'] },
];

/** Holds until vswitchd has worked through configuration `nextCfg`, or fails with `timed out`. */
export function awaitCurCfg(nextCfg: number, timeoutMs: number): readonly Operation[] {
  return [
    {
      op: 'wait',
      table: 'Open_vSwitch',
      where: [['cur_cfg', '<', nextCfg]],
      columns: ['cur_cfg'],
      until: '==',
      rows: [],
      timeout: timeoutMs,
    },
  ];
}

/** Everything that there is under the name of a port. */
export function selectPort(tap: string): readonly Operation[] {
  return [
    { op: 'select', table: 'Port', where: [['name', '==', tap]], columns: ['_uuid', 'external_ids'] },
    { op: 'select', table: 'Interface', where: [['name', '==', tap]], columns: ['_uuid'] },
  ];
}

/** The row of the bridge if it holds the port. */
export function selectHolder(bridge: string, portUuid: string): readonly Operation[] {
  const where = [
    ['name', '==', bridge],
    ['ports', 'includes', uuid(portUuid)],
  ] as const;
  return [{ op: 'select', table: 'Bridge', where, columns: ['name'] }];
}

/** Removes a port from whatever bridge holds it, but only while it carries our mark; otherwise the `wait` fails. */
export function removePortOperations(tap: string, portUuid: string): readonly Operation[] {
  return [
    {
      op: 'wait',
      table: 'Port',
      where: [
        ['_uuid', '==', uuid(portUuid)],
        ['external_ids', 'includes', map({ [OWNER_KEY]: OWNER })],
      ],
      columns: ['name'],
      until: '==',
      rows: [{ name: tap }],
      timeout: 0,
    },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['ports', 'includes', uuid(portUuid)]],
      mutations: [['ports', 'delete', uuid(portUuid)]],
    },
    ...BUMP_NEXT_CFG,
  ];
}
