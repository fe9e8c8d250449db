/** Real processes that are killed, and what of them is left when they are said to have ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findProcess, signalProcess, waitForExit } from '../../src/processes.js';
import { isUnixSocketAlive } from '../../src/unix-socket.js';

const ROUNDS = 12;
/** Threads that compute hold the process's descriptors for as long as the kernel takes to end each. */
const LISTENER = `
  import { createServer } from 'node:net';
  import { Worker } from 'node:worker_threads';
  for (let thread = 0; thread < 4; thread++) new Worker('for (;;) new Uint8Array(1e6).fill(1)', { eval: true });
  createServer().listen(process.argv[1], () => console.log('listening'));
`;

describe('waitForExit', () => {
  let folder: string;
  let child: ChildProcess | undefined;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  });
  afterEach(() => {
    child?.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });

  it('resolves when what was killed holds nothing any more', { timeout: 60_000 }, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const path = join(folder, `${round}.sock`);
      child = spawn(process.execPath, ['--input-type=module', '-e', LISTENER, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout as NodeJS.ReadableStream, 'data');
      const found = await findProcess(child.pid ?? 0);
      if (found === undefined) throw new Error('the listener is gone');
      signalProcess(found.pid, 'SIGKILL');
      expect(await waitForExit([found], 5_000)).toBe(true);
      expect(await isUnixSocketAlive(path), `round ${round}`).toBe(false);
    }
  });
});
