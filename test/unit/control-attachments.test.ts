import { describe, expect, it } from 'vitest';
import { planPort } from '../../src/control/attachments.js';
import type { AttachmentSpec } from '../../src/control/model.js';
import { instanceNames, readWanted, relaySpecOf } from '../../src/control/wanted.js';
import type { LogicalPortView, LogicalSwitchView, NorthboundView } from '../../src/ovn/northbound-view.js';

const INSTANCE = 'host-1:/run/arca';

function switchRow(name: string, more: Partial<LogicalSwitchView> = {}): LogicalSwitchView {
  return {
    uuid: `uuid-${name}`,
    name,
    externalIds: { vlan_tag: '100', 'arca-dns': '10.9.0.1', 'arca-mtu': '1400' },
    otherConfig: { subnet: '10.9.0.0/24', gateway: '10.9.0.1' },
    ports: [],
    isOurs: true,
    ...more,
  };
}

function portRow(container: string, more: Partial<LogicalPortView> = {}): LogicalPortView {
  return {
    uuid: `uuid-${container}`,
    name: `${container}/net-a`,
    type: '',
    addresses: ['dynamic'],
    dynamicAddresses: '02:00:00:00:00:01 10.9.0.2',
    externalIds: {
      'arca-container': container,
      'arca-network': 'net-a',
      'arca-endpoint': 'vsock:10000',
      'arca-tap': 'tap10000',
      'arca-instance': INSTANCE,
    },
    network: 'net-a',
    switchUuid: 'uuid-net-a',
    isOurs: true,
    ...more,
  };
}

function viewOf(ports: readonly LogicalPortView[], switches = [switchRow('net-a')]): NorthboundView {
  return { switches, ports, globalIds: {}, nbCfg: 0, sbCfg: 0 };
}

const spec: AttachmentSpec = { container: 'web', network: 'net-a' };
const planning = { names: [INSTANCE], vsockPorts: { first: 10_000, last: 10_002 }, taken: new Set<number>() };

describe('planPort', () => {
  it('writes all that a restart needs, with the lowest free vsock port', () => {
    const planned = planPort(viewOf([]), { ...spec, peerCids: [7, 8] }, { ...planning, taken: new Set([10_000]) });
    expect(planned).toEqual({
      write: {
        ...{ switchUuid: 'uuid-net-a', name: 'web/net-a', mac: undefined, address: undefined },
        externalIds: {
          'arca-container': 'web',
          'arca-network': 'net-a',
          'arca-endpoint': 'vsock:10001',
          'arca-tap': 'tap10001',
          'arca-instance': INSTANCE,
          'arca-peer-cids': '7,8',
        },
      },
    });
  });

  it('says that the range is full', () => {
    const taken = new Set([10_000, 10_001, 10_002]);
    expect(() => planPort(viewOf([]), spec, { ...planning, taken })).toThrow(
      expect.objectContaining({ code: 'ports-exhausted' }),
    );
  });

  it('keeps what is there and fits, however little the specification says', () => {
    const row = portRow('web');
    for (const more of [
      {},
      { mac: '02:00:00:00:00:01' },
      { address: '10.9.0.2' },
      { endpoint: { transport: 'vsock', port: 10_000 } },
    ] as const) {
      expect(planPort(viewOf([row]), { ...spec, ...more }, planning)).toEqual({ keep: row });
    }
  });

  it.each([
    ['mac', { mac: '02:00:00:00:00:02' }],
    ['address', { address: '10.9.0.3' }],
    ['endpoint', { endpoint: { transport: 'vsock', port: 10_001 } }],
    ['peerCids', { peerCids: [7] }],
  ] as const)('refuses another %s, and says which', (property, more) => {
    expect(() => planPort(viewOf([portRow('web')]), { ...spec, ...more }, planning)).toThrow(
      expect.objectContaining({
        code: 'attachment-conflict',
        details: { differences: [expect.objectContaining({ property })] },
      }),
    );
  });

  it('leaves alone what is another control process’s, or somebody else’s', () => {
    const other = portRow('web', {
      externalIds: { ...portRow('web').externalIds, 'arca-instance': 'host-2:/run/arca' },
    });
    const foreign = portRow('web', { isOurs: false });
    for (const row of [other, foreign]) {
      expect(() => planPort(viewOf([row]), spec, planning)).toThrow(
        expect.objectContaining({ code: 'attachment-conflict', message: expect.stringContaining('belongs to') }),
      );
    }
  });

  it('refuses a network that nobody made, that is foreign, or has no tag', () => {
    const plan = (switches: LogicalSwitchView[]) => () => planPort(viewOf([], switches), spec, planning);
    expect(plan([])).toThrow(expect.objectContaining({ code: 'network-unknown' }));
    expect(plan([switchRow('net-a', { isOurs: false })])).toThrow(expect.objectContaining({ code: 'network-foreign' }));
    expect(plan([switchRow('net-a', { externalIds: {} })])).toThrow(expect.objectContaining({ code: 'tag-missing' }));
  });
});

describe('readWanted', () => {
  it('gives the relays that the rows want', () => {
    const [wanted] = readWanted(viewOf([portRow('web')]), [INSTANCE]);
    expect(wanted && relaySpecOf(wanted)).toEqual({
      ...{ container: 'web', network: 'net-a', endpoint: { transport: 'vsock', port: 10_000 }, tap: 'tap10000' },
      ...{ vlan: 100, mac: '02:00:00:00:00:01', addresses: ['10.9.0.2/24'], gateway: '10.9.0.1' },
      ...{ dns: ['10.9.0.1'], mtu: 1400, peerCids: [] },
    });
  });

  it('leaves out what is not ours, another’s, or not whole', () => {
    const { externalIds } = portRow('web');
    const { 'arca-endpoint': endpoint, ...noEndpoint } = externalIds;
    const rows = [
      portRow('a', { isOurs: false }),
      portRow('b', { externalIds: { ...externalIds, 'arca-instance': 'host-2:/run/arca' } }),
      portRow('c', { externalIds: noEndpoint }),
      portRow('d', { externalIds: { ...externalIds, 'arca-endpoint': 'tcp:1' } }),
    ];
    expect(endpoint).toBeDefined();
    expect(readWanted(viewOf(rows), [INSTANCE])).toEqual([]);
  });

  it('wants no relay while there is no address, or no tag', () => {
    const [noAddress] = readWanted(viewOf([portRow('web', { dynamicAddresses: '' })]), [INSTANCE]);
    const [noTag] = readWanted(viewOf([portRow('web')], [switchRow('net-a', { externalIds: {} })]), [INSTANCE]);
    expect(noAddress && relaySpecOf(noAddress)).toBeUndefined();
    expect(noTag && relaySpecOf(noTag)).toBeUndefined();
  });
});

describe('instanceNames', () => {
  it('has the run directory in each, and the chassis first', () => {
    const names = { chassis: 'c', systemId: 's', hostname: 'h' };
    expect(instanceNames('/run/arca', names)).toEqual(['c:/run/arca', 's:/run/arca', 'h:/run/arca']);
    expect(instanceNames('/run/arca', { ...names, chassis: undefined, systemId: undefined })).toEqual(['h:/run/arca']);
  });
});
