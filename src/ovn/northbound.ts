/**
 * OVN's northbound database over a connection of our own, kept up to date by a monitor and made anew when it is lost.
 * It is where networks, tags and attachments live: docs/northbound.md.
 *
 * Every change is planned from the view and written in one transaction that fails if the view is not what the database
 * holds any more; then it is planned anew. So two control processes can't give away one tag twice.
 */
import { ArcaError } from '../errors.js';
import { type MonitorSpec, type Operation, OperationError } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf, RpcError, type RpcTarget } from '../ovsdb/json-rpc.js';
import { type OvsdbSession, openOvsdbLink } from '../ovsdb/link.js';
import { integer } from '../ovsdb/values.js';
import { ovnFailure } from './failures.js';
import { MADE_KEY, SUBNET_KEY } from './names.js';
import {
  BUMP_NB_CFG,
  bumpGeneration,
  checkPortIsFree,
  createPortTransaction,
  createSwitchTransaction,
  generationGuard,
  type LogicalPortSpec,
  type LogicalSwitchSpec,
  type LogicalSwitchUpdate,
  madeBy,
  nextGeneration,
  removePortTransaction,
  removeSwitchTransaction,
  type Transaction,
  updateSwitchTransaction,
} from './northbound-operations.js';
import {
  type LogicalPortView,
  type LogicalSwitchView,
  type NorthboundView,
  type PortAddresses,
  portAddresses,
  readNorthboundView,
} from './northbound-view.js';
import { createTurns, lateFailure } from './turns.js';

/** What a plan makes of the view: a row to write, or one that is there already and is as it should be. */
export type Plan<Spec, View> = { readonly write: Spec } | { readonly keep: View };

export interface Written<View> {
  readonly created: boolean;
  readonly row: View;
}

/**
 * Calls wait for a connection for a short while (a server that is restarted), then reject with `northbound-unreachable`;
 * with `northbound-timeout` at their deadline. What a `create` that rejects may have left in the server's queue is
 * undone before anything else when the server answers again.
 */
export interface Northbound {
  readonly target: RpcTarget;
  /** Switches and ports as the monitor has them. Throws `northbound-unreachable` while there is no connection. */
  view(): NorthboundView;
  /** As `view`, but waits for a connection, and for what was written before the call by whomever. */
  currentView(options: CallOptions): Promise<NorthboundView>;
  /**
   * Called after each change of the view, and when the connection is lost or made. What comes back ends that. It must
   * not throw.
   */
  onChange(listener: () => void): () => void;
  isConnected(): boolean;
  /** Resolves with what `look` gives as soon as that is not `undefined`; `what` completes "waiting for ...". */
  waitFor<T>(look: (view: NorthboundView) => T | undefined, what: string, options: CallOptions): Promise<T>;

  /**
   * `plan` is called again, with a newer view, each time that somebody was faster. What it throws is what the call
   * rejects with. This holds for each `plan` here.
   */
  createSwitch(
    plan: (view: NorthboundView) => Plan<LogicalSwitchSpec, LogicalSwitchView>,
    options: CallOptions,
  ): Promise<Written<LogicalSwitchView>>;
  /** Adds and overwrites keys of a switch that exists. */
  updateSwitch(
    plan: (view: NorthboundView) => Plan<LogicalSwitchUpdate, LogicalSwitchView>,
    options: CallOptions,
  ): Promise<LogicalSwitchView>;
  /** `plan` gives the switch to remove, which has our mark and no port. */
  removeSwitch(plan: (view: NorthboundView) => LogicalSwitchView, options: CallOptions): Promise<void>;

  /**
   * Rejects with what `plan` throws, and with `attachment-conflict` (name), `endpoint-in-use` (endpoint or TAP),
   * `mac-in-use` and `address-in-use` when another port has what `plan` wants.
   */
  createPort(
    plan: (view: NorthboundView) => Plan<LogicalPortSpec, LogicalPortView>,
    options: CallOptions,
  ): Promise<Written<LogicalPortView>>;
  /** Removes the port if it is there and has our mark. False: it was not, or has not. */
  removePort(uuid: string, options: CallOptions): Promise<boolean>;
  /**
   * What northd draws, or what was given. Rejects with `ports-exhausted` when northd has no address left, with
   * `northbound-timeout` when northd says nothing, with `attachment-unknown` when the port goes meanwhile.
   */
  waitForAddresses(portUuid: string, options: CallOptions): Promise<PortAddresses>;

