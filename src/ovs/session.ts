/**
 * One connection to OVS's database, and a view of the rows that matter to one port: kept up to date by the server, so
 * that a look-up costs nothing and a change is an event.
 */
import { ArcaError } from '../errors.js';
import { connectOvsdb, OperationError, type Tables } from '../ovsdb/client.js';
import { type CallOptions, deadlineOf, type RpcError } from '../ovsdb/json-rpc.js';
import { integer, type Row, text, textMap, uuidText } from '../ovsdb/values.js';
import { type BridgeFacts, TSO_KEY } from './bridge.js';
import { ovsdbFailure, vswitchdTimeout } from './failures.js';
import {
  choosePortNumber,
  OVS_DATABASE,
  OWNER,
  OWNER_KEY,
  removePortOperations,
  selectHolder,
  selectPort,
} from './port-commands.js';
import { syncWithVswitchd } from './sync.js';

export interface PortView {
  readonly uuid: string;
  readonly tag: number | undefined;
  readonly externalIds: Readonly<Record<string, string>>;
  /** It carries our mark. */
  readonly isOurs: boolean;
  /** False once it was seen that another bridge holds it. */
  readonly isOnBridge: boolean;
}

export interface InterfaceView {
  /** OpenFlow port number; -1: vswitchd could not add it; nothing: not tried yet. */
  readonly ofport: number | undefined;
  readonly ofportRequest: number | undefined;
  readonly error: string;
  /** `up`, `down`, or empty: not known yet. */
  readonly adminState: string;
}

/** What the database holds under the names of a bridge and of a port. */
export interface OvsView {
  readonly bridge: BridgeFacts | undefined;
  readonly port: PortView | undefined;
  readonly interface: InterfaceView | undefined;
}

export type RemoveResult =
  | 'removed'
  /** There was none. */
  | 'absent'
  /** There is one, and it is not ours: it was left alone. */
  | 'foreign';

export interface OvsSession {
  readonly socketPath: string;
  view(): OvsView;
  /** Resolves with what `look` gives as soon as that is not `undefined`. Rejects with an ArcaError at the deadline, on abort, or when the connection is lost. */
  waitFor<T>(look: (view: OvsView) => T | undefined, what: string, options: CallOptions): Promise<T>;
  /** Resolves when vswitchd has worked through all that was committed before the call. */
  syncWithVswitchd(options: CallOptions): Promise<void>;
  /** A number that no interface has or asks for; drawn at random, so that relays that start together draw different ones. */
  freePortNumber(options: CallOptions): Promise<number>;
  /** Removes the port from its bridge if it is ours. Does not wait for vswitchd. */
  removePort(options: CallOptions): Promise<RemoveResult>;
  readonly closed: Promise<RpcError>;
  isOpen(): boolean;
  close(): void;
}

export interface SessionOptions extends CallOptions {
  readonly socketPath: string;
  readonly bridge: string;
  readonly tap: string;
  /** Called after each change of the view, and when the connection ends. */
  readonly onChange?: (() => void) | undefined;
  /** How often it is asked which bridge holds the port; 10 s by default. */
  readonly lookEveryMs?: number | undefined;
}

