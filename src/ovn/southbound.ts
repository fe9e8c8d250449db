/**
 * Chassis in OVN's southbound database, over a connection that is made for each call: they are looked at rarely. What is
 * decided about them stands in src/control/chassis.ts.
 */
import {
  type MonitorSpec,
  type Operation,
  OperationError,
  type OvsdbClient,
  type Tables,
  withOvsdb,
} from '../ovsdb/client.js';
import { type CallOptions, RpcError, type RpcTarget } from '../ovsdb/json-rpc.js';
import { elements, map, text, textMap, uuid, uuidText } from '../ovsdb/values.js';
import { ovnFailure } from './failures.js';
import { CONTROL_OWNER, OWNER_KEY } from './names.js';

export interface Encap {
  readonly type: string;
  readonly ip: string;
}

export interface ChassisView {
  readonly uuid: string;
  readonly name: string;
  readonly hostname: string;
  readonly encaps: readonly Encap[];
  /** It has our mark: no ovn-controller made it, and no ovn-sbctl. */
  readonly hasOurMark: boolean;
}

export interface Southbound {
  readonly target: RpcTarget;
  listChassis(options: CallOptions): Promise<readonly ChassisView[]>;
  /**
   * Makes the rows that `ovn-sbctl chassis-add NAME geneve IP` makes, with our mark. Nothing: somebody else made a
   * chassis with that name or that address meanwhile; look again.
   */
  addChassis(
    spec: { readonly name: string; readonly encapIp: string },
    options: CallOptions,
  ): Promise<ChassisView | undefined>;
  /** Removes it if it has our mark. False: it is not there, or has not. */
  removeChassis(uuid: string, options: CallOptions): Promise<boolean>;
  /** Resolves with the chassis as soon as there is one of that name, and nothing at the deadline. */
  waitForChassis(name: string, options: CallOptions): Promise<ChassisView | undefined>;
  /** Resolves when the server answers. */
  echo(options: CallOptions): Promise<void>;
}

const DATABASE = 'OVN_Southbound';
const ENCAP_TYPE = 'geneve';

const MONITOR = {
  Chassis: { columns: { name: 'plain', hostname: 'plain', encaps: 'set', external_ids: 'map' } },
  Encap: { columns: { type: 'plain', ip: 'plain' } },
} as const satisfies MonitorSpec;

/** Nothing is connected until a call; each call ends its connection. */
export function openSouthbound(target: RpcTarget): Southbound {
  async function withClient<T>(
    doing: string,
    call: CallOptions,
    use: (client: OvsdbClient, left: () => CallOptions) => Promise<T>,
  ): Promise<T> {
    try {
      // A server that is cut off from its cluster would answer from what it had then.
      const leaderOf = target.transport === 'cluster' ? DATABASE : undefined;
      return await withOvsdb(target, { ...call, leaderOf }, use);
    } catch (error) {
      throw ovnFailure(error, 'southbound', target, doing);
    }
  }

  const readAll = async (client: OvsdbClient, call: CallOptions): Promise<readonly ChassisView[]> =>
    readChassis(await client.monitor(DATABASE, MONITOR, () => {}, call));

  return {
    target,

    listChassis(call) {
      return withClient('reading chassis', call, (client, left) => readAll(client, left()));
    },

    addChassis(spec, call) {
      return withClient(`registering chassis ${spec.name}`, call, async (client, left) => {
        const operations = addChassisOperations(spec);
        try {
          await client.transact(DATABASE, operations, left());
        } catch (error) {
          if (error instanceof OperationError && error.error === 'timed out') return undefined;
          throw error;
        }
        return (await readAll(client, left())).find(({ name }) => name === spec.name);
      });
    },

    removeChassis(chassisUuid, call) {
      return withClient('removing a chassis', call, async (client, left) => {
        const [removed] = await client.transact(DATABASE, removeChassisOperations(chassisUuid), left());
        return (removed?.count ?? 0) > 0;
      });
    },

    waitForChassis(name, call) {
      return withClient(`waiting for chassis ${name}`, call, async (client, left) => {
        let look = (): void => {};
        const tables = await client.monitor(DATABASE, MONITOR, () => look(), left());
        return new Promise<ChassisView | undefined>((resolve, reject) => {
          const { timeoutMs, signal } = left();
          const finish = (settle: () => void): void => {
            look = () => {};
            clearTimeout(timer);
            signal?.removeEventListener('abort', onAbort);
            settle();
          };
          const onAbort = (): void => finish(() => reject(new RpcError('aborted', 'aborted')));
          const timer = setTimeout(() => finish(() => resolve(undefined)), timeoutMs);
          signal?.addEventListener('abort', onAbort, { once: true });
          void client.closed.then((why) => finish(() => reject(why)));
          look = () => {
            const found = readChassis(tables).find((row) => row.name === name);
            if (found !== undefined) finish(() => resolve(found));
          };
          look();
        });
      });
    },

    echo(call) {
      return withClient('asking whether it lives', call, (client, left) => client.echo(left()));
    },
  };
}

/** Pure. In the order of their names. */
export function readChassis(tables: Tables): readonly ChassisView[] {
  const encaps = tables.get('Encap');
  const chassis: ChassisView[] = [];
  for (const [id, row] of tables.get('Chassis') ?? []) {
    chassis.push({
      uuid: id,
      name: text(row['name']),
      hostname: text(row['hostname']),
      encaps: elements(row['encaps']).flatMap((reference) => {
        const encap = encaps?.get(uuidText(reference) ?? '');
        return encap === undefined ? [] : [{ type: text(encap['type']), ip: text(encap['ip']) }];
      }),
      hasOurMark: textMap(row['external_ids'])[OWNER_KEY] === CONTROL_OWNER,
    });
  }
  return chassis.sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Pure: what ovn-sbctl's chassis-add writes (OVN 23.03), behind guards that nobody has that name or address. */
export function addChassisOperations({
  name,
  encapIp,
}: {
  readonly name: string;
  readonly encapIp: string;
}): readonly Operation[] {
  const none = { op: 'wait', timeout: 0, until: '==', rows: [] } as const;
  return [
    { ...none, table: 'Chassis', where: [['name', '==', name]], columns: ['name'] },
    {
      ...none,
      table: 'Encap',
      where: [
        ['type', '==', ENCAP_TYPE],
        ['ip', '==', encapIp],
      ],
      columns: ['ip'],
    },
    {
      op: 'insert',
      table: 'Encap',
      'uuid-name': 'encap',
      row: { type: ENCAP_TYPE, ip: encapIp, chassis_name: name, options: map({ csum: 'true' }) },
    },
    {
      op: 'insert',
      table: 'Chassis',
      row: { name, encaps: ['named-uuid', 'encap'], external_ids: map({ [OWNER_KEY]: CONTROL_OWNER }) },
    },
  ];
}

/** Pure. The Encap row goes with its chassis. */
export function removeChassisOperations(chassisUuid: string): readonly Operation[] {
  const isOurs = map({ [OWNER_KEY]: CONTROL_OWNER });
  return [
    {
      op: 'delete',
      table: 'Chassis',
      where: [
        ['_uuid', '==', uuid(chassisUuid)],
        ['external_ids', 'includes', isOurs],
      ],
    },
  ];
}
