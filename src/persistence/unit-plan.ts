/**
 * Which units and drop-ins make systemd start OVS so that what it holds survives a reboot. Pure: what is there comes
 * in, what should be there comes out, and in words why. Settings of others are kept; where one has to be written anew,
 * as ExecStart= of a service that takes only one, all of its values are written again.
 */
import { dirname } from 'node:path';
import { OVSDB_UNIT, VSWITCHD_UNIT } from './running-units.js';
import { type Unit, valuesOf, wordsOf } from './unit-files.js';
import { HANDLERLESS_UPTIME_SECONDS } from './vswitchd-start.js';

/** The first line of every file of ours. */
export const MARK = '# Made by `arca persistence setup`, which writes it anew; with --remove it takes it away.\n';
/** Behind all others: a drop-in may take back what one before it said. */
export const DROP_IN_NAME = 'zz-arca-persistence.conf';
/** Where ovs-ctl(8) and ovsdb-server(1) of the distributions have it. */
export const DEFAULT_DATABASE = '/etc/openvswitch/conf.db';

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
// $$ in a unit is sh's $.
const AWAIT_UPTIME = `ExecStartPre=/bin/sh -c 'IFS=. read up rest </proc/uptime; test $$up -gt ${HANDLERLESS_UPTIME_SECONDS} || sleep $$((${HANDLERLESS_UPTIME_SECONDS + 1} - $$up))'`;
const UNIT_FOLDER = '/etc/systemd/system';
/** Empty after a boot, on every system. */
const VOLATILE = /^\/(run|var\/run|tmp|dev|proc|sys)(\/|$)/;

export function isVolatile(path: string): boolean {
  return VOLATILE.test(path);
}

export interface Installation {
  readonly ovsdb: Unit;
  readonly vswitchd: Unit;
  /** The distribution's unit that brings both along: `openvswitch-switch.service` on Debian. */
  readonly umbrella: Unit | undefined;
  /** Names of units that other units are enabled to bring along. */
  readonly enabled: readonly string[];
  /** Names of users and groups that there are. */
  readonly accounts: ReadonlySet<string>;
}

