/**
 * What has to be done so that what is there becomes what is wanted. The plan is pure; who applies it does so through
 * the same functions as attach and detach.
 */
import type { PlanStep } from './model.js';
import { type RelayShape, shapeDifferences } from './relays/arguments.js';
import { relaySpecOf, type WantedAttachment } from './wanted.js';

export interface ActualRelay {
  readonly tap: string;
  readonly pid: number;
  readonly shape: RelayShape;
  /** It lives and does not forward, for so long. */
  readonly trouble: { readonly reason: string; readonly detail: string; readonly forMs: number } | undefined;
  /** It has not answered for so long; 0: it did when it was last asked. */
  readonly silentForMs: number;
}

/** A port of OVS that carries our mark. */
export interface ActualPort {
  readonly name: string;
  /** The network device of that name exists: whoever holds it, a relay lives. */
  readonly hasDevice: boolean;
}

export interface Actual {
  readonly bridge: string;
  readonly relays: readonly ActualRelay[];
  readonly ports: readonly ActualPort[];
  /** Keys of attachments, and names of TAPs, that somebody works on just now, or that wait for their time: left alone. */
  readonly inHand: ReadonlySet<string>;
}

/** A relay mends its port by itself. What it could not mend in this time, a new one may. */
export const TROUBLE_GRACE_MS = 5_000;
/** A machine that is busy makes a relay slow to answer; it forwards all the same, so this is long. */
export const SILENCE_GRACE_MS = 20_000;

/** Pure. In the order in which it is to be done: what goes first makes room for what comes. */
export function plan(wanted: readonly WantedAttachment[], actual: Actual): readonly PlanStep[] {
  const { relays, ports, inHand } = actual;
  const wantedByTap = new Map<string, WantedAttachment>();
  for (const attachment of wanted) {
    if (!wantedByTap.has(attachment.tap)) wantedByTap.set(attachment.tap, attachment);
  }
  const isInHand = (tap: string): boolean => inHand.has(tap) || inHand.has(wantedByTap.get(tap)?.key ?? tap);
  const living = new Set(relays.map(({ tap }) => tap));
  const stops: PlanStep[] = [];
  const restarts: PlanStep[] = [];

  for (const relay of relays) {
    const { tap, pid } = relay;
    if (isInHand(tap)) continue;
    const attachment = wantedByTap.get(tap);
    if (attachment === undefined) {
      stops.push({ action: 'stop-relay', pid, tap, reason: 'no logical port of ours wants it' });
      continue;
    }
    const reason = misfit(attachment, relay, actual.bridge);
    const { container, network } = attachment;
    if (reason !== undefined) restarts.push({ action: 'restart-relay', container, network, reason });
  }

  const starts: PlanStep[] = [...wantedByTap.values()]
    .filter((attachment) => !living.has(attachment.tap) && !isInHand(attachment.tap))
    .filter((attachment) => relaySpecOf(attachment) !== undefined)
    .map(({ container, network }) => ({ action: 'start-relay', container, network, reason: 'it has no relay' }));

  const removals: PlanStep[] = ports
    .filter(({ name, hasDevice }) => !hasDevice && !living.has(name) && !wantedByTap.has(name) && !isInHand(name))
    .map(({ name }) => ({
      action: 'remove-port',
      port: name,
      reason: 'a relay that is gone left it, without a device',
    }));

  return [...stops, ...removals, ...restarts, ...starts];
}

/** Why the relay can't stay as it is. */
function misfit(attachment: WantedAttachment, relay: ActualRelay, bridge: string): string | undefined {
  const spec = relaySpecOf(attachment);
  // Without a tag or an address there is nothing better to start: the relay goes on as it is.
  if (spec === undefined) return undefined;
  if (relay.silentForMs >= SILENCE_GRACE_MS) {
    return `it has not answered for ${Math.round(relay.silentForMs / 1000)} s`;
  }
  const differences = shapeDifferences(spec, bridge, relay.shape);
  if (differences.length > 0) return differences.join('; ');
  const { trouble } = relay;
  if (trouble !== undefined && trouble.forMs >= TROUBLE_GRACE_MS && helpsToRestart(trouble.reason)) {
    return `it does not forward: ${trouble.detail}`;
  }
  return undefined;
}

/** A new relay makes its TAP and its port anew. Nothing else of OVS gets better by that. */
function helpsToRestart(reason: string): boolean {
  return ['port-missing', 'port-changed', 'port-error', 'tap-down'].includes(reason);
}
