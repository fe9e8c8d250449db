import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArcaError } from '../../src/errors.js';
import { refuseForeignPort } from '../../src/ovs/attach.js';
import { type BridgeFacts, flowArguments, hasNormalAction, judgeBridge } from '../../src/ovs/bridge.js';
import { type DegradedReason, diagnose } from '../../src/ovs/keeper.js';
import { managementSocket, ovsPlaces } from '../../src/ovs/places.js';
import { attachArguments, choosePortNumber, type PortSpec, removePortOperations } from '../../src/ovs/port-commands.js';
import { type OvsView, readView } from '../../src/ovs/session.js';

const PORT: PortSpec = { bridge: 'br-int', tap: 'tap5555', tag: 100, marks: { 'arca-network': 'net-a' } };

describe('attachArguments', () => {
  it('is one command that leaves tag and marks right, whatever was there', () => {
    expect(attachArguments('/run/db.sock', PORT, 40000, 2500)).toEqual([
      ...['--db=unix:/run/db.sock', '--timeout=4'],
      ...['--may-exist', 'add-port', 'br-int', 'tap5555', 'tag=100'],
      ...['--', 'set', 'Port', 'tap5555', 'tag=100', 'vlan_mode=access', 'trunks=[]'],
      ...['external_ids:arca-owner="arca-relay"', 'external_ids:arca-network="net-a"'],
      ...['--', 'set', 'Interface', 'tap5555', 'ofport_request=40000'],
    ]);
  });

  it('quotes what a user named, and removes marks that are empty', () => {
    const args = attachArguments('/s', { ...PORT, marks: { 'arca-network': 'a"b, c=d', 'arca-x': '' } }, 1, 1);
    expect(args).toContain('external_ids:arca-network="a\\"b, c=d"');
    expect(args.join(' ')).toContain('-- remove Port tap5555 external_ids arca-x --');
  });
});

describe('choosePortNumber', () => {
  it('never gives a number that somebody has or asks for, and never one of those that vswitchd gives by itself', () => {
    const numbers = fc.integer({ min: 0x8000, max: 0xfeff });
    const row = fc.record({ ofport: fc.oneof(numbers, fc.constant(['set', []])), ofport_request: numbers });
    fc.assert(
      fc.property(fc.array(row), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (rows, random) => {
        const number = choosePortNumber(rows, () => random);
        expect(number).toBeGreaterThanOrEqual(0x8000);
        expect(number).toBeLessThanOrEqual(0xfeff);
        for (const taken of rows) expect([taken.ofport, taken.ofport_request]).not.toContain(number);
      }),
    );
  });

  it('goes round at the end of the range, and says when nothing is left', () => {
    expect(choosePortNumber([{ ofport: 0xfeff }], () => 0.999999)).toBe(0x8000);
    const all = Array.from({ length: 0xfeff - 0x8000 + 1 }, (_, i) => ({ ofport: 0x8000 + i }));
    expect(() => choosePortNumber(all, () => 0.5)).toThrow(RangeError);
    expect(choosePortNumber(all.slice(0, -1), () => 0)).toBe(0xfeff);
  });
});

describe('removePortOperations', () => {
  it('begins with the guard: only a row with our mark', () => {
    expect(removePortOperations('tap0', 'u-1')[0]).toMatchObject({
      op: 'wait',
      table: 'Port',
      where: [
        ['_uuid', '==', ['uuid', 'u-1']],
        ['external_ids', 'includes', ['map', [['arca-owner', 'arca-relay']]]],
      ],
      rows: [{ name: 'tap0' }],
      timeout: 0,
    });
  });
});

describe('the guard', () => {
  const bridge: BridgeFacts = {
    name: 'br-int',
    failMode: '',
    datapathType: 'netdev',
    ovnBridge: '',
    systemId: '',
    userspaceTso: false,
  };
  const normal = { known: true, hasNormal: true } as const;
  const none = { known: true, hasNormal: false } as const;
  const unknown = { known: false, why: 'no socket' } as const;

  it('reads the flows that ovs-ofctl 3.1 printed', () => {
    const standalone =
      'OFPST_FLOW reply (OF1.5) (xid=0x2):\n cookie=0x0, duration=0.060s, table=0, n_packets=0, n_bytes=0, idle_age=0, priority=0 actions=NORMAL\n';
    expect(hasNormalAction(standalone)).toBe(true);
    expect(hasNormalAction('OFPST_FLOW reply (OF1.5) (xid=0x2):\n')).toBe(false);
    expect(hasNormalAction(' table=0, priority=1,in_port=1 actions=mod_vlan_vid:5,NORMAL')).toBe(true);
    expect(hasNormalAction(' table=0, priority=100,in_port=1 actions=resubmit(,8)\n table=8 actions=drop')).toBe(false);
  });

  it.each([
    ['standalone with NORMAL', bridge, normal, true],
    ['standalone, flows unknown', bridge, unknown, true],
    ['standalone without NORMAL', bridge, none, false],
    ['secure, but the user put NORMAL in', { ...bridge, failMode: 'secure' }, normal, true],
    ['secure without NORMAL', { ...bridge, failMode: 'secure' }, none, false],
    ['secure, flows unknown', { ...bridge, failMode: 'secure' }, unknown, false],
  ])('%s', (_what, facts, flows, forwards) => {
    expect(judgeBridge(facts, flows).forwards).toBe(forwards);
  });

  it('names ovn-controller where it may be the one, and what keeps it off', () => {
    const secure = { ...bridge, failMode: 'secure' };
    const verdict = judgeBridge(secure, none);
    if (verdict.forwards) throw new Error('it forwards');
    expect(verdict.why).toContain('ovn-controller');
    expect(verdict.mend).toContain('external_ids:ovn-bridge=br-ovn');
    const elsewhere = judgeBridge({ ...secure, ovnBridge: 'br-ovn' }, none);
    if (elsewhere.forwards) throw new Error('it forwards');
    expect(elsewhere.why).not.toContain('ovn-controller');
  });

  it('asks with every OpenFlow version, on the management socket beside the database', () => {
    const places = ovsPlaces('/tmp/x/db.sock', { OVS_RUNDIR: '/run/y' });
    expect(places.runDirs).toEqual(['/tmp/x', '/run/y']);
    expect(flowArguments(managementSocket(places, 'br-int'), 1000)).toEqual([
      '--protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15',
      '--timeout=2',
      'dump-flows',
      'unix:/tmp/x/br-int.mgmt',
    ]);
  });

  it('looks where ovs-vsctl looks when no socket is given', () => {
    expect(ovsPlaces(undefined, { OVS_RUNDIR: '/run/y' }).socketPath).toBe('/run/y/db.sock');
    expect(ovsPlaces(undefined, {}).socketPath).toBe('/var/run/openvswitch/db.sock');
  });
});

