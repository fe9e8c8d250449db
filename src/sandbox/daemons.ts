/** The daemons of a sandbox as data: their command lines, pid files and control sockets. Nothing here starts one. */
import { join } from 'node:path';
import type { SandboxLayout } from './layout.js';

/** Every daemon that a sandbox can run; `ovn-controller` only when it is asked for. */
export const DAEMON_NAMES = [
  'ovs-vswitchd',
  'ovn-controller',
  'ovn-northd',
  'ovsdb-server',
  'ovn-northbound',
  'ovn-southbound',
] as const;
export type DaemonName = (typeof DAEMON_NAMES)[number];

/** What `up` starts, and what has to live for a sandbox to be called up. */
export const STANDARD_DAEMONS: readonly DaemonName[] = DAEMON_NAMES.filter((name) => name !== 'ovn-controller');

export interface Daemon {
  readonly name: DaemonName;
  /** Name of the executable. */
  readonly command: string;
  /** Without `--detach`'s company of logging options, which every daemon gets alike. */
  readonly args: readonly string[];
  /**
   * The first of them. By it the process is known again, whoever started it: it names a file in the run directory, and
   * every such daemon carries it, also one that the user ended and started anew by hand.
   */
  readonly purpose: string;
  readonly pidFile: string;
  readonly logFile: string;
}

export function describeDaemon(name: DaemonName, layout: SandboxLayout): Daemon {
  const inRunDir = (file: string): string => join(layout.runDir, file);
  const daemon = (command: string, baseName: string, purpose: string, ...rest: string[]): Daemon => ({
    name,
    command,
    args: [purpose, ...rest],
    purpose,
    pidFile: inRunDir(`${baseName}.pid`),
    logFile: inRunDir(`${baseName}.log`),
  });
  switch (name) {
    case 'ovsdb-server':
      return daemon('ovsdb-server', 'ovsdb-server', layout.ovsDatabase, `--remote=punix:${layout.ovsSocket}`);
    case 'ovn-northbound':
      return daemon(
        'ovsdb-server',
        'ovnnb_db',
        layout.northboundDatabase,
        `--remote=punix:${layout.northboundSocket}`,
        `--unixctl=${inRunDir('ovnnb_db.ctl')}`,
      );
    case 'ovn-southbound':
      return daemon(
        'ovsdb-server',
        'ovnsb_db',
        layout.southboundDatabase,
        `--remote=punix:${layout.southboundSocket}`,
        `--unixctl=${inRunDir('ovnsb_db.ctl')}`,
      );
    case 'ovs-vswitchd':
      return daemon('ovs-vswitchd', 'ovs-vswitchd', `unix:${layout.ovsSocket}`);
    case 'ovn-northd':
      return daemon(
        'ovn-northd',
        'ovn-northd',
        `--ovnnb-db=unix:${layout.northboundSocket}`,
        `--ovnsb-db=unix:${layout.southboundSocket}`,
      );
    case 'ovn-controller':
      return daemon('ovn-controller', 'ovn-controller', `unix:${layout.ovsSocket}`);
  }
}

/** The arguments that make a daemon of ours: in the background, its files in the run directory, nothing to syslog. */
export function detachedArgs(daemon: Daemon, extra: readonly string[] = []): string[] {
  return [
    ...daemon.args,
    ...extra,
    `--pidfile=${daemon.pidFile}`,
    `--log-file=${daemon.logFile}`,
    '--detach',
    '--no-chdir',
    '-vsyslog:off',
    '-vconsole:err',
  ];
}
