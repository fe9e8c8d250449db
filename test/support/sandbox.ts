/**
 * A private OVS and OVN for tests, on src/sandbox. Whatever a test starts in it is registered with it, so that it is
 * gone after the test, also after one that failed; what a killed test run left is swept by the next.
 */
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Output, run } from '../../src/exec.js';
import { type Datapath, openSandbox, type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { expectNothingMore, type SystemSnapshot, snapshot } from './system.js';
import { scaled } from './time.js';

export interface TestSandbox extends Sandbox {
  /** Begins the name of everything that is made for this sandbox, outside of its run directory. */
  readonly prefix: string;
  /** The environment of the test, and the variables by which OVS's and OVN's tools find this sandbox. */
  readonly fullEnv: NodeJS.ProcessEnv;
  /** Makes a logical switch; without a tag it gets none. */
  addSwitch(name: string, tag?: number | string): Promise<void>;
  /** What the tool printed, trimmed. */
  vsctl(...args: string[]): Promise<string>;
  nbctl(...args: string[]): Promise<string>;
  /** Runs a tool in the sandbox's network namespace. */
  exec(command: string, args: readonly string[], timeoutMs?: number): Promise<Output>;
  /** A name that nothing else in this sandbox has, at most 15 bytes with `stem` of up to 9. */
  uniqueName(stem: string): string;
  /** To be undone at the end of the test, the last one first. */
  defer(undo: () => Promise<void>): void;
  /** Undoes what was deferred. */
  release(): Promise<void>;
  /** Takes what was deferred so far out of `release`'s reach, and gives what undoes it. */
  keep(): () => Promise<void>;
}

const NAME_STEM = 'arca-t';
const TOOL_TIMEOUT_MS = 10_000;
let sandboxCount = 0;

export function testDatapath(): Datapath {
  const text = process.env['ARCA_TEST_DATAPATH'] ?? 'netdev';
  if (text === 'netdev' || text === 'system') return text;
  throw new Error(`ARCA_TEST_DATAPATH is netdev or system, not ${text}`);
}

export async function createSandbox(): Promise<TestSandbox> {
  const prefix = `${NAME_STEM}${process.pid}-${sandboxCount++}`;
  const sandbox = await startSandbox({
    runDir: join(tmpdir(), prefix),
    netns: prefix,
    datapath: testDatapath(),
    timeoutMs: scaled(30_000),
  });
  const fullEnv = { ...process.env, ...sandbox.env };
  const undos: (() => Promise<void>)[] = [];
  let nameCount = 0;

  const tool = async (command: string, args: readonly string[]): Promise<string> => {
    const { stdout } = await run(command, args, { timeoutMs: scaled(TOOL_TIMEOUT_MS), env: fullEnv });
    return stdout.trim();
  };

  const release = (): Promise<void> => undoAll(undos);

  return {
    ...sandbox,
    prefix,
    fullEnv,
    async addSwitch(name, tag) {
      const settings = tag === undefined ? [] : ['--', 'set', 'Logical_Switch', name, `external_ids:vlan_tag="${tag}"`];
      await tool('ovn-nbctl', ['ls-add', name, ...settings]);
    },
    vsctl: (...args) => tool('ovs-vsctl', args),
    nbctl: (...args) => tool('ovn-nbctl', args),
    exec: (command, args, timeoutMs = TOOL_TIMEOUT_MS) =>
      run(...sandbox.inNamespace(command, args), { timeoutMs: scaled(timeoutMs), env: fullEnv }),
    uniqueName: (stem) => `${stem}${nameCount++}`,
    defer: (undo) => undos.push(undo),
    release,
    keep() {
      const kept = undos.splice(0);
      return () => undoAll(kept);
    },
    async stop() {
      try {
        await release();
      } finally {
        await sandbox.stop();
      }
    },
  };
}

/** The last one first, all of them whatever fails. */
async function undoAll(undos: (() => Promise<void>)[]): Promise<void> {
  const errors: unknown[] = [];
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    await undo().catch((error: unknown) => errors.push(error));
  }
  if (errors.length > 0) throw new AggregateError(errors, 'what the test made could not be removed');
}

/**
 * One sandbox for all tests of a file. What a test made in it goes with the test, and each test ends with a look at the
 * system: there is nothing more than after `setUp`. What that made goes after the last test, and what it gives before.
 */
export function useSandbox(setUp?: (sandbox: TestSandbox) => Promise<(() => Promise<void>) | undefined>): {
  readonly current: TestSandbox;
} {
  let sandbox: TestSandbox | undefined;
  let before: SystemSnapshot | undefined;
  let tearDown: (() => Promise<void>) | undefined;
  let undoSetUp: (() => Promise<void>) | undefined;
  beforeAll(async () => {
    sandbox = await createSandbox();
    tearDown = await setUp?.(sandbox);
    undoSetUp = sandbox.keep();
    before = await snapshot(sandbox);
  });
  afterEach(async () => {
    if (sandbox === undefined || before === undefined) return;
    await sandbox.release();
    expectNothingMore(before, await snapshot(sandbox));
  });
  afterAll(async () => {
    try {
      await tearDown?.();
      await undoSetUp?.();
    } finally {
      await sandbox?.stop();
    }
  });
  return {
    get current() {
      if (sandbox === undefined) throw new Error('there is no sandbox before beforeAll, or its start failed');
      return sandbox;
    },
  };
}

/** For a test that can't share: the sandbox is gone when `use` is over, whatever happened in it. */
export async function withSandbox<T>(use: (sandbox: TestSandbox) => Promise<T>): Promise<T> {
  const sandbox = await createSandbox();
  try {
    return await use(sandbox);
  } finally {
    await sandbox.stop();
  }
}

/** Removes what test runs left whose process is dead. Those of living ones, this one included, stay. */
export async function sweepDeadSandboxes(): Promise<void> {
  const isDead = async (name: string): Promise<boolean> => {
    const pid = new RegExp(`^${NAME_STEM}(\\d+)-`).exec(name)?.[1];
    return pid !== undefined && !(await readdir('/proc')).includes(pid);
  };
  for (const name of await readdir(tmpdir())) {
    if (await isDead(name)) await (await openSandbox(join(tmpdir(), name)))?.stop();
  }
  for (const name of await readdir('/run/netns').catch(() => [])) {
    if (!(await isDead(name))) continue;
    const { stdout } = await run('ip', ['netns', 'pids', name], { timeoutMs: scaled(TOOL_TIMEOUT_MS) });
    for (const pid of stdout.split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
    await run('ip', ['netns', 'delete', name], { timeoutMs: scaled(TOOL_TIMEOUT_MS) });
  }
}
