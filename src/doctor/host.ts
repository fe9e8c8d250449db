/** Checks of what a relay needs of this machine: devices, modules, capabilities, programs, versions. */
import { defineCheck, foundOr, type Judgement } from './check.js';
import type { CapabilityFacts, ToolFacts, TunFacts, VersionFacts, VsockFacts } from './read/host.js';
import { TOOL_PACKAGES, VSOCK_TRANSPORTS } from './read/host.js';
import type { NorthboundFacts } from './read/ovn.js';
import type { OvsView } from './read/ovs.js';

const TUN = '/dev/net/tun';

/** Bits of capability.h. */
const CAP_NET_BIND_SERVICE = 10n;
const CAP_NET_ADMIN = 12n;

export const HOST_CHECKS = [
  defineCheck({
    id: 'tun-device',
    title: 'TAP devices can be made',
    group: 'host',
    needs: ['tun'],
    judge: ({ tun }) => [judgeTun(tun)],
  }),
  defineCheck({
    id: 'vsock',
    title: 'vsock, and a transport for it',
    group: 'host',
    needs: ['vsock'],
    wants: ['ovs', 'northbound'],
    judge: ({ vsock, ovs, northbound }) => [judgeVsock(vsock, usesVsock(ovs, northbound))],
  }),
  defineCheck({
    id: 'capabilities',
    title: 'Capabilities',
    group: 'host',
    needs: ['capabilities'],
    judge: ({ capabilities }) => judgeCapabilities(capabilities),
  }),
  defineCheck({
    id: 'programs',
    title: 'Programs that are needed',
    group: 'host',
    needs: ['tools'],
    judge: ({ tools }) => judgeTools(tools),
  }),
  defineCheck({
    id: 'versions',
    title: 'Versions that go together',
    group: 'host',
    needs: ['versions'],
    wants: ['vswitchd', 'northd', 'ovnController'],
    judge: ({ versions, vswitchd, northd, ovnController }) =>
      judgeVersions(versions, {
        vswitchd: vswitchd?.version,
        northd: northd?.version,
        ovnController: ovnController?.version,
      }),
  }),
];

export function judgeTun(tun: TunFacts): Judgement {
  const remake = `rm -f ${TUN}; mkdir -p /dev/net && mknod ${TUN} c 10 200 && chmod 666 ${TUN}`;
  switch (tun.state) {
    case 'opens':
      return { verdict: 'ok', subject: TUN, evidence: 'is device 10:200, and opens' };
    case 'missing':
      return { verdict: 'problem', subject: TUN, evidence: 'is missing', mend: `modprobe tun; ${remake}` };
    case 'other':
      return { verdict: 'problem', subject: TUN, evidence: `is ${tun.what}, not device 10:200`, mend: remake };
    case 'fails': {
      const evidence = `does not open: ${tun.errno}`;
      if (tun.errno === 'ENODEV' || tun.errno === 'ENXIO') {
        return { verdict: 'problem', subject: TUN, evidence, mend: 'modprobe tun' };
      }
      if (tun.errno === 'EACCES' || tun.errno === 'EPERM') {
        const mend = 'run as root; under systemd DeviceAllow=/dev/net/tun rw; in a container pass the device in';
        return { verdict: 'problem', subject: TUN, evidence, mend };
      }
      return { verdict: 'problem', subject: TUN, evidence };
    }
  }
}

/** Whether any attachment or port of ours is reached over vsock. */
export function usesVsock(ovs: OvsView | undefined, northbound: NorthboundFacts | undefined): boolean {
  const marks = [
    ...(ovs?.ports ?? []).filter(({ isOurs }) => isOurs),
    ...(northbound?.ports ?? []).filter(({ isOurs }) => isOurs),
  ];
  return marks.some(({ externalIds }) => externalIds['arca-endpoint']?.startsWith('vsock:'));
}

/** Unix sockets serve without vsock: its absence is a problem only for who uses it. */
export function judgeVsock({ hasDevice, transports }: VsockFacts, isUsed: boolean): Judgement {
  const subject = '/dev/vsock';
  const verdict = isUsed ? 'problem' : 'note';
  const use = isUsed ? 'attachments here use it' : 'no attachment here uses it';
  const mend =
    'modprobe vhost_vsock on the host of VMs, modprobe vmw_vsock_virtio_transport in a VM, ' +
    'modprobe vsock_loopback for this machine alone';
  if (!hasDevice) return { verdict, subject, evidence: `is missing; ${use}`, mend };
  if (transports.length === 0) {
    return { verdict, subject, evidence: `is there, and no transport is loaded; ${use}`, mend };
  }
  const list = transports.map((name) => `${name} (${VSOCK_TRANSPORTS[name] ?? '?'})`).join(', ');
  return { verdict: 'ok', subject, evidence: `is there, with ${list}` };
}

