/** What the doctor makes of facts: every verdict that a test on a real system does not reach, and the borders between them. */
import { describe, expect, it } from 'vitest';
import type { Network } from '../../src/control/model.js';
import { judgeChassis, judgeDatapath, judgeForwarding } from '../../src/doctor/bridge.js';
import { judgeControl, judgeController, judgeDaemon } from '../../src/doctor/daemons.js';
import { judgeExposure } from '../../src/doctor/exposure.js';
import { isOlder, judgeCapabilities, judgeTun, judgeVersions, judgeVsock } from '../../src/doctor/host.js';
import { judgeMtu } from '../../src/doctor/mtu.js';
import { judgeAttachments } from '../../src/doctor/networks.js';
import { judgeOrphanedPorts, judgePorts, judgeTaps } from '../../src/doctor/ports.js';
import type { Link } from '../../src/doctor/read/links.js';
import type { NorthboundFacts } from '../../src/doctor/read/ovn.js';
import type { OvsPort, OvsView } from '../../src/doctor/read/ovs.js';
import type { RelayFacts } from '../../src/doctor/read/relays.js';
import type { LogicalPortView } from '../../src/ovn/northbound-view.js';
import type { RelayStatus } from '../../src/relay/relay.js';

const link = (name: string, more: Partial<Link> = {}): Link => ({
  ...{ name, ifindex: 7, mtu: 1500, isUp: true, hasArp: false, kind: 'tun', isPersistent: false },
  ...{ hasVnetHeader: false, isOvsSlave: false, addresses: [] },
  ...more,
});

const port = (name: string, more: Partial<OvsPort> = {}): OvsPort => ({
  ...{
    uuid: `u-${name}`,
    name,
    device: name,
    bridge: 'br-int',
    datapathType: 'netdev',
    tag: 100,
    externalIds: {},
    isOurs: true,
  },
  ...{ type: '', ofport: 40000, error: '' },
  ...more,
});

const view = (ports: readonly OvsPort[], more: Partial<OvsView> = {}): OvsView => ({
  bridges: [{ name: 'br-int', datapathType: 'netdev', failMode: '' }],
  ...{ ports, externalIds: {}, otherConfig: {} },
  ...more,
});

const relay = (status: Partial<RelayStatus>, more: Partial<RelayFacts> = {}): RelayFacts => ({
  ...{ pid: 11, statusPath: '/run/arca/relays/tap1.sock', isControlled: true, silence: undefined, isStopped: false },
  status: { tap: 'tap1', mtu: 1500, network: 'net-a', ...status } as RelayStatus,
  ...more,
});

const network = (more: Partial<Network> = {}): Network => ({
  ...{
    name: 'net-a',
    id: 'n',
    vlan: 100,
    subnet: null,
    gateway: null,
    dns: [],
    mtu: 1500,
    owner: 'arca',
    attachments: 1,
  },
  ...more,
});

const northbound = (more: Partial<NorthboundFacts> = {}): NorthboundFacts => ({
  ...{ switches: [], networks: [network()], ports: [], dhcp: [] },
  ...more,
});

const logicalPort = (more: Partial<LogicalPortView>): LogicalPortView => ({
  ...{ uuid: 'p', name: 'web/net-a', type: '', addresses: [], dynamicAddresses: '', externalIds: {} },
  ...{ network: 'net-a', switchUuid: 'n', isOurs: true },
  ...more,
});

const verdicts = (found: readonly { readonly verdict: string }[]): string[] => found.map(({ verdict }) => verdict);

