/**
 * What goes over HTTP, as JSON Schema: checks what comes in, and is the body of the OpenAPI document. That the schemas
 * and the types of ../model.ts are the same is checked by the compiler, at the end of this file.
 */
import { type Static, type TSchema, Type } from 'typebox';
import type * as model from '../model.js';
import { PROBLEM_CODES } from './problems.js';

const closed = { additionalProperties: false } as const;

const Nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** What a text means is checked by ../specs.ts, which says what is wrong in words. */
const Text = (description: string) => Type.String({ minLength: 1, maxLength: 255, description });
const Vlan = Type.Integer({ minimum: 1, maximum: 4094, description: 'A VLAN tag.' });
const Subnet = Text('IPv4 with no host bits set: `10.9.0.0/24`.');
const Ipv4 = Text('An IPv4 address.');
const IpAddress = Text('An IPv4 or IPv6 address.');
const Mac = Text('Of one interface: `02:00:00:00:00:01`.');
const Mtu = Type.Integer({ minimum: 68, maximum: 65521, description: 'Bytes, L3.' });
const Moment = Type.String({ format: 'date-time' });
const Count = Type.Integer({ minimum: 0 });
const Pid = Type.Integer({ minimum: 1 });
const Cid = Type.Integer({ minimum: 0, maximum: 0xfffffffe, description: 'A vsock context id.' });

export const NetworkName = Text('Name of a network, which is that of its logical switch');
export const ContainerName = Text('Name of a container');
export const ChassisName = Text('Name of a chassis');

export const NetworkSpec = Type.Object(
  {
    name: NetworkName,
    vlan: Type.Optional(Vlan),
    subnet: Type.Optional(Subnet),
    gateway: Type.Optional(Ipv4),
    dns: Type.Optional(Type.Array(IpAddress, { maxItems: 8 })),
    mtu: Type.Optional(Mtu),
  },
  { ...closed, description: 'A network to create. Without a tag it gets the lowest free one, without an MTU 1500.' },
);

export const AdoptSpec = Type.Object(
  { vlan: Type.Optional(Vlan) },
  { ...closed, description: 'The tag for a switch that has none; the lowest free one by default.' },
);

export const Network = Type.Object(
  {
    name: Type.String(),
    id: Type.String({ description: 'Of the Logical_Switch row.' }),
    vlan: Nullable(Type.Integer({ description: 'Nothing: the switch has no tag, or none that is valid.' })),
    subnet: Nullable(Type.String()),
    gateway: Nullable(Type.String()),
    dns: Type.Array(Type.String()),
    mtu: Type.Integer(),
    owner: Type.Enum(['arca', 'foreign'], {
      description: '`foreign`: made by somebody else; shown, and changed only after it was adopted.',
    }),
    attachments: Count,
  },
  { ...closed, description: 'A logical switch with a VLAN tag.' },
);

const VsockEndpoint = Type.Object(
  { transport: Type.Literal('vsock'), port: Type.Integer({ minimum: 1, maximum: 0xfffffffe }) },
  closed,
);
const UnixEndpoint = Type.Object({ transport: Type.Literal('unix'), path: Text('Absolute; up to 107 bytes.') }, closed);
/** `oneOf` with its discriminator: a mistake is told for the transport that was meant. */
const StreamEndpoint = Type.Unsafe<Static<typeof VsockEndpoint> | Static<typeof UnixEndpoint>>({
  type: 'object',
  oneOf: [VsockEndpoint, UnixEndpoint],
  required: ['transport'],
  discriminator: { propertyName: 'transport' },
  description: "Where the container's end connects.",
});

export const AttachmentSpec = Type.Object(
  {
    container: ContainerName,
    network: NetworkName,
    endpoint: Type.Optional(StreamEndpoint),
    mac: Type.Optional(Mac),
    address: Type.Optional(Ipv4),
    peerCids: Type.Optional(
      Type.Array(Cid, { maxItems: 64, description: 'Only these CIDs may connect; any by default.' }),
    ),
  },
  { ...closed, description: 'A container on a network. What is left out is drawn: a free port, a MAC, an address.' },
);

const AttachmentState = Type.Enum(['starting', 'ready', 'degraded', 'restarting', 'failed']);

export const Attachment = Type.Object(
  {
    container: Type.String(),
    network: Type.String(),
    logicalPort: Type.String({ description: 'Name of the logical switch port.' }),
    endpoint: StreamEndpoint,
    tap: Type.String({ description: 'Name of the TAP device and of the OVS port.' }),
    vlan: Type.Integer(),
    mac: Type.String(),
    addresses: Type.Array(Type.String(), { description: 'With the prefix length of the subnet.' }),
    gateway: Nullable(Type.String()),
    dns: Type.Array(Type.String()),
    mtu: Type.Integer(),
    state: AttachmentState,
    trouble: Nullable(Type.String({ description: 'Why it is not ready, for people.' })),
    connected: Type.Boolean({ description: "Whether the container's end is connected." }),
    relayPid: Nullable(Pid),
    restarts: Count,
    restartAt: Nullable(Moment),
    connect: Type.String({ description: "What starts the container's end." }),
  },
  { ...closed, description: 'A container on a network. The pair is its key.' },
);

export const ChassisSpec = Type.Object(
  { name: ChassisName, encapIp: IpAddress },
  { ...closed, description: 'A chassis to register, with the address that Geneve uses.' },
);

export const Chassis = Type.Object(
  {
    name: Type.String(),
    hostname: Type.String(),
    encaps: Type.Array(Type.Object({ type: Type.String(), ip: Type.String() }, closed)),
    isOurs: Type.Boolean({ description: 'Whether this control process speaks for it.' }),
  },
  closed,
);

