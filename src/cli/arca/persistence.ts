/** `arca persistence`: does what OVS holds survive a reboot? Here stand only arguments and output. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ArcaError } from '../../errors.js';
import type { Finding, Verdict } from '../../finding.js';
import { checkPersistence, isPersistent } from '../../persistence/check.js';
import { addHostVerb, openOutput, readHost } from './session.js';
import { type Colour, coloured, type Style, visible } from './text.js';

interface CheckArguments {
  readonly database?: string;
}

export function addPersistenceCommands(program: Command): void {
  const persistence = program
    .command('persistence')
    .description('Does what Open vSwitch holds survive a reboot? Prove it, and set it up');
  addHostVerb(
    persistence,
    'check',
    'prove that the running ovsdb-server writes to a file that survives; exit code 115 if not',
  )
    .option('--database <path>', 'where the database has to be')
    .action(check);
}

async function check({ database }: CheckArguments, command: Command): Promise<void> {
  const { ovsSocketPath, timeoutMs } = readHost(command);
  const output = openOutput(command);
  const work = checkPersistence({
    ovsSocketPath,
    env: process.env,
    databasePath: database === undefined ? undefined : resolve(database),
    timeoutMs,
  });
  const findings = await output.waiting('checking', work);
  const persistent = isPersistent(findings);
  if (output.isJson) output.printJson({ isPersistent: persistent, findings });
  else output.print(renderFindings(findings, output.style));
  if (!persistent) throw new ArcaError('not-persistent', verdictText(findings));
}

function verdictText(findings: readonly Finding[]): string {
  const bad = findings.filter(({ verdict }) => verdict === 'problem').map(({ title }) => title);
  if (bad.length > 0) return `what OVS holds would not survive a reboot: ${bad.join(', ')}`;
  return 'that what OVS holds survives a reboot could not be proven: see what is unknown above';
}

const COLOURS: Readonly<Record<Verdict, Colour>> = {
  ...{ ok: 'green', note: 'dim', warning: 'yellow', problem: 'red', unknown: 'yellow' },
};

function renderFindings(findings: readonly Finding[], style: Style): string[] {
  const width = Math.max(...findings.map(({ verdict }) => verdict.length));
  return findings.flatMap(({ verdict, title, subject, evidence, mend }) => [
    `${coloured(verdict.padEnd(width), COLOURS[verdict], style)}  ${visible(`${title}: ${subject}`)}`,
    `${' '.repeat(width)}  ${visible(evidence)}`,
    ...(mend === undefined ? [] : [`${' '.repeat(width)}  ${coloured('mend', 'bold', style)}: ${visible(mend)}`]),
  ]);
}
