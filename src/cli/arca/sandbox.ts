/** `arca sandbox`: a private OVS and OVN. Here stand only arguments, output, exit codes and signals. */
import { constants } from 'node:os';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { ArcaError } from '../../errors.js';
import { runInForeground } from '../../exec.js';
import { DEFAULT_RUN_DIR } from '../../sandbox/layout.js';
import { type Datapath, missingDaemons, openSandbox, type Sandbox, startSandbox } from '../../sandbox/sandbox.js';

interface PlaceOptions {
  readonly runDir: string;
}

interface UpOptions extends PlaceOptions {
  readonly netns?: string;
  readonly datapath: Datapath | 'auto';
  readonly timeout: number;
  readonly json?: true;
}

const UP_EXAMPLES = `
Examples:
  arca sandbox up                      a private OVS and OVN in ${DEFAULT_RUN_DIR}
  eval "$(arca sandbox env)"           from now on ovs-vsctl, ovs-appctl and ovn-nbctl of this shell use it
  arca sandbox exec -- ip link         what the network namespace holds
  arca sandbox down                    all of it is gone`;

export function addSandboxCommands(program: Command): void {
  const sandbox = program
    .command('sandbox')
    .description("A private OVS and OVN to develop and try things with, never the machine's own")
    .addHelpText('after', UP_EXAMPLES);
  const runDir = (): Option =>
    new Option('--run-dir <dir>', 'directory of databases, sockets and logs')
      .default(DEFAULT_RUN_DIR)
      .argParser(resolvePath);

  sandbox
    .command('up')
    .description('start it; says so if it is up already')
    .addOption(runDir())
    .option('--netns <name>', 'network namespace to make (default: follows from --run-dir)')
    .addOption(
      new Option('--datapath <type>', 'system is the kernel datapath; auto takes it where the kernel has it')
        .choices(['auto', 'netdev', 'system'])
        .default('auto'),
    )
    .addOption(new Option('--timeout <seconds>', 'for the whole start').default(30).argParser(parseSeconds))
    .option('--json', 'print all that a script needs as JSON')
    .action(up);
  sandbox
    .command('down')
    .description('stop it and remove what it made; says so if there is none')
    .addOption(runDir())
    .action(down);
  sandbox
    .command('env')
    .description('print shell commands that make the tools of OVS and OVN use it')
    .addOption(runDir())
    .option('--json', 'print JSON instead')
    .action(env);
  sandbox
    .command('exec')
    .description('run a command in its network namespace, with its environment')
    .addOption(runDir())
    .argument('<command...>', 'the command and its arguments, after --')
    .action(exec);
}

async function up(options: UpOptions): Promise<void> {
  const existing = await openSandbox(options.runDir);
  if (existing) await checkIsUp(existing, options);
  const sandbox = existing ?? (await startUnlessInterrupted(options));
  if (options.json) {
    console.log(JSON.stringify(await describe(sandbox), undefined, 2));
    return;
  }
  const { runDir, netns, datapath } = sandbox;
  console.log(
    `sandbox ${existing ? 'is up already' : 'up'}: ${runDir}, network namespace ${netns}, datapath ${datapath}`,
  );
  const here = runDir === DEFAULT_RUN_DIR ? '' : ` --run-dir ${runDir}`;
  console.log(`  use it:   eval "$(arca sandbox env${here})"`);
  console.log(`  stop it:  arca sandbox down${here}`);
}

/** The first signal undoes the start; there is no second: undoing is bounded. */
async function startUnlessInterrupted(options: UpOptions): Promise<Sandbox> {
  const { runDir, netns, datapath, timeout } = options;
  const interrupt = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => interrupt.abort(new Error(`interrupted by ${signal}`));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await startSandbox({ runDir, netns, datapath, timeoutMs: timeout * 1000, signal: interrupt.signal });
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

async function checkIsUp(sandbox: Sandbox, wanted: UpOptions): Promise<void> {
  const mend = `\`arca sandbox down --run-dir ${sandbox.runDir}\` removes it`;
  const missing = missingDaemons(await sandbox.daemons());
  if (missing.length > 0) {
    throw new ArcaError(
      'sandbox-failed',
      `a sandbox is up in ${sandbox.runDir}, but without ${missing.join(', ')}; ${mend}`,
    );
  }
  for (const [name, is, want] of [
    ['netns', sandbox.netns, wanted.netns ?? sandbox.netns],
    ['datapath', sandbox.datapath, wanted.datapath === 'auto' ? sandbox.datapath : wanted.datapath],
  ]) {
    if (is !== want) {
      throw new ArcaError(
        'sandbox-failed',
        `a sandbox is up in ${sandbox.runDir}, but with ${name} ${is}, not ${want}; ${mend}`,
      );
    }
  }
}

async function down(options: PlaceOptions): Promise<void> {
  const sandbox = await openSandbox(options.runDir);
  await sandbox?.stop();
  console.log(sandbox ? `sandbox down: ${options.runDir} is gone` : `no sandbox is up in ${options.runDir}`);
}

async function env(options: PlaceOptions & { readonly json?: true }): Promise<void> {
  const sandbox = await requireSandbox(options.runDir);
  if (options.json) {
    console.log(JSON.stringify(sandbox.env, undefined, 2));
    return;
  }
  for (const [name, value] of Object.entries(sandbox.env)) console.log(`export ${name}=${shellQuoted(value)}`);
}

async function exec(words: readonly string[], options: PlaceOptions): Promise<void> {
  const sandbox = await requireSandbox(options.runDir);
  const [command = '', ...args] = words;
  const ending = await runInForeground(...sandbox.inNamespace(command, args), { ...process.env, ...sandbox.env });
  process.exitCode = 'exitCode' in ending ? ending.exitCode : 128 + constants.signals[ending.endedBy];
}

async function requireSandbox(runDir: string): Promise<Sandbox> {
  const sandbox = await openSandbox(runDir);
  if (sandbox) return sandbox;
  throw new ArcaError('sandbox-missing', `no sandbox is up in ${runDir}; \`arca sandbox up\` starts one`);
}

async function describe(sandbox: Sandbox): Promise<object> {
  const { runDir, netns, datapath, env: variables } = sandbox;
  return { runDir, netns, datapath, env: variables, daemons: await sandbox.daemons() };
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function resolvePath(text: string): string {
  return resolve(text);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 3600) return seconds;
  throw new ArcaError('usage', `--timeout takes seconds, more than 0 and at most 3600, not ${text}`);
}
