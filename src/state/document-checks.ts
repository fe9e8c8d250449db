/** What the parts of a state file mean, alone and beside each other; makes the model of it. Pure. */
import { type Address, hostProblem, overlap, readAddress } from './addresses.js';
import type { Finding } from './document.js';
import type { JsonPath } from './document-json.js';
import type { DesiredBridge, DesiredFlow, DesiredLink, DesiredPort, DesiredState, OvsdbSettings } from './model.js';
import { INTEGRATION_BRIDGE } from './plan-database.js';
import type { BridgeEntry, InterfaceEntry, PortEntry, PortOrName, StateFile } from './schema.js';

type NetworkEntry = StateFile['plugins']['network'];

export interface CheckedNetwork {
  /** Of use when there are no errors. */
  readonly state: DesiredState;
  readonly errors: readonly Finding[];
  readonly warnings: readonly Finding[];
}

const TOP = ['plugins', 'network'] as const;
const DEFAULT_TIMEOUT_SECONDS = 30;
/** As src/ovn/names.ts calls the TAPs of relays: by vsock port, or by a hash. */
const RELAY_TAP = /^tap(\d+|[0-9a-f]{8})$/;
/** Folders of /proc/sys/net/ipv6/conf beside those of devices, and what vswitchd makes for itself. */
const RESERVED = new Set(['all', 'default', 'ovs-system', 'ovs-netdev']);
const OUR_MARKS = 'arca-';

export function checkNetwork(network: NetworkEntry, lineOf: (path: JsonPath) => number): CheckedNetwork {
  const errors: Finding[] = [];
  const warnings: Finding[] = [];
  const context: Context = {
    lineOf,
    error: (path, message) => errors.push({ path, at: 'value', message }),
    warn: (path, message) => warnings.push({ path, at: 'value', message }),
    names: new Map(),
    links: new Map(),
  };
  const entries = network.bridges ?? [];
  // Before the ports: a port may not have the name of a bridge that comes later.
  for (const [index, { name }] of entries.entries()) claimBridge(context, name, [...TOP, 'bridges', index, 'name']);
  const bridges = entries.map((entry, index) => checkBridge(context, entry, [...TOP, 'bridges', index]));
  const madeByOvs = new Set(bridges.flatMap(internalNames));
  for (const [index, entry] of (network.interfaces ?? []).entries()) {
    checkInterface(context, entry, [...TOP, 'interfaces', index], madeByOvs);
  }
  checkOverlaps(context);
  const links = [...context.links.values()].map(({ link }) => link);
  return { state: { bridges, links, ovsdb: ovsdbSettings(network.ovsdb) }, errors, warnings };
}

function internalNames({ name, ports }: DesiredBridge): string[] {
  return [name, ...ports.filter(({ type }) => type === 'internal').map((port) => port.name)];
}

interface Context {
  lineOf(path: JsonPath): number;
  error(path: JsonPath, message: string): void;
  warn(path: JsonPath, message: string): void;
  /** Of bridges and ports, with the place where each was named first, and the bridge that it belongs to. */
  readonly names: Map<string, { readonly path: JsonPath; readonly bridge: string; readonly isBridge: boolean }>;
  readonly links: Map<string, CheckedLink>;
}

interface CheckedLink {
  readonly link: DesiredLink;
  readonly addresses: readonly { readonly address: Address; readonly path: JsonPath }[];
  /** What gives it addresses or DHCP. */
  readonly source: JsonPath | undefined;
  /** It stands among the interfaces. */
  readonly isInterface: boolean;
}

function claimBridge(context: Context, name: string, path: JsonPath): void {
  if (name === INTEGRATION_BRIDGE) {
    context.error(path, `${name} belongs to the relays; give the bridge another name`);
  }
  checkDeviceName(context, name, path);
  claim(context, name, path, name, true);
}

function checkDeviceName({ error }: Context, name: string, path: JsonPath): void {
  if (RESERVED.has(name)) error(path, `${JSON.stringify(name)} means something else to the kernel or to OVS`);
  if (RELAY_TAP.test(name)) error(path, `${name} is a name that relays give their TAPs; take another`);
}

function claim(context: Context, name: string, path: JsonPath, bridge: string, isBridge: boolean): void {
  const twin = context.names.get(name);
  if (twin === undefined) {
    context.names.set(name, { path, bridge, isBridge });
    return;
  }
  const line = context.lineOf(twin.path);
  if (!twin.isBridge) context.error(path, `${name} is a port of bridge ${twin.bridge} already (line ${line})`);
  else if (isBridge) context.error(path, `there is a bridge ${name} already (line ${line})`);
  else if (twin.bridge === bridge) {
    context.error(path, `OVS makes the port ${name} of bridge ${name} by itself; leave it out`);
  } else context.error(path, `${name} is the name of a bridge (line ${line})`);
}