const PartState = Type.Enum(['ok', 'ill', 'unknown']);
const PartHealth = Type.Object(
  {
    part: Type.String(),
    state: PartState,
    detail: Type.String({ description: 'For people: what was asked, and the answer.' }),
  },
  closed,
);
export const Health = Type.Object({ state: Type.Enum(['ok', 'ill']), parts: Type.Array(PartHealth) }, closed);

const eventBase = { at: Moment };
const pair = { container: Type.String(), network: Type.String() };
export const ControlEvent = Type.Union(
  [
    Type.Object(
      {
        ...eventBase,
        type: Type.Enum(['network-created', 'network-removed', 'network-adopted']),
        network: Type.String(),
      },
      closed,
    ),
    Type.Object(
      {
        ...eventBase,
        type: Type.Enum(['attached', 'detached', 'attachment-changed']),
        ...pair,
        state: Type.Optional(AttachmentState),
        trouble: Type.Optional(Nullable(Type.String())),
        connected: Type.Optional(Type.Boolean()),
      },
      closed,
    ),
    Type.Object({ ...eventBase, type: Type.Enum(['relay-adopted', 'relay-started']), ...pair, pid: Pid }, closed),
    Type.Object({ ...eventBase, type: Type.Literal('relay-died'), ...pair, detail: Type.String() }, closed),
    Type.Object(
      {
        ...eventBase,
        type: Type.Literal('health-changed'),
        part: Type.String(),
        state: PartState,
        detail: Type.String(),
      },
      closed,
    ),
  ],
  { description: 'The `data` of one event of GET /v1/events; its `type` is the name of the event, too.' },
);

const reason = Type.String();
export const PlanStep = Type.Union([
  Type.Object({ action: Type.Literal('start-relay'), ...pair, reason }, closed),
  Type.Object({ action: Type.Literal('stop-relay'), pid: Pid, tap: Type.String(), reason }, closed),
  Type.Object({ action: Type.Literal('restart-relay'), ...pair, reason }, closed),
  Type.Object({ action: Type.Literal('remove-port'), port: Type.String(), reason }, closed),
]);
export const ReconcileSpec = Type.Object(
  { dryRun: Type.Boolean({ description: 'Only tell what would be done.' }) },
  closed,
);
export const ReconcileResult = Type.Object({ dryRun: Type.Boolean(), steps: Type.Array(PlanStep) }, closed);

export const Version = Type.Object(
  { version: Type.String(), api: Type.Literal('v1'), pid: Pid },
  { ...closed, description: 'Of the control process.' },
);

export const ProblemKind = Type.Object(
  {
    type: Type.String({ format: 'uri-reference' }),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.Enum([...PROBLEM_CODES]),
    exitCode: Type.Integer({ description: 'What `arca` exits with.' }),
  },
  { ...closed, description: 'What a code means.' },
);

export const Problem = Type.Object(
  {
    type: Type.String({ format: 'uri-reference', description: 'GET it: what the code means.' }),
    title: Type.String({ description: 'The same for each problem of this code.' }),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'What failed, on what, and what mends it.' }),
    code: Type.Enum([...PROBLEM_CODES], { description: 'For scripts; stable.' }),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            in: Type.Enum(['body', 'path', 'query']),
            field: Type.String({ description: 'A JSON pointer; empty for the whole.' }),
            message: Type.String(),
          },
          closed,
        ),
        { description: 'Of `spec-invalid`: each field that is wrong.' },
      ),
    ),
  },
  {
    additionalProperties: true,
    description:
      'RFC 9457. Further members depend on the code: `differences` of network-conflict, `step` of attach-failed, ...',
  },
);

export const NetworkList = Type.Array(Network);
export const AttachmentList = Type.Array(Attachment);
export const ChassisList = Type.Array(Chassis);

/** By the names that they have in the OpenAPI document. */
export const COMPONENTS: Readonly<Record<string, TSchema>> = {
  NetworkSpec,
  AdoptSpec,
  Network,
  StreamEndpoint,
  VsockEndpoint,
  UnixEndpoint,
  AttachmentSpec,
  AttachmentState,
  Attachment,
  ChassisSpec,
  Chassis,
  PartHealth,
  Health,
  ControlEvent,
  PlanStep,
  ReconcileSpec,
  ReconcileResult,
  Version,
  Problem,
  ProblemKind,
};

/** JSON knows neither `readonly` nor a property that is there and undefined. */
type Plain<T> = T extends object ? { -readonly [Key in keyof T]: Plain<Exclude<T[Key], undefined>> } : T;
type Same<A, B> = [Plain<A>] extends [Plain<B>] ? ([Plain<B>] extends [Plain<A>] ? true : false) : false;

/** Does not compile where a schema and its type differ. */
({
  NetworkSpec: true,
  Network: true,
  AttachmentSpec: true,
  Attachment: true,
  ChassisSpec: true,
  Chassis: true,
  Health: true,
  ControlEvent: true,
  ReconcileResult: true,
}) satisfies {
  NetworkSpec: Same<Static<typeof NetworkSpec>, model.NetworkSpec>;
  Network: Same<Static<typeof Network>, model.Network>;
  AttachmentSpec: Same<Static<typeof AttachmentSpec>, model.AttachmentSpec>;
  Attachment: Same<Static<typeof Attachment>, model.Attachment>;
  ChassisSpec: Same<Static<typeof ChassisSpec>, model.ChassisSpec>;
  Chassis: Same<Static<typeof Chassis>, model.Chassis>;
  Health: Same<Static<typeof Health>, model.Health>;
  ControlEvent: Same<Static<typeof ControlEvent>, model.ControlEvent>;
  ReconcileResult: Same<Static<typeof ReconcileResult>, model.ReconcileResult>;
};