  /** Resolves when northd has worked through all that was written before. */
  sync(options: CallOptions): Promise<void>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
  /** Resolves when nothing is left: no timer, no connection. */
  stop(): Promise<void>;
}

export interface NorthboundOptions {
  readonly target: RpcTarget;
  /** How long the server may be silent before it is asked for an echo, and how long it has for that. */
  readonly probeIntervalMs?: number;
  readonly probeTimeoutMs?: number;
}

const DATABASE = 'OVN_Northbound';
/** What a server that is restarted takes to come back. */
const RECONNECT_GRACE_MS = 1000;
/** With less time than this nothing is begun: it would only have to be given up. */
const LEAST_MS = 5;

const MONITOR = {
  NB_Global: { columns: { external_ids: 'map', nb_cfg: 'plain', sb_cfg: 'plain' } },
  Logical_Switch: { columns: { name: 'plain', external_ids: 'map', other_config: 'map', ports: 'set' } },
  Logical_Switch_Port: {
    columns: { name: 'plain', type: 'plain', addresses: 'set', dynamic_addresses: 'plain', external_ids: 'map' },
  },
} as const satisfies MonitorSpec;

/** What a change comes to, seen from one view: nothing, or a transaction and what to make of the view after it. */
type Change<T> =
  | { readonly done: T }
  | { readonly transaction: Transaction; readonly read: (view: NorthboundView) => T | undefined };

