/** Ports of OVS whose network device is gone: they come back with every boot, and forward nothing. */
import { readFile } from 'node:fs/promises';
import type { Finding } from '../finding.js';
import { findVswitchd, type OvsPlaces } from '../ovs/places.js';
import { OVS_DATABASE, OWNER, OWNER_KEY } from '../ovs/port-commands.js';
import type { OvsdbClient } from '../ovsdb/client.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { text, textMap } from '../ovsdb/values.js';

const ID = 'stale-ports';
const TITLE = 'ports without a device';

/** OVS makes the devices of every other type itself. */
const TYPES_OF_DEVICES = ['', 'system'];

export async function findStalePorts(client: OvsdbClient, places: OvsPlaces, call: CallOptions): Promise<Finding[]> {
  const devices = await devicesOfVswitchd(places);
  if (devices === undefined) {
    const evidence = 'ovs-vswitchd is not to be found, and only it knows which devices there are';
    return [{ id: ID, title: TITLE, verdict: 'unknown', subject: 'ovs-vswitchd', evidence }];
  }
  const [interfaces, ports] = await client.transact(
    OVS_DATABASE,
    [
      { op: 'select', table: 'Interface', where: [], columns: ['name', 'type'] },
      { op: 'select', table: 'Port', where: [], columns: ['name', 'external_ids'] },
    ],
    call,
  );
  const relayed = new Set(
    (ports?.rows ?? [])
      .filter((row) => textMap(row['external_ids'])[OWNER_KEY] === OWNER)
      .map((row) => text(row['name'])),
  );
  const needed = (interfaces?.rows ?? []).filter((row) => TYPES_OF_DEVICES.includes(text(row['type'])));
  const stale = needed.map((row) => text(row['name'])).filter((name) => !devices.has(name));
  if (stale.length === 0) {
    return [{ id: ID, title: TITLE, verdict: 'ok', subject: 'Open vSwitch', evidence: 'every port has its device' }];
  }
  return stale.map((name) => ({
    ...{ id: ID, title: TITLE, verdict: 'warning', subject: name },
    evidence: `the database has a port ${name}, and there is no network device of that name`,
    mend: relayed.has(name)
      ? 'start arca-control: it removes the ports of relays that are gone'
      : `ovs-vsctl del-port ${name}`,
  }));
}

/** The network devices where ovs-vswitchd runs: its namespace may be another than ours. */
async function devicesOfVswitchd(places: OvsPlaces): Promise<ReadonlySet<string> | undefined> {
  const vswitchd = await findVswitchd(places);
  const table = vswitchd && (await readFile(`/proc/${vswitchd.pid}/net/dev`, 'utf8').catch(() => undefined));
  if (table === undefined) return undefined;
  return new Set([...table.matchAll(/^\s*(\S+):/gm)].map(([, name = '']) => name));
}
