/** Checks of ports, TAP devices and relays: whether each has what it belongs to. */
import { TAP_KEY } from '../ovn/names.js';
import { defineCheck, foundOr, type Judgement } from './check.js';
import type { Link, TapHolders } from './read/links.js';
import type { NorthboundFacts } from './read/ovn.js';
import type { OvsPort, OvsView } from './read/ovs.js';
import type { RelayFacts } from './read/relays.js';

export const PORT_CHECKS = [
  defineCheck({
    id: 'dead-ports',
    title: 'Ports that forward nothing',
    group: 'ports',
    needs: ['ovs', 'links', 'readDevices'],
    judge: ({ ovs, links, readDevices }) => judgePorts(ovs, links, readDevices),
  }),
  defineCheck({
    id: 'orphaned-ports',
    title: 'Ports without a device',
    group: 'ports',
    needs: ['ovs', 'links'],
    judge: ({ ovs, links }) => judgeOrphanedPorts(ovs, links),
  }),
  defineCheck({
    id: 'orphaned-taps',
    title: 'TAP devices that nobody holds, or somebody else',
    group: 'ports',
    needs: ['ovs', 'links', 'tapHolders', 'relays'],
    wants: ['northbound'],
    judge: ({ ovs, links, tapHolders, relays, northbound }) =>
      judgeTaps({ names: ourTapNames(ovs, northbound), links, holders: tapHolders, relays }),
  }),
  defineCheck({
    id: 'relays',
    title: 'Relays',
    group: 'ports',
    needs: ['relays'],
    wants: ['northbound'],
    judge: ({ relays, northbound }) => judgeRelays(relays, northbound),
  }),
  defineCheck({
    id: 'stale-sockets',
    title: 'Sockets of dead relays',
    group: 'ports',
    needs: ['deadSockets'],
    judge: ({ deadSockets }) =>
      foundOr(
        deadSockets.map((path) => ({
          verdict: 'note',
          subject: path,
          evidence: 'nobody listens on it: a relay that was killed left it',
          mend: 'arca doctor --fix, or the next start of that relay',
        })),
        'run directory',
        'has no socket of a dead relay',
      ),
  }),
];

/** A port for a device that is there by itself: what a relay makes, and a network card. */
function isDevicePort({ type, name, bridge }: OvsPort): boolean {
  return (type === '' || type === 'system') && name !== bridge;
}

export function judgePorts(
  { ports }: OvsView,
  links: readonly Link[],
  readDevices: ReadonlySet<number>,
): readonly Judgement[] {
  const found: Judgement[] = [];
  const judged = ports.filter(isDevicePort);
  for (const port of judged) {
    const link = links.find(({ name }) => name === port.device);
    // That is the next check's.
    if (link === undefined) continue;
    const why = deadBecause(port, link, readDevices);
    if (why === undefined) continue;
    found.push({ verdict: port.isOurs ? 'problem' : 'warning', subject: `port ${port.name}`, ...why });
  }
  return foundOr(found, 'ports', `${judged.length} with a device, and ovs-vswitchd has the device of each`);
}

function deadBecause(
  port: OvsPort,
  link: Link,
  readDevices: ReadonlySet<number>,
): Pick<Judgement, 'evidence' | 'mend'> | undefined {
  const { name, device, bridge, error, ofport, datapathType, tag, isOurs } = port;
  // In one command it would stay dead (docs/decisions/0001-dead-ports.md).
  const again = isOurs
    ? `ovs-vsctl del-port ${bridge} ${name}; its relay attaches it again`
    : `ovs-vsctl del-port ${bridge} ${name}; then, as a command of its own: ovs-vsctl add-port ${bridge} ${name}${tag === undefined ? '' : ` tag=${tag}`}`;
  if (error !== '') return { evidence: `OVS says: ${error}`, mend: again };
  if (ofport === undefined || ofport < 0) {
    return {
      evidence: `OVS gave it no number (ofport ${ofport ?? 'is empty'}): the device could not be opened`,
      mend: again,
    };
  }
  const isRead = datapathType === 'netdev' ? readDevices.has(link.ifindex) : link.isOvsSlave;
  if (!isRead && (datapathType === 'netdev' || datapathType === 'system')) {
    return {
      evidence:
        `OVS calls it sound (ofport ${ofport}, no error), and ovs-vswitchd does not have the device ${device} that is there now ` +
        `(ifindex ${link.ifindex}): it was removed and made again under its name`,
      mend: again,
    };
  }
  if (!link.isUp) return { evidence: `the device ${device} is down`, mend: `ip link set ${device} up` };
  return undefined;
}

/** Pure. Rows with our mark whose device is gone: what `--fix` may remove. */
export function orphanedPorts({ ports }: OvsView, links: readonly Link[]): readonly OvsPort[] {
  const names = new Set(links.map(({ name }) => name));
  return ports.filter((port) => isDevicePort(port) && !names.has(port.device));
}

