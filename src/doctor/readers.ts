/** Which reader reads which fact, and where it looks. */
import { dirname, join } from 'node:path';
import type { Finding } from '../finding.js';
import { ovnRunDir } from '../ovn/places.js';
import { readFlows } from '../ovs/bridge.js';
import { ovsPlaces } from '../ovs/places.js';
import { type RpcTarget, targetText } from '../ovsdb/json-rpc.js';
import { checkPersistence } from '../persistence/check.js';
import { systemdRuns } from '../persistence/running-units.js';
import type { Readers } from './facts.js';
import type { DoctorPlaces } from './places.js';
import { readControl } from './read/control.js';
import { askControlled, askDatabase, type DaemonFacts } from './read/daemon.js';
import { readCapabilities, readTools, readTun, readVersions, readVsock } from './read/host.js';
import { readLinks, readPacketSockets, readTapHolders, readTapSettings } from './read/links.js';
import { readNorthbound, readSouthbound } from './read/ovn.js';
import { readOvs } from './read/ovs.js';
import { readDeadSockets, readRelays } from './read/relays.js';

/** `arca persistence check` tells ports without a device, too: here a check of its own does. */
const TOLD_ELSEWHERE = 'stale-ports';
const UNIT_ORDER = 'unit-order';

export function createReaders(places: DoctorPlaces): Readers {
  const { ovsSocketPath, northbound, southbound, runDir, bridge, env } = places;
  const ovs = ovsPlaces(ovsSocketPath, env);
  const ovnRunDirs = ovnRunDirsOf(places);
  const controlSocket = join(runDir, 'control.sock');
  const server = (target: RpcTarget, database: string, pidName: string) => ({
    target,
    database,
    pidFile: { name: pidName, runDirs: database === 'Open_vSwitch' ? ovs.runDirs : ovnRunDirs },
  });
  const servers = {
    ovs: server({ transport: 'unix', path: ovs.socketPath }, 'Open_vSwitch', 'ovsdb-server.pid'),
    northbound: server(northbound, 'OVN_Northbound', 'ovnnb_db.pid'),
    southbound: server(southbound, 'OVN_Southbound', 'ovnsb_db.pid'),
  };

  return {
    tun: () => readTun(),
    vsock: () => readVsock(),
    async capabilities({ need }) {
      const control = await need('control');
      return readCapabilities(control.state === 'answers' ? control.pid : undefined);
    },
    tools: () => readTools(env),
    versions: ({ call }) => readVersions(ovs.socketPath, call),

    ovsdbServer: ({ call }) => askDatabase(servers.ovs, call),
    vswitchd: ({ call }) => askControlled({ name: 'ovs-vswitchd', runDirs: ovs.runDirs }, call),
    northboundServer: ({ call }) => askDatabase(servers.northbound, call),
    southboundServer: ({ call }) => askDatabase(servers.southbound, call),
    northd: ({ call }) => askNorthd(northbound, ovnRunDirs, call),
    ovnController: ({ call }) =>
      askControlled({ name: 'ovn-controller', runDirs: ovnRunDirs, statusCommand: 'connection-status' }, call),
    control: ({ call }) => readControl(controlSocket, call),

    ovs: ({ call }) => readOvs(ovs.socketPath, call),
    flows: ({ call }) => readFlows(ovs, bridge, call),
    northbound: ({ call }) => readNorthbound(northbound, call),
    southbound: ({ call }) => readSouthbound(southbound, call),

    async links(context) {
      return readLinks(await context.need('vswitchd'), context.call);
    },
    async readDevices({ need }) {
      const { pid, detail } = await need('vswitchd');
      if (pid === undefined) throw new Error(`ovs-vswitchd does not run (${detail})`);
      return readPacketSockets(pid);
    },
    tapHolders: () => readTapHolders(),
    async tapSettings({ need }) {
      const [links, { ports }] = await Promise.all([need('links'), need('ovs')]);
      const present = new Set(links.map(({ name }) => name));
      return readTapSettings(ports.filter(({ isOurs, name }) => isOurs && present.has(name)).map(({ name }) => name));
    },

    relays: ({ call }) => readRelays(runDir, call),
    deadSockets: () => readDeadSockets(runDir),

    async persistence({ call }) {
      const findings = await checkPersistence({ ...call, ovsSocketPath, env });
      return findings.filter(({ id }) => id !== TOLD_ELSEWHERE).map(withoutSystemd);
    },
  };
}

/** Where there is no systemd something else starts OVS, and there is nothing to look at: that is no fault. */
function withoutSystemd(finding: Finding): Finding {
  return finding.id === UNIT_ORDER && finding.verdict === 'unknown' && !systemdRuns()
    ? { ...finding, verdict: 'note' }
    : finding;
}

/** northd is where the databases are: for those of another machine nobody here can ask it. */
function askNorthd(
  northbound: RpcTarget,
  runDirs: readonly string[],
  call: Parameters<typeof askControlled>[1],
): Promise<DaemonFacts> {
  if (northbound.transport === 'unix') {
    return askControlled({ name: 'ovn-northd', runDirs, statusCommand: 'status' }, call);
  }
  return Promise.resolve({ state: 'elsewhere', detail: `it is where ${targetText(northbound)} is` });
}

/** Beside the databases' sockets, where OVN's tools look, and beside OVS's for an ovn-controller. */
function ovnRunDirsOf({ northbound, ovsSocketPath, env }: DoctorPlaces): readonly string[] {
  const beside = northbound.transport === 'unix' ? [dirname(northbound.path)] : [];
  const ovs = ovsSocketPath === undefined ? [] : [dirname(ovsSocketPath)];
  return [...new Set([...beside, ovnRunDir(env), ...ovs])];
}
