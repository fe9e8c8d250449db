/** `arca persistence`: does what OVS holds survive a reboot? Here stand only arguments, output and the question. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ArcaError } from '../../errors.js';
import type { Finding, Verdict } from '../../finding.js';
import { checkPersistence, isPersistent } from '../../persistence/check.js';
import { applySetup, type FileChange, planRemoval, planSetup, type SetupPlan } from '../../persistence/setup.js';
import { isVolatile } from '../../persistence/unit-plan.js';
import { askForYes } from './confirm.js';
import { addHostVerb, openOutput, readHost } from './session.js';
import { readDocument } from './state-file.js';
import { type Colour, coloured, type Style, visible } from './text.js';

interface CheckArguments {
  readonly database?: string;
  readonly state?: string;
}

interface SetupArguments {
  readonly database?: string;
  readonly root: string;
  readonly remove?: true;
  readonly dryRun?: true;
  readonly yes?: true;
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
    .option('--state <file>', 'a state file that says so (ovsdb.database_path), and where the server listens')
    .action(check);
  persistence
    .command('setup')
    .description('make systemd start OVS so that it does; what the distribution does right is left alone')
    .option('--timeout <seconds>', 'for each call of systemctl (default: 60)')
    .option('--json', 'print JSON')
    .option('--database <path>', 'where the database is to be (default: where it is, if a boot does not empty that)')
    .option('--root <dir>', 'the system to set up has its / there', '/')
    .option('--remove', 'take away what earlier setups wrote')
    .option('--dry-run', 'show what would be written, and write nothing')
    .option('--yes', 'do not ask')
    .action(setup);
}

async function check({ database, state }: CheckArguments, command: Command): Promise<void> {
  const { ovsSocketPath, timeoutMs } = readHost(command);
  const output = openOutput(command);
  const said = state === undefined ? undefined : (await readDocument(state, state)).state.ovsdb;
  const work = checkPersistence({
    ovsSocketPath: ovsSocketPath ?? said?.socketPath,
    env: process.env,
    databasePath: database === undefined ? said?.databasePath : resolve(database),
    timeoutMs,
  });
  const findings = await output.waiting('checking', work);
  const persistent = isPersistent(findings);
  if (output.isJson) output.printJson({ isPersistent: persistent, findings });
  else output.print(renderFindings(findings, output.style));
  if (!persistent) throw new ArcaError('not-persistent', verdictText(findings));
}

async function setup(options: SetupArguments, command: Command): Promise<void> {
  const output = openOutput(command);
  const { timeoutMs } = readHost(command);
  const root = resolve(options.root);
  const databasePath = options.database === undefined ? undefined : readDatabasePath(options.database);
  const settings = { root, databasePath, timeoutMs };
  const plan = options.remove ? await planRemoval(root) : await planSetup(settings);
  const isDone = plan.changes.length === 0;
  if (!output.isJson) output.print(renderPlan(plan, output.style));
  if (!options.dryRun && !isDone) {
    if (!options.yes) await askForYes(`${plan.changes.length} changes`, output.isJson);
    const isReloaded = await applySetup(plan, settings);
    if (!output.isJson) output.print(nextSteps(isReloaded));
  }
  if (output.isJson) output.printJson({ applied: !options.dryRun && !isDone, ...plan });
}

/** It becomes part of units and of shell commands in them. */
function readDatabasePath(path: string): string {
  if (isVolatile(path)) throw new ArcaError('usage', `--database: a boot empties the folder of ${path}`);
  if (/^\/[A-Za-z0-9_./@:+-]+$/.test(path) && !path.endsWith('/')) return path;
  throw new ArcaError('usage', `--database: '${path}' is no absolute path of letters, digits and _ . / @ : + -`);
}

function renderPlan({ changes, notes }: SetupPlan, style: Style): string[] {
  const lines = changes.flatMap((change) => renderChange(change, style));
  return [...notes.map(visible), ...(changes.length === 0 ? ['Nothing to do.'] : lines)];
}

function renderChange(change: FileChange, style: Style): string[] {
  switch (change.kind) {
    case 'write':
      return [
        coloured(`+ ${visible(change.path)}`, 'green', style),
        ...change.text
          .trimEnd()
          .split('\n')
          .map((line) => `    ${visible(line)}`),
      ];
    case 'link':
      return [coloured(`+ ${visible(change.path)} -> ${visible(change.target)}`, 'green', style)];
    case 'remove':
      return [coloured(`- ${visible(change.path)}`, 'red', style)];
    case 'enable':
      return [coloured(`+ systemctl enable ${visible(change.unit)}`, 'green', style)];
  }
}

function nextSteps(isReloaded: boolean): string[] {
  if (!isReloaded) return ['Written. It counts from the next boot on.'];
  return [
    'Written. It counts from the next start of the daemons on; a restart of them interrupts forwarding:',
    '  systemctl restart ovsdb-server ovs-vswitchd',
  ];
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