/** Returns at once; the connection is made in the background, and made anew for as long as it takes. */
export function openNorthbound(options: NorthboundOptions): Northbound {
  const { target } = options;
  const listeners = new Set<() => void>();
  const turns = createTurns();
  /** Generations of changes whose outcome is not known: the server took them and did not answer. */
  const abandoned = new Set<string>();
  let cached: { readonly of: OvsdbSession; readonly view: NorthboundView } | undefined;

  const link = openOvsdbLink({
    ...options,
    database: DATABASE,
    monitor: MONITOR,
    prepare: settleAbandoned,
    onChange() {
      cached = undefined;
      for (const listener of [...listeners]) listener();
    },
  });

  function viewOf(session: OvsdbSession): NorthboundView {
    if (cached?.of !== session) cached = { of: session, view: readNorthboundView(session.tables) };
    return cached.view;
  }

  function failed(error: unknown, doing: string): ArcaError {
    return ovnFailure(error, 'northbound', target, doing);
  }

  async function connected(doing: string, call: CallOptions): Promise<OvsdbSession> {
    try {
      return await link.waitForSession({ ...call, timeoutMs: Math.min(call.timeoutMs, RECONNECT_GRACE_MS) });
    } catch (error) {
      throw failed(error, doing);
    }
  }

  /**
   * Plans and writes until nobody was faster. One change after another: together they would only outrun each other. The
   * answer to a transaction comes behind the updates that it caused, and those before it (ovsdb-server flushes monitors
   * before each answer), so the view is new enough for what comes next, whether the transaction succeeded or lost.
   */
  function change<T>(
    plan: (view: NorthboundView, generation: string) => Change<T>,
    doing: string,
    call: CallOptions,
  ): Promise<T> {
    const left = deadlineOf(call);
    const changeInTurn = async (): Promise<T> => {
      /** The server has answered since the call began. */
      let isFresh = false;
      for (;;) {
        if (left().timeoutMs <= LEAST_MS) throw lateFailure(doing, call);
        const session = await connected(doing, left());
        const view = viewOf(session);
        const generation = nextGeneration(view.globalIds);
        const planned = attempt(() => plan(view, generation));
        if (!isFresh && !('transaction' in planned)) {
          // A no, or that there is nothing to do, is not said from a view that an update is on its way to.
          await barrier(session, doing, left());
          isFresh = true;
          if (viewOf(session) !== view) continue;
        }
        if ('error' in planned) throw planned.error;
        if ('done' in planned) return planned.done;
        if (await write(session, planned.transaction, generation, doing, left())) {
          const result = planned.read(viewOf(session));
          if (result !== undefined) return result;
          throw new ArcaError('unexpected', `what was written while ${doing} was removed by somebody else at once`);
        }
        isFresh = true;
      }
    };
    return turns.take(changeInTurn, { doing, ...call });
  }

  /** An empty transaction: its answer too comes behind every update. */
  async function barrier({ client }: OvsdbSession, doing: string, call: CallOptions): Promise<void> {
    try {
      await client.transact(DATABASE, [], call);
    } catch (error) {
      throw failed(error, doing);
    }
  }

  /** False: the view was old. */
  async function write(
    session: OvsdbSession,
    { guards, changes }: Transaction,
    generation: string,
    doing: string,
    call: CallOptions,
  ): Promise<boolean> {
    const view = viewOf(session);
    const waits = [...guards, generationGuard(view)];
    const operations: Operation[] = [...waits, ...changes, bumpGeneration(view, generation)];
    try {
      await session.client.transact(DATABASE, operations, call);
      return true;
    } catch (error) {
      if (error instanceof OperationError && error.index < waits.length && error.error === 'timed out') {
        // Whoever was faster is in the view by now; if not, the view and the database differ in what no update tells.
        if (viewOf(session) === view && session.client.isOpen()) throw failed(error, doing);
        return false;
      }
      if (error instanceof RpcError) {
        abandoned.add(generation);
        if (session.client.isOpen()) session.client.close();
      }
      throw failed(error, doing);
    }
  }

  /**
   * A server that hangs reads what is in its queue when it goes on, though we have told our caller that it failed. So
   * the first thing on a new connection is a change of generation: whatever is still in the queue fails from then on.
   * What was done before that is undone.
   */
  async function settleAbandoned(session: OvsdbSession, call: CallOptions): Promise<void> {
    const doing = 'undoing what was given up';
    const generations = [...abandoned];
    if (generations.length === 0) return;
    for (;;) {
      const view = readNorthboundView(session.tables);
      const { ports, switches } = madeBy(view, generations);
      const [port] = ports;
      const row = switches.find((made) => made.ports.length === 0);
      const { guards, changes } =
        port !== undefined
          ? removePortTransaction(port)
          : row !== undefined
            ? removeSwitchTransaction(row.uuid)
            : { guards: [], changes: [] };
      const waits = [...guards, generationGuard(view)];
      const bump = bumpGeneration(view, nextGeneration(view.globalIds));
      try {
        await session.client.transact(DATABASE, [...waits, ...changes, bump], call);
      } catch (error) {
        if (error instanceof OperationError && error.index < waits.length) continue;
        throw failed(error, doing);
      }
      const rest = madeBy(readNorthboundView(session.tables), generations);
      if (rest.ports.length === 0 && rest.switches.every((made) => made.ports.length > 0)) break;
    }
    for (const generation of generations) abandoned.delete(generation);
  }

  function waitFor<T>(
    look: (view: NorthboundView) => T | undefined,
    what: string,
    { timeoutMs, signal }: CallOptions,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        listeners.delete(check);
        clearTimeout(timer);
        signal?.removeEventListener('abort', check);
        settle();
      };
      const check = (): void => {
        if (signal?.aborted) {
          finish(() => reject(new ArcaError('timed-out', `stopped while waiting for ${what}`)));
          return;
        }
        const session = link.session();
        if (session === undefined) return;
        try {
          const seen = look(viewOf(session));
          if (seen !== undefined) finish(() => resolve(seen));
        } catch (error) {
          finish(() => reject(error));
        }
      };
      const timer = setTimeout(() => finish(() => reject(deadlineError(what, timeoutMs))), timeoutMs);
      listeners.add(check);
      signal?.addEventListener('abort', check, { once: true });
      check();
    });
  }

  function deadlineError(what: string, timeoutMs: number): ArcaError {
    const why = link.session() === undefined ? link.failure() : undefined;
    if (why !== undefined) return failed(why, `waiting for ${what}`);
    return new ArcaError(
      'northbound-timeout',
      `ovn-northd does not answer: waited ${Math.round(timeoutMs)} ms for ${what}. ` +
        'Is the daemon running (ovn-appctl -t ovn-northd status)?',
      { details: { daemon: 'ovn-northd' } },
    );
  }

  return {
    target,
    isConnected: () => link.session() !== undefined,
    waitFor,

    view() {
      const session = link.session();
      if (session !== undefined) return viewOf(session);
      throw failed(link.failure() ?? new RpcError('unreachable', 'not connected yet'), 'reading networks');
    },

    async currentView(call) {
      const left = deadlineOf(call);
      const session = await connected('reading networks', left());
      await barrier(session, 'reading networks', left());
      return viewOf(session);
    },

    onChange(listener) {
      // A function of its own, so that one listener may be added twice.
      const entry = (): void => listener();
      listeners.add(entry);
      return () => listeners.delete(entry);
    },

    createSwitch(plan, call) {
      return change<Written<LogicalSwitchView>>(
        (view, generation) => {
          const planned = plan(view);
          if ('keep' in planned) return { done: { created: false, row: planned.keep } };
          return {
            transaction: createSwitchTransaction(planned.write, generation),
            read: ({ switches }) => written(switches, generation),
          };
        },
        'creating a network',
        call,
      );
    },

    updateSwitch(plan, call) {
      return change(
        (view) => {
          const planned = plan(view);
          if ('keep' in planned) return { done: planned.keep };
          const { uuid } = planned.write.row;
          return {
            transaction: updateSwitchTransaction(planned.write),
            read: ({ switches }) => switches.find((row) => row.uuid === uuid),
          };
        },
        'changing a network',
        call,
      );
    },

    async removeSwitch(plan, call) {
      await change(
        (view) => ({ transaction: removeSwitchTransaction(plan(view).uuid), read: () => true }),
        'removing a network',
        call,
      );
    },

    createPort(plan, call) {
      return change<Written<LogicalPortView>>(
        (view, generation) => {
          const planned = plan(view);
          if ('keep' in planned) return { done: { created: false, row: planned.keep } };
          checkPortIsFree(planned.write, view);
          return {
            transaction: createPortTransaction(planned.write, view, generation),
            read: ({ ports }) => written(ports, generation),
          };
        },
        'creating a logical port',
        call,
      );
    },

    removePort(uuid, call) {
      return change<boolean>(
        ({ ports }) => {
          const port = ports.find((candidate) => candidate.uuid === uuid);
          if (!port?.isOurs) return { done: false };
          return { transaction: removePortTransaction(port), read: () => true };
        },
        'removing a logical port',
        call,
      );
    },

    waitForAddresses(portUuid, call) {
      return waitFor((view) => drawnAddresses(view, portUuid), 'northd to draw addresses', call);
    },

    async sync(call) {
      const doing = 'waiting for ovn-northd';
      const left = deadlineOf(call);
      const { client } = await connected(doing, left());
      const bumped = await client.transact(DATABASE, BUMP_NB_CFG, left()).catch((error: unknown) => {
        throw failed(error, doing);
      });
      const nbCfg = integer(bumped[1]?.rows?.[0]?.['nb_cfg']) ?? 0;
      await waitFor(({ sbCfg }) => (sbCfg >= nbCfg ? true : undefined), 'it to work through what was written', left());
    },

    async echo(call) {
      const doing = 'asking whether it lives';
      const left = deadlineOf(call);
      const { client } = await connected(doing, left());
      await client.echo(left()).catch((error: unknown) => {
        throw failed(error, doing);
      });
    },

    stop: link.stop,
  };
}

