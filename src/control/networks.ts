/**
 * Networks: logical switches with a VLAN tag. Every decision is a pure function of what the northbound database holds;
 * docs/northbound.md says how it is kept true while others write.
 */
import { ArcaError } from '../errors.js';
import {
  CONTROL_OWNER,
  DNS_KEY,
  EXCLUDE_KEY,
  GATEWAY_KEY,
  MAC_ONLY_KEY,
  MTU_KEY,
  OWNER_KEY,
  SUBNET_KEY,
  TAG_KEY,
} from '../ovn/names.js';
import { LAST_TAG, parseTag } from '../ovn/network-tag.js';
import type { Northbound, Plan } from '../ovn/northbound.js';
import type { LogicalSwitchSpec, LogicalSwitchUpdate } from '../ovn/northbound-operations.js';
import type { LogicalSwitchView, NorthboundView } from '../ovn/northbound-view.js';
import { contains, overlaps, readCidr, readIpv4 } from './ipv4.js';
import type { Made, Network, NetworkSpec } from './model.js';
import { type CheckedNetworkSpec, checkNetworkSpec, checkVlan, DEFAULT_MTU } from './specs.js';

/** 1 to 99 are left to those who number by hand; 4095 is reserved by IEEE 802.1Q. */
export const FIRST_ALLOCATED_TAG = 100;

export interface Networks {
  list(): Promise<readonly Network[]>;
  get(name: string): Promise<Network>;
  create(spec: NetworkSpec): Promise<Made<Network>>;
  adopt(name: string, spec: { readonly vlan?: number | undefined }): Promise<Network>;
  /** Rejects with `network-busy` while it has ports: to force is the service's work. */
  remove(name: string): Promise<void>;
}

export interface NetworksOptions {
  readonly northbound: Northbound;
  /** Of each call. */
  readonly timeoutMs: number;
}

export function createNetworks({ northbound, timeoutMs }: NetworksOptions): Networks {
  const call = { timeoutMs };
  return {
    async list() {
      const view = await northbound.currentView(call);
      return readNetworks(view);
    },

    async get(name) {
      const view = await northbound.currentView(call);
      return readNetwork(view, findSwitch(view, name));
    },

    async create(spec) {
      const checked = checkNetworkSpec(spec);
      const { created, row } = await northbound.createSwitch((view) => planNetwork(view, checked), call);
      return { created, value: readNetwork(await northbound.currentView(call), row) };
    },

    async adopt(name, { vlan }) {
      const checked = vlan === undefined ? undefined : checkVlan(vlan);
      const row = await northbound.updateSwitch((view) => planAdoption(view, name, checked), call);
      return readNetwork(await northbound.currentView(call), row);
    },

    async remove(name) {
      await northbound.removeSwitch((view) => planRemoval(view, name), call);
    },
  };
}

/** In the order of their names. */
export function readNetworks(view: NorthboundView): readonly Network[] {
  const counts = attachmentCounts(view);
  return view.switches
    .map((row) => networkOf(row, counts.get(row.uuid) ?? 0))
    .sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
}

export function readNetwork(view: NorthboundView, row: LogicalSwitchView): Network {
  return networkOf(row, attachmentCounts(view).get(row.uuid) ?? 0);
}

function attachmentCounts({ ports }: NorthboundView): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { switchUuid, isOurs } of ports) {
    if (isOurs) counts.set(switchUuid, (counts.get(switchUuid) ?? 0) + 1);
  }
  return counts;
}

/** What is not valid in a row that somebody else wrote is shown as not there. */
function networkOf({ uuid, name, externalIds, otherConfig, isOurs }: LogicalSwitchView, attachments: number): Network {
  const subnet = otherConfig[SUBNET_KEY];
  const gateway = otherConfig[GATEWAY_KEY];
  return {
    name,
    id: uuid,
    vlan: parseTag(externalIds[TAG_KEY] ?? '') ?? null,
    subnet: subnet !== undefined && readCidr(subnet) !== undefined ? subnet : null,
    gateway: gateway !== undefined && readIpv4(gateway) !== undefined ? gateway : null,
    dns: externalIds[DNS_KEY]?.split(',').filter(Boolean) ?? [],
    mtu: Number.parseInt(externalIds[MTU_KEY] ?? '', 10) || DEFAULT_MTU,
    owner: isOurs ? 'arca' : 'foreign',
    attachments,
  };
}

