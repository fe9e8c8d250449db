/** Checks of the bridge that relays attach to: whether it forwards, what its datapath costs, whom ovn-controller takes it for. */

import { readControllerSettings } from '../ovn/local-controller.js';
import { type FlowFacts, judgeBridge, OVN_DEFAULT_BRIDGE, TSO_KEY } from '../ovs/bridge.js';
import { type Check, defineCheck, foundOr, type Judgement } from './check.js';
import { isOlder, numberIn } from './host.js';
import type { DaemonFacts } from './read/daemon.js';
import type { Link } from './read/links.js';
import type { SouthboundFacts } from './read/ovn.js';
import type { OvsView } from './read/ovs.js';

/** 3.1 was seen to drop offloaded frames that go into a tunnel; from this version on nobody has looked. */
const FIRST_NOT_SEEN_TO_DROP = '3.2';

export function bridgeChecks(bridge: string): readonly Check[] {
  return [
    defineCheck({
      id: 'black-hole',
      title: 'The bridge forwards by VLAN tag',
      group: 'bridge',
      needs: ['ovs', 'flows'],
      wants: ['ovnController'],
      judge: ({ ovs, flows, ovnController }) => judgeForwarding(bridge, ovs, flows, ovnController),
    }),
    defineCheck({
      id: 'datapath',
      title: 'Datapath, and what it costs',
      group: 'bridge',
      needs: ['ovs'],
      wants: ['links', 'vswitchd'],
      judge: ({ ovs, links, vswitchd }) =>
        judgeDatapath(bridge, ovs, { links, ovsVersion: numberIn(vswitchd?.version) }),
    }),
    defineCheck({
      id: 'chassis',
      title: 'Chassis of this host',
      group: 'bridge',
      needs: ['ovs', 'southbound'],
      wants: ['ovnController'],
      judge: ({ ovs, southbound, ovnController }) => judgeChassis(ovs, southbound, ovnController),
    }),
  ];
}

export function judgeForwarding(
  name: string,
  { bridges, externalIds, otherConfig }: OvsView,
  flows: FlowFacts,
  controller: DaemonFacts | undefined,
): readonly Judgement[] {
  const bridge = bridges.find((candidate) => candidate.name === name);
  const subject = `bridge ${name}`;
  if (bridge === undefined) {
    return [{ verdict: 'problem', subject, evidence: 'OVS has no such bridge', mend: `ovs-vsctl add-br ${name}` }];
  }
  const ovnBridge = externalIds['ovn-bridge'] ?? '';
  const facts = {
    ...bridge,
    ovnBridge,
    systemId: externalIds['system-id'] ?? '',
    userspaceTso: otherConfig[TSO_KEY] === 'true',
  };
  const verdict = judgeBridge(facts, flows);
  if (!verdict.forwards) {
    const evidence = `would forward nothing for a port with a VLAN tag: ${verdict.why}`;
    return [{ verdict: 'problem', subject, evidence, mend: verdict.mend }];
  }
  if ((ovnBridge || OVN_DEFAULT_BRIDGE) === name) {
    const runs = controller?.state === 'answers' || controller?.state === 'hangs';
    const how = ovnBridge === '' ? 'external_ids:ovn-bridge is not set' : `external_ids:ovn-bridge is ${ovnBridge}`;
    return [
      {
        verdict: runs ? 'problem' : 'note',
        subject,
        evidence: `${how}: ${runs ? 'the ovn-controller that runs here' : 'an ovn-controller that starts here'} takes this bridge, and then no tagged port forwards`,
        mend: 'ovs-vsctl set Open_vSwitch . external_ids:ovn-bridge=br-ovn, before it starts',
      },
    ];
  }
  if (!flows.known) {
    return [{ verdict: 'unknown', subject, evidence: `its flows could not be read: ${flows.why}` }];
  }
  return [{ verdict: 'ok', subject, evidence: 'has a flow with NORMAL, and no ovn-controller takes it' }];
}

interface DatapathExtras {
  readonly links: readonly Link[] | undefined;
  readonly ovsVersion: string | undefined;
}

