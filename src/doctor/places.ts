/** Where the doctor looks, and how that is given on its command line. */
import { resolve } from 'node:path';
import { readBridge } from '../arguments.js';
import { ovnSocket } from '../ovn/places.js';
import type { RpcTarget } from '../ovsdb/json-rpc.js';
import { readRemotes, readTlsFiles, type TlsArguments } from '../ovsdb/remote.js';

export interface DoctorPlaces {
  /** Nothing: where ovs-vsctl looks. */
  readonly ovsSocketPath: string | undefined;
  readonly northbound: RpcTarget;
  readonly southbound: RpcTarget;
  /** Of arca-control. */
  readonly runDir: string;
  /** That relays attach to. */
  readonly bridge: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The command line as commander gives it. */
export interface PlaceArguments extends TlsArguments {
  readonly nb?: string;
  readonly sb?: string;
  readonly runDir: string;
  readonly bridge: string;
}

/** OVN's databases where ovn-nbctl(8) and ovn-sbctl(8) look. Throws an ArcaError (`usage`). */
export function readPlaces(
  { nb, sb, runDir, bridge, ...tls }: PlaceArguments,
  ovsSocketPath: string | undefined,
  env: NodeJS.ProcessEnv,
): DoctorPlaces {
  const files = readTlsFiles(tls);
  return {
    ovsSocketPath,
    northbound: readRemotes('--nb', nb ?? (env['OVN_NB_DB'] || ovnSocket(env, 'ovnnb_db.sock')), files),
    southbound: readRemotes('--sb', sb ?? (env['OVN_SB_DB'] || ovnSocket(env, 'ovnsb_db.sock')), files),
    runDir: resolve(runDir),
    bridge: readBridge('--bridge', bridge),
    env,
  };
}
