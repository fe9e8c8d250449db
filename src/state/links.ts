/**
 * Addresses and settings of network devices, by ip(8), in the network namespace of this process. Addresses that we did
 * not set are never removed: what we set is remembered by the caller, as text (`encodeRemembered`), beside the bridge.
 */
import { ArcaError } from '../errors.js';
import { CommandError, run } from '../exec.js';
import { type CallOptions, deadlineOf } from '../ovsdb/json-rpc.js';
import { readAddress } from './addresses.js';
import { type DhcpPlace, readDhcpClients, startDhcp, stopDhcp } from './dhcp.js';
import type { DesiredLink } from './model.js';

/** `external_ids` of a Bridge row (of the Open_vSwitch row for devices of no bridge): what we set on its devices. */
export const LINKS_KEY = 'arca-state-links';

/** Addresses that we set, by device. */
export type Remembered = ReadonlyMap<string, readonly string[]>;

export interface ActualLink {
  readonly device: string;
  readonly isUp: boolean;
  readonly mtu: number;
  /** As `10.0.0.1/24`, canonical; without those that the kernel makes for the link itself. */
  readonly addresses: readonly string[];
}

export interface ActualLinks {
  /** All devices of the namespace. */
  readonly links: ReadonlyMap<string, ActualLink>;
  /** Devices on which a DHCP client of ours runs, with the address of the lease. */
  readonly dhcp: ReadonlyMap<string, string | undefined>;
}

export type LinkStep =
  | { readonly kind: 'stop-dhcp'; readonly device: string }
  | { readonly kind: 'remove-address'; readonly device: string; readonly address: string }
  | { readonly kind: 'set-mtu'; readonly device: string; readonly from: number | undefined; readonly to: number }
  | { readonly kind: 'set-up'; readonly device: string }
  | { readonly kind: 'set-down'; readonly device: string }
  | { readonly kind: 'add-address'; readonly device: string; readonly address: string }
  | { readonly kind: 'start-dhcp'; readonly device: string };

export interface LinkPlan {
  /** In the order in which they are carried out. */
  readonly steps: readonly LinkStep[];
  /** Wanted devices that are not there. Their steps are those of a new device. */
  readonly missing: readonly string[];
  readonly warnings: readonly string[];
  /** What is to be remembered when all steps are done; devices on which we set nothing are not in it. */
  readonly remember: Remembered;
}

/** Rejects with `command-missing`, `command-failed` or `timed-out`. */
export async function readLinks(place: DhcpPlace, call: CallOptions): Promise<ActualLinks> {
  const left = deadlineOf(call);
  const text = await ip(['-json', 'address', 'show'], 'read the network devices', left());
  const links = readAddressShow(text).map((link) => [link.device, link] as const);
  return { links: new Map(links), dhcp: await readDhcpClients(place) };
}

/** Pure. */
export function planLinks(desired: readonly DesiredLink[], actual: ActualLinks, remembered: Remembered): LinkPlan {
  const wanted = new Map(desired.map((link) => [link.device, link]));
  const steps: LinkStep[] = [];
  for (const device of actual.dhcp.keys()) {
    if (wanted.get(device)?.dhcp !== true) steps.push({ kind: 'stop-dhcp', device });
  }
  const remember = new Map<string, readonly string[]>();
  for (const [device, ours] of remembered) {
    const [keep, is] = [wanted.get(device)?.addresses ?? [], actual.links.get(device)?.addresses ?? []];
    for (const address of ours) {
      if (keep.includes(address)) remember.set(device, [...(remember.get(device) ?? []), address]);
      else if (is.includes(address)) steps.push({ kind: 'remove-address', device, address });
    }
  }
  for (const link of desired) {
    const { device } = link;
    const additions = stepsOf(link, actual);
    steps.push(...additions);
    const set = additions.flatMap((step) => (step.kind === 'add-address' ? [step.address] : []));
    const all = [...new Set([...(remember.get(device) ?? []), ...set])];
    if (all.length > 0) remember.set(device, all);
  }
  const missing = desired.map(({ device }) => device).filter((device) => !actual.links.has(device));
  return { steps, missing, warnings: twinWarnings(steps, actual), remember };
}

