/** Checks of networks and attachments as the northbound database has them. */
import { INSTANCE_KEY, TAG_KEY, TAP_KEY } from '../ovn/names.js';
import { type Check, defineCheck, foundOr, type Judgement } from './check.js';
import type { NorthboundFacts } from './read/ovn.js';
import type { OvsView } from './read/ovs.js';
import type { RelayFacts } from './read/relays.js';

export function networkChecks(runDir: string): readonly Check[] {
  return [
    defineCheck({
      id: 'tags',
      title: 'VLAN tags',
      group: 'networks',
      needs: ['northbound'],
      wants: ['ovs'],
      judge: ({ northbound, ovs }) => judgeTags(northbound, ovs),
    }),
    defineCheck({
      id: 'attachments',
      title: 'Attachments and their relays',
      group: 'networks',
      needs: ['northbound', 'relays'],
      judge: ({ northbound, relays }) => judgeAttachments(runDir, northbound, relays),
    }),
  ];
}

export function judgeTags({ switches, networks }: NorthboundFacts, ovs: OvsView | undefined): readonly Judgement[] {
  const found: Judgement[] = [];
  const byTag = new Map<number, string[]>();
  const byName = new Map<string, number>();
  for (const { name, vlan, owner, id } of networks) {
    byName.set(name, (byName.get(name) ?? 0) + 1);
    if (vlan !== null) {
      byTag.set(vlan, [...(byTag.get(vlan) ?? []), name]);
      continue;
    }
    const written = switches.find(({ uuid }) => uuid === id)?.externalIds[TAG_KEY];
    if (written === undefined && owner === 'foreign') continue;
    found.push({
      verdict: owner === 'arca' ? 'problem' : 'warning',
      subject: `network ${name}`,
      evidence:
        written === undefined
          ? `has no external_ids:${TAG_KEY}: no relay can attach to it`
          : `external_ids:${TAG_KEY} is ${JSON.stringify(written)}, no number from 1 to 4094`,
      mend: `ovn-nbctl set Logical_Switch ${name} external_ids:${TAG_KEY}=N, with a tag that no other switch has`,
    });
  }
  for (const [tag, names] of byTag) {
    if (names.length < 2) continue;
    found.push({
      verdict: 'problem',
      subject: `VLAN tag ${tag}`,
      evidence: `${names.join(' and ')} have it: they are one network on the bridge`,
      mend: `give one another tag: ovn-nbctl set Logical_Switch ${names.at(-1)} external_ids:${TAG_KEY}=N, and attach its containers anew`,
    });
  }
  for (const [name, count] of byName) {
    if (count < 2) continue;
    const evidence = `${count} logical switches have that name: whoever names it gets network-ambiguous`;
    found.push({
      verdict: 'problem',
      subject: `network ${name}`,
      evidence,
      mend: 'ovn-nbctl ls-del UUID of the one that is not needed',
    });
  }
  found.push(...portsWithOtherTags(networks, ovs));
  return foundOr(found, 'networks', `${networks.length}, each tag is used once`);
}

function portsWithOtherTags(networks: NorthboundFacts['networks'], ovs: OvsView | undefined): readonly Judgement[] {
  const found: Judgement[] = [];
  for (const { name, bridge, tag, isOurs, externalIds } of ovs?.ports ?? []) {
    const network = networks.find((candidate) => candidate.name === externalIds['arca-network']);
    if (!isOurs || network === undefined || network.vlan === null || network.vlan === tag) continue;
    found.push({
      verdict: 'problem',
      subject: `port ${name}`,
      evidence: `on ${bridge} it has tag ${tag ?? 'none'}, and its network ${network.name} has ${network.vlan}`,
      mend: 'arca reconcile starts its relay anew with the tag of the network',
    });
  }
  return found;
}

/** Of the control process with that run directory: others' relays are elsewhere. */
export function judgeAttachments(
  runDir: string,
  { ports }: NorthboundFacts,
  relays: readonly RelayFacts[],
): readonly Judgement[] {
  const living = new Set(relays.flatMap(({ status }) => (status === undefined ? [] : [status.tap])));
  // One that hangs does not say which it is.
  const silent = relays.some(({ isControlled, status }) => isControlled && status === undefined);
  const here = ports.filter(({ isOurs, externalIds }) => isOurs && externalIds[INSTANCE_KEY]?.endsWith(`:${runDir}`));
  const found = here
    .filter(({ externalIds }) => !living.has(externalIds[TAP_KEY] ?? '') && !silent)
    .map(
      ({ name }): Judgement => ({
        verdict: 'problem',
        subject: `attachment ${name}`,
        evidence: 'no relay runs for it: its container has no network',
        mend: 'arca ps says why; without an arca-control nobody starts it: systemctl start arca-control',
      }),
    );
  return foundOr(found, 'attachments', `${here.length} here, each with its relay`);
}
