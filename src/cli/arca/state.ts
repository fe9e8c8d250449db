/** `arca state`: makes Open vSwitch and addresses of this host as a file says. Here stand arguments, questions, output and signals. */
import type { Command } from 'commander';
import { ERROR_KINDS, toArcaError } from '../../errors.js';
import { createLogger } from '../../log.js';
import { checkPersistence, isPersistent } from '../../persistence/check.js';
import { applyState, readPlan } from '../../state/apply.js';
import { checkAllFlows, flowWarnings } from '../../state/bridge-flows.js';
import { doneText, summaryOf, summaryText } from '../../state/changes.js';
import { type Plan, type StateContext, stateContext } from '../../state/plan.js';
import { showState } from '../../state/show.js';
import { verifyState } from '../../state/verify.js';
import { watchState } from '../../state/watch.js';
import { createSystemdTeller } from '../../systemd.js';
import { loadAddon } from '../daemon/life.js';
import { askForYes } from './confirm.js';
import { addHostVerb, type Output, openOutput, readHost } from './session.js';
import { readDocument, STDIN, withLines } from './state-file.js';
import { NO_CHANGES, renderDifferences, renderPlan } from './state-text.js';
import { visible } from './text.js';

interface StateOptions {
  readonly timeout?: string;
  readonly adopt?: true;
  readonly runDir?: string;
}

interface ShowCommandOptions extends StateOptions {
  readonly all?: true;
}

interface ApplyCommandOptions extends StateOptions {
  readonly yes?: true;
  readonly dryRun?: true;
  readonly watch?: true;
}

/** A verb's file, read, and where it is to be. */
interface Session extends Output {
  readonly context: StateContext;
  readonly timeoutMs: number;
  readonly isStdin: boolean;
  readonly warnings: readonly string[];
}

const EXAMPLES = `
Examples:
  arca state plan state.json               what would change; changes nothing
  arca state apply state.json              shows it, asks, and does it: the database in one transaction
  arca state apply state.json --yes        without asking, for scripts
  arca state verify state.json             exit code 0: it is as the file says; 1: what differs
  generate | arca state apply - --yes      the file on standard input

What apply made carries external_ids:arca-owner=arca-state, and only that is changed or removed later. A bridge or port
that was there before is refused without --adopt; br-int and the ports of relays are never touched.
docs/state.md has a walk through it, docs/state-file.md the format of the file.`;

const ADOPT = ['--adopt', 'take over bridges and ports of those names that somebody else made'] as const;
const RUN_DIR = ['--run-dir <dir>', 'of DHCP clients (default: /run/arca-state)'] as const;
const FILE = ['<file>', 'the state file (JSON); - is standard input'] as const;

export function addStateCommands(program: Command): void {
  const state = program
    .command('state')
    .description('Bridges, ports, addresses and flows of this host, as a file says')
    .addHelpText('after', EXAMPLES);
  addHostVerb(state, 'plan', 'show what apply would change')
    .argument(...FILE)
    .option(...RUN_DIR)
    .option(...ADOPT)
    .action(plan);
  addHostVerb(state, 'apply', 'make it as the file says; the same again changes nothing')
    .argument(...FILE)
    .option(...RUN_DIR)
    .option(...ADOPT)
    .option('--yes', 'do not ask')
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--watch', 'stay, and apply addresses and flows again whenever they are lost, as when OVS restarts')
    .action(apply);
  addHostVerb(state, 'verify', 'compare with the file: exit code 0, or 1 with what differs')
    .argument(...FILE)
    .option(...RUN_DIR)
    .action(verify);
  addHostVerb(state, 'show', 'print what is there and ours as a state file')
    .argument('[file]', 'a state file, for its socket_path only')
    .option(...RUN_DIR)
    .option('--all', 'print what belongs to others, too')
    .action(show);
}

async function plan(file: string, options: StateOptions, command: Command): Promise<void> {
  await withSession(file, options, command, async (session) => {
    const planned = await readPlan(session.context, session);
    showPlan(session, planned);
  });
}

async function apply(file: string, options: ApplyCommandOptions, command: Command): Promise<void> {
  if (options.dryRun) return plan(file, options, command);
  await withSession(file, options, command, async (session) => {
    const signals = watchSignals();
    try {
      const { context, timeoutMs, isJson } = session;
      const done = await applyState({
        ...{ context, timeoutMs, signal: signals.signal, mayReplan: options.yes === true },
        confirm: async (planned) => {
          if (!isJson) showPlan(session, planned);
          if (options.yes !== true) {
            await askForYes(summaryText(summaryOf(planned.changes)), session.isStdin || isJson, signals.signal);
          }
          signals.begin();
        },
      });
      // A service is not who looks into the processes of others.
      const isAsked = done.changes.length > 0 && !options.watch;
      const lost = isAsked ? await persistenceWarnings(session) : [];
      showDone({ ...session, warnings: [...session.warnings, ...lost] }, done);
      if (!isJson) warn(lost);
      signals.end();
      if (options.watch) await watch(session, signals.signal);
    } finally {
      signals.stop();
    }
  });
}

