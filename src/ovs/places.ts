/** Where OVS's database, daemons and bridges are to be found. */
import { dirname, join } from 'node:path';
import { type PidFile, readPidFiles } from '../processes.js';

export interface OvsPlaces {
  /** The database's Unix socket. */
  readonly socketPath: string;
  /** Directories that may hold the daemons' pidfiles and control sockets, the likelier one first. */
  readonly runDirs: readonly string[];
}

const DEFAULT_RUN_DIR = '/var/run/openvswitch';

/** The places that ovs-vsctl would use (ovs-vsctl(8), `--db`, and its `OVS_RUNDIR`), or those beside the socket that was given. */
export function ovsPlaces(socketPath: string | undefined, env: NodeJS.ProcessEnv): OvsPlaces {
  const runDir = env['OVS_RUNDIR'] || DEFAULT_RUN_DIR;
  if (socketPath === undefined) return { socketPath: join(runDir, 'db.sock'), runDirs: [runDir] };
  return { socketPath, runDirs: [...new Set([dirname(socketPath), runDir])] };
}

/** The socket on which vswitchd takes OpenFlow for one bridge, without any controller set (ovs-ofctl(8)). */
export function managementSocket(places: OvsPlaces, bridge: string): string {
  return join(places.runDirs[0] ?? DEFAULT_RUN_DIR, `${bridge}.mgmt`);
}

/** The running vswitchd, by its pidfile; nothing when no directory has one. */
export async function findVswitchd({ runDirs }: OvsPlaces): Promise<PidFile | undefined> {
  const [first] = await readPidFiles(runDirs, 'ovs-vswitchd.pid');
  return first;
}

/** The control socket of the running vswitchd; nothing when no directory has the pidfile. */
export async function vswitchdControlSocket(places: OvsPlaces): Promise<string | undefined> {
  const found = await findVswitchd(places);
  return found && join(found.runDir, `ovs-vswitchd.${found.pid}.ctl`);
}
