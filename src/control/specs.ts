/**
 * The border where networks, attachments and chassis come in: what is wrong with a specification, whatever the databases
 * hold. What comes back is in the one form in which it is written and compared. Pure.
 */
import { isIP, isIPv4 } from 'node:net';
import { ArcaError } from '../errors.js';
import { FIRST_TAG, LAST_TAG } from '../ovn/network-tag.js';
import type { StreamEndpoint } from '../stream-endpoint.js';
import { cidrText, isHost, readCidr, readIpv4, type Subnet } from './ipv4.js';
import type { AttachmentSpec, ChassisSpec, Network, NetworkSpec } from './model.js';

/** A network's specification with nothing left open but its tag. */
export interface CheckedNetworkSpec {
  readonly name: string;
  readonly vlan: number | undefined;
  readonly subnet: string | undefined;
  readonly gateway: string | undefined;
  readonly dns: readonly string[];
  readonly mtu: number;
}

export const DEFAULT_MTU = 1500;
const LEAST_MTU = 68;
/** What the kernel's TAP takes. */
const MOST_MTU = 65521;
/** A name of both is a logical port's; and names are parts of paths of the API. */
const LONGEST_NAME = 128;
/** northd keeps a bit for each address, and the least it can use has two hosts. */
const SHORTEST_PREFIX = 8;
const LONGEST_PREFIX = 30;
/** HELLO has room for a few. */
const MOST_DNS_SERVERS = 8;
const MOST_PEER_CIDS = 64;
const MOST_VSOCK_PORT = 0xfffffffe;
const MOST_CID = 0xfffffffe;
/** sockaddr_un.sun_path, less its final zero; unix(7). */
const LONGEST_SOCKET_PATH = 107;

/** Throws `spec-invalid` with `details.property`. */
export function checkNetworkSpec(spec: NetworkSpec): CheckedNetworkSpec {
  const name = checkName('name', spec.name);
  const vlan = spec.vlan === undefined ? undefined : checkVlan(spec.vlan);
  const mtu = spec.mtu === undefined ? DEFAULT_MTU : checkInteger('mtu', spec.mtu, LEAST_MTU, MOST_MTU);
  const dns = checkList('dns', spec.dns ?? [], MOST_DNS_SERVERS).map((server) => {
    const address = isIP(server) === 0 || server.includes('%') ? undefined : server.toLowerCase();
    if (address !== undefined) return address;
    throw invalid('dns', `${quoted(server)} is no address of a DNS server; give IPv4 or IPv6 addresses`);
  });
  if (spec.subnet === undefined) {
    if (spec.gateway === undefined) return { name, vlan, subnet: undefined, gateway: undefined, dns, mtu };
    throw invalid('gateway', 'a gateway wants a subnet that it is in: give both, or none');
  }
  const subnet = checkSubnet(spec.subnet);
  const gateway = spec.gateway === undefined ? undefined : checkGateway(spec.gateway, subnet);
  return { name, vlan, subnet: cidrText(subnet), gateway, dns, mtu };
}

/** For an adopted switch. 1 to 4094; what is allocated is from 100 up. */
export function checkVlan(vlan: number): number {
  return checkInteger('vlan', vlan, FIRST_TAG, LAST_TAG);
}

/** Throws `spec-invalid` with `details.property`. The MAC comes back in lower case. */
export function checkAttachmentSpec(spec: AttachmentSpec): AttachmentSpec {
  const { container, network, endpoint, mac, address, peerCids } = spec;
  if (endpoint?.transport === 'unix' && peerCids !== undefined && peerCids.length > 0) {
    throw invalid('peerCids', 'the peers of a Unix socket have no CID; leave peerCids out, or use a vsock port');
  }
  return {
    container: checkName('container', container),
    network: checkReference('network', network),
    endpoint: endpoint && checkEndpoint(endpoint),
    mac: mac === undefined ? undefined : checkMac(mac),
    address: address === undefined ? undefined : checkIpv4('address', address),
    peerCids:
      peerCids &&
      checkList('peerCids', peerCids, MOST_PEER_CIDS).map((cid) => checkInteger('peerCids', cid, 0, MOST_CID)),
  };
}

/** Throws `spec-invalid` for an address that a container of that network can't have. */
export function checkAddress(address: string, network: Pick<Network, 'name' | 'subnet' | 'gateway'>): void {
  const where = `network ${quoted(network.name)}`;
  const subnet = network.subnet === null ? undefined : readCidr(network.subnet);
  if (subnet === undefined) {
    throw invalid('address', `${where} has no subnet, so no address is known there; leave the address out`);
  }
  const number = readIpv4(address);
  if (number === undefined || !isHost(subnet, number)) {
    throw invalid(
      'address',
      `${quoted(address)} is no address for a container in ${network.subnet}, the subnet of ${where}`,
    );
  }
  if (address === network.gateway) throw invalid('address', `${address} is the gateway of ${where}`);
}

