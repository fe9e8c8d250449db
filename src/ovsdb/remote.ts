/** Where a database is, as OVS and OVN write it (ovsdb(7), "Connection Methods"). Pure. */
import { readNumber, readUnixTarget, usage } from '../arguments.js';

/** Paths of PEM files; ovs-vsctl's --private-key, --certificate and --ca-cert. */
export interface TlsFiles {
  readonly privateKey: string;
  readonly certificate: string;
  /** Who has signed the server's certificate. */
  readonly caCertificate: string;
}

export type RpcServer =
  | { readonly transport: 'unix'; readonly path: string }
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number }
  | { readonly transport: 'ssl'; readonly host: string; readonly port: number; readonly files: TlsFiles };

/** One server, or the servers of a cluster, of which any will do that is fit. */
export type RpcTarget = RpcServer | { readonly transport: 'cluster'; readonly servers: readonly RpcServer[] };

export function targetText(target: RpcTarget): string {
  switch (target.transport) {
    case 'unix':
      return `unix:${target.path}`;
    case 'tcp':
    case 'ssl':
      return `${target.transport}:${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
    case 'cluster':
      return target.servers.map(targetText).join(',');
  }
}

export function serversOf(target: RpcTarget): readonly RpcServer[] {
  return target.transport === 'cluster' ? target.servers : [target];
}

/** What was given of ovs-vsctl's three options, as commander names them. */
export interface TlsArguments {
  readonly privateKey?: string;
  readonly certificate?: string;
  readonly caCert?: string;
}

/** All three or none; an ArcaError (`usage`) otherwise. */
export function readTlsFiles({ privateKey, certificate, caCert }: TlsArguments): TlsFiles | undefined {
  if (privateKey !== undefined && certificate !== undefined && caCert !== undefined) {
    return { privateKey, certificate, caCertificate: caCert };
  }
  if (privateKey === undefined && certificate === undefined && caCert === undefined) return undefined;
  throw usage('give all of --private-key, --certificate and --ca-cert, or none');
}

/**
 * `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`, with an IPv6 address in brackets; several with commas are the servers
 * of a cluster. Throws an ArcaError (`usage`) that names the option.
 */
export function readRemotes(option: string, text: string, files: TlsFiles | undefined): RpcTarget {
  const [first, ...more] = text.split(',').map((part) => readRemote(option, part.trim(), files));
  if (first === undefined) throw usage(`${option} wants a database`);
  return more.length === 0 ? first : { transport: 'cluster', servers: [first, ...more] };
}

function readRemote(option: string, text: string, files: TlsFiles | undefined): RpcServer {
  if (text.startsWith('unix:')) return { transport: 'unix', path: readUnixTarget(option, text) };
  const match = /^(tcp|ssl):(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s]+)):(\d+)$/.exec(text);
  const host = match?.[2] ?? match?.[3];
  if (host === undefined) throw usage(`${option}: '${text}' is not unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT`);
  const port = readNumber(option, match?.[4] ?? '', 1, 65535);
  if (match?.[1] === 'tcp') return { transport: 'tcp', host, port };
  if (files !== undefined) return { transport: 'ssl', host, port, files };
  throw usage(`${option}: ${text} wants --private-key, --certificate and --ca-cert`);
}