describe('the host', () => {
  it.each([
    ['ENXIO', /modprobe tun/],
    ['EPERM', /DeviceAllow/],
    ['EMFILE', undefined],
  ])('/dev/net/tun that fails with %s', (errno, mend) => {
    const judged = judgeTun({ state: 'fails', errno });
    expect(judged).toMatchObject({ verdict: 'problem', evidence: `does not open: ${errno}` });
    if (mend === undefined) expect(judged.mend).toBeUndefined();
    else expect(judged.mend).toMatch(mend);
  });

  it('vsock without a transport is nothing', () => {
    expect(judgeVsock({ hasDevice: true, transports: [] }, true)).toMatchObject({ verdict: 'problem' });
    expect(judgeVsock({ hasDevice: true, transports: ['vhost_vsock'] }, true)).toMatchObject({ verdict: 'ok' });
    expect(judgeVsock({ hasDevice: false, transports: ['vhost_vsock'] }, false)).toMatchObject({ verdict: 'note' });
  });

  it('where an arca-control runs, its capabilities count, and not those of who asks', () => {
    const own = { who: 'this process', isControl: false, effective: 0n };
    const control = { who: 'arca-control (process 5)', isControl: true, effective: (1n << 12n) | (1n << 10n) };
    expect(verdicts(judgeCapabilities([own]))).toEqual(['problem']);
    expect(verdicts(judgeCapabilities([own, control]))).toEqual(['note']);
    expect(judgeCapabilities([own, { ...control, effective: 0n }])).toMatchObject([
      { verdict: 'note' },
      {
        verdict: 'problem',
        subject: 'arca-control (process 5)',
        mend: expect.stringContaining('CapabilityBoundingSet'),
      },
    ]);
  });

  it('an older database schema, and OVN of two series', () => {
    const none = { vswitchd: undefined, northd: undefined, ovnController: undefined };
    const versions = { kernel: '6.1', installedOvs: 'ovs 3.1.0', databaseSchema: '8.3.0', installedSchema: '8.3.1' };
    expect(judgeVersions(versions, none)).toMatchObject([{ verdict: 'warning', subject: 'OVS database' }]);
    const same = { ...versions, databaseSchema: '8.10.0' };
    expect(verdicts(judgeVersions(same, none))).toEqual(['ok']);
    const ovn = { ...none, northd: 'ovn-northd 23.03.1', ovnController: 'ovn-controller 22.12.0' };
    expect(judgeVersions(same, ovn)).toMatchObject([{ verdict: 'note', subject: 'OVN' }]);
  });

  it.each([
    ['8.3.0', '8.3.1', true],
    ['8.10.0', '8.9.0', false],
    ['3.1', '3.1.0', false],
    ['3.2', '3.10', true],
  ])('%s is older than %s: %s', (one, other, expected) => expect(isOlder(one, other)).toBe(expected));
});

describe('daemons', () => {
  const help = { name: 'ovn-northd', without: 'nothing', start: 'start it' };

  it('each state has its verdict', () => {
    const judged = (state: Parameters<typeof judgeDaemon>[1]['state']) =>
      judgeDaemon(help, { state, detail: 'd' }).verdict;
    expect([judged('answers'), judged('elsewhere'), judged('denied')]).toEqual(['ok', 'note', 'unknown']);
    for (const state of ['hangs', 'dead', 'gone', 'strange'] as const) expect(judged(state)).toBe('problem');
  });

  it('a northd that is paused draws nothing', () => {
    const northd = { state: 'answers', detail: 'ovn-northd 23.03.1', status: 'Status: paused' } as const;
    expect(judgeDaemon(help, northd)).toMatchObject({ verdict: 'problem', mend: expect.stringContaining('resume') });
  });

  it('a daemon that is busy is not told to be woken', () => {
    const busy = judgeDaemon(help, { state: 'hangs', detail: 'd', pid: 9, isStopped: false });
    expect(busy.mend).not.toContain('kill -CONT');
  });

  it('an ovn-controller that has no southbound database', () => {
    expect(judgeController({ state: 'answers', detail: 'd', status: 'not connected' })).toMatchObject({
      verdict: 'note',
    });
    expect(judgeController({ state: 'gone', detail: 'd' })).toMatchObject({ verdict: 'ok' });
  });

  it('an arca-control whose health did not come in time is not called well', () => {
    expect(verdicts(judgeControl({ state: 'answers', detail: 'd' }))).toEqual(['unknown']);
  });
});

