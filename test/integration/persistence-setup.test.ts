/** `arca persistence setup` as a user has it, in a root directory of its own: what it asks, writes, and says. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Output, run } from '../../src/exec.js';
import { scaled } from '../support/time.js';

const ARCA = resolve('dist/cli/arca.js');
const UNITS = ['multi-user.target.wants', 'ovs-vswitchd.service', 'ovsdb-server.service'];

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'arca-setup-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const call = { timeoutMs: scaled(10_000) };
const words = (...args: string[]): string[] => [ARCA, 'persistence', 'setup', '--root', root, ...args];
const setUp = (...args: string[]): Promise<Output> => run(process.execPath, words(...args), call);
const written = (): Promise<string[]> => readdir(join(root, 'etc/systemd/system')).catch(() => []);

/** On a terminal, with that answer. */
function answered(answer: string): Promise<Output> {
  const command = [process.execPath, ...words()].join(' ');
  return run('script', ['--quiet', '--return', '--command', command, '/dev/null'], { ...call, input: `${answer}\n` });
}

it('writes units where there are none, once, and takes them away again', async () => {
  expect((await setUp('--yes')).stdout).toMatch(/there is no ovsdb-server\.service: one is made[\s\S]*Written/);
  expect(await written()).toEqual(UNITS);
  expect((await setUp('--yes')).stdout).toContain('Nothing to do.');
  await setUp('--remove', '--yes');
  expect(await written()).toEqual(['multi-user.target.wants']);
});

it('shows what it would do, and does nothing', async () => {
  expect((await setUp('--dry-run')).stdout).toContain('ExecStart=/usr/sbin/ovsdb-server /etc/openvswitch/conf.db');
  expect(JSON.parse((await setUp('--dry-run', '--json')).stdout)).toMatchObject({
    applied: false,
    changes: { length: 4 },
  });
  expect(await written()).toEqual([]);
});

it.each([[[]], [['--json']]])('does nothing when nobody can say yes %j', async (options) => {
  await expect(setUp(...options)).rejects.toMatchObject({ exitCode: 114 });
  expect(await written()).toEqual([]);
});

it('takes yes for an answer, and nothing else', async () => {
  await expect(answered('y')).rejects.toMatchObject({ exitCode: 114 });
  expect(await written()).toEqual([]);
  await answered('yes');
  expect(await written()).toEqual(UNITS);
});

it.each(['relative.db', '/etc/with blank.db', "/etc/quote'.db", '/etc/', '/run/ovs/conf.db'])(
  'refuses a database %j',
  async (path) => {
    await expect(setUp('--database', path, '--yes')).rejects.toMatchObject({ exitCode: 2 });
    expect(await written()).toEqual([]);
  },
);
