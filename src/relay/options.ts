/**
 * What a relay is asked to do, and the border where that comes in as text. Pure but for `parseEndpoint`, which is
 * handed in. Everything behind this file trusts its types.
 */
import { isIP, isIPv4 } from 'node:net';
import {
  checkSocketPath,
  readBridge,
  readChoice,
  readNumber,
  readTimeout,
  readUnixTarget,
  usage,
} from '../arguments.js';
import { ArcaError } from '../errors.js';
import type { HttpEndpoint } from '../http-listen.js';
import type { Endpoint, InterfaceConfig } from '../native.js';
import { FIRST_TAG, LAST_TAG, parseTag } from '../ovn/network-tag.js';
import { readRemotes, readTlsFiles, type TlsArguments, type TlsFiles, targetText } from '../ovsdb/remote.js';
import type { OffloadMode } from './offloads.js';

export type AttachMode = 'vlan' | 'auto' | 'ovn';

export interface RelayOptions {
  readonly role: 'listen' | 'dial';
  readonly endpoint: Endpoint;
  /** The logical switch; without it `vlan` is set. */
  readonly network: string | undefined;
  /** The VLAN tag, instead of looking it up. */
  readonly vlan: number | undefined;
  readonly bridge: string;
  readonly attach: AttachMode;
  readonly tap: string;
  /** Of the TAP and of the container's interface, bytes. */
  readonly mtu: number;
  readonly allowedCids: readonly number[];
  readonly onSecondPeer: 'refuse' | 'replace';
  /** 0: the transport's default; 1: each frame by itself. */
  readonly burstBytes: number;
  readonly offload: OffloadMode;
  /** Microseconds that the data plane asks for frames before it sleeps. */
  readonly busyPollUs: number;
  /** Of OVS's database; by default the one that ovs-vsctl uses. */
  readonly ovsSocketPath: string | undefined;
  /** For ovn-nbctl's `--db`. */
  readonly nb: string | undefined;
  /** For its `--private-key`, `--certificate` and `--ca-cert`. */
  readonly tls?: TlsFiles | undefined;
  /** For the whole start. */
  readonly timeoutMs: number;
  /** Where metrics and status are served. */
  readonly metrics: HttpEndpoint | undefined;
  /** Told to the container's end in HELLO. */
  readonly interfaceConfig: InterfaceConfig;
}

/** The command line as commander gives it: text, lists for what may be repeated, nothing for what was not given. */
export interface RelayArguments extends TlsArguments {
  readonly port?: string;
  readonly listen?: string;
  readonly connect?: string;
  readonly network?: string;
  readonly vlan?: string;
  readonly bridge: string;
  readonly attach: string;
  readonly tap?: string;
  readonly mtu: string;
  readonly peerCid?: readonly string[];
  readonly onSecondPeer: string;
  readonly burst?: string;
  readonly offload: string;
  readonly busyPoll: string;
  readonly ovs?: string;
  readonly nb?: string;
  readonly timeout: string;
  readonly metrics?: string;
  readonly peerMac?: string;
  readonly peerAddress?: readonly string[];
  readonly peerGateway?: readonly string[];
  readonly peerDns?: readonly string[];
}

const LEAST_MTU = 68;
/** What the kernel's TAP takes. */
const MOST_MTU = 65521;
/** The workers' burst buffers hold no more (native/relay/burst_buffer.h). */
const MOST_BURST_BYTES = 256 * 1024;
/** native/relay/engine.h */
const MOST_BUSY_POLL_US = 10_000;
const MOST_VSOCK_PORT = 0xfffffffe;
const VSOCK_CID_ANY = 0xffffffff;
const LONGEST_TAP_NAME = 15;
const LONGEST_NETWORK_NAME_BYTES = 255;

