/** `arca doctor` as its user calls it, in the sandbox's network namespace. */
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Examination } from '../../src/doctor/doctor.js';
import { CommandError, run } from '../../src/exec.js';
import type { Finding, Verdict } from '../../src/finding.js';
import type { TestSandbox } from './sandbox.js';
import { scaled } from './time.js';

const ARCA = fileURLToPath(new URL('../../dist/cli/arca.js', import.meta.url));
const COMMAND_TIMEOUT_MS = 20_000;

export interface DoctorCall {
  readonly runDir?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** Command and arguments that run it: `setpriv ...`. */
  readonly wrapper?: readonly string[];
  /** Of another network namespace. */
  readonly netns?: string;
}

export interface DoctorAnswer extends Examination {
  readonly exitCode: number | undefined;
}

/** What it prints for people. */
export async function doctorText(
  sandbox: TestSandbox,
  args: readonly string[],
  call: DoctorCall = {},
): Promise<{ readonly exitCode: number | undefined; readonly stdout: string; readonly stderr: string }> {
  const { wrapper = [], env, netns, runDir = `${sandbox.runDir}/no-control` } = call;
  const program = [...wrapper, process.execPath, ARCA, 'doctor', ...args, '--run-dir', runDir];
  const [command = '', ...rest] =
    netns === undefined
      ? sandbox.inNamespace(program[0] ?? '', program.slice(1)).flat()
      : ['ip', 'netns', 'exec', netns, ...program];
  try {
    const limits = { timeoutMs: scaled(COMMAND_TIMEOUT_MS), env: { ...sandbox.fullEnv, ...env } };
    return { exitCode: 0, ...(await run(command, rest, limits)) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { exitCode: error.exitCode, ...error.output };
  }
}

export async function doctor(sandbox: TestSandbox, args: readonly string[], call?: DoctorCall): Promise<DoctorAnswer> {
  const { exitCode, stdout, stderr } = await doctorText(sandbox, ['--json', ...args], call);
  if (stdout === '') throw new Error(`arca doctor printed nothing, exit code ${exitCode}: ${stderr}`);
  return { exitCode, ...(JSON.parse(stdout) as Examination) };
}

const EXIT_CODES: Readonly<Record<Verdict, number>> = { ok: 0, note: 0, unknown: 116, warning: 116, problem: 117 };

/** The finding of that verdict about that subject; the exit code is that of the worst. */
export function expectFinding(
  answer: DoctorAnswer,
  expected: {
    readonly id: string;
    readonly verdict: Verdict;
    readonly subject: string;
    readonly evidence: RegExp;
    readonly mend?: RegExp;
  },
): Finding {
  const found = answer.findings.find(({ id, subject }) => id === expected.id && subject === expected.subject);
  expect(found, JSON.stringify(answer.findings, undefined, 1)).toMatchObject({ verdict: expected.verdict });
  expect(found?.evidence).toMatch(expected.evidence);
  if (expected.mend !== undefined) expect(found?.mend).toMatch(expected.mend);
  expect(answer.exitCode).toBe(EXIT_CODES[answer.worst]);
  return found as Finding;
}

/** Nothing but `ok` and notes. */
export function expectWell({ findings, exitCode }: DoctorAnswer): void {
  expect(findings.filter(({ verdict }) => verdict !== 'ok' && verdict !== 'note')).toEqual([]);
  expect(findings.length).toBeGreaterThan(0);
  expect(exitCode).toBe(0);
}