export function judgeDatapath(name: string, ovs: OvsView, extras: DatapathExtras): readonly Judgement[] {
  const bridge = ovs.bridges.find((candidate) => candidate.name === name);
  const subject = `bridge ${name}`;
  if (bridge === undefined) return [{ verdict: 'unknown', subject, evidence: 'OVS has no such bridge' }];
  if (bridge.datapathType === 'system') {
    return [{ verdict: 'ok', subject, evidence: "the kernel's datapath: it takes checksum and segmentation offloads" }];
  }
  if (bridge.datapathType !== 'netdev') {
    return [
      { verdict: 'note', subject, evidence: `datapath_type ${bridge.datapathType}: relays carry no offloads there` },
    ];
  }
  const isOn = ovs.otherConfig[TSO_KEY] === 'true';
  const found: Judgement[] = [];
  const device = extras.links?.find((link) => link.name === name);
  // vswitchd opens its own TAPs with the header that offloads need, or without, by what it read at its start.
  if (device?.kind === 'tun' && device.hasVnetHeader !== isOn) {
    found.push({
      verdict: isOn ? 'problem' : 'warning',
      subject: 'ovs-vswitchd',
      evidence:
        `other_config:${TSO_KEY} is ${isOn ? 'set, and ovs-vswitchd was started without it: TCP may hang' : 'not set, and ovs-vswitchd was started with it'} ` +
        `(the device ${name} was opened ${isOn ? 'without' : 'with'} the header of offloads)`,
      mend: 'systemctl restart openvswitch-switch: it reads this when it starts, and not again',
    });
  }
  const tunnels = ovs.ports.filter(({ type }) => type === 'geneve' || type === 'vxlan');
  if (
    isOn &&
    tunnels.length > 0 &&
    (extras.ovsVersion === undefined || isOlder(extras.ovsVersion, FIRST_NOT_SEEN_TO_DROP))
  ) {
    found.push({
      verdict: 'warning',
      subject: tunnels.map((port) => `port ${port.name}`).join(', '),
      evidence: `${TSO_KEY} is set, and OVS ${extras.ovsVersion ?? '(version not known)'} drops what is offloaded when it goes into a tunnel`,
      mend: `ovs-vsctl remove Open_vSwitch . other_config ${TSO_KEY}, and restart ovs-vswitchd`,
    });
  }
  if (found.length > 0) return found;
  const cost = isOn
    ? 'the userspace datapath with TSO: offloads are carried, frames are copied through ovs-vswitchd'
    : 'the userspace datapath without TSO: no offloads, about a tenth of what the kernel datapath moves';
  return [
    {
      verdict: isOn ? 'ok' : 'note',
      subject,
      evidence: cost,
      ...(!isOn && {
        mend: `ovs-vsctl set Open_vSwitch . other_config:${TSO_KEY}=true and restart ovs-vswitchd; or datapath_type=system where the kernel has openvswitch`,
      }),
    },
  ];
}

export function judgeChassis(
  { externalIds }: OvsView,
  chassis: SouthboundFacts,
  controller: DaemonFacts | undefined,
): readonly Judgement[] {
  const { systemId, encapIps } = readControllerSettings(externalIds);
  const subject = `chassis ${systemId ?? '(external_ids:system-id is not set)'}`;
  const found: Judgement[] = [];
  for (const other of chassis) {
    if (other.name === systemId) {
      const registered = other.encaps.map(({ ip }) => ip);
      if (encapIps.length === 0 || registered.some((ip) => encapIps.includes(ip))) continue;
      found.push({
        verdict: 'warning',
        subject,
        evidence: `is registered with ${registered.join(', ')}, and external_ids:ovn-encap-ip says ${encapIps.join(', ')}`,
        mend: `ovn-sbctl chassis-del ${other.name}; then restart ovn-controller, or arca chassis register`,
      });
      continue;
    }
    const shared = other.encaps.find(({ ip }) => encapIps.includes(ip));
    if (shared === undefined) continue;
    found.push({
      verdict: 'problem',
      subject: `chassis ${other.name}`,
      evidence: `has the address ${shared.ip} that this host is told to use as ${systemId ?? 'another'}: its ovn-controller never registers`,
      mend: `ovn-sbctl chassis-del ${other.name}, or another external_ids:ovn-encap-ip`,
    });
  }
  const isThere = chassis.some(({ name }) => name === systemId);
  if (found.length === 0 && controller?.state === 'answers' && systemId !== undefined && !isThere) {
    return [
      {
        verdict: 'warning',
        subject,
        evidence: 'an ovn-controller runs here, and has not registered',
        mend: 'look at its log; ovs-vsctl get Open_vSwitch . external_ids',
      },
    ];
  }
  return foundOr(
    found,
    subject,
    isThere ? 'is registered, and nobody else has its address' : 'nobody has its name or address',
  );
}
