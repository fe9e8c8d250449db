/** `arca doctor` as its user calls it, in the sandbox's network namespace. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Attachment } from '../../src/control/model.js';
import type { Examination } from '../../src/doctor/doctor.js';
import { CommandError, run } from '../../src/exec.js';
import type { Finding, Verdict } from '../../src/finding.js';
import { type ControlProcess, makeNetwork, specHere, startControl } from './control.js';
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

export interface Attached {
  readonly control: ControlProcess;
  readonly attachment: Attachment;
  readonly tap: string;
  readonly look: (...args: string[]) => Promise<DoctorAnswer>;
}

/** A container `api` of an arca-control of its own, for a test that kills one or both. Ports in `kept` are others'. */
export async function attachAlone(sandbox: TestSandbox, kept: readonly string[] = []): Promise<Attached> {
  // The last of all: what relays that a test has killed left.
  sandbox.defer(() => removeRests(sandbox, kept));
  const control = await startControl(sandbox);
  const { name } = await makeNetwork(sandbox, control);
  const attachment = (await control.attach(specHere(sandbox, 'api', name))).value;
  const look = (...args: string[]) => doctor(sandbox, args, { runDir: control.runDir });
  return { control, attachment, tap: attachment.tap, look };
}

async function removeRests({ vsctl, runDir }: TestSandbox, kept: readonly string[]): Promise<void> {
  const marked = ['--bare', '--columns=name', 'find', 'Port', 'external_ids:arca-owner=arca-relay'];
  const names = (await vsctl(...marked)).split(/\s+/).filter((name) => name !== '' && !kept.includes(name));
  for (const name of names) await vsctl('--if-exists', 'del-port', name);
  for (const name of await readdir(runDir)) if (/^api-.*\.ep$/.test(name)) await rm(join(runDir, name));
}

/** Ports of br-int, TAP devices and sockets in the run directory. */
export async function traces(sandbox: TestSandbox, { runDir }: ControlProcess): Promise<readonly string[]> {
  const ports = (await sandbox.vsctl('list-ports', 'br-int')).split('\n').filter(Boolean);
  const links = JSON.parse((await sandbox.exec('ip', ['-json', 'link'])).stdout) as { ifname: string }[];
  const sockets = await readdir(join(runDir, 'relays'));
  return [
    ...ports.map((name) => `port ${name}`),
    ...links.map(({ ifname }) => `device ${ifname}`),
    ...sockets.filter((name) => name.endsWith('.sock')).map((name) => `socket ${name}`),
  ].sort();
}
