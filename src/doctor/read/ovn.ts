/** What OVN's databases say: networks and attachments, and chassis. Nothing is written, not even to ask northd for a sign of life. */

import type { Network } from '../../control/model.js';
import { readNetworks } from '../../control/networks.js';
import { type LogicalPortView, type LogicalSwitchView, readNorthboundView } from '../../ovn/northbound-view.js';
import { type ChassisView, openSouthbound } from '../../ovn/southbound.js';
import { type MonitorSpec, withOvsdb } from '../../ovsdb/client.js';
import type { CallOptions, RpcTarget } from '../../ovsdb/json-rpc.js';
import { text, textMap } from '../../ovsdb/values.js';

export interface NorthboundFacts {
  readonly switches: readonly LogicalSwitchView[];
  readonly networks: readonly Network[];
  readonly ports: readonly LogicalPortView[];
  readonly dhcp: readonly DhcpFacts[];
}

/** Of a DHCP_Options row that says an MTU. */
export interface DhcpFacts {
  readonly cidr: string;
  readonly mtu: number;
}

export type SouthboundFacts = readonly ChassisView[];

const MONITOR = {
  Logical_Switch: { columns: { name: 'plain', external_ids: 'map', other_config: 'map', ports: 'set' } },
  Logical_Switch_Port: {
    columns: { name: 'plain', type: 'plain', addresses: 'set', dynamic_addresses: 'plain', external_ids: 'map' },
  },
  DHCP_Options: { columns: { cidr: 'plain', options: 'map' } },
} as const satisfies MonitorSpec;

export function readNorthbound(target: RpcTarget, call: CallOptions): Promise<NorthboundFacts> {
  return withOvsdb(target, call, async (client, left) => {
    const tables = await client.monitor('OVN_Northbound', MONITOR, () => {}, left());
    const view = readNorthboundView(tables);
    const dhcp: DhcpFacts[] = [];
    for (const row of tables.get('DHCP_Options')?.values() ?? []) {
      const mtu = Number(textMap(row['options'])['mtu']);
      if (Number.isInteger(mtu) && mtu > 0) dhcp.push({ cidr: text(row['cidr']), mtu });
    }
    return { switches: view.switches, networks: readNetworks(view), ports: view.ports, dhcp };
  });
}

export function readSouthbound(target: RpcTarget, call: CallOptions): Promise<SouthboundFacts> {
  return openSouthbound(target).listChassis(call);
}
