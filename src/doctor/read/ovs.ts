/** What OVS's database says of bridges, ports and interfaces, in one transaction: of one moment. */

import { OVS_DATABASE, OWNER, OWNER_KEY } from '../../ovs/port-commands.js';
import { withOvsdb } from '../../ovsdb/client.js';
import type { CallOptions } from '../../ovsdb/json-rpc.js';
import { elements, integer, type Row, text, textMap, uuidText } from '../../ovsdb/values.js';

export interface OvsView {
  readonly bridges: readonly OvsBridge[];
  readonly ports: readonly OvsPort[];
  /** Of the Open_vSwitch row. */
  readonly externalIds: Readonly<Record<string, string>>;
  readonly otherConfig: Readonly<Record<string, string>>;
}

export interface OvsBridge {
  readonly name: string;
  readonly datapathType: string;
  readonly failMode: string;
}

/** A port and its interface. A bond has several, and stands here once for each. */
export interface OvsPort {
  readonly uuid: string;
  readonly name: string;
  /** Of its interface: the network device. */
  readonly device: string;
  readonly bridge: string;
  readonly datapathType: string;
  readonly tag: number | undefined;
  readonly externalIds: Readonly<Record<string, string>>;
  /** A relay made it. */
  readonly isOurs: boolean;
  /** Of its interface: empty for a device that is there by itself. */
  readonly type: string;
  readonly ofport: number | undefined;
  readonly error: string;
}

export function readOvs(socketPath: string, call: CallOptions): Promise<OvsView> {
  const all = { op: 'select', where: [] } as const;
  return withOvsdb({ transport: 'unix', path: socketPath }, call, async (client, left) => {
    const [root, bridges, ports, interfaces] = await client.transact(
      OVS_DATABASE,
      [
        { ...all, table: 'Open_vSwitch', columns: ['external_ids', 'other_config'] },
        { ...all, table: 'Bridge', columns: ['name', 'datapath_type', 'fail_mode', 'ports'] },
        { ...all, table: 'Port', columns: ['_uuid', 'name', 'tag', 'interfaces', 'external_ids'] },
        { ...all, table: 'Interface', columns: ['_uuid', 'name', 'type', 'ofport', 'error'] },
      ],
      left(),
    );
    return viewOf(root?.rows?.[0] ?? {}, bridges?.rows ?? [], ports?.rows ?? [], interfaces?.rows ?? []);
  });
}

/** Pure. */
export function viewOf(
  root: Row,
  bridgeRows: readonly Row[],
  portRows: readonly Row[],
  interfaceRows: readonly Row[],
): OvsView {
  const holders = new Map<string, OvsBridge>();
  const bridges = bridgeRows.map((row) => {
    const bridge = {
      name: text(row['name']),
      // Empty stands for the kernel's: ovs-vswitchd.conf.db(5).
      datapathType: text(row['datapath_type']) || 'system',
      failMode: text(row['fail_mode']),
    };
    for (const port of elements(row['ports'])) holders.set(uuidText(port) ?? '', bridge);
    return bridge;
  });
  const interfaces = new Map(interfaceRows.map((row) => [uuidText(row['_uuid']), row]));
  const ports = portRows.flatMap((row) => {
    const uuid = uuidText(row['_uuid']) ?? '';
    const externalIds = textMap(row['external_ids']);
    const port = {
      uuid,
      name: text(row['name']),
      bridge: holders.get(uuid)?.name ?? '',
      datapathType: holders.get(uuid)?.datapathType ?? '',
      tag: integer(row['tag']),
      externalIds,
      isOurs: externalIds[OWNER_KEY] === OWNER,
    };
    return elements(row['interfaces']).map((reference): OvsPort => {
      const its: Row = interfaces.get(uuidText(reference)) ?? {};
      return {
        ...port,
        device: text(its['name']),
        type: text(its['type']),
        ofport: integer(its['ofport']),
        error: text(its['error']),
      };
    });
  });
  return { bridges, ports, externalIds: textMap(root['external_ids']), otherConfig: textMap(root['other_config']) };
}
