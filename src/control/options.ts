/** What arca-control is asked to do, and the border where that comes in as text. Pure but for `parseEndpoint`. */
import { resolve } from 'node:path';
import { checkSocketPath, readBridge, readNumber, readUnixTarget, usage } from '../arguments.js';
import type { Endpoint } from '../native.js';
import { ovnSocket } from '../ovn/places.js';
import { readRemotes, readTlsFiles, type TlsArguments } from '../ovsdb/remote.js';
import type { ChassisSpec } from './model.js';
import type { ControlOptions } from './service.js';

/** The command line as commander gives it. */
export interface ControlArguments extends TlsArguments {
  readonly listen?: readonly string[];
  readonly peerCid?: readonly string[];
  readonly socketGroup: string;
  readonly runDir: string;
  readonly ovs?: string;
  readonly nb?: string;
  readonly sb?: string;
  readonly bridge: string;
  readonly chassis?: string;
  readonly encapIp?: string;
  readonly vsockPorts: string;
}

export type VsockEndpoint = Extract<Endpoint, { readonly transport: 'vsock' }>;

export interface ReadControlOptions {
  /** Unix sockets of the API; at least one. */
  readonly paths: readonly string[];
  /** Carried to the first of `paths`. */
  readonly vsock: readonly VsockEndpoint[];
  /** Who may call over vsock; at least one where `vsock` is not empty. */
  readonly allowedCids: readonly number[];
  readonly socketGroup: string;
  readonly service: Pick<
    ControlOptions,
    'runDir' | 'ovsSocketPath' | 'northbound' | 'southbound' | 'chassis' | 'vsockPorts' | 'bridge'
  >;
}

export const DEFAULT_RUN_DIR = '/run/arca';
export const DEFAULT_VSOCK_PORTS = '5000-9999';
const MOST_CID = 0xfffffffe;
/** Ports below need a capability, and would be taken for those of others. */
const LEAST_VSOCK_PORT = 1024;
const MOST_VSOCK_PORT = 0xfffffffe;

/** Throws an ArcaError (`usage`) for the first argument that does not fit. */
export function readControlOptions(
  args: ControlArguments,
  env: NodeJS.ProcessEnv,
  parseEndpoint: (text: string) => Endpoint,
): ReadControlOptions {
  const runDir = resolve(args.runDir);
  const files = readTlsFiles(args);
  const endpoints = (args.listen ?? []).map((text) => readListen(text, parseEndpoint));
  const unix = endpoints.flatMap((endpoint) => (endpoint.transport === 'unix' ? [resolve(endpoint.path)] : []));
  const vsock = endpoints.flatMap((endpoint) => (endpoint.transport === 'vsock' ? [endpoint] : []));
  const vsockPorts = readPortRange(args.vsockPorts);
  for (const { port } of vsock) {
    if (port < vsockPorts.first || port > vsockPorts.last) continue;
    throw usage(`--listen: vsock port ${port} is of --vsock-ports ${args.vsockPorts}, which attachments take`);
  }
  // The proxy of vsock wants something to carry to.
  const paths = unix.length > 0 ? unix : [checkSocketPath('--run-dir', resolve(runDir, 'control.sock'))];
  return {
    paths: [...new Set(paths)],
    vsock,
    allowedCids: readPeerCids(args.peerCid ?? [], vsock.length > 0),
    socketGroup: args.socketGroup,
    service: {
      runDir,
      ovsSocketPath: args.ovs === undefined ? undefined : readUnixTarget('--ovs', args.ovs),
      northbound: readRemotes('--nb', args.nb ?? env['OVN_NB_DB'] ?? ovnSocket(env, 'ovnnb_db.sock'), files),
      southbound: readRemotes('--sb', args.sb ?? env['OVN_SB_DB'] ?? ovnSocket(env, 'ovnsb_db.sock'), files),
      chassis: readChassis(args),
      vsockPorts,
      bridge: readBridge('--bridge', args.bridge),
    },
  };
}

function readListen(text: string, parseEndpoint: (text: string) => Endpoint): Endpoint {
  try {
    return parseEndpoint(text);
  } catch (cause) {
    throw usage(`--listen: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
}

function readPeerCids(texts: readonly string[], hasVsock: boolean): number[] {
  if (hasVsock && texts.length === 0) {
    throw usage(
      '--listen vsock:PORT wants --peer-cid CID: whoever may call may do everything, so nobody may by default',
    );
  }
  if (!hasVsock && texts.length > 0)
    throw usage('--peer-cid is for --listen vsock:PORT; callers on a Unix socket have no CID');
  return texts.map((text) => readNumber('--peer-cid', text, 0, MOST_CID));
}

function readChassis({ chassis, encapIp }: ControlArguments): ChassisSpec | undefined {
  if (chassis === undefined && encapIp === undefined) return undefined;
  if (chassis === undefined || encapIp === undefined)
    throw usage('give both of --chassis NAME and --encap-ip IP, or none');
  return { name: chassis, encapIp };
}

function readPortRange(text: string): ControlOptions['vsockPorts'] {
  const [firstText = '', lastText = '', ...more] = text.split('-');
  const read = (part: string): number => readNumber('--vsock-ports', part, LEAST_VSOCK_PORT, MOST_VSOCK_PORT);
  if (more.length > 0) throw usage(`--vsock-ports: '${text}' is not FIRST-LAST`);
  const range = { first: read(firstText), last: read(lastText) };
  if (range.first <= range.last) return range;
  throw usage(`--vsock-ports: the first of ${text} is larger than the last`);
}
