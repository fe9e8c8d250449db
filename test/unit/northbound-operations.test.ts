import { describe, expect, it } from 'vitest';
import {
  bumpGeneration,
  checkPortIsFree,
  createPortTransaction,
  createSwitchTransaction,
  generationGuard,
  type LogicalPortSpec,
  nextGeneration,
  removeSwitchTransaction,
  updateSwitchTransaction,
} from '../../src/ovn/northbound-operations.js';
import { portAddresses, readNorthboundView } from '../../src/ovn/northbound-view.js';
import type { Row } from '../../src/ovsdb/values.js';
import { northboundView, portView, switchView } from '../support/northbound-view.js';

const row = switchView({ name: 'net-a', otherConfig: { subnet: '10.9.0.0/24' } });
const spec: LogicalPortSpec = {
  switchUuid: row.uuid,
  name: 'web/net-a',
  externalIds: { 'arca-endpoint': 'vsock:5555', 'arca-tap': 'tap5555' },
};

describe('transactions', () => {
  it('a switch is made behind waits for its name and its tag', () => {
    const { guards, changes } = createSwitchTransaction(
      { name: 'net-a', externalIds: { vlan_tag: '100' }, otherConfig: {} },
      '1.x',
    );
    const none = { op: 'wait', timeout: 0, table: 'Logical_Switch', columns: ['name'], until: '==', rows: [] };
    expect(guards).toEqual([
      { ...none, where: [['name', '==', 'net-a']] },
      { ...none, where: [['external_ids', 'includes', ['map', [['vlan_tag', '100']]]]] },
    ]);
    expect(changes).toMatchObject([{ op: 'insert', table: 'Logical_Switch', row: { name: 'net-a' } }]);
  });

  it('a switch that keeps its tag is not kept from it by itself', () => {
    const old = switchView({ name: 'x', externalIds: { vlan_tag: '7' } });
    const update = { row: old, otherConfig: {}, externalIds: { vlan_tag: '7', 'arca-owner': 'arca-control' } };
    expect(updateSwitchTransaction(update).guards).toHaveLength(1);
    expect(updateSwitchTransaction({ ...update, externalIds: { vlan_tag: '8' } }).guards).toHaveLength(2);
  });

  it('a switch is removed only without ports and with our mark', () => {
    expect(removeSwitchTransaction('u').guards).toEqual([
      {
        ...{ op: 'wait', timeout: 0, table: 'Logical_Switch', columns: ['ports'], until: '==' },
        where: [
          ['_uuid', '==', ['uuid', 'u']],
          ['external_ids', 'includes', ['map', [['arca-owner', 'arca-control']]]],
        ],
        rows: [{ ports: ['set', []] }],
      },
    ]);
  });

  it.each([
    [{}, 'dynamic'],
    [{ mac: '02:00:00:00:00:01' }, '02:00:00:00:00:01 dynamic'],
    [{ address: '10.9.0.5' }, 'dynamic 10.9.0.5'],
    [{ mac: '02:00:00:00:00:01', address: '10.9.0.5' }, '02:00:00:00:00:01 10.9.0.5'],
  ])('a port with %j has addresses %j', (given, addresses) => {
    const { changes } = createPortTransaction({ ...spec, ...given }, northboundView({ switches: [row] }), '1.x');
    expect(changes[0]).toMatchObject({ row: { addresses } });
    expect(changes[1]).toMatchObject({ mutations: [['ports', 'insert', ['named-uuid', 'port']]] });
  });

  it('a port on a switch without a subnet has the MAC alone', () => {
    const view = northboundView({ switches: [{ ...row, otherConfig: {} }] });
    const mac = '02:00:00:00:00:01';
    expect(createPortTransaction({ ...spec, mac }, view, '1.x').changes[0]).toMatchObject({ row: { addresses: mac } });
  });

  it('a port on a switch that is gone is refused', () => {
    expect(() => createPortTransaction(spec, northboundView(), '1.x')).toThrow(
      expect.objectContaining({ code: 'network-unknown' }),
    );
  });
});

