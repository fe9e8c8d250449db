/** `arca health`, `events`, `reconcile`, `metrics` and `version`: how it is, and what happens. */
import type { Command } from 'commander';
import type { ControlEvent, Health, PartHealth, PartState, PlanStep } from '../../control/model.js';
import { ArcaError, ERROR_KINDS } from '../../errors.js';
import { addVerb, openSession } from './session.js';
import { type Colour, type Column, coloured, jsonText, renderTable, type Style, visible } from './text.js';
import { untilInterrupted, type View, WATCH_OPTION, watch } from './watch.js';

const STATE_COLOURS: Readonly<Record<PartState, Colour>> = { ok: 'green', ill: 'red', unknown: 'yellow' };

const PART_COLUMNS: readonly Column<PartHealth>[] = [
  { title: 'PART', text: ({ part }) => part },
  { title: 'STATE', text: ({ state }) => state, colour: ({ state }) => STATE_COLOURS[state] },
  { title: 'DETAIL', text: ({ detail }) => detail },
];

const HEALTH_VIEW: View<Health> = {
  read: ({ client }) => client.health(),
  render: ({ parts }, { style }) => renderTable(PART_COLUMNS, parts, style),
};

const STEP_COLUMNS: readonly Column<PlanStep>[] = [
  { title: 'ACTION', text: ({ action }) => action },
  { title: 'ON', text: subjectOf },
  { title: 'REASON', text: ({ reason }) => reason },
];

export function addHealthCommands(program: Command, ownVersion: string): void {
  addVerb(program, 'health', `ask each part how it is; exit code ${ERROR_KINDS['part-ill'].exitCode} if one is ill`)
    .option(...WATCH_OPTION)
    .action(health);
  addVerb(program, 'events', 'print what happens, until Ctrl-C').action(events);
  addVerb(program, 'reconcile', 'make what is there what should be there')
    .option('--dry-run', 'only print what would be done')
    .action(reconcile);
  addVerb(program, 'metrics', "print counters in Prometheus' text format").action(metrics);
  addVerb(program, 'version', 'print the versions of arca and arca-control').action((_options, command: Command) =>
    version(ownVersion, command),
  );
}

async function health(options: { watch?: true }, command: Command): Promise<void> {
  if (options.watch) return watch(command, HEALTH_VIEW);
  const session = openSession(command);
  const answer = await session.waiting('asking each part', HEALTH_VIEW.read(session));
  if (session.isJson) session.printJson(answer);
  else session.print(HEALTH_VIEW.render(answer, session));
  if (answer.state === 'ok') return;
  const ill = answer.parts.filter(({ state }) => state !== 'ok').map(({ part }) => part);
  throw new ArcaError('part-ill', `not well: ${ill.join(', ')}`);
}

async function events(_options: unknown, command: Command): Promise<void> {
  await untilInterrupted(async (signal) => {
    const session = openSession(command, signal);
    const stream = await session.client.openEvents();
    for await (const event of stream.events) {
      session.print([session.isJson ? jsonText(event) : eventLine(event, session.style)]);
    }
    throw new ArcaError('control-unreachable', `arca-control on ${session.where} ended the stream: it was stopped`);
  });
}

function eventLine(event: ControlEvent, style: Style): string {
  return `${coloured(visible(event.at), 'dim', style)}  ${visible(event.type)}  ${visible(describeEvent(event))}`.trimEnd();
}

function describeEvent(event: ControlEvent): string {
  switch (event.type) {
    case 'network-created':
    case 'network-removed':
    case 'network-adopted':
      return event.network;
    case 'attached':
    case 'detached':
    case 'attachment-changed': {
      const { state, trouble, connected } = event;
      const peer = connected === undefined ? undefined : connected ? 'peer connected' : 'peer gone';
      const told = [state, trouble, peer].filter((part) => part !== undefined && part !== null);
      return `${event.container} on ${event.network}${told.length > 0 ? `: ${told.join(', ')}` : ''}`;
    }
    case 'relay-adopted':
    case 'relay-started':
      return `${event.container} on ${event.network}: process ${event.pid}`;
    case 'relay-died':
      return `${event.container} on ${event.network}: ${event.detail}`;
    case 'health-changed':
      return `${event.part} ${event.state}: ${event.detail}`;
    default:
      // A newer server may tell what this one does not know.
      return jsonText(event);
  }
}

async function reconcile({ dryRun = false }: { dryRun?: boolean }, command: Command): Promise<void> {
  const session = openSession(command);
  const result = await session.waiting('reconciling', session.client.reconcile({ dryRun }));
  if (session.isJson) session.printJson(result);
  else if (result.steps.length === 0) session.print(['all is as it should be']);
  else session.print(renderTable(STEP_COLUMNS, result.steps, session.style));
}

function subjectOf(step: PlanStep): string {
  switch (step.action) {
    case 'start-relay':
    case 'restart-relay':
      return `${step.container} on ${step.network}`;
    case 'stop-relay':
      return `${step.tap}, process ${step.pid}`;
    case 'remove-port':
      return step.port;
  }
}

async function metrics(_options: unknown, command: Command): Promise<void> {
  const session = openSession(command);
  const text = await session.client.metrics();
  if (session.isJson) session.printJson({ contentType: 'text/plain', body: text });
  else session.print(text.trimEnd().split('\n').map(visible));
}

async function version(ownVersion: string, command: Command): Promise<void> {
  const session = openSession(command);
  if (!session.isJson) session.print([`arca ${ownVersion}`]);
  const control = await session.client.version();
  if (session.isJson) session.printJson({ arca: ownVersion, control });
  else
    session.print([
      visible(`arca-control ${control.version}, API ${control.api}, process ${control.pid}, on ${session.where}`),
    ]);
}
