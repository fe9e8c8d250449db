/** `npm run bench`. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contender } from './contenders/contender.js';
import { CONTENDERS } from './contenders/index.js';
import { otherArca } from './contenders/ours.js';
import { type Context, canRun, programsOf } from './context.js';
import { BenchError, EXIT, messageOf } from './errors.js';
import { openLab } from './lab.js';
import { describeMachine } from './machine.js';
import { type ContenderInfo, type Results, SUITES, type SuiteName } from './model.js';
import { judge } from './must-reach.js';
import { checkNames, type Options, readOptions } from './options.js';
import { findRoot } from './paths.js';
import { createProcesses } from './processes.js';
import { createProgress } from './progress.js';
import { drawCharts } from './report/charts.js';
import { type Report, renderHtml } from './report/html.js';
import { comparisonTable, measureTables, mustReachTable, renderMarkdown, renderText } from './report/tables.js';
import { runRounds } from './runner.js';
import { controlMissing, controlStage } from './suites/control.js';
import { densityMissing, densityStages } from './suites/density.js';
import { LINK_MEASURES, type LinkMeasure, linkStages, QUICK_CONTENDERS } from './suites/links.js';
import { microStage } from './suites/micro.js';
import { switchMissing } from './suites/ovs.js';
import { ovsdbStage } from './suites/ovsdb.js';
import { isWanted, onlyMeasures, type Stage } from './suites/stage.js';
import { startStage } from './suites/start.js';
import { hasKernelDatapath, KERNEL_DATAPATH_MISSING, switchStages } from './suites/switch.js';
import { describeNoise, judgeNoise, present, summarize } from './summary.js';

const NOT_ASKED = 'not asked for';

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (typeof options === 'number') return options;
  const contenders = [...CONTENDERS, ...options.otherBuilds.map(({ label, path }) => otherArca(label, path))];
  checkNames(
    'contender',
    options.contenders,
    contenders.map(({ name }) => name),
  );
  await checkPlace();

  const interrupt = new AbortController();
  const processes = createProcesses();
  // A process that exits before its time leaves nothing that runs; the next run sweeps up namespaces.
  process.on('exit', () => processes.killAllNow());
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupt.signal.aborted) process.exit(EXIT.failed);
      interrupt.abort(new BenchError(`interrupted by ${signal}`));
      // Whoever waits for one of them is woken.
      void processes.stopAll();
    });
  }
  const root = findRoot();
  const lab = await openLab();
  const commands: Record<string, readonly string[]> = {};
  const context: Context = {
    root,
    programs: programsOf(root),
    lab,
    processes,
    signal: interrupt.signal,
    seconds: options.seconds,
    quick: options.quick,
    adopted: new Set(),
    note(key, lines) {
      commands[key] ??= lines;
    },
  };
  try {
    return await bench(context, options, contenders, commands);
  } finally {
    await processes.stopAll();
    await lab.close();
  }
}

async function checkPlace(): Promise<void> {
  if (process.geteuid?.() !== 0) {
    throw new BenchError('needs root: it makes network namespaces and TAP devices; sudo npm run bench');
  }
  for (const [program, debianPackage] of [
    ['ip', 'iproute2'],
    ['iperf3', 'iperf3'],
    ['setpriv', 'util-linux'],
    ['sysctl', 'procps'],
  ] as const) {
    if (!(await canRun(program))) throw new BenchError(`${program} is missing: apt-get install ${debianPackage}`);
  }
}

async function bench(
  context: Context,
  options: Options,
  contenders: readonly Contender[],
  commands: Record<string, readonly string[]>,
): Promise<number> {
  const startedAt = new Date().toISOString();
  const infos: ContenderInfo[] = [];
  const running: Contender[] = [];
  for (const contender of contenders) {
    const { name, description } = contender;
    const chosen = options.contenders === undefined || options.contenders.includes(name);
    const missing = chosen ? await contender.missing(context) : NOT_ASKED;
    infos.push({ name, description, ...(missing !== undefined && { missing }) });
    if (missing === undefined) running.push(contender);
  }
  const { stages, notes, known } = await plan(context, options, running);
  checkNames('measure of these suites', options.measures, known);
  if (options.list) {
    printList(infos, stages);
    return EXIT.done;
  }

  if (stages.length === 0) throw new BenchError(['nothing to measure', ...notes].join('\n'));
  const machine = await describeMachine(context.root);
  const progress = createProgress();
  const samples = await runRounds(context, stages, options.rounds, progress, (note) => notes.push(note));
  progress.end();
  const results: Results = {
    format: 1,
    startedAt,
    finishedAt: new Date().toISOString(),
    options: {
      suites: options.suites,
      rounds: options.rounds,
      quick: options.quick,
      seconds: options.seconds,
      commandLine: process.argv.slice(2),
    },
    machine,
    contenders: infos,
    measures: stages.flatMap((stage) => stage.measures),
    notes,
    commands,
    samples,
  };
  return report(context, options, results);
}

interface Plan {
  readonly stages: readonly Stage[];
  /** What can't be measured, and why. */
  readonly notes: string[];
  /** Every measure of the suites that are asked for. */
  readonly known: readonly string[];
}

