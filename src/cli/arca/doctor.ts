/** `arca doctor`: what is wrong with this host, on what evidence, and what mends it. Here stand only arguments and output. */
import type { Command } from 'commander';
import { DEFAULT_RUN_DIR } from '../../control/options.js';
import type { Check } from '../../doctor/check.js';
import { checksOf, chooseChecks, type Examination, examine } from '../../doctor/doctor.js';
import type { Fix, FixResult } from '../../doctor/fix.js';
import { type PlaceArguments, readPlaces } from '../../doctor/places.js';
import { ArcaError, ERROR_KINDS } from '../../errors.js';
import type { Finding, Verdict } from '../../finding.js';
import { CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY } from '../tls-options.js';
import { addHostVerb, openOutput, readHost } from './session.js';
import { type Colour, type Column, coloured, renderTable, type Style, visible } from './text.js';

interface DoctorArguments extends PlaceArguments {
  readonly fix?: true;
  readonly list?: true;
  readonly quiet?: true;
}

const HELP = `
Run it as root, in the network namespace of ovs-vswitchd. Without --fix it changes nothing; the check of persistence
writes a mark to the OVS database, to find it in the file, and removes it again.

--fix removes, and says so: rows of ports with the mark of a relay (external_ids:arca-owner=arca-relay) whose device is
gone; TAP devices under the name of an attachment that no process holds; sockets of dead relays in the run directory.

Exit code, by the worst that was found: 0 for ok and notes, ${ERROR_KINDS['doctor-warning'].exitCode} for a warning or what could not be looked at,
${ERROR_KINDS['doctor-problem'].exitCode} for a problem.

Examples:
  arca doctor                       everything
  arca doctor dead-ports mtu        these two checks
  arca doctor --quiet --fix         mend what is safe, and say only what is left
  arca doctor --json                for scripts`;

export function addDoctorCommands(program: Command): void {
  addHostVerb(program, 'doctor', 'find what is wrong with this host, and what mends it')
    .argument('[check...]', 'only these checks (default: all; --list names them)')
    .option('--nb <database>', "OVN's northbound database (default: where ovn-nbctl looks)")
    .option('--sb <database>', "OVN's southbound database (default: where ovn-sbctl looks)")
    .addOption(PRIVATE_KEY)
    .addOption(CERTIFICATE)
    .addOption(CA_CERTIFICATE)
    .option('--run-dir <dir>', "arca-control's run directory", DEFAULT_RUN_DIR)
    .option('--bridge <name>', 'bridge that relays attach to', 'br-int')
    .option('--fix', 'mend what is safe to mend, first')
    .option('--list', 'name the checks, and look at nothing')
    .option('-q, --quiet', 'print warnings and problems only')
    .addHelpText('after', HELP)
    .action(doctor);
}

async function doctor(names: readonly string[], options: DoctorArguments, command: Command): Promise<void> {
  const { ovsSocketPath, timeoutMs } = readHost(command);
  const places = readPlaces(options, ovsSocketPath, process.env);
  const checks = chooseChecks(checksOf(places), names);
  const output = openOutput(command);
  if (options.list) {
    const list = checks.map(({ id, title, group, needs }) => ({ id, title, group, needs }));
    if (output.isJson) output.printJson(list);
    else output.print(renderTable(CHECK_COLUMNS, checks, output.style));
    return;
  }
  const examining = examine(places, checks, { fix: options.fix === true }, { timeoutMs });
  const examination = await output.waiting('looking', examining);
  if (output.isJson) output.printJson(examination);
  else output.print(renderExamination(examination, { ...output.style, isQuiet: options.quiet === true }));
  const failure = failureOf(examination);
  if (failure !== undefined) throw failure;
}

/** A doctor who could not look does not say that all is well. */
function failureOf({ worst, findings, fixes }: Examination): ArcaError | undefined {
  const summary = summaryOf(findings);
  if (worst === 'problem') return new ArcaError('doctor-problem', summary);
  const failed = fixes.some(({ outcome }) => outcome === 'failed');
  if (worst === 'warning' || worst === 'unknown' || failed) return new ArcaError('doctor-warning', summary);
  return undefined;
}

