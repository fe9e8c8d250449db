/** What a relay looks up before it makes anything: the tag, and whether the bridge would forward. */
import { ArcaError } from '../errors.js';
import type { Logger } from '../log.js';
import { refuseForeignPort } from '../ovs/attach.js';
import { type BridgeFacts, type FlowFacts, judgeBridge, readFlows } from '../ovs/bridge.js';
import type { OvsPlaces } from '../ovs/places.js';
import { type OvsSession, openOvsSession } from '../ovs/session.js';
import { connectVswitchd } from '../ovs/vswitchd.js';
import { type RpcConnection, RpcError } from '../ovsdb/json-rpc.js';
import type { AttachMode } from './options.js';

export interface BridgeLookUp {
  readonly places: OvsPlaces;
  readonly bridge: string;
  readonly tap: string;
  readonly attach: AttachMode;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onChange: () => void;
  readonly log: Logger;
}

export interface FoundBridge {
  readonly bridge: BridgeFacts;
  readonly session: OvsSession;
  /** Nothing when it can not be found. */
  readonly vswitchd: RpcConnection | undefined;
}

/** Looks at database, flows and vswitchd at the same time, and reports what is wrong in that order. Leaves nothing open when it rejects. */
export async function lookAtBridge(lookUp: BridgeLookUp): Promise<FoundBridge> {
  const { places, bridge, tap, timeoutMs, signal, onChange } = lookUp;
  const call = { timeoutMs, signal };
  const [session, flows, vswitchd] = await Promise.allSettled([
    openOvsSession({ socketPath: places.socketPath, bridge, tap, onChange, ...call }),
    readFlows(places, bridge, call),
    connectVswitchd(places, call),
  ]);
  try {
    if (session.status === 'rejected') throw session.reason;
    const facts = session.value.view().bridge;
    if (facts === undefined) throw bridgeMissing(places, bridge);
    if (vswitchd.status === 'rejected') throw vswitchdFailure(vswitchd.reason);
    if (flows.status === 'rejected') throw flows.reason;
    guard(lookUp, facts, flows.value);
    refuseForeignPort(session.value.view(), tap);
    if (vswitchd.value === undefined) {
      lookUp.log.warn(
        { runDirs: places.runDirs },
        'no ovs-vswitchd.pid found: a restart of vswitchd will not be noticed',
      );
    }
    return { bridge: facts, session: session.value, vswitchd: vswitchd.value };
  } catch (error) {
    if (session.status === 'fulfilled') session.value.close();
    if (vswitchd.status === 'fulfilled') vswitchd.value?.close();
    throw error;
  }
}

function guard({ attach, log }: BridgeLookUp, facts: BridgeFacts, flows: FlowFacts): void {
  if (!flows.known) log.warn({ bridge: facts.name, reason: flows.why }, 'the flows of the bridge could not be read');
  const verdict = judgeBridge(facts, flows);
  if (verdict.forwards) return;
  throw new ArcaError(
    attach === 'auto' ? 'attach-unsupported' : 'bridge-black-hole',
    `bridge ${facts.name} would forward nothing for a port with a VLAN tag: ${verdict.why}. Mend: ${verdict.mend}`,
  );
}

function bridgeMissing({ socketPath }: OvsPlaces, bridge: string): ArcaError {
  return new ArcaError(
    'bridge-missing',
    `OVS at unix:${socketPath} has no bridge ${bridge}; make it: ovs-vsctl add-br ${bridge}`,
  );
}

function vswitchdFailure(error: unknown): ArcaError {
  if (error instanceof RpcError) {
    switch (error.failure) {
      case 'aborted':
        return new ArcaError('timed-out', 'stopped while looking for ovs-vswitchd', { cause: error });
      case 'timed-out':
        return new ArcaError('ovs-timeout', `ovs-vswitchd does not answer: ${error.message}`, { cause: error });
      case 'unreachable':
      case 'closed':
      case 'protocol':
      case 'refused':
        return new ArcaError(
          'ovs-unreachable',
          `ovs-vswitchd is not running, though it left its pidfile: ${error.message}; ` +
            'start it: systemctl start openvswitch-switch',
          { cause: error },
        );
    }
  }
  return new ArcaError('unexpected', error instanceof Error ? error.message : String(error), { cause: error });
}