describe('generations', () => {
  it('grow, and no two are the same', () => {
    const made = new Set(Array.from({ length: 100 }, () => nextGeneration({ 'arca-generation': '41.abcd' })));
    expect(made.size).toBe(100);
    for (const generation of made) expect(generation).toMatch(/^42\.[0-9a-f]{8}$/);
    expect(nextGeneration(undefined)).toMatch(/^1\./);
    expect(nextGeneration({ 'arca-generation': 'garbage' })).toMatch(/^1\./);
  });

  it('are kept in a database that nobody initialised too', () => {
    expect(bumpGeneration(northboundView(), '1.x').op).toBe('mutate');
    const empty = { ...northboundView(), globalIds: undefined };
    expect(bumpGeneration(empty, '1.x')).toEqual({
      ...{ op: 'insert', table: 'NB_Global' },
      row: { external_ids: ['map', [['arca-generation', '1.x']]] },
    });
    expect(generationGuard(empty)).toMatchObject({ table: 'NB_Global', rows: [] });
  });
});

describe('checkPortIsFree', () => {
  const other = portView({
    name: 'db/net-a',
    addresses: ['02:00:00:00:00:01 dynamic'],
    dynamicAddresses: '02:00:00:00:00:01 10.9.0.7',
    externalIds: { 'arca-endpoint': 'vsock:5556', 'arca-tap': 'tap5556' },
  });
  const view = northboundView({ switches: [row], ports: [other] });
  const codeOf = (wanted: Partial<LogicalPortSpec>): unknown => {
    try {
      checkPortIsFree({ ...spec, ...wanted }, view);
      return undefined;
    } catch (error) {
      return (error as { code: unknown }).code;
    }
  };

  it.each([
    [{}, undefined],
    [{ name: 'db/net-a' }, 'attachment-conflict'],
    [{ externalIds: { 'arca-endpoint': 'vsock:5556' } }, 'endpoint-in-use'],
    [{ externalIds: { 'arca-tap': 'tap5556' } }, 'endpoint-in-use'],
    [{ mac: '02:00:00:00:00:01' }, 'mac-in-use'],
    [{ mac: '02:00:00:00:00:02' }, undefined],
    [{ address: '10.9.0.7' }, 'address-in-use'],
    [{ address: '10.9.0.7', switchUuid: 'another' }, undefined],
    [{ mac: '02:00:00:00:00:01', switchUuid: 'another' }, 'mac-in-use'],
  ] as [Partial<LogicalPortSpec>, unknown][])('%j: %s', (wanted, code) => {
    expect(codeOf(wanted)).toBe(code);
  });
});

describe('readNorthboundView', () => {
  it('reads rows as ovsdb-server sends them: bare sets, columns left out', () => {
    const tables = new Map<string, Map<string, Row>>([
      ['NB_Global', new Map([['g', { nb_cfg: 3, external_ids: ['map', [['arca-generation', '1.x']]] }]])],
      [
        'Logical_Switch',
        new Map([
          ['s', { name: 'net-a', ports: ['uuid', 'p'], external_ids: ['map', [['arca-owner', 'arca-control']]] }],
        ]),
      ],
      [
        'Logical_Switch_Port',
        new Map([
          ['p', { name: 'web', addresses: 'dynamic' }],
          ['orphan', { name: 'x' }],
        ]),
      ],
    ]);
    expect(readNorthboundView(tables)).toEqual({
      switches: [
        {
          uuid: 's',
          name: 'net-a',
          ports: ['p'],
          externalIds: { 'arca-owner': 'arca-control' },
          otherConfig: {},
          isOurs: true,
        },
      ],
      ports: [
        {
          ...{ uuid: 'p', name: 'web', type: '', addresses: ['dynamic'], dynamicAddresses: '', externalIds: {} },
          ...{ network: 'net-a', switchUuid: 's', isOurs: false },
        },
      ],
      globalIds: { 'arca-generation': '1.x' },
      nbCfg: 3,
      sbCfg: 0,
    });
    expect(readNorthboundView(new Map())).toEqual({
      switches: [],
      ports: [],
      globalIds: undefined,
      nbCfg: 0,
      sbCfg: 0,
    });
  });

  it.each([
    [['dynamic'], '', undefined],
    [['unknown'], '', undefined],
    [['02:00:00:00:00:01 dynamic'], '', undefined],
    [['dynamic'], '0A:00:00:00:00:01 10.9.0.2', { mac: '0a:00:00:00:00:01', addresses: ['10.9.0.2'] }],
    [['dynamic'], '0a:00:00:00:00:01', { mac: '0a:00:00:00:00:01', addresses: [] }],
    [
      ['unknown', '02:00:00:00:00:01 10.9.0.5 fd00::5'],
      '',
      { mac: '02:00:00:00:00:01', addresses: ['10.9.0.5', 'fd00::5'] },
    ],
  ])('addresses %j and drawn %j are %j', (addresses, dynamicAddresses, expected) => {
    expect(portAddresses({ addresses, dynamicAddresses })).toEqual(expected);
  });
});
