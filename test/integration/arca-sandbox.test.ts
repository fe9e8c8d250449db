/** `arca sandbox` as its user calls it: what it starts, what it says, and that nothing of it is left, whatever happened. */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { CommandError, run } from '../../src/exec.js';
import { findProcesses } from '../../src/processes.js';
import { DAEMON_NAMES } from '../../src/sandbox/daemons.js';
import { missingDaemons, openSandbox, type Sandbox } from '../../src/sandbox/sandbox.js';
import { startInBackground } from '../support/background.js';
import { testDatapath } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const ARCA = fileURLToPath(new URL('../../dist/cli/arca.js', import.meta.url));
/** Swept by the next run under this name, if this one is killed. */
const NAME = `arca-t${process.pid}-cli`;
const RUN_DIR = join(tmpdir(), NAME);
const PLACE = ['--run-dir', RUN_DIR];
const UP = ['up', ...PLACE, '--netns', NAME, '--datapath', testDatapath()];

interface Answer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

async function arca(...args: string[]): Promise<Answer> {
  try {
    return { exitCode: 0, ...(await run(process.execPath, [ARCA, 'sandbox', ...args], { timeoutMs: scaled(40_000) })) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { exitCode: error.exitCode, ...error.output };
  }
}

async function up(): Promise<Sandbox> {
  expect(await arca(...UP)).toMatchObject({ exitCode: 0, stderr: '' });
  const sandbox = await openSandbox(RUN_DIR);
  if (sandbox === undefined) throw new Error(`no sandbox in ${RUN_DIR}`);
  return sandbox;
}

async function expectNothingLeft(): Promise<void> {
  expect(existsSync(RUN_DIR)).toBe(false);
  expect(existsSync(`/run/netns/${NAME}`)).toBe(false);
  expect(await findProcesses((args) => args.some((arg) => arg.includes(`${RUN_DIR}/`)))).toEqual([]);
}

async function tool(sandbox: Sandbox, command: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, ...sandbox.env };
  return (await run(command, args, { timeoutMs: scaled(10_000), env })).stdout.trim();
}

afterEach(async () => {
  await (await openSandbox(RUN_DIR))?.stop();
});

describe('up and down', () => {
  it('starts OVS and OVN for plain tools, says so again, and leaves nothing', async () => {
    const { stdout } = await arca(...UP, '--json');
    const told = JSON.parse(stdout) as Pick<Sandbox, 'runDir' | 'netns' | 'env'> & { daemons: Record<string, number> };
    expect(told).toMatchObject({ runDir: RUN_DIR, netns: NAME, datapath: testDatapath() });
    expect(missingDaemons(told.daemons)).toEqual([]);
    expect(statSync(RUN_DIR).mode & 0o777).toBe(0o700);

    const sandbox = await up();
    expect(sandbox.env).toEqual(told.env);
    expect(await tool(sandbox, 'ovs-vsctl', 'get', 'Bridge', 'br-int', 'fail_mode')).toBe('standalone');
    expect(await tool(sandbox, 'ovs-vsctl', 'get', 'Open_vSwitch', '.', 'external_ids:ovn-bridge')).toBe('br-ovn');
    expect(await tool(sandbox, 'ovs-ofctl', 'dump-flows', 'br-int')).toContain('actions=NORMAL');
    expect(await tool(sandbox, 'ovs-appctl', 'version')).toContain('ovs-vswitchd');
    expect(await tool(sandbox, 'ovn-nbctl', 'ls-add', 'net-a')).toBe('');
    expect(await tool(sandbox, 'ovn-nbctl', '--wait=sb', 'sync')).toBe('');
    expect(await tool(sandbox, 'ovn-sbctl', '--bare', '--columns=external_ids', 'list', 'Datapath_Binding')).toContain(
      'name=net-a',
    );

    expect((await arca(...UP)).stdout).toContain('is up already');
    expect((await arca('down', ...PLACE)).exitCode).toBe(0);
    await expectNothingLeft();
    expect(await arca('down', ...PLACE)).toMatchObject({ exitCode: 0, stdout: `no sandbox is up in ${RUN_DIR}\n` });
  });

  it('prints an environment that a shell can evaluate, and runs commands in the namespace', async () => {
    await up();
    const { stdout } = await arca('env', ...PLACE);
    const shown = await run('bash', ['-c', `${stdout}\novs-vsctl list-br; echo $ARCA_SANDBOX_NETNS`], {
      timeoutMs: scaled(10_000),
    });
    expect(shown.stdout).toBe(`br-int\n${NAME}\n`);
    const script = 'ip -br link show lo; echo $OVS_RUNDIR; exit 7';
    const inside = await arca('exec', ...PLACE, '--', 'bash', '-c', script);
    expect(inside.exitCode).toBe(7);
    expect(inside.stdout).toMatch(/^lo +UNKNOWN .*LOWER_UP/);
    expect(inside.stdout).toContain(`\n${RUN_DIR}\n`);
  });

  it('env and exec say when there is none', async () => {
    for (const answer of [await arca('env', ...PLACE), await arca('exec', ...PLACE, 'true')]) {
      expect(answer.exitCode).toBe(ERROR_KINDS['sandbox-missing'].exitCode);
      expect(answer.stderr).toContain('`arca sandbox up` starts one');
    }
  });
});

