/**
 * The control service: what joins the northbound database, the relays and OVS into the calls of `ControlService`.
 * It holds no state that a restart would miss: what is wanted stands in the northbound database, what is there is
 * found by the relays' status sockets and OVS's rows.
 */
import { availableParallelism, hostname } from 'node:os';
import { ArcaError, toArcaError } from '../errors.js';
import { createLatch } from '../latch.js';
import type { Logger } from '../log.js';
import { openNorthbound } from '../ovn/northbound.js';
import { openSouthbound } from '../ovn/southbound.js';
import { ovsPlaces } from '../ovs/places.js';
import { echoOvsdb, type OvsFacts, readOvsFacts, syncVswitchd } from '../ovs/ports.js';
import { type RpcTarget, targetText } from '../ovsdb/json-rpc.js';
import { createAttachments } from './attachments.js';
import { createChassisRegistry } from './chassis.js';
import { createEventBus } from './events.js';
import { askAll, changedParts, type HealthQuestion, stateOf } from './health.js';
import { type ControlMetrics, createControlMetrics } from './metrics.js';
import type { ChassisSpec, ControlService, Health, PartHealth } from './model.js';
import { createNetworks } from './networks.js';
import { createReconciler } from './reconciler.js';
import { createSupervisor } from './relays/supervisor.js';
import { claimRunDir } from './run-dir.js';
import { createSweeper } from './sweep.js';
import { createSemaphore } from './turns.js';
import { instanceNames } from './wanted.js';

export interface ControlOptions {
  /** An absolute path; made if it is missing. Holds our lock, and the relays' status sockets and logs. */
  readonly runDir: string;
  /** Of OVS's database; by default the one that ovs-vsctl uses. */
  readonly ovsSocketPath: string | undefined;
  readonly northbound: RpcTarget;
  readonly southbound: RpcTarget;
  /** Registered at the start. Its name also says which attachments are this process's; OVS's system-id by default. */
  readonly chassis?: ChassisSpec | undefined;
  /** Where vsock ports for attachments are taken from; both included. */
  readonly vsockPorts: { readonly first: number; readonly last: number };
  /** OVS bridge that the TAPs are attached to. */
  readonly bridge: string;
  readonly log: Logger;
  readonly version: string;
  /** Command and first arguments that run arca-relay: `[process.execPath, '.../dist/cli/arca-relay.js']`. */
  readonly relayProgram: readonly [command: string, ...args: string[]];
  /** Of this process, and of the relays that it starts. */
  readonly env: NodeJS.ProcessEnv;
  /** Ends the start. */
  readonly signal?: AbortSignal | undefined;
}

export interface Control extends ControlService {
  /** Ends everything but the relays: they live on, and the next control process adopts them. Safe to call twice. */
  stop(): Promise<void>;
}

/** Of one call to a database. */
const CALL_TIMEOUT_MS = 5_000;
/** Of a relay's own start. */
const RELAY_START_TIMEOUT_MS = 10_000;
const HEALTH_TIMEOUT_MS = 3_000;
/** Each part is asked this often, so that what fell ill is told. */
const HEALTH_INTERVAL_MS = 30_000;
/** Changes of the northbound database are looked at this much later, many together. */
const DATABASE_GAP_MS = 500;
/** Starting a relay is mostly work for a processor. */
const STARTS_PER_PROCESSOR = 2;

/**
 * Takes the run directory's lock, adopts the relays that live and reconciles. Rejects with an ArcaError, for example
 * `endpoint-in-use` when another control process has the run directory; databases that can not be reached yet are no
 * error: calls that need them fail until they are there.
 */
