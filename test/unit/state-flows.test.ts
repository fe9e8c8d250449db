/** Flows: which ones are dangerous, what is done to get from some to others, and what ovs-ofctl's parser says. */
import { describe, expect, it } from 'vitest';
import { type BridgeFlows, flowText, planFlows } from '../../src/state/flows.js';
import { checkFlows, type Flow, parseFlows } from '../../src/state/flows-parser.js';
import { warnOfFlows } from '../../src/state/flows-warnings.js';
import type { DesiredBridge } from '../../src/state/model.js';
import { scaled } from '../support/time.js';

const call = { timeoutMs: scaled(5_000) };

const flowsOf = (...texts: string[]) => texts.map((text, index) => ({ text, line: index + 1 }));

describe('warnOfFlows', () => {
  const warned = (...texts: string[]): string[] =>
    warnOfFlows(flowsOf(...texts)).map(({ line, message }) => `${line}: ${message.replace(/\. Leave it out.*/, '')}`);

  it('says what the rule of the origin document kills, and what mends it', () => {
    const rule = 'priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop';
    expect(warnOfFlows(flowsOf(rule, 'priority=50,actions=normal'))).toEqual([
      {
        ...{ line: 1, text: rule },
        message:
          'drops ARP requests, DHCP requests: hosts do not find each other by IPv4 address; DHCP clients get no lease. ' +
          'Leave it out, or let them through before it: "priority=200,arp,actions=normal", ' +
          '"priority=200,udp,tp_src=68,tp_dst=67,actions=normal"',
      },
    ]);
  });

  it('is content with what it says', () => {
    const mended = ['priority=200,arp,actions=normal', 'priority=200,udp,tp_src=68,tp_dst=67,actions=normal'];
    expect(warned('priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop', ...mended)).toEqual([]);
  });

  const ALL_ARP = 'drops ARP requests, ARP answers: hosts do not find each other by IPv4 address';
  const DHCP = 'DHCP clients get no lease';
  it.each([
    ['priority=1,arp,actions=drop', ALL_ARP],
    ['eth_type=0x0806 actions=drop', ALL_ARP],
    ['arp,arp_op=2,actions=', 'drops ARP answers: hosts do not find each other by IPv4 address'],
    ['udp,tp_dst=67,actions=drop', `drops DHCP requests: ${DHCP}`],
    ['udp,udp_dst=68,in_port=1,actions=drop', `drops DHCP answers: ${DHCP}`],
    ['ip,nw_proto=17,actions=drop # all UDP', `drops DHCP requests, DHCP answers: ${DHCP}`],
    ['ip,nw_dst=255.255.255.255,actions=drop', `drops DHCP requests, DHCP answers: ${DHCP}`],
    [
      'dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=drop',
      'drops ARP requests, DHCP requests, IPv6 neighbour solicitations: hosts do not find each other by IPv4 address; ' +
        `${DHCP}; hosts do not find each other by IPv6 address`,
    ],
    [
      'icmp6,icmpv6_type=135,actions=drop',
      'drops IPv6 neighbour solicitations: hosts do not find each other by IPv6 address',
    ],
  ])('%s', (text, message) => expect(warned(text)).toEqual([`1: ${message}`]));

  it.each([
    'arp,actions=normal',
    'priority=0,actions=normal',
    'tcp,tp_dst=67,actions=drop',
    'table=1,arp,actions=drop',
    'dl_dst=01:80:c2:00:00:0e,actions=drop',
    'ip,nw_dst=10.0.0.1,tcp,actions=drop',
  ])('%s is harmless', (text) => expect(warned(text)).toEqual([]));

  it('sees that an exception is for some frames only', () => {
    const some = 'priority=200,arp,in_port=1,actions=normal';
    expect(warned(some, 'priority=100,arp,actions=drop')).toEqual([`2: ${ALL_ARP}`]);
    expect(warned('priority=99,arp,actions=normal', 'priority=100,arp,actions=drop')).toEqual([`2: ${ALL_ARP}`]);
  });
});

