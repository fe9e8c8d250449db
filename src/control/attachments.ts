/**
 * Attachments: a container on a network. What is wanted stands in the northbound database as logical ports; for each a
 * relay runs. Attach makes both, or nothing; detach takes both away.
 */
import { ArcaError, toArcaError } from '../errors.js';
import type { Logger } from '../log.js';
import {
  CONTAINER_KEY,
  ENDPOINT_KEY,
  INSTANCE_KEY,
  logicalPortName,
  NETWORK_KEY,
  PEER_CIDS_KEY,
  TAP_KEY,
  tapName,
} from '../ovn/names.js';
import type { Northbound, Plan } from '../ovn/northbound.js';
import type { LogicalPortSpec } from '../ovn/northbound-operations.js';
import type { LogicalPortView, NorthboundView } from '../ovn/northbound-view.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import { readStreamEndpoint, type StreamEndpoint, streamEndpointText } from '../stream-endpoint.js';
import { createUndoStack } from '../undo.js';
import type { EventBus } from './events.js';
import type { Attachment, AttachmentSpec, AttachmentState, Made } from './model.js';
import { requireAttachable } from './networks.js';
import { type Backoff, createBackoff } from './relays/backoff.js';
import { saidItself } from './relays/launch.js';
import type { RelayView, Supervisor, SupervisorEvent } from './relays/supervisor.js';
import { checkAddress, checkAttachmentSpec } from './specs.js';
import type { Sweeper } from './sweep.js';
import { createKeyedTurns, type Semaphore } from './turns.js';
import { isOfInstance, readPeerCids, readWanted, relaySpecOf, type WantedAttachment } from './wanted.js';

/** In their order; `details.step` of the error of an attach or detach that failed. */
export type AttachStep = 'network' | 'logical-port' | 'addresses' | 'relay';

export interface Attachments {
  list(filter: {
    readonly network?: string | undefined;
    readonly container?: string | undefined;
  }): Promise<readonly Attachment[]>;
  get(container: string, network: string): Promise<Attachment>;
  attach(spec: AttachmentSpec): Promise<Made<Attachment>>;
  detach(container: string, network: string): Promise<void>;

  /** What the database wants of us, or wanted when it could last be asked. Nothing: that was never. */
  wanted(): readonly WantedAttachment[] | undefined;
  attachmentOf(wanted: WantedAttachment): Attachment;
  /** Starts a relay that is wanted and not there, or ends the one that is there first. What fails is told by events. */
  revive(key: string, options: { readonly restart: boolean }): Promise<void>;
  /** Ends a relay that nobody wants. */
  stopStray(tap: string): Promise<void>;
  /** Somebody works on that attachment or TAP. */
  isBusy(keyOrTap: string): boolean;
  /** When a relay may be started again, epoch milliseconds; nothing: at any time. */
  restartAt(key: string): number | undefined;
  /** To be called with each event of the supervisor. */
  notice(event: SupervisorEvent): void;
  /**
   * Removes the logical ports of attaches that failed and could not be undone then, and forgets what was known of
   * attachments that are gone.
   */
  tidy(): Promise<void>;
  restarts(): number;
  /** Resolves when nothing is in hand any more. */
  settled(): Promise<void>;
}

export interface AttachmentsOptions {
  readonly northbound: Northbound;
  readonly supervisor: Supervisor;
  readonly sweeper: Sweeper;
  /** The names that say which ports are ours; nothing while not all are known. */
  readonly instances: () => readonly string[] | undefined;
  /** Finds them out; without OVS, those that are known. */
  readonly requireInstances: () => Promise<readonly string[]>;
  readonly vsockPorts: { readonly first: number; readonly last: number };
  /** How many relays may start at the same time. */
  readonly starts: Semaphore;
  readonly events: EventBus;
  readonly log: Logger;
  /** Of each call to the database. */
  readonly timeoutMs: number;
  /** Aborts what is being attached: it is undone. */
  readonly signal: AbortSignal;
}

/** What is known of an attachment beside its row and its relay. */
interface Book {
  readonly backoff: Backoff;
  restarts: number;
  /** Epoch milliseconds. */
  restartAt: number | undefined;
  /** Why it has no relay. */
  trouble: string | undefined;
  /** The last start failed; otherwise it ran and died. */
  isFailed: boolean;
}

