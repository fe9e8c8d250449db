/** Where OVN's tools look for its daemons and databases (ovn-nbctl(8), ovn-sbctl(8), ovn-appctl(8)). */

const DEFAULT_RUN_DIR = '/var/run/ovn';

export function ovnRunDir(env: NodeJS.ProcessEnv): string {
  return env['OVN_RUNDIR'] || DEFAULT_RUN_DIR;
}

/** `unix:PATH` of a database on this machine. */
export function ovnSocket(env: NodeJS.ProcessEnv, name: 'ovnnb_db.sock' | 'ovnsb_db.sock'): string {
  return `unix:${ovnRunDir(env)}/${name}`;
}
