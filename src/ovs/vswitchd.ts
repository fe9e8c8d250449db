/**
 * Watches over ovs-vswitchd by a connection to its control socket: the kernel closes it the moment that the daemon
 * ends, whatever ended it, and a probe finds a daemon that hangs. The database tells neither.
 */

import type { CallOptions } from '../ovsdb/json-rpc.js';
import { connectRpc, type RpcConnection } from '../ovsdb/json-rpc.js';
import { type OvsPlaces, vswitchdControlSocket } from './places.js';

/** `version` is a command of every OVS daemon. */
const PROBE = { method: 'version', intervalMs: 5000, timeoutMs: 5000 } as const;

/**
 * Connects to the running vswitchd. Nothing when there is no pidfile to find it by; rejects with `RpcError`
 * (`unreachable`: there is a pidfile, but no daemon behind it).
 */
export async function connectVswitchd(places: OvsPlaces, call: CallOptions): Promise<RpcConnection | undefined> {
  const path = await vswitchdControlSocket(places);
  if (path === undefined) return undefined;
  return connectRpc({ transport: 'unix', path }, { ...call, probe: PROBE });
}