/** Draws of a vsock port that somebody outside of the database may have. */
const MOST_DRAWS = 3;

export function createAttachments(options: AttachmentsOptions): Attachments {
  const { northbound, supervisor, sweeper, instances, requireInstances } = options;
  const { starts, events, log, timeoutMs, signal } = options;
  const turns = createKeyedTurns();
  const books = new Map<string, Book>();
  /** By UUID, the logical ports of attaches that failed while the database could not be reached. */
  const leftPorts = new Set<string>();
  let cached:
    | { readonly of: NorthboundView; readonly by: string; readonly wanted: readonly WantedAttachment[] }
    | undefined;
  let restartCount = 0;
  const call = (): CallOptions => ({ timeoutMs });

  function bookOf(key: string): Book {
    let book = books.get(key);
    if (book === undefined) {
      book = { backoff: createBackoff(), restarts: 0, restartAt: undefined, trouble: undefined, isFailed: false };
      books.set(key, book);
    }
    return book;
  }

  function read(view: NorthboundView, names: readonly string[]): readonly WantedAttachment[] {
    const by = names.join('\n');
    const known = cached?.of === view && cached.by === by ? cached : { of: view, by, wanted: readWanted(view, names) };
    cached = known;
    return known.wanted.filter(({ portUuid }) => !leftPorts.has(portUuid));
  }

  function wanted(): readonly WantedAttachment[] | undefined {
    const names = instances();
    if (names === undefined) return undefined;
    if (northbound.isConnected()) return read(northbound.view(), names);
    return cached?.wanted;
  }

  function attachmentOf(attachment: WantedAttachment): Attachment {
    const { container, network, key, endpoint, tap, vlan, mac, addresses, gateway, dns, mtu } = attachment;
    const relay = supervisor.get(tap);
    return {
      ...{ container, network, logicalPort: key, endpoint, tap, addresses, gateway, dns, mtu },
      ...{ vlan: vlan ?? 0, mac: mac ?? '' },
      ...standing(attachment, relay, books.get(key)),
      connected: relay?.connected ?? false,
      relayPid: relay?.pid ?? null,
      restarts: books.get(key)?.restarts ?? 0,
      connect: connectCommand(endpoint),
    };
  }

  async function find(container: string, network: string): Promise<WantedAttachment> {
    const names = await requireInstances();
    const key = logicalPortName(container, network);
    const view = await northbound.currentView(call());
    const found = read(view, names).find((attachment) => attachment.key === key);
    if (found !== undefined) return found;
    const elsewhere = view.ports.find(({ name, isOurs }) => name === key && isOurs);
    throw new ArcaError(
      'attachment-unknown',
      elsewhere === undefined
        ? `container ${container} is not attached to network ${network}`
        : `container ${container} is attached to network ${network} by another control process ` +
            `(${elsewhere.externalIds[INSTANCE_KEY] ?? 'unknown'}); ask that one`,
    );
  }

  function tellChanged(attachment: WantedAttachment): void {
    const { container, network } = attachment;
    const { state, trouble, connected } = attachmentOf(attachment);
    events.emit({ type: 'attachment-changed', container, network, state, trouble, connected });
  }

  /** Rejects with the relay's error; nothing of it is left then. */
  async function startRelay(attachment: WantedAttachment, abort?: AbortSignal): Promise<void> {
    const spec = relaySpecOf(attachment);
    if (spec === undefined) throw notWhole(attachment);
    try {
      await starts.run(() => supervisor.start(spec, { signal: abort }), signal);
    } catch (error) {
      if (!saidItself(error)) await endRelay(attachment);
      throw error;
    }
    const book = bookOf(attachment.key);
    book.restartAt = undefined;
    book.trouble = undefined;
    book.isFailed = false;
  }

  /**
   * Swept is also what one left that was killed before it could stop. If that can not be done now, the next look at OVS's
   * ports finds it.
   */
  async function endRelay({
    tap,
    endpoint,
  }: Pick<WantedAttachment, 'tap'> & { endpoint?: StreamEndpoint | undefined }) {
    await supervisor.stop(tap);
    try {
      await sweeper.sweep(tap, endpoint);
    } catch (error) {
      log.warn({ tap, err: toArcaError(error).message }, 'what a relay left can not be removed yet');
    }
  }

  async function attachInTurn(spec: AttachmentSpec, taken: ReadonlySet<number>): Promise<Made<Attachment>> {
    const undo = createUndoStack();
    let step: AttachStep = 'network';
    let drawn: { readonly vsockPort?: number } = {};
    let isNew = false;
    try {
      signal.throwIfAborted();
      const names = await requireInstances();
      checkNetwork(await northbound.currentView(call()), spec);
      step = 'logical-port';
      const plan = (view: NorthboundView) =>
        planPort(view, spec, { ...options, names, taken: takenPorts(view, taken) });
      const { created, row } = await northbound.createPort(plan, call());
      isNew = created;
      if (created) undo.push('logical port', () => removePort(row.uuid));
      step = 'addresses';
      await northbound.waitForAddresses(row.uuid, { ...call(), signal });
      step = 'relay';
      const attachment = await find(spec.container, spec.network);
      const { container, network, endpoint } = attachment;
      if (spec.endpoint === undefined && endpoint.transport === 'vsock') drawn = { vsockPort: endpoint.port };
      if (supervisor.get(attachment.tap) === undefined) await startRelay(attachment, signal);
      const value = attachmentOf(attachment);
      if (created) events.emit({ type: 'attached', container, network, state: value.state });
      return { created, value };
    } catch (error) {
      const undoError = await undo.run(log);
      if (isNew) books.delete(logicalPortName(spec.container, spec.network));
      throw failedAt(step, error, undoError, drawn);
    }
  }

  /** Those of relays that live may be of ports that are gone from the database by now. */
  function takenPorts(view: NorthboundView, more: ReadonlySet<number>): ReadonlySet<number> {
    const endpoints = [
      ...view.ports.map(({ externalIds }) => externalIds[ENDPOINT_KEY] ?? ''),
      ...supervisor.list().map(({ shape }) => shape.endpoint),
    ];
    const taken = new Set(more);
    for (const text of endpoints) {
      const endpoint = readStreamEndpoint(text);
      if (endpoint?.transport === 'vsock') taken.add(endpoint.port);
    }
    return taken;
  }

  async function removePort(uuid: string): Promise<void> {
    leftPorts.add(uuid);
    await northbound.removePort(uuid, call());
    leftPorts.delete(uuid);
  }

  return {
    wanted,
    attachmentOf,
    isBusy: turns.isBusy,
    restartAt: (key) => books.get(key)?.restartAt,
    restarts: () => restartCount,
    settled: turns.settled,

    async list({ network, container }) {
      const names = await requireInstances();
      return read(await northbound.currentView(call()), names)
        .filter((attachment) => network === undefined || attachment.network === network)
        .filter((attachment) => container === undefined || attachment.container === container)
        .map(attachmentOf);
    },

    async get(container, network) {
      return attachmentOf(await find(container, network));
    },

    async attach(given) {
      const spec = checkAttachmentSpec(given);
      const key = logicalPortName(spec.container, spec.network);
      return turns.run(key, async () => {
        const taken = new Set<number>();
        for (let draw = 1; ; draw++) {
          try {
            return await attachInTurn(spec, taken);
          } catch (error) {
            // Somebody who is not in the database listens there.
            const port = drawnPort(spec, error);
            if (port === undefined || draw === MOST_DRAWS) throw error;
            log.warn({ vsockPort: port }, 'vsock port of the range is in use, drawing another');
            taken.add(port);
          }
        }
      });
    },

    detach(container, network) {
      const key = logicalPortName(container, network);
      return turns.run(key, async () => {
        let step: AttachStep = 'logical-port';
        try {
          const attachment = await find(container, network);
          // One that hangs is found before anything is taken away from the container.
          await northbound.echo(call());
          step = 'relay';
          await endRelay(attachment);
          step = 'logical-port';
          await northbound.removePort(attachment.portUuid, call());
        } catch (error) {
          throw failedAt(step, error);
        }
        books.delete(key);
        events.emit({ type: 'detached', container, network });
      });
    },

    revive(key, { restart }) {
      return turns.run(key, async () => {
        const attachment = wanted()?.find((candidate) => candidate.key === key);
        if (attachment === undefined) return;
        const { container, network, tap } = attachment;
        const book = bookOf(key);
        const isNew = !restart && book.trouble === undefined;
        try {
          if (restart) await endRelay(attachment);
          else if (supervisor.get(tap) !== undefined) return;
          await startRelay(attachment);
          if (!isNew) {
            book.restarts++;
            restartCount++;
          }
        } catch (error) {
          // We end, and the next control process starts it.
          if (signal.aborted) return;
          const { code, message } = toArcaError(error);
          book.trouble = message;
          book.isFailed = true;
          book.restartAt = Date.now() + book.backoff.next(0);
          log.warn({ container, network, tap, code, err: message }, 'relay could not be started');
        }
        tellChanged(attachment);
      });
    },

    stopStray(tap) {
      return turns.run(tap, () =>
        endRelay({ tap, endpoint: readStreamEndpoint(supervisor.get(tap)?.shape.endpoint ?? '') }),
      );
    },

    notice(event) {
      const { relay } = event;
      const attachment = wanted()?.find(({ tap }) => tap === relay.tap);
      if (attachment === undefined) return;
      const { container, network, key } = attachment;
      switch (event.type) {
        case 'adopted':
        case 'started':
          events.emit({ type: `relay-${event.type}`, container, network, pid: relay.pid });
          return;
        case 'changed':
          tellChanged(attachment);
          return;
        case 'died': {
          const book = bookOf(key);
          book.trouble = `its relay died: ${event.detail}`;
          book.isFailed = false;
          book.restartAt = Date.now() + book.backoff.next(performance.now() - relay.knownSince);
          events.emit({ type: 'relay-died', container, network, detail: event.detail });
          tellChanged(attachment);
          return;
        }
      }
    },

    async tidy() {
      const keys = wanted()?.map(({ key }) => key);
      for (const key of books.keys()) if (keys?.includes(key) === false && !turns.isBusy(key)) books.delete(key);
      for (const uuid of leftPorts) await removePort(uuid);
    },
  };
}