/** Connects and reads the view. Rejects with `ovs-unreachable` or `ovs-timeout`. */
export async function openOvsSession(options: SessionOptions): Promise<OvsSession> {
  const { socketPath, bridge, tap, onChange, lookEveryMs = LOOK_EVERY_MS } = options;
  const target = { transport: 'unix', path: socketPath } as const;
  const left = deadlineOf(options);
  const waiters = new Set<() => void>();
  /** UUID of a row of our port's name that another bridge holds. */
  let heldElsewhere: string | undefined;

  function changed(): void {
    for (const check of [...waiters]) check();
    onChange?.();
  }

  function rowsChanged(): void {
    changed();
    void lookForHolder();
  }

  const { client, tables } = await (async () => {
    try {
      const client = await connectOvsdb(target, left());
      try {
        const spec = {
          Open_vSwitch: { columns: { external_ids: 'map', other_config: 'map' } },
          Bridge: {
            // Not its ports: they change with each port, and would wake every relay for it.
            columns: { name: 'plain', fail_mode: 'plain', datapath_type: 'plain' },
            where: [['name', '==', bridge]],
          },
          Port: {
            columns: { name: 'plain', tag: 'plain', external_ids: 'map' },
            where: [['name', '==', tap]],
          },
          Interface: {
            columns: { name: 'plain', ofport: 'plain', ofport_request: 'plain', error: 'plain', admin_state: 'plain' },
            where: [['name', '==', tap]],
          },
        } as const;
        return { client, tables: await client.monitor(OVS_DATABASE, spec, rowsChanged, left()) };
      } catch (error) {
        client.close();
        throw error;
      }
    } catch (error) {
      throw ovsdbFailure(error, target, `looking at bridge ${bridge}`);
    }
  })();
  const looking = setInterval(() => void lookForHolder(), lookEveryMs).unref();
  void client.closed.then(() => {
    clearInterval(looking);
    changed();
  });

  const view = (): OvsView => readView(tables, heldElsewhere);

  /**
   * Which bridge holds the port is asked, after each change of our rows and now and then, and not watched: nobody moves
   * a port but by writing to the database by hand, and to watch the ports of a bridge is to be woken by each of them.
   */
  async function lookForHolder(): Promise<void> {
    const portUuid = firstRow(tables, 'Port')?.[0];
    if (portUuid === undefined) return;
    try {
      const [held] = await client.transact(OVS_DATABASE, selectHolder(bridge, portUuid), {
        timeoutMs: LOOK_TIMEOUT_MS,
      });
      const seen = held?.rows?.length === 0 ? portUuid : undefined;
      if (seen === heldElsewhere) return;
      heldElsewhere = seen;
      changed();
    } catch {
      // The connection is lost, which is told by itself, or the server is silent, which the next change finds out.
    }
  }

  async function transact(operations: Parameters<typeof client.transact>[1], doing: string, call: CallOptions) {
    try {
      return await client.transact(OVS_DATABASE, operations, call);
    } catch (error) {
      if (error instanceof OperationError) throw error;
      throw ovsdbFailure(error, target, doing);
    }
  }

  return {
    socketPath,
    view,
    closed: client.closed,
    isOpen: client.isOpen,
    close: client.close,

    waitFor(look, what, call) {
      return new Promise((resolve, reject) => {
        const finish = (settle: () => void): void => {
          waiters.delete(check);
          clearTimeout(timer);
          call.signal?.removeEventListener('abort', check);
          settle();
        };
        const check = (): void => {
          const seen = look(view());
          if (seen !== undefined) finish(() => resolve(seen));
          else if (call.signal?.aborted) {
            finish(() => reject(new ArcaError('timed-out', `stopped while waiting for ${what}`)));
          } else if (!client.isOpen()) {
            void client.closed.then((why) => finish(() => reject(ovsdbFailure(why, target, `waiting for ${what}`))));
          }
        };
        const timer = setTimeout(
          () => finish(() => reject(vswitchdTimeout(target, what, call.timeoutMs))),
          call.timeoutMs,
        );
        waiters.add(check);
        call.signal?.addEventListener('abort', check, { once: true });
        check();
      });
    },

    async syncWithVswitchd(call) {
      try {
        await syncWithVswitchd(client, call);
      } catch (error) {
        throw ovsdbFailure(error, target, 'waiting for ovs-vswitchd');
      }
    },

    async freePortNumber(call) {
      const columns = ['ofport', 'ofport_request'];
      const [found] = await transact([{ op: 'select', table: 'Interface', where: [], columns }], 'reading ports', call);
      return choosePortNumber(found?.rows ?? [], Math.random);
    },

    async removePort(call) {
      const doing = `removing port ${tap}`;
      // Without a look before it: at a server that is stopped the removal waits for it to go on, though we are gone.
      const known = view().port;
      if (known?.isOurs && (await removeIfOurs(known.uuid, doing, call))) return 'removed';
      for (;;) {
        const [ports, interfaces] = await transact(selectPort(tap), doing, call);
        const row = ports?.rows?.[0];
        const portUuid = uuidText(row?.['_uuid']);
        // An interface of that name in somebody's bond is none of our ports.
        if (row === undefined || portUuid === undefined) return interfaces?.rows?.length ? 'foreign' : 'absent';
        if (textMap(row['external_ids'])[OWNER_KEY] !== OWNER) return 'foreign';
        if (await removeIfOurs(portUuid, doing, call)) return 'removed';
      }
    },
  };

  /** False: that row is gone, or has lost our mark. */
  async function removeIfOurs(portUuid: string, doing: string, call: CallOptions): Promise<boolean> {
    try {
      await transact(removePortOperations(tap, portUuid), doing, call);
      return true;
    } catch (error) {
      if (error instanceof OperationError && error.index === 0) return false;
      const failure = ovsdbFailure(error, target, doing);
      if (failure.code === 'ovs-timeout') await leaveRemoval(portUuid);
      throw failure;
    }
  }

  /**
   * For a server that is stopped: it reads the removal when it goes on, though we are gone. From a connection without a
   * monitor, that is: on this one it may first find something to tell us, and give the connection up unread.
   */
  async function leaveRemoval(portUuid: string): Promise<void> {
    try {
      const plain = await connectOvsdb(target, { timeoutMs: LEAVE_TIMEOUT_MS });
      await plain
        .transact(OVS_DATABASE, removePortOperations(tap, portUuid), { timeoutMs: LEAVE_TIMEOUT_MS })
        .finally(plain.close);
    } catch {
      // No answer is what is expected.
    }
  }
}