describe('the bridge', () => {
  const normal = { known: true, hasNormal: true } as const;
  const controller = { state: 'answers', detail: 'd' } as const;

  it('an ovn-controller that runs and is to take the bridge, before it did', () => {
    expect(judgeForwarding('br-int', view([]), normal, controller)).toMatchObject([{ verdict: 'problem' }]);
    expect(judgeForwarding('br-int', view([]), normal, undefined)).toMatchObject([{ verdict: 'note' }]);
    const apart = view([], { externalIds: { 'ovn-bridge': 'br-ovn' } });
    expect(judgeForwarding('br-int', apart, normal, controller)).toMatchObject([{ verdict: 'ok' }]);
  });

  it('flows that could not be read are no ok', () => {
    const apart = view([], { externalIds: { 'ovn-bridge': 'br-ovn' } });
    expect(judgeForwarding('br-int', apart, { known: false, why: 'w' }, undefined)).toMatchObject([
      { verdict: 'unknown' },
    ]);
  });

  it('userspace TSO with a tunnel drops, in versions that were seen to', () => {
    const tso = view([port('gen0', { type: 'geneve', isOurs: false })], {
      otherConfig: { 'userspace-tso-enable': 'true' },
    });
    const links = [link('br-int', { hasVnetHeader: true })];
    const judged = (ovsVersion: string | undefined) => verdicts(judgeDatapath('br-int', tso, { links, ovsVersion }));
    expect([judged('3.1.0'), judged(undefined), judged('3.2.0')]).toEqual([['warning'], ['warning'], ['ok']]);
  });

  it('TSO that is not set any more, and still in effect', () => {
    const links = [link('br-int', { hasVnetHeader: true })];
    expect(verdicts(judgeDatapath('br-int', view([]), { links, ovsVersion: '3.1.0' }))).toEqual(['warning']);
  });

  it('chassis: the own one with another address, and a controller that never registered', () => {
    const ovs = view([], { externalIds: { 'system-id': 'me', 'ovn-encap-ip': '10.0.0.1' } });
    const chassis = (name: string, ip: string) => ({
      uuid: name,
      name,
      hostname: '',
      encaps: [{ type: 'geneve', ip }],
      hasOurMark: false,
    });
    expect(judgeChassis(ovs, [chassis('me', '10.0.0.9')], undefined)).toMatchObject([
      { verdict: 'warning', subject: 'chassis me' },
    ]);
    expect(judgeChassis(ovs, [chassis('me', '10.0.0.1')], controller)).toMatchObject([{ verdict: 'ok' }]);
    expect(judgeChassis(ovs, [], controller)).toMatchObject([{ verdict: 'warning' }]);
    expect(judgeChassis(ovs, [], undefined)).toMatchObject([{ verdict: 'ok' }]);
  });
});

describe('ports', () => {
  it("with the kernel's datapath, a device that is none of its ports is dead", () => {
    const ports = view([port('tap1', { datapathType: 'system' })]);
    expect(verdicts(judgePorts(ports, [link('tap1')], new Set()))).toEqual(['problem']);
    expect(verdicts(judgePorts(ports, [link('tap1', { isOvsSlave: true })], new Set()))).toEqual(['ok']);
  });

  it.each([
    ['an error', { error: 'could not open network device tap1 (No such device)' }, {}],
    ['no number', { ofport: -1 }, {}],
    ['a device that is down', {}, { isUp: false }],
  ])('%s', (_what, ofPort, ofLink) => {
    const read = new Set([7]);
    expect(verdicts(judgePorts(view([port('tap1')]), [link('tap1')], read))).toEqual(['ok']);
    const judged = judgePorts(view([port('tap1', ofPort)]), [link('tap1', ofLink)], read);
    expect(judged).toMatchObject([{ verdict: 'problem', subject: 'port tap1' }]);
  });

  it('what OVS makes itself has no device to look for', () => {
    const own = [port('br-int', { type: 'internal', isOurs: false }), port('patch0', { type: 'patch', isOurs: false })];
    expect(verdicts(judgeOrphanedPorts(view(own), []))).toEqual(['ok']);
    expect(verdicts(judgePorts(view(own), [link('br-int')], new Set()))).toEqual(['ok']);
  });

  it('a bond is judged by its devices, and not by its own name', () => {
    const members = ['eth1', 'eth2'].map((device) => port('bond0', { device, isOurs: false }));
    const links = [link('eth1', { ifindex: 1 }), link('eth2', { ifindex: 2 })];
    expect(verdicts(judgeOrphanedPorts(view(members), links))).toEqual(['ok']);
    expect(verdicts(judgePorts(view(members), links, new Set([1, 2])))).toEqual(['ok']);
    expect(judgePorts(view(members), links, new Set([1]))).toMatchObject([
      { verdict: 'warning', subject: 'port bond0', evidence: expect.stringContaining('device eth2') },
    ]);
  });

  it('a TAP of an attachment that a stranger holds', () => {
    const taps = { names: new Set(['tap1']), links: [link('tap1')], relays: [relay({})] };
    expect(judgeTaps({ ...taps, holders: new Map([['tap1', [99]]]) })).toMatchObject([
      { verdict: 'problem', evidence: expect.stringContaining('process 99') },
    ]);
    expect(verdicts(judgeTaps({ ...taps, holders: new Map([['tap1', [11]]]) }))).toEqual(['ok']);
  });

  it("loose reverse path filtering of `all` beats a TAP's own", () => {
    const settings = (rpFilter: number) => new Map([['tap1', { rpFilter, disableIpv6: undefined }]]);
    const [found] = judgeExposure(view([port('tap1')]), [link('tap1')], settings(2));
    expect(found).toMatchObject({ verdict: 'problem', mend: expect.stringContaining('net.ipv4.conf.all.rp_filter=1') });
    expect(verdicts(judgeExposure(view([port('tap1')]), [link('tap1')], settings(1)))).toEqual(['ok']);
  });
});