function stepsOf({ device, up, mtu, addresses, dhcp }: DesiredLink, actual: ActualLinks): LinkStep[] {
  const is = actual.links.get(device);
  const steps: LinkStep[] = [];
  if (mtu !== undefined && mtu !== is?.mtu) steps.push({ kind: 'set-mtu', device, from: is?.mtu, to: mtu });
  if (up !== (is?.isUp ?? false)) steps.push({ kind: up ? 'set-up' : 'set-down', device });
  for (const address of addresses) {
    if (!is?.addresses.includes(address)) steps.push({ kind: 'add-address', device, address });
  }
  // A lease that is not on the device: it has run out, or OVS made the device again. The client is started anew.
  const lease = actual.dhcp.get(device);
  if (dhcp && (lease === undefined || !is?.addresses.includes(lease))) steps.push({ kind: 'start-dhcp', device });
  return steps;
}

/** Addresses that are to be added, and that another device of the host has and keeps. */
function twinWarnings(steps: readonly LinkStep[], { links }: ActualLinks): string[] {
  const warnings: string[] = [];
  const isRemoved = (device: string, address: string): boolean =>
    steps.some((step) => step.kind === 'remove-address' && step.device === device && step.address === address);
  for (const step of steps) {
    if (step.kind !== 'add-address') continue;
    for (const { device, addresses } of links.values()) {
      const twin = addresses.find((address) => hostOf(address) === hostOf(step.address) && !isRemoved(device, address));
      if (twin === undefined || device === step.device) continue;
      warnings.push(
        `${step.address} is to be set on ${step.device}, and ${device} has ${twin}: neither works reliably`,
      );
    }
  }
  return warnings;
}

/** Gives what takes it back. Rejects with `command-missing`, `command-failed` or `timed-out`. */
export async function applyLink(
  step: LinkStep,
  place: DhcpPlace,
  call: CallOptions,
): Promise<(call: CallOptions) => Promise<void>> {
  const { device } = step;
  switch (step.kind) {
    case 'set-up':
      await setUp(device, true, call);
      return (undo) => setUp(device, false, undo);
    case 'set-down': {
      const left = deadlineOf(call);
      // IPv6 addresses go with it.
      const before = await addressesOf(device, left());
      await setUp(device, false, left());
      return async (undo) => {
        const leftToUndo = deadlineOf(undo);
        await setUp(device, true, leftToUndo());
        await addLost(device, before, leftToUndo());
      };
    }
    case 'set-mtu': {
      await ip(['link', 'set', 'dev', device, 'mtu', String(step.to)], linkStepText(step), call);
      const { from } = step;
      return async (undo) => {
        if (from !== undefined) await applyLink({ kind: 'set-mtu', device, from: step.to, to: from }, place, undo);
      };
    }
    case 'add-address':
      await addAddress(device, step.address, linkStepText(step), call);
      return (undo) => removeAddress({ kind: 'remove-address', device, address: step.address }, undo);
    case 'remove-address':
      await removeAddress(step, call);
      return (undo) => addAddress(device, step.address, `set ${step.address} on ${device} again`, undo);
    case 'start-dhcp':
      await startDhcp(device, place, call);
      return (undo) => stopDhcp(device, place, undo);
    case 'stop-dhcp':
      await stopDhcp(device, place, call);
      return (undo) => startDhcp(device, place, undo);
  }
}

/** Completes "can not ...". */
export function linkStepText(step: LinkStep): string {
  const { device } = step;
  switch (step.kind) {
    case 'set-up':
      return `set ${device} up`;
    case 'set-down':
      return `set ${device} down`;
    case 'set-mtu':
      return `set the MTU of ${device} to ${step.to}`;
    case 'add-address':
      return `add ${step.address} to ${device}`;
    case 'remove-address':
      return `remove ${step.address} from ${device}`;
    case 'start-dhcp':
      return `start a DHCP client on ${device}`;
    case 'stop-dhcp':
      return `stop the DHCP client on ${device}`;
  }
}

