/** Check of MTUs along the path: container, relay, TAP, uplink, what DHCP tells, and the tunnel between hosts. */
import { readControllerSettings } from '../ovn/local-controller.js';
import { defineCheck, foundOr, type Judgement } from './check.js';
import type { Link } from './read/links.js';
import type { NorthboundFacts, SouthboundFacts } from './read/ovn.js';
import type { OvsView } from './read/ovs.js';
import type { RelayFacts } from './read/relays.js';

/** Outer IPv4, UDP, Geneve with OVN's option, and the inner Ethernet header. */
const GENEVE_OVERHEAD_BYTES = 58;

export const MTU_CHECKS = [
  defineCheck({
    id: 'mtu',
    title: 'MTU along the path',
    group: 'networks',
    needs: ['ovs', 'links', 'relays'],
    wants: ['northbound', 'southbound'],
    judge: (path) => judgeMtu(path),
  }),
];

interface Path {
  readonly ovs: OvsView;
  readonly links: readonly Link[];
  readonly relays: readonly RelayFacts[];
  readonly northbound?: NorthboundFacts;
  readonly southbound?: SouthboundFacts;
}

export function judgeMtu(path: Path): readonly Judgement[] {
  const found = [...relayMtus(path), ...uplinkMtus(path), ...dhcpMtus(path), ...tunnelMtus(path)];
  return foundOr(found, 'MTU', 'nothing on the path takes less than what is sent');
}

function relayMtus({ relays, links, northbound }: Path): Judgement[] {
  const found: Judgement[] = [];
  for (const { status } of relays) {
    if (status === undefined) continue;
    const { tap, mtu, network } = status;
    const subject = `relay of ${tap}`;
    const link = links.find(({ name }) => name === tap);
    if (link !== undefined && link.mtu !== mtu) {
      const evidence = `its device has MTU ${link.mtu}, and the container was told ${mtu}`;
      const verdict = link.mtu < mtu ? 'problem' : 'warning';
      found.push({ verdict, subject, evidence, mend: `ip link set dev ${tap} mtu ${mtu}` });
    }
    const wanted = northbound?.networks.find(({ name }) => name === network)?.mtu;
    if (wanted !== undefined && wanted !== mtu) {
      const evidence = `it has MTU ${mtu}, and its network ${network} has ${wanted}`;
      found.push({ verdict: 'warning', subject, evidence, mend: 'arca reconcile' });
    }
    const peer = status.agreed?.peerMtu;
    if (peer === undefined || peer === mtu) continue;
    const evidence =
      peer > mtu
        ? `the container's interface has MTU ${peer}, and the relay ${mtu}: its larger frames are dropped`
        : `the container's interface has MTU ${peer}, and the relay ${mtu}: larger frames for it are dropped`;
    found.push({ verdict: 'warning', subject, evidence, mend: `in the container: ip link set dev eth0 mtu ${mtu}` });
  }
  return found;
}

/** A network card on the same bridge takes frames of tagged ports along. */
function uplinkMtus({ ovs, links }: Path): Judgement[] {
  const mtuOf = (name: string): number | undefined => links.find((link) => link.name === name)?.mtu;
  const found: Judgement[] = [];
  for (const { name: bridge } of ovs.bridges) {
    const ports = ovs.ports.filter((port) => port.bridge === bridge && port.name !== bridge && port.type === '');
    const largest = Math.max(0, ...ports.filter(({ isOurs }) => isOurs).map(({ device }) => mtuOf(device) ?? 0));
    for (const { device, name, isOurs } of ports) {
      const mtu = mtuOf(device);
      if (isOurs || mtu === undefined || mtu >= largest) continue;
      const evidence = `has MTU ${mtu}, and containers on ${bridge} send up to ${largest}: what is larger does not leave by it`;
      found.push({
        verdict: 'warning',
        subject: `port ${name}`,
        evidence,
        mend: `ip link set dev ${device} mtu ${largest}`,
      });
    }
  }
  return found;
}

function dhcpMtus({ northbound }: Path): Judgement[] {
  const found: Judgement[] = [];
  for (const { cidr, mtu } of northbound?.dhcp ?? []) {
    const network = northbound?.networks.find(({ subnet }) => subnet === cidr);
    if (network === undefined || network.mtu === mtu) continue;
    found.push({
      verdict: 'warning',
      subject: `network ${network.name}`,
      evidence: `DHCP for ${cidr} tells MTU ${mtu}, and the network has ${network.mtu}`,
      mend: `ovn-nbctl set DHCP_Options UUID options:mtu=${network.mtu}`,
    });
  }
  return found;
}

/** Only a network with a port of OVN's own (not an attachment) goes through tunnels, and only to another chassis. */
function tunnelMtus({ ovs, links, northbound, southbound }: Path): Judgement[] {
  const { encapIps } = readControllerSettings(ovs.externalIds);
  const underlay = links.find(({ addresses }) => addresses.some((address) => encapIps.includes(address)));
  if (underlay === undefined || (southbound?.length ?? 0) < 2) return [];
  const most = underlay.mtu - GENEVE_OVERHEAD_BYTES;
  const tunnelled = new Set((northbound?.ports ?? []).filter(({ isOurs }) => !isOurs).map(({ network }) => network));
  return (northbound?.networks ?? [])
    .filter(({ name, mtu }) => tunnelled.has(name) && mtu > most)
    .map(({ name, mtu }) => ({
      verdict: 'warning',
      subject: `network ${name}`,
      evidence: `has MTU ${mtu}, and a Geneve tunnel over ${underlay.name} (MTU ${underlay.mtu}) takes ${most}: TCP hangs between hosts`,
      mend: `make the network with MTU ${most}, or raise that of ${underlay.name} to ${mtu + GENEVE_OVERHEAD_BYTES}`,
    }));
}
