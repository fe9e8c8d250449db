/**
 * What a state file may hold, as JSON Schema; docs/state.schema.json is printed from it. Each part that can be wrong has a
 * title, which says what is expected there and is what a user reads when it is wrong. What one part means beside another
 * is checked by document-checks.ts.
 */
import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false } as const;

/** The kernel takes 15 bytes (IFNAMSIZ). What is left of its rules is narrowed to what no tool has to quote. */
const deviceName = {
  minLength: 1,
  maxLength: 15,
  pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*$',
  title: 'a device name: 1 to 15 letters, digits, "_", "." and "-", and no "-" or "." first',
};
const DeviceName = Type.String(deviceName);
const Tag = Type.Integer({ minimum: 1, maximum: 4094, title: 'a whole number from 1 to 4094' });
const Path = Type.String({ pattern: '^/', maxLength: 4095, title: 'an absolute path' });
const TextMap = (description: string) =>
  Type.Record(Type.String(), Type.String({ title: 'a text; numbers and true or false are written in quotes, too' }), {
    title: 'an object of texts',
    description,
  });

const portProperties = {
  name: DeviceName,
  tag: Type.Optional(Type.Integer({ ...Tag, description: 'The port is in this VLAN only, untagged (access port).' })),
  trunks: Type.Optional(
    Type.Array(Tag, {
      title: 'a list of VLAN tags',
      description: 'The port carries these VLANs, tagged; without tag and trunks it carries all.',
    }),
  ),
  type: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9_-]+$',
      maxLength: 64,
      title: 'a type of OVS interface, as internal, patch or vxlan',
      description: 'As in ovs-vswitchd.conf.db(5); a device that is there by itself has none, or `system`.',
    }),
  ),
  options: Type.Optional(TextMap('Options of the interface, as `remote_ip` of a tunnel or `peer` of a patch port.')),
  external_ids: Type.Optional(TextMap('Marks of your own on the Port row; those that begin with `arca-` are ours.')),
};
const PortObject = Type.Object(portProperties, closed);

/**
 * One schema of two types: a keyword of JSON Schema speaks of values of its own type and of no other, so that a mistake
 * in an object is told for the object and not for the name that it could have been.
 */
const Port = Type.Unsafe<string | Static<typeof PortObject>>({
  ...PortObject,
  ...deviceName,
  type: ['string', 'object'],
  title: `${deviceName.title}; or an object with name, tag, trunks, type, options, external_ids`,
});
const Ports = (description: string) => Type.Array(Port, { title: 'a list of ports', description });

const addressText = {
  minLength: 1,
  maxLength: 64,
  title: 'an address with the length of its prefix, as "10.0.0.1/24" or "fd00::1/64"',
};
const Address = (description: string) =>
  Type.Unsafe<string | string[]>({
    ...addressText,
    type: ['string', 'array'],
    items: Type.String(addressText),
    title: `${addressText.title}; or a list of such`,
    description,
  });

const Flag = (byDefault: boolean, description: string) =>
  Type.Boolean({ default: byDefault, title: 'true or false', description });

const OpenFlow = Type.Object(
  {
    auto_apply_defaults: Type.Optional(
      Flag(false, 'Whether the rules are applied and looked after; without it the flows of the bridge are left alone.'),
    ),
    default_rules: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 4096, title: 'a flow in the syntax of ovs-ofctl(8)' }), {
        title: 'a list of flows in the syntax of ovs-ofctl(8)',
        description:
          'Beside the flow that OVS itself makes for a bridge without a controller (`priority=0 actions=NORMAL`).',
      }),
    ),
  },
  { ...closed, title: 'an object with auto_apply_defaults and default_rules' },
);

const Bridge = Type.Object(
  {
    name: DeviceName,
    datapath_type: Type.Optional(
      Type.Enum(['system', 'netdev'], {
        default: 'system',
        title: '"system" (the kernel\'s datapath) or "netdev" (vswitchd\'s own)',
        description: 'Both survive a reboot alike.',
      }),
    ),
    ports: Type.Optional(Ports('Devices that are there by themselves, tunnels and patch ports.')),
    internal_ports: Type.Optional(Ports('Devices that OVS makes. The first one carries the address of the bridge.')),
    address: Type.Optional(
      Address("Of the first internal port, or of the bridge's own device where there is no internal port."),
    ),
    dhcp: Type.Optional(Flag(false, 'A DHCP client gets an IPv4 address for what would carry the address.')),
    vlan: Type.Optional(Type.Integer({ ...Tag, description: 'VLAN of what carries the address.' })),
    openflow: Type.Optional(OpenFlow),
  },
  { ...closed, title: 'an object with the name of a bridge' },
);

const Interface = Type.Object(
  {
    name: DeviceName,
    address: Type.Optional(Address('Addresses beside those that the device has; what we did not set is left alone.')),
    dhcp: Type.Optional(Flag(false, 'A DHCP client gets an IPv4 address for it.')),
    up: Type.Optional(Flag(true, 'Whether the device is set up, or down.')),
    mtu: Type.Optional(
      Type.Integer({
        minimum: 68,
        maximum: 65535,
        title: 'a whole number from 68 to 65535',
        description: 'Bytes, L3.',
      }),
    ),
  },
  { ...closed, title: 'an object with the name of a device' },
);

const Ovsdb = Type.Object(
  {
    socket_path: Type.Optional(
      Type.String({
        ...Path,
        maxLength: 107,
        title: 'an absolute path of at most 107 bytes',
        description: 'The Unix socket of ovsdb-server. `--ovs` comes before it.',
      }),
    ),
    database_path: Type.Optional(
      Type.String({ ...Path, description: 'Where the database is expected to be kept; another place is told.' }),
    ),
    timeout_seconds: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 3600,
        default: 30,
        title: 'a number of seconds, more than 0 and at most 3600',
        description: 'For each verb as a whole. `--timeout` comes before it.',
      }),
    ),
    persist: Type.Optional(Flag(true, 'Whether a database that would not survive a reboot is told.')),
  },
  { ...closed, title: 'an object with socket_path, database_path, timeout_seconds, persist' },
);

const Network = Type.Object(
  {
    bridges: Type.Optional(Type.Array(Bridge, { title: 'a list of bridges' })),
    interfaces: Type.Optional(
      Type.Array(Interface, {
        title: 'a list of devices',
        description: 'Devices that are there by themselves, or that are ports of the bridges above.',
      }),
    ),
    ovsdb: Type.Optional(Ovsdb),
  },
  { ...closed, title: 'an object with bridges, interfaces, ovsdb' },
);

export const StateFile = Type.Object(
  {
    $schema: Type.Optional(Type.String({ title: 'a text', description: 'For editors; not looked at.' })),
    version: Type.Literal(1, { title: 'the number 1' }),
    plugins: Type.Object(
      { network: Network },
      { title: 'an object with network', description: 'Other plugins than network are not looked at; it is told.' },
    ),
  },
  { ...closed, title: 'an object with version and plugins' },
);

export type StateFile = Static<typeof StateFile>;
export type BridgeEntry = NonNullable<StateFile['plugins']['network']['bridges']>[number];
export type InterfaceEntry = NonNullable<StateFile['plugins']['network']['interfaces']>[number];
export type PortEntry = Static<typeof PortObject>;
/** As it stands in the file. */
export type PortOrName = NonNullable<BridgeEntry['ports']>[number];

/** The text of docs/state.schema.json. */
export function stateSchemaText(): string {
  const document = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'state.schema.json',
    ...StateFile,
    title: 'State file of arca',
    description: 'What `arca state` makes of Open vSwitch and of the addresses of this host. See state-file.md.',
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}