async function addAddress(device: string, address: string, doing: string, call: CallOptions): Promise<void> {
  // The kernel sets no broadcast address by itself.
  const broadcast = address.includes(':') ? [] : ['broadcast', '+'];
  await ip(['address', 'add', address, ...broadcast, 'dev', device], doing, call);
}

/**
 * The kernel may remove more: with the first IPv4 address of a subnet go all others of that subnet (unless the sysctl
 * promote_secondaries is set), and they may be somebody else's. They are set again.
 */
async function removeAddress(step: LinkStep & { readonly kind: 'remove-address' }, call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const { device, address } = step;
  const before = await addressesOf(device, left());
  // Somebody was faster.
  if (!before.includes(address)) return;
  await ip(['address', 'del', address, 'dev', device], linkStepText(step), left());
  await addLost(
    device,
    before.filter((other) => other !== address),
    left(),
  );
}

async function setUp(device: string, isUp: boolean, call: CallOptions): Promise<void> {
  const to = isUp ? 'up' : 'down';
  await ip(['link', 'set', 'dev', device, to], `set ${device} ${to}`, call);
}

async function addressesOf(device: string, call: CallOptions): Promise<readonly string[]> {
  const text = await ip(['-json', 'address', 'show', 'dev', device], `read the addresses of ${device}`, call);
  return readAddressShow(text)[0]?.addresses ?? [];
}

async function addLost(device: string, before: readonly string[], call: CallOptions): Promise<void> {
  const left = deadlineOf(call);
  const after = await addressesOf(device, left());
  for (const address of before.filter((other) => !after.includes(other))) {
    await addAddress(device, address, `set ${address} on ${device} again`, left());
  }
}

/** `in0=10.0.0.1/24,fd00::1/64;in1=10.0.1.1/24`; nothing: an empty text. */
export function encodeRemembered(remembered: Remembered): string {
  return [...remembered]
    .filter(([, addresses]) => addresses.length > 0)
    .map(([device, addresses]) => `${device}=${addresses.join(',')}`)
    .join(';');
}

/** What is not of our writing is left out: we remove nothing by a text that we do not understand. */
export function decodeRemembered(text: string): Remembered {
  const remembered = new Map<string, readonly string[]>();
  for (const part of text.split(';')) {
    const [, device, list = ''] = /^([A-Za-z0-9_][A-Za-z0-9_.-]*)=(.+)$/.exec(part) ?? [];
    const addresses = list.split(',').filter((address) => canonical(address) === address);
    if (device !== undefined && addresses.length > 0) remembered.set(device, addresses);
  }
  return remembered;
}

/** What `ip -json address show` prints, as far as it is looked at. */
interface AddressShow {
  readonly ifname?: string;
  readonly flags?: readonly string[];
  readonly mtu?: number;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number; readonly scope?: string }[];
}

/** Pure. */
export function readAddressShow(text: string): ActualLink[] {
  const entries = JSON.parse(text === '' ? '[]' : text) as readonly AddressShow[];
  return entries.flatMap(({ ifname, flags = [], mtu = 0, addr_info = [] }) => {
    if (ifname === undefined) return [];
    const addresses = addr_info
      .filter(({ scope }) => scope !== 'link')
      .flatMap(({ local, prefixlen }) => canonical(`${local}/${prefixlen}`) ?? []);
    return [{ device: ifname, isUp: flags.includes('UP'), mtu, addresses }];
  });
}

function canonical(text: string): string | undefined {
  const address = readAddress(text);
  return 'problem' in address ? undefined : address.text;
}

function hostOf(address: string): string {
  return address.split('/')[0] ?? address;
}

/** `doing` completes "can not ...". */
async function ip(args: readonly string[], doing: string, call: CallOptions): Promise<string> {
  try {
    return (await run('ip', args, call)).stdout;
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    if (cause.failure === 'not-found') {
      throw new ArcaError('command-missing', 'ip is not installed (Debian: iproute2)', { cause });
    }
    const isTime = cause.failure === 'timed-out' || cause.failure === 'aborted';
    const why = cause.output.stderr.trim() || cause.message;
    throw new ArcaError(isTime ? 'timed-out' : 'command-failed', `can not ${doing}: ${why}`, { cause });
  }
}
