/** The live system as a state file. */
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { withOvs } from './apply.js';
import { type ActualBridge, type ActualPort, readDatabase, STATE_OWNER } from './database.js';
import { rememberedIn } from './device-links.js';
import { readDhcpClients } from './dhcp.js';
import { flowText, readOwnFlows } from './flows.js';
import type { Remembered } from './links.js';
import type { StateContext } from './plan.js';
import { IDS_KEY, readIds } from './plan-database.js';
import type { BridgeEntry, InterfaceEntry, PortOrName, StateFile } from './schema.js';
import { readRunningBridges } from './troubles.js';

export interface ShowOptions extends CallOptions {
  readonly context: Pick<StateContext, 'places' | 'dhcp'>;
  /** With what does not carry our mark. */
  readonly all: boolean;
}

/** What carries our mark, with the addresses and flows that we set: a file that `verify` finds nothing to differ from. */
export function showState({ context, all, ...call }: ShowOptions): Promise<StateFile> {
  return withOvs(context, call, async (client, left) => {
    const database = await readDatabase(client, left());
    const running = await readRunningBridges(context.places, left());
    const bridges: BridgeEntry[] = [];
    for (const bridge of database.bridges.filter(({ owner }) => all || owner === STATE_OWNER)) {
      const isThere = typeof running === 'object' ? running.has(bridge.name) : running === 'unknown';
      const flows = isThere ? (await readOwnFlows(context.places, bridge.name, left())).own : [];
      bridges.push(bridgeEntry(bridge, flows.map(flowText), all));
    }
    const interfaces = interfaceEntries(rememberedIn(database), await readDhcpClients(context.dhcp));
    return { version: 1, plugins: { network: { bridges, ...(interfaces.length > 0 && { interfaces }) } } };
  });
}

function bridgeEntry(bridge: ActualBridge, rules: readonly string[], all: boolean): BridgeEntry {
  const { name, datapathType } = bridge;
  const shown = bridge.ports.filter((port) => port.name !== name && (all || port.owner === STATE_OWNER));
  const [internal, ports] = [shown.filter(isInternal), shown.filter((port) => !isInternal(port))];
  const tag = bridge.ports.find((port) => port.name === name)?.tag;
  return {
    name,
    datapath_type: datapathType === 'netdev' ? 'netdev' : 'system',
    ...(ports.length > 0 && { ports: ports.map((port) => portEntry(port, all)) }),
    ...(internal.length > 0 && { internal_ports: internal.map((port) => portEntry(port, all)) }),
    // With internal ports it is the first of them that `vlan` speaks of, and each says its own tag.
    ...(internal.length === 0 && tag !== undefined && { vlan: tag }),
    ...(rules.length > 0 && { openflow: { auto_apply_defaults: true, default_rules: [...rules] } }),
  };
}

function isInternal({ interfaces }: ActualPort): boolean {
  return interfaces[0]?.type === 'internal';
}

function portEntry(port: ActualPort, all: boolean): PortOrName {
  const { name, tag, trunks, externalIds, interfaces } = port;
  const { type = '', options = {} } = interfaces[0] ?? {};
  const keys = all ? Object.keys(externalIds).filter((key) => !key.startsWith('arca-')) : readIds(externalIds[IDS_KEY]);
  const ids = Object.fromEntries(
    keys.flatMap((key) => (externalIds[key] === undefined ? [] : [[key, externalIds[key]]])),
  );
  const entry = {
    name,
    ...(tag !== undefined && { tag }),
    ...(trunks.length > 0 && { trunks: [...trunks] }),
    ...(type !== '' && type !== 'internal' && { type }),
    ...(Object.keys(options).length > 0 && { options: { ...options } }),
    ...(Object.keys(ids).length > 0 && { external_ids: ids }),
  };
  return Object.keys(entry).length === 1 ? name : entry;
}

function interfaceEntries(remembered: Remembered, dhcp: ReadonlyMap<string, unknown>): InterfaceEntry[] {
  return [...new Set([...remembered.keys(), ...dhcp.keys()])].sort().map((name) => {
    const addresses = remembered.get(name) ?? [];
    return {
      name,
      ...(addresses.length > 0 && { address: [...addresses] }),
      ...(dhcp.has(name) && { dhcp: true }),
    };
  });
}
