/** What every other file here relies on: sandboxes side by side, and nothing left of one, also after a test that failed. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { findProcesses } from '../../src/processes.js';
import { joinContainer } from '../support/container.js';
import { startRelay } from '../support/relay.js';
import { type TestSandbox, withSandbox } from '../support/sandbox.js';

async function expectGone({ runDir, prefix }: TestSandbox): Promise<void> {
  expect(existsSync(runDir)).toBe(false);
  expect((await readdir('/run/netns')).filter((name) => name.startsWith(prefix))).toEqual([]);
  expect(await findProcesses((args) => args.some((arg) => arg.includes(prefix)))).toEqual([]);
}

it('two at once, with a relay and a container in each, and the test that uses them fails', async () => {
  const used: TestSandbox[] = [];
  const failing = withSandbox(async (first) => {
    used.push(first);
    await withSandbox(async (second) => {
      used.push(second);
      for (const sandbox of used) {
        await sandbox.addSwitch('net-a', 100);
        const relay = await startRelay(sandbox, { network: 'net-a' });
        await joinContainer(sandbox, relay, { address: '10.9.0.2/24' });
        await sandbox.pause('ovsdb-server');
      }
      throw new Error('the test failed');
    });
  });
  await expect(failing).rejects.toThrow('the test failed');
  expect(used).toHaveLength(2);
  for (const sandbox of used) await expectGone(sandbox);
});