/** Throws `network-unknown` or `network-ambiguous`. */
export function findSwitch({ switches }: NorthboundView, name: string): LogicalSwitchView {
  const rows = switches.filter((row) => row.name === name);
  const [row] = rows;
  if (row === undefined) throw new ArcaError('network-unknown', `there is no network ${JSON.stringify(name)}`);
  if (rows.length === 1) return row;
  throw new ArcaError(
    'network-ambiguous',
    `${rows.length} logical switches are named ${JSON.stringify(name)}; remove all but one: ovn-nbctl ls-del UUID`,
    { details: { ids: rows.map(({ uuid }) => uuid) } },
  );
}

/**
 * The network of that name, if containers can be attached to it: then `vlan` is a number. Throws, beside what
 * `findSwitch` does, `network-foreign` for one without our mark, `tag-missing` and `tag-invalid`.
 */
export function requireAttachable(view: NorthboundView, name: string): Network & { readonly vlan: number } {
  const row = findSwitch(view, name);
  const network = readNetwork(view, row);
  if (!row.isOurs) throw foreign(name);
  if (network.vlan !== null) return { ...network, vlan: network.vlan };
  const tag = row.externalIds[TAG_KEY];
  const mend = `ovn-nbctl set Logical_Switch ${row.uuid} external_ids:${TAG_KEY}=N`;
  throw tag === undefined
    ? new ArcaError('tag-missing', `network ${JSON.stringify(name)} has lost its VLAN tag; set it: ${mend}`)
    : new ArcaError('tag-invalid', `${JSON.stringify(tag)} of network ${JSON.stringify(name)} is no VLAN tag: ${mend}`);
}

/** Pure: what is to be written for a network, or the switch that is so already. Throws what `create` rejects with. */
export function planNetwork(
  view: NorthboundView,
  spec: CheckedNetworkSpec,
): Plan<LogicalSwitchSpec, LogicalSwitchView> {
  if (view.switches.some(({ name }) => name === spec.name)) {
    const row = findSwitch(view, spec.name);
    if (!row.isOurs) throw foreign(spec.name);
    const differences = differencesOf(readNetwork(view, row), spec);
    if (differences.length === 0) return { keep: row };
    throw conflict(spec.name, differences);
  }
  checkOverlap(view, spec);
  return { write: switchSpec(spec, chooseTag(view, spec.vlan)) };
}

function switchSpec({ name, subnet, gateway, dns, mtu }: CheckedNetworkSpec, vlan: number): LogicalSwitchSpec {
  const externalIds = {
    [TAG_KEY]: String(vlan),
    [MTU_KEY]: String(mtu),
    ...(dns.length > 0 && { [DNS_KEY]: dns.join(',') }),
  };
  if (subnet === undefined) return { name, externalIds, otherConfig: { [MAC_ONLY_KEY]: 'true' } };
  const range = readCidr(subnet);
  // northd gives away what it is not told to leave. The first address of a subnet it leaves by itself.
  const excluded = [gateway, ...dns].filter((text): text is string => {
    const address = text === undefined ? undefined : readIpv4(text);
    return range !== undefined && address !== undefined && contains(range, address);
  });
  return {
    name,
    externalIds,
    otherConfig: {
      [SUBNET_KEY]: subnet,
      ...(gateway !== undefined && { [GATEWAY_KEY]: gateway }),
      ...(excluded.length > 0 && { [EXCLUDE_KEY]: [...new Set(excluded)].join(' ') }),
    },
  };
}

interface Difference {
  readonly property: string;
  readonly existing: unknown;
  readonly wanted: unknown;
}

/** A tag that was left open may be any. All else that is left open is nothing, or its default. */
function differencesOf(existing: Network, wanted: CheckedNetworkSpec): readonly Difference[] {
  const properties = {
    vlan: [existing.vlan, wanted.vlan ?? existing.vlan],
    subnet: [existing.subnet, wanted.subnet ?? null],
    gateway: [existing.gateway, wanted.gateway ?? null],
    dns: [existing.dns, wanted.dns],
    mtu: [existing.mtu, wanted.mtu],
  };
  return Object.entries(properties)
    .filter(([, [is, should]]) => JSON.stringify(is) !== JSON.stringify(should))
    .map(([property, [is, should]]) => ({ property, existing: is, wanted: should }));
}

function conflict(name: string, differences: readonly Difference[]): ArcaError {
  const said = differences.map(
    ({ property, existing, wanted }) => `${property} is ${JSON.stringify(existing)}, not ${JSON.stringify(wanted)}`,
  );
  return new ArcaError('network-conflict', `network ${JSON.stringify(name)} exists, and its ${said.join('; its ')}`, {
    details: { differences },
  });
}

function foreign(name: string): ArcaError {
  return new ArcaError(
    'network-foreign',
    `logical switch ${JSON.stringify(name)} was made by somebody else; take it over first: arca network adopt ${name}`,
  );
}

