import { describe, expect, it } from 'vitest';
import { judgeRunningUnits, parseShow, type RunningUnits } from '../../src/persistence/running-units.js';

/** As Debian's units are when a boot has started them. */
const GOOD: RunningUnits = {
  ovsdb: {
    Id: 'ovsdb-server.service',
    LoadState: 'loaded',
    ExecStart: '{ path=/usr/share/openvswitch/scripts/ovs-ctl }',
  },
  vswitchd: {
    Id: 'ovs-vswitchd.service',
    LoadState: 'loaded',
    After: 'network-pre.target ovsdb-server.service',
    Requires: 'system.slice ovsdb-server.service',
  },
  ovsdbWantedBy: ['ovsdb-server.service', 'openvswitch-switch.service', 'multi-user.target'],
  vswitchdWantedBy: ['ovs-vswitchd.service', 'openvswitch-switch.service', 'multi-user.target'],
  options: '# OVS_CTL_OPTS=--delete-bridges\n',
  serverGroup: '0::/system.slice/ovsdb-server.service',
};

function verdicts(change: Partial<RunningUnits>): Record<string, string> {
  return Object.fromEntries(judgeRunningUnits({ ...GOOD, ...change }).map(({ id, verdict }) => [id, verdict]));
}

const ALL_OK = { 'unit-order': 'ok', 'unit-boot': 'ok', 'unit-server': 'ok' };

describe('what the running systemd says of the units', () => {
  it('is right with those of Debian', () => {
    expect(verdicts({})).toEqual(ALL_OK);
  });

  it.each([
    ['no unit at all', { ovsdb: { Id: 'ovsdb-server.service', LoadState: 'not-found' } }, { 'unit-order': 'problem' }],
    [
      'ovs-vswitchd before the database',
      { vswitchd: { ...GOOD.vswitchd, After: 'network.target' } },
      { ...ALL_OK, 'unit-order': 'problem' },
    ],
    [
      'ovs-vswitchd without the database',
      { vswitchd: { ...GOOD.vswitchd, Requires: '' } },
      { ...ALL_OK, 'unit-order': 'problem' },
    ],
    ['nothing that starts them', { vswitchdWantedBy: ['ovs-vswitchd.service'] }, { ...ALL_OK, 'unit-boot': 'problem' }],
    ['a server started by hand', { serverGroup: '0::/user.slice' }, { ...ALL_OK, 'unit-server': 'warning' }],
    ['a server that is not seen', { serverGroup: '' }, { ...ALL_OK, 'unit-server': 'unknown' }],
    [
      'an option that deletes bridges',
      { options: 'OVS_CTL_OPTS="--delete-bridges"' },
      { ...ALL_OK, 'unit-options': 'problem' },
    ],
  ])('%s', (_what, change, expected) => {
    expect(verdicts(change)).toEqual(expected);
  });

  it('BindsTo serves as Requires', () => {
    expect(verdicts({ vswitchd: { ...GOOD.vswitchd, Requires: '', BindsTo: 'ovsdb-server.service' } })).toEqual(ALL_OK);
  });
});

it('what `systemctl show` prints: blocks of properties, values with =, properties with several values', () => {
  expect(
    parseShow('Id=a\nExecStart={ path=/x ; argv[]=/x --y=z }\n\nId=b\nEnvironmentFiles=/1\nEnvironmentFiles=/2\n'),
  ).toEqual([
    { Id: 'a', ExecStart: '{ path=/x ; argv[]=/x --y=z }' },
    { Id: 'b', EnvironmentFiles: '/1\n/2' },
  ]);
});
