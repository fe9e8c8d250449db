/** The steps of a start, in their order. Each waits for an answer or an event; nothing here sleeps. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { ArcaError } from '../errors.js';
import { type DaemonName, describeDaemon, detachedArgs } from './daemons.js';
import { type Datapath, inNamespace, type Place } from './place.js';
import { runTool, type ToolOptions } from './tool.js';

/** What every step gets: the time that is left for the whole start, and the signal that ends it. */
export type Limits = () => ToolOptions;

export const INTEGRATION_BRIDGE = 'br-int';
/** An ovn-controller, if one is ever started here, makes and owns this bridge, and leaves br-int alone. */
const OVN_BRIDGE = 'br-ovn';
const SYSTEM_ID = 'arca-control-plane';

const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const NORTHBOUND_SCHEMA = '/usr/share/ovn/ovn-nb.ovsschema';
const SOUTHBOUND_SCHEMA = '/usr/share/ovn/ovn-sb.ovsschema';

/**
 * OVS 3.1 counts the processors at most every 10 s, by a monotonic clock that starts at boot; before that it takes the
 * count to be 0, starts no handler thread, and the kernel datapath drops everything (lib/ovs-thread.c,
 * `count_cpu_cores`).
 */
const HANDLERLESS_UPTIME_SECONDS = 10;

export async function chooseDatapath(wanted: Datapath | 'auto', options: ToolOptions): Promise<Datapath> {
  const kernelHasIt = (): boolean => existsSync('/sys/module/openvswitch');
  if (wanted !== 'system') return wanted === 'auto' && kernelHasIt() ? 'system' : 'netdev';
  if (kernelHasIt()) return 'system';
  try {
    await runTool('modprobe', ['openvswitch'], options);
    return 'system';
  } catch (cause) {
    throw new ArcaError(
      'datapath-missing',
      'this kernel has no openvswitch module, which --datapath system needs; --datapath netdev works on every kernel, and `scripts/vm` runs a command on a kernel that has it',
      { cause },
    );
  }
}

export async function startOvs(place: Place, limits: Limits): Promise<void> {
  const { layout, datapath } = place;
  await createDatabase(layout.ovsDatabase, OVS_SCHEMA, limits);
  await startDaemon('ovsdb-server', place, limits);
  const vsctl = (...args: string[]) => runTool('ovs-vsctl', [`--db=unix:${layout.ovsSocket}`, ...args], limits());
  // Before anything else can read the database: an ovn-controller that saw no ovn-bridge would take br-int.
  await vsctl('--no-wait', '--', 'init', '--', 'set', 'Open_vSwitch', '.', ...ovnSettings(place));
  await startDaemon('ovs-vswitchd', place, limits);
  await vsctl(
    ...['--', 'add-br', INTEGRATION_BRIDGE],
    ...['--', 'set', 'Bridge', INTEGRATION_BRIDGE, `datapath_type=${datapath}`, 'fail_mode=standalone'],
  );
  await checkBridge(place, limits);
}

function ovnSettings({ layout, datapath }: Place): string[] {
  const settings = {
    'system-id': SYSTEM_ID,
    'ovn-remote': `"unix:${layout.southboundSocket}"`,
    'ovn-encap-type': 'geneve',
    'ovn-encap-ip': '127.0.0.1',
    'ovn-bridge': OVN_BRIDGE,
    'ovn-bridge-datapath-type': datapath,
  };
  return Object.entries(settings).map(([key, value]) => `external_ids:${key}=${value}`);
}

/** ovs-vsctl exits with 0 for a bridge that ovs-vswitchd could not make: what counts is the port's number. */
async function checkBridge({ layout, datapath }: Place, limits: Limits): Promise<void> {
  const { stdout } = await runTool(
    'ovs-vsctl',
    [`--db=unix:${layout.ovsSocket}`, 'get', 'Interface', INTEGRATION_BRIDGE, 'ofport', 'error'],
    limits(),
  );
  const [ofport, error] = stdout.split('\n');
  if (Number(ofport) > 0) return;
  throw new ArcaError(
    'sandbox-failed',
    `ovs-vswitchd could not make ${INTEGRATION_BRIDGE} with datapath ${datapath}: ${error ?? 'no reason given'}`,
  );
}

export async function startOvn(place: Place, limits: Limits): Promise<void> {
  const { layout } = place;
  await Promise.all([
    createDatabase(layout.northboundDatabase, NORTHBOUND_SCHEMA, limits).then(() =>
      startDaemon('ovn-northbound', place, limits),
    ),
    createDatabase(layout.southboundDatabase, SOUTHBOUND_SCHEMA, limits).then(() =>
      startDaemon('ovn-southbound', place, limits),
    ),
  ]);
  const northbound = `--db=unix:${layout.northboundSocket}`;
  await runTool('ovn-nbctl', [northbound, '--no-leader-only', 'init'], limits());
  await startDaemon('ovn-northd', place, limits);
  // northd has read the northbound and written the southbound database: both work, and so does it.
  await runTool('ovn-nbctl', [northbound, '--wait=sb', 'sync'], limits());
}

async function createDatabase(file: string, schema: string, limits: Limits): Promise<void> {
  if (!existsSync(schema)) {
    throw new ArcaError('command-missing', `${schema} is not installed; scripts/setup installs what is missing`);
  }
  await runTool('ovsdb-tool', ['create', file, schema], limits());
}

/** Resolves when the daemon answers: with `--detach` the command ends when the daemon is ready. */
export async function startDaemon(name: DaemonName, place: Place, limits: Limits): Promise<void> {
  const daemon = describeDaemon(name, place.layout);
  const warp = name === 'ovs-vswitchd' && place.datapath === 'system' && (await hasJustBooted());
  const args = detachedArgs(daemon, warp ? ['--enable-dummy'] : []);
  const env = { ...process.env, ...place.env };
  await runTool(...inNamespace(place.netns, daemon.command, args), { ...limits(), env });
  // Moving the daemon's clock on takes 0.1 s in the nested kernel; waiting for the real one takes up to 8 s.
  if (warp) {
    await runTool('ovs-appctl', ['time/warp', String(HANDLERLESS_UPTIME_SECONDS * 1000)], { ...limits(), env });
  }
}

async function hasJustBooted(): Promise<boolean> {
  const uptimeSeconds = Number.parseFloat(await readFile('/proc/uptime', 'utf8'));
  return uptimeSeconds <= HANDLERLESS_UPTIME_SECONDS;
}
