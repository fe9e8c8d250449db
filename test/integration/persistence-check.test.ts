/**
 * `arca persistence check` against real ovsdb-servers whose database is kept as it should not be. Each server has a
 * mount namespace of its own, where the test mounts what it likes. Needs root.
 */
import { chmod, chown, copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../../src/exec.js';
import type { Finding } from '../../src/finding.js';
import { checkPersistence, isPersistent } from '../../src/persistence/check.js';
import { findProcess, signalProcess, waitForExit } from '../../src/processes.js';
import { startInBackground } from '../support/background.js';
import { withSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const ARCA = resolve('dist/cli/arca.js');
const NOBODY = 65534;

let root: string;
let folder: string;
let pids: number[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'arca-persistence-'));
  folder = join(root, 'db');
  await mkdir(folder);
  pids = [];
});

afterEach(async () => {
  for (const pid of pids) {
    const server = await findProcess(pid);
    if (server === undefined) continue;
    signalProcess(pid, 'SIGKILL');
    await waitForExit([server], scaled(5_000));
  }
  await rm(root, { recursive: true, force: true });
});

const socket = (): string => join(root, 'db.sock');
const database = (): string => join(folder, 'conf.db');

interface ServerOptions {
  /** Shell commands, in the server's mount namespace, before the database is made and after the server runs. */
  readonly before?: string;
  readonly after?: string;
  readonly file?: string;
  /** What to serve, if it is no file. */
  readonly served?: string;
  readonly socketPath?: string;
}

async function startServer({ before, after, file, served, socketPath }: ServerOptions = {}): Promise<number> {
  const path = file ?? database();
  const pidFile = join(root, `server-${pids.length}.pid`);
  const listen = `--remote=punix:${socketPath ?? socket()}`;
  const script = [
    'set -e',
    before ?? '',
    served === undefined ? `ovsdb-tool create ${path} ${SCHEMA}` : '',
    `ovsdb-server ${served ?? path} ${listen} --unixctl=${pidFile}.ctl --pidfile=${pidFile} --detach --no-chdir -vconsole:off -vsyslog:off`,
    after ?? '',
  ];
  await run('unshare', ['--mount', '--propagation=private', '/bin/sh', '-c', script.join('\n')], call());
  const pid = Number(await readFile(pidFile, 'utf8'));
  pids.push(pid);
  if (served === undefined) await vsctl('init');
  return pid;
}

function call(): { readonly timeoutMs: number } {
  return { timeoutMs: scaled(10_000) };
}

async function vsctl(...args: string[]): Promise<string> {
  return (await run('ovs-vsctl', [`--db=unix:${socket()}`, '--no-wait', ...args], call())).stdout.trim();
}

function check(databasePath?: string): Promise<readonly Finding[]> {
  return checkPersistence({ ...call(), ovsSocketPath: socket(), env: process.env, databasePath });
}

/** Verdict by id, of what was looked at in the database and its file. */
function verdicts(findings: readonly Finding[]): Record<string, string> {
  const about = findings.filter(({ id }) => id.startsWith('database-'));
  return Object.fromEntries(about.map(({ id, verdict }) => [id, verdict]));
}

function finding(findings: readonly Finding[], id: string): Finding {
  const found = findings.find((candidate) => candidate.id === id);
  if (found === undefined) throw new Error(`no finding ${id} in ${JSON.stringify(findings)}`);
  return found;
}

const ALL_OK = {
  'database-file': 'ok',
  'database-file-system': 'ok',
  'database-permissions': 'ok',
  'database-writable': 'ok',
  'database-probe': 'ok',
};

describe('a database on the disk', () => {
  it('is proven to survive, and nothing of the probe is left', async () => {
    await startServer();
    await vsctl('set', 'Open_vSwitch', '.', 'external_ids:somebody=else');
    const findings = await check();
    expect(verdicts(findings)).toEqual(ALL_OK);
    expect(isPersistent(findings)).toBe(true);
    expect(finding(findings, 'database-file')).toMatchObject({ subject: database() });
    expect(await vsctl('get', 'Open_vSwitch', '.', 'external_ids')).toBe('{somebody=else}');
  });

  it('is where it was said to be, also by a symbolic link', async () => {
    await startServer();
    const link = join(root, 'link.db');
    await symlink(database(), link);
    expect(verdicts(await check(link))).toEqual({ ...ALL_OK, 'database-path': 'ok' });
  });

  it('is not where it was said to be', async () => {
    await startServer();
    const other = join(folder, 'other.db');
    for (const evidence of ['not there', 'another file']) {
      const findings = await check(other);
      expect(verdicts(findings)).toEqual({ ...ALL_OK, 'database-path': 'problem' });
      expect(finding(findings, 'database-path').evidence).toContain(evidence);
      expect(isPersistent(findings)).toBe(false);
      await copyFile(database(), other);
    }
  });
});

