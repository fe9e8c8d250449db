/** A control service that holds everything in memory, and does what a test tells it. Its answers are as the model has them. */

import type {
  Attachment,
  AttachmentSpec,
  Chassis,
  ControlEvent,
  ControlService,
  Health,
  Network,
  NetworkSpec,
  PlanStep,
} from '../../src/control/model.js';
import { ArcaError } from '../../src/errors.js';

export interface FakeControl extends ControlService {
  readonly networks: Map<string, Network>;
  readonly attachments: Map<string, Attachment>;
  readonly chassis: Map<string, Chassis>;
  healthNow: Health;
  plan: readonly PlanStep[];
  /** Thrown by the next call of each kind until it is removed. */
  failure: unknown;
  /** What `attach` waits for. */
  attachGate: Promise<void>;
  readonly listenerCount: number;
  emit(event: ControlEvent): void;
}

const AT = '2026-01-02T03:04:05.678Z';

export function createFakeControl(): FakeControl {
  const networks = new Map<string, Network>();
  const attachments = new Map<string, Attachment>();
  const chassis = new Map<string, Chassis>();
  const listeners = new Set<(event: ControlEvent) => void>();
  const key = (container: string, network: string): string => JSON.stringify([container, network]);

  const check = (): void => {
    if (fake.failure !== undefined) throw fake.failure;
  };
  const counted = (network: Network): Network => ({
    ...network,
    attachments: [...attachments.values()].filter((attachment) => attachment.network === network.name).length,
  });
  const find = (name: string): Network => {
    check();
    const network = networks.get(name);
    if (network) return counted(network);
    throw new ArcaError('network-unknown', `there is no network ${JSON.stringify(name)}`);
  };
  const findAttachment = (container: string, network: string): Attachment => {
    check();
    const attachment = attachments.get(key(container, network));
    if (attachment) return attachment;
    throw new ArcaError('attachment-unknown', `${container} is not on ${network}`);
  };

  const fake: FakeControl = {
    networks,
    attachments,
    chassis,
    healthNow: { state: 'ok', parts: [{ part: 'northbound', state: 'ok', detail: 'echo in 1 ms' }] },
    plan: [],
    failure: undefined,
    attachGate: Promise.resolve(),
    get listenerCount() {
      return listeners.size;
    },
    emit(event) {
      for (const listener of listeners) listener(event);
    },

    async listNetworks() {
      check();
      return [...networks.values()].map(counted);
    },
    getNetwork: async (name) => find(name),
    async createNetwork(spec) {
      check();
      const existing = networks.get(spec.name);
      if (existing) {
        if (spec.vlan === undefined || spec.vlan === existing.vlan) return { created: false, value: counted(existing) };
        throw new ArcaError('network-conflict', `${spec.name} has another tag`, {
          details: { differences: [{ property: 'vlan', is: existing.vlan, wanted: spec.vlan }] },
        });
      }
      const value = networkOf(spec, 100 + networks.size);
      networks.set(spec.name, value);
      fake.emit({ at: AT, type: 'network-created', network: spec.name });
      return { created: true, value };
    },
    async adoptNetwork(name, { vlan }) {
      const network: Network = { ...find(name), owner: 'arca', vlan: vlan ?? 100 };
      networks.set(name, network);
      fake.emit({ at: AT, type: 'network-adopted', network: name });
      return network;
    },
    async removeNetwork(name, { force }) {
      const network = find(name);
      if (network.attachments > 0 && !force) throw new ArcaError('network-busy', `${name} has attachments`);
      for (const [at, attachment] of attachments) if (attachment.network === name) attachments.delete(at);
      networks.delete(name);
      fake.emit({ at: AT, type: 'network-removed', network: name });
    },

    async listAttachments({ network, container }) {
      check();
      return [...attachments.values()].filter(
        (attachment) =>
          (network === undefined || attachment.network === network) &&
          (container === undefined || attachment.container === container),
      );
    },
    getAttachment: async (container, network) => findAttachment(container, network),
    async attach(spec) {
      const network = find(spec.network);
      await fake.attachGate;
      const at = key(spec.container, spec.network);
      const existing = attachments.get(at);
      if (existing) return { created: false, value: existing };
      const value = attachmentOf(spec, network, 5000 + attachments.size);
      attachments.set(at, value);
      fake.emit({ at: AT, type: 'attached', container: spec.container, network: spec.network, state: 'ready' });
      return { created: true, value };
    },
    async detach(container, network) {
      findAttachment(container, network);
      attachments.delete(key(container, network));
      fake.emit({ at: AT, type: 'detached', container, network });
    },

    async listChassis() {
      check();
      return [...chassis.values()];
    },
    async registerChassis({ name, encapIp }) {
      check();
      const existing = chassis.get(name);
      if (existing) return { created: false, value: existing };
      const value: Chassis = { name, hostname: 'here', encaps: [{ type: 'geneve', ip: encapIp }], isOurs: true };
      chassis.set(name, value);
      return { created: true, value };
    },
    async removeChassis(name) {
      check();
      if (!chassis.delete(name)) throw new ArcaError('chassis-unknown', `there is no chassis ${name}`);
    },

    async health() {
      check();
      return fake.healthNow;
    },
    async reconcile({ dryRun }) {
      check();
      return { dryRun, steps: fake.plan };
    },
    async metrics() {
      check();
      return { contentType: 'text/plain; version=0.0.4; charset=utf-8', body: 'arca_control_networks 1\n' };
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return fake;
}

function networkOf(spec: NetworkSpec, tag: number): Network {
  return {
    name: spec.name,
    id: '00000000-0000-4000-8000-000000000000',
    vlan: spec.vlan ?? tag,
    subnet: spec.subnet ?? null,
    gateway: spec.gateway ?? null,
    dns: spec.dns ?? [],
    mtu: spec.mtu ?? 1500,
    owner: 'arca',
    attachments: 0,
  };
}

function attachmentOf(spec: AttachmentSpec, network: Network, port: number): Attachment {
  const endpoint = spec.endpoint ?? { transport: 'vsock', port };
  const target = endpoint.transport === 'vsock' ? `vsock:2:${endpoint.port}` : `unix:${endpoint.path}`;
  return {
    container: spec.container,
    network: spec.network,
    logicalPort: `${spec.container}.${spec.network}`,
    endpoint,
    tap: `tap${port}`,
    vlan: network.vlan ?? 0,
    mac: spec.mac ?? '02:00:00:00:00:01',
    addresses: [`${spec.address ?? '10.9.0.2'}/24`],
    gateway: network.gateway,
    dns: network.dns,
    mtu: network.mtu,
    state: 'ready',
    trouble: null,
    connected: false,
    relayPid: 4242,
    restarts: 0,
    restartAt: null,
    connect: `arca-tap --connect ${target} --tap eth0`,
  };
}