export type WantedFile =
  | { readonly kind: 'text'; readonly path: string; readonly text: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

export interface UnitPlan {
  readonly files: readonly WantedFile[];
  /** Units to be enabled. */
  readonly enable: readonly string[];
  readonly notes: readonly string[];
}

/** The lines of a drop-in by section, and why. */
interface DropIn {
  readonly unit: readonly string[];
  readonly service: readonly string[];
  readonly notes: readonly string[];
}

export function planUnits(installation: Installation, databasePath: string | undefined): UnitPlan {
  const plans = [planOvsdb(installation, databasePath), planVswitchd(installation.vswitchd)];
  const enable = unitsToEnable(installation);
  return {
    files: plans.flatMap(({ files }) => files),
    enable,
    notes: [
      ...plans.flatMap(({ notes }) => notes),
      ...enable.map((unit) => `${unit} is not started at boot: it is enabled`),
    ],
  };
}

type FilesAndNotes = Pick<UnitPlan, 'files' | 'notes'>;

function planOvsdb(installation: Installation, databasePath: string | undefined): FilesAndNotes {
  const { ovsdb } = installation;
  if (ovsdb.fragment === undefined) return wholeUnit(OVSDB_UNIT, ovsdbUnit(databasePath ?? DEFAULT_DATABASE));
  const commands = valuesOf(ovsdb, 'Service', 'ExecStart');
  const command = commandToKeep(ovsdb);
  if (command === undefined)
    return { files: [], notes: [`${OVSDB_UNIT} starts nothing (no ExecStart=): look at ${ovsdb.fragment.path}`] };
  const path = databaseOf(command);
  if (path === undefined) {
    return {
      files: [],
      notes: [
        `which file ${command.split(' ')[0]} gives to ovsdb-server is not known here; arca persistence check tells`,
      ],
    };
  }
  const wanted = databasePath ?? (isVolatile(path) ? DEFAULT_DATABASE : path);
  const notes: string[] = [];
  if (commands.length > 1)
    notes.push(
      `${OVSDB_UNIT} has ${commands.length} ExecStart=, so systemd refuses it: the one of ${ovsdb.fragment.path} is kept`,
    );
  if (wanted !== path)
    notes.push(
      `${OVSDB_UNIT} keeps its database in ${path}: from its next start on in ${wanted}, and what ${path} holds by then goes along`,
    );
  const blocked = valuesOf(ovsdb, 'Service', 'ExecStartPre').filter((line) =>
    wantsUnknownAccount(line, installation.accounts),
  );
  notes.push(
    ...blocked.map(
      (line) => `${OVSDB_UNIT} would fail at \`${line}\`, for there is no such user here: its failure is ignored`,
    ),
  );
  if (notes.length === 0)
    return { files: [], notes: [`${OVSDB_UNIT} is right as it is: ${ovsdb.fragment.path}, database ${path}`] };
  const dropIn: DropIn = {
    unit: [`RequiresMountsFor=${dirname(wanted)}`],
    service: [
      ...preparation(ovsdb, path, wanted, installation.accounts),
      'ExecStart=',
      `ExecStart=${withDatabase(command, wanted)}`,
      ...serviceSettings(ovsdb, command),
    ],
    notes,
  };
  return asFile(OVSDB_UNIT, dropIn);
}

function planVswitchd(vswitchd: Unit): FilesAndNotes {
  if (vswitchd.fragment === undefined) return wholeUnit(VSWITCHD_UNIT, VSWITCHD_TEXT);
  const after = wordsOf(vswitchd, 'Unit', 'After').includes(OVSDB_UNIT);
  const bound = ['Requires', 'BindsTo'].some((name) => wordsOf(vswitchd, 'Unit', name).includes(OVSDB_UNIT));
  const commands = valuesOf(vswitchd, 'Service', 'ExecStart');
  const command = commandToKeep(vswitchd);
  const notes: string[] = [];
  if (!after) notes.push(`${VSWITCHD_UNIT} does not wait for ${OVSDB_UNIT}: now it does`);
  if (!bound) notes.push(`${VSWITCHD_UNIT} does not require ${OVSDB_UNIT}: now it does`);
  if (commands.length > 1)
    notes.push(
      `${VSWITCHD_UNIT} has ${commands.length} ExecStart=, so systemd refuses it: the one of ${vswitchd.fragment.path} is kept`,
    );
  if (notes.length === 0) notes.push(`${VSWITCHD_UNIT} is in order: ${vswitchd.fragment.path}`);
  notes.push(
    `${VSWITCHD_UNIT} waits until ${HANDLERLESS_UPTIME_SECONDS} s after the boot: OVS 3.1 started before forwards nothing by the kernel datapath`,
  );
  const restart = commands.length > 1 && command !== undefined ? ['ExecStart=', `ExecStart=${command}`] : [];
  return asFile(VSWITCHD_UNIT, {
    unit: [...(after ? [] : [`After=${OVSDB_UNIT}`]), ...(bound ? [] : [`Requires=${OVSDB_UNIT}`])],
    service: [AWAIT_UPTIME, ...restart],
    notes,
  });
}

/** The distribution's own command rather than one that somebody added: it upgrades the database, and loads the kernel module. */
function commandToKeep(unit: Unit): string | undefined {
  const commands = valuesOf(unit, 'Service', 'ExecStart');
  if (commands.length <= 1) return commands[0];
  return valuesOf({ ...unit, dropIns: [] }, 'Service', 'ExecStart').at(-1) ?? commands.at(-1);
}

/** Of a command that starts ovsdb-server; nothing: it is neither that nor ovs-ctl. */
export function databaseOf(command: string): string | undefined {
  const [program = '', ...args] = command.split(/\s+/);
  if (program.endsWith('/ovs-ctl'))
    return args.find((arg) => arg.startsWith('--db-file='))?.slice('--db-file='.length) ?? DEFAULT_DATABASE;
  if (!program.endsWith('/ovsdb-server')) return undefined;
  return args.find(isDatabase) ?? DEFAULT_DATABASE;
}

function isDatabase(argument: string): boolean {
  return argument.endsWith('.db') && !argument.startsWith('-');
}

export function withDatabase(command: string, path: string): string {
  if (databaseOf(command) === path) return command;
  const [program = '', ...args] = command.split(/\s+/);
  if (program.endsWith('/ovs-ctl')) {
    return [program, `--db-file=${path}`, ...args.filter((arg) => !arg.startsWith('--db-file='))].join(' ');
  }
  const at = args.findIndex(isDatabase);
  return [program, ...(at < 0 ? [path, ...args] : args.with(at, path))].join(' ');
}

/**
 * ExecStartPre= of ours before those that are there: the folder has to be there before a database is made in it. What
 * an old place still holds is taken along: a restart, other than a boot, finds it.
 */
function preparation(ovsdb: Unit, path: string, wanted: string, accounts: ReadonlySet<string>): string[] {
  const there = valuesOf(ovsdb, 'Service', 'ExecStartPre');
  const kept = there.map((line) => (wantsUnknownAccount(line, accounts) ? `-${line.replace(/^-/, '')}` : line));
  const move = `test -e ${wanted} || { test ! -e ${path} || ovsdb-tool compact ${path} ${wanted}; }; `;
  const create = `test -e ${wanted} || ovsdb-tool create ${wanted} ${SCHEMA}`;
  return [
    'ExecStartPre=',
    `ExecStartPre=/bin/mkdir -p ${dirname(wanted)}`,
    `ExecStartPre=/bin/sh -c '${wanted === path ? '' : move}${create}'`,
    ...kept.map((line) => `ExecStartPre=${line}`),
  ];
}

/** What a command that runs ovsdb-server itself needs and ovs-ctl sees to. */
function serviceSettings(ovsdb: Unit, command: string): string[] {
  if (command.includes('/ovs-ctl ')) return [];
  const lines: string[] = [];
  const last = (name: string): string | undefined => valuesOf(ovsdb, 'Service', name).at(-1);
  const isDetached = / --detach(\s|$)/.test(command);
  if (isDetached !== (last('Type') === 'forking')) lines.push(`Type=${isDetached ? 'forking' : 'simple'}`);
  const pidFile = / --pidfile=(\S+)/.exec(command)?.[1];
  if (isDetached && pidFile !== undefined && last('PIDFile') === undefined) lines.push(`PIDFile=${pidFile}`);
  if (last('RuntimeDirectory') === undefined)
    lines.push('RuntimeDirectory=openvswitch', 'RuntimeDirectoryPreserve=yes');
  return lines;
}

/** `chown openvswitch:openvswitch` on a distribution that has no such user, as Debian. */
function wantsUnknownAccount(line: string, accounts: ReadonlySet<string>): boolean {
  if (line.startsWith('-')) return false;
  const owner = /(?:^|\/)chown\s+(?:-\S+\s+)*([^\s/]+)\s/.exec(line)?.[1];
  return owner?.split(':').some((name) => name !== '' && !/^\d+$/.test(name) && !accounts.has(name)) ?? false;
}

function unitsToEnable({ ovsdb, vswitchd, umbrella, enabled }: Installation): string[] {
  const units = umbrella === undefined ? [ovsdb, vswitchd] : [umbrella];
  // Those of ours are enabled by a link that is written with them.
  return units
    .filter(({ fragment, name }) => fragment !== undefined && !enabled.includes(name))
    .map(({ name }) => name);
}

function asFile(unit: string, { unit: unitLines, service, notes }: DropIn): FilesAndNotes {
  const section = (name: string, lines: readonly string[]): string =>
    lines.length === 0 ? '' : `[${name}]\n${lines.join('\n')}\n`;
  const text = `${MARK}${section('Unit', unitLines)}${section('Service', service)}`;
  return { files: [{ kind: 'text', path: `${UNIT_FOLDER}/${unit}.d/${DROP_IN_NAME}`, text }], notes };
}

function wholeUnit(name: string, text: string): FilesAndNotes {
  const path = `${UNIT_FOLDER}/${name}`;
  return {
    files: [
      { kind: 'text', path, text: MARK + text },
      { kind: 'link', path: `${UNIT_FOLDER}/multi-user.target.wants/${name}`, target: path },
    ],
    notes: [`there is no ${name}: one is made`],
  };
}

function ovsdbUnit(path: string): string {
  return `[Unit]
Description=Open vSwitch database server
After=network-pre.target
Before=network.target
RequiresMountsFor=${dirname(path)}

[Service]
Type=forking
PIDFile=/run/openvswitch/ovsdb-server.pid
RuntimeDirectory=openvswitch
# ovs-vswitchd has its files there too.
RuntimeDirectoryPreserve=yes
LogsDirectory=openvswitch
ExecStartPre=/bin/mkdir -p ${dirname(path)}
ExecStartPre=/bin/sh -c 'test -e ${path} || ovsdb-tool create ${path} ${SCHEMA}'
ExecStart=/usr/sbin/ovsdb-server ${path} --remote=punix:/run/openvswitch/db.sock --remote=db:Open_vSwitch,Open_vSwitch,manager_options --pidfile=/run/openvswitch/ovsdb-server.pid --log-file=/var/log/openvswitch/ovsdb-server.log --detach
# The row that everything else hangs on.
ExecStartPost=/usr/bin/ovs-vsctl --no-wait init
Restart=on-failure
LimitNOFILE=1048576
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
`;
}

const VSWITCHD_TEXT = `[Unit]
Description=Open vSwitch forwarding
After=${OVSDB_UNIT} network-pre.target
Before=network.target
Requires=${OVSDB_UNIT}

[Service]
Type=forking
PIDFile=/run/openvswitch/ovs-vswitchd.pid
LogsDirectory=openvswitch
# Bridges of the userspace datapath do without.
ExecStartPre=-/sbin/modprobe openvswitch
${AWAIT_UPTIME}
ExecStart=/usr/sbin/ovs-vswitchd unix:/run/openvswitch/db.sock --pidfile=/run/openvswitch/ovs-vswitchd.pid --log-file=/var/log/openvswitch/ovs-vswitchd.log --detach
Restart=on-failure
LimitNOFILE=1048576
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
`;
