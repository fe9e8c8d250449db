/** `arca state` as its user calls it, in a sandbox: state files, answers, and what there is afterwards. */
import { fileURLToPath } from 'node:url';
import { CommandError } from '../../src/exec.js';
import type { Change, Summary } from '../../src/state/changes.js';
import type { Difference } from '../../src/state/verify.js';
import { type Background, startInBackground } from './background.js';
import { type TestSandbox, testDatapath } from './sandbox.js';
import { scaled } from './time.js';

const ARCA = fileURLToPath(new URL('../../dist/cli/arca.js', import.meta.url));

export interface Answer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `--json` prints, whichever verb. */
export interface Told {
  readonly changed?: boolean;
  readonly matches?: boolean;
  readonly changes: readonly Change[];
  readonly differences: readonly Difference[];
  readonly summary: Summary;
  readonly warnings: readonly string[];
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly details: Readonly<Record<string, readonly string[]>>;
  };
}

/** A state file of these bridges and devices; `datapath_type` is the sandbox's where none is given, and nobody asks whether its database lasts. */
export function stateText(bridges: readonly object[], interfaces: readonly object[] = []): string {
  const withDatapath = bridges.map((bridge) => ({ datapath_type: testDatapath(), ...bridge }));
  return JSON.stringify({
    version: 1,
    plugins: { network: { bridges: withDatapath, interfaces, ovsdb: { persist: false } } },
  });
}

/** Runs `arca state VERB -` in the sandbox's network namespace, with the file on standard input; without a file if it is empty. */
export async function arcaState(
  sandbox: TestSandbox,
  verb: string,
  file: string,
  ...options: string[]
): Promise<Answer> {
  const running = startState(sandbox, verb, file, ...options);
  const { exitCode } = await running.ended;
  const join = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('');
  return { exitCode: exitCode ?? undefined, stdout: join(running.stdout.all), stderr: join(running.stderr.all) };
}

export function startState(sandbox: TestSandbox, verb: string, file: string, ...options: string[]): Background {
  const [command, args] = stateCommand(sandbox, verb, ...(file === '' ? [] : ['-']), ...options);
  const running = startInBackground(command, args, { env: sandbox.fullEnv, input: Buffer.from(file) });
  sandbox.defer(() => running.destroy());
  return running;
}

/** In the sandbox's network namespace. */
export function stateCommand(
  sandbox: TestSandbox,
  verb: string,
  ...words: string[]
): [command: string, args: string[]] {
  const limit = String(scaled(15_000) / 1000);
  const place = [
    '--ovs',
    `unix:${sandbox.runDir}/db.sock`,
    '--timeout',
    limit,
    '--run-dir',
    `${sandbox.runDir}/ovs-dhcp`,
  ];
  return sandbox.inNamespace(process.execPath, [ARCA, 'state', verb, ...place, ...words]);
}

/** Applies without a question; what was made goes with the test. */
export async function apply(sandbox: TestSandbox, file: string, ...options: string[]): Promise<Told & Answer> {
  removeLater(sandbox);
  return told(await arcaState(sandbox, 'apply', file, '--yes', '--json', ...options));
}

export function told(answer: Answer): Told & Answer {
  return { ...(JSON.parse(answer.stdout) as Told), ...answer };
}

const cleaned = new WeakSet<TestSandbox>();

/** At the end of the test nothing of ours is left; a test that applies twice needs it once. */
export function removeLater(sandbox: TestSandbox): void {
  if (cleaned.has(sandbox)) return;
  cleaned.add(sandbox);
  sandbox.defer(async () => {
    cleaned.delete(sandbox);
    const { exitCode, stderr } = await arcaState(sandbox, 'apply', stateText([]), '--yes');
    if (exitCode !== 0) throw new Error(`what arca state made could not be removed: ${stderr}`);
  });
}

/** A device that is there by itself, as a network card is. */
export async function addDevice(sandbox: TestSandbox, name: string): Promise<void> {
  await sandbox.exec('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`]);
  await sandbox.exec('ip', ['link', 'set', name, 'up']);
  sandbox.defer(async () => {
    await sandbox.exec('ip', ['link', 'delete', name]).catch((error: unknown) => {
      if (!(error instanceof CommandError)) throw error;
    });
  });
}

export function pathsOf(changes: readonly Change[]): string[] {
  return changes.map(({ kind, path }) => `${kind} ${path}`);
}
