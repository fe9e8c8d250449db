/** What a relay looks up before it makes anything: the tag, and whether the bridge would forward. */
import { ArcaError } from '../errors.js';
import { lookUpTag } from '../ovn/network-tag.js';
import { refuseForeignPort } from '../ovs/attach.js';
import { type BridgeFacts, type FlowFacts, judgeBridge, readFlows } from '../ovs/bridge.js';
import { type OvsPlaces, ovsPlaces } from '../ovs/places.js';
import { type OvsSession, openOvsSession } from '../ovs/session.js';
import { connectVswitchd } from '../ovs/vswitchd.js';
import { type RpcConnection, RpcError } from '../ovsdb/json-rpc.js';
import type { AttachMode, RelayOptions } from './options.js';

export interface LookUps {
  /** Rejects with an ArcaError. */
  readonly tag: Promise<number>;
  /** Rejects with an ArcaError, and has left nothing open then. */
  readonly bridge: Promise<FoundBridge>;
  /** When the time for the whole start is over, by `performance.now()`. */
  readonly deadline: number;
  /** To be called when something changed in OVS. */
  onChange: () => void;
  /** Ends what still runs and closes what was opened. Safe to call at any time, and twice. */
  cancel(): Promise<void>;
}

export interface FoundBridge {
  readonly bridge: BridgeFacts;
  readonly session: OvsSession;
  /** Nothing when it can not be found. */
  readonly vswitchd: RpcConnection | undefined;
  /** What the user should know, though it is no error. */
  readonly warnings: readonly Warning[];
}

export interface Warning {
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

type LookUpOptions = Pick<
  RelayOptions,
  'network' | 'vlan' | 'nb' | 'tls' | 'bridge' | 'tap' | 'attach' | 'ovsSocketPath' | 'timeoutMs'
>;

/** Begins to ask OVN and OVS, both at the same time, and changes nothing. */
export function beginLookUps(options: LookUpOptions, env: NodeJS.ProcessEnv, signal: AbortSignal): LookUps {
  const { network, vlan, nb, tls, bridge, tap, attach, timeoutMs } = options;
  const cancelled = new AbortController();
  const call = { timeoutMs, signal: AbortSignal.any([signal, cancelled.signal]) };
  const places = ovsPlaces(options.ovsSocketPath, env);
  const lookUps: LookUps = {
    tag: vlan === undefined ? lookUpTag({ network: network ?? '', nb, tls, ...call }) : Promise.resolve(vlan),
    bridge: lookAtBridge({ places, bridge, tap, attach, onChange: () => lookUps.onChange(), ...call }),
    deadline: performance.now() + timeoutMs,
    onChange() {},
    async cancel() {
      cancelled.abort();
      await Promise.allSettled([lookUps.tag, lookUps.bridge.then(({ session, vswitchd }) => close(session, vswitchd))]);
    },
  };
  // Whoever awaits them is told; that nobody did yet when they fail is no error of its own.
  lookUps.tag.catch(() => {});
  lookUps.bridge.catch(() => {});
  return lookUps;
}

interface BridgeLookUp {
  readonly places: OvsPlaces;
  readonly bridge: string;
  readonly tap: string;
  readonly attach: AttachMode;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onChange: () => void;
}

/** Looks at database, flows and vswitchd at the same time, and reports what is wrong in that order. */
async function lookAtBridge(lookUp: BridgeLookUp): Promise<FoundBridge> {
  const { places, bridge, tap, timeoutMs, signal, onChange } = lookUp;
  const noDatabase = new AbortController();
  const call = { timeoutMs, signal: AbortSignal.any([signal, noDatabase.signal]) };
  const openingSession = openOvsSession({ socketPath: places.socketPath, bridge, tap, onChange, timeoutMs, signal });
  // That is the error then; and a vswitchd without its database keeps who asks for flows waiting until the deadline.
  openingSession.catch(() => noDatabase.abort());
  const [session, flows, vswitchd] = await Promise.allSettled([
    openingSession,
    readFlows(places, bridge, call),
    connectVswitchd(places, call),
  ]);
  try {
    if (session.status === 'rejected') throw session.reason;
    const view = session.value.view();
    if (view.bridge === undefined) throw bridgeMissing(places, bridge);
    if (vswitchd.status === 'rejected') throw vswitchdFailure(vswitchd.reason);
    if (flows.status === 'rejected') throw flows.reason;
    guard(lookUp.attach, view.bridge, flows.value);
    refuseForeignPort(view, tap);
    const warnings = warningsOf(places, bridge, flows.value, vswitchd.value);
    return { bridge: view.bridge, session: session.value, vswitchd: vswitchd.value, warnings };
  } catch (error) {
    close(
      session.status === 'fulfilled' ? session.value : undefined,
      vswitchd.status === 'fulfilled' ? vswitchd.value : undefined,
    );
    throw error;
  }
}

function close(session: OvsSession | undefined, vswitchd: RpcConnection | undefined): void {
  session?.close();
  vswitchd?.close();
}

function warningsOf(
  { runDirs }: OvsPlaces,
  bridge: string,
  flows: FlowFacts,
  vswitchd: RpcConnection | undefined,
): Warning[] {
  const warnings: Warning[] = [];
  if (!flows.known) {
    warnings.push({ message: 'the flows of the bridge could not be read', fields: { bridge, reason: flows.why } });
  }
  if (vswitchd === undefined) {
    warnings.push({
      message: 'no ovs-vswitchd.pid found: a restart of vswitchd will not be noticed',
      fields: { runDirs },
    });
  }
  return warnings;
}

function guard(attach: AttachMode, facts: BridgeFacts, flows: FlowFacts): void {
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
