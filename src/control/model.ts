/**
 * What the control API speaks of: networks, attachments, chassis, health, events, and the service that does it all.
 * Types only. The HTTP border (`api/`) validates what comes in and trusts it from there on.
 */
import type { StreamEndpoint } from '../stream-endpoint.js';

/** A logical switch with a VLAN tag. */
export interface NetworkSpec {
  readonly name: string;
  /** The VLAN tag; the lowest free one by default. */
  readonly vlan?: number | undefined;
  /** IPv4, in CIDR form with no host bits set: `10.9.0.0/24`. Without it no addresses are allocated. */
  readonly subnet?: string | undefined;
  /** In the subnet; without it containers get no default route. */
  readonly gateway?: string | undefined;
  readonly dns?: readonly string[] | undefined;
  /** Bytes, L3; 1500 by default. */
  readonly mtu?: number | undefined;
}

export interface Network {
  readonly name: string;
  /** Of the Logical_Switch row. */
  readonly id: string;
  /** Nothing: the switch has no tag, or none that is valid (a switch that somebody else made). */
  readonly vlan: number | null;
  readonly subnet: string | null;
  readonly gateway: string | null;
  readonly dns: readonly string[];
  readonly mtu: number;
  /** `foreign`: made by somebody else with ovn-nbctl; shown, and changed only after `adopt`. */
  readonly owner: 'arca' | 'foreign';
  /** Number of attachments. */
  readonly attachments: number;
}

/** A container on a network. The pair is its key: a container may be on several networks. */
export interface AttachmentSpec {
  readonly container: string;
  readonly network: string;
  /** Where the container's end connects; a free vsock port of the range by default. */
  readonly endpoint?: StreamEndpoint | undefined;
  /** OVN draws one by default. */
  readonly mac?: string | undefined;
  /** In the network's subnet; OVN's next free one by default. */
  readonly address?: string | undefined;
  /** Only these CIDs may connect; any by default. */
  readonly peerCids?: readonly number[] | undefined;
}

export type AttachmentState =
  /** Written to the northbound database, its relay is not ready yet. */
  | 'starting'
  /** Its relay forwards. */
  | 'ready'
  /** Its relay lives but its port does not forward; being mended. */
  | 'degraded'
  /** Its relay died; a new one starts at `restartAt`. */
  | 'restarting'
  /** Its relay can't be started; tried again at `restartAt`. */
  | 'failed';

export interface Attachment {
  readonly container: string;
  readonly network: string;
  /** Name of the logical switch port: `logicalPortName` of src/ovn/names.ts. */
  readonly logicalPort: string;
  readonly endpoint: StreamEndpoint;
  /** Name of the TAP device, which is also the name of the OVS port. */
  readonly tap: string;
  readonly vlan: number;
  readonly mac: string;
  /** With the prefix length of the subnet: `10.9.0.2/24`. Empty on a network without a subnet. */
  readonly addresses: readonly string[];
  readonly gateway: string | null;
  readonly dns: readonly string[];
  readonly mtu: number;
  readonly state: AttachmentState;
  /** Why it is not ready, for people. */
  readonly trouble: string | null;
  /** Whether the container's end is connected to the relay. */
  readonly connected: boolean;
  /** Process id of the relay; nothing while there is none. */
  readonly relayPid: number | null;
  /** Times that its relay was started again since this control process began. */
  readonly restarts: number;
  /** ISO 8601; set in `restarting` and `failed`. */
  readonly restartAt: string | null;
  /** What starts the container's end: `arca-tap --connect vsock:2:5555 --tap eth0`. */
  readonly connect: string;
}

export interface ChassisSpec {
  readonly name: string;
  /** IPv4 or IPv6 address of this host that Geneve uses. */
  readonly encapIp: string;
}

export interface Chassis {
  readonly name: string;
  readonly hostname: string;
  readonly encaps: readonly { readonly type: string; readonly ip: string }[];
  /** Whether this is the chassis that this control process speaks for. */
  readonly isOurs: boolean;
}

export type PartState = 'ok' | 'ill' | 'unknown';

