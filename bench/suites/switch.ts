/**
 * Container to container through Open vSwitch, as the product is used: arca-tap, arca-relay, OVS, arca-relay, arca-tap.
 * Each contender has a VLAN of its own on the same bridge. The datapath is the ceiling, so veth ports stand beside.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import type { Datapath } from '../../src/sandbox/sandbox.js';
import { type Contender, waitForDevice } from '../contenders/contender.js';
import { type Context, canRun } from '../context.js';
import { INTERFACE, inNetns, ip } from '../lab.js';
import { type LinkMeasure, openLinks, runRoundTrip, runTcp, runUdp } from './links.js';
import { BRIDGE, openSwitch, type Switch } from './ovs.js';
import type { Stage } from './stage.js';

const TOOL_MS = 5000;
const MTU = 1500;

function measuresOf(datapath: Datapath): readonly LinkMeasure[] {
  const name = datapath === 'system' ? 'kernel' : datapath;
  const common = { suites: ['switch'], mtu: MTU } as const;
  const through = `through OVS (${name})`;
  const quick = ['veth', 'arca'];
  return [
    {
      ...common,
      id: `switch-${name}-tcp1`,
      title: `TCP 1 flow ${through}`,
      primary: 'gbps',
      quick,
      run: runTcp(1, 'ab'),
    },
    {
      ...common,
      id: `switch-${name}-tcp8`,
      title: `TCP 8 flows, both ways, ${through}`,
      primary: 'gbps',
      run: runTcp(8, 'bidir'),
    },
    { ...common, id: `switch-${name}-udp64`, title: `UDP 64 bytes ${through}`, primary: 'kpps', run: runUdp(64) },
    {
      ...common,
      id: `switch-${name}-rtt`,
      title: `round trip, idle, ${through}`,
      primary: 'p50Us',
      run: runRoundTrip(false),
    },
  ];
}

export const KERNEL_DATAPATH_MISSING =
  'switch: no kernel datapath here (no openvswitch module); scripts/vm has a kernel with it, where no speed may be measured';

/** `names`: only these contenders; undefined: all. */
export async function switchStages(context: Context, names: readonly string[] | undefined): Promise<readonly Stage[]> {
  const datapaths: readonly Datapath[] = (await hasKernelDatapath()) ? ['netdev', 'system'] : ['netdev'];
  return datapaths.map((datapath) => {
    const all = measuresOf(datapath);
    const measures = context.quick ? all.filter(({ quick }) => quick) : all;
    return {
      name: `switch, ${datapath}`,
      measures,
      async open() {
        const ovs = await openSwitch(context, datapath);
        try {
          const links = await openLinks(context, contendersOf(ovs, names), measures, MTU);
          return {
            tasks: links.tasks,
            async close() {
              await links.close();
              await ovs.close();
            },
          };
        } catch (error) {
          await ovs.close();
          throw error;
        }
      },
    };
  });
}

export async function hasKernelDatapath(): Promise<boolean> {
  if (existsSync('/sys/module/openvswitch')) return true;
  return run('modprobe', ['openvswitch'], { timeoutMs: TOOL_MS }).then(
    () => true,
    () => false,
  );
}

function contendersOf(ovs: Switch, names: readonly string[] | undefined): readonly Contender[] {
  return [vethPorts(ovs), naiveRelays(ovs), ours(ovs)].filter(({ name }) => names?.includes(name) ?? true);
}

/** Adds ports and waits until ovs-vswitchd has them. */
async function addPorts(ovs: Switch, tag: number, ports: readonly string[]): Promise<void> {
  for (const port of ports) await ip(['-n', ovs.netns, 'link', 'set', port, 'up']);
  await ovs.vsctl(...ports.flatMap((port) => ['--', 'add-port', BRIDGE, port, `tag=${tag}`]));
}

function vethPorts(ovs: Switch): Contender {
  return {
    name: 'veth',
    description: 'a veth pair from each container to the bridge: what the datapath itself can do',
    missing: async () => undefined,
    async start(_context, pair) {
      for (const [netns, port] of [
        [pair.a, 'vethA'],
        [pair.b, 'vethB'],
      ] as const) {
        await ip(['link', 'add', INTERFACE, 'netns', netns, 'type', 'veth', 'peer', 'name', port, 'netns', ovs.netns]);
        if (ovs.datapath === 'netdev') await completeFrames(netns);
      }
      await addPorts(ovs, 101, ['vethA', 'vethB']);
      return [];
    },
  };
}

/** The netdev datapath drops what is larger than the MTU, and passes partial checksums on as they are. */
async function completeFrames(netns: string): Promise<void> {
  if (!(await canRun('ethtool'))) throw new Error('ethtool is not installed: apt-get install ethtool');
  const [command = '', ...args] = inNetns(netns, ['ethtool', '-K', INTERFACE, 'tx', 'off', 'tso', 'off', 'gso', 'off']);
  await run(command, args, { timeoutMs: TOOL_MS });
}

function naiveRelays(ovs: Switch): Contender {
  return {
    name: 'naive',
    description: 'naive relays in place of arca-relay and of arca-tap',
    missing: async () => undefined,
    async start({ processes, programs }, pair) {
      const ends = [
        [pair.a, 'naiveA'],
        [pair.b, 'naiveB'],
      ] as const;
      const running = ends.flatMap(([netns, tap]) => {
        const path = join(pair.directory, tap);
        return [
          processes.start(inNetns(ovs.netns, [programs.naiveRelay, '--listen', path, '--tap', tap])),
          processes.start(inNetns(netns, [programs.naiveRelay, '--connect', path, '--tap', INTERFACE])),
        ];
      });
      for (const [, tap] of ends) await waitForDevice(ovs.netns, tap);
      await addPorts(ovs, 102, ['naiveA', 'naiveB']);
      return running;
    },
  };
}

function ours(ovs: Switch): Contender {
  return {
    name: 'arca',
    description: 'arca-tap, arca-relay, OVS, arca-relay, arca-tap',
    missing: async () => undefined,
    async start({ processes, programs }, pair, mtu) {
      const running = [];
      for (const [netns, tap] of [
        [pair.a, 'arcaA'],
        [pair.b, 'arcaB'],
      ] as const) {
        const path = join(pair.directory, tap);
        running.push(await ovs.startRelay(path, tap, ['--vlan', '103', '--mtu', String(mtu)]));
        const end = [programs.arcaTap, '--connect', `unix:${path}`, '--tap', INTERFACE, '--quiet'];
        running.push(processes.start(inNetns(netns, end)));
      }
      return running;
    },
  };
}
