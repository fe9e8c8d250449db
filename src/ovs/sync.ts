/** Waiting for ovs-vswitchd, over a connection that its database has already. */
import { OperationError, type OvsdbClient } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { integer } from '../ovsdb/values.js';
import { vswitchdTimeout } from './failures.js';
import { awaitCurCfg, BUMP_NEXT_CFG, OVS_DATABASE } from './port-commands.js';

const SERVER_GRACE_MS = 100;

/**
 * Resolves, with its number, when vswitchd has worked through the configuration of now. Rejects with `ovs-timeout` when
 * it did not come to that, and with what the client says when the server does not answer.
 */
export async function syncWithVswitchd(client: OvsdbClient, call: CallOptions): Promise<number> {
  const left = deadlineOf(call);
  const bumped = await client.transact(OVS_DATABASE, BUMP_NEXT_CFG, left());
  const nextCfg = integer(bumped[1]?.rows?.[0]?.['next_cfg']) ?? 0;
  await awaitVswitchd(client, nextCfg, left());
  return nextCfg;
}

/** Resolves when vswitchd has worked through the configuration of that number; rejects as `syncWithVswitchd` does. */
export async function awaitVswitchd(client: OvsdbClient, nextCfg: number, call: CallOptions): Promise<void> {
  const { timeoutMs } = call;
  try {
    // The server's own deadline comes first, so that a silent server is told apart from a silent vswitchd.
    const patient = { ...call, timeoutMs: timeoutMs + SERVER_GRACE_MS };
    await client.transact(OVS_DATABASE, awaitCurCfg(nextCfg, timeoutMs), patient);
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    throw vswitchdTimeout(client.target, 'the configuration to be applied', timeoutMs, error);
  }
}