/** In the order of a round. */
async function plan(context: Context, options: Options, contenders: readonly Contender[]): Promise<Plan> {
  const stages: Stage[] = [];
  const notes: string[] = [];
  const isAsked = (suite: SuiteName): boolean => options.suites.includes(suite);
  const chosen = options.measures;
  const known = new Set<string>();
  const add = (more: readonly Stage[]): void => {
    for (const { measures } of more) for (const { id } of measures) known.add(id);
    stages.push(...more.map((stage) => onlyMeasures(stage, chosen)).filter(({ measures }) => measures.length > 0));
  };
  const asked = LINK_MEASURES.filter((measure) => isWanted(measure, options.suites));
  const linkMeasures = asked.filter(({ id }) => chosen?.includes(id) ?? true);
  const named = context.quick ? linkMeasures.map((measure) => asNamed(measure, options)) : linkMeasures;
  add(linkStages(context, contenders, named));
  for (const { name, mostMtu = Number.POSITIVE_INFINITY } of contenders) {
    const above = stages.flatMap(({ mtu = 0 }) => (mtu > mostMtu ? [mtu] : []));
    if (above.length > 0) notes.push(`${name}: not measured with MTU ${above.join(', ')}: it carries no such frames`);
  }
  if (isAsked('switch') || isAsked('start')) {
    const missing = await switchMissing(context);
    if (missing !== undefined) notes.push(`switch and start: not measured: ${missing}`);
    if (missing === undefined && isAsked('switch')) {
      add(await switchStages(context, options.contenders));
      if (!(await hasKernelDatapath())) notes.push(KERNEL_DATAPATH_MISSING);
    }
    if (missing === undefined && isAsked('start')) add([startStage(context)]);
  }
  if (isAsked('control')) {
    const missing = (await switchMissing(context)) ?? controlMissing(context);
    if (missing === undefined) add([controlStage(context)]);
    else notes.push(`control: not measured: ${missing}`);
  }
  if (isAsked('ovsdb')) {
    const missing = await switchMissing(context);
    if (missing === undefined) add([ovsdbStage(context)]);
    else notes.push(`ovsdb: not measured: ${missing}`);
  }
  if (isAsked('density')) {
    const missing = densityMissing(context);
    if (missing === undefined) add(densityStages(context));
    else notes.push(`density: not measured: ${missing}`);
  }
  if (isAsked('micro')) {
    try {
      add([await microStage(context)]);
    } catch (error) {
      context.signal.throwIfAborted();
      notes.push(`micro: not measured: ${messageOf(error)}`);
    }
  }
  for (const { id } of asked) known.add(id);
  return { stages, notes, known: [...known] };
}

async function report(context: Context, options: Options, results: Results): Promise<number> {
  const { samples, measures, contenders } = results;
  const summary = summarize(samples);
  const noise = judgeNoise(samples, measures, options.rounds);
  const rows = judge(samples, noise);
  const order = present(contenders, samples);
  const full: Report = { results, summary, noise, rows, order, charts: drawCharts(measures, summary, order) };
  const document = { ...results, noise, mustReach: rows, summary: summary.cells };

  const directory = join(context.root, 'bench/results');
  const base = join(directory, results.startedAt.replace(/\.\d+Z$/, 'Z').replaceAll(':', '-'));
  await mkdir(directory, { recursive: true });
  await writeFile(`${base}.json`, `${JSON.stringify(document)}\n`);
  await writeFile(`${base}.html`, renderHtml(full));
  if (options.json) console.log(JSON.stringify(document));
  else await print(full, options, base);
  if (options.writeDocs) await writeDocs(context, full);
  return noise.tooNoisy || rows.some(({ verdict }) => verdict === 'undecided') ? EXIT.noisy : EXIT.done;
}