/** Pure: how the attachment fares. */
function standing(
  attachment: WantedAttachment,
  relay: RelayView | undefined,
  book: Book | undefined,
): { readonly state: AttachmentState; readonly trouble: string | null; readonly restartAt: string | null } {
  if (relay?.trouble !== undefined) return { state: 'degraded', trouble: relay.trouble.detail, restartAt: null };
  if (relay?.silentSince !== undefined) {
    return { state: 'degraded', trouble: 'its relay does not answer', restartAt: null };
  }
  if (relay !== undefined) return { state: 'ready', trouble: null, restartAt: null };
  if (book?.trouble === undefined) {
    const trouble = relaySpecOf(attachment) === undefined ? notWhole(attachment).message : null;
    return { state: 'starting', trouble, restartAt: null };
  }
  const restartAt = book.restartAt === undefined ? null : new Date(book.restartAt).toISOString();
  return { state: book.isFailed ? 'failed' : 'restarting', trouble: book.trouble, restartAt };
}

function notWhole({ network, mac }: WantedAttachment): ArcaError {
  return mac === undefined
    ? new ArcaError('northbound-timeout', 'ovn-northd has not drawn an address for it; is the daemon running?')
    : new ArcaError('tag-missing', `network ${network} has lost its VLAN tag`);
}

