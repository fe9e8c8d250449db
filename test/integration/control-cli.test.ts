/** The whole from the command line: arca-control and arca on a real OVS and OVN, a container's end, and nothing left. */
import { existsSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Attachment, Health, Network } from '../../src/control/model.js';
import { ERROR_KINDS } from '../../src/errors.js';
import { CommandError, run } from '../../src/exec.js';
import { type Background, startInBackground } from '../support/background.js';
import { useSandbox } from '../support/sandbox.js';
import { eventually, scaled, within } from '../support/time.js';

const CLI = fileURLToPath(new URL('../../dist/cli/', import.meta.url));
const ARCA_TAP = fileURLToPath(new URL('../../build/Release/arca-tap', import.meta.url));

const sandbox = useSandbox();

interface Answer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

const socketPath = (): string => join(sandbox.current.runDir, 'control.sock');

function spawnControl(...args: string[]): Background {
  const { current } = sandbox;
  const runDir = join(current.runDir, 'arca');
  current.defer(() => rm(runDir, { recursive: true, force: true }));
  const places = ['--run-dir', runDir, '--listen', `unix:${socketPath()}`, '--log-format', 'json'];
  const program = startInBackground(
    ...current.inNamespace(process.execPath, [`${CLI}arca-control.js`, ...places, ...args]),
    { env: current.fullEnv },
  );
  current.defer(async () => {
    program.kill('SIGTERM');
    await within(program.ended, 'the end of arca-control', 10_000).catch(() => {});
    await program.destroy();
  });
  return program;
}

async function startControl(...args: string[]): Promise<Background> {
  const program = spawnControl(...args);
  await program.stderr.waitFor(/"msg":"ready"/);
  return program;
}

async function arca(...args: string[]): Promise<Answer> {
  const env = { ...sandbox.current.fullEnv, ARCA_CONTROL: `unix:${socketPath()}` };
  try {
    return {
      exitCode: 0,
      ...(await run(process.execPath, [`${CLI}arca.js`, ...args], { timeoutMs: scaled(20_000), env })),
    };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { exitCode: error.exitCode, ...error.output };
  }
}