/** Throws an ArcaError (`usage`, `tap-name-invalid`, `tag-invalid`, `attach-unsupported`) for the first argument that does not fit. */
export function readRelayOptions(args: RelayArguments, parseEndpoint: (text: string) => Endpoint): RelayOptions {
  const { role, endpoint } = readEndpoint(args, parseEndpoint);
  const network = args.network === undefined ? undefined : readNetwork(args.network);
  const vlan = args.vlan === undefined ? undefined : readVlan(args.vlan);
  if (network === undefined && vlan === undefined) {
    throw usage('give --network NAME, whose VLAN tag is looked up in OVN, or --vlan TAG');
  }
  const mtu = readNumber('--mtu', args.mtu, LEAST_MTU, MOST_MTU);
  const tls = readTlsFiles(args);
  return {
    role,
    endpoint,
    network,
    vlan,
    bridge: readBridge('--bridge', args.bridge),
    attach: readAttach(args.attach),
    tap: readTapName(args.tap, endpoint),
    mtu,
    allowedCids: readPeerCids(args.peerCid ?? [], role, endpoint),
    onSecondPeer: readChoice('--on-second-peer', args.onSecondPeer, ['refuse', 'replace']),
    burstBytes: args.burst === undefined ? 0 : readNumber('--burst', args.burst, 1, MOST_BURST_BYTES),
    offload: readChoice('--offload', args.offload, ['auto', 'off', 'uso']),
    busyPollUs: readNumber('--busy-poll', args.busyPoll, 0, MOST_BUSY_POLL_US),
    ovsSocketPath: args.ovs === undefined ? undefined : readUnixTarget('--ovs', args.ovs),
    nb: args.nb === undefined ? undefined : targetText(readRemotes('--nb', args.nb, tls)),
    tls,
    timeoutMs: readTimeout('--timeout', args.timeout),
    metrics: args.metrics === undefined ? undefined : readHttpEndpoint('--metrics', args.metrics),
    interfaceConfig: readInterfaceConfig(args, mtu),
  };
}

/** Read before the other arguments, so that whoever waits there is told when one of those is wrong. */
export function readNotifyFd(text: string | undefined): number | undefined {
  return text === undefined ? undefined : readNumber('--notify-fd', text, 1, 65535);
}

/** The text that `parseEndpoint` reads. */
export function endpointText(endpoint: Endpoint): string {
  switch (endpoint.transport) {
    case 'unix':
      return `unix:${endpoint.path}`;
    case 'vsock':
      return endpoint.cid === VSOCK_CID_ANY ? `vsock:${endpoint.port}` : `vsock:${endpoint.cid}:${endpoint.port}`;
  }
}