/** Who starts relays has to have them. Without an arca-control that is whoever asks. */
export function judgeCapabilities(all: readonly CapabilityFacts[]): readonly Judgement[] {
  const hasControl = all.some(({ isControl }) => isControl);
  const has = ({ effective }: CapabilityFacts, bit: bigint): boolean => (effective & (1n << bit)) !== 0n;
  const found = all.flatMap((one): Judgement[] => {
    const counts = one.isControl === hasControl;
    const mend = one.isControl
      ? 'systemctl edit arca-control: [Service] CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE, run as root'
      : 'run as root, or give them: setpriv, capsh, or AmbientCapabilities= in the unit';
    if (!has(one, CAP_NET_ADMIN)) {
      const evidence = 'has no CAP_NET_ADMIN: relays that it starts can make no TAP device';
      return [{ verdict: counts ? 'problem' : 'note', subject: one.who, evidence, mend }];
    }
    if (!has(one, CAP_NET_BIND_SERVICE)) {
      const evidence = 'has no CAP_NET_BIND_SERVICE: relays that it starts can not listen on vsock ports under 1024';
      return [{ verdict: 'note', subject: one.who, evidence, mend }];
    }
    return [];
  });
  return foundOr(found, all.map(({ who }) => who).join(', '), 'CAP_NET_ADMIN and CAP_NET_BIND_SERVICE');
}

export function judgeTools(tools: ToolFacts): readonly Judgement[] {
  const found: Judgement[] = [];
  for (const [name, path] of tools) {
    if (path !== undefined) continue;
    const mend = `apt-get install ${TOOL_PACKAGES[name]}`;
    found.push({ verdict: 'problem', subject: name, evidence: 'is in no folder of PATH', mend });
  }
  return foundOr(found, 'PATH', `has ${[...tools.keys()].join(', ')}`);
}

interface RunningVersions {
  readonly vswitchd: string | undefined;
  readonly northd: string | undefined;
  readonly ovnController: string | undefined;
}

export function judgeVersions(versions: VersionFacts, running: RunningVersions): readonly Judgement[] {
  const { kernel, installedOvs, databaseSchema, installedSchema } = versions;
  const found: Judgement[] = [];
  const [runs, installed] = [numberIn(running.vswitchd), numberIn(installedOvs)];
  if (runs !== undefined && installed !== undefined && runs !== installed) {
    found.push({
      verdict: 'warning',
      subject: 'ovs-vswitchd',
      evidence: `${runs} runs, and ${installed} is installed: it was upgraded and not started anew`,
      mend: 'systemctl restart openvswitch-switch (nothing forwards for a moment)',
    });
  }
  if (databaseSchema !== undefined && installedSchema !== undefined && isOlder(databaseSchema, installedSchema)) {
    found.push({
      verdict: 'warning',
      subject: 'OVS database',
      evidence: `its schema is ${databaseSchema}, the installed one ${installedSchema}: ovs-vswitchd does without the newer columns`,
      mend: 'systemctl restart openvswitch-switch, which converts it; or ovsdb-client convert /usr/share/openvswitch/vswitch.ovsschema',
    });
  }
  const [northd, controller] = [numberIn(running.northd), numberIn(running.ovnController)];
  if (northd !== undefined && controller !== undefined && series(northd) !== series(controller)) {
    found.push({
      verdict: 'note',
      subject: 'OVN',
      evidence: `ovn-northd ${northd} and ovn-controller ${controller} are of different series`,
      mend: 'upgrade ovn-controller everywhere first, then ovn-northd (OVN upgrades guide)',
    });
  }
  const told = [
    `Linux ${kernel}`,
    ...(runs === undefined ? [] : [`OVS ${runs}`]),
    ...(databaseSchema === undefined ? [] : [`schema ${databaseSchema}`]),
    ...(northd === undefined ? [] : [`OVN ${northd}`]),
  ];
  return foundOr(found, 'versions', told.join(', '));
}

/** `ovs-vswitchd (Open vSwitch) 3.1.0` has 3.1.0. */
export function numberIn(text: string | undefined): string | undefined {
  return /\d+(\.\d+)+/.exec(text ?? '')?.[0];
}

function series(version: string): string {
  return version.split('.').slice(0, 2).join('.');
}

export function isOlder(version: string, than: string): boolean {
  const [one, other] = [version.split('.').map(Number), than.split('.').map(Number)];
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    const difference = (one[i] ?? 0) - (other[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