/** What was applied is in place, whatever comes of this. */
async function persistenceWarnings({ context, timeoutMs }: Session): Promise<string[]> {
  const { databasePath, persist } = context.state.ovsdb;
  if (!persist) return [];
  const ovsSocketPath = context.places.socketPath;
  try {
    const findings = await checkPersistence({ ovsSocketPath, databasePath, timeoutMs, env: process.env });
    if (isPersistent(findings)) return [];
    const problems = findings
      .filter(({ verdict }) => verdict === 'problem')
      .map(({ subject, evidence }) => `${subject}: ${evidence}`);
    const why = problems.length > 0 ? problems.join('; ') : 'it could not be proven';
    return [`this may not survive a reboot: ${why}. \`arca persistence check\` says more`];
  } catch (error) {
    return [`whether this survives a reboot could not be checked: ${toArcaError(error).message}`];
  }
}

/** Until a signal comes; exit code 0 then. */
async function watch({ context, timeoutMs }: Session, signal: AbortSignal): Promise<void> {
  const log = await createLogger({ fields: { program: 'arca state' } });
  const notifySocket = process.env['NOTIFY_SOCKET'];
  const { sdNotify } = notifySocket ? await loadAddon() : { sdNotify: undefined };
  const tellSystemd =
    notifySocket && sdNotify ? createSystemdTeller({ socket: notifySocket, send: sdNotify, log }) : undefined;
  const onReady = (): void => {
    log.info({ bridges: context.state.bridges.map(({ name }) => name) }, 'watching');
    tellSystemd?.('READY=1\nSTATUS=Addresses and flows are as the file says');
  };
  await watchState({ context, timeoutMs, log, signal, onReady });
  tellSystemd?.('STOPPING=1');
  log.info('stopped; everything stays as it is');
}

async function show(file: string | undefined, options: ShowCommandOptions, command: Command): Promise<void> {
  await withSession(file, options, command, async (session) => {
    const { context, timeoutMs } = session;
    session.printJson(await showState({ context, timeoutMs, all: options.all === true }));
  });
}

async function verify(file: string, options: StateOptions, command: Command): Promise<void> {
  await withSession(file, options, command, async (session) => {
    const differences = await verifyState(session.context, session);
    if (session.isJson) session.printJson({ matches: differences.length === 0, differences });
    else if (differences.length === 0) session.print(['It is as the file says.']);
    else session.print(renderDifferences(differences, session.style));
    if (differences.length > 0) process.exitCode = 1;
  });
}

function showPlan(session: Session, planned: Plan): void {
  const { changes, troubles } = planned;
  if (session.isJson) session.printJson({ changes, summary: summaryOf(changes), ...warningsOf(session, planned) });
  else {
    session.print(renderPlan(changes, session.style));
    warn([...planned.warnings, ...troubles.map(troubleText)]);
  }
}

function showDone(session: Session, done: Plan): void {
  const { changes, troubles } = done;
  if (session.isJson) {
    session.printJson({
      changed: changes.length > 0,
      changes,
      summary: summaryOf(changes),
      ...warningsOf(session, done),
    });
    return;
  }
  if (changes.length > 0) session.print([`Applied: ${doneText(summaryOf(changes))}.`]);
  else {
    session.print([NO_CHANGES]);
    warn(troubles.map(troubleText));
  }
}

function warningsOf({ warnings }: Session, { warnings: ofPlan, troubles }: Plan): object {
  return { warnings: [...warnings, ...ofPlan], troubles };
}

function troubleText({ path, why }: Plan['troubles'][number]): string {
  return `${path}: ${why}`;
}

function warn(lines: readonly string[]): void {
  for (const line of lines) console.error(`warning: ${visible(line)}`);
}

interface Signals {
  readonly signal: AbortSignal;
  /** From now on a signal ends nothing half way. */
  begin(): void;
  /** From now on nothing is under way. */
  end(): void;
  stop(): void;
}

/** The first signal ends it before anything is changed; from there on it is finished or taken back, unless a second comes. */
function watchSignals(): Signals {
  const controller = new AbortController();
  let hasBegun = false;
  const onSignal = (): void => {
    if (controller.signal.aborted) {
      console.error('arca: ended at once; what was under way may be there in part: arca state verify tells');
      process.exit(ERROR_KINDS['forced-exit'].exitCode);
    }
    controller.abort();
    if (hasBegun) console.error('arca: it is finished, or taken back, first; a second signal ends it at once');
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    begin() {
      hasBegun = true;
    },
    end() {
      hasBegun = false;
    },
    stop: () => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}

/** Reads the file, does the work, and tells errors as JSON where that was asked for. */
async function withSession(
  file: string | undefined,
  options: StateOptions,
  command: Command,
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const output = openOutput(command);
  try {
    await work(await openSession(file, options, command, output));
  } catch (error) {
    const { code, message, details } = toArcaError(error);
    if (output.isJson) output.printJson({ error: { code, message, ...(details && { details }) } });
    throw error;
  }
}

async function openSession(
  file: string | undefined,
  options: StateOptions,
  command: Command,
  output: Output,
): Promise<Session> {
  const { ovsSocketPath, timeoutMs } = readHost(command);
  const name = file === STDIN ? 'standard input' : (file ?? 'nothing');
  const { state, warnings } = await readDocument(file, name);
  const { ovsdb } = state;
  await withLines(name, checkAllFlows(state, name, { timeoutMs }));
  const texts = [...warnings, ...flowWarnings(state, name)];
  if (!output.isJson) warn(texts);
  return {
    ...output,
    context: stateContext(state, { ovsSocketPath, adopt: options.adopt === true, runDir: options.runDir }, process.env),
    timeoutMs: options.timeout === undefined ? ovsdb.timeoutMs : timeoutMs,
    isStdin: file === STDIN,
    warnings: texts,
  };
}
