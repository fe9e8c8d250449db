/** Flows of a state file in a real switch: told as they are, changed at once or not at all, those of others untouched. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ovsPlaces } from '../../src/ovs/places.js';
import {
  applyFlows,
  compareFlows,
  FLOW_COOKIE,
  flowText,
  isEmptyFlowPlan,
  readOwnFlows,
} from '../../src/state/flows.js';
import { warnOfFlows } from '../../src/state/flows-warnings.js';
import type { DesiredFlow } from '../../src/state/model.js';
import { type TestSandbox, useSandbox } from '../support/sandbox.js';
import { scaled } from '../support/time.js';

const box = useSandbox();
const call = { timeoutMs: scaled(10_000) };

const flowsOf = (...texts: string[]): DesiredFlow[] => texts.map((text, index) => ({ text, line: index + 1 }));

/** A bridge with two ports, which are not numbered as they are named. */
async function addBridge(sandbox: TestSandbox) {
  const [bridge, one, two] = [sandbox.uniqueName('br-f'), sandbox.uniqueName('fp'), sandbox.uniqueName('fp')];
  sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', bridge)));
  await sandbox.vsctl('add-br', bridge, '--', 'set', 'Bridge', bridge, `datapath_type=${sandbox.datapath}`);
  for (const [port, number] of [
    [one, 17],
    [two, 5],
  ] as const) {
    const settings = ['set', 'Interface', port, 'type=internal', `ofport_request=${number}`];
    await sandbox.vsctl('add-port', bridge, port, '--', ...settings);
  }
  const places = ovsPlaces(join(sandbox.runDir, 'db.sock'), sandbox.fullEnv);
  const ofctl = async (...args: string[]): Promise<string> => {
    const [command = '', ...rest] = args;
    const { stdout } = await sandbox.exec('ovs-ofctl', [command, `unix:${join(sandbox.runDir, bridge)}.mgmt`, ...rest]);
    return stdout;
  };
  const apply = (...texts: string[]) => applyFlows(places, bridge, flowsOf(...texts), call);
  const own = async (): Promise<string[]> => (await readOwnFlows(places, bridge, call)).own.map(flowText).sort();
  return { bridge, one, two, places, ofctl, apply, own };
}

