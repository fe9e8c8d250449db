/**
 * What the northbound database wants of this control process: its logical ports with our mark, as attachments and the
 * relays that they need. Pure.
 */
import { CONTAINER_KEY, ENDPOINT_KEY, INSTANCE_KEY, PEER_CIDS_KEY, TAP_KEY } from '../ovn/names.js';
import { type LogicalPortView, type NorthboundView, portAddresses } from '../ovn/northbound-view.js';
import { readStreamEndpoint } from '../stream-endpoint.js';
import { readCidr } from './ipv4.js';
import type { Network } from './model.js';
import { readNetworks } from './networks.js';
import type { RelaySpec } from './relays/arguments.js';

/** A logical port of ours whose row is whole. */
export interface WantedAttachment extends Omit<RelaySpec, 'mac' | 'vlan'> {
  /** Name of the logical port: what the attachment is known by. */
  readonly key: string;
  readonly portUuid: string;
  /** Nothing: northd has not drawn one yet. */
  readonly mac: string | undefined;
  /** Nothing: the switch has lost its tag, or it is none that is valid. */
  readonly vlan: number | undefined;
}

/**
 * Names under which this control process may have marked what is its own; the first is for what it makes now. The run
 * directory is in each: whatever two processes have in common, the relays in it are one's only.
 */
export function instanceNames(
  runDir: string,
  names: { readonly chassis: string | undefined; readonly systemId: string | undefined; readonly hostname: string },
): readonly string[] {
  return [names.chassis, names.systemId, names.hostname].flatMap((name) => (name ? [`${name}:${runDir}`] : []));
}

/** In the order of their keys. What belongs to another control process, or is not whole, is left out. */
export function readWanted(view: NorthboundView, instances: readonly string[]): readonly WantedAttachment[] {
  const networks = new Map(readNetworks(view).map((network) => [network.id, network]));
  return view.ports
    .flatMap((port) =>
      isOfInstance(port, instances) ? (readAttachment(port, networks.get(port.switchUuid)) ?? []) : [],
    )
    .sort((one, other) => (one.key < other.key ? -1 : one.key > other.key ? 1 : 0));
}

export function isOfInstance({ isOurs, externalIds }: LogicalPortView, instances: readonly string[]): boolean {
  return isOurs && instances.includes(externalIds[INSTANCE_KEY] ?? '');
}

export function readAttachment(port: LogicalPortView, network: Network | undefined): WantedAttachment | undefined {
  const { externalIds } = port;
  const container = externalIds[CONTAINER_KEY];
  const endpoint = readStreamEndpoint(externalIds[ENDPOINT_KEY] ?? '');
  const tap = externalIds[TAP_KEY];
  if (container === undefined || endpoint === undefined || tap === undefined || network === undefined) return undefined;
  const drawn = portAddresses(port);
  const prefixLength = network.subnet === null ? undefined : readCidr(network.subnet)?.prefixLength;
  return {
    key: port.name,
    portUuid: port.uuid,
    container,
    network: network.name,
    endpoint,
    tap,
    peerCids: readPeerCids(externalIds[PEER_CIDS_KEY]),
    mac: drawn?.mac,
    addresses:
      prefixLength === undefined ? [] : (drawn?.addresses ?? []).map((address) => `${address}/${prefixLength}`),
    vlan: network.vlan ?? undefined,
    gateway: network.gateway,
    dns: network.dns,
    mtu: network.mtu,
  };
}

export function readPeerCids(text: string | undefined): readonly number[] {
  return (text ?? '').split(',').flatMap((cid) => (/^\d{1,10}$/.test(cid) ? [Number(cid)] : []));
}

/** Nothing while northd has not drawn its MAC, or the network has no tag. */
export function relaySpecOf(wanted: WantedAttachment): RelaySpec | undefined {
  const { container, network, endpoint, tap, vlan, mac, addresses, gateway, dns, mtu, peerCids } = wanted;
  if (mac === undefined || vlan === undefined) return undefined;
  return { container, network, endpoint, tap, vlan, mac, addresses, gateway, dns, mtu, peerCids };
}