function checkNetwork(view: NorthboundView, { network, address }: AttachmentSpec): void {
  const found = requireAttachable(view, network);
  if (address !== undefined) checkAddress(address, found);
}

interface PortPlanning {
  readonly names: readonly string[];
  readonly vsockPorts: { readonly first: number; readonly last: number };
  readonly taken: ReadonlySet<number>;
}

/** Pure: the logical port to write, or the one that is there and is as it should be. Throws `attachment-conflict`. */
export function planPort(
  view: NorthboundView,
  spec: AttachmentSpec,
  planning: PortPlanning,
): Plan<LogicalPortSpec, LogicalPortView> {
  const { container, network, mac, address, peerCids = [] } = spec;
  const name = logicalPortName(container, network);
  const existing = view.ports.find((port) => port.name === name);
  if (existing !== undefined) {
    refuseOthers(existing, planning.names);
    const differences = differencesOf(existing, spec);
    if (differences.length === 0) return { keep: existing };
    throw new ArcaError(
      'attachment-conflict',
      `container ${container} is attached to network ${network} already, with other properties: ` +
        differences
          .map(({ property, existing: is, wanted }) => `${property} is ${textOf(is)}, not ${textOf(wanted)}`)
          .join('; '),
      { details: { differences } },
    );
  }
  const { id: switchUuid } = requireAttachable(view, network);
  const endpoint = spec.endpoint ?? { transport: 'vsock', port: freePort(planning) };
  return {
    write: {
      ...{ switchUuid, name, mac, address },
      externalIds: {
        [CONTAINER_KEY]: container,
        [NETWORK_KEY]: network,
        [ENDPOINT_KEY]: streamEndpointText(endpoint),
        [TAP_KEY]: tapName(endpoint, container, network),
        [INSTANCE_KEY]: planning.names[0] ?? '',
        ...(peerCids.length > 0 && { [PEER_CIDS_KEY]: peerCids.join(',') }),
      },
    },
  };
}

