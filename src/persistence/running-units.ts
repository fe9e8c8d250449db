/** Whether systemd will start the same server again, in the right order: what the running systemd says of its units. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { CommandError, run } from '../exec.js';
import type { Finding } from '../finding.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';

export const OVSDB_UNIT = 'ovsdb-server.service';
export const VSWITCHD_UNIT = 'ovs-vswitchd.service';

const PROPERTIES = ['Id', 'LoadState', 'After', 'Requires', 'BindsTo', 'Wants', 'ExecStart', 'EnvironmentFiles'];
/** What a boot leads to, by whatever way. */
const BOOT_TARGETS = ['multi-user.target', 'graphical.target', 'basic.target', 'sysinit.target', 'default.target'];

/** Property to value, of one unit. */
export type UnitProperties = Readonly<Record<string, string>>;

export interface RunningUnits {
  readonly ovsdb: UnitProperties;
  readonly vswitchd: UnitProperties;
  /** The units that ask for ovsdb-server and for ovs-vswitchd, directly or not. */
  readonly ovsdbWantedBy: readonly string[];
  readonly vswitchdWantedBy: readonly string[];
  /** The options that the units read from files, as text. */
  readonly options: string;
  /** The control group of the server that runs; empty: not known. */
  readonly serverGroup: string;
}

/** sd_booted(3) */
export function systemdRuns(): boolean {
  return existsSync('/run/systemd/system');
}

export async function checkRunningUnits(serverPid: number | undefined, call: CallOptions): Promise<Finding[]> {
  if (!systemdRuns()) {
    return [
      unitFinding('unit-order', 'unknown', 'no systemd runs here, so what starts OVS at boot can not be looked at'),
    ];
  }
  try {
    return judgeRunningUnits(await readRunningUnits(serverPid, call));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return [unitFinding('unit-order', 'unknown', `systemctl does not answer: ${error.message}`)];
  }
}

async function readRunningUnits(serverPid: number | undefined, call: CallOptions): Promise<RunningUnits> {
  const systemctl = async (...args: string[]): Promise<string> =>
    (await run('systemctl', ['--no-pager', ...args], call)).stdout;
  const [ovsdb = {}, vswitchd = {}] = parseShow(
    await systemctl('show', `--property=${PROPERTIES.join(',')}`, OVSDB_UNIT, VSWITCHD_UNIT),
  );
  const wantedBy = async (unit: string): Promise<string[]> =>
    (await systemctl('list-dependencies', '--all', '--reverse', '--plain', unit))
      .split('\n')
      .map((line) => line.trim());
  const optionFiles = [ovsdb, vswitchd].flatMap(({ EnvironmentFiles = '' }) => EnvironmentFiles.split('\n'));
  const texts = await Promise.all(
    [...new Set(optionFiles.map((text) => text.replace(/ \(ignore_errors=.*\)$/, '')))].map((file) =>
      readFile(file, 'utf8').catch(() => ''),
    ),
  );
  const group = serverPid === undefined ? '' : await readFile(`/proc/${serverPid}/cgroup`, 'utf8').catch(() => '');
  return {
    ovsdb,
    vswitchd,
    ovsdbWantedBy: await wantedBy(OVSDB_UNIT),
    vswitchdWantedBy: await wantedBy(VSWITCHD_UNIT),
    options: texts.join('\n'),
    serverGroup: group.trim(),
  };
}

/** Blocks of `NAME=VALUE`; a property that has several values has as many lines. */
export function parseShow(text: string): UnitProperties[] {
  return text
    .trim()
    .split('\n\n')
    .map((block) => {
      const properties: Record<string, string> = {};
      for (const line of block.split('\n')) {
        const [name = '', value = ''] = [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)];
        properties[name] = properties[name] === undefined ? value : `${properties[name]}\n${value}`;
      }
      return properties;
    });
}

export function judgeRunningUnits(units: RunningUnits): Finding[] {
  const { ovsdb, vswitchd } = units;
  const missing = [ovsdb, vswitchd].filter(({ LoadState }) => LoadState !== 'loaded');
  if (missing.length > 0) {
    const names = missing.map(({ Id, LoadState }) => `${Id} (${LoadState})`).join(', ');
    return [unitFinding('unit-order', 'problem', `systemd has no ${names}`, 'arca persistence setup')];
  }
  return [judgeOrder(vswitchd), judgeBoot(units), judgeStarter(units), ...judgeOptions(units)];
}

function judgeOrder(vswitchd: UnitProperties): Finding {
  const has = (name: string): boolean => (vswitchd[name] ?? '').split(' ').includes(OVSDB_UNIT);
  const lacks = [...(has('After') ? [] : ['After']), ...(has('Requires') || has('BindsTo') ? [] : ['Requires'])];
  return lacks.length === 0
    ? unitFinding('unit-order', 'ok', `${VSWITCHD_UNIT} starts after ${OVSDB_UNIT}, and with it`)
    : unitFinding(
        'unit-order',
        'problem',
        `${VSWITCHD_UNIT} does not name ${OVSDB_UNIT} in ${lacks.join(' and ')}`,
        'arca persistence setup',
      );
}

function judgeBoot({ ovsdbWantedBy, vswitchdWantedBy }: RunningUnits): Finding {
  const idle = [[OVSDB_UNIT, ovsdbWantedBy] as const, [VSWITCHD_UNIT, vswitchdWantedBy] as const].filter(
    ([, wantedBy]) => !BOOT_TARGETS.some((target) => wantedBy.includes(target)),
  );
  const names = idle.map(([name]) => name).join(' and ');
  return idle.length === 0
    ? unitFinding('unit-boot', 'ok', `a boot starts ${OVSDB_UNIT} and ${VSWITCHD_UNIT}`)
    : unitFinding('unit-boot', 'problem', `a boot does not start ${names}`, 'arca persistence setup');
}

function judgeStarter({ serverGroup }: RunningUnits): Finding {
  if (serverGroup === '') return unitFinding('unit-server', 'unknown', 'the process of the server can not be seen');
  if (serverGroup.includes(`/${OVSDB_UNIT}`)) {
    return unitFinding('unit-server', 'ok', `the server that runs was started by ${OVSDB_UNIT}`);
  }
  return unitFinding(
    'unit-server',
    'warning',
    `the server that runs was not started by ${OVSDB_UNIT} (it is in ${serverGroup}); the one that a boot starts may have another file`,
    `end it, and systemctl start ${OVSDB_UNIT}`,
  );
}

/** ovs-ctl(8) can be told to empty the database at each start. */
function judgeOptions({ ovsdb, options }: RunningUnits): Finding[] {
  const set = options.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  if (!`${ovsdb['ExecStart']}\n${set.join('\n')}`.includes('--delete-bridges')) return [];
  const mend = 'remove --delete-bridges from OVS_CTL_OPTS in the EnvironmentFile of ovsdb-server.service';
  return [
    unitFinding('unit-options', 'problem', `${OVSDB_UNIT} deletes all bridges when it starts (--delete-bridges)`, mend),
  ];
}

function unitFinding(id: string, verdict: Finding['verdict'], evidence: string, mend?: string): Finding {
  const titles: Record<string, string> = {
    'unit-order': 'order of the units',
    'unit-boot': 'start at boot',
    'unit-server': 'who started the server',
    'unit-options': 'options of the units',
  };
  return { id, title: titles[id] ?? id, verdict, subject: 'systemd', evidence, ...(mend && { mend }) };
}
