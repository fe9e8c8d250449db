/** Whether vswitchd could make of the database what it says: it takes every row, and tells by `error` and `ofport`. */
import type { OvsPlaces } from '../ovs/places.js';
import { connectVswitchd } from '../ovs/vswitchd.js';
import { type CallOptions, deadlineOf, RpcError } from '../ovsdb/json-rpc.js';
import { bridgePath, portPath } from './changes.js';
import type { ActualDatabase, ActualInterface } from './database.js';
import type { DesiredBridge } from './model.js';

/** A bridge or port that stands in the database and does not forward. */
export interface Trouble {
  readonly path: string;
  readonly why: string;
}

/** Names of the bridges that vswitchd runs; `gone`: it does not answer; `unknown`: there is no pidfile to find it by. */
export type RunningBridges = ReadonlySet<string> | 'gone' | 'unknown';

/** A daemon that lives answers at once. */
const ANSWER_TIMEOUT_MS = 2000;

/**
 * The database does not tell: a bridge whose datapath this kernel lacks has no `error`, after a change of its datapath
 * its ports keep their numbers (OVS 3.1), and a daemon that is dead takes nothing back.
 */
export async function readRunningBridges(places: OvsPlaces, call: CallOptions): Promise<RunningBridges> {
  const left = deadlineOf({ ...call, timeoutMs: Math.min(call.timeoutMs, ANSWER_TIMEOUT_MS) });
  try {
    const connection = await connectVswitchd(places, left());
    if (connection === undefined) return 'unknown';
    try {
      const answer = await connection.call('ofproto/list', [], left());
      return typeof answer === 'string' ? new Set(answer.split('\n').filter(Boolean)) : 'unknown';
    } finally {
      connection.close();
    }
  } catch (error) {
    if (!(error instanceof RpcError) || error.failure === 'aborted') throw error;
    return 'gone';
  }
}

/** Pure. What is not in the database is not looked at: the plan tells it. */
export function troublesOf(
  desired: readonly DesiredBridge[],
  { bridges }: ActualDatabase,
  running: RunningBridges,
): Trouble[] {
  if (running === 'gone') return [{ path: 'ovs-vswitchd', why: 'the daemon does not run, or does not answer' }];
  return desired.flatMap(({ name, datapathType, ports }) => {
    const bridge = bridges.find((each) => each.name === name);
    if (bridge === undefined) return [];
    const own = bridge.ports.find((port) => port.name === name)?.interfaces[0];
    if ((running !== 'unknown' && !running.has(name)) || (own && troubleOf(own))) {
      const why = own?.error || `ovs-vswitchd could not make it with the datapath ${datapathType}; its log says why`;
      return [{ path: bridgePath(name), why }];
    }
    return ports.flatMap((wanted) => {
      const iface = bridge.ports.find((port) => port.name === wanted.name)?.interfaces[0];
      const why = iface && troubleOf(iface);
      return why === undefined ? [] : [{ path: portPath(name, wanted.name), why }];
    });
  });
}

function troubleOf({ error, ofport, type, ifindex }: ActualInterface): string | undefined {
  if (error !== '') return error;
  // A device that was removed leaves its port as it was; tunnels have none.
  if (type === '' && ifindex === 0) return 'its device is gone';
  return ofport !== undefined && ofport > 0 ? undefined : 'ovs-vswitchd gave it no OpenFlow port number';
}