it('a state file says where the database and the server are', async () => {
  await startServer();
  const file = join(root, 'state.json');
  const checkBy = (path: string): Promise<unknown> =>
    writeFile(
      file,
      JSON.stringify({ version: 1, plugins: { network: { ovsdb: { socket_path: socket(), database_path: path } } } }),
    ).then(() => run(process.execPath, [ARCA, 'persistence', 'check', '--state', file], call()));
  await expect(checkBy(database())).resolves.toMatchObject({ stdout: expect.stringMatching(/^ok +configured path/m) });
  await expect(checkBy('/etc/elsewhere.db')).rejects.toMatchObject({
    exitCode: 115,
    output: { stdout: expect.stringMatching(/^problem +configured path/m) },
  });
});

describe('what lies below the file', () => {
  const overlay = (upper: string): string =>
    `mkdir -p ${upper}/u ${upper}/w; mount -t overlay -o lowerdir=${folder},upperdir=${upper}/u,workdir=${upper}/w overlay ${folder}`;

  it.each([
    ['tmpfs', () => `mount -t tmpfs tmpfs ${folder}`],
    ['ramfs', () => `mount -t ramfs ramfs ${folder}`],
    [
      'an overlay whose upper directory is memory',
      () => `mkdir ${root}/mem; mount -t tmpfs tmpfs ${root}/mem; ${overlay(`${root}/mem`)}`,
    ],
  ])('%s is a problem', async (_what, before) => {
    await startServer({ before: before() });
    const findings = await check();
    expect(verdicts(findings)).toEqual({ ...ALL_OK, 'database-file-system': 'problem' });
    expect(isPersistent(findings)).toBe(false);
  });

  it('an overlay on the disk is none', async () => {
    await startServer({ before: overlay(`${root}/disk`) });
    const findings = await check();
    expect(verdicts(findings)).toEqual(ALL_OK);
    expect(finding(findings, 'database-file-system').evidence).toContain(`${root}/disk/u`);
  });

  it('an overlay whose upper directory can not be seen proves nothing', async () => {
    await startServer({ before: overlay(`${root}/disk`), after: `mount -t tmpfs tmpfs ${root}/disk` });
    const findings = await check();
    expect(verdicts(findings)).toEqual({ ...ALL_OK, 'database-file-system': 'unknown' });
    expect(isPersistent(findings)).toBe(false);
  });

  it('a mount that became read-only is a problem for the next server', async () => {
    await startServer({ after: `mount --bind ${folder} ${folder}; mount -o remount,bind,ro ${folder}` });
    const findings = await check();
    expect(verdicts(findings)).toEqual({ ...ALL_OK, 'database-writable': 'problem' });
  });

  it('a file system that is almost full is a warning, a full one a problem', async () => {
    await startServer({
      before: `mount -t tmpfs -o size=256k tmpfs ${folder}`,
      after: `dd if=/dev/zero of=${folder}/filler bs=4k count=55 status=none`,
    });
    expect(verdicts(await check())).toMatchObject({ 'database-writable': 'warning' });
    await run('sh', ['-c', `dd if=/dev/zero of=/proc/${pids[0]}/root${folder}/rest bs=4k status=none || true`], call());
    const findings = await check();
    expect(verdicts(findings)).toMatchObject({ 'database-writable': 'problem' });
  });
});

describe('the file itself', () => {
  it('deleted: nothing that the server takes is there after a restart', async () => {
    await startServer();
    await rm(database());
    const findings = await check();
    expect(verdicts(findings)).toMatchObject({ 'database-file': 'problem', 'database-probe': 'unknown' });
    expect(finding(findings, 'database-file').evidence).toContain('deleted');
    expect(isPersistent(findings)).toBe(false);
  });

  it('replaced by a copy: the probe is not in it', async () => {
    await startServer();
    await copyFile(database(), join(folder, 'copy.db'));
    await rename(join(folder, 'copy.db'), database());
    const findings = await check();
    expect(verdicts(findings)).toMatchObject({ 'database-file': 'problem', 'database-probe': 'problem' });
    expect(isPersistent(findings)).toBe(false);
  });

  it.each([
    ['everybody may write it', 'problem', () => chmod(database(), 0o666)],
    ['everybody may read it', 'note', () => chmod(database(), 0o644)],
    ['everybody may put another in its place', 'problem', () => chmod(folder, 0o777)],
    ['somebody else owns it', 'problem', () => chown(database(), NOBODY, NOBODY)],
    ['somebody else owns its folder', 'problem', () => chown(folder, NOBODY, NOBODY)],
  ])('%s: %s', async (_what, verdict, spoil) => {
    await startServer();
    await spoil();
    const findings = await check();
    expect(verdicts(findings)).toEqual({ ...ALL_OK, 'database-permissions': verdict });
    expect(isPersistent(findings)).toBe(verdict === 'note');
  });

  it('a server that is not root has to own it, or its group may write it', async () => {
    await chmod(root, 0o755);
    await chown(folder, NOBODY, NOBODY);
    await startServer({
      served: `${database()} --user=nobody:nogroup`,
      before: `ovsdb-tool create ${database()} ${SCHEMA}; chown -R nobody:nogroup ${root}`,
    });
    await vsctl('init');
    expect(verdicts(await check())).toEqual(ALL_OK);
    await chown(database(), 0, 0);
    expect(verdicts(await check())).toEqual({ ...ALL_OK, 'database-permissions': 'problem' });
  });
});

