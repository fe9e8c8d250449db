/** The command line. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { BenchError, EXIT } from './errors.js';
import { SUITES, type SuiteName } from './model.js';

export interface OtherBuild {
  readonly label: string;
  readonly path: string;
}

export interface Options {
  readonly suites: readonly SuiteName[];
  readonly rounds: number;
  readonly seconds: number;
  readonly quick: boolean;
  readonly json: boolean;
  readonly writeDocs: boolean;
  /** Undefined: all. */
  readonly contenders: readonly string[] | undefined;
  /** Undefined: all. */
  readonly measures: readonly string[] | undefined;
  readonly otherBuilds: readonly OtherBuild[];
  /** An earlier results file. */
  readonly against: string | undefined;
  readonly list: boolean;
}

const QUICK = { rounds: 3, seconds: 1 };
const FULL = { rounds: 5, seconds: 1 };

const EXAMPLES = `
Examples:
  npm run bench -- --quick
  npm run bench -- --suite throughput,latency --rounds 7
  npm run bench -- --suite throughput --measure tcp1-ab-1500 --contenders veth,naive,arca
  npm run bench -- --quick --arca-tap old=/tmp/arca-tap     before and after, interleaved in one run
  npm run bench -- --quick --against bench/results/2026-01-01T12-00-00Z.json

Exit codes:
  ${EXIT.done}  measured; what was missed stands in the table
  ${EXIT.failed}  something failed
  ${EXIT.usage}  wrong command line
  ${EXIT.noisy}  measured, but too noisy for a conclusion
`;

/** Gives the options, or the exit code when there is nothing more to do: commander has printed why. */
export function readOptions(args: readonly string[]): Options | number {
  const command = new Command('npm run bench --')
    .description('Measures this project beside what else does the job, interleaved in one run. Needs root.')
    .exitOverride()
    .allowExcessArguments(false)
    .option('--suite <names>', `of ${SUITES.join(', ')}; a comma between (default: all)`, readSuites)
    .option('--contenders <names>', 'only these; a comma between', readList)
    .option('--measure <ids>', 'only these measures of the suites; a comma between', readList)
    .option('--quick', 'the essential measures and contenders, under two minutes')
    .option('--rounds <n>', `A B C, A B C: how often (default: ${FULL.rounds}; quick: ${QUICK.rounds})`, readCount)
    .option('--seconds <n>', `of one throughput measure (default: ${FULL.seconds}; quick: ${QUICK.seconds})`, readCount)
    .option('--arca-tap <label=path>', 'another build of arca-tap as contender arca:LABEL; repeatable', readBuild, [])
    .option('--against <file>', 'an earlier results file, to print beside this run')
    .option('--json', 'print the results as JSON instead of tables')
    .option('--write-docs', 'write the charts to docs/bench')
    .option('--list', 'print suites, measures and contenders, and which can run')
    .addHelpText('after', EXAMPLES);
  try {
    command.parse(['node', 'bench', ...args]);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
  const given = command.opts<{
    readonly suite?: readonly SuiteName[];
    readonly contenders?: readonly string[];
    readonly measure?: readonly string[];
    readonly quick?: true;
    readonly rounds?: number;
    readonly seconds?: number;
    readonly arcaTap: readonly OtherBuild[];
    readonly against?: string;
    readonly json?: true;
    readonly writeDocs?: true;
    readonly list?: true;
  }>();
  const defaults = given.quick ? QUICK : FULL;
  return {
    suites: given.suite ?? SUITES,
    rounds: given.rounds ?? defaults.rounds,
    seconds: given.seconds ?? defaults.seconds,
    quick: given.quick ?? false,
    json: given.json ?? false,
    writeDocs: given.writeDocs ?? false,
    contenders: given.contenders,
    measures: given.measure,
    otherBuilds: given.arcaTap,
    against: given.against,
    list: given.list ?? false,
  };
}

/** Throws `usage` for a name that is not there; a misspelt one must not measure nothing. */
export function checkNames(what: string, names: readonly string[] | undefined, known: readonly string[]): void {
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new BenchError(`no ${what} ${unknown}; there are: ${known.join(', ')}`, { exitCode: EXIT.usage });
}

function readList(text: string): string[] {
  return text.split(',').filter((name) => name !== '');
}

function readSuites(text: string): SuiteName[] {
  return readList(text).map((name) => {
    const suite = SUITES.find((candidate) => candidate === name);
    if (!suite) throw new InvalidArgumentError(`no suite ${name}; there are: ${SUITES.join(', ')}`);
    return suite;
  });
}

function readCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 1000) return count;
  throw new InvalidArgumentError('a whole number from 1 to 1000 is wanted');
}

function readBuild(text: string, builds: readonly OtherBuild[]): OtherBuild[] {
  const match = /^([a-z0-9][a-z0-9-]*)=(.+)$/.exec(text);
  if (!match) throw new InvalidArgumentError('LABEL=PATH is wanted; the label in a-z, 0-9 and -');
  return [...builds, { label: match[1] ?? '', path: match[2] ?? '' }];
}
