import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommandError, run, startDetached } from '../../src/exec.js';

async function failureOf(promise: Promise<unknown>): Promise<CommandError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CommandError);
  return error as CommandError;
}

describe('run', () => {
  it('gives what the program printed', async () => {
    const output = await run('sh', ['-c', 'echo out; echo err >&2'], { timeoutMs: 5000 });
    expect(output).toEqual({ stdout: 'out\n', stderr: 'err\n' });
  });

  it('passes arguments as they are: there is no shell', async () => {
    const odd = `a b'c"d$HOME;*`;
    expect((await run('printf', ['%s', odd], { timeoutMs: 5000 })).stdout).toBe(odd);
  });

  it('passes input and environment', async () => {
    const output = await run('sh', ['-c', 'cat; echo $X'], {
      timeoutMs: 5000,
      input: 'in ',
      env: { ...process.env, X: 'env' },
    });
    expect(output.stdout).toBe('in env\n');
  });

  it('survives a program that does not read its input', async () => {
    await run('true', [], { timeoutMs: 5000, input: 'x'.repeat(1 << 20) });
  });

  it('tells that there is no such program', async () => {
    const error = await failureOf(run('/nonexistent/program', ['x'], { timeoutMs: 5000 }));
    expect(error.failure).toBe('not-found');
    expect(error.message).toContain('/nonexistent/program');
  });

  it('tells the exit code and the first line of stderr', async () => {
    const error = await failureOf(run('sh', ['-c', 'echo why >&2; echo more >&2; exit 7'], { timeoutMs: 5000 }));
    expect(error).toMatchObject({ failure: 'exit-code', exitCode: 7, output: { stderr: 'why\nmore\n' } });
    expect(error.message).toMatch(/exit code 7 .*: why$/);
  });

  it('tells a signal that was not ours', async () => {
    expect(await failureOf(run('sh', ['-c', 'kill -USR1 $$'], { timeoutMs: 5000 }))).toMatchObject({
      failure: 'signal',
      endedBy: 'SIGUSR1',
    });
  });

  it('ends a program that ignores SIGTERM, soon after its time', async () => {
    const start = performance.now();
    const error = await failureOf(run('sh', ['-c', 'trap "" TERM; echo hi; while :; do :; done'], { timeoutMs: 100 }));
    expect(error).toMatchObject({ failure: 'timed-out', endedBy: 'SIGKILL', output: { stdout: 'hi\n' } });
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it('ends a stopped program', async () => {
    const error = await failureOf(run('sh', ['-c', 'kill -STOP $$'], { timeoutMs: 100 }));
    expect(error).toMatchObject({ failure: 'timed-out', endedBy: 'SIGKILL' });
  });

  it('stops on abort, before and during', async () => {
    const error = await failureOf(run('sleep', ['10'], { timeoutMs: 5000, signal: AbortSignal.abort() }));
    expect(error.failure).toBe('aborted');
    const controller = new AbortController();
    const running = failureOf(run('sleep', ['10'], { timeoutMs: 5000, signal: controller.signal }));
    controller.abort();
    expect(await running).toMatchObject({ failure: 'aborted', endedBy: 'SIGTERM' });
  });

  it('bounds the output', async () => {
    const error = await failureOf(run('yes', [], { timeoutMs: 5000, maxOutputBytes: 1000 }));
    expect(error.failure).toBe('output-limit');
    expect(error.output.stdout.length).toBeLessThanOrEqual(1000);
  });

  it('does not wait for a daemon that kept the output open', async () => {
    const start = performance.now();
    const { stdout } = await run('sh', ['-c', 'sleep 3 & echo up'], { timeoutMs: 10_000 });
    expect(stdout).toBe('up\n');
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('startDetached', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const start = (script: string, lines: string[] = []) =>
    startDetached('sh', ['-c', script], {
      env: process.env,
      logPath: join(folder, 'log'),
      onLine: (line) => lines.push(line),
    });

  it('tells its lines, its end, and keeps its output', async () => {
    const lines: string[] = [];
    const { ended } = await start('echo one >&3; echo two >&3; printf rest >&3; echo out; echo err >&2; exit 7', lines);
    expect(await ended).toEqual({ exitCode: 7 });
    expect(lines).toEqual(['one', 'two', 'rest']);
    expect(readFileSync(join(folder, 'log'), 'utf8')).toBe('out\nerr\n');
  });

  it('tells the signal that ended it', async () => {
    const { pid, ended } = await start('exec sleep 60');
    process.kill(pid, 'SIGKILL');
    expect(await ended).toEqual({ endedBy: 'SIGKILL' });
  });

  it('gives it a session of its own, and no input', async () => {
    const lines: string[] = [];
    const { pid, ended } = await start('readlink /proc/$$/fd/0 >&3; cut -d" " -f6 /proc/$$/stat >&3', lines);
    await ended;
    expect(lines).toEqual(['/dev/null', String(pid)]);
  });

  it('tells that there is no such program, and that the log can not be written', async () => {
    const options = { env: process.env, logPath: join(folder, 'log'), onLine() {} };
    expect(await failureOf(startDetached('/nonexistent/program', [], options))).toMatchObject({ failure: 'not-found' });
    expect(
      await failureOf(startDetached('true', [], { ...options, logPath: join(folder, 'no', 'log') })),
    ).toMatchObject({ failure: 'not-found' });
  });
});
