/** The ports of OVS that carry our mark, over a connection that is made for each call: they are looked at rarely. */
import { OperationError, type OvsdbClient, withOvsdb } from '../ovsdb/client.js';
import type { CallOptions, RpcTarget } from '../ovsdb/json-rpc.js';
import { map, text, textMap, uuidText } from '../ovsdb/values.js';
import { ovsdbFailure } from './failures.js';
import { OVS_DATABASE, OWNER, OWNER_KEY, removePortOperations } from './port-commands.js';
import { syncWithVswitchd } from './sync.js';

export interface OwnedPort {
  readonly uuid: string;
  readonly name: string;
}

export interface OvsFacts {
  /** `external_ids:system-id`; nothing where it is not set. */
  readonly systemId: string | undefined;
  /** The ports that carry our mark, on whatever bridge. */
  readonly ports: readonly OwnedPort[];
}

/** Rejects with `ovs-unreachable` or `ovs-timeout`. */
export function readOvsFacts(socketPath: string, call: CallOptions): Promise<OvsFacts> {
  return withOvs(socketPath, 'looking at ports', call, async (client, left) => {
    const [root, ports] = await client.transact(
      OVS_DATABASE,
      [
        { op: 'select', table: 'Open_vSwitch', where: [], columns: ['external_ids'] },
        {
          op: 'select',
          table: 'Port',
          where: [['external_ids', 'includes', map({ [OWNER_KEY]: OWNER })]],
          columns: ['_uuid', 'name'],
        },
      ],
      left(),
    );
    return {
      systemId: textMap(root?.rows?.[0]?.['external_ids'])['system-id'] || undefined,
      ports: (ports?.rows ?? []).map((row) => ({ uuid: uuidText(row['_uuid']) ?? '', name: text(row['name']) })),
    };
  });
}

/** False: that row is gone, or has lost our mark. Does not wait for vswitchd. */
export function removeOwnedPort(socketPath: string, port: OwnedPort, call: CallOptions): Promise<boolean> {
  return withOvs(socketPath, `removing port ${port.name}`, call, async (client, left) => {
    try {
      await client.transact(OVS_DATABASE, removePortOperations(port.name, port.uuid), left());
      return true;
    } catch (error) {
      if (error instanceof OperationError && error.index === 0) return false;
      throw error;
    }
  });
}

/** Resolves when ovsdb-server answers. */
export function echoOvsdb(socketPath: string, call: CallOptions): Promise<void> {
  return withOvs(socketPath, 'asking for an echo', call, async (client, left) => {
    await client.transact(OVS_DATABASE, [], left());
  });
}

/** Resolves with the number of the configuration that vswitchd has worked through by now; rejects when it did not come to that. */
export function syncVswitchd(socketPath: string, call: CallOptions): Promise<number> {
  return withOvs(socketPath, 'waiting for ovs-vswitchd', call, (client, left) => syncWithVswitchd(client, left()));
}

async function withOvs<T>(
  socketPath: string,
  doing: string,
  call: CallOptions,
  use: (client: OvsdbClient, left: () => CallOptions) => Promise<T>,
): Promise<T> {
  const target: RpcTarget = { transport: 'unix', path: socketPath };
  try {
    return await withOvsdb(target, call, use);
  } catch (error) {
    throw ovsdbFailure(error, target, doing);
  }
}