function attempt<T extends object>(make: () => T): T | { readonly error: unknown } {
  try {
    return make();
  } catch (error) {
    return { error };
  }
}

function written<View extends { readonly externalIds: Readonly<Record<string, string>> }>(
  rows: readonly View[],
  generation: string,
): Written<View> | undefined {
  const row = rows.find(({ externalIds }) => externalIds[MADE_KEY] === generation);
  return row && { created: true, row };
}

/** Pure. northd gives a port the MAC alone when its switch has no subnet, or no address left in it. */
function drawnAddresses({ ports, switches }: NorthboundView, portUuid: string): PortAddresses | undefined {
  const port = ports.find(({ uuid }) => uuid === portUuid);
  if (port === undefined) {
    throw new ArcaError('attachment-unknown', 'the logical port was removed while it waited for its addresses');
  }
  const drawn = portAddresses(port);
  if (drawn === undefined || drawn.addresses.length > 0) return drawn;
  const subnet = switches.find(({ uuid }) => uuid === port.switchUuid)?.otherConfig[SUBNET_KEY];
  if (subnet === undefined) return drawn;
  throw new ArcaError(
    'ports-exhausted',
    `every address of ${subnet} is in use, the subnet of network ${JSON.stringify(port.network)}: northd gave ` +
      `${JSON.stringify(port.name)} none. Detach what is not needed, or make a larger network`,
    { details: { network: port.network, subnet } },
  );
}