/** Throws `spec-invalid` with `details.property`. */
export function checkChassisSpec(spec: ChassisSpec): ChassisSpec {
  const name = checkName('name', spec.name);
  if (isIP(spec.encapIp) === 0 || spec.encapIp.includes('%')) {
    throw invalid('encapIp', `${quoted(spec.encapIp)} is no IPv4 or IPv6 address`);
  }
  return { name, encapIp: isIPv4(spec.encapIp) ? spec.encapIp : spec.encapIp.toLowerCase() };
}

/** What needs no quoting anywhere: in a path of the API, in an argument of a command, in a log. */
function checkName(property: string, name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name) && name.length <= LONGEST_NAME) return name;
  throw invalid(
    property,
    `${quoted(name)} is no name: use at most ${LONGEST_NAME} letters, digits, "_", "." and "-", the first a letter or digit`,
  );
}

/** A name of something that exists, and that somebody else may have named. */
function checkReference(property: string, name: string): string {
  if (name !== '' && Buffer.byteLength(name) <= 255 && !/\p{Cc}/u.test(name)) return name;
  throw invalid(property, `${quoted(name)} is no name of a network`);
}

function checkSubnet(text: string): Subnet {
  const subnet = readCidr(text);
  if (subnet === undefined) throw invalid('subnet', `${quoted(text)} is no IPv4 subnet; write it as 10.9.0.0/24`);
  if (subnet.hasHostBits) {
    throw invalid('subnet', `${quoted(text)} has host bits set; the subnet is ${cidrText(subnet)}`);
  }
  if (subnet.prefixLength < SHORTEST_PREFIX || subnet.prefixLength > LONGEST_PREFIX) {
    throw invalid('subnet', `${quoted(text)}: the prefix length has to be ${SHORTEST_PREFIX} to ${LONGEST_PREFIX}`);
  }
  // RFC 6890: this network, loopback, multicast and what is reserved are no addresses for hosts.
  const firstByte = Math.floor(subnet.first / 2 ** 24);
  if (firstByte === 0 || firstByte === 127 || firstByte >= 224) {
    throw invalid('subnet', `${quoted(text)} has no addresses that hosts may have (RFC 6890)`);
  }
  return subnet;
}

function checkGateway(text: string, subnet: Subnet): string {
  const address = readIpv4(text);
  if (address === undefined) throw invalid('gateway', `${quoted(text)} is no IPv4 address`);
  if (isHost(subnet, address)) return text;
  const why =
    address === subnet.first
      ? 'is the network address of'
      : address === subnet.last
        ? 'is the broadcast address of'
        : 'is not in';
  throw invalid('gateway', `${text} ${why} subnet ${cidrText(subnet)}`);
}

function checkIpv4(property: string, text: string): string {
  if (readIpv4(text) !== undefined) return text;
  throw invalid(property, `${quoted(text)} is no IPv4 address; write it without a prefix length, as 10.9.0.5`);
}

function checkMac(text: string): string {
  const mac = text.toLowerCase();
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) {
    throw invalid('mac', `${quoted(text)} is no MAC; write it as 02:00:00:00:00:01`);
  }
  if (mac === '00:00:00:00:00:00') throw invalid('mac', 'the MAC of zeros is nobody');
  if (Number.parseInt(mac.slice(0, 2), 16) % 2 === 0) return mac;
  throw invalid('mac', `${mac} is a group address; the lowest bit of its first byte has to be 0 (IEEE 802)`);
}

function checkEndpoint(endpoint: StreamEndpoint): StreamEndpoint {
  switch (endpoint.transport) {
    case 'vsock':
      return { transport: 'vsock', port: checkInteger('endpoint', endpoint.port, 1, MOST_VSOCK_PORT) };
    case 'unix': {
      const { path } = endpoint;
      if (!path.startsWith('/') || /\p{Cc}/u.test(path)) {
        throw invalid('endpoint', `${quoted(path)} is no absolute path of a Unix socket`);
      }
      if (Buffer.byteLength(path) > LONGEST_SOCKET_PATH) {
        throw invalid(
          'endpoint',
          `${quoted(path)} is longer than ${LONGEST_SOCKET_PATH} bytes, the most for a Unix socket`,
        );
      }
      return { transport: 'unix', path };
    }
  }
}

function checkInteger(property: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw invalid(property, `${property} is ${value}; it has to be a whole number from ${least} to ${most}`);
}

function checkList<T>(property: string, values: readonly T[], most: number): readonly T[] {
  if (values.length > most)
    throw invalid(property, `${values.length} values for ${property} are too many; at most ${most}`);
  const twice = values.find((value, index) => values.indexOf(value) !== index);
  if (twice !== undefined) throw invalid(property, `${quoted(twice)} stands in ${property} twice`);
  return values;
}

function invalid(property: string, message: string): ArcaError {
  return new ArcaError('spec-invalid', message, { details: { property } });
}

function quoted(value: unknown): string {
  return JSON.stringify(value);
}