describe('the flows of a state file', () => {
  it('are in the switch, by the numbers of its ports, and a second time changes nothing', async () => {
    const { bridge, one, two, places, apply, own, ofctl } = await addBridge(box.current);
    const texts = [
      'priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop',
      'priority=50,actions=normal',
      `in_port=${one},actions=output:${two}`,
      `in_port=${bridge},arp,arp_tpa=10.0.0.7,actions=output:"${one}",in_port`,
      'table=3,priority=7,ip,nw_src=10.0.0.1/24,tcp,tp_dst=0x50,actions=mod_nw_tos:32,dec_ttl,resubmit(,4)',
      'dl_vlan=7,actions=strip_vlan,set_field:0x5->reg0,controller',
      'vlan_tci=0x1000/0x1000,actions=mod_vlan_vid:9,note:01.02,normal',
      'ipv6,ipv6_dst=FD00:0::1/64,actions=learn(table=4,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),flood',
      'table=5,ct_state=+trk+new,ip,actions=ct(commit,zone=3,nat(src=10.0.0.9))',
    ];
    const { plan } = await apply(...texts);
    expect(plan.add).toHaveLength(texts.length);
    expect(await own()).toEqual(plan.add.map(flowText).sort());
    expect(await own()).toContain('in_port=17 actions=output:5');
    expect(await own()).toContain('arp,in_port=LOCAL,arp_tpa=10.0.0.7 actions=output:17,IN_PORT');
    expect(await ofctl('dump-flows', `cookie=${FLOW_COOKIE}/-1`)).toContain('dl_dst=ff:ff:ff:ff:ff:ff actions=drop');

    const again = await compareFlows(places, bridge, flowsOf(...texts), call);
    expect(isEmptyFlowPlan(again), JSON.stringify(again)).toBe(true);
    expect((await apply(...texts)).plan).toEqual(again);
  });

  it('leave those of others alone, also when they are taken back', async () => {
    const { apply, own, ofctl } = await addBridge(box.current);
    await ofctl('add-flow', 'cookie=0x7,priority=9,arp,actions=drop');
    const others = async (): Promise<string[]> =>
      (await ofctl('dump-flows', '--no-stats')).split('\n').filter((line) => !line.includes(FLOW_COOKIE));
    const before = await others();
    expect(before.join()).toMatch(/cookie=0x7, priority=9,arp actions=drop.*priority=0 actions=NORMAL/);

    await apply('priority=1,actions=drop', 'priority=2,ip,actions=drop', 'priority=0,actions=normal');
    // Its own flow of OVS does for the third.
    expect(await own()).toEqual(['priority=1 actions=drop', 'priority=2,ip actions=drop']);
    const { plan, undo } = await apply('priority=1,actions=normal', 'priority=3,ip,actions=drop');
    expect(plan).toMatchObject({ add: [{ match: 'priority=3,ip' }], remove: [{ match: 'priority=2,ip' }] });
    expect(plan.change.map(({ from, to }) => [from.actions, to.actions])).toEqual([['drop', 'NORMAL']]);
    expect(await own()).toEqual(['priority=1 actions=NORMAL', 'priority=3,ip actions=drop']);
    await undo(call);
    expect(await own()).toEqual(['priority=1 actions=drop', 'priority=2,ip actions=drop']);
    await apply();
    expect(await own()).toEqual([]);
    expect(await others()).toEqual(before);
  });

  it('do not replace a flow of somebody else', async () => {
    const { bridge, apply, ofctl } = await addBridge(box.current);
    await ofctl('add-flow', 'priority=9,arp,actions=normal');
    const before = await ofctl('dump-flows', '--no-stats');
    await expect(apply('priority=8,ip,actions=drop', 'priority=9,arp,actions=drop')).rejects.toMatchObject({
      code: 'state-foreign',
      message: expect.stringContaining(`bridge ${bridge} has a flow of somebody else`),
    });
    expect(await ofctl('dump-flows', '--no-stats')).toBe(before);
  });

  it('are all there or none: what the parser took, and the switch did not', async () => {
    const { apply, own } = await addBridge(box.current);
    await apply('priority=1,actions=drop');
    await expect(apply('priority=2,actions=normal', 'priority=3,actions=group:77')).rejects.toMatchObject({
      code: 'command-failed',
      message: expect.stringMatching(/refused the flows, and none was changed: .*OFPBAC_BAD_OUT_GROUP/),
    });
    expect(await own()).toEqual(['priority=1 actions=drop']);
  });

  it('come back as they should be when somebody gave one a time-out', async () => {
    const { apply, own, ofctl } = await addBridge(box.current);
    await apply('priority=1,actions=drop');
    await ofctl('add-flow', `cookie=${FLOW_COOKIE},priority=1,idle_timeout=600,send_flow_rem,actions=drop`);
    expect(await own()).toEqual(['idle_timeout=600,send_flow_rem,priority=1 actions=drop']);
    expect((await apply('priority=1,actions=drop')).plan.change).toHaveLength(1);
    expect(await own()).toEqual(['priority=1 actions=drop']);
  });

  it('are gone after a restart of vswitchd, and are made again', async () => {
    const sandbox = box.current;
    const { apply, own, places, bridge } = await addBridge(sandbox);
    await apply('priority=1,actions=drop');
    await sandbox.restart('ovs-vswitchd');
    expect(await own()).toEqual([]);
    const plan = await compareFlows(places, bridge, flowsOf('priority=1,actions=drop'), call);
    expect(plan.add.map(flowText)).toEqual(['priority=1 actions=drop']);
    await apply('priority=1,actions=drop');
    expect(await own()).toEqual(['priority=1 actions=drop']);
  });

  it('of the origin document kill ARP and DHCP; those of our warning mend it', async () => {
    const sandbox = box.current;
    const { apply, bridge } = await addBridge(sandbox);
    const trace = async (frame: string): Promise<string | undefined> => {
      const flow = `in_port=17,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,${frame}`;
      const { stdout } = await sandbox.exec('ovs-appctl', ['ofproto/trace', bridge, flow]);
      return /Datapath actions: (.*)/.exec(stdout)?.[1];
    };
    const frames = ['arp,arp_op=1', 'udp,nw_dst=255.255.255.255,udp_src=68,udp_dst=67'];
    const rules = ['priority=100,dl_dst=ff:ff:ff:ff:ff:ff,actions=drop', 'priority=50,actions=normal'];
    await apply(...rules);
    for (const frame of frames) expect(await trace(frame), frame).toBe('drop');
    const [warning] = warnOfFlows(flowsOf(...rules));
    const mending = [...(warning?.message ?? '').matchAll(/"(.+?)"/g)].map(([, rule = '']) => rule);
    await apply(...rules, ...mending);
    for (const frame of frames) expect(await trace(frame), frame).toMatch(/^\d+(,\d+)*$/);
  });

  it('can not be read of a bridge that is not there', async () => {
    const places = ovsPlaces(join(box.current.runDir, 'db.sock'), box.current.fullEnv);
    await expect(readOwnFlows(places, 'br-nope', call)).rejects.toMatchObject({ code: 'bridge-missing' });
  });
});
