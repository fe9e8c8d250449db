/** What every verb that asks arca-control has: its options, a client, and where its answer goes. */
import { type Command, Option } from 'commander';
import yoctoSpinner from 'yocto-spinner';
import { readNumber, readTimeout, readUnixTarget } from '../../arguments.js';
import { type ControlClient, createClient } from '../../control/client.js';
import { jsonText, type Style } from './text.js';

/** As the verb's own options and the program's give them. */
interface SessionOptions {
  readonly control?: string;
  readonly timeout?: string;
  readonly json?: true;
}

interface HostOptions {
  readonly ovs?: string;
  readonly timeout?: string;
}

/** Where a verb's answer goes. */
export interface Output {
  readonly isJson: boolean;
  readonly style: Style;
  readonly print: (lines: readonly string[]) => void;
  readonly printJson: (value: unknown) => void;
  /** Shows that it waits, on a terminal. */
  readonly waiting: <T>(what: string, work: Promise<T>) => Promise<T>;
}

export interface Session extends Output {
  readonly client: ControlClient;
  /** For people: where the client asks. */
  readonly where: string;
}

const DEFAULT_CONTROL = 'unix:/run/arca/control.sock';
const DEFAULT_TIMEOUT_SECONDS = '60';
const TIMEOUT_OPTION = ['--timeout <seconds>', `for each call (default: ${DEFAULT_TIMEOUT_SECONDS})`] as const;
const JSON_OPTION = ['--json', 'print JSON'] as const;
/** What is quicker needs no spinner. */
const SPINNER_DELAY_MS = 150;

/** `--control`, `--timeout` and `--json`: taken before the verb and behind it. */
export function addSessionOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--control <unix:path>', `arca-control's socket (default: ARCA_CONTROL, or ${DEFAULT_CONTROL})`),
    )
    .addOption(new Option(...TIMEOUT_OPTION))
    .addOption(new Option(...JSON_OPTION));
}

/** A verb that asks arca-control. */
export function addVerb(parent: Command, words: string, description: string): Command {
  return addSessionOptions(parent.command(words).description(description));
}

/** A verb that looks at this host itself, and needs no arca-control. */
export function addHostVerb(parent: Command, words: string, description: string): Command {
  return parent
    .command(words)
    .description(description)
    .option('--ovs <unix:path>', "ovsdb-server's socket (default: where ovs-vsctl looks)")
    .addOption(new Option(...TIMEOUT_OPTION))
    .addOption(new Option(...JSON_OPTION));
}

/** Aborting `signal` ends every call of the session. */
export function openSession(command: Command, signal?: AbortSignal): Session {
  const { path, timeoutMs } = readTarget(command.optsWithGlobals<SessionOptions>(), process.env);
  return {
    ...openOutput(command),
    client: createClient({ path, timeoutMs, signal }),
    where: `unix:${path}`,
  };
}

export function openOutput(command: Command): Output {
  const print = (lines: readonly string[]): void => {
    process.stdout.write(lines.map((line) => `${line}\n`).join(''));
  };
  return {
    isJson: command.optsWithGlobals<SessionOptions>().json === true,
    style: styleOf(process.stdout, process.env),
    print,
    printJson: (value) => print([jsonText(value, 2)]),
    waiting,
  };
}

/** What the options of `addHostVerb` say; no `--ovs`: nothing. */
export function readHost(command: Command): { readonly ovsSocketPath: string | undefined; readonly timeoutMs: number } {
  const { ovs, timeout = DEFAULT_TIMEOUT_SECONDS } = command.optsWithGlobals<HostOptions>();
  return {
    ovsSocketPath: ovs === undefined ? undefined : readUnixTarget('--ovs', ovs),
    timeoutMs: readTimeout('--timeout', timeout),
  };
}

export function readTarget(
  { control, timeout = DEFAULT_TIMEOUT_SECONDS }: SessionOptions,
  env: NodeJS.ProcessEnv,
): { readonly path: string; readonly timeoutMs: number } {
  const timeoutMs = readTimeout('--timeout', timeout);
  if (control !== undefined) return { path: readUnixTarget('--control', control), timeoutMs };
  return { path: readUnixTarget('ARCA_CONTROL', env['ARCA_CONTROL'] || DEFAULT_CONTROL), timeoutMs };
}

/** https://no-color.org: set and not empty. */
export function styleOf(
  stream: { readonly isTTY?: boolean; readonly columns?: number },
  env: NodeJS.ProcessEnv,
): Style {
  const isTerminal = stream.isTTY === true;
  return {
    isColoured: isTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb',
    widthColumns: isTerminal ? stream.columns || 80 : undefined,
  };
}

/** On stderr, so that what is piped on stays clean. */
async function waiting<T>(what: string, work: Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work;
  const spinner = yoctoSpinner({ text: what, stream: process.stderr });
  const timer = setTimeout(() => spinner.start(), SPINNER_DELAY_MS);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    spinner.stop();
  }
}

/** Reads the number of an option, if it is given. */
export function numberOption(name: string, text: string | undefined, least: number, most: number): number | undefined {
  return text === undefined ? undefined : readNumber(name, text, least, most);
}
