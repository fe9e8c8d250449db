/**
 * How things are called in OVN's and OVS's databases: names that follow from others, and the keys under which our facts
 * stand in `external_ids` and `other_config`. Each is derived here and nowhere else, so that what attach makes is what
 * detach finds. docs/northbound.md describes the rows. Pure.
 */
import { createHash } from 'node:crypto';
import type { StreamEndpoint } from '../stream-endpoint.js';

/** The mark of what is ours; we change and remove nothing else. */
export const OWNER_KEY = 'arca-owner';
/** On rows of the northbound and southbound databases. Ports of OVS carry that of src/ovs/port-commands.ts. */
export const CONTROL_OWNER = 'arca-control';

/** `external_ids` of NB_Global: another value after each change of ours, so that two who plan at once are told. */
export const GENERATION_KEY = 'arca-generation';
/** `external_ids` of rows that we made: the generation that it made. */
export const MADE_KEY = 'arca-made';

/** `external_ids` of a Logical_Switch. */
export const TAG_KEY = 'vlan_tag';
export const MTU_KEY = 'arca-mtu';
/** With commas between. */
export const DNS_KEY = 'arca-dns';

/** `other_config` of a Logical_Switch. northd reads all but the gateway. */
export const SUBNET_KEY = 'subnet';
export const EXCLUDE_KEY = 'exclude_ips';
export const GATEWAY_KEY = 'gateway';
/** `true` on a switch without a subnet: northd draws MACs all the same. */
export const MAC_ONLY_KEY = 'mac_only';

/** `external_ids` of a Logical_Switch_Port. */
export const CONTAINER_KEY = 'arca-container';
export const NETWORK_KEY = 'arca-network';
/** `vsock:5555` or `unix:PATH`. */
export const ENDPOINT_KEY = 'arca-endpoint';
export const TAP_KEY = 'arca-tap';
/** With commas between; not there: any may connect. */
export const PEER_CIDS_KEY = 'arca-peer-cids';
/** Which control process runs the relay: several may share a northbound database. */
export const INSTANCE_KEY = 'arca-instance';

/** Names of logical switch ports are unique in the whole database. A container's name has no `/`, so no two pairs meet. */
export function logicalPortName(container: string, network: string): string {
  return `${container}/${network}`;
}

/** At most 15 bytes, which is what the kernel takes. Two Unix endpoints may meet in 32 bits: `createPort` looks. */
export function tapName(endpoint: StreamEndpoint, container: string, network: string): string {
  switch (endpoint.transport) {
    case 'vsock':
      return `tap${endpoint.port}`;
    case 'unix':
      return `tap${createHash('sha256').update(`${container}\0${network}`).digest('hex').slice(0, 8)}`;
  }
}