function checkOverlap({ switches }: NorthboundView, { name, subnet }: CheckedNetworkSpec): void {
  const wanted = subnet === undefined ? undefined : readCidr(subnet);
  if (wanted === undefined) return;
  for (const row of switches) {
    const other = readCidr(row.otherConfig[SUBNET_KEY] ?? '');
    if (other === undefined || !overlaps(wanted, other)) continue;
    throw new ArcaError(
      'subnet-overlap',
      `subnet ${subnet} of ${JSON.stringify(name)} overlaps ${row.otherConfig[SUBNET_KEY]} of network ${JSON.stringify(row.name)}`,
      { details: { network: row.name, subnet: row.otherConfig[SUBNET_KEY] } },
    );
  }
}

/** The tag that is wanted, or the lowest that no switch has, ours or not. Throws `tag-in-use` or `tags-exhausted`. */
export function chooseTag({ switches }: Pick<NorthboundView, 'switches'>, wanted: number | undefined): number {
  const holders = new Map<number, string>();
  for (const { name, externalIds } of switches) {
    const tag = parseTag(externalIds[TAG_KEY] ?? '');
    if (tag !== undefined) holders.set(tag, name);
  }
  if (wanted !== undefined) {
    const holder = holders.get(wanted);
    if (holder === undefined) return wanted;
    throw new ArcaError('tag-in-use', `network ${JSON.stringify(holder)} has VLAN tag ${wanted}`, {
      details: { network: holder, vlan: wanted },
    });
  }
  for (let tag = FIRST_ALLOCATED_TAG; tag <= LAST_TAG; tag++) {
    if (!holders.has(tag)) return tag;
  }
  throw new ArcaError(
    'tags-exhausted',
    `every VLAN tag from ${FIRST_ALLOCATED_TAG} to ${LAST_TAG} is in use; remove a network that is not needed, or give ` +
      `one of 1 to ${FIRST_ALLOCATED_TAG - 1} by hand`,
  );
}

/** Pure: our mark, and a tag for a switch that has none. */
export function planAdoption(
  view: NorthboundView,
  name: string,
  vlan: number | undefined,
): Plan<LogicalSwitchUpdate, LogicalSwitchView> {
  const row = findSwitch(view, name);
  const written = row.externalIds[TAG_KEY];
  const tag = parseTag(written ?? '');
  if (tag !== undefined && vlan !== undefined && vlan !== tag) {
    throw conflict(name, [{ property: 'vlan', existing: tag, wanted: vlan }]);
  }
  if (row.isOurs && tag !== undefined) return { keep: row };
  if (tag === undefined && written !== undefined && vlan === undefined) {
    throw new ArcaError(
      'tag-invalid',
      `logical switch ${JSON.stringify(name)} has external_ids:${TAG_KEY}=${JSON.stringify(written)}, which is no VLAN ` +
        'tag; give the one that it should have instead',
    );
  }
  const others = { switches: view.switches.filter(({ uuid }) => uuid !== row.uuid) };
  const chosen = chooseTag(others, tag ?? vlan);
  const drawsAddresses = row.otherConfig[SUBNET_KEY] !== undefined || row.otherConfig['ipv6_prefix'] !== undefined;
  return {
    write: {
      row,
      externalIds: { [OWNER_KEY]: CONTROL_OWNER, [TAG_KEY]: String(chosen) },
      otherConfig: drawsAddresses ? {} : { [MAC_ONLY_KEY]: 'true' },
    },
  };
}

/** Pure: the switch to remove. Throws `network-foreign` or `network-busy`, with the names of what is attached. */
export function planRemoval(view: NorthboundView, name: string): LogicalSwitchView {
  const row = findSwitch(view, name);
  if (!row.isOurs) throw foreign(name);
  if (row.ports.length === 0) return row;
  const ports = view.ports.filter(({ switchUuid }) => switchUuid === row.uuid);
  const ours = ports.filter(({ isOurs }) => isOurs).map((port) => port.name);
  const others = ports.filter(({ isOurs }) => !isOurs).map((port) => port.name);
  const said = [
    ...(ours.length > 0 ? [`${ours.length} attached: ${sample(ours)}`] : []),
    ...(others.length > 0 ? [`${others.length} logical ports of somebody else: ${sample(others)}`] : []),
  ];
  throw new ArcaError('network-busy', `network ${JSON.stringify(name)} is in use (${said.join('; ')})`, {
    details: { logicalPorts: ours, foreignPorts: others },
  });
}

function sample(names: readonly string[]): string {
  return names.length > 5 ? `${names.slice(0, 5).join(', ')}, ...` : names.join(', ');
}
