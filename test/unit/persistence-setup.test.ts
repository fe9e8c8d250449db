/**
 * `arca persistence setup` in a root directory of its own, and what systemd says of the result: systemd-analyze
 * verifies it there, offline. It needs no systemd that runs.
 */
import { execFile, execFileSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { applySetup, planRemoval, planSetup, type SetupPlan } from '../../src/persistence/setup.js';
import { databaseOf, MARK, withDatabase } from '../../src/persistence/unit-plan.js';
import { scaled } from '../support/time.js';

const OVSDB = 'ovsdb-server.service';
const VSWITCHD = 'ovs-vswitchd.service';
const DROP_IN = `/etc/systemd/system/${OVSDB}.d/zz-arca-persistence.conf`;
const DISTRIBUTION_UNITS = '/lib/systemd/system';
const PROGRAMS = [
  '/usr/sbin/ovsdb-server',
  '/usr/sbin/ovs-vswitchd',
  '/usr/bin/ovs-vsctl',
  '/usr/bin/ovsdb-tool',
  '/bin/mkdir',
  '/bin/sh',
  '/bin/chown',
  '/sbin/modprobe',
  '/usr/share/openvswitch/scripts/ovs-ctl',
];

const hasSystemd = ((): boolean => {
  try {
    execFileSync('systemd-analyze', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** Every setup has it, whatever else there is. */
const WAITS = "ExecStartPre=/bin/sh -c 'IFS=. read up rest </proc/uptime; test $$up -gt 10 || sleep $$((11 - $$up))'";
const VSWITCHD_DROP_IN = `/etc/systemd/system/${VSWITCHD}.d/zz-arca-persistence.conf`;

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'arca-setup-'));
  await put('/etc/passwd', 'root:x:0:0::/root:/bin/sh\n');
  await put('/etc/group', 'root:x:0:\n');
  for (const program of PROGRAMS) await put(program, '#!/bin/sh\n', 0o755);
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function put(path: string, text: string, mode = 0o644): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text, { mode });
}

function setUp(databasePath?: string): Promise<SetupPlan> {
  return planSetup({ root, databasePath, timeoutMs: scaled(5_000) });
}

async function write(plan: SetupPlan): Promise<void> {
  await applySetup(plan, { root, databasePath: undefined, timeoutMs: scaled(5_000) });
}

/** A unit as somebody may have written it: detached, and right but for what the test changes. */
function ovsdbUnit(change: (text: string) => string = (text) => text): Promise<void> {
  return put(
    `/etc/systemd/system/${OVSDB}`,
    change(`[Unit]
Description=Database
[Service]
Type=forking
PIDFile=/run/openvswitch/ovsdb-server.pid
RuntimeDirectory=openvswitch
Nice=-5
ExecStartPre=/bin/sh -c true
ExecStart=/usr/sbin/ovsdb-server /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock \\
    --pidfile=/run/openvswitch/ovsdb-server.pid --detach
[Install]
WantedBy=multi-user.target
`),
  );
}

async function vswitchdUnit(dependencies = `After=${OVSDB}\nRequires=${OVSDB}`): Promise<void> {
  await put(
    `/etc/systemd/system/${VSWITCHD}`,
    `[Unit]\n${dependencies}\n[Service]\nExecStart=/usr/sbin/ovs-vswitchd\n[Install]\nWantedBy=multi-user.target\n`,
  );
}

async function enable(...units: string[]): Promise<void> {
  for (const unit of units) {
    const link = `/etc/systemd/system/multi-user.target.wants/${unit}`;
    await mkdir(dirname(join(root, link)), { recursive: true });
    await symlink(`/etc/systemd/system/${unit}`, join(root, link));
  }
}

async function goodUnits(): Promise<void> {
  await ovsdbUnit();
  await vswitchdUnit();
  await enable(OVSDB, VSWITCHD);
}

/** What systemd says of both units: nothing, and exit code 0, when they are right. */
async function verified(): Promise<string> {
  await mkdir(join(root, 'usr/lib/systemd/system'), { recursive: true });
  for (const name of await readdir(DISTRIBUTION_UNITS)) {
    if (name.endsWith('.target'))
      await copyFile(join(DISTRIBUTION_UNITS, name), join(root, 'usr/lib/systemd/system', name));
  }
  const args = [`--root=${root}`, '--man=no', 'verify', OVSDB, VSWITCHD];
  return new Promise((done) => {
    const child = execFile('systemd-analyze', args, { timeout: scaled(4_000) }, (_error, stdout, stderr) =>
      done(`${child.exitCode} ${(stdout + stderr).replaceAll(root, '')}`),
    );
  });
}
const ACCEPTED = '0 ';

const textOf = (path: string): Promise<string> => readFile(join(root, path), 'utf8');

describe('units that are right', () => {
  it('are left alone, but for the wait, and said to be right', async () => {
    await goodUnits();
    const plan = await setUp();
    expect(plan.changes).toEqual([{ kind: 'write', path: VSWITCHD_DROP_IN, text: `${MARK}[Service]\n${WAITS}\n` }]);
    expect(plan.notes.slice(0, 2)).toEqual([
      `${OVSDB} is right as it is: /etc/systemd/system/${OVSDB}, database /etc/openvswitch/conf.db`,
      `${VSWITCHD} is in order: /etc/systemd/system/${VSWITCHD}`,
    ]);
    await write(plan);
    expect((await setUp()).changes).toEqual([]);
    if (hasSystemd) expect(await verified()).toBe(ACCEPTED);
  });

  it.skipIf(!hasSystemd)("Debian's are, once they are enabled", async () => {
    for (const name of [OVSDB, VSWITCHD, 'openvswitch-switch.service']) {
      const text = await readFile(join(DISTRIBUTION_UNITS, name), 'utf8').catch(() => undefined);
      if (text === undefined) return expect(await readdir(DISTRIBUTION_UNITS)).not.toContain(OVSDB);
      await put(`/usr/lib/systemd/system/${name}`, text);
    }
    const wait = { kind: 'write', path: VSWITCHD_DROP_IN };
    expect((await setUp()).changes).toMatchObject([wait, { kind: 'enable', unit: 'openvswitch-switch.service' }]);
    await enable('openvswitch-switch.service');
    expect((await setUp()).changes).toMatchObject([wait]);
  });
});

describe('no units at all', () => {
  it.skipIf(!hasSystemd)('are made, enabled, and without a mistake', async () => {
    await write(await setUp());
    expect(await verified()).toBe(ACCEPTED);
    expect(await textOf(`/etc/systemd/system/${OVSDB}`)).toContain(' /etc/openvswitch/conf.db ');
    expect((await readdir(join(root, 'etc/systemd/system/multi-user.target.wants'))).sort()).toEqual([VSWITCHD, OVSDB]);
  });

  it('are made once, and made anew for another database', async () => {
    await write(await setUp());
    expect((await setUp()).changes).toEqual([]);
    const other = await setUp('/srv/ovs/conf.db');
    expect(other.changes).toMatchObject([{ kind: 'write', path: `/etc/systemd/system/${OVSDB}` }]);
  });

  it('are gone after a removal, and nothing else is', async () => {
    await put('/etc/systemd/system/other.service', '');
    await write(await setUp());
    await write(await planRemoval(root));
    expect(await readdir(join(root, 'etc/systemd/system'))).toEqual(['multi-user.target.wants', 'other.service']);
    expect(await readdir(join(root, 'etc/systemd/system/multi-user.target.wants'))).toEqual([]);
    expect((await planRemoval(root)).changes).toEqual([]);
  });
});

describe('a database that a boot empties', () => {
  beforeEach(async () => {
    await goodUnits();
    await ovsdbUnit((text) => text.replaceAll('/etc/openvswitch/conf.db', '/run/openvswitch/conf.db'));
  });

  it.skipIf(!hasSystemd)('moves, and goes along; settings of others stay', async () => {
    await write(await setUp());
    const text = await textOf(DROP_IN);
    expect(text.startsWith(MARK)).toBe(true);
    expect(text.split('\n').slice(1)).toEqual([
      '[Unit]',
      'RequiresMountsFor=/etc/openvswitch',
      '[Service]',
      'ExecStartPre=',
      'ExecStartPre=/bin/mkdir -p /etc/openvswitch',
      "ExecStartPre=/bin/sh -c 'test -e /etc/openvswitch/conf.db || { test ! -e /run/openvswitch/conf.db || ovsdb-tool compact /run/openvswitch/conf.db /etc/openvswitch/conf.db; }; test -e /etc/openvswitch/conf.db || ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema'",
      'ExecStartPre=/bin/sh -c true',
      'ExecStart=',
      'ExecStart=/usr/sbin/ovsdb-server /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --pidfile=/run/openvswitch/ovsdb-server.pid --detach',
      '',
    ]);
    expect(await verified()).toBe(ACCEPTED);
    expect((await setUp()).changes).toEqual([]);
  });

  it('moves to the place that is asked for', async () => {
    await write(await setUp('/srv/ovs/conf.db'));
    expect(await textOf(DROP_IN)).toContain('ExecStart=/usr/sbin/ovsdb-server /srv/ovs/conf.db ');
  });

  it('stays where it is after a removal, with no empty folder left', async () => {
    await write(await setUp());
    await write(await planRemoval(root));
    expect(await readdir(join(root, 'etc/systemd/system'))).not.toContain(`${OVSDB}.d`);
  });
});

describe("the origin document's drop-ins", () => {
  const override = `[Service]
ExecStart=/usr/sbin/ovsdb-server --pidfile=/run/openvswitch/ovsdb-server.pid --detach /etc/openvswitch/conf.db
ExecStartPre=/bin/sh -c 'test -e /etc/openvswitch/conf.db || /usr/bin/ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema'
ExecStartPre=/bin/mkdir -p /etc/openvswitch
ExecStartPre=/bin/chown -R openvswitch:openvswitch /etc/openvswitch
Restart=on-failure
`;

  beforeEach(async () => {
    await goodUnits();
    await put(`/etc/systemd/system/${OVSDB}.d/override.conf`, override);
  });

  it.skipIf(!hasSystemd)('are refused by systemd, and taken by it after a setup', async () => {
    expect(await verified()).toContain('Service has more than one ExecStart= setting');
    await write(await setUp());
    expect(await verified()).toBe(ACCEPTED);
  });

  it('get the folder made first, and a user that is not there ignored', async () => {
    await write(await setUp());
    const lines = (await textOf(DROP_IN)).split('\n').filter((line) => line.startsWith('ExecStartPre='));
    expect(lines[1]).toBe('ExecStartPre=/bin/mkdir -p /etc/openvswitch');
    expect(lines.at(-1)).toBe('ExecStartPre=-/bin/chown -R openvswitch:openvswitch /etc/openvswitch');
    await put('/etc/passwd', 'openvswitch:x:1:1::/:/bin/false\n');
    await put('/etc/group', 'openvswitch:x:1:\n');
    await write(await setUp());
    expect(await textOf(DROP_IN)).toContain('ExecStartPre=/bin/chown');
  });

  it('the one of ovs-vswitchd keeps the first command, too', async () => {
    await put(
      `/etc/systemd/system/${VSWITCHD}.d/override.conf`,
      '[Service]\nExecStart=/usr/sbin/ovs-vswitchd --detach\n',
    );
    await write(await setUp());
    expect(await textOf(`/etc/systemd/system/${VSWITCHD}.d/zz-arca-persistence.conf`)).toBe(
      `${MARK}[Service]\n${WAITS}\nExecStart=\nExecStart=/usr/sbin/ovs-vswitchd\n`,
    );
  });
});

describe('ovs-vswitchd', () => {
  it.each([
    ['that does not wait for the database', `Requires=${OVSDB}`, `After=${OVSDB}`],
    ['that does not require it', `After=${OVSDB}`, `Requires=${OVSDB}`],
  ])('%s gets that', async (_what, has, gets) => {
    await goodUnits();
    await vswitchdUnit(has);
    await write(await setUp());
    const path = `/etc/systemd/system/${VSWITCHD}.d/zz-arca-persistence.conf`;
    expect(await textOf(path)).toBe(`${MARK}[Unit]\n${gets}\n[Service]\n${WAITS}\n`);
    if (hasSystemd) expect(await verified()).toBe(ACCEPTED);
  });
});

describe('the database in a command', () => {
  const ctl = '/usr/share/openvswitch/scripts/ovs-ctl --no-ovs-vswitchd start $OVS_CTL_OPTS';
  it.each([
    [ctl, '/etc/openvswitch/conf.db'],
    [`${ctl} --db-file=/run/x.db`, '/run/x.db'],
    ['/usr/sbin/ovsdb-server --detach', '/etc/openvswitch/conf.db'],
    ['/usr/sbin/ovsdb-server --log-file /var/log/o.log /run/o.db --detach', '/run/o.db'],
    ['/usr/local/bin/wrapper', undefined],
  ])('%s: %s', (command, path) => {
    expect(databaseOf(command)).toBe(path);
    if (path !== undefined) expect(databaseOf(withDatabase(command, '/srv/new.db'))).toBe('/srv/new.db');
  });

  it('is set without touching the rest', () => {
    expect(withDatabase(ctl, '/srv/o.db')).toBe(
      '/usr/share/openvswitch/scripts/ovs-ctl --db-file=/srv/o.db --no-ovs-vswitchd start $OVS_CTL_OPTS',
    );
    expect(withDatabase(ctl, '/etc/openvswitch/conf.db')).toBe(ctl);
  });
});