describe('planFlows', () => {
  const flow = (match: string, actions: string, table = 0): Flow => ({ table, match, actions, other: '' });
  const none: BridgeFlows = { own: [], foreign: [] };
  const normal = flow('priority=50', 'NORMAL');

  it('adds, changes and removes', () => {
    const actual = { own: [flow('priority=50', 'drop'), flow('arp', 'drop')], foreign: [] };
    expect(planFlows([normal, flow('ip', 'drop', 1)], actual)).toEqual({
      add: [flow('ip', 'drop', 1)],
      change: [{ from: flow('priority=50', 'drop'), to: normal }],
      remove: [flow('arp', 'drop')],
      foreign: [],
    });
  });

  it('does nothing where all is as it should be, and everything after a restart of vswitchd', () => {
    const nothing = { add: [], change: [], remove: [], foreign: [] };
    expect(planFlows([normal], { own: [normal], foreign: [] })).toEqual(nothing);
    expect(planFlows([normal], none)).toEqual({ ...nothing, add: [normal] });
  });

  it('leaves the flows of others, takes one that does the same for ours, and refuses to replace one', () => {
    const theirs = flow('priority=0', 'NORMAL');
    expect(planFlows([], { own: [], foreign: [theirs] })).toEqual({ add: [], change: [], remove: [], foreign: [] });
    expect(planFlows([theirs], { own: [], foreign: [theirs] })).toMatchObject({ add: [], foreign: [] });
    const drop = flow('priority=0', 'drop');
    expect(planFlows([drop], { own: [], foreign: [theirs] })).toMatchObject({ add: [], foreign: [theirs] });
  });

  it('is told as ovs-ofctl reads it', () => {
    expect(flowText(flow('priority=5,arp', 'drop', 1))).toBe('table=1,priority=5,arp actions=drop');
    expect(flowText(flow('', 'NORMAL'))).toBe('actions=NORMAL');
  });
});

describe("ovs-ofctl's parser", () => {
  const port = { type: '', options: {}, tag: undefined, trunks: [], externalIds: {} };
  const bridge = (...texts: string[]): DesiredBridge => ({
    ...{ name: 'vmbr0', datapathType: 'system', tag: undefined, ports: [{ ...port, name: 'eth0' }] },
    flows: flowsOf(...texts),
  });
  const problems = async (...texts: string[]): Promise<string[]> =>
    (await checkFlows(bridge(...texts), call)).map(({ line, message }) => `${line}: ${message}`);

  it('takes what is right, names of ports included', async () => {
    const texts = [
      'priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop',
      'priority=50,actions=normal',
      'table=1,in_port=eth0,ip actions=output:vmbr0',
      'in_port="eth0",actions=output:2,in_port # back again',
      'priority=3,actions=output:NXM_OF_IN_PORT[]',
    ];
    expect(await problems(...texts)).toEqual([]);
  });

  it('tells each that is wrong, with its line', async () => {
    const found = await problems(
      ...['priority=1,actions=drop', 'priority=70000,actions=drop', 'arp', 'delete', '# nothing'],
      ...['priority=2,in_port=eth9,actions=drop', 'priority=2,idle_timeout=5,actions=drop'],
      ...['priority=1 actions=normal', 'priority=6,actions=strip_vlan,normal', 'actions=outptu:1'],
    );
    expect(found).toEqual([
      '2: invalid priority "70000"',
      '3: must specify an action',
      '4: must specify an action',
      '5: ovs-ofctl reads no flow in it',
      '6: the bridge has no port eth9',
      '7: idle_timeout is not for a flow that stays',
      '8: the flow of line 1 has the same match and priority: only one can be',
      '9: OpenFlow 1.4 has no such flow; what removes or changes a VLAN wants a match that asks for one',
      '10: unknown action outptu',
    ]);
  });

  it('gives the form in which a switch tells a flow', async () => {
    const texts = ['priority=5 , ip,nw_dst=10.0.0.1/24,actions=mod_dl_src:2:0:0:0:0:1,output:eth0', 'table=2,actions='];
    expect((await parseFlows('vmbr0', flowsOf(...texts), new Map([['eth0', 7]]), call)).map(flowText)).toEqual([
      'priority=5,ip,nw_dst=10.0.0.0/24 actions=set_field:02:00:00:00:00:01->eth_src,output:7',
      'table=2 actions=drop',
    ]);
    await expect(parseFlows('vmbr0', flowsOf('in_port=eth0,actions=drop'), new Map(), call)).rejects.toMatchObject({
      code: 'flow-invalid',
      message: 'line 1: bridge vmbr0: in_port=eth0,actions=drop: the bridge has no port eth0',
    });
  });
});