async function print({ results, summary, noise, rows, order }: Report, options: Options, base: string): Promise<void> {
  for (const table of measureTables(results, summary, order)) console.log(`${renderText(table)}\n`);
  if (options.against !== undefined) {
    const before = JSON.parse(await readFile(options.against, 'utf8')) as Results;
    console.log(`${renderText(comparisonTable(results, summarize(before.samples), summary))}\n`);
  }
  // Whoever asked for a part is not told of the rest row by row; the report and the JSON have all of it.
  const isWhole = options.suites.length === SUITES.length && options.measures === undefined;
  const shown = isWhole ? rows : rows.filter(({ verdict }) => verdict !== 'not measured');
  if (shown.length > 0) console.log(`${renderText(mustReachTable(shown))}\n`);
  if (shown.length < rows.length)
    console.log(`must reach: ${rows.length - shown.length} of ${rows.length} not measured`);
  for (const { name, missing } of results.contenders) {
    if (missing !== undefined && missing !== NOT_ASKED) console.log(`${name} did not run: ${missing}`);
  }
  for (const { measure, contender, errors } of summary.cells) {
    for (const error of errors) console.log(`${contender} failed in ${measure}: ${error.split('\n', 1)[0]}`);
  }
  for (const note of results.notes) console.log(note);
  for (const source of noise.sources) console.log(describeNoise(source));
  if (noise.tooNoisy) console.log(`TOO NOISY FOR A CONCLUSION: ${noise.reasons.join('; ')}`);
  console.log(`results: ${base}.json and .html`);
}

/** What README shows must come from a run that something can be concluded from. */
async function writeDocs({ root }: Context, { charts, rows, results, noise }: Report): Promise<void> {
  if (noise.tooNoisy) {
    console.error('bench: docs/bench is left as it was: the run was too noisy');
    return;
  }
  const directory = join(root, 'docs/bench');
  await mkdir(directory, { recursive: true });
  for (const { name, svg } of charts) await writeFile(join(directory, `${name}.svg`), `${svg}\n`);
  const { machine, options, startedAt } = results;
  const where = `${machine.cpu}, ${machine.cpuCount} CPUs, Linux ${machine.kernel}, commit ${machine.commit}, ${startedAt.slice(0, 10)}`;
  const command = ['npm run bench --', ...options.commandLine].join(' ');
  const drift = noise.sources.map((source) => `- ${describeNoise(source)}\n`).join('');
  const page = `# Must reach\n\n\`${command}\`: ${options.rounds} rounds, on ${where}.\n\n${renderMarkdown(mustReachTable(rows))}\n${drift && `\n${drift}`}`;
  await writeFile(join(directory, 'must-reach.md'), page);
}

/** What was named is measured, also with --quick. */
function asNamed(measure: LinkMeasure, { contenders, measures }: Options): LinkMeasure {
  const quick = measure.quick ?? (measures ? QUICK_CONTENDERS : undefined);
  return quick ? { ...measure, quick: contenders ?? quick } : measure;
}

function printList(contenders: readonly ContenderInfo[], stages: readonly Stage[]): void {
  for (const { name, description, missing } of contenders) {
    console.log(
      `${name.padEnd(12)} ${description}${missing === undefined ? '' : `\n${' '.repeat(13)}can't run: ${missing}`}`,
    );
  }
  console.log('');
  for (const { id, title, suites } of stages.flatMap((stage) => stage.measures)) {
    console.log(`${id.padEnd(18)} ${suites.join(', ').padEnd(16)} ${title}`);
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.exitCode = error instanceof BenchError ? error.exitCode : EXIT.failed;
  const isOurs = error instanceof BenchError;
  console.error(`bench: ${isOurs ? messageOf(error) : error instanceof Error ? error.stack : String(error)}`);
}