function refuseOthers(existing: LogicalPortView, names: readonly string[]): void {
  if (isOfInstance(existing, names)) return;
  const owner = existing.isOurs ? `another control process (${existing.externalIds[INSTANCE_KEY]})` : 'somebody else';
  throw new ArcaError(
    'attachment-conflict',
    `the logical port ${existing.name} exists already and belongs to ${owner}; it is left alone`,
  );
}

function freePort({ vsockPorts: { first, last }, taken }: PortPlanning): number {
  for (let port = first; port <= last; port++) if (!taken.has(port)) return port;
  throw new ArcaError(
    'ports-exhausted',
    `every vsock port from ${first} to ${last} is in use; detach something, or start arca-control with a larger --vsock-ports`,
  );
}

interface Difference {
  readonly property: string;
  readonly existing: unknown;
  readonly wanted: unknown;
}

/** What was left open to be drawn may be any. */
function differencesOf(existing: LogicalPortView, spec: AttachmentSpec): readonly Difference[] {
  const { externalIds, addresses, dynamicAddresses } = existing;
  const has = `${addresses.join(' ')} ${dynamicAddresses}`.toLowerCase().split(/\s+/);
  const endpoint = externalIds[ENDPOINT_KEY] ?? '';
  const compare = (property: string, is: unknown, wanted: unknown, isSame: boolean): readonly Difference[] =>
    isSame ? [] : [{ property, existing: is, wanted }];
  const drawn = dynamicAddresses === '' ? addresses.join(' ') : dynamicAddresses;
  return [
    ...(spec.endpoint === undefined
      ? []
      : compare(
          'endpoint',
          endpoint,
          streamEndpointText(spec.endpoint),
          endpoint === streamEndpointText(spec.endpoint),
        )),
    ...(spec.mac === undefined ? [] : compare('mac', drawn, spec.mac, has.includes(spec.mac))),
    ...(spec.address === undefined ? [] : compare('address', drawn, spec.address, has.includes(spec.address))),
    ...comparePeerCids(readPeerCids(externalIds[PEER_CIDS_KEY]), spec.peerCids ?? []),
  ];
}

function comparePeerCids(existing: readonly number[], wanted: readonly number[]): readonly Difference[] {
  const text = (cids: readonly number[]): string => [...cids].sort((one, other) => one - other).join(',');
  return text(existing) === text(wanted) ? [] : [{ property: 'peerCids', existing, wanted }];
}

function textOf(value: unknown): string {
  return Array.isArray(value) ? value.join(', ') || 'any' : String(value);
}

/** The vsock port that was drawn for it and turned out to be somebody's. */
function drawnPort(spec: AttachmentSpec, error: unknown): number | undefined {
  if (spec.endpoint !== undefined || !(error instanceof ArcaError)) return undefined;
  if (error.code !== 'endpoint-in-use' && error.code !== 'tap-name-in-use') return undefined;
  const port = error.details?.['vsockPort'];
  return typeof port === 'number' ? port : undefined;
}

function failedAt(
  step: AttachStep,
  error: unknown,
  undoError?: unknown,
  more?: Readonly<Record<string, unknown>>,
): ArcaError {
  const failure = toArcaError(error);
  const rest = undoError === undefined ? '' : `; and it could not be undone: ${toArcaError(undoError).message}`;
  return new ArcaError(failure.code, `${failure.message}${rest}`, {
    cause: error,
    details: { ...failure.details, ...more, step },
  });
}

/** What a person starts in the container. On vsock the control plane is the host, CID 2. */
function connectCommand(endpoint: StreamEndpoint): string {
  const where = endpoint.transport === 'vsock' ? `vsock:2:${endpoint.port}` : `unix:${endpoint.path}`;
  return `arca-tap --connect ${where} --tap eth0`;
}