describe('the server', () => {
  it('that holds nothing itself is a problem', async () => {
    await startServer();
    const relaySocket = join(root, 'relay.sock');
    await startServer({ served: `relay:Open_vSwitch:unix:${socket()}`, socketPath: relaySocket });
    const select = ['--no-leader-only', `--db=unix:${relaySocket}`, '--no-wait', 'get', 'Open_vSwitch', '.', '_uuid'];
    await eventually('the relay to have the database', () => run('ovs-vsctl', select, call()).catch(() => undefined));
    const findings = await checkPersistence({ ...call(), ovsSocketPath: relaySocket, env: process.env });
    expect(verdicts(findings)).toEqual({ 'database-file': 'problem' });
    expect(isPersistent(findings)).toBe(false);
  });

  it('that took over the socket is the one that is judged', async () => {
    await startServer({ before: `mount -t tmpfs tmpfs ${folder}` });
    await startServer({ file: join(root, 'second.db') });
    const findings = await check();
    expect(finding(findings, 'database-file').subject).toBe(join(root, 'second.db'));
    expect(verdicts(findings)).toEqual(ALL_OK);
  });

  it('that may not be looked at leaves everything unproven', async () => {
    await startServer();
    await chmod(root, 0o755);
    await chmod(socket(), 0o777);
    const asNobody = ['--reuid=nobody', '--regid=nogroup', '--clear-groups', process.execPath, ARCA];
    const asked = run('setpriv', [...asNobody, 'persistence', 'check', `--ovs=unix:${socket()}`], call());
    await expect(asked).rejects.toMatchObject({
      exitCode: 115,
      output: {
        stdout: expect.stringMatching(/^unknown +file of the database/),
        stderr: expect.stringContaining('not be proven'),
      },
    });
  });

  it('that is not there is an error, not a finding', async () => {
    await expect(check()).rejects.toMatchObject({ code: 'ovs-unreachable' });
  });
});

describe('the probe', () => {
  it('of a check that was killed goes with the next', async () => {
    await startServer();
    // An ovsdb-tool that never ends: the check waits for it, with its probe in the database.
    const tools = join(root, 'tools');
    const toolPid = join(root, 'tool.pid');
    await mkdir(tools);
    await writeFile(join(tools, 'ovsdb-tool'), `#!/bin/sh\necho $$ >${toolPid}\nexec sleep 1000\n`, { mode: 0o755 });
    const killed = startInBackground(process.execPath, [ARCA, 'persistence', 'check', `--ovs=unix:${socket()}`], {
      env: { ...process.env, PATH: `${tools}:${process.env['PATH']}` },
    });
    const ids = (): Promise<string> => vsctl('get', 'Open_vSwitch', '.', 'external_ids');
    const pid = await eventually('the file to be read', () => readFile(toolPid, 'utf8').catch(() => undefined));
    await killed.destroy();
    pids.push(Number(pid));
    expect(await ids()).toContain('arca-persistence-probe');

    expect(verdicts(await check())).toEqual(ALL_OK);
    expect(await ids()).toBe('{}');
  });
});

it('a port whose device is gone is a warning that says what removes it', async () => {
  await withSandbox(async (sandbox) => {
    const ovsSocketPath = join(sandbox.runDir, 'db.sock');
    const ports = async (): Promise<Finding[]> =>
      (await checkPersistence({ ...call(), ovsSocketPath, env: process.env })).filter(({ id }) => id === 'stale-ports');
    await sandbox.exec('ip', ['link', 'add', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1']);
    await sandbox.vsctl('add-port', 'br-int', 'gone0');
    expect(await ports()).toMatchObject([{ verdict: 'ok' }]);

    await sandbox.exec('ip', ['link', 'delete', 'gone0']);
    expect(await ports()).toMatchObject([{ verdict: 'warning', subject: 'gone0', mend: 'ovs-vsctl del-port gone0' }]);

    await sandbox.vsctl('set', 'Port', 'gone0', 'external_ids:arca-owner=arca-relay');
    expect(await ports()).toMatchObject([{ verdict: 'warning', mend: expect.stringContaining('arca-control') }]);
  });
});