export async function createControl(options: ControlOptions): Promise<Control> {
  const { chassis, log, version, env } = options;
  const ovsSocketPath = ovsPlaces(options.ovsSocketPath, env).socketPath;
  const runDir = await claimRunDir(options.runDir);
  const stopping = new AbortController();
  const events = createEventBus();
  const northbound = openNorthbound({ target: options.northbound });
  const southbound = openSouthbound(options.southbound);
  const call = { timeoutMs: CALL_TIMEOUT_MS };
  const networks = createNetworks({ northbound, timeoutMs: CALL_TIMEOUT_MS });
  const registry = createChassisRegistry({
    ...{ southbound, ovsSocketPath, env },
    timeoutMs: CALL_TIMEOUT_MS,
    ourName: chassis?.name,
  });

  /** Known from when OVS could be asked first. */
  let ovsFacts: OvsFacts | undefined;
  const namesBy = (systemId: string | undefined): readonly string[] =>
    instanceNames(runDir.path, { chassis: chassis?.name, systemId, hostname: hostname() });
  const readOvs = async (): Promise<OvsFacts> => {
    ovsFacts = await readOvsFacts(ovsSocketPath, call);
    return ovsFacts;
  };
  // Without all of our names a relay of ours could be taken for one that nobody wants.
  const instances = (): readonly string[] | undefined => ovsFacts && namesBy(ovsFacts.systemId);
  const requireInstances = async (): Promise<readonly string[]> => {
    try {
      return namesBy((ovsFacts ?? (await readOvs())).systemId);
    } catch (error) {
      if (chassis === undefined) throw error;
      return namesBy(undefined);
    }
  };

  const changed = createLatch();
  const supervisor = createSupervisor({
    ...{ env, log, relayProgram: options.relayProgram },
    relaysDir: runDir.relaysDir,
    surroundings: { bridge: options.bridge, ovsSocketPath },
    startTimeoutMs: RELAY_START_TIMEOUT_MS,
    onEvent(event) {
      attachments.notice(event);
      if (event.type === 'died' || (event.type === 'changed' && event.relay.trouble !== undefined)) changed.set();
    },
  });
  const attachments = createAttachments({
    ...{ northbound, supervisor, instances, requireInstances, events, log },
    sweeper: createSweeper(ovsSocketPath, call),
    vsockPorts: options.vsockPorts,
    starts: createSemaphore(availableParallelism() * STARTS_PER_PROCESSOR),
    timeoutMs: CALL_TIMEOUT_MS,
    signal: stopping.signal,
  });
  const reconciler = createReconciler({
    ...{ attachments, supervisor, readOvs, changed, log },
    ovsSocketPath,
    bridge: options.bridge,
    onProbe: (statuses) => void observe(statuses),
  });
  // Most changes are our own, and a look at all costs the more the more there is: so not at each.
  let lookSoon: NodeJS.Timeout | undefined;
  const stopListening = northbound.onChange(() => {
    lookSoon ??= setTimeout(() => {
      lookSoon = undefined;
      changed.set();
    }, DATABASE_GAP_MS).unref();
  });

  let metrics: Promise<ControlMetrics> | undefined;
  async function observe(statuses: Awaited<ReturnType<typeof supervisor.probe>>): Promise<ControlMetrics> {
    metrics ??= createControlMetrics();
    const collected = await metrics;
    collected.observe(statuses, new Set(supervisor.list().map(({ tap }) => tap)));
    return collected;
  }

  const questions = (): HealthQuestion[] => [
    {
      part: 'northbound',
      async ask(limit) {
        await northbound.echo(limit);
        return `${targetText(options.northbound)} answers`;
      },
    },
    {
      part: 'southbound',
      async ask(limit) {
        await southbound.echo(limit);
        return `${targetText(options.southbound)} answers`;
      },
    },
    {
      part: 'northd',
      async ask(limit) {
        await northbound.sync(limit);
        return 'ovn-northd has worked through the northbound database';
      },
    },
    {
      part: 'ovsdb',
      async ask(limit) {
        await echoOvsdb(ovsSocketPath, limit);
        return `unix:${ovsSocketPath} answers`;
      },
    },
    {
      part: 'vswitchd',
      async ask(limit) {
        return `ovs-vswitchd has worked through configuration ${await syncVswitchd(ovsSocketPath, limit)}`;
      },
    },
    ...(chassis === undefined ? [] : [{ part: 'chassis', ask: () => askChassis(chassis) }]),
  ];

  async function askChassis({ name, encapIp }: ChassisSpec): Promise<string> {
    const found = (await registry.list()).find((candidate) => candidate.name === name);
    if (found === undefined) {
      throw new ArcaError('chassis-unknown', chassisFailure ?? `chassis ${name} is not registered`);
    }
    if (!found.encaps.some(({ ip }) => ip === encapIp)) {
      const ips = found.encaps.map(({ ip }) => ip).join(', ');
      throw new ArcaError('chassis-conflict', `chassis ${name} has the address ${ips}, not ${encapIp}`);
    }
    return `${name} is registered with ${encapIp}`;
  }

  let chassisFailure: string | undefined;
  async function registerOwnChassis(): Promise<void> {
    if (chassis === undefined) return;
    try {
      await registry.register(chassis);
      chassisFailure = undefined;
    } catch (error) {
      const { code, message } = toArcaError(error);
      if (chassisFailure !== message) log.warn({ chassis: chassis.name, code, err: message }, 'chassis not registered');
      chassisFailure = message;
    }
  }

  async function relayHealth(): Promise<PartHealth[]> {
    await observe(await supervisor.probe({ timeoutMs: HEALTH_TIMEOUT_MS }));
    const wanted = attachments.wanted() ?? [];
    return wanted.map((attachment) => {
      const { state, trouble, relayPid } = attachments.attachmentOf(attachment);
      const part = `relay ${attachment.key}`;
      if (state === 'ready') return { part, state: 'ok', detail: `process ${relayPid} forwards` };
      // One that is being attached is not ill yet.
      if (state === 'starting' && trouble === null) return { part, state: 'unknown', detail: 'it is being started' };
      return { part, state: 'ill', detail: trouble ?? state };
    });
  }

  let lastParts: readonly PartHealth[] = [];
  async function health(): Promise<Health> {
    const [daemons, relays] = await Promise.all([askAll(questions(), HEALTH_TIMEOUT_MS), relayHealth()]);
    const parts = [...daemons, ...relays];
    for (const { part, state, detail } of changedParts(lastParts, parts)) {
      events.emit({ type: 'health-changed', part, state, detail });
    }
    lastParts = parts;
    return { state: stateOf(parts), parts };
  }

  async function watchHealth(): Promise<void> {
    const interval = createLatch();
    while (!stopping.signal.aborted) {
      if (chassisFailure !== undefined) await registerOwnChassis();
      await health().catch((error: unknown) => log.warn({ err: toArcaError(error).message }, 'health not known'));
      await interval.wait({ timeoutMs: HEALTH_INTERVAL_MS, signal: stopping.signal });
    }
  }

  const stop = async (): Promise<void> => {
    if (stopping.signal.aborted) return;
    stopping.abort(new ArcaError('timed-out', 'arca-control is being stopped'));
    stopListening();
    clearTimeout(lookSoon);
    await Promise.all(work);
    await attachments.settled();
    supervisor.close();
    await northbound.stop();
    await runDir.release();
  };
  const work: Promise<void>[] = [];
  try {
    options.signal?.throwIfAborted();
    await Promise.all([supervisor.adopt({ signal: options.signal }), registerOwnChassis()]);
    options.signal?.throwIfAborted();
  } catch (error) {
    await stop();
    throw toArcaError(error);
  }
  work.push(reconciler.run(stopping.signal), watchHealth());

  return {
    listNetworks: networks.list,
    getNetwork: networks.get,
    async createNetwork(spec) {
      const made = await networks.create(spec);
      if (made.created) events.emit({ type: 'network-created', network: made.value.name });
      return made;
    },
    async adoptNetwork(name, spec) {
      const network = await networks.adopt(name, spec);
      events.emit({ type: 'network-adopted', network: name });
      return network;
    },
    async removeNetwork(name, { force }) {
      if (force) {
        await networks.get(name);
        const there = await attachments.list({ network: name });
        await Promise.all(there.map(({ container }) => attachments.detach(container, name)));
      }
      await networks.remove(name);
      events.emit({ type: 'network-removed', network: name });
    },

    listAttachments: attachments.list,
    getAttachment: attachments.get,
    attach: attachments.attach,
    detach: attachments.detach,

    listChassis: registry.list,
    registerChassis: registry.register,
    removeChassis: registry.remove,

    health,
    reconcile: reconciler.reconcile,
    async metrics() {
      const collected = await observe(await supervisor.probe({ timeoutMs: HEALTH_TIMEOUT_MS }));
      const count = northbound.isConnected() ? northbound.view().switches.length : 0;
      return collected.render({
        attachments: (attachments.wanted() ?? []).map(attachments.attachmentOf),
        networks: count,
        restarts: attachments.restarts(),
        version,
      });
    },
    subscribe: events.subscribe,
    stop,
  };
}
