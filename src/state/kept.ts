/**
 * What is ours on bridges and devices that a transaction lets vswitchd make anew or remove: kept before it, and put back
 * when the transaction was taken back, since vswitchd and the kernel remember nothing of it.
 */
import { ArcaError, toArcaError } from '../errors.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { bridgePath, type Change } from './changes.js';
import type { ActualBridge, ActualDatabase } from './database.js';
import { changeOf, rememberedIn } from './device-links.js';
import type { Edit } from './edits.js';
import { applyFlows, readFlowsByName } from './flows.js';
import { type ActualLinks, applyLink, type LinkStep, planLinks, readLinks } from './links.js';
import type { DesiredFlow, DesiredLink } from './model.js';
import type { StateContext } from './plan.js';
import { readRunningBridges } from './troubles.js';

export interface Kept {
  /** Of each bridge on which we had some. */
  readonly flows: ReadonlyMap<string, readonly DesiredFlow[]>;
  /** Devices of vswitchd as they were, with the addresses that we set and nobody else's. */
  readonly links: readonly DesiredLink[];
}

/** Something of ours that could not be put back. */
export interface Lost {
  readonly changes: readonly Change[];
  readonly why: string;
}

export async function keepOurs(
  { places, dhcp }: StateContext,
  database: ActualDatabase,
  edits: readonly Edit[],
  call: CallOptions,
): Promise<Kept> {
  const bridges = bridgesRemade(edits, database);
  const flows = new Map<string, readonly DesiredFlow[]>();
  const links: DesiredLink[] = [];
  if (bridges.length === 0) return { flows, links };
  const left = deadlineOf(call);
  const running = await readRunningBridges(places, left());
  for (const { name } of bridges) {
    // A vswitchd that is gone has no flows to lose.
    if (running === 'gone' || (typeof running === 'object' && !running.has(name))) continue;
    const own = await readFlowsByName(places, name, left()).catch((error: unknown) => {
      if (error instanceof ArcaError && error.code === 'bridge-missing') return [];
      throw error;
    });
    if (own.length > 0) flows.set(name, own);
  }
  const actual = await readLinks(dhcp, left());
  const remembered = rememberedIn(database);
  for (const bridge of bridges) {
    for (const device of devicesOf(bridge)) {
      const is = actual.links.get(device);
      if (is === undefined) continue;
      const addresses = remembered.get(device)?.filter((address) => is.addresses.includes(address)) ?? [];
      const { isUp: up, mtu } = is;
      links.push({ device, bridge: bridge.name, addresses, dhcp: actual.dhcp.has(device), up, mtu });
    }
  }
  return { flows, links };
}

/** Puts back what is not there; flows first, for a DHCP client may need them. Gives what could not be. */
export async function putBack(
  { flows, links }: Kept,
  { places, dhcp }: StateContext,
  call: CallOptions,
): Promise<Lost[]> {
  const left = deadlineOf(call);
  const lost: Lost[] = [];
  const attempt = async (changes: readonly Change[], act: () => Promise<unknown>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      lost.push({ changes, why: toArcaError(error).message });
    }
  };
  for (const [bridge, own] of flows) {
    await attempt(
      own.map((flow) => lossOfFlow(bridge, flow)),
      () => applyFlows(places, bridge, own, left()),
    );
  }
  if (links.length === 0) return lost;
  const none: ActualLinks = { links: new Map(), dhcp: new Map() };
  await attempt(stepsTo(links, none).map(lossOf), async () => {
    const steps = stepsTo(links, await readLinks(dhcp, left()));
    for (const step of steps) await attempt([lossOf(step)], () => applyLink(step, dhcp, left()));
  });
  return lost;
}

/** Clients of other devices are none of our business here. */
function stepsTo(links: readonly DesiredLink[], actual: ActualLinks): readonly LinkStep[] {
  const ours = new Set(links.flatMap(({ device, dhcp }) => (dhcp ? [device] : [])));
  const dhcp = new Map([...actual.dhcp].filter(([device]) => ours.has(device)));
  return planLinks(links, { ...actual, dhcp }, new Map()).steps;
}

function lossOfFlow(bridge: string, { text }: DesiredFlow): Change {
  return { kind: 'delete', object: 'flow', path: `${bridgePath(bridge)}, flow ${text}`, fields: [] };
}

/** What it means that a step back was not done. */
function lossOf(step: LinkStep): Change {
  const change = changeOf(step);
  return change.kind === 'create' ? { ...change, kind: 'delete' } : change;
}

/** Bridges that vswitchd makes anew or removes, and those of which it does that with a device. Pure. */
function bridgesRemade(edits: readonly Edit[], { bridges }: ActualDatabase): readonly ActualBridge[] {
  const touched = new Set<string>();
  for (const edit of edits) {
    if (edit.kind === 'delete-bridge') touched.add(edit.bridge.uuid);
    if (edit.kind === 'delete-port') touched.add(edit.uuid);
    if (edit.kind !== 'update') continue;
    if (edit.columns.some(({ column }) => column === 'datapath_type' || column === 'type')) touched.add(edit.uuid);
  }
  return bridges.filter(
    ({ uuid, ports }) =>
      touched.has(uuid) ||
      ports.some((port) => touched.has(port.uuid) || port.interfaces.some((iface) => touched.has(iface.uuid))),
  );
}

function devicesOf({ ports }: ActualBridge): string[] {
  return ports.flatMap(({ interfaces }) =>
    interfaces.filter(({ type }) => type === 'internal').map(({ name }) => name),
  );
}