function checkBridge(context: Context, entry: BridgeEntry, path: JsonPath): DesiredBridge {
  const { name } = entry;
  const outer = (entry.ports ?? []).map((port, index) => checkPort(context, name, port, [...path, 'ports', index]));
  const internal = (entry.internal_ports ?? []).map((port, index) => {
    const portPath = [...path, 'internal_ports', index];
    const { type, ...checked } = checkPort(context, name, port, portPath);
    if (type !== '' && type !== 'internal') {
      context.error([...portPath, 'type'], `an internal port has the type internal, not ${type}; move it to ports`);
    }
    return { ...checked, type: 'internal' };
  });
  const [first] = internal;
  if (entry.vlan !== undefined && first !== undefined) checkCarrierTag(context, first, entry.vlan, path);
  const carrier = first === undefined ? undefined : { ...first, tag: entry.vlan ?? first.tag };
  const ports = [...outer, ...(carrier === undefined ? [] : [carrier, ...internal.slice(1)])];

  const device = first?.name ?? name;
  addLink(context, { device, bridge: name, mtu: undefined, up: true }, entry, path);
  // A port that is down forwards nothing; tunnels and patch ports have no device.
  for (const port of ports) {
    if (port.type !== '' && port.type !== 'internal') continue;
    if (port.name !== device) addLink(context, { device: port.name, bridge: name, mtu: undefined, up: true }, {}, path);
  }
  return {
    name,
    datapathType: entry.datapath_type ?? 'system',
    ports,
    tag: first === undefined ? entry.vlan : undefined,
    flows: checkRules(context, entry, path),
  };
}

function checkPort(context: Context, bridge: string, entry: PortOrName, path: JsonPath): DesiredPort {
  const port: PortEntry = typeof entry === 'string' ? { name: entry } : entry;
  const { name, tag, trunks = [], type = '', options = {}, external_ids: externalIds = {} } = port;
  const namePath = typeof entry === 'string' ? path : [...path, 'name'];
  checkDeviceName(context, name, namePath);
  if (name === 'lo') context.error(namePath, 'the loopback device is no port of a bridge');
  claim(context, name, namePath, bridge, false);
  if (tag !== undefined && trunks.length > 0) {
    context.error(
      [...path, 'trunks'],
      `tag ${tag} and trunks do not go together: an access port has a tag, a trunk has trunks`,
    );
  }
  for (const [index, trunk] of trunks.entries()) {
    if (trunks.indexOf(trunk) !== index) context.error([...path, 'trunks', index], `${trunk} stands twice`);
  }
  if (type === 'patch' && !options['peer']) {
    context.error([...path, 'options'], 'a patch port wants its other end: options.peer, the name of a patch port');
  }
  for (const key of Object.keys(externalIds).filter((key) => key.startsWith(OUR_MARKS))) {
    context.error([...path, 'external_ids', key], `marks that begin with ${OUR_MARKS} are arca's own`);
  }
  return {
    name,
    // To OVS both mean a device that is there by itself.
    type: type === 'system' ? '' : type,
    options,
    tag,
    trunks: [...trunks].sort((one, other) => one - other),
    externalIds,
  };
}

/** `vlan` of a bridge is the tag of the internal port that carries the address. */
function checkCarrierTag(context: Context, { name, tag, trunks }: DesiredPort, vlan: number, path: JsonPath): void {
  if (tag !== undefined && tag !== vlan) {
    context.error(
      [...path, 'vlan'],
      `${vlan} is the VLAN of internal port ${name}, which has tag ${tag}; give one of them`,
    );
  }
  if (trunks.length > 0) {
    context.error(
      [...path, 'vlan'],
      `${vlan} would be the tag of internal port ${name}, which has trunks; leave one out`,
    );
  }
}

function checkInterface(context: Context, entry: InterfaceEntry, path: JsonPath, madeByOvs: ReadonlySet<string>): void {
  const { name, up = true, mtu } = entry;
  const namePath = [...path, 'name'];
  checkDeviceName(context, name, namePath);
  if (name === INTEGRATION_BRIDGE) context.error(namePath, `${name} belongs to the relays`);
  if (mtu !== undefined && madeByOvs.has(name)) {
    context.error([...path, 'mtu'], `OVS gives ${name} the least MTU of the other ports of its bridge; leave it out`);
  }
  addLink(context, { device: name, bridge: context.names.get(name)?.bridge, mtu, up }, entry, path);
}

interface AddressEntry {
  readonly address?: string | string[];
  readonly dhcp?: boolean;
}