export interface PartHealth {
  /** `northbound`, `southbound`, `northd`, `ovsdb`, `vswitchd`, `chassis`, `relay web/net-a`, ... */
  readonly part: string;
  readonly state: PartState;
  /** For people: what was asked, and what the answer was. */
  readonly detail: string;
}

export interface Health {
  readonly state: 'ok' | 'ill';
  readonly parts: readonly PartHealth[];
}

export type ControlEvent = { readonly at: string } & (
  | { readonly type: 'network-created' | 'network-removed' | 'network-adopted'; readonly network: string }
  | {
      readonly type: 'attached' | 'detached' | 'attachment-changed';
      readonly container: string;
      readonly network: string;
      readonly state?: AttachmentState;
      readonly trouble?: string | null;
      readonly connected?: boolean;
    }
  | {
      readonly type: 'relay-adopted' | 'relay-started';
      readonly container: string;
      readonly network: string;
      readonly pid: number;
    }
  | { readonly type: 'relay-died'; readonly container: string; readonly network: string; readonly detail: string }
  | { readonly type: 'health-changed'; readonly part: string; readonly state: PartState; readonly detail: string }
);

/** One step of a reconcile plan, for people and as JSON. */
export type PlanStep =
  | { readonly action: 'start-relay'; readonly container: string; readonly network: string; readonly reason: string }
  | { readonly action: 'stop-relay'; readonly pid: number; readonly tap: string; readonly reason: string }
  | { readonly action: 'restart-relay'; readonly container: string; readonly network: string; readonly reason: string }
  | { readonly action: 'remove-port'; readonly port: string; readonly reason: string };

export interface ReconcileResult {
  readonly dryRun: boolean;
  readonly steps: readonly PlanStep[];
}

/** Whether a call changed anything: `create` and `attach` are idempotent. */
export interface Made<T> {
  readonly created: boolean;
  readonly value: T;
}

/**
 * Everything that the API can do. Each call rejects with an ArcaError whose code tells a script what went wrong:
 * `network-unknown`, `network-conflict` (same name, other properties: `details.differences`), `network-busy`
 * (attachments), `network-foreign`, `tag-in-use`, `tags-exhausted`, `subnet-overlap`, `spec-invalid`,
 * `attachment-unknown`, `attachment-conflict`, `address-in-use`, `mac-in-use`, `endpoint-in-use`, `ports-exhausted`,
 * `attach-failed` (`details.step`), `chassis-conflict`, `chassis-unknown`, and those of the databases.
 */
export interface ControlService {
  listNetworks(): Promise<readonly Network[]>;
  getNetwork(name: string): Promise<Network>;
  createNetwork(spec: NetworkSpec): Promise<Made<Network>>;
  /** Puts our mark (and a tag, if it has none) on a switch that somebody else made. */
  adoptNetwork(name: string, spec: { readonly vlan?: number | undefined }): Promise<Network>;
  /** With attachments: `network-busy`, or with `force` they are detached first. */
  removeNetwork(name: string, options: { readonly force: boolean }): Promise<void>;

  listAttachments(filter: {
    readonly network?: string | undefined;
    readonly container?: string | undefined;
  }): Promise<readonly Attachment[]>;
  getAttachment(container: string, network: string): Promise<Attachment>;
  /** Resolves when the relay is ready. All is undone if a step fails. */
  attach(spec: AttachmentSpec): Promise<Made<Attachment>>;
  detach(container: string, network: string): Promise<void>;

  listChassis(): Promise<readonly Chassis[]>;
  registerChassis(spec: ChassisSpec): Promise<Made<Chassis>>;
  removeChassis(name: string): Promise<void>;

  health(): Promise<Health>;
  reconcile(options: { readonly dryRun: boolean }): Promise<ReconcileResult>;
  /** Prometheus text of this process and all relays. */
  metrics(): Promise<{ readonly contentType: string; readonly body: string }>;
  /** Calls `listener` for each event from now on; the function that comes back ends that. */
  subscribe(listener: (event: ControlEvent) => void): () => void;
}