export function judgeOrphanedPorts(ovs: OvsView, links: readonly Link[]): readonly Judgement[] {
  const found = orphanedPorts(ovs, links).map(({ name, device, bridge, isOurs }): Judgement => {
    const evidence = isOurs
      ? `has our mark and no device ${device}: its relay was killed`
      : `has no device ${device}, and is not ours`;
    const mend = isOurs ? 'arca doctor --fix, or the next start of its relay' : `ovs-vsctl del-port ${bridge} ${name}`;
    return { verdict: 'warning', subject: `port ${name}`, evidence, mend };
  });
  return foundOr(found, 'ports', 'each has its device');
}

/** Pure. Names of TAP devices that rows with our mark speak of. */
export function ourTapNames(ovs: OvsView, northbound: NorthboundFacts | undefined): ReadonlySet<string> {
  const names = new Set(ovs.ports.filter(({ isOurs }) => isOurs).map(({ name }) => name));
  for (const { isOurs, externalIds } of northbound?.ports ?? []) {
    const tap = externalIds[TAP_KEY];
    if (isOurs && tap !== undefined) names.add(tap);
  }
  return names;
}

/** Pure. TAPs of ours that no process holds: a relay's end with it, so somebody made these persistent. What `--fix` may remove. */
export function orphanedTaps(names: ReadonlySet<string>, links: readonly Link[], holders: TapHolders): readonly Link[] {
  return links.filter(
    ({ name, kind, isPersistent }) => names.has(name) && kind === 'tun' && isPersistent && !holders.has(name),
  );
}

export function judgeTaps({
  names,
  links,
  holders,
  relays,
}: {
  readonly names: ReadonlySet<string>;
  readonly links: readonly Link[];
  readonly holders: TapHolders;
  readonly relays: readonly RelayFacts[];
}): readonly Judgement[] {
  const relayPids = new Set(relays.map(({ pid }) => pid));
  const found: Judgement[] = orphanedTaps(names, links, holders).map(({ name }) => ({
    verdict: 'warning',
    subject: `device ${name}`,
    evidence: 'is a persistent TAP that no process holds, under the name of an attachment: its relay can not start',
    mend: 'arca doctor --fix, or: ip tuntap del dev NAME mode tap'.replace('NAME', name),
  }));
  const ours = links.filter(({ name }) => names.has(name));
  for (const { name, kind } of ours) {
    const pids = holders.get(name) ?? [];
    const stranger = pids.find((pid) => !relayPids.has(pid));
    if (kind !== 'tun') {
      const evidence = `is no TAP (${kind || 'hardware'}), under the name of an attachment`;
      found.push({ verdict: 'problem', subject: `device ${name}`, evidence, mend: `ip link set ${name} name OTHER` });
    } else if (stranger !== undefined) {
      const evidence = `is held by process ${stranger}, which is no relay, under the name of an attachment`;
      found.push({ verdict: 'problem', subject: `device ${name}`, evidence, mend: `look: ps -fp ${stranger}` });
    }
  }
  return foundOr(found, 'devices', `${ours.length} TAP devices of attachments, each held by its relay`);
}

export function judgeRelays(
  relays: readonly RelayFacts[],
  northbound: NorthboundFacts | undefined,
): readonly Judgement[] {
  const found: Judgement[] = [];
  const wanted = new Set(
    (northbound?.ports ?? []).flatMap(({ isOurs, externalIds }) => (isOurs ? (externalIds[TAP_KEY] ?? []) : [])),
  );
  for (const { pid, status, silence, isStopped, isControlled } of relays) {
    const subject = status === undefined ? `relay, process ${pid}` : `relay of ${status.tap}`;
    if (silence !== undefined) {
      const evidence = isStopped
        ? `process ${pid} is stopped (SIGSTOP, or a debugger): it forwards nothing it is asked for`
        : silence;
      const mend = isStopped ? `kill -CONT ${pid}` : `look at its log; kill ${pid}, and it is started anew`;
      found.push({ verdict: 'problem', subject, evidence, mend });
      continue;
    }
    if (status === undefined) continue;
    if (status.trouble !== undefined) {
      const { reason, detail } = status.trouble;
      found.push({
        verdict: 'problem',
        subject,
        evidence: `process ${pid} lives and does not forward: ${reason}, ${detail}`,
      });
    }
    if (isControlled && northbound !== undefined && !wanted.has(status.tap)) {
      found.push({
        verdict: 'warning',
        subject,
        evidence: `process ${pid} runs, and no logical port of ours wants it`,
        mend: `arca reconcile, or kill ${pid}`,
      });
    }
  }
  return foundOr(found, 'relays', `${relays.length} here`);
}