describe('daemons that died or hang', () => {
  it('after SIGKILL of all of them: up says what is missing, down works', async () => {
    const sandbox = await up();
    for (const name of DAEMON_NAMES) await sandbox.kill(name);
    const again = await arca(...UP);
    expect(again.exitCode).toBe(ERROR_KINDS['sandbox-failed'].exitCode);
    expect(again.stderr).toContain('without ovs-vswitchd, ovn-northd, ovsdb-server, ovn-northbound, ovn-southbound');
    expect((await arca('down', ...PLACE)).exitCode).toBe(0);
    await expectNothingLeft();
  });

  it.each(['ovsdb-server', 'ovs-vswitchd'] as const)('with %s dead, or hanging, down works', async (name) => {
    await (await up()).kill(name);
    expect((await arca('down', ...PLACE)).exitCode).toBe(0);
    await expectNothingLeft();
    await (await up()).pause(name);
    expect((await arca('down', ...PLACE)).exitCode).toBe(0);
    await expectNothingLeft();
  });

  it('a daemon that is restarted takes up what it left', async () => {
    const sandbox = await up();
    await tool(sandbox, 'ovn-nbctl', 'ls-add', 'net-a');
    const before = await sandbox.daemons();
    for (const name of ['ovsdb-server', 'ovs-vswitchd', 'ovn-northbound', 'ovn-northd'] as const) {
      await sandbox.restart(name);
    }
    const after = await sandbox.daemons();
    expect(missingDaemons(after)).toEqual([]);
    expect(after['ovs-vswitchd']).not.toBe(before['ovs-vswitchd']);
    expect(await tool(sandbox, 'ovs-vsctl', 'list-br')).toBe('br-int');
    expect(await tool(sandbox, 'ovn-nbctl', '--wait=sb', 'ls-list')).toContain('(net-a)');
  });
});

it('a daemon that its user started anew goes with the rest', async () => {
  const sandbox = await up();
  await tool(sandbox, 'ovs-appctl', '-t', 'ovs-vswitchd', 'exit');
  // As the README's tour does it: another pid file argument than ours, and no pid that we know.
  const byHand = ['ovs-vswitchd', `unix:${join(RUN_DIR, 'db.sock')}`, '--pidfile', '--detach', '--no-chdir'];
  expect((await arca('exec', ...PLACE, '--', ...byHand, '-vconsole:off')).exitCode).toBe(0);
  expect(missingDaemons(await sandbox.daemons())).toEqual([]);
  expect((await arca('down', ...PLACE)).exitCode).toBe(0);
  await expectNothingLeft();
});

describe('a start that fails', () => {
  it('refuses a directory that is not its own, and leaves it as it was', async () => {
    mkdirSync(RUN_DIR);
    try {
      writeFileSync(join(RUN_DIR, 'precious'), '');
      const answer = await arca(...UP);
      expect(answer.exitCode).toBe(ERROR_KINDS['sandbox-failed'].exitCode);
      expect(answer.stderr).toContain('is not ours');
      expect((await arca('down', ...PLACE)).stdout).toContain('no sandbox');
      expect(readdirSync(RUN_DIR)).toEqual(['precious']);
    } finally {
      rmSync(RUN_DIR, { recursive: true });
    }
    await expectNothingLeft();
  });

  it('refuses a namespace that exists, and leaves it', async () => {
    await run('ip', ['netns', 'add', NAME], { timeoutMs: scaled(5_000) });
    try {
      const answer = await arca(...UP);
      expect(answer.exitCode).toBe(ERROR_KINDS['sandbox-failed'].exitCode);
      expect(answer.stderr).toContain(`the network namespace ${NAME} exists already`);
      expect(existsSync(`/run/netns/${NAME}`)).toBe(true);
    } finally {
      await run('ip', ['netns', 'delete', NAME], { timeoutMs: scaled(5_000) });
    }
    await expectNothingLeft();
  });

  it('undoes all of it when the time is up', async () => {
    expect((await arca(...UP, '--timeout', '0.05')).exitCode).toBe(ERROR_KINDS['timed-out'].exitCode);
    await expectNothingLeft();
  });

  // Each file is made by another step of the start.
  it.each(['sandbox.json', 'db.sock', 'ovs-vswitchd.pid', 'ovn-northd.log'])(
    'undoes all of it at a signal, and down all of it after SIGKILL, when %s is there',
    async (file) => {
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        const starting = startInBackground(process.execPath, [ARCA, 'sandbox', ...UP]);
        await eventually(`${file} in ${RUN_DIR}`, () => existsSync(join(RUN_DIR, file)) || undefined, 15_000);
        starting.kill(signal);
        await starting.ended;
        if (signal === 'SIGKILL') expect((await arca('down', ...PLACE)).exitCode).toBe(0);
        // The start may have been over before the signal came: then it stays, as it should.
        if (starting.stdout.all.length > 0) await arca('down', ...PLACE);
        await expectNothingLeft();
      }
    },
  );
});