describe('readView', () => {
  const tables = (rows: Record<string, Record<string, Record<string, unknown>>>) =>
    new Map(Object.entries(rows).map(([name, table]) => [name, new Map(Object.entries(table))]));

  it('fills in the columns that ovsdb-server leaves out', () => {
    const view = readView(tables({ Open_vSwitch: { r: {} }, Bridge: { b: { name: 'br-int' } } }));
    expect(view).toEqual({
      bridge: {
        name: 'br-int',
        failMode: '',
        datapathType: 'system',
        ovnBridge: '',
        systemId: '',
        userspaceTso: false,
      },
      port: undefined,
      interface: undefined,
    });
  });

  it('sees whose port it is, and on which bridge', () => {
    const ours = ['map', [['arca-owner', 'arca-relay']]];
    const view = readView(
      tables({
        Bridge: { b: { name: 'br-int' } },
        Port: { p: { name: 'tap0', tag: 7, external_ids: ours } },
        Interface: { i: { name: 'tap0', ofport: 3, ofport_request: 3 } },
      }),
    );
    expect(view.port).toMatchObject({ uuid: 'p', tag: 7, isOurs: true, isOnBridge: true });
    expect(view.interface).toEqual({ ofport: 3, ofportRequest: 3, error: '', adminState: '' });
    expect(readView(tables({ Port: { p: { name: 'tap0' } } }), 'p').port).toMatchObject({
      isOurs: false,
      isOnBridge: false,
    });
  });
});

describe('diagnose', () => {
  const bridge: BridgeFacts = {
    name: 'br-int',
    failMode: '',
    datapathType: 'netdev',
    ovnBridge: '',
    systemId: '',
    userspaceTso: false,
  };
  const port = { uuid: 'p', tag: 100, externalIds: {}, isOurs: true, isOnBridge: true };
  const iface = { ofport: 40000, ofportRequest: 40000, error: '', adminState: 'up' };
  const good: OvsView = { bridge, port, interface: iface };

  it('finds nothing wrong with a port that forwards', () => {
    expect(diagnose(good, PORT, '')).toBeUndefined();
    expect(diagnose({ ...good, bridge: { ...bridge, failMode: 'secure' } }, PORT, 'secure')).toBeUndefined();
  });

  it.each<[string, Partial<OvsView>, DegradedReason]>([
    ['bridge removed', { bridge: undefined }, 'bridge-missing'],
    ['bridge taken by a controller', { bridge: { ...bridge, failMode: 'secure' } }, 'bridge-black-hole'],
    ['port removed', { port: undefined, interface: undefined }, 'port-missing'],
    ['mark removed', { port: { ...port, isOurs: false } }, 'port-foreign'],
    ['name taken by an interface of a bond', { port: undefined }, 'port-foreign'],
    ['port moved', { port: { ...port, isOnBridge: false } }, 'port-changed'],
    ['tag changed', { port: { ...port, tag: 200 } }, 'port-changed'],
    ['tag removed', { port: { ...port, tag: undefined } }, 'port-changed'],
    ['error', { interface: { ...iface, error: 'could not open network device' } }, 'port-error'],
    ['not added', { interface: { ...iface, ofport: -1 } }, 'port-error'],
    ['set down', { interface: { ...iface, adminState: 'down' } }, 'tap-down'],
    ['not added yet', { interface: { ...iface, ofport: undefined } }, 'port-error'],
  ])('%s', (_what, change, reason) => {
    expect(diagnose({ ...good, ...change }, PORT, '')?.reason).toBe(reason);
  });
});

describe('refuseForeignPort', () => {
  const port = { uuid: 'p', tag: 100, externalIds: {}, isOurs: true, isOnBridge: true };
  const iface = { ofport: 1, ofportRequest: undefined, error: '', adminState: '' };

  it('lets pass what is ours, and a name that nobody has', () => {
    refuseForeignPort({ bridge: undefined, port: undefined, interface: undefined }, 'tap0');
    refuseForeignPort({ bridge: undefined, port, interface: iface }, 'tap0');
  });

  it.each([
    ['a port', { ...port, isOurs: false }],
    ['an interface of a bond', undefined],
  ])('refuses %s of somebody else', (_what, foreign) => {
    const refuse = () => refuseForeignPort({ bridge: undefined, port: foreign, interface: iface }, 'tap0');
    expect(refuse).toThrow(ArcaError);
    expect(refuse).toThrow(/tap0/);
  });
});