/** The answer as JSON; fails with what arca said if it failed. */
async function ask<T>(...args: string[]): Promise<T> {
  const { exitCode, stdout, stderr } = await arca(...args, '--json');
  if (exitCode !== 0) throw new Error(`arca ${args.join(' ')} ended with ${exitCode}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** A container's end in a namespace of its own; gives the command prefix that runs something there. */
async function startContainer(connect: string): Promise<readonly string[]> {
  const { current } = sandbox;
  const netns = `${current.prefix}-${current.uniqueName('c')}`;
  await run('ip', ['netns', 'add', netns], { timeoutMs: scaled(5_000) });
  current.defer(async () => {
    await run('ip', ['netns', 'delete', netns], { timeoutMs: scaled(5_000) });
  });
  // As it was told, but for the program's place: the relay tells the rest.
  const [, ...args] = connect.split(' ');
  const program = startInBackground('ip', ['netns', 'exec', netns, ARCA_TAP, ...args]);
  current.defer(() => program.destroy());
  return ['netns', 'exec', netns];
}

describe('arca-control and arca', () => {
  it('carry a container from nothing to a ping, and back to nothing', async () => {
    const { current } = sandbox;
    const control = await startControl();
    expect(statSync(socketPath()).mode & 0o777).toBe(0o660);
    const before = await databases();

    const events = startInBackground(process.execPath, [
      `${CLI}arca.js`,
      'events',
      '--json',
      '--control',
      `unix:${socketPath()}`,
    ]);
    current.defer(() => events.destroy());
    const health = await ask<Health>('health');
    expect(health.state).toBe('ok');

    const network = await ask<Network>(
      'network',
      'create',
      'net-a',
      '--subnet',
      '10.9.0.0/24',
      '--gateway',
      '10.9.0.1',
    );
    expect(network).toMatchObject({ vlan: 100, owner: 'arca' });
    expect(await arca('network', 'create', 'net-a', '--subnet', '10.9.0.0/24')).toMatchObject({
      exitCode: ERROR_KINDS['network-conflict'].exitCode,
    });
    expect(await arca('network', 'create', 'net-b', '--subnet', '10.9.0.128/25')).toMatchObject({
      exitCode: ERROR_KINDS['subnet-overlap'].exitCode,
    });

    const attach = (name: string): Promise<Attachment> =>
      ask('attach', name, '--network', 'net-a', '--listen', `unix:${join(current.runDir, `${name}.sock`)}`);
    const web = await attach('web');
    const api = await attach('api');
    expect(web).toMatchObject({ state: 'ready', vlan: 100, gateway: '10.9.0.1', trouble: null });
    expect(await attach('web')).toMatchObject({ tap: web.tap, relayPid: web.relayPid });
    expect(await arca('attach', 'web', '--network', 'net-a', '--mac', '02:00:00:00:00:99')).toMatchObject({
      exitCode: ERROR_KINDS['attachment-conflict'].exitCode,
    });

    const [inWeb] = await Promise.all([startContainer(web.connect), startContainer(api.connect)]);
    await eventually('both ends are connected', async () => {
      const all = await ask<Attachment[]>('ps');
      return all.every(({ connected }) => connected) || undefined;
    });
    const target = api.addresses[0]?.split('/')[0] ?? '';
    await eventually('a ping', async () => {
      const ping = run('ip', [...inWeb, 'ping', '-c', '1', '-W', '1', target], { timeoutMs: scaled(5_000) });
      return ping.then(
        () => true as const,
        () => undefined,
      );
    });
    await events.stdout.waitFor(/"type":"attached".*"container":"api"/);
    await events.stdout.waitFor(/"type":"attachment-changed".*"connected":true/);
    expect((await arca('ps')).stdout).toMatch(/^web +net-a +ready +up +10\.9\.0\./m);
    expect((await arca('health')).stdout).toMatch(/^relay web\/net-a +ok/m);
    expect((await arca('reconcile', '--dry-run')).stdout).toBe('all is as it should be\n');
    expect((await arca('metrics')).stdout).toContain('arca_');

    expect(await arca('network', 'rm', 'net-a')).toMatchObject({ exitCode: ERROR_KINDS['network-busy'].exitCode });
    await ask('detach', 'web', '--network', 'net-a');
    expect(await arca('detach', 'web', '--network', 'net-a')).toMatchObject({
      exitCode: ERROR_KINDS['attachment-unknown'].exitCode,
    });
    await ask('network', 'rm', 'net-a', '--force');
    await events.stdout.waitFor(/"type":"network-removed"/);
    expect(await databases()).toEqual(before);

    control.kill('SIGTERM');
    expect(await within(control.ended, 'its end')).toMatchObject({ exitCode: 0 });
    expect(existsSync(socketPath())).toBe(false);
    expect(await within(events.ended, 'the end of events')).toMatchObject({
      exitCode: ERROR_KINDS['control-unreachable'].exitCode,
    });
    expect(await arca('ps')).toMatchObject({ exitCode: ERROR_KINDS['control-unreachable'].exitCode });
  });

  it('find what is attached again after a restart, and the relay lives on', async () => {
    const first = await startControl();
    await ask('network', 'create', 'net-a', '--subnet', '10.9.0.0/24');
    const listen = `unix:${join(sandbox.current.runDir, 'web.sock')}`;
    const web = await ask<Attachment>('attach', 'web', '--network', 'net-a', '--listen', listen);
    first.kill('SIGKILL');
    await within(first.ended, 'its end');
    const second = await startControl();
    expect(await ask('ps')).toEqual([
      expect.objectContaining({ state: 'ready', relayPid: web.relayPid, mac: web.mac }),
    ]);
    await ask('network', 'rm', 'net-a', '--force');
    second.kill('SIGINT');
    expect(await within(second.ended, 'its end')).toMatchObject({ exitCode: 0 });
  });

  it('are two no more: the second says so', async () => {
    await startControl();
    const second = spawnControl();
    expect(await within(second.ended, 'its end')).toMatchObject({ exitCode: ERROR_KINDS['endpoint-in-use'].exitCode });
    expect((await arca('version')).exitCode).toBe(0);
  });

  it.each([
    [['--chassis', 'host-1']],
    [['--nb', 'ssl:x:1']],
    [['--listen', 'vsock:4900']],
    [['--listen', 'vsock:5000', '--peer-cid', '2']],
    [['--listen', 'tcp:80']],
    [['--frobnicate']],
    [['extra']],
  ])('refuse %j', async (args) => {
    const program = spawnControl(...args);
    expect(await within(program.ended, 'its end')).toMatchObject({ exitCode: ERROR_KINDS.usage.exitCode });
  });

  it('teach themselves', async () => {
    const { stdout } = await run(process.execPath, [`${CLI}arca-control.js`, '--help'], { timeoutMs: scaled(10_000) });
    expect(stdout).toContain('--listen unix:/run/arca/control.sock --listen vsock:4900 --peer-cid 2');
    expect(stdout).toMatch(/^ +30 {2}somebody listens/m);
  });
});

/** What is ours in both databases, without counters and row ids. */
async function databases(): Promise<readonly string[]> {
  const { current } = sandbox;
  return Promise.all([
    current.nbctl('--bare', '--columns=name', 'list', 'Logical_Switch'),
    current.nbctl('--bare', '--columns=name', 'list', 'Logical_Switch_Port'),
    current.vsctl('--bare', '--columns=name,tag', 'list', 'Port'),
  ]);
}
