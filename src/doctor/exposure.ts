/**
 * Check of what the host's own stack shows to containers through their TAPs. A relay sets its TAP silent when it makes
 * it (native/io/tap_interface.cc): no ARP, no IPv6, strict reverse path filter, no address.
 */
import { defineCheck, foundOr, type Judgement } from './check.js';
import type { Link, TapSettings } from './read/links.js';
import type { OvsPort, OvsView } from './read/ovs.js';

const STRICT = 1;

export const EXPOSURE_CHECKS = [
  defineCheck({
    id: 'exposure',
    title: 'The host behind TAP devices',
    group: 'ports',
    needs: ['ovs', 'links', 'tapSettings'],
    judge: ({ ovs, links, tapSettings }) => judgeExposure(ovs, links, tapSettings),
  }),
];

export function judgeExposure(
  { ports }: OvsView,
  links: readonly Link[],
  settings: ReadonlyMap<string, TapSettings>,
): readonly Judgement[] {
  const ours = ports.filter(({ isOurs }) => isOurs);
  const found = ours.flatMap((port) => {
    const link = links.find(({ name }) => name === port.name);
    const its = settings.get(port.name);
    return link === undefined || its === undefined ? [] : judgeTap(port, link, its);
  });
  return foundOr(found, 'devices', `${ours.length} TAP devices, and none shows the host`);
}

function judgeTap({ name, datapathType }: OvsPort, link: Link, settings: TapSettings): Judgement[] {
  const faults: [evidence: string, mend: string][] = [];
  if (settings.rpFilter !== STRICT) {
    faults.push([
      `rp_filter is ${settings.rpFilter}, not strict (the larger one of all and ${name}): a container reaches the host's servers`,
      `sysctl -w net.ipv4.conf.${name}.rp_filter=1${settings.rpFilter > STRICT ? ' net.ipv4.conf.all.rp_filter=1' : ''}`,
    ]);
  }
  if (settings.disableIpv6 === 0) {
    faults.push(['IPv6 is on', `sysctl -w net.ipv6.conf.${name}.disable_ipv6=1`]);
  }
  if (link.hasArp) faults.push(['the host answers ARP on it', `ip link set dev ${name} arp off`]);
  if (link.addresses.length > 0) {
    faults.push([`the host has ${link.addresses.join(', ')} on it`, `ip address flush dev ${name}`]);
  }
  // The kernel's datapath takes a frame before the stack sees it.
  const verdict = datapathType === 'netdev' ? 'problem' : 'note';
  return faults.map(([evidence, mend]) => ({ verdict, subject: `device ${name}`, evidence, mend }));
}