const CHECK_COLUMNS: readonly Column<Check>[] = [
  { title: 'CHECK', text: ({ id }) => id },
  { title: 'GROUP', text: ({ group }) => group },
  { title: 'WHAT', text: ({ title }) => title },
];

/** The worst first. */
const SHOWN: readonly {
  readonly verdict: Verdict;
  readonly colour: Colour;
  readonly one: string;
  readonly many: string;
}[] = [
  { verdict: 'problem', colour: 'red', one: 'problem', many: 'problems' },
  { verdict: 'warning', colour: 'yellow', one: 'warning', many: 'warnings' },
  { verdict: 'unknown', colour: 'yellow', one: 'could not be looked at', many: 'could not be looked at' },
  { verdict: 'note', colour: 'dim', one: 'note', many: 'notes' },
  { verdict: 'ok', colour: 'green', one: 'ok', many: 'ok' },
];
const QUIET: readonly Verdict[] = ['problem', 'warning', 'unknown'];

interface DoctorStyle extends Style {
  readonly isQuiet: boolean;
}

export function renderExamination({ findings, fixes }: Examination, style: DoctorStyle): string[] {
  const shown = SHOWN.filter(({ verdict }) => !style.isQuiet || QUIET.includes(verdict));
  const told = shown.flatMap(({ verdict, colour }) => {
    const its = findings.filter((finding) => finding.verdict === verdict);
    const lines = verdict === 'unknown' ? renderUnknown(its) : its.map(renderLines);
    return lines.flatMap(([head = '', ...rest]) => [
      `${coloured(verdict.padEnd(VERDICT_WIDTH), colour, style)}  ${visible(head)}`,
      ...rest.map((line) => `${' '.repeat(VERDICT_WIDTH)}  ${visible(line)}`),
    ]);
  });
  const fixed = fixes.map((result) => visible(fixText(result)));
  const summary = style.isQuiet && told.length === 0 ? [] : [summaryOf(findings)];
  return [...fixed, ...told, ...summary];
}

const VERDICT_WIDTH = 'problem'.length;

/** What is well needs one line. */
function renderLines({ id, title, verdict, subject, evidence, mend }: Finding): string[] {
  if (verdict === 'ok') return [`${title}: ${evidence}`];
  return [`${subject} (${id})`, evidence, ...(mend === undefined ? [] : [`mend: ${mend}`])];
}

/** One reason, such as a daemon that is gone, often keeps many checks from looking. */
function renderUnknown(findings: readonly Finding[]): string[][] {
  const reasons = [...new Set(findings.map(({ evidence }) => evidence))];
  return reasons.map((evidence) => {
    const same = findings.filter((finding) => finding.evidence === evidence);
    const mend = same.find((finding) => finding.mend !== undefined)?.mend;
    const ids = [...new Set(same.map(({ id }) => id))].join(', ');
    return [ids, evidence, ...(mend === undefined ? [] : [`mend: ${mend}`])];
  });
}

function summaryOf(findings: readonly Finding[]): string {
  const counts = SHOWN.flatMap(({ verdict, one, many }) => {
    const count = findings.filter((finding) => finding.verdict === verdict).length;
    return count === 0 ? [] : [`${count} ${count === 1 ? one : many}`];
  });
  return counts.join(', ');
}

function fixText({ fix, outcome, detail }: FixResult): string {
  switch (outcome) {
    case 'done':
      return `fixed: ${whatOf(fix)}`;
    case 'left-alone':
      return `left alone: ${whatOf(fix)}: ${detail}`;
    case 'failed':
      return `not fixed: ${whatOf(fix)}: ${detail}`;
  }
}

function whatOf(fix: Fix): string {
  switch (fix.kind) {
    case 'remove-port':
      return `port ${fix.port}, which has no device: remove it from OVS`;
    case 'remove-tap':
      return `TAP device ${fix.device}, which nobody holds: remove it`;
    case 'remove-socket':
      return `socket ${fix.path} of a dead relay: remove it`;
  }
}