describe('attachments and MTUs', () => {
  it('those of another arca-control are not missed here', () => {
    const externalIds = { 'arca-instance': 'host:/run/other', 'arca-tap': 'tap9' };
    const ports = [logicalPort({ externalIds })];
    expect(verdicts(judgeAttachments('/run/arca', northbound({ ports }), []))).toEqual(['ok']);
    expect(judgeAttachments('/run/other', northbound({ ports }), [])).toMatchObject([{ verdict: 'problem' }]);
  });

  it('an uplink that takes less than containers send', () => {
    const ovs = view([port('tap1'), port('eth0', { isOurs: false })]);
    const links = [link('tap1', { mtu: 9000 }), link('eth0', { mtu: 1500 })];
    expect(judgeMtu({ ovs, links, relays: [] })).toMatchObject([{ verdict: 'warning', subject: 'port eth0' }]);
    expect(verdicts(judgeMtu({ ovs, links: [link('tap1'), link('eth0')], relays: [] }))).toEqual(['ok']);
  });

  it('a container with another MTU than its relay, and a relay with another than its network', () => {
    const ovs = view([port('tap1')]);
    const agreed = { agreed: { peerMtu: 9000 } } as Partial<RelayStatus>;
    expect(judgeMtu({ ovs, links: [link('tap1')], relays: [relay(agreed)] })).toMatchObject([
      { verdict: 'warning', evidence: expect.stringContaining('9000') },
    ]);
    const wider = northbound({ networks: [network({ mtu: 9000 })] });
    expect(judgeMtu({ ovs, links: [link('tap1')], relays: [relay({})], northbound: wider })).toMatchObject([
      { verdict: 'warning', mend: 'arca reconcile' },
    ]);
  });

  it('a network that goes through a tunnel, 58 bytes too large', () => {
    const ovs = view([], { externalIds: { 'ovn-encap-ip': '192.0.2.1' } });
    const links = [link('eth0', { addresses: ['192.0.2.1'] })];
    const two = ['a', 'b'].map((name) => ({ uuid: name, name, hostname: '', encaps: [], hasOurMark: false }));
    const native = [logicalPort({ isOurs: false, name: 'vm' })];
    const judged = (mtu: number, southbound = two, ports = native) =>
      verdicts(
        judgeMtu({
          ovs,
          links,
          relays: [],
          southbound,
          northbound: northbound({ ports, networks: [network({ mtu })] }),
        }),
      );
    expect([judged(1443), judged(1442)]).toEqual([['warning'], ['ok']]);
    expect([judged(1500, two.slice(1)), judged(1500, two, [])]).toEqual([['ok'], ['ok']]);
  });
});