/** A device of a bridge can be named among the interfaces, too, as long as only one of them gives it addresses. */
function addLink(
  context: Context,
  base: Pick<DesiredLink, 'device' | 'bridge' | 'mtu' | 'up'>,
  entry: AddressEntry & { readonly name?: string },
  path: JsonPath,
): void {
  const isInterface = path[TOP.length] === 'interfaces';
  const before = context.links.get(base.device);
  const addresses = checkAddresses(context, entry, path);
  const dhcp = entry.dhcp === true;
  const gives = addresses.length > 0 || dhcp;
  // A bridge without internal ports that carries nothing: its own device is left as it is.
  if (!gives && !isInterface && base.device === base.bridge) return;
  if (before !== undefined && isInterface && before.isInterface) {
    context.error([...path, 'name'], `${base.device} stands among the interfaces already`);
    return;
  }
  if (before?.source !== undefined && gives) {
    const line = context.lineOf(before.source);
    context.error([...path, 'name'], `${base.device} gets its address in line ${line} already; give it in one place`);
    return;
  }
  const kept =
    gives || before === undefined ? { addresses, dhcp } : { addresses: before.addresses, dhcp: before.link.dhcp };
  if (kept.dhcp && !base.up) {
    context.error([...path, 'up'], 'a device that is down gets no lease by dhcp: leave one of the two out');
  }
  context.links.set(base.device, {
    link: { ...base, addresses: kept.addresses.map(({ address }) => address.text), dhcp: kept.dhcp },
    addresses: kept.addresses,
    source: gives ? path : before?.source,
    isInterface,
  });
}

function checkAddresses(context: Context, { address, dhcp }: AddressEntry, path: JsonPath): CheckedLink['addresses'] {
  const texts = typeof address === 'string' ? [address] : (address ?? []);
  const found: { readonly address: Address; readonly path: JsonPath }[] = [];
  for (const [index, text] of texts.entries()) {
    const place = typeof address === 'string' ? [...path, 'address'] : [...path, 'address', index];
    const read = readAddress(text);
    const problem = 'problem' in read ? read.problem : hostProblem(read);
    if (problem !== undefined) context.error(place, `${JSON.stringify(text)} ${problem}`);
    if ('problem' in read || problem !== undefined) continue;
    if (found.some((other) => other.address.bits === read.bits)) context.error(place, `${read.text} stands twice`);
    if (dhcp === true && read.family === 4) {
      context.error(place, 'an IPv4 address and dhcp do not go together: DHCP clients remove what they did not set');
    }
    found.push({ address: read, path: place });
  }
  return found;
}

/** The kernel takes an address on two devices, and answers for both of them in ways that nobody expects. */
function checkOverlaps(context: Context): void {
  const all = [...context.links.values()].flatMap(({ link, addresses }) =>
    addresses.map(({ address, path }) => ({ device: link.device, address, path })),
  );
  for (const [index, one] of all.entries()) {
    const other = all
      .slice(0, index)
      .find(({ device, address }) => device !== one.device && overlap(address, one.address));
    if (other === undefined) continue;
    const where = `${other.address.text} of ${other.device} (line ${context.lineOf(other.path)})`;
    if (other.address.family === one.address.family && other.address.bits === one.address.bits) {
      context.error(one.path, `${one.address.text} is an address of another device: ${where}`);
    } else {
      context.warn(
        one.path,
        `the subnet of ${one.address.text} overlaps that of ${where}: one of the two gets no traffic`,
      );
    }
  }
}

function checkRules(context: Context, { openflow }: BridgeEntry, path: JsonPath): readonly DesiredFlow[] | undefined {
  const { auto_apply_defaults: isApplied = false, default_rules: rules = [] } = openflow ?? {};
  const rulesPath = [...path, 'openflow', 'default_rules'];
  const flows = rules.map((text, index) => {
    const place = [...rulesPath, index];
    if (/\p{Cc}/u.test(text)) context.error(place, 'a flow is one line, without control characters');
    // Flows are told apart by it: see flows.ts.
    if (/(^|[\s,])cookie\s*=/.test(text)) context.error(place, "leave the cookie out: the flows get arca's own");
    return { text: text.trim(), line: context.lineOf(place) };
  });
  if (isApplied) return flows;
  if (flows.length > 0) {
    context.warn(rulesPath, 'these rules are not applied, for auto_apply_defaults is not true');
  }
  return undefined;
}

function ovsdbSettings(entry: NetworkEntry['ovsdb']): OvsdbSettings {
  return {
    socketPath: entry?.socket_path,
    databasePath: entry?.database_path,
    timeoutMs: Math.max(1, Math.round((entry?.timeout_seconds ?? DEFAULT_TIMEOUT_SECONDS) * 1000)),
    persist: entry?.persist ?? true,
  };
}