function readEndpoint(
  { port, listen, connect }: RelayArguments,
  parseEndpoint: (text: string) => Endpoint,
): Pick<RelayOptions, 'role' | 'endpoint'> {
  if ([port, listen, connect].filter((given) => given !== undefined).length !== 1) {
    throw usage('give exactly one of --port N, --listen ENDPOINT and --connect ENDPOINT');
  }
  if (port !== undefined) {
    const vsockPort = readNumber('--port', port, 1, MOST_VSOCK_PORT);
    return { role: 'listen', endpoint: { transport: 'vsock', cid: VSOCK_CID_ANY, port: vsockPort } };
  }
  const option = listen !== undefined ? '--listen' : '--connect';
  let endpoint: Endpoint;
  try {
    endpoint = parseEndpoint(listen ?? connect ?? '');
  } catch (cause) {
    throw usage(`${option}: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
  if (option === '--connect' && endpoint.transport === 'vsock' && endpoint.cid === VSOCK_CID_ANY) {
    throw usage('--connect wants the CID of the peer: vsock:CID:PORT');
  }
  return { role: option === '--listen' ? 'listen' : 'dial', endpoint };
}

/** OVN takes any text as a name. Control characters are refused: they would be passed on to logs and terminals. */
function readNetwork(name: string): string {
  if (name === '') throw usage('--network wants a name');
  if (Buffer.byteLength(name) > LONGEST_NETWORK_NAME_BYTES) {
    throw usage(`--network: the name is longer than ${LONGEST_NETWORK_NAME_BYTES} bytes`);
  }
  if (/[\p{Cc}\p{Cs}]/u.test(name)) {
    throw usage(`--network: ${JSON.stringify(name)} has control characters`);
  }
  return name;
}

function readVlan(text: string): number {
  const tag = parseTag(text);
  if (tag !== undefined) return tag;
  throw new ArcaError(
    'tag-invalid',
    `--vlan: '${text}' is no VLAN tag; give a number from ${FIRST_TAG} to ${LAST_TAG}`,
  );
}

function readAttach(text: string): AttachMode {
  const mode = readChoice('--attach', text, ['vlan', 'auto', 'ovn']);
  if (mode !== 'ovn') return mode;
  throw new ArcaError(
    'attach-unsupported',
    '--attach ovn (binding the TAP as an OVN logical port) is not in this version; use --attach vlan on a bridge ' +
      'that ovn-controller does not run',
  );
}

/**
 * The kernel takes a name of up to 15 bytes without `/`, `:` and white space, and reads `%d` as a number to fill in;
 * ovs-vsctl would read a leading `-` as an option. What is left is narrowed to what no tool has to quote.
 */
function readTapName(name: string | undefined, endpoint: Endpoint): string {
  if (name === undefined) {
    if (endpoint.transport === 'vsock') return `tap${endpoint.port}`;
    throw usage('a Unix socket gives the TAP no name: give --tap NAME');
  }
  const problem = tapNameProblem(name);
  if (problem !== undefined) throw new ArcaError('tap-name-invalid', `--tap: '${name}' ${problem}`);
  return name;
}

function tapNameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (Buffer.byteLength(name) > LONGEST_TAP_NAME) {
    return `is longer than ${LONGEST_TAP_NAME} bytes, the most that the kernel takes`;
  }
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) {
    return 'is no name for a device: use letters, digits, "_", "." and "-", and no "-" or "." first';
  }
  // Both are folders of /proc/sys/net/ipv6/conf, beside those of the devices.
  if (name === 'all' || name === 'default') return 'means all devices to the kernel';
  return undefined;
}

function readPeerCids(texts: readonly string[], role: RelayOptions['role'], endpoint: Endpoint): number[] {
  if (texts.length > 0 && (role !== 'listen' || endpoint.transport !== 'vsock')) {
    throw usage('--peer-cid is for listening on vsock; the peers of a Unix socket have no CID');
  }
  return texts.map((text) => readNumber('--peer-cid', text, 0, VSOCK_CID_ANY - 1));
}

/** `unix:PATH`, `HOST:PORT` or `[IPv6]:PORT`. */
function readHttpEndpoint(option: string, text: string): HttpEndpoint {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '') throw usage(`${option}: 'unix:' wants a path`);
    return { transport: 'unix', path: checkSocketPath(option, path) };
  }
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d+)$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined) throw usage(`${option}: '${text}' is not unix:PATH or HOST:PORT`);
  return { transport: 'tcp', host, port: readNumber(option, match?.[3] ?? '', 1, 65535) };
}

function readInterfaceConfig(args: RelayArguments, mtu: number): InterfaceConfig {
  const { peerMac, peerAddress = [], peerGateway = [], peerDns = [] } = args;
  return {
    mtu,
    ...(peerMac !== undefined && { mac: readMac(peerMac) }),
    addresses: peerAddress.map(readPrefix),
    gateways: peerGateway.map((text) => readAddress('--peer-gateway', text)),
    dns: peerDns.map((text) => readAddress('--peer-dns', text)),
  };
}

function readMac(text: string): string {
  const isMac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text);
  const isUnicast = (Number.parseInt(text.slice(0, 2), 16) & 1) === 0;
  if (isMac && isUnicast && !/^00(:00){5}$/.test(text)) return text.toLowerCase();
  throw usage(`--peer-mac: '${text}' is no MAC of one interface; for example 02:00:00:00:00:01`);
}

function readPrefix(text: string): string {
  const match = /^([^/%]+)\/(\d{1,3})$/.exec(text);
  const address = match?.[1] ?? '';
  const length = Number(match?.[2] ?? Number.NaN);
  if (isIP(address) !== 0 && length <= (isIPv4(address) ? 32 : 128)) return text;
  throw usage(`--peer-address: '${text}' is no address with a prefix length; for example 10.9.0.2/24`);
}

function readAddress(option: string, text: string): string {
  if (isIP(text) !== 0 && !text.includes('%')) return text;
  throw usage(`${option}: '${text}' is no IP address`);
}
