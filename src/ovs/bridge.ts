/**
 * The guard: would this bridge forward anything for a port with a VLAN tag? A tag acts only through the NORMAL action,
 * and a bridge that ovn-controller runs has no such flow: the port would be a black hole (facts: ovs-ovn.md).
 */
import { ArcaError } from '../errors.js';
import { CommandError, run } from '../exec.js';
import { managementSocket, type OvsPlaces } from './places.js';

export type DatapathType = 'system' | 'netdev' | (string & {});

/** What the OVS database says about a bridge. */
export interface BridgeFacts {
  readonly name: string;
  /** Empty: `standalone`. */
  readonly failMode: string;
  readonly datapathType: DatapathType;
  /** `external_ids:ovn-bridge` of the Open_vSwitch row: the bridge that ovn-controller takes; `br-int` when it is not set. */
  readonly ovnBridge: string;
  /** `external_ids:system-id`; ovn-controller needs it to work, but takes its bridge without it too. */
  readonly systemId: string;
  /** `other_config:userspace-tso-enable`. vswitchd reads it when it starts, and not again. */
  readonly userspaceTso: boolean;
}

/** What decides which offloads the switch takes. */
export type DatapathFacts = Pick<BridgeFacts, 'datapathType' | 'userspaceTso'>;

export function datapathOf({ datapathType, userspaceTso }: BridgeFacts): DatapathFacts {
  return { datapathType, userspaceTso };
}

/** What vswitchd says about the bridge's flows. */
export type FlowFacts =
  | { readonly known: true; readonly hasNormal: boolean }
  /** The bridge's management socket is not there. */
  | { readonly known: false; readonly why: string };

export type BridgeVerdict =
  | { readonly forwards: true }
  | { readonly forwards: false; readonly why: string; readonly mend: string };

/** ovn-controller(8), `ovn-bridge`: what it takes when nobody says another. */
export const OVN_DEFAULT_BRIDGE = 'br-int';
/** Key of `other_config` of the Open_vSwitch row. */
export const TSO_KEY = 'userspace-tso-enable';

export function flowArguments(mgmtSocket: string, timeoutMs: number): readonly string[] {
  return [
    // Whatever versions the bridge is limited to (its `protocols` column), one of these is among them.
    '--protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15',
    `--timeout=${Math.ceil(timeoutMs / 1000) + 1}`,
    'dump-flows',
    `unix:${mgmtSocket}`,
  ];
}

/** Does any flow hand frames to the switch's own learning and VLANs? */
export function hasNormalAction(flows: string): boolean {
  return flows.split('\n').some((line) => /\bNORMAL\b/.test(line.slice(line.indexOf('actions=') + 1)));
}

/** Asks vswitchd for the bridge's flows. Rejects with `ovs-timeout` when it does not answer. */
export async function readFlows(
  places: OvsPlaces,
  bridge: string,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined },
): Promise<FlowFacts> {
  const socket = managementSocket(places, bridge);
  try {
    const { stdout } = await run('ovs-ofctl', flowArguments(socket, options.timeoutMs), options);
    return { known: true, hasNormal: hasNormalAction(stdout) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    switch (error.failure) {
      case 'timed-out':
        throw new ArcaError(
          'ovs-timeout',
          `ovs-vswitchd does not answer on ${socket} (asked for the flows of bridge ${bridge}, ${options.timeoutMs} ms). ` +
            'Is the daemon stopped or overloaded?',
          { cause: error },
        );
      case 'aborted':
        throw new ArcaError('timed-out', `stopped while reading the flows of bridge ${bridge}`, { cause: error });
      case 'output-limit':
        // A bridge with that many flows has a controller; what was read of them is evidence enough when NORMAL is there.
        if (hasNormalAction(error.output.stdout)) return { known: true, hasNormal: true };
        return { known: false, why: error.message };
      case 'not-found':
      case 'exit-code':
      case 'signal':
        return { known: false, why: error.message };
    }
  }
}

/** Pure. Flows are the evidence; without them `fail_mode` has to do: `secure` means that there are none by default. */
export function judgeBridge(bridge: BridgeFacts, flows: FlowFacts): BridgeVerdict {
  const forwards = flows.known ? flows.hasNormal : bridge.failMode !== 'secure';
  if (forwards) return { forwards: true };
  const evidence = flows.known ? 'none of its flows has the action NORMAL' : 'its fail_mode is secure';
  const ovnMayOwn = bridge.name === (bridge.ovnBridge || OVN_DEFAULT_BRIDGE);
  if (bridge.failMode === 'secure' && ovnMayOwn) {
    return {
      forwards: false,
      why: `${evidence}, and ovn-controller runs it (it takes the bridge ${bridge.name} and sets fail_mode=secure)`,
      mend:
        'give ovn-controller a bridge of its own BEFORE it starts: ' +
        'ovs-vsctl set Open_vSwitch . external_ids:ovn-bridge=br-ovn; ' +
        `then ovs-vsctl del-fail-mode ${bridge.name}; or take another --bridge. ` +
        'Binding the port as an OVN logical port instead (--attach ovn) comes with a later version',
    };
  }
  return {
    forwards: false,
    why: bridge.failMode === 'secure' ? `${evidence} (fail_mode=secure)` : evidence,
    mend:
      `let the bridge switch by itself (ovs-vsctl del-controller ${bridge.name}; ovs-vsctl del-fail-mode ${bridge.name}), ` +
      'have its controller install a flow with NORMAL, or take another --bridge',
  };
}
