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
  readonly pidFile: string;
  readonly logFile: string;
}

export function describeDaemon(name: DaemonName, layout: SandboxLayout): Daemon {
  const inRunDir = (file: string): string => join(layout.runDir, file);
  const daemon = (command: string, baseName: string, ...args: string[]): Daemon => ({
    name,
    command,
    args,
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
    pidFileArgument(daemon),
    `--log-file=${daemon.logFile}`,
    '--detach',
    '--no-chdir',
    '-vsyslog:off',
    '-vconsole:err',
  ];
}

/** By this argument a process is known again: it names the run directory, and no other process carries it. */
export function pidFileArgument(daemon: Daemon): string {
  return `--pidfile=${daemon.pidFile}`;
}