const LOOK_EVERY_MS = 10_000;
const LOOK_TIMEOUT_MS = 5_000;
/** A server that is stopped still takes connections, at once. */
const LEAVE_TIMEOUT_MS = 50;

/** Pure: the typed view of the monitored rows. `heldElsewhere`: UUID of a Port row that another bridge holds. */
export function readView(tables: Tables, heldElsewhere?: string): OvsView {
  const root = firstRow(tables, 'Open_vSwitch')?.[1] ?? {};
  const rootIds = textMap(root['external_ids']);
  const bridge = firstRow(tables, 'Bridge')?.[1];
  const port = firstRow(tables, 'Port');
  const iface = firstRow(tables, 'Interface')?.[1];
  return {
    bridge: bridge && {
      name: text(bridge['name']),
      failMode: text(bridge['fail_mode']),
      // ovs-vswitchd.conf.db(5): empty means system.
      datapathType: text(bridge['datapath_type']) || 'system',
      ovnBridge: rootIds['ovn-bridge'] ?? '',
      systemId: rootIds['system-id'] ?? '',
      userspaceTso: textMap(root['other_config'])[TSO_KEY] === 'true',
    },
    port: port && readPort(port, heldElsewhere),
    interface: iface && {
      ofport: integer(iface['ofport']),
      ofportRequest: integer(iface['ofport_request']),
      error: text(iface['error']),
      adminState: text(iface['admin_state']),
    },
  };
}

function readPort([id, row]: readonly [string, Row], heldElsewhere: string | undefined): PortView {
  const externalIds = textMap(row['external_ids']);
  return {
    uuid: id,
    tag: integer(row['tag']),
    externalIds,
    isOurs: externalIds[OWNER_KEY] === OWNER,
    isOnBridge: id !== heldElsewhere,
  };
}

function firstRow(tables: Tables, table: string): readonly [string, Row] | undefined {
  return tables.get(table)?.entries().next().value;
}
