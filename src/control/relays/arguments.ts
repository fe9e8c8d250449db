/** What a relay is to be, as its command line, and how one that lives differs from that. Pure. */
import { isDeepStrictEqual } from 'node:util';
import type { RelayStatus } from '../../relay/relay.js';
import { type StreamEndpoint, streamEndpointText } from '../../stream-endpoint.js';

/** One attachment's relay. Whatever a restart of it needs. */
export interface RelaySpec {
  readonly container: string;
  readonly network: string;
  /** Where the container's end connects. */
  readonly endpoint: StreamEndpoint;
  readonly tap: string;
  readonly vlan: number;
  /** What the container's end is told. */
  readonly mac: string;
  /** With prefix lengths. */
  readonly addresses: readonly string[];
  readonly gateway: string | null;
  readonly dns: readonly string[];
  /** Bytes, L3. */
  readonly mtu: number;
  /** Empty: any. */
  readonly peerCids: readonly number[];
}

/** What is the same for all relays of this control process. */
export interface RelaySurroundings {
  readonly bridge: string;
  readonly ovsSocketPath: string;
}

/** The part of a relay's status that its command line decides. An earlier version may not tell all of it. */
export type RelayShape = Pick<RelayStatus, 'tap' | 'tag' | 'bridge' | 'endpoint' | 'mtu'> &
  Partial<Pick<RelayStatus, 'network' | 'interfaceConfig' | 'allowedCids'>>;

/** Each value behind a `=`: no value can be taken for an option. */
export function relayArguments(
  spec: RelaySpec,
  { bridge, ovsSocketPath }: RelaySurroundings,
  start: { readonly statusPath: string; readonly notifyFd: number; readonly timeoutMs: number },
): readonly string[] {
  const option = (name: string, value: string | number): string => `--${name}=${value}`;
  return [
    option('listen', streamEndpointText(spec.endpoint)),
    option('tap', spec.tap),
    option('network', spec.network),
    option('vlan', spec.vlan),
    option('bridge', bridge),
    option('mtu', spec.mtu),
    option('peer-mac', spec.mac),
    ...spec.addresses.map((address) => option('peer-address', address)),
    ...(spec.gateway === null ? [] : [option('peer-gateway', spec.gateway)]),
    ...spec.dns.map((address) => option('peer-dns', address)),
    ...spec.peerCids.map((cid) => option('peer-cid', cid)),
    option('ovs', `unix:${ovsSocketPath}`),
    option('metrics', `unix:${start.statusPath}`),
    option('notify-fd', start.notifyFd),
    option('timeout', start.timeoutMs / 1000),
    option('log-format', 'json'),
  ];
}

/** In words, what is not as it should be; empty when the relay fits. What the relay does not tell is taken to fit. */
export function shapeDifferences(spec: RelaySpec, bridge: string, shape: RelayShape): readonly string[] {
  const differences: string[] = [];
  const compare = (what: string, is: unknown, shouldBe: unknown): void => {
    if (is === undefined || isDeepStrictEqual(is, shouldBe)) return;
    differences.push(`${what} is ${textOf(is)}, and should be ${textOf(shouldBe)}`);
  };
  const told = shape.interfaceConfig;
  compare('the VLAN tag', shape.tag, spec.vlan);
  compare('the bridge', shape.bridge, bridge);
  compare('the endpoint', shape.endpoint, streamEndpointText(spec.endpoint));
  compare('the MTU', shape.mtu, spec.mtu);
  compare('the network', shape.network, spec.network);
  compare('the MAC', told?.mac, spec.mac);
  compare('the addresses', told?.addresses, spec.addresses);
  compare('the gateway', told?.gateways, spec.gateway === null ? [] : [spec.gateway]);
  compare('the DNS servers', told?.dns, spec.dns);
  compare('the allowed CIDs', shape.allowedCids, spec.peerCids);
  return differences;
}

function textOf(value: unknown): string {
  return Array.isArray(value) ? value.join(', ') || 'none' : String(value);
}
